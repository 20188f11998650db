//! The boot lab with real guests. Needs QEMU, busybox and a kernel in `$TUXTAPE_CACHE`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: a failed step fails the test, a skipped one says so"
)]

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tuxtape_core::identity::{KernelRelease, ObjectName};
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::lab::accelerator::Accelerator;
use tuxtape_kernel::lab::guest::{
    self, Ending, GuestFile, GuestPlan, HOST_ADDRESS, LogEnd, Network,
};
use tuxtape_kernel::lab::tools::Tools;
use tuxtape_kernel::lab::trial::{
    self, Late, Limits, Livepatch, Order, Problem, Trial, TrialOutcome,
};
use tuxtape_klog::report::Class;
use tuxtape_sys::process;

struct Lab {
    tools: Tools,
    kernel: KernelFiles,
}

/// Returns what a guest needs, or says aloud why the test is skipped.
fn lab() -> Option<Lab> {
    let skip = |why: String| {
        eprintln!("skipped: {why}");
        None
    };
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(error) => return skip(error.to_string()),
    };
    let Some(cache) = env::var_os("TUXTAPE_CACHE").map(PathBuf::from) else {
        return skip("TUXTAPE_CACHE is not set".to_owned());
    };
    let mut releases: Vec<KernelRelease> = fs::read_dir(cache.join("kernels"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    releases.sort();
    let kernel = releases
        .iter()
        .map(|release| KernelFiles::below(&cache, release))
        .find(|kernel| {
            kernel.vmlinuz.is_file()
                && kernel.modules.is_dir()
                && kernel.source.join(".config").is_file()
        });
    match kernel {
        Some(kernel) => Some(Lab { tools, kernel }),
        None => skip(format!(
            "no kernel with source and image in {}",
            cache.display()
        )),
    }
}

/// Builds the test modules once and returns the folder.
fn modules(kernel: &KernelFiles) -> &'static Path {
    static BUILT: OnceLock<tempfile::TempDir> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab_modules");
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
            process::run_ok(
                Command::new("make")
                    .arg("-s")
                    .arg("-C")
                    .arg(&kernel.source)
                    .arg(format!("M={}", folder.path().display()))
                    .arg(format!("KERNELRELEASE={}", kernel.release))
                    .args(["KBUILD_MODPOST_WARN=1", "modules"]),
                Duration::from_secs(300),
            )
            .unwrap();
            folder
        })
        .path()
}

fn livepatch(lab: &Lab, name: &str) -> Livepatch {
    let path = modules(&lab.kernel).join(format!("{name}.ko"));
    let bytes = fs::read(&path).unwrap();
    Livepatch::from_module(path, bytes).unwrap()
}

fn try_them(lab: &Lab, livepatches: Vec<Livepatch>, script: Option<&str>) -> TrialOutcome {
    try_within(lab, livepatches, script, Limits::default())
}

fn try_within(
    lab: &Lab,
    livepatches: Vec<Livepatch>,
    script: Option<&str>,
    limits: Limits,
) -> TrialOutcome {
    let trial = Trial {
        livepatches,
        script: script.map(|text| text.as_bytes().to_vec()),
        order: Order::Both,
        accelerator: Accelerator::Tcg,
        limits,
    };
    trial::run(&lab.tools, &lab.kernel, &trial, &mut |line| {
        eprintln!("{line}");
    })
    .unwrap()
}

#[test]
fn lab_a_livepatch_changes_what_a_file_says_and_takes_it_back() {
    let Some(lab) = lab() else { return };
    let outcome = try_them(
        &lab,
        vec![livepatch(&lab, "lab_cmdline"), livepatch(&lab, "lab_sd")],
        Some("echo $TUXTAPE_STAGE; cat /proc/cmdline"),
    );
    assert!(outcome.passed(), "{:?}", outcome.modules);
    assert_eq!(outcome.boots, 1);
    let [cmdline, sd] = &outcome.modules[..] else {
        panic!("two modules, two outcomes");
    };
    let said: Vec<&str> = cmdline
        .script
        .iter()
        .flatten()
        .map(|run| run.output.as_str())
        .collect();
    let ours = "tuxtape lab was here";
    assert!(said[0].starts_with("before\n") && !said[0].contains(ours));
    assert_eq!(said[1], format!("during\n{ours}\n"));
    assert!(said[2].starts_with("after\n") && !said[2].contains(ours));
    assert!(cmdline.loaded && cmdline.unloaded && sd.loaded && sd.unloaded);
    let object = &sd.objects[0];
    assert_eq!(object.object, ObjectName("sd_mod".to_owned()));
    assert_eq!(object.patched, Some(true));
    assert_eq!(object.functions, ["sd_pr_clear,1"]);
    assert_eq!((&cmdline.late, &sd.late), (&None, &Some(Late::Patched)));
}

#[test]
fn lab_a_failure_costs_the_others_a_boot_and_nothing_else() {
    let Some(lab) = lab() else { return };
    let script = "cat /proc/cmdline";
    let livepatches =
        ["lab_cmdline", "lab_warn", "lab_oops", "lab_cmdline"].map(|name| livepatch(&lab, name));
    let outcome = try_them(&lab, livepatches.to_vec(), Some(script));
    assert!(!outcome.passed());
    let problems: Vec<&[Problem]> = outcome
        .modules
        .iter()
        .map(|module| &module.problems[..])
        .collect();
    assert_eq!(problems[0], []);
    assert!(
        matches!(problems[1], [Problem::Complaint(title)] if title.starts_with("WARNING: ")),
        "{:?}",
        problems[1]
    );
    assert!(
        problems[2].contains(&Problem::DiedLoading),
        "{:?}",
        problems[2]
    );
    assert_eq!(outcome.modules[2].reports[0].class, Class::NullDeref);
    assert_eq!(problems[3], []);
    assert_eq!(outcome.unexplained, []);
    // All four; the second alone; the third on, where it fails as the first; the fourth.
    assert_eq!(outcome.boots, 4);
}

#[test]
fn lab_a_module_for_another_kernel_is_not_left_to_the_kernel() {
    let Some(lab) = lab() else { return };
    let path = modules(&lab.kernel).join("lab_cmdline.ko");
    let release = lab.kernel.release.as_str();
    let other = format!("{}x", release.split_at(release.len() - 1).0);
    let bytes = replace(
        &fs::read(&path).unwrap(),
        format!("vermagic={release}").as_bytes(),
        format!("vermagic={other}").as_bytes(),
    );
    let outcome = try_them(
        &lab,
        vec![Livepatch::from_module(path, bytes).unwrap()],
        None,
    );
    assert_eq!(
        outcome.modules[0].problems,
        [Problem::OtherKernel { built_for: other }]
    );
    assert_eq!(outcome.boots, 0);
}

#[test]
fn lab_a_module_the_kernel_refuses_fails_with_its_reason() {
    let Some(lab) = lab() else { return };
    let path = modules(&lab.kernel).join("lab_cmdline.ko");
    let bytes = replace(
        &fs::read(&path).unwrap(),
        b"cmdline_proc_show",
        b"cmdline_proc_shaw",
    );
    let outcome = try_them(
        &lab,
        vec![Livepatch::from_module(path, bytes).unwrap()],
        None,
    );
    let module = &outcome.modules[0];
    assert!(!module.loaded);
    assert!(
        module
            .problems
            .iter()
            .any(|problem| matches!(problem, Problem::Refused(_))),
        "{:?}",
        module.problems
    );
    assert!(
        module
            .reports
            .iter()
            .any(|report| report.title.contains("cmdline_proc_shaw")),
        "{:?}",
        module.reports
    );
}

#[test]
fn lab_a_transition_or_a_script_without_end_fails_with_its_limit() {
    let Some(lab) = lab() else { return };
    let limits = Limits {
        transition: Duration::from_secs(3),
        script: Duration::from_secs(2),
        ..Limits::default()
    };
    let livepatches = vec![livepatch(&lab, "lab_stall")];
    let outcome = try_within(&lab, livepatches, Some("while :; do :; done"), limits);
    assert_eq!(
        outcome.modules[0].problems,
        [
            Problem::ScriptStopped("before"),
            Problem::Stalled(limits.transition)
        ]
    );
}

#[test]
fn lab_a_guest_that_hangs_is_stopped_and_says_where() {
    let Some(lab) = lab() else { return };
    let plan = GuestPlan {
        script: "fact here yes; while :; do :; done".to_owned(),
        silence: Duration::from_secs(40),
        ..GuestPlan::default()
    };
    let outcome = guest::boot(&lab.tools, &lab.kernel, &plan, &mut |_| {}).unwrap();
    assert_eq!(outcome.ending, Ending::Silent { seconds: 40 });
    assert_eq!(outcome.fact("here").as_deref(), Some("yes"));
}

#[test]
fn lab_a_log_that_stops_before_the_script_does_is_not_called_whole() {
    let Some(lab) = lab() else { return };
    let boot = |script: &str| {
        let plan = GuestPlan {
            script: script.to_owned(),
            ..GuestPlan::default()
        };
        let outcome = guest::boot(&lab.tools, &lab.kernel, &plan, &mut |_| {}).unwrap();
        assert_eq!(outcome.ending, Ending::Finished { code: 0 });
        outcome.log
    };
    assert_eq!(boot("true"), LogEnd::Whole);
    // Stops what streams the log, and who would start it again.
    let stop = "read -r pid name state parent rest </proc/$(pidof dd)/stat; kill -9 $parent $pid";
    assert_eq!(boot(stop), LogEnd::Cut);
}

#[test]
fn lab_a_panic_ends_the_boot_with_its_words() {
    let Some(lab) = lab() else { return };
    let plan = GuestPlan {
        script: "echo c >/proc/sysrq-trigger".to_owned(),
        ..GuestPlan::default()
    };
    let outcome = guest::boot(&lab.tools, &lab.kernel, &plan, &mut |_| {}).unwrap();
    assert!(
        matches!(outcome.ending, Ending::Stopped { .. }),
        "{}",
        outcome.ending
    );
    assert!(
        outcome
            .console_tail(60)
            .contains("Kernel panic - not syncing")
    );
}

#[test]
fn lab_the_guest_fetches_from_the_host_and_runs_what_it_was_given() {
    let Some(lab) = lab() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        let read = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nserved")
            .unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let plan = GuestPlan {
        files: vec![GuestFile {
            path: "/usr/bin/greet".to_owned(),
            mode: 0o755,
            bytes: b"#!/bin/sh\nprintf 'hello\\0\\377'\nexit 7\n".to_vec(),
        }],
        script: format!(
            "run fetch wget -q -O - http://{HOST_ADDRESS}:{port}/x\nrun greet greet\nfact code $?\nexit 4"
        ),
        network: Network::User,
        ..GuestPlan::default()
    };
    let outcome = guest::boot(&lab.tools, &lab.kernel, &plan, &mut |_| {}).unwrap();
    assert_eq!(outcome.failed_modules(), []);
    assert_eq!(
        outcome.fact("fetch.output").as_deref(),
        Some("served"),
        "{:?}",
        outcome.facts
    );
    assert_eq!(
        outcome
            .facts
            .iter()
            .find(|fact| fact.name == "greet.output")
            .unwrap()
            .value,
        b"hello\0\xff"
    );
    assert_eq!(outcome.fact("code").as_deref(), Some("7"));
    assert_eq!(outcome.ending, Ending::Finished { code: 4 });
    assert!(server.join().unwrap().starts_with("GET /x "));
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    let mut count = 0;
    while let Some(found) = bytes[at..]
        .windows(from.len())
        .position(|window| window == from)
    {
        at += found;
        bytes[at..at + to.len()].copy_from_slice(to);
        count += 1;
    }
    assert!(count > 0, "nothing to replace");
    bytes
}
