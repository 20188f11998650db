//! The kernel roles that a snapshot names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{PublishError, body, read_file};
use crate::client::trusted::targets_cap;
use crate::hold;
use crate::metadata::{Envelope, Snapshot, Targets};

/// The published kernel roles, each read when it is asked for: an archive may have a thousand, and most
/// commands are about one.
#[derive(Clone, Debug)]
pub struct Roles {
    folder: PathBuf,
    versions: BTreeMap<String, u64>,
}

impl Roles {
    /// Takes the names out of a snapshot; `folder` holds the files.
    pub(super) fn of(snapshot: &Snapshot, folder: &Path) -> Self {
        let role = |file: &String| file.strip_suffix(".json").map(str::to_owned);
        let others = ["targets", hold::ROLE];
        Self {
            folder: folder.to_owned(),
            versions: snapshot
                .meta
                .iter()
                .filter_map(|(file, meta)| Some((role(file)?, meta.version)))
                .filter(|(name, _)| !others.contains(&name.as_str()))
                .collect(),
        }
    }

    /// Versions by role.
    pub fn versions(&self) -> &BTreeMap<String, u64> {
        &self.versions
    }

    /// Names of the files.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.versions
            .iter()
            .map(|(name, version)| format!("{version}.{name}.json"))
    }

    /// Reads the file of a role; `None` when the snapshot does not name it.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, PublishError> {
        let Some(version) = self.versions.get(name) else {
            return Ok(None);
        };
        let path = self.folder.join(format!("{version}.{name}.json"));
        read_file(&path, targets_cap(name)).map(Some)
    }

    /// Reads a role; `None` when the snapshot does not name it. Verifies nothing.
    pub fn get(&self, name: &str) -> Result<Option<Targets>, PublishError> {
        let Some(bytes) = self.bytes(name)? else {
            return Ok(None);
        };
        let envelope = Envelope::parse(&bytes, targets_cap(name)).map_err(|reason| {
            let version = self.versions.get(name).copied().unwrap_or_default();
            PublishError::Metadata {
                file: format!("{version}.{name}.json"),
                reason,
            }
        })?;
        body(&envelope, name).map(Some)
    }

    /// Reads every role, sorted by name.
    pub fn all(&self) -> Result<Vec<(String, Targets)>, PublishError> {
        let read =
            |name: &String| Some(self.get(name).transpose()?.map(|role| (name.clone(), role)));
        self.versions.keys().filter_map(read).collect()
    }
}
