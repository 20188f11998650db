//! Any bytes as a kernel module.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tuxtape_kernel::lab::module_files::ModuleFacts;

fuzz_target!(|bytes: &[u8]| {
    ModuleFacts::read(bytes, Path::new("m.ko")).ok();
});
