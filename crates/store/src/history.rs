//! What scans found changed, record by record.

use std::fmt;

use tuxtape_core::cve::CveId;
use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;

use crate::engine::{Table, Transaction, Value};
use crate::rows::{id, key};
use crate::{Store, StoreError};

static ROWS: Table = Table {
    name: "cve_history",
    columns: &["cve", "feed_commit", "feed_time", "change"],
};

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It is new, and valid.
    Added,
    /// It is new, and withdrawn already.
    AddedRejected,
    /// Its text, files, severity or references are others; its spans are not.
    Changed,
    /// Its spans are others, and perhaps more.
    Spans,
    /// It was withdrawn.
    Rejected,
    /// It was withdrawn and is valid again.
    Reinstated,
    /// It lies in another place in the feed, and says the same.
    Moved,
    /// It is gone from the feed.
    Removed,
}

impl Change {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Added,
        Self::AddedRejected,
        Self::Changed,
        Self::Spans,
        Self::Rejected,
        Self::Reinstated,
        Self::Moved,
        Self::Removed,
    ];

    /// Names it in one word, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::AddedRejected => "added-rejected",
            Self::Changed => "changed",
            Self::Spans => "spans",
            Self::Rejected => "rejected",
            Self::Reinstated => "reinstated",
            Self::Moved => "moved",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One change, as a scan found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Place in the order of events; rises, with gaps.
    pub sequence: u64,
    /// The record.
    pub cve: CveId,
    /// The feed commit that was scanned.
    pub commit: GitId,
    /// Its time.
    pub time: UtcSeconds,
    /// What happened.
    pub change: Change,
}

impl Store {
    /// Returns the changes after the event `after` (0 for all), in their order. The first scan of an
    /// empty store makes no events.
    pub fn history(&self, after: u64) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT sequence, cve, feed_commit, feed_time, change FROM cve_history
             WHERE sequence > ?1 ORDER BY sequence";
        self.events(sql, &[after.into()])
    }

    /// Returns every time that a scan found a record gone, in their order.
    pub fn removals(&self) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT sequence, cve, feed_commit, feed_time, change FROM cve_history
             WHERE change = ?1 ORDER BY sequence";
        self.events(sql, &[Change::Removed.as_str().into()])
    }

    /// Returns the changes of one record, in their order.
    pub fn history_of(&self, cve: CveId) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT sequence, cve, feed_commit, feed_time, change FROM cve_history
             WHERE cve = ?1 ORDER BY sequence";
        self.events(sql, &[key(cve).into()])
    }

    fn events(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        self.engine().query(sql, values, &mut |row| {
            events.push(Event {
                sequence: row.count(0)?,
                cve: id(row.integer(1)?)?,
                commit: row.name(2)?,
                time: row.instant(3)?,
                change: row.word(4, &Change::ALL, Change::as_str)?,
            });
            Ok(())
        })?;
        Ok(events)
    }
}

pub(crate) fn note(
    transaction: &Transaction<'_>,
    commit: GitId,
    time: UtcSeconds,
    changes: impl IntoIterator<Item = (CveId, Change)>,
) -> Result<(), StoreError> {
    let rows: Vec<Vec<Value<'_>>> = changes
        .into_iter()
        .map(|(cve, change)| {
            vec![
                key(cve).into(),
                commit.into(),
                time.into(),
                change.as_str().into(),
            ]
        })
        .collect();
    transaction.insert(&ROWS, &rows)?;
    Ok(())
}
