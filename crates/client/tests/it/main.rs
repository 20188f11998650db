//! The client against real archives and a fake kernel.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod attempts;
mod crashes;
mod refusals;
mod rollback;
mod running;
mod setup;
mod threats;
mod threats_table;
mod waves;
