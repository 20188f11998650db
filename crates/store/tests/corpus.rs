//! Against the real feed, where a copy of it is at hand.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic and skip aloud"
)]

#[path = "support/stores.rs"]
mod stores;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use stores::stores;
use tuxtape_core::cve::edition::{self, Files};
use tuxtape_core::cve::{record, rows};
use tuxtape_core::git_id::GitId;
use tuxtape_core::span;
use tuxtape_core::version::KernelVersion;
use tuxtape_store::scan::{Options, Report, read_dates, scan};
use tuxtape_store::{Dates, Location, Published, Store, horizons};
use tuxtape_sys::git::{Blob, BranchName, Repository};

const DEADLINE: Duration = Duration::from_secs(300);

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = env::var_os("TUXTAPE_CORPUS").map_or(beside, PathBuf::from);
    if folder.join("vulns/vulns.bundle").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no corpus at {}", folder.display());
    None
}

fn branch(name: &str) -> BranchName {
    BranchName::new(name).unwrap()
}

/// The feed, fetched once for all tests; nobody moves its `master`.
fn mirror(corpus: &Path) -> Repository {
    static MIRROR: OnceLock<(tempfile::TempDir, Repository)> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let bundle = corpus.join("vulns/vulns.bundle");
        let source = bundle.to_str().unwrap();
        let repository =
            Repository::mirror(source, &branch("master"), folder.path(), None, DEADLINE).unwrap();
        (folder, repository)
    };
    MIRROR.get_or_init(make).1.clone()
}

fn run(location: &Location, repository: &Repository, name: &str) -> Report {
    let options = Options {
        source: "bundle".to_owned(),
        branch: branch(name),
        allow_rewind: false,
        force_shrink: false,
    };
    scan(&Store::open(location).unwrap(), repository, &options).unwrap()
}

fn suffix(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, suffix)| suffix)
}

fn expected(corpus: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(corpus.join("vulns/expected")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if let Some(version) = name.strip_prefix("affected-") {
            files.push((version.to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!files.is_empty());
    files
}

#[test]
fn corpus_affected_sets_equal_the_expected_ones() {
    let Some(corpus) = corpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = run(&Location::below(folder.path()), &mirror(&corpus), "master");
    assert_eq!((report.published, report.rejected), (12_568, 301));
    assert_eq!(report.skipped, []);
    let store = Store::open_existing(&Location::below(folder.path())).unwrap();
    let lines = store.lines().unwrap();
    for (text, expected) in expected(&corpus) {
        let version: KernelVersion = text.parse().unwrap();
        let affected: Vec<String> = lines
            .iter()
            .filter(|record| record.read(version).is_affected())
            .map(|record| record.id.to_string())
            .collect();
        assert!(
            affected == expected.lines().collect::<Vec<_>>(),
            "{version}"
        );
        let horizon = horizons(&lines).of(version);
        eprintln!(
            "{version}: {} affected, horizon {horizon:?}",
            affected.len()
        );
    }
    eprintln!("doubtful: {:?}", report.doubtful);
    assert_eq!(
        run(&Location::below(folder.path()), &mirror(&corpus), "master").rows,
        0
    );
}

#[test]
fn corpus_both_readings_agree_on_every_record() {
    let Some(corpus) = corpus() else { return };
    let repository = mirror(&corpus);
    let tip = repository.tip(&branch("master")).unwrap();
    let files = repository.files(tip.id, &["cve/published"]).unwrap();
    let wanted: Vec<_> = files
        .iter()
        .filter(|entry| ["json", "dyad"].contains(&suffix(&entry.path)))
        .collect();
    let ids: Vec<GitId> = wanted.iter().map(|entry| entry.id).collect();
    let mut blobs = repository.blobs(ids, 4 << 20, DEADLINE).unwrap();
    let mut versions: BTreeSet<KernelVersion> = expected(&corpus)
        .iter()
        .map(|(version, _)| version.parse().unwrap())
        .collect();
    for more in [
        // 2.6.N was what X.Y is today; a candidate is mainline, before its release.
        "2.6.12",
        "2.6.32.71",
        "2.6.39",
        "3.2.102",
        "4.9.337",
        "5.10.260",
        "5.19-rc8",
        "6.12-rc1",
        "6.17-rc3",
        "7.1-rc1",
        "2.6.32",
        "3.10.108",
        "4.4.302",
        "4.19.325",
        "5.4.290",
        "5.15.180",
        "6.8.1",
        "6.11.5",
        "6.18",
        "7.1",
    ] {
        versions.insert(more.parse().unwrap());
    }
    let mut differences: Vec<String> = Vec::new();
    // `.dyad` sorts before `.json` of the same record.
    let (mut buffer, mut dyad, mut compared, mut disputed) = (Vec::new(), Vec::new(), 0, 0);
    for entry in wanted {
        assert_eq!(blobs.next(&mut buffer).unwrap(), Blob::Read);
        if suffix(&entry.path) == "dyad" {
            dyad = buffer.clone();
            continue;
        }
        let record = record::parse(&buffer).unwrap();
        let cve = {
            let files = Files {
                json: &buffer,
                dyad: &dyad,
                ..Files::default()
            };
            edition::published(record.id.unwrap(), &files).unwrap()
        };
        assert_eq!(cve.doubts, Vec::<String>::new(), "{}", cve.id);
        let differ = |version: KernelVersion| {
            span::read(&cve.spans, version).is_affected()
                != rows::is_affected(&record.products, version)
        };
        for version in &versions {
            if differ(*version) {
                differences.push(format!("{} {version}", cve.id));
            }
            compared += 1;
        }
        // Where they do differ, at a landing of a few records, the record says so of itself.
        let landings = cve
            .spans
            .iter()
            .flat_map(|span| [span.introduced, span.fixed])
            .flatten();
        for version in landings.map(|landing| landing.version) {
            assert_eq!(
                differ(version),
                span::is_disputed(&cve.spans, &cve.disputes, version),
                "{} {version}",
                cve.id
            );
            compared += 1;
        }
        if !cve.disputes.is_empty() {
            disputed += 1;
            eprintln!("{} disputed at {:?}", cve.id, cve.disputes);
        }
    }
    eprintln!("{} versions", versions.len());
    assert_eq!(differences, Vec::<String>::new());
    eprintln!("{compared} readings compared, {disputed} records disputed");
    assert!(disputed < 20);
}

#[test]
fn corpus_increments_end_in_the_same_store_as_one_scan_of_the_tip() {
    let Some(corpus) = corpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let repository = mirror(&corpus);
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("--git-dir").arg(repository.git_dir());
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let history = git(&["rev-list", "--reverse", "--topo-order", "master"]);
    let commits: Vec<&str> = history.lines().collect();
    let tip = commits.last().copied().unwrap();
    let step = Location::below(&folder.path().join("step"));
    for commit in commits.iter().copied().step_by(8).chain([tip]) {
        git(&["update-ref", "refs/heads/walk", commit]);
        let report = run(&step, &repository, "walk");
        eprintln!(
            "{commit}: +{} ~{} -{}, {} rows, {} skipped",
            report.added,
            report.changed,
            report.removed,
            report.rows,
            report.skipped.len()
        );
    }
    let whole = Location::below(&folder.path().join("whole"));
    run(&whole, &repository, "master");
    let dump = |location| Store::open(location).unwrap().dump().unwrap();
    let whole = dump(&whole);
    assert!(dump(&step) == whole);
    eprintln!("{} lines of dump are equal", whole.lines().count());
}

#[test]
fn corpus_both_engines_keep_the_same() {
    let Some(corpus) = corpus() else { return };
    let repository = mirror(&corpus);
    let mut dumps = Vec::new();
    for fresh in stores() {
        run(&fresh.location, &repository, "master");
        let store = Store::open(&fresh.location).unwrap();
        read_dates(&store, &repository).unwrap();
        eprintln!("{} at {}", fresh.name, fresh.folder.path().display());
        dumps.push((store.dump().unwrap(), store.dates().unwrap(), fresh.text));
    }
    for (dump, dates, text) in &dumps {
        assert!(*dump == dumps[0].0, "{text}");
        assert!(*dates == dumps[0].1, "{text}");
    }
    // 12,568 published ones and those that were published once.
    assert!(dumps[0].1.len() >= 12_568);
    let exact = |dates: &&Dates| matches!(dates.published, Published::At(_));
    let exact = dumps[0].1.values().filter(exact).count();
    eprintln!("{exact} records came within the history at hand");
    assert!(exact > 100);
}
