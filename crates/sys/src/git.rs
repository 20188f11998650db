//! Reading git repositories written by others, through the `git` program.
//!
//! A repository is hostile input: its configuration can name programs, its hooks are programs, its
//! objects can be large or garbled. Every call goes through `command`, which states what is
//! shut and why.

pub mod blobs;
pub mod commits;
mod history;
pub mod log;
pub mod partial;
pub mod snapshot;
mod tree;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tuxtape_core::git_id::GitId;

use crate::lock::{self, Lock, LockError, Taken};
use crate::process::{self, Finished, ProcessError};
use crate::url;

pub use self::blobs::{Blob, Blobs};
pub use self::history::{Touch, Visit};
pub use self::tree::{Entry, EntryKind};

/// Longest any local question may take.
const LOCAL: Duration = Duration::from_secs(120);

/// How often a mirror that another process fetches into is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A repository on this machine.
#[derive(Clone, Debug)]
pub struct Repository {
    git_dir: PathBuf,
}

/// A commit with what TuxTape uses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub id: GitId,
    /// Committer time, in seconds since 1970 UTC; as untrue as the committer's clock.
    pub time: i64,
}

/// A branch by its plain name, `master`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchName(String);

/// Why a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// `git` itself failed or ran too long.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file or folder of ours.
    #[error("could not use {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock of a mirror.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another process fetched into the mirror all the while.
    #[error("{path} is still being fetched into by {holder}", path = path.display())]
    Busy {
        /// The mirror.
        path: PathBuf,
        /// Who it is, as they say.
        holder: String,
    },
    /// The folder is no repository.
    #[error("{path} is no git repository", path = path.display())]
    NoRepository {
        /// The folder.
        path: PathBuf,
    },
    /// The branch is missing.
    #[error("{place} has no branch {branch}", branch = branch.0)]
    NoBranch {
        /// Repository, URL or bundle.
        place: String,
        /// The branch asked for.
        branch: BranchName,
    },
    /// A branch name with anything but letters, digits, `-`, `_`, `.` and `/`.
    #[error("{text:?} is no plain branch name")]
    BranchName {
        /// The text.
        text: String,
    },
    /// A source `git` could take for an option or a program.
    #[error("{text:?} is no URL or path of a feed")]
    Source {
        /// The text.
        text: String,
    },
    /// The server sends whole trees and not single files.
    #[error(
        "{place} cannot leave out files (uploadpack.allowFilter): it would send the whole tree"
    )]
    NoFilter {
        /// The URL, without a password.
        place: String,
    },
    /// The pipe to `git` broke.
    #[error("could not talk to git")]
    Pipe(#[source] io::Error),
    /// `git` answered in another form than documented.
    #[error("git gave an unexpected answer to {question}: {answer:?}")]
    Answer {
        /// What was asked.
        question: &'static str,
        /// The beginning of the answer.
        answer: String,
    },
}

impl BranchName {
    /// Takes a plain name.
    pub fn new(text: &str) -> Result<Self, GitError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let whole = !text.is_empty() && !text.starts_with('-') && !text.contains("..");
        if whole && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GitError::BranchName {
                text: text.chars().take(80).collect(),
            })
        }
    }

    fn full(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl Repository {
    /// Uses the repository in `path`: bare, or a work tree's top folder.
    pub fn open(path: &Path) -> Result<Self, GitError> {
        // Named outright: git must not search the folders above for another repository.
        for git_dir in [path.join(".git"), path.to_owned()] {
            if git_dir.join("HEAD").is_file() && git_dir.join("objects").is_dir() {
                return Ok(Self { git_dir });
            }
        }
        Err(GitError::NoRepository {
            path: path.to_owned(),
        })
    }

    /// Returns the folder that holds its objects and refs.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Brings the bare mirror in `folder` up to date with `branch` of `source`, a URL or a bundle
    /// file, creating it at need. Blocks up to `deadline` on another process that fetches into it, and
    /// on the network up to `deadline` for each of at most two fetches. Errors name the source without
    /// a password.
    ///
    /// Where nothing is `known`, a new mirror of a URL holds the newest commit alone if the server can
    /// do that, and later ones what was added since: records need no more. A commit that is known
    /// brings its history with it, so that descent from it can be asked.
    ///
    /// The mirror follows the source even where its history was rewritten; whether to accept that is
    /// the caller's question.
    pub fn mirror(
        source: &str,
        branch: &BranchName,
        folder: &Path,
        known: Option<GitId>,
        deadline: Duration,
    ) -> Result<Self, GitError> {
        // A dash would make it an option; `::` names a remote helper, which is a program.
        if source.starts_with('-') || source.contains("::") || source.contains(char::is_control) {
            return Err(GitError::Source {
                text: url::shown(source).chars().take(200).collect(),
            });
        }
        fs::create_dir_all(folder).map_err(|source| GitError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let repository = Self {
            git_dir: folder.to_owned(),
        };
        // What looks like litter may be what another process is writing.
        let _lock = repository.lock(deadline)?;
        repository.remove_litter();
        if Self::open(folder).is_err() {
            repository.init_bare()?;
        }
        let is_new = repository.resolve(&branch.full())?.is_none();
        // Bundles have no depth.
        let depth: &[&str] = if is_new && known.is_none() && source.contains("://") {
            &["--depth=1"]
        } else {
            &[]
        };
        let mut outcome = match repository.fetch(source, branch, depth, deadline) {
            // A plain web server cannot cut history off.
            Err(ProcessError::Failed { tail, .. })
                if !depth.is_empty() && tail.contains("shallow") =>
            {
                repository.fetch(source, branch, &[], deadline)
            }
            outcome => outcome,
        };
        if let (Ok(()), Some(known)) = (&outcome, known)
            && repository.is_shallow()
            && repository
                .resolve(&format!("{known}^{{commit}}"))?
                .is_none()
        {
            outcome = repository.fetch(source, branch, &["--unshallow"], deadline);
        }
        match outcome {
            Ok(()) => Ok(repository),
            Err(ProcessError::Failed { tail, .. }) if tail.contains("couldn't find remote ref") => {
                Err(GitError::NoBranch {
                    place: url::shown(source),
                    branch: branch.clone(),
                })
            }
            Err(error) => {
                repository.remove_litter();
                Err(without_password(error, source).into())
            }
        }
    }

    fn init_bare(&self) -> Result<(), GitError> {
        let mut command = self.command();
        command.args([
            "init",
            "--quiet",
            "--bare",
            // Templates bring hooks.
            "--template=",
            "--object-format=sha1",
            // Silences advice; the name is never used.
            "--initial-branch=unused",
        ]);
        process::run_ok(&mut command, LOCAL)?;
        Ok(())
    }

    /// Takes the lock of a mirror, which lies beside it, waiting up to `deadline`.
    fn lock(&self, deadline: Duration) -> Result<Lock, GitError> {
        let mut path = self.git_dir.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let note = format!("pid {}", std::process::id());
        let start = Instant::now();
        loop {
            match lock::take(&path, &note)? {
                Taken::Ours(lock) => return Ok(lock),
                Taken::Held { note } if start.elapsed() >= deadline => {
                    let holder = if note.is_empty() {
                        "somebody".to_owned()
                    } else {
                        note
                    };
                    return Err(GitError::Busy {
                        path: self.git_dir.clone(),
                        holder,
                    });
                }
                Taken::Held { .. } => thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Tells whether history is cut off somewhere.
    fn is_shallow(&self) -> bool {
        self.git_dir.join("shallow").exists()
    }

    fn fetch(
        &self,
        source: &str,
        branch: &BranchName,
        more: &[&str],
        deadline: Duration,
    ) -> Result<(), ProcessError> {
        let full = branch.full();
        let mut command = self.command();
        command.args([
            "fetch",
            "--quiet",
            // One branch by name; not the remote's HEAD, which can be another, unrelated one.
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            // Housekeeping in the background could drop the old tip before it was compared.
            "--no-auto-maintenance",
        ]);
        command.args(more);
        command.args(["--end-of-options", source, &format!("+{full}:{full}")]);
        process::run_ok(&mut command, deadline).map(|_| ())
    }

    /// Returns the newest commit of `branch`.
    pub fn tip(&self, branch: &BranchName) -> Result<Commit, GitError> {
        let full = branch.full();
        let mut command = self.command();
        command.args(["show", "--no-patch", "--no-show-signature"]);
        command.args(["--format=%H %ct", "--end-of-options", &full, "--"]);
        let finished = process::run(&mut command, LOCAL)?;
        if !finished.status.success() {
            // A branch that is there and cannot be read says why.
            return match self.resolve(&full)? {
                Some(_) => Err(unexpected("show", &finished.stderr)),
                None => Err(GitError::NoBranch {
                    place: self.git_dir.display().to_string(),
                    branch: branch.clone(),
                }),
            };
        }
        commit(finished.stdout.trim_ascii()).ok_or_else(|| unexpected("show", &finished.stdout))
    }

    /// Tells whether `old` is `new` or one of its ancestors; `None` when `old` is not here at all.
    pub fn is_ancestor(&self, old: GitId, new: GitId) -> Result<Option<bool>, GitError> {
        if self.resolve(&format!("{old}^{{commit}}"))?.is_none() {
            return Ok(None);
        }
        let mut command = self.command();
        command.args(["merge-base", "--is-ancestor"]);
        command.args([old.to_string(), new.to_string()]);
        let finished = process::run(&mut command, LOCAL)?;
        match finished.status.code() {
            Some(0) => Ok(Some(true)),
            Some(1) => Ok(Some(false)),
            _ => Err(unexpected("merge-base", &finished.stderr)),
        }
    }

    /// Lists every file of `commit` below `folders`, paths such as `cve/published`.
    pub fn files(&self, commit: GitId, folders: &[&str]) -> Result<Vec<Entry>, GitError> {
        let mut command = self.command();
        command.args([
            "ls-tree",
            "-r",
            // Names as they are, ended by zero bytes, not quoted.
            "-z",
            "--full-tree",
            &commit.to_string(),
            "--",
        ]);
        command.args(folders);
        let answer = process::run_ok(&mut command, LOCAL)?.stdout;
        tree::parse(&answer)
    }

    /// Lists the paths below `folders` in which the trees of `old` and `new` differ.
    pub fn changed(
        &self,
        old: GitId,
        new: GitId,
        folders: &[&str],
    ) -> Result<Vec<String>, GitError> {
        let mut command = self.command();
        command.args(["diff-tree", "-r", "-z", "--name-only", "--no-renames"]);
        command.args([old.to_string(), new.to_string()]);
        command.arg("--").args(folders);
        let answer = process::run_ok(&mut command, LOCAL)?.stdout;
        Ok(answer
            .split(|c| *c == 0)
            .filter(|path| !path.is_empty())
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect())
    }

    fn resolve(&self, name: &str) -> Result<Option<GitId>, GitError> {
        let mut command = self.command();
        command.args(["rev-parse", "--verify", "--quiet", "--end-of-options", name]);
        let Finished {
            status,
            stdout,
            stderr,
        } = process::run(&mut command, LOCAL)?;
        match status.code() {
            Some(0) => GitId::from_hex(stdout.trim_ascii())
                .map(Some)
                .map_err(|_| unexpected("rev-parse", &stdout)),
            Some(1) => Ok(None),
            _ => Err(unexpected("rev-parse", &stderr)),
        }
    }

    fn command(&self) -> Command {
        command(&self.git_dir)
    }

    /// Removes half-written packs of a fetch that was killed.
    fn remove_litter(&self) {
        let packs = self.git_dir.join("objects/pack");
        let Ok(entries) = fs::read_dir(packs) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b"tmp_") {
                // What stays is only space.
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// Reads an id and a time.
fn commit(answer: &[u8]) -> Option<Commit> {
    let (id, time) = std::str::from_utf8(answer).ok()?.split_once(' ')?;
    Some(Commit {
        id: id.parse().ok()?,
        time: time.parse().ok()?,
    })
}

/// Prepares `git` on one repository, with everything shut that the repository could use against us.
fn command(git_dir: &Path) -> Command {
    let mut command = Command::new("git");
    for name in REPOSITORY_VARIABLES {
        command.env_remove(name);
    }
    command
        // Never a prompt: there may be nobody.
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("SSH_ASKPASS", "true")
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        // Only transports; `ext::` and other helpers are programs named by a URL.
        .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
        // A missing object must not make git fetch from where the repository's config says.
        .env("GIT_NO_LAZY_FETCH", "1")
        // Objects are what their names say, not what replace refs or grafts say.
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_GRAFT_FILE", "/dev/null")
        // Reading must not write, not even an index.
        .env("GIT_OPTIONAL_LOCKS", "0")
        // Messages are compared.
        .env("LC_ALL", "C")
        .arg("--no-pager");
    for setting in [
        // Hooks and the file system monitor are programs named by the repository.
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        // Two files beside the objects that could tell lies about them.
        "core.commitGraph=false",
        "core.multiPackIndex=false",
        // Feeds are read by root's timers and by people alike; nothing of a repository is trusted, so
        // its owner does not matter.
        "safe.directory=*",
        // 96 MiB by default, per process.
        "core.deltaBaseCacheLimit=24m",
        // A stalled transfer ends: under 100 bytes/s for a minute.
        "http.lowSpeedLimit=100",
        "http.lowSpeedTime=60",
        "gc.auto=0",
        "advice.detachedHead=false",
        "advice.graftFileDeprecated=false",
    ] {
        command.args(["-c", setting]);
    }
    let mut flag = OsString::from("--git-dir=");
    flag.push(git_dir);
    command.arg(flag);
    command
}

/// Variables by which a caller's own git session would leak into ours. Configuration given by
/// environment stays: it is the user's, as their global one is.
const REPOSITORY_VARIABLES: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_WORK_TREE",
];

/// Takes the name and password of `source` out of what `git` said.
fn without_password(error: ProcessError, source: &str) -> ProcessError {
    let shown = url::shown(source);
    match error {
        ProcessError::Failed {
            program,
            status,
            tail,
        } if shown != source => ProcessError::Failed {
            program,
            status,
            tail: tail.replace(source, &shown),
        },
        error => error,
    }
}

fn unexpected(question: &'static str, answer: &[u8]) -> GitError {
    let text = String::from_utf8_lossy(answer.get(..400).unwrap_or(answer));
    GitError::Answer {
        question,
        answer: text.trim().to_owned(),
    }
}

/// Tells whether a file begins as a git bundle does.
pub fn is_bundle(path: &Path) -> io::Result<bool> {
    use io::Read as _;
    let mut start = Vec::new();
    fs::File::open(path)?.take(16).read_to_end(&mut start)?;
    Ok([b"# v2 git bundle\n", b"# v3 git bundle\n"]
        .iter()
        .any(|mark| start.starts_with(*mark)))
}

#[cfg(test)]
mod tests;
