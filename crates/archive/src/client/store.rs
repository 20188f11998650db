//! Where a client keeps what it trusts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tuxtape_sys::slots::{Found, SlotError, Slots};
use tuxtape_sys::{durable, regular};

use super::Floor;
use crate::names;

/// One file of trusted metadata.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// The newest root.
    Root,
    /// A root by version, kept for ever.
    RootVersion(u64),
    /// The timestamp.
    Timestamp,
    /// What the server called the timestamp, and which bytes that were. Not signed by anybody.
    TimestampTag,
    /// The snapshot.
    Snapshot,
    /// The top-level targets.
    Targets,
    /// A delegated role.
    Role(String),
}

/// Why the state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written; the old one is untouched.
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    /// A folder could not be made.
    #[error("could not make {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could change the state.
    #[error("state folder {path} is owned by user {owner} with mode {mode:03o}; want our own and 700", path = path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// A slot could not be used.
    #[error(transparent)]
    Slot(#[from] SlotError),
}

/// Keeps trusted metadata and the floor.
pub trait Store {
    /// Returns the bytes as they were served; `None` when there are none, or more than `cap`.
    fn load(&self, file: &Stored, cap: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keeps `bytes` durably.
    fn save(&mut self, file: &Stored, bytes: &[u8]) -> Result<(), StoreError>;
    /// Forgets a file; it is no error when there is none.
    fn discard(&mut self, file: &Stored) -> Result<(), StoreError>;
    /// Returns the floor.
    fn floor(&self) -> &Floor;
    /// Keeps a floor durably.
    fn set_floor(&mut self, floor: Floor) -> Result<(), StoreError>;
}

/// A store that forgets; for the publisher's own checks.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    files: BTreeMap<Stored, Vec<u8>>,
    floor: Floor,
}

impl Store for MemoryStore {
    fn load(&self, file: &Stored, _cap: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.files.get(file).cloned())
    }

    fn save(&mut self, file: &Stored, bytes: &[u8]) -> Result<(), StoreError> {
        self.files.insert(file.clone(), bytes.to_vec());
        Ok(())
    }

    fn discard(&mut self, file: &Stored) -> Result<(), StoreError> {
        self.files.remove(file);
        Ok(())
    }

    fn floor(&self) -> &Floor {
        &self.floor
    }

    fn set_floor(&mut self, floor: Floor) -> Result<(), StoreError> {
        self.floor = floor;
        Ok(())
    }
}

/// A store in a folder that only this user may write: every file whole and durable before it gets its
/// name, the floor in two slots.
#[derive(Debug)]
pub struct DiskStore {
    top: PathBuf,
    slots: Slots,
    floor: Floor,
    damaged: bool,
}

impl DiskStore {
    /// Opens the store in `state`, making its folders (mode 0700) where they are missing.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let top = state.join("tuf");
        private_folder(state)?;
        for folder in [top.clone(), top.join("root_history"), top.join("roles")] {
            private_folder(&folder)?;
        }
        for folder in [
            state.to_owned(),
            top.clone(),
            top.join("root_history"),
            top.join("roles"),
        ] {
            durable::sweep(&folder);
        }
        let slots = Slots::new(state, "floor");
        let (floor, damaged) = match slots.read()? {
            Found::Nothing => (Floor::default(), false),
            Found::Damaged => (Floor::default(), true),
            Found::Record { payload, torn, .. } => match Floor::from_bytes(&payload) {
                Some(floor) => (floor, torn),
                None => (Floor::default(), true),
            },
        };
        Ok(Self {
            top,
            slots,
            floor,
            damaged,
        })
    }

    /// Tells whether a slot of the floor was found damaged: by a power cut, or by somebody.
    pub fn damaged(&self) -> bool {
        self.damaged
    }

    fn path(&self, file: &Stored) -> PathBuf {
        match file {
            Stored::Root => self.top.join("root.json"),
            Stored::RootVersion(version) => self
                .top
                .join("root_history")
                .join(format!("{version}.root.json")),
            Stored::Timestamp => self.top.join("timestamp.json"),
            Stored::TimestampTag => self.top.join("timestamp.tag"),
            Stored::Snapshot => self.top.join("snapshot.json"),
            Stored::Targets => self.top.join("targets.json"),
            Stored::Role(name) => self
                .top
                .join("roles")
                .join(format!("{}.json", names::file(name))),
        }
    }
}

impl Store for DiskStore {
    fn load(&self, file: &Stored, cap: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(file);
        regular::read_if_there(&path, cap).map_err(|source| StoreError::Read { path, source })
    }

    fn save(&mut self, file: &Stored, bytes: &[u8]) -> Result<(), StoreError> {
        Ok(durable::write(&self.path(file), bytes)?)
    }

    fn discard(&mut self, file: &Stored) -> Result<(), StoreError> {
        let path = self.path(file);
        durable::remove(&path).map_err(|source| StoreError::Read { path, source })
    }

    fn floor(&self) -> &Floor {
        &self.floor
    }

    fn set_floor(&mut self, floor: Floor) -> Result<(), StoreError> {
        if floor != self.floor {
            self.slots.write(&floor.to_bytes())?;
            self.floor = floor;
        }
        Ok(())
    }
}

/// Makes a folder (mode 0700), or checks that the one there is ours alone to write.
pub fn private_folder(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Folder {
        path: path.to_owned(),
        source,
    };
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let there = fs::symlink_metadata(path).map_err(failed)?;
    let ours = tuxtape_sys::process::effective_user();
    let mode = there.mode() & 0o777;
    if !there.is_dir() || there.uid() != ours || mode & 0o022 != 0 {
        return Err(StoreError::NotOurs {
            path: path.to_owned(),
            owner: there.uid(),
            mode,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        DiskStore::open(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            DiskStore::open(&state),
            Err(StoreError::NotOurs { mode: 0o777, .. })
        ));
    }

    #[test]
    fn a_planted_link_is_neither_read_nor_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, b"untouched").unwrap();
        let mut store = DiskStore::open(&folder.path().join("state")).unwrap();
        let planted = store.path(&Stored::Timestamp);
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        assert!(store.load(&Stored::Timestamp, 100).is_err());
        store.save(&Stored::Timestamp, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(
            store.load(&Stored::Timestamp, 100).unwrap().unwrap(),
            b"new"
        );
    }
}
