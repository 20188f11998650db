//! Kernel sources, configs and packages; replay of one unit's compile command; the boot lab.
#![warn(missing_docs)]

pub mod aliases;
pub mod build;
pub mod build_tree;
pub mod config;
pub mod content;
pub mod debian;
pub mod extend;
pub mod files;
pub mod fix_source;
pub mod kbuild;
pub mod lab;
pub mod prepare;
pub mod produce;
pub mod profile;
pub mod progress;
pub mod replay;
pub mod spec;
pub mod support;
pub mod toolchain;
pub mod unified;
pub mod verify;
pub mod vmlinuz;
