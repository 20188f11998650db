//! One edition of a record: the files of one CVE, read together.

use super::record::{self, Record, RecordError};
use super::rows::{self, Product, Row};
use super::{Cve, CveId, State, beside};
use crate::dyad::{self, DyadError};
use crate::git_id::GitId;
use crate::span::{self, Span};
use crate::version::KernelVersion;

/// Longest reason of a rejection that is kept, in characters.
const LONGEST_REASON: usize = 2000;
/// Most versions at which two readings are compared: the work is quadratic, and the feed's longest
/// record has 21 lines. A longer one is disputed throughout.
const MOST_TURNS: usize = 400;

/// Why the files of one CVE were not taken in.
#[derive(Debug, thiserror::Error)]
pub enum EditionError {
    /// The JSON record.
    #[error(".json: {0}")]
    Record(#[from] RecordError),
    /// The dyad file.
    #[error(".dyad: {0}")]
    Dyad(#[from] DyadError),
}

/// The files of one record, as far as they are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `.json`.
    pub json: &'a [u8],
    /// `.dyad`.
    pub dyad: &'a [u8],
    /// `.cvss`.
    pub cvss: Option<&'a [u8]>,
    /// `.reference`.
    pub reference: Option<&'a [u8]>,
    /// `.sha1`.
    pub sha1: Option<&'a [u8]>,
    /// `.mbox.rejected`.
    pub announcement: Option<&'a [u8]>,
}

/// Reads a published record from its files.
///
/// Contradictions within a readable record are kept as [`Cve::doubts`] and [`Cve::disputes`].
pub fn published(id: CveId, files: &Files<'_>) -> Result<Cve, EditionError> {
    let spans = dyad::parse(files.dyad)?;
    let record = record::parse(files.json)?;
    let mut doubts = Vec::new();
    doubts.extend(other_id(id, &record));
    doubts.extend(contradictions(&spans, &record.products));
    Ok(Cve {
        disputes: disputes(&spans, &record.products),
        mainline_fixes: files.sha1.map_or_else(Vec::new, beside::commits),
        spans,
        doubts,
        ..assemble(id, State::Published, record, files)
    })
}

/// Reads a rejected record from its `.json` file and, where there is one, its announcement.
pub fn rejected(id: CveId, files: &Files<'_>) -> Result<Cve, EditionError> {
    let record = record::parse(files.json)?;
    Ok(Cve {
        doubts: other_id(id, &record).into_iter().collect(),
        rejection: files.announcement.and_then(reason),
        ..assemble(id, State::Rejected, record, files)
    })
}

/// Feeds `bytes` to everything that reads feed files, for fuzzing; never panics.
pub fn exercise(bytes: &[u8]) {
    let files = Files {
        json: bytes,
        dyad: bytes,
        cvss: Some(bytes),
        reference: Some(bytes),
        sha1: Some(bytes),
        announcement: Some(bytes),
    };
    if let Some(id) = CveId::new(2024, 1) {
        published(id, &files).ok();
        rejected(id, &files).ok();
    }
    if let Ok(record) = record::parse(bytes) {
        contradictions(&[], &record.products);
        disputes(&[], &record.products);
    }
}

fn assemble(id: CveId, state: State, record: Record, files: &Files<'_>) -> Cve {
    let mut cvss = record.cvss;
    if let Some(cvss) = cvss.as_mut().filter(|cvss| cvss.reasons.is_empty())
        && let Some(severity) = files.cvss.and_then(beside::severity)
        // Reasons for another vector would explain nothing.
        && severity.vector == cvss.vector
    {
        cvss.reasons = severity.reasons;
    }
    let pages = files.reference.map_or_else(Vec::new, beside::pages);
    let all = record.references.iter().chain(&pages).map(String::as_str);
    let references = beside::web_pages(all);
    Cve {
        id,
        state,
        title: record.title,
        description: record.description,
        files: record.files,
        cvss,
        references,
        mainline_fixes: Vec::new(),
        spans: Vec::new(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    }
}

fn other_id(id: CveId, record: &Record) -> Option<String> {
    let inside = record.id.filter(|inside| *inside != id)?;
    Some(format!("the file of {id} holds a record of {inside}"))
}

/// Takes the text of the announcement below its mail headers.
fn reason(announcement: &[u8]) -> Option<String> {
    let text =
        String::from_utf8_lossy(announcement.get(..record::LARGEST.min(announcement.len()))?);
    let (_, body) = text.split_once("\n\n")?;
    let body = record::lines(body);
    let reason: String = body.trim().chars().take(LONGEST_REASON).collect();
    (!reason.is_empty()).then_some(reason)
}

/// Lists how `spans` contradict themselves or the rows of the JSON record.
fn contradictions(spans: &[Span], products: &[Product]) -> Vec<String> {
    let mut found = Vec::new();
    for span in spans.iter().filter(|span| span.is_backwards()) {
        found.push(format!("the fix is older than the bug: {span}"));
    }
    for row in products.iter().flat_map(|product| &product.rows) {
        if let Row::Foreign { why } = row {
            found.push(format!("the .json has a row of unknown form: {why}"));
        }
    }
    found.extend(commits_differ(spans, products));
    found
}

fn commits_differ(spans: &[Span], products: &[Product]) -> Option<String> {
    let mut by_dyad: Vec<(GitId, Option<GitId>)> = spans
        .iter()
        .map(|span| (span.introducing_commit(), span.fixed.map(|fix| fix.commit)))
        .collect();
    let mut by_json: Vec<(GitId, Option<GitId>)> = products
        .iter()
        .flat_map(|product| &product.rows)
        .filter_map(|row| match row {
            Row::Commits { from, until } => Some((*from, *until)),
            Row::Versions { .. } | Row::Foreign { .. } => None,
        })
        .collect();
    by_dyad.sort_unstable();
    by_json.sort_unstable();
    by_dyad.dedup();
    by_json.dedup();
    if by_dyad == by_json {
        return None;
    }
    let only = |these: &[(GitId, Option<GitId>)], those: &[(GitId, Option<GitId>)]| {
        these
            .iter()
            .filter(|pair| !those.contains(pair))
            .take(3)
            .map(|(bug, fix)| {
                let fix = fix.map_or_else(|| "never".to_owned(), |fix| fix.short());
                format!("{} → {fix}", bug.short())
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    Some(format!(
        "commits differ: only in .dyad [{}], only in .json [{}]",
        only(&by_dyad, &by_json),
        only(&by_json, &by_dyad)
    ))
}

/// Lists the versions at which the two readings differ, of all where either could turn.
fn disputes(spans: &[Span], products: &[Product]) -> Vec<KernelVersion> {
    let landings = spans
        .iter()
        .flat_map(|span| [span.introduced, span.fixed])
        .flatten()
        .map(|landing| landing.version);
    let rows = products.iter().flat_map(|product| &product.rows);
    let mut turns: Vec<KernelVersion> = landings.chain(rows.flat_map(Row::turns)).collect();
    turns.sort_unstable();
    turns.dedup();
    if turns.len() > MOST_TURNS {
        return turns;
    }
    turns.retain(|version| {
        span::read(spans, *version).is_affected() != rows::is_affected(products, *version)
    });
    turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = include_str!("../../../../fuzz/seeds/cve_record/plain.json");
    const DYAD: &str = include_str!("../../../../fuzz/seeds/dyad/plain.dyad");

    fn id(text: &str) -> CveId {
        text.parse().unwrap()
    }

    fn files<'a>(json: &'a str, dyad: &'a str) -> Files<'a> {
        Files {
            json: json.as_bytes(),
            dyad: dyad.as_bytes(),
            ..Files::default()
        }
    }

    fn doubts(id_text: &str, json: &str, dyad: &str) -> Vec<String> {
        published(id(id_text), &files(json, dyad)).unwrap().doubts
    }

    #[test]
    fn the_files_beside_a_record_add_to_it() {
        let read = |cvss: &[u8]| {
            let files = Files {
                cvss: Some(cvss),
                reference: Some(b"https://example.org/1\n"),
                sha1: Some(b"2222222222222222222222222222222222222222\n"),
                ..files(JSON, DYAD)
            };
            published(id("CVE-2024-0001"), &files).unwrap()
        };
        let vector = read(b"").cvss.unwrap().vector;
        let cve = read(format!("x {vector}\nAV:L local\n").as_bytes());
        assert_eq!(cve.cvss.unwrap().reasons, ["AV:L local"]);
        assert_eq!(cve.references, ["https://example.org/1"]);
        assert_eq!(cve.mainline_fixes[0].short(), "222222222222");
        let other = read(b"x CVSS:3.1/AV:N\nAV:N remote\n");
        assert_eq!(other.cvss.unwrap().reasons, Vec::<String>::new());
    }

    #[test]
    fn files_that_agree_raise_no_doubt() {
        assert_eq!(doubts("CVE-2024-0001", JSON, DYAD), Vec::<String>::new());
    }

    #[test]
    fn a_file_with_anothers_record_is_doubted() {
        let found = doubts("CVE-2024-0003", JSON, DYAD);
        assert_eq!(
            found,
            ["the file of CVE-2024-0003 holds a record of CVE-2024-0001"]
        );
    }

    #[test]
    fn other_commits_in_one_file_are_doubted() {
        let dyad = DYAD.replace(
            "2222222222222222222222222222222222222222",
            "4444444444444444444444444444444444444444",
        );
        let found = doubts("CVE-2024-0001", JSON, &dyad);
        assert_eq!(
            found,
            [
                "commits differ: only in .dyad [111111111111 → 444444444444], only in .json [111111111111 → 222222222222]"
            ]
        );
    }

    #[test]
    fn other_versions_in_one_file_are_disputed() {
        let read = |dyad: &str| {
            let cve = published(id("CVE-2024-0001"), &files(JSON, dyad)).unwrap();
            let disputes: Vec<String> = cve.disputes.iter().map(ToString::to_string).collect();
            (cve.doubts, disputes)
        };
        assert_eq!(read(DYAD), (vec![], vec![]));
        let (doubts, disputes) = read(&DYAD.replace("6.1.20", "6.1.30"));
        assert_eq!((doubts, disputes), (vec![], vec!["6.1.20".to_owned()]));
    }

    #[test]
    fn a_fix_older_than_its_bug_is_doubted() {
        let found = doubts("CVE-2024-0001", JSON, &DYAD.replace("6.3:", "5.2:"));
        assert_eq!(found[0], "the fix is older than the bug: 5.10 → 5.2");
    }

    #[test]
    fn an_unknown_row_is_doubted() {
        let found = doubts("CVE-2024-0001", &JSON.replace("semver", "rpm"), DYAD);
        assert!(found[0].contains(r#"versionType "rpm""#), "{found:?}");
    }

    #[test]
    fn a_rejection_says_why() {
        let json = br#"{"containers":{"cna":{}},"cveMetadata":{"cveID":"CVE-2024-0002"},"dataType":"CVE_RECORD"}"#;
        let mail = b"From: a\nSubject: REJECTED\n\n\nNo longer valid.\n";
        let files = Files {
            json,
            announcement: Some(mail),
            ..Files::default()
        };
        let cve = rejected(id("CVE-2024-0002"), &files).unwrap();
        assert_eq!(cve.state, State::Rejected);
        assert_eq!(cve.rejection.as_deref(), Some("No longer valid."));
        assert_eq!(cve.title, "");
    }

    proptest! {
        #[test]
        fn mangled_files_end_in_a_value(
            changes in proptest::collection::vec((0usize..2500, any::<u8>()), 0..12),
            cut in 0usize..2500,
        ) {
            for text in [JSON, DYAD] {
                let mut bytes = text.as_bytes().to_vec();
                for (at, byte) in &changes {
                    if let Some(place) = bytes.get_mut(*at) {
                        *place = *byte;
                    }
                }
                exercise(&bytes);
                bytes.truncate(cut);
                exercise(&bytes);
                let files = Files {
                    dyad: &bytes,
                    ..files(JSON, DYAD)
                };
                published(id("CVE-2024-0001"), &files).ok();
            }
        }
    }
}
