//! Files that others read, or that must survive power loss.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write {path}", path = path.display())]
pub struct WriteError {
    /// The final name that was wanted; nothing was changed under it.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes `bytes` to `path` so that a reader sees the old file or the whole new one, also after a
/// power cut: temporary name in the same folder, `fsync`, rename, `fsync` of the folder.
///
/// Blocks on the disk. Creates no folders. On error the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_with(path, |file| file.write_all(bytes))
}

/// Like [`write()`], with the content streamed by `fill`.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), WriteError> {
    let failed = |source| WriteError {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
    // After a power cut the same process id, and any count, may come again and meet its own litter.
    let temporary = folder.join(format!(
        ".{}.{}.{:016x}.tmp",
        name.to_string_lossy(),
        std::process::id(),
        RandomState::new().hash_one(path)
    ));
    let outcome = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if outcome.is_err() {
        // Best effort: the error that matters is the first one.
        drop(fs::remove_file(&temporary));
    }
    outcome.map_err(failed)
}

/// Removes what a crash in the middle of [`write()`] left in `folder`: temporary files of programs that
/// have ended, as far as that can be told. Best effort.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(inner) = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp")) else {
            continue;
        };
        let mut parts = inner.rsplit('.');
        let random = parts.next().is_some_and(|part| {
            part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let owner = parts.next().and_then(|part| part.parse::<u32>().ok());
        let gone = owner.is_some_and(|id| {
            id != std::process::id() && !Path::new(&format!("/proc/{id}")).exists()
        });
        if random && gone {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Removes a file; it is no error when there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_what_is_not_there_is_no_error_and_a_folder_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, b"x").unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        remove(&path).unwrap();
        assert!(remove(folder.path()).is_err());
    }

    #[test]
    fn litter_of_an_earlier_program_with_our_id_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        for count in 0..1000 {
            let litter = format!(".f.{}.{count}.tmp", std::process::id());
            fs::write(folder.path().join(litter), "half").unwrap();
        }
        let path = folder.path().join("f");
        write(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn litter_of_ended_programs_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let litter = ".1.snapshot.json.4194305.0123456789abcdef.tmp";
        let ours = format!(".f.{}.0123456789abcdef.tmp", std::process::id());
        for name in [
            litter,
            &ours,
            "1.snapshot.json",
            ".hidden.tmp",
            ".f.1.2.tmp",
        ] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        sweep(folder.path());
        assert!(!folder.path().join(litter).exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("no space"))
        })
        .unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
