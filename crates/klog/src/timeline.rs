//! The life of each livepatch, by what the kernel says.

use crate::assemble::Event;
use crate::event::{Direction, Kind};

/// Steps kept of one livepatch; what is older is forgotten.
const STEP_LIMIT: usize = 256;

/// Where a livepatch stands, by the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The log has no line that settles it.
    Unknown,
    /// Taken on by the kernel.
    Loading,
    /// On its way in.
    Transition,
    /// On its way in or out, and tasks had to be signalled.
    Stalled,
    /// In force.
    Applied,
    /// On its way out.
    Removing,
    /// Out again.
    Removed,
    /// Never came into force.
    Failed,
    /// A newer livepatch took its place.
    Replaced,
}

impl State {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Loading => "loading",
            Self::Transition => "transition",
            Self::Stalled => "stalled",
            Self::Applied => "applied",
            Self::Removing => "removing",
            Self::Removed => "removed",
            Self::Failed => "failed",
            Self::Replaced => "replaced",
        }
    }

    /// Tells whether a load or a transition runs: the kernel's code changes under the tasks.
    pub fn is_moving(self) -> bool {
        match self {
            Self::Loading | Self::Transition | Self::Stalled | Self::Removing => true,
            Self::Unknown | Self::Applied | Self::Removed | Self::Failed | Self::Replaced => false,
        }
    }

    /// Returns the state after a step. `unpatching complete` also follows a livepatch that never was
    /// applied.
    #[must_use]
    pub fn after(self, kind: Kind) -> Self {
        match kind {
            Kind::Enabling => Self::Loading,
            Kind::Started(Direction::Patching) => Self::Transition,
            Kind::Started(Direction::Unpatching) => Self::Removing,
            Kind::Completed(Direction::Patching) => Self::Applied,
            Kind::Completed(Direction::Unpatching) if self == Self::Failed => Self::Failed,
            Kind::Completed(Direction::Unpatching) => Self::Removed,
            Kind::Stalled => Self::Stalled,
            Kind::Failed | Kind::BuildFault => Self::Failed,
            Kind::Forced | Kind::Applying | Kind::Reverting | Kind::RefusedLoad => self,
        }
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where in the source it stands.
    pub offset: u64,
    /// printk's clock, in microseconds.
    pub time_us: Option<u64>,
    /// The state from there on.
    pub state: State,
}

/// The life of one livepatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The livepatch.
    pub module: String,
    /// Its steps, oldest first.
    pub steps: Vec<Step>,
    /// When it was last taken on, in microseconds of printk's clock.
    pub enabled_us: Option<u64>,
    /// When it last came into force.
    pub completed_us: Option<u64>,
    /// Somebody forced a transition of it.
    pub forced: bool,
    /// What went wrong was the machine's doing: another owner of the function, no memory.
    pub conflict: bool,
    /// The last failure came while this load ran.
    pub failed_in_core: bool,
}

impl Timeline {
    /// Starts with nothing known.
    pub fn new(module: &str) -> Self {
        Self {
            module: module.to_owned(),
            steps: Vec::new(),
            enabled_us: None,
            completed_us: None,
            forced: false,
            conflict: false,
            failed_in_core: false,
        }
    }

    /// Returns where it stands.
    pub fn state(&self) -> State {
        self.steps.last().map_or(State::Unknown, |step| step.state)
    }

    /// Returns where it stood at byte `offset` of the source.
    pub fn state_at(&self, offset: u64) -> State {
        self.steps
            .iter()
            .rev()
            .find(|step| step.offset <= offset)
            .map_or(State::Unknown, |step| step.state)
    }

    /// Tells whether it had been taken off the kernel before byte `offset`.
    pub fn was_removed_before(&self, offset: u64) -> bool {
        self.steps.iter().any(|step| {
            step.offset <= offset && matches!(step.state, State::Removed | State::Failed)
        })
    }

    /// Returns since when the state of byte `offset` holds.
    pub fn since(&self, offset: u64) -> Option<u64> {
        let step = self.steps.iter().rev().find(|step| step.offset <= offset)?;
        step.time_us
    }

    /// Takes a step.
    pub fn step(&mut self, event: &Event) {
        let before = self.state();
        let state = match event.kind {
            // It names nobody: only a transition that runs can be meant.
            Kind::Stalled if !matches!(before, State::Transition | State::Removing) => return,
            kind => before.after(kind),
        };
        match event.kind {
            Kind::Enabling => {
                self.enabled_us = event.time_us;
                self.completed_us = None;
                self.conflict = false;
            }
            Kind::Completed(Direction::Patching) => self.completed_us = event.time_us,
            Kind::Forced => self.forced = true,
            Kind::Started(_)
            | Kind::Completed(Direction::Unpatching)
            | Kind::Stalled
            | Kind::Failed
            | Kind::Applying
            | Kind::Reverting
            | Kind::RefusedLoad
            | Kind::BuildFault => {}
        }
        self.set(state, event.bytes.0, event.time_us);
    }

    /// Sets the state that another livepatch's step puts this one in.
    pub fn set(&mut self, state: State, offset: u64, time_us: Option<u64>) {
        if state == self.state() {
            return;
        }
        if self.steps.len() >= STEP_LIMIT {
            self.steps.remove(0);
        }
        self.steps.push(Step {
            offset,
            time_us,
            state,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::{Item, Limits};
    use crate::parser::parse;

    fn check(lines: &[&str], expected: State) {
        let log = lines.join("\n");
        let mut timeline = Timeline::new("tt_1");
        for item in parse(log.as_bytes(), Limits::default()).0 {
            if let Item::Event(event) = item {
                timeline.step(&event);
            }
        }
        assert_eq!(timeline.state(), expected, "{lines:?}");
    }

    const IN: [&str; 2] = [
        "livepatch: enabling patch 'tt_1'",
        "livepatch: 'tt_1': starting patching transition",
    ];

    #[test]
    fn each_sequence_of_the_core_ends_in_its_state() {
        check(&[], State::Unknown);
        check(&IN[..1], State::Loading);
        check(&IN, State::Transition);
        check(
            &[IN[0], IN[1], "livepatch: 'tt_1': patching complete"],
            State::Applied,
        );
        check(
            &[IN[0], IN[1], "livepatch: signaling remaining tasks"],
            State::Stalled,
        );
        check(&["livepatch: signaling remaining tasks"], State::Unknown);
        check(
            &[
                IN[0],
                "livepatch: failed to register ftrace handler for function 'f' (-16)",
                "livepatch: failed to patch object 'vmlinux'",
                "livepatch: failed to enable patch 'tt_1'",
                "livepatch: 'tt_1': unpatching complete",
            ],
            State::Failed,
        );
        check(
            &[
                IN[0],
                IN[1],
                "livepatch: 'tt_1': starting unpatching transition",
                "livepatch: 'tt_1': unpatching complete",
            ],
            State::Removed,
        );
        check(
            &[
                "livepatch: 'tt_1': starting unpatching transition",
                "livepatch: 'tt_1': starting patching transition",
                "livepatch: 'tt_1': patching complete",
            ],
            State::Applied,
        );
    }
}
