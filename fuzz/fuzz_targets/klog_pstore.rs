//! Any bytes as the parts of crashes' logs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let joined = tuxtape_klog::transport::pstore::join(log);
    // Headers go, and a newline can come for each.
    assert!(joined.len() <= log.len());
    let files: Vec<&[u8]> = log.split(|byte| *byte == 0xff).collect();
    let crashes = tuxtape_klog::transport::pstore::crashes(&files);
    assert!(crashes.iter().map(Vec::len).sum::<usize>() <= log.len() + 1);
});
