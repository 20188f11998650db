//! What one record says of each branch.

use std::collections::BTreeSet;

use tuxtape_core::span::{self, Horizons, Landing, Reading, Span};
use tuxtape_core::version::{Branch, KernelVersion};

/// One branch that the record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) branch: Branch,
    /// When releases of this branch hold the bug, oldest first; empty when none does.
    pub(super) windows: Vec<Window>,
    /// How far the feed knows this branch.
    pub(super) horizon: Option<KernelVersion>,
}

/// Releases in a row that hold the bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The first of them; `None` when the branch started with the bug.
    pub(super) since: Option<KernelVersion>,
    /// What ended it; `None` while it is open.
    pub(super) fix: Option<Landing>,
}

/// Lists the branches on which something of the record landed, oldest first.
pub(super) fn rows(spans: &[Span], horizons: &Horizons) -> Vec<Row> {
    let turns = landings(spans);
    let branches: BTreeSet<Branch> = turns.iter().map(|version| version.branch()).collect();
    branches
        .into_iter()
        .map(|branch| Row {
            branch,
            windows: windows(spans, branch, &turns),
            horizon: horizons.of(branch.first()),
        })
        .collect()
}

/// Lists the branches of the feed that hold the bug although nothing of the record landed on them:
/// they inherited it, and have no fix of their own.
pub(super) fn inherited(spans: &[Span], horizons: &Horizons) -> Vec<Branch> {
    let own: BTreeSet<Branch> = landings(spans).iter().map(|it| it.branch()).collect();
    horizons
        .iter()
        .filter(|(branch, _)| !own.contains(branch))
        .filter(|(_, horizon)| span::read(spans, *horizon).is_affected())
        .map(|(branch, _)| branch)
        .collect()
}

fn landings(spans: &[Span]) -> BTreeSet<KernelVersion> {
    spans
        .iter()
        .flat_map(|span| [span.introduced, span.fixed])
        .flatten()
        .map(|landing| landing.version)
        .collect()
}

fn windows(spans: &[Span], branch: Branch, turns: &BTreeSet<KernelVersion>) -> Vec<Window> {
    let mut windows = Vec::new();
    let at_start = span::read(spans, branch.earliest()).is_affected();
    let mut open = at_start.then_some(None);
    for turn in turns.iter().filter(|turn| turn.branch() == branch) {
        match (open, span::read(spans, *turn)) {
            (None, Reading::Affected(_)) => open = Some(Some(*turn)),
            (Some(since), Reading::Fixed(fix)) => {
                windows.push(Window {
                    since,
                    fix: Some(fix),
                });
                open = None;
            }
            (None, Reading::Fixed(_) | Reading::NeverIntroduced)
            | (Some(_), Reading::Affected(_) | Reading::NeverIntroduced) => {}
        }
    }
    windows.extend(open.map(|since| Window { since, fix: None }));
    windows
}

#[cfg(test)]
mod tests {
    use tuxtape_core::span::sample::spans;

    use super::*;

    fn horizons() -> Horizons {
        [
            "5.10.250", "5.15.190", "6.1.170", "6.6.133", "6.10.14", "6.12.77", "6.13.1",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .map(|version: KernelVersion| (version.branch(), version))
        .collect()
    }

    fn check(texts: &[&str], rows_text: &[&str], inherited_text: &[&str]) {
        let spans = spans(texts);
        let written: Vec<String> = rows(&spans, &horizons())
            .iter()
            .map(|row| {
                let windows: Vec<String> = row
                    .windows
                    .iter()
                    .map(|window| {
                        let since = window.since.map_or("start".to_owned(), |it| it.to_string());
                        let fix = window
                            .fix
                            .map_or("open".to_owned(), |it| it.version.to_string());
                        format!("{since} to {fix}")
                    })
                    .collect();
                format!("{}: {}", row.branch, windows.join(", "))
            })
            .collect();
        assert_eq!(written, rows_text);
        let branches: Vec<String> = inherited(&spans, &horizons())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(branches, inherited_text);
    }

    #[test]
    fn a_branch_has_its_own_fix_or_inherits_the_bug() {
        check(
            &["5.10..6.1.93", "5.10..6.10"],
            &[
                "5.10: 5.10 to open",
                "6.1: start to 6.1.93",
                "6.10: start to 6.10",
            ],
            &["5.15", "6.6"],
        );
    }

    #[test]
    fn a_bug_of_one_stable_branch_is_inherited_by_none() {
        check(
            &["6.6.51..6.6.133", "6.10.10.."],
            &["6.6: 6.6.51 to 6.6.133", "6.10: 6.10.10 to open"],
            &[],
        );
    }
}
