//! What the history of a git kernel tells of changes: which commits are in it, which of them are
//! backports of others, and which were taken back.
//!
//! A change counts as in the kernel only where its effect is: a commit that a merge brought without its
//! changes (`merge -s ours`), or that a later commit reverts, is in the history and not in the kernel.

mod build;
pub mod marks;
#[cfg(test)]
pub(crate) mod sample;

use std::collections::BTreeMap;

use crate::git_id::GitId;

pub use self::build::{Builder, Logged, NotAHistory};
use self::marks::{Named, Plainness};

/// The history of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The commit that the kernel was built of.
    pub commit: GitId,
    /// Whether older commits are missing, as in a shallow clone. What is missing may have been there.
    pub is_cut_off: bool,
    /// Every commit in it, sorted, without those in `dropped`.
    pub commits: Vec<GitId>,
    /// Those that only merges brought which took none of their changes, sorted.
    pub dropped: Vec<GitId>,
    /// The commits that say that they are backports, by the commit that they name.
    pub backports: BTreeMap<Named, Vec<GitId>>,
    /// The commits in it that a later one takes back, each with that one.
    pub undone: BTreeMap<GitId, Undone>,
    /// The commits that standing reverts name, each with the revert.
    pub reverts: BTreeMap<Named, GitId>,
}

/// How a commit was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The commit that does it.
    pub by: GitId,
    /// How it says so; a revert that was itself taken back only perhaps is loose, too.
    pub plainness: Plainness,
}

/// Whether a change is in a kernel, by its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is, by this commit: itself or a backport.
    Stands {
        /// The commit in the history.
        by: GitId,
    },
    /// It was, and was taken back.
    Undone {
        /// The commit in the history.
        by: GitId,
        /// The revert.
        revert: GitId,
    },
    /// It may be.
    Doubtful {
        /// What speaks against it.
        why: Doubt,
    },
    /// Nothing in the history names it.
    Absent,
}

/// What speaks against a change that the history names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// This commit speaks of taking it back.
    Revert(GitId),
    /// Only merges brought it that took none of its changes.
    Dropped(GitId),
}

impl History {
    /// Tells whether `id` itself is in the history, whatever became of it.
    pub fn holds(&self, id: GitId) -> bool {
        self.commits.binary_search(&id).is_ok() || self.dropped.binary_search(&id).is_ok()
    }

    /// Lists the commits in the history that say that they are backports of `id`.
    pub fn backports_of(&self, id: GitId) -> impl Iterator<Item = GitId> {
        fitting(&self.backports, id).flatten().copied()
    }

    /// Tells whether the change of commit `id` is in the kernel, as itself or as a backport.
    pub fn presence(&self, id: GitId) -> Presence {
        let own = self.holds(id).then_some(id);
        let mut best = Presence::Absent;
        for commit in own.into_iter().chain(self.backports_of(id)) {
            let found = self.standing(commit);
            if rank(found) > rank(best) {
                best = found;
            }
        }
        // A branch can revert by the name that the change has on another one.
        match (best, fitting(&self.reverts, id).next()) {
            (Presence::Absent, Some(revert)) => Presence::Doubtful {
                why: Doubt::Revert(*revert),
            },
            (best, _) => best,
        }
    }

    /// Tells whether the change of a commit that is in the history is in the kernel.
    fn standing(&self, commit: GitId) -> Presence {
        if self.commits.binary_search(&commit).is_err() {
            return Presence::Doubtful {
                why: Doubt::Dropped(commit),
            };
        }
        match self.undone.get(&commit) {
            None => Presence::Stands { by: commit },
            Some(Undone {
                by: revert,
                plainness: Plainness::Plain,
            }) => Presence::Undone {
                by: commit,
                revert: *revert,
            },
            Some(Undone {
                by,
                plainness: Plainness::Loose,
            }) => Presence::Doubtful {
                why: Doubt::Revert(*by),
            },
        }
    }
}

/// One commit that stands is enough, and a doubt weighs more than a revert of another.
fn rank(presence: Presence) -> u8 {
    match presence {
        Presence::Absent => 0,
        Presence::Undone { .. } => 1,
        Presence::Doubtful { .. } => 2,
        Presence::Stands { .. } => 3,
    }
}

/// Lists what is kept under `id` or under its first digits.
fn fitting<T>(map: &BTreeMap<Named, T>, id: GitId) -> impl Iterator<Item = &T> {
    // Every name that fits lies between its shortest form and itself, and those start alike.
    let whole = Named::from(id);
    let shortest = whole.shortest();
    map.range(shortest..=whole)
        .filter(move |(named, _)| named.fits(id))
        .map(|(_, kept)| kept)
}

#[cfg(test)]
mod tests;
