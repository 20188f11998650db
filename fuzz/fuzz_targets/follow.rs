//! Titles and descriptions are read for commits they name without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::follow;

fuzz_target!(|bytes: &[u8]| follow::exercise(bytes));
