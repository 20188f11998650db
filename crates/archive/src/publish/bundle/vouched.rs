//! Which metadata of a bundle the verified chain names.
//!
//! The client workflow looks at what it needs and at nothing else: a root beyond a gap, or one that it
//! passed long ago, it never reads. A mirror hands out every file it has, so each one must be vouched for.

use crate::client::{DiskStore, Store, Stored, trusted};
use crate::metadata::{Root, Snapshot, Targets};
use crate::names::cap;
use crate::source::{DirectorySource, Fetched, Source};

/// The end of the workflow, and where its files are.
pub(super) struct Trusted<'a> {
    pub(super) root: &'a Root,
    pub(super) snapshot: &'a Snapshot,
    pub(super) targets: &'a Targets,
    pub(super) store: &'a DiskStore,
    pub(super) mirror: &'a DirectorySource,
    /// The root that a person gave at the first import.
    pub(super) given: Option<&'a [u8]>,
}

impl Trusted<'_> {
    /// Tells whether `file` (`N.ROLE.json` or `timestamp.json`) with these bytes is what the chain names;
    /// if not, why.
    pub(super) fn vouches(&self, file: &str, bytes: &[u8]) -> Result<(), String> {
        if file == "timestamp.json" {
            // The same version with other content: the one seen first counts.
            return self.stored(&Stored::Timestamp, cap::TIMESTAMP, bytes);
        }
        let unnamed = || "the verified metadata does not name it".to_owned();
        let stem = file.strip_suffix(".json").ok_or_else(unnamed)?;
        let (number, role) = stem.split_once('.').ok_or_else(unnamed)?;
        let version: u64 = number.parse().map_err(|_| unnamed())?;
        if version.to_string() != number {
            return Err(unnamed());
        }
        match role {
            "root" => self.root(version, bytes),
            "snapshot" if version == self.snapshot.version => {
                self.stored(&Stored::Snapshot, cap::SNAPSHOT, bytes)
            }
            "snapshot" => Err(unnamed()),
            role => self.role(file, version, role, bytes),
        }
    }

    fn root(&self, version: u64, bytes: &[u8]) -> Result<(), String> {
        if version > self.root.version {
            let last = self.root.version;
            return Err(format!("the chain of roots ends at {last}"));
        }
        let mut known = self.load(&Stored::RootVersion(version), cap::ROOT)?;
        // The first root of a mirror is in no history.
        if known.is_none() && version == self.root.version {
            known = self.load(&Stored::Root, cap::ROOT)?;
        }
        if let Some(given) = self.given.filter(|_| known.is_none()) {
            let root = trusted::root(given, "the given root").map_err(|e| e.to_string())?;
            known = (root.version == version).then(|| given.to_vec());
        }
        if known.is_none() {
            // It was published by an import that vouched for it.
            let file = format!("{version}.root.json");
            known = match self.mirror.metadata(&file, cap::ROOT) {
                Ok(Fetched::Bytes(there)) => Some(there),
                Ok(Fetched::Absent) | Err(_) => None,
            };
        }
        match known {
            Some(known) if known == bytes => Ok(()),
            Some(_) => Err("it is not the root that was verified under this number".to_owned()),
            None => Err(
                "it is older than the trusted root, so nothing vouches for it; begin the mirror with the archive's first root (--root 1.root.json)"
                    .to_owned(),
            ),
        }
    }

    fn role(&self, file: &str, version: u64, role: &str, bytes: &[u8]) -> Result<(), String> {
        let meta = self.snapshot.meta.get(&format!("{role}.json"));
        let meta = meta.ok_or_else(|| format!("the snapshot lists no role {role}"))?;
        if meta.version != version {
            return Err(format!(
                "the snapshot names version {} of {role}",
                meta.version
            ));
        }
        let signed = if role == "targets" {
            let keys = &self.root.roles.targets;
            trusted::targets(&self.root.keys, keys, role, bytes, file)
        } else {
            let delegations = self.targets.delegations.as_ref();
            let found = delegations.and_then(|delegations| {
                let role = delegations.roles.iter().find(|known| known.name == role)?;
                Some((&delegations.keys, &role.keys))
            });
            let (keys, wanted) = found.ok_or_else(|| format!("targets lists no role {role}"))?;
            trusted::targets(keys, wanted, role, bytes, file)
        };
        let body = signed.map_err(|refusal| refusal.to_string())?;
        trusted::fits(bytes, body.version, meta, "snapshot.json", file)
            .map_err(|refusal| refusal.to_string())
    }

    fn stored(&self, what: &Stored, cap: u64, bytes: &[u8]) -> Result<(), String> {
        if self.load(what, cap)?.as_deref() == Some(bytes) {
            Ok(())
        } else {
            Err("it is not the file that was verified under this version".to_owned())
        }
    }

    fn load(&self, what: &Stored, cap: u64) -> Result<Option<Vec<u8>>, String> {
        self.store
            .load(what, cap)
            .map_err(|error| error.to_string())
    }
}
