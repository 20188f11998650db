#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_core::history::marks::Marks;

fuzz_target!(|bytes: &[u8]| {
    let marks = Marks::read(&String::from_utf8_lossy(bytes));
    let both = |named| marks.reverts.iter().any(|(it, _)| it == named);
    assert!(!marks.backport_of.iter().any(both));
});
