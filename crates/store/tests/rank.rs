//! The ranking against the real feed and what is known of exploitation, where a copy is at hand.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic and skip aloud"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs};

use tuxtape_core::cve::edition::{self, Files};
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::priority::{self, Policy, Priority, ThreatModel};
use tuxtape_core::signals::Signals;
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

fn suffix(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, suffix)| suffix)
}

/// Every published record, read once for all tests.
fn records(corpus: &Path) -> &'static [Cve] {
    static RECORDS: OnceLock<Vec<Cve>> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let branch = BranchName::new("master").unwrap();
        let bundle = corpus.join("vulns/vulns.bundle");
        let source = bundle.to_str().unwrap();
        let repository =
            Repository::mirror(source, &branch, folder.path(), None, DEADLINE).unwrap();
        let tip = repository.tip(&branch).unwrap();
        let files = repository.files(tip.id, &["cve/published"]).unwrap();
        let files: Vec<_> = files
            .into_iter()
            .filter(|file| ["json", "dyad"].contains(&suffix(&file.path)))
            .collect();
        let ids = files.iter().map(|file| file.id).collect();
        let mut blobs = repository.blobs(ids, 4 << 20, DEADLINE).unwrap();
        let mut texts: BTreeMap<CveId, [Vec<u8>; 2]> = BTreeMap::new();
        for file in &files {
            let mut buffer = Vec::new();
            assert_eq!(blobs.next(&mut buffer).unwrap(), Blob::Read);
            let name = file.path.rsplit('/').next().unwrap();
            let id = name.split('.').next().unwrap().parse().unwrap();
            let [json, dyad] = texts.entry(id).or_default();
            *(if suffix(name) == "json" { json } else { dyad }) = buffer;
        }
        texts
            .into_iter()
            .map(|(id, [json, dyad])| {
                edition::published(
                    id,
                    &Files {
                        json: &json,
                        dyad: &dyad,
                        ..Files::default()
                    },
                )
                .unwrap()
            })
            .collect()
    })
}

fn ranked(cves: &[Cve], policy: &Policy) -> Vec<Priority> {
    let mut rows: Vec<Priority> = cves
        .iter()
        .map(|cve| priority::prioritize(cve, &Signals::default(), policy))
        .collect();
    priority::sort(&mut rows);
    rows
}

#[test]
fn corpus_every_point_of_every_record_is_explained() {
    let Some(corpus) = corpus() else { return };
    let rows = ranked(records(&corpus), &Policy::builtin());
    assert_eq!(rows.len(), 12_568);
    for row in &rows {
        let sum: i64 = row.factors.iter().map(|it| i64::from(it.points)).sum();
        assert_eq!(sum, i64::from(row.points), "{}", row.cve);
        assert!(row.factors.iter().all(|it| !it.cause.is_empty()));
    }
    // A table that knows little of the tree would leave many neutral.
    let unknown = rows.iter().filter(|row| {
        let reach = row.factors.first().unwrap();
        reach.cause.contains("no rule knows")
    });
    assert!(unknown.count() < 20);
}

#[test]
fn corpus_order_does_not_hang_on_the_input() {
    let Some(corpus) = corpus() else { return };
    let policy = Policy::builtin();
    let forward = ranked(records(&corpus), &policy);
    let backward: Vec<Cve> = records(&corpus).iter().rev().cloned().collect();
    assert_eq!(forward, ranked(&backward, &policy));
}

/// Of the labelled records, how many of those with `key` are in the first tenth, and of how many.
fn first_tenth(corpus: &Path, key: &str, policy: &Policy) -> (usize, usize) {
    let text = fs::read_to_string(corpus.join("priority/labels.jsonl")).unwrap();
    let labels: BTreeMap<CveId, bool> = text
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let id = row.get("cve").unwrap().as_str().unwrap().parse().unwrap();
            (id, row.get(key).is_some())
        })
        .collect();
    let quiet = policy.clone().without_evidence();
    let mut rows = ranked(records(corpus), &quiet);
    rows.retain(|row| labels.contains_key(&row.cve));
    let exploited = |row: &&Priority| labels.get(&row.cve).is_some_and(|it| *it);
    let caught = rows.iter().take(rows.len() / 10).filter(exploited).count();
    (caught, rows.iter().filter(exploited).count())
}

#[test]
fn corpus_what_gets_exploited_is_in_the_first_tenth() {
    let Some(corpus) = corpus() else { return };
    let cloud = Policy::builtin();
    let (caught, all) = first_tenth(&corpus, "kernelctf", &cloud);
    assert!(all > 10 && caught * 10 >= all * 9, "{caught} of {all}");

    let models: Vec<ThreatModel> = cloud.models().to_vec();
    let plugged = cloud.declaring(models.into_iter().chain([ThreatModel::Usb]));
    let (caught, all) = first_tenth(&corpus, "kev", &plugged);
    assert!(all >= 4 && caught * 4 >= all * 3, "{caught} of {all}");
}
