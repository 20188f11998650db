//! What a module says of itself, and ELF notes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tuxtape_core::module::fuzz(bytes));
