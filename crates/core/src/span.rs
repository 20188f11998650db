//! Where a bug came in and went out, and which versions that leaves affected.
//!
//! Two rules decide, both over what the feed knows: the branch rule (which landings are in a
//! version's history) and the event-line rule (the newest of them decides). Per-line readings of the
//! feed miss bugs that were fixed and came back.

pub mod sample;
pub mod stretches;

use std::collections::BTreeMap;
use std::fmt;

use crate::git_id::GitId;
use crate::version::{Branch, KernelVersion};

/// The first commit of the kernel's git history, which means "since before history".
const INITIAL_COMMIT: GitId = GitId::from_bytes([
    0x1d, 0xa1, 0x77, 0xe4, 0xc3, 0xf4, 0x15, 0x24, 0xe8, 0x86, 0xb7, 0xf1, 0xb8, 0xa0, 0xc1, 0xfc,
    0x73, 0x21, 0xca, 0xc2,
]);

/// Where a change first shipped on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Landing {
    /// First version that holds it.
    pub version: KernelVersion,
    /// The commit, whole.
    pub commit: GitId,
}

/// One vulnerable stretch of the kernel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Where the bug came in; `None` for "since before git history".
    pub introduced: Option<Landing>,
    /// Where it was fixed; `None` for "not fixed along this line".
    pub fixed: Option<Landing>,
}

/// Whether a version holds a bug, by the feed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The newest event in its history is this introduction.
    Affected(Span),
    /// The newest event in its history is this fix.
    Fixed(Landing),
    /// The bug never reached its history.
    NeverIntroduced,
}

impl Reading {
    /// Tells whether the version holds the bug.
    pub fn is_affected(self) -> bool {
        match self {
            Self::Affected(_) => true,
            Self::Fixed(_) | Self::NeverIntroduced => false,
        }
    }
}

impl Landing {
    /// The branch rule: tells whether this landing is in the history of `version`.
    pub fn reaches(&self, version: KernelVersion) -> bool {
        let own = self.version;
        self.is_before_history()
            || (own.branch() == version.branch() && own <= version)
            || (own.is_mainline() && own < version)
    }

    /// Tells whether it is the first commit of git history, which stands for "since before".
    pub fn is_before_history(&self) -> bool {
        self.commit == INITIAL_COMMIT
    }
}

impl Span {
    /// Tells whether the bug came in and went out within one release, so that none ever had it.
    fn was_never_released(&self) -> bool {
        matches!((self.introduced, self.fixed), (Some(bug), Some(fix)) if bug.version == fix.version)
    }

    /// Tells whether the fix is older than the bug, which no rule can repair.
    pub fn is_backwards(&self) -> bool {
        matches!((self.introduced, self.fixed), (Some(bug), Some(fix)) if fix.version < bug.version)
    }

    /// Returns the commit that brought the bug, with "since before git history" in its one form.
    pub fn introducing_commit(&self) -> GitId {
        self.introduced
            .map_or(INITIAL_COMMIT, |landing| landing.commit)
    }
}

/// The event-line rule: reads whether `version` holds the bug described by `spans`.
///
/// Every introduction in the version's history is an event, and so is every fix; the newest decides,
/// and at an equal version the fix wins.
pub fn read(spans: &[Span], version: KernelVersion) -> Reading {
    let mut newest: Option<(Option<KernelVersion>, bool, Reading)> = None;
    let mut consider = |when: Option<KernelVersion>, is_fix: bool, reading: Reading| {
        if newest.is_none_or(|(then, was_fix, _)| (when, is_fix) > (then, was_fix)) {
            newest = Some((when, is_fix, reading));
        }
    };
    for span in spans {
        match span.introduced {
            _ if span.was_never_released() => {}
            None => consider(None, false, Reading::Affected(*span)),
            Some(bug) if bug.reaches(version) => {
                consider(Some(bug.version), false, Reading::Affected(*span));
            }
            Some(_) => {}
        }
        // Also from a span that was never released: it still ends older windows.
        if let Some(fix) = span.fixed.filter(|fix| fix.reaches(version)) {
            consider(Some(fix.version), true, Reading::Fixed(fix));
        }
    }
    newest.map_or(Reading::NeverIntroduced, |(_, _, reading)| reading)
}

/// Tells whether `version` lies in a stretch about which a record's two readings differ.
///
/// `disputes` are the versions at which they were seen to differ. Both readings turn only at landings,
/// so a dispute lasts until the next one on its branch or, from mainline, in later history.
pub fn is_disputed(spans: &[Span], disputes: &[KernelVersion], version: KernelVersion) -> bool {
    if disputes.is_empty() {
        return false;
    }
    spans
        .iter()
        .flat_map(|span| [span.introduced, span.fixed])
        .flatten()
        .map(|landing| landing.version)
        .chain(disputes.iter().copied())
        .filter(|turn| {
            (turn.branch() == version.branch() && *turn <= version)
                || (turn.is_mainline() && *turn < version)
        })
        .max()
        .is_some_and(|turn| disputes.contains(&turn))
}

/// How far the feed's knowledge reaches on each branch: the largest version of any landing there.
///
/// In the order of branches. They are few, and asked for at every landing of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Horizons(Vec<(Branch, KernelVersion)>);

impl Horizons {
    /// Takes in the landings of one record.
    pub fn learn(&mut self, spans: &[Span]) {
        let mut last = None;
        for span in spans {
            // The lines of one record mostly name the same introduction.
            if span.introduced != last {
                last = span.introduced;
                self.reach(span.introduced);
            }
            self.reach(span.fixed);
        }
    }

    fn reach(&mut self, landing: Option<Landing>) {
        if let Some(Landing { version, .. }) = landing {
            let branch = version.branch();
            match self.place(branch) {
                Ok(place) => {
                    if let Some((_, known)) = self.0.get_mut(place) {
                        *known = version.max(*known);
                    }
                }
                Err(place) => self.0.insert(place, (branch, version)),
            }
        }
    }

    /// Returns the horizon that holds for `version`: its branch's, else the newest mainline landing
    /// below it. `None` when the feed knows nothing below it at all.
    pub fn of(&self, version: KernelVersion) -> Option<KernelVersion> {
        match self.place(version.branch()) {
            Ok(place) => self.0.get(place).map(|(_, newest)| *newest),
            Err(place) => {
                let (below, newest) = self.0.get(place.checked_sub(1)?)?;
                // A stable branch is known past its mainline release; only that is in later history.
                Some(below.first().min(*newest))
            }
        }
    }

    /// Returns where `branch` is, or where it would be.
    fn place(&self, branch: Branch) -> Result<usize, usize> {
        self.0.binary_search_by_key(&branch, |(known, _)| *known)
    }

    /// Tells whether `version` lies beyond what the feed can know.
    pub fn is_beyond(&self, version: KernelVersion) -> bool {
        self.of(version).is_none_or(|horizon| version > horizon)
    }

    /// Lists the horizon of each branch, oldest branch first.
    pub fn iter(&self) -> impl Iterator<Item = (Branch, KernelVersion)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(Branch, KernelVersion)> for Horizons {
    fn from_iter<T: IntoIterator<Item = (Branch, KernelVersion)>>(known: T) -> Self {
        let known: BTreeMap<Branch, KernelVersion> = known.into_iter().collect();
        Self(known.into_iter().collect())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.introduced {
            Some(bug) => write!(f, "{}", bug.version)?,
            None => f.write_str("always")?,
        }
        f.write_str(" → ")?;
        match self.fixed {
            Some(fix) => write!(f, "{}", fix.version),
            None => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sample::spans;
    use super::*;

    fn check(version: &str, texts: &[&str], affected: bool) {
        let reading = read(&spans(texts), version.parse().unwrap());
        assert_eq!(
            reading.is_affected(),
            affected,
            "{version} {texts:?}: {reading:?}"
        );
    }

    #[test]
    fn a_stable_landing_touches_only_its_own_branch() {
        // CVE-2024-14027
        let texts = [
            "6.6.51..6.6.133",
            "6.11..6.12.77",
            "6.11..6.13",
            "6.10.10..",
        ];
        for version in [
            "6.6.50", "6.8.1", "6.10.9", "6.6.133", "6.12.77", "6.13", "6.13.1",
        ] {
            check(version, &texts, false);
        }
        for version in ["6.6.51", "6.10.10", "6.10.14", "6.11", "6.11.5", "6.12.76"] {
            check(version, &texts, true);
        }
    }

    #[test]
    fn a_bug_that_came_back_counts_again() {
        // CVE-2025-38585
        let texts = [
            "4.12..4.18",
            "5.8..6.12.42",
            "5.8..6.15.10",
            "5.8..6.16.1",
            "5.8..6.17",
        ];
        for version in ["4.18", "5.0", "6.12.42"] {
            check(version, &texts, false);
        }
        for version in ["4.17.3", "5.8", "6.13.2"] {
            check(version, &texts, true);
        }
    }

    #[test]
    fn a_bug_fixed_in_its_own_release_was_never_there() {
        check("6.5", &["6.5..6.5"], false);
        check("6.5", &["..6.4", "6.5..6.5"], false);
        // It still ends an older window.
        check("6.5", &["6.2..", "6.5..6.5"], false);
        check("6.4", &["6.2..", "6.5..6.5"], true);
    }

    #[test]
    fn a_fix_wins_over_an_unfixed_line_of_the_same_branch() {
        check("6.1.20", &["6.1..", "6.1..6.1.20"], false);
        check("6.1.19", &["6.1..", "6.1..6.1.20"], true);
    }

    #[test]
    fn before_history_is_in_every_history() {
        check("2.6.12", &["..6.1"], true);
        check("6.0.9", &["..6.1"], true);
        check("6.1", &["..6.1"], false);
        let span = Span {
            introduced: Some(Landing {
                version: "2.6.12".parse().unwrap(),
                commit: INITIAL_COMMIT,
            }),
            fixed: None,
        };
        assert!(read(&[span], "2.6.11".parse().unwrap()).is_affected());
        assert_eq!(INITIAL_COMMIT.short(), "1da177e4c3f4");
    }

    #[test]
    fn an_end_of_life_branch_stays_affected() {
        check("4.4.302", &["3.10..5.10.1", "3.10..5.11"], true);
    }

    #[test]
    fn candidates_are_mainline() {
        check("6.17", &["6.17-rc3.."], true);
        check("6.17-rc2", &["6.17-rc3.."], false);
        check("6.18.1", &["6.17-rc3.."], true);
        check("6.16.9", &["6.17-rc3.."], false);
    }

    #[test]
    fn a_dispute_lasts_until_the_next_landing() {
        let spans = spans(&["5.10..6.1.30", "5.10..6.3"]);
        let disputes = |texts: &[&str]| -> Vec<KernelVersion> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let check = |texts: &[&str], version: &str, disputed: bool| {
            let found = is_disputed(&spans, &disputes(texts), version.parse().unwrap());
            assert_eq!(found, disputed, "{texts:?} {version}");
        };
        for (version, disputed) in [
            ("6.1.19", false),
            ("6.1.20", true),
            ("6.1.29", true),
            ("6.1.30", false),
            ("6.2.1", false),
            ("6.3", false),
        ] {
            check(&["6.1.20"], version, disputed);
        }
        for (version, disputed) in [
            ("5.10", true),
            ("5.15.9", true),
            ("6.1.29", true),
            ("6.1.30", false),
            ("6.3", false),
        ] {
            check(&["5.10"], version, disputed);
        }
        check(&[], "6.1.20", false);
    }

    #[test]
    fn the_horizon_is_the_newest_landing_of_the_branch() {
        let mut horizons = Horizons::default();
        horizons.learn(&spans(&["5.10..6.1.168", "6.6.3..6.9", "6.12.4.."]));
        for (version, horizon, beyond) in [
            ("6.1.20", Some("6.1.168"), false),
            ("6.1.168", Some("6.1.168"), false),
            ("6.1.170", Some("6.1.168"), true),
            ("6.9", Some("6.9"), false),
            ("6.9.1", Some("6.9"), true),
            // No landing on 6.10: the newest mainline landing below it.
            ("6.10.3", Some("6.9"), true),
            ("5.9", None, true),
        ] {
            let version: KernelVersion = version.parse().unwrap();
            let known = horizons.of(version).map(|horizon| horizon.to_string());
            assert_eq!(known.as_deref(), horizon, "{version}");
            assert_eq!(horizons.is_beyond(version), beyond, "{version}");
        }
    }
}
