//! `tuxtape cve rank`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use tuxtape_core::applicability::Applicability;
use tuxtape_core::cve::{Cve, CveId, State};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::priority::{self, Policy, Priority};
use tuxtape_core::signals::Signals;

use crate::commands::gauge;
use crate::context::Context;
use crate::output;
use crate::remembered;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only CVEs that this kernel has, or may have
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<KernelRelease>,
    /// Most CVEs listed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

#[derive(Serialize)]
struct Json<'a> {
    cve: String,
    points: u32,
    band: &'a str,
    factors: Vec<JsonFactor<'a>>,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonFactor<'a> {
    term: &'a str,
    points: i32,
    cause: &'a str,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let (store, _) = remembered::feed(context)?;
    let records = store.records()?;
    let verdicts: Option<BTreeMap<CveId, Applicability>> = match &arguments.kernel {
        None => None,
        Some(release) => {
            let profile = remembered::kernel(context, release)?;
            let judgements = gauge::judge_all(&store, &profile)?;
            Some(
                judgements
                    .into_iter()
                    .map(|it| (it.cve, it.verdict))
                    .collect(),
            )
        }
    };
    let cves: BTreeMap<CveId, &Cve> = records
        .iter()
        .map(|stored| (stored.cve.id, &stored.cve))
        .collect();
    let wanted = |cve: &Cve| match verdicts.as_ref().and_then(|verdicts| verdicts.get(&cve.id)) {
        Some(Applicability::NotAffected(_)) => false,
        // Unknown is not low.
        Some(Applicability::Affected | Applicability::Unknown(_)) | None => {
            cve.state == State::Published
        }
    };
    let policy = Policy::builtin();
    let mut priorities: Vec<Priority> = cves
        .values()
        .filter(|cve| wanted(cve))
        .map(|cve| priority::prioritize(cve, &Signals::default(), &policy))
        .collect();
    priority::sort(&mut priorities);
    priorities.truncate(arguments.limit);

    let verdict = |id| {
        verdicts
            .as_ref()
            .and_then(|verdicts| verdicts.get(&id).copied())
    };
    let title = |id| cves.get(&id).map_or("", |cve| cve.title.as_str());
    if context.json {
        for priority in &priorities {
            output::json(&Json {
                cve: priority.cve.to_string(),
                points: priority.points,
                band: priority.band.as_str(),
                factors: priority
                    .factors
                    .iter()
                    .map(|factor| JsonFactor {
                        term: factor.term,
                        points: factor.points,
                        cause: &factor.cause,
                    })
                    .collect(),
                title: title(priority.cve),
                verdict: verdict(priority.cve).map(Applicability::as_str),
                reason: verdict(priority.cve).and_then(Applicability::reason),
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["CVE", "POINTS", "WHY", "VERDICT", "TITLE"]);
    for priority in &priorities {
        let causes: Vec<String> = priority
            .factors
            .iter()
            .map(|factor| format!("{} {}", factor.term, factor.cause))
            .collect();
        table.add_row([
            priority.cve.to_string(),
            priority.points.to_string(),
            causes.join("; "),
            verdict(priority.cve).map_or_else(String::new, |verdict| verdict.to_string()),
            title(priority.cve).to_owned(),
        ]);
    }
    output::text(&format!("{table}\n"))?;
    Ok(ExitCode::SUCCESS)
}
