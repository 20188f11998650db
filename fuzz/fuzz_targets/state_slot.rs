//! Slots of the journal and the count of boots, and the list of crashes that were judged.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tuxtape_client::journal::fuzz(bytes);
    tuxtape_client::guard::fuzz(bytes);
    tuxtape_client::crash::Judged::from_bytes(bytes);
});
