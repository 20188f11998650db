//! Fixes given by people, kept as `HOME/fixes/RELEASE/CVE.patch` with their origin beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::durable::{self, WriteError};

use super::{Fix, FixError, Origin};
use crate::files::KernelFiles;
use crate::unified::LONGEST_DIFF;

/// The one format of the origin file.
const FORMAT: u32 = 1;

/// Why a fix could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It is no fix, or does not fit the kernel's source.
    #[error(transparent)]
    Fix(#[from] FixError),
    /// There is one already, and an edit is never overwritten unasked.
    #[error("a fix for {cve} is kept already in {path}", path = path.display())]
    Kept {
        /// The CVE.
        cve: CveId,
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read, or a folder made.
    #[error("could not use {path}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The diff is too long.
    #[error("{path} has more than {LONGEST_DIFF} bytes", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The diff is not text.
    #[error("{path} is not UTF-8 text", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The origin beside the diff is missing, damaged, or of another diff.
    #[error("{path} does not say where the fix beside it came from ({why})", path = path.display())]
    Origin {
        /// The origin file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The origin file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u32,
    kind: Kind,
    person: String,
    file: String,
    /// SHA-256 of the diff it belongs to, in hex.
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Hand,
}

/// Whether a fix kept before may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It stays.
    No,
    /// It goes.
    Yes,
}

/// Keeps the diff in `file`, given by `person`, as the fix of `cve` on the kernel at `files`, after
/// checking that it applies to the kernel's source.
pub fn import(
    home: &Path,
    files: &KernelFiles,
    cve: CveId,
    file: &Path,
    person: &str,
    replace: Replace,
) -> Result<Fix, KeepError> {
    let diff = read(file)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let given = Given {
        diff: &diff,
        person,
        name: &name,
    };
    keep(home, files, cve, &given, replace)
}

/// A diff that a person gives.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The diff, `-p1`.
    pub diff: &'a str,
    /// Who gives it.
    pub person: &'a str,
    /// What it is called, for people.
    pub name: &'a str,
}

/// Keeps a diff as the fix of `cve` on the kernel at `files`, after checking that it applies to the
/// kernel's source.
pub fn keep(
    home: &Path,
    files: &KernelFiles,
    cve: CveId,
    given: &Given<'_>,
    replace: Replace,
) -> Result<Fix, KeepError> {
    let diff = given.diff;
    let changed = super::check(&files.source, diff.as_bytes())?;
    let (patch, origin) = places(home, &files.release, cve);
    if replace == Replace::No && patch.exists() {
        return Err(KeepError::Kept { cve, path: patch });
    }
    let folder = super::folder(home, &files.release);
    fs::create_dir_all(&folder).map_err(|source| KeepError::File {
        path: folder,
        source,
    })?;
    let wire = Wire {
        format: FORMAT,
        kind: Kind::Hand,
        person: given.person.to_owned(),
        file: given.name.to_owned(),
        sha256: hex::encode(Sha256::digest(diff.as_bytes())),
    };
    // The origin first: a diff without one is refused, an origin without its diff is nothing. Of a
    // replacement cut between the two the old diff is refused, until the new one is given again.
    let text = serde_json::to_vec(&wire).expect("texts and a number always become JSON");
    durable::write(&origin, &text)?;
    durable::write(&patch, diff.as_bytes())?;
    Ok(Fix {
        origin: Origin::Hand {
            person: wire.person,
            file: wire.file,
        },
        files: changed,
        diff: diff.to_owned(),
    })
}

/// Reads the fix kept for `cve`, checked against the kernel's source again; `None` where there is none.
pub fn load(home: &Path, files: &KernelFiles, cve: CveId) -> Result<Option<Fix>, KeepError> {
    let (patch, origin) = places(home, &files.release, cve);
    if !patch.exists() {
        return Ok(None);
    }
    let diff = read(&patch)?;
    let wrong = |why: String| KeepError::Origin {
        path: origin.clone(),
        why,
    };
    let text = fs::read(&origin).map_err(|error| wrong(error.to_string()))?;
    let wire: Wire = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if wire.format != FORMAT {
        return Err(wrong(format!("format {}", wire.format)));
    }
    if wire.sha256 != hex::encode(Sha256::digest(diff.as_bytes())) {
        return Err(wrong("it belongs to another diff".to_owned()));
    }
    let changed = super::check(&files.source, diff.as_bytes())?;
    let Kind::Hand = wire.kind;
    Ok(Some(Fix {
        origin: Origin::Hand {
            person: wire.person,
            file: wire.file,
        },
        files: changed,
        diff,
    }))
}

/// Names the file in which a diff waits that was edited and does not apply, so that nobody's work is
/// lost.
pub fn draft(home: &Path, release: &KernelRelease, cve: CveId) -> PathBuf {
    super::folder(home, release).join(format!("{cve}.draft"))
}

fn places(home: &Path, release: &KernelRelease, cve: CveId) -> (PathBuf, PathBuf) {
    let folder = super::folder(home, release);
    (
        folder.join(format!("{cve}.patch")),
        folder.join(format!("{cve}.json")),
    )
}

/// Reads a diff from a file.
pub fn read(path: &Path) -> Result<String, KeepError> {
    let failed = |source| KeepError::File {
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(failed)?.len();
    if usize::try_from(length).map_or(true, |length| length > LONGEST_DIFF) {
        return Err(KeepError::TooLong {
            path: path.to_owned(),
        });
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| KeepError::NotText {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        files: KernelFiles,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let release = "6.1.0-47-cloud-amd64".parse().unwrap();
            let files = KernelFiles::below(folder.path(), &release);
            fs::create_dir_all(files.source.join("a")).unwrap();
            fs::write(files.source.join("a/x.c"), "1\n2\n").unwrap();
            Self { folder, files }
        }

        fn import(&self, diff: &str, replace: Replace) -> Result<Fix, KeepError> {
            let path = self.folder.path().join("mine.patch");
            fs::write(&path, diff).unwrap();
            import(
                self.folder.path(),
                &self.files,
                cve(),
                &path,
                "ann",
                replace,
            )
        }
    }

    fn cve() -> CveId {
        "CVE-2026-31407".parse().unwrap()
    }

    const GOOD: &str = "--- a/a/x.c\n+++ b/a/x.c\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n";

    #[test]
    fn an_imported_fix_is_read_back_with_its_person() {
        let bench = Bench::new();
        let given = bench.import(GOOD, Replace::No).unwrap();
        let read = load(bench.folder.path(), &bench.files, cve()).unwrap();
        assert_eq!(read.as_ref(), Some(&given));
        assert_eq!(
            given.origin,
            Origin::Hand {
                person: "ann".to_owned(),
                file: "mine.patch".to_owned()
            }
        );
    }

    #[test]
    fn a_fix_that_does_not_apply_leaves_nothing() {
        let bench = Bench::new();
        let bad = GOOD.replace("-2", "-7");
        assert!(bench.import(&bad, Replace::No).is_err());
        assert!(bench.import("<html>", Replace::No).is_err());
        assert_eq!(
            load(bench.folder.path(), &bench.files, cve()).unwrap(),
            None
        );
        assert!(!bench.folder.path().join("fixes").exists());
    }

    #[test]
    fn a_kept_fix_is_replaced_only_when_asked() {
        let bench = Bench::new();
        bench.import(GOOD, Replace::No).unwrap();
        let other = GOOD.replace("+3", "+4");
        assert!(matches!(
            bench.import(&other, Replace::No),
            Err(KeepError::Kept { .. })
        ));
        let given = bench.import(&other, Replace::Yes).unwrap();
        assert_eq!(
            load(bench.folder.path(), &bench.files, cve()).unwrap(),
            Some(given)
        );
    }

    #[test]
    fn a_replacement_cut_short_is_refused_until_the_diff_is_given_again() {
        let bench = Bench::new();
        bench.import(GOOD, Replace::No).unwrap();
        let (patch, _) = places(bench.folder.path(), &bench.files.release, cve());
        let other = GOOD.replace("+3", "+4");
        bench.import(&other, Replace::Yes).unwrap();
        // The power went after the origin was written and before the diff was.
        fs::write(patch, GOOD).unwrap();
        let load = || load(bench.folder.path(), &bench.files, cve());
        assert!(matches!(load(), Err(KeepError::Origin { .. })));
        let given = bench.import(&other, Replace::Yes).unwrap();
        assert_eq!(load().unwrap(), Some(given));
    }

    #[test]
    fn a_diff_changed_behind_its_origin_is_refused() {
        let bench = Bench::new();
        bench.import(GOOD, Replace::No).unwrap();
        let (patch, _) = places(bench.folder.path(), &bench.files.release, cve());
        fs::write(patch, GOOD.replace("+3", "+4")).unwrap();
        assert!(matches!(
            load(bench.folder.path(), &bench.files, cve()),
            Err(KeepError::Origin { .. })
        ));
    }
}
