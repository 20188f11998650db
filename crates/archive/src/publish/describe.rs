//! What a draft changes, in sentences for the one who signs it.

use std::collections::BTreeSet;

use super::{PublishError, Published, body, kind_of};
use crate::index::{KernelIndex, Level};
use crate::keys::KeyId;
use crate::metadata::{Envelope, RoleKeys, Root, Targets};
use crate::policy::Policy;

/// Compares a draft with what is published.
pub fn describe(
    draft: &Envelope,
    published: Option<&Published>,
    policy: &Policy,
) -> Result<Vec<String>, PublishError> {
    if kind_of(draft) == "root" {
        let new: Root = body(draft, "root")?;
        return Ok(root_changes(&new, published.map(|p| &p.root), policy));
    }
    let new: Targets = body(draft, "targets")?;
    let Some(index) = &new.tuxtape else {
        return Ok(targets_changes(&new, published.map(|p| &p.targets), policy));
    };
    let index: KernelIndex = serde_json::from_value(index.clone())
        .map_err(|e| crate::index::IndexError::Malformed(e.to_string()))?;
    let index = KernelIndex::read(&new, index.arch, &index.release)?;
    let name = crate::names::role(index.arch, &index.release)?;
    let old = published.and_then(|published| published.roles.get(&name));
    let old_index = old
        .map(|old| KernelIndex::read(old, index.arch, &index.release))
        .transpose()?;
    let mut lines = versions(&name, new.version, old.map(|old| old.version));
    lines.push(format!("expires {}", new.expires));
    lines.extend(index_changes(&index, old_index.as_ref(), &new));
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
    lines.push(format!("expires {}", new.expires));
    lines
}

fn targets_changes(new: &Targets, old: Option<&Targets>, policy: &Policy) -> Vec<String> {
    let mut lines = versions("targets", new.version, old.map(|old| old.version));
    let empty = Vec::new();
    let roles = |targets: Option<&Targets>| {
        let delegations = targets.and_then(|targets| targets.delegations.clone());
        delegations.map_or_else(|| empty.clone(), |delegations| delegations.roles)
    };
    let (now, before) = (roles(Some(new)), roles(old));
    for role in &now {
        let earlier = before.iter().find(|other| other.name == role.name);
        if earlier.is_none() {
            let paths = role.paths.clone().unwrap_or_default().join(", ");
            lines.push(format!("kernel {} comes, for {paths}", role.name));
        }
        let earlier = earlier.map(|earlier| &earlier.keys);
        lines.extend(key_changes(&role.name, &role.keys, earlier, policy));
    }
    for role in before
        .iter()
        .filter(|role| now.iter().all(|n| n.name != role.name))
    {
        lines.push(format!("kernel {} leaves", role.name));
    }
    lines.push(format!("expires {}", new.expires));
    lines
}

fn index_changes(new: &KernelIndex, old: Option<&KernelIndex>, body: &Targets) -> Vec<String> {
    let mut lines = Vec::new();
    for kernel in &new.kernels {
        let build = kernel.build_id.short();
        let before = old.and_then(|old| old.kernel(&kernel.build_id));
        if before.is_none() {
            lines.push(format!(
                "build {build}: new, vermagic {:?}",
                kernel.vermagic
            ));
        }
        let had = |level: &&Level| before.is_some_and(|b| b.levels.contains(level));
        for level in kernel.levels.iter().filter(|level| !had(level)) {
            let target = body.targets.get(&level.target);
            let digest = target.and_then(|target| target.hashes.get("sha256"));
            lines.push(format!(
                "build {build}: level {} comes, module {} with sha256 {}, {} bytes",
                level.level,
                level.module,
                digest.map_or("none", String::as_str),
                target.map_or(0, |target| target.length),
            ));
        }
        let gone = before.into_iter().flat_map(|before| &before.levels);
        for level in gone.filter(|level| !kernel.levels.contains(level)) {
            lines.push(format!("build {build}: level {} leaves", level.level));
        }
        for fix in &kernel.fixes {
            let name = fix
                .cve
                .as_deref()
                .or(fix.commit.as_deref())
                .unwrap_or("a fix");
            match before.and_then(|b| {
                b.fixes
                    .iter()
                    .find(|o| o.cve == fix.cve && o.since == fix.since)
            }) {
                None => lines.push(format!(
                    "build {build}: {name} closed from level {}",
                    fix.since
                )),
                Some(earlier) if earlier != fix => {
                    let until = fix.until.map_or("for ever".to_owned(), |until| {
                        format!("until level {until}")
                    });
                    lines.push(format!("build {build}: {name} closed {until}"));
                }
                Some(_) => {}
            }
        }
        for entry in &kernel.withdrawn {
            if before.is_none_or(|before| !before.withdrawn.contains(entry)) {
                lines.push(format!(
                    "build {build}: level {} withdrawn: {}",
                    entry.level, entry.reason
                ));
            }
        }
        if before.is_some_and(|before| before.floor != kernel.floor) {
            lines.push(format!("build {build}: floor is level {}", kernel.floor));
        }
        if before.is_some_and(|before| before.support != kernel.support) {
            lines.push(format!(
                "build {build}: support is {:?}",
                kernel.support.state
            ));
        }
    }
    for kernel in old.iter().flat_map(|old| &old.kernels) {
        if new.kernel(&kernel.build_id).is_none() {
            lines.push(format!("build {} leaves", kernel.build_id.short()));
        }
    }
    if lines.is_empty() {
        lines.push("only version, expiry and creation time differ".to_owned());
    }
    lines
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
