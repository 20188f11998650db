//! Kernel sources, configs and packages; replay of one unit's compile command; the boot lab.
#![warn(missing_docs)]

pub mod config;
pub mod files;
pub mod profile;
pub mod vmlinuz;
