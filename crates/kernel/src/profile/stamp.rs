//! How a source tree looked when its kernel was added, kept as `HOME/kernels/RELEASE/tree.gz`.
//!
//! A tree that was added where it lies may be changed later without a new build. What is looked for in a
//! changed file says nothing of the kernel. Of every source file its size and its times are kept: to ask
//! the system for those of one file takes microseconds, and no program can set the time of the last
//! change to a file's inode.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::identity::{BuildId, KernelRelease};
use tuxtape_core::profile::ProfileId;
use tuxtape_sys::durable::WriteError;

use super::beside;
use crate::unified::TreePath;

/// The one format written and read.
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes, and the largest text it may hold.
const FILE_LIMIT: u64 = 16 << 20;
const TEXT_LIMIT: u64 = 64 << 20;

const NAME: &str = "tree.gz";

/// How the files of a tree looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeStamp {
    /// Top of the tree.
    pub top: PathBuf,
    /// The files whose content is that of the kernel, relative to the top.
    pub files: BTreeMap<String, FileStamp>,
}

/// Size in bytes and, in nanoseconds since 1970, the times of the last change to content and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp(u64, i64, i64);

/// Why a stamp could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no stamp of that kernel's tree.
    #[error("{path} does not say how the tree of {release} looked: {why}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The kernel asked for.
        release: KernelRelease,
        /// What is wrong in it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    release: KernelRelease,
    build_id: Option<BuildId>,
    top: PathBuf,
    sha256: String,
}

impl TreeStamp {
    /// Notes how `files` of the tree at `top` look. One that was changed after `built`, the file that the
    /// build wrote last, is left out: the kernel was built of another. Blocks on reading the tree.
    pub fn take(top: &Path, files: &BTreeSet<String>, built: Option<&Path>) -> Self {
        let built = built
            .and_then(|path| fs::metadata(path).ok())
            .map(|found| nanoseconds(found.mtime(), found.mtime_nsec()));
        let stamp = |file: &String| {
            let stamp = FileStamp::of(&top.join(file))?;
            let is_newer = built.is_some_and(|built| stamp.1 > built);
            (!is_newer).then(|| (file.clone(), stamp))
        };
        Self {
            top: top.to_owned(),
            files: files.iter().filter_map(stamp).collect(),
        }
    }

    /// Returns the first of `files` that is not as it was, with what is different.
    pub fn changed<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> Option<String> {
        files.into_iter().find_map(|file| {
            // What leads out of the tree is not read either.
            let path: TreePath = file.parse().ok()?;
            let now = FileStamp::of(&self.top.join(path.as_str()));
            let what = match (self.files.get(file), now) {
                (Some(then), Some(now)) if *then == now => return None,
                (None, None) => return None,
                (Some(_), Some(_)) => "was changed after the kernel was added",
                (Some(_), None) => "was removed after the kernel was added",
                (None, Some(_)) => "is newer than the build, or than the kernel was added",
            };
            Some(format!("{file} {what}"))
        })
    }
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self(
            found.len(),
            nanoseconds(found.mtime(), found.mtime_nsec()),
            nanoseconds(found.ctime(), found.ctime_nsec()),
        ))
    }
}

fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

/// Reads how the tree of the kernel `id` looked from below `home`; `None` where that was not kept.
pub fn load(home: &Path, id: &ProfileId) -> Result<Option<TreeStamp>, LoadError> {
    let path = path(home, &id.release);
    let failed = |source| LoadError::Read {
        path: path.clone(),
        source,
    };
    let Some(text) = beside::read_gzip(&path, FILE_LIMIT, TEXT_LIMIT).map_err(failed)? else {
        return Ok(None);
    };
    from_text(&text, id)
        .map(Some)
        .map_err(|why| LoadError::Malformed {
            path: path.clone(),
            release: id.release.clone(),
            why,
        })
}

/// Writes how the tree of the kernel `id` looked below `home`. Blocks on the disk.
pub fn save(home: &Path, id: &ProfileId, stamp: &TreeStamp) -> Result<PathBuf, WriteError> {
    let path = path(home, &id.release);
    beside::write_gzip(&path, &to_text(id, stamp), Compression::default())?;
    Ok(path)
}

/// Removes what is kept of `release` below `home`, if anything.
pub fn forget(home: &Path, release: &KernelRelease) -> Result<(), WriteError> {
    let path = path(home, release);
    beside::remove(&path)
}

fn path(home: &Path, release: &KernelRelease) -> PathBuf {
    super::folder(home, release).join(NAME)
}

fn to_text(id: &ProfileId, stamp: &TreeStamp) -> Vec<u8> {
    let body = serde_json::to_vec(&stamp.files).expect("a map with text keys always becomes JSON");
    let head = Head {
        format: FORMAT,
        release: id.release.clone(),
        build_id: id.build_id.clone(),
        top: stamp.top.clone(),
        sha256: hex::encode(Sha256::digest(&body)),
    };
    // A path that is no text cannot be written, and then nothing is known of the tree.
    let mut text = serde_json::to_vec(&head).unwrap_or_default();
    text.push(b'\n');
    text.extend(body);
    text
}

fn from_text(text: &[u8], id: &ProfileId) -> Result<TreeStamp, String> {
    let end = text.iter().position(|byte| *byte == b'\n');
    let (head, body) = text.split_at(end.ok_or("it ends early")?);
    let body = body.get(1..).unwrap_or_default();
    let head: Head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    if head.format != FORMAT {
        return Err(format!(
            "it has format {}, this program reads format {FORMAT}",
            head.format
        ));
    }
    if head.release != id.release || head.build_id != id.build_id {
        return Err(format!("it is of another kernel, {}", head.release));
    }
    if hex::encode(Sha256::digest(body)) != head.sha256 {
        return Err("its digest is not the one it names".to_owned());
    }
    let files = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(TreeStamp {
        top: head.top,
        files,
    })
}

/// Entry for fuzzing: reads bytes as the second line of a stamp, and as a whole one.
pub fn fuzz(bytes: &[u8]) {
    let id = ProfileId {
        arch: tuxtape_core::identity::Arch::X86_64,
        release: "6.1.0".parse().expect("a release"),
        build_id: None,
    };
    from_text(bytes, &id).ok();
    if let Ok(files) = serde_json::from_slice(bytes) {
        let stamp = TreeStamp {
            top: PathBuf::from("/"),
            files,
        };
        assert_eq!(from_text(&to_text(&id, &stamp), &id), Ok(stamp));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::profile::small;

    fn tree() -> (tempfile::TempDir, BTreeSet<String>) {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("net")).unwrap();
        for (name, text) in [("net/a.c", "a"), ("net/b.c", "b")] {
            fs::write(top.path().join(name), text).unwrap();
        }
        let files = ["net/a.c", "net/b.c"].map(str::to_owned).into();
        (top, files)
    }

    fn check(change: impl FnOnce(&Path), file: &str, expected: Option<&str>) {
        let (top, files) = tree();
        let stamp = TreeStamp::take(top.path(), &files, None);
        assert_eq!(stamp.changed(["net/a.c", "net/b.c", "net/c.c"]), None);
        change(top.path());
        let found = stamp.changed([file]);
        let is_told = |expected| found.as_deref().is_some_and(|text| text.contains(expected));
        assert!(
            expected.map_or(found.is_none(), is_told),
            "{file}: {found:?}"
        );
    }

    #[test]
    fn a_changed_file_is_named_and_the_others_are_not() {
        let write =
            |text: &'static str| move |top: &Path| fs::write(top.join("net/a.c"), text).unwrap();
        check(write("longer"), "net/a.c", Some("net/a.c was changed"));
        check(write("longer"), "net/b.c", None);
        check(write("x"), "net/a.c", Some("changed"));
        let back = |top: &Path| {
            let path = top.join("net/a.c");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(b"x").unwrap();
            file.set_modified(time).unwrap();
        };
        // The time was set back, as archivers do.
        check(back, "net/a.c", Some("changed"));
        let gone = |top: &Path| fs::remove_file(top.join("net/a.c")).unwrap();
        check(gone, "net/a.c", Some("removed"));
        let new = |top: &Path| fs::write(top.join("net/c.c"), "c").unwrap();
        check(new, "net/c.c", Some("newer"));
        check(|_| {}, "../x", None);
    }

    #[test]
    fn a_file_newer_than_the_build_is_not_what_was_built() {
        let (top, files) = tree();
        let built = top.path().join("vmlinux");
        let file = fs::File::create(&built).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        file.set_modified(old).unwrap();
        let stamp = TreeStamp::take(top.path(), &files, Some(&built));
        assert!(stamp.changed(["net/a.c"]).is_some());
    }

    #[test]
    fn a_saved_stamp_loads_equal_and_a_damaged_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (top, files) = tree();
        let stamp = TreeStamp::take(top.path(), &files, None);
        let id = small().id;
        assert!(load(home.path(), &id).unwrap().is_none());
        save(home.path(), &id, &stamp).unwrap();
        assert_eq!(load(home.path(), &id).unwrap(), Some(stamp.clone()));
        let text = to_text(&id, &stamp);
        for end in 0..text.len() {
            assert!(from_text(&text[..end], &id).is_err(), "{end}");
        }
    }
}
