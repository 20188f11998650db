//! Any bytes as a snapshot of livepatches, and as what the fleet has seen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_klog::patches::{Baseline, Patches};

fuzz_target!(|bytes: &[u8]| {
    let _ = Patches::read(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Ok(baseline) = Baseline::read(&text) {
        for seen in baseline.0.values() {
            let chance = seen.chance();
            assert!((0.0..=1.0).contains(&chance), "{seen:?} {chance}");
        }
    }
});
