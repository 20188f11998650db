//! One holder at a time, across processes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Most bytes of a holder's note that are read back.
const LONGEST_NOTE: u64 = 500;

/// A held lock; given back when dropped, also by a crash.
#[derive(Debug)]
pub struct Lock {
    /// The kernel ties the lock to this open file.
    _file: File,
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
/// The file stays when the lock is given back: removing it would let two holders in.
pub fn take(path: &Path, note: &str) -> Result<Taken, LockError> {
    let failed = |source| LockError {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            file.write_all(note.as_bytes()).map_err(failed)?;
            Ok(Taken::Ours(Lock { _file: file }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|file| file.take(LONGEST_NOTE).read_to_end(&mut bytes))
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

    #[test]
    fn the_second_taker_reads_the_holders_note() {
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
}
