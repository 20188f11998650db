//! Unified diffs: what they say, and what a file looks like after them.
//!
//! Pure. A fix comes from outside, so everything that could write elsewhere than in the kernel tree,
//! or that means more than lines of text, is refused by name before anything is applied.

mod apply;
mod lines;
mod parse;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use apply::{ApplyError, PatchedFile, PatchedLine, apply};
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
