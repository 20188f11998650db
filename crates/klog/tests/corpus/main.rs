//! The public set of kernel reports, and what is made of it.

mod blamed;
mod named;
mod set;
