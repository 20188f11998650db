//! Triage: what a person decided about a CVE, why, and until when.
//!
//! Decisions are never changed or removed: a later one takes the place of an earlier one, and both
//! stay in the history.

use std::fmt;
use std::str::FromStr;

use crate::cve::CveId;
use crate::identity::KernelRelease;
use crate::instant::UtcSeconds;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Choice {
    /// Close it: it belongs into the next level.
    Accept,
    /// Not now; look again when the decision expires.
    Defer,
    /// Not at all: it does not matter here.
    Ignore,
}

/// A text that names no choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no decision (want accept, defer or ignore)")]
pub struct NotAChoice(String);

impl Choice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Accept, Self::Defer, Self::Ignore];

    /// Names it in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Defer => "defer",
            Self::Ignore => "ignore",
        }
    }
}

impl FromStr for Choice {
    type Err = NotAChoice;

    fn from_str(text: &str) -> Result<Self, NotAChoice> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.as_str() == text)
            .ok_or_else(|| NotAChoice(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One decision about one CVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The CVE.
    pub cve: CveId,
    /// The kernel it holds for; `None` for all.
    pub kernel: Option<KernelRelease>,
    /// What was decided.
    pub choice: Choice,
    /// Who decided.
    pub who: String,
    /// Why, in their words.
    pub why: String,
    /// When.
    pub at: UtcSeconds,
    /// The first second at which it no longer holds; `None` for good.
    pub until: Option<UtcSeconds>,
}

impl Decision {
    /// Tells whether it has run out at `now`.
    pub fn is_expired(&self, now: UtcSeconds) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Returns the decision about `cve` that holds for `kernel` at `now`: the last one made for that very
/// kernel, else the last one made for all. `history` is in the order in which decisions were made.
///
/// The last decision of a scope counts or nothing does: when it has expired, an older one does not
/// come back. Without a kernel only decisions for all are asked.
pub fn standing<'a>(
    history: impl IntoIterator<Item = &'a Decision>,
    cve: CveId,
    kernel: Option<&KernelRelease>,
    now: UtcSeconds,
) -> Option<&'a Decision> {
    let (mut own, mut all) = (None, None);
    for decision in history.into_iter().filter(|decision| decision.cve == cve) {
        match &decision.kernel {
            None => all = Some(decision),
            Some(_) if decision.kernel.as_ref() == kernel => own = Some(decision),
            Some(_) => {}
        }
    }
    let holds = |decision: &&Decision| !decision.is_expired(now);
    own.filter(holds).or_else(|| all.filter(holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(kernel: Option<&str>, choice: Choice, until: Option<u64>) -> Decision {
        Decision {
            cve: "CVE-2024-1000".parse().unwrap(),
            kernel: kernel.map(|kernel| kernel.parse().unwrap()),
            choice,
            who: "ann".to_owned(),
            why: "reasons".to_owned(),
            at: UtcSeconds::from_unix(0),
            until: until.map(UtcSeconds::from_unix),
        }
    }

    fn at(history: &[Decision], kernel: Option<&str>, now: u64) -> Option<Choice> {
        let kernel = kernel.map(|kernel| kernel.parse().unwrap());
        let id = "CVE-2024-1000".parse().unwrap();
        standing(history, id, kernel.as_ref(), UtcSeconds::from_unix(now)).map(|it| it.choice)
    }

    #[test]
    fn a_decision_for_one_kernel_goes_before_one_for_all() {
        let history = [
            decision(Some("6.1.0-47-cloud-amd64"), Choice::Accept, None),
            decision(None, Choice::Ignore, None),
        ];
        assert_eq!(
            at(&history, Some("6.1.0-47-cloud-amd64"), 5),
            Some(Choice::Accept)
        );
        assert_eq!(
            at(&history, Some("6.1.0-50-cloud-amd64"), 5),
            Some(Choice::Ignore)
        );
        assert_eq!(at(&history, None, 5), Some(Choice::Ignore));
    }

    #[test]
    fn an_expired_decision_brings_no_older_one_back() {
        let history = [
            decision(None, Choice::Ignore, None),
            decision(None, Choice::Defer, Some(10)),
        ];
        assert_eq!(at(&history, None, 9), Some(Choice::Defer));
        assert_eq!(at(&history, None, 10), None);
    }

    #[test]
    fn decisions_about_other_cves_do_not_count() {
        let mut other = decision(None, Choice::Ignore, None);
        other.cve = "CVE-2024-1001".parse().unwrap();
        assert_eq!(at(&[other], None, 5), None);
    }
}
