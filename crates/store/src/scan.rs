//! The scan: brings the store to one commit of the feed, in one transaction.
//!
//! An increment compares trees, not histories: a record is read again when its folder or one of its
//! files differs from the stored edition. Where the stored commit is at hand, only records are compared
//! of which a file changed since. A rejection moves files without changing them and is seen
//! the same way.

mod compare;
mod read;

use std::collections::BTreeMap;

use tuxtape_core::cve::{Cve, CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::span::Horizons;
use tuxtape_sys::git::{BranchName, Commit, GitError, Repository};
use tuxtape_sys::url;

use self::compare::Compared;
use crate::engine::{Engine, Transaction};
use crate::history::{self, Change};
use crate::rows::{self, Incoming, LastScan};
use crate::tree::Edition;
use crate::{Feed, Store, StoreError, dates};

/// Edition of the reader: raised whenever the same files would make other rows, which then are all
/// made again.
///
/// 1: `.json`, `.dyad`, `.mbox.rejected`. 2: also `.cvss`, `.reference`, `.sha1`.
const READER: i64 = 2;
/// Records that are many for one transaction.
const MANY: usize = 2000;
/// More unreadable records than one in this many, and the feed looks damaged.
const ONE_BAD_IN: usize = 100;
/// A loss of more published records than one in this many, and the feed looks damaged.
const ONE_LOST_IN: usize = 20;

/// What to bring in, and what to accept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source as a person named it, for the record; kept without a password.
    pub source: String,
    /// The feed's branch.
    pub branch: BranchName,
    /// Accept a tip that does not descend from the stored commit.
    pub allow_rewind: bool,
    /// Accept many unreadable records, or the loss of many.
    pub force_shrink: bool,
}

/// What a scan did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The commit the store is at now.
    pub commit: Commit,
    /// Published records in the store.
    pub published: usize,
    /// Rejected records in the store.
    pub rejected: usize,
    /// Records that were new.
    pub added: usize,
    /// Records that came in another edition, rejections among them.
    pub changed: usize,
    /// Records that were in the store and are no longer in the feed.
    pub removed: usize,
    /// Records that came in the same edition, and were read again by a newer program.
    pub reread: usize,
    /// Whether the store was empty before, so that everything is new and nothing is news.
    pub is_first: bool,
    /// What happened to each record, by id; the store keeps it as history, but for a first scan.
    pub changes: Vec<(CveId, Change)>,
    /// Rows written, removed ones included; 0 when the store was up to date.
    pub rows: u64,
    /// Records passed over.
    pub skipped: Vec<Skipped>,
    /// Records that contradict themselves, with the first contradiction.
    pub doubtful: Vec<(CveId, String)>,
    /// How far the feed knows each branch.
    pub horizons: Horizons,
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The record.
    pub id: CveId,
    /// File, line and reason.
    pub why: String,
    /// Whether an older, readable edition stays in the store.
    pub kept: bool,
}

/// Why a scan changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The repository could not be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no records.
    #[error("{source_name} is not the CVE feed: its branch holds no cve/published/YEAR/CVE-*.json")]
    NotAFeed {
        /// URL, folder or bundle.
        source_name: String,
    },
    /// The stored commit is not in the feed's history.
    #[error(
        "the feed's history does not contain the commit of the last scan: stored {stored}, tip {tip}"
    )]
    Rewritten {
        /// What the store is at.
        stored: GitId,
        /// What the feed is at.
        tip: GitId,
    },
    /// The feed went back.
    #[error("the feed is older than the last scan: stored {stored}, tip {tip}")]
    Older {
        /// What the store is at.
        stored: GitId,
        /// What the feed is at.
        tip: GitId,
    },
    /// Too many records are unreadable.
    #[error(
        "the feed looks damaged: {bad} of {all} records cannot be read, the first {first}: {why}"
    )]
    Damaged {
        /// How many.
        bad: usize,
        /// Of how many.
        all: usize,
        /// The first.
        first: CveId,
        /// Its fault.
        why: String,
    },
    /// Too many records are gone.
    #[error("the feed looks damaged: {after} published records, {before} before")]
    Shrunk {
        /// In the store.
        before: usize,
        /// In the feed.
        after: usize,
    },
    /// Reading in parallel broke down.
    #[error("a reader of the feed stopped early")]
    Reader,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records read.
    pub done: usize,
    /// Records to read.
    pub total: usize,
}

/// Brings `store` to the tip of the feed in `repository`. On error the store is as it was.
pub fn scan(
    store: &Store,
    repository: &Repository,
    options: &Options,
) -> Result<Report, ScanError> {
    scan_telling(store, repository, options, &mut |_| {})
}

/// Like [`scan`], and calls `tell` after every record that was read.
pub fn scan_telling(
    store: &Store,
    repository: &Repository,
    options: &Options,
    tell: &mut dyn FnMut(Progress),
) -> Result<Report, ScanError> {
    let tip = repository.tip(&options.branch)?;
    // Before anything is read: what is read must still be so when it is written.
    let transaction = Transaction::begin(store.engine())?;
    let engine = transaction.engine();
    let last = rows::last_scan(engine)?;
    let mut was_skipped = rows::skipped(engine)?;
    let reader_was = last.as_ref().map_or(0, |last| last.reader);
    let same_reader = reader_was == READER;
    let descent = match &last {
        Some(last) if !options.allow_rewind => {
            check_descent(repository, last.feed.commit, tip.id).map(|()| Some(last.feed.commit))
        }
        Some(_) | None => Ok(None),
    };
    let increment = match &descent {
        Ok(Some(old)) if same_reader && was_skipped.is_empty() => {
            compare::changed(repository, engine, *old, tip.id)?
        }
        Ok(_) | Err(_) => None,
    };
    let Compared {
        found,
        stored,
        published_before,
        published,
        all,
    } = match increment {
        Some(compared) => compared,
        None => compare::all(repository, engine, tip.id)?,
    };
    if published == 0 {
        return Err(ScanError::NotAFeed {
            source_name: url::shown(&options.source),
        });
    }
    descent?;
    if published + published_before / ONE_LOST_IN < published_before && !options.force_shrink {
        return Err(ScanError::Shrunk {
            before: published_before,
            after: published,
        });
    }

    let mut work: Vec<(CveId, Edition)> = Vec::new();
    let mut skipped: BTreeMap<CveId, String> = BTreeMap::new();
    for (id, found) in &found {
        match found {
            Err(why) => {
                skipped.insert(*id, why.clone());
            }
            Ok(edition) if same_reader && stored.get(id) == Some(edition) => {}
            Ok(edition) => work.push((*id, *edition)),
        }
    }
    if work.len() > MANY {
        engine.expect_much()?;
    }
    let mut changes: Vec<(CveId, Change)> = Vec::new();
    let mut incoming = Incoming::default();
    let (mut reread, mut done) = (0, 0);
    // Where the store holds nothing yet, what is read is all there is.
    let is_first = last.is_none();
    let mut horizons = (is_first && stored.is_empty()).then(Horizons::default);
    read::all(repository, &work, |id, edition, outcome| {
        done += 1;
        tell(Progress {
            done,
            total: work.len(),
        });
        let cve = match outcome {
            Ok(cve) => cve,
            Err(why) => {
                skipped.insert(id, why);
                return Ok(());
            }
        };
        if let Some(horizons) = &mut horizons {
            horizons.learn(cve.certain_spans());
        }
        match stored.get(&id) {
            None => changes.push((id, appearance(edition.state))),
            Some(was) => {
                match difference(engine, was, &edition, &cve, reader_was)? {
                    Some(change) => changes.push((id, change)),
                    None => reread += 1,
                }
                rows::remove(&transaction, id)?;
            }
        }
        Ok(incoming.add(&transaction, cve, &edition, tip.id)?)
    })?;
    incoming.flush(&transaction)?;

    for id in stored.keys().filter(|id| !found.contains_key(id)) {
        rows::remove(&transaction, *id)?;
        changes.push((*id, Change::Removed));
    }
    if let (Some((first, why)), false) = (skipped.first_key_value(), options.force_shrink)
        && skipped.len() * ONE_BAD_IN > all
    {
        return Err(ScanError::Damaged {
            bad: skipped.len(),
            all,
            first: *first,
            why: why.clone(),
        });
    }
    for (id, why) in &skipped {
        if was_skipped.remove(id).as_ref() != Some(why) {
            rows::skip(&transaction, *id, why)?;
        }
    }
    for id in was_skipped.keys() {
        rows::unskip(&transaction, *id)?;
    }
    changes.sort_unstable();
    if !is_first {
        let time = UtcSeconds::from_unix(u64::try_from(tip.time).unwrap_or(0));
        history::note(&transaction, tip.id, time, changes.iter().copied())?;
    }
    let now = LastScan {
        feed: Feed {
            source: url::shown(&options.source),
            commit: tip.id,
            time: tip.time,
        },
        reader: READER,
        dated: last.as_ref().and_then(|last| last.dated),
    };
    let at_tip = last.is_some_and(|last| {
        // Earlier programs kept a password.
        let is_clean = url::shown(&last.feed.source) == last.feed.source;
        is_clean && (last.feed.commit, last.reader) == (now.feed.commit, now.reader)
    });
    if !at_tip {
        rows::put_last_scan(&transaction, &now)?;
    }
    let rows_written = transaction.written();
    let published = rows::count(engine, State::Published)?;
    let rejected = rows::count(engine, State::Rejected)?;
    transaction.commit_much()?;

    let horizons = match horizons {
        Some(horizons) => horizons,
        None => store.horizons()?,
    };
    let skipped = skipped
        .into_iter()
        .map(|(id, why)| Skipped {
            id,
            why,
            kept: stored.contains_key(&id),
        })
        .collect();
    let (mut added, mut changed, mut removed) = (0, 0, 0);
    for (_, change) in &changes {
        *match change {
            Change::Added | Change::AddedRejected => &mut added,
            Change::Changed
            | Change::Spans
            | Change::Rejected
            | Change::Reinstated
            | Change::Moved => &mut changed,
            Change::Removed => &mut removed,
        } += 1;
    }
    Ok(Report {
        commit: tip,
        published,
        rejected,
        added,
        changed,
        removed,
        reread,
        is_first,
        changes,
        rows: rows_written,
        skipped,
        doubtful: rows::doubtful(store.engine())?,
        horizons,
    })
}

/// Reads from the feed's history when the stored records came and changed, as far as that is not known
/// yet; returns how many dates were learnt. A scan needs none of it: it comes after, because reading
/// the whole history for the first time takes as long as reading all records.
pub fn read_dates(store: &Store, repository: &Repository) -> Result<usize, ScanError> {
    let Some(last) = rows::last_scan(store.engine())? else {
        return Ok(0);
    };
    let tip = last.feed.commit;
    let from = match last.dated {
        Some(dated) if dated == tip => return Ok(0),
        Some(dated) if repository.is_ancestor(dated, tip)? == Some(true) => Some(dated),
        Some(_) | None => None,
    };
    let visits = dates::history(repository, from, tip)?;
    let transaction = Transaction::begin(store.engine())?;
    let engine = transaction.engine();
    // After a known commit only what was touched can be new; unless the history was too long to read.
    let (editions, stored) = if from.is_some() && visits.len() < dates::MOST_COMMITS {
        let touched = dates::touched(&visits);
        (
            rows::editions_of(engine, &touched)?,
            dates::of(engine, &touched)?,
        )
    } else {
        (rows::editions(engine)?, dates::all(engine)?)
    };
    let present = editions.into_keys().collect();
    let learnt = dates::put(&transaction, &visits, &stored, &present)?;
    rows::put_dated(&transaction, tip)?;
    transaction.commit()?;
    Ok(learnt)
}

fn appearance(state: State) -> Change {
    match state {
        State::Published => Change::Added,
        State::Rejected => Change::AddedRejected,
    }
}

/// Says how a record of the store came to be another; `None` where it is the same edition, which
/// another reader had read.
fn difference(
    engine: &dyn Engine,
    was: &Edition,
    edition: &Edition,
    cve: &Cve,
    reader_was: i64,
) -> Result<Option<Change>, StoreError> {
    // The first reader did not see the files beside the record.
    let comparable = if reader_was < 2 {
        Edition {
            cvss: None,
            reference: None,
            sha1: None,
            ..*edition
        }
    } else {
        *edition
    };
    if *was == comparable {
        return Ok(None);
    }
    Ok(Some(match (was.state, edition.state) {
        (State::Published, State::Rejected) => Change::Rejected,
        (State::Rejected, State::Published) => Change::Reinstated,
        _ if rows::spans_of(engine, cve.id)? != cve.spans => Change::Spans,
        _ => {
            let elsewhere = Edition {
                twice: edition.twice,
                ..*was
            };
            if elsewhere == comparable {
                Change::Moved
            } else {
                Change::Changed
            }
        }
    }))
}

fn check_descent(repository: &Repository, stored: GitId, tip: GitId) -> Result<(), ScanError> {
    if stored == tip || repository.is_ancestor(stored, tip)? == Some(true) {
        return Ok(());
    }
    // The stored commit may be missing here altogether, as after a rewrite.
    let went_back = repository.is_ancestor(stored, stored)?.is_some()
        && repository.is_ancestor(tip, stored)? == Some(true);
    Err(if went_back {
        ScanError::Older { stored, tip }
    } else {
        ScanError::Rewritten { stored, tip }
    })
}
