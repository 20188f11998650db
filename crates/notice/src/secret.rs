//! Passwords and keys, which are never shown.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Longest secret, in bytes.
const LONGEST: u64 = 4096;

/// A password or key; cleared from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the secret; `None` when it is empty, longer than 4,096 bytes, or of several lines.
    pub fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        let plain =
            !text.is_empty() && text.len() as u64 <= LONGEST && !text.contains(['\n', '\r']);
        plain.then_some(Self(text))
    }

    /// Returns the secret itself, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// In a file of its own, whose last line end does not count.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
    /// Beside the other settings.
    Here(Secret),
}

/// Why a secret could not be had; never holds it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody on this machine can read it.
    #[error("{path} can be read by everybody", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The variable is not set, or not UTF-8.
    #[error("the environment has no {0}")]
    Unset(String),
    /// Empty, too long, or several lines.
    #[error("{place} holds no secret (want one line of at most {LONGEST} bytes)")]
    Form {
        /// File or variable.
        place: String,
    },
}

impl SecretSource {
    /// Fetches the secret. `environment` looks up a variable.
    pub fn load(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        match self {
            Self::Here(secret) => Ok(secret.clone()),
            Self::Environment(name) => {
                let text = environment(name).ok_or_else(|| SecretError::Unset(name.clone()))?;
                Secret::new(text).ok_or_else(|| SecretError::Form {
                    place: name.clone(),
                })
            }
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    // Asked before it is opened: opening a fifo would wait for its writer. Links are followed, because
    // service managers hand out secrets that way.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let file = File::open(path).map_err(failed)?;
    if is_world_readable(&file).map_err(failed)? {
        return Err(SecretError::Open {
            path: path.to_owned(),
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST + 2)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Secret::new(line.to_owned()).ok_or_else(|| SecretError::Form {
        place: path.display().to_string(),
    })
}

pub(crate) fn is_world_readable(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(folder: &Path, text: &str, mode: u32) -> SecretSource {
        let path = folder.join(format!("{mode:o}"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        SecretSource::File(path)
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2".to_owned()).unwrap();
        let source = SecretSource::Here(secret);
        assert!(!format!("{source:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_holds_one_line_and_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let load = |source: SecretSource| source.load(&|_| None);
        let secret = load(file(folder.path(), "hunter2\n", 0o640)).unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        let error = load(file(folder.path(), "hunter2\n", 0o644)).unwrap_err();
        assert!(matches!(error, SecretError::Open { .. }), "{error}");
        for text in ["", "\n", "a\nb\n", &"x".repeat(5000)] {
            let error = load(file(folder.path(), text, 0o600)).unwrap_err();
            assert!(matches!(error, SecretError::Form { .. }), "{error}");
        }
        let error = load(SecretSource::File(folder.path().to_owned())).unwrap_err();
        assert!(matches!(error, SecretError::Read { .. }), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let source = SecretSource::Environment("MAIL_PASSWORD".to_owned());
        let error = source.load(&|_| None).unwrap_err();
        assert_eq!(error.to_string(), "the environment has no MAIL_PASSWORD");
        let found = source.load(&|name| (name == "MAIL_PASSWORD").then(|| "x".to_owned()));
        assert_eq!(found.unwrap().reveal(), "x");
    }
}
