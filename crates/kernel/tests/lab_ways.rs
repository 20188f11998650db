//! Every way to a profile, asked about one kernel that `bench/ways` built: needs `TUXTAPE_WAYS`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail and speak as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tuxtape_core::profile::{KernelProfile, Way};
use tuxtape_kernel::profile::agree;
use tuxtape_kernel::profile::exchange::{self, Parcel};
use tuxtape_kernel::profile::to_json;
use tuxtape_kernel::progress::Silent;
use tuxtape_kernel::spec::{self, Options, Spec};

struct Asked {
    name: &'static str,
    profile: KernelProfile,
}

fn ask(ways: &Path, cache: &Path, name: &'static str, spec: &str, options: &Options) -> Asked {
    let spec: Spec = spec
        .replace("WAYS", ways.to_str().unwrap())
        .parse()
        .unwrap();
    let start = Instant::now();
    let built = spec::add(cache, &spec, options, &Silent)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"))
        .unwrap();
    let profile = built.profile;
    let bytes = to_json(&profile).len();
    eprintln!(
        "{name:<22} {:<13} {:>5} units {:>5} contributors {:>4} blind {:>8} bytes {:>7} exported, {:.1} s",
        profile.sureness.way.as_str(),
        profile.units.len(),
        profile.contributors.len(),
        profile.sureness.blind.len(),
        bytes,
        exchange::pack(&exchange::export(&parcel(&profile)))
            .unwrap()
            .len(),
        start.elapsed().as_secs_f64()
    );
    for note in built.unchecked {
        eprintln!("  note: {note}");
    }
    assert!(bytes <= 5 << 20, "{name}: {bytes}");
    Asked { name, profile }
}

#[test]
fn lab_every_way_to_a_profile_agrees_on_one_kernel() {
    let Some(ways) = std::env::var_os("TUXTAPE_WAYS").map(PathBuf::from) else {
        eprintln!("skipped: TUXTAPE_WAYS is not set (run bench/ways)");
        return;
    };
    let cache = tempfile::tempdir_in(&ways).unwrap();
    let version = fs::read_dir(ways.join("repository.git/refs/tags"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let tag = version.file_name().into_string().unwrap();
    let config = Some(ways.join("config"));
    let source = Some(ways.join("source"));
    let way = |way| Options {
        way: Some(way),
        ..Options::default()
    };
    let bare = Options {
        config: config.clone(),
        ..Options::default()
    };
    let with_source = Options {
        source: source.clone(),
        ..Options::default()
    };
    let go = |name, spec: &str, options: &Options| ask(&ways, cache.path(), name, spec, options);
    let mut all = vec![
        go("finished build", "dir:WAYS/built", &way(Way::CommandFiles)),
        go("its debug data", "dir:WAYS/built", &way(Way::DebugData)),
        go("its makefiles", "dir:WAYS/built", &way(Way::Evaluation)),
        go("bare tree", "dir:WAYS/source", &bare),
        go("git tag", &format!("git:WAYS/repository.git#{tag}"), &bare),
        go("kernel archive", "tar:WAYS/archive.tar.gz", &with_source),
        go("folder of debug data", "dir:WAYS/staged", &with_source),
        go("Debian package", "deb:WAYS/debug.deb", &with_source),
    ];
    if ways.join("debug.rpm").is_file() {
        all.push(go("RPM package", "rpm:WAYS/debug.rpm", &with_source));
    } else {
        eprintln!("skipped: no debug.rpm");
    }
    // What `kernel add` does by itself, with every way against every other.
    go("all at once", "dir:WAYS/built", &Options::default());

    let mut files: BTreeSet<String> = all
        .iter()
        .flat_map(|one| one.profile.tree_files.clone())
        .collect();
    let text = fs::read_to_string(ways.join("feed-files")).unwrap_or_else(|_| {
        eprintln!("skipped: no feed-files");
        String::new()
    });
    let named: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    eprintln!(
        "{} files of the tree, {} of the feed",
        files.len(),
        named.len()
    );
    files.extend(named.iter().cloned());
    let mut wrong = Vec::new();
    for (at, first) in all.iter().enumerate() {
        for second in all.iter().skip(at + 1) {
            let agreement = agree::compare(&first.profile, &second.profile, &files);
            let fed = agree::compare(&first.profile, &second.profile, &named);
            eprintln!(
                "{:<21} | {:<21} built {:>4} not {:>5} | only first {:>5} only second {:>5} neither {:>5} | contradictions {} | of the feed: built {:>4} not {:>5} one knows {:>5} neither {:>5}",
                first.name,
                second.name,
                agreement.both_built,
                agreement.both_not,
                agreement.first_knows,
                agreement.second_knows,
                agreement.neither_knows,
                agreement.contradictions.len(),
                fed.both_built,
                fed.both_not,
                fed.first_knows + fed.second_knows,
                fed.neither_knows,
            );
            for contradiction in &agreement.contradictions {
                wrong.push(format!("{} | {}: {contradiction}", first.name, second.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    same_units(&all);
}

/// Units and their objects must be the same, but for what each way is known to see alone.
fn same_units(all: &[Asked]) {
    let mut alone: BTreeMap<&str, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    let every: BTreeSet<&String> = all
        .iter()
        .flat_map(|one| one.profile.units.keys())
        .collect();
    for unit in &every {
        let have: Vec<&Asked> = all
            .iter()
            .filter(|one| one.profile.units.contains_key(*unit))
            .collect();
        if have.len() == all.len() {
            continue;
        }
        let ways: BTreeSet<&str> = have
            .iter()
            .map(|one| one.profile.sureness.way.as_str())
            .collect();
        let ways: Vec<&str> = ways.into_iter().collect();
        let kind = explained(unit, &ways);
        alone
            .entry(kind)
            .or_default()
            .entry(ways.join("+"))
            .or_default()
            .push(unit);
    }
    eprintln!("{} units in all", every.len());
    for (kind, by) in &alone {
        for (ways, units) in by {
            let shown = units.get(..5).unwrap_or(units).join(" ");
            eprintln!(
                "{kind}: {} seen by {ways} alone, such as {shown}",
                units.len()
            );
        }
    }
    assert!(!alone.contains_key("NOT EXPLAINED"), "{alone:?}");
}

/// Why a unit is not seen by every way.
fn explained(unit: &str, seen_by: &[&str]) -> &'static str {
    let by_all_but = |way: &str| !seen_by.contains(&way) && seen_by.len() == 2;
    if unit.ends_with(".mod.c") || unit == ".vmlinux.export.c" {
        "made by modpost after the units, in no makefile"
    } else if unit == "init/version-timestamp.c" && by_all_but("evaluation") {
        "linked by scripts/link-vmlinux.sh, in no list of a makefile (unknown by evaluation)"
    } else if unit.strip_suffix(".S").is_some() && by_all_but("debug-data") {
        "assembly without instructions leaves no debug data (unknown by it)"
    } else {
        "NOT EXPLAINED"
    }
}

fn parcel(profile: &KernelProfile) -> Parcel {
    Parcel {
        profile: profile.clone(),
        functions: None,
        modules: None,
    }
}
