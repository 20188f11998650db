//! The feed's tree: which files make up which record.

use std::collections::BTreeMap;

use tuxtape_core::cve::{CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_sys::git::{Entry, EntryKind};

/// Folders of the feed that hold records. Others look alike and are none (`cve/testing/published`).
pub const FOLDERS: [(&str, State); 2] = [
    ("cve/published", State::Published),
    ("cve/rejected", State::Rejected),
];

/// One edition of a record: its state and the files it is made from. A rejection moves the files and
/// changes no byte of them, so the state belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    /// The folder it lies in.
    pub state: State,
    /// The `.json` file.
    pub json: GitId,
    /// The `.dyad` file; not read for a rejected record.
    pub dyad: Option<GitId>,
    /// The `.mbox.rejected` file; not read for a published record.
    pub announcement: Option<GitId>,
    /// The `.cvss` file.
    pub cvss: Option<GitId>,
    /// The `.reference` file.
    pub reference: Option<GitId>,
    /// The `.sha1` file; not read for a rejected record.
    pub sha1: Option<GitId>,
    /// Whether the record lies in both folders.
    pub twice: bool,
}

/// What the tree holds for one id.
pub type Found = Result<Edition, String>;

#[derive(Default)]
struct Files {
    json: Option<GitId>,
    dyad: Option<GitId>,
    announcement: Option<GitId>,
    cvss: Option<GitId>,
    reference: Option<GitId>,
    sha1: Option<GitId>,
    fault: Option<String>,
}

/// Sorts the entries of a feed into records; `Err` says why one cannot be read.
pub fn records(entries: &[Entry]) -> BTreeMap<CveId, Found> {
    let mut files: BTreeMap<(CveId, State), Files> = BTreeMap::new();
    // A listing names the files of one record in a row.
    let mut last: Option<((CveId, State), Files)> = None;
    for entry in entries {
        let Some(Place {
            id,
            state,
            year,
            suffix,
        }) = place(&entry.path)
        else {
            continue;
        };
        let is_elsewhere = year != id.year();
        if is_elsewhere && !makes_record(state, suffix) {
            // A scan of what changed looks for strays nowhere: they must not matter.
            continue;
        }
        if last.as_ref().is_none_or(|(key, _)| *key != (id, state)) {
            let before = files.remove(&(id, state)).unwrap_or_default();
            files.extend(last.replace(((id, state), before)));
        }
        let Some((_, files)) = &mut last else {
            continue;
        };
        if is_elsewhere {
            files.fault = Some(format!("{}: the folder is not the id's year", entry.path));
        }
        let Some(slot) = files.slot(suffix) else {
            continue;
        };
        *slot = Some(entry.id);
        match entry.kind {
            EntryKind::File => {}
            EntryKind::Other => files.fault = Some(format!("{}: not a plain file", entry.path)),
        }
    }
    files.extend(last);
    let mut records: BTreeMap<CveId, Found> = BTreeMap::new();
    for ((id, state), files) in files {
        // Leftovers of a rejected record can stay behind in `published` without a `.json`.
        if files.json.is_none() && (files.dyad.is_none() || state == State::Rejected) {
            continue;
        }
        let found = edition(state, files);
        match records.get_mut(&id) {
            None => {
                records.insert(id, found);
            }
            // Published comes first in the order of states, and stays: a withdrawal in doubt is none.
            Some(Ok(edition)) => edition.twice = true,
            Some(Err(_)) => {}
        }
    }
    records
}

/// Tells whether a file alone is enough for a record, if a faulty one.
fn makes_record(state: State, suffix: &str) -> bool {
    match state {
        // Leftovers of a rejected record can stay behind in `published` without a `.json`.
        State::Published => suffix == ".json" || suffix == ".dyad",
        State::Rejected => suffix == ".json",
    }
}

fn edition(state: State, files: Files) -> Found {
    if let Some(fault) = files.fault {
        return Err(fault);
    }
    let json = files.json.ok_or(".json: missing")?;
    let (dyad, sha1, announcement) = match state {
        State::Published => (Some(files.dyad.ok_or(".dyad: missing")?), files.sha1, None),
        State::Rejected => (None, None, files.announcement),
    };
    Ok(Edition {
        state,
        json,
        dyad,
        announcement,
        cvss: files.cvss,
        reference: files.reference,
        sha1,
        twice: false,
    })
}

/// Where a file of a record lies.
pub(crate) struct Place<'a> {
    pub(crate) id: CveId,
    pub(crate) state: State,
    pub(crate) year: u16,
    /// From the first dot on.
    pub(crate) suffix: &'a str,
}

impl Place<'_> {
    /// Tells whether the file makes up the record; others are announcements and notes.
    pub(crate) fn is_read(&self) -> bool {
        Files::default().slot(self.suffix).is_some()
    }
}

impl Files {
    fn slot(&mut self, suffix: &str) -> Option<&mut Option<GitId>> {
        Some(match suffix {
            ".json" => &mut self.json,
            ".dyad" => &mut self.dyad,
            ".mbox.rejected" => &mut self.announcement,
            ".cvss" => &mut self.cvss,
            ".reference" => &mut self.reference,
            ".sha1" => &mut self.sha1,
            _ => return None,
        })
    }
}

/// Reads `cve/published/2024/CVE-2024-14027.json`, anchored at the root and nothing looser.
pub(crate) fn place(path: &str) -> Option<Place<'_>> {
    let (rest, state) = FOLDERS.iter().find_map(|(folder, state)| {
        Some((path.strip_prefix(folder)?.strip_prefix('/')?, *state))
    })?;
    let (year, name) = rest.split_once('/')?;
    let end = name.find('.').unwrap_or(name.len());
    let (id, suffix) = name.split_at_checked(end)?;
    if year.len() != 4 || name.contains('/') {
        return None;
    }
    Some(Place {
        id: id.parse().ok()?,
        state,
        year: year.parse().ok()?,
        suffix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(paths: &[&str]) -> Vec<String> {
        let entries: Vec<Entry> = paths
            .iter()
            .map(|path| Entry {
                kind: if path.contains("link") {
                    EntryKind::Other
                } else {
                    EntryKind::File
                },
                id: GitId::from_bytes([1; 20]),
                path: path.replace("-link", ""),
            })
            .collect();
        records(&entries)
            .into_iter()
            .map(|(id, found)| match found {
                Ok(edition) if edition.twice => format!("{id} twice"),
                Ok(edition) => format!("{id} {}", edition.state),
                Err(why) => format!("{id}: {why}"),
            })
            .collect()
    }

    #[test]
    fn only_the_two_folders_hold_records() {
        let paths = [
            "cve/published/2024/CVE-2024-1001.json",
            "cve/published/2024/CVE-2024-1001.dyad",
            "cve/rejected/2024/CVE-2024-1002.json",
            "cve/rejected/2024/CVE-2024-1002.mbox.rejected",
            "cve/testing/published/2024/CVE-2024-1003.json",
            "x/cve/published/2024/CVE-2024-1004.json",
            "cve/published/CVE-2024-1005.json",
            "cve/published/2024/old/CVE-2024-1006.json",
            "cve/published2/2024/CVE-2024-1007.json",
            "cve/reserved/2024/CVE-2024-1008",
            "cve/published/2024/README",
            "cve/published/2023/CVE-2024-1001.cvss",
            "cve/rejected/2023/CVE-2024-1002.dyad",
        ];
        assert_eq!(
            found(&paths),
            ["CVE-2024-1001 published", "CVE-2024-1002 rejected"]
        );
    }

    #[test]
    fn leftovers_of_a_rejected_record_are_not_a_second_one() {
        let paths = [
            "cve/published/2024/CVE-2024-1001.vulnerable",
            "cve/rejected/2024/CVE-2024-1001.json",
        ];
        assert_eq!(found(&paths), ["CVE-2024-1001 rejected"]);
    }

    #[test]
    fn a_record_in_both_folders_is_noticed() {
        let paths = [
            "cve/published/2024/CVE-2024-1001.json",
            "cve/published/2024/CVE-2024-1001.dyad",
            "cve/rejected/2024/CVE-2024-1001.json",
        ];
        assert_eq!(found(&paths), ["CVE-2024-1001 twice"]);
    }

    #[test]
    fn missing_files_links_and_wrong_folders_are_named() {
        let paths = [
            "cve/published/2024/CVE-2024-1001.json",
            "cve/published/2024/CVE-2024-1002.dyad",
            "cve/published/2024/CVE-2024-1003.json-link",
            "cve/published/2023/CVE-2024-1004.json",
        ];
        assert_eq!(
            found(&paths),
            [
                "CVE-2024-1001: .dyad: missing",
                "CVE-2024-1002: .json: missing",
                "CVE-2024-1003: cve/published/2024/CVE-2024-1003.json: not a plain file",
                "CVE-2024-1004: cve/published/2023/CVE-2024-1004.json: the folder is not the id's year",
            ]
        );
    }
}
