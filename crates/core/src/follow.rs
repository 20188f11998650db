//! Fixes that did not last: later records that revert or correct the fix of an earlier one.
//!
//! Three things count as proof, strongest first: a span of the later record says that the earlier
//! one's fix brought its bug; its title reverts the earlier one's fix; its description says in so many
//! words that it reverts or completes that commit. A mere mention counts for nothing: two out of three
//! name a sibling ("similar to commit …"), and a warning that is mostly wrong is soon not read.

mod text;

use crate::cve::{Cve, CveId, State};
use crate::git_id::GitId;
use crate::span::Landing;
use crate::version::KernelVersion;

/// A fix and the record that came after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// Whose fix it was.
    pub earlier: CveId,
    /// What came after.
    pub later: CveId,
    /// What became of the fix.
    pub turn: Turn,
    /// Why this is said; never empty.
    pub proofs: Vec<Proof>,
}

/// What became of a fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// It was taken back: from there on the bug is open again.
    Reverted,
    /// It was wrong or incomplete: whoever carries it wants the later one too.
    Corrected,
}

/// Why a record is held for the follow-up of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// The later record's bug came with this commit, a fix of the earlier one.
    Introduced(Landing),
    /// The later record's title reverts this title, the earlier one's.
    Title(String),
    /// The later record's description names this commit, a fix of the earlier one.
    Text {
        /// The commit.
        commit: GitId,
        /// The words.
        words: String,
    },
}

/// Lists all follow-ups among `records`, by earlier and later id.
///
/// Only published records are asked: a withdrawn one has no fix that anybody should carry.
pub fn find(records: &[Cve]) -> Vec<FollowUp> {
    let published: Vec<&Cve> = records
        .iter()
        .filter(|cve| cve.state == State::Published)
        .collect();
    let fixes = Fixes::collect(&published);
    let titles = Titles::collect(&published);
    let mut found: Vec<(CveId, CveId, Turn, Proof)> = Vec::new();
    for later in &published {
        for bug in later.spans.iter().filter_map(|span| span.introduced) {
            for earlier in fixes.of(bug.commit) {
                found.push((earlier, later.id, Turn::Corrected, Proof::Introduced(bug)));
            }
        }
        if let Some(title) = text::reverted_title(&later.title) {
            for earlier in titles.of(title) {
                // The same title can be applied, reverted and applied again: the record then stands
                // for the second time, and a revert before that says nothing of it.
                if !is_older(later, earlier) {
                    let proof = Proof::Title(title.to_owned());
                    found.push((earlier.id, later.id, Turn::Reverted, proof));
                }
            }
        }
        for mention in text::mentions(&later.description) {
            for (commit, earlier) in fixes.starting_with(mention.digits) {
                if let Some(turn) = mention.turn() {
                    let words = mention.words();
                    found.push((earlier, later.id, turn, Proof::Text { commit, words }));
                }
            }
        }
    }
    found.retain(|(earlier, later, ..)| earlier != later);
    collect(found)
}

/// Feeds `bytes` to everything that reads titles and descriptions, for fuzzing; never panics.
pub fn exercise(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    text::reverted_title(&text);
    for mention in text::mentions(&text) {
        mention.turn();
        mention.words();
    }
}

fn collect(mut found: Vec<(CveId, CveId, Turn, Proof)>) -> Vec<FollowUp> {
    found.sort();
    found.dedup();
    let mut follow_ups: Vec<FollowUp> = Vec::new();
    for (earlier, later, turn, proof) in found {
        match follow_ups.last_mut() {
            Some(last) if (last.earlier, last.later) == (earlier, later) => {
                // Reverted sorts first and stays: it is the graver news.
                last.turn = last.turn.min(turn);
                last.proofs.push(proof);
            }
            Some(_) | None => follow_ups.push(FollowUp {
                earlier,
                later,
                turn,
                proofs: vec![proof],
            }),
        }
    }
    for follow_up in &mut follow_ups {
        follow_up.proofs.sort();
        follow_up.proofs.dedup();
    }
    follow_ups
}

/// Tells whether `this` was fixed in mainline before `that` was; not when either is unknown.
fn is_older(this: &Cve, that: &Cve) -> bool {
    match (mainline_fix(this), mainline_fix(that)) {
        (Some(this), Some(that)) => this < that,
        (Some(_) | None, _) => false,
    }
}

fn mainline_fix(cve: &Cve) -> Option<KernelVersion> {
    cve.spans
        .iter()
        .filter_map(|span| span.fixed)
        .map(|fix| fix.version)
        .filter(|version| version.is_mainline())
        .max()
}

/// Fix commits with whose fix they are, sorted; each with its first eight bytes as a number before it,
/// which settles nearly every comparison at once.
struct Fixes(Vec<(u64, GitId, CveId)>);

fn first_bytes(commit: GitId) -> u64 {
    commit
        .as_bytes()
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Fixes {
    fn collect(records: &[&Cve]) -> Self {
        let mut fixes = Vec::new();
        for cve in records {
            let landed = cve.spans.iter().filter_map(|span| span.fixed);
            let commits = landed.map(|fix| fix.commit);
            fixes.extend(
                commits
                    .chain(cve.mainline_fixes.iter().copied())
                    .map(|commit| (first_bytes(commit), commit, cve.id)),
            );
        }
        fixes.sort_unstable();
        fixes.dedup();
        Self(fixes)
    }

    fn of(&self, commit: GitId) -> impl Iterator<Item = CveId> {
        self.from(commit)
            .take_while(move |(_, fix, _)| *fix == commit)
            .map(|(_, _, cve)| *cve)
    }

    fn starting_with(&self, digits: &str) -> impl Iterator<Item = (GitId, CveId)> {
        let bound = |rest: u8| {
            let mut whole = [rest; 40];
            let place = whole.get_mut(..digits.len())?;
            place.copy_from_slice(digits.as_bytes());
            GitId::from_hex(&whole).ok()
        };
        let bounds = bound(b'0').zip(bound(b'f'));
        bounds.into_iter().flat_map(|(lowest, highest)| {
            let from = self.from(lowest);
            from.take_while(move |(_, fix, _)| *fix <= highest)
                .map(|(_, fix, cve)| (*fix, *cve))
        })
    }

    fn from(&self, commit: GitId) -> impl Iterator<Item = &(u64, GitId, CveId)> {
        let wanted = (first_bytes(commit), commit);
        let start = self
            .0
            .partition_point(|(first, fix, _)| (*first, *fix) < wanted);
        self.0.get(start..).unwrap_or_default().iter()
    }
}

/// Records by title, sorted.
struct Titles<'a>(Vec<(&'a str, &'a Cve)>);

impl<'a> Titles<'a> {
    fn collect(records: &[&'a Cve]) -> Self {
        let mut titles: Vec<(&str, &Cve)> = records
            .iter()
            .map(|cve| (cve.title.as_str(), *cve))
            .collect();
        titles.sort_unstable_by_key(|(title, cve)| (*title, cve.id));
        Self(titles)
    }

    fn of(&self, title: &str) -> impl Iterator<Item = &'a Cve> {
        let start = self.0.partition_point(|(known, _)| *known < title);
        let rest = self.0.get(start..).unwrap_or_default().iter();
        rest.take_while(move |(known, _)| *known == title)
            .map(|(_, cve)| *cve)
    }
}

#[cfg(test)]
mod tests;
