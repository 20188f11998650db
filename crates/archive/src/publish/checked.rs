//! What earlier publications checked, so that a publication checks what it changes.
//!
//! Kept in the publisher's own folder. Every published role is still read and compared with it each
//! time; what is spared is parsing a thousand of them and their signatures. A role that is not, byte for
//! byte, the one that was checked is checked as a client would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tuxtape_sys::{durable, regular};

use super::{PublishError, Published};
use crate::hold;
use crate::time::UtcSeconds;

/// Bytes a record may have: a thousand kernels take a fifth of a megabyte.
const CAP: u64 = 16 * 1024 * 1024;

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checked {
    format: u32,
    /// SHA-256 of the top-level targets that the roles were checked against, in hex.
    pub(super) targets: String,
    /// Versions of `root`, `timestamp`, `snapshot`, `targets` and `hold`.
    pub(super) versions: BTreeMap<String, u64>,
    /// Kernel roles by name.
    pub(super) roles: BTreeMap<String, CheckedRole>,
}

/// A role's file that a client would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckedRole {
    pub(super) version: u64,
    pub(super) length: u64,
    pub(super) sha256: String,
    pub(super) expires: UtcSeconds,
}

impl CheckedRole {
    pub(super) fn of(version: u64, bytes: &[u8], expires: UtcSeconds) -> Self {
        Self {
            version,
            length: bytes.len() as u64,
            sha256: digest(bytes),
            expires,
        }
    }

    /// Tells whether `bytes` are those that were checked.
    pub(super) fn is(&self, version: u64, bytes: &[u8]) -> bool {
        self.version == version && self.length == bytes.len() as u64 && self.sha256 == digest(bytes)
    }
}

/// Returns the SHA-256 in hex.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Checked {
    /// Starts a record of roles checked against `targets`.
    pub(super) fn against(targets: &[u8]) -> Self {
        Self {
            format: 1,
            targets: digest(targets),
            versions: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }

    /// Where the record of the archive in `top` is.
    pub(super) fn path(top: &Path) -> PathBuf {
        top.join("checked.json")
    }

    /// Reads the record; one that is missing or not usable only means that everything is checked.
    pub(super) fn read(top: &Path) -> Option<Self> {
        let bytes = regular::read(&Self::path(top), CAP).ok()??;
        let checked: Self = serde_json::from_slice(&bytes).ok()?;
        (checked.format == 1).then_some(checked)
    }

    /// Keeps the record.
    pub(super) fn keep(&self, top: &Path) -> Result<(), durable::WriteError> {
        let bytes = serde_json::to_vec(self).expect("texts and numbers can be written");
        durable::write(&Self::path(top), &bytes)
    }

    /// Refuses a public tree that is older than the one published last, as a backup brings it back:
    /// clients that saw the newer one would refuse what is signed on top.
    pub(super) fn not_newer(&self, top: &Path, published: &Published) -> Result<(), PublishError> {
        let found = |name: &str| match name {
            "root" => Some(published.root.version),
            "timestamp" => Some(published.timestamp.version),
            "snapshot" => Some(published.snapshot.version),
            "targets" => Some(published.targets.version),
            hold::ROLE => Some(published.hold_version()),
            kernel => published.roles.versions().get(kernel).copied(),
        };
        let roles = self.roles.iter().map(|(name, role)| (name, role.version));
        let seen = self.versions.iter().map(|(name, version)| (name, *version));
        for (name, seen) in seen.chain(roles) {
            let found = found(name).unwrap_or(0);
            if found < seen {
                return Err(PublishError::WentBack {
                    role: name.clone(),
                    found,
                    seen,
                    record: Self::path(top),
                });
            }
        }
        Ok(())
    }
}
