//! Kernel sources, configs and packages; replay of one unit's compile command; the boot lab.
#![warn(missing_docs)]

pub mod build;
pub mod config;
pub mod files;
pub mod lab;
pub mod produce;
pub mod profile;
pub mod replay;
pub mod unified;
pub mod verify;
pub mod vmlinuz;
