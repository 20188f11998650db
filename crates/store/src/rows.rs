//! Rows in and out. Every value read is checked: a damaged store is an error, not a guess.

use std::collections::BTreeMap;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use tuxtape_core::cve::{Cve, CveId, Cvss, Score, State};
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::{Landing, Span};
use tuxtape_core::version::KernelVersion;

use crate::tree::Edition;
use crate::{Feed, Lines, StoreError, Stored};

const YEAR: i64 = 10_000_000_000;

pub(crate) fn key(id: CveId) -> i64 {
    i64::from(id.year()) * YEAR + i64::from(id.number())
}

fn id(key: i64) -> Result<CveId, StoreError> {
    let parts = (u16::try_from(key / YEAR), u32::try_from(key % YEAR));
    match parts {
        (Ok(year), Ok(number)) => CveId::new(year, number),
        _ => None,
    }
    .ok_or_else(|| damaged(key, "no CVE id"))
}

fn damaged(key: i64, what: &str) -> StoreError {
    StoreError::Damaged {
        what: format!("row {key}: {what}"),
    }
}

/// A git object name as a column.
struct Name(GitId);

impl ToSql for Name {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(&self.0.as_bytes()[..]))
    }
}

fn name(row: &Row<'_>, column: usize) -> Result<Option<GitId>, StoreError> {
    let bytes = row.get_ref(column)?.as_blob_or_null();
    match bytes.map_err(rusqlite::Error::from)? {
        None => Ok(None),
        Some(bytes) => GitId::try_from(bytes)
            .map(Some)
            .map_err(|error| StoreError::Damaged {
                what: error.to_string(),
            }),
    }
}

fn some_name(row: &Row<'_>, column: usize) -> Result<GitId, StoreError> {
    name(row, column)?.ok_or_else(|| StoreError::Damaged {
        what: "a git object name is missing".to_owned(),
    })
}

fn state(text: &str) -> Option<State> {
    [State::Published, State::Rejected]
        .into_iter()
        .find(|state| state.as_str() == text)
}

/// Returns the feed with the edition of the reader that made the rows.
pub(crate) fn feed(connection: &Connection) -> Result<Option<(Feed, i64)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT source, commit_id, commit_time, reader FROM feed WHERE id = 1")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let feed = Feed {
        source: row.get(0)?,
        commit: some_name(row, 1)?,
        time: row.get(2)?,
    };
    Ok(Some((feed, row.get(3)?)))
}

pub(crate) fn put_feed(
    connection: &Connection,
    feed: &Feed,
    reader: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO feed (id, source, commit_id, commit_time, reader) VALUES (1, ?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET source = excluded.source, commit_id = excluded.commit_id,
                 commit_time = excluded.commit_time, reader = excluded.reader",
        )?
        .execute(params![feed.source, Name(feed.commit), feed.time, reader])?;
    Ok(())
}

/// Returns which edition of each record is stored.
pub(crate) fn editions(connection: &Connection) -> Result<BTreeMap<CveId, Edition>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT cve, state, json_blob, dyad_blob, announcement_blob, twice FROM cve ORDER BY cve",
    )?;
    let mut rows = statement.query([])?;
    let mut editions = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let key = row.get(0)?;
        let edition = Edition {
            state: state(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)
                .ok_or_else(|| damaged(key, "unknown state"))?,
            json: some_name(row, 2)?,
            dyad: name(row, 3)?,
            announcement: name(row, 4)?,
            twice: row.get(5)?,
        };
        editions.insert(id(key)?, edition);
    }
    Ok(editions)
}

/// Writes one record over whatever edition of it there was.
pub(crate) fn put(
    connection: &Connection,
    cve: &Cve,
    edition: &Edition,
    commit: GitId,
    is_new: bool,
) -> Result<(), StoreError> {
    let key = key(cve.id);
    if !is_new {
        remove_parts(connection, key)?;
    }
    let doubts = json(&cve.doubts);
    let disputes: Vec<String> = cve.disputes.iter().map(ToString::to_string).collect();
    let disputes = json(&disputes);
    connection
        .prepare_cached(
            "INSERT INTO cve (cve, state, title, description, cvss_vector, cvss_tenths, rejection,
                 doubts, disputes, json_blob, dyad_blob, announcement_blob, twice, feed_commit)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (cve) DO UPDATE SET state = excluded.state, title = excluded.title,
                 description = excluded.description, cvss_vector = excluded.cvss_vector,
                 cvss_tenths = excluded.cvss_tenths, rejection = excluded.rejection,
                 doubts = excluded.doubts, disputes = excluded.disputes, json_blob = excluded.json_blob,
                 dyad_blob = excluded.dyad_blob, announcement_blob = excluded.announcement_blob,
                 twice = excluded.twice, feed_commit = excluded.feed_commit",
        )?
        .execute(params![
            key,
            cve.state.as_str(),
            cve.title,
            cve.description,
            cve.cvss.as_ref().map(|cvss| &cvss.vector),
            cve.cvss.as_ref().map(|cvss| cvss.score.tenths()),
            cve.rejection,
            doubts,
            disputes,
            Name(edition.json),
            edition.dyad.map(Name),
            edition.announcement.map(Name),
            edition.twice,
            Name(commit),
        ])?;
    let mut put_file =
        connection.prepare_cached("INSERT INTO cve_file (cve, path) VALUES (?1, ?2)")?;
    for path in &cve.files {
        put_file.execute(params![key, path])?;
    }
    let mut put_span = connection.prepare_cached(
        "INSERT INTO cve_span (cve, n, introduced_version, introduced_commit, fixed_version,
             fixed_commit) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (n, span) in cve.spans.iter().enumerate() {
        let version = |landing: Option<Landing>| landing.map(|it| it.version.to_string());
        let commit = |landing: Option<Landing>| landing.map(|it| Name(it.commit));
        put_span.execute(params![
            key,
            i64::try_from(n).unwrap_or(i64::MAX),
            version(span.introduced),
            commit(span.introduced),
            version(span.fixed),
            commit(span.fixed),
        ])?;
    }
    Ok(())
}

pub(crate) fn remove(connection: &Connection, id: CveId) -> Result<(), StoreError> {
    let key = key(id);
    remove_parts(connection, key)?;
    connection
        .prepare_cached("DELETE FROM cve WHERE cve = ?1")?
        .execute([key])?;
    Ok(())
}

fn remove_parts(connection: &Connection, key: i64) -> Result<(), StoreError> {
    for table in [
        "DELETE FROM cve_span WHERE cve = ?1",
        "DELETE FROM cve_file WHERE cve = ?1",
    ] {
        connection.prepare_cached(table)?.execute([key])?;
    }
    Ok(())
}

pub(crate) fn skipped(connection: &Connection) -> Result<BTreeMap<CveId, String>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT cve, why FROM cve_skipped ORDER BY cve")?;
    let mut rows = statement.query([])?;
    let mut skipped = BTreeMap::new();
    while let Some(row) = rows.next()? {
        skipped.insert(id(row.get(0)?)?, row.get(1)?);
    }
    Ok(skipped)
}

pub(crate) fn skip(connection: &Connection, id: CveId, why: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO cve_skipped (cve, why) VALUES (?1, ?2)
             ON CONFLICT (cve) DO UPDATE SET why = excluded.why",
        )?
        .execute(params![key(id), why])?;
    Ok(())
}

pub(crate) fn unskip(connection: &Connection, id: CveId) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM cve_skipped WHERE cve = ?1")?
        .execute([key(id)])?;
    Ok(())
}

/// Returns the spans of published records.
pub(crate) fn lines(connection: &Connection) -> Result<Vec<Lines>, StoreError> {
    let mut spans = spans(connection, None)?;
    let mut statement = connection.prepare_cached(
        "SELECT cve, doubts != '[]', disputes FROM cve WHERE state = 'published' ORDER BY cve",
    )?;
    let mut rows = statement.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(0)?;
        lines.push(Lines {
            id: id(key)?,
            spans: spans.remove(&key).unwrap_or_default(),
            doubtful: row.get(1)?,
            disputes: disputes(row, 2, key)?,
        });
    }
    Ok(lines)
}

/// Returns the record `only`, or all.
pub(crate) fn records(
    connection: &Connection,
    only: Option<CveId>,
) -> Result<Vec<Stored>, StoreError> {
    let mut spans = spans(connection, only)?;
    let mut files = files(connection, only)?;
    let mut skipped = skipped(connection)?;
    let mut statement = connection.prepare_cached(
        "SELECT cve, state, title, description, cvss_vector, cvss_tenths, rejection, doubts,
             feed_commit, disputes FROM cve WHERE ?1 IS NULL OR cve = ?1 ORDER BY cve",
    )?;
    let mut rows = statement.query([only.map(key)])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(0)?;
        let id = id(key)?;
        let vector: Option<String> = row.get(4)?;
        let tenths: Option<u8> = row.get(5)?;
        let cvss = vector.zip(tenths.and_then(Score::from_tenths));
        let cve = Cve {
            id,
            state: state(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)
                .ok_or_else(|| damaged(key, "unknown state"))?,
            title: row.get(2)?,
            description: row.get(3)?,
            files: files.remove(&key).unwrap_or_default(),
            cvss: cvss.map(|(vector, score)| Cvss {
                vector,
                score,
                reasons: Vec::new(),
            }),
            references: Vec::new(),
            mainline_fixes: Vec::new(),
            spans: spans.remove(&key).unwrap_or_default(),
            doubts: texts(row, 7, key)?,
            disputes: disputes(row, 9, key)?,
            rejection: row.get(6)?,
        };
        records.push(Stored {
            cve,
            commit: some_name(row, 8)?,
            stale: skipped.remove(&id),
        });
    }
    Ok(records)
}

fn spans(
    connection: &Connection,
    only: Option<CveId>,
) -> Result<BTreeMap<i64, Vec<Span>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT cve, introduced_version, introduced_commit, fixed_version, fixed_commit
         FROM cve_span WHERE cve BETWEEN ?1 AND ?2 ORDER BY cve, n",
    )?;
    let mut rows = statement.query(range(only))?;
    let mut spans: BTreeMap<i64, Vec<Span>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let key = row.get(0)?;
        spans.entry(key).or_default().push(Span {
            introduced: landing(row, 1, key)?,
            fixed: landing(row, 3, key)?,
        });
    }
    Ok(spans)
}

fn landing(row: &Row<'_>, column: usize, key: i64) -> Result<Option<Landing>, StoreError> {
    let version = row.get_ref(column)?.as_str_or_null();
    let Some(version) = version.map_err(rusqlite::Error::from)? else {
        return Ok(None);
    };
    Ok(Some(Landing {
        version: version
            .parse()
            .map_err(|_| damaged(key, "a span without a version"))?,
        commit: some_name(row, column + 1)?,
    }))
}

fn json(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts are always JSON")
}

fn texts(row: &Row<'_>, column: usize, key: i64) -> Result<Vec<String>, StoreError> {
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(rusqlite::Error::from)?;
    serde_json::from_str(text).map_err(|_| damaged(key, "no JSON array of texts"))
}

fn disputes(row: &Row<'_>, column: usize, key: i64) -> Result<Vec<KernelVersion>, StoreError> {
    texts(row, column, key)?
        .iter()
        .map(|text| text.parse().map_err(|_| damaged(key, "no version")))
        .collect()
}

fn files(
    connection: &Connection,
    only: Option<CveId>,
) -> Result<BTreeMap<i64, Vec<String>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT cve, path FROM cve_file WHERE cve BETWEEN ?1 AND ?2 ORDER BY cve, path",
    )?;
    let mut rows = statement.query(range(only))?;
    let mut files: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        files.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(files)
}

fn range(only: Option<CveId>) -> [i64; 2] {
    only.map_or([i64::MIN, i64::MAX], |id| [key(id); 2])
}

/// Counts the records of each state.
pub(crate) fn count(connection: &Connection, state: State) -> Result<usize, StoreError> {
    let count: Option<i64> = connection
        .prepare_cached("SELECT count(*) FROM cve WHERE state = ?1")?
        .query_row([state.as_str()], |row| row.get(0))
        .optional()?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Returns the records that contradict themselves, with the first contradiction.
pub(crate) fn doubtful(connection: &Connection) -> Result<Vec<(CveId, String)>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT cve, doubts, disputes FROM cve WHERE doubts != '[]' OR disputes != '[]' ORDER BY cve")?;
    let mut rows = statement.query([])?;
    let mut doubtful = Vec::new();
    while let Some(row) = rows.next()? {
        let key = row.get(0)?;
        let disputes = disputes(row, 2, key)?;
        let dispute = disputes
            .first()
            .map(|version| format!("from {version} on .dyad and .json disagree"));
        let first = texts(row, 1, key)?.into_iter().next().or(dispute);
        doubtful.push((id(key)?, first.unwrap_or_default()));
    }
    Ok(doubtful)
}
