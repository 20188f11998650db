//! Vocabulary and rules of TuxTape.
//!
//! Pure: no I/O, no clock, no environment, no randomness. Everything here can be decided from its
//! arguments alone, so that it can be tested, replayed and explained.
#![warn(missing_docs)]

pub mod identity;
pub mod module;
pub mod profile;
