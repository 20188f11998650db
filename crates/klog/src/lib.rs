//! Kernel log bytes to reports, livepatch events and a verdict.
//!
//! Pure: no I/O and no clock. The same kernel text gives the same reports whichever way it came;
//! how far it may be believed is the record's [`Provenance`](record::Provenance).
#![warn(missing_docs)]

pub mod assemble;
pub mod blame;
pub mod event;
pub mod fold;
pub mod judge;
pub mod output;
pub mod parser;
pub mod patches;
pub mod record;
pub mod report;
mod scan;
pub mod timeline;
pub mod transport;
