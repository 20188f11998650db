//! Removing public files that nobody can need any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tuxtape_sys::durable;

use super::{PublishError, Workspace};
use crate::time::UtcSeconds;

/// Least age of old metadata, in seconds: a client that is in the middle of an update, or a cache on
/// the way, may still ask for it.
const METADATA_AGE: u64 = 30 * 86_400;

impl Workspace {
    /// Lists, and unless `dry` removes, what no current metadata names: modules that came more than
    /// `module_days` ago, and superseded metadata of more than 30 days. Roots stay for ever.
    pub fn prune(
        &self,
        module_days: u32,
        dry: bool,
        now: UtcSeconds,
    ) -> Result<Vec<PathBuf>, PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let public = self.public();
        let roles = published.roles.all()?;
        let modules: BTreeSet<String> = roles
            .iter()
            .flat_map(|(_, role)| &role.targets)
            .filter_map(|(name, file)| Some(format!("{}.{name}", file.hashes.get("sha256")?)))
            .collect();
        let age = u64::from(module_days) * 86_400;
        let mut gone = older(&public.join("targets"), age, now, |name| {
            !modules.contains(name)
        })?;
        let current: BTreeSet<String> = published.roles.files().collect();
        gone.extend(older(
            &public.join("metadata"),
            METADATA_AGE,
            now,
            |name| {
                !published.files.contains_key(name)
                    && !current.contains(name)
                    && !name.ends_with(".root.json")
                    && name
                        .split('.')
                        .next()
                        .is_some_and(|first| first.parse::<u64>().is_ok())
            },
        )?);
        if !dry {
            for path in &gone {
                durable::remove(path).map_err(|source| PublishError::File {
                    path: path.clone(),
                    source,
                })?;
            }
        }
        Ok(gone)
    }
}

/// Lists the files of a folder that are `wanted` and last changed `age` seconds ago or earlier.
fn older(
    folder: &Path,
    age: u64,
    now: UtcSeconds,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>, PublishError> {
    let failed = |source| PublishError::File {
        path: folder.to_owned(),
        source,
    };
    let limit = UNIX_EPOCH + Duration::from_secs(now.unix().saturating_sub(age));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let there = entry.metadata().map_err(failed)?;
        let old = there.modified().map_err(failed)? <= limit;
        if there.is_file() && old && wanted(name) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
