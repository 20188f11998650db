//! Units and parents compare without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tuxtape_livepatch::ground_truth::compare_anything(bytes));
