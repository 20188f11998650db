//! Kernel log bytes to reports, livepatch events and a verdict.
//!
//! Pure: no I/O and no clock. The same kernel text gives the same reports whichever way it came;
//! how far it may be believed is the record's [`Provenance`](record::Provenance).
#![warn(missing_docs)]

pub mod event;
pub mod header;
pub mod judge;
pub mod record;
