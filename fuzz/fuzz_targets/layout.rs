//! Layouts of types from the debug data of an object.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tuxtape_livepatch::layout::read_anything(bytes));
