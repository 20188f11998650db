//! An archive in one file, for sites without a network.
//!
//! A bundle has no signature of its own: it is a folder of signed files. What it carries counts as much
//! as the same files from a server.

mod import;
pub mod tar;
mod vouched;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::durable;

use super::withdraw::find;
use super::{PublishError, Workspace, read_file};
use crate::hold;
use crate::names::cap;
pub use import::{Imported, import};
use tar::{TarError, append, finish};

/// First entry of every bundle, and what it holds.
const FORMAT: (&str, &[u8]) = ("format", b"tuxtape bundle 1\n");

/// Why a bundle cannot be written or taken.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is no bundle, or damaged.
    #[error("bundle {file} is not usable; nothing was published", file = file.display())]
    Malformed {
        /// The bundle.
        file: PathBuf,
        /// What is wrong.
        source: TarError,
    },
    /// It does not carry all that it names.
    #[error("bundle {file} lacks {}; nothing was published", missing.join(", "), file = file.display())]
    Incomplete {
        /// The bundle.
        file: PathBuf,
        /// What is missing.
        missing: Vec<String>,
    },
    /// What it carries does not verify.
    #[error("bundle {file} does not verify; nothing was published", file = file.display())]
    Unverified {
        /// The bundle.
        file: PathBuf,
        /// What is wrong.
        source: Box<crate::client::UpdateError>,
    },
    /// It carries metadata that the verified chain does not name.
    #[error("bundle {file} carries what nobody vouches for: {}; nothing was published", names.join("; "), file = file.display())]
    Foreign {
        /// The bundle.
        file: PathBuf,
        /// Names, and why.
        names: Vec<String>,
    },
    /// A mirror has no root to begin with.
    #[error("{mirror} has no trusted root yet; give it with --root", mirror = mirror.display())]
    NoRoot {
        /// The mirror.
        mirror: PathBuf,
    },
    /// Another import is running.
    #[error("another import is working on {mirror}", mirror = mirror.display())]
    Locked {
        /// The mirror.
        mirror: PathBuf,
    },
}

impl Workspace {
    /// Writes the roles and modules of `kernels` (all, when empty), with the roots, into one file.
    ///
    /// `have` are names below the public folder that the far side has already; those are left out.
    /// Returns the names written. The same tree and arguments give the same bytes.
    pub fn bundle(
        &self,
        kernels: &[KernelRelease],
        have: &BTreeSet<String>,
        out: &Path,
    ) -> Result<Vec<String>, PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let mut wanted = BTreeSet::new();
        for release in kernels {
            wanted.insert(find(&published, release)?.1);
        }
        let mut metadata: Vec<(String, u64)> = (1..=published.root.version)
            .map(|version| (format!("{version}.root.json"), cap::ROOT))
            .collect();
        metadata.push(("timestamp.json".to_owned(), cap::TIMESTAMP));
        let named = |version: u64, name: &str| format!("{version}.{name}.json");
        metadata.push((named(published.snapshot.version, "snapshot"), cap::SNAPSHOT));
        metadata.push((named(published.targets.version, "targets"), cap::TARGETS));
        if let Some(hold) = &published.hold {
            metadata.push((named(hold.version, hold::ROLE), cap::HOLD));
        }
        let mut modules = BTreeMap::new();
        for (name, version) in published.roles.versions() {
            if !wanted.is_empty() && !wanted.contains(name) {
                continue;
            }
            metadata.push((named(*version, name), cap::KERNEL));
            let role = published.roles.get(name)?;
            for (target, file) in role.iter().flat_map(|role| &role.targets) {
                let digest = file.hashes.get("sha256").map_or("", String::as_str);
                modules.insert(format!("{digest}.{target}"), file.length);
            }
        }
        let public = self.public();
        let files = metadata
            .into_iter()
            .map(|(name, cap)| (format!("metadata/{name}"), cap));
        let files = files.chain(
            modules
                .into_iter()
                .map(|(name, length)| (format!("targets/{name}"), length)),
        );
        // The timestamp changes under one name.
        let files =
            files.filter(|(name, _)| name.ends_with("/timestamp.json") || !have.contains(name));
        let mut written = Vec::new();
        let mut failed = None;
        durable::write_with(out, |file| {
            let mut file = std::io::BufWriter::new(file);
            append(&mut file, FORMAT.0, FORMAT.1)?;
            for (name, cap) in files {
                // The error of a file says more than that of the bundle.
                match read_file(&public.join(&name), cap) {
                    Ok(bytes) => append(&mut file, &name, &bytes)?,
                    Err(error) => {
                        failed = Some(error);
                        return Err(std::io::Error::other("a file of the archive is not usable"));
                    }
                }
                written.push(name);
            }
            finish(&mut file)?;
            file.flush()
        })
        .map_err(|error| failed.take().unwrap_or(PublishError::Write(error)))?;
        Ok(written)
    }
}
