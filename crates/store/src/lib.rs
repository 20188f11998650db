//! What TuxTape remembers, in SQLite or PostgreSQL; domain types in and out.
//!
//! A [`Store`] is opened by its [`Location`]: a SQLite file, or a PostgreSQL database by URL. Both run
//! the same statements and keep the same rows. Every method blocks on the disk or the server; every
//! change is one transaction, and writers take turns. Nothing of a database shows in this interface.
//!
//! | what | in | out |
//! |---|---|---|
//! | the feed's records | [`scan::scan`] | [`Store::feed`], [`Store::cve`], [`Store::records`], [`Store::records_of`], [`Store::lines`], [`Store::each_lines`], [`Store::skipped`], [`Store::dump`], [`Store::horizons`] |
//! | when they came and changed | [`scan::scan`], [`scan::read_dates`] | [`Store::dates`], [`Store::history`], [`Store::history_of`], [`Stored::dates`] |
//! | outside evidence | [`Store::put_signals`] | [`Store::signals`], [`Store::signals_of`], [`Store::stamps`], [`Store::orphans`] |
//! | triage | [`Store::decide`] | [`Store::decisions`], [`Store::decisions_of`] |
//! | notices | [`Store::post`] | [`Store::due`], [`Store::outbox`], [`Store::notices`] |
//! | how telling went | [`Store::open_channel`], [`Store::delivered`], [`Store::failed`], [`Store::gave_up`] | [`Store::outbox`] |
//! | who is at work | [`Store::lock`] | |
//!
//! ```no_run
//! use std::path::Path;
//! use tuxtape_store::{Location, Store};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open_existing(&Location::below(Path::new("/var/lib/tuxtape")))?;
//! let version = "6.1.170".parse()?;
//! for record in store.lines()? {
//!     if record.read(version).is_affected() {
//!         println!("{}", record.id);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Statements are written once, in the dialect that both engines share; data definitions lie in
//! `sql/`. No SQL compares versions, because the rules for that are `tuxtape_core`'s alone.
#![warn(missing_docs)]

mod dates;
mod decisions;
mod dump;
mod engine;
pub mod history;
mod location;
pub mod outbox;
mod rows;
pub mod scan;
mod schema;
pub mod signals;
mod spans;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::span::{self, Horizons, Reading, Span};
use tuxtape_core::version::KernelVersion;

pub use self::engine::DatabaseError;
pub use self::location::{Location, NotALocation};

use self::engine::Engine;
use self::engine::postgres::Postgres;
use self::engine::sqlite::{IfMissing, Sqlite};
use self::location::Place;

/// The store, open. One thread uses it at a time; others open their own.
#[derive(Debug)]
pub struct Store {
    engine: Box<dyn Engine>,
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
    /// When it was published and last changed, where the feed's history was read.
    pub dates: Option<Dates>,
}

/// When a record came and last changed, as the feed's history says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// When it was published first.
    pub published: Published,
    /// Time of the newest commit that touched it; where none at hand did, of the oldest at hand.
    pub changed: UtcSeconds,
}

/// When a record was published first: it holds no date, so the feed's history has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The commit of this time brought it.
    At(UtcSeconds),
    /// The history at hand begins at this time, with the record already in it.
    By(UtcSeconds),
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
    /// The server cannot be reached, or lets us not in.
    #[error("could not connect to {place}")]
    Connect {
        /// The server and the database, without a password.
        place: String,
        /// What was said.
        source: DatabaseError,
    },
    /// The file cannot be opened as a store, or not written to where it must be: SQLite keeps files
    /// beside it even for those who only read.
    #[error("could not open {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What was said.
        source: DatabaseError,
    },
    /// The database refused.
    #[error("the store failed")]
    Database(#[source] DatabaseError),
    /// The folder could not be made.
    #[error("could not create {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The lock file could not be used.
    #[error(transparent)]
    Lock(#[from] tuxtape_sys::lock::LockError),
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

/// How asking for the lock went.
#[derive(Debug)]
pub enum Lock<'s> {
    /// It is ours until this is dropped; a crash gives it back, too.
    Ours(Held<'s>),
    /// Somebody else holds it.
    Theirs {
        /// What they left to be read: who they are, and since when. May be empty.
        note: String,
    },
}

/// The lock, held.
#[derive(Debug)]
pub struct Held<'s>(&'s Store);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Where this fails the connection is gone, and the lock with it.
        self.0.engine.unlock().ok();
    }
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

    /// Returns the spans, or none where the record contradicts itself: see [`Cve::certain_spans`].
    ///
    /// [`Cve::certain_spans`]: tuxtape_core::cve::Cve::certain_spans
    pub fn certain_spans(&self) -> &[Span] {
        if self.doubtful || !self.disputes.is_empty() {
            &[]
        } else {
            &self.spans
        }
    }
}

impl Store {
    /// Opens a store, creating or migrating it at need. A PostgreSQL database must exist, and may be
    /// empty.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        if let Place::File(path) = &location.0
            && let Some(folder) = path.parent()
        {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        Self::open_with(location, IfMissing::Create)
    }

    /// Opens a store if there is one, migrating it at need.
    pub fn open_existing(location: &Location) -> Result<Self, StoreError> {
        if let Place::File(path) = &location.0
            && !path.is_file()
        {
            return Err(StoreError::Missing { path: path.clone() });
        }
        Self::open_with(location, IfMissing::Fail)
    }

    fn open_with(location: &Location, missing: IfMissing) -> Result<Self, StoreError> {
        let engine: Box<dyn Engine> = match &location.0 {
            Place::File(path) => Box::new(Sqlite::open(path, missing)?),
            Place::Server(config) => Box::new(Postgres::connect(config, &location.to_string())?),
        };
        schema::migrate(&*engine)?;
        Ok(Self { engine })
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Takes the lock of those who scan or send notices, without waiting, and leaves `note` for others
    /// to read. It holds across processes, and on PostgreSQL across machines.
    pub fn lock(&self, note: &str) -> Result<Lock<'_>, StoreError> {
        Ok(match self.engine.try_lock(note)? {
            None => Lock::Ours(Held(self)),
            Some(note) => Lock::Theirs { note },
        })
    }

    /// Returns what the last scan took in; `None` before the first.
    pub fn feed(&self) -> Result<Option<Feed>, StoreError> {
        Ok(rows::last_scan(self.engine())?.map(|last| last.feed))
    }

    /// Returns one record, published or rejected.
    pub fn cve(&self, id: CveId) -> Result<Option<Stored>, StoreError> {
        rows::records(self.engine(), Some(id)).map(|mut records| records.pop())
    }

    /// Returns all records, published and rejected, by id.
    pub fn records(&self) -> Result<Vec<Stored>, StoreError> {
        rows::records(self.engine(), None)
    }

    /// Returns the records of `ids` that there are, by id; enough for those that [`Store::lines`] did
    /// not settle, because the texts of all take long to read.
    pub fn records_of(&self, ids: &BTreeSet<CveId>) -> Result<Vec<Stored>, StoreError> {
        let ids: Vec<CveId> = ids.iter().copied().collect();
        rows::records_of(self.engine(), &ids)
    }

    /// Returns the spans of all published records, by id: enough to say what is affected.
    pub fn lines(&self) -> Result<Vec<Lines>, StoreError> {
        let mut lines = Vec::new();
        self.each_lines(&mut |record| lines.push(record.clone()))?;
        Ok(lines)
    }

    /// Hands what [`Store::lines`] returns to `take`, one after the other. `take` must not use the
    /// store.
    pub fn each_lines(&self, take: &mut dyn FnMut(&Lines)) -> Result<(), StoreError> {
        rows::each_lines(self.engine(), take)
    }

    /// Learns the feed's horizons from the spans of all published records that do not contradict
    /// themselves.
    pub fn horizons(&self) -> Result<Horizons, StoreError> {
        let mut horizons = Horizons::default();
        self.each_lines(&mut |record| horizons.learn(record.certain_spans()))?;
        Ok(horizons)
    }

    /// Returns the records whose newest edition could not be read, with the reason.
    pub fn skipped(&self) -> Result<BTreeMap<CveId, String>, StoreError> {
        rows::skipped(self.engine())
    }

    /// Returns when records were published and last changed, as far as the feed's history was read.
    /// Records that are gone keep their dates.
    pub fn dates(&self) -> Result<BTreeMap<CveId, Dates>, StoreError> {
        dates::all(self.engine())
    }
}

/// Learns the feed's horizons from the spans of all published records that do not contradict
/// themselves.
pub fn horizons(lines: &[Lines]) -> Horizons {
    let mut horizons = Horizons::default();
    for record in lines {
        horizons.learn(record.certain_spans());
    }
    horizons
}
