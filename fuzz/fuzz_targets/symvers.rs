//! `Module.symvers` reads without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tuxtape_livepatch::symvers::read_everything(bytes));
