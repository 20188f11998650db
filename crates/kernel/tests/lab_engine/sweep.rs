//! Fixes of the reader's own choice: every `*.patch` below `$TUXTAPE_FIXES/RELEASE` is built, and what
//! is built is loaded, comes into force and goes again, with a clean log.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tuxtape_kernel::lab::trial::Livepatch;
use tuxtape_kernel::produce::Outcome;

use super::setup::{Lab, labs, patches, skip};

/// One line of the table, and the module where there is one.
fn build(lab: &Lab, name: &str, path: &PathBuf) -> (String, Option<Livepatch>) {
    let short: String = name.chars().take(48).collect();
    let module = format!("fix_{short}");
    let started = Instant::now();
    let outcome = lab.build(&module, &fs::read(path).unwrap());
    let seconds = started.elapsed().as_secs_f64();
    let (said, livepatch) = match outcome {
        Ok(Outcome::Built(built)) => {
            let changed: Vec<String> = built
                .units
                .iter()
                .flat_map(|unit| {
                    let (equal, all) = unit.equal;
                    let names = unit.changed.iter().chain(&unit.new).cloned();
                    names.chain([format!("{equal}/{all} equal in {}", unit.object)])
                })
                .collect();
            let path = PathBuf::from(format!("{module}.ko"));
            let livepatch = Livepatch::from_module(path, built.bytes).unwrap();
            let said = format!(
                "built | {} {}",
                changed.join(", "),
                built.warnings.join("; ")
            );
            (said, Some(livepatch))
        }
        Ok(Outcome::Refused(refusals)) => {
            let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            (format!("refused | {}", reasons.join("; ")), None)
        }
        Ok(Outcome::NoChange { unused, .. }) => (format!("no change | {unused:?}"), None),
        Err(error) => {
            let mut words = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                words = format!("{words}: {inner}");
                source = inner.source();
            }
            let first = words.lines().next().unwrap_or_default().to_owned();
            (format!("failed | {first}"), None)
        }
    };
    (format!("| {name} | {seconds:.1} s | {said} |"), livepatch)
}

#[test]
fn lab_fixes_of_a_folder_are_built_and_loaded_or_refused_with_their_rule() {
    let Some(folder) = env::var_os("TUXTAPE_FIXES").map(PathBuf::from) else {
        return skip("TUXTAPE_FIXES is not set").unwrap_or_default();
    };
    let mut wrong = Vec::new();
    for lab in labs() {
        let release = lab.kernel.release.to_string();
        let own = folder.join(&release);
        if !own.is_dir() {
            skip::<()>(&format!("no fixes in {}", own.display()));
            continue;
        }
        let mut livepatches = Vec::new();
        for (name, (path, _)) in patches(&own) {
            let (line, livepatch) = build(&lab, &name, &path);
            eprintln!("{line}");
            livepatches.extend(livepatch);
        }
        eprintln!("{release}: {} built", livepatches.len());
        wrong.extend(lab.boot(livepatches, &BTreeMap::new()));
    }
    assert_eq!(wrong, [""; 0]);
}
