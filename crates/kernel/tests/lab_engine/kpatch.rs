//! The integration patches that kpatch publishes, from a copy of its `test/integration` named by
//! `$TUXTAPE_KPATCH_TESTS`: what must build builds, is seen to work in a guest, and what must not is
//! refused.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use tuxtape_kernel::lab::trial::Livepatch;
use tuxtape_kernel::produce::Outcome;

use super::setup::{Lab, labs, patches, skip};

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
        for (name, (path, test)) in patches(&folder.join(set)) {
            let module = module_name(&name);
            let outcome = lab.build(&module, &fs::read(&path).unwrap());
            let may_build = !name.ends_with("-FAIL");
            let said = match outcome {
                Ok(Outcome::Built(built)) => {
                    if !may_build {
                        wrong.push(format!("{release}: {name} was built"));
                    }
                    let path = PathBuf::from(format!("{module}.ko"));
                    livepatches.push(Livepatch::from_module(path, built.bytes).unwrap());
                    tests.extend(test.map(|test| (module.clone(), test)));
                    let changed = built.units.iter().flat_map(|unit| &unit.changed);
                    let changed: Vec<&str> = changed.map(String::as_str).collect();
                    format!(
                        "built: {} | {}",
                        changed.join(", "),
                        built.warnings.join("; ")
                    )
                }
                Ok(Outcome::Refused(refusals)) => {
                    let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                    if may_build {
                        wrong.push(format!("{release}: {name}: {}", reasons.join("; ")));
                    }
                    format!("refused: {}", reasons.join("; "))
                }
                Ok(Outcome::NoChange { .. }) => {
                    if may_build {
                        wrong.push(format!("{release}: {name} changes nothing"));
                    }
                    "no change".to_owned()
                }
                Err(error) => {
                    wrong.push(format!("{release}: {name}: {error}"));
                    error.to_string()
                }
            };
            eprintln!("| {release} | {name} | {said} |");
        }
        wrong.extend(lab.boot(livepatches, &tests));
    }
    assert_eq!(wrong, [""; 0]);
}
