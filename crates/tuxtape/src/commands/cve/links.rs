//! Pages about records and commits.

use tuxtape_core::cve::CveId;
use tuxtape_core::git_id::GitId;

/// The repository that holds the commits of all stable branches and of mainline.
pub const STABLE_TREE: &str = "https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git";

/// Returns the page of a record.
pub fn record(id: CveId) -> String {
    format!("https://www.cve.org/CVERecord?id={id}")
}

/// Returns the page of a commit of the stable tree.
pub fn commit(commit: GitId) -> String {
    format!("https://git.kernel.org/stable/c/{commit}")
}
