//! What is about to become public, and the tree as a client would see it then.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::LeftOut;
use crate::client::{MemoryStore, Store, Stored, UpdateError};
use crate::hold;
use crate::metadata::Envelope;
use crate::names::cap;
use crate::publish::{PublishError, Published};
use crate::source::{DirectorySource, Fetched, Source, SourceError};

/// Files about to become public.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) modules: BTreeMap<String, Vec<u8>>,
    /// Kernel roles by name, with file name and bytes.
    pub(super) kernels: BTreeMap<String, (String, Vec<u8>)>,
    pub(super) targets: Option<(String, Vec<u8>)>,
    pub(super) hold: Option<(String, Vec<u8>)>,
    pub(super) snapshot: Option<(String, Vec<u8>)>,
    pub(super) root: Option<(String, Vec<u8>)>,
    pub(super) timestamp: Vec<u8>,
    pub(super) taken: Vec<PathBuf>,
    pub(super) used: Vec<PathBuf>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Batch {
    pub(super) fn take(&mut self, role: &str, path: PathBuf, envelope: &Envelope, version: u64) {
        let file = (format!("{version}.{role}.json"), envelope.to_bytes());
        match role {
            "root" => self.root = Some(file),
            "targets" => self.targets = Some(file),
            kernel => {
                self.kernels.insert(kernel.to_owned(), file);
            }
        }
        self.taken.push(path);
    }

    pub(super) fn leave(&mut self, role: &str, why: &impl ToString) {
        self.left_out.push(LeftOut {
            role: role.to_owned(),
            why: why.to_string(),
        });
    }

    pub(super) fn nothing(&self) -> PublishError {
        let waiting = self
            .left_out
            .iter()
            .map(|left| format!("{}: {}", left.role, left.why));
        let waiting: Vec<String> = waiting.collect();
        PublishError::Nothing(waiting.join("; "))
    }

    /// Metadata files in the order they are published, with their caps.
    pub(super) fn metadata(&self) -> Vec<(&str, &[u8], u64)> {
        fn file(file: &(String, Vec<u8>), cap: u64) -> (&str, &[u8], u64) {
            (&file.0, &file.1, cap)
        }
        let mut files: Vec<(&str, &[u8], u64)> = Vec::new();
        files.extend(self.kernels.values().map(|f| file(f, cap::KERNEL)));
        files.extend(self.targets.iter().map(|f| file(f, cap::TARGETS)));
        files.extend(self.hold.iter().map(|f| file(f, cap::HOLD)));
        files.extend(self.snapshot.iter().map(|f| file(f, cap::SNAPSHOT)));
        files.extend(self.root.iter().map(|f| file(f, cap::ROOT)));
        files.push(("timestamp.json", &self.timestamp, cap::TIMESTAMP));
        files
    }
}

/// The public tree as it will be.
pub(super) struct Staged<'a> {
    pub(super) batch: &'a Batch,
    pub(super) public: DirectorySource,
}

impl Source for Staged<'_> {
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        let staged = self.batch.metadata();
        match staged.into_iter().find(|(name, _, _)| *name == file) {
            Some((_, bytes, _)) if bytes.len() as u64 <= cap => Ok(Fetched::Bytes(bytes.to_vec())),
            Some(_) => Err(SourceError::TooLarge { cap }),
            None => self.public.metadata(file, cap),
        }
    }

    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        match self.batch.modules.get(file) {
            Some(bytes) if bytes.len() as u64 <= cap => Ok(Fetched::Bytes(bytes.clone())),
            Some(_) => Err(SourceError::TooLarge { cap }),
            None => self.public.target(file, cap),
        }
    }
}

/// Puts a client's store into the state after the last publication.
pub(super) fn warm(
    store: &mut MemoryStore,
    published: Option<&Published>,
    batch: &Batch,
) -> Result<(), UpdateError> {
    let Some(published) = published else {
        // The first publication: its root is where clients will start.
        if let Some((_, bytes)) = &batch.root {
            store.save(&Stored::Root, bytes)?;
        }
        return Ok(());
    };
    let file = |name: String| published.files.get(&name).cloned().unwrap_or_default();
    let Published {
        root,
        snapshot,
        targets,
        ..
    } = published;
    store.save(&Stored::Root, &file(format!("{}.root.json", root.version)))?;
    store.save(&Stored::Timestamp, &file("timestamp.json".to_owned()))?;
    store.save(
        &Stored::Snapshot,
        &file(format!("{}.snapshot.json", snapshot.version)),
    )?;
    store.save(
        &Stored::Targets,
        &file(format!("{}.targets.json", targets.version)),
    )?;
    if let Some(hold) = &published.hold {
        let bytes = file(format!("{}.{}.json", hold.version, hold::ROLE));
        store.save(&Stored::Role(hold::ROLE.to_owned()), &bytes)?;
    }
    Ok(())
}
