//! The files of one commit of a repository elsewhere.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tuxtape_core::git_id::GitId;

use super::{GitError, LOCAL, Repository, command, unexpected, without_password};
use crate::process::{self, ProcessError};
use crate::url;

/// Longest the files of a commit may take to be written.
const WRITING: Duration = Duration::from_secs(1800);

/// Why the files of a commit could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// `git` failed, or a repository could not be used.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A tag, branch or commit is missing.
    #[error("{place} has no tag, branch or commit {reference}")]
    NoReference {
        /// Repository or URL.
        place: String,
        /// What was asked for.
        reference: String,
    },
    /// A name is a tag and a branch at once.
    #[error(
        "{reference} is a tag and a branch of {place}: give refs/tags/{reference} or refs/heads/{reference}"
    )]
    Ambiguous {
        /// Repository or URL.
        place: String,
        /// What was asked for.
        reference: String,
    },
}

impl From<ProcessError> for SnapshotError {
    fn from(error: ProcessError) -> Self {
        Self::Git(error.into())
    }
}

/// A tag, a branch, a full ref name or a whole commit id, safe to be given to `git`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    /// Takes a plain name: letters, digits, `-`, `_`, `.`, `/` and `+`.
    pub fn new(text: &str) -> Result<Self, GitError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
        let whole = !text.is_empty()
            && text.len() <= 200
            && !text.starts_with(['-', '/', '+', '.'])
            && !text.contains("..");
        if whole && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GitError::BranchName {
                text: text.chars().take(80).collect(),
            })
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that `source` is a URL or path that `git` takes for nothing else: no option, and no remote
/// helper, which is a program.
pub fn check_source(source: &str) -> Result<(), GitError> {
    if source.is_empty()
        || source.starts_with('-')
        || source.contains("::")
        || source.contains(char::is_control)
    {
        return Err(GitError::Source {
            text: url::shown(source).chars().take(200).collect(),
        });
    }
    Ok(())
}

impl Repository {
    /// Asks `source` which commit or tag object `reference` names there. Blocks on the network up to
    /// `deadline`.
    ///
    /// A whole commit id is returned as it is. A name that is a tag and a branch at once is an error:
    /// give `refs/tags/…` or `refs/heads/…`.
    pub fn resolve_at(
        source: &str,
        reference: &Reference,
        deadline: Duration,
    ) -> Result<(GitId, String), SnapshotError> {
        check_source(source)?;
        let name = reference.as_str();
        if let Ok(id) = name.parse::<GitId>() {
            return Ok((id, name.to_owned()));
        }
        let wanted = if name.starts_with("refs/") {
            vec![name.to_owned()]
        } else {
            vec![format!("refs/tags/{name}"), format!("refs/heads/{name}")]
        };
        let mut ask = command(Path::new("/nonexistent"));
        ask.args(["ls-remote", "--quiet", "--refs", "--end-of-options", source]);
        ask.args(&wanted);
        let answer = process::run_ok(&mut ask, deadline)
            .map_err(|error| without_password(error, source))?
            .stdout;
        let text = String::from_utf8_lossy(&answer);
        let mut found = Vec::new();
        for line in text.lines() {
            let (id, full) = line
                .split_once('\t')
                .ok_or_else(|| unexpected("ls-remote", &answer))?;
            let id = id.parse().map_err(|_| unexpected("ls-remote", &answer))?;
            // A pattern also matches the end of longer names.
            if wanted.iter().any(|name| name == full) {
                found.push((id, full.to_owned()));
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(SnapshotError::NoReference {
                place: url::shown(source),
                reference: name.to_owned(),
            }),
            _ => Err(SnapshotError::Ambiguous {
                place: url::shown(source),
                reference: name.to_owned(),
            }),
        }
    }

    /// Writes the files of the commit that `full` (a ref name or commit id) names at `source` into the
    /// empty folder `into`, through the bare repository at `git_dir`, which is made at need. Returns
    /// the commit.
    ///
    /// Fetches that commit alone. Nothing is written as a link: what is one in the commit becomes a
    /// file that holds the target's name. Blocks up to `deadline` on the network.
    pub fn snapshot(
        source: &str,
        full: &str,
        git_dir: &Path,
        into: &Path,
        deadline: Duration,
    ) -> Result<GitId, SnapshotError> {
        check_source(source)?;
        let folder = |source| GitError::Folder {
            path: git_dir.to_owned(),
            source,
        };
        fs::create_dir_all(git_dir).map_err(folder)?;
        let repository = Self {
            git_dir: git_dir.to_owned(),
        };
        process::run_ok(
            repository.command().args([
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--initial-branch=unused",
            ]),
            LOCAL,
        )?;
        let mut fetch = repository.command();
        // Every file is wanted, so a partial clone would only fetch them in a second round.
        fetch.args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--depth=1",
            "--end-of-options",
            source,
            &format!("+{full}:refs/tuxtape/snapshot"),
        ]);
        process::run_ok(&mut fetch, deadline).map_err(|error| without_password(error, source))?;
        let Some(commit) = repository.resolve("refs/tuxtape/snapshot^{commit}")? else {
            return Err(SnapshotError::NoReference {
                place: url::shown(source),
                reference: full.to_owned(),
            });
        };
        let index = git_dir.join("snapshot.index");
        let mut read = repository.command();
        read.env("GIT_INDEX_FILE", &index);
        read.args(["read-tree", &commit.to_string()]);
        process::run_ok(&mut read, LOCAL)?;
        let mut prefix = into.as_os_str().to_owned();
        prefix.push("/");
        let mut write = repository.command();
        write.env("GIT_INDEX_FILE", &index);
        write.env("GIT_WORK_TREE", into);
        // Never a link that could lead elsewhere, and never another byte than the commit's.
        write.args(["-c", "core.symlinks=false", "-c", "core.autocrlf=false"]);
        let mut flag = std::ffi::OsString::from("--prefix=");
        flag.push(&prefix);
        write.args(["checkout-index", "--all", "--quiet"]).arg(flag);
        process::run_ok(&mut write, WRITING)?;
        Ok(commit)
    }

    /// Counts the files of the work tree at `top` that differ from its commit, and returns the commit.
    ///
    /// Files that git does not know are not counted. Runs the filters that the repository's own
    /// configuration names, so it must be the caller's.
    pub fn local_changes(top: &Path) -> Result<(GitId, usize), GitError> {
        let repository = Self::open(top)?;
        let Some(commit) = repository.resolve("HEAD^{commit}")? else {
            return Err(GitError::NoRepository {
                path: top.to_owned(),
            });
        };
        let mut ask = repository.command();
        ask.env("GIT_WORK_TREE", top);
        ask.args(["status", "--porcelain", "--untracked-files=no", "-z"]);
        let answer = process::run_ok(&mut ask, LOCAL)?.stdout;
        let changed = answer.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        Ok((commit, changed.count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let done = std::process::Command::new("git")
            .args([
                "-c",
                "user.name=n",
                "-c",
                "user.email=e@x",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// A repository with a tag, a branch of another name, and a link that leads out.
    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        git(top, &["init", "-q"]);
        fs::write(top.join("Makefile"), "VERSION = 6\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", top.join("link")).unwrap();
        git(top, &["add", "."]);
        git(top, &["commit", "-qm", "one"]);
        git(top, &["tag", "-am", "tag", "v6.1"]);
        git(top, &["tag", "both"]);
        git(top, &["branch", "both"]);
        folder
    }

    #[test]
    fn a_tag_is_fetched_alone_and_its_links_become_files() {
        let from = repository();
        let work = tempfile::tempdir().unwrap();
        let source = from.path().to_str().unwrap();
        let reference = Reference::new("v6.1").unwrap();
        let (_, full) = Repository::resolve_at(source, &reference, LOCAL).unwrap();
        assert_eq!(full, "refs/tags/v6.1");
        let into = work.path().join("tree");
        fs::create_dir(&into).unwrap();
        let commit =
            Repository::snapshot(source, &full, &work.path().join("git"), &into, LOCAL).unwrap();
        assert_eq!(
            fs::read_to_string(into.join("Makefile")).unwrap(),
            "VERSION = 6\n"
        );
        let link = into.join("link");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        assert_eq!(fs::read_to_string(link).unwrap(), "/etc/passwd");
        assert_eq!(Repository::local_changes(from.path()).unwrap(), (commit, 0));
    }

    #[test]
    fn a_changed_work_tree_is_counted() {
        let top = repository();
        fs::write(top.path().join("Makefile"), "VERSION = 7\n").unwrap();
        assert_eq!(Repository::local_changes(top.path()).unwrap().1, 1);
    }

    #[test]
    fn a_name_that_is_missing_or_two_things_is_refused() {
        let from = repository();
        let source = from.path().to_str().unwrap();
        let ask =
            |name: &str| Repository::resolve_at(source, &Reference::new(name).unwrap(), LOCAL);
        assert!(matches!(ask("v9"), Err(SnapshotError::NoReference { .. })));
        assert!(matches!(ask("both"), Err(SnapshotError::Ambiguous { .. })));
        assert!(ask("refs/heads/both").is_ok());
    }

    #[test]
    fn what_git_could_take_for_an_option_or_a_program_is_refused() {
        for name in [
            "",
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "/a",
            "a\n",
            "+refs/heads/x",
            "a:b",
        ] {
            assert!(Reference::new(name).is_err(), "{name:?}");
        }
        for source in ["", "--upload-pack=touch x", "ext::sh -c x", "a\nb"] {
            assert!(check_source(source).is_err(), "{source:?}");
        }
        assert!(check_source("https://example.org/linux.git").is_ok());
    }
}
