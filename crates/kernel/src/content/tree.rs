//! The files of a source tree, read once.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tuxtape_core::applicability::carried::Source;

use crate::unified::TreePath;

/// Largest file that is read, in bytes.
const LONGEST_FILE: u64 = 16 << 20;

/// Most memory that read files take, in bytes; beyond it they are forgotten and read again.
const MOST_KEPT: usize = 256 << 20;

/// Deepest folder that is listed.
const DEEPEST: usize = 24;

/// A source tree.
#[derive(Debug)]
pub(super) struct Tree {
    top: PathBuf,
    kept: Mutex<Kept>,
    names: OnceLock<HashMap<String, Vec<String>>>,
}

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<String, Arc<File>>,
    size: usize,
}

/// One file as it was read.
#[derive(Debug)]
pub(super) struct File {
    /// Its text; bytes that are no UTF-8 are replaced.
    pub(super) text: String,
    /// The same, ready to be searched.
    pub(super) source: Source,
}

impl Tree {
    pub(super) fn new(top: &Path) -> Self {
        Self {
            top: top.to_owned(),
            kept: Mutex::default(),
            names: OnceLock::new(),
        }
    }

    pub(super) fn top(&self) -> &Path {
        &self.top
    }

    /// Returns a file, `None` where there is none to be read at `path`.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<Arc<File>>> {
        let path: TreePath = match path.parse() {
            Ok(path) => path,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        };
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = lock().files.get(path.as_str()) {
            return Ok(Some(Arc::clone(file)));
        }
        let Some(bytes) = bytes(&self.top, &path)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let file = Arc::new(File {
            source: Source::read(&text),
            text,
        });
        let mut kept = lock();
        let size = file.text.len().saturating_add(file.source.size());
        if kept.size.saturating_add(size) > MOST_KEPT {
            *kept = Kept::default();
        }
        kept.size = kept.size.saturating_add(size);
        kept.files
            .insert(path.as_str().to_owned(), Arc::clone(&file));
        Ok(Some(file))
    }

    /// Returns the files of the tree whose last name is `name`, sorted. Lists the tree at the first
    /// call; folders that cannot be listed have no files.
    pub(super) fn named(&self, name: &str) -> &[String] {
        let names = self.names.get_or_init(|| {
            let mut names = HashMap::new();
            list(&self.top, "", 0, &mut names);
            for paths in names.values_mut() {
                let paths: &mut Vec<String> = paths;
                paths.sort();
            }
            names
        });
        names.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Reads a file of a tree; `None` where it is not there, is no plain file, or lies outside by a link.
pub(super) fn bytes(top: &Path, path: &TreePath) -> io::Result<Option<Vec<u8>>> {
    let full = top.join(path.as_str());
    let found = match fs::symlink_metadata(&full) {
        Ok(found) => found,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !found.is_file() || !fs::canonicalize(&full)?.starts_with(fs::canonicalize(top)?) {
        return Ok(None);
    }
    if found.len() > LONGEST_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read(&full).map(Some)
}

fn list(top: &Path, folder: &str, depth: usize, names: &mut HashMap<String, Vec<String>>) {
    let Ok(entries) = fs::read_dir(top.join(folder)) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Links are not followed.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        if kind.is_dir() && depth < DEEPEST && name != ".git" {
            list(top, &path, depth + 1, names);
        } else if kind.is_file() {
            names.entry(name).or_default().push(path);
        }
    }
}
