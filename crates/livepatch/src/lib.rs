//! The livepatch engine for x86-64: bytes in, facts out.
//!
//! Two halves that share only the byte reader in [`elf`]: the engine that makes a module, and the
//! ground truth, symbol positions and verifier that judge it.
#![warn(missing_docs)]

pub mod convert;
pub mod diff;
pub mod elf;
pub mod emit;
pub mod ground_truth;
pub mod kallsyms;
pub mod layout;
pub mod lint;
pub mod loaded;
pub mod meaning;
pub mod names;
pub mod pairing;
pub mod refusal;
pub mod sealed;
pub mod symvers;
pub mod tables;
pub mod unit;
pub mod verify;
pub mod write;
