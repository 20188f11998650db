//! An index of symbols, of this file or another, is read without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tuxtape_livepatch::kallsyms::index::read_anything(bytes));
