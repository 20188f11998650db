//! The boot lab: a stock kernel in QEMU with an initramfs of ours, and what came out of it.
//!
//! No disk, no device but three serial ports and, on wish, a network of QEMU's own and a store for the
//! kernel's last words: the kernel's console, facts as lines, and the kernel's log as `/dev/kmsg`
//! records. Every wait has a deadline,
//! and no answer is never taken for a good one.

pub mod accelerator;
pub mod cpio;
pub mod crash_store;
pub mod guest;
mod machine;
pub mod module_files;
pub mod tools;
pub mod trial;
