//! One commit with its diff, what its message says of other commits, and how it is kept.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::git_id::GitId;

use crate::unified::{self, DiffError, LONGEST_DIFF};

/// First word of a kept commit, with the number of its format.
const MARK: &str = "tuxtape-commit-1";
/// Fewest digits by which a message names a commit.
const FEWEST_DIGITS: usize = 8;

/// A commit as a source gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitDiff {
    /// Its name.
    pub id: GitId,
    /// Committer time, in seconds since 1970 UTC; 0 where the source does not say.
    pub time: i64,
    /// The whole message, subject first.
    pub message: String,
    /// Its diff against its one parent, `-p1`, a moved file as one deleted and one new.
    pub diff: String,
    /// The same with all of each file as context; `None` where the source does not give it.
    pub whole: Option<String>,
    /// Old and new path of each file it moved.
    pub renames: Vec<(String, String)>,
}

/// Why a commit gives no diff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The source does not have it.
    #[error("the source does not have it")]
    Missing,
    /// The parent or the contents it changes are not at hand.
    #[error("the source has it without {what}")]
    Incomplete {
        /// What is not there.
        what: &'static str,
    },
    /// It joins lines of development: which side is the fix is a person's question.
    #[error("it is a merge of {parents} commits, which a person must take apart")]
    Merge {
        /// How many parents it has.
        parents: usize,
    },
    /// It has no parent.
    #[error("it is the first commit of a history")]
    First,
    /// It changes nothing, or asks for what no fix may do.
    #[error("{0}")]
    Diff(#[from] DiffError),
    /// The diff is not text.
    #[error("its diff is not UTF-8 text")]
    NotText,
    /// What came is no mail with the patch of this commit.
    #[error("{why}")]
    NotThisPatch {
        /// What is wrong with it.
        why: String,
    },
    /// The source could not be asked.
    #[error("{why}")]
    Source {
        /// What it or the system said.
        why: String,
    },
}

impl CommitDiff {
    /// Returns the first line of the message.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// Returns the mainline commits that it says it is the backport of.
    pub fn upstream(&self) -> Vec<GitId> {
        self.message.lines().filter_map(upstream).collect()
    }

    /// Checks what every source must give: a diff that can be read.
    pub(super) fn checked(self) -> Result<Self, CommitError> {
        unified::parse(self.diff.as_bytes())?;
        Ok(self)
    }
}

/// Reads a line such as `commit SHA upstream.`, `[ Upstream commit SHA ]` or `(cherry picked from
/// commit SHA)`.
pub(super) fn upstream(line: &str) -> Option<GitId> {
    let line = line.trim().to_ascii_lowercase();
    let (before, rest) = line.split_once("commit ")?;
    let id: GitId = rest.get(..40)?.parse().ok()?;
    let after = rest.get(40..)?.trim_start();
    let before = before.trim_start_matches(['[', '(', ' ']).trim_end();
    match before {
        "" => after.starts_with("upstream"),
        "upstream" | "cherry picked from" => true,
        _ => false,
    }
    .then_some(id)
}

/// What a later commit says of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mention {
    /// `Fixes: SHA`: it repairs it.
    Fixes,
    /// `This reverts commit SHA`: it takes it back.
    Reverts,
    /// It is the same change for another branch.
    Backport,
}

/// Returns the strongest thing that `message` says of one of `ids`.
pub fn mention(message: &str, ids: &[GitId]) -> Option<Mention> {
    let names = |word: &str| {
        let digits: String = word
            .chars()
            .take_while(char::is_ascii_hexdigit)
            .collect::<String>()
            .to_ascii_lowercase();
        digits.len() >= FEWEST_DIGITS && ids.iter().any(|id| id.to_string().starts_with(&digits))
    };
    let mut found = None;
    for line in message.lines() {
        let line = line.trim();
        let lower = line.to_ascii_lowercase();
        if let Some(rest) = lower.strip_prefix("fixes:") {
            if names(rest.trim_start().trim_start_matches("commit ").trim_start()) {
                return Some(Mention::Fixes);
            }
        } else if let Some((_, rest)) = lower.split_once("reverts commit ") {
            if names(rest) {
                return Some(Mention::Reverts);
            }
        } else if upstream(line).is_some_and(|id| ids.contains(&id)) {
            found = Some(Mention::Backport);
        }
    }
    found
}

/// The commits kept of one source.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    id: String,
    time: i64,
    message: String,
    diff: String,
    #[serde(default)]
    whole: Option<String>,
    renames: Vec<(String, String)>,
}

impl Shelf {
    /// Names the shelf of `source` below `cache`. Sources do not share one: what a server says of a
    /// commit is its word alone.
    pub(super) fn of(cache: &Path, source: &str) -> Self {
        let key = hex::encode(Sha256::digest(source.as_bytes()));
        let key: String = key.chars().take(24).collect();
        Self {
            folder: cache.join("fixes").join(key),
        }
    }

    /// Returns a place beside the commits.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Reads a commit kept before; `None` where there is none that is whole.
    pub(super) fn get(&self, id: GitId) -> Option<CommitDiff> {
        let path = self.place(id);
        let length = usize::try_from(fs::metadata(&path).ok()?.len()).ok()?;
        // Twice each of two diffs: quotes and line ends are escaped.
        if length > 4 * LONGEST_DIFF {
            return None;
        }
        read(&fs::read(path).ok()?, id)
    }

    /// Keeps a commit. Not synced to disk: half a file is found out when it is read.
    pub(super) fn put(&self, commit: &CommitDiff) -> io::Result<()> {
        let path = self.place(commit.id);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&written(commit))?;
        file.persist(&path)?;
        Ok(())
    }

    fn place(&self, id: GitId) -> PathBuf {
        let name = id.to_string();
        let (first, rest) = name.split_at(2);
        self.folder.join("commits").join(first).join(rest)
    }
}

fn written(commit: &CommitDiff) -> Vec<u8> {
    let wire = Wire {
        id: commit.id.to_string(),
        time: commit.time,
        message: commit.message.clone(),
        diff: commit.diff.clone(),
        whole: commit.whole.clone(),
        renames: commit.renames.clone(),
    };
    let body = serde_json::to_vec(&wire).expect("texts and a number always become JSON");
    let mut text = format!("{MARK} {}\n", hex::encode(Sha256::digest(&body))).into_bytes();
    text.extend(body);
    text
}

fn read(text: &[u8], id: GitId) -> Option<CommitDiff> {
    let end = text.iter().position(|c| *c == b'\n')?;
    let (mark, sum) = std::str::from_utf8(text.get(..end)?)
        .ok()?
        .split_once(' ')?;
    let body = text.get(end + 1..)?;
    if mark != MARK || sum != hex::encode(Sha256::digest(body)) {
        return None;
    }
    let wire: Wire = serde_json::from_slice(body).ok()?;
    (wire.id == id.to_string()).then_some(CommitDiff {
        id,
        time: wire.time,
        message: wire.message,
        diff: wire.diff,
        whole: wire.whole,
        renames: wire.renames,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "a49d25364dfb9f8a64037488a39ab1f56c5fa419";

    fn sha() -> GitId {
        SHA.parse().unwrap()
    }

    fn sample() -> CommitDiff {
        CommitDiff {
            id: sha(),
            time: 7,
            message: "net: fix\n\nbody\n".to_owned(),
            diff: "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-1\n+2\n".to_owned(),
            whole: None,
            renames: Vec::new(),
        }
    }

    #[test]
    fn a_backport_names_its_mainline_commit_in_three_ways() {
        for line in [
            "commit SHA upstream.",
            "Commit SHA upstream",
            "[ Upstream commit SHA ]",
            "upstream commit SHA",
            "(cherry picked from commit SHA)",
        ] {
            let line = line.replace("SHA", SHA);
            assert_eq!(upstream(&line), Some(sha()), "{line}");
        }
        for line in [
            "Since commit SHA the lock is taken",
            "commit SHA is wrong",
            "This reverts commit SHA.",
            "commit a49d25364dfb upstream.",
            "commit é49d25364dfb9f8a64037488a39ab1f56c5fa419",
        ] {
            let line = line.replace("SHA", SHA);
            assert_eq!(upstream(&line), None, "{line}");
        }
    }

    #[test]
    fn follow_ups_and_reverts_are_told_from_backports() {
        let check = |message: &str, expected| {
            let message = message.replace("SHA", SHA);
            assert_eq!(mention(&message, &[sha()]), expected, "{message}");
        };
        check("x\n\nFixes: a49d25364dfb (\"net\")", Some(Mention::Fixes));
        check("x\n\nfixes: SHA", Some(Mention::Fixes));
        check("x\n\nThis reverts commit SHA.", Some(Mention::Reverts));
        check(
            "x\n\nThis reverts commit SHA which is\ncommit SHA upstream.",
            Some(Mention::Reverts),
        );
        check("x\n\ncommit SHA upstream.", Some(Mention::Backport));
        check(
            "x\n\ncommit SHA upstream.\n\nFixes: SHA",
            Some(Mention::Fixes),
        );
        check("x\n\nFixes: a49d25 (\"net\")", None);
        check("x\n\nFixes: b49d25364dfb (\"net\")", None);
        check("see SHA", None);
    }

    #[test]
    fn a_kept_commit_is_read_back_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), "git:x");
        assert_eq!(shelf.get(sha()), None);
        shelf.put(&sample()).unwrap();
        assert_eq!(shelf.get(sha()), Some(sample()));
        let path = shelf.place(sha());
        let text = fs::read(&path).unwrap();
        for end in 0..text.len() {
            fs::write(&path, &text[..end]).unwrap();
            assert_eq!(shelf.get(sha()), None, "{end}");
        }
        let changed = String::from_utf8(text).unwrap().replace("+2", "+3");
        fs::write(&path, changed).unwrap();
        assert_eq!(shelf.get(sha()), None);
    }

    #[test]
    fn a_commit_in_anothers_place_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(folder.path(), "git:x");
        shelf.put(&sample()).unwrap();
        let other = GitId::from_bytes([7; 20]);
        let place = shelf.place(other);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::rename(shelf.place(sha()), place).unwrap();
        assert_eq!(shelf.get(other), None);
    }

    #[test]
    fn sources_do_not_share_what_they_said() {
        let folder = tempfile::tempdir().unwrap();
        Shelf::of(folder.path(), "git:x").put(&sample()).unwrap();
        assert_eq!(Shelf::of(folder.path(), "git:y").get(sha()), None);
    }
}
