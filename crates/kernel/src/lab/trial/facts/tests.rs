use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::lab::accelerator::Accelerator;

fn livepatch(name: &str) -> Livepatch {
    Livepatch {
        path: PathBuf::from(format!("{name}.ko")),
        name: ObjectName(name.to_owned()),
        objects: vec![ObjectName("vmlinux".to_owned())],
        objects_are_complete: true,
        built_for: None,
        bytes: Vec::new(),
    }
}

fn boot(facts: &[(&str, &str)], records: &str, console: &str, ending: Ending) -> Outcome {
    Outcome {
        ending,
        facts: facts
            .iter()
            .map(|(name, value)| Fact {
                name: (*name).to_owned(),
                value: value.as_bytes().to_vec(),
            })
            .collect(),
        talk: String::new(),
        console: console.as_bytes().to_vec(),
        records: records.as_bytes().to_vec(),
        log: LogEnd::Whole,
        accelerator: Accelerator::Tcg,
        elapsed: Duration::ZERO,
    }
}

const DONE: Ending = Ending::Finished { code: 0 };
const LIFE: &[(&str, &str)] = &[
    ("module.0.phase", "load"),
    ("module.0.insmod", "0"),
    ("module.0.transition", "340"),
    ("module.0.object", "1 vmlinux"),
    ("module.0.function", "vmlinux cmdline_proc_show,1"),
    ("module.0.unloaded", "200"),
    ("module.0.phase", "done"),
];

fn life_log(name: &str, place: usize, first: u32) -> String {
    let lines = [
        format!("12,{first},1,-;tuxtape-lab: module.{place}.begin"),
        format!("5,{},1,-;livepatch: enabling patch '{name}'", first + 1),
        format!(
            "5,{},1,-;livepatch: '{name}': starting patching transition",
            first + 2
        ),
        format!("5,{},1,-;livepatch: '{name}': patching complete", first + 3),
        format!(
            "5,{},1,-;livepatch: '{name}': starting unpatching transition",
            first + 4
        ),
        format!(
            "5,{},1,-;livepatch: '{name}': unpatching complete",
            first + 5
        ),
    ];
    lines.map(|line| line + "\n").concat()
}

#[test]
fn a_whole_life_passes() {
    let seen = read(
        &boot(LIFE, &life_log("tt", 0, 10), "", DONE),
        &[&livepatch("tt")],
    );
    let module = &seen.modules[0];
    assert_eq!(module.problems, []);
    assert!(module.loaded && module.unloaded);
    assert_eq!(module.transition_ms, Some(340));
    assert_eq!(module.objects[0].functions, ["cmdline_proc_show,1"]);
}

#[test]
fn silence_is_never_a_pass() {
    let ending = Ending::Deadline { seconds: 9 };
    let seen = read(
        &boot(&LIFE[..1], "", "", ending.clone()),
        &[&livepatch("tt")],
    );
    assert_eq!(
        seen.modules[0].problems,
        [Problem::NoAnswer {
            during: "load".to_owned(),
            ending
        }]
    );
    // All facts, but a log without a trace of it.
    let seen = read(&boot(LIFE, "", "", DONE), &[&livepatch("tt")]);
    assert_eq!(
        seen.modules[0].problems,
        [Problem::LogDisagrees(State::Unknown)]
    );
}

#[test]
fn a_complaint_is_the_livepatchs_in_whose_time_it_fell() {
    let facts: Vec<(&str, &str)> = LIFE
        .iter()
        .copied()
        .chain([("module.1.phase", "done")])
        .collect();
    let log = format!(
        "4,8,1,-;WARNING: CPU: 0 PID: 1 at early.c:1 e+0x1/0x2\n12,9,1,-;x\n{}{}4,22,1,-;WARNING: CPU: 0 PID: 1 at late.c:1 l+0x1/0x2\n",
        life_log("one", 0, 10),
        life_log("two", 1, 16),
    );
    let seen = read(
        &boot(&facts, &log, "", DONE),
        &[&livepatch("one"), &livepatch("two")],
    );
    assert_eq!(seen.before.len(), 1);
    assert_eq!(seen.modules[0].problems, []);
    assert!(
        matches!(&seen.modules[1].problems[..], [Problem::Complaint(title)] if title.contains("late.c"))
    );
}

#[test]
fn lost_records_are_a_problem() {
    let log = life_log("tt", 0, 10) + "6,90,1,-;later\n";
    let seen = read(&boot(LIFE, &log, "", DONE), &[&livepatch("tt")]);
    assert_eq!(seen.modules[0].problems, [Problem::LogIncomplete(74)]);
}

#[test]
fn a_log_that_was_not_read_to_its_end_passes_nobody_who_may_be_in_the_rest() {
    let two: Vec<(&str, &str)> = LIFE
        .iter()
        .copied()
        .chain([("module.1.phase", "done")])
        .collect();
    let log = life_log("one", 0, 10) + &life_log("two", 1, 16);
    let whole = boot(&two, &log, "", DONE);
    let cut = Outcome {
        log: LogEnd::Cut,
        console: b"[    3.0] BUG: kernel NULL pointer dereference, address: 0\n".to_vec(),
        ..whole.clone()
    };
    let patches = [&livepatch("one"), &livepatch("two")];
    assert!(read(&whole, &patches).modules[1].problems.is_empty());
    let seen = read(&cut, &patches);
    assert_eq!(seen.modules[0].problems, []);
    assert!(
        matches!(
            &seen.modules[1].problems[..],
            [Problem::LogCut, Problem::Complaint(_)]
        ),
        "{:?}",
        seen.modules[1].problems
    );
    // Cut before any mark: it may be anyone's.
    let nothing = Outcome {
        records: Vec::new(),
        ..cut
    };
    for module in read(&nothing, &patches).modules {
        assert!(module.problems.contains(&Problem::LogCut));
    }
}

#[test]
fn after_a_crash_the_console_is_read_too() {
    let console = "[    3.000000] BUG: kernel NULL pointer dereference, address: 0\n";
    let ending = Ending::Stopped {
        why: "QEMU ended".to_owned(),
    };
    let seen = read(
        &boot(&LIFE[..1], "", console, ending),
        &[&livepatch("tt"), &livepatch("next")],
    );
    assert!(
        seen.modules[0]
            .problems
            .iter()
            .any(|problem| matches!(problem, Problem::Complaint(_)))
    );
    assert!(seen.modules[1].reports.is_empty());
}

#[test]
fn a_loader_that_was_killed_is_told_from_a_refusal() {
    for (code, problem) in [
        ("137", Problem::DiedLoading),
        ("1", Problem::Refused("why".to_owned())),
    ] {
        let facts = [("module.0.insmod", code), ("module.0.refused", "why\n")];
        let seen = read(&boot(&facts, "", "", DONE), &[&livepatch("tt")]);
        assert_eq!(seen.modules[0].problems, [problem]);
    }
}

#[test]
fn a_script_fails_the_test_only_while_the_livepatch_is_loaded() {
    for (fact, problems) in [
        (("module.0.script.before.exit", "1"), vec![]),
        (("module.0.script.after.exit", "1"), vec![]),
        (
            ("module.0.script.during.exit", "1"),
            vec![Problem::ScriptFailed(1)],
        ),
        (
            ("module.0.script.after.exit", "137"),
            vec![Problem::ScriptStopped("after")],
        ),
    ] {
        let facts: Vec<(&str, &str)> = LIFE.iter().copied().chain([fact]).collect();
        let seen = read(
            &boot(&facts, &life_log("tt", 0, 10), "", DONE),
            &[&livepatch("tt")],
        );
        assert_eq!(seen.modules[0].problems, problems, "{fact:?}");
    }
}
