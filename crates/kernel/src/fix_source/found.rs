//! What the sources of fixes answer: diffs in order of preference, and why others are not among them.

use std::fmt;

use tuxtape_core::git_id::GitId;
use tuxtape_core::version::Branch;

use super::Origin;

/// A diff that should close a CVE, whether or not it applies to any tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDiff {
    /// Where it came from.
    pub origin: Origin,
    /// How near to the kernel it was made.
    pub kind: DiffKind,
    /// The diff, `-p1`. Several commits follow each other in the order they are to be applied. Renamed
    /// files are written as one deleted and one new file, so that both paths are in it.
    pub text: String,
    /// The same with all of each file as context, by which a tree is judged best; `None` where the source
    /// does not give it.
    pub whole: Option<String>,
    /// Whether it is one of several patches of which it is not known how they go together: it alone
    /// never shows that a kernel holds the fix.
    pub is_part: bool,
    /// What says that it is the fix of the CVE it was asked for.
    pub tie: Tie,
    /// What a person must know of it, one sentence each: doubts, follow-ups, renames.
    pub notes: Vec<String>,
}

/// What says that a diff is the fix of a CVE. One that is of another CVE and changes the same file could
/// make an open kernel look fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tie {
    /// The record names its commits, and they were asked for by id.
    Commit,
    /// The index of its folder names it for the CVE.
    Index,
    /// Its own text names the CVE, a commit of the record, or has the record's title.
    Message,
    /// Nothing that can be believed.
    Untied {
        /// Why not, for people.
        why: String,
    },
}

/// How near to a kernel a diff was made; the order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiffKind {
    /// By a person of this house: an imported fix, or one of a patch folder.
    Hand,
    /// For the kernel's own stable branch.
    OwnBranch,
    /// For a newer stable branch.
    NewerBranch(Branch),
    /// For mainline.
    Mainline,
    /// Cut from the difference to a newer source package: other changes came along.
    Package,
}

impl DiffKind {
    /// Returns its fixed name for programs; a branch is named beside it.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::OwnBranch => "own-branch",
            Self::NewerBranch(_) => "newer-branch",
            Self::Mainline => "mainline",
            Self::Package => "package",
        }
    }

    /// Returns the branch other than the kernel's own that it was made for.
    pub fn branch(self) -> Option<Branch> {
        match self {
            Self::NewerBranch(branch) => Some(branch),
            Self::Hand | Self::OwnBranch | Self::Mainline | Self::Package => None,
        }
    }
}

impl fmt::Display for DiffKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hand => f.write_str("given by hand"),
            Self::OwnBranch => f.write_str("for the kernel's own branch"),
            Self::NewerBranch(branch) => write!(f, "for branch {branch}"),
            Self::Mainline => f.write_str("for mainline"),
            Self::Package => f.write_str("cut from a newer source package"),
        }
    }
}

/// A diff or a source that gave nothing, or nothing that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// What was tried: a source, a commit, a file.
    pub what: String,
    /// Why it was passed over, as a fragment.
    pub why: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Everything the sources hold for one CVE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The diffs, the best first: by source as listed, then by [`DiffKind`].
    pub diffs: Vec<FoundDiff>,
    /// What gave none, in the order tried.
    pub passed_over: Vec<PassedOver>,
}

/// A fragment for a line of text.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[GitId]| {
            let ids: Vec<String> = ids.iter().map(GitId::short).collect();
            ids.join(", ")
        };
        match self {
            Self::Package { package, version } => write!(f, "cut from {package} {version}"),
            Self::Hand { person, file } => write!(f, "given by {person}, from {file}"),
            Self::Git { place, commits } => write!(f, "commit {} of {place}", list(commits)),
            Self::Web { urls, .. } => f.write_str(&urls.join(", ")),
            Self::Folder { file, .. } => write!(f, "{}", file.display()),
        }
    }
}
