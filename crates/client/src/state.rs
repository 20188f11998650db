//! The client's folder: trusted metadata, journal, modules, quarantine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tuxtape_archive::client::store::private_folder;
use tuxtape_archive::client::{DiskStore, StoreError};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{BuildId, PatchLevel};
use tuxtape_sys::lock::{self, Lock, LockError, Taken};
use tuxtape_sys::slots::SlotError;
use tuxtape_sys::{durable, regular};

use crate::crash::Judged;
use crate::journal::JournalFile;

/// Bytes of the small files here.
const SMALL: u64 = 64 * 1024;

/// Why the state could not be used. What was there is untouched.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another client works on it.
    #[error("another tuxtape-client is at work in {path}", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("could not use {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    /// The metadata could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal could not be used.
    #[error(transparent)]
    Journal(#[from] SlotError),
}

/// Why a module must never be loaded here again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    format: u32,
    /// Its level.
    pub level: PatchLevel,
    /// What it did.
    pub reason: String,
    /// When.
    pub at: UtcSeconds,
    /// The file that bars it; removing it lifts the bar.
    #[serde(skip)]
    pub file: PathBuf,
}

/// What the last look into the archive gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastCheck {
    format: u32,
    /// When.
    pub at: UtcSeconds,
    /// What went wrong; none when it went well.
    pub error: Option<String>,
}

/// The client's folder, opened and locked.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Trusted metadata.
    pub store: DiskStore,
    /// The journal.
    pub journal: JournalFile,
    _lock: Option<Lock>,
}

impl State {
    /// Opens the state in `folder`, making it (mode 0700) if needed, against other clients.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        private_folder(folder)?;
        // No note: writing one could fail where the disk is full, and a rollback must not.
        match lock::take(&folder.join("lock"), "") {
            Ok(Taken::Ours(lock)) => Self::open_parts(folder, Some(lock)),
            Ok(Taken::Held { .. }) => Err(StateError::Busy {
                path: folder.to_owned(),
            }),
            Err(LockError { path, source }) => Err(StateError::File { path, source }),
        }
    }

    /// Opens the state for looking, also while a client is at work.
    pub fn look(folder: &Path) -> Result<Self, StateError> {
        Self::open_parts(folder, None)
    }

    fn open_parts(folder: &Path, lock: Option<Lock>) -> Result<Self, StateError> {
        let store = DiskStore::open(folder)?;
        for name in ["modules", "quarantine"] {
            private_folder(&folder.join(name))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            store,
            journal: JournalFile::open(folder)?,
            _lock: lock,
        })
    }

    /// Returns what is quarantined on a kernel build, by digest.
    ///
    /// A file that cannot be read still quarantines: its name says what it is about.
    pub fn quarantined(
        &self,
        kernel: &BuildId,
    ) -> Result<BTreeMap<String, Quarantine>, StateError> {
        let folder = self.folder.join("quarantine");
        let failed = |source| StateError::File {
            path: folder.clone(),
            source,
        };
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((sha256, build)) = name.strip_suffix(".json").and_then(|n| n.split_once('@'))
            else {
                continue;
            };
            if build != kernel.to_string() {
                continue;
            }
            let bytes = regular::read(&entry.path(), SMALL).ok().flatten();
            let read: Option<Quarantine> =
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let unread = Quarantine {
                file: PathBuf::new(),
                format: 1,
                level: PatchLevel(0),
                reason: "the quarantine file is not readable".to_owned(),
                at: UtcSeconds::EPOCH,
            };
            let quarantine = Quarantine {
                file: entry.path(),
                ..read.unwrap_or(unread)
            };
            found.insert(sha256.to_owned(), quarantine);
        }
        Ok(found)
    }

    /// Bars a module from this kernel build, and returns the file that does.
    pub fn quarantine(
        &self,
        sha256: &str,
        kernel: &BuildId,
        level: PatchLevel,
        reason: &str,
        at: UtcSeconds,
    ) -> Result<PathBuf, StateError> {
        let path = self
            .folder
            .join("quarantine")
            .join(format!("{sha256}@{kernel}.json"));
        let quarantine = Quarantine {
            format: 1,
            level,
            reason: reason.chars().take(2000).collect(),
            at,
            file: path.clone(),
        };
        let bytes = serde_json::to_vec(&quarantine).expect("strings and numbers can be written");
        durable::write(&path, &bytes)?;
        Ok(path)
    }

    /// Keeps the verified bytes of a module.
    pub fn save_module(&self, sha256: &str, bytes: &[u8]) -> Result<(), StateError> {
        Ok(durable::write(&self.module_path(sha256), bytes)?)
    }

    /// Returns a kept module if its bytes still have the digest it is kept under.
    pub fn load_module(&self, sha256: &str, cap: u64) -> Option<Vec<u8>> {
        let bytes = regular::read(&self.module_path(sha256), cap)
            .ok()
            .flatten()?;
        (hex::encode(Sha256::digest(&bytes)) == sha256).then_some(bytes)
    }

    /// Removes every kept module but those with these digests.
    pub fn drop_modules(&self, keep: &[&str]) {
        let entries = fs::read_dir(self.folder.join("modules"));
        for entry in entries.into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kept = name
                .strip_suffix(".ko")
                .is_some_and(|sha256| keep.contains(&sha256));
            if !kept {
                // Only space is lost when this fails; the next commit tries again.
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    /// Returns what the last look into the archive gave.
    pub fn last_check(&self) -> Option<LastCheck> {
        let bytes = regular::read(&self.folder.join("check.json"), SMALL)
            .ok()
            .flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps what a look into the archive gave.
    pub fn set_last_check(&self, at: UtcSeconds, error: Option<String>) -> Result<(), StateError> {
        let check = LastCheck {
            format: 1,
            at,
            error: error.map(|error| error.chars().take(2000).collect()),
        };
        let bytes = serde_json::to_vec(&check).expect("strings and numbers can be written");
        Ok(durable::write(&self.folder.join("check.json"), &bytes)?)
    }

    /// Returns the records of crashes that were judged before; none where that cannot be read.
    pub fn judged_crashes(&self) -> Judged {
        let path = self.folder.join("crashes.json");
        let bytes = regular::read(&path, 4 * SMALL).ok().flatten();
        bytes
            .and_then(|bytes| Judged::from_bytes(&bytes))
            .unwrap_or_default()
    }

    /// Keeps which records of crashes were judged.
    pub fn set_judged_crashes(&self, judged: &Judged) -> Result<(), StateError> {
        let path = self.folder.join("crashes.json");
        Ok(durable::write(&path, &judged.to_bytes())?)
    }

    /// Tells whether a boot ended in order.
    pub fn was_shut_down(&self, boot_id: &str) -> bool {
        let path = self.folder.join(format!("clean.{boot_id}"));
        // A torn mark is none.
        matches!(regular::read(&path, SMALL), Ok(Some(bytes)) if bytes == boot_id.as_bytes())
    }

    /// Marks that a boot ends in order, and forgets the marks of boots before it.
    pub fn mark_shut_down(&self, boot_id: &str) -> Result<(), StateError> {
        let name = format!("clean.{boot_id}");
        durable::write(&self.folder.join(&name), boot_id.as_bytes())?;
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let other = entry.file_name().to_string_lossy().into_owned();
            if other.starts_with("clean.") && other != name {
                // An old mark does no harm.
                drop(fs::remove_file(entry.path()));
            }
        }
        Ok(())
    }

    /// Takes the mark of an orderly end back.
    pub fn unmark_shut_down(&self, boot_id: &str) {
        // One that stays excuses one crash.
        drop(fs::remove_file(
            self.folder.join(format!("clean.{boot_id}")),
        ));
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn module_path(&self, sha256: &str) -> PathBuf {
        self.folder.join("modules").join(format!("{sha256}.ko"))
    }
}
