//! A second kernel tree that may be changed for the time of one build.
//!
//! The prepared tree stays as it is: the second one is made of hard links to it, and a patched file
//! is written beside the link and renamed over it, which leaves the other tree's file alone. What is
//! changed is noted in a journal first, so that a run that was cut off is put right by the next.
//!
//! A third tree, made like the second, never changes: objects of the pristine source are compiled in
//! it while the second holds the fix.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tuxtape_sys::durable::{self, WriteError};
use tuxtape_sys::lock::{self, Lock, LockError, Taken};

use crate::unified::TreePath;

/// Files whose content tells one prepared tree from another.
const STAMPED: [&str; 5] = [
    ".config",
    "Makefile",
    "include/generated/autoconf.h",
    "include/generated/utsrelease.h",
    "include/generated/asm-offsets.h",
];

/// Folders of headers that `make prepare` generates, all of which units include.
const GENERATED: [&str; 2] = ["include/generated", "arch/x86/include/generated"];

/// How the trees are made; another number makes them anew.
pub(super) const FORM: u32 = 3;

/// The file that says which tree the two were made of.
const MADE: &str = "made-from";

/// Why the second tree could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The prepared tree is not there.
    #[error("{path} is no prepared kernel tree", path = path.display())]
    NotPrepared {
        /// A file that every prepared tree has.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another run holds the tree.
    #[error("another build ({note}) has used {path} for more than {seconds} s", path = path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// What the holder says of itself.
        note: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A path of the fix leads through a symbolic link.
    #[error("{path} leads through a symbolic link")]
    Link {
        /// The path.
        path: TreePath,
    },
    /// A file could not be read, linked or removed.
    #[error("could not use {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Kbuild made a header that the tree was prepared with anew, and otherwise.
    #[error(
        "making a unit changed {path}, which the kernel's tree was prepared with: remove that tree and run `tuxtape kernel add` again",
        path = path.display()
    )]
    Regenerated {
        /// The header, relative to the tree.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The tree could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// The second tree, held by one run at a time.
#[derive(Debug)]
pub struct WorkTree {
    /// The second tree.
    top: PathBuf,
    /// The third, which holds no fix.
    pristine: PathBuf,
    journal: PathBuf,
    stamp: String,
    // Released by the system when we and our children are gone, however that comes about.
    _lock: Lock,
}

impl WorkTree {
    /// Takes the second tree below `folder`, and makes it if it is not there or was made from
    /// another `source`. Waits for another run at most for `patience`, and says so to `told` once.
    ///
    /// Blocks on the disk for some seconds the first time. Both must be on one file system.
    pub fn take(
        source: &Path,
        folder: &Path,
        patience: Duration,
        told: fn(&str),
    ) -> Result<Self, TreeError> {
        let stamp = stamp(source)?;
        fs::create_dir_all(folder).map_err(at(folder))?;
        let lock = lock(&folder.join("lock"), patience, told)?;
        let tree = Self {
            top: folder.join("tree"),
            pristine: folder.join("pristine"),
            journal: folder.join("journal"),
            stamp,
            _lock: lock,
        };
        let made = folder.join(MADE);
        let text = format!("{FORM} {}", tree.stamp);
        if fs::read_to_string(&made).is_ok_and(|found| found == text) {
            tree.restore()?;
            return Ok(tree);
        }
        remove(&made)?;
        remove(&tree.journal)?;
        for top in [&tree.top, &tree.pristine] {
            if top.exists() {
                fs::remove_dir_all(top).map_err(at(top))?;
            }
            link_folder(source, top)?;
        }
        durable::write(&made, text.as_bytes())?;
        Ok(tree)
    }

    /// Returns the top of the second tree.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Returns the top of the tree that no fix is written to.
    pub fn pristine(&self) -> &Path {
        &self.pristine
    }

    /// Returns a text that is another one for every prepared tree.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }

    /// Fails if a header that `make prepare` generates is not the same in both trees: what is compiled
    /// in one could not be compared with what is in the other. The next run makes both anew then.
    pub fn check_generated(&self) -> Result<(), TreeError> {
        let (ours, theirs) = (generated(&self.top)?, generated(&self.pristine)?);
        for path in ours.union(&theirs) {
            let same = ours.contains(path)
                && theirs.contains(path)
                && read(&self.top.join(path))? == read(&self.pristine.join(path))?;
            if !same {
                remove(&self.top.with_file_name(MADE))?;
                return Err(TreeError::Regenerated { path: path.clone() });
            }
        }
        Ok(())
    }

    /// Reads a file; `None` if it is not there. Refuses symbolic links on the way.
    pub fn read(&self, path: &TreePath) -> Result<Option<Vec<u8>>, TreeError> {
        self.plain(path)?;
        let full = self.top.join(path.as_str());
        match fs::read(&full) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TreeError::Io { path: full, source }),
        }
    }

    /// Writes (or, for `None`, removes) the files of a fix, after noting them in the journal.
    pub fn write(&self, files: &[(TreePath, Option<Vec<u8>>)]) -> Result<(), TreeError> {
        for (path, _) in files {
            self.plain(path)?;
        }
        let mut journal: BTreeSet<TreePath> = self.journal()?.into_iter().collect();
        journal.extend(files.iter().map(|(path, _)| path.clone()));
        let text = journal
            .iter()
            .fold(String::new(), |text, path| text + path.as_str() + "\n");
        durable::write(&self.journal, text.as_bytes())?;
        for (path, bytes) in files {
            let full = self.top.join(path.as_str());
            match bytes {
                Some(bytes) => {
                    if let Some(folder) = full.parent() {
                        fs::create_dir_all(folder).map_err(at(folder))?;
                    }
                    durable::write(&full, bytes)?;
                }
                None => remove(&full)?,
            }
        }
        Ok(())
    }

    /// Puts back everything the journal names.
    pub fn restore(&self) -> Result<(), TreeError> {
        for path in self.journal()? {
            let full = self.top.join(path.as_str());
            // Not from the prepared tree: somebody may have changed a file there meanwhile, and the two
            // trees must hold the same.
            let pristine = self.pristine.join(path.as_str());
            remove(&full)?;
            if pristine.is_file() {
                fs::hard_link(&pristine, &full).map_err(at(&full))?;
            } else {
                // Folders that only the fix brought; a full one stays.
                let mut folder = full.parent();
                while let Some(empty) = folder.filter(|folder| *folder != self.top) {
                    if fs::remove_dir(empty).is_err() {
                        break;
                    }
                    folder = empty.parent();
                }
            }
        }
        remove(&self.journal)
    }

    fn journal(&self) -> Result<Vec<TreePath>, TreeError> {
        match fs::read_to_string(&self.journal) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(TreeError::Io {
                path: self.journal.clone(),
                source,
            }),
        }
    }

    fn plain(&self, path: &TreePath) -> Result<(), TreeError> {
        let mut full = self.top.clone();
        for part in path.as_str().split('/') {
            full.push(part);
            match fs::symlink_metadata(&full) {
                Ok(found) if found.is_symlink() => {
                    return Err(TreeError::Link { path: path.clone() });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(TreeError::Io { path: full, source }),
            }
        }
        Ok(())
    }
}

/// Removes a file if it is there.
pub fn remove(path: &Path) -> Result<(), TreeError> {
    durable::remove(path).map_err(at(path))
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io { path, source }
}

/// Waits for the lock. Children get it, too: a compiler that outlives a killed run still writes into
/// the tree, and the next run must not take its object for one of its own.
fn lock(path: &Path, patience: Duration, told: fn(&str)) -> Result<Lock, TreeError> {
    let note = format!("process {}", std::process::id());
    let start = Instant::now();
    let mut said = false;
    loop {
        match lock::take(path, &note)? {
            Taken::Ours(lock) => {
                lock.share_with_children().map_err(at(path))?;
                return Ok(lock);
            }
            Taken::Held { note } if start.elapsed() >= patience => {
                return Err(TreeError::Busy {
                    path: path.to_owned(),
                    note,
                    seconds: patience.as_secs(),
                });
            }
            Taken::Held { note } => {
                if !said {
                    told(&format!(
                        "waiting: another build of this kernel is under way ({note})"
                    ));
                    said = true;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// A text that is another one for every prepared tree.
pub(crate) fn stamp(source: &Path) -> Result<String, TreeError> {
    let mut hash = Sha256::new();
    for name in STAMPED {
        let path = source.join(name);
        let bytes = fs::read(&path).map_err(|source| TreeError::NotPrepared {
            path: path.clone(),
            source,
        })?;
        hash.update(name);
        hash.update(bytes.len().to_le_bytes());
        hash.update(&bytes);
    }
    for name in generated(source)? {
        let bytes = read(&source.join(&name))?;
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update(bytes.len().to_le_bytes());
        hash.update(&bytes);
    }
    // Another revision of the same point release differs in none of these; unpacking it anew gives
    // another file.
    let path = source.join("MAINTAINERS");
    let found = fs::metadata(&path).map_err(|source| TreeError::NotPrepared { path, source })?;
    hash.update(found.ino().to_le_bytes());
    hash.update(found.mtime().to_le_bytes());
    Ok(hex::encode(hash.finalize()))
}

/// The headers that `make prepare` generated in the tree at `top`, relative to it.
fn generated(top: &Path) -> Result<BTreeSet<PathBuf>, TreeError> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = GENERATED.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let full = top.join(&folder);
        let entries = match fs::read_dir(&full) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(TreeError::Io { path: full, source }),
        };
        for entry in entries {
            let entry = entry.map_err(at(&full))?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(at(&full))?;
            if kind.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "h") {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TreeError> {
    fs::read(path).map_err(at(path))
}

/// Links every file of `from` into the new folder `to`. What `make` may write again in place is
/// copied.
fn link_folder(from: &Path, to: &Path) -> Result<(), TreeError> {
    fs::create_dir(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(at(&old))?;
        if kind.is_dir() {
            link_folder(&old, &new)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&old).map_err(at(&old))?;
            std::os::unix::fs::symlink(target, &new).map_err(at(&new))?;
        } else if kind.is_file() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let command = from.join(format!(".{name}.cmd"));
            if name.ends_with(".cmd") || command.exists() {
                copy(&old, &new)?;
            } else {
                fs::hard_link(&old, &new).map_err(at(&new))?;
            }
        }
    }
    Ok(())
}

/// Copies a file with its times, which `make` compares.
pub(crate) fn copy(old: &Path, new: &Path) -> Result<(), TreeError> {
    fs::copy(old, new).map_err(at(new))?;
    let modified = fs::metadata(old)
        .and_then(|found| found.modified())
        .map_err(at(old))?;
    fs::File::options()
        .write(true)
        .open(new)
        .and_then(|file| file.set_modified(modified))
        .map_err(at(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prepared tree with one file of a unit, and a place for the second tree.
    fn prepared() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in STAMPED
            .iter()
            .chain(&["MAINTAINERS", "net/a.c", "kernel/.bounds.s.cmd"])
        {
            let path = folder.path().join("source").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        fs::write(folder.path().join("source/kernel/bounds.s"), "s").unwrap();
        folder
    }

    // Children of other tests may hold a lock for a moment longer than we do.
    fn take(folder: &Path) -> Result<WorkTree, TreeError> {
        take_within(folder, Duration::from_secs(20))
    }

    fn take_within(folder: &Path, patience: Duration) -> Result<WorkTree, TreeError> {
        WorkTree::take(
            &folder.join("source"),
            &folder.join("work"),
            patience,
            |_| {},
        )
    }

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    #[test]
    fn a_patched_file_leaves_the_prepared_tree_alone() {
        let folder = prepared();
        let tree = take(folder.path()).unwrap();
        let files = [
            (path("net/a.c"), Some(b"patched".to_vec())),
            (path("net/new/b.h"), Some(b"new".to_vec())),
        ];
        tree.write(&files).unwrap();
        assert_eq!(
            fs::read(folder.path().join("source/net/a.c")).unwrap(),
            b"net/a.c"
        );
        assert_eq!(tree.read(&path("net/a.c")).unwrap().unwrap(), b"patched");
        assert_eq!(
            fs::read(tree.pristine().join("net/a.c")).unwrap(),
            b"net/a.c"
        );
        assert!(!tree.pristine().join("net/new").exists());
        tree.restore().unwrap();
        assert_eq!(tree.read(&path("net/a.c")).unwrap().unwrap(), b"net/a.c");
        assert!(!tree.top().join("net/new").exists());
    }

    #[test]
    fn a_run_that_was_cut_off_is_put_right_by_the_next() {
        let folder = prepared();
        let tree = take(folder.path()).unwrap();
        tree.write(&[(path("net/a.c"), None)]).unwrap();
        drop(tree);
        let tree = take(folder.path()).unwrap();
        assert_eq!(tree.read(&path("net/a.c")).unwrap().unwrap(), b"net/a.c");
    }

    #[test]
    fn a_prepared_file_that_is_edited_later_enters_neither_tree() {
        let folder = prepared();
        let tree = take(folder.path()).unwrap();
        let edited = folder.path().join("source/net/a.c");
        fs::write(edited.with_extension("new"), "edited").unwrap();
        fs::rename(edited.with_extension("new"), &edited).unwrap();
        tree.write(&[(path("net/a.c"), Some(b"patched".to_vec()))])
            .unwrap();
        tree.restore().unwrap();
        let (one, other) = (tree.top().join("net/a.c"), tree.pristine().join("net/a.c"));
        assert_eq!(fs::read(one).unwrap(), b"net/a.c");
        assert_eq!(fs::read(other).unwrap(), b"net/a.c");
    }

    #[test]
    fn what_make_writes_in_place_is_no_link() {
        let folder = prepared();
        let tree = take(folder.path()).unwrap();
        for name in ["kernel/bounds.s", "kernel/.bounds.s.cmd"] {
            fs::write(tree.top().join(name), "changed").unwrap();
            let pristine = fs::read(folder.path().join("source").join(name)).unwrap();
            assert_ne!(pristine, b"changed", "{name}");
        }
    }

    #[test]
    fn another_prepared_tree_makes_another_second_tree() {
        let folder = prepared();
        drop(take(folder.path()).unwrap());
        fs::write(folder.path().join("source/new.config"), "x").unwrap();
        fs::rename(
            folder.path().join("source/new.config"),
            folder.path().join("source/.config"),
        )
        .unwrap();
        let tree = take(folder.path()).unwrap();
        assert_eq!(tree.read(&path(".config")).unwrap().unwrap(), b"x");
    }

    #[test]
    fn another_generated_header_makes_another_second_tree() {
        let folder = prepared();
        let name = "arch/x86/include/generated/uapi/asm/types.h";
        let header = folder.path().join("source").join(name);
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        for text in ["one", "two"] {
            fs::write(header.with_extension("new"), text).unwrap();
            fs::rename(header.with_extension("new"), &header).unwrap();
            let tree = take(folder.path()).unwrap();
            for top in [tree.top(), tree.pristine()] {
                assert_eq!(fs::read(top.join(name)).unwrap(), text.as_bytes());
            }
            tree.check_generated().unwrap();
        }
    }

    #[test]
    fn a_header_that_kbuild_makes_anew_is_noticed() {
        let folder = prepared();
        let tree = take(folder.path()).unwrap();
        let header = tree.top().join(STAMPED[3]);
        fs::remove_file(&header).unwrap();
        fs::write(&header, "another").unwrap();
        let error = tree.check_generated().unwrap_err();
        assert!(error.to_string().contains(STAMPED[3]), "{error}");
        fs::remove_file(&header).unwrap();
        assert!(tree.check_generated().is_err());
        drop(tree);
        take(folder.path()).unwrap().check_generated().unwrap();
    }

    #[test]
    fn only_one_run_holds_the_tree() {
        let folder = prepared();
        let _tree = take(folder.path()).unwrap();
        assert!(matches!(
            take_within(folder.path(), Duration::ZERO),
            Err(TreeError::Busy { .. })
        ));
    }

    #[test]
    fn what_a_killed_run_left_running_keeps_the_tree() {
        let folder = prepared();
        let tree = take(folder.path()).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        drop(tree);
        let next = take_within(folder.path(), Duration::ZERO);
        let words = next.unwrap_err().to_string();
        let note = format!("another build (process {})", std::process::id());
        assert!(words.starts_with(&note), "{words}");
        drop(child.stdin.take());
        child.wait().unwrap();
        take(folder.path()).unwrap();
    }

    #[test]
    fn a_path_through_a_link_is_refused_before_anything_is_written() {
        let folder = prepared();
        std::os::unix::fs::symlink("/tmp", folder.path().join("source/out")).unwrap();
        let tree = take(folder.path()).unwrap();
        let files = [
            (path("net/a.c"), Some(Vec::new())),
            (path("out/x"), Some(Vec::new())),
        ];
        assert!(matches!(tree.write(&files), Err(TreeError::Link { .. })));
        assert_eq!(tree.read(&path("net/a.c")).unwrap().unwrap(), b"net/a.c");
        assert!(matches!(
            tree.read(&path("out/x")),
            Err(TreeError::Link { .. })
        ));
    }
}
