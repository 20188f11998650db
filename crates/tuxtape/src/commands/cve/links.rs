//! Pages about records and commits.

use tuxtape_core::cve::{Cve, CveId};
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

/// Lists the fixes of a record, oldest branch first, each once.
pub fn fixes(cve: &Cve) -> Vec<GitId> {
    let mut landings: Vec<_> = cve.spans.iter().filter_map(|span| span.fixed).collect();
    landings.sort_unstable();
    let mut commits: Vec<GitId> = landings.iter().map(|landing| landing.commit).collect();
    commits.dedup();
    commits
}

/// Lists the pages about a record: its own, its fixes, and what its authority names.
pub fn all(cve: &Cve) -> Vec<String> {
    let fixes = fixes(cve).into_iter().map(commit);
    [record(cve.id)]
        .into_iter()
        .chain(fixes)
        .chain(cve.references.iter().cloned())
        .collect()
}
