//! The file that says whose copies lie in a kernel's folder, and whether they are whole.

use std::path::{Path, PathBuf};

use tuxtape_core::identity::BuildId;
use tuxtape_sys::{durable, regular};

use super::{TakeError, at};
use crate::files::KernelFiles;

/// First line; another number makes the copies anew.
const HEAD: &str = "tuxtape build tree 1";

/// In place of a build-id while copies are made.
const BEGUN: &str = "-";

/// Longest mark, in bytes.
const LONGEST: u64 = 16 << 10;

/// What a kernel's folder holds of a build tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    None,
    /// Copies that do not count.
    Begun {
        /// The tree.
        tree: PathBuf,
    },
    /// All that is needed of one build.
    Whole {
        /// The tree.
        tree: PathBuf,
        /// Build-id of its vmlinux.
        build_id: BuildId,
    },
}

impl State {
    /// Whether all of the build `wanted` is there.
    pub fn is_whole(&self, wanted: &BuildId) -> bool {
        match self {
            Self::None | Self::Begun { .. } => false,
            Self::Whole { build_id, .. } => build_id == wanted,
        }
    }
}

/// Returns what the folder of `files` holds of a build tree.
pub fn state(files: &KernelFiles) -> State {
    let read = || -> Option<State> {
        let bytes = regular::read(&path(files), LONGEST).ok()??;
        parse(&String::from_utf8(bytes).ok()?)
    };
    read().unwrap_or(State::None)
}

fn parse(text: &str) -> Option<State> {
    let mut lines = text.lines();
    let (head, build, tree) = (lines.next()?, lines.next()?, lines.next()?);
    // A mark that was cut off says nothing.
    let is_all = text.ends_with('\n') && lines.next().is_none() && !tree.is_empty();
    (head == HEAD && is_all).then_some(())?;
    let tree = PathBuf::from(tree);
    if build == BEGUN {
        return Some(State::Begun { tree });
    }
    let build_id = build.parse().ok()?;
    Some(State::Whole { tree, build_id })
}

/// Notes that copies of `tree` are being made.
pub(super) fn begin(files: &KernelFiles, tree: &Path) -> Result<(), TakeError> {
    write(files, BEGUN, tree)
}

/// Notes that all of the build `build_id` in `tree` is there.
pub(super) fn finish(
    files: &KernelFiles,
    tree: &Path,
    build_id: &BuildId,
) -> Result<(), TakeError> {
    write(files, &build_id.to_string(), tree)
}

/// Notes that nothing is there.
pub(super) fn remove(files: &KernelFiles) -> Result<(), TakeError> {
    let path = path(files);
    durable::remove(&path).map_err(at(&path))
}

fn write(files: &KernelFiles, build: &str, tree: &Path) -> Result<(), TakeError> {
    std::fs::create_dir_all(&files.top).map_err(at(&files.top))?;
    let text = format!("{HEAD}\n{build}\n{}\n", tree.display());
    Ok(durable::write(&path(files), text.as_bytes())?)
}

fn path(files: &KernelFiles) -> PathBuf {
    files.top.join("build-tree")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_was_written_and_nothing_when_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let files = KernelFiles::below(folder.path(), &"6.1.5-own".parse().unwrap());
        assert_eq!(state(&files), State::None);
        let (tree, id) = (PathBuf::from("/src/linux"), "00ff".parse().unwrap());
        begin(&files, &tree).unwrap();
        assert_eq!(state(&files), State::Begun { tree: tree.clone() });
        assert!(!state(&files).is_whole(&id));
        finish(&files, &tree, &id).unwrap();
        assert!(state(&files).is_whole(&id));
        assert!(!state(&files).is_whole(&"00fe".parse().unwrap()));
        let text = std::fs::read_to_string(path(&files)).unwrap();
        for end in 0..text.len() {
            assert_eq!(parse(text.get(..end).unwrap()), None, "{end}");
        }
        assert_eq!(parse(&format!("{text}more\n")), None);
        remove(&files).unwrap();
        assert_eq!(state(&files), State::None);
    }
}
