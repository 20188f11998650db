//! Logs of livepatches that did harm on stock kernels in the boot lab, as `/dev/kmsg` gave them, from
//! the first load on. What was held of them, and what was advised, must not get worse.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use tuxtape_klog::assemble::{Item, Limits};
use tuxtape_klog::blame::{Blamer, Finding, ModuleVerdict};
use tuxtape_klog::parser::Parser;
use tuxtape_klog::patches::{Baseline, Function, Patch, Patches};
use tuxtape_klog::report::Report;
use tuxtape_klog::transport::{Source, pstore};

/// Livepatches and the function each patches.
const MODULES: [(&str, &str); 10] = [
    ("lab_innocent", "cmdline_proc_show"),
    ("lab_warns", "version_proc_show"),
    ("lab_warns_below", "write_full"),
    ("lab_sleeps", "show_softirqs"),
    ("lab_leaks", "filesystems_proc_show"),
    ("lab_hangs", "meminfo_proc_show"),
    ("lab_oopses", "version_proc_show"),
    ("lab_oopses_below", "show_softirqs"),
    ("lab_oopses_in_text", "version_proc_show"),
    ("lab_deadlocks", "devinfo_show"),
];

struct Read {
    reports: Vec<(Report, Vec<Finding>)>,
    blamer: Blamer,
}

fn read(source: Source, log: &[u8]) -> Read {
    let patch = |(name, function): &(&str, &str)| Patch {
        name: (*name).to_owned(),
        ours: true,
        functions: vec![Function {
            object: "vmlinux".to_owned(),
            name: (*function).to_owned(),
            sympos: 0,
        }],
        ..Patch::default()
    };
    let mut blamer = Blamer::new(
        Patches {
            modules: MODULES.iter().map(patch).collect(),
            ..Patches::default()
        },
        Baseline::default(),
    );
    let mut parser = Parser::of(source, Limits::default());
    let mut items = Vec::new();
    parser.push(log, &mut items);
    parser.finish(&mut items);
    let mut reports = Vec::new();
    for item in items {
        let findings = blamer.take(&item);
        if let Item::Report(report) = item {
            reports.push((*report, findings));
        }
    }
    Read { reports, blamer }
}

impl Read {
    fn verdict(&self, module: &str) -> ModuleVerdict {
        let all = self.blamer.verdicts(None);
        all.into_iter()
            .find(|verdict| verdict.module == module)
            .unwrap()
    }

    /// What is held of a livepatch, what is advised, whether it would come off.
    fn held(&self, module: &str) -> (&'static str, &'static str, &'static str) {
        let verdict = self.verdict(module);
        (
            verdict.verdict.as_str(),
            verdict.recommend.as_str(),
            verdict.revert_possible.as_str(),
        )
    }

    /// The strongest rule that speaks against a livepatch in the first report that accuses it.
    fn rule(&self, module: &str) -> &'static str {
        let mut findings = self.reports.iter().flat_map(|(_, findings)| findings);
        let finding = findings.find(|finding| {
            finding.module == module && matches!(finding.verdict.as_str(), "guilty" | "suspect")
        });
        finding.unwrap().evidence.first().unwrap().rule
    }

    fn titles(&self) -> Vec<&str> {
        self.reports
            .iter()
            .map(|(report, _)| report.title.as_str())
            .collect()
    }

    fn nobody_else(&self, accused: &[&str]) {
        for (module, _) in MODULES {
            let held = self.held(module).0;
            let wrong = !accused.contains(&module) && matches!(held, "guilty" | "suspect");
            assert!(!wrong, "{module} is held to be {held}");
        }
    }
}

#[test]
fn warnings_are_held_and_a_task_that_hangs_inside_keeps_it_from_coming_off() {
    let log = include_bytes!("real/6.1-warnings-and-hang.kmsg");
    let whole = read(Source::Kmsg, log);
    whole.nobody_else(&["lab_warns", "lab_warns_below", "lab_sleeps", "lab_hangs"]);
    for module in ["lab_warns", "lab_warns_below", "lab_sleeps"] {
        assert_eq!(whole.held(module), ("guilty", "hold", "yes"), "{module}");
        assert_eq!(whole.rule(module), "ip-in-module", "{module}");
    }
    // The leak is noticed where the task next gives the CPU away, with nothing of the livepatch left.
    assert_eq!(whole.held("lab_leaks").0, "unknown");
    assert!(
        whole
            .verdict("lab_leaks")
            .why
            .starts_with("nothing points at it"),
        "{}",
        whole.verdict("lab_leaks").why
    );
    assert_eq!(whole.held("lab_hangs"), ("guilty", "reboot", "no"));

    // Already before anybody tried to take it off.
    let text = String::from_utf8_lossy(log);
    let before = text
        .split("livepatch: 'lab_hangs': starting unpatching")
        .next()
        .unwrap();
    let before = read(Source::Kmsg, before.as_bytes());
    assert_eq!(before.held("lab_hangs"), ("guilty", "reboot", "no"));

    // Had the task gone on, it would have come off, and there is nothing left to do but to hold it.
    let gone = format!("{text}5,617,50921959,-;livepatch: 'lab_hangs': unpatching complete\n");
    let gone = read(Source::Kmsg, gone.as_bytes());
    assert_eq!(gone.held("lab_hangs"), ("guilty", "hold", "yes"));
}

#[test]
fn an_oops_is_blamed_where_it_stands_and_its_caller_is_suspect() {
    let log = include_bytes!("real/6.1-oopses.kmsg");
    let whole = read(Source::Kmsg, log);
    whole.nobody_else(&["lab_oopses", "lab_oopses_below"]);
    assert_eq!(whole.rule("lab_oopses"), "ip-in-module");
    assert_eq!(whole.held("lab_oopses"), ("guilty", "hold", "yes"));
    assert_eq!(whole.rule("lab_oopses_below"), "frame-in-module");
    assert_eq!(whole.held("lab_oopses_below").0, "suspect");
    let text = String::from_utf8_lossy(log);
    let before = text.split("starting unpatching").next().unwrap();
    let before = read(Source::Kmsg, before.as_bytes());
    assert_eq!(before.held("lab_oopses"), ("guilty", "revert", "unknown"));
}

#[test]
fn what_a_printing_function_chokes_on_was_handed_to_it() {
    let logs = [
        (
            &include_bytes!("real/6.1-oops-in-text.kmsg")[..],
            " seq_puts+",
        ),
        (
            &include_bytes!("real/6.12-oops-in-text.kmsg")[..],
            " __seq_puts+",
        ),
    ];
    for (log, printing) in logs {
        let whole = read(Source::Kmsg, log);
        whole.nobody_else(&["lab_oopses_in_text"]);
        assert_eq!(whole.rule("lab_oopses_in_text"), "handed-over");
        assert_eq!(whole.held("lab_oopses_in_text").0, "guilty");
        // A function between them that does more than print may have made the pointer up itself.
        let text = String::from_utf8_lossy(log);
        let between = text.replace(printing, " some_filter+");
        assert_ne!(between, text);
        let between = read(Source::Kmsg, between.as_bytes());
        assert_eq!(between.held("lab_oopses_in_text").0, "suspect");
    }
}

#[test]
fn a_cpu_that_spins_in_it_is_blamed_unless_somebody_else_hung_before() {
    let newer = read(Source::Kmsg, include_bytes!("real/6.12-deadlock.kmsg"));
    newer.nobody_else(&["lab_deadlocks"]);
    assert_eq!(newer.rule("lab_deadlocks"), "spins-for-lock");
    assert_eq!(newer.held("lab_deadlocks"), ("guilty", "reboot", "no"));
    let log = include_bytes!("real/6.1-deadlock.kmsg");
    let whole = read(Source::Kmsg, log);
    let titles = [
        "BUG: soft lockup in sys_sendfile64",
        "INFO: rcu detected stall in sys_sendfile64",
    ];
    assert_eq!(whole.titles(), titles);
    assert!(newer.titles().starts_with(&titles));
    assert!(
        whole
            .reports
            .iter()
            .all(|(report, _)| report.corrupted.is_none())
    );
    whole.nobody_else(&["lab_deadlocks"]);
    assert_eq!(whole.rule("lab_deadlocks"), "spins-for-lock");
    assert_eq!(whole.held("lab_deadlocks"), ("guilty", "reboot", "no"));

    // The same, behind another CPU that stands still without it: that one may hold the lock.
    let text = String::from_utf8_lossy(log);
    let start = text.find("0,376,").unwrap();
    let (loads, lockup) = text.split_at(start);
    let first = lockup.split("3,420,").next().unwrap();
    let other: Vec<&str> = first
        .lines()
        .filter(|line| !line.contains("[lab_deadlocks]"))
        .collect();
    let other = other.join("\n").replace("CPU#1", "CPU#0");
    let other = other.replace("17540", "17530");
    let victim = read(Source::Kmsg, format!("{loads}{other}\n{lockup}").as_bytes());
    assert_eq!(victim.held("lab_deadlocks").0, "suspect");
}

#[test]
fn a_cpu_that_was_heard_of_no_more_may_go_on() {
    let text = String::from_utf8_lossy(include_bytes!("real/6.1-deadlock.kmsg"));
    let later = format!("{text}4,466,150000000,-;WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n");
    let later = format!("{later}4,467,150000001,-;Call Trace:\n4,468,150000002,-; g+0x1/0x2\n");
    assert_eq!(
        read(Source::Kmsg, later.as_bytes()).held("lab_deadlocks"),
        ("guilty", "revert", "unknown")
    );
}

#[test]
fn what_pstore_kept_is_believed_and_no_more_than_holding_is_advised() {
    let panic = pstore::join(include_bytes!("real/6.1-panic.pstore"));
    let panic = read(Source::Pstore, &panic);
    panic.nobody_else(&["lab_oopses"]);
    assert_eq!(panic.held("lab_oopses"), ("guilty", "hold", "unknown"));
    let sysrq = pstore::join(include_bytes!("real/6.1-sysrq.pstore"));
    let sysrq = read(Source::Pstore, &sysrq);
    assert_eq!(sysrq.titles(), ["kernel panic: sysrq triggered crash"]);
    sysrq.nobody_else(&[]);
}
