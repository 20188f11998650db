//! The version rows of a JSON record, and a second reading of "affected?" from them.
//!
//! The dyad file is what verdicts come from; this reading exists to catch records that contradict
//! themselves.

use crate::git_id::GitId;
use crate::version::{Branch, KernelVersion};

/// What a row, or a product by default, says of the versions it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStatus {
    /// They hold the bug.
    Affected,
    /// They do not.
    Unaffected,
}

/// One of the two product objects of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// What holds where no row matches.
    pub default: RowStatus,
    /// Rows, in the record's order: the first that matches wins.
    pub rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A range of commits, vulnerable from `from` up to and without `until`.
    Commits {
        /// The commit that brought the bug.
        from: GitId,
        /// The fix; `None` where there is none.
        until: Option<GitId>,
    },
    /// A range of versions.
    Versions {
        /// What it says of them.
        status: RowStatus,
        /// First version; `None` for the beginning of time.
        from: Option<KernelVersion>,
        /// Where it ends.
        until: Until,
    },
    /// A row in a form unknown to us: its record decides nothing.
    Foreign {
        /// What is unknown about it.
        why: String,
    },
}

/// Where a range of versions ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The range is its first version alone.
    Itself,
    /// Up to and without this version.
    Before(KernelVersion),
    /// Up to and with this version.
    With(KernelVersion),
    /// To the end of this branch.
    Branch(Branch),
    /// For ever.
    Ever,
}

/// Reads whether `version` is affected: it is when any product says so.
pub fn is_affected(products: &[Product], version: KernelVersion) -> bool {
    products
        .iter()
        .any(|product| product.read(version) == RowStatus::Affected)
}

impl Until {
    fn named(self) -> Option<KernelVersion> {
        match self {
            Self::Before(version) | Self::With(version) => Some(version),
            Self::Itself | Self::Branch(_) | Self::Ever => None,
        }
    }
}

impl Product {
    fn read(&self, version: KernelVersion) -> RowStatus {
        let by_commits = self
            .rows
            .iter()
            .any(|row| matches!(row, Row::Commits { .. }));
        self.rows
            .iter()
            .find_map(|row| row.read(version, by_commits))
            .unwrap_or(self.default)
    }
}

impl Row {
    /// Returns the versions this row names.
    pub(super) fn turns(&self) -> impl Iterator<Item = KernelVersion> + use<> {
        let (from, end) = match self {
            Self::Versions { from, until, .. } => (*from, until.named()),
            Self::Commits { .. } | Self::Foreign { .. } => (None, None),
        };
        from.into_iter().chain(end)
    }

    /// Returns what this row says of `version`, if it covers it.
    ///
    /// `by_commits`: the row stands among commit ranges. There a range from the beginning of time
    /// means the branch of its end alone; read as it stands it would call every older branch affected.
    fn read(&self, version: KernelVersion, by_commits: bool) -> Option<RowStatus> {
        let Self::Versions {
            status,
            from,
            until,
        } = self
        else {
            return None;
        };
        let starts = match (from, until) {
            // A bug backported into 5.18.4 and never fixed there is written as "5.18.4, less than
            // 5.19", which by numbers alone holds the candidates of 5.19, too.
            (Some(from), Until::Before(_)) if by_commits && !from.is_mainline() => {
                from.branch() == version.branch() && *from <= version
            }
            (Some(from), _) => *from <= version,
            (None, Until::Before(end)) if by_commits => end.branch() == version.branch(),
            (None, _) => true,
        };
        let lasts = match until {
            Until::Itself => *from == Some(version),
            Until::Before(end) => version < *end,
            Until::With(end) => version <= *end,
            Until::Branch(branch) => version.branch() <= *branch,
            Until::Ever => true,
        };
        (starts && lasts).then_some(*status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: RowStatus, from: &str, until: Until) -> Row {
        let from = (from != "0").then(|| from.parse().unwrap());
        Row::Versions {
            status,
            from,
            until,
        }
    }

    fn commits() -> Row {
        Row::Commits {
            from: GitId::from_bytes([1; 20]),
            until: None,
        }
    }

    #[test]
    fn a_window_of_a_stable_branch_leaves_the_next_candidates_out() {
        // CVE-2022-48647
        let end = Until::Before("5.19".parse().unwrap());
        let git = Product {
            default: RowStatus::Unaffected,
            rows: vec![commits(), row(RowStatus::Affected, "5.18.4", end)],
        };
        for (version, affected) in [
            ("5.18.3", false),
            ("5.18.4", true),
            ("5.18.19", true),
            ("5.19-rc8", false),
            ("5.19", false),
        ] {
            let products = [git.clone()];
            assert_eq!(
                is_affected(&products, version.parse().unwrap()),
                affected,
                "{version}"
            );
        }
    }

    #[test]
    fn a_window_without_a_start_stays_on_its_branch() {
        // CVE-2024-38635: `0 < 6.6.33` must not touch 6.1.200.
        let git = Product {
            default: RowStatus::Unaffected,
            rows: vec![
                commits(),
                row(
                    RowStatus::Affected,
                    "0",
                    Until::Before("6.6.33".parse().unwrap()),
                ),
            ],
        };
        assert!(is_affected(
            std::slice::from_ref(&git),
            "6.6.32".parse().unwrap()
        ));
        assert!(!is_affected(
            std::slice::from_ref(&git),
            "6.1.200".parse().unwrap()
        ));
    }

    #[test]
    fn the_first_matching_row_wins_and_any_product_decides() {
        let kernel = Product {
            default: RowStatus::Affected,
            rows: vec![
                row(RowStatus::Affected, "5.8", Until::Itself),
                row(
                    RowStatus::Unaffected,
                    "0",
                    Until::Before("5.8".parse().unwrap()),
                ),
                row(
                    RowStatus::Unaffected,
                    "6.1.20",
                    Until::Branch("6.1".parse().unwrap()),
                ),
                row(RowStatus::Unaffected, "6.3", Until::Ever),
            ],
        };
        let git = Product {
            default: RowStatus::Unaffected,
            rows: vec![
                commits(),
                row(
                    RowStatus::Affected,
                    "5.4.100",
                    Until::Before("5.4.200".parse().unwrap()),
                ),
            ],
        };
        for (version, affected) in [
            ("5.8", true),
            ("5.7", false),
            ("6.1.19", true),
            ("6.1.20", false),
            ("6.2.9", true),
            ("6.3", false),
            ("7.0", false),
            ("5.4.99", false),
            ("5.4.100", true),
            ("5.4.200", false),
        ] {
            let products = [git.clone(), kernel.clone()];
            assert_eq!(
                is_affected(&products, version.parse().unwrap()),
                affected,
                "{version}"
            );
        }
    }
}
