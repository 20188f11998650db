//! The whole history of a commit, in one pass.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tuxtape_core::git_id::GitId;

use super::snapshot::{SnapshotError, check_source};
use super::{GitError, Repository, unexpected, without_password};
use crate::process::{self, Leader, ProcessError};

/// Longest entry that is kept, in bytes; what a message says behind that is not read.
const LONGEST: usize = 1 << 20;
/// Bytes that git may be ahead of its reader.
const PIPE: usize = 1 << 20;
/// How long git may take to end after its last word.
const LAST: Duration = Duration::from_secs(5);

/// One commit of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedCommit<'a> {
    /// Its name.
    pub id: GitId,
    /// Its files.
    pub tree: GitId,
    /// The commits it came after, as the repository has them: none where history is cut off.
    pub parents: &'a [GitId],
    /// What it says.
    pub message: &'a str,
}

/// What a reader of a history wants next.
pub type Next = std::ops::ControlFlow<()>;

impl Repository {
    /// Hands every commit of the history of `to` to `take`, children before their parents, until it
    /// breaks off. Reads commits alone, no trees and no files. Blocks up to `deadline`.
    pub fn walk(
        &self,
        to: GitId,
        deadline: Duration,
        take: &mut dyn FnMut(LoggedCommit<'_>) -> Next,
    ) -> Result<(), GitError> {
        let mut command = self.command();
        command.args(["log", "-z", "--topo-order", "--no-show-signature"]);
        command.args(["--no-color", "--no-decorate", "--no-mailmap"]);
        command.args(["--encoding=UTF-8", "--format=%H %T %P%n%B"]);
        command.args(["--end-of-options", &to.to_string(), "--"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let start = |source| ProcessError::Start {
            program: "git".to_owned(),
            source,
        };
        let mut child = command.spawn().map_err(start)?;
        let answers = child.stdout.take();
        let leader = Mutex::new(Leader::new(child));
        let lock = || leader.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answers) = answers else {
            lock().end();
            return Err(GitError::Pipe(io::ErrorKind::BrokenPipe.into()));
        };
        rustix::pipe::fcntl_setpipe_size(&answers, PIPE).ok();
        let (done, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let ended = &lock;
            let watch = scope.spawn(move || {
                let late = wait.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout);
                if late {
                    ended().end();
                }
                late
            });
            let read = entries(BufReader::with_capacity(256 << 10, answers), take);
            drop(done);
            let is_late = watch.join().unwrap_or(false);
            if is_late {
                return Err(ProcessError::Deadline {
                    program: "git".to_owned(),
                    seconds: deadline.as_secs(),
                }
                .into());
            }
            let count = match read {
                Ok(Read::Whole(count)) => count,
                Ok(Read::BrokenOff) => {
                    lock().end();
                    return Ok(());
                }
                Err(error) => {
                    lock().end();
                    return Err(error);
                }
            };
            let begin = Instant::now();
            let status = loop {
                match lock().ended().map_err(GitError::Pipe)? {
                    Some(status) => break Some(status),
                    None if begin.elapsed() > LAST => break None,
                    None => {}
                }
                thread::sleep(Duration::from_millis(1));
            };
            lock().end();
            if status.is_some_and(|status| status.success()) {
                Ok(())
            } else {
                let text = format!("it ended early, after {count} commits");
                Err(unexpected("log", text.as_bytes()))
            }
        })
    }

    /// Tells whether history is cut off somewhere, as in a shallow clone.
    pub fn is_cut_off(&self) -> bool {
        self.is_shallow()
    }

    /// Fetches the history of what `full` (a ref name or commit id) names at `source` into the bare
    /// repository at `git_dir`, which is made at need: commits alone, without trees and files. Returns
    /// the commit. Blocks up to `deadline` on the network.
    pub fn fetch_history(
        source: &str,
        full: &str,
        git_dir: &Path,
        deadline: Duration,
    ) -> Result<(Self, GitId), SnapshotError> {
        check_source(source)?;
        std::fs::create_dir_all(git_dir).map_err(|source| GitError::Folder {
            path: git_dir.to_owned(),
            source,
        })?;
        let repository = Self {
            git_dir: git_dir.to_owned(),
        };
        repository.init_bare()?;
        let mut fetch = repository.command();
        fetch.args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            // A server that cannot leave out trees sends them, and that only takes longer.
            "--filter=tree:0",
            "--end-of-options",
            source,
            &format!("+{full}:refs/tuxtape/history"),
        ]);
        process::run_ok(&mut fetch, deadline).map_err(|error| without_password(error, source))?;
        match repository.resolve("refs/tuxtape/history^{commit}")? {
            Some(commit) => Ok((repository, commit)),
            None => Err(SnapshotError::NoReference {
                place: crate::url::shown(source),
                reference: full.to_owned(),
            }),
        }
    }

    /// Returns the commit that `id`, a commit or a tag, stands for; `None` where it is not here.
    pub fn commit_of(&self, id: GitId) -> Result<Option<GitId>, GitError> {
        self.resolve(&format!("{id}^{{commit}}"))
    }

    /// Returns the commit that is checked out; `None` where there is none.
    pub fn head(&self) -> Result<Option<GitId>, GitError> {
        self.resolve("HEAD^{commit}")
    }
}

enum Read {
    Whole(usize),
    BrokenOff,
}

fn entries(
    mut answers: impl BufRead,
    take: &mut dyn FnMut(LoggedCommit<'_>) -> Next,
) -> Result<Read, GitError> {
    let mut entry = Vec::new();
    let mut parents = Vec::new();
    let mut count = 0;
    while next(&mut answers, &mut entry).map_err(GitError::Pipe)? {
        let bad = || unexpected("log", &entry);
        let end = entry.iter().position(|c| *c == b'\n').ok_or_else(bad)?;
        let (header, message) = entry.split_at(end);
        let mut words = header.split(|c| *c == b' ').filter(|word| !word.is_empty());
        let mut id = || {
            let word = words.next()?;
            Some(GitId::from_hex(word).map_err(|_| bad()))
        };
        let (Some(commit), Some(tree)) = (id().transpose()?, id().transpose()?) else {
            return Err(bad());
        };
        parents.clear();
        while let Some(parent) = id().transpose()? {
            parents.push(parent);
        }
        let message = String::from_utf8_lossy(message.get(1..).unwrap_or_default());
        let logged = LoggedCommit {
            id: commit,
            tree,
            parents: &parents,
            message: &message,
        };
        count += 1;
        if take(logged).is_break() {
            return Ok(Read::BrokenOff);
        }
    }
    Ok(Read::Whole(count))
}

/// Reads up to the next zero byte into `entry`, of which the first bytes are kept; tells whether there
/// was anything.
fn next(answers: &mut impl BufRead, entry: &mut Vec<u8>) -> io::Result<bool> {
    entry.clear();
    let mut any = false;
    loop {
        let buffer = answers.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|c| *c == 0);
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or(buffer);
        let room = LONGEST.saturating_sub(entry.len()).min(part.len());
        entry.extend_from_slice(part.get(..room).unwrap_or_default());
        let used = part.len() + usize::from(end.is_some());
        answers.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> GitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn read(text: &[u8]) -> Result<Vec<(GitId, usize, String)>, GitError> {
        let mut found = Vec::new();
        entries(text, &mut |commit| {
            found.push((commit.id, commit.parents.len(), commit.message.to_owned()));
            Next::Continue(())
        })?;
        Ok(found)
    }

    #[test]
    fn commits_are_read_with_their_parents_and_messages() {
        let (a, b, c) = (id('a'), id('b'), id('c'));
        let text = format!("{a} {c} {b} {c}\nsubject\n\nbody\n\0{b} {c} \n\0");
        let found = read(text.as_bytes()).unwrap();
        assert_eq!(found[0], (a, 2, "subject\n\nbody\n".to_owned()));
        assert_eq!(found[1], (b, 0, String::new()));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn garbled_commits_are_errors_and_long_ones_are_cut() {
        let a = id('a');
        for text in [
            format!("{a}\nx\0"),
            format!("{a} {a}"),
            format!("{a} {a} x\nx\0"),
            "\0".to_owned(),
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        let long = format!("{a} {a} \n{}\0{a} {a} \n\0", "x".repeat(2 * LONGEST));
        let found = read(long.as_bytes()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].2.len() < LONGEST);
    }
}
