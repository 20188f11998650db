//! One source after the other is asked for each CVE, and what it gave is put together.

use std::collections::BTreeSet;
use std::path::Path;

use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::git_id::GitId;
use tuxtape_core::version::Branch;

use crate::fix_source::Origin;
use crate::fix_source::choose::Candidate;
use crate::fix_source::commit::CommitDiff;
use crate::fix_source::folder::Patches;
use crate::fix_source::found::{DiffKind, Found, FoundDiff, PassedOver, Tie};
use crate::fix_source::repository::{self, Commits};
use crate::fix_source::spec::{GitPlace, SourceSpec};
use crate::fix_source::tie;
use crate::unified;

/// Tells of a diff that was found whether no further one is needed.
pub(super) type Enough<'a> = &'a dyn Fn(&FoundDiff) -> bool;

/// One CVE while its sources are asked.
pub(super) struct Asked<'a> {
    pub(super) cve: &'a Cve,
    pub(super) candidates: Vec<Candidate>,
    pub(super) found: Found,
}

impl Asked<'_> {
    /// Where the record names no fix on the kernel's own branch, looks for one by what its commits say.
    pub(super) fn look_in_branch(&mut self, place: &GitPlace, branch: Branch) {
        let is_own = |candidate: &Candidate| candidate.kind == DiffKind::OwnBranch;
        if self.cve.mainline_fixes.is_empty() || self.candidates.iter().any(is_own) {
            return;
        }
        let commits = repository::backports(place, &self.cve.mainline_fixes, branch);
        if !commits.is_empty() {
            let note = format!(
                "found on branch linux-{branch}.y by its message; the record names no fix there"
            );
            self.candidates.insert(
                0,
                Candidate {
                    kind: DiffKind::OwnBranch,
                    commits,
                    notes: vec![note],
                },
            );
        }
    }

    /// Puts the commits of `candidate` together; tells whether they all were there.
    pub(super) fn take(
        &mut self,
        source: &SourceSpec,
        candidate: &Candidate,
        commits: &Commits,
        origin: &dyn Fn(Vec<GitId>) -> Origin,
    ) -> bool {
        let mut whole: Vec<&CommitDiff> = Vec::new();
        let mut lacking = Vec::new();
        for id in &candidate.commits {
            match commits.get(id) {
                Some(Ok(commit)) => whole.push(commit),
                Some(Err(error)) => lacking.push(format!("{}: {error}", id.short())),
                None => lacking.push(format!("{}: it was not asked for", id.short())),
            }
        }
        if !lacking.is_empty() {
            self.found.passed_over.push(PassedOver {
                what: format!("{source} ({})", candidate.kind),
                why: format!("commit {}", lacking.join("; commit ")),
            });
            return false;
        }
        // A branch's own order; a source without times leaves the record's.
        if whole.iter().all(|commit| commit.time > 0) {
            whole.sort_by_key(|commit| commit.time);
        }
        let mut notes = candidate.notes.clone();
        for commit in &whole {
            notes.extend(commit_notes(commit, candidate.kind, self.cve));
        }
        let origin = origin(whole.iter().map(|commit| commit.id).collect());
        if matches!(origin, Origin::Web { .. }) {
            notes.push("as the server gave it: a patch does not prove its commit's id".to_owned());
        }
        self.found.diffs.push(FoundDiff {
            origin,
            kind: candidate.kind,
            text: whole.iter().map(|commit| commit.diff.as_str()).collect(),
            whole: whole.iter().map(|commit| commit.whole.as_deref()).collect(),
            is_part: false,
            tie: Tie::Commit,
            notes,
        });
        true
    }
}

/// Says of each CVE without a candidate that there is nothing to ask for.
pub(super) fn say_if_unknown(source: &SourceSpec, asked: &mut [Asked<'_>]) {
    for asked in asked.iter_mut().filter(|asked| asked.candidates.is_empty()) {
        asked.found.passed_over.push(PassedOver {
            what: source.to_string(),
            why: format!(
                "the record of {} names no commit that fixes it on this branch, a newer one or mainline",
                asked.cve.id
            ),
        });
    }
}

/// Asks a source for the nearest candidate of each CVE, then for the next of those for which that was
/// not there or not enough.
pub(super) fn one_by_one(
    source: &SourceSpec,
    asked: &mut [Asked<'_>],
    enough: Enough<'_>,
    mut read: impl FnMut(&BTreeSet<GitId>) -> Commits,
    origin: &dyn Fn(Vec<GitId>) -> Origin,
) {
    let mut open: Vec<&mut Asked<'_>> = asked.iter_mut().collect();
    for rank in 0.. {
        open.retain(|asked| asked.candidates.len() > rank);
        if open.is_empty() {
            break;
        }
        let candidates = open.iter().filter_map(|asked| asked.candidates.get(rank));
        let commits = read(&commits_of(candidates));
        open.retain_mut(|asked| {
            let candidate = asked.candidates.get(rank).cloned();
            let took =
                candidate.is_some_and(|candidate| asked.take(source, &candidate, &commits, origin));
            let last = asked.found.diffs.last().filter(|_| took);
            !last.is_some_and(enough)
        });
    }
}

pub(super) fn commits_of<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> BTreeSet<GitId> {
    candidates
        .flat_map(|it| it.commits.iter().copied())
        .collect()
}

/// Says what is worth knowing of one commit.
fn commit_notes(commit: &CommitDiff, kind: DiffKind, cve: &Cve) -> Vec<String> {
    let short = commit.id.short();
    let moves = commit.renames.iter();
    let mut notes: Vec<String> = moves
        .map(|(old, new)| format!("commit {short} moves {old} to {new}"))
        .collect();
    let backport = match kind {
        DiffKind::OwnBranch | DiffKind::NewerBranch(_) => true,
        DiffKind::Mainline | DiffKind::Hand | DiffKind::Package => false,
    };
    if !backport || cve.mainline_fixes.is_empty() || cve.mainline_fixes.contains(&commit.id) {
        return notes;
    }
    let upstream = commit.upstream();
    if upstream.is_empty() {
        notes.push(format!(
            "commit {short} does not say of which mainline commit it is the backport"
        ));
    } else if !upstream.iter().any(|id| cve.mainline_fixes.contains(id)) {
        let others: Vec<String> = upstream.iter().map(GitId::short).collect();
        notes.push(format!(
            "suspect: commit {short} says that it is the backport of {}, which the record does not name",
            others.join(", ")
        ));
    }
    notes
}

pub(super) fn ask_folder(path: &Path, source: &SourceSpec, asked: &mut [Asked<'_>]) {
    let patches = Patches::list(path);
    for Asked { cve, found, .. } in asked {
        let mut pass = |why: String| {
            found.passed_over.push(PassedOver {
                what: source.to_string(),
                why,
            });
        };
        let patches = match &patches {
            Ok(patches) => patches,
            Err(error) => {
                pass(repository::told(error));
                continue;
            }
        };
        let (mut any, mut lacking) = (false, false);
        let mut parts: Vec<FoundDiff> = Vec::new();
        for patch in patches.of(cve.id) {
            any = true;
            match patch.read() {
                // Listed twice.
                Ok(text) if parts.iter().any(|part| part.text == text) => {}
                Ok(text) => parts.push(FoundDiff {
                    origin: Origin::Folder {
                        file: patch.file.clone(),
                        cves: patch.cves.clone(),
                    },
                    kind: DiffKind::Hand,
                    tie: tie::of(&text, cve, patch.is_listed),
                    text,
                    whole: None,
                    is_part: false,
                    notes: closes_also(cve.id, &patch.cves),
                }),
                Err(error) => {
                    lacking = true;
                    pass(error.to_string());
                }
            }
        }
        if !any {
            pass(format!("it has no patch for {}", cve.id));
        }
        found.diffs.extend(together(parts, lacking));
    }
}

/// Puts the patches that a folder has for one CVE together, in their order: one diff where each changes
/// other files. Where two change the same file, or where some are `lacking`, each stays a part.
fn together(mut parts: Vec<FoundDiff>, lacking: bool) -> Vec<FoundDiff> {
    if parts.len() < 2 && !lacking {
        return parts;
    }
    if !lacking && let Some(text) = joined(&parts) {
        let names: Vec<String> = parts.iter().map(|part| part.origin.to_string()).collect();
        let untied = parts
            .iter()
            .position(|part| matches!(part.tie, Tie::Untied { .. }));
        let untied = untied
            .and_then(|at| parts.get(at))
            .map(|part| part.tie.clone());
        let mut whole = parts.swap_remove(0);
        whole.tie = untied.unwrap_or(whole.tie);
        for part in parts {
            let more = part.notes.into_iter();
            let more: Vec<String> = more.filter(|note| !whole.notes.contains(note)).collect();
            whole.notes.extend(more);
        }
        whole.text = text;
        whole
            .notes
            .push(format!("put together of {}", names.join(", ")));
        return vec![whole];
    }
    for part in &mut parts {
        part.is_part = true;
        part.notes.push(
            "one of several patches for this CVE that could not be put together: it alone does not show \
             that the fix is there"
                .to_owned(),
        );
    }
    parts
}

/// Joins diffs that change different files; `None` where two change the same one, or where the whole
/// would not read as its parts do.
fn joined(parts: &[FoundDiff]) -> Option<String> {
    let paths = |text: &str| -> Option<Vec<String>> {
        let diff = unified::parse(text.as_bytes()).ok()?;
        Some(
            diff.files
                .iter()
                .map(|file| file.path.to_string())
                .collect(),
        )
    };
    let mut all = Vec::new();
    let mut text = String::new();
    for part in parts {
        let own = paths(&part.text)?;
        if own.iter().any(|path| all.contains(path)) {
            return None;
        }
        all.extend(own);
        text.push_str(&part.text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    (paths(&text)? == all).then_some(text)
}

fn closes_also(cve: CveId, all: &[CveId]) -> Vec<String> {
    let others: Vec<String> = all
        .iter()
        .filter(|other| **other != cve)
        .map(ToString::to_string)
        .collect();
    if others.is_empty() {
        Vec::new()
    } else {
        vec![format!("it closes {} too", others.join(", "))]
    }
}
