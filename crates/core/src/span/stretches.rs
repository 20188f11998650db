//! The vulnerable versions of one record as stretches of the order of versions.
//!
//! [`read`] walks a history that forks; formats of others know one line only, the order of versions.
//! A branch is an unbroken piece of that line, so whatever `read` answers can be said there too, with
//! the ends of branches as further turning points.

use super::{Span, read};
use crate::version::KernelVersion;

/// Versions that hold the bug, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first of them; `None` when there is no first.
    pub from: Option<KernelVersion>,
    /// The first version after it that does not hold the bug; `None` when there is none. Either has
    /// the fix, or lies on a branch that never had the bug.
    pub until: Option<KernelVersion>,
}

/// Lists the stretches of the order of versions in which [`read`] says affected, oldest first.
pub fn stretches(spans: &[Span]) -> Vec<Stretch> {
    let landings = spans
        .iter()
        .flat_map(|span| [span.introduced, span.fixed])
        .flatten();
    // What a branch does by itself ends where the next one starts.
    let mut turns: Vec<KernelVersion> = landings
        .map(|landing| landing.version)
        .flat_map(|version| {
            let branch = version.branch();
            [version, branch.earliest(), branch.next().earliest()]
        })
        .collect();
    turns.sort_unstable();
    turns.dedup();
    let mut open = read(spans, KernelVersion::OLDEST)
        .is_affected()
        .then_some(None);
    let mut found = Vec::new();
    for turn in turns {
        match (open, read(spans, turn).is_affected()) {
            (None, true) => open = Some(Some(turn)),
            (Some(from), false) => {
                found.push(Stretch {
                    from,
                    until: Some(turn),
                });
                open = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    found.extend(open.map(|from| Stretch { from, until: None }));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::git_id::GitId;
    use crate::span::Landing;
    use crate::span::sample::spans;

    fn check(texts: &[&str], expected: &[&str]) {
        let end = |end: Option<KernelVersion>| end.map_or_else(String::new, |it| it.to_string());
        let found: Vec<String> = stretches(&spans(texts))
            .iter()
            .map(|stretch| format!("{}..{}", end(stretch.from), end(stretch.until)))
            .collect();
        assert_eq!(found, expected, "{texts:?}");
    }

    #[test]
    fn a_branch_without_its_own_fix_stays_in() {
        check(
            &["5.10..6.1.93", "5.10..6.6.30", "5.10..6.10"],
            &["5.10..6.1.93", "6.2-rc1..6.6.30", "6.7-rc1..6.10"],
        );
        check(
            &["5.10..6.1.93", "5.10..6.10"],
            &["5.10..6.1.93", "6.2-rc1..6.10"],
        );
    }

    #[test]
    fn a_bug_of_one_stable_branch_ends_with_it() {
        check(
            &[
                "6.6.51..6.6.133",
                "6.11..6.12.77",
                "6.11..6.13",
                "6.10.10..",
            ],
            &[
                "6.6.51..6.6.133",
                "6.10.10..6.11-rc1",
                "6.11..6.12.77",
                "6.13-rc1..6.13",
            ],
        );
        check(&["6.10.10.."], &["6.10.10..6.11-rc1"]);
    }

    #[test]
    fn a_bug_that_comes_back_has_two_stretches() {
        check(
            &[
                "4.12..4.18",
                "5.8..6.12.42",
                "5.8..6.15.10",
                "5.8..6.16.1",
                "5.8..6.17",
            ],
            &[
                "4.12..4.18",
                "5.8..6.12.42",
                "6.13-rc1..6.15.10",
                "6.16-rc1..6.16.1",
                "6.17-rc1..6.17",
            ],
        );
    }

    #[test]
    fn the_ends_can_be_open() {
        check(&[".."], &[".."]);
        check(&["..6.3"], &["..6.3"]);
        check(&["6.3.."], &["6.3.."]);
        check(&["6.3..6.3"], &[]);
        check(&[], &[]);
    }

    fn version() -> impl Strategy<Value = KernelVersion> {
        (
            prop_oneof![
                Just("2.6.38"),
                Just("2.6.39"),
                Just("3.0"),
                Just("6.18"),
                Just("6.19"),
                Just("7.0"),
                Just("7.1")
            ],
            prop_oneof![
                Just(String::new()),
                (1u16..4).prop_map(|n| format!(".{n}")),
                (1u16..4).prop_map(|n| format!("-rc{n}"))
            ],
        )
            .prop_map(|(branch, point)| format!("{branch}{point}").parse().unwrap())
    }

    proptest! {
        #[test]
        fn a_version_is_in_a_stretch_when_it_reads_as_affected(
            pairs in proptest::collection::vec((proptest::option::of(version()), proptest::option::of(version())), 0..6),
            asked in version(),
        ) {
            let landing = |version: Option<KernelVersion>| version.map(|version| Landing {
                version,
                commit: GitId::from_bytes([7; 20]),
            });
            let spans: Vec<Span> = pairs
                .into_iter()
                .map(|(bug, fix)| Span { introduced: landing(bug), fixed: landing(fix) })
                .collect();
            let stretches = stretches(&spans);
            let inside = stretches.iter().any(|stretch| {
                stretch.from.is_none_or(|from| from <= asked) && stretch.until.is_none_or(|until| asked < until)
            });
            prop_assert_eq!(inside, read(&spans, asked).is_affected());
        }
    }
}
