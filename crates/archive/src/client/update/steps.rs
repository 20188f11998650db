//! The steps of an update: fetch, check, keep (specification 5.2 to 5.6).

use std::collections::BTreeMap;

use super::super::trusted::{self, Refusal};
use super::super::{Store, StoreError, Stored};
use super::{ROOT_STEPS, UpdateError, again};
use crate::keys::{Key, KeyId};
use crate::metadata::{FileMeta, RoleKeys, Root, Snapshot, Targets, Timestamp};
use crate::names::{self, cap};
use crate::source::{Fetched, Source};
use crate::time::UtcSeconds;

/// Seconds that a timestamp may claim to be issued after the local clock and still be believed.
const ISSUED_AHEAD: u64 = 86_400;

/// A targets role, who must have signed it, and what the snapshot says of it.
pub(super) struct Wanted<'a> {
    pub(super) keys: &'a BTreeMap<KeyId, Key>,
    pub(super) role: &'a RoleKeys,
    pub(super) name: &'a str,
    pub(super) meta: &'a FileMeta,
}

/// 5.2 and 5.3.
pub(super) fn update_root(
    store: &mut dyn Store,
    source: &dyn Source,
    now: UtcSeconds,
) -> Result<Root, UpdateError> {
    let mut root = stored_root(store)?;
    for step in 0.. {
        if step == ROOT_STEPS {
            return Err(UpdateError::RootSteps);
        }
        let version = root.version.saturating_add(1);
        let file = format!("{version}.root.json");
        let Some(bytes) = fetch(source, &file, cap::ROOT)? else {
            break;
        };
        let next = trusted::next_root(&root, &bytes, &file)?;
        // 5.3.11, before the new root is stored: a crash between the two must not leave old files
        // that a thief fast-forwarded. The floor, bound to its keys, still guards the others.
        let (old, new) = (&root.roles, &next.roles);
        let rotated = |old: &RoleKeys, new: &RoleKeys| old.fingerprint() != new.fingerprint();
        if rotated(&old.timestamp, &new.timestamp) || rotated(&old.snapshot, &new.snapshot) {
            store.discard(&Stored::Timestamp)?;
            store.discard(&Stored::Snapshot)?;
        }
        store.save(&Stored::RootVersion(version), &bytes)?;
        store.save(&Stored::Root, &bytes)?;
        root = next;
        raise(store, "root", &unbound(), root.version)?;
    }
    let seen = store.floor().version("root", &unbound());
    trusted::not_below("root.json", "root", root.version, [seen, None])?;
    trusted::fresh(&root, "root", now)?;
    Ok(root)
}

/// 5.4.
pub(super) fn update_timestamp(
    store: &mut dyn Store,
    source: &dyn Source,
    root: &Root,
    now: UtcSeconds,
    clock: UtcSeconds,
) -> Result<Timestamp, UpdateError> {
    let before = stored_timestamp(store, root)?;
    let (bytes, tag) = again::timestamp(store, source)?;
    let new = trusted::timestamp(root, &bytes)?;
    trusted::no_timestamp_rollback(&new, before.as_ref(), root, store.floor())?;
    // The same version with other content: the one seen first counts.
    if let Some(before) = before.filter(|before| before.version == new.version) {
        trusted::fresh(&before, "timestamp", now)?;
        return Ok(before);
    }
    trusted::fresh(&new, "timestamp", now)?;
    store.save(&Stored::Timestamp, &bytes)?;
    again::keep(store, &bytes, tag.as_ref())?;
    let mut floor = store.floor().clone();
    floor.raise("timestamp", &root.roles.timestamp, new.version);
    // The floor never falls, and this key is online: a thief must not put it where nothing honest is
    // valid any more. Measured by the clock itself: by the floor, each poll would carry it a day on.
    let latest = clock.plus(ISSUED_AHEAD).min(new.expires).min(root.expires);
    if let Some(issued) = new.tuxtape_issued.filter(|issued| *issued <= latest) {
        floor.raise_time(issued);
    }
    store.set_floor(floor)?;
    Ok(new)
}

/// 5.5.
pub(super) fn update_snapshot(
    store: &mut dyn Store,
    source: &dyn Source,
    root: &Root,
    timestamp: &Timestamp,
    now: UtcSeconds,
) -> Result<Snapshot, UpdateError> {
    let meta = timestamp.snapshot();
    let above = "timestamp.json";
    let bytes = store.load(&Stored::Snapshot, cap::SNAPSHOT)?;
    let before = stored_snapshot(store, root)?;
    if let (Some(bytes), Some(before)) = (bytes, &before)
        && trusted::fits(&bytes, before.version, meta, above, "snapshot.json").is_ok()
    {
        trusted::fresh(before, "snapshot", now)?;
        return Ok(before.clone());
    }
    let file = format!("{}.snapshot.json", meta.version);
    let limit = meta.length.unwrap_or(cap::SNAPSHOT).min(cap::SNAPSHOT);
    let bytes = needed(source, &file, limit)?;
    let new = trusted::snapshot(root, &bytes, &file)?;
    trusted::fits(&bytes, new.version, meta, above, &file)?;
    trusted::no_snapshot_rollback(&new, before.as_ref(), root, store.floor(), &file)?;
    trusted::fresh(&new, "snapshot", now)?;
    store.save(&Stored::Snapshot, &bytes)?;
    raise(store, "snapshot", &root.roles.snapshot, new.version)?;
    Ok(new)
}

/// 5.6, for the top-level targets and every delegated role alike.
pub(super) fn update_targets(
    store: &mut dyn Store,
    source: Option<&dyn Source>,
    want: &Wanted<'_>,
    now: UtcSeconds,
) -> Result<Targets, UpdateError> {
    let top = want.name == "targets";
    let stored = if top {
        Stored::Targets
    } else {
        Stored::Role(want.name.to_owned())
    };
    let above = "snapshot.json";
    let signed =
        |bytes: &[u8], file: &str| trusted::targets(want.keys, want.role, want.name, bytes, file);
    let check = |bytes: &[u8], file: &str| {
        let role = signed(bytes, file)?;
        trusted::fits(bytes, role.version, want.meta, above, file)?;
        Ok::<_, Refusal>(role)
    };
    let limit = trusted::targets_cap(want.name);
    if let Some(bytes) = store.load(&stored, limit)? {
        // Without an archive to ask, the newest that was trusted is all there is; a newer snapshot
        // may name a version that never came.
        let known = match source {
            Some(_) => check(&bytes, want.name),
            None => signed(&bytes, want.name),
        };
        if let Ok(role) = known {
            trusted::fresh(&role, want.name, now)?;
            return Ok(role);
        }
    }
    let file = format!("{}.{}.json", want.meta.version, names::file(want.name));
    let Some(source) = source else {
        return Err(UpdateError::Missing { file });
    };
    let limit = want.meta.length.unwrap_or(limit).min(limit);
    let bytes = needed(source, &file, limit)?;
    let role = check(&bytes, &file)?;
    let seen = store.floor().version(want.name, want.role);
    trusted::not_below(&file, want.name, role.version, [seen, None])?;
    trusted::fresh(&role, want.name, now)?;
    store.save(&stored, &bytes)?;
    raise(store, want.name, want.role, role.version)?;
    Ok(role)
}

/// The newest root that still vouches for itself: the stored one, else from the history, where a
/// torn disk left it.
pub(super) fn stored_root(store: &dyn Store) -> Result<Root, UpdateError> {
    if let Some(bytes) = store.load(&Stored::Root, cap::ROOT)? {
        match trusted::root(&bytes, "root.json") {
            Ok(root) => return Ok(onward(store, root)?),
            Err(refusal) => {
                return newest_of_history(store)?.ok_or(UpdateError::Refused(refusal));
            }
        }
    }
    newest_of_history(store)?.ok_or(UpdateError::NoRoot)
}

/// Goes on from the stored root to those that were verified and kept, but did not come to be the stored
/// one: the power went in between. Who saw a key revoked must not trust it again.
fn onward(store: &dyn Store, mut root: Root) -> Result<Root, StoreError> {
    for _ in 0..ROOT_STEPS {
        let Some(version) = root.version.checked_add(1) else {
            break;
        };
        let bytes = store.load(&Stored::RootVersion(version), cap::ROOT)?;
        let next = bytes.and_then(|bytes| {
            let file = format!("{version}.root.json");
            trusted::next_root(&root, &bytes, &file).ok()
        });
        match next {
            Some(next) => root = next,
            None => break,
        }
    }
    Ok(root)
}

fn newest_of_history(store: &dyn Store) -> Result<Option<Root>, UpdateError> {
    let mut newest: Option<Root> = None;
    let mut gap = 0;
    // Clients start with any version, so the history may begin late, but it has no gaps after that.
    for version in 1u64.. {
        let file = format!("{version}.root.json");
        let bytes = store.load(&Stored::RootVersion(version), cap::ROOT)?;
        match bytes.and_then(|bytes| trusted::root(&bytes, &file).ok()) {
            Some(root) if root.version == version => {
                newest = Some(root);
                gap = 0;
            }
            Some(_) | None => gap += 1,
        }
        if gap > ROOT_STEPS {
            break;
        }
    }
    Ok(newest)
}

/// A stored file that no longer verifies does not count; an expired one still does, as a floor.
pub(super) fn stored_timestamp(
    store: &dyn Store,
    root: &Root,
) -> Result<Option<Timestamp>, UpdateError> {
    let bytes = store.load(&Stored::Timestamp, cap::TIMESTAMP)?;
    Ok(bytes.and_then(|bytes| trusted::timestamp(root, &bytes).ok()))
}

pub(super) fn stored_snapshot(
    store: &dyn Store,
    root: &Root,
) -> Result<Option<Snapshot>, UpdateError> {
    let bytes = store.load(&Stored::Snapshot, cap::SNAPSHOT)?;
    Ok(bytes.and_then(|bytes| trusted::snapshot(root, &bytes, "snapshot.json").ok()))
}

/// A root's version never falls, whoever signs it, so its floor is bound to no keys.
fn unbound() -> RoleKeys {
    RoleKeys {
        keyids: Vec::new(),
        threshold: 1,
    }
}

pub(super) fn named<'a>(snapshot: &'a Snapshot, role: &str) -> Result<&'a FileMeta, UpdateError> {
    snapshot
        .meta
        .get(&format!("{role}.json"))
        .ok_or_else(|| UpdateError::NoRole(role.to_owned()))
}

fn raise(
    store: &mut dyn Store,
    role: &str,
    keys: &RoleKeys,
    version: u64,
) -> Result<(), UpdateError> {
    let mut floor = store.floor().clone();
    floor.raise(role, keys, version);
    Ok(store.set_floor(floor)?)
}

fn fetch(source: &dyn Source, file: &str, cap: u64) -> Result<Option<Vec<u8>>, UpdateError> {
    match source.metadata(file, cap) {
        Ok(Fetched::Bytes(bytes)) => Ok(Some(bytes)),
        Ok(Fetched::Absent) => Ok(None),
        Err(source) => Err(UpdateError::Source {
            file: file.to_owned(),
            source,
        }),
    }
}

fn needed(source: &dyn Source, file: &str, cap: u64) -> Result<Vec<u8>, UpdateError> {
    fetch(source, file, cap)?.ok_or_else(|| UpdateError::Missing {
        file: file.to_owned(),
    })
}
