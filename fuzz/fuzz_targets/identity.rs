//! Identities parse without panic, and what was parsed prints as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::identity::{BuildId, KernelRelease};

fuzz_target!(|text: &str| {
    if let Ok(release) = text.parse::<KernelRelease>() {
        assert_eq!(release.to_string(), text);
        assert!(!text.contains('/'), "a release is one path component");
    }
    if let Ok(id) = text.parse::<BuildId>() {
        assert_eq!(id.to_string(), text);
    }
});
