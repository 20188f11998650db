//! Livepatches that do harm in a guest, and what the log's reader says of them: live from `/dev/kmsg`,
//! and from what pstore kept over a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tuxtape_kernel::lab::crash_store::CrashStore;
use tuxtape_kernel::lab::guest::{self, Cpus, Ending, GuestFile, GuestPlan, Outcome};
use tuxtape_kernel::lab::tools::Tools;

use super::misbehave::{
    DEADLOCKS, HANGS, INNOCENT, LEAKS, Misbehaviour, OOPSES, OOPSES_BELOW, OOPSES_IN_TEXT, SLEEPS,
    WARNS, WARNS_BELOW,
};
use super::setup::{KERNEL, Lab, lab_with_guests_of, skip, talk};

/// The other kernel these tests know, left out where it is not prepared.
const NEWER: &str = "6.12.107+deb12-cloud-amd64";

/// What every guest's script begins with.
const FUNCTIONS: &str = include_str!("blame.sh");

/// A kernel, its guests, and what goes into them.
struct Bench {
    lab: Lab,
    tools: Tools,
    /// The log's reader and its libraries.
    reader: Vec<GuestFile>,
}

fn bench(release: &str) -> Option<Bench> {
    let (lab, tools) = lab_with_guests_of(release)?;
    let reader = reader(&lab)?;
    Some(Bench { lab, tools, reader })
}

/// `tuxtape` without its debug information, and the libraries it is linked with.
fn reader(lab: &Lab) -> Option<Vec<GuestFile>> {
    let program = env!("CARGO_BIN_EXE_tuxtape");
    let stripped = lab.path("tuxtape");
    let strip = Command::new("strip")
        .arg("-o")
        .args([&stripped, Path::new(program)])
        .status();
    if !strip.is_ok_and(|status| status.success()) {
        return skip("strip is not installed");
    }
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(listed.stdout).unwrap();
    let paths = libraries
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut files = vec![file("/usr/bin/tuxtape", &stripped)];
    files.extend(paths.map(|path| file(path, Path::new(path))));
    Some(files)
}

fn file(path: &str, from: &Path) -> GuestFile {
    GuestFile {
        path: path.to_owned(),
        mode: 0o755,
        bytes: fs::read(from).unwrap(),
    }
}

/// What the client would write of these livepatches.
fn snapshot(boot: Option<&str>, release: &str, modules: &[Misbehaviour], replace: bool) -> Value {
    let modules: Vec<Value> = modules
        .iter()
        .map(|module| {
            json!({
                "name": module.name, "level": null, "ours": true, "enabled": true,
                "transition": false, "replace": replace, "forced": false, "refcount": 1,
                "functions": [{"object": "vmlinux", "name": module.function, "sympos": 0}],
                "stalled": [],
            })
        })
        .collect();
    json!({
        "format": 1, "boot_id": boot, "taken": null, "release": release, "tainted": null,
        "modules": modules, "calls": null,
    })
}

/// What came out of one guest.
struct Visit {
    outcome: Outcome,
    /// What the reader said, each with milliseconds since boot.
    said: Vec<(u64, Value)>,
}

impl Bench {
    /// Boots a guest with these modules, the reader at work, and this script.
    fn visit(&self, modules: &[(&Misbehaviour, PathBuf)], replace: bool, plan: GuestPlan) -> Visit {
        let mut files = self.reader.clone();
        for (module, path) in modules {
            files.push(file(&format!("/lab/livepatch/{}.ko", module.name), path));
        }
        let named: Vec<Misbehaviour> = modules.iter().map(|(module, _)| **module).collect();
        let release = self.lab.kernel.release.as_str();
        files.push(GuestFile {
            path: "/lab/patches.json".to_owned(),
            mode: 0o644,
            bytes: snapshot(Some("BOOT"), release, &named, replace)
                .to_string()
                .into_bytes(),
        });
        let plan = GuestPlan {
            files,
            script: format!("{FUNCTIONS}\n{}", plan.script),
            memory_mib: 768,
            deadline: Duration::from_secs(420),
            silence: Duration::from_secs(150),
            ..plan
        };
        let outcome = guest::boot(&self.tools, &self.lab.kernel, &plan, &mut |_| {}).unwrap();
        let said = outcome.fact("said").unwrap_or_default();
        let said = said
            .lines()
            .filter_map(|line| {
                let (at, value) = line.split_once(' ')?;
                Some((at.parse().ok()?, serde_json::from_str(value).ok()?))
            })
            .collect();
        Visit { outcome, said }
    }
}

impl Bench {
    /// Reads what pstore kept of the boot before this one, as the next boot's client would.
    fn read_kept(&self, release: &str, name: &str, visit: &Visit) -> Vec<Value> {
        let folder = self.lab.path(name);
        fs::create_dir(&folder).unwrap();
        let kept = visit.outcome.facts.iter().filter_map(|fact| {
            let name = fact.name.strip_prefix("kept/")?;
            Some((name, &fact.value))
        });
        for (file, bytes) in kept {
            fs::write(folder.join(file), bytes).unwrap();
            if let Some(keep) = std::env::var_os("TUXTAPE_LAB_KEEP") {
                let keep = Path::new(&keep).join(format!("{release}-{name}"));
                fs::create_dir_all(&keep).unwrap();
                fs::write(keep.join(file), bytes).unwrap();
            }
        }
        let patches = self.lab.path("patches.json");
        let modules = [INNOCENT, OOPSES, DEADLOCKS];
        let snapshot = snapshot(None, release, &modules, false);
        fs::write(&patches, snapshot.to_string()).unwrap();
        let output = self
            .lab
            .command(&["log", "parse", "--json", "--patches"])
            .args([&patches, &folder])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.is_empty(), "{}", talk(&output));
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

impl Visit {
    /// The machine ended before the script did.
    fn crashed(&self) {
        assert!(
            matches!(self.outcome.ending, Ending::Stopped { .. }),
            "{}\n{}\n{}",
            self.outcome.ending,
            self.outcome.talk,
            self.outcome.console_tail(60)
        );
    }

    fn ended(&self) {
        assert_eq!(
            self.outcome.ending,
            Ending::Finished { code: 0 },
            "{}\n{}",
            self.outcome.talk,
            self.outcome.console_tail(60)
        );
    }

    /// What was held of a livepatch, in order.
    fn verdicts(&self, module: &str) -> impl Iterator<Item = &(u64, Value)> {
        self.said
            .iter()
            .filter(move |(_, said)| said["kind"] == "verdict" && said["module"] == module)
    }

    fn last(&self, module: &str) -> &Value {
        let last = self.verdicts(module).last();
        &last
            .unwrap_or_else(|| panic!("nothing was said of {module}: {:?}", self.said))
            .1
    }
}

/// The script's line that loads a livepatch.
fn take(module: &Misbehaviour) -> String {
    format!("take {}\n", module.name)
}

/// The script's lines that make it do harm, and try for some seconds to take it off.
fn harm(module: &Misbehaviour, seconds: u32) -> String {
    format!(
        "harm {name} '{}'\noff {name} {seconds}\n",
        module.trigger,
        name = module.name
    )
}

/// Whether a livepatch comes off after what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    Comes,
    Stays,
}

/// What is to be said of one that did harm.
struct Expected {
    module: &'static Misbehaviour,
    verdict: &'static str,
    rule: &'static str,
    recommend: &'static str,
    revert_possible: &'static str,
    off: Off,
}

/// A row of the table of `docs/klog.md`.
fn row(release: &str, transport: &str, report: &Value, finding: &Value, after: Option<u64>) {
    let evidence = &finding["for"][0];
    let seconds = after.map_or("-".to_owned(), |ms| {
        format!("{}.{:02}", ms / 1000, ms % 1000 / 10)
    });
    eprintln!(
        "| {} | {release} | {transport} | {} | {} | {}: {} | {seconds} |",
        finding["module"].as_str().unwrap_or("-"),
        report["title"].as_str().unwrap_or("-"),
        finding["verdict"].as_str().unwrap_or("-"),
        evidence["rule"].as_str().unwrap_or("-"),
        evidence["found"].as_str().unwrap_or("-"),
    );
}

/// The report that led to what is held of a livepatch, and what it says of it.
fn reason<'a>(said: &[&'a Value], module: &str) -> Option<(&'a Value, &'a Value)> {
    let rank = |verdict: &Value| match verdict.as_str() {
        Some("guilty") => 3,
        Some("suspect") => 2,
        Some("unknown") => 1,
        _ => 0,
    };
    let mut best: Option<(&Value, &Value)> = None;
    for report in said.iter().filter(|said| said["kind"] == "report") {
        let findings = report["verdicts"].as_array()?;
        for finding in findings.iter().filter(|found| found["module"] == module) {
            if best.is_none_or(|(_, held)| rank(&finding["verdict"]) > rank(&held["verdict"])) {
                best = Some((report, finding));
            }
        }
    }
    best
}

fn check(visit: &Visit, release: &str, expected: &Expected) -> Result<(), String> {
    let name = expected.module.name;
    let said: Vec<&Value> = visit.said.iter().map(|(_, said)| said).collect();
    let verdict = visit.last(name);
    let Some((report, finding)) = reason(&said, name) else {
        return Err(format!("{name}: no report; {verdict}"));
    };
    let first = visit
        .verdicts(name)
        .find(|(_, said)| said["verdict"] == finding["verdict"] && said["why"] == verdict["why"])
        .map(|(at, _)| *at);
    // printk's clock and the uptime do not begin together.
    let (uptime, printk) = clocks(visit);
    let splat = report["time_us"]
        .as_u64()
        .map(|us| us / 1000 + uptime - printk);
    let after = first.zip(splat).map(|(at, splat)| at.saturating_sub(splat));
    row(release, "kmsg", report, finding, after);
    let off = match visit.outcome.fact(&format!("off.{name}")).as_deref() {
        Some("gone") => Off::Comes,
        _ => Off::Stays,
    };
    let seen = (
        verdict["verdict"].as_str().unwrap_or_default(),
        finding["for"][0]["rule"].as_str().unwrap_or_default(),
        verdict["recommend"].as_str().unwrap_or_default(),
        verdict["revert_possible"].as_str().unwrap_or_default(),
        off,
    );
    let wanted = (
        expected.verdict,
        expected.rule,
        expected.recommend,
        expected.revert_possible,
        expected.off,
    );
    if seen == wanted {
        Ok(())
    } else {
        Err(format!(
            "{name}: want {wanted:?}, have {seen:?}; {report:#}"
        ))
    }
}

/// The uptime and printk's clock at one moment, in milliseconds.
fn clocks(visit: &Visit) -> (u64, u64) {
    let log = String::from_utf8_lossy(&visit.outcome.records);
    let mark = log.lines().find_map(|line| {
        let (head, text) = line.split_once(";tuxtape-lab: clock ")?;
        let printk: u64 = head.split(',').nth(2)?.parse().ok()?;
        Some((text.trim().parse().ok()?, printk / 1000))
    });
    mark.expect("the script marks the log with its clock")
}

fn not_blamed(visit: &Visit, module: &Misbehaviour) -> Result<(), String> {
    let held: Vec<&str> = visit
        .verdicts(module.name)
        .filter_map(|(_, said)| said["verdict"].as_str())
        .filter(|verdict| !matches!(*verdict, "innocent" | "unknown"))
        .collect();
    if held.is_empty() {
        Ok(())
    } else {
        Err(format!("{} was held to be {held:?}", module.name))
    }
}

fn all(checks: impl IntoIterator<Item = Result<(), String>>) {
    let wrong: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Warnings, a sleep where none is allowed, a leak and a hang, one after another in one guest, each
/// in a livepatch of its own beside one that does nothing wrong.
fn warnings_and_hangs(release: &str) {
    let Some(bench) = bench(release) else { return };
    let modules = [&INNOCENT, &WARNS, &WARNS_BELOW, &SLEEPS, &LEAKS, &HANGS];
    let built: Vec<(&Misbehaviour, PathBuf)> = modules
        .iter()
        .map(|module| (*module, module.build_beside(&bench.lab)))
        .collect();
    let mut script = "watch\n".to_owned();
    script.extend(modules.iter().map(|module| take(module)));
    for module in [&WARNS, &WARNS_BELOW, &SLEEPS, &LEAKS] {
        script.push_str(&harm(module, 20));
    }
    script.push_str("echo 2 >/proc/sys/kernel/hung_task_timeout_secs\n");
    // The kernel signals those that hold a transition up after 15 s.
    script.push_str(&harm(&HANGS, 17));
    script.push_str("finish\n");
    let plan = GuestPlan {
        script,
        ..GuestPlan::default()
    };
    let visit = bench.visit(&built, false, plan);
    keep(&visit, release, "warnings");
    visit.ended();
    let held = |module, recommend, revert_possible, off| Expected {
        module,
        verdict: "guilty",
        rule: "ip-in-module",
        recommend,
        revert_possible,
        off,
    };
    all([
        check(&visit, release, &held(&WARNS, "hold", "yes", Off::Comes)),
        check(
            &visit,
            release,
            &held(&WARNS_BELOW, "hold", "yes", Off::Comes),
        ),
        check(&visit, release, &held(&SLEEPS, "hold", "yes", Off::Comes)),
        check(&visit, release, &held(&HANGS, "reboot", "no", Off::Stays)),
        not_blamed(&visit, &INNOCENT),
        not_blamed(&visit, &LEAKS),
    ]);
}

/// Faults, one guest for each that is to be judged on its own: what comes behind an oops is fallout.
fn oopses(release: &str) {
    let Some(bench) = bench(release) else { return };
    let beside = |module: &'static Misbehaviour| (module, module.build_beside(&bench.lab));
    let plan = |harmful: &[&Misbehaviour]| {
        let mut script = format!("watch\n{}", take(&INNOCENT));
        script.extend(harmful.iter().map(|module| take(module)));
        script.extend(harmful.iter().map(|module| harm(module, 20)));
        script.push_str("finish\n");
        GuestPlan {
            script,
            ..GuestPlan::default()
        }
    };
    let built = [&INNOCENT, &OOPSES, &OOPSES_BELOW].map(beside);
    let own = bench.visit(&built, false, plan(&[&OOPSES, &OOPSES_BELOW]));
    keep(&own, release, "oopses");
    // As they are built: the second takes the place of the first.
    let built = [&INNOCENT, &OOPSES_IN_TEXT].map(|module| (module, module.build(&bench.lab)));
    let text = bench.visit(&built, true, plan(&[&OOPSES_IN_TEXT]));
    keep(&text, release, "text");
    own.ended();
    text.ended();
    let held = |module, verdict, rule, recommend, revert_possible| Expected {
        module,
        verdict,
        rule,
        recommend,
        revert_possible,
        off: Off::Comes,
    };
    all([
        check(
            &own,
            release,
            // Off again, as `off` says: there is nothing left to revert.
            &held(&OOPSES, "guilty", "ip-in-module", "hold", "yes"),
        ),
        first_advice(&own, &OOPSES, "revert", "unknown"),
        check(
            &own,
            release,
            // The function that faulted may have been handed anything: its caller alone is no proof.
            &held(&OOPSES_BELOW, "suspect", "frame-in-module", "hold", "yes"),
        ),
        check(
            &text,
            release,
            &held(&OOPSES_IN_TEXT, "guilty", "handed-over", "hold", "yes"),
        ),
        first_advice(&text, &OOPSES_IN_TEXT, "revert", "unknown"),
        not_blamed(&own, &INNOCENT),
        not_blamed(&text, &INNOCENT),
    ]);
}

/// What was advised when the verdict was first given.
fn first_advice(
    visit: &Visit,
    module: &Misbehaviour,
    recommend: &str,
    revert: &str,
) -> Result<(), String> {
    let given = visit
        .verdicts(module.name)
        .find(|(_, said)| said["verdict"] == "guilty");
    let Some((_, said)) = given else {
        return Err(format!("{} was never guilty", module.name));
    };
    if said["recommend"] == recommend && said["revert_possible"] == revert {
        Ok(())
    } else {
        Err(format!("want {recommend} and {revert}, have {said}"))
    }
}

/// A deadlock seen live, then three ends of a machine, each read from what pstore kept of it: by the
/// deadlock, by a crash that nothing loaded has to do with, and by an oops.
fn crashes(release: &str) {
    let Some(bench) = bench(release) else { return };
    let store = CrashStore::create(&bench.lab.path("crash store")).unwrap();
    let plan = |script: String, cpus| GuestPlan {
        script,
        cpus,
        crash_store: Some(store.clone()),
        ..GuestPlan::default()
    };
    let deadlocks = [
        (&DEADLOCKS, DEADLOCKS.build(&bench.lab)),
        (&INNOCENT, INNOCENT.build_beside(&bench.lab)),
    ];
    let script = format!(
        "watch\n{}{}\
         echo 2 >/proc/sys/kernel/watchdog_thresh\n\
         echo 8 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout\n\
         {}finish\n\
         echo 1 >/proc/sys/kernel/softlockup_panic\nsleep 120\n",
        take(&DEADLOCKS),
        take(&INNOCENT),
        harm(&DEADLOCKS, 5)
    );
    let live = bench.visit(&deadlocks, false, plan(script, Cpus::Two));
    keep(&live, release, "deadlock");
    live.crashed();
    let oopses = [
        (&INNOCENT, INNOCENT.build(&bench.lab)),
        (&OOPSES, OOPSES.build(&bench.lab)),
    ];
    let loaded = format!("kept\n{}{}", take(&INNOCENT), take(&OOPSES));
    let script =
        format!("{loaded}echo 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger\nsleep 60\n");
    let unrelated = bench.visit(&oopses, true, plan(script, Cpus::One));
    unrelated.crashed();
    let script = format!(
        "{loaded}echo 1 >/proc/sys/kernel/panic_on_oops\n{}\nsleep 60\n",
        OOPSES.trigger
    );
    let oops = bench.visit(&oopses, true, plan(script, Cpus::One));
    oops.crashed();
    let last = bench.visit(&[], true, plan("kept\n".to_owned(), Cpus::One));
    last.ended();
    let expected = Expected {
        module: &DEADLOCKS,
        verdict: "guilty",
        rule: "spins-for-lock",
        recommend: "reboot",
        revert_possible: "no",
        off: Off::Stays,
    };
    // Each boot takes what the one before it left.
    let read = |name: &str, visit: &Visit| bench.read_kept(release, name, visit);
    let deadlock = read("kept-deadlock", &unrelated);
    let sysrq = read("kept-sysrq", &oops);
    let oops = read("kept-oops", &last);
    all([
        check(&live, release, &expected),
        not_blamed(&live, &INNOCENT),
        held_of_kept(&deadlock, release, &DEADLOCKS, &["guilty"]),
        held_of_kept(&deadlock, release, &INNOCENT, &["unknown", "innocent"]),
        held_of_kept(&sysrq, release, &OOPSES, &["unknown", "innocent"]),
        held_of_kept(&oops, release, &OOPSES, &["guilty"]),
        held_of_kept(&oops, release, &INNOCENT, &["unknown", "innocent"]),
    ]);
}

/// Checks what is held of a livepatch after a crash, and that no more than holding it is advised: the
/// machine that could have taken it off is gone.
fn held_of_kept(
    said: &[Value],
    release: &str,
    module: &Misbehaviour,
    verdicts: &[&str],
) -> Result<(), String> {
    let name = module.name;
    let Some(verdict) = said
        .iter()
        .rfind(|said| said["kind"] == "verdict" && said["module"] == name)
    else {
        return Err(format!("pstore: nothing was said of {name}: {said:?}"));
    };
    let all: Vec<&Value> = said.iter().collect();
    if let Some((report, finding)) = reason(&all, name) {
        row(release, "pstore", report, finding, None);
    }
    let held = verdict["verdict"].as_str().unwrap_or_default();
    let advice = verdict["recommend"].as_str().unwrap_or_default();
    let mild = matches!(advice, "none" | "observe" | "hold");
    if verdicts.contains(&held) && mild {
        Ok(())
    } else {
        Err(format!(
            "pstore: want {verdicts:?}, have {verdict}; {said:#?}"
        ))
    }
}

/// Keeps what came out where it is asked for, to look at.
fn keep(visit: &Visit, release: &str, name: &str) {
    let Some(folder) = std::env::var_os("TUXTAPE_LAB_KEEP") else {
        return;
    };
    let path = |end: &str| PathBuf::from(&folder).join(format!("{release}-{name}.{end}"));
    fs::write(path("kmsg"), &visit.outcome.records).unwrap();
    fs::write(path("console"), &visit.outcome.console).unwrap();
    fs::write(path("talk"), &visit.outcome.talk).unwrap();
    let facts: Vec<String> = visit
        .outcome
        .facts
        .iter()
        .map(|fact| format!("{}={}\n", fact.name, fact.text()))
        .collect();
    fs::write(path("facts"), facts.concat()).unwrap();
}

#[test]
fn lab_an_oops_is_blamed_on_the_livepatch_it_is_in() {
    oopses(KERNEL);
}

#[test]
fn lab_an_oops_is_blamed_on_the_livepatch_it_is_in_on_a_newer_kernel() {
    oopses(NEWER);
}

#[test]
fn lab_what_pstore_kept_blames_the_livepatch_and_not_for_a_crash_of_another() {
    crashes(KERNEL);
}

#[test]
fn lab_what_pstore_kept_blames_the_livepatch_and_not_for_a_crash_of_another_on_a_newer_kernel() {
    crashes(NEWER);
}

#[test]
fn lab_warnings_and_hangs_are_blamed_on_their_livepatch_alone() {
    warnings_and_hangs(KERNEL);
}

#[test]
fn lab_warnings_and_hangs_are_blamed_on_their_livepatch_alone_on_a_newer_kernel() {
    warnings_and_hangs(NEWER);
}
