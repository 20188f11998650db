//! How a source of fixes is named: `git:PLACE`, `package[:VERSION]`, `dir:PATH`, `url:TEMPLATE`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tuxtape_core::git_id::GitId;
use tuxtape_sys::url;

/// Where the commit id goes in a URL template.
const SHA: &str = "{sha}";
/// Longest spec that is read, in bytes.
const LONGEST: usize = 4096;

/// One source of fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// A git repository: a folder on this machine, or a URL.
    Git(GitPlace),
    /// A newer source package of the distribution: this version, or the oldest that has the fix.
    Package(Option<String>),
    /// A folder of `ID.patch` files.
    Folder(PathBuf),
    /// A URL in which the commit id is put.
    Web(UrlTemplate),
}

/// Where a git repository is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GitPlace {
    /// In a folder on this machine, which is read where it is.
    Folder(PathBuf),
    /// Behind a URL; the commits wanted are fetched into the cache.
    Url(String),
}

/// A URL with `{sha}` in it, once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UrlTemplate {
    before: String,
    after: String,
}

/// Why a text names no source of fixes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASource {
    /// No such kind.
    #[error(
        "{text:?} is no source of fixes (want git:URL_OR_PATH, package[:VERSION], dir:PATH or url:TEMPLATE with {{sha}} in it)"
    )]
    Kind {
        /// The text, shortened.
        text: String,
    },
    /// A place that `git` could take for an option or a program, or nothing at all.
    #[error("{text:?} is no URL or path of a git repository")]
    Git {
        /// The text, shortened.
        text: String,
    },
    /// The version of a package with characters no version has.
    #[error("{text:?} is no version of a source package")]
    Version {
        /// The text, shortened.
        text: String,
    },
    /// An empty path, or one with control characters.
    #[error("{text:?} is no path of a folder")]
    Folder {
        /// The text, shortened.
        text: String,
    },
    /// Not one `{sha}`, or neither `http` nor `https`.
    #[error("{text:?} is no http or https URL with one {{sha}} in it")]
    Template {
        /// The text, shortened, without a password.
        text: String,
    },
}

impl UrlTemplate {
    /// Returns the URL of one commit.
    pub fn of(&self, commit: GitId) -> String {
        format!("{}{commit}{}", self.before, self.after)
    }
}

impl FromStr for UrlTemplate {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        let wrong = || NotASource::Template {
            text: shortened(&url::shown(text)),
        };
        let (before, after) = text.split_once(SHA).ok_or_else(wrong)?;
        let rest = before
            .strip_prefix("https://")
            .or_else(|| before.strip_prefix("http://"))
            .ok_or_else(wrong)?;
        // The id belongs into the path or the query, not into the host.
        let whole = rest.contains('/') && !after.contains(SHA);
        if whole && text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(Self {
                before: before.to_owned(),
                after: after.to_owned(),
            })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SHA}{}", self.before, self.after)
    }
}

impl FromStr for GitPlace {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        // A dash would make it an option; `::` names a remote helper, which is a program.
        let bad = text.is_empty()
            || text.starts_with('-')
            || text.contains("::")
            || text.contains(char::is_control);
        if bad {
            return Err(NotASource::Git {
                text: shortened(&url::shown(text)),
            });
        }
        if text.contains("://") {
            Ok(Self::Url(text.to_owned()))
        } else {
            Ok(Self::Folder(PathBuf::from(text)))
        }
    }
}

impl fmt::Display for GitPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Url(place) => f.write_str(&url::shown(place)),
        }
    }
}

impl FromStr for SourceSpec {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        let unknown = || NotASource::Kind {
            text: shortened(&url::shown(text)),
        };
        if text.len() > LONGEST {
            return Err(unknown());
        }
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("git", Some(place)) => place.parse().map(Self::Git),
            ("package", None) => Ok(Self::Package(None)),
            ("package", Some(version)) => {
                // Epoch, revision and backports all keep to these.
                let plain = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
                let digit = version.starts_with(|c: char| c.is_ascii_digit());
                if digit && version.chars().all(plain) {
                    Ok(Self::Package(Some(version.to_owned())))
                } else {
                    Err(NotASource::Version {
                        text: shortened(version),
                    })
                }
            }
            ("dir", Some(path)) if !path.is_empty() && !path.contains(char::is_control) => {
                Ok(Self::Folder(PathBuf::from(path)))
            }
            ("dir", Some(path)) => Err(NotASource::Folder {
                text: shortened(path),
            }),
            ("url", Some(template)) => template.parse().map(Self::Web),
            _ => Err(unknown()),
        }
    }
}

/// As it is written in a list; passwords are left out.
impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(place) => write!(f, "git:{place}"),
            Self::Package(None) => f.write_str("package"),
            Self::Package(Some(version)) => write!(f, "package:{version}"),
            Self::Folder(path) => write!(f, "dir:{}", path.display()),
            Self::Web(template) => write!(f, "url:{}", url::shown(&template.to_string())),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_written_as_it_is_read() {
        for text in [
            "git:https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git",
            "git:/srv/linux.git",
            "package",
            "package:6.1.176-1~deb11u1",
            "dir:../fixes",
            "url:https://git.kernel.org/stable/patch/?id={sha}",
        ] {
            assert_eq!(text.parse::<SourceSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn options_programs_and_other_kinds_are_no_sources() {
        for text in [
            "",
            "git",
            "git:",
            "git:--upload-pack=/bin/sh",
            "git:ext::sh -c id",
            "git:a\nb",
            "package:",
            "package:$(id)",
            "package:-x",
            "dir:",
            "url:https://example.org/",
            "url:file:///{sha}",
            "url:https://{sha}.example.org/x",
            "url:https://example.org/{sha}/{sha}",
            "url:https://example.org/{sha} x",
            "tar:x",
        ] {
            assert!(text.parse::<SourceSpec>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "git:https://ann:secret@example.org/linux.git",
            "url:https://ann:secret@example.org/{sha}.patch",
        ] {
            let source: SourceSpec = text.parse().unwrap();
            assert!(!source.to_string().contains("secret"), "{source}");
        }
        let error = "git:https://ann:secret@example.org/a::b"
            .parse::<SourceSpec>()
            .unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let error = "url:https://ann:secret@example.org/"
            .parse::<SourceSpec>()
            .unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn the_commit_goes_into_the_template() {
        let commit: GitId = "a49d25364dfb9f8a64037488a39ab1f56c5fa419".parse().unwrap();
        let template: UrlTemplate = "https://example.org/c/{sha}.patch".parse().unwrap();
        assert_eq!(
            template.of(commit),
            format!("https://example.org/c/{commit}.patch")
        );
    }
}
