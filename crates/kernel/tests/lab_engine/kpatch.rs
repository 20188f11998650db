//! The integration patches that kpatch publishes, from a copy of its `test/integration` named by
//! `$TUXTAPE_KPATCH_TESTS`: what must build builds, is seen to work in a guest, and what must not is
//! refused.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use tuxtape_kernel::lab::trial::Livepatch;
use tuxtape_kernel::produce::{NamedFix, Outcome, ProduceError};

use super::setup::{Lab, Test, labs, named, patches, skip};

/// The set of patches that fits the source of a series.
fn set(lab: &Lab) -> Option<&'static str> {
    let base = &lab.profile.base_version;
    if base.starts_with("6.1.") {
        Some("linux-6.2.0")
    } else if base.starts_with("6.12.") {
        Some("linux-6.17.0")
    } else {
        None
    }
}

fn module_name(patch: &str) -> String {
    format!("kp_{}", patch.replace(['-', '.'], "_"))
}

/// What shows that a patch without a test of its own does something, as a test in the guest: the
/// functions of the module that run while something is done, or what the kernel says.
fn seen(patch: &str, module: &str) -> Option<Test> {
    let traced = |act: &str, functions: &[&str]| {
        let found: String = functions
            .iter()
            .flat_map(|function| ["grep -w ", function, " trace || exit 1\n"])
            .collect();
        Test::from(format!(
            "cd /sys/kernel/debug/tracing || exit 1\n\
             echo '*:mod:{module}' > set_ftrace_filter || exit 1\n\
             echo function > current_tracer || exit 1\n\
             {act}\n\
             echo 0 > tracing_on\n\
             cp trace /seen; echo nop > current_tracer; echo > set_ftrace_filter; echo 1 > tracing_on\n\
             cd /; mv seen trace\n{found}"
        ))
    };
    match patch {
        // The message is for a clock that stands at 0; the new functions run all the same.
        "new-globals" => Some(traced(
            "cat /proc/meminfo > /dev/null",
            &["meminfo_proc_show", "kpatch_print_message"],
        )),
        "new-function" => Some(traced(
            "echo written > /dev/console; sleep 1",
            &["n_tty_write", "kpatch_n_tty_write"],
        )),
        "special-static" => Some(traced("ls / > /dev/null", &["copy_process"])),
        // Its caller is a rule of a packet filter, which the guest does not have.
        "gcc-static-local-var-6" => Some(Test::from(
            "grep '^__nf_ip6_route .*klp_ftrace_handler' /sys/kernel/debug/tracing/enabled_functions\n"
                .to_owned(),
        )),
        "macro-callbacks" => Some(Test {
            during: "dmesg | grep ' pre_patch_callback: vmlinux' || exit 1\n\
                     dmesg | grep ' post_patch_callback: vmlinux'\n"
                .to_owned(),
            after: Some(
                "dmesg | grep ' pre_unpatch_callback: vmlinux' || exit 1\n\
                 dmesg | grep ' post_unpatch_callback: vmlinux'\n"
                    .to_owned(),
            ),
        }),
        _ => None,
    }
}

/// One outcome in words, and its module where there is one.
fn told(module: &str, outcome: Result<Outcome, ProduceError>) -> (String, Option<Livepatch>) {
    match outcome {
        Ok(Outcome::Built(built)) => {
            let path = PathBuf::from(format!("{module}.ko"));
            let livepatch = Livepatch::from_module(path, built.bytes).unwrap();
            let changed = built.units.iter().flat_map(|unit| &unit.changed);
            let changed: Vec<&str> = changed.map(String::as_str).collect();
            let warnings = built.warnings.join("; ");
            (
                format!("built: {} | {warnings}", changed.join(", ")),
                Some(livepatch),
            )
        }
        Ok(Outcome::Refused(refusals)) => {
            let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            (format!("refused: {}", reasons.join("; ")), None)
        }
        Ok(Outcome::NoChange { unused, same }) => {
            (format!("no change: {same:?}, not used: {unused:?}"), None)
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            (format!("{error}: {}", cause.unwrap_or_default()), None)
        }
    }
}

#[test]
fn lab_the_published_integration_patches_build_and_work() {
    let Some(folder) = env::var_os("TUXTAPE_KPATCH_TESTS").map(PathBuf::from) else {
        return skip("TUXTAPE_KPATCH_TESTS is not set").unwrap_or_default();
    };
    let mut wrong = Vec::new();
    for lab in labs() {
        let release = lab.kernel.release.to_string();
        let Some(set) = set(&lab) else {
            skip::<()>(&format!("no set of patches for {release}"));
            continue;
        };
        let (mut livepatches, mut tests) = (Vec::new(), BTreeMap::new());
        let (mut together, mut all) = (Vec::new(), Test::default());
        for (name, (path, test)) in patches(&folder.join(set)) {
            let module = module_name(&name);
            let patch = fs::read(&path).unwrap();
            let (said, livepatch) = told(&module, lab.build(&module, &patch));
            eprintln!("| {release} | {name} | {said} |");
            if livepatch.is_some() == name.ends_with("-FAIL") {
                wrong.push(format!("{release}: {name}: {said}"));
            }
            let Some(livepatch) = livepatch else {
                continue;
            };
            livepatches.push(livepatch);
            let test = test.map(Test::from).or_else(|| seen(&name, &module));
            let Some(test) = test else {
                wrong.push(format!("{release}: {name}: nothing shows that it works"));
                continue;
            };
            tests.insert(module, test);
            if joins(&lab, &mut together, named(&name, &patch)) {
                let own = patches(&folder.join(set)).remove(&name);
                let own = own.and_then(|(_, test)| test).map(Test::from);
                if let Some(test) = own.or_else(|| seen(&name, ALL)) {
                    add(&mut all, &test);
                }
            }
        }
        let (said, livepatch) = told(ALL, lab.build_together(ALL, &together));
        let names: Vec<&str> = together.iter().map(|fix| fix.name.as_str()).collect();
        eprintln!("| {release} | {} in one | {said} |", names.join(", "));
        match livepatch {
            Some(livepatch) => {
                livepatches.push(livepatch);
                tests.insert(ALL.to_owned(), all);
            }
            None => wrong.push(format!("{release}: all in one: {said}")),
        }
        wrong.extend(lab.boot(livepatches, &tests));
    }
    assert_eq!(wrong, [""; 0]);
}

/// The module of all patches of a set that go together.
const ALL: &str = "kp_all_in_one";

/// Puts a fix to others if they fit together.
fn joins(lab: &Lab, together: &mut Vec<NamedFix>, fix: NamedFix) -> bool {
    together.push(fix);
    match tuxtape_kernel::produce::together(&lab.kernel, together) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("| {} | left out | {error} |", lab.kernel.release);
            together.pop();
            false
        }
    }
}

/// Runs `more` behind what is run already; the first that fails ends both.
fn add(test: &mut Test, more: &Test) {
    let one = |text: &str| format!("( {text}\n) || exit 1\n");
    test.during.push_str(&one(&more.during));
    if let Some(after) = &more.after {
        test.after.get_or_insert_default().push_str(&one(after));
    }
}
