//! The whole line on a stock kernel: real builds, real boots, and what is refused on the way.
//!
//! Needs the kernel of [`setup::KERNEL`] in `$TUXTAPE_CACHE`; the tests that boot need QEMU and busybox,
//! those of the client a static `tuxtape-client` in `$TUXTAPE_CLIENT`. What is missing is said and left
//! out.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a failed step fails the test, a skipped one says so"
)]

mod blame;
mod builds;
mod client;
mod misbehave;
mod refusals;
mod setup;
