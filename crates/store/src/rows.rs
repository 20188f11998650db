//! Records in and out. Every value read is checked: a damaged store is an error, not a guess.

use std::collections::{BTreeMap, BTreeSet};
use std::{iter, mem};

use tuxtape_core::cve::{Cve, CveId, Cvss, Score, State};
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::Span;
use tuxtape_core::version::KernelVersion;

use crate::engine::{Engine, Row, Table, Transaction, Value, first, plain};
use crate::tree::Edition;
use crate::{Feed, Lines, StoreError, Stored, dates, spans};

const YEAR: i64 = 10_000_000_000;
const STATES: [State; 2] = [State::Published, State::Rejected];

pub(crate) static RECORDS: Table = Table {
    name: "cve",
    columns: &[
        "cve",
        "state",
        "title",
        "description",
        "files",
        "cvss_vector",
        "cvss_tenths",
        "cvss_reasons",
        "web",
        "mainline_fixes",
        "rejection",
        "doubts",
        "disputes",
        "feed_commit",
    ],
};

static EDITIONS: Table = Table {
    name: "cve_edition",
    columns: &[
        "cve",
        "state",
        "json_blob",
        "dyad_blob",
        "announcement_blob",
        "cvss_blob",
        "reference_blob",
        "sha1_blob",
        "twice",
        "doubtful",
    ],
};

pub(crate) static LINES: Table = Table {
    name: "cve_lines",
    columns: &["cve", "spans", "doubtful", "disputes"],
};

pub(crate) fn key(id: CveId) -> i64 {
    i64::from(id.year()) * YEAR + i64::from(id.number())
}

pub(crate) fn id(key: i64) -> Result<CveId, StoreError> {
    let parts = (u16::try_from(key / YEAR), u32::try_from(key % YEAR));
    match parts {
        (Ok(year), Ok(number)) => CveId::new(year, number),
        _ => None,
    }
    .ok_or_else(|| damaged(key, "no CVE id"))
}

pub(crate) fn damaged(key: i64, what: &str) -> StoreError {
    StoreError::Damaged {
        what: format!("row {key}: {what}"),
    }
}

/// What the last scan took in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastScan {
    pub(crate) feed: Feed,
    /// The edition of the reader that made the rows.
    pub(crate) reader: i64,
    /// The commit up to which dates were read.
    pub(crate) dated: Option<GitId>,
}

/// Returns what the last scan took in.
pub(crate) fn last_scan(engine: &dyn Engine) -> Result<Option<LastScan>, StoreError> {
    let sql = "SELECT source, commit_id, commit_time, reader, dates_commit FROM feed WHERE id = 1";
    let mut last = None;
    engine.query(sql, &[], &mut |row| {
        let found = Feed {
            source: row.text(0)?.to_owned(),
            commit: row.name(1)?,
            time: row.integer(2)?,
        };
        last = Some(LastScan {
            feed: found,
            reader: row.integer(3)?,
            dated: row.some_name(4)?,
        });
        Ok(())
    })?;
    Ok(last)
}

pub(crate) fn put_last_scan(
    transaction: &Transaction<'_>,
    last: &LastScan,
) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO feed (id, source, commit_id, commit_time, reader) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET source = excluded.source, commit_id = excluded.commit_id,
             commit_time = excluded.commit_time, reader = excluded.reader",
        &[
            plain(&last.feed.source).into_owned().into(),
            last.feed.commit.into(),
            last.feed.time.into(),
            last.reader.into(),
        ],
    )?;
    Ok(())
}

/// Notes up to which commit dates were read.
pub(crate) fn put_dated(transaction: &Transaction<'_>, commit: GitId) -> Result<(), StoreError> {
    let sql = "UPDATE feed SET dates_commit = ?1 WHERE id = 1";
    transaction.execute(sql, &[commit.into()])?;
    Ok(())
}

/// Returns which edition of each record is stored.
pub(crate) fn editions(engine: &dyn Engine) -> Result<BTreeMap<CveId, Edition>, StoreError> {
    let mut editions = BTreeMap::new();
    editions_between(engine, range(None), &mut editions)?;
    Ok(editions)
}

/// Like [`editions`], of the records `ids` alone.
pub(crate) fn editions_of(
    engine: &dyn Engine,
    ids: &BTreeSet<CveId>,
) -> Result<BTreeMap<CveId, Edition>, StoreError> {
    let mut editions = BTreeMap::new();
    for id in ids {
        editions_between(engine, range(Some(*id)), &mut editions)?;
    }
    Ok(editions)
}

fn editions_between(
    engine: &dyn Engine,
    [from, to]: [i64; 2],
    editions: &mut BTreeMap<CveId, Edition>,
) -> Result<(), StoreError> {
    engine.query(
        "SELECT cve, state, json_blob, dyad_blob, announcement_blob, cvss_blob, reference_blob,
             sha1_blob, twice FROM cve_edition WHERE cve BETWEEN ?1 AND ?2 ORDER BY cve",
        &[from.into(), to.into()],
        &mut |row| {
            let edition = Edition {
                state: row.word(1, &STATES, State::as_str)?,
                json: row.name(2)?,
                dyad: row.some_name(3)?,
                announcement: row.some_name(4)?,
                cvss: row.some_name(5)?,
                reference: row.some_name(6)?,
                sha1: row.some_name(7)?,
                twice: row.flag(8)?,
            };
            editions.insert(id(row.integer(0)?)?, edition);
            Ok(())
        },
    )
}

/// Records on their way into the store, written many at a time.
#[derive(Default)]
pub(crate) struct Incoming {
    records: Vec<Vec<Value<'static>>>,
    lines: Vec<Vec<Value<'static>>>,
    editions: Vec<Vec<Value<'static>>>,
}

impl Incoming {
    /// Records that are written at once: their texts are held until then.
    const MANY: usize = 500;

    /// Takes a record of which the store holds no edition.
    pub(crate) fn add(
        &mut self,
        transaction: &Transaction<'_>,
        cve: Cve,
        edition: &Edition,
        commit: GitId,
    ) -> Result<(), StoreError> {
        let key = key(cve.id);
        let disputes: Vec<String> = cve.disputes.iter().map(ToString::to_string).collect();
        let disputes = json(&disputes);
        match cve.state {
            State::Published => self.lines.push(lines_row(
                key,
                &cve.spans,
                !cve.doubts.is_empty(),
                disputes.clone(),
            )),
            State::Rejected => {}
        }
        self.editions.push(vec![
            key.into(),
            edition.state.as_str().into(),
            edition.json.into(),
            edition.dyad.into(),
            edition.announcement.into(),
            edition.cvss.into(),
            edition.reference.into(),
            edition.sha1.into(),
            edition.twice.into(),
            (!cve.doubts.is_empty() || !cve.disputes.is_empty()).into(),
        ]);
        let mut fixes = Vec::with_capacity(20 * cve.mainline_fixes.len());
        for fix in &cve.mainline_fixes {
            fixes.extend_from_slice(fix.as_bytes());
        }
        let (vector, tenths, reasons) = match cve.cvss {
            Some(Cvss {
                vector,
                score,
                reasons,
            }) => (Some(vector), Some(score.tenths()), reasons),
            None => (None, None, Vec::new()),
        };
        self.records.push(vec![
            key.into(),
            cve.state.as_str().into(),
            cve.title.into(),
            cve.description.into(),
            json(&cve.files).into(),
            vector.into(),
            tenths.map(i64::from).into(),
            json(&reasons).into(),
            json(&cve.references).into(),
            Some(fixes).filter(|fixes| !fixes.is_empty()).into(),
            cve.rejection.into(),
            json(&cve.doubts).into(),
            disputes.into(),
            commit.into(),
        ]);
        if self.records.len() >= Self::MANY {
            self.flush(transaction)?;
        }
        Ok(())
    }

    /// Writes what was taken.
    pub(crate) fn flush(&mut self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction.insert(&RECORDS, &self.records)?;
        transaction.insert(&LINES, &self.lines)?;
        transaction.insert(&EDITIONS, &self.editions)?;
        self.records.clear();
        self.lines.clear();
        self.editions.clear();
        Ok(())
    }
}

pub(crate) fn lines_row(
    key: i64,
    spans: &[Span],
    doubtful: bool,
    disputes: String,
) -> Vec<Value<'static>> {
    vec![
        key.into(),
        spans::write(spans).into(),
        doubtful.into(),
        disputes.into(),
    ]
}

pub(crate) fn remove(transaction: &Transaction<'_>, id: CveId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM cve_lines WHERE cve = ?1",
        "DELETE FROM cve_edition WHERE cve = ?1",
        "DELETE FROM cve WHERE cve = ?1",
    ] {
        transaction.execute(sql, &[key(id).into()])?;
    }
    Ok(())
}

pub(crate) fn skipped(engine: &dyn Engine) -> Result<BTreeMap<CveId, String>, StoreError> {
    let mut skipped = BTreeMap::new();
    let sql = "SELECT cve, why FROM cve_skipped ORDER BY cve";
    engine.query(sql, &[], &mut |row| {
        skipped.insert(id(row.integer(0)?)?, row.text(1)?.to_owned());
        Ok(())
    })?;
    Ok(skipped)
}

pub(crate) fn skip(transaction: &Transaction<'_>, id: CveId, why: &str) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO cve_skipped (cve, why) VALUES (?1, ?2)
         ON CONFLICT (cve) DO UPDATE SET why = excluded.why",
        &[key(id).into(), plain(why).into_owned().into()],
    )?;
    Ok(())
}

pub(crate) fn unskip(transaction: &Transaction<'_>, id: CveId) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM cve_skipped WHERE cve = ?1", &[key(id).into()])?;
    Ok(())
}

/// Hands the spans of published records to `take`, by id.
pub(crate) fn each_lines(
    engine: &dyn Engine,
    take: &mut dyn FnMut(&Lines),
) -> Result<(), StoreError> {
    // One list for all: making one for each takes longer than reading them.
    let mut spans = Vec::new();
    engine.query(
        "SELECT cve, spans, doubtful, disputes FROM cve_lines ORDER BY cve",
        &[],
        &mut |row| {
            let key = row.integer(0)?;
            spans::read_into(row.blob(1)?, &mut spans)
                .map_err(|spans::Malformed| damaged(key, "no spans"))?;
            let lines = Lines {
                id: id(key)?,
                spans: mem::take(&mut spans),
                doubtful: row.flag(2)?,
                disputes: disputes(row, 3, key)?,
            };
            take(&lines);
            spans = lines.spans;
            Ok(())
        },
    )
}

/// Returns the spans of one published record; none for another.
pub(crate) fn spans_of(engine: &dyn Engine, cve: CveId) -> Result<Vec<Span>, StoreError> {
    let mut spans = Vec::new();
    let sql = "SELECT spans FROM cve_lines WHERE cve = ?1";
    engine.query(sql, &[key(cve).into()], &mut |row| {
        spans = some_spans(row, 0, key(cve))?;
        Ok(())
    })?;
    Ok(spans)
}

/// The columns of a record and the tables they come from.
macro_rules! select_records {
    () => {
        "SELECT cve.cve, state, title, description, files, cvss_vector, cvss_tenths, cvss_reasons,
             web, mainline_fixes, rejection, doubts, cve.disputes, feed_commit, spans, why,
             published, exact, changed
         FROM cve LEFT JOIN cve_lines ON cve_lines.cve = cve.cve
             LEFT JOIN cve_skipped ON cve_skipped.cve = cve.cve
             LEFT JOIN cve_dates ON cve_dates.cve = cve.cve"
    };
}

/// Returns the record `only`, or all.
pub(crate) fn records(engine: &dyn Engine, only: Option<CveId>) -> Result<Vec<Stored>, StoreError> {
    let [from, to] = range(only);
    let sql = concat!(
        select_records!(),
        " WHERE cve.cve BETWEEN ?1 AND ?2 ORDER BY cve.cve"
    );
    let mut records = Vec::new();
    engine.query(sql, &[from.into(), to.into()], &mut |row| {
        records.push(stored(row)?);
        Ok(())
    })?;
    Ok(records)
}

/// Returns those records of `ids`, which must be in order, that there are.
pub(crate) fn records_of(engine: &dyn Engine, ids: &[CveId]) -> Result<Vec<Stored>, StoreError> {
    // Asked many at a time, for the sake of a server far away.
    const MANY: usize = 16;
    let sql = concat!(
        select_records!(),
        " WHERE cve.cve IN (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ORDER BY cve.cve"
    );
    let mut records = Vec::with_capacity(ids.len());
    for part in ids.chunks(MANY) {
        let keys = part.iter().map(|id| key(*id).into());
        // What is left over at the end asks for nothing.
        let values: Vec<Value<'_>> = keys.chain(iter::repeat(Value::Null)).take(MANY).collect();
        engine.query(sql, &values, &mut |row| {
            records.push(stored(row)?);
            Ok(())
        })?;
    }
    Ok(records)
}

fn stored(row: &Row<'_>) -> Result<Stored, StoreError> {
    let key = row.integer(0)?;
    let tenths = row.some_integer(6)?.map(|tenths| {
        let tenths = u8::try_from(tenths).ok().and_then(Score::from_tenths);
        tenths.ok_or_else(|| damaged(key, "no score"))
    });
    let cvss = match (row.some_text(5)?, tenths.transpose()?) {
        (Some(vector), Some(score)) => Some(Cvss {
            vector: vector.to_owned(),
            score,
            reasons: texts(row, 7, key)?,
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(damaged(key, "half a severity")),
    };
    let cve = Cve {
        id: id(key)?,
        state: row.word(1, &STATES, State::as_str)?,
        title: row.text(2)?.to_owned(),
        description: row.text(3)?.to_owned(),
        files: texts(row, 4, key)?,
        cvss,
        references: texts(row, 8, key)?,
        mainline_fixes: names(row, 9, key)?,
        spans: match row.some_blob(14)? {
            Some(_) => some_spans(row, 14, key)?,
            None => Vec::new(),
        },
        doubts: texts(row, 11, key)?,
        disputes: disputes(row, 12, key)?,
        rejection: row.some_text(10)?.map(str::to_owned),
    };
    Ok(Stored {
        cve,
        commit: row.name(13)?,
        stale: row.some_text(15)?.map(str::to_owned),
        dates: dates::some(row, 16)?,
    })
}

fn some_spans(row: &Row<'_>, column: usize, key: i64) -> Result<Vec<Span>, StoreError> {
    spans::read(row.blob(column)?).map_err(|spans::Malformed| damaged(key, "no spans"))
}

fn names(row: &Row<'_>, column: usize, key: i64) -> Result<Vec<GitId>, StoreError> {
    let bytes = row.some_blob(column)?.unwrap_or_default();
    let (names, rest) = bytes.as_chunks::<20>();
    if rest.is_empty() {
        Ok(names.iter().copied().map(GitId::from_bytes).collect())
    } else {
        Err(damaged(key, "a git object name is cut"))
    }
}

pub(crate) fn json(texts: &[String]) -> String {
    if texts.is_empty() {
        return "[]".to_owned();
    }
    serde_json::to_string(texts).expect("texts are always JSON")
}

fn texts(row: &Row<'_>, column: usize, key: i64) -> Result<Vec<String>, StoreError> {
    match row.text(column)? {
        "[]" => Ok(Vec::new()),
        text => serde_json::from_str(text).map_err(|_| damaged(key, "no JSON array of texts")),
    }
}

fn disputes(row: &Row<'_>, column: usize, key: i64) -> Result<Vec<KernelVersion>, StoreError> {
    texts(row, column, key)?
        .iter()
        .map(|text| text.parse().map_err(|_| damaged(key, "no version")))
        .collect()
}

fn range(only: Option<CveId>) -> [i64; 2] {
    only.map_or([i64::MIN, i64::MAX], |id| [key(id); 2])
}

/// Counts the records of each state.
pub(crate) fn count(engine: &dyn Engine, state: State) -> Result<usize, StoreError> {
    let sql = "SELECT count(*) FROM cve_edition WHERE state = ?1";
    let count = first(engine, sql, &[state.as_str().into()])?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Returns the records that contradict themselves, with the first contradiction.
pub(crate) fn doubtful(engine: &dyn Engine) -> Result<Vec<(CveId, String)>, StoreError> {
    let mut doubtful = Vec::new();
    engine.query(
        "SELECT cve.cve, doubts, disputes FROM cve_edition
             JOIN cve ON cve.cve = cve_edition.cve
         WHERE cve_edition.doubtful = 1 ORDER BY cve.cve",
        &[],
        &mut |row| {
            let key = row.integer(0)?;
            let disputes = disputes(row, 2, key)?;
            let dispute = disputes
                .first()
                .map(|version| format!("from {version} on .dyad and .json disagree"));
            let first = texts(row, 1, key)?.into_iter().next().or(dispute);
            doubtful.push((id(key)?, first.unwrap_or_default()));
            Ok(())
        },
    )?;
    Ok(doubtful)
}
