//! Statements about one kernel, as OpenVEX.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tuxtape_core::applicability::{Applicability, Gap, Judgement, Reason};
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::decision::{Choice, Decision};
use tuxtape_core::identity::{Arch, KernelRelease};
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::priority::Policy;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::{self, Reading};
use tuxtape_core::version::KernelVersion;

use super::sink::Sink;
use crate::commands::cve::links;
use crate::commands::gauge::looking::Looking;
use crate::context::Context;
use crate::remembered::instant;
use crate::remembered::shelf::Shelf;

const CONTEXT: &str = "https://openvex.dev/ns/v0.2.0";

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The kernel, by its `uname -r`, added before with `tuxtape kernel add`
    #[arg(long, value_name = "RELEASE")]
    kernel: KernelRelease,
    #[command(flatten)]
    looking: Looking,
    /// The file; `-` for the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: Sink,
    /// Who says so, such as a mail address
    #[arg(long, value_name = "TEXT", default_value = "TuxTape")]
    author: String,
    /// When it was said, such as 2026-11-24T18:00:00Z; the time of the feed when not given
    #[arg(long, value_name = "TIME")]
    timestamp: Option<UtcSeconds>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@context")]
    context: &'static str,
    #[serde(rename = "@id")]
    id: String,
    author: &'a str,
    timestamp: UtcSeconds,
    version: u32,
    tooling: String,
    statements: Vec<Statement>,
}

#[derive(Serialize)]
struct Statement {
    vulnerability: Vulnerability,
    products: Vec<Product>,
    #[serde(flatten)]
    status: Status,
    status_notes: String,
}

#[derive(Serialize)]
struct Vulnerability {
    #[serde(rename = "@id")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

#[derive(Clone, Serialize)]
struct Product {
    #[serde(rename = "@id")]
    id: String,
    identifiers: BTreeMap<&'static str, String>,
}

/// A status with what the format wants beside it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Status {
    /// The product does not have it.
    NotAffected(Because),
    /// It has it.
    Affected {
        /// What to do.
        action_statement: String,
    },
    /// It has the fix.
    Fixed,
    /// Not known yet.
    UnderInvestigation,
}

/// The format wants one of the two.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Because {
    /// A reason of the format's own.
    Justification(&'static str),
    /// Words.
    ImpactStatement(String),
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let shelf = Shelf::open(
        context,
        Some(&arguments.kernel),
        &arguments.looking,
        Policy::builtin(),
    )?;
    let gauged = shelf.kernel.as_ref().context("the kernel was not gauged")?;
    let base = gauged.profile.base_version.parse()?;
    let products = products(&gauged.profile);
    let cves: BTreeMap<CveId, &Cve> = shelf
        .records
        .iter()
        .map(|stored| (stored.cve.id, &stored.cve))
        .collect();
    let statements: Vec<Statement> = gauged
        .judgements
        .values()
        .map(|judgement| {
            let cve = cves.get(&judgement.cve).copied();
            Statement {
                vulnerability: Vulnerability {
                    id: links::record(judgement.cve),
                    name: judgement.cve.to_string(),
                    description: cve.map_or_else(String::new, |cve| cve.title.clone()),
                },
                products: products.clone(),
                status: status(judgement.verdict, cve, base),
                status_notes: notes(judgement, shelf.decision(judgement.cve)),
            }
        })
        .collect();
    let timestamp = arguments
        .timestamp
        .unwrap_or_else(|| instant(shelf.feed.time));
    let what = format!("{} statements", statements.len());
    let document = Document {
        context: CONTEXT,
        id: name(&arguments.author, timestamp, &statements)?,
        author: &arguments.author,
        timestamp,
        version: 1,
        tooling: format!(
            "tuxtape {}, feed {}",
            env!("CARGO_PKG_VERSION"),
            shelf.feed.commit
        ),
        statements,
    };
    arguments.out.write(&what, |out| {
        serde_json::to_writer_pretty(&mut *out, &document)?;
        out.write_all(b"\n")
    })
}

/// Names the kernel for scanners: itself by release and build-id and, where it is a distribution's
/// own package, that package.
fn products(profile: &KernelProfile) -> Vec<Product> {
    let product = |purl: String| Product {
        id: purl.clone(),
        identifiers: BTreeMap::from([("purl", purl)]),
    };
    let id = &profile.id;
    let release = escaped(id.release.as_str());
    let mut own = format!("pkg:generic/linux@{release}?arch={}", id.arch);
    if let Some(build_id) = &id.build_id {
        own.push_str("&build_id=");
        own.push_str(&build_id.to_string());
    }
    let package = profile.origin.spec.strip_prefix("debian:").and_then(|_| {
        let (_, version) = profile.origin.source.split_once(' ')?;
        let arch = match id.arch {
            Arch::X86_64 => "amd64",
        };
        let version = escaped(version);
        Some(format!(
            "pkg:deb/debian/linux-image-{release}@{version}?arch={arch}"
        ))
    });
    [own].into_iter().chain(package).map(product).collect()
}

/// Percent-encodes what a package URL does not take as it is.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Translates a verdict.
///
/// The kernel is there, so `component_not_present` is never right: what is missing is the code with
/// the bug. A base version that already has the upstream fix is `fixed`, just as a kernel that carries
/// the fix as a backport.
fn status(verdict: Applicability, cve: Option<&Cve>, base: KernelVersion) -> Status {
    const NOT_PRESENT: &str = "vulnerable_code_not_present";
    match verdict {
        Applicability::Affected => Status::Affected {
            action_statement: action(cve, base),
        },
        Applicability::NotAffected(Reason::Rejected) => Status::NotAffected(
            Because::ImpactStatement("the record was withdrawn by its authority".to_owned()),
        ),
        Applicability::NotAffected(Reason::OutsideSpan) => {
            match cve.map(|cve| span::read(&cve.spans, base)) {
                Some(Reading::Fixed(_)) => Status::Fixed,
                Some(Reading::NeverIntroduced | Reading::Affected(_)) | None => {
                    Status::NotAffected(Because::Justification(NOT_PRESENT))
                }
            }
        }
        Applicability::NotAffected(Reason::Carries) => Status::Fixed,
        Applicability::NotAffected(Reason::NotBuilt | Reason::FunctionAbsent) => {
            Status::NotAffected(Because::Justification(NOT_PRESENT))
        }
        Applicability::Unknown(
            Gap::FileAbsent
            | Gap::NoSource
            | Gap::NoProfile
            | Gap::HeaderGraph
            | Gap::PartialFix
            | Gap::NoFixDiff
            | Gap::NoSymbols
            | Gap::NoHistory
            | Gap::BeyondHorizon
            | Gap::InconsistentSpan,
        ) => Status::UnderInvestigation,
    }
}

/// Says what to do about an affected kernel.
fn action(cve: Option<&Cve>, base: KernelVersion) -> String {
    let fixes = cve.into_iter().flat_map(|cve| &cve.spans);
    let own = fixes
        .filter_map(|span| span.fixed)
        .filter(|fix| fix.version.branch() == base.branch() && fix.version > base)
        .min();
    match own {
        Some(fix) => format!(
            "update to a kernel with the fix of {} (commit {}), or load a livepatch made from it",
            fix.version, fix.commit
        ),
        None => format!(
            "no fix is known on the {} branch; take it from a newer branch",
            base.branch()
        ),
    }
}

/// Says how the status was found, and what people decided.
fn notes(judgement: &Judgement, decision: Option<&Decision>) -> String {
    let mut parts: Vec<String> = judgement
        .verdict
        .reason()
        .map(str::to_owned)
        .into_iter()
        .collect();
    for evidence in &judgement.evidence {
        parts.push(format!("{}: {}", evidence.step.as_str(), evidence.found));
    }
    parts.extend(decision.map(|decision| {
        let done = match decision.choice {
            Choice::Accept => "accepted for the next level",
            Choice::Defer => "deferred",
            Choice::Ignore => "ignored",
        };
        let until = decision
            .until
            .map_or_else(String::new, |until| format!(" until {until}"));
        format!("{done} by {}{until}: {}", decision.who, decision.why)
    }));
    parts.join("; ")
}

/// Makes a name from what is said, so that the same document has the same one: a UUID of version 8.
fn name(author: &str, timestamp: UtcSeconds, statements: &[Statement]) -> anyhow::Result<String> {
    let said = serde_json::to_vec(&(author, timestamp, statements))?;
    let hash = hex::encode(Sha256::digest(said));
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    Ok(format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    ))
}

#[cfg(test)]
mod tests {

    use tuxtape_core::identity::BuildId;
    use tuxtape_core::profile::{ProfileId, ProfileOrigin, Way};

    use super::*;

    #[test]
    fn a_kernel_is_named_by_build_and_by_package() {
        let id = ProfileId {
            arch: Arch::X86_64,
            release: "6.12.1+deb12-cloud-amd64".parse().unwrap(),
            build_id: Some(BuildId::from_bytes(&[0xab, 1]).unwrap()),
        };
        let profile = KernelProfile {
            origin: ProfileOrigin {
                spec: "debian:6.12.1+deb12-cloud-amd64".to_owned(),
                source: "linux-source-6.12 6.12.1-1~bpo12+1".to_owned(),
            },
            ..KernelProfile::blank(id, "6.12.1", Way::DebugData)
        };
        let names: Vec<String> = products(&profile).into_iter().map(|it| it.id).collect();
        assert_eq!(
            names,
            [
                "pkg:generic/linux@6.12.1%2Bdeb12-cloud-amd64?arch=x86_64&build_id=ab01",
                "pkg:deb/debian/linux-image-6.12.1%2Bdeb12-cloud-amd64@6.12.1-1~bpo12%2B1?arch=amd64",
            ]
        );
    }

    #[test]
    fn the_same_words_have_the_same_name() {
        let at = |seconds| name("ann", UtcSeconds::from_unix(seconds), &[]).unwrap();
        assert_eq!(at(1), at(1));
        assert_ne!(at(1), at(2));
        assert_eq!(at(1).len(), "urn:uuid:".len() + 36);
    }
}
