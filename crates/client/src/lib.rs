//! The fleet client: verifies, journals, loads, watches, takes back.
//!
//! Rules that hold throughout: nothing unverified reaches the kernel; what is about to happen to the
//! kernel is durable before it happens; when two failures are possible, the one that leaves the kernel
//! alone is chosen.
#![warn(missing_docs)]

pub mod apply;
pub mod check;
pub mod config;
pub mod crash;
pub mod demands;
pub mod fake;
pub mod guard;
pub mod host;
pub mod journal;
pub mod load;
pub mod log;
pub mod mode;
pub mod plan;
pub mod reapply;
pub mod recover;
pub mod state;
pub mod status;
mod watch;
