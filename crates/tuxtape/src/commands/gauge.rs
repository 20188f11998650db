//! `tuxtape gauge`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use tuxtape_core::applicability::{Applicability, Bench, Freshness, Judgement, unreadable};
use tuxtape_core::cve::CveId;
use tuxtape_core::decision::{self, Decision};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::Horizons;
use tuxtape_store::{Store, Stored};

use crate::commands::cve::json as decided;
use crate::context::Context;
use crate::output;
use crate::remembered;

/// Say for every CVE whether a kernel has it, with evidence
///
/// With --cve the exit code is 0 for not affected, 3 for affected and 4 for unknown.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The kernel, by its `uname -r`, added before with `tuxtape kernel add`
    #[arg(value_name = "RELEASE")]
    pub kernel: KernelRelease,
    /// Only this CVE, with its evidence
    #[arg(long)]
    pub cve: Option<CveId>,
}

#[derive(Serialize)]
struct Json<'a> {
    cve: String,
    verdict: &'a str,
    reason: Option<&'a str>,
    evidence: Vec<JsonEvidence<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<decided::Decision<'a>>,
}

#[derive(Serialize)]
struct JsonEvidence<'a> {
    step: &'a str,
    found: &'a str,
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let Arguments { kernel, cve } = arguments;
    let profile = remembered::kernel(context, &kernel)?;
    let (store, feed) = remembered::feed(context)?;
    let judgements = judge_all(&store, &profile)?;
    let decisions = store.decisions()?;
    let now = remembered::now();
    let standing = |cve| decision::standing(&decisions, cve, Some(&kernel), now);
    let Some(id) = cve else {
        if context.json {
            let line = |judgement| json(judgement, standing(judgement.cve));
            output::json_lines(judgements.iter().map(line))?;
        } else {
            let of = format!(
                "{} on base {}, feed of {}",
                kernel,
                profile.base_version,
                remembered::utc(feed.time)
            );
            output::text(&summary(&of, &judgements))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let judgement = judgements
        .iter()
        .find(|judgement| judgement.cve == id)
        .with_context(|| format!("the feed of {} has no {id}", remembered::utc(feed.time)))?;
    if context.json {
        output::json(&json(judgement, standing(judgement.cve)))?;
    } else {
        output::text(&chain(judgement, standing(id)))?;
    }
    Ok(match judgement.verdict {
        Applicability::NotAffected(_) => ExitCode::SUCCESS,
        Applicability::Affected => ExitCode::from(output::NO),
        Applicability::Unknown(_) => ExitCode::from(output::UNKNOWN),
    })
}

/// Judges every record of the store against one kernel, by id.
pub fn judge_all(store: &Store, profile: &KernelProfile) -> anyhow::Result<Vec<Judgement>> {
    let horizons = store.horizons()?;
    let judgements = judge(&store.records()?, store.skipped()?, &horizons, profile)?;
    Ok(judgements.into_values().collect())
}

/// Prepares a kernel to judge records against.
pub fn bench<'a>(profile: &'a KernelProfile, horizons: &'a Horizons) -> anyhow::Result<Bench<'a>> {
    Bench::new(profile, horizons)
        .with_context(|| format!("the profile of {} has no base version", profile.id.release))
}

/// Judges `records` and those of which no edition could be read, `skipped`.
pub fn judge(
    records: &[Stored],
    skipped: BTreeMap<CveId, String>,
    horizons: &Horizons,
    profile: &KernelProfile,
) -> anyhow::Result<BTreeMap<CveId, Judgement>> {
    let bench = bench(profile, horizons)?;
    let mut judgements: BTreeMap<CveId, Judgement> = skipped
        .into_iter()
        .map(|(id, why)| (id, unreadable(id, &why)))
        .collect();
    let judge = |part: &[Stored]| -> Vec<Judgement> {
        part.iter()
            .map(|Stored { cve, stale, .. }| {
                let freshness = stale
                    .as_deref()
                    .map_or(Freshness::Current, Freshness::Stale);
                bench.judge(cve, freshness)
            })
            .collect()
    };
    let (first, second) = records.split_at(records.len() / 2);
    let parts = thread::scope(|scope| {
        let second = scope.spawn(|| judge(second));
        let first = judge(first);
        [first, second.join().expect("judging does not panic")]
    });
    // A record that has a readable edition is judged by it, in place of the entry above.
    for judgement in parts.into_iter().flatten() {
        judgements.insert(judgement.cve, judgement);
    }
    Ok(judgements)
}

fn json<'a>(judgement: &'a Judgement, decision: Option<&'a Decision>) -> Json<'a> {
    Json {
        cve: judgement.cve.to_string(),
        verdict: judgement.verdict.as_str(),
        reason: judgement.verdict.reason(),
        evidence: judgement
            .evidence
            .iter()
            .map(|evidence| JsonEvidence {
                step: evidence.step.as_str(),
                found: &evidence.found,
            })
            .collect(),
        decision: decision.map(decided::decision),
    }
}

fn summary(of: &str, judgements: &[Judgement]) -> String {
    let mut counts: BTreeMap<Applicability, usize> = BTreeMap::new();
    for judgement in judgements {
        *counts.entry(judgement.verdict).or_default() += 1;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["VERDICT", "REASON", "CVES"]);
    for (verdict, count) in counts {
        let reason = verdict.reason().unwrap_or("");
        table.add_row([verdict.as_str(), reason, &count.to_string()]);
    }
    table.add_row(["all", "", &judgements.len().to_string()]);
    format!("{of}\n{table}\n")
}

fn chain(judgement: &Judgement, decision: Option<&Decision>) -> String {
    let mut text = format!("{}  {}\n", judgement.cve, judgement.verdict);
    for evidence in &judgement.evidence {
        writeln!(text, "  {:8} {}", evidence.step.as_str(), evidence.found)
            .expect("a String takes everything");
    }
    if let Some(decision) = decision {
        let said = remembered::said(decision);
        writeln!(text, "  {:8} {said}", "decision").expect("a String takes everything");
    }
    text
}
