//! Any bytes as a log of any kind: whole and in pieces alike, and what is said of them is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuxtape_klog::assemble::{Item, Limits};
use tuxtape_klog::blame::Blamer;
use tuxtape_klog::output::{self, Origin};
use tuxtape_klog::parser::{Parser, parse_any};
use tuxtape_klog::patches::{Baseline, Patches};
use tuxtape_klog::transport::Source;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, log)) = bytes.split_first() else {
        return;
    };
    let limits = Limits {
        text: true,
        ..Limits::default()
    };
    let whole = parse_any(log, limits);
    let mut parser = Parser::detecting(limits);
    let mut items = Vec::new();
    for piece in log.chunks(usize::from(*size).max(1)) {
        parser.push(piece, &mut items);
    }
    parser.finish(&mut items);
    assert_eq!((items, parser.counts()), whole);
    let mut blamer = Blamer::new(Patches::default(), Baseline::default());
    let origin = Origin {
        file: None,
        source: Source::Dmesg,
    };
    for item in &whole.0 {
        let findings = blamer.take(item);
        if let Item::Report(report) = item {
            let (start, end) = report.bytes;
            assert!(start <= end && end <= log.len() as u64);
            let _ = output::report(report, &findings, 1, origin).to_string();
        }
    }
    let _ = blamer.verdicts(None);
});
