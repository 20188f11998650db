//! Taking a bundle into a mirror: everything is verified before anything is published.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use tuxtape_sys::lock::{self, LockError, Taken};
use tuxtape_sys::{durable, regular};

use super::tar::{Reader, TarError};
use super::vouched::Trusted;
use super::{BundleError, FORMAT};
use crate::client::{self, DiskStore, Store, StoreError, Stored, UpdateError};
use crate::hold;
use crate::metadata::{Root, Snapshot, Targets};
use crate::names::cap;
use crate::publish::PublishError;
use crate::publish::commit::kernel_of;
use crate::source::{DirectorySource, Fetched, Source, SourceError};
use crate::time::UtcSeconds;

/// Entries a bundle may have: far above three levels of ten thousand kernels.
const ENTRY_LIMIT: usize = 100_000;

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Version of the timestamp.
    pub timestamp: u64,
    /// Names published, in order.
    pub files: Vec<String>,
    /// Kernels of the archive that neither the bundle nor the mirror has.
    pub absent: Vec<String>,
}

/// The mirror as it will be: the unpacked bundle over what is there.
struct Overlay {
    bundle: DirectorySource,
    mirror: DirectorySource,
}

impl Source for Overlay {
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        match self.bundle.metadata(file, cap)? {
            Fetched::Absent => self.mirror.metadata(file, cap),
            found @ Fetched::Bytes(_) => Ok(found),
        }
    }

    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        match self.bundle.target(file, cap)? {
            Fetched::Absent => self.mirror.target(file, cap),
            found @ Fetched::Bytes(_) => Ok(found),
        }
    }
}

/// Verifies the bundle in `file` as a client that saw the last one, then publishes it in `mirror`
/// (`metadata/` and `targets/`), the timestamp last.
///
/// The client's state, with its floor, is kept in `mirror/state`. `root` is the root to begin with, at
/// the first import. On any error the mirror's public folders are as they were.
pub fn import(
    file: &Path,
    mirror: &Path,
    root: Option<&[u8]>,
    now: UtcSeconds,
) -> Result<Imported, PublishError> {
    let folder = |path: PathBuf| {
        fs::create_dir_all(&path).map_err(|source| PublishError::File { path, source })
    };
    folder(mirror.join("metadata"))?;
    folder(mirror.join("targets"))?;
    let _lock = match lock::take(&mirror.join(".lock"), "") {
        Ok(Taken::Ours(lock)) => lock,
        Ok(Taken::Held { .. }) => {
            return Err(BundleError::Locked {
                mirror: mirror.to_owned(),
            }
            .into());
        }
        Err(LockError { path, source }) => return Err(PublishError::File { path, source }),
    };
    let unpacked = mirror.join(".unpacked");
    let outcome = take(file, mirror, &unpacked, root, now);
    // Whatever came of it, what was unpacked is in the way of nobody.
    drop(fs::remove_dir_all(&unpacked));
    outcome
}

fn take(
    file: &Path,
    mirror: &Path,
    unpacked: &Path,
    root: Option<&[u8]>,
    now: UtcSeconds,
) -> Result<Imported, PublishError> {
    let names = unpack(file, unpacked)?;
    let store_failed = |source: StoreError| unverified(file, UpdateError::Store(source));
    let mut store = DiskStore::open(&mirror.join("state")).map_err(store_failed)?;
    let mut given = None;
    if store
        .load(&Stored::Root, cap::ROOT)
        .map_err(store_failed)?
        .is_none()
    {
        let root = root.ok_or_else(|| BundleError::NoRoot {
            mirror: mirror.to_owned(),
        })?;
        client::trusted::root(root, "the given root")?;
        store.save(&Stored::Root, root).map_err(store_failed)?;
        given = Some(root);
    }
    let source = Overlay {
        bundle: DirectorySource::new(unpacked),
        mirror: DirectorySource::new(mirror),
    };
    let walked = walk(file, &mut store, &source, &names, now)?;
    let trusted = Trusted {
        root: &walked.root,
        snapshot: &walked.snapshot,
        targets: &walked.targets,
        store: &store,
        mirror: &source.mirror,
        given,
    };
    let metadata = names.iter().filter_map(|name| {
        let file = name.strip_prefix("metadata/")?;
        Some((name, file))
    });
    let mut foreign = Vec::new();
    for (name, metadata) in metadata {
        let limit = cap_of(name).unwrap_or(cap::ROOT);
        let bytes = super::read_file(&unpacked.join(name), limit)?;
        if let Err(why) = trusted.vouches(metadata, &bytes) {
            foreign.push(format!("{name}: {why}"));
        }
    }
    if !foreign.is_empty() {
        return Err(BundleError::Foreign {
            file: file.to_owned(),
            names: foreign,
        }
        .into());
    }
    let mut files: Vec<String> = names.into_iter().collect();
    // The order of every publication: what is named before who names it.
    files.sort_by_key(|name| order(name));
    for name in &files {
        let cap = cap_of(name).unwrap_or(cap::MODULE);
        let bytes = super::read_file(&unpacked.join(name), cap)?;
        durable::write(&mirror.join(name), &bytes)?;
    }
    Ok(Imported {
        timestamp: walked.timestamp,
        files,
        absent: walked.absent,
    })
}

/// What the client workflow came to.
struct Walked {
    timestamp: u64,
    root: Root,
    snapshot: Snapshot,
    targets: Targets,
    absent: Vec<String>,
}

/// Runs the client workflow over every kernel that the bundle or the mirror has.
fn walk(
    file: &Path,
    store: &mut DiskStore,
    source: &Overlay,
    names: &BTreeSet<String>,
    now: UtcSeconds,
) -> Result<Walked, PublishError> {
    let failed = |error| unverified(file, error);
    let mut missing = Vec::new();
    let mut absent = Vec::new();
    let mut session = client::refresh(store, source, now).map_err(failed)?;
    session.hold().map_err(failed)?;
    // What the client's state remembers, the mirror may still not have.
    let mut there = |file: String, cap: u64| match source.metadata(&file, cap) {
        Ok(Fetched::Bytes(_)) => {}
        Ok(Fetched::Absent) | Err(_) => missing.push(file),
    };
    for version in 1..=session.root.version {
        there(format!("{version}.root.json"), cap::ROOT);
    }
    there(
        format!("{}.snapshot.json", session.snapshot.version),
        cap::SNAPSHOT,
    );
    for role in ["targets", hold::ROLE] {
        if let Some(meta) = session.snapshot.meta.get(&format!("{role}.json")) {
            there(
                format!("{}.{role}.json", meta.version),
                client::trusted::targets_cap(role),
            );
        }
    }
    let delegations = session.targets.delegations.clone().unwrap_or_default();
    let mut named = BTreeSet::new();
    for role in &delegations.roles {
        let Some((arch, release)) = kernel_of(&role.name) else {
            continue;
        };
        let Some(meta) = session.snapshot.meta.get(&format!("{}.json", role.name)) else {
            continue;
        };
        let current = format!("metadata/{}.{}.json", meta.version, role.name);
        let known = names.contains(&current) || mirrored(&source.mirror, &role.name, meta.version);
        if !known {
            absent.push(release.to_string());
            continue;
        }
        if matches!(
            source.metadata(&format!("{}.{}.json", meta.version, role.name), cap::KERNEL),
            Ok(Fetched::Absent)
        ) {
            missing.push(format!("{}.{}.json", meta.version, role.name));
            continue;
        }
        let (body, index) = match session.kernel(arch, &release) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            // It lapsed on the way; the other kernels are none the worse for it.
            Err(UpdateError::Refused(client::Refusal::Expired { role, .. })) => {
                absent.push(format!("{role} (expired)"));
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let levels = index.kernels.iter().flat_map(|kernel| &kernel.levels);
        for level in levels {
            let Some(target) = body.targets.get(&level.target) else {
                continue;
            };
            let digest = target.hashes.get("sha256").map_or("", String::as_str);
            named.insert(format!("targets/{digest}.{}", level.target));
            match session.fetch_target(&level.target, target, cap::MODULE) {
                Ok(_) => {}
                Err(UpdateError::Missing { file }) => missing.push(file),
                Err(error) => return Err(failed(error)),
            }
        }
    }
    if !missing.is_empty() {
        return Err(BundleError::Incomplete {
            file: file.to_owned(),
            missing,
        }
        .into());
    }
    // What nobody signed for has no place on the mirror.
    let foreign = names
        .iter()
        .find(|name| name.starts_with("targets/") && !named.contains(*name));
    if let Some(name) = foreign {
        return Err(malformed(file, TarError::Name(name.clone())));
    }
    Ok(Walked {
        timestamp: session.timestamp.version,
        root: session.root.clone(),
        snapshot: session.snapshot.clone(),
        targets: session.targets.clone(),
        absent,
    })
}

/// Whether the mirror has served this kernel before, in this or an earlier version.
fn mirrored(mirror: &DirectorySource, role: &str, version: u64) -> bool {
    (1..=version).rev().take(1000).any(|version| {
        let file = format!("{version}.{role}.json");
        matches!(mirror.metadata(&file, cap::KERNEL), Ok(Fetched::Bytes(_)))
    })
}

/// Unpacks a bundle into an empty folder; returns the names below it.
fn unpack(file: &Path, to: &Path) -> Result<BTreeSet<String>, PublishError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PublishError::File { path, source }
    };
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(to)(error));
        }
        _ => {}
    }
    for folder in ["metadata", "targets"] {
        fs::create_dir_all(to.join(folder)).map_err(failed(to))?;
    }
    let input = regular::open(File::options().read(true), file).map_err(failed(file))?;
    let mut reader = Reader::new(BufReader::new(input));
    let bad = |error| malformed(file, error);
    let first = reader
        .entry(|name| (name == FORMAT.0).then_some(64))
        .map_err(bad)?;
    if first.is_none_or(|(_, bytes)| bytes != FORMAT.1) {
        return Err(bad(TarError::Format));
    }
    let mut names = BTreeSet::new();
    let mut targets = false;
    while let Some((name, bytes)) = reader.entry(cap_of).map_err(bad)? {
        if names.len() >= ENTRY_LIMIT {
            return Err(bad(TarError::Entries(ENTRY_LIMIT)));
        }
        let late = targets && name.starts_with("metadata/");
        targets |= name.starts_with("targets/");
        if late || names.contains(&name) {
            let after = names.last().cloned().unwrap_or_default();
            return Err(bad(TarError::Order { name, after }));
        }
        let path = to.join(&name);
        fs::write(&path, bytes).map_err(failed(&path))?;
        names.insert(name);
    }
    Ok(names)
}

/// Returns the bytes a file of that name may have; `None` for a name that no bundle has.
pub(super) fn cap_of(name: &str) -> Option<u64> {
    let (folder, file) = name.split_once('/')?;
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    if file.is_empty() || file.len() > 255 || file.starts_with('.') || !file.bytes().all(plain) {
        return None;
    }
    match folder {
        "targets" => Some(cap::MODULE),
        "metadata" => {
            let stem = file.strip_suffix(".json")?;
            if stem == "timestamp" {
                return Some(cap::TIMESTAMP);
            }
            let (version, role) = stem.split_once('.')?;
            version.parse::<u64>().ok()?;
            match role {
                "root" => Some(cap::ROOT),
                "snapshot" => Some(cap::SNAPSHOT),
                other => Some(client::trusted::targets_cap(other)),
            }
        }
        _ => None,
    }
}

fn order(name: &str) -> (u8, String) {
    let rank = match name {
        "metadata/timestamp.json" => 5,
        name if name.starts_with("targets/") => 0,
        name if name.ends_with(".targets.json") => 2,
        name if name.ends_with(".snapshot.json") => 3,
        name if name.ends_with(".root.json") => 4,
        _ => 1,
    };
    (rank, name.to_owned())
}

fn malformed(file: &Path, source: TarError) -> PublishError {
    BundleError::Malformed {
        file: file.to_owned(),
        source,
    }
    .into()
}

fn unverified(file: &Path, source: UpdateError) -> PublishError {
    BundleError::Unverified {
        file: file.to_owned(),
        source: Box::new(source),
    }
    .into()
}
