//! Two versions of a unit, compared, emitted and converted.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tuxtape_livepatch::diff::compare_anything(bytes));
