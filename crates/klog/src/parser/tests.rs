//! The quick way through a log against the plain one: every line looked at, without a scan.

use super::*;

/// What the quick way must say: each line is taken, whether or not it can matter.
fn plain(log: &[u8]) -> (Vec<Item>, Counts) {
    let mut parser = Parser::new(Limits::default());
    let mut items = Vec::new();
    let mut lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
    // Nothing is a line behind the last newline.
    let rest = lines.pop().filter(|rest| !rest.is_empty());
    for line in lines.into_iter().chain(rest) {
        let kept = line.get(..LINE_LIMIT).unwrap_or(line);
        // As if the scan had picked it: a wrong text there is then seen.
        parser.line(kept, true, &mut items);
        if kept.len() < line.len() {
            parser.cut(parser.offset, &mut items);
        }
        parser.offset += line.len() as u64 + 1;
    }
    parser.finish(&mut items);
    (items, parser.counts())
}

fn in_pieces(log: &[u8], cuts: &[usize]) -> (Vec<Item>, Counts) {
    let mut parser = Parser::new(Limits::default());
    let mut items = Vec::new();
    let mut rest = log;
    for cut in cuts {
        let (piece, after) = rest.split_at(*cut % (rest.len() + 1));
        parser.push(piece, &mut items);
        rest = after;
    }
    parser.push(rest, &mut items);
    parser.finish(&mut items);
    (items, parser.counts())
}

/// Lines that lie between reports, open one, belong to one, and end one.
const LINES: &[&str] = &[
    "[    1.000000] usb 1-1: new high-speed USB device number 2 using xhci_hcd",
    "[    1.100000] NX (Execute Disable) protection: active",
    "[    1.200000] CPU0: Intel(R) Xeon(R) Processor",
    "[    1.300000] BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "[    1.400000] RIP: 0010:f+0x1/0x2 [tt_1]",
    "[    1.500000] Call Trace:",
    "[    1.600000]  g+0x1/0x2",
    "[    1.700000] ---[ end trace 0000000000000000 ]---",
    "[    1.800000] livepatch: enabling patch 'tt_1'",
    "[    1.900000] livepatch: 'tt_1': starting patching transition",
    "[    2.000000][  T7] WARNING: CPU: 0 PID: 1 at net/x.c:1 f+0x1/0x2",
    "[   99.000000] systemd[1]: Started Journal Service.",
    "[    2.100000] Kernel panic - not syncing: Fatal exception",
    "[    2.200000] panic",
    "[    2.300000] relocation and a \u{1b}[31mBUG\u{1b}[0m: in colour",
    "[    2.400000] ** 42 printk messages dropped **",
    "** 7 printk messages dropped ** [    2.500000] x",
    "** replaying previous printk message **",
    "[    0.000000] Linux version 6.1.0-47-cloud-amd64",
    "debian login: [    2.600000] INFO: task a:1 blocked for more than 120 seconds.\r",
    "kern  :info  : [    2.700000] EDAC MC0: 1 CE memory read error",
    "",
    "LONG",
];

/// Records of another form. Behind lines of the first, they are not looked for.
const OTHERS: &[&str] = &[
    "6,1,1000000,-;BUG: kernel NULL pointer dereference, address: 0",
    "7,3,1000000,-;x",
    " SUBSYSTEM=x",
];

/// A log of these lines; the clean ones come in numbers, as in life.
fn log(picks: &[(usize, usize)]) -> Vec<u8> {
    let mut log = Vec::new();
    for (line, times) in picks {
        let text = LINES
            .iter()
            .chain(OTHERS)
            .nth(*line)
            .copied()
            .unwrap_or_default();
        let times = if *line < 3 { *times } else { 1 };
        for _ in 0..times {
            match text {
                "LONG" => log.extend(std::iter::repeat_n(b'l', LINE_LIMIT + times)),
                text => log.extend_from_slice(text.as_bytes()),
            }
            log.push(b'\n');
        }
    }
    log
}

proptest::proptest! {
    #[test]
    fn the_quick_way_says_what_the_plain_one_says(
        picks in proptest::collection::vec((0..LINES.len(), 1_usize..40), 0..40),
        cuts in proptest::collection::vec(0_usize..5000, 0..12),
        torn in 0_usize..60,
    ) {
        let mut log = log(&picks);
        log.truncate(log.len().saturating_sub(torn));
        let expected = plain(&log);
        proptest::prop_assert_eq!(&in_pieces(&log, &[]), &expected);
        proptest::prop_assert_eq!(&in_pieces(&log, &cuts), &expected);
    }
}

proptest::proptest! {
    #[test]
    fn forms_that_are_mixed_read_alike_however_they_are_cut(
        picks in proptest::collection::vec((0..LINES.len() + OTHERS.len(), 1_usize..40), 0..40),
        cuts in proptest::collection::vec(0_usize..5000, 0..12),
    ) {
        let log = log(&picks);
        proptest::prop_assert_eq!(in_pieces(&log, &cuts), in_pieces(&log, &[]));
    }
}

#[test]
fn every_place_to_cut_gives_the_same() {
    let mut picks = vec![(0, 20)];
    picks.extend((0..LINES.len() - 1).map(|line| (line, 2)));
    let log = log(&picks);
    let expected = plain(&log);
    for cut in 0..=log.len() {
        assert_eq!(in_pieces(&log, &[cut]), expected, "cut at {cut}");
    }
}

#[test]
fn a_line_beyond_the_limit_is_told_of_wherever_it_lies() {
    let mut log = log(&[(0, 30), (LINES.len() - 1, 1), (1, 3)]);
    let whole = in_pieces(&log, &[]);
    assert_eq!(whole.1.gaps, 1);
    assert_eq!(whole, plain(&log));
    log.splice(0..0, *b"[    1.000000] x\n");
    assert_eq!(in_pieces(&log, &[3, 700, 9000]), plain(&log));
}

#[test]
fn a_line_is_found_wherever_its_text_stands() {
    let before = "[    1.000000] usb 1-1: new device\n".repeat(20);
    for text in scan::texts() {
        for fill in 0..64 {
            let mut log = before.clone().into_bytes();
            log.extend(std::iter::repeat_n(b'.', fill));
            log.extend_from_slice(text);
            log.extend_from_slice(b" x f+0x1/0x2\n[    1.100000] usb 1-1: new device\n");
            let expected = plain(&log);
            let shown = text.escape_ascii();
            assert_eq!(parse(&log, Limits::default()), expected, "{shown} {fill}");
            let cut = before.len() + fill + text.len() / 2;
            assert_eq!(in_pieces(&log, &[cut]), expected, "{shown} {fill}");
        }
    }
}
