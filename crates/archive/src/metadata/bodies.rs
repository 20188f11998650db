//! The four bodies, and what they say of roles and files.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Body;
use super::pattern::fits;
use crate::keys::{Key, KeyId};
use crate::time::UtcSeconds;

/// Which keys sign a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Key ids, each once.
    pub keyids: Vec<KeyId>,
    /// At least 1.
    pub threshold: u32,
}

impl RoleKeys {
    /// Returns a short digest of the key set, to notice that it changed.
    pub fn fingerprint(&self) -> String {
        let set: BTreeSet<&KeyId> = self.keyids.iter().collect();
        let mut hash = Sha256::new();
        for keyid in set {
            hash.update((keyid.0.len() as u64).to_le_bytes());
            hash.update(&keyid.0);
        }
        hex::encode(hash.finalize()).chars().take(16).collect()
    }

    fn check(&self) -> Result<(), &'static str> {
        let distinct: BTreeSet<&KeyId> = self.keyids.iter().collect();
        if self.threshold == 0 {
            return Err("a threshold is 0");
        }
        if distinct.len() != self.keyids.len() {
            return Err("a role names a key twice");
        }
        Ok(())
    }
}

/// Body of `N.root.json` (4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// `root`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// From 1 up, without gaps.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// Always true here.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Keys of the top-level roles.
    pub keys: BTreeMap<KeyId, Key>,
    /// `root`, `targets`, `snapshot`, `timestamp`.
    pub roles: TopRoles,
}

/// Keys of the top-level roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRoles {
    /// Signs root.
    pub root: RoleKeys,
    /// Signs targets.
    pub targets: RoleKeys,
    /// Signs snapshot.
    pub snapshot: RoleKeys,
    /// Signs timestamp.
    pub timestamp: RoleKeys,
}

impl Body for Root {
    const TYPE: &'static str = "root";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version == 0 {
            return Err("version is 0");
        }
        let TopRoles {
            root,
            targets,
            snapshot,
            timestamp,
        } = &self.roles;
        [root, targets, snapshot, timestamp]
            .into_iter()
            .try_for_each(RoleKeys::check)
    }
}

/// What one file says of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Version of the other file.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

/// Body of `timestamp.json` (4.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// `timestamp`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// Rises with each signing.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// `snapshot.json` only.
    pub meta: BTreeMap<String, FileMeta>,
    /// When it was signed; feeds the client's time floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuxtape_issued: Option<UtcSeconds>,
}

impl Timestamp {
    /// Returns what it says of the snapshot.
    pub fn snapshot(&self) -> &FileMeta {
        self.meta
            .get("snapshot.json")
            .expect("checked when the body was read")
    }
}

impl Body for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        match self.meta.get("snapshot.json") {
            _ if self.version == 0 => Err("version is 0"),
            Some(meta) if meta.version > 0 && self.meta.len() == 1 => Ok(()),
            Some(_) | None => Err("meta does not name snapshot.json alone"),
        }
    }
}

/// Body of `N.snapshot.json` (4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `snapshot`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// Rises with each publication.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// `targets.json` and every delegated role's `NAME.json`.
    pub meta: BTreeMap<String, FileMeta>,
}

impl Body for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version == 0 || self.meta.values().any(|meta| meta.version == 0) {
            return Err("a version is 0");
        }
        if !self.meta.contains_key("targets.json") {
            return Err("meta does not name targets.json");
        }
        Ok(())
    }
}

/// Body of `N.targets.json` and of every delegated role (4.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// `targets`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// Rises with each signing.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// Files by path.
    pub targets: BTreeMap<String, TargetFile>,
    /// Who else may sign for which paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// Our `KernelIndex`, in kernel roles; see [`crate::index`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuxtape: Option<Value>,
    /// Caps on rollouts, in the role `hold`; see [`crate::hold`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuxtape_hold: Option<Value>,
}

impl Body for Targets {
    const TYPE: &'static str = "targets";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version == 0 {
            return Err("version is 0");
        }
        if self.targets.values().any(|target| target.hashes.is_empty()) {
            return Err("a target has no hash");
        }
        let Some(delegations) = &self.delegations else {
            return Ok(());
        };
        let mut names = BTreeSet::new();
        for role in &delegations.roles {
            role.keys.check()?;
            let top = ["root", "targets", "snapshot", "timestamp"];
            if role.name.is_empty() || top.contains(&role.name.as_str()) {
                return Err("a delegated role has the name of a top-level role, or none");
            }
            if !names.insert(&role.name) {
                return Err("a role is delegated twice");
            }
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err("a delegated role wants either paths or path_hash_prefixes");
            }
        }
        Ok(())
    }
}

/// One file that a targets role vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests in hex, by algorithm.
    pub hashes: BTreeMap<String, String>,
}

/// Delegations of a targets role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// Keys of the delegated roles.
    pub keys: BTreeMap<KeyId, Key>,
    /// The roles, in order of precedence.
    pub roles: Vec<DelegatedRole>,
}

/// A role that may sign for some paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Who signs it.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Whether no later role is asked for its paths.
    pub terminating: bool,
    /// Path patterns it may sign for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Hex prefixes of the SHA-256 of paths it may sign for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
}

impl DelegatedRole {
    /// Tells whether this role may sign for `path` (5.6.7).
    pub fn owns(&self, path: &str) -> bool {
        let by_path = self
            .paths
            .iter()
            .flatten()
            .any(|pattern| fits(pattern, path));
        let Some(prefixes) = self.path_hash_prefixes.as_ref().filter(|_| !by_path) else {
            return by_path;
        };
        let digest = hex::encode(Sha256::digest(path));
        prefixes
            .iter()
            .any(|prefix| digest.starts_with(prefix.as_str()))
    }
}
