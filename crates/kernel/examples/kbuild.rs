//! Evaluates a kernel source tree and, on wish, compares it with the debug data of that kernel.
//!
//! `kbuild TREE CONFIG [LIST]` prints counts and seconds, or one of the lists `units`,
//! `contributors`, `modules`, `blind`, `unsourced`; with `profile` what a profile could not check.
//! `kbuild --against CACHE RELEASE SOURCE_VERSION` takes tree, configuration, debug data and modules
//! from below `CACHE/kernels/RELEASE` and prints a row of a table; differences go to stderr.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers; its words go to a terminal"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use tuxtape_core::identity::ObjectName;
use tuxtape_kernel::config::Config;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::kbuild::compare::{self, Pairs};
use tuxtape_kernel::kbuild::{self, Evaluated, Folder, OtherVersion, Request};
use tuxtape_kernel::profile::build::{self, Provenance};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--against", cache, release, version] => against(cache, release, version),
        [tree, config] => evaluate(tree, config, None),
        [tree, config, list] => evaluate(tree, config, Some(list)),
        _ => {
            Err("usage: kbuild TREE CONFIG [LIST] | --against CACHE RELEASE SOURCE_VERSION".into())
        }
    }
}

fn evaluate(tree: &str, config: &str, list: Option<&str>) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(config)?;
    let config = Config::parse(&text);
    let start = Instant::now();
    let tree = Folder::open(Path::new(tree))?;
    let listed = start.elapsed();
    if list == Some("profile") {
        return show_profile(&tree, &text);
    }
    let found = kbuild::evaluate(&tree, &config)?;
    let all = start.elapsed();
    match list {
        None => println!(
            "{}; {:.2} s, of which listing {:.2} s",
            counts(&found),
            all.as_secs_f64(),
            listed.as_secs_f64()
        ),
        Some("units") => show_objects(&found.units),
        Some("contributors") => show_objects(&found.contributors),
        Some("modules") => {
            for module in &found.modules {
                println!("{module}");
            }
        }
        Some("blind") => show_reasons(&found.blind),
        Some("unsourced") => show_reasons(&found.unsourced),
        Some(other) => return Err(format!("there is no list {other}").into()),
    }
    Ok(())
}

fn show_profile(tree: &Folder, config: &str) -> Result<(), Box<dyn Error>> {
    let request = Request {
        spec: "dir:example".to_owned(),
        source: String::new(),
        release: None,
        other_version: OtherVersion::Allowed,
    };
    let start = Instant::now();
    let made = kbuild::profile(tree, config, &request)?;
    let seconds = start.elapsed().as_secs_f64();
    let text = tuxtape_kernel::profile::to_json(&made.profile);
    println!(
        "{} on {}: {} bytes of JSON; {seconds:.2} s",
        made.profile.id.release,
        made.profile.base_version,
        text.len()
    );
    for line in made.unchecked {
        println!("unchecked: {line}");
    }
    Ok(())
}

fn counts(found: &Evaluated) -> String {
    format!(
        "{} units, {} contributors, {} modules, {} blind, {} unsourced, {} makefiles",
        found.units.len(),
        found.contributors.len(),
        found.modules.len(),
        found.blind.len(),
        found.unsourced.len(),
        found.makefiles
    )
}

fn show_objects(map: &BTreeMap<String, BTreeSet<ObjectName>>) {
    for (path, objects) in map {
        let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
        println!("{path} {}", names.join(" "));
    }
}

fn show_reasons(map: &BTreeMap<String, String>) {
    for (path, reason) in map {
        println!("{path}\t{reason}");
    }
}

fn against(cache: &str, release: &str, version: &str) -> Result<(), Box<dyn Error>> {
    let files = KernelFiles::below(Path::new(cache), &release.parse()?);
    let tree: BTreeSet<String> = fs::read_to_string(files.top.join("source-files"))?
        .lines()
        .map(str::to_owned)
        .collect();
    let provenance = Provenance {
        spec: format!("debian:{release}"),
        source_package: "linux-source".to_owned(),
        source_version: version.to_owned(),
    };
    let truth = build::build(&files, &provenance, tree.clone())?.profile;
    let config = Config::parse(&fs::read_to_string(&files.config)?);
    let start = Instant::now();
    let folder = Folder::open(&files.source)?;
    let found = kbuild::evaluate(&folder, &config)?;
    let seconds = start.elapsed().as_secs_f64();
    let modules = build::modules(&files)?;
    let outcome = compare::compare(&found, &truth, &modules, &tree);

    let shown = |what: &str, pairs: &Pairs| {
        for (path, object) in pairs {
            eprintln!("{release}: {what}: {path} ({object})");
        }
    };
    shown("only in debug data", &outcome.missed);
    shown("only by evaluation", &outcome.extra);
    for path in &outcome.wrongly_not_built {
        eprintln!("{release}: WRONGLY NOT BUILT: {path}");
    }
    for module in &outcome.missed_modules {
        eprintln!("{release}: module only in the package: {module}");
    }
    for module in &outcome.extra_modules {
        eprintln!("{release}: module only by evaluation: {module}");
    }
    let share = |part: usize, rest: usize| 100.0 * as_f64(part) / as_f64((part + rest).max(1));
    let both_modules = modules.len() - outcome.missed_modules.len();
    println!(
        "| {release} | {} | {:.2} / {:.2} | {} | {:.2} / {:.2} | {} | {} | {} | {} | {} | {seconds:.2} |",
        modules.len(),
        share(both_modules, outcome.extra_modules.len()),
        share(both_modules, outcome.missed_modules.len()),
        outcome.both.len() + outcome.missed.len(),
        share(outcome.both.len(), outcome.extra.len()),
        share(outcome.both.len(), outcome.missed.len()),
        outcome.missed.len(),
        outcome.extra.len(),
        outcome.wrongly_not_built.len(),
        found.blind.len(),
        found.makefiles,
    );
    Ok(())
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
