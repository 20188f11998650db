//! Unified diffs: what they say, and what a file looks like after them.
//!
//! Pure. A fix comes from outside, so everything that could write elsewhere than in the kernel tree,
//! or that means more than lines of text, is refused by name before anything is applied.

mod apply;
mod lines;
mod parse;
mod write;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use apply::{ApplyError, PatchedFile, PatchedLine, apply, is_sure};
pub use lines::keep_line_numbers;
pub use parse::{DiffError, Unsupported, parse};

/// Longest diff that is read, in bytes.
pub const LONGEST_DIFF: usize = 16 << 20;

/// Path of a file relative to the top of the kernel tree, `net/core/dev.c`.
///
/// Never blank, absolute or dotted, so that joining it to a folder stays below that folder. Symbolic
/// links are another matter: who writes must look at what lies there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

/// Why a text is no path in a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no path inside the kernel tree")]
pub struct NotATreePath {
    text: String,
}

impl TreePath {
    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the folder part, `""` at the top.
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Returns the last component.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Returns what follows the last dot of the name, case as it is.
    pub fn extension(&self) -> Option<&str> {
        self.name().rsplit_once('.').map(|(_, extension)| extension)
    }
}

impl FromStr for TreePath {
    type Err = NotATreePath;

    fn from_str(text: &str) -> Result<Self, NotATreePath> {
        let part = |part: &str| {
            !part.is_empty()
                && !matches!(part, "." | ".." | ".git")
                && !part
                    .chars()
                    .any(|c| c.is_control() || c == '\\' || c == '"')
        };
        if text.len() <= 1024 && text.split('/').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotATreePath {
                text: text.chars().take(160).collect(),
            })
        }
    }
}

impl TryFrom<String> for TreePath {
    type Error = NotATreePath;

    fn try_from(text: String) -> Result<Self, NotATreePath> {
        text.parse()
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A diff: changes of files, in the order written. One file may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The changes; never empty when parsed from text.
    pub files: Vec<FileDiff>,
}

/// The change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiff {
    /// The file.
    pub path: TreePath,
    /// What happens to it.
    pub change: Change,
    /// The hunks, by rising line; empty only for a new or deleted empty file.
    pub hunks: Vec<Hunk>,
}

/// What happens to a file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there before and after.
    Edited,
    /// It is not there before.
    Created,
    /// It is not there after.
    Deleted,
}

/// One run of context, removed and added lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// Line the hunk begins at in the old file, from 1; 0 for a file without lines.
    pub old_start: u32,
    /// The lines.
    pub lines: Vec<HunkLine>,
}

/// One line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HunkLine {
    /// Where the line is.
    pub side: Side,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
    /// Whether a newline ends it; only the last line of a file may lack it.
    pub newline: bool,
}

/// Which version of the file holds a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Both: context.
    Both,
    /// The old version alone: removed.
    Old,
    /// The new version alone: added.
    New,
}

impl Hunk {
    /// Returns the lines as they are before the change.
    pub fn old(&self) -> impl Iterator<Item = &HunkLine> {
        self.lines.iter().filter(|line| line.side != Side::New)
    }

    /// Returns the lines as they are after the change.
    pub fn new_lines(&self) -> impl Iterator<Item = &HunkLine> {
        self.lines.iter().filter(|line| line.side != Side::Old)
    }
}

/// Entry for fuzzing: reads bytes as a diff, writes it and reads that, and applies it to a file made of its
/// own old lines.
pub fn fuzz(bytes: &[u8]) {
    let Ok(diff) = parse(bytes) else {
        return;
    };
    assert_eq!(parse(&diff.to_bytes()).as_ref(), Ok(&diff));
    for file in &diff.files {
        let mut before = PatchedFile::default();
        for line in file.hunks.iter().flat_map(Hunk::old) {
            before.lines.push(PatchedLine {
                bytes: line.bytes.clone(),
                newline: true,
                origin: Some(1),
            });
        }
        let there = (file.change != Change::Created).then_some(&before);
        if let Ok(Some(after)) = apply(file, there) {
            keep_line_numbers(&after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_path_cannot_leave_its_tree() {
        for bad in [
            "", "/x", "a/../b", "a//b", "./a", "a/", "..", "a\n", ".git/x", "a\\b",
        ] {
            assert!(bad.parse::<TreePath>().is_err(), "{bad:?}");
        }
        let good: TreePath = "net/core/dev.c".parse().unwrap();
        assert_eq!(
            (good.folder(), good.name(), good.extension()),
            ("net/core", "dev.c", Some("c"))
        );
    }

    #[test]
    fn garbled_diffs_are_read_or_refused() {
        let seed = include_bytes!("../../../fuzz/seeds/unified_diff/git");
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let [a, b, c, ..] = (state >> 16).to_le_bytes();
                let at = usize::from(a) % bytes.len();
                match c % 3 {
                    0 => bytes[at] = b,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes[at] = b"-+ @\\\n0"[usize::from(b) % 7],
                }
            }
            fuzz(&bytes);
        }
    }
}
