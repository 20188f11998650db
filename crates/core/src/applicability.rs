//! Whether one CVE is in one kernel, with the evidence.
//!
//! The chain of steps is walked in order and stops only at a certain answer. A wrong "not affected"
//! is the worst answer there is, so every doubt ends in [`Applicability::Unknown`].

pub mod built;
pub mod moved;

use std::fmt;

use crate::cve::{Cve, CveId, State};
use crate::profile::KernelProfile;
use crate::span::{self, Horizons, Reading, Span};
use crate::version::{KernelVersion, NotAVersion};

use self::built::Built;

/// The verdict for one CVE and one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Applicability {
    /// The kernel holds the bug, as far as every step could see.
    Affected,
    /// It certainly does not, and this is why.
    NotAffected(Reason),
    /// It cannot be said, for want of this.
    Unknown(Gap),
}

/// Why a kernel certainly does not hold a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The record was withdrawn.
    Rejected,
    /// Its version lies outside every vulnerable stretch.
    OutsideSpan,
    /// None of the record's files was compiled.
    NotBuilt,
}

/// What is missing for a certain answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// A file of the record does not exist in the kernel's tree; files move between versions.
    FileAbsent,
    /// The list of files in the kernel's tree is not known.
    NoSource,
    /// Whether a file was compiled is not known.
    NoProfile,
    /// A header is in the tree, and who includes it is not known.
    HeaderGraph,
    /// The kernel is newer than what the feed knows of its branch.
    BeyondHorizon,
    /// The record contradicts itself or could not be read.
    InconsistentSpan,
}

/// One step of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Is the record valid?
    Record,
    /// How far does the feed know this branch?
    Horizon,
    /// Is the kernel's base version in a vulnerable stretch?
    Span,
    /// Does the kernel's source hold the fix?
    Carried,
    /// Was a file of the record compiled?
    Built,
    /// Into which object?
    Object,
}

/// What one step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The step.
    pub step: Step,
    /// What was found, for people.
    pub found: String,
}

/// A verdict with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The CVE judged.
    pub cve: CveId,
    /// The verdict.
    pub verdict: Applicability,
    /// One entry per step taken, in order.
    pub evidence: Vec<Evidence>,
}

/// How fresh the edition of a record is that is being judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness<'a> {
    /// It is the feed's current one.
    Current,
    /// The feed has a newer one that could not be read, for this reason.
    Stale(&'a str),
}

/// One kernel, ready to judge many records against.
#[derive(Debug)]
pub struct Bench<'a> {
    profile: &'a KernelProfile,
    base: KernelVersion,
    horizons: &'a Horizons,
}

impl<'a> Bench<'a> {
    /// Prepares a kernel; an error when its base version is no upstream version.
    pub fn new(profile: &'a KernelProfile, horizons: &'a Horizons) -> Result<Self, NotAVersion> {
        Ok(Self {
            profile,
            base: profile.base_version.parse()?,
            horizons,
        })
    }

    /// Judges one record.
    pub fn judge(&self, cve: &Cve, freshness: Freshness<'_>) -> Judgement {
        let mut evidence = Vec::new();
        let verdict = self.walk(cve, freshness, &mut evidence);
        Judgement {
            cve: cve.id,
            verdict,
            evidence,
        }
    }

    /// Returns why a published record is certainly not in this kernel, from what its current edition
    /// says of versions alone; `None` where the whole record must be judged, as it must where it
    /// contradicts itself.
    pub fn rules_out(&self, spans: &[Span], disputes: &[KernelVersion]) -> Option<Reason> {
        if span::is_disputed(spans, disputes, self.base) {
            return None;
        }
        self.outside(spans, span::read(spans, self.base))
    }

    fn outside(&self, spans: &[Span], reading: Reading) -> Option<Reason> {
        match reading {
            Reading::Affected(_) => None,
            // Beyond the horizon a bug that was backported elsewhere may have come here unseen.
            Reading::Fixed(_) | Reading::NeverIntroduced
                if self.horizons.is_beyond(self.base) && is_backported(spans) =>
            {
                None
            }
            Reading::Fixed(_) | Reading::NeverIntroduced => Some(Reason::OutsideSpan),
        }
    }

    fn walk(
        &self,
        cve: &Cve,
        freshness: Freshness<'_>,
        evidence: &mut Vec<Evidence>,
    ) -> Applicability {
        let mut note = |step, found| evidence.push(Evidence { step, found });
        note(Step::Record, record(cve, freshness));
        // A "no" from an edition that the feed has replaced is not certain: the unreadable newer one
        // may say otherwise. A "yes" errs on the safe side.
        let certain_no = |reason| match freshness {
            Freshness::Current => Applicability::NotAffected(reason),
            Freshness::Stale(_) => Applicability::Unknown(Gap::InconsistentSpan),
        };
        if let Some(doubt) = cve.doubts.first() {
            note(
                Step::Span,
                format!("the record contradicts itself: {doubt}"),
            );
            return Applicability::Unknown(Gap::InconsistentSpan);
        }
        match cve.state {
            State::Rejected => return certain_no(Reason::Rejected),
            State::Published => {}
        }
        if span::is_disputed(&cve.spans, &cve.disputes, self.base) {
            note(
                Step::Span,
                format!(
                    "for {} the .dyad and the .json file of the record disagree",
                    self.base
                ),
            );
            return Applicability::Unknown(Gap::InconsistentSpan);
        }
        let beyond = self.horizons.is_beyond(self.base);
        note(Step::Horizon, self.horizon(beyond));
        let reading = span::read(&cve.spans, self.base);
        note(Step::Span, self.span(cve, reading));
        if let Some(reason) = self.outside(&cve.spans, reading) {
            return certain_no(reason);
        }
        let doubtful = beyond;
        note(
            Step::Carried,
            "not looked at: the answer is by version, and a fix the distribution added is not seen"
                .to_owned(),
        );
        let built = built::look(&cve.files, self.profile);
        note(Step::Built, built.found());
        match built {
            Built::No { .. } => certain_no(Reason::NotBuilt),
            Built::Unknown { gap, .. } => {
                Applicability::Unknown(if doubtful { Gap::BeyondHorizon } else { gap })
            }
            Built::Yes { objects, .. } => {
                let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
                note(Step::Object, names.join(", "));
                if doubtful {
                    Applicability::Unknown(Gap::BeyondHorizon)
                } else {
                    Applicability::Affected
                }
            }
        }
    }

    fn horizon(&self, beyond: bool) -> String {
        match (self.horizons.of(self.base), beyond) {
            (None, _) => format!("the feed knows nothing at or below {}", self.base),
            (Some(known), false) => format!("the feed knows this branch up to {known}"),
            (Some(known), true) => {
                format!(
                    "{} is newer than the feed's knowledge, which ends at {known}",
                    self.base
                )
            }
        }
    }

    fn span(&self, cve: &Cve, reading: Reading) -> String {
        let base = self.base;
        match reading {
            Reading::Affected(span) => {
                let since = span.introduced.map_or_else(
                    || "since before git history".to_owned(),
                    |bug| format!("since {}", bug.version),
                );
                let fixes = cve.spans.iter().filter_map(|span| span.fixed);
                let own = fixes
                    .map(|fix| fix.version)
                    .filter(|fix| fix.branch() == base.branch() && *fix > base)
                    .min();
                let until = own.map_or_else(
                    || "no fix known on its branch".to_owned(),
                    |fix| format!("fixed on its branch in {fix}"),
                );
                format!("{base} has the bug, {since}; {until}")
            }
            Reading::Fixed(fix) => format!("{base} has the fix of {}", fix.version),
            Reading::NeverIntroduced => format!("the bug never reached {base}"),
        }
    }
}

/// Judges a record that could never be read.
pub fn unreadable(cve: CveId, why: &str) -> Judgement {
    Judgement {
        cve,
        verdict: Applicability::Unknown(Gap::InconsistentSpan),
        evidence: vec![Evidence {
            step: Step::Record,
            found: format!("unreadable: {why}"),
        }],
    }
}

fn record(cve: &Cve, freshness: Freshness<'_>) -> String {
    let state = cve.state;
    match freshness {
        Freshness::Current => state.to_string(),
        Freshness::Stale(why) => {
            format!("{state}, by its last good edition; the newest could not be read: {why}")
        }
    }
}

/// Tells whether the bug is known to have come into a stable branch other than by mainline.
fn is_backported(spans: &[Span]) -> bool {
    spans
        .iter()
        .filter_map(|span| span.introduced)
        .any(|bug| !bug.version.is_mainline())
}

impl Applicability {
    /// Returns the verdict in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Affected => "affected",
            Self::NotAffected(_) => "not-affected",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Returns the slug of the reason or gap; `None` when affected.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Affected => None,
            Self::NotAffected(reason) => Some(reason.as_str()),
            Self::Unknown(gap) => Some(gap.as_str()),
        }
    }
}

impl Reason {
    /// Returns the fixed slug.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::OutsideSpan => "outside-span",
            Self::NotBuilt => "not-built",
        }
    }
}

impl Gap {
    /// Returns the fixed slug.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileAbsent => "file-absent",
            Self::NoSource => "no-source",
            Self::NoProfile => "no-profile",
            Self::HeaderGraph => "header-graph",
            Self::BeyondHorizon => "beyond-horizon",
            Self::InconsistentSpan => "inconsistent-span",
        }
    }
}

impl Step {
    /// Returns the fixed slug.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Horizon => "horizon",
            Self::Span => "span",
            Self::Carried => "carried",
            Self::Built => "built",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for Applicability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self.reason() {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
