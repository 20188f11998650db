//! The record for programs.

use serde::Serialize;
use tuxtape_core::follow::Turn;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::priority::ThreatModel;
use tuxtape_core::span::Landing;
use tuxtape_store::Published;

use super::{Facts, branches};
use crate::commands::cve::{json, links};
use crate::remembered::shelf::inconsistencies;

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    cve: String,
    state: &'a str,
    title: &'a str,
    description: &'a str,
    files: &'a [String],
    cvss: Option<Severity<'a>>,
    spans: Vec<Span>,
    inconsistent: Vec<String>,
    rejection: Option<&'a str>,
    /// Why a newer edition could not be read.
    stale: Option<&'a str>,
    /// The feed commit whose scan brought this edition.
    feed_commit: String,
    /// First published; `published_by` instead where the history at hand begins after that.
    published: Option<UtcSeconds>,
    published_by: Option<UtcSeconds>,
    changed: Option<UtcSeconds>,
    branches: Vec<OnBranch>,
    /// Branches that hold the bug and have no landing of their own.
    inherited: Vec<String>,
    mainline_fixes: Vec<String>,
    band: &'a str,
    points: u32,
    model: Option<&'a str>,
    policy: &'a str,
    factors: Vec<json::Factor<'a>>,
    signals: Signals<'a>,
    /// The decision that holds.
    decision: Option<json::Decision<'a>>,
    /// All of them, in the order in which they were made.
    decisions: Vec<json::Decision<'a>>,
    history: Vec<Event>,
    follow_ups: Vec<Followed>,
    links: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel<'a>>,
}

#[derive(Serialize)]
struct Severity<'a> {
    score: String,
    vector: &'a str,
    reasons: &'a [String],
}

#[derive(Serialize)]
struct Span {
    introduced: Option<Landed>,
    fixed: Option<Landed>,
}

#[derive(Serialize)]
struct Landed {
    version: String,
    commit: String,
}

#[derive(Serialize)]
struct OnBranch {
    branch: String,
    windows: Vec<Window>,
    horizon: Option<String>,
}

#[derive(Serialize)]
struct Window {
    /// The first version; absent when the branch started with the bug.
    since: Option<String>,
    /// Absent while it is open.
    fixed: Option<Landed>,
}

#[derive(Serialize)]
struct Signals<'a> {
    kev: Option<Kev<'a>>,
    epss: Option<Epss>,
    ssvc: Option<Ssvc<'a>>,
    scores: Vec<Scored<'a>>,
    exploits: Vec<Exploit<'a>>,
    /// What is known of each source; a source that is missing was never read.
    sources: Vec<Age<'a>>,
}

#[derive(Serialize)]
struct Kev<'a> {
    added: UtcSeconds,
    product: &'a str,
    ransomware: bool,
}

/// In parts per million.
#[derive(Serialize)]
struct Epss {
    probability_ppm: u32,
    percentile_ppm: u32,
}

#[derive(Serialize)]
struct Ssvc<'a> {
    exploitation: &'a str,
    automatable: bool,
    technical_impact: &'a str,
}

#[derive(Serialize)]
struct Scored<'a> {
    source: &'a str,
    score: String,
    vector: &'a str,
}

#[derive(Serialize)]
struct Exploit<'a> {
    name: &'a str,
    requirements: &'a [String],
}

#[derive(Serialize)]
struct Age<'a> {
    source: &'a str,
    dated: Option<UtcSeconds>,
    taken: UtcSeconds,
    origin: &'a str,
}

#[derive(Serialize)]
struct Event {
    time: UtcSeconds,
    change: &'static str,
    feed_commit: String,
}

#[derive(Serialize)]
struct Followed {
    earlier: String,
    later: String,
    turn: &'static str,
}

#[derive(Serialize)]
struct Kernel<'a> {
    release: &'a str,
    verdict: &'a str,
    reason: Option<&'a str>,
    evidence: Vec<Evidence<'a>>,
}

#[derive(Serialize)]
struct Evidence<'a> {
    step: &'a str,
    found: &'a str,
}

pub(super) fn answer(facts: &Facts) -> Answer<'_> {
    let cve = &facts.stored.cve;
    let dates = facts.stored.dates;
    let (published, published_by) = match dates.map(|dates| dates.published) {
        Some(Published::At(time)) => (Some(time), None),
        Some(Published::By(time)) => (None, Some(time)),
        None => (None, None),
    };
    Answer {
        cve: cve.id.to_string(),
        state: cve.state.as_str(),
        title: &cve.title,
        description: &cve.description,
        files: &cve.files,
        cvss: cve.cvss.as_ref().map(|cvss| Severity {
            score: cvss.score.to_string(),
            vector: &cvss.vector,
            reasons: &cvss.reasons,
        }),
        spans: cve
            .spans
            .iter()
            .map(|span| Span {
                introduced: span.introduced.map(landed),
                fixed: span.fixed.map(landed),
            })
            .collect(),
        inconsistent: inconsistencies(&facts.stored),
        rejection: cve.rejection.as_deref(),
        stale: facts.stored.stale.as_deref(),
        feed_commit: facts.stored.commit.to_string(),
        published,
        published_by,
        changed: dates.map(|dates| dates.changed),
        branches: branches::rows(&cve.spans, &facts.horizons)
            .iter()
            .map(branch)
            .collect(),
        inherited: branches::inherited(&cve.spans, &facts.horizons)
            .iter()
            .map(ToString::to_string)
            .collect(),
        mainline_fixes: cve.mainline_fixes.iter().map(ToString::to_string).collect(),
        band: facts.priority.band.as_str(),
        points: facts.priority.points,
        model: facts.priority.model.map(ThreatModel::as_str),
        policy: facts.policy.name(),
        factors: facts.priority.factors.iter().map(json::factor).collect(),
        signals: signals(facts),
        decision: facts.standing().map(json::decision),
        decisions: facts.decisions.iter().map(json::decision).collect(),
        history: facts
            .history
            .iter()
            .map(|event| Event {
                time: event.time,
                change: event.change.as_str(),
                feed_commit: event.commit.to_string(),
            })
            .collect(),
        follow_ups: facts
            .follow_ups
            .iter()
            .map(|it| Followed {
                earlier: it.earlier.to_string(),
                later: it.later.to_string(),
                turn: match it.turn {
                    Turn::Reverted => "reverted",
                    Turn::Corrected => "corrected",
                },
            })
            .collect(),
        links: links::all(cve),
        kernel: facts.judgement.as_ref().map(|(release, judgement)| Kernel {
            release: release.as_str(),
            verdict: judgement.verdict.as_str(),
            reason: judgement.verdict.reason(),
            evidence: judgement
                .evidence
                .iter()
                .map(|evidence| Evidence {
                    step: evidence.step.as_str(),
                    found: &evidence.found,
                })
                .collect(),
        }),
    }
}

fn landed(landing: Landing) -> Landed {
    Landed {
        version: landing.version.to_string(),
        commit: landing.commit.to_string(),
    }
}

fn branch(row: &branches::Row) -> OnBranch {
    OnBranch {
        branch: row.branch.to_string(),
        windows: row
            .windows
            .iter()
            .map(|window| Window {
                since: window.since.map(|since| since.to_string()),
                fixed: window.fix.map(landed),
            })
            .collect(),
        horizon: row.horizon.map(|horizon| horizon.to_string()),
    }
}

fn signals(facts: &Facts) -> Signals<'_> {
    let signals = &facts.signals;
    Signals {
        kev: signals.kev.as_ref().map(|kev| Kev {
            added: kev.added,
            product: &kev.product,
            ransomware: kev.ransomware,
        }),
        epss: signals.epss.map(|epss| Epss {
            probability_ppm: epss.probability.get(),
            percentile_ppm: epss.percentile.get(),
        }),
        ssvc: signals.ssvc.map(|ssvc| Ssvc {
            exploitation: ssvc.exploitation.as_str(),
            automatable: ssvc.automatable,
            technical_impact: if ssvc.total { "total" } else { "partial" },
        }),
        scores: signals
            .scores
            .iter()
            .map(|score| Scored {
                source: score.source.as_str(),
                score: score.score.to_string(),
                vector: &score.vector,
            })
            .collect(),
        exploits: signals
            .exploits
            .iter()
            .map(|exploit| Exploit {
                name: &exploit.name,
                requirements: &exploit.requirements,
            })
            .collect(),
        sources: facts
            .stamps
            .iter()
            .map(|stamp| Age {
                source: stamp.source.as_str(),
                dated: stamp.dated,
                taken: stamp.taken,
                origin: &stamp.origin,
            })
            .collect(),
    }
}
