//! Whether a livepatch is to blame for what the log says.
//!
//! A wrong `guilty` takes a security fix away; a missed one leaves a machine crashing. So only
//! direct evidence with nothing against it makes guilty, and what is forgeable makes nothing.

mod evidence;
mod stuck;

use std::collections::BTreeMap;

use crate::assemble::{Event, Incident, IncidentKind, Item};
use crate::event::{Direction, Kind};
use crate::patches::{Baseline, Patch, Patches};
use crate::record::Provenance;
use crate::report::{Report, Severity};
use crate::timeline::{State, Timeline};

use stuck::{Elsewhere, Still, Stuck};

/// What speaks for or against blaming a livepatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The rule's name.
    pub rule: &'static str,
    /// How much it weighs.
    pub strength: Strength,
    /// What was found, in the log's words.
    pub found: String,
    /// The kernel's number of that record.
    pub sequence: Option<u64>,
}

/// How much evidence weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Never enough alone.
    Weak,
    /// Makes suspect.
    Indirect,
    /// Makes guilty where nothing speaks against it.
    Direct,
    /// Speaks against it.
    Against,
}

impl Strength {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Indirect => "indirect",
            Self::Direct => "direct",
            Self::Against => "against",
        }
    }
}

/// What is held of a livepatch, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Something speaks against it and nothing for it, or there is no report.
    Innocent,
    /// Nothing speaks for or against it.
    Unknown,
    /// It may be.
    Suspect,
    /// It is.
    Guilty,
}

impl Verdict {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Innocent => "innocent",
            Self::Unknown => "unknown",
            Self::Suspect => "suspect",
            Self::Guilty => "guilty",
        }
    }
}

/// What should be done about a livepatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recommend {
    /// Nothing.
    None,
    /// Keep an eye on it.
    Observe,
    /// Stop the rollout, ask the fleet.
    Hold,
    /// Take it off.
    Revert,
    /// It has to go and cannot be taken off.
    Reboot,
}

impl Recommend {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Observe => "observe",
            Self::Hold => "hold",
            Self::Revert => "revert",
            Self::Reboot => "reboot",
        }
    }
}

/// Whether the kernel would take a livepatch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevertPossible {
    /// Nothing known stands against it.
    Yes,
    /// It was forced, its removal stalls, a task died inside it holding it, or one hangs inside it: no
    /// transition ends before every task has left what it changes.
    No,
    /// The kernel has oopsed, or a CPU stood still inside it and no more was heard of that: nobody
    /// knows.
    Unknown,
}

impl RevertPossible {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// What one report says about one livepatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The livepatch.
    pub module: String,
    /// Its level.
    pub level: Option<u32>,
    /// Whether it came from us.
    pub ours: bool,
    /// What is held.
    pub verdict: Verdict,
    /// What speaks for it, strongest first.
    pub evidence: Vec<Evidence>,
    /// What speaks against it.
    pub against: Vec<Evidence>,
}

/// What a whole log says about one livepatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleVerdict {
    /// The livepatch.
    pub module: String,
    /// Its level.
    pub level: Option<u32>,
    /// Whether it came from us.
    pub ours: bool,
    /// Where it stands.
    pub state: State,
    /// When it was taken on, in microseconds of printk's clock.
    pub enabled_us: Option<u64>,
    /// When it came into force.
    pub completed_us: Option<u64>,
    /// What is held.
    pub verdict: Verdict,
    /// What should be done.
    pub recommend: Recommend,
    /// Whether the kernel would take it off.
    pub revert_possible: RevertPossible,
    /// Why, in a sentence.
    pub why: String,
    /// Byte offsets of the reports that led there.
    pub reports: Vec<u64>,
}

/// Livepatches watched at most.
const MODULE_LIMIT: usize = 64;
/// Reports that a verdict lists.
const LISTED: usize = 64;
/// Fingerprints remembered of before the load.
const FINGERPRINTS: usize = 1024;
/// How long an incident speaks against blame.
const INCIDENT_US: u64 = 60_000_000;
/// How long a transition may take.
const STALL_US: u64 = 60_000_000;

#[derive(Clone, Debug)]
struct Watched {
    patch: Patch,
    timeline: Timeline,
    worst: Verdict,
    why: Option<String>,
    severity: Severity,
    believed: Provenance,
    reports: Vec<u64>,
    seen: bool,
    died_inside: bool,
    stuck: Stuck,
    elsewhere: Elsewhere,
}

/// Holds livepatches against what a log says.
#[derive(Clone, Debug)]
pub struct Blamer {
    modules: Vec<Watched>,
    baseline: Baseline,
    calls: Vec<(String, String)>,
    hardware: Option<(u64, Option<u64>)>,
    memory: Option<(u64, Option<u64>)>,
    /// Fingerprints, and where each was first seen.
    first_seen: BTreeMap<String, u64>,
    oopsed: bool,
    reported: bool,
    now_us: Option<u64>,
    stall_us: u64,
}

impl Blamer {
    /// Watches the livepatches of a snapshot, and whatever else the log names one.
    pub fn new(patches: Patches, baseline: Baseline) -> Self {
        Self {
            modules: patches
                .modules
                .into_iter()
                .take(MODULE_LIMIT)
                .map(Watched::new)
                .collect(),
            baseline,
            calls: patches.calls,
            hardware: None,
            memory: None,
            first_seen: BTreeMap::new(),
            oopsed: false,
            reported: false,
            now_us: None,
            stall_us: STALL_US,
        }
    }

    /// Takes in what the log said next; returns what a report says about each livepatch.
    pub fn take(&mut self, item: &Item) -> Vec<Finding> {
        match item {
            Item::Event(event) => {
                self.now_us = event.time_us.or(self.now_us);
                self.step(event);
                Vec::new()
            }
            Item::Incident(incident) => {
                self.note(incident);
                Vec::new()
            }
            Item::Gap(_) => Vec::new(),
            Item::Report(report) => {
                self.now_us = report.time_us.or(self.now_us);
                self.judge(report)
            }
        }
    }

    fn note(&mut self, incident: &Incident) {
        let Some(time) = incident.time_us else { return };
        let slot = match incident.kind {
            IncidentKind::Hardware => &mut self.hardware,
            IncidentKind::OutOfMemory => &mut self.memory,
        };
        *slot = Some((time, incident.sequence));
    }

    fn step(&mut self, event: &Event) {
        // A machine's own reason, said before the line that names the livepatch.
        let conflict = matches!(event.errno, Some(-16 | -12))
            || event.text.contains("livepatch support is disabled")
            || event
                .text
                .contains("This architecture doesn't have support");
        match &event.module {
            Some(name) => {
                let index = self.index_of(name, event);
                let Some(index) = index else { return };
                let replaces = event.kind == Kind::Completed(Direction::Patching)
                    && self
                        .modules
                        .get(index)
                        .is_some_and(|watched| watched.patch.replace == Some(true));
                for (other, watched) in self.modules.iter_mut().enumerate() {
                    if other == index {
                        watched.timeline.conflict |= conflict;
                        watched.timeline.step(event);
                        watched.seen = true;
                        if watched.timeline.state() == State::Removed {
                            // The transition ended, so everybody has left it.
                            watched.stuck = Stuck::Nothing;
                        }
                        watched.blame_event(event);
                    } else if replaces && watched.timeline.state() == State::Applied {
                        watched
                            .timeline
                            .set(State::Replaced, event.bytes.0, event.time_us);
                    }
                }
            }
            None => {
                for watched in &mut self.modules {
                    let moving = watched.timeline.state().is_moving();
                    if moving {
                        watched.timeline.conflict |= conflict;
                        watched.timeline.forced |= event.kind == Kind::Forced;
                        if event.kind == Kind::Stalled {
                            watched.timeline.step(event);
                        }
                        if event.kind == Kind::BuildFault {
                            watched.blame_event(event);
                        }
                    }
                }
            }
        }
    }

    /// A livepatch the snapshot does not know is somebody else's.
    fn index_of(&mut self, name: &str, event: &Event) -> Option<usize> {
        let known = self
            .modules
            .iter()
            .position(|watched| watched.patch.name == name);
        if known.is_some() || self.modules.len() >= MODULE_LIMIT {
            return known;
        }
        let is_livepatch = match event.kind {
            Kind::Enabling | Kind::Started(_) | Kind::Completed(_) => true,
            Kind::Stalled
            | Kind::Forced
            | Kind::Failed
            | Kind::Applying
            | Kind::Reverting
            | Kind::RefusedLoad
            | Kind::BuildFault => false,
        };
        if !is_livepatch {
            return None;
        }
        self.modules.push(Watched::new(Patch {
            name: name.to_owned(),
            ..Patch::default()
        }));
        Some(self.modules.len() - 1)
    }

    fn judge(&mut self, report: &Report) -> Vec<Finding> {
        self.reported = true;
        let hardware = within(self.hardware, report.time_us);
        let memory = within(self.memory, report.time_us);
        let first = self.first_seen.get(&report.fingerprint).copied();
        let baseline = self.baseline.0.get(&report.fingerprint).copied();
        let surroundings = evidence::Surroundings {
            hardware,
            memory,
            first_seen: first,
            baseline,
            calls: &self.calls,
            stall_us: self.stall_us,
            other_hang: false,
        };
        let mut findings = Vec::new();
        for watched in &mut self.modules {
            let surroundings = evidence::Surroundings {
                other_hang: watched.elsewhere.may_still(report.time_us),
                ..surroundings
            };
            let state = watched.timeline.state_at(report.bytes.0);
            let found = evidence::collect(report, &watched.patch, &watched.timeline, &surroundings);
            if found.evidence.iter().any(evidence::on_its_stack) {
                watched.stuck = watched.stuck.after(report);
            } else {
                watched.elsewhere = watched.elsewhere.after(report);
            }
            let direct = found
                .evidence
                .iter()
                .any(|evidence| evidence.strength == Strength::Direct);
            // Out of force, it answers only for what stands in its own code.
            if state == State::Replaced && !direct {
                continue;
            }
            watched.take(report, &found);
            findings.push(found);
        }
        if self.first_seen.len() < FINGERPRINTS {
            self.first_seen
                .entry(report.fingerprint.clone())
                .or_insert(report.bytes.0);
        }
        self.oopsed |= report.severity >= Severity::Oops;
        findings
    }

    /// Returns itself as it would be if a report that is still open came as it is, where that makes a
    /// livepatch guilty which was not.
    pub fn foresee(&self, report: &Report) -> Option<Self> {
        let mut ahead = self.clone();
        ahead.judge(report);
        let news = ahead
            .modules
            .iter()
            .zip(&self.modules)
            .any(|(then, now)| then.worst == Verdict::Guilty && now.worst < Verdict::Guilty);
        news.then_some(ahead)
    }

    /// Returns what is held of each livepatch by now. `now_us` is printk's clock.
    pub fn verdicts(&self, now_us: Option<u64>) -> Vec<ModuleVerdict> {
        let now = now_us.or(self.now_us);
        self.modules
            .iter()
            .map(|watched| watched.verdict(self.reported, self.oopsed, now, self.stall_us))
            .collect()
    }
}

fn within(
    incident: Option<(u64, Option<u64>)>,
    time_us: Option<u64>,
) -> Option<(u64, Option<u64>)> {
    let (at, sequence) = incident?;
    let age = time_us?.checked_sub(at)?;
    (age <= INCIDENT_US).then_some((age, sequence))
}

impl Watched {
    fn new(patch: Patch) -> Self {
        let timeline = Timeline::new(&patch.name);
        Self {
            timeline: Timeline {
                forced: patch.forced,
                ..timeline
            },
            patch,
            worst: Verdict::Innocent,
            why: None,
            severity: Severity::Notice,
            believed: Provenance::Record,
            reports: Vec::new(),
            seen: false,
            died_inside: false,
            stuck: Stuck::Nothing,
            elsewhere: Elsewhere::Nothing,
        }
    }

    /// The kernel's own word that the livepatch is built wrong, or stands in a driver's way.
    fn blame_event(&mut self, event: &Event) {
        if !event.kind.is_failure() || event.kind == Kind::Forced {
            return;
        }
        let verdict = match event.provenance {
            Provenance::None => Verdict::Suspect,
            Provenance::Line | Provenance::Record => Verdict::Guilty,
        };
        let verdict = if self.timeline.conflict {
            Verdict::Unknown
        } else {
            verdict
        };
        self.raise(verdict, Severity::Livepatch, event.provenance, &event.text);
    }

    fn take(&mut self, report: &Report, found: &Finding) {
        let why = if found.verdict == Verdict::Unknown {
            // Nothing ties it to the livepatch, so it must not read as if it did.
            format!("nothing points at it; the kernel said: {}", report.title)
        } else {
            report.title.clone()
        };
        if found.verdict > Verdict::Innocent && self.reports.len() < LISTED {
            self.reports.push(report.bytes.0);
        }
        let direct = found
            .evidence
            .iter()
            .any(|evidence| evidence.strength >= Strength::Indirect);
        self.died_inside |= direct && report.severity == Severity::Oops;
        // With panic_on_warn a warning ends in a panic and is a warning all the same.
        let severity = report.class.severity();
        self.raise(found.verdict, severity, report.provenance, &why);
    }

    fn raise(&mut self, verdict: Verdict, severity: Severity, believed: Provenance, why: &str) {
        if verdict < self.worst || (verdict == self.worst && severity <= self.severity) {
            return;
        }
        if verdict > Verdict::Innocent {
            self.why = Some(why.to_owned());
            self.severity = severity;
            self.believed = believed;
        }
        self.worst = verdict;
    }

    fn verdict(
        &self,
        reported: bool,
        oopsed: bool,
        now_us: Option<u64>,
        stall_us: u64,
    ) -> ModuleVerdict {
        let state = self.timeline.state();
        let open_for = match state {
            State::Transition | State::Stalled | State::Removing => self
                .timeline
                .steps
                .iter()
                .rev()
                .find(|step| matches!(step.state, State::Transition | State::Removing))
                .and_then(|step| now_us?.checked_sub(step.time_us?)),
            State::Unknown
            | State::Loading
            | State::Applied
            | State::Removed
            | State::Failed
            | State::Replaced => None,
        };
        let stalled = open_for.is_some_and(|age| age > stall_us);
        let verdict = if stalled {
            self.worst.max(Verdict::Suspect)
        } else {
            self.worst
        };
        let removal_stalls = state == State::Stalled
            && self
                .timeline
                .steps
                .iter()
                .rev()
                .nth(1)
                .is_some_and(|step| step.state == State::Removing);
        // The livepatch core holds one reference of an enabled livepatch itself.
        let held = self.died_inside && self.patch.refcount.is_some_and(|users| users > 1);
        let still = self.stuck.still(now_us);
        let revert_possible = if state == State::Removed {
            // It came off, whatever was to be feared.
            RevertPossible::Yes
        } else if self.timeline.forced || removal_stalls || held || still == Still::Held {
            RevertPossible::No
        } else if oopsed || still == Still::Unheard {
            RevertPossible::Unknown
        } else {
            RevertPossible::Yes
        };
        let recommend = match state {
            // There is nothing left to take off, but it is not to be loaded elsewhere.
            State::Removed | State::Failed => self
                .recommend(verdict, revert_possible)
                .min(Recommend::Hold),
            State::Unknown
            | State::Loading
            | State::Transition
            | State::Stalled
            | State::Applied
            | State::Removing
            | State::Replaced => self.recommend(verdict, revert_possible),
        };
        let why = self.why.clone().unwrap_or_else(|| {
            if stalled {
                "its transition does not end".to_owned()
            } else if reported {
                "nothing in the log points at it".to_owned()
            } else {
                "no report".to_owned()
            }
        });
        ModuleVerdict {
            module: self.patch.name.clone(),
            level: self.patch.level,
            ours: self.patch.ours,
            state,
            enabled_us: self.timeline.enabled_us,
            completed_us: self.timeline.completed_us,
            verdict,
            recommend,
            revert_possible,
            why,
            reports: self.reports.clone(),
        }
    }

    fn recommend(&self, verdict: Verdict, revert: RevertPossible) -> Recommend {
        let wanted = match verdict {
            Verdict::Innocent => Recommend::None,
            Verdict::Unknown => Recommend::Observe,
            Verdict::Suspect => Recommend::Hold,
            // A user may be able to trigger an old WARN in a function the level carries along; the
            // fix going away would be the prize.
            Verdict::Guilty if self.severity <= Severity::Warning => Recommend::Hold,
            Verdict::Guilty if revert == RevertPossible::No => Recommend::Reboot,
            Verdict::Guilty => Recommend::Revert,
        };
        match self.believed {
            Provenance::Record => wanted,
            Provenance::Line => wanted.min(Recommend::Hold),
            Provenance::None => Recommend::None,
        }
    }
}
