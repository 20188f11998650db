//! Histories of git kernels, kept beside their profiles as `HOME/kernels/RELEASE/history`.
//!
//! Two lines of JSON and then the commits' ids: which kernel, and the digest of everything behind the
//! first line; what messages say of other commits; and 20 bytes for each commit, sorted, those whose
//! changes are in the kernel before those whose are not. Ids do not compress.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::git_id::GitId;
use tuxtape_core::history::marks::{Named, Plainness};
use tuxtape_core::history::{Builder, History, Logged, NotAHistory, Undone};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::ProfileId;
use tuxtape_sys::durable::WriteError;
use tuxtape_sys::git::log::Next;
use tuxtape_sys::git::{GitError, Repository};

use super::beside;

/// The one format written and read.
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes: ten times the kernel's history.
const LIMIT: u64 = 320 << 20;
/// Longest line of JSON, in bytes.
const LONGEST_LINE: usize = 128 << 20;
/// Longest the whole history of the kernel may take to be read.
const READING: Duration = Duration::from_secs(1800);

const NAME: &str = "history";

/// Why a history could not be learned from a repository.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The repository could not be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// What it gave is no history.
    #[error("the history of {commit} cannot be used")]
    NotAHistory {
        /// The commit.
        commit: GitId,
        /// Why not.
        source: NotAHistory,
    },
}

/// Why a history could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no history of that kernel.
    #[error("{path} is not the history of {release}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The kernel asked for.
        release: KernelRelease,
        /// What is wrong in it.
        source: Malformed,
    },
}

/// Why bytes are no history.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A line is not the JSON this format has.
    #[error("its JSON is not a history's")]
    Json(#[from] serde_json::Error),
    /// It has another format number.
    #[error("it has format {found}, this program reads format {FORMAT}")]
    Format {
        /// The number found.
        found: u32,
    },
    /// It ends before it should, or goes on.
    #[error("it is cut, or longer than it says")]
    Length,
    /// Its digest is another.
    #[error("its digest is not the one it names")]
    Digest,
    /// It is of another kernel or commit.
    #[error("it is of {release} at commit {commit}")]
    OtherKernel {
        /// The release in it.
        release: KernelRelease,
        /// The commit in it.
        commit: String,
    },
    /// A text is no commit's name.
    #[error("{text:?} is no commit's name")]
    Name {
        /// The text.
        text: String,
    },
    /// Its commits are not in order.
    #[error("its commits are out of order")]
    Order,
}

#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    release: KernelRelease,
    commit: String,
    cut_off: bool,
    commits: usize,
    dropped: usize,
    /// Of everything behind this line, in hexadecimal digits.
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// Commit named → commits that say they are backports of it.
    backports: BTreeMap<String, Vec<String>>,
    /// Commit → the one that takes it back, and whether in plain words.
    undone: BTreeMap<String, (String, bool)>,
    /// Commit named → the revert.
    reverts: BTreeMap<String, String>,
}

/// Learns the history of `commit` in one pass over the commits of `repository`: no trees and no files
/// are read. Blocks for as long as `git log` takes, a minute for the whole kernel.
pub fn learn(repository: &Repository, commit: GitId) -> Result<History, LearnError> {
    let mut builder = Builder::default();
    let mut failed = None;
    repository.walk(commit, READING, &mut |logged| {
        let taken = builder.take(&Logged {
            id: logged.id,
            tree: logged.tree,
            parents: logged.parents,
            message: logged.message,
        });
        match taken {
            Ok(()) => Next::Continue(()),
            Err(error) => {
                failed = Some(error);
                Next::Break(())
            }
        }
    })?;
    let not = |source| LearnError::NotAHistory { commit, source };
    match failed {
        Some(error) => Err(not(error)),
        None => builder.finish(repository.is_cut_off()).map_err(not),
    }
}

/// Reads the history of the kernel `id`, built of `commit`, from below `home`; `None` where none was
/// kept.
pub fn load(home: &Path, id: &ProfileId, commit: GitId) -> Result<Option<History>, LoadError> {
    let path = path(home, &id.release);
    let failed = |source| LoadError::Read {
        path: path.clone(),
        source,
    };
    let Some(bytes) = beside::read(&path, LIMIT).map_err(failed)? else {
        return Ok(None);
    };
    from_bytes(&bytes, id, commit)
        .map(Some)
        .map_err(|source| LoadError::Malformed {
            path: path.clone(),
            release: id.release.clone(),
            source,
        })
}

/// Writes the history of the kernel `id` below `home` so that a reader sees the old one or the whole new
/// one. Blocks on the disk.
pub fn save(home: &Path, id: &ProfileId, history: &History) -> Result<PathBuf, WriteError> {
    let path = path(home, &id.release);
    beside::write(&path, &to_bytes(id, history))?;
    Ok(path)
}

/// Removes what is kept of `release` below `home`, if anything.
pub(crate) fn forget(home: &Path, release: &KernelRelease) -> Result<(), WriteError> {
    let path = path(home, release);
    beside::remove(&path)
}

fn path(home: &Path, release: &KernelRelease) -> PathBuf {
    super::folder(home, release).join(NAME)
}

/// Writes a history; equal ones give equal bytes.
pub fn to_bytes(id: &ProfileId, history: &History) -> Vec<u8> {
    let text = |id: &GitId| id.to_string();
    let body = Body {
        backports: history
            .backports
            .iter()
            .map(|(named, by)| (named.as_str().to_owned(), by.iter().map(text).collect()))
            .collect(),
        undone: history
            .undone
            .iter()
            .map(|(id, undone)| {
                let is_plain = undone.plainness == Plainness::Plain;
                (id.to_string(), (undone.by.to_string(), is_plain))
            })
            .collect(),
        reverts: history
            .reverts
            .iter()
            .map(|(named, by)| (named.as_str().to_owned(), by.to_string()))
            .collect(),
    };
    let mut rest = serde_json::to_vec(&body).expect("maps with text keys always become JSON");
    rest.push(b'\n');
    for id in history.commits.iter().chain(&history.dropped) {
        rest.extend_from_slice(id.as_bytes());
    }
    let head = Head {
        format: FORMAT,
        release: id.release.clone(),
        commit: history.commit.to_string(),
        cut_off: history.is_cut_off,
        commits: history.commits.len(),
        dropped: history.dropped.len(),
        sha256: hex::encode(Sha256::digest(&rest)),
    };
    let mut bytes = serde_json::to_vec(&head).expect("a struct of texts always becomes JSON");
    bytes.push(b'\n');
    bytes.extend(rest);
    bytes
}

/// Reads a history, which must be of the kernel `id` and of `commit`.
pub fn from_bytes(bytes: &[u8], id: &ProfileId, commit: GitId) -> Result<History, Malformed> {
    let (first, rest) = line(bytes)?;
    let Numbered { format } = serde_json::from_slice(first)?;
    if format != FORMAT {
        return Err(Malformed::Format { found: format });
    }
    let head: Head = serde_json::from_slice(first)?;
    if head.release != id.release || head.commit != commit.to_string() {
        return Err(Malformed::OtherKernel {
            release: head.release,
            commit: head.commit,
        });
    }
    if hex::encode(Sha256::digest(rest)) != head.sha256 {
        return Err(Malformed::Digest);
    }
    let (second, ids) = line(rest)?;
    let body: Body = serde_json::from_slice(second)?;
    let (ids, odd) = ids.as_chunks::<20>();
    let wanted = head.commits.checked_add(head.dropped);
    if !odd.is_empty() || wanted != Some(ids.len()) {
        return Err(Malformed::Length);
    }
    let (commits, dropped) = ids.split_at(head.commits);
    Ok(History {
        commit,
        is_cut_off: head.cut_off,
        commits: sorted(commits)?,
        dropped: sorted(dropped)?,
        backports: body
            .backports
            .into_iter()
            .map(|(named, by)| {
                let by: Result<_, _> = by.iter().map(|id| commit_id(id)).collect();
                Ok((name(named)?, by?))
            })
            .collect::<Result<_, Malformed>>()?,
        undone: body
            .undone
            .into_iter()
            .map(|(id, (by, is_plain))| {
                let plainness = if is_plain {
                    Plainness::Plain
                } else {
                    Plainness::Loose
                };
                let by = commit_id(&by)?;
                Ok((commit_id(&id)?, Undone { by, plainness }))
            })
            .collect::<Result<_, Malformed>>()?,
        reverts: body
            .reverts
            .into_iter()
            .map(|(named, by)| Ok((name(named)?, commit_id(&by)?)))
            .collect::<Result<_, Malformed>>()?,
    })
}

fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = bytes
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
        .ok_or(Malformed::Length)?;
    let (line, rest) = bytes.split_at(end);
    Ok((line, rest.get(1..).unwrap_or_default()))
}

fn sorted(ids: &[[u8; 20]]) -> Result<Vec<GitId>, Malformed> {
    if ids.is_sorted_by(|left, right| left < right) {
        Ok(ids.iter().map(|id| GitId::from_bytes(*id)).collect())
    } else {
        Err(Malformed::Order)
    }
}

fn name(text: String) -> Result<Named, Malformed> {
    Named::new(&text).ok_or(Malformed::Name { text })
}

fn commit_id(text: &str) -> Result<GitId, Malformed> {
    text.parse().map_err(|_| Malformed::Name {
        text: text.chars().take(80).collect(),
    })
}

/// Entry for fuzzing: reads bytes behind a head that fits them; what is read must survive being written.
pub fn fuzz(bytes: &[u8]) {
    let id = ProfileId {
        arch: tuxtape_core::identity::Arch::X86_64,
        release: "6.1.0".parse().expect("a release"),
        build_id: None,
    };
    let commit = GitId::from_bytes([1; 20]);
    from_bytes(bytes, &id, commit).ok();
    let ids = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |end| (bytes.len() - end - 1) / 20);
    let head = Head {
        format: FORMAT,
        release: id.release.clone(),
        commit: commit.to_string(),
        cut_off: false,
        commits: ids,
        dropped: 0,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    let mut text = serde_json::to_vec(&head).expect("a struct of texts always becomes JSON");
    text.push(b'\n');
    text.extend(bytes);
    if let Ok(history) = from_bytes(&text, &id, commit) {
        let again = from_bytes(&to_bytes(&id, &history), &id, commit).expect("it was read");
        assert_eq!(again, history);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::small;

    fn commit(number: u8) -> GitId {
        GitId::from_bytes([number; 20])
    }

    fn history() -> History {
        let mut builder = Builder::default();
        let named = commit(9).to_string();
        for (number, parents, message) in [
            (
                4,
                vec![commit(3)],
                "Revert \"b\"\n\nThis reverts commit 0303030303.\n".to_owned(),
            ),
            (
                3,
                vec![commit(2)],
                format!("b\n\n[ Upstream commit {named} ]\n"),
            ),
            (2, vec![], "a\n".to_owned()),
        ] {
            let logged = Logged {
                id: commit(number),
                tree: commit(number),
                parents: &parents,
                message: &message,
            };
            builder.take(&logged).unwrap();
        }
        builder.finish(true).unwrap()
    }

    #[test]
    fn a_saved_history_loads_equal() {
        let home = tempfile::tempdir().unwrap();
        let id = small().id;
        assert!(load(home.path(), &id, commit(4)).unwrap().is_none());
        save(home.path(), &id, &history()).unwrap();
        assert_eq!(load(home.path(), &id, commit(4)).unwrap(), Some(history()));
        assert!(load(home.path(), &id, commit(3)).is_err());
    }

    #[test]
    fn every_truncation_and_every_wrong_byte_is_an_error() {
        let id = small().id;
        let bytes = to_bytes(&id, &history());
        for end in 0..bytes.len() {
            assert!(from_bytes(&bytes[..end], &id, commit(4)).is_err(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            // Two words of the head that no digest covers, and that say what was looked at.
            let outcome = from_bytes(&wrong, &id, commit(4));
            assert!(outcome.is_err() || outcome.unwrap() == history(), "{at}");
        }
    }
}
