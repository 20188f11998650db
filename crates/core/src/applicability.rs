//! Whether one CVE is in one kernel, with the evidence.
//!
//! The chain of steps is walked in order and stops only at a certain answer. A wrong "not affected"
//! is the worst answer there is, so every doubt ends in [`Applicability::Unknown`].

pub mod built;
pub mod carried;
pub mod content;
pub mod function;
pub mod lineage;
pub mod loaded;
pub mod moved;

use std::collections::BTreeSet;
use std::fmt;

use crate::cve::{Cve, CveId, State};
use crate::identity::ObjectName;
use crate::profile::KernelProfile;
use crate::span::{self, Horizons, Reading, Span};
use crate::version::{KernelVersion, NotAVersion};

use self::built::Built;
use self::content::{Carried, Content, Functions};
use self::lineage::{HistoryAtHand, Lineage};

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
    /// Its source holds the fix.
    Carries,
    /// None of the record's files was compiled.
    NotBuilt,
    /// None of the functions that the fix changes left code. Kept for those who read verdicts: no step
    /// concludes it yet, because code can have another name than its source shows.
    FunctionAbsent,
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
    /// The source holds the fix neither whole nor not at all, or the version says otherwise.
    PartialFix,
    /// No diff of the fix is at hand. Given in evidence; by itself it leaves a verdict as it is.
    NoFixDiff,
    /// The functions that left code are not known. Given in evidence, as the one above.
    NoSymbols,
    /// The history of a git kernel is not at hand. Given in evidence, as the two above.
    NoHistory,
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
    /// Did the functions that the fix changes leave code there?
    Function,
    /// Do nodes have the object loaded, or could they load it?
    Loaded,
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
    /// The objects that hold its code, where the walk came that far.
    pub objects: BTreeSet<ObjectName>,
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
    history: HistoryAtHand<'a>,
}

impl<'a> Bench<'a> {
    /// Prepares a kernel; an error when its base version is no upstream version.
    pub fn new(profile: &'a KernelProfile, horizons: &'a Horizons) -> Result<Self, NotAVersion> {
        Ok(Self {
            profile,
            base: profile.base_version.parse()?,
            horizons,
            history: HistoryAtHand::NoGit,
        })
    }

    /// Also asks the history of the kernel's source, where it is one of git.
    #[must_use]
    pub fn with_history(self, history: HistoryAtHand<'a>) -> Self {
        Self { history, ..self }
    }

    /// Judges one record by what the record and the profile say.
    pub fn judge(&self, cve: &Cve, freshness: Freshness<'_>) -> Judgement {
        self.judge_with(cve, freshness, None)
    }

    /// Judges one record, also by what was found about its fix in the kernel's source and symbols.
    pub fn judge_with(
        &self,
        cve: &Cve,
        freshness: Freshness<'_>,
        content: Option<&Content>,
    ) -> Judgement {
        let mut judgement = Judgement {
            cve: cve.id,
            verdict: Applicability::Affected,
            evidence: Vec::new(),
            objects: BTreeSet::new(),
        };
        judgement.verdict = match content {
            Some(content) => self.walk(cve, freshness, content, &mut judgement),
            None => self.walk(cve, freshness, &Content::default(), &mut judgement),
        };
        judgement
    }

    /// Returns why a published record is certainly not in this kernel, from what its current edition
    /// says of versions alone; `None` where the whole record must be judged, as it must where it
    /// contradicts itself.
    pub fn rules_out(&self, spans: &[Span], disputes: &[KernelVersion]) -> Option<Reason> {
        if span::is_disputed(spans, disputes, self.base) {
            return None;
        }
        let reason = self.outside(spans, span::read(spans, self.base))?;
        match self.lineage(spans) {
            Some(Lineage::Open { .. } | Lineage::Undone { .. } | Lineage::Doubtful { .. }) => None,
            Some(Lineage::Carried { .. } | Lineage::Silent { .. }) | None => Some(reason),
        }
    }

    fn lineage(&self, spans: &[Span]) -> Option<Lineage> {
        match self.history {
            HistoryAtHand::Known(history) => Some(lineage::look(spans, history)),
            HistoryAtHand::NoGit | HistoryAtHand::Missing(_) => None,
        }
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
        content: &Content,
        judgement: &mut Judgement,
    ) -> Applicability {
        let Judgement {
            evidence,
            objects: reached,
            ..
        } = judgement;
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
        let outside = self.outside(&cve.spans, reading);
        let lineage = self.lineage(&cve.spans);
        if let Some(found) = self.told(lineage.as_ref()) {
            let step = match lineage {
                Some(Lineage::Open { .. }) => Step::Span,
                _ => Step::Carried,
            };
            note(step, found);
        }
        // Without a look there is nothing to add to a certain answer.
        if outside.is_none() || !matches!(content.carried, Carried::NotLooked { .. }) {
            note(Step::Carried, content.carried.found());
        }
        let taken_in = match outside {
            // What upstream's releases settle needs no word of the distribution.
            Some(_) => None,
            None => self.taken_in(cve),
        };
        if let Some(version) = taken_in {
            note(
                Step::Carried,
                format!(
                    "look at it: by the changelog of {version} the distribution took a fix of this in"
                ),
            );
        }
        let doubt = match weigh(lineage.as_ref(), &content.carried, outside, reading) {
            Weighed::No(reason) => return certain_no(reason),
            Weighed::Doubt(gap) => Some(gap),
            // The fix may have come with the change, or gone.
            Weighed::Version if content.changed.is_some() => Some(Gap::NoSource),
            Weighed::Version if beyond => Some(Gap::BeyondHorizon),
            // An entry proves nothing, and takes from the version what it says.
            Weighed::Version => taken_in.map(|_| Gap::NoFixDiff),
            Weighed::Yes => None,
        };
        let built = built::look(&followed(&cve.files, content, self.profile), self.profile);
        note(Step::Built, built.found());
        let objects = match built {
            Built::No { .. } => return certain_no(Reason::NotBuilt),
            Built::Unknown { gap, .. } => return Applicability::Unknown(doubt.unwrap_or(gap)),
            Built::Yes { objects, .. } => objects,
        };
        let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
        note(Step::Object, names.join(", "));
        *reached = objects;
        note(Step::Function, content.functions.found());
        match &content.functions {
            // A macro, a compiler flag or an arm of the preprocessor can give code another name than its
            // source shows. A name that is missing is worth a look, and no proof.
            Functions::Absent { .. } => {
                return Applicability::Unknown(doubt.unwrap_or(Gap::NoSymbols));
            }
            Functions::NotLooked { .. }
            | Functions::Skipped { .. }
            | Functions::Present { .. }
            | Functions::Unclear { .. } => {}
        }
        if let Some(loaded) = &content.loaded {
            note(Step::Loaded, loaded.clone());
        }
        doubt.map_or(Applicability::Affected, Applicability::Unknown)
    }

    /// Returns the version by whose changelog the distribution took a fix in by itself.
    fn taken_in(&self, cve: &Cve) -> Option<&str> {
        let known = self.profile.taken_in.as_ref()?;
        known.told(cve.id, &cve.title)
    }

    fn told(&self, lineage: Option<&Lineage>) -> Option<String> {
        match (self.history, lineage) {
            (HistoryAtHand::Known(history), Some(lineage)) => Some(lineage.found(history)),
            (HistoryAtHand::Missing(why), _) => Some(format!(
                "its history was not asked ({}): {why}",
                Gap::NoHistory.as_str()
            )),
            (HistoryAtHand::NoGit | HistoryAtHand::Known(_), _) => None,
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

/// What version, history and source say together of whether the fix is there.
enum Weighed {
    /// The bug is certainly not there.
    No(Reason),
    /// It may be, and no later step can say so for certain.
    Doubt(Gap),
    /// The version alone says that it is.
    Version,
    /// It is, as far as history or source can tell.
    Yes,
}

/// Weighs what the steps up to `carried` found. Where two of them contradict each other neither is
/// believed.
fn weigh(
    lineage: Option<&Lineage>,
    carried: &Carried,
    outside: Option<Reason>,
    reading: Reading,
) -> Weighed {
    let by_version = match reading {
        Reading::Affected(_) => Weighed::Yes,
        Reading::Fixed(_) | Reading::NeverIntroduced => Weighed::Doubt(Gap::PartialFix),
    };
    match (lineage, carried, outside) {
        // Where history has the bug's commit and no fix, and the source has the old code, the bug is
        // there whatever the version says.
        (Some(Lineage::Open { .. }), Carried::No(_), _) => Weighed::Yes,
        // The bug itself may have been backported, or the fix taken out again.
        (_, Carried::No(_), Some(_)) | (Some(Lineage::Carried { .. }), Carried::No(_), None) => {
            Weighed::Doubt(Gap::PartialFix)
        }
        (_, Carried::No(_), None)
        | (Some(Lineage::Undone { .. }), Carried::NotLooked { .. }, None) => by_version,
        (Some(Lineage::Undone { .. }), Carried::Yes(_), None)
        | (
            Some(Lineage::Undone { .. } | Lineage::Doubtful { .. }),
            Carried::Partial(_) | Carried::NotLooked { .. },
            _,
        )
        | (Some(Lineage::Open { .. }), Carried::Partial(_), Some(_)) => {
            Weighed::Doubt(Gap::PartialFix)
        }
        (Some(Lineage::Open { .. }), Carried::NotLooked { .. }, _) => match reading {
            // Its version says that it has a fix which its history lacks.
            Reading::Fixed(_) => Weighed::Doubt(Gap::PartialFix),
            Reading::Affected(_) | Reading::NeverIntroduced => Weighed::Yes,
        },
        (_, _, Some(reason)) => Weighed::No(reason),
        (_, Carried::Yes(_), None) => Weighed::No(Reason::Carries),
        // Messages tell what came in. What took it out again may have told nobody: only the source can
        // say that the fix still stands.
        (Some(Lineage::Carried { .. }), Carried::NotLooked { .. }, None) => {
            Weighed::Doubt(Gap::NoFixDiff)
        }
        (_, Carried::Partial(_), None) => Weighed::Doubt(Gap::PartialFix),
        (_, Carried::NotLooked { .. }, None) => Weighed::Version,
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
        objects: BTreeSet::new(),
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

/// Names the files of a record as this tree has them: those it lacks where their code was found.
fn followed(files: &[String], content: &Content, profile: &KernelProfile) -> Vec<String> {
    let follow = |file: &String| match content.moved.get(file) {
        Some(found) if !profile.tree_files.contains(file) => found.clone(),
        Some(_) | None => file.clone(),
    };
    files.iter().map(follow).collect()
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
            Self::Carries => "carries",
            Self::FunctionAbsent => "function-absent",
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
            Self::PartialFix => "partial-fix",
            Self::NoFixDiff => "no-fix-diff",
            Self::NoSymbols => "no-symbols",
            Self::NoHistory => "no-history",
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
            Self::Function => "function",
            Self::Loaded => "loaded",
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
