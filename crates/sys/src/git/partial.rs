//! A bare store into which single commits are fetched, without history and without the files that
//! they do not change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tuxtape_core::git_id::GitId;

use super::commits::Renames;
use super::{GitError, LOCAL, Repository, without_password};
use crate::process::{self, ProcessError};
use crate::url;

/// Commits asked for in one request.
const COMMITS: usize = 200;
/// Contents asked for in one request.
const BLOBS: usize = 500;

/// Why a commit could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFetched {
    /// The server does not have it.
    Missing,
    /// Something else, as a fragment.
    Failed(String),
}

impl Repository {
    /// Opens the bare store in `folder`, creating it at need.
    pub fn store(folder: &Path) -> Result<Self, GitError> {
        fs::create_dir_all(folder).map_err(|source| GitError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let repository = Self {
            git_dir: folder.to_owned(),
        };
        if Self::open(folder).is_err() {
            repository.init_bare()?;
        }
        Ok(repository)
    }

    /// Fetches the commits `ids` of `source`, a URL, with their parents and the contents they change,
    /// and nothing else. Returns those it did not get. What is here already is not asked for again.
    /// Blocks on another process that fetches into the store, and up to `deadline` in all.
    ///
    /// A server that cannot leave out contents is refused: it would send the whole tree.
    pub fn fetch_commits(
        &self,
        source: &str,
        ids: &[GitId],
        deadline: Duration,
    ) -> Result<BTreeMap<GitId, NotFetched>, GitError> {
        if source.starts_with('-') || source.contains("::") || source.contains(char::is_control) {
            return Err(GitError::Source {
                text: url::shown(source).chars().take(200).collect(),
            });
        }
        let fetch = Fetch {
            store: self,
            source,
            start: Instant::now(),
            deadline,
        };
        let _lock = self.lock(deadline)?;
        self.remove_litter();
        let mut failed = BTreeMap::new();
        let mut wanted = self.lacking(ids)?;
        if !wanted.is_empty() {
            fetch.check_server()?;
        }
        while !wanted.is_empty() {
            let batch: Vec<GitId> = wanted.drain(..wanted.len().min(COMMITS)).collect();
            fetch.batch(batch, &["--depth=2"], &mut failed)?;
        }
        self.fetch_contents(&fetch, ids, &mut failed)?;
        Ok(failed)
    }

    /// Returns those of `ids` that are not here with all their parents.
    fn lacking(&self, ids: &[GitId]) -> Result<Vec<GitId>, GitError> {
        let ids: Vec<GitId> = ids
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let commits = self.commits(&ids, LOCAL)?;
        let parents: Vec<GitId> = commits
            .iter()
            .flatten()
            .flat_map(|commit| commit.parents.iter().copied())
            .collect();
        let here = self.has(&parents, LOCAL)?;
        let here: BTreeSet<GitId> = parents
            .iter()
            .zip(here)
            .filter_map(|(parent, here)| here.then_some(*parent))
            .collect();
        let whole: BTreeSet<GitId> = commits
            .iter()
            .flatten()
            .filter(|commit| commit.parents.iter().all(|parent| here.contains(parent)))
            .map(|commit| commit.id)
            .collect();
        Ok(ids.into_iter().filter(|id| !whole.contains(id)).collect())
    }

    /// Fetches what the commits with one parent change.
    fn fetch_contents(
        &self,
        fetch: &Fetch<'_>,
        ids: &[GitId],
        failed: &mut BTreeMap<GitId, NotFetched>,
    ) -> Result<(), GitError> {
        let here: Vec<GitId> = ids
            .iter()
            .copied()
            .filter(|id| !failed.contains_key(id))
            .collect();
        let mut pairs = Vec::new();
        for commit in self.commits(&here, LOCAL)?.into_iter().flatten() {
            if let [parent] = commit.parents.as_slice() {
                pairs.push((commit.id, *parent));
            }
        }
        let listed = self.changed_files(&pairs, Renames::AsTwo, LOCAL)?;
        let blobs: BTreeSet<GitId> = listed
            .into_iter()
            .flatten()
            .flat_map(|file| file.blobs)
            .collect();
        let blobs: Vec<GitId> = blobs.into_iter().collect();
        let here = self.has(&blobs, LOCAL)?;
        let mut wanted: Vec<GitId> = blobs
            .iter()
            .zip(here)
            .filter_map(|(blob, here)| (!here).then_some(*blob))
            .collect();
        // A content that is not served shows when its commit is read.
        let mut not_served = BTreeMap::new();
        while !wanted.is_empty() {
            let batch: Vec<GitId> = wanted.drain(..wanted.len().min(BLOBS)).collect();
            fetch.batch(batch, &[], &mut not_served)?;
        }
        Ok(())
    }
}

/// One run of fetching.
struct Fetch<'a> {
    store: &'a Repository,
    source: &'a str,
    start: Instant,
    deadline: Duration,
}

impl Fetch<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.start.elapsed())
    }

    /// Asks what the server can do: git says so nowhere but in its trace.
    fn check_server(&self) -> Result<(), GitError> {
        let mut command = self.store.command();
        command.env("GIT_TRACE_PACKET", "1");
        command.args(["-c", "protocol.version=2", "ls-remote", "--quiet"]);
        command.args(["--end-of-options", self.source, "refs/heads/no-such-branch"]);
        let finished = process::run(&mut command, self.left())?;
        if !finished.status.success() {
            // Once more without the trace, for the words of the error.
            let mut command = self.store.command();
            command.args(["ls-remote", "--quiet", "--end-of-options", self.source]);
            command.arg("refs/heads/no-such-branch");
            process::run_ok(&mut command, self.left())
                .map_err(|error| without_password(error, self.source))?;
        }
        let trace = String::from_utf8_lossy(&finished.stderr);
        if trace.lines().any(offers_filter) {
            Ok(())
        } else {
            Err(GitError::NoFilter {
                place: url::shown(self.source),
            })
        }
    }

    /// Fetches `ids` in one request, or in several where the server names some that it does not have.
    fn batch(
        &self,
        mut ids: Vec<GitId>,
        more: &[&str],
        failed: &mut BTreeMap<GitId, NotFetched>,
    ) -> Result<(), GitError> {
        // Every round but the last names one that is missing.
        while !ids.is_empty() {
            let mut command = self.command();
            command.args(more);
            command.args(["--end-of-options", "fixes"]);
            command.args(ids.iter().map(ToString::to_string));
            match process::run_ok(&mut command, self.left()) {
                Ok(_) => return Ok(()),
                Err(ProcessError::Failed { tail, .. }) if refused(&tail, &ids).is_some() => {
                    let missing = refused(&tail, &ids);
                    ids.retain(|id| Some(*id) != missing);
                    failed.extend(missing.map(|id| (id, NotFetched::Missing)));
                }
                Err(error @ ProcessError::Failed { .. }) => {
                    let why = without_password(error, self.source).to_string();
                    let failure = |id| (id, NotFetched::Failed(why.clone()));
                    failed.extend(ids.into_iter().map(failure));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = self.store.command();
        for (key, value) in [
            // Named here and not in the store's configuration: reading it can then never fetch.
            ("remote.fixes.url", self.source),
            ("remote.fixes.promisor", "true"),
            ("remote.fixes.partialCloneFilter", "blob:none"),
            // Nothing here says what the server may leave out.
            ("fetch.negotiationAlgorithm", "noop"),
            ("protocol.version", "2"),
        ] {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        command.args(["fetch", "--quiet", "--filter=blob:none", "--no-tags"]);
        command.args(["--no-recurse-submodules", "--no-write-fetch-head"]);
        command.arg("--no-auto-maintenance");
        command
    }
}

/// Tells whether a line of git's trace is the server's offer to leave out contents: `fetch=… filter` in
/// protocol 2, a list of abilities behind a zero byte before that.
fn offers_filter(line: &str) -> bool {
    let Some((_, packet)) = line.split_once("< ") else {
        return false;
    };
    let abilities = match packet.strip_prefix("fetch=") {
        Some(abilities) => abilities,
        None => match packet.split_once("\\0") {
            Some((_, abilities)) => abilities,
            None => return false,
        },
    };
    abilities.split(' ').any(|ability| ability == "filter")
}

/// Returns the object that the server says it does not have, if it is one of `asked`.
fn refused(words: &str, asked: &[GitId]) -> Option<GitId> {
    let (_, rest) = words.split_once("not our ref ")?;
    let id = rest.get(..40)?.parse().ok()?;
    asked.contains(&id).then_some(id)
}

#[cfg(test)]
mod tests;
