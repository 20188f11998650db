//! Bundles of an archive.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tuxtape_archive::fuzz::bundle(bytes));
