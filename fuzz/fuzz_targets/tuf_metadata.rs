//! TUF metadata, kernel indexes and version floors.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tuxtape_archive::fuzz::metadata(bytes));
