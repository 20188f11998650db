//! The small files beside a record parse without panic, within their bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::cve::beside;

fuzz_target!(|bytes: &[u8]| {
    if let Some(severity) = beside::severity(bytes) {
        assert!(
            severity
                .reasons
                .iter()
                .all(|reason| !reason.contains(char::is_control))
        );
    }
    for page in beside::pages(bytes) {
        assert!(page.starts_with("http") && !page.contains(char::is_control));
    }
    beside::commits(bytes);
});
