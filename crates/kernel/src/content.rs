//! Looks for fixes in a kernel's source tree, and for the functions they change in its object code.
//!
//! What decides lies in [`tuxtape_core::applicability`]; here files are found and read.

pub mod changelog;
mod diff;
mod functions;
mod judged;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use tuxtape_core::applicability::Gap;
use tuxtape_core::applicability::carried::{self, FixFile, Found, Source, Verdict};
use tuxtape_core::applicability::content::{Carried, Content, Functions, Seen};
use tuxtape_core::cve::Cve;
use tuxtape_core::profile::functions::FunctionTable;

use crate::fix_source::found::Tie;
use crate::unified::{DiffError, TreePath};

use changelog::Changelog;
use diff::Shows;
pub use judged::{Judged, JudgedFile};
use tree::Tree;

/// A diff of a fix, with where it came from.
#[derive(Clone, Copy, Debug)]
pub struct FixDiff<'a> {
    /// Where it came from, for people: `commit 0123456789ab`, `linux-source-6.1 6.1.176-1`.
    pub origin: &'a str,
    /// The unified diff, `-p1`.
    pub text: &'a [u8],
    /// The same with all of each file as context, as `git diff -U1000000` writes it; it decides more.
    pub whole: Option<&'a [u8]>,
    /// Whether it is one of several patches of the fix: it alone never shows that the fix is there.
    pub is_part: bool,
    /// What says that it is the fix of the CVE: without that it never shows that the fix is there.
    pub tie: &'a Tie,
}

/// A source tree known not to hold a fix.
#[derive(Clone, Copy, Debug)]
pub struct Unfixed<'a> {
    /// Top of the tree.
    pub tree: &'a Path,
    /// What it is, for people: `6.1.170-3`.
    pub name: &'a str,
}

/// Looks for fixes in one kernel. What it read is kept for the next look, also across threads.
#[derive(Debug)]
pub struct Looker<'a> {
    tree: Tree,
    functions: Option<&'a FunctionTable>,
    changelog: Option<&'a Changelog>,
}

/// Why a diff was not judged.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// It cannot be read.
    #[error("not a diff that can be looked for")]
    Diff(#[from] DiffError),
    /// It may be the diff of another CVE under this one's name.
    #[error("it changes no source file that the record names")]
    OtherFiles,
    /// A file of the tree cannot be read.
    #[error("could not read {path} of the tree")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The tree is not there.
    #[error("{path} is no folder")]
    NoTree {
        /// Its top.
        path: String,
    },
}

impl<'a> Looker<'a> {
    /// Prepares to look in the source tree whose top is `tree`, and in `functions` where they are
    /// known. Reads nothing yet.
    pub fn new(tree: &Path, functions: Option<&'a FunctionTable>) -> Self {
        Self {
            tree: Tree::new(tree),
            functions,
            changelog: None,
        }
    }

    /// Also asks the changelog of the kernel's own package, read up to its own version.
    #[must_use]
    pub fn with_changelog(self, changelog: &'a Changelog) -> Self {
        Self {
            changelog: Some(changelog),
            ..self
        }
    }

    /// Looks for the fix of `cve` by its `diffs`, the likeliest for this kernel first: the one of its
    /// own branch, that of the next newer branch, mainline's. Blocks on reading files.
    pub fn look(&self, cve: &Cve, diffs: &[FixDiff<'_>]) -> Content {
        let mut judged = Vec::new();
        let mut failures = Vec::new();
        for diff in diffs {
            match self.judge_for(cve, diff) {
                Ok(found) => judged.push((diff, found)),
                Err(error) => failures.push((diff.origin, error)),
            }
        }
        let mut content = Content::default();
        if judged.is_empty()
            && let Some((origin, error)) = failures.first()
        {
            let gap = match error {
                LookError::Diff(_) | LookError::OtherFiles => Gap::NoFixDiff,
                LookError::Read { .. } | LookError::NoTree { .. } => Gap::NoSource,
            };
            let why = format!("{origin}: {}", chain(error));
            content.carried = Carried::NotLooked {
                gap,
                why: why.clone(),
            };
            content.functions = Functions::NotLooked { gap, why };
        }
        let decisive = decisive(&judged);
        if let Some((diff, found)) = decisive.and_then(|at| judged.get(at)) {
            content.carried = answer(diff, found, &judged);
            content.moved = moved(found);
            content.functions = self.functions(found);
        }
        self.ask_changelog(cve, &mut content);
        content
    }

    /// As [`look`](Self::look), beside a tree that is known not to hold the fix: where all files of
    /// the first diff are the same there, byte for byte, this one does not hold it either.
    pub fn look_beside(&self, cve: &Cve, diffs: &[FixDiff<'_>], unfixed: Unfixed<'_>) -> Content {
        let mut content = self.look(cve, diffs);
        let Some(files) = diffs
            .first()
            .and_then(|diff| diff::read(diff.text, Shows::Context).ok())
        else {
            return content;
        };
        if !judged::is_about(&files, cve) || !self.equals(&files, unfixed.tree) {
            return content;
        }
        let same = format!("all files of the fix are the same in {}", unfixed.name);
        content.carried = match content.carried {
            // One of the two is wrong.
            Carried::Yes(mut seen) => {
                seen.hints.push(same);
                Carried::Partial(seen)
            }
            Carried::No(mut seen) | Carried::Partial(mut seen) => {
                seen.hints.push(same);
                Carried::No(seen)
            }
            Carried::NotLooked { .. } => Carried::No(Seen {
                origin: unfixed.name.to_owned(),
                places: Vec::new(),
                hints: vec![same],
            }),
        };
        content
    }

    /// Judges one diff alone, whatever it is of.
    pub fn judge(&self, diff: &[u8]) -> Result<Judged, LookError> {
        self.judge_files(&diff::read(diff, Shows::Context)?)
    }

    /// As [`judge`](Self::judge), of a diff that shows all of each file, as `git diff -U1000000` writes
    /// it: by whole functions, which tells more than lines do.
    pub fn judge_whole(&self, diff: &[u8]) -> Result<Judged, LookError> {
        self.judge_files(&diff::read(diff, Shows::Files)?)
    }

    fn judge_for(&self, cve: &Cve, diff: &FixDiff<'_>) -> Result<Judged, LookError> {
        let whole = diff
            .whole
            .and_then(|whole| diff::read(whole, Shows::Files).ok());
        let files = match whole {
            Some(files) => files,
            None => diff::read(diff.text, Shows::Context)?,
        };
        if !judged::is_about(&files, cve) {
            return Err(LookError::OtherFiles);
        }
        Ok(Judged {
            is_part: diff.is_part,
            ..self.judge_files(&files)?
        })
    }

    fn judge_files(&self, files: &[FixFile]) -> Result<Judged, LookError> {
        if !self.tree.top().is_dir() {
            return Err(LookError::NoTree {
                path: self.tree.top().display().to_string(),
            });
        }
        judged::judge(files, &self.tree)
    }

    fn functions(&self, found: &Judged) -> Functions {
        match self.functions {
            Some(table) => functions::look(found, &self.tree, table),
            None => Functions::NotLooked {
                gap: Gap::NoSymbols,
                why: "the functions that left code are not known".to_owned(),
            },
        }
    }

    /// Tells whether every file that a fix changes is there and the same in `other`.
    fn equals(&self, files: &[FixFile], other: &Path) -> bool {
        let same = |file: &FixFile| {
            let read = |top: &Path| {
                let path: TreePath = file.path.parse().ok()?;
                tree::bytes(top, &path).ok()?
            };
            matches!((read(self.tree.top()), read(other)), (Some(own), Some(known)) if own == known)
        };
        !files.is_empty() && files.iter().all(same)
    }

    /// Adds what the changelog says as a hint. It shows nobody that a fix is there: it names CVEs that were
    /// worked on, in part, or for another flavour, and only a diff shows what is there. What the distribution
    /// took in by itself is weighed elsewhere, by the profile.
    fn ask_changelog(&self, cve: &Cve, content: &mut Content) {
        let Some(changelog) = self.changelog else {
            return;
        };
        let text = if changelog.is_reverted(&cve.title) {
            "the changelog reverts this fix".to_owned()
        } else if let Some(version) = changelog.names(cve.id) {
            format!("look at it: the changelog of {version} names {}", cve.id)
        } else if let Some(version) = changelog.has_subject(&cve.title) {
            format!("look at it: the changelog of {version} has the fix's title")
        } else {
            return;
        };
        hint(&mut content.carried, text);
    }
}

fn hint(carried: &mut Carried, text: String) {
    match carried {
        Carried::Yes(seen) | Carried::No(seen) | Carried::Partial(seen) => seen.hints.push(text),
        Carried::NotLooked { why, .. } => {
            why.push_str("; ");
            why.push_str(&text);
        }
    }
}

/// Returns the index of the diff that decides: the first that says yes or no, else the first that
/// says anything.
fn decisive(judged: &[(&FixDiff<'_>, Judged)]) -> Option<usize> {
    let verdict = |(_, found): &(&FixDiff<'_>, Judged)| found.verdict();
    let decides = |one: &(&FixDiff<'_>, Judged)| match verdict(one) {
        Verdict::Carries => untied(one.0).is_none(),
        Verdict::Lacks => true,
        Verdict::Partial | Verdict::Nothing => false,
    };
    let says =
        |one: &(&FixDiff<'_>, Judged)| matches!(verdict(one), Verdict::Carries | Verdict::Partial);
    judged
        .iter()
        .position(decides)
        .or_else(|| judged.iter().position(says))
}

/// Says why a diff may be that of another fix.
fn untied<'a>(diff: &FixDiff<'a>) -> Option<&'a str> {
    match diff.tie {
        Tie::Commit | Tie::Index | Tie::Message => None,
        Tie::Untied { why } => Some(why),
    }
}

fn answer(diff: &FixDiff<'_>, found: &Judged, all: &[(&FixDiff<'_>, Judged)]) -> Carried {
    let mut seen = Seen {
        origin: diff.origin.to_owned(),
        places: found.places(),
        hints: Vec::new(),
    };
    if let (Verdict::Carries, Some(why)) = (found.verdict(), untied(diff)) {
        seen.hints
            .push(format!("all of the diff is there, but {why}"));
        return Carried::Partial(seen);
    }
    let against = match found.verdict() {
        Verdict::Carries => Found::Before,
        Verdict::Lacks => Found::After,
        Verdict::Partial | Verdict::Nothing => return Carried::Partial(seen),
    };
    if let Some((other, _)) = all.iter().find(|(_, other)| other.any(against)) {
        seen.hints
            .push(format!("the diff of {} says otherwise", other.origin));
        return Carried::Partial(seen);
    }
    match against {
        Found::Before => Carried::Yes(seen),
        Found::After | Found::Both | Found::Neither | Found::Nothing => Carried::No(seen),
    }
}

/// Returns the files that mainline's renames place elsewhere in this tree, where code of the diff was
/// found there.
fn moved(found: &Judged) -> BTreeMap<String, String> {
    let is_seen = |file: &&JudgedFile| {
        !file.is_namesake
            && file
                .blocks
                .iter()
                .any(|block| !matches!(block.found, Found::Neither | Found::Nothing))
    };
    found
        .files
        .iter()
        .filter(is_seen)
        .filter_map(|file| match &file.tree_path {
            Some(path) if *path != file.path => Some((file.path.clone(), path.clone())),
            Some(_) | None => None,
        })
        .collect()
}

fn chain(error: &LookError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Entry for fuzzing: looks for a diff, the bytes before the first NUL, in a file of the rest.
pub fn fuzz(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(diff), Some(text)) = (parts.next(), parts.next()) else {
        return;
    };
    let source = Source::read(&String::from_utf8_lossy(text));
    for shows in [Shows::Context, Shows::Files] {
        for file in &diff::read(diff, shows).unwrap_or_default() {
            for block in carried::look_for(file, &source) {
                let is_seen = !matches!(block.found, Found::Neither | Found::Nothing);
                assert!(is_seen || block.line.is_none(), "a place of nothing");
            }
        }
    }
}

#[cfg(test)]
mod tests;
