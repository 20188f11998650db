//! Trees made once and kept below the cache: whole, or not there.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tuxtape_core::git_id::GitId;
use tuxtape_sys::durable;
use tuxtape_sys::lock::{self, Lock, Taken};

use super::SpecError;

/// Longest a child may take from its fork to its program.
const STARTING: Duration = Duration::from_secs(30);

/// Returns the folder `key` below `cache`, made by `work` in an empty folder where it is not there.
pub(super) fn make(
    cache: &Path,
    key: &str,
    work: impl FnOnce(&Path) -> Result<(), SpecError>,
) -> Result<PathBuf, SpecError> {
    let top = cache.join("trees");
    let (place, mark) = (top.join(key), top.join(format!(".{key}")));
    // The mark is written last.
    if mark.is_file() && place.is_dir() {
        return Ok(place);
    }
    let _lock = locked(cache, key)?;
    let scratch = top.join(format!(".{key}.new"));
    remove(&scratch)?;
    remove(&place)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SpecError::Read { path, source }
    };
    fs::create_dir_all(&scratch).map_err(failed(&scratch))?;
    if let Err(error) = work(&scratch) {
        // What is half made is of no use; the first error is the one that matters.
        remove(&scratch).ok();
        return Err(error);
    }
    fs::rename(&scratch, &place).map_err(failed(&place))?;
    durable::write(&mark, b"").map_err(|error| SpecError::Read {
        path: error.path,
        source: error.source,
    })?;
    Ok(place)
}

/// Notes which commit the tag or commit `id` of a kept tree is.
pub(super) fn note_commit(cache: &Path, id: GitId, commit: GitId) -> Result<(), SpecError> {
    let path = commit_path(cache, id);
    durable::write(&path, commit.to_string().as_bytes()).map_err(|error| SpecError::Read {
        path: error.path,
        source: error.source,
    })
}

/// Returns which commit the tag or commit `id` of a kept tree is; `None` where that was not noted.
pub(super) fn commit(cache: &Path, id: GitId) -> Option<GitId> {
    let text = tuxtape_sys::regular::read(&commit_path(cache, id), 64).ok()??;
    GitId::from_hex(&text).ok()
}

fn commit_path(cache: &Path, id: GitId) -> PathBuf {
    cache.join("trees").join(format!(".git-{id}.commit"))
}

/// Takes the lock of the cache. Children do not share it: they end with us, and what they have half
/// made is made anew.
fn locked(cache: &Path, key: &str) -> Result<Lock, SpecError> {
    fs::create_dir_all(cache).map_err(|source| SpecError::Read {
        path: cache.to_owned(),
        source,
    })?;
    let ours = format!("process {}, making ", std::process::id());
    let start = Instant::now();
    loop {
        match lock::take(&cache.join("lock"), &format!("{ours}{key}"))? {
            Taken::Ours(lock) => return Ok(lock),
            // Let go of already: a child that another thread is just starting has it until it runs
            // its program.
            Taken::Held { note } if note.starts_with(&ours) && start.elapsed() < STARTING => {
                thread::sleep(Duration::from_millis(10));
            }
            Taken::Held { note } => {
                return Err(SpecError::Busy {
                    cache: cache.to_owned(),
                    holder: note,
                });
            }
        }
    }
}

/// Removes a folder that may not exist.
pub(super) fn remove(path: &Path) -> Result<(), SpecError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(SpecError::Read {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Returns a short name for the content of `files` together.
pub(super) fn digest(files: &[&Path]) -> Result<String, SpecError> {
    let mut all = Sha256::new();
    for path in files {
        let failed = |source| SpecError::Read {
            path: (*path).to_owned(),
            source,
        };
        let mut file = fs::File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("no regular file")));
        }
        let mut one = Sha256::new();
        let mut some = vec![0_u8; 1 << 20];
        loop {
            let count = file.read(&mut some).map_err(failed)?;
            if count == 0 {
                break;
            }
            one.update(some.get(..count).unwrap_or_default());
        }
        all.update(one.finalize());
    }
    let digits = hex::encode(all.finalize());
    Ok(digits.chars().take(24).collect())
}
