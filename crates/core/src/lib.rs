//! Vocabulary and rules of TuxTape.
//!
//! Pure: no I/O, no clock, no environment, no randomness. Everything here can be decided from its
//! arguments alone, so that it can be tested, replayed and explained.
#![warn(missing_docs)]

pub mod applicability;
pub mod ctext;
pub mod cve;
pub mod decision;
pub mod dyad;
pub mod follow;
pub mod git_id;
pub mod history;
pub mod identity;
pub mod instant;
pub mod module;
pub mod notice;
pub mod priority;
pub mod profile;
pub mod rollout;
pub mod signals;
pub mod span;
pub mod version;
