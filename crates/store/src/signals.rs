//! Outside evidence: kept by source, replaced by newer files of the same source.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tuxtape_core::cve::{CveId, Score};
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::signals::{
    Batch, Epss, Exploit, Exploitation, Kev, OutsideScore, PartsPerMillion, Signal, Signals,
    Source, Ssvc, Stamp,
};

use crate::engine::{Engine, Table, Transaction, Value, first, plain};
use crate::rows::{damaged, id, key};
use crate::{Store, StoreError};

static ROWS: Table = Table {
    name: "signal",
    columns: &["source", "cve", "n", "kind", "detail"],
};
static EPSS: Table = Table {
    name: "signal_epss",
    columns: &["cve", "probability", "percentile"],
};

/// Longest, in seconds, that data may be dated ahead of our clock: clocks and time zones differ, and a
/// source dates tomorrow's edition today.
const AHEAD: u64 = 2 * 86_400;

/// What to do with data older than what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// Keep what is stored.
    Refuse,
    /// Take the older data in its place.
    Accept,
}

/// What taking a file in did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Rows stored.
    pub rows: u64,
    /// CVEs among them that have no record in the store; their rows are kept.
    pub without_record: usize,
    /// CVEs of a partial file passed over, because the store has newer rows of that source for them.
    pub older: Vec<CveId>,
    /// What was known of the source before.
    pub before: Option<Stamp>,
}

/// Why a file of signals was not taken in; the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SignalsError {
    /// The store holds newer data of this source.
    #[error("{origin} is older than the {source_name} data in the store: {dated}, stored {stored}")]
    Older {
        /// File or URL.
        origin: String,
        /// The source.
        source_name: Source,
        /// The date of the file.
        dated: UtcSeconds,
        /// The date of the stored data.
        stored: UtcSeconds,
    },
    /// It is dated in the future: taken in, it would keep out all that comes before that day.
    #[error("{origin} is dated {dated}, and by this machine's clock it is {now}")]
    Future {
        /// File or URL.
        origin: String,
        /// The date of the file.
        dated: UtcSeconds,
        /// Our clock.
        now: UtcSeconds,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A row about a CVE without a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The CVE.
    pub cve: CveId,
    /// Who names it.
    pub source: Source,
    /// What it says.
    pub signal: Signal,
}

impl Store {
    /// Takes in one file of one source, read from `origin` at `now`.
    ///
    /// A complete batch replaces all rows of its source; a partial one the rows of the CVEs that it
    /// names. A KEV catalogue that says no date of its own is as old as its newest addition, next to
    /// the newest addition stored. Rows about CVEs without a record are kept. With [`Older::Refuse`] a complete batch dated
    /// before the stored one is an error, and of a partial one the CVEs are passed over of which the
    /// store has rows of a later date, or of any date where the batch gives none. A date more than two
    /// days after `now` is an error either way.
    pub fn put_signals(
        &self,
        batch: &Batch,
        origin: &str,
        now: UtcSeconds,
        older: Older,
    ) -> Result<Taken, SignalsError> {
        let dates = batch.updated.values().copied().chain(batch.dated);
        if let Some(dated) = dates.max().filter(|dated| *dated > now.plus(AHEAD)) {
            return Err(SignalsError::Future {
                origin: origin.to_owned(),
                dated,
                now,
            });
        }
        let transaction = Transaction::begin(self.engine())?;
        let before = stamp(self.engine(), batch.source)?;
        let stored = before.as_ref().and_then(|stamp| stamp.dated);
        let passed_over = match (batch.complete, older) {
            (true, Older::Refuse) => {
                let both = match (batch.dated, stored) {
                    (Some(dated), Some(stored)) => Some((dated, stored)),
                    // Dates of release and of additions are not compared with each other.
                    (None, _) | (_, None) => newest_additions(self.engine(), batch)?,
                };
                if let Some((dated, stored)) = both
                    && dated < stored
                {
                    return Err(SignalsError::Older {
                        origin: origin.to_owned(),
                        source_name: batch.source,
                        dated,
                        stored,
                    });
                }
                BTreeSet::new()
            }
            (false, Older::Refuse) => newer_named(self.engine(), batch)?,
            (_, Older::Accept) => BTreeSet::new(),
        };
        let rows: Vec<&(CveId, Signal)> = batch
            .rows
            .iter()
            .filter(|(cve, _)| !passed_over.contains(cve))
            .collect();
        clear(&transaction, batch, &passed_over)?;
        let rows_stored = insert(&transaction, batch.source, &rows)?;
        let dated = if batch.complete {
            batch.dated
        } else {
            batch.dated.max(stored)
        };
        transaction.execute(
            "INSERT INTO signal_source (source, origin, dated, taken) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (source) DO UPDATE SET origin = excluded.origin, dated = excluded.dated,
                 taken = excluded.taken",
            &[
                batch.source.as_str().into(),
                plain(origin).into_owned().into(),
                dated.into(),
                now.into(),
            ],
        )?;
        let records = record_keys(self.engine())?;
        let named: BTreeSet<i64> = rows.iter().map(|(cve, _)| key(*cve)).collect();
        transaction.commit()?;
        Ok(Taken {
            rows: rows_stored,
            without_record: named.difference(&records).count(),
            older: passed_over.into_iter().collect(),
            before,
        })
    }

    /// Returns what is known of every CVE that has a record.
    pub fn signals(&self) -> Result<BTreeMap<CveId, Signals>, StoreError> {
        let rows = rows(
            self.engine(),
            "SELECT signal.cve, source, n, kind, detail FROM signal
             JOIN cve_edition ON cve_edition.cve = signal.cve",
            &[],
        )?;
        let mut signals = Signals::collect(rows.into_iter().map(|row| (row.cve, row.signal)));
        let sql = "SELECT signal_epss.cve, probability, percentile FROM signal_epss
             JOIN cve_edition ON cve_edition.cve = signal_epss.cve";
        for (cve, epss) in predictions(self.engine(), sql, &[])? {
            signals.entry(cve).or_default().add(Signal::Epss(epss));
        }
        Ok(signals)
    }

    /// Returns what is known of one CVE, which needs no record.
    pub fn signals_of(&self, cve: CveId) -> Result<Signals, StoreError> {
        let mut signals = Signals::default();
        let sql = "SELECT cve, source, n, kind, detail FROM signal WHERE cve = ?1";
        for row in rows(self.engine(), sql, &[key(cve).into()])? {
            signals.add(row.signal);
        }
        let sql = "SELECT cve, probability, percentile FROM signal_epss WHERE cve = ?1";
        for (_, epss) in predictions(self.engine(), sql, &[key(cve).into()])? {
            signals.add(Signal::Epss(epss));
        }
        Ok(signals)
    }

    /// Returns the age of each source that was ever read, in the order of [`Source::ALL`].
    pub fn stamps(&self) -> Result<Vec<Stamp>, StoreError> {
        let mut stamps = Vec::new();
        for source in Source::ALL {
            stamps.extend(stamp(self.engine(), source)?);
        }
        Ok(stamps)
    }

    /// Returns what says that a CVE is exploited or can be, and has no record in the store: the feed
    /// holds only ids of the kernel's own authority. KEV lists all kinds of software.
    pub fn orphans(&self) -> Result<Vec<Orphan>, StoreError> {
        let rows = rows(
            self.engine(),
            "SELECT signal.cve, source, n, kind, detail FROM signal
             LEFT JOIN cve_edition ON cve_edition.cve = signal.cve
             WHERE cve_edition.cve IS NULL AND kind IN ('kev', 'exploit')",
            &[],
        )?;
        let orphan = |row: SignalRow| Orphan {
            cve: row.cve,
            source: row.source,
            signal: row.signal,
        };
        Ok(rows.into_iter().map(orphan).collect())
    }
}

fn stamp(engine: &dyn Engine, source: Source) -> Result<Option<Stamp>, StoreError> {
    let mut found = None;
    engine.query(
        "SELECT origin, dated, taken FROM signal_source WHERE source = ?1",
        &[source.as_str().into()],
        &mut |row| {
            found = Some(Stamp {
                source,
                origin: row.text(0)?.to_owned(),
                dated: row.some_instant(1)?,
                taken: row.instant(2)?,
                rows: 0,
            });
            Ok(())
        },
    )?;
    let Some(mut stamp) = found else {
        return Ok(None);
    };
    let sql = "SELECT count(*) FROM signal WHERE source = ?1";
    let mut rows = first(engine, sql, &[source.as_str().into()])?.unwrap_or(0);
    if source == Source::Epss {
        rows += first(engine, "SELECT count(*) FROM signal_epss", &[])?.unwrap_or(0);
    }
    stamp.rows = u64::try_from(rows).unwrap_or(0);
    Ok(Some(stamp))
}

fn record_keys(engine: &dyn Engine) -> Result<BTreeSet<i64>, StoreError> {
    let mut keys = BTreeSet::new();
    engine.query(
        "SELECT cve FROM cve_edition ORDER BY cve",
        &[],
        &mut |row| {
            keys.insert(row.integer(0)?);
            Ok(())
        },
    )?;
    Ok(keys)
}

/// The CVEs a partial batch speaks about, rows or none.
fn subjects(batch: &Batch) -> BTreeSet<CveId> {
    let rows = batch.rows.iter().map(|(cve, _)| *cve);
    batch.named.iter().copied().chain(rows).collect()
}

/// Returns the newest additions to the KEV catalogue, in the batch and in the store; `None` where one
/// of them has none.
fn newest_additions(
    engine: &dyn Engine,
    batch: &Batch,
) -> Result<Option<(UtcSeconds, UtcSeconds)>, StoreError> {
    if batch.source != Source::Kev {
        return Ok(None);
    }
    let added = |signal: &Signal| match signal {
        Signal::Kev(kev) => Some(kev.added),
        Signal::Epss(_) | Signal::Ssvc(_) | Signal::Score(_) | Signal::Exploit(_) => None,
    };
    let sql = "SELECT cve, source, n, kind, detail FROM signal WHERE source = ?1";
    let stored = rows(engine, sql, &[batch.source.as_str().into()])?;
    let stored = stored.iter().filter_map(|row| added(&row.signal)).max();
    let read = batch.rows.iter().filter_map(|(_, it)| added(it)).max();
    Ok(read.zip(stored))
}

/// Finds the CVEs of a partial batch of which the source was read at a later date. What has no date
/// may be of any time, and does not replace what has one.
fn newer_named(engine: &dyn Engine, batch: &Batch) -> Result<BTreeSet<CveId>, StoreError> {
    let mut newer = BTreeSet::new();
    for cve in subjects(batch) {
        let sql = "SELECT dated FROM signal_named WHERE source = ?1 AND cve = ?2 AND dated > ?3";
        let dated = batch.updated.get(&cve).copied();
        let than = dated.map_or(Value::Integer(-1), Value::from);
        let values = [batch.source.as_str().into(), key(cve).into(), than];
        if first(engine, sql, &values)?.is_some() {
            newer.insert(cve);
        }
    }
    Ok(newer)
}

/// Removes the rows that the batch replaces.
fn clear(
    transaction: &Transaction<'_>,
    batch: &Batch,
    passed_over: &BTreeSet<CveId>,
) -> Result<(), StoreError> {
    let source = batch.source.as_str();
    if batch.complete {
        for sql in [
            "DELETE FROM signal WHERE source = ?1",
            "DELETE FROM signal_named WHERE source = ?1",
        ] {
            transaction.execute(sql, &[source.into()])?;
        }
        if batch.source == Source::Epss {
            transaction.execute("DELETE FROM signal_epss", &[])?;
        }
        return Ok(());
    }
    for cve in subjects(batch).difference(passed_over) {
        let values = [source.into(), key(*cve).into()];
        transaction.execute("DELETE FROM signal WHERE source = ?1 AND cve = ?2", &values)?;
        if batch.source == Source::Epss {
            let sql = "DELETE FROM signal_epss WHERE cve = ?1";
            transaction.execute(sql, &[key(*cve).into()])?;
        }
        let [source, key] = values;
        transaction.execute(
            "INSERT INTO signal_named (source, cve, dated) VALUES (?1, ?2, ?3)
             ON CONFLICT (source, cve) DO UPDATE SET dated = excluded.dated",
            &[source, key, batch.updated.get(cve).copied().into()],
        )?;
    }
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    source: Source,
    rows: &[&(CveId, Signal)],
) -> Result<u64, StoreError> {
    let mut predictions: BTreeMap<i64, Epss> = BTreeMap::new();
    let mut numbers: BTreeMap<i64, i64> = BTreeMap::new();
    let mut others: Vec<Vec<Value<'_>>> = Vec::new();
    for (cve, signal) in rows {
        let key = key(*cve);
        if let (Source::Epss, Signal::Epss(epss)) = (source, signal) {
            let kept = predictions.entry(key).or_insert(*epss);
            if kept.probability < epss.probability {
                *kept = *epss;
            }
            continue;
        }
        let number = numbers.entry(key).or_insert(0);
        let (kind, detail) = Detail::of(signal);
        let detail = serde_json::to_string(&detail).expect("texts and numbers are always JSON");
        others.push(vec![
            source.as_str().into(),
            key.into(),
            (*number).into(),
            kind.into(),
            detail.into(),
        ]);
        *number += 1;
    }
    // In the order of their keys, which is the quickest.
    let predictions: Vec<Vec<Value<'_>>> = predictions
        .into_iter()
        .map(|(key, epss)| {
            let parts = |share: PartsPerMillion| i64::from(share.get()).into();
            vec![key.into(), parts(epss.probability), parts(epss.percentile)]
        })
        .collect();
    Ok(transaction.insert(&ROWS, &others)? + transaction.insert(&EPSS, &predictions)?)
}

struct SignalRow {
    cve: CveId,
    source: Source,
    signal: Signal,
}

/// Returns rows in the order of CVEs, sources and the source's own: a source's row about itself goes
/// before another source's.
fn rows(
    engine: &dyn Engine,
    sql: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<SignalRow>, StoreError> {
    let mut rows: Vec<(i64, Source, i64, SignalRow)> = Vec::new();
    engine.query(sql, values, &mut |row| {
        let key = row.integer(0)?;
        let source = row.word(1, &Source::ALL, Source::as_str)?;
        let signal = Detail::read(row.text(3)?, row.text(4)?, source)
            .ok_or_else(|| damaged(key, "no signal"))?;
        let found = SignalRow {
            cve: id(key)?,
            source,
            signal,
        };
        rows.push((key, source, row.integer(2)?, found));
        Ok(())
    })?;
    rows.sort_by_key(|(key, source, number, _)| (*key, *source, *number));
    Ok(rows.into_iter().map(|(_, _, _, row)| row).collect())
}

fn predictions(
    engine: &dyn Engine,
    sql: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<(CveId, Epss)>, StoreError> {
    let mut predictions = Vec::new();
    engine.query(sql, values, &mut |row| {
        let key = row.integer(0)?;
        let share = |column| {
            let parts = u32::try_from(row.integer(column)?).ok();
            parts
                .and_then(PartsPerMillion::new)
                .ok_or_else(|| damaged(key, "no share"))
        };
        let epss = Epss {
            probability: share(1)?,
            percentile: share(2)?,
        };
        predictions.push((id(key)?, epss));
        Ok(())
    })?;
    Ok(predictions)
}

/// The form of a row on disk.
#[derive(Serialize)]
#[serde(untagged)]
enum Detail {
    Kev(KevDetail),
    Epss(EpssDetail),
    Ssvc(SsvcDetail),
    Score(ScoreDetail),
    Exploit(ExploitDetail),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KevDetail {
    added: UtcSeconds,
    product: String,
    ransomware: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpssDetail {
    probability: u32,
    percentile: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SsvcDetail {
    exploitation: String,
    automatable: bool,
    total: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreDetail {
    vector: String,
    tenths: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExploitDetail {
    name: String,
    requirements: Vec<String>,
}

impl Detail {
    fn of(signal: &Signal) -> (&'static str, Self) {
        match signal {
            Signal::Kev(kev) => (
                "kev",
                Self::Kev(KevDetail {
                    added: kev.added,
                    product: kev.product.clone(),
                    ransomware: kev.ransomware,
                }),
            ),
            Signal::Epss(epss) => (
                "epss",
                Self::Epss(EpssDetail {
                    probability: epss.probability.get(),
                    percentile: epss.percentile.get(),
                }),
            ),
            Signal::Ssvc(ssvc) => (
                "ssvc",
                Self::Ssvc(SsvcDetail {
                    exploitation: ssvc.exploitation.as_str().to_owned(),
                    automatable: ssvc.automatable,
                    total: ssvc.total,
                }),
            ),
            Signal::Score(score) => (
                "score",
                Self::Score(ScoreDetail {
                    vector: score.vector.clone(),
                    tenths: score.score.tenths(),
                }),
            ),
            Signal::Exploit(exploit) => (
                "exploit",
                Self::Exploit(ExploitDetail {
                    name: exploit.name.clone(),
                    requirements: exploit.requirements.clone(),
                }),
            ),
        }
    }

    fn read(kind: &str, detail: &str, source: Source) -> Option<Signal> {
        const LEVELS: [Exploitation; 3] =
            [Exploitation::None, Exploitation::Poc, Exploitation::Active];
        Some(match kind {
            "kev" => {
                let detail: KevDetail = serde_json::from_str(detail).ok()?;
                Signal::Kev(Kev {
                    added: detail.added,
                    product: detail.product,
                    ransomware: detail.ransomware,
                })
            }
            "epss" => {
                let detail: EpssDetail = serde_json::from_str(detail).ok()?;
                Signal::Epss(Epss {
                    probability: PartsPerMillion::new(detail.probability)?,
                    percentile: PartsPerMillion::new(detail.percentile)?,
                })
            }
            "ssvc" => {
                let detail: SsvcDetail = serde_json::from_str(detail).ok()?;
                let exploitation = LEVELS
                    .into_iter()
                    .find(|level| level.as_str() == detail.exploitation)?;
                Signal::Ssvc(Ssvc {
                    exploitation,
                    automatable: detail.automatable,
                    total: detail.total,
                })
            }
            "score" => {
                let detail: ScoreDetail = serde_json::from_str(detail).ok()?;
                Signal::Score(OutsideScore {
                    source,
                    vector: detail.vector,
                    score: Score::from_tenths(detail.tenths)?,
                })
            }
            "exploit" => {
                let detail: ExploitDetail = serde_json::from_str(detail).ok()?;
                Signal::Exploit(Exploit {
                    name: detail.name,
                    requirements: detail.requirements,
                })
            }
            _ => return None,
        })
    }
}
