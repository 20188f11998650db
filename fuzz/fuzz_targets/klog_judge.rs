//! Any bytes as a kernel log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let judged = tuxtape_klog::judge::judge(log, &["tt_1"]);
    assert!(judged.reports.len() <= tuxtape_klog::judge::REPORT_LIMIT);
});
