//! Notices on their way to people and programs: channels, and what carries a notice through one.
//!
//! Blocks on the network, always with a deadline. What is due, and what became of it, is the caller's
//! to keep: [`send::send`] is told what to send and tells after every attempt how it went.
#![warn(missing_docs)]

pub mod channel;
pub mod letter;
mod lines;
mod mail;
pub mod secret;
pub mod send;
mod webhook;

pub use send::{Attempt, Due, Outcome, Sent, deliver, send};

/// Checks a webhook's signature header as a receiver does, for tests and for receivers in Rust.
pub use webhook::is_signed_by;
