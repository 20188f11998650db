//! Verdicts for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use tuxtape_core::applicability::Judgement;
use tuxtape_core::applicability::loaded::Standing;
use tuxtape_core::decision::Decision;

use super::funnel::Funnel;
use super::measure::Measured;
use crate::commands::cve::json as decided;

/// One verdict.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    cve: String,
    verdict: &'a str,
    reason: Option<&'a str>,
    evidence: Vec<Evidence<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<decided::Decision<'a>>,
    kernel: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<&'a str>,
    /// How the most urgent of the objects stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded: Option<&'static str>,
}

#[derive(Serialize)]
struct Evidence<'a> {
    step: &'a str,
    found: &'a str,
}

/// One kernel's counts.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    kernel: &'a str,
    base_version: &'a str,
    feed_time: String,
    horizon: Option<String>,
    #[serde(flatten)]
    funnel: &'a Funnel,
    node: bool,
}

pub(super) fn line<'a>(
    measured: &'a Measured,
    judgement: &'a Judgement,
    decision: Option<&'a Decision>,
) -> Line<'a> {
    Line {
        cve: judgement.cve.to_string(),
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
        decision: decision.map(decided::decision),
        kernel: measured.profile.id.release.as_str(),
        objects: judgement.objects.iter().map(|it| it.0.as_str()).collect(),
        loaded: measured.standing(judgement).map(Standing::as_str),
    }
}

pub(super) fn summary<'a>(
    measured: &'a Measured,
    funnel: &'a Funnel,
    feed_time: String,
    node: bool,
) -> Summary<'a> {
    Summary {
        kernel: measured.profile.id.release.as_str(),
        base_version: &measured.profile.base_version,
        feed_time,
        horizon: measured.horizon.map(|known| known.to_string()),
        funnel,
        node,
    }
}

/// Rows of a table of values separated by commas: a CVE, then each kernel's verdict with its reason.
/// Nothing in it can hold a comma, a quote or a line's end.
pub(super) fn csv<'a>(
    kernels: &[&'a Measured],
    rows: &BTreeMap<tuxtape_core::cve::CveId, Vec<Option<&'a Judgement>>>,
) -> String {
    let mut text = String::from("cve");
    for kernel in kernels {
        text.push(',');
        text.push_str(kernel.profile.id.release.as_str());
    }
    text.push_str("\r\n");
    for (cve, cells) in rows {
        text.push_str(&cve.to_string());
        for cell in cells {
            text.push(',');
            match cell {
                None => text.push_str("not-affected outside-span"),
                Some(judgement) => {
                    text.push_str(judgement.verdict.as_str());
                    if let Some(reason) = judgement.verdict.reason() {
                        text.push(' ');
                        text.push_str(reason);
                    }
                }
            }
        }
        text.push_str("\r\n");
    }
    text
}
