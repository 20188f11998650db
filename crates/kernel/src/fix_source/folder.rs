//! A folder of patches: `ID.patch`, with or without an `index.jsonl` that says which CVEs each closes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tuxtape_core::cve::CveId;

use crate::unified::{self, LONGEST_DIFF};

/// Name of the index.
const INDEX: &str = "index.jsonl";
/// Longest index that is read, in bytes.
const LONGEST_INDEX: u64 = 64 << 20;
/// Most lines of an index.
const MOST_LINES: usize = 100_000;

/// Why a folder of patches, or a patch of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or the folder could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is too long.
    #[error("{path} is longer than {limit} bytes", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The index is garbled. Half an index could name the wrong patch.
    #[error("line {line} of {INDEX}: {why}")]
    Index {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The index names a patch that is not there.
    #[error("{path}, which the index names, is not there", path = path.display())]
    NoPatch {
        /// The file.
        path: PathBuf,
    },
    /// A patch is not text.
    #[error("{path} is not UTF-8 text", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A patch is no diff.
    #[error("{path} is no fix: {source}", path = path.display())]
    NotADiff {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: unified::DiffError,
    },
}

/// A patch of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Its file.
    pub file: PathBuf,
    /// Every CVE it closes, sorted.
    pub cves: Vec<CveId>,
    /// Whether the index says so, and not the file's name alone.
    pub is_listed: bool,
}

/// Whether the index names a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Yes,
    No,
}

/// The patches of a folder, by the CVEs they close.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    patches: Vec<Patch>,
    by_cve: BTreeMap<CveId, Vec<usize>>,
}

/// One line of an index; other keys are others' business.
#[derive(Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    cves: Vec<String>,
}

impl Patches {
    /// Lists the folder at `path`.
    pub fn list(path: &Path) -> Result<Self, FolderError> {
        let index = path.join(INDEX);
        let lines = match bounded(&index, LONGEST_INDEX) {
            Ok(text) => Some(parse(&text)?),
            Err(FolderError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                None
            }
            Err(error) => return Err(error),
        };
        let failed = |source| FolderError::Read {
            path: path.to_owned(),
            source,
        };
        let mut found = Self::default();
        for (id, cves) in lines.iter().flatten() {
            let file = path.join(format!("{id}.patch"));
            found.add(file, cves.clone(), Listed::Yes);
        }
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let id = name
                .strip_suffix(".patch")
                .and_then(|id| id.parse::<CveId>().ok());
            // The index knows better what a file closes.
            if let Some(id) = id
                && found.patches.iter().all(|patch| patch.file != file)
            {
                found.add(file, vec![id], Listed::No);
            }
        }
        Ok(found)
    }

    fn add(&mut self, file: PathBuf, mut cves: Vec<CveId>, listed: Listed) {
        cves.sort();
        cves.dedup();
        for cve in &cves {
            self.by_cve
                .entry(*cve)
                .or_default()
                .push(self.patches.len());
        }
        self.patches.push(Patch {
            file,
            cves,
            is_listed: listed == Listed::Yes,
        });
    }

    /// Returns the patches that close `cve`, in the order of the index.
    pub fn of(&self, cve: CveId) -> impl Iterator<Item = &Patch> {
        let places = self.by_cve.get(&cve).into_iter().flatten();
        places.filter_map(|place| self.patches.get(*place))
    }
}

impl Patch {
    /// Reads the diff, checked to be one.
    pub fn read(&self) -> Result<String, FolderError> {
        let path = || self.file.clone();
        let bytes = match bounded(&self.file, LONGEST_DIFF as u64) {
            Ok(bytes) => bytes,
            Err(FolderError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(FolderError::NoPatch { path: path() });
            }
            Err(error) => return Err(error),
        };
        let text = String::from_utf8(bytes).map_err(|_| FolderError::NotText { path: path() })?;
        unified::parse(text.as_bytes()).map_err(|source| FolderError::NotADiff {
            path: path(),
            source,
        })?;
        Ok(text)
    }
}

/// Reads an index: for each patch its id, which is a plain file name, and its CVEs.
pub fn parse(text: &[u8]) -> Result<Vec<(String, Vec<CveId>)>, FolderError> {
    let mut found = Vec::new();
    for (number, line) in text.split(|c| *c == b'\n').enumerate() {
        let wrong = |why: String| FolderError::Index {
            line: number + 1,
            why,
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        if number >= MOST_LINES {
            return Err(wrong(format!("more than {MOST_LINES} lines")));
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        if line.id.is_empty()
            || line.id.len() > 200
            || line.id.starts_with(['.', '-'])
            || !line.id.chars().all(plain)
        {
            let shown: String = line.id.chars().take(80).collect();
            return Err(wrong(format!("{shown:?} is no plain file name")));
        }
        let cves = line
            .cves
            .iter()
            .map(|text| {
                text.parse::<CveId>()
                    .map_err(|error| wrong(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        found.push((line.id, cves));
    }
    Ok(found)
}

/// Entry for fuzzing: reads bytes as an index.
pub fn fuzz(bytes: &[u8]) {
    for (id, _) in parse(bytes).unwrap_or_default() {
        assert!(!id.contains('/') && !id.starts_with('.'));
    }
}

fn bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FolderError> {
    let failed = |source| FolderError::Read {
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    if found.len() > limit {
        return Err(FolderError::TooLong {
            path: path.to_owned(),
            limit,
        });
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-1\n+2\n";

    fn cve(number: u32) -> CveId {
        CveId::new(2026, number).unwrap()
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn files(patches: &Patches, cve: CveId) -> Vec<String> {
        let name = |patch: &Patch| {
            patch
                .file
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        };
        patches.of(cve).map(name).collect()
    }

    #[test]
    fn without_an_index_the_name_is_the_cve() {
        let folder = folder(&[
            ("CVE-2026-1000.patch", DIFF),
            ("other.patch", DIFF),
            ("x", ""),
        ]);
        let patches = Patches::list(folder.path()).unwrap();
        assert_eq!(files(&patches, cve(1000)), ["CVE-2026-1000.patch"]);
        assert_eq!(files(&patches, cve(1001)), [""; 0]);
    }

    #[test]
    fn one_file_may_close_several_cves() {
        let index =
            r#"{"id": "CVE-2026-1000", "cves": ["CVE-2026-1001", "CVE-2026-1000"], "objects": {}}"#;
        let folder = folder(&[
            ("index.jsonl", index),
            ("CVE-2026-1000.patch", DIFF),
            ("CVE-2026-1002.patch", DIFF),
        ]);
        let patches = Patches::list(folder.path()).unwrap();
        assert_eq!(files(&patches, cve(1001)), ["CVE-2026-1000.patch"]);
        assert_eq!(files(&patches, cve(1002)), ["CVE-2026-1002.patch"]);
        let patch = patches.of(cve(1000)).next().unwrap();
        assert_eq!(patch.cves, [cve(1000), cve(1001)]);
        assert_eq!(patch.read().unwrap(), DIFF);
    }

    #[test]
    fn a_garbled_index_is_refused_whole() {
        for line in [
            r#"{"id": "../x", "cves": []}"#,
            r#"{"id": "/etc/passwd"}"#,
            r#"{"id": ".x"}"#,
            r#"{"id": ""}"#,
            r#"{"id": "x", "cves": ["CVE-1"]}"#,
            r#"{"cves": []}"#,
            "{",
            "\u{fffd}",
        ] {
            let text = format!("{{\"id\": \"a\"}}\n\n{line}\n");
            let outcome = parse(text.as_bytes());
            assert!(
                matches!(outcome, Err(FolderError::Index { line: 3, .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn a_patch_that_is_missing_or_no_diff_is_named() {
        let index = r#"{"id": "gone", "cves": ["CVE-2026-1000"]}"#;
        let folder = folder(&[("index.jsonl", index), ("CVE-2026-1001.patch", "<html>")]);
        let patches = Patches::list(folder.path()).unwrap();
        let read = |number| patches.of(cve(number)).next().unwrap().read();
        assert!(matches!(read(1000), Err(FolderError::NoPatch { .. })));
        assert!(matches!(read(1001), Err(FolderError::NotADiff { .. })));
        assert!(Patches::list(&folder.path().join("nowhere")).is_err());
    }
}
