//! Any bytes as a file of outside evidence end in a batch that keeps its promises, or in an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::signals::{self, Source};

fuzz_target!(|bytes: &[u8]| signals::exercise(Source::Epss, bytes));
