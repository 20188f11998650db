//! The same kernel text says the same, whichever way it came and however it is cut.

use tuxtape_klog::assemble::{GapReason, Item, Limits};
use tuxtape_klog::parser::{Parser, parse_any};
use tuxtape_klog::record::{Context, Provenance};
use tuxtape_klog::report::Report;
use tuxtape_klog::transport::{Source, detect};

const OOPS: &[&str] = &[
    "tt_1: loading out-of-tree module taints kernel.",
    "livepatch: enabling patch 'tt_1'",
    "livepatch: 'tt_1': starting patching transition",
    "livepatch: 'tt_1': patching complete",
    "BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "#PF: supervisor write access in kernel mode",
    "#PF: error_code(0x0002) - not-present page",
    "PGD 0 P4D 0 ",
    "Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "CPU: 1 PID: 88 Comm: curl Tainted: G           OE K    6.1.0-47-cloud-amd64 #1  Debian 6.1.170-3",
    "Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014",
    "RIP: 0010:tcp_sendmsg+0x16/0x40 [tt_1]",
    "Code: 0f 1f 44 00 00 55 48 89 e5 <c7> 04 25 00 00 00 00 01 00 00 00 5d",
    "RSP: 0018:ffffa5f7c0a3bd78 EFLAGS: 00010246",
    "RAX: 0000000000000000 RBX: ffff9f2c41b50000 RCX: 0000000000000000",
    "Call Trace:",
    " <TASK>",
    " sock_sendmsg+0x58/0x70",
    " ? __sys_sendto+0x10/0x170",
    " __sys_sendto+0xee/0x170",
    " __x64_sys_sendto+0x24/0x30",
    " do_syscall_64+0x55/0xb0",
    " </TASK>",
    "Modules linked in: tt_1(OEK) virtio_net [last unloaded: tt_0(OEK)]",
    "CR2: 0000000000000000",
    "---[ end trace 0000000000000000 ]---",
    "eth0: link becomes ready",
];

fn log(line: impl Fn(usize, &str) -> String) -> Vec<u8> {
    OOPS.iter()
        .enumerate()
        .map(|(index, text)| line(index, text))
        .collect::<String>()
        .into_bytes()
}

fn seconds(index: usize) -> String {
    format!("{:>12}", format!("363.{:06}", index * 1000))
}

fn micros(index: usize) -> usize {
    363_000_000 + index * 1000
}

/// Name, log, source expected, trust expected, and whether it says who printed a line.
fn transports() -> Vec<(&'static str, Vec<u8>, Source, Provenance, bool)> {
    let mut export = Vec::new();
    for (index, text) in OOPS.iter().enumerate() {
        export.extend_from_slice(
            format!("__CURSOR=c{index}\n_TRANSPORT=kernel\nSYSLOG_FACILITY=0\nPRIORITY=4\n_BOOT_ID=6f1c0000000000000000000000000001\n_SOURCE_MONOTONIC_TIMESTAMP={}\n", micros(index)).as_bytes(),
        );
        if index % 2 == 0 {
            export.extend_from_slice(format!("MESSAGE={text}\n\n").as_bytes());
        } else {
            export.extend_from_slice(b"MESSAGE\n");
            export.extend_from_slice(&(text.len() as u64).to_le_bytes());
            export.extend_from_slice(text.as_bytes());
            export.extend_from_slice(b"\n\n");
        }
    }
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    vec![
        (
            "dmesg",
            log(|i, t| format!("[{}] {t}\n", seconds(i))),
            Source::Dmesg,
            Provenance::None,
            false,
        ),
        (
            "dmesg with callers",
            log(|i, t| format!("[{}][   T88] {t}\n", seconds(i))),
            Source::Dmesg,
            Provenance::None,
            true,
        ),
        (
            "dmesg -d",
            log(|i, t| format!("[{} <    0.001000>] {t}\n", seconds(i))),
            Source::Dmesg,
            Provenance::None,
            false,
        ),
        (
            "dmesg -r",
            log(|i, t| format!("<4>[{}] {t}\n", seconds(i))),
            Source::Dmesg,
            Provenance::Line,
            false,
        ),
        (
            "dmesg -x",
            log(|i, t| format!("kern  :warn  : [{}] {t}\n", seconds(i))),
            Source::Dmesg,
            Provenance::Line,
            false,
        ),
        (
            "dmesg coloured",
            log(|i, t| {
                format!(
                    "\u{1b}[32m[{}] \u{1b}[0m\u{1b}[31m{t}\u{1b}[0m\n",
                    seconds(i)
                )
            }),
            Source::Dmesg,
            Provenance::None,
            false,
        ),
        (
            "dmesg -T",
            log(|_, t| format!("[Mon Nov 23 16:44:00 2026] {t}\n")),
            Source::Dmesg,
            Provenance::None,
            false,
        ),
        (
            "dmesg iso",
            log(|_, t| format!("2026-11-23T16:44:00,123456+00:00 {t}\n")),
            Source::Dmesg,
            Provenance::None,
            false,
        ),
        (
            "dmesg -e",
            log(|i, t| {
                if i == 0 {
                    format!("[Nov23 16:44] {t}\n")
                } else {
                    format!("[  +0.001000] {t}\n")
                }
            }),
            Source::Dmesg,
            Provenance::None,
            false,
        ),
        (
            "dmesg -J",
            {
                let inner = log(|i, t| {
                    format!(
                        "{}{{\"pri\":4,\"time\":{},\"msg\":\"{}\"}}\n",
                        if i == 0 { "" } else { "," },
                        seconds(i),
                        quoted(t)
                    )
                });
                [b"{\n   \"dmesg\": [\n".to_vec(), inner, b"]}\n".to_vec()].concat()
            },
            Source::Dmesg,
            Provenance::Line,
            false,
        ),
        (
            "kmsg",
            log(|i, t| format!("4,{},{},-;{t}\n SUBSYSTEM=x\n", 1200 + i, micros(i))),
            Source::Kmsg,
            Provenance::Record,
            false,
        ),
        (
            "kmsg with callers",
            log(|i, t| format!("4,{},{},-,caller=T88;{t}\n", 1200 + i, micros(i))),
            Source::Kmsg,
            Provenance::Record,
            true,
        ),
        (
            "kmsg dump",
            log(|i, t| format!("4,{},{},-;{t}\n\0", 1200 + i, micros(i))),
            Source::Kmsg,
            Provenance::Record,
            false,
        ),
        (
            "journal export",
            export,
            Source::Journal,
            Provenance::Record,
            false,
        ),
        (
            "journal JSON",
            log(|i, t| {
                format!(
                    "{{\"__CURSOR\":\"c{i}\",\"_TRANSPORT\":\"kernel\",\"PRIORITY\":\"4\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"{}\",\"MESSAGE\":\"{}\"}}\n",
                    micros(i),
                    quoted(t)
                )
            }),
            Source::Journal,
            Provenance::Record,
            false,
        ),
        (
            "journal JSON bytes",
            log(|i, t| {
                format!(
                    "{{\"_TRANSPORT\":\"kernel\",\"SYSLOG_FACILITY\":\"0\",\"_SOURCE_MONOTONIC_TIMESTAMP\":\"{}\",\"MESSAGE\":{:?}}}\n",
                    micros(i),
                    t.as_bytes()
                )
            }),
            Source::Journal,
            Provenance::Record,
            false,
        ),
        (
            "pstore",
            [
                b"Panic#1 Part1\n".to_vec(),
                log(|i, t| format!("<4>[{}] {t}\n", seconds(i))),
            ]
            .concat(),
            Source::Pstore,
            Provenance::Line,
            false,
        ),
        (
            "netconsole",
            log(|i, t| {
                let header = format!("6.1.0-47-cloud-amd64,4,{},{},-", 1200 + i, micros(i));
                if t.len() < 60 {
                    return format!("{header};{t}\n");
                }
                let (a, b) = t.split_at(40);
                format!(
                    "{header},ncfrag=0/{};{a}\n{header},ncfrag=40/{};{b}\n",
                    t.len(),
                    t.len()
                )
            }),
            Source::Netconsole,
            Provenance::Record,
            false,
        ),
        (
            "serial",
            log(|i, t| {
                format!(
                    "{}[{}] {t}\r\n",
                    if i == 4 { "debian login: " } else { "" },
                    seconds(i)
                )
            }),
            Source::Serial,
            Provenance::None,
            false,
        ),
        (
            "syslog",
            log(|i, t| format!("Nov 23 16:44:00 host kernel: [{}] {t}\n", seconds(i))),
            Source::Syslog,
            Provenance::None,
            false,
        ),
        (
            "rsyslog",
            log(|i, t| {
                format!(
                    "2026-11-23T16:44:00.123456+00:00 host kernel: [{}] {t}\n",
                    seconds(i)
                )
            }),
            Source::Syslog,
            Provenance::None,
            false,
        ),
        (
            "syslog 5424",
            log(|i, t| {
                format!(
                    "<4>1 2026-11-23T16:44:00Z host kernel - - - [{}] {t}\n",
                    seconds(i)
                )
            }),
            Source::Syslog,
            Provenance::None,
            false,
        ),
    ]
}

fn reports(items: Vec<Item>) -> Vec<Report> {
    items
        .into_iter()
        .filter_map(|item| match item {
            Item::Report(report) => Some(*report),
            Item::Event(_) | Item::Incident(_) | Item::Gap(_) => None,
        })
        .collect()
}

/// Leaves out what a transport cannot know.
fn plain(mut report: Report, provenance: Provenance) -> Report {
    assert_eq!(report.provenance, provenance);
    report.bytes = (0, 0);
    report.sequence = None;
    report.time_us = None;
    report.wall_us = None;
    report.boot = None;
    report.context = Context::Console;
    report.provenance = Provenance::Record;
    report.guilty_sequence = None;
    report.frame_sequences.clear();
    report
}

#[test]
fn one_report_is_the_same_by_every_transport() {
    let limits = Limits {
        text: true,
        ..Limits::default()
    };
    let mut first: Option<Report> = None;
    let all = transports();
    assert!(all.len() >= 20);
    for (name, log, source, provenance, told) in all {
        assert_eq!(
            detect(&log).map(|(source, _)| source),
            Some(source),
            "{name}"
        );
        let items = parse_any(&log, limits).0;
        let events = items
            .iter()
            .filter(|item| matches!(item, Item::Event(_)))
            .count();
        assert_eq!(events, 3, "{name}");
        assert!(
            !items.iter().any(|item| matches!(item, Item::Gap(_))),
            "{name}"
        );
        let mut found = reports(items);
        assert_eq!(found.len(), 1, "{name}");
        let report = found.remove(0);
        assert_eq!(report.context.is_told(), told, "{name}");
        let report = plain(report, provenance);
        match &first {
            None => {
                assert_eq!(
                    report.title,
                    "BUG: unable to handle kernel NULL pointer dereference in tcp_sendmsg"
                );
                assert_eq!(report.body.comm.as_deref(), Some("curl"));
                assert_eq!(report.body.release.as_deref(), Some("6.1.0-47-cloud-amd64"));
                assert_eq!(report.body.taint.as_deref(), Some("G           OE K"));
                assert_eq!(report.body.modules.len(), 2);
                assert_eq!(
                    report.body.last_unloaded,
                    Some(("tt_0".to_owned(), "OEK".to_owned()))
                );
                assert_eq!(report.body.frames.len(), 5);
                assert!(!report.body.frames[1].reliable);
                assert!(report.body.code.is_some());
                assert!(
                    report
                        .body
                        .registers()
                        .iter()
                        .any(|(name, value)| name == "RBX" && value == "ffff9f2c41b50000")
                );
                assert_eq!(
                    report.guilty.as_ref().unwrap().module.as_deref(),
                    Some("tt_1")
                );
                first = Some(report);
            }
            Some(first) => assert_eq!(&report, first, "{name}"),
        }
    }
}

#[test]
fn every_way_of_cutting_the_bytes_gives_the_same() {
    for (name, log, ..) in transports() {
        let whole = parse_any(&log, Limits::default());
        for size in [1, 2, 3, 7, 61, 500, 4096] {
            let mut parser = Parser::detecting(Limits::default());
            let mut items = Vec::new();
            for piece in log.chunks(size) {
                parser.push(piece, &mut items);
            }
            parser.finish(&mut items);
            assert_eq!((items, parser.counts()), whole, "{name} by {size}");
            assert_eq!(parser.offset(), log.len() as u64, "{name} by {size}");
        }
    }
}

#[test]
fn what_a_user_wrote_is_no_report_by_any_transport_that_tells() {
    let line = "BUG: kernel NULL pointer dereference, address: 0";
    for log in [
        format!("12,1,2,-;{line}\n"),
        format!("6,1,2,-;mount 'x\\x0a{line}'\n"),
        format!("<12>[    1.000000] {line}\n"),
        format!("user  :warn  : [    1.000000] {line}\n"),
        format!("{{\"_TRANSPORT\":\"kernel\",\"SYSLOG_FACILITY\":\"1\",\"MESSAGE\":\"{line}\"}}\n"),
        format!(
            "{{\"_TRANSPORT\":\"syslog\",\"SYSLOG_IDENTIFIER\":\"kernel\",\"MESSAGE\":\"{line}\"}}\n"
        ),
        format!("{{\"_TRANSPORT\":\"kernel\",\"MESSAGE\":\"name\\n{line}\"}}\n"),
        format!("{{\"dmesg\":[{{\"pri\":12,\"time\":1.0,\"msg\":\"{line}\"}}]}}"),
        format!("_TRANSPORT=kernel\nSYSLOG_FACILITY=1\nMESSAGE={line}\n\n"),
        format!("Nov 23 16:44:00 host mail: {line}\n"),
    ] {
        assert_eq!(
            reports(parse_any(log.as_bytes(), Limits::default()).0),
            [],
            "{log}"
        );
    }
}

#[test]
fn what_is_missing_is_said() {
    for (log, reason, records) in [
        ("6,1,1,-;a\n6,5,1,-;b\n", GapReason::Overwritten, 3),
        (
            "[    1.000000] a\n** 42 printk messages dropped **\n",
            GapReason::Dropped,
            42,
        ),
        (
            "[    1.000000] a\n** 7 printk messages dropped ** [    2.000000] b\n",
            GapReason::Dropped,
            7,
        ),
        (
            "{\"_TRANSPORT\":\"driver\",\"SYSLOG_IDENTIFIER\":\"systemd-journald\",\"MESSAGE\":\"Missed 9 kernel messages\"}",
            GapReason::Missed,
            9,
        ),
        (
            "{\"_TRANSPORT\":\"kernel\",\"MESSAGE\":null}",
            GapReason::Cut,
            1,
        ),
        (
            "6,1,2,-,ncfrag=0/20;half\n6,2,3,-;next\n",
            GapReason::FragmentLost,
            1,
        ),
        ("6,1,2,-,ncfrag=4/20;rest\n", GapReason::FragmentLost, 1),
        ("{\"MESSAGE\":\"torn", GapReason::Unparsed, 1),
    ] {
        let items = parse_any(log.as_bytes(), Limits::default()).0;
        let gaps: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Item::Gap(gap) => Some((gap.reason, gap.records)),
                Item::Report(_) | Item::Event(_) | Item::Incident(_) => None,
            })
            .collect();
        assert_eq!(gaps, [(reason, records)], "{log}");
    }
}

proptest::proptest! {
    #[test]
    fn no_mix_of_words_panics_or_depends_on_how_it_is_cut(
        picks in proptest::collection::vec((0_usize..24, 0_usize..60), 0..80),
        size in 1_usize..40,
    ) {
        const WORDS: [&str; 24] = [
            "\n", "\n", "\n", "\0", "\r", "\u{1b}[31m", "{\"MESSAGE\":\"", "\"}", "_TRANSPORT=kernel\n",
            "MESSAGE\n\u{5}\0\0\0\0\0\0\0", "6,1,1,-;", "6,1,1,-,ncfrag=0/9;", "[    1.000000][  T1] ",
            "<4>[    1.000000] ", "Panic#1 Part1\n", "BUG: KASAN: use-after-free in f+0x1/0x2",
            "WARNING: CPU: 0 PID: 1 at a.c:1 ", "INFO: task a:1 blocked for more than 120 seconds",
            "Call Trace:\n", " f+0x1/0x2 [tt_1]\n", "RIP: 0010:", "** 3 printk messages dropped ** ",
            "livepatch: '", "\u{e9}\u{ffff}",
        ];
        let log: String = picks
            .iter()
            .map(|(word, keep)| WORDS[*word].chars().take(*keep).collect::<String>())
            .collect();
        let whole = parse_any(log.as_bytes(), Limits::default());
        let mut parser = Parser::detecting(Limits::default());
        let mut items = Vec::new();
        for piece in log.as_bytes().chunks(size) {
            parser.push(piece, &mut items);
        }
        parser.finish(&mut items);
        proptest::prop_assert_eq!((items, parser.counts()), whole);
    }
}
