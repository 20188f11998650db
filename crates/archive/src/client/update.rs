//! The update workflow (specification 5): what a client trusts, and how it comes to more.

mod again;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::identity::{Arch, KernelRelease};

use super::trusted::Refusal;
use super::{Store, StoreError};
use crate::hold::{self, Caps, Hold};
use crate::index::{IndexError, KernelIndex};
use crate::keys::{Key, KeyId};
use crate::metadata::{
    DelegatedRole, Delegations, Root, Snapshot, TargetFile, Targets, Timestamp, Unequal, compare,
};
use crate::names::{self, NameTooLong};
use crate::source::{Fetched, Source, SourceError};
use crate::time::UtcSeconds;
use steps::{
    Wanted, named, stored_root, stored_snapshot, stored_timestamp, update_root, update_snapshot,
    update_targets, update_timestamp,
};

/// Roots walked in one update, and roles asked for one target.
const ROOT_STEPS: u32 = 256;
const ROLE_STEPS: usize = 32;

/// Why an update stopped.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nothing is trusted yet.
    #[error("no trusted root in the state folder")]
    NoRoot,
    /// A file is not trusted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file could not be fetched.
    #[error("could not fetch {file}")]
    Source {
        /// The file.
        file: String,
        /// What went wrong.
        source: SourceError,
    },
    /// A file that must be there is not.
    #[error("the archive has no {file}")]
    Missing {
        /// The file.
        file: String,
    },
    /// The state could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More new roots than one update walks.
    #[error("more than {ROOT_STEPS} new roots")]
    RootSteps,
    /// No such role.
    #[error("the archive has no role {0}")]
    NoRole(String),
    /// A kernel role is delegated in another way than ours are.
    #[error("role {0} is not delegated for its own kernel alone")]
    Delegation(String),
    /// The role's index is not usable.
    #[error("role {role} is not usable")]
    Index {
        /// The role.
        role: String,
        /// What is wrong.
        source: IndexError,
    },
    /// The kernel has no name.
    #[error(transparent)]
    Name(#[from] NameTooLong),
    /// A target is not the file that was signed.
    #[error("module {target} is not the one that was signed: {reason}")]
    Target {
        /// Its path.
        target: String,
        /// What differs.
        reason: Unequal,
    },
    /// A target is larger than this machine takes.
    #[error("module {target} has {length} bytes, at most {cap} are taken")]
    TargetTooLarge {
        /// Its path.
        target: String,
        /// Bytes signed.
        length: u64,
        /// Bytes allowed.
        cap: u64,
    },
}

/// Trusted metadata, and the way to more of it.
pub struct Session<'a> {
    store: &'a mut dyn Store,
    source: Option<&'a dyn Source>,
    now: UtcSeconds,
    /// The root.
    pub root: Root,
    /// The timestamp.
    pub timestamp: Timestamp,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The top-level targets.
    pub targets: Targets,
    roles: BTreeMap<String, Targets>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("root", &self.root.version)
            .field("timestamp", &self.timestamp.version)
            .field("snapshot", &self.snapshot.version)
            .field("targets", &self.targets.version)
            .finish_non_exhaustive()
    }
}

/// Brings the top-level metadata up to date from `source`.
///
/// `clock` is the local time (5.1); where something signed later was seen, that counts instead.
/// Whatever was verified before a failure stays stored, as the specification wants.
pub fn refresh<'a>(
    store: &'a mut dyn Store,
    source: &'a dyn Source,
    clock: UtcSeconds,
) -> Result<Session<'a>, UpdateError> {
    let now = clock.max(store.floor().time);
    let root = update_root(store, source, now)?;
    let timestamp = update_timestamp(store, source, &root, now, clock)?;
    let snapshot = update_snapshot(store, source, &root, &timestamp, now)?;
    session(store, Some(source), now, root, timestamp, snapshot)
}

/// Reads what was trusted at the last update, without asking anybody; expired metadata too.
///
/// An update that was cut short leaves a snapshot that names newer files than are stored. Those files
/// were trusted when they came and still count as long as their signers are the ones wanted now.
///
/// For looking, and for a level that was accepted before: never for accepting something new.
pub fn local(store: &mut dyn Store) -> Result<Session<'_>, UpdateError> {
    let missing = |file: &str| UpdateError::Missing {
        file: file.to_owned(),
    };
    let now = UtcSeconds::EPOCH;
    let root = stored_root(store)?;
    let timestamp = stored_timestamp(store, &root)?.ok_or_else(|| missing("timestamp.json"))?;
    let snapshot = stored_snapshot(store, &root)?.ok_or_else(|| missing("snapshot.json"))?;
    session(store, None, now, root, timestamp, snapshot)
}

/// The last step of both, and what came of all.
fn session<'a>(
    store: &'a mut dyn Store,
    source: Option<&'a dyn Source>,
    now: UtcSeconds,
    root: Root,
    timestamp: Timestamp,
    snapshot: Snapshot,
) -> Result<Session<'a>, UpdateError> {
    let named = named(&snapshot, "targets")?.clone();
    let want = Wanted {
        keys: &root.keys,
        role: &root.roles.targets,
        name: "targets",
        meta: &named,
    };
    let targets = update_targets(store, source, &want, now)?;
    Ok(Session {
        store,
        source,
        now,
        root,
        timestamp,
        snapshot,
        targets,
        roles: BTreeMap::new(),
    })
}

impl Session<'_> {
    /// Returns the time that expiry was judged at.
    pub fn now(&self) -> UtcSeconds {
        self.now
    }

    /// Returns the role and the index of one kernel release; `None` when the archive has none.
    ///
    /// Raises the time floor to the index's own times, unless only what was trusted before is read:
    /// that was counted when it came, and whoever looks may not hold the lock.
    pub fn kernel(
        &mut self,
        arch: Arch,
        release: &KernelRelease,
    ) -> Result<Option<(Targets, KernelIndex)>, UpdateError> {
        let name = names::role(arch, release)?;
        let none = Delegations::default();
        let delegations = self.targets.delegations.as_ref().unwrap_or(&none);
        let Some(delegated) = delegations.roles.iter().find(|role| role.name == name) else {
            return Ok(None);
        };
        // A role delegated for more, or after another that ends the search, would not be the one a
        // lookup of the target finds.
        let pattern = names::pattern(arch, release)?;
        let own = delegated.paths.as_deref() == Some(std::slice::from_ref(&pattern));
        let probe = pattern.trim_end_matches('*');
        let first = delegations.roles.iter().find(|role| role.owns(probe));
        if !own || !delegated.terminating || first.is_none_or(|first| first.name != name) {
            return Err(UpdateError::Delegation(name));
        }
        let (keys, delegated) = one(delegations, delegated);
        let role = self.role(&keys, &delegated)?;
        let index = KernelIndex::read(&role, arch, release)
            .map_err(|source| UpdateError::Index { role: name, source })?;
        if self.source.is_some() {
            let created = index.kernels.iter().flat_map(|kernel| &kernel.levels);
            let latest = created.map(|level| level.created).max();
            let mut floor = self.store.floor().clone();
            let latest = latest.unwrap_or(index.created).max(index.created);
            floor.raise_time(latest.min(self.root.expires));
            self.store.set_floor(floor)?;
        }
        Ok(Some((role, index)))
    }

    /// Returns what the stop button says.
    ///
    /// Whatever is wrong with it, other than the state itself, counts as a stop: whoever withholds it
    /// must not win a rollout by that.
    pub fn hold(&mut self) -> Result<Hold, UpdateError> {
        let delegations = self.targets.delegations.as_ref();
        let found = delegations.and_then(|delegations| {
            let mut roles = delegations.roles.iter();
            let role = roles.find(|role| role.name == hold::ROLE)?;
            Some(one(delegations, role))
        });
        let Some((keys, delegated)) = found else {
            return Ok(Hold::Absent);
        };
        match self.role(&keys, &delegated) {
            Ok(role) => Ok(Caps::read(&role).map_or_else(
                |why| Hold::Unreadable(format!("the caps are malformed: {why}")),
                Hold::Caps,
            )),
            Err(error @ UpdateError::Store(_)) => Err(error),
            Err(error) => {
                let mut why = format!("the caps are not usable: {error}");
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    why.push_str(&format!(": {error}"));
                    cause = error.source();
                }
                Ok(Hold::Unreadable(why))
            }
        }
    }

    /// Looks a target up in the top-level targets and, in pre-order, in what they delegate (5.6.7).
    pub fn find_target(&mut self, path: &str) -> Result<Option<TargetFile>, UpdateError> {
        if let Some(target) = self.targets.targets.get(path) {
            return Ok(Some(target.clone()));
        }
        let mut pending = owners(&self.targets, path);
        let mut visited = BTreeSet::new();
        while let Some((keys, delegated)) = pending.pop() {
            if visited.len() >= ROLE_STEPS {
                break;
            }
            if !visited.insert(delegated.name.clone()) {
                continue;
            }
            let role = self.role(&keys, &delegated)?;
            if let Some(target) = role.targets.get(path) {
                return Ok(Some(target.clone()));
            }
            let found = owners(&role, path);
            if found.iter().any(|(_, owner)| owner.terminating) {
                pending.clear();
            }
            pending.extend(found);
        }
        Ok(None)
    }

    /// Fetches a target of at most `cap` bytes and checks length and digests (5.7).
    pub fn fetch_target(
        &self,
        path: &str,
        target: &TargetFile,
        cap: u64,
    ) -> Result<Vec<u8>, UpdateError> {
        let source = self.source.ok_or_else(|| UpdateError::Missing {
            file: path.to_owned(),
        })?;
        fetch_target(source, path, target, cap)
    }

    fn role(
        &mut self,
        keys: &BTreeMap<KeyId, Key>,
        delegated: &DelegatedRole,
    ) -> Result<Targets, UpdateError> {
        // Two delegators may name one role; each asks for its own keys.
        let fingerprint = delegated.keys.fingerprint();
        let cached = format!(
            "{fingerprint} {} {}",
            delegated.keys.threshold, delegated.name
        );
        if let Some(role) = self.roles.get(&cached) {
            return Ok(role.clone());
        }
        let meta = named(&self.snapshot, &delegated.name)?.clone();
        let want = Wanted {
            keys,
            role: &delegated.keys,
            name: &delegated.name,
            meta: &meta,
        };
        let role = update_targets(self.store, self.source, &want, self.now)?;
        self.roles.insert(cached, role.clone());
        Ok(role)
    }
}

/// Fetches a target that a trusted role vouches for, of at most `cap` bytes, and checks length and
/// digests (5.7).
pub fn fetch_target(
    source: &dyn Source,
    path: &str,
    target: &TargetFile,
    cap: u64,
) -> Result<Vec<u8>, UpdateError> {
    if target.length > cap {
        return Err(UpdateError::TargetTooLarge {
            target: path.to_owned(),
            length: target.length,
            cap,
        });
    }
    let refused = |reason| UpdateError::Target {
        target: path.to_owned(),
        reason,
    };
    let known = ["sha256", "sha512"]
        .iter()
        .find_map(|name| target.hashes.get(*name));
    let digest = known.ok_or_else(|| refused(Unequal::Algorithm))?;
    if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused(Unequal::Algorithm));
    }
    let file = match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{digest}.{name}"),
        None => format!("{digest}.{path}"),
    };
    // One byte more tells a longer file from the right one.
    let limit = target.length.saturating_add(1);
    let bytes = match source.target(&file, limit) {
        Ok(Fetched::Bytes(bytes)) => bytes,
        Ok(Fetched::Absent) => return Err(UpdateError::Missing { file }),
        Err(SourceError::TooLarge { .. }) => {
            return Err(refused(Unequal::Length {
                found: limit,
                signed: target.length,
            }));
        }
        Err(source) => return Err(UpdateError::Source { file, source }),
    };
    compare(&bytes, Some(target.length), &target.hashes).map_err(refused)?;
    Ok(bytes)
}

/// A delegated role and the keys that it names. An archive lists a thousand of them.
fn one(delegations: &Delegations, role: &DelegatedRole) -> (BTreeMap<KeyId, Key>, DelegatedRole) {
    let keys = role.keys.keyids.iter().filter_map(|id| {
        let key = delegations.keys.get(id)?;
        Some((id.clone(), key.clone()))
    });
    (keys.collect(), role.clone())
}

/// Delegated roles that own `path`, last first; nothing after a terminating one.
fn owners(targets: &Targets, path: &str) -> Vec<(BTreeMap<KeyId, Key>, DelegatedRole)> {
    let Some(delegations) = &targets.delegations else {
        return Vec::new();
    };
    let mut owners = Vec::new();
    for role in delegations.roles.iter().filter(|role| role.owns(path)) {
        owners.push(one(delegations, role));
        if role.terminating {
            break;
        }
    }
    owners.reverse();
    owners
}
