//! The differences of two sources, cut into the smallest changes that can be taken alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lack, Teller};
use crate::fix_source;
use crate::unified::{self, Diff, TreePath};

/// Number of a change in its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EditId {
    /// The file.
    pub path: TreePath,
    /// Its number among the changes of the file.
    pub number: usize,
}

/// A run of lines that another one takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Lines before it, in the file with the fix.
    pub at: usize,
    /// Lines that go, with their newlines.
    pub old: Vec<String>,
    /// Lines that come, with their newlines.
    pub new: Vec<String>,
}

impl Edit {
    /// Names that it removes and does not bring back.
    pub(super) fn drops(&self) -> BTreeSet<String> {
        let all = |lines: &[String]| -> BTreeSet<String> {
            lines.iter().flat_map(|line| names(line)).collect()
        };
        all(&self.old)
            .difference(&all(&self.new))
            .cloned()
            .collect()
    }

    fn brings(&self, name: &str) -> bool {
        self.new.iter().any(|line| names(line).contains(name))
    }

    fn mentions(&self, name: &str) -> bool {
        self.brings(name) || self.old.iter().any(|line| names(line).contains(name))
    }
}

/// One file in the kernel's source, with the fix, and in the newer source.
#[derive(Clone, Debug)]
struct File {
    /// `None`: not there.
    kernel: Option<String>,
    lines: Vec<String>,
    edits: Vec<Edit>,
}

/// The changes from a source with a fix to a newer one.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    files: BTreeMap<TreePath, File>,
}

impl Edits {
    /// Adds a file: as the kernel has it, with the fix, and in the newer source; `None` where it is
    /// not there.
    pub fn add(
        &mut self,
        path: TreePath,
        kernel: Option<String>,
        fixed: Option<&str>,
        newer: &str,
    ) {
        let fixed = fixed.unwrap_or_default();
        if fixed == newer {
            return;
        }
        let difference = similar::TextDiff::from_lines(fixed, newer);
        let lines =
            |text: &str| -> Vec<String> { text.split_inclusive('\n').map(str::to_owned).collect() };
        let (old, new) = (lines(fixed), lines(newer));
        let slice = |lines: &[String], range: std::ops::Range<usize>| -> Vec<String> {
            lines.get(range).unwrap_or_default().to_vec()
        };
        let edits = difference
            .ops()
            .iter()
            .filter(|op| op.tag() != similar::DiffTag::Equal)
            .flat_map(|op| {
                let (before, after) = (op.old_range(), op.new_range());
                paragraphs(before.start, &slice(&old, before), slice(&new, after))
            })
            .collect();
        self.files.insert(
            path,
            File {
                kernel,
                lines: old,
                edits,
            },
        );
    }

    /// One change.
    pub fn get(&self, id: &EditId) -> Option<&Edit> {
        self.files.get(&id.path)?.edits.get(id.number)
    }

    /// The changes of these files.
    pub(super) fn of<'a>(
        &'a self,
        paths: &'a BTreeSet<TreePath>,
    ) -> impl Iterator<Item = (EditId, &'a Edit)> {
        self.files
            .iter()
            .filter(|(path, _)| paths.contains(path))
            .flat_map(|(path, file)| numbered(path, file))
    }

    /// The changes that may have what is missing.
    pub(super) fn with(&self, lack: &Lack) -> Vec<EditId> {
        let name = lack.name.as_str();
        if name.contains(['/', '.']) {
            return self
                .files
                .iter()
                .filter(|(path, file)| file.kernel.is_none() && is_included_as(path, name))
                .flat_map(|(path, file)| numbered(path, file))
                .map(|(id, _)| id)
                .collect();
        }
        self.files
            .iter()
            .flat_map(|(path, file)| numbered(path, file))
            .filter(|(id, edit)| {
                let header = id.path.extension() == Some("h");
                let own = id.path == lack.unit;
                let beside = id.path.folder() == lack.unit.folder();
                match lack.by {
                    // A caller that has to follow a new prototype names the function on both sides.
                    Teller::Compiler => header && edit.brings(name) || own && edit.mentions(name),
                    Teller::Link => beside && !header && edit.mentions(name),
                }
            })
            .map(|(id, _)| id)
            .collect()
    }

    /// `fix` with the changes `chosen`, against the kernel's source.
    pub(super) fn extended(&self, fix: &Diff, chosen: &BTreeSet<EditId>) -> Diff {
        let paths: BTreeSet<&TreePath> = chosen.iter().map(|id| &id.path).collect();
        let mut diff = Diff {
            files: fix
                .files
                .iter()
                .filter(|file| !paths.contains(&file.path))
                .cloned()
                .collect(),
        };
        for path in paths {
            let Some(file) = self.files.get(path) else {
                continue;
            };
            let text = file.with(|number| {
                chosen.contains(&EditId {
                    path: path.clone(),
                    number,
                })
            });
            let change = fix_source::difference(path, file.kernel.as_deref(), Some(&text));
            // What we write we can read.
            if let Ok(change) = unified::parse(change.as_bytes()) {
                diff.files.extend(change.files);
            }
        }
        diff
    }
}

impl File {
    fn with(&self, chosen: impl Fn(usize) -> bool) -> String {
        let mut text = String::new();
        let mut done = 0;
        for (number, edit) in self.edits.iter().enumerate() {
            if !chosen(number) {
                continue;
            }
            text.extend(
                self.lines
                    .get(done..edit.at)
                    .unwrap_or_default()
                    .iter()
                    .map(String::as_str),
            );
            text.extend(edit.new.iter().map(String::as_str));
            done = edit.at + edit.old.len();
        }
        text.extend(
            self.lines
                .get(done..)
                .unwrap_or_default()
                .iter()
                .map(String::as_str),
        );
        text
    }
}

/// Cuts what comes at its blank lines: the first part takes the place of what goes, the others are
/// added after it. A definition that is new beside one that changed can so be taken alone.
fn paragraphs(at: usize, old: &[String], new: Vec<String>) -> Vec<Edit> {
    let end = at.saturating_add(old.len());
    let mut parts: Vec<Vec<String>> = vec![Vec::new()];
    for line in new {
        let blank = line.trim().is_empty();
        if blank && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(line);
        }
    }
    let mut edits = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let first = number == 0;
        edits.push(Edit {
            at: if first { at } else { end },
            old: if first { old.to_vec() } else { Vec::new() },
            new: part,
        });
    }
    edits
}

fn numbered<'a>(path: &'a TreePath, file: &'a File) -> impl Iterator<Item = (EditId, &'a Edit)> {
    file.edits.iter().enumerate().map(|(number, edit)| {
        (
            EditId {
                path: path.clone(),
                number,
            },
            edit,
        )
    })
}

/// Whether `#include` of `name` could mean the header at `path`.
fn is_included_as(path: &TreePath, name: &str) -> bool {
    path.as_str()
        .strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// Words that every C file uses.
const KEYWORDS: [&str; 32] = [
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else",
    "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "return",
    "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned",
    "void", "while",
];

/// The names in a line of C; comments are not told apart.
pub(super) fn names(line: &str) -> BTreeSet<String> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
        .filter(|word| !KEYWORDS.contains(word))
        .map(str::to_owned)
        .collect()
}
