//! What TuxTape remembers, in SQLite; domain types in and out.
//!
//! SQL text lives in `sql/` and in `rows`; no SQL compares versions, because the rules for that are
//! `tuxtape_core`'s alone.
#![warn(missing_docs)]

mod rows;
pub mod scan;
mod schema;
pub mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::{self, Horizons, Reading, Span};
use tuxtape_core::version::KernelVersion;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);

/// The store, open.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

/// What the last scan took in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// URL, folder or bundle.
    pub source: String,
    /// The feed's commit.
    pub commit: GitId,
    /// Its time, in seconds since 1970 UTC.
    pub time: i64,
}

/// A record with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub cve: Cve,
    /// The feed commit whose scan brought this edition.
    pub commit: GitId,
    /// Why a newer edition could not be read, where there is one.
    pub stale: Option<String>,
}

/// The spans of one published record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The record.
    pub id: CveId,
    /// Its spans.
    pub spans: Vec<Span>,
    /// Whether the record contradicts itself.
    pub doubtful: bool,
    /// Versions from which on its two readings differ.
    pub disputes: Vec<KernelVersion>,
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none yet.
    #[error("there is no store at {path}", path = path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The database refused.
    #[error("the store failed")]
    Database(#[from] rusqlite::Error),
    /// The folder could not be made.
    #[error("could not create {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer program wrote it.
    #[error("the store has schema {found}, newer than {known}, the newest this program knows")]
    Newer {
        /// Its schema.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A row holds what no version of this program writes.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Which row and why.
        what: String,
    },
}

impl Lines {
    /// Reads whether `version` holds the bug.
    pub fn read(&self, version: KernelVersion) -> Reading {
        span::read(&self.spans, version)
    }

    /// Tells whether that reading is in doubt.
    pub fn is_doubtful_at(&self, version: KernelVersion) -> bool {
        self.doubtful || span::is_disputed(&self.spans, &self.disputes, version)
    }
}

impl Store {
    /// Names the store's file below `home`.
    pub fn file(home: &Path) -> PathBuf {
        home.join("store.sqlite")
    }

    /// Opens the store below `home`, creating or migrating it at need.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(home).map_err(|source| StoreError::Folder {
            path: home.to_owned(),
            source,
        })?;
        Self::open_with(&Self::file(home), OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens the store below `home` if there is one, migrating it at need.
    pub fn open_existing(home: &Path) -> Result<Self, StoreError> {
        let path = Self::file(home);
        if !path.is_file() {
            return Err(StoreError::Missing { path });
        }
        Self::open_with(&path, OpenFlags::empty())
    }

    fn open_with(path: &Path, more: OpenFlags) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        // FULL: NORMAL may lose the last commits at power loss.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -16384;",
        )?;
        connection.set_prepared_statement_cache_capacity(32);
        schema::migrate(&mut connection)?;
        Ok(Self { connection })
    }

    /// Returns what the last scan took in; `None` before the first.
    pub fn feed(&self) -> Result<Option<Feed>, StoreError> {
        rows::feed(&self.connection).map(|feed| feed.map(|(feed, _)| feed))
    }

    /// Returns one record, published or rejected.
    pub fn cve(&self, id: CveId) -> Result<Option<Stored>, StoreError> {
        rows::records(&self.connection, Some(id)).map(|mut records| records.pop())
    }

    /// Returns all records, published and rejected, by id.
    pub fn records(&self) -> Result<Vec<Stored>, StoreError> {
        rows::records(&self.connection, None)
    }

    /// Returns the spans of all published records, by id: enough to say what is affected.
    pub fn lines(&self) -> Result<Vec<Lines>, StoreError> {
        rows::lines(&self.connection)
    }

    /// Returns the records whose newest edition could not be read, with the reason.
    pub fn skipped(&self) -> Result<BTreeMap<CveId, String>, StoreError> {
        rows::skipped(&self.connection)
    }
}

/// Learns the feed's horizons from the spans of all published records.
pub fn horizons(lines: &[Lines]) -> Horizons {
    let mut horizons = Horizons::default();
    for record in lines {
        horizons.learn(&record.spans);
    }
    horizons
}
