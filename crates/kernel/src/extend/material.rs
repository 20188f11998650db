//! Collects the files in which a fix's missing parts may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Edits;
use crate::fix_source::{self, FixError};
use crate::unified::{self, ApplyError, Diff, PatchedFile, TreePath};

/// Folders whose headers every unit may include.
const HEADERS: [&str; 2] = ["include", "arch/x86/include"];
/// Deeper folders than this are not a kernel's.
const DEPTH: usize = 24;

/// Why the material could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A folder of the newer source cannot be read.
    #[error("could not read {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FixError),
    /// The fix does not fit the kernel's source.
    #[error("the fix does not apply")]
    Apply(#[from] ApplyError),
}

/// Collects how `newer` differs from `kernel` with `fix` in the files where something missing may be
/// declared: headers that any unit may include, and what lies beside the fix's files and `units`.
pub fn gather(
    kernel: &Path,
    newer: &Path,
    fix: &Diff,
    units: &BTreeSet<TreePath>,
) -> Result<Edits, MaterialError> {
    let mut fixed: BTreeMap<TreePath, Option<PatchedFile>> = BTreeMap::new();
    for file in &fix.files {
        let before = match fixed.get(&file.path) {
            Some(before) => before.clone(),
            None => fix_source::text(kernel, &file.path)?
                .map(|text| PatchedFile::pristine(text.as_bytes())),
        };
        let after = unified::apply(file, before.as_ref())?;
        fixed.insert(file.path.clone(), after);
    }
    let folders: BTreeSet<&str> = fixed
        .keys()
        .chain(units)
        .map(TreePath::folder)
        .filter(|folder| !folder.is_empty())
        .collect();
    let mut paths: BTreeSet<TreePath> = fixed.keys().chain(units).cloned().collect();
    for folder in HEADERS {
        walk(newer, folder, DEPTH, &["h"], &mut paths)?;
    }
    for folder in folders {
        walk(newer, folder, 0, &["c", "h"], &mut paths)?;
    }
    let mut edits = Edits::default();
    for path in paths {
        // Other bytes than text are no source of ours.
        let Ok(Some(new)) = fix_source::text(newer, &path) else {
            continue;
        };
        let Ok(old) = fix_source::text(kernel, &path) else {
            continue;
        };
        if let Some(after) = fixed.get(&path) {
            let after = after
                .as_ref()
                .map(|after| String::from_utf8_lossy(&after.bytes()).into_owned());
            edits.add(path, old, after.as_deref(), &new);
        } else {
            let same = old.clone();
            edits.add(path, old, same.as_deref(), &new);
        }
    }
    Ok(edits)
}

/// Adds the files below `folder` of `tree` with one of these extensions.
fn walk(
    tree: &Path,
    folder: &str,
    depth: usize,
    extensions: &[&str],
    into: &mut BTreeSet<TreePath>,
) -> Result<(), MaterialError> {
    let full = tree.join(folder);
    let failed = |source| MaterialError::Folder {
        path: full.clone(),
        source,
    };
    let entries = match fs::read_dir(&full) {
        Ok(entries) => entries,
        // A folder that the newer source has no more holds nothing that could be missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Ok(path) = format!("{folder}/{}", name.to_string_lossy()).parse::<TreePath>() else {
            continue;
        };
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            if let Some(deeper) = depth.checked_sub(1) {
                walk(tree, path.as_str(), deeper, extensions, into)?;
            }
        } else if kind.is_file()
            && path
                .extension()
                .is_some_and(|extension| extensions.contains(&extension))
        {
            into.insert(path);
        }
    }
    Ok(())
}
