//! The native engine on real kernels: modules with seeded faults, and patches that others published.
//!
//! Needs kernels in `$TUXTAPE_CACHE` with their profiles in `$TUXTAPE_HOME`; what boots needs QEMU and
//! busybox. What is missing is said and left out.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a failed step fails the test, a skipped one says so"
)]

mod edit;
mod faults;
mod faults_code;
mod ideas;
mod kpatch;
mod setup;
mod sweep;
mod ways;
