//! What of the feed differs from the store: all of both compared, or the files that changed since.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::cve::{CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_sys::git::{Entry, Repository};

use super::ScanError;
use crate::engine::Engine;
use crate::rows;
use crate::tree::{self, Edition, Found};

/// Most records that are looked at one by one.
const FEW: usize = 2000;

/// The records that may differ, as the feed and as the store has them, among all.
pub(super) struct Compared {
    /// In the feed.
    pub(super) found: BTreeMap<CveId, Found>,
    /// In the store.
    pub(super) stored: BTreeMap<CveId, Edition>,
    /// Published records of the whole store.
    pub(super) published_before: usize,
    /// Published records of the whole feed.
    pub(super) published: usize,
    /// All records of the whole feed.
    pub(super) all: usize,
}

/// Compares everything.
pub(super) fn all(
    repository: &Repository,
    engine: &dyn Engine,
    tip: GitId,
) -> Result<Compared, ScanError> {
    let entries = repository.files(tip, &tree::FOLDERS.map(|(folder, _)| folder))?;
    let found = tree::records(&entries);
    let stored = rows::editions(engine)?;
    Ok(Compared {
        published_before: published_editions(&stored),
        published: published(&found),
        all: found.len(),
        found,
        stored,
    })
}

/// Compares the records of which a file changed between `old`, which the whole store was made from,
/// and `tip`; `None` where everything must be compared. No record may have been unreadable in `old`,
/// because the store does not say which files those have.
pub(super) fn changed(
    repository: &Repository,
    engine: &dyn Engine,
    old: GitId,
    tip: GitId,
) -> Result<Option<Compared>, ScanError> {
    let published_before = rows::count(engine, State::Published)?;
    let all_before = published_before + rows::count(engine, State::Rejected)?;
    let mut touched: BTreeSet<CveId> = BTreeSet::new();
    let mut years: BTreeSet<u16> = BTreeSet::new();
    if old != tip {
        let folders = tree::FOLDERS.map(|(folder, _)| folder);
        // The old tree may not be here any more.
        let Ok(paths) = repository.changed(old, tip, &folders) else {
            return Ok(None);
        };
        for place in paths.iter().filter_map(|path| tree::place(path)) {
            if place.year != place.id.year() {
                return Ok(None);
            }
            touched.insert(place.id);
            years.insert(place.year);
        }
    }
    if touched.len() > FEW {
        return Ok(None);
    }
    let stored = rows::editions_of(engine, &touched)?;
    // The store does not say where the other one of two lies.
    if stored.values().any(|edition| edition.twice) {
        return Ok(None);
    }
    let is_touched =
        |entry: &Entry| tree::place(&entry.path).is_some_and(|place| touched.contains(&place.id));
    let folders: Vec<String> = years
        .iter()
        .flat_map(|year| tree::FOLDERS.map(|(folder, _)| format!("{folder}/{year}")))
        .collect();
    let mut entries = Vec::new();
    // No folder at all would be all of them.
    if !folders.is_empty() {
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        entries = repository.files(tip, &folders)?;
        entries.retain(is_touched);
    }
    let found = tree::records(&entries);
    let after = |before: usize, stored: usize, found: usize| {
        before.checked_sub(stored).map(|rest| rest + found)
    };
    let counts = (
        after(
            published_before,
            published_editions(&stored),
            published(&found),
        ),
        after(all_before, stored.len(), found.len()),
    );
    let (Some(published), Some(all)) = counts else {
        return Ok(None);
    };
    Ok(Some(Compared {
        found,
        stored,
        published_before,
        published,
        all,
    }))
}

fn published_editions(editions: &BTreeMap<CveId, Edition>) -> usize {
    editions
        .values()
        .filter(|edition| edition.state == State::Published)
        .count()
}

fn published(found: &BTreeMap<CveId, Found>) -> usize {
    // An unreadable record is still one: only missing ones count as lost.
    let rejected = |found: &Found| {
        found.as_ref().is_ok_and(|edition| match edition.state {
            State::Published => false,
            State::Rejected => true,
        })
    };
    found.values().filter(|found| !rejected(found)).count()
}
