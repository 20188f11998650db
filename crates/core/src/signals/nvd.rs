//! Reader of pages of the US national vulnerability database, API 2.0.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::SignalError;
use super::json::{self, Cvss, Leaf, List};
use super::{Batch, LARGEST, OutsideScore, Signal, Source, finish};

/// Most rows of a page; the database serves 2,000.
const MOST_ROWS: usize = 100_000;

// Unknown keys are ignored: the format is others', and grows.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    timestamp: Leaf<'a>,
    #[serde(borrow)]
    vulnerabilities: List<Row<'a>, MOST_ROWS>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    cve: Cve<'a>,
}

#[derive(Deserialize)]
struct Cve<'a> {
    #[serde(borrow, default)]
    id: Leaf<'a>,
    #[serde(borrow, default)]
    metrics: Metrics<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics<'a> {
    // Scores of other CVSS versions are other scales, and not read.
    #[serde(borrow, default)]
    cvss_metric_v31: List<Metric<'a>, 100>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Leaf<'a>,
    #[serde(borrow)]
    cvss_data: Cvss<'a>,
}

/// Reads one page; it speaks of the CVEs on it and of no other.
///
/// Of several scores the database's own (`Primary`) is taken, else the first that it passes on. Dated
/// by the page's `timestamp`.
pub fn parse(bytes: &[u8]) -> Result<Batch, SignalError> {
    if bytes.len() > LARGEST {
        return Err(SignalError::TooLarge { limit: LARGEST });
    }
    let page: Page<'_> = json::document(bytes)?;
    let mut batch = Batch {
        source: Source::Nvd,
        dated: page.timestamp.optional_date(|| "timestamp".to_owned())?,
        complete: false,
        rows: Vec::new(),
        named: Vec::new(),
        updated: BTreeMap::new(),
    };
    for (index, row) in page.vulnerabilities.0.iter().enumerate() {
        let path = |rest: &str| format!("vulnerabilities[{index}].cve.{rest}");
        let id = row.cve.id.cve(|| path("id"))?;
        batch.named.push(id);
        batch.updated.extend(batch.dated.map(|dated| (id, dated)));
        let metrics = &row.cve.metrics.cvss_metric_v31.0;
        let primary = metrics
            .iter()
            .position(|metric| matches!(&metric.kind, Leaf::Text(kind) if *kind == "Primary"))
            .unwrap_or(0);
        let Some(metric) = metrics.get(primary) else {
            continue;
        };
        let path = |rest: &str| path(&format!("metrics.cvssMetricV31[{primary}].cvssData.{rest}"));
        let score = OutsideScore {
            source: Source::Nvd,
            vector: metric
                .cvss_data
                .vector_string
                .vector(|| path("vectorString"))?,
            score: metric.cvss_data.base_score.score(|| path("baseScore"))?,
        };
        batch.rows.push((id, Signal::Score(score)));
    }
    finish(batch)
}
