//! Reader of CVE records with a container that CISA added: SSVC, KEV and CVSS.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::SignalError;
use super::json::{Cvss, Leaf, List};
use super::{Batch, Exploitation, Kev, LARGEST, OutsideScore, Signal, Source, Ssvc, finish, join};
use crate::cve::CveId;

/// Most records of one file, one after the other.
const MOST_RECORDS: usize = 500_000;
const CONTAINER: &str = "CISA-ADP";

// Unknown keys are ignored: the format is others', and grows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(borrow)]
    cve_metadata: Metadata<'a>,
    #[serde(borrow)]
    containers: Containers<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, rename = "cveId", alias = "cveID", default)]
    id: Leaf<'a>,
}

#[derive(Deserialize)]
struct Containers<'a> {
    #[serde(borrow, default)]
    adp: List<Container<'a>, 100>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    #[serde(borrow)]
    provider_metadata: Provider<'a>,
    #[serde(borrow, default)]
    metrics: List<Metric<'a>, 100>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provider<'a> {
    #[serde(borrow, default)]
    short_name: Leaf<'a>,
    #[serde(borrow, default)]
    date_updated: Leaf<'a>,
}

// Scores of other CVSS versions are other scales, and not read.
#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow, default)]
    other: Option<Other<'a>>,
    #[serde(borrow, default, rename = "cvssV3_1")]
    cvss: Option<Cvss<'a>>,
}

#[derive(Deserialize)]
struct Other<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Leaf<'a>,
    #[serde(borrow, default)]
    content: Content<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    #[serde(borrow, default)]
    options: List<Chosen<'a>, 100>,
    #[serde(borrow, default)]
    date_added: Leaf<'a>,
}

/// One item of the list of options, which holds one of these.
#[derive(Deserialize)]
struct Chosen<'a> {
    #[serde(borrow, default, rename = "Exploitation")]
    exploitation: Leaf<'a>,
    #[serde(borrow, default, rename = "Automatable")]
    automatable: Leaf<'a>,
    #[serde(borrow, default, rename = "Technical Impact")]
    impact: Leaf<'a>,
}

/// Reads one record, or several one after the other (JSON lines).
///
/// Each record speaks of one CVE: what it does not say is not so any more. A record without CISA's
/// container says nothing but that. Dated by the newest container.
pub fn parse(bytes: &[u8]) -> Result<Batch, SignalError> {
    if bytes.len() > LARGEST {
        return Err(SignalError::TooLarge { limit: LARGEST });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut batches = Vec::new();
    for record in serde_json::Deserializer::from_slice(bytes).into_iter() {
        let record: Record<'_> = record.map_err(|error| SignalError::Json(error.to_string()))?;
        if batches.len() == MOST_RECORDS {
            return Err(SignalError::TooMany {
                limit: MOST_RECORDS,
            });
        }
        batches.push(read(&record)?);
    }
    if batches.is_empty() {
        return Err(SignalError::Empty);
    }
    join(batches)
}

fn read(record: &Record<'_>) -> Result<Batch, SignalError> {
    let id = record
        .cve_metadata
        .id
        .cve(|| "cveMetadata.cveId".to_owned())?;
    let mut batch = Batch {
        source: Source::Adp,
        dated: None,
        complete: false,
        rows: Vec::new(),
        named: vec![id],
        updated: BTreeMap::new(),
    };
    for (index, container) in record.containers.adp.0.iter().enumerate() {
        let provider = &container.provider_metadata;
        if !matches!(&provider.short_name, Leaf::Text(name) if *name == CONTAINER) {
            continue;
        }
        // Records of one file name their place alike, so the CVE comes first.
        let path = |rest: &str| format!("{id}: containers.adp[{index}].{rest}");
        let updated = provider
            .date_updated
            .optional_date(|| path("providerMetadata.dateUpdated"))?;
        batch.dated = batch.dated.max(updated);
        for (number, metric) in container.metrics.0.iter().enumerate() {
            let path = |rest: &str| path(&format!("metrics[{number}].{rest}"));
            batch.rows.extend(signals(metric, path, id)?);
        }
    }
    batch.updated.extend(batch.dated.map(|dated| (id, dated)));
    finish(batch)
}

fn signals(
    metric: &Metric<'_>,
    path: impl Fn(&str) -> String,
    id: CveId,
) -> Result<Vec<(CveId, Signal)>, SignalError> {
    let mut rows = Vec::new();
    if let Some(cvss) = &metric.cvss {
        rows.push((
            id,
            Signal::Score(OutsideScore {
                source: Source::Adp,
                vector: cvss
                    .vector_string
                    .vector(|| path("cvssV3_1.vectorString"))?,
                score: cvss.base_score.score(|| path("cvssV3_1.baseScore"))?,
            }),
        ));
    }
    let Some(other) = &metric.other else {
        return Ok(rows);
    };
    let content = &other.content;
    match other.kind.text(|| path("other.type"), "a text")? {
        "ssvc" => {
            let path = |name: &str| path(&format!("other.content.options.{name}"));
            rows.push((id, Signal::Ssvc(ssvc(&content.options.0, path)?)));
        }
        "kev" => rows.push((
            id,
            Signal::Kev(Kev {
                added: content
                    .date_added
                    .date(|| path("other.content.dateAdded"))?,
                // The record repeats neither the catalogue's product nor its word on ransom.
                product: String::new(),
                ransomware: false,
            }),
        )),
        // Kinds not known yet raise nothing.
        _ => {}
    }
    Ok(rows)
}

fn ssvc(options: &[Chosen<'_>], path: impl Fn(&str) -> String) -> Result<Ssvc, SignalError> {
    let exploitation = options.iter().map(|option| &option.exploitation);
    let automatable = options.iter().map(|option| &option.automatable);
    let impact = options.iter().map(|option| &option.impact);
    Ok(Ssvc {
        exploitation: choose(
            exploitation,
            || path("Exploitation"),
            "none, poc or active",
            &[
                ("none", Exploitation::None),
                ("poc", Exploitation::Poc),
                ("active", Exploitation::Active),
            ],
        )?,
        automatable: choose(
            automatable,
            || path("Automatable"),
            "no or yes",
            &[("no", false), ("yes", true)],
        )?,
        total: choose(
            impact,
            || path("Technical Impact"),
            "partial or total",
            &[("partial", false), ("total", true)],
        )?,
    })
}

/// Takes the one option that is there. An unknown word is refused: it could be the gravest.
fn choose<'a, T: Copy>(
    mut options: impl Iterator<Item = &'a Leaf<'a>>,
    path: impl Fn() -> String,
    want: &'static str,
    words: &[(&str, T)],
) -> Result<T, SignalError> {
    let given = options.find(|option| !matches!(option, Leaf::Absent));
    let leaf = given.unwrap_or(&Leaf::Absent);
    let text = leaf.text(&path, want)?;
    let chosen = words
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word));
    match chosen {
        Some(&(_, value)) => Ok(value),
        None => Err(leaf.wrong(path, want)),
    }
}
