//! Slots of the journal and the version floor.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tuxtape_client::journal::fuzz(bytes));
