//! What a draft changes, in sentences for the one who signs it.
//!
//! Bodies are taken apart field by field, so that a new field cannot be left out unseen.

mod index;

use std::collections::BTreeSet;

use super::sign::{SignError, own_ids};
use super::{PublishError, Published, body, kind_of};
use crate::index::KernelIndex;
use crate::keys::KeyId;
use crate::metadata::{Body, DelegatedRole, Envelope, RoleKeys, Root, TargetFile, Targets};
use crate::policy::Policy;
use index::index_changes;

/// Compares the draft of `role` with what is published.
pub fn describe(
    draft: &Envelope,
    role: &str,
    published: Option<&Published>,
    policy: &Policy,
) -> Result<Vec<String>, PublishError> {
    if kind_of(draft) == "root" {
        let new: Root = body(draft, role)?;
        own_ids(role, &new.keys)?;
        let mut lines = root_changes(&new, published.map(|p| &p.root), policy);
        lines.extend(unknown_fields(draft, &new));
        return Ok(lines);
    }
    let new: Targets = body(draft, role)?;
    let keys = new.delegations.iter().map(|delegations| &delegations.keys);
    keys.into_iter().try_for_each(|keys| own_ids(role, keys))?;
    let mut lines = if role == "targets" {
        targets_changes(&new, published.map(|p| &p.targets), policy)
    } else {
        kernel_changes(&new, role, published, policy)?
    };
    lines.extend(unknown_fields(draft, &new));
    Ok(lines)
}

/// What is signed besides what this program reads. Clients ignore it; the signer must know.
fn unknown_fields(draft: &Envelope, body: &impl Body) -> Option<String> {
    let known = serde_json::to_value(body).ok();
    (known.as_ref() != Some(&draft.signed))
        .then(|| "carries fields that this program does not know".to_owned())
}

fn kernel_changes(
    new: &Targets,
    role: &str,
    published: Option<&Published>,
    policy: &Policy,
) -> Result<Vec<String>, PublishError> {
    let malformed = |e: &dyn ToString| crate::index::IndexError::Malformed(e.to_string());
    let index = new
        .tuxtape
        .clone()
        .ok_or(crate::index::IndexError::Missing)?;
    let index: KernelIndex = serde_json::from_value(index).map_err(|e| malformed(&e))?;
    let index = KernelIndex::read(new, index.arch, &index.release)?;
    let name = crate::names::role(index.arch, &index.release)?;
    if name != role {
        return Err(SignError::OtherKernel {
            draft: role.to_owned(),
            index: name,
        }
        .into());
    }
    let old = published.map(|published| published.roles.get(role));
    let old = old.transpose()?.flatten();
    let old = old.as_ref();
    let old_index = old
        .map(|old| KernelIndex::read(old, index.arch, &index.release))
        .transpose()?;
    let mut lines = versions(role, new.version, old.map(|old| old.version));
    lines.push(format!("expires {}", new.expires));
    if new.tuxtape_hold.is_some() {
        lines.push("carries caps on rollouts, which count in the role hold alone".to_owned());
    }
    let before = old_index.as_ref().zip(old.map(|old| &old.targets));
    let mut changes = index_changes(&index, &new.targets, before);
    changes.extend(delegation_changes(new, old, policy));
    if changes.is_empty() {
        let created = old_index.is_none_or(|old| old.created != index.created);
        let what = if created {
            "only version, expiry and creation time differ"
        } else {
            "only version and expiry differ"
        };
        changes.push(what.to_owned());
    }
    lines.extend(changes);
    Ok(lines)
}

fn root_changes(new: &Root, old: Option<&Root>, policy: &Policy) -> Vec<String> {
    let mut lines = versions("root", new.version, old.map(|old| old.version));
    let roles = |root: &Root| {
        let r = root.roles.clone();
        [
            ("root", r.root),
            ("targets", r.targets),
            ("snapshot", r.snapshot),
            ("timestamp", r.timestamp),
        ]
    };
    let before = old.map(roles);
    for (at, (name, keys)) in roles(new).iter().enumerate() {
        let before = before
            .as_ref()
            .and_then(|before| before.get(at))
            .map(|(_, keys)| keys);
        lines.extend(key_changes(name, keys, before, policy));
    }
    if !new.consistent_snapshot {
        lines.push("root: no consistent snapshots any more; clients refuse that".to_owned());
    }
    lines.push(format!("expires {}", new.expires));
    lines
}

fn targets_changes(new: &Targets, old: Option<&Targets>, policy: &Policy) -> Vec<String> {
    let Targets {
        kind: _,
        spec_version: _,
        version,
        expires,
        targets,
        delegations: _,
        tuxtape,
        tuxtape_hold,
    } = new;
    let mut lines = versions("targets", *version, old.map(|old| old.version));
    let none = std::collections::BTreeMap::new();
    let before = old.map_or(&none, |old| &old.targets);
    for (name, file) in targets {
        match before.get(name) {
            None => lines.push(format!("file {name} comes, {}", file_text(file))),
            Some(earlier) if earlier != file => {
                lines.push(format!("file {name} is another now, {}", file_text(file)));
            }
            Some(_) => {}
        }
    }
    for name in before.keys().filter(|name| !targets.contains_key(*name)) {
        lines.push(format!("file {name} leaves"));
    }
    if *tuxtape != old.and_then(|old| old.tuxtape.clone()) {
        lines.push("the kernel index that targets itself carries changes".to_owned());
    }
    if tuxtape_hold.is_some() {
        lines.push("carries caps on rollouts, which count in the role hold alone".to_owned());
    }
    lines.extend(delegation_changes(new, old, policy));
    lines.push(format!("expires {expires}"));
    lines
}

fn delegation_changes(new: &Targets, old: Option<&Targets>, policy: &Policy) -> Vec<String> {
    let roles = |targets: Option<&Targets>| {
        let delegations = targets.and_then(|targets| targets.delegations.clone());
        delegations.map_or_else(Vec::new, |delegations| delegations.roles)
    };
    let (now, before) = (roles(Some(new)), roles(old));
    let mut lines = Vec::new();
    for role in &now {
        let DelegatedRole {
            name,
            keys,
            terminating,
            paths: _,
            path_hash_prefixes: _,
        } = role;
        let earlier = before.iter().find(|other| other.name == *name);
        match earlier {
            None => lines.push(format!("{} comes, for {}", called(name), scope(role))),
            Some(earlier) if scope(earlier) != scope(role) => lines.push(format!(
                "{} is now for {}, was for {}",
                called(name),
                scope(role),
                scope(earlier)
            )),
            Some(_) => {}
        }
        if earlier.map_or(!terminating, |earlier| earlier.terminating != *terminating) {
            let ends = if *terminating { "ends" } else { "does not end" };
            lines.push(format!("{} {ends} the search for its files", called(name)));
        }
        lines.extend(key_changes(name, keys, earlier.map(|e| &e.keys), policy));
    }
    for role in before
        .iter()
        .filter(|role| now.iter().all(|n| n.name != role.name))
    {
        lines.push(format!("{} leaves", called(&role.name)));
    }
    let order = |these: &[DelegatedRole], those: &[DelegatedRole]| -> Vec<String> {
        let common = these
            .iter()
            .filter(|role| those.iter().any(|other| other.name == role.name));
        common.map(|role| role.name.clone()).collect()
    };
    if order(&now, &before) != order(&before, &now) {
        lines.push("the order in which kernels are asked changes".to_owned());
    }
    lines
}

/// Says what kind of role a delegated one is.
fn called(name: &str) -> String {
    if name == crate::hold::ROLE {
        "the stop button hold".to_owned()
    } else {
        format!("kernel {name}")
    }
}

/// Which files a role may vouch for.
fn scope(role: &DelegatedRole) -> String {
    let paths = role.paths.iter().flatten().cloned();
    let prefixes = role.path_hash_prefixes.iter().flatten();
    let all: Vec<String> = paths
        .chain(prefixes.map(|prefix| format!("digests from {prefix}")))
        .collect();
    if all.is_empty() {
        "nothing".to_owned()
    } else {
        all.join(", ")
    }
}

fn file_text(file: &TargetFile) -> String {
    let hashes = file
        .hashes
        .iter()
        .map(|(name, hash)| format!("{name} {hash}"));
    let hashes: Vec<String> = hashes.collect();
    format!("{}, {} bytes", hashes.join(", "), file.length)
}

fn versions(name: &str, new: u64, old: Option<u64>) -> Vec<String> {
    vec![match old {
        Some(old) => format!("{name}: version {new}, published is {old}"),
        None => format!("{name}: version {new}, the first"),
    }]
}

fn key_changes(name: &str, new: &RoleKeys, old: Option<&RoleKeys>, policy: &Policy) -> Vec<String> {
    let who = |keyid: &KeyId| {
        let short: String = keyid.0.chars().take(8).collect();
        match policy.person(keyid) {
            Some(person) => format!("{} (key {short})", person.name),
            None => format!("key {short}"),
        }
    };
    let now: BTreeSet<&KeyId> = new.keyids.iter().collect();
    let before: BTreeSet<&KeyId> = old.into_iter().flat_map(|old| &old.keyids).collect();
    let mut lines = Vec::new();
    for keyid in before.difference(&now) {
        lines.push(format!("{name}: {} leaves", who(keyid)));
    }
    for keyid in now.difference(&before) {
        lines.push(format!("{name}: {} comes", who(keyid)));
    }
    if old.is_none_or(|old| old.threshold != new.threshold) {
        lines.push(format!(
            "{name}: {} of {} must sign",
            new.threshold,
            now.len()
        ));
    }
    lines
}
