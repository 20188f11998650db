//! The public set of kernel reports, and what is made of it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "tests fail by panic and show their figures; the set's logs are cut at ASCII"
)]

mod blamed;
mod named;
mod set;
