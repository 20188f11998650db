//! How the origin of a fix is shown.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tuxtape_kernel::fix_source::Origin;

/// The origin of a fix for programs.
#[derive(Serialize)]
pub(crate) struct ShownOrigin<'a> {
    #[serde(flatten)]
    kind: ShownKind<'a>,
    /// SHA-256 of the diff, in hex.
    sha256: String,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum ShownKind<'a> {
    Package {
        package: &'a str,
        version: &'a str,
    },
    Hand {
        person: &'a str,
        file: &'a str,
    },
    Git {
        url: &'a str,
        commits: Vec<String>,
    },
    Url {
        urls: &'a [String],
        commits: Vec<String>,
    },
    Dir {
        file: String,
        cves: Vec<String>,
    },
}

impl<'a> ShownOrigin<'a> {
    /// Shows where `diff` came from.
    pub(crate) fn of(origin: &'a Origin, diff: &str) -> Self {
        let kind = match origin {
            Origin::Package { package, version } => ShownKind::Package { package, version },
            Origin::Hand { person, file } => ShownKind::Hand { person, file },
            Origin::Git { place, commits } => ShownKind::Git {
                url: place,
                commits: texts(commits),
            },
            Origin::Web { urls, commits } => ShownKind::Url {
                urls,
                commits: texts(commits),
            },
            Origin::Folder { file, cves } => ShownKind::Dir {
                file: file.display().to_string(),
                cves: texts(cves),
            },
        };
        Self {
            kind,
            sha256: hex::encode(Sha256::digest(diff.as_bytes())),
        }
    }
}

fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Says where a fix came from, as a fragment.
pub(crate) fn told(origin: &Origin) -> String {
    match origin {
        Origin::Package { package, version } => {
            format!("cut from {package} {version}; other changes of these files come along")
        }
        Origin::Hand { person, file } => format!("given by {person}, from {file}"),
        Origin::Git { place, commits } => {
            format!("commit {} of {place}", texts(commits).join(", "))
        }
        Origin::Web { urls, .. } => format!("from {}", urls.join(", ")),
        Origin::Folder { file, .. } => format!("from {}", file.display()),
    }
}
