//! What a git kernel's history tells about one CVE.
//!
//! Its "yes" is the strongest there is, and its silence is none: a fix can come in without its name.

use std::collections::{BTreeMap, BTreeSet};

use crate::git_id::GitId;
use crate::history::{Doubt, History, Presence};
use crate::span::Span;
use crate::version::Branch;

/// Whether a kernel's history is there to be asked.
#[derive(Clone, Copy, Debug, Default)]
pub enum HistoryAtHand<'a> {
    /// The kernel is of no git repository.
    #[default]
    NoGit,
    /// It is of one, and its history is not at hand, for this reason.
    Missing(&'a str),
    /// It is here.
    Known(&'a History),
}

/// What a history tells of one record's bug and fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// The fix is in the kernel.
    Carried {
        /// By which commits, for people.
        by: String,
    },
    /// The bug's commit is in the kernel, and no fix of it.
    Open {
        /// By which commit, for people.
        by: String,
    },
    /// The fix was in the kernel, and a later commit took it back.
    Undone {
        /// Which, for people.
        by: String,
    },
    /// The history speaks for the fix and against it.
    Doubtful {
        /// What does, for people.
        why: String,
    },
    /// It tells nothing.
    Silent {
        /// What it was asked for, for people.
        why: String,
    },
}

/// How far the fixes of one stretch are in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closed {
    Whole(String),
    Doubtful(String),
    Undone(String),
    No,
}

/// Asks `history` for the commits of a record's `spans`.
///
/// A stretch is closed where all fixes of one branch are in the kernel, by themselves or as backports. All
/// stretches whose bug can be there must be closed for the fix to be carried: bugs come back.
pub fn look(spans: &[Span], history: &History) -> Lineage {
    let bugs = bugs(spans, history);
    let is_known = bugs
        .iter()
        .any(|bug| !matches!(bug.presence, Presence::Absent));
    // A bug that is not in a whole history did not come. In one that was cut off, or that began with
    // somebody's import of a tree, it came before everything that can be seen.
    let considered: Vec<&Bug> = bugs
        .iter()
        .filter(|bug| history.is_cut_off || !is_known || !matches!(bug.presence, Presence::Absent))
        .collect();
    let all: BTreeSet<GitId> = fixes(spans).collect();
    let mut carried = BTreeSet::new();
    let mut open = None;
    let mut doubt = None;
    let mut undone = None;
    let mut silent = false;
    for bug in &considered {
        let came_first = matches!(bug.presence, Presence::Absent);
        let own = |span: &&Span| came_first || bug.commits.contains(&span.introducing_commit());
        let own: Vec<Span> = spans.iter().filter(own).copied().collect();
        match closed(&own, history) {
            Closed::Whole(by) => {
                carried.insert(by);
            }
            Closed::Doubtful(why) => doubt = doubt.or(Some(why)),
            Closed::Undone(by) => undone = undone.or(Some(by)),
            Closed::No => match bug.presence {
                Presence::Stands { by } if !history.is_cut_off => {
                    // The fix of another stretch may close this one, too.
                    let other = all.iter().find_map(|fix| match history.presence(*fix) {
                        Presence::Stands { by } => Some(by),
                        Presence::Undone { .. } | Presence::Doubtful { .. } | Presence::Absent => {
                            None
                        }
                    });
                    match other {
                        Some(fix) => {
                            let why = format!(
                                "{} brought the bug, and {} fixes it where another commit did",
                                by.short(),
                                fix.short()
                            );
                            doubt = doubt.or(Some(why));
                        }
                        None => open = open.or(Some(came(bug, by))),
                    }
                }
                Presence::Stands { .. }
                | Presence::Undone { .. }
                | Presence::Doubtful { .. }
                | Presence::Absent => silent = true,
            },
        }
    }
    if let Some(by) = open {
        return Lineage::Open { by };
    }
    if let Some(by) = undone {
        return Lineage::Undone { by };
    }
    if let Some(why) = doubt {
        return Lineage::Doubtful { why };
    }
    if silent || carried.is_empty() {
        return Lineage::Silent {
            why: silence(&bugs, history),
        };
    }
    Lineage::Carried {
        by: carried.into_iter().collect::<Vec<_>>().join("; "),
    }
}

/// One change that brought the bug, under all the names the record has for it.
struct Bug {
    commits: BTreeSet<GitId>,
    presence: Presence,
}

fn bugs(spans: &[Span], history: &History) -> Vec<Bug> {
    let names: BTreeSet<GitId> = spans.iter().map(Span::introducing_commit).collect();
    let mut bugs: Vec<Bug> = Vec::new();
    for name in names {
        // A backport of another one that the record names is the same change.
        let backports: BTreeSet<GitId> = history.backports_of(name).collect();
        let is_same = |bug: &Bug| {
            bug.commits.iter().any(|other| {
                backports.contains(other) || history.backports_of(*other).any(|it| it == name)
            })
        };
        match bugs.iter_mut().find(|bug| is_same(bug)) {
            Some(bug) => {
                bug.commits.insert(name);
            }
            None => bugs.push(Bug {
                commits: BTreeSet::from([name]),
                presence: history.presence(name),
            }),
        }
    }
    bugs
}

fn fixes(spans: &[Span]) -> impl Iterator<Item = GitId> {
    spans
        .iter()
        .filter_map(|span| span.fixed)
        .map(|fix| fix.commit)
}

/// Tells how far the fixes of `spans` are in the kernel: by the branch that is furthest.
fn closed(spans: &[Span], history: &History) -> Closed {
    // Fixes in mainline are one series, whatever releases they came in.
    let mut branches: BTreeMap<Option<Branch>, BTreeSet<GitId>> = BTreeMap::new();
    for fix in spans.iter().filter_map(|span| span.fixed) {
        let branch = (!fix.version.is_mainline()).then(|| fix.version.branch());
        branches.entry(branch).or_default().insert(fix.commit);
    }
    let series = branches.values().map(|fixes| series(fixes, history));
    series.min().unwrap_or(Closed::No)
}

/// Tells how far a branch's fixes are in the kernel: all are needed.
fn series(fixes: &BTreeSet<GitId>, history: &History) -> Closed {
    let mut standing = Vec::new();
    let mut missing = None;
    let mut undone = None;
    for fix in fixes {
        match history.presence(*fix) {
            Presence::Stands { by } if by == *fix => {
                standing.push(format!("{} is in it", by.short()));
            }
            Presence::Stands { by } => {
                standing.push(format!("{} says it is {}", by.short(), fix.short()));
            }
            Presence::Undone { by, revert } => {
                undone = Some(format!("{} takes {} back", revert.short(), by.short()));
            }
            Presence::Doubtful { why } => return Closed::Doubtful(doubt(*fix, why)),
            Presence::Absent => missing = Some(*fix),
        }
    }
    match (missing, undone, standing.is_empty()) {
        (None, None, false) => Closed::Whole(standing.join(", ")),
        (_, None, true) => Closed::No,
        (_, Some(undone), true) => Closed::Undone(undone),
        (Some(missing), _, false) => Closed::Doubtful(format!(
            "{}, and {}, which is a part of the fix, is not",
            standing.join(", "),
            missing.short()
        )),
        (None, Some(undone), false) => {
            Closed::Doubtful(format!("{}, and {undone}", standing.join(", ")))
        }
    }
}

fn doubt(fix: GitId, why: Doubt) -> String {
    match why {
        Doubt::Revert(by) => format!("{} speaks of taking {} back", by.short(), fix.short()),
        Doubt::Dropped(by) => format!(
            "{} came by a merge that took none of its changes",
            by.short()
        ),
    }
}

fn came(bug: &Bug, by: GitId) -> String {
    if bug.commits.contains(&by) {
        return format!("{} is in it", by.short());
    }
    let named = bug.commits.first().map_or_else(String::new, GitId::short);
    format!("{} says it is {named}", by.short())
}

fn silence(bugs: &[Bug], history: &History) -> String {
    let undone = bugs.iter().find_map(|bug| match bug.presence {
        Presence::Undone { by, revert } => Some((by, revert)),
        Presence::Stands { .. } | Presence::Doubtful { .. } | Presence::Absent => None,
    });
    if let Some((by, revert)) = undone {
        return format!(
            "{} takes back {}, which brought the bug",
            revert.short(),
            by.short()
        );
    }
    if history.is_cut_off {
        "it is cut off, and what is left names no fix".to_owned()
    } else {
        "it names neither the bug's commit nor a fix".to_owned()
    }
}

impl Lineage {
    /// Says what was found, for people.
    pub fn found(&self, history: &History) -> String {
        let of = history.commit.short();
        match self {
            Self::Carried { by } => format!("the history of {of} has the fix: {by}"),
            Self::Open { by } => {
                format!("the history of {of} has the bug, and no fix of it: {by}")
            }
            Self::Undone { by } => {
                format!("the history of {of} has the fix, and takes it back: {by}")
            }
            Self::Doubtful { why } => {
                format!("the history of {of} speaks for the fix and against it: {why}")
            }
            Self::Silent { why } => format!("the history of {of} tells nothing: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::sample::{Sample, history, id};
    use crate::span::Landing;

    /// Reads spans as `BUG@VERSION..FIX@VERSION`, commits by number; `..` alone is "not fixed".
    fn spans(texts: &[&str]) -> Vec<Span> {
        let landing = |text: &str| {
            text.split_once('@').map(|(number, version)| Landing {
                commit: id(number.parse().unwrap()),
                version: version.parse().unwrap(),
            })
        };
        let span = |text: &&str| {
            let (bug, fix) = text.split_once("..").unwrap();
            Span {
                introduced: landing(bug),
                fixed: landing(fix),
            }
        };
        texts.iter().map(span).collect()
    }

    fn check(texts: &[&str], commits: &[Sample<'_>], is_cut_off: bool, expected: &str) {
        let history = history(commits, is_cut_off);
        let lineage = look(&spans(texts), &history);
        let word = match &lineage {
            Lineage::Carried { .. } => "carried",
            Lineage::Open { .. } => "open",
            Lineage::Undone { .. } => "undone",
            Lineage::Doubtful { .. } => "doubtful",
            Lineage::Silent { .. } => "silent",
        };
        assert_eq!(word, expected, "{texts:?}: {}", lineage.found(&history));
    }

    const BUG: Sample<'_> = (10, &[1], 10, "bug");
    const FIRST: Sample<'_> = (1, &[], 1, "first");

    #[test]
    fn a_fix_in_the_history_closes_its_bug() {
        let record = ["10@5.10..20@6.1.9", "10@5.10..30@6.3"];
        check(
            &record,
            &[(20, &[10], 20, "fix"), BUG, FIRST],
            false,
            "carried",
        );
        check(
            &record,
            &[(30, &[10], 30, "fix"), BUG, FIRST],
            false,
            "carried",
        );
        let backport = "fix\n\n[ Upstream commit #30 ]\n";
        check(
            &record,
            &[(40, &[10], 40, backport), BUG, FIRST],
            false,
            "carried",
        );
        check(
            &record,
            &[(40, &[10], 40, "other"), BUG, FIRST],
            false,
            "open",
        );
        check(&record, &[(40, &[1], 40, "other"), FIRST], false, "silent");
    }

    #[test]
    fn a_bug_that_came_as_a_backport_is_there() {
        let record = ["10@5.10..30@6.3"];
        let bug: Sample<'_> = (11, &[1], 11, "bug\n\ncommit #10 upstream.\n");
        check(&record, &[bug, FIRST], false, "open");
        check(
            &record,
            &[(30, &[11], 30, "fix"), bug, FIRST],
            false,
            "carried",
        );
        // And where the record has both names of it, the fix of one closes both.
        let record = ["10@5.10..30@6.3", "11@5.4.7.."];
        check(
            &record,
            &[(30, &[11], 30, "fix"), bug, FIRST],
            false,
            "carried",
        );
        check(&record, &[bug, FIRST], false, "open");
    }

    #[test]
    fn a_bug_that_came_back_is_open_until_its_own_fix() {
        let record = ["10@4.12..20@4.18", "12@5.8..30@6.12.42", "12@5.8..40@6.17"];
        let old: [Sample<'_>; 3] = [(20, &[10], 20, "fix"), BUG, FIRST];
        let back: Sample<'_> = (12, &[20], 12, "again");
        check(&record, &old, false, "carried");
        // The old fix may have been kept: a person must look.
        check(&record, &[&[back][..], &old].concat(), false, "doubtful");
        let fix: Sample<'_> = (30, &[12], 30, "fix");
        check(
            &record,
            &[&[fix, back][..], &old].concat(),
            false,
            "carried",
        );
    }

    #[test]
    fn all_parts_of_a_fix_are_needed() {
        let record = ["10@5.10..30@6.3", "10@5.10..31@6.4"];
        let part: Sample<'_> = (30, &[10], 30, "part");
        check(&record, &[part, BUG, FIRST], false, "doubtful");
        check(
            &record,
            &[(31, &[30], 31, "part"), part, BUG, FIRST],
            false,
            "carried",
        );
    }

    #[test]
    fn a_fix_that_was_taken_back_does_not_close() {
        let record = ["10@5.10..30@6.3"];
        let fix: Sample<'_> = (40, &[10], 40, "fix\n\n(cherry picked from commit #30)\n");
        let revert: Sample<'_> = (
            41,
            &[40],
            10,
            "Revert \"fix\"\n\nThis reverts commit #40.\n",
        );
        check(&record, &[fix, BUG, FIRST], false, "carried");
        check(&record, &[revert, fix, BUG, FIRST], false, "undone");
        let again: Sample<'_> = (
            42,
            &[41],
            40,
            "Reapply \"fix\"\n\nThis reverts commit #41.\n",
        );
        check(&record, &[again, revert, fix, BUG, FIRST], false, "carried");
    }

    #[test]
    fn a_history_that_was_cut_off_says_yes_and_never_no() {
        let record = ["10@5.10..30@6.3"];
        let fix: Sample<'_> = (40, &[39], 40, "fix\n\n[ Upstream commit #30 ]\n");
        check(&record, &[fix], true, "carried");
        check(&record, &[(40, &[39], 40, "other")], true, "silent");
        // A tree that somebody imported looks like a whole history.
        check(&record, &[(40, &[], 40, "import")], false, "silent");
        check(
            &record,
            &[
                (41, &[40], 41, "fix\n\n[ Upstream commit #30 ]\n"),
                (40, &[], 40, "import"),
            ],
            false,
            "carried",
        );
    }

    #[test]
    fn a_bug_that_was_taken_back_decides_nothing() {
        let record = ["10@5.10..30@6.3"];
        let revert: Sample<'_> = (41, &[10], 1, "Revert \"bug\"\n\nThis reverts commit #10.\n");
        check(&record, &[revert, BUG, FIRST], false, "silent");
    }
}
