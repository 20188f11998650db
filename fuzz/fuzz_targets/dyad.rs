//! Dyad files parse without panic, within their bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::dyad;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spans) = dyad::parse(bytes) {
        assert!((1..=dyad::MOST_SPANS).contains(&spans.len()));
    }
});
