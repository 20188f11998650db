//! One diff judged against one tree.

use std::collections::BTreeSet;

use tuxtape_core::applicability::carried::{self, Block, FileChange, FixFile, Found, Verdict};
use tuxtape_core::applicability::moved;
use tuxtape_core::cve::Cve;

use super::LookError;
use super::tree::Tree;

/// What was found of one diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its files that C's lexer can read, in order.
    pub files: Vec<JudgedFile>,
    /// Its other files that may be part of the fix, in order: build rules, settings, device trees, Rust.
    /// Nothing was looked for in them, so that no fix with such a file is known to be there.
    pub unjudged: Vec<String>,
    /// Whether it is only a part of the fix.
    pub is_part: bool,
}

/// What was found of the change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedFile {
    /// The file in the diff.
    pub path: String,
    /// The file in the tree, `None` where none was found.
    pub tree_path: Option<String>,
    /// Whether `tree_path` is a file of the same name elsewhere in which code of the diff's old side
    /// was found: another file perhaps, so that nothing in it shows that the fix is there.
    pub is_namesake: bool,
    /// Whether it decides; tools and documents do so where the diff changes nothing else.
    pub counts: bool,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
}

/// Most files of one name that are looked into for code that moved.
const MOST_CANDIDATES: usize = 40;

/// Tells whether a diff changes a source file that the record names, at its place or at one that
/// mainline's renames know. A file that names a CVE proves nothing: what it changes has to fit.
pub(super) fn is_about(files: &[FixFile], cve: &Cve) -> bool {
    let named: BTreeSet<String> = cve.files.iter().cloned().collect();
    files
        .iter()
        .any(|file| is_source(&file.path) && moved::in_tree(&file.path, &named).is_some())
}

/// Judges `files` of one diff.
pub(super) fn judge(files: &[FixFile], tree: &Tree) -> Result<Judged, LookError> {
    let mut judged = Vec::new();
    for file in files.iter().filter(|file| is_c(&file.path)) {
        judged.push(one(file, tree)?);
    }
    // What runs beside the kernel is often left out of a backport.
    if judged.iter().any(|file| is_kernel(&file.path)) {
        for file in &mut judged {
            file.counts = is_kernel(&file.path);
        }
    }
    let unjudged = files
        .iter()
        .filter(|file| !is_c(&file.path) && is_kernel(&file.path))
        .map(|file| file.path.clone())
        .collect();
    Ok(Judged {
        files: judged,
        unjudged,
        is_part: false,
    })
}

fn one(file: &FixFile, tree: &Tree) -> Result<JudgedFile, LookError> {
    let read = |path: &str| {
        tree.file(path).map_err(|source| LookError::Read {
            path: path.to_owned(),
            source,
        })
    };
    let judged = |tree_path: Option<String>, blocks| JudgedFile {
        path: file.path.clone(),
        tree_path,
        is_namesake: false,
        counts: true,
        blocks,
    };
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    let renamed = |namesakes: &[String]| {
        let namesakes = namesakes.iter().cloned().collect();
        moved::in_tree(&file.path, &namesakes).map(str::to_owned)
    };
    let known = match read(&file.path)? {
        Some(found) => Some((file.path.clone(), found)),
        None => match renamed(tree.named(name)) {
            Some(path) => read(&path)?.map(|found| (path, found)),
            None => None,
        },
    };
    if let Some((path, found)) = known {
        let blocks = match file.change {
            FileChange::Edited | FileChange::Created => carried::look_for(file, &found.source),
            // It is still there.
            FileChange::Deleted => whole(file, Found::Before),
        };
        return Ok(judged(Some(path), blocks));
    }
    let candidates = tree.named(name);
    let mut best: Option<(usize, String, Vec<Block>)> = None;
    let mut is_tied = false;
    if candidates.len() <= MOST_CANDIDATES {
        for path in candidates {
            let Some(found) = read(path)? else {
                continue;
            };
            let blocks = old_side(carried::look_for(file, &found.source));
            let hits = blocks
                .iter()
                .filter(|block| block.found == Found::Before)
                .count();
            match &best {
                Some((most, ..)) if hits == *most => is_tied = true,
                Some((most, ..)) if hits < *most => {}
                Some(_) | None if hits > 0 => {
                    is_tied = false;
                    best = Some((hits, path.clone(), blocks));
                }
                Some(_) | None => {}
            }
        }
    }
    Ok(match (best, file.change) {
        (Some((_, path, blocks)), FileChange::Edited) if !is_tied => JudgedFile {
            is_namesake: true,
            ..judged(Some(path), blocks)
        },
        // A file that comes with the fix, and nothing of its name is here.
        (None, FileChange::Created) if candidates.is_empty() => {
            judged(None, whole(file, Found::Before))
        }
        // That a file is gone proves nothing: it may never have been here.
        (_, FileChange::Deleted) => judged(None, whole(file, Found::Nothing)),
        _ => judged(None, file.hunks.iter().flat_map(carried::unseen).collect()),
    })
}

/// Keeps of what a namesake holds the old side alone: twins of drivers are fixed one by one.
fn old_side(blocks: Vec<Block>) -> Vec<Block> {
    blocks
        .into_iter()
        .map(|block| match block.found {
            Found::After | Found::Both => Block {
                found: Found::Neither,
                line: None,
                ..block
            },
            Found::Before | Found::Neither | Found::Nothing => block,
        })
        .collect()
}

/// Looks for a whole file's coming or going.
fn whole(file: &FixFile, found: Found) -> Vec<Block> {
    let blocks = file.hunks.iter().flat_map(carried::unseen);
    blocks.map(|block| Block { found, ..block }).collect()
}

fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn is_c(path: &str) -> bool {
    matches!(
        extension(path),
        Some("c" | "h" | "S" | "y" | "l" | "c_shipped" | "h_shipped" | "inc")
    )
}

fn is_source(path: &str) -> bool {
    is_c(path) || matches!(extension(path), Some("rs"))
}

/// Tells whether a file is of the kernel, not of what lies beside it.
fn is_kernel(path: &str) -> bool {
    const BESIDE: [&str; 2] = ["Documentation/", "tools/"];
    !BESIDE.iter().any(|folder| path.starts_with(folder))
}

impl Judged {
    /// Returns what the blocks that count say together.
    pub fn verdict(&self) -> Verdict {
        match carried::weigh(self.counting().map(|(_, block)| block.found)) {
            Verdict::Carries | Verdict::Nothing if !self.unjudged.is_empty() => Verdict::Partial,
            Verdict::Carries if self.is_part => Verdict::Partial,
            verdict => verdict,
        }
    }

    /// Tells whether any block that counts was found so.
    pub fn any(&self, found: Found) -> bool {
        self.counting().any(|(_, block)| block.found == found)
    }

    /// Returns the blocks that count, with their files.
    pub(super) fn counting(&self) -> impl Iterator<Item = (&JudgedFile, &Block)> {
        self.files
            .iter()
            .filter(|file| file.counts)
            .flat_map(|file| file.blocks.iter().map(move |block| (file, block)))
    }

    /// Says what was found, one line per block that counts; those that decide against come first.
    pub fn places(&self) -> Vec<String> {
        let mut places: Vec<(Found, String)> = self
            .counting()
            .filter(|(_, block)| block.found != Found::Nothing)
            .map(|(file, block)| (block.found, place(file, block)))
            .collect();
        let mixed = self.verdict() == Verdict::Partial;
        places.sort_by_key(|(found, _)| mixed && *found == Found::After);
        let unjudged = self
            .unjudged
            .iter()
            .map(|path| format!("{path} is changed too, and not looked at"));
        unjudged
            .chain(places.into_iter().map(|(_, place)| place))
            .collect()
    }
}

/// Says what was found of one block, so that `grep -nF` can check it.
fn place(file: &JudgedFile, block: &Block) -> String {
    const LONGEST: usize = 100;
    let sample: String = block.sample.chars().take(LONGEST).collect();
    let path = file.tree_path.as_deref().unwrap_or(&file.path);
    let line = block
        .line
        .map_or_else(String::new, |line| format!(":{line}"));
    let function = block
        .function
        .as_ref()
        .map_or_else(String::new, |name| format!(" {name}()"));
    let what = match (block.found, &file.tree_path) {
        (Found::After, _) => "as after the fix",
        (Found::Before, _) => "as before the fix",
        (Found::Both, _) if !block.doubts.is_empty() => {
            let doubts: Vec<String> = block.doubts.iter().map(ToString::to_string).collect();
            return format!(
                "{path}{line}{function} as after the fix, but {}: `{sample}`",
                doubts.join(", and ")
            );
        }
        (Found::Both, _) => "both as before and as after the fix",
        (Found::Neither | Found::Nothing, Some(_)) => "neither as before nor as after the fix",
        (Found::Neither | Found::Nothing, None) => "no such file, and not found elsewhere",
    };
    format!("{path}{line}{function} {what}: `{sample}`")
}
