//! One holder at a time, across processes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::regular;

/// Most bytes of a holder's note that are read back.
const LONGEST_NOTE: u64 = 500;

/// A held lock; given back when dropped, also by a crash.
#[derive(Debug)]
pub struct Lock {
    /// The kernel ties the lock to this open file.
    file: File,
}

impl Lock {
    /// Lets children started from now on hold the lock, too: what an interrupted command leaves
    /// running then keeps others out until it has ended.
    pub fn share_with_children(&self) -> io::Result<()> {
        Ok(fcntl_setfd(&self.file, FdFlags::empty())?)
    }
}

/// How taking a lock went.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(Lock),
    /// Somebody else holds it; this is the note they left.
    Held {
        /// One line, without control characters; may be empty.
        note: String,
    },
}

/// Why a lock could not be taken or refused.
#[derive(Debug, thiserror::Error)]
#[error("could not lock {path}", path = path.display())]
pub struct LockError {
    /// The lock file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Takes the lock `path` without waiting, and leaves `note` in it for others to read.
///
/// What is there already must be a regular file: a symbolic link could lead the note into any other. The
/// file stays when the lock is given back: removing it would let two holders in.
pub fn take(path: &Path, note: &str) -> Result<Taken, LockError> {
    let failed = |source| LockError {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = regular::open(&mut options, path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            file.write_all(note.as_bytes()).map_err(failed)?;
            Ok(Taken::Ours(Lock { file }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut bytes = Vec::new();
            (&mut file)
                .take(LONGEST_NOTE)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            let text = String::from_utf8_lossy(&bytes);
            Ok(Taken::Held {
                note: text.chars().filter(|c| !c.is_control()).collect(),
            })
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `body` in a process where no other test starts children: a child holds copies of this
    /// process's files, and so its locks, from its fork to its exec at least.
    fn alone(test: &str, body: impl FnOnce()) {
        const ALONE: &str = "TUXTAPE_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return body();
        }
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("lock::tests::{test}")])
            .env(ALONE, "1")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    #[test]
    fn the_second_taker_reads_the_holders_note() {
        alone("the_second_taker_reads_the_holders_note", second_taker);
    }

    #[test]
    fn a_child_left_running_keeps_a_shared_lock() {
        alone("a_child_left_running_keeps_a_shared_lock", child_keeps);
    }

    #[test]
    fn a_link_or_a_fifo_is_no_lock_and_what_it_names_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lock"), folder.path().join("other"));
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        take(&path, "note").unwrap_err();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(folder.path().join("absent"), &path).unwrap();
        take(&path, "note").unwrap_err();
        assert!(!folder.path().join("absent").exists());
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        take(&path, "note").unwrap_err();
    }

    fn second_taker() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = take(&path, "pid 7, since noon").unwrap();
        assert!(matches!(first, Taken::Ours(_)));
        let Taken::Held { note } = take(&path, "me").unwrap() else {
            panic!("two holders");
        };
        assert_eq!(note, "pid 7, since noon");
        drop(first);
        assert!(matches!(take(&path, "me").unwrap(), Taken::Ours(_)));
    }

    fn child_keeps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Taken::Ours(lock) = take(&path, "first").unwrap() else {
            panic!("nobody else is here");
        };
        lock.share_with_children().unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        drop(lock);
        assert!(matches!(take(&path, "next").unwrap(), Taken::Held { .. }));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(matches!(take(&path, "next").unwrap(), Taken::Ours(_)));
    }
}
