//! Commits from a git repository: many at a time, each with its own outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tuxtape_core::git_id::GitId;
use tuxtape_core::version::Branch;
use tuxtape_sys::git::commits::{CommitText, Renames, Shown};
use tuxtape_sys::git::partial::NotFetched;
use tuxtape_sys::git::{GitError, Repository};

use super::commit::{CommitDiff, CommitError, Mention, Shelf, mention};
use super::library::Network;
use super::spec::GitPlace;
use crate::unified::LONGEST_DIFF;

/// Commits read from a repository at once.
const AT_ONCE: usize = 500;
/// Limit of reading one such batch.
const READ: Duration = Duration::from_secs(120);
/// Limit of fetching from one server.
const FETCH: Duration = Duration::from_secs(1800);
/// Limit of looking for later commits.
const LOOK: Duration = Duration::from_secs(15);
/// Batches that may fail before no smaller one is tried.
const PATIENCE: u32 = 64;
/// Most later commits that are looked at.
const MOST_MENTIONS: usize = 50;

/// What a source knows of each commit asked for.
pub(super) type Commits = BTreeMap<GitId, Result<CommitDiff, CommitError>>;

/// Reads `ids` from `place`. A commit that cannot be had is an outcome of its own and stops no other.
/// What was read is kept below `cache`.
pub(super) fn read(
    place: &GitPlace,
    ids: &BTreeSet<GitId>,
    cache: &Path,
    network: Network,
) -> Commits {
    let shelf = shelf(place, cache);
    let mut commits = Commits::new();
    let mut wanted = Vec::new();
    for id in ids {
        match shelf.get(*id) {
            Some(commit) => {
                // One without whole files is read again, where the source is still there.
                if commit.whole.is_none() {
                    wanted.push(*id);
                }
                commits.insert(*id, Ok(commit));
            }
            None => wanted.push(*id),
        }
    }
    if wanted.is_empty() {
        return commits;
    }
    let add = |commits: &mut Commits, id, outcome: Result<CommitDiff, CommitError>| {
        if outcome.is_ok() || !commits.contains_key(&id) {
            commits.insert(id, outcome);
        }
    };
    let (repository, not_fetched) = match opened(place, &shelf, &wanted, network) {
        Ok(opened) => opened,
        Err(error) => {
            let why = told(&error);
            for id in wanted {
                let why = why.clone();
                add(&mut commits, id, Err(CommitError::Source { why }));
            }
            return commits;
        }
    };
    let mut patience = PATIENCE;
    for batch in wanted.chunks(AT_ONCE) {
        let mut found = read_apart(&repository, batch, &mut patience);
        for commit in found.values().flatten() {
            // What is not kept is read again.
            shelf.put(commit).ok();
        }
        for (id, why) in &not_fetched {
            if let (Some(Err(error)), NotFetched::Failed(why)) = (found.get_mut(id), why) {
                *error = CommitError::Source { why: why.clone() };
            }
        }
        for (id, outcome) in found {
            add(&mut commits, id, outcome);
        }
    }
    commits
}

/// What later commits of a repository say of a fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// These, newest first: each with its subject.
    Found(Vec<(Mention, GitId, String)>),
    /// They could not be looked for.
    NotSeen(String),
}

/// Looks for commits that repair or take back one of `ids`, from the oldest of those on.
pub(super) fn later(place: &GitPlace, ids: &[GitId], cache: &Path) -> Later {
    let repository = match place {
        GitPlace::Folder(path) => Repository::open(path),
        GitPlace::Url(_) => Repository::open(&store(&shelf(place, cache))),
    };
    let mentions = repository.and_then(|repository| {
        let commits = repository.commits(ids, READ)?;
        match commits.iter().flatten().map(|commit| commit.time).min() {
            Some(since) => repository.mentions(ids, &[], since, MOST_MENTIONS, LOOK),
            None => Ok(None),
        }
    });
    let found = match mentions {
        Ok(Some(found)) => found,
        Ok(None) => return Later::NotSeen("it holds no history of them".to_owned()),
        Err(error) => return Later::NotSeen(told(&error)),
    };
    let later = found.into_iter().filter_map(|commit| {
        let what = mention(&commit.message, ids)?;
        let repairs = match what {
            Mention::Fixes | Mention::Reverts => true,
            Mention::Backport => false,
        };
        (repairs && !ids.contains(&commit.id)).then(|| (what, commit.id, subject(&commit)))
    });
    Later::Found(later.collect())
}

/// Finds on the branches `linux-BRANCH.y` of a repository at hand the one backport of each of
/// `mainline`, in the order they were committed; nothing where one has none, or several.
pub(super) fn backports(place: &GitPlace, mainline: &[GitId], branch: Branch) -> Vec<GitId> {
    let GitPlace::Folder(path) = place else {
        return Vec::new();
    };
    // Without a wildcard git would look below that name.
    let within = ["refs/heads", "refs/remotes/*"].map(|top| format!("{top}/linux-{branch}.[y]"));
    let mentions = Repository::open(path).and_then(|repository| {
        let commits = repository.commits(mainline, READ)?;
        match commits.iter().flatten().map(|commit| commit.time).min() {
            Some(since) => repository.mentions(mainline, &within, since, MOST_MENTIONS, LOOK),
            None => Ok(None),
        }
    });
    // A repository that cannot be read says so when its commits are asked for.
    let mut mentions = mentions.ok().flatten().unwrap_or_default();
    mentions.sort_by_key(|commit| commit.time);
    let mut found = Vec::new();
    for id in mainline {
        let of = |commit: &&CommitText| {
            mention(&commit.message, std::slice::from_ref(id)) == Some(Mention::Backport)
        };
        let mut all = mentions.iter().filter(of);
        match (all.next(), all.next()) {
            (Some(commit), None) => found.push((commit.time, commit.id)),
            _ => return Vec::new(),
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, id)| id).collect()
}

fn subject(commit: &CommitText) -> String {
    let line = commit.message.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn shelf(place: &GitPlace, cache: &Path) -> Shelf {
    Shelf::of(
        cache,
        &match place {
            GitPlace::Folder(path) => {
                // One folder has one name, wherever it is asked from.
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                format!("git:{}", path.display())
            }
            GitPlace::Url(place) => format!("git:{place}"),
        },
    )
}

fn store(shelf: &Shelf) -> std::path::PathBuf {
    shelf.beside("store.git")
}

/// Opens the repository at `place`; of a URL, the store that its commits are fetched into.
fn opened(
    place: &GitPlace,
    shelf: &Shelf,
    wanted: &[GitId],
    network: Network,
) -> Result<(Repository, BTreeMap<GitId, NotFetched>), GitError> {
    match place {
        GitPlace::Folder(path) => Ok((Repository::open(path)?, BTreeMap::new())),
        GitPlace::Url(url) => {
            let repository = Repository::store(&store(shelf))?;
            let failed = match network {
                Network::Allowed => repository.fetch_commits(url, wanted, FETCH)?,
                Network::Never => BTreeMap::new(),
            };
            Ok((repository, failed))
        }
    }
}

/// Reads `ids`; where that fails each half apart, because one damaged object fails all that are asked
/// for with it.
fn read_apart(repository: &Repository, ids: &[GitId], patience: &mut u32) -> Commits {
    let error = match read_batch(repository, ids) {
        Ok(found) => return found,
        Err(error) => error,
    };
    *patience = patience.saturating_sub(1);
    if ids.len() > 1 && *patience > 0 {
        let (left, right) = ids.split_at(ids.len() / 2);
        let mut found = read_apart(repository, left, patience);
        found.extend(read_apart(repository, right, patience));
        return found;
    }
    let why = told(&error);
    let failed = |id: &GitId| (*id, Err(CommitError::Source { why: why.clone() }));
    ids.iter().map(failed).collect()
}

fn read_batch(repository: &Repository, ids: &[GitId]) -> Result<Commits, GitError> {
    let mut commits = Commits::new();
    let mut whole = Vec::new();
    let texts = repository.commits(ids, READ)?;
    let parents: Vec<GitId> = texts
        .iter()
        .flatten()
        .filter_map(|text| text.parents.first().copied())
        .collect();
    let here = present(repository, &parents)?;
    for (id, text) in ids.iter().zip(texts) {
        let outcome = match text {
            None => Err(CommitError::Missing),
            Some(text) => match text.parents.as_slice() {
                [] => Err(CommitError::First),
                [parent] if here.contains(parent) => Ok((*parent, text)),
                [_] => Err(CommitError::Incomplete { what: "its parent" }),
                parents => Err(CommitError::Merge {
                    parents: parents.len(),
                }),
            },
        };
        match outcome {
            Ok(found) => whole.push(found),
            Err(error) => {
                commits.insert(*id, Err(error));
            }
        }
    }
    commits.extend(with_contents(repository, whole)?);
    Ok(commits)
}

/// Reads the diffs of commits that are here with their parents.
fn with_contents(
    repository: &Repository,
    whole: Vec<(GitId, CommitText)>,
) -> Result<Commits, GitError> {
    let mut commits = Commits::new();
    let pairs: Vec<(GitId, GitId)> = whole
        .iter()
        .map(|(parent, text)| (text.id, *parent))
        .collect();
    let changed = repository.changed_files(&pairs, Renames::AsTwo, READ)?;
    let blobs: Vec<GitId> = changed
        .iter()
        .flatten()
        .flat_map(|file| file.blobs.iter().copied())
        .collect();
    let here = present(repository, &blobs)?;
    let mut readable = Vec::new();
    for ((_, text), files) in whole.into_iter().zip(changed) {
        if files
            .iter()
            .flat_map(|file| &file.blobs)
            .all(|blob| here.contains(blob))
        {
            // Only a commit that takes a file away and brings one can have moved it.
            let moved = ['A', 'D']
                .iter()
                .all(|what| files.iter().any(|file| file.status == *what));
            readable.push((text, moved));
        } else {
            let what = "the contents that it changes";
            commits.insert(text.id, Err(CommitError::Incomplete { what }));
        }
    }
    let pairs = pairs_of(readable.iter().map(|(text, _)| text));
    let diffs = repository.diffs(&pairs, Shown::Lines, READ)?;
    // They say more of a tree, but are not needed: what is too long for one answer is left out.
    let wholes = repository.diffs(&pairs, Shown::Files, READ);
    let mut wholes = wholes.unwrap_or_default().into_iter();
    let moves = pairs_of(
        readable
            .iter()
            .filter(|(_, moved)| *moved)
            .map(|(text, _)| text),
    );
    let mut renames: BTreeMap<GitId, Vec<(String, String)>> = BTreeMap::new();
    for ((id, _), files) in
        moves
            .iter()
            .zip(repository.changed_files(&moves, Renames::AsOne, READ)?)
    {
        for file in files {
            if let [old, new] = file.paths.as_slice() {
                renames
                    .entry(*id)
                    .or_default()
                    .push((old.clone(), new.clone()));
            }
        }
    }
    for ((text, _), diff) in readable.into_iter().zip(diffs) {
        let moved = renames.remove(&text.id).unwrap_or_default();
        commits.insert(text.id, joined(text, diff, wholes.next(), moved));
    }
    Ok(commits)
}

fn pairs_of<'a>(texts: impl Iterator<Item = &'a CommitText>) -> Vec<(GitId, GitId)> {
    texts
        .filter_map(|text| Some((text.id, *text.parents.first()?)))
        .collect()
}

fn joined(
    text: CommitText,
    diff: Vec<u8>,
    whole: Option<Vec<u8>>,
    renames: Vec<(String, String)>,
) -> Result<CommitDiff, CommitError> {
    if diff.len() > LONGEST_DIFF {
        return Err(crate::unified::DiffError::TooLong { length: diff.len() }.into());
    }
    let whole = whole.filter(|whole| whole.len() <= LONGEST_DIFF);
    CommitDiff {
        id: text.id,
        time: text.time,
        message: text.message,
        diff: String::from_utf8(diff).map_err(|_| CommitError::NotText)?,
        whole: whole.and_then(|whole| String::from_utf8(whole).ok()),
        renames,
    }
    .checked()
}

fn present(repository: &Repository, ids: &[GitId]) -> Result<BTreeSet<GitId>, GitError> {
    let here = repository.has(ids, READ)?;
    let pairs = ids.iter().zip(here);
    Ok(pairs.filter_map(|(id, here)| here.then_some(*id)).collect())
}

/// Writes an error with everything below it.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        text.push_str(": ");
        text.push_str(&below.to_string());
        source = below.source();
    }
    text
}
