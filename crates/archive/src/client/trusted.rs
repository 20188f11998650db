//! The checks of one file each, without I/O.

use std::collections::BTreeMap;

use super::Floor;
use crate::hold;
use crate::keys::{Key, KeyId};
use crate::metadata::{
    Body, Envelope, FileMeta, MetadataError, RoleKeys, Root, Snapshot, Targets, Timestamp, Unequal,
    Unsigned, compare,
};
use crate::names::cap;
use crate::time::UtcSeconds;

/// Why a file is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no metadata.
    #[error("{file} is not usable: {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// What is wrong.
        reason: MetadataError,
    },
    /// Its signatures do not reach the threshold.
    #[error("{file} is not signed by {by}: {reason}")]
    Unsigned {
        /// The file.
        file: String,
        /// Whose keys were asked.
        by: String,
        /// How many were wanted and found.
        reason: Unsigned,
    },
    /// It is older than what was seen before.
    #[error("{file} is older than what was seen before: version {found} of {what}, seen {seen}")]
    Rollback {
        /// The file.
        file: String,
        /// Whose version.
        what: String,
        /// Version there.
        found: u64,
        /// Version seen.
        seen: u64,
    },
    /// It is not the version that the file above it names.
    #[error("{file} does not fit {above}: version is {found}, named is {wanted}")]
    Version {
        /// The file.
        file: String,
        /// Who names the version.
        above: &'static str,
        /// Version there.
        found: u64,
        /// Version named.
        wanted: u64,
    },
    /// It is not the file that the file above it describes.
    #[error("{file} does not fit {above}: {reason}")]
    Content {
        /// The file.
        file: String,
        /// Who describes it.
        above: &'static str,
        /// What differs.
        reason: Unequal,
    },
    /// A role that was there is there no more.
    #[error("{file} no longer names {role}")]
    Vanished {
        /// The file.
        file: String,
        /// What it named before.
        role: String,
    },
    /// It is past its time.
    #[error("{role} expired at {at}; it is now {now}")]
    Expired {
        /// The role.
        role: String,
        /// End of its validity.
        at: UtcSeconds,
        /// The time it was judged at.
        now: UtcSeconds,
    },
    /// It is not written for consistent snapshots.
    #[error("{file} does not promise consistent snapshots")]
    NotConsistent {
        /// The file.
        file: String,
    },
}

/// Reads a root that vouches for itself: the one trusted from the start, or one from the store.
pub fn root(bytes: &[u8], file: &str) -> Result<Root, Refusal> {
    let (envelope, root) = read::<Root>(bytes, cap::ROOT, file)?;
    signed(
        &envelope,
        &root.keys,
        &root.roles.root,
        file,
        "its own root keys",
    )?;
    consistent(root, file)
}

/// Checks the root after `current` (5.3.4 and 5.3.5): signed by the old and the new keys, and exactly
/// one version higher.
pub fn next_root(current: &Root, bytes: &[u8], file: &str) -> Result<Root, Refusal> {
    let (envelope, next) = read::<Root>(bytes, cap::ROOT, file)?;
    let old = "the root keys trusted so far";
    signed(&envelope, &current.keys, &current.roles.root, file, old)?;
    signed(
        &envelope,
        &next.keys,
        &next.roles.root,
        file,
        "its own root keys",
    )?;
    let wanted = current.version.saturating_add(1);
    if next.version != wanted {
        return Err(Refusal::Version {
            file: file.to_owned(),
            above: "the root before it",
            found: next.version,
            wanted,
        });
    }
    consistent(next, file)
}

/// Reads a timestamp and checks its signatures (5.4.2).
pub fn timestamp(root: &Root, bytes: &[u8]) -> Result<Timestamp, Refusal> {
    let file = "timestamp.json";
    let (envelope, timestamp) = read::<Timestamp>(bytes, cap::TIMESTAMP, file)?;
    signed(
        &envelope,
        &root.keys,
        &root.roles.timestamp,
        file,
        "the timestamp key",
    )?;
    Ok(timestamp)
}

/// Checks a timestamp against the one before and the floor (5.4.3). An equal version passes.
pub fn no_timestamp_rollback(
    new: &Timestamp,
    before: Option<&Timestamp>,
    root: &Root,
    floor: &Floor,
) -> Result<(), Refusal> {
    let file = "timestamp.json";
    let seen = [
        before.map(|before| before.version),
        floor.version("timestamp", &root.roles.timestamp),
    ];
    not_below(file, "timestamp", new.version, seen)?;
    let seen = [
        before.map(|before| before.snapshot().version),
        floor.version("snapshot", &root.roles.snapshot),
    ];
    not_below(file, "snapshot", new.snapshot().version, seen)
}

/// Reads a snapshot and checks its signatures (5.5.3).
pub fn snapshot(root: &Root, bytes: &[u8], file: &str) -> Result<Snapshot, Refusal> {
    let (envelope, snapshot) = read::<Snapshot>(bytes, cap::SNAPSHOT, file)?;
    signed(
        &envelope,
        &root.keys,
        &root.roles.snapshot,
        file,
        "the snapshot key",
    )?;
    Ok(snapshot)
}

/// Checks a snapshot against the one before and the floor (5.5.5): no role may vanish or go down.
pub fn no_snapshot_rollback(
    new: &Snapshot,
    before: Option<&Snapshot>,
    root: &Root,
    floor: &Floor,
    file: &str,
) -> Result<(), Refusal> {
    for (name, seen) in before.iter().flat_map(|before| &before.meta) {
        let Some(found) = new.meta.get(name) else {
            return Err(Refusal::Vanished {
                file: file.to_owned(),
                role: name.clone(),
            });
        };
        not_below(file, name, found.version, [Some(seen.version), None])?;
    }
    let found = new.meta.get("targets.json").map_or(0, |meta| meta.version);
    let seen = floor.version("targets", &root.roles.targets);
    not_below(file, "targets.json", found, [seen, None])
}

/// Reads a targets role and checks the signatures its delegator asks for (5.6.3).
pub fn targets(
    keys: &BTreeMap<KeyId, Key>,
    role: &RoleKeys,
    name: &str,
    bytes: &[u8],
    file: &str,
) -> Result<Targets, Refusal> {
    let limit = targets_cap(name);
    let (envelope, targets) = read::<Targets>(bytes, limit, file)?;
    signed(&envelope, keys, role, file, &format!("the keys of {name}"))?;
    Ok(targets)
}

/// Returns the bytes a targets role's file may have.
pub fn targets_cap(name: &str) -> u64 {
    if name.starts_with("k__") {
        cap::KERNEL
    } else if name == hold::ROLE {
        cap::HOLD
    } else {
        cap::TARGETS
    }
}

/// Checks a file against what the file above it says (5.5.2, 5.5.4, 5.6.2, 5.6.4).
pub fn fits(
    bytes: &[u8],
    version: u64,
    meta: &FileMeta,
    above: &'static str,
    file: &str,
) -> Result<(), Refusal> {
    compare(bytes, meta.length, &meta.hashes).map_err(|reason| Refusal::Content {
        file: file.to_owned(),
        above,
        reason,
    })?;
    if version == meta.version {
        Ok(())
    } else {
        Err(Refusal::Version {
            file: file.to_owned(),
            above,
            found: version,
            wanted: meta.version,
        })
    }
}

/// Checks that `body` is still valid at `now` (5.3.10, 5.4.4, 5.5.6, 5.6.5).
pub fn fresh(body: &impl Body, role: &str, now: UtcSeconds) -> Result<(), Refusal> {
    if now < body.expires() {
        Ok(())
    } else {
        Err(Refusal::Expired {
            role: role.to_owned(),
            at: body.expires(),
            now,
        })
    }
}

/// Checks that `found` is at least every version seen.
pub fn not_below(
    file: &str,
    what: &str,
    found: u64,
    seen: [Option<u64>; 2],
) -> Result<(), Refusal> {
    match seen.into_iter().flatten().max() {
        Some(seen) if found < seen => Err(Refusal::Rollback {
            file: file.to_owned(),
            what: what.to_owned(),
            found,
            seen,
        }),
        Some(_) | None => Ok(()),
    }
}

fn read<T: Body>(bytes: &[u8], cap: u64, file: &str) -> Result<(Envelope, T), Refusal> {
    let refused = |reason| Refusal::Metadata {
        file: file.to_owned(),
        reason,
    };
    let envelope = Envelope::parse(bytes, cap).map_err(refused)?;
    let body = envelope.body().map_err(refused)?;
    Ok((envelope, body))
}

fn signed(
    envelope: &Envelope,
    keys: &BTreeMap<KeyId, Key>,
    role: &RoleKeys,
    file: &str,
    by: &str,
) -> Result<(), Refusal> {
    envelope
        .verify(keys, role)
        .map_err(|reason| Refusal::Unsigned {
            file: file.to_owned(),
            by: by.to_owned(),
            reason,
        })
}

fn consistent(root: Root, file: &str) -> Result<Root, Refusal> {
    if root.consistent_snapshot {
        Ok(root)
    } else {
        Err(Refusal::NotConsistent {
            file: file.to_owned(),
        })
    }
}
