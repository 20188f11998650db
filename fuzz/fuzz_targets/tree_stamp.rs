#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tuxtape_kernel::profile::stamp::fuzz(bytes));
