//! The list of sources that is kept: `fix-sources.toml` in the home folder.
//!
//! ```toml
//! format = 1
//! sources = ["dir:/srv/fixes", "git:/srv/linux.git", "package"]
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::spec::{GitPlace, NotASource, SourceSpec};

/// Name of the file.
pub const FILE: &str = "fix-sources.toml";
/// The one format read.
const FORMAT: i64 = 1;
/// Longest list that is read, in bytes.
const LONGEST: u64 = 64 << 10;
/// Most sources of a list.
const MOST: usize = 100;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no list.
    #[error("{path} is no list of fix sources", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Malformed,
    },
}

/// Why a text is no list.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is no TOML, or has other keys.
    #[error("{0}")]
    Toml(String),
    /// It is of another format.
    #[error("it has format {found}, this program reads format {FORMAT}")]
    Format {
        /// The number found.
        found: i64,
    },
    /// It names none, or too many.
    #[error("it names {count} sources (want 1 to {MOST})")]
    Count {
        /// How many.
        count: usize,
    },
    /// One of them is none.
    #[error(transparent)]
    Source(#[from] NotASource),
    /// A path that means something else in every folder.
    #[error("{path} is no absolute path", path = path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: i64,
    sources: Vec<String>,
}

/// Reads the list kept in `home`; newer source packages alone where there is none.
pub fn load(home: &Path) -> Result<Vec<SourceSpec>, ListError> {
    let path = home.join(FILE);
    let failed = |source| ListError::Read {
        path: path.clone(),
        source,
    };
    let found = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![SourceSpec::Package(None)]);
        }
        found => found.map_err(failed)?,
    };
    if found.len() > LONGEST {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let text = fs::read(&path).map_err(failed)?;
    parse(&text).map_err(|source| ListError::Malformed {
        path: path.clone(),
        source,
    })
}

/// Reads the text of a list.
pub fn parse(text: &[u8]) -> Result<Vec<SourceSpec>, Malformed> {
    let text = std::str::from_utf8(text).map_err(|error| Malformed::Toml(error.to_string()))?;
    let wire: Wire = toml::from_str(text)
        .map_err(|error| Malformed::Toml(error.to_string().trim_end().to_owned()))?;
    if wire.format != FORMAT {
        return Err(Malformed::Format { found: wire.format });
    }
    if wire.sources.is_empty() || wire.sources.len() > MOST {
        return Err(Malformed::Count {
            count: wire.sources.len(),
        });
    }
    wire.sources.iter().map(|text| source(text)).collect()
}

/// Entry for fuzzing: reads bytes as a list; what is read is written and read again.
pub fn fuzz(bytes: &[u8]) {
    for source in parse(bytes).unwrap_or_default() {
        let again: Result<SourceSpec, _> = source.to_string().parse();
        // A name and password are not written.
        if !source.to_string().contains("://") {
            assert_eq!(again.as_ref(), Ok(&source));
        }
    }
}

fn source(text: &str) -> Result<SourceSpec, Malformed> {
    let source: SourceSpec = text.parse()?;
    let path = match &source {
        SourceSpec::Git(GitPlace::Folder(path)) | SourceSpec::Folder(path) => Some(path),
        SourceSpec::Git(GitPlace::Url(_)) | SourceSpec::Package(_) | SourceSpec::Web(_) => None,
    };
    match path {
        Some(path) if path.is_relative() => Err(Malformed::Relative { path: path.clone() }),
        _ => Ok(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_newer_packages_are_the_source() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(load(home.path()).unwrap(), [SourceSpec::Package(None)]);
    }

    #[test]
    fn a_list_keeps_its_order() {
        let home = tempfile::tempdir().unwrap();
        let text = "format = 1\nsources = [\"git:/srv/linux.git\", \"package:6.1.176-1\"]\n";
        fs::write(home.path().join(FILE), text).unwrap();
        let found: Vec<String> = load(home.path())
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["git:/srv/linux.git", "package:6.1.176-1"]);
    }

    #[test]
    fn a_list_with_one_bad_line_is_refused_whole() {
        let check = |text: &str, words: &str| {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        };
        check("format = 2\nsources = [\"package\"]", "format 2");
        check("sources = [\"package\"]", "format");
        check("format = 1\nsources = []", "0 sources");
        check(
            "format = 1\nsources = [\"package\", \"x\"]",
            "no source of fixes",
        );
        check("format = 1\nsources = [\"dir:fixes\"]", "no absolute path");
        check("format = 1\nsources = [\"git:linux\"]", "no absolute path");
        check("format = 1\nsources = [\"package\"]\nmore = 1", "more");
        check("format = ", "");
        assert!(parse(b"\xff").is_err());
    }
}
