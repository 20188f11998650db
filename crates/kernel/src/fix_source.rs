//! Fixes: the source change that closes a CVE in one kernel, and where it came from.

pub mod choose;
pub mod commit;
pub mod folder;
pub mod found;
#[cfg(test)]
mod garbled;
pub mod kept;
pub mod library;
pub mod list;
pub mod mail;
mod repository;
pub mod spec;
mod tie;
mod web;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tuxtape_core::cve::CveId;
use tuxtape_core::git_id::GitId;
use tuxtape_core::identity::KernelRelease;

use crate::debian::index::{self, IndexError, Package};
use crate::debian::version::DebianVersion;
use crate::files::KernelFiles;
use crate::profile::build::base_version;
use crate::unified::{self, ApplyError, DiffError, NotATreePath, PatchedFile, TreePath};

/// Largest source file that is compared, in bytes.
const LONGEST_FILE: u64 = 16 << 20;

/// The source change that closes a CVE in one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Where it came from.
    pub origin: Origin,
    /// The files it changes, sorted.
    pub files: Vec<TreePath>,
    /// Unified diff against the kernel's own source, `-p1`.
    pub diff: String,
}

/// Where a fix came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Cut from the difference to a newer source package; other changes of those files come along.
    Package {
        /// Name of the source package.
        package: String,
        /// Its version.
        version: String,
    },
    /// Given by a person.
    Hand {
        /// Who.
        person: String,
        /// Name of the file it was read from.
        file: String,
    },
    /// Commits of a git repository. Those fetched from a URL are what their ids say, for git counts the
    /// ids anew; a repository at hand is taken as it is.
    Git {
        /// The repository, without a password.
        place: String,
        /// The commits, in the order they are to be applied.
        commits: Vec<GitId>,
    },
    /// What a server gave for commits; their ids are what the server says.
    Web {
        /// The URLs asked, without passwords, in the order of the commits.
        urls: Vec<String>,
        /// The commits, in the order they are to be applied.
        commits: Vec<GitId>,
    },
    /// A file of a folder of patches.
    Folder {
        /// The file.
        file: PathBuf,
        /// Every CVE it closes.
        cves: Vec<CveId>,
    },
}

/// A cut, and what of the files asked for is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The fix.
    pub fix: Fix,
    /// Files that are equal in both sources.
    pub unchanged: Vec<TreePath>,
    /// Files that neither source has.
    pub absent: Vec<TreePath>,
}

/// A newer source package, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewerSource {
    /// Name of the package, `linux-source-6.1`.
    pub package: String,
    /// Its version.
    pub version: DebianVersion,
    /// Top of the tree.
    pub tree: PathBuf,
}

/// Why there is no fix.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// A file asked for is no path in a tree.
    #[error(transparent)]
    Path(#[from] NotATreePath),
    /// A source file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A source file is not text.
    #[error("{path} is not UTF-8 text", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A source file is a link or something else that is no file.
    #[error("{path} is no plain file", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// None of the files differs.
    #[error(
        "none of the files differs in {package} {version} ({unchanged} unchanged, {absent} in neither source)"
    )]
    NothingToCut {
        /// Name of the newer source package.
        package: String,
        /// Its version.
        version: DebianVersion,
        /// How many are equal.
        unchanged: usize,
        /// How many neither source has.
        absent: usize,
    },
    /// A diff cannot be read.
    #[error("not a fix")]
    Diff(#[from] DiffError),
    /// A diff does not fit the kernel's source.
    #[error("the fix does not apply")]
    Apply(#[from] ApplyError),
}

/// Lists the source packages of the series of `release` that are newer than the kernel's own, the
/// newest first; `own` is the version of its source package. Blocks on `apt-cache`.
pub fn newer_sources(own: &DebianVersion) -> Result<Vec<Package>, IndexError> {
    let Some(name) = index::source_name(own) else {
        return Ok(Vec::new());
    };
    let mut newer = index::versions(&name)?;
    newer.retain(|package| package.version > *own);
    newer.dedup_by(|left, right| left.version == right.version);
    Ok(newer)
}

/// Keeps those of `newer` whose upstream version is at least `wanted` (`6.1.176`).
pub fn with_upstream(newer: Vec<Package>, wanted: &str) -> Vec<Package> {
    let wanted = DebianVersion::new(wanted);
    let reaches = |package: &Package| {
        base_version(package.version.as_str())
            .is_some_and(|base| DebianVersion::new(base) >= wanted)
    };
    newer.into_iter().filter(reaches).collect()
}

/// Cuts the change of `paths` between the kernel's own source and `newer`.
///
/// Everything that changed in those files comes along, other fixes too. The result is applied to the
/// kernel's source in memory before it is returned.
pub fn cut(files: &KernelFiles, newer: &NewerSource, paths: &[String]) -> Result<Cut, FixError> {
    let mut paths = paths
        .iter()
        .map(|path| path.parse::<TreePath>())
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.dedup();
    let mut diff = String::new();
    let (mut changed, mut unchanged, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let old = text(&files.source, &path)?;
        let new = text(&newer.tree, &path)?;
        if old == new {
            let list = if old.is_some() {
                &mut unchanged
            } else {
                &mut absent
            };
            list.push(path);
        } else {
            diff.push_str(&difference(&path, old.as_deref(), new.as_deref()));
            changed.push(path);
        }
    }
    if changed.is_empty() {
        return Err(FixError::NothingToCut {
            package: newer.package.clone(),
            version: newer.version.clone(),
            unchanged: unchanged.len(),
            absent: absent.len(),
        });
    }
    check(&files.source, diff.as_bytes())?;
    Ok(Cut {
        fix: Fix {
            origin: Origin::Package {
                package: newer.package.clone(),
                version: newer.version.to_string(),
            },
            files: changed,
            diff,
        },
        unchanged,
        absent,
    })
}

/// Reads `diff` and applies it in memory to the kernel source at `source`; returns its files, sorted.
pub fn check(source: &Path, diff: &[u8]) -> Result<Vec<TreePath>, FixError> {
    let diff = unified::parse(diff)?;
    let mut state: BTreeMap<TreePath, Option<PatchedFile>> = BTreeMap::new();
    for file in &diff.files {
        let before = match state.get(&file.path) {
            Some(before) => before.clone(),
            None => bytes(source, &file.path)?.map(|bytes| PatchedFile::pristine(&bytes)),
        };
        let after = unified::apply(file, before.as_ref())?;
        state.insert(file.path.clone(), after);
    }
    Ok(state.into_keys().collect())
}

/// Writes the unified diff of one file that differs.
pub(crate) fn difference(path: &TreePath, old: Option<&str>, new: Option<&str>) -> String {
    let name = |side: &str, there: bool| {
        if there {
            format!("{side}/{path}")
        } else {
            "/dev/null".to_owned()
        }
    };
    similar::TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default())
        .unified_diff()
        .context_radius(3)
        .header(&name("a", old.is_some()), &name("b", new.is_some()))
        .to_string()
}

pub(crate) fn text(tree: &Path, path: &TreePath) -> Result<Option<String>, FixError> {
    bytes(tree, path)?
        .map(|bytes| {
            String::from_utf8(bytes).map_err(|_| FixError::NotText {
                path: tree.join(path.as_str()),
            })
        })
        .transpose()
}

/// Reads a file of a tree; `None` where it is not there. Links are not followed.
fn bytes(tree: &Path, path: &TreePath) -> Result<Option<Vec<u8>>, FixError> {
    let full = tree.join(path.as_str());
    let failed = |source| FixError::Read {
        path: full.clone(),
        source,
    };
    let found = match fs::symlink_metadata(&full) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !found.is_file() {
        return Err(FixError::NotAFile { path: full });
    }
    if found.len() > LONGEST_FILE {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    fs::read(&full).map(Some).map_err(failed)
}

/// Names the folder of the fixes kept for `release` below `home`.
fn folder(home: &Path, release: &KernelRelease) -> PathBuf {
    home.join("fixes").join(release.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(files: &[(&str, &str)]) -> (tempfile::TempDir, KernelFiles) {
        let cache = tempfile::tempdir().unwrap();
        let release = "6.1.0-47-cloud-amd64".parse().unwrap();
        let kernel = KernelFiles::below(cache.path(), &release);
        write(&kernel.source, files);
        (cache, kernel)
    }

    fn write(top: &Path, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn newer(files: &[(&str, &str)]) -> (tempfile::TempDir, NewerSource) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), files);
        let tree = folder.path().to_owned();
        let source = NewerSource {
            package: "linux-source-6.1".to_owned(),
            version: DebianVersion::new("6.1.176-1"),
            tree,
        };
        (folder, source)
    }

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_cut_holds_edited_new_and_deleted_files_and_nothing_else() {
        let (_cache, kernel) =
            kernel(&[("a/x.c", "1\n2\n"), ("a/gone.c", "g\n"), ("a/y.c", "y\n")]);
        let (_folder, newer) =
            newer(&[("a/x.c", "1\n3\n"), ("a/new.c", "n"), ("a/y.c", "other\n")]);
        let wanted = paths(&["a/x.c", "a/gone.c", "a/new.c", "a/nowhere.c"]);
        let cut = cut(&kernel, &newer, &wanted).unwrap();
        let files: Vec<&str> = cut.fix.files.iter().map(TreePath::as_str).collect();
        assert_eq!(files, ["a/gone.c", "a/new.c", "a/x.c"]);
        assert_eq!(cut.absent.len(), 1);
        assert!(!cut.fix.diff.contains("other"));
        assert!(
            cut.fix
                .diff
                .contains("--- a/a/x.c\n+++ b/a/x.c\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n")
        );
        assert!(cut.fix.diff.contains("--- /dev/null\n+++ b/a/new.c\n"));
    }

    #[test]
    fn equal_files_are_nothing_to_cut() {
        let (_cache, kernel) = kernel(&[("a/x.c", "1\n")]);
        let (_folder, newer) = newer(&[("a/x.c", "1\n")]);
        assert!(matches!(
            cut(&kernel, &newer, &paths(&["a/x.c", "a/z.c"])),
            Err(FixError::NothingToCut {
                unchanged: 1,
                absent: 1,
                ..
            })
        ));
    }

    #[test]
    fn a_path_out_of_the_tree_is_refused() {
        let (_cache, kernel) = kernel(&[("a/x.c", "1\n")]);
        let (_folder, newer) = newer(&[]);
        for bad in ["../x", "/etc/passwd", ""] {
            assert!(matches!(
                cut(&kernel, &newer, &paths(&[bad])),
                Err(FixError::Path(_))
            ));
        }
    }

    #[test]
    fn a_link_in_the_tree_is_not_followed() {
        let (_cache, kernel) = kernel(&[("a/x.c", "1\n")]);
        std::os::unix::fs::symlink("/etc/passwd", kernel.source.join("a/link.c")).unwrap();
        let (_folder, newer) = newer(&[("a/link.c", "x\n")]);
        assert!(matches!(
            cut(&kernel, &newer, &paths(&["a/link.c"])),
            Err(FixError::NotAFile { .. })
        ));
    }

    #[test]
    fn only_sources_that_reach_the_fix_are_kept() {
        let package = |version: &str| Package {
            name: "linux-source-6.1".to_owned(),
            version: DebianVersion::new(version),
            architecture: "all".to_owned(),
            size: 0,
            installed_size: 0,
            sha256: String::new(),
            depends: String::new(),
        };
        let newer = ["6.1.192-2", "6.1.176-1", "6.1.99-1"].map(package).to_vec();
        let kept: Vec<String> = with_upstream(newer, "6.1.176")
            .iter()
            .map(|package| package.version.to_string())
            .collect();
        assert_eq!(kept, ["6.1.192-2", "6.1.176-1"]);
    }
}
