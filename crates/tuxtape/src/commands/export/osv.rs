//! Records in the format of the Open Source Vulnerability database.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use tuxtape_core::applicability::Applicability;
use tuxtape_core::cve::{CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::span::Span;
use tuxtape_core::span::stretches::{Stretch, stretches};
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::{durable, regular};

use super::sink::Sink;
use crate::commands::cve::links;
use crate::commands::gauge::looking::Looking;
use crate::context::Context;
use crate::output;
use crate::remembered::shelf::{Item, Shelf, inconsistencies, published};
use crate::remembered::weights::Weights;

const SCHEMA: &str = "1.7.0";
/// Largest file that is looked into before it is removed, in bytes; ours have about 10 KB.
const LARGEST: u64 = 32 << 20;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only CVEs that this kernel has, or may have
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<KernelRelease>,
    #[command(flatten)]
    looking: Looking,
    #[command(flatten)]
    weights: Weights,
    /// The file; `-` for the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: Sink,
    /// Write one file for each CVE into this folder instead, as osv.dev takes them
    ///
    /// Files that an earlier run wrote of CVEs that are not among them any more are removed.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Record<'a> {
    schema_version: &'static str,
    id: String,
    modified: UtcSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<UtcSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<UtcSeconds>,
    #[serde(skip_serializing_if = "str::is_empty")]
    summary: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    severity: Vec<Severity<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    affected: Vec<Affected<'a>>,
    references: Vec<Reference>,
    database_specific: Specific<'a>,
}

#[derive(Serialize)]
struct Severity<'a> {
    r#type: &'static str,
    score: &'a str,
}

#[derive(Serialize)]
struct Affected<'a> {
    package: Package,
    ranges: Vec<Range>,
    ecosystem_specific: EcosystemSpecific<'a>,
}

#[derive(Serialize)]
struct Package {
    ecosystem: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct Range {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repo: Option<&'static str>,
    events: Vec<Event>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Introduced(String),
    Fixed(String),
}

#[derive(Serialize)]
struct EcosystemSpecific<'a> {
    files: &'a [String],
}

#[derive(Serialize)]
struct Reference {
    r#type: &'static str,
    url: String,
}

/// What OSV has no place for.
#[derive(Serialize)]
struct Specific<'a> {
    feed_commit: String,
    band: &'static str,
    points: u32,
    /// How the record contradicts itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inconsistent: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decided<'a>>,
}

#[derive(Serialize)]
struct Kernel<'a> {
    release: &'a str,
    verdict: &'static str,
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Decided<'a> {
    choice: &'static str,
    who: &'a str,
    why: &'a str,
    until: Option<UtcSeconds>,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let shelf = Shelf::open(
        context,
        arguments.kernel.as_ref(),
        &arguments.looking,
        arguments.weights.policy()?,
    )?;
    let wanted = |item: &Item<'_>| match item.verdict {
        Some(Applicability::NotAffected(_)) => false,
        // Unknown is not low.
        Some(Applicability::Affected | Applicability::Unknown(_)) | None => true,
    };
    let items: Vec<Item<'_>> = shelf.items().filter(wanted).collect();
    let what = format!("{} OSV records", items.len());
    for line in shelf.unread_words() {
        output::talk(&format!("warning: {line}"));
    }
    let Some(folder) = &arguments.dir else {
        return arguments.out.write(&what, |out| {
            for item in &items {
                line(out, &record(item, &shelf))?;
            }
            Ok(())
        });
    };
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    for item in &items {
        file(folder, &record(item, &shelf))?;
    }
    let written: BTreeSet<CveId> = items.iter().map(|item| item.stored.cve.id).collect();
    let removed = remove_others(folder, &written)?;
    let removed = match removed {
        0 => String::new(),
        count => format!(" and removed {count} earlier ones"),
    };
    output::talk(&format!("wrote {what} to {}{removed}", folder.display()));
    Ok(())
}

/// Removes what earlier runs wrote of CVEs that are not `written`, and counts it.
fn remove_others(folder: &Path, written: &BTreeSet<CveId>) -> anyhow::Result<usize> {
    let read = || format!("could not read {}", folder.display());
    let mut removed = 0;
    for entry in fs::read_dir(folder).with_context(read)? {
        let entry = entry.with_context(read)?;
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        let Some(Ok(id)) = stem.map(str::parse::<CveId>) else {
            continue;
        };
        let path = entry.path();
        if !written.contains(&id) && is_ours(&path, id) {
            fs::remove_file(&path)
                .with_context(|| format!("could not remove {}", path.display()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Tells whether an earlier run wrote the file: nobody else says which feed a record came from.
fn is_ours(path: &Path, id: CveId) -> bool {
    #[derive(Deserialize)]
    struct Ours {
        id: String,
        database_specific: Origin,
    }
    #[derive(Deserialize)]
    struct Origin {
        feed_commit: String,
    }
    let Ok(Some(bytes)) = regular::read(path, LARGEST) else {
        return false;
    };
    serde_json::from_slice::<Ours>(&bytes).is_ok_and(|ours| {
        let commit = ours.database_specific.feed_commit;
        ours.id == id.to_string() && GitId::from_hex(commit.as_bytes()).is_ok()
    })
}

fn line(out: &mut dyn Write, record: &Record<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

/// Writes one file, unless it holds these very bytes: 12,000 flushes take long.
fn file(folder: &Path, record: &Record<'_>) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.json", record.id));
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    if fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    Ok(durable::write(&path, &bytes)?)
}

fn record<'a>(item: &Item<'a>, shelf: &'a Shelf) -> Record<'a> {
    let stored = item.stored;
    let cve = &stored.cve;
    let changed = shelf.changed(stored);
    Record {
        schema_version: SCHEMA,
        id: cve.id.to_string(),
        modified: changed,
        published: published(stored),
        withdrawn: match cve.state {
            State::Published => None,
            // It may be back, by an edition that could not be read.
            State::Rejected if stored.stale.is_some() => None,
            State::Rejected => Some(changed),
        },
        summary: &cve.title,
        details: cve.rejection.as_deref().unwrap_or(&cve.description),
        severity: cve
            .cvss
            .iter()
            .map(|cvss| Severity {
                r#type: "CVSS_V3",
                score: &cvss.vector,
            })
            .collect(),
        affected: affected(&cve.spans, &cve.files),
        references: references(item),
        database_specific: Specific {
            feed_commit: stored.commit.to_string(),
            band: item.priority.band.as_str(),
            points: item.priority.points,
            inconsistent: inconsistencies(stored),
            stale: stored.stale.as_deref(),
            kernel: shelf
                .release()
                .zip(item.verdict)
                .map(|(kernel, verdict)| Kernel {
                    release: kernel.as_str(),
                    verdict: verdict.as_str(),
                    reason: verdict.reason(),
                }),
            decision: item.decision.map(|decision| Decided {
                choice: decision.choice.as_str(),
                who: &decision.who,
                why: &decision.why,
                until: decision.until,
            }),
        },
    }
}

fn affected<'a>(spans: &[Span], files: &'a [String]) -> Vec<Affected<'a>> {
    if spans.is_empty() {
        return Vec::new();
    }
    let versions = stretches(spans).into_iter().map(|Stretch { from, until }| {
        let first = Event::Introduced(from.map_or_else(|| "0".to_owned(), three_numbers));
        let last = until.map(|until| Event::Fixed(three_numbers(until)));
        Range {
            r#type: "ECOSYSTEM",
            repo: None,
            events: [first].into_iter().chain(last).collect(),
        }
    });
    vec![Affected {
        package: Package {
            ecosystem: "Linux",
            name: "Kernel",
        },
        ranges: [commits(spans)].into_iter().chain(versions).collect(),
        ecosystem_specific: EcosystemSpecific { files },
    }]
}

/// One range for all commits: of those in a commit's history the newest decides, so that a fix on one
/// branch must stand beside the fixes on the others. A range for each span would call mainline
/// affected for want of the fix of 6.1.y.
fn commits(spans: &[Span]) -> Range {
    let name = |commit: GitId| commit.to_string();
    let mut events: BTreeSet<(Option<KernelVersion>, bool, String)> = BTreeSet::new();
    for span in spans {
        events.insert(match span.introduced {
            Some(bug) if !bug.is_before_history() => (Some(bug.version), false, name(bug.commit)),
            Some(_) | None => (None, false, "0".to_owned()),
        });
        if let Some(fix) = span.fixed {
            events.insert((Some(fix.version), true, name(fix.commit)));
        }
    }
    Range {
        r#type: "GIT",
        repo: Some(links::STABLE_TREE),
        events: events
            .into_iter()
            .map(|(_, is_fix, commit)| {
                if is_fix {
                    Event::Fixed(commit)
                } else {
                    Event::Introduced(commit)
                }
            })
            .collect(),
    }
}

/// Writes a version with at least three numbers, as the Linux ecosystem of OSV does: `6.1.0`.
fn three_numbers(version: KernelVersion) -> String {
    let text = version.to_string();
    let (numbers, candidate) = text
        .split_once("-rc")
        .map_or((text.as_str(), None), |(numbers, rc)| (numbers, Some(rc)));
    let zero = if numbers.split('.').count() < 3 {
        ".0"
    } else {
        ""
    };
    let rc = candidate.map_or_else(String::new, |rc| format!("-rc{rc}"));
    format!("{numbers}{zero}{rc}")
}

fn references(item: &Item<'_>) -> Vec<Reference> {
    let cve = &item.stored.cve;
    let fixes: BTreeSet<GitId> = cve
        .spans
        .iter()
        .filter_map(|span| Some(span.fixed?.commit))
        .collect();
    let own = Reference {
        r#type: "ADVISORY",
        url: links::record(cve.id),
    };
    let fixes = fixes.into_iter().map(|commit| Reference {
        r#type: "FIX",
        url: links::commit(commit),
    });
    let others = cve.references.iter().map(|url| Reference {
        r#type: "WEB",
        url: url.clone(),
    });
    [own].into_iter().chain(fixes).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_three_numbers() {
        for (version, text) in [
            ("6.1", "6.1.0"),
            ("6.1.93", "6.1.93"),
            ("6.2-rc1", "6.2.0-rc1"),
            ("2.6.32", "2.6.32"),
            ("2.6.32-rc1", "2.6.32-rc1"),
            ("2.6.32.9", "2.6.32.9"),
        ] {
            assert_eq!(three_numbers(version.parse().unwrap()), text);
        }
    }
}
