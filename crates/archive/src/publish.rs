//! The publisher's side of an archive.
//!
//! A workspace holds `policy.toml`, the online keys (`keys/`), drafts that wait for signatures
//! (`drafts/`), and what the world sees (`public/metadata`, `public/targets`).

pub mod bundle;
mod checked;
pub mod commit;
pub mod describe;
pub mod endings;
mod error;
pub mod holding;
pub mod prune;
pub mod redate;
mod roles;
pub mod rotate;
pub mod sign;
pub mod stage;
pub mod verify;
pub mod withdraw;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tuxtape_sys::lock::{self, Lock, LockError, Taken};
use tuxtape_sys::{durable, regular};

use crate::hold;
use crate::keys::{Key, KeyId, PrivateKey};
use crate::metadata::{
    Body, DelegatedRole, Delegations, Envelope, RoleKeys, Root, SPEC_VERSION, Snapshot, Targets,
    Timestamp, TopRoles,
};
use crate::names::cap;
use crate::policy::{Duty, Policy};
use crate::time::UtcSeconds;

pub use error::PublishError;
pub use roles::Roles;

const DAY: u64 = 86_400;

/// An archive's folder, locked against other commands.
#[derive(Debug)]
pub struct Workspace {
    top: PathBuf,
    /// Who may sign what.
    pub policy: Policy,
    clock_is_right: bool,
    _lock: Lock,
}

/// What the world sees now.
#[derive(Clone, Debug)]
pub struct Published {
    /// The newest root.
    pub root: Root,
    /// The timestamp.
    pub timestamp: Timestamp,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The top-level targets.
    pub targets: Targets,
    /// The stop button, where there is one that is a role.
    pub hold: Option<Targets>,
    /// Kernel roles, read when they are asked for.
    pub roles: Roles,
    /// The files as served, by name in `public/metadata`, without those of [`Self::roles`].
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Workspace {
    /// Makes an archive: policy, online keys, and drafts of root and targets for people to sign.
    pub fn init(top: &Path, policy: &Policy, now: UtcSeconds) -> Result<Self, PublishError> {
        policy.check()?;
        policy.role(Duty::Root)?;
        policy.role(Duty::Targets)?;
        let policy_path = top.join("policy.toml");
        if policy_path.exists() {
            return Err(PublishError::Exists {
                path: top.to_owned(),
            });
        }
        for folder in [
            "",
            "keys",
            "drafts",
            "drafts/modules",
            "public/metadata",
            "public/targets",
        ] {
            let path = top.join(folder);
            fs::create_dir_all(&path).map_err(|source| PublishError::File { path, source })?;
        }
        for role in ["snapshot", "timestamp", hold::ROLE] {
            let path = top.join("keys").join(format!("{role}.pem"));
            if !path.exists() {
                PrivateKey::generate()?.save(&path)?;
            }
        }
        // Last, so that a folder with a policy is a whole archive.
        durable::write(&policy_path, policy.to_toml()?.as_bytes())?;
        let workspace = Self::open(top)?;
        workspace.draft_root(now)?;
        workspace.draft_targets(None, now)?;
        Ok(workspace)
    }

    /// Opens and locks an archive.
    pub fn open(top: &Path) -> Result<Self, PublishError> {
        let path = top.join("policy.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PublishError::NotAnArchive {
                    path: top.to_owned(),
                });
            }
            Err(source) => return Err(PublishError::File { path, source }),
        };
        let lock_path = top.join(".lock");
        let lock = match lock::take(&lock_path, "") {
            Ok(Taken::Ours(lock)) => lock,
            Ok(Taken::Held { .. }) => {
                return Err(PublishError::Locked {
                    path: top.to_owned(),
                });
            }
            Err(LockError { path, source }) => return Err(PublishError::File { path, source }),
        };
        Ok(Self {
            top: top.to_owned(),
            policy: Policy::from_toml(&text)?,
            clock_is_right: false,
            _lock: lock,
        })
    }

    /// Changes the policy, and redrafts what depends on it: targets always, root when its people
    /// changed.
    pub fn set_policy(&mut self, policy: Policy, now: UtcSeconds) -> Result<(), PublishError> {
        policy.check()?;
        durable::write(&self.top.join("policy.toml"), policy.to_toml()?.as_bytes())?;
        let old = std::mem::replace(&mut self.policy, policy);
        let changed = |duty| old.role(duty).ok() != self.policy.role(duty).ok();
        if changed(Duty::Root) || changed(Duty::Targets) {
            self.draft_root(now)?;
        }
        self.draft_targets(None, now)?;
        Ok(())
    }

    /// Lets a timestamp be issued earlier than the one published last: that one came of a wrong clock.
    pub fn trust_clock(&mut self) {
        self.clock_is_right = true;
    }

    /// Folder of the public tree.
    pub fn public(&self) -> PathBuf {
        self.top.join("public")
    }

    /// Folder of the drafts.
    pub fn drafts(&self) -> PathBuf {
        self.top.join("drafts")
    }

    /// Lists the open drafts, sorted.
    pub fn open_drafts(&self) -> Result<Vec<PathBuf>, PublishError> {
        let folder = self.drafts();
        let failed = |source| PublishError::File {
            path: folder.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let named = path.file_name().and_then(|name| name.to_str());
            let visible = named.is_some_and(|name| !name.starts_with('.'));
            if visible && path.extension().is_some_and(|end| end == "json") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads what is published; `None` before the first time.
    pub fn published(&self) -> Result<Option<Published>, PublishError> {
        read_published(&self.public())
    }

    /// Returns what the world will see of a role: its draft if there is one, else what is published.
    pub(crate) fn newest<T: Body + Clone>(
        &self,
        role: &str,
        published: Option<&T>,
    ) -> Result<Option<T>, PublishError> {
        match self.draft(role)? {
            Some((_, envelope)) => Ok(Some(body(&envelope, role)?)),
            None => Ok(published.cloned()),
        }
    }

    /// Finds the open draft of `role`.
    pub(crate) fn draft(&self, role: &str) -> Result<Option<(PathBuf, Envelope)>, PublishError> {
        for path in self.open_drafts()? {
            if role_of(&path) == Some(role) {
                let envelope = read_draft(&path)?;
                return Ok(Some((path, envelope)));
            }
        }
        Ok(None)
    }

    /// Writes a draft in place of an older one of the same role; without signatures, since those were
    /// over other bytes.
    pub(crate) fn write_draft(
        &self,
        role: &str,
        body: &impl Body,
    ) -> Result<PathBuf, PublishError> {
        let envelope = Envelope::unsigned(body).map_err(|reason| PublishError::Metadata {
            file: role.to_owned(),
            reason,
        })?;
        let path = self
            .drafts()
            .join(format!("{}.{role}.json", body.version()));
        if let Some((old, old_envelope)) = self.draft(role)? {
            if old_envelope.canonical == envelope.canonical {
                return Ok(old);
            }
            if old != path {
                fs::remove_file(&old).map_err(|source| PublishError::File { path: old, source })?;
            }
        }
        durable::write(&path, &envelope.to_bytes())?;
        Ok(path)
    }

    fn draft_root(&self, now: UtcSeconds) -> Result<PathBuf, PublishError> {
        let version = match self.published()? {
            Some(published) => published.root.version + 1,
            None => 1,
        };
        let (mut keys, root) = self.policy.role(Duty::Root)?;
        let (targets_keys, targets) = self.policy.role(Duty::Targets)?;
        keys.extend(targets_keys);
        let mut online = |role: &str| {
            let (id, key, role) = self.coming_key(role)?;
            keys.insert(id, key);
            Ok::<_, PublishError>(role)
        };
        let roles = TopRoles {
            root,
            targets,
            snapshot: online("snapshot")?,
            timestamp: online("timestamp")?,
        };
        let body = Root {
            kind: Root::TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires: now.plus(u64::from(self.policy.lifetimes.root_days) * DAY),
            consistent_snapshot: true,
            keys,
            roles,
        };
        self.write_draft("root", &body)
    }

    /// Drafts the list of kernels: those published, those in the open draft, and `extra`.
    ///
    /// With no reviewers yet, the list stays empty and delegates to nobody.
    pub(crate) fn draft_targets(
        &self,
        extra: Option<(String, String)>,
        now: UtcSeconds,
    ) -> Result<PathBuf, PublishError> {
        let published = self.published()?.map(|published| published.targets);
        let newest = self.newest("targets", published.as_ref())?;
        let known = newest
            .and_then(|targets| targets.delegations)
            .unwrap_or_default();
        let mut kernels: BTreeMap<String, String> = known
            .roles
            .into_iter()
            .filter(|role| role.name != hold::ROLE)
            .filter_map(|role| Some((role.name, role.paths?.into_iter().next()?)))
            .collect();
        kernels.extend(extra);
        let mut delegations = if kernels.is_empty() {
            Delegations::default()
        } else {
            let (keys, reviewers) = self.policy.role(Duty::Review)?;
            let roles = kernels.into_iter().map(|(name, pattern)| DelegatedRole {
                name,
                keys: reviewers.clone(),
                terminating: true,
                paths: Some(vec![pattern]),
                path_hash_prefixes: None,
            });
            Delegations {
                keys,
                roles: roles.collect(),
            }
        };
        // An archive made before there was a stop button gets one by `rotate hold`.
        let next = self.key_path(&format!("{}.next", hold::ROLE));
        if self.key_path(hold::ROLE).exists() || next.exists() {
            let (id, key, keys) = self.coming_key(hold::ROLE)?;
            delegations.keys.insert(id, key);
            let role = DelegatedRole {
                name: hold::ROLE.to_owned(),
                keys,
                terminating: true,
                paths: Some(vec![hold::PATTERN.to_owned()]),
                path_hash_prefixes: None,
            };
            delegations.roles.insert(0, role);
        }
        let body = Targets {
            kind: Targets::TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: published.map_or(0, |targets| targets.version) + 1,
            expires: now.plus(u64::from(self.policy.lifetimes.targets_days) * DAY),
            targets: BTreeMap::new(),
            delegations: Some(delegations),
            tuxtape: None,
            tuxtape_hold: None,
        };
        self.write_draft("targets", &body)
    }

    pub(crate) fn key_path(&self, role: &str) -> PathBuf {
        self.top.join("keys").join(format!("{role}.pem"))
    }

    /// The online key of `role` that drafts name: the next one, while a rotation waits for signatures.
    fn coming_key(&self, role: &str) -> Result<(KeyId, Key, RoleKeys), PublishError> {
        let next = self.key_path(&format!("{role}.next"));
        let path = if next.exists() {
            next
        } else {
            self.key_path(role)
        };
        let key = PrivateKey::load(&path)?.public();
        let keyid = key.id();
        let role = RoleKeys {
            keyids: vec![keyid.clone()],
            threshold: 1,
        };
        Ok((keyid, key, role))
    }

    /// The online key of `role` that `wanted` names, the present or the next one.
    pub(crate) fn online_key(
        &self,
        role: &str,
        wanted: &RoleKeys,
    ) -> Result<PrivateKey, PublishError> {
        for name in [role.to_owned(), format!("{role}.next")] {
            let path = self.key_path(&name);
            if path.exists() {
                let key = PrivateKey::load(&path)?;
                if wanted.keyids.contains(&key.public().id()) {
                    return Ok(key);
                }
            }
        }
        Err(PublishError::NoOnlineKey {
            role: role.to_owned(),
            folder: self.top.join("keys"),
            wanted: wanted.keyids.iter().map(|id| id.0.clone()).collect(),
        })
    }

    pub(crate) fn kernel_lifetime(&self) -> u64 {
        u64::from(self.policy.lifetimes.kernel_days) * DAY
    }
}

/// Reads the published metadata below `public`; `None` when there is no timestamp.
pub fn read_published(public: &Path) -> Result<Option<Published>, PublishError> {
    let folder = public.join("metadata");
    let mut files = BTreeMap::new();
    let mut load = |name: String, cap: u64| {
        let bytes = read_file(&folder.join(&name), cap)?;
        let envelope = Envelope::parse(&bytes, cap).map_err(|reason| PublishError::Metadata {
            file: name.clone(),
            reason,
        })?;
        files.insert(name, bytes);
        Ok::<_, PublishError>(envelope)
    };
    if !folder.join("timestamp.json").exists() {
        return Ok(None);
    }
    let timestamp: Timestamp = body(
        &load("timestamp.json".to_owned(), cap::TIMESTAMP)?,
        "timestamp",
    )?;
    let mut version = 0;
    while folder.join(format!("{}.root.json", version + 1)).exists() {
        version += 1;
    }
    let root: Root = body(&load(format!("{version}.root.json"), cap::ROOT)?, "root")?;
    let name = format!("{}.snapshot.json", timestamp.snapshot().version);
    let snapshot: Snapshot = body(&load(name, cap::SNAPSHOT)?, "snapshot")?;
    let meta = snapshot.meta.get("targets.json");
    // A snapshot without it is refused when its body is read.
    let version = meta.map_or(0, |meta| meta.version);
    let file = load(format!("{version}.targets.json"), cap::TARGETS)?;
    let targets: Targets = body(&file, "targets")?;
    // Clients take one that is no role for a stop; a person must be able to write another.
    let hold = snapshot
        .meta
        .get(&format!("{}.json", hold::ROLE))
        .and_then(|meta| load(format!("{}.{}.json", meta.version, hold::ROLE), cap::HOLD).ok())
        .and_then(|envelope| body(&envelope, hold::ROLE).ok());
    let roles = Roles::of(&snapshot, &folder);
    Ok(Some(Published {
        root,
        timestamp,
        snapshot,
        targets,
        hold,
        roles,
        files,
    }))
}

/// Takes the role out of a draft's name, `N.ROLE.json`.
pub(crate) fn role_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_suffix(".json")?;
    let (version, role) = name.split_once('.')?;
    version
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(role)
}

pub(crate) fn body<T: Body>(envelope: &Envelope, file: &str) -> Result<T, PublishError> {
    envelope.body().map_err(|reason| PublishError::Metadata {
        file: file.to_owned(),
        reason,
    })
}

pub(crate) fn read_file(path: &Path, cap: u64) -> Result<Vec<u8>, PublishError> {
    let failed = |source| PublishError::File {
        path: path.to_owned(),
        source,
    };
    regular::read(path, cap)
        .map_err(failed)?
        .ok_or_else(|| failed(io::Error::other(format!("larger than {cap} bytes"))))
}

pub(crate) fn read_draft(path: &Path) -> Result<Envelope, PublishError> {
    let bytes = read_file(path, cap::SNAPSHOT)?;
    Envelope::parse(&bytes, cap::SNAPSHOT).map_err(|reason| PublishError::Metadata {
        file: path.display().to_string(),
        reason,
    })
}

/// Names what kind of metadata an envelope holds.
pub(crate) fn kind_of(envelope: &Envelope) -> &str {
    envelope
        .signed
        .get("_type")
        .and_then(Value::as_str)
        .unwrap_or("")
}
