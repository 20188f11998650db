//! Kernels that their owner built: what a livepatch needs of the build tree, copied below the cache.
//!
//! The tree belongs to somebody who edits it and builds in it again. So nothing of it is linked to: an
//! editor that writes a file in place would change our copy with it, and a `make` of ours theirs.
//! Objects and private keys stay where they are; what `make` would make of the objects is made of the
//! units alone when a fix touches them.
//!
//! | from the build tree | to, below `CACHE/kernels/RELEASE/` |
//! |---|---|
//! | sources, generated headers, programs of the build | `source/`, prepared once more there |
//! | `.config`, `Module.symvers` | `headers/` |
//! | `vmlinux`, the modules of `modules.order` | `debug/` |
//! | `arch/x86/boot/bzImage`, the same modules | `image/` |
//!
//! `build-tree` beside them names the tree and, once all is there, the build; before, the copies do not
//! count.

mod build;
mod choose;
mod mark;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_sys::durable::WriteError;
use tuxtape_sys::map::MapError;
use tuxtape_sys::process::{self, ProcessError};

use crate::debian::{self, AddError};
use crate::files::KernelFiles;
use crate::prepare;
use crate::profile::stamp::{self, LoadError};
use crate::progress::{Event, Progress};
use crate::replay::tree::TreeError;

use build::Build;
pub use mark::{State, state};

/// Limit of making type data for a vmlinux.
const TYPES: Duration = Duration::from_secs(900);

/// What of the tree is prepared or built anew in the copy, in bytes, by a generous guess.
const GROWTH: u64 = 200_000_000;

/// Folders that hold the copies.
const PARTS: [&str; 4] = ["source", "headers", "debug", "image"];

/// Folders of what builds make of them.
const MADE: [&str; 2] = ["work", "objects"];

/// Why a build tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The tree is not known, or no longer there.
    #[error("the tree that {release} was added from is not at hand{why}")]
    NoTree {
        /// The kernel.
        release: KernelRelease,
        /// What is known of it, with its separator.
        why: String,
    },
    /// The tree holds no finished build.
    #[error("{tree} holds no finished build that livepatches could be made for: {what}", tree = tree.display())]
    NoBuild {
        /// The tree.
        tree: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The tree is no longer what the kernel was built of.
    #[error("not-the-kernel: {tree} has changed: {what}", tree = tree.display())]
    Changed {
        /// The tree.
        tree: PathBuf,
        /// The first difference.
        what: String,
    },
    /// A kernel of packages with the same release is in the cache.
    #[error("{folder} holds the files of another kernel that calls itself {release}", folder = folder.display())]
    Taken {
        /// The kernel's folder in the cache.
        folder: PathBuf,
        /// The release.
        release: KernelRelease,
    },
    /// How the tree looked is kept and cannot be read.
    #[error(transparent)]
    Stamp(#[from] LoadError),
    /// A file could not be read or written.
    #[error("could not use {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be copied.
    #[error(transparent)]
    Copy(#[from] TreeError),
    /// A file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The mark could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The vmlinux has no type data, and none could be made.
    #[error("could not make the type data (.BTF) that this vmlinux lacks")]
    Types(#[source] ProcessError),
    /// The copies could not be prepared, or the cache not be used.
    #[error(transparent)]
    Add(#[from] AddError),
}

/// Returns where the files of the kernel of `profile` lie; those of one that its owner built are copied
/// below `cache` first, where that was not done.
///
/// Blocks for a minute and copies some gigabytes the first time, under the cache's lock. The build tree
/// is only read.
pub fn take(
    cache: &Path,
    home: &Path,
    profile: &KernelProfile,
    progress: &dyn Progress,
) -> Result<KernelFiles, TakeError> {
    let release = &profile.id.release;
    let files = KernelFiles::below(cache, release);
    let (true, Some(build_id)) = (is_folder(profile), &profile.id.build_id) else {
        return Ok(files);
    };
    if state(&files).is_whole(build_id) {
        return Ok(files);
    }
    let _lock = debian::lock(cache, &format!("copying the build of {release}"))?;
    let tree = tree_of(&files)?;
    let stamp = stamp::load(home, &profile.id)?;
    let build = Build::look(tree, profile, stamp.as_ref(), build_id)?;
    debian::require_space(cache, build.bytes + GROWTH)?;
    // From here on until the mark is whole nothing of it counts.
    forget(&files)?;
    mark::begin(&files, &build.tree)?;
    debian::step(progress, "copy the build tree", || build.copy(&files))?;
    // What was changed while it was copied is told by its stamp, and by the build-id of the copy.
    build.check(&files.vmlinux, profile, stamp.as_ref(), build_id)?;
    if !build::has_section(&files.vmlinux, ".BTF")? {
        debian::step(progress, "make type data", || make_types(&files.vmlinux))?;
    }
    debian::step(progress, "prepare the copy", || -> Result<(), TakeError> {
        let compiler = debian::compiler(&files)?;
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let texts = prepare::prepare(&files, &compiler, jobs).map_err(AddError::from)?;
        for text in texts {
            progress.tell(Event::Note { text });
        }
        Ok(())
    })?;
    mark::finish(&files, &build.tree, build_id)?;
    Ok(files)
}

/// Whether the kernel was added from a folder, `dir:`.
pub fn is_folder(profile: &KernelProfile) -> bool {
    profile.origin.spec.starts_with("dir:")
}

/// Removes the link to the tree of `files`, what was copied of it, and what was made of the copies.
///
/// Files of packages are left alone, and refused.
pub fn forget(files: &KernelFiles) -> Result<(), TakeError> {
    let top = &files.top;
    let is_ours = match state(files) {
        State::None => {
            refuse_packages(files)?;
            false
        }
        State::Begun { tree } | State::Whole { tree, .. } => {
            mark::begin(files, &tree)?;
            true
        }
    };
    if is_link(&files.source) {
        fs::remove_file(&files.source).map_err(at(&files.source))?;
    }
    if !is_ours {
        return Ok(());
    }
    for name in PARTS.iter().chain(&MADE) {
        let path = top.join(name);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(TakeError::Io { path, source });
            }
            _ => {}
        }
    }
    mark::remove(files)
}

/// Refuses a folder that holds what is no copy of a build tree.
fn refuse_packages(files: &KernelFiles) -> Result<(), TakeError> {
    let others = |name: &&str| {
        let path = files.top.join(name);
        path.exists() && !is_link(&path)
    };
    if PARTS.iter().any(others) {
        return Err(TakeError::Taken {
            folder: files.top.clone(),
            release: files.release.clone(),
        });
    }
    Ok(())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// The tree that `kernel add` noted: by its link, else in the mark of copies that were begun.
fn tree_of(files: &KernelFiles) -> Result<PathBuf, TakeError> {
    let missing = |why: String| TakeError::NoTree {
        release: files.release.clone(),
        why,
    };
    let noted = match state(files) {
        State::None => {
            refuse_packages(files)?;
            None
        }
        State::Begun { tree } | State::Whole { tree, .. } => Some(tree),
    };
    let found = fs::read_link(&files.source).ok().or(noted);
    let found = found.ok_or_else(|| missing(String::new()))?;
    fs::canonicalize(&found).map_err(|error| missing(format!(": {}: {error}", found.display())))
}

/// Adds the type data that a kernel without `CONFIG_DEBUG_INFO_BTF` lacks, from its debug data.
fn make_types(vmlinux: &Path) -> Result<(), TakeError> {
    let mut pahole = Command::new("pahole");
    pahole.arg("-J").arg(vmlinux);
    process::run_ok(&mut pahole, TYPES)
        .map(drop)
        .map_err(TakeError::Types)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TakeError {
    let path = path.to_owned();
    move |source| TakeError::Io { path, source }
}

#[cfg(test)]
mod tests;
