//! Unpacking packages into the parts of a kernel's folder.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tuxtape_sys::durable::{self, WriteError};
use tuxtape_sys::process::{self, ProcessError};

use super::index::Package;

/// Limit of unpacking one package.
const UNPACK: Duration = Duration::from_secs(1800);

/// Why a part could not be unpacked; the finished parts stay.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file or folder could not be used.
    #[error("could not use {path}", path = path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The unpacking program failed.
    #[error("could not unpack {path}", path = path.display())]
    Program {
        /// The package or archive.
        path: PathBuf,
        /// What it said.
        source: ProcessError,
    },
    /// The mark of a finished part could not be written.
    #[error(transparent)]
    Mark(#[from] WriteError),
    /// The source package holds no source archive where it belongs.
    #[error("{path} holds no usr/src/{name}.tar.xz", path = path.display())]
    NoArchive {
        /// The package.
        path: PathBuf,
        /// The name expected.
        name: String,
    },
    /// A file name in the source archive is no text.
    #[error("{path} has a name that is not UTF-8", path = path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
}

/// One folder of a kernel, finished when its mark names the packages it was made from.
#[derive(Debug)]
pub struct Part<'a> {
    /// The kernel's folder.
    pub top: &'a Path,
    /// Name of the part's folder.
    pub name: String,
    /// What it is made from.
    pub packages: Vec<&'a Package>,
}

impl Part<'_> {
    /// Returns the part's folder.
    pub fn folder(&self) -> PathBuf {
        self.top.join(&self.name)
    }

    /// Tells whether the part was finished from exactly these packages.
    pub fn finished(&self) -> bool {
        fs::read_to_string(self.mark()).is_ok_and(|text| text == self.wanted())
            && self.folder().is_dir()
    }

    /// Marks the part as finished. Survives power loss.
    pub fn finish(&self) -> Result<(), UnpackError> {
        Ok(durable::write(&self.mark(), self.wanted().as_bytes())?)
    }

    /// Puts the folder `made` in the part's place; what was there is removed.
    pub fn place(&self, made: &Path) -> Result<(), UnpackError> {
        let folder = self.folder();
        remove(&self.mark())?;
        remove(&folder)?;
        fs::rename(made, &folder).map_err(|source| UnpackError::Folder {
            path: folder,
            source,
        })
    }

    /// Makes an empty folder to work in, beside the part.
    pub fn workspace(&self) -> Result<PathBuf, UnpackError> {
        let path = self.top.join(format!(".{}.new", self.name));
        remove(&path)?;
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(UnpackError::Folder { path, source }),
        }
    }

    fn mark(&self) -> PathBuf {
        self.top.join(format!(".{}", self.name))
    }

    fn wanted(&self) -> String {
        let lines = self
            .packages
            .iter()
            .map(|package| format!("{} {} {}\n", package.name, package.version, package.sha256));
        lines.collect()
    }
}

/// Unpacks the package files `debs` as the part `part`.
pub fn packages(part: &Part<'_>, debs: &[&Path]) -> Result<(), UnpackError> {
    let work = part.workspace()?;
    for deb in debs {
        extract(deb, &work)?;
    }
    part.place(&work)?;
    part.finish()
}

/// Unpacks the source archive of the source package file `deb` into `work`, and returns the files of
/// the tree, sorted.
pub fn source(deb: &Path, package: &Package, work: &Path) -> Result<BTreeSet<String>, UnpackError> {
    let outer = work.join(".deb");
    extract(deb, &outer)?;
    let archive = outer.join(format!("usr/src/{}.tar.xz", package.name));
    if !archive.is_file() {
        return Err(UnpackError::NoArchive {
            path: deb.to_owned(),
            name: package.name.clone(),
        });
    }
    run(
        Command::new("tar")
            .args(["--extract", "--strip-components=1", "--no-same-owner"])
            .arg("--use-compress-program=xz -T0")
            .arg("--directory")
            .arg(work)
            .arg("--file")
            .arg(&archive),
        &archive,
    )?;
    remove(&outer)?;
    files(work)
}

/// Lists the files below `top`, as paths relative to it.
fn files(top: &Path) -> Result<BTreeSet<String>, UnpackError> {
    let mut found = BTreeSet::new();
    let mut folders = vec![(top.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let failed = |source| UnpackError::Folder {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .ok_or_else(|| UnpackError::Name { path: entry.path() })?;
            let path = if prefix.is_empty() {
                name.to_owned()
            } else {
                format!("{prefix}/{name}")
            };
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push((entry.path(), path));
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn extract(deb: &Path, folder: &Path) -> Result<(), UnpackError> {
    run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(deb)
            .arg(folder),
        deb,
    )
}

fn run(command: &mut Command, path: &Path) -> Result<(), UnpackError> {
    match process::run_ok(command, UNPACK) {
        Ok(_) => Ok(()),
        Err(source) => Err(UnpackError::Program {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Removes a file or folder that may not exist.
pub(super) fn remove(path: &Path) -> Result<(), UnpackError> {
    let outcome = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match outcome {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(UnpackError::Folder {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::version::DebianVersion;

    fn package(version: &str) -> Package {
        Package {
            name: "x".to_owned(),
            version: DebianVersion::new(version),
            architecture: "all".to_owned(),
            size: 0,
            installed_size: 0,
            sha256: "0".repeat(64),
            depends: String::new(),
        }
    }

    #[test]
    fn a_part_of_another_version_or_without_mark_is_not_finished() {
        let top = tempfile::tempdir().unwrap();
        let (old, new) = (package("1"), package("2"));
        let part = |package| Part {
            top: top.path(),
            name: "debug".to_owned(),
            packages: vec![package],
        };
        fs::create_dir(top.path().join("debug")).unwrap();
        assert!(!part(&old).finished());
        let work = part(&old).workspace().unwrap();
        part(&old).place(&work).unwrap();
        assert!(!part(&old).finished());
        part(&old).finish().unwrap();
        assert!(part(&old).finished());
        assert!(!part(&new).finished());
        let work = part(&new).workspace().unwrap();
        part(&new).place(&work).unwrap();
        assert!(!part(&old).finished(), "the mark goes before the folder");
    }
}
