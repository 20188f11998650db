//! SPEC: which kernel to add, and from what. Everything but `debian:` is handled here; see
//! [`crate::debian`] for that.
//!
//! | SPEC | what it is |
//! |---|---|
//! | `debian:RELEASE` | a kernel of the distribution, its packages fetched by apt |
//! | `dir:PATH` | a finished build (also one made with `O=`), a source tree with a `.config`, or a folder with vmlinux and modules |
//! | `git:URL#REF` | a tag, branch or commit of a repository |
//! | `tar:FILE` | a source tree, or a kernel archive: `patches/N-*.diff`, `.config`, `mainline-kernel-version.txt` |
//! | `deb:FILE,…` | unpacked debug packages (`.deb`, `.ddeb`), and the source package if it is among them |
//! | `rpm:FILE,…` | the same as RPM |

mod archive;
mod debug;
mod kept;
mod listing;
mod patches;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tuxtape_core::git_id::GitId;
use tuxtape_core::history::History;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::{GitOrigin, Way};
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::git::snapshot::{self, Reference, SnapshotError};
use tuxtape_sys::git::{GitError, Repository};
use tuxtape_sys::lock::LockError;
use tuxtape_sys::process::ProcessError;

use crate::build_tree::{self, State};
use crate::debian;
use crate::files::KernelFiles;
use crate::profile::build::Built;
use crate::profile::commands;
use crate::profile::history;
use crate::profile::learn::{self, BaseTrust, LearnError, Parts};
use crate::profile::stamp::TreeStamp;
use crate::progress::{Event, Progress};
use crate::unified::{ApplyError, DiffError};

pub use self::listing::fuzz;

/// Limit of asking a repository, and of fetching one commit of it.
const FETCH: Duration = Duration::from_secs(3600);

/// Which kernel, and from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A kernel of Debian by its release.
    Debian(KernelRelease),
    /// A folder.
    Folder(PathBuf),
    /// A commit of a repository.
    Git {
        /// URL or path of the repository.
        url: String,
        /// The tag, branch or commit.
        reference: String,
    },
    /// An archive.
    Archive(PathBuf),
    /// Debian or Ubuntu package files.
    Debs(Vec<PathBuf>),
    /// RPM package files.
    Rpms(Vec<PathBuf>),
}

/// Why a text is no SPEC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no kernel: {why}")]
pub struct NotASpec {
    text: String,
    why: String,
}

/// What may be given beside a SPEC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The configuration.
    pub config: Option<PathBuf>,
    /// The vmlinux with debug data.
    pub vmlinux: Option<PathBuf>,
    /// Folder of the modules with debug data.
    pub modules: Option<PathBuf>,
    /// Source tree, as a folder or an archive, where the SPEC holds none.
    pub source: Option<PathBuf>,
    /// The upstream version the source sits on.
    pub base: Option<KernelVersion>,
    /// Whether it is believed against the tree's makefile.
    pub base_trust: BaseTrust,
    /// What the kernel calls itself.
    pub release: Option<KernelRelease>,
    /// The one way to use.
    pub way: Option<Way>,
    /// Whether the history of a commit behind a URL is fetched, too.
    pub history: FetchHistory,
}

/// Whether the history of a commit that is not on this machine is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchHistory {
    /// It is not: the kernel's takes minutes and a gigabyte.
    #[default]
    No,
    /// It is.
    Yes,
}

/// Why a kernel could not be added.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The folder is nothing that is known.
    #[error("{path} is no kernel: no tree, no build, and no vmlinux in it", path = path.display())]
    NoKernel {
        /// The folder.
        path: PathBuf,
    },
    /// Debug data alone does not tell which files there are.
    #[error("the kernel's source is not at hand: {what}")]
    NoSource {
        /// What was given.
        what: String,
    },
    /// A package or folder holds several of what it should hold one of.
    #[error("{first} and {second} are both here: which one is meant is not known",
        first = first.display(), second = second.display())]
    Several {
        /// One.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// A file or folder could not be used.
    #[error("could not use {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A member of an archive would be written elsewhere, or is no file.
    #[error("{archive} is refused: {member:?} {why}", archive = archive.display())]
    Member {
        /// The archive.
        archive: PathBuf,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An archive is larger than any kernel's.
    #[error("{archive} is refused: more than {limit}", archive = archive.display())]
    TooLarge {
        /// The archive.
        archive: PathBuf,
        /// The limit.
        limit: &'static str,
    },
    /// The patches of a kernel archive are not numbered from 0 without a gap.
    #[error("{name:?} in patches/: {why}")]
    Patches {
        /// The file that is wrong, or the one that is missing.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A patch is no diff.
    #[error("patches/{name} is no diff")]
    Diff {
        /// The file.
        name: String,
        /// What is wrong.
        source: DiffError,
    },
    /// A patch does not apply to the source, with those before it applied.
    #[error("patches/{name} does not apply")]
    Apply {
        /// The file.
        name: String,
        /// Where.
        source: ApplyError,
    },
    /// A patch changes what is a link in the tree.
    #[error("patches/{name} changes {path}, which is no plain file of the tree")]
    NotPlain {
        /// The patch.
        name: String,
        /// The file.
        path: String,
    },
    /// The version text of a kernel archive is none, or not the source's.
    #[error("mainline-kernel-version.txt says {text:?}{why}")]
    Mainline {
        /// What it says.
        text: String,
        /// What is wrong with that.
        why: String,
    },
    /// A program could not unpack a file.
    #[error("could not unpack {path}", path = path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: ProcessError,
    },
    /// The repository could not be read.
    #[error(transparent)]
    Git(#[from] SnapshotError),
    /// Another command works on the cache.
    #[error("the cache {cache} is in use by {holder}", cache = cache.display())]
    Busy {
        /// The cache.
        cache: PathBuf,
        /// What the holder says of itself.
        holder: String,
    },
    /// The cache could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No profile could be made.
    #[error(transparent)]
    Learn(Box<LearnError>),
}

impl From<LearnError> for SpecError {
    fn from(error: LearnError) -> Self {
        Self::Learn(Box::new(error))
    }
}

impl FromStr for Spec {
    type Err = NotASpec;

    fn from_str(text: &str) -> Result<Self, NotASpec> {
        let bad = |why: &str| NotASpec {
            text: text.chars().take(200).collect(),
            why: why.to_owned(),
        };
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| bad("it has no kind in front"))?;
        if rest.is_empty() {
            return Err(bad("nothing follows its kind"));
        }
        let files = || -> Result<Vec<PathBuf>, NotASpec> {
            let files: Vec<PathBuf> = rest.split(',').map(PathBuf::from).collect();
            if files.iter().any(|file| file.as_os_str().is_empty()) {
                return Err(bad("one of its files has no name"));
            }
            Ok(files)
        };
        Ok(match kind {
            "debian" => Self::Debian(rest.parse().map_err(|error| NotASpec {
                text: text.chars().take(200).collect(),
                why: format!("{error}"),
            })?),
            "dir" => Self::Folder(rest.into()),
            "tar" => Self::Archive(rest.into()),
            "deb" => Self::Debs(files()?),
            "rpm" => Self::Rpms(files()?),
            "git" => {
                let (url, reference) = rest
                    .rsplit_once('#')
                    .ok_or_else(|| bad("no #REF at its end"))?;
                snapshot::check_source(url).map_err(|error| bad(&error.to_string()))?;
                Reference::new(reference).map_err(|error| bad(&error.to_string()))?;
                Self::Git {
                    url: url.to_owned(),
                    reference: reference.to_owned(),
                }
            }
            _ => return Err(bad("its kind is not known")),
        })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |files: &[PathBuf]| {
            let names: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
            names.join(",")
        };
        match self {
            Self::Debian(release) => write!(f, "debian:{release}"),
            Self::Folder(path) => write!(f, "dir:{}", path.display()),
            Self::Git { url, reference } => {
                write!(f, "git:{}#{reference}", tuxtape_sys::url::shown(url))
            }
            Self::Archive(path) => write!(f, "tar:{}", path.display()),
            Self::Debs(files) => write!(f, "deb:{}", list(files)),
            Self::Rpms(files) => write!(f, "rpm:{}", list(files)),
        }
    }
}

/// Makes the profile of the kernel that `spec` names, which the caller saves. `None` for `debian:`,
/// which [`debian::add`] adds.
///
/// Trees from repositories, archives and packages are kept below `cache`. Blocks for seconds to
/// minutes; holds the cache's lock while it unpacks.
pub fn add(
    cache: &Path,
    spec: &Spec,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Option<Built>, SpecError> {
    let mut notes = Vec::new();
    let mut history = None;
    let mut parts = match spec {
        Spec::Debian(_) => return Ok(None),
        Spec::Folder(path) => folder(cache, path, options, progress, &mut notes)?,
        Spec::Git { url, reference } => {
            let place = Place { url, reference };
            git(cache, &place, options, progress, &mut notes, &mut history)?
        }
        Spec::Archive(path) => archive::add(cache, path, options, progress)?,
        Spec::Debs(files) => debug::packages(cache, files, options, debug::Kind::Deb, progress)?,
        Spec::Rpms(files) => debug::packages(cache, files, options, debug::Kind::Rpm, progress)?,
    };
    parts.spec = spec.to_string();
    parts.config = options.config.clone().or(parts.config);
    parts.vmlinux = options.vmlinux.clone().or(parts.vmlinux);
    parts.modules = options.modules.clone().or(parts.modules);
    parts.base = options.base.or(parts.base);
    parts.base_trust = options.base_trust;
    parts.release = options.release.clone().or(parts.release);
    parts.way = options.way;
    let mut built = debian::step(progress, "profile", || learn::learn(&parts))?;
    if let (Spec::Folder(_), Some(origin)) = (spec, &parts.git) {
        match Repository::open(&parts.tree) {
            Ok(repository) => {
                history = learned(&repository, origin.commit, progress, &mut notes);
            }
            Err(error) => notes.push(format!("its history could not be read: {error}")),
        }
    }
    built.history = history;
    let is_ours = fs::canonicalize(&parts.tree)
        .is_ok_and(|tree| fs::canonicalize(cache).is_ok_and(|cache| tree.starts_with(cache)));
    if !is_ours {
        let vmlinux = parts.build.join("vmlinux");
        let linked = commands::is_build(&parts.build).then_some(vmlinux.as_path());
        let files = &built.profile.tree_files;
        built.stamp = Some(TreeStamp::take(&parts.tree, files, linked));
    }
    built.unchecked.splice(0..0, notes);
    built.unchecked.extend(link_source(cache, &parts, &built));
    for text in &built.unchecked {
        progress.tell(Event::Note { text: text.clone() });
    }
    Ok(Some(built))
}

/// Lets the kernel's files in the cache name its tree, so that fixes can be compared with it.
fn link_source(cache: &Path, parts: &Parts, built: &Built) -> Option<String> {
    let files = KernelFiles::below(cache, &built.profile.id.release);
    let tree = fs::canonicalize(&parts.tree).ok()?;
    let noted = |error: &dyn fmt::Display| {
        let source = files.source.display();
        format!("its source could not be noted as {source}: {error}")
    };
    // Copies of the same build stay; those of another are of no use any more.
    let is_same = match (build_tree::state(&files), &built.profile.id.build_id) {
        (State::None, _) => false,
        (kept @ (State::Begun { .. } | State::Whole { .. }), wanted) => {
            let same = wanted.as_ref().is_some_and(|wanted| kept.is_whole(wanted));
            if !same && let Err(error) = build_tree::forget(&files) {
                return Some(noted(&error));
            }
            same
        }
    };
    if is_same {
        return None;
    }
    match fs::symlink_metadata(&files.source) {
        // A tree of packages is prepared for building, and stays.
        Ok(there) if !there.is_symlink() => None,
        Ok(_) if fs::canonicalize(&files.source).is_ok_and(|known| known == tree) => None,
        known => {
            let linked = fs::create_dir_all(&files.top)
                .and_then(|()| match known {
                    Ok(_) => fs::remove_file(&files.source),
                    Err(_) => Ok(()),
                })
                .and_then(|()| std::os::unix::fs::symlink(&tree, &files.source));
            linked.err().map(|error| noted(&error))
        }
    }
}

fn folder(
    cache: &Path,
    path: &Path,
    options: &Options,
    progress: &dyn Progress,
    notes: &mut Vec<String>,
) -> Result<Parts, SpecError> {
    let path = fs::canonicalize(path).map_err(|source| SpecError::Read {
        path: path.to_owned(),
        source,
    })?;
    let given = source(cache, options, progress)?;
    let tree = match given {
        Some(tree) => tree,
        None if learn::is_tree(&path) => path.clone(),
        None if commands::is_build(&path) => match tree_of_build(&path) {
            Some(tree) => tree,
            None => {
                return Err(SpecError::NoSource {
                    what: format!("{} was built from a tree that is not there", path.display()),
                });
            }
        },
        None => return debug::folder(&path, None),
    };
    if !learn::is_tree(&path) && !commands::is_build(&path) {
        return debug::folder(&path, Some(tree));
    }
    let mut source = tree.display().to_string();
    let mut origin = None;
    match Repository::local_changes(&tree) {
        Ok((commit, changes)) => {
            source.push_str(&format!(" at {commit}"));
            if changes == 0 {
                origin = Some(GitOrigin {
                    repository: tree.display().to_string(),
                    commit,
                });
            } else {
                source.push('+');
                notes.push(format!(
                    "{changes} files of the tree differ from commit {commit}: its base version does not tell what they change"
                ));
            }
        }
        Err(GitError::NoRepository { .. }) => {}
        Err(error) => notes.push(format!(
            "whether the tree has local changes is not known: {error}"
        )),
    }
    Ok(Parts {
        git: origin,
        ..parts(tree, path, source)
    })
}

/// Reads the history of `commit`; where that fails it is told, and nothing is known of it.
fn learned(
    repository: &Repository,
    commit: GitId,
    progress: &dyn Progress,
    notes: &mut Vec<String>,
) -> Option<History> {
    let read = debian::step(progress, "read the history", || {
        history::learn(repository, commit)
    });
    match read {
        Ok(history) => {
            if history.is_cut_off {
                notes.push(format!(
                    "the history of {commit} is cut off after {} commits: what it does not name may be in it",
                    history.commits.len()
                ));
            }
            Some(history)
        }
        Err(error) => {
            notes.push(format!("its history could not be read: {error}"));
            None
        }
    }
}

/// Parts of which nothing but the place is known.
fn parts(tree: PathBuf, build: PathBuf, source: String) -> Parts {
    Parts {
        spec: String::new(),
        source,
        tree,
        build,
        config: None,
        vmlinux: None,
        modules: None,
        base: None,
        base_trust: BaseTrust::Makefile,
        release: None,
        way: None,
        git: None,
        changelog: None,
    }
}

/// Finds the tree that a build folder was made from: by its link, or by its makefile.
fn tree_of_build(build: &Path) -> Option<PathBuf> {
    let linked = fs::canonicalize(build.join("source")).ok();
    let named = || {
        let text = crate::profile::tree::read(&build.join("Makefile")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("include "));
        let makefile = build.join(line?.trim());
        makefile.parent().map(Path::to_owned)
    };
    linked
        .into_iter()
        .chain(named())
        .find(|tree| learn::is_tree(tree))
}

/// Returns the tree given beside the SPEC, unpacked at need.
fn source(
    cache: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Option<PathBuf>, SpecError> {
    match &options.source {
        None => Ok(None),
        Some(path) if path.is_dir() => Ok(Some(path.clone())),
        Some(path) => Ok(Some(archive::tree(cache, path, progress)?)),
    }
}

/// A commit of a repository, as it is given.
struct Place<'a> {
    url: &'a str,
    reference: &'a str,
}

fn git(
    cache: &Path,
    place: &Place<'_>,
    options: &Options,
    progress: &dyn Progress,
    notes: &mut Vec<String>,
    history: &mut Option<History>,
) -> Result<Parts, SpecError> {
    let Place { url, reference } = *place;
    let name = Reference::new(reference).map_err(SnapshotError::from)?;
    let (id, full) = debian::step(progress, "ask the repository", || {
        Repository::resolve_at(url, &name, FETCH)
    })?;
    let tree = kept::make(cache, &format!("git-{id}"), |work| {
        debian::step(progress, "fetch the tree", || -> Result<(), SpecError> {
            let repository = cache.join("trees").join(".git-snapshot");
            kept::remove(&repository)?;
            let written = Repository::snapshot(url, &full, &repository, work, FETCH);
            kept::remove(&repository)?;
            kept::note_commit(cache, id, written?)
        })
    })?;
    let shown = tuxtape_sys::url::shown(url);
    let source = format!("{shown} {reference} ({id})");
    // A repository on this machine is asked where it lies.
    let here = Repository::open(Path::new(url.strip_prefix("file://").unwrap_or(url)));
    let commit = match (&here, options.history) {
        (Ok(repository), _) => {
            let commit = repository.commit_of(id).map_err(SnapshotError::from)?;
            if let Some(commit) = commit {
                *history = learned(repository, commit, progress, notes);
            }
            commit
        }
        (Err(_), FetchHistory::Yes) => {
            let work = cache.join("trees").join(".git-history");
            kept::remove(&work)?;
            let fetched = debian::step(progress, "fetch the history", || {
                Repository::fetch_history(url, &full, &work, FETCH)
            });
            let fetched = fetched.map(|(repository, commit)| {
                *history = learned(&repository, commit, progress, notes);
                commit
            });
            kept::remove(&work)?;
            Some(fetched?)
        }
        (Err(_), FetchHistory::No) => kept::commit(cache, id),
    };
    Ok(Parts {
        git: commit.map(|commit| GitOrigin {
            repository: shown.clone(),
            commit,
        }),
        ..parts(tree.clone(), tree, source)
    })
}

#[cfg(test)]
mod tests;
