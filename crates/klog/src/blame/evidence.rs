//! The rules, one by one.

use std::cmp::Reverse;

use super::{Evidence, Finding, Strength, Verdict};
use crate::patches::{Patch, Seen};
use crate::record::Provenance;
use crate::report::fingerprint::plain;
use crate::report::skip;
use crate::report::{Class, Frame, ModuleState, Report, Severity};
use crate::timeline::{State, Timeline};

/// What else is known as a report is judged.
pub(super) struct Surroundings<'a> {
    /// How long ago the machine reported an error of its own, and its record.
    pub(super) hardware: Option<(u64, Option<u64>)>,
    /// The same for a task killed for want of memory.
    pub(super) memory: Option<(u64, Option<u64>)>,
    /// Where this fingerprint was first seen in this boot.
    pub(super) first_seen: Option<u64>,
    /// What the fleet knows of it.
    pub(super) baseline: Option<Seen>,
    /// Direct calls.
    pub(super) calls: &'a [(String, String)],
    /// How long a transition may take.
    pub(super) stall_us: u64,
    /// A hang, or a sleep where none is allowed, was reported shortly before, with nothing of this
    /// livepatch on its stack.
    pub(super) other_hang: bool,
}

/// Reports this soon after a load are noted as new.
const NEW_US: u64 = 15 * 60_000_000;
/// Where x86 puts modules; a bare pointer into it was in one that is gone.
const MODULES: std::ops::Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;

struct Case<'a> {
    report: &'a Report,
    patch: &'a Patch,
    timeline: &'a Timeline,
    around: &'a Surroundings<'a>,
    state: State,
}

/// Collects what speaks for and against `patch`, and weighs it.
pub(super) fn collect(
    report: &Report,
    patch: &Patch,
    timeline: &Timeline,
    around: &Surroundings<'_>,
) -> Finding {
    let case = Case {
        report,
        patch,
        timeline,
        around,
        state: timeline.state_at(report.bytes.0),
    };
    let mut evidence: Vec<Evidence> = FOR.iter().filter_map(|rule| rule(&case)).collect();
    evidence.sort_by_key(|found| Reverse(found.strength));
    let strongest = evidence.first().map(|evidence| evidence.strength);
    let against: Vec<Evidence> = AGAINST
        .iter()
        .filter_map(|rule| rule(&case))
        // A user can bring the machine out of memory: no way to talk a direct hit away.
        .filter(|found| found.rule != "oom" || strongest != Some(Strength::Direct))
        .collect();
    let verdict = match strongest {
        Some(Strength::Direct) if against.is_empty() => Verdict::Guilty,
        Some(Strength::Direct | Strength::Indirect) => Verdict::Suspect,
        Some(Strength::Weak | Strength::Against) | None if against.is_empty() => Verdict::Unknown,
        Some(Strength::Weak | Strength::Against) => Verdict::Unknown,
        None => Verdict::Innocent,
    };
    Finding {
        module: patch.name.clone(),
        level: patch.level,
        ours: patch.ours,
        verdict,
        evidence,
        against,
    }
}

/// Tells whether `evidence` is that the task at fault was inside the livepatch.
pub(super) fn on_its_stack(evidence: &Evidence) -> bool {
    matches!(
        evidence.rule,
        "ip-in-module" | "spins-for-lock" | "frame-in-module"
    )
}

type Rule = fn(&Case<'_>) -> Option<Evidence>;

const FOR: &[Rule] = &[
    ip_in_module,
    handed_over,
    spins_for_lock,
    ip_in_unloaded,
    livepatch_core,
    loading,
    endbr,
    livepatch_error,
    stalled,
    frame_in_module,
    patched_function,
    near_patched,
    fleet_ratio,
    new_after_load,
];

const AGAINST: &[Rule] = &[
    seen_before,
    other_module,
    hardware,
    oom,
    after_oops,
    only_unreliable,
    corrupted,
    untrusted,
];

impl Case<'_> {
    fn is_in(&self, frame: &Frame) -> bool {
        frame.module.as_deref() == Some(self.patch.name.as_str())
    }

    /// The instruction pointer, then the guilty function: where the kernel stood.
    fn places(&self) -> impl Iterator<Item = &Frame> {
        self.report
            .body
            .ip
            .iter()
            .chain(&self.report.guilty)
            .filter(|frame| frame.reliable)
    }

    /// The livepatch's frame where the instruction pointer and all sure frames above it are in
    /// functions of the kernel that `passed` knows, and its record.
    fn below(&self, passed: fn(&str) -> bool) -> Option<(&Frame, Option<u64>)> {
        let body = &self.report.body;
        let known =
            |frame: &Frame| frame.module.is_none() && frame.function.as_deref().is_some_and(passed);
        body.ip.as_ref().filter(|ip| known(ip))?;
        let mut above = body.frames.iter().zip(0_usize..);
        let (frame, index) = above.find(|(frame, _)| frame.reliable && !known(frame))?;
        let sequence = self.report.frame_sequences.get(index).copied();
        self.is_in(frame).then_some((frame, sequence))
    }

    fn guilty_name(&self) -> Option<&str> {
        let frame = self.report.guilty.as_ref()?;
        frame.function.as_deref().map(plain)
    }

    fn patches(&self, name: &str) -> bool {
        let module = self
            .report
            .guilty
            .as_ref()
            .and_then(|frame| frame.module.as_deref());
        self.patch.functions.iter().any(|function| {
            let object = module.unwrap_or("vmlinux");
            plain(&function.name) == name
                && (function.object == object || object == self.patch.name)
        })
    }
}

fn found(rule: &'static str, strength: Strength, found: String, sequence: Option<u64>) -> Evidence {
    Evidence {
        rule,
        strength,
        found,
        sequence,
    }
}

fn written(frame: &Frame) -> String {
    let name = frame.function.as_deref().unwrap_or("?");
    let place = match (frame.offset, frame.size) {
        (Some(offset), Some(size)) => format!("{name}+{offset:#x}/{size:#x}"),
        _ => name.to_owned(),
    };
    match &frame.module {
        Some(module) => format!("{place} [{module}]"),
        None => place,
    }
}

fn ip_in_module(case: &Case<'_>) -> Option<Evidence> {
    // In a stall the instruction pointer is chance; the function the rule chose is not.
    let hangs = case.report.class.severity() == Severity::Hang;
    let pointer = case.report.body.ip.iter().filter(|_| !hangs);
    let place = pointer
        .chain(&case.report.guilty)
        .find(|frame| frame.reliable && case.is_in(frame))?;
    Some(found(
        "ip-in-module",
        Strength::Direct,
        written(place),
        case.report.guilty_sequence,
    ))
}

/// A fault in what only copies, compares or prints: its caller handed it the bad pointer.
fn handed_over(case: &Case<'_>) -> Option<Evidence> {
    let fault = matches!(
        case.report.class,
        Class::NullDeref | Class::BadAccess | Class::Gpf
    );
    let (frame, sequence) = case.below(skip::is_handed_all).filter(|_| fault)?;
    let ip = case.report.body.ip.as_ref()?;
    Some(found(
        "handed-over",
        Strength::Direct,
        format!(
            "{} handed {} what it faulted on",
            written(frame),
            written(ip)
        ),
        sequence,
    ))
}

/// A CPU that spins for a lock taken in the livepatch. Who holds it is not known: where somebody else
/// hung or slept in the wrong place before, that one may.
fn spins_for_lock(case: &Case<'_>) -> Option<Evidence> {
    let stands = matches!(
        case.report.class,
        Class::SoftLockup | Class::HardLockup | Class::RcuStall
    );
    let (frame, sequence) = case.below(skip::is_lock).filter(|_| stands)?;
    if case.around.other_hang {
        return None;
    }
    Some(found(
        "spins-for-lock",
        Strength::Direct,
        format!("{} waits for a lock", written(frame)),
        sequence,
    ))
}

fn ip_in_unloaded(case: &Case<'_>) -> Option<Evidence> {
    let ip = case.report.body.ip.as_ref()?;
    let address = ip.address?;
    if !MODULES.contains(&address) && !case.report.body.code_unreadable {
        return None;
    }
    let last = case.report.body.last_unloaded.as_ref();
    let unloaded = last.is_some_and(|(name, _)| *name == case.patch.name)
        || (last.is_none() && case.timeline.was_removed_before(case.report.bytes.0));
    let loaded = case
        .report
        .body
        .modules
        .iter()
        .any(|module| module.name == case.patch.name);
    if !unloaded || loaded {
        return None;
    }
    Some(found(
        "ip-in-unloaded",
        Strength::Direct,
        format!("{address:#x} after {} was unloaded", case.patch.name),
        case.report.guilty_sequence,
    ))
}

fn livepatch_core(case: &Case<'_>) -> Option<Evidence> {
    if !case.state.is_moving() {
        return None;
    }
    let handler = case
        .report
        .guilty
        .as_ref()
        .is_some_and(|frame| frame.function.as_deref() == Some("klp_ftrace_handler"));
    let core = case.report.header.contains("kernel/livepatch/")
        || case.report.class == Class::FtraceBug
        || handler;
    let sequence = case.report.sequence.map(|(first, _)| first);
    core.then(|| {
        found(
            "livepatch-core",
            Strength::Direct,
            format!("{} while {}", case.report.header, case.state.as_str()),
            sequence,
        )
    })
}

fn loading(case: &Case<'_>) -> Option<Evidence> {
    let body = &case.report.body;
    body.modules
        .iter()
        .find(|module| module.name == case.patch.name && module.state == ModuleState::Coming)?;
    let frame = body.frames.iter().find(|frame| {
        frame.reliable
            && matches!(
                frame.function.as_deref(),
                Some("load_module" | "do_init_module" | "klp_enable_patch")
            )
    })?;
    Some(found(
        "loading",
        Strength::Direct,
        format!("{} is being loaded, {}", case.patch.name, written(frame)),
        case.report.sequence.map(|(first, _)| first),
    ))
}

fn endbr(case: &Case<'_>) -> Option<Evidence> {
    if case.report.class != Class::Cfi {
        return None;
    }
    let marks = [
        format!("[{}]", case.patch.name),
        format!("[{} ", case.patch.name),
    ];
    let said = [Some(&case.report.header), case.report.detail.as_ref()]
        .into_iter()
        .flatten()
        .find(|text| marks.iter().any(|mark| text.contains(mark)))?;
    Some(found(
        "endbr",
        Strength::Direct,
        said.clone(),
        case.report.sequence.map(|(first, _)| first),
    ))
}

/// An error line of the livepatch core that is a report of its own.
fn livepatch_error(case: &Case<'_>) -> Option<Evidence> {
    if case.report.class != Class::LivepatchError {
        return None;
    }
    let named = case
        .report
        .header
        .contains(&format!("'{}'", case.patch.name));
    let bound = case.state == State::Loading;
    if !named && !bound {
        return None;
    }
    let strength = if case.timeline.conflict {
        Strength::Weak
    } else {
        Strength::Direct
    };
    let rule = if case.timeline.conflict {
        "livepatch-conflict"
    } else {
        "livepatch-error"
    };
    Some(found(
        rule,
        strength,
        case.report.header.clone(),
        case.report.sequence.map(|(first, _)| first),
    ))
}

fn stalled(case: &Case<'_>) -> Option<Evidence> {
    let open = matches!(
        case.state,
        State::Transition | State::Stalled | State::Removing
    );
    if !open || case.report.class.severity() != Severity::Hang {
        return None;
    }
    let age = case
        .report
        .time_us?
        .checked_sub(case.timeline.since(case.report.bytes.0)?)?;
    (age > case.around.stall_us || case.state == State::Stalled).then(|| {
        found(
            "stalled",
            Strength::Indirect,
            format!("its transition is open for {} s", age / 1_000_000),
            None,
        )
    })
}

fn frame_in_module(case: &Case<'_>) -> Option<Evidence> {
    // The instruction pointer of a hang is chance, but on the stack it is.
    let hangs = case.report.class.severity() == Severity::Hang;
    if hangs
        && let Some(ip) = &case.report.body.ip
        && case.is_in(ip)
    {
        return Some(found(
            "frame-in-module",
            Strength::Indirect,
            format!("{}, where it stood", written(ip)),
            case.report.sequence.map(|(first, _)| first),
        ));
    }
    let frames = &case.report.body.frames;
    let depth = frames
        .iter()
        .position(|frame| frame.reliable && case.is_in(frame))?;
    let frame = frames.get(depth)?;
    Some(found(
        "frame-in-module",
        Strength::Indirect,
        format!("{}, frame {}", written(frame), depth + 1),
        case.report.frame_sequences.get(depth).copied(),
    ))
}

fn patched_function(case: &Case<'_>) -> Option<Evidence> {
    let name = case.guilty_name()?;
    if !case.patches(name) || !in_kernel(case.state) {
        return None;
    }
    Some(found(
        "patched-function",
        Strength::Indirect,
        format!("{name} is patched by it"),
        case.report.guilty_sequence,
    ))
}

/// The snapshot says it is there, the log may not reach back that far.
fn in_kernel(state: State) -> bool {
    match state {
        State::Removed | State::Failed | State::Replaced => false,
        State::Unknown
        | State::Loading
        | State::Transition
        | State::Stalled
        | State::Applied
        | State::Removing => true,
    }
}

fn near_patched(case: &Case<'_>) -> Option<Evidence> {
    let name = case.guilty_name()?;
    if case.patches(name) || !in_kernel(case.state) {
        return None;
    }
    let (caller, callee) = case.around.calls.iter().find(|(caller, callee)| {
        let (caller, callee) = (plain(caller), plain(callee));
        (caller == name && case.patches(callee)) || (callee == name && case.patches(caller))
    })?;
    Some(found(
        "near-patched",
        Strength::Indirect,
        format!("{caller} calls {callee}"),
        None,
    ))
}

fn fleet_ratio(case: &Case<'_>) -> Option<Evidence> {
    let seen = case.around.baseline?;
    let chance = seen.chance();
    (seen.with.0 >= 3 && chance < 0.001).then(|| {
        found(
            "fleet-ratio",
            Strength::Indirect,
            format!(
                "{} of {} nodes with it, {} of {} without, chance {chance:.1e}",
                seen.with.0, seen.with.1, seen.without.0, seen.without.1
            ),
            None,
        )
    })
}

fn new_after_load(case: &Case<'_>) -> Option<Evidence> {
    if case.around.first_seen.is_some() {
        return None;
    }
    let age = case
        .report
        .time_us?
        .checked_sub(case.timeline.completed_us?)?;
    (age <= NEW_US).then(|| {
        found(
            "new-after-load",
            Strength::Weak,
            format!("first seen {} s after it was applied", age / 1_000_000),
            None,
        )
    })
}

fn against(rule: &'static str, text: String, sequence: Option<u64>) -> Evidence {
    found(rule, Strength::Against, text, sequence)
}

fn seen_before(case: &Case<'_>) -> Option<Evidence> {
    if let Some(seen) = case.around.baseline
        && seen.without.0 > 0
        && seen.chance() >= 0.001
    {
        return Some(against(
            "seen-before",
            format!("{} of {} nodes without it", seen.without.0, seen.without.1),
            None,
        ));
    }
    let first = case.around.first_seen?;
    let enabled = case
        .timeline
        .steps
        .iter()
        .find(|step| step.state == State::Loading)?;
    (first < enabled.offset).then(|| {
        against(
            "seen-before",
            "the same report came before it was loaded".to_owned(),
            None,
        )
    })
}

fn other_module(case: &Case<'_>) -> Option<Evidence> {
    let frame = case
        .places()
        .find(|frame| frame.module.is_some() && !case.is_in(frame))?;
    if case.places().any(|frame| case.is_in(frame)) {
        return None;
    }
    Some(against(
        "other-module",
        written(frame),
        case.report.guilty_sequence,
    ))
}

fn hardware(case: &Case<'_>) -> Option<Evidence> {
    let (age, sequence) = case.around.hardware?;
    Some(against(
        "hardware",
        format!("the machine reported an error {} s before", age / 1_000_000),
        sequence,
    ))
}

fn oom(case: &Case<'_>) -> Option<Evidence> {
    let (age, sequence) = case.around.memory?;
    Some(against(
        "oom",
        format!("a task was killed for memory {} s before", age / 1_000_000),
        sequence,
    ))
}

/// The taint is printed as it was before this report.
fn after_oops(case: &Case<'_>) -> Option<Evidence> {
    let taint = case.report.body.taint.as_deref()?;
    taint.contains('D').then(|| {
        against(
            "after-oops",
            format!("tainted {taint}: fallout of an earlier oops"),
            None,
        )
    })
}

fn only_unreliable(case: &Case<'_>) -> Option<Evidence> {
    let frames = &case.report.body.frames;
    let mut own = frames.iter().filter(|frame| case.is_in(frame)).peekable();
    let first = (*own.peek()?).clone();
    let reliable = own.any(|frame| frame.reliable) || case.places().any(|frame| case.is_in(frame));
    if reliable {
        return None;
    }
    Some(against(
        "only-unreliable",
        format!("{} is a guess of the unwinder", written(&first)),
        None,
    ))
}

fn corrupted(case: &Case<'_>) -> Option<Evidence> {
    let report = case.report;
    let why = if let Some(why) = report.corrupted {
        why.to_owned()
    } else if report.interleaved {
        "another report stands between its lines".to_owned()
    } else if report.dropped > 0 {
        format!("{} records are missing inside it", report.dropped)
    } else {
        return None;
    };
    Some(against("corrupted", why, None))
}

fn untrusted(case: &Case<'_>) -> Option<Evidence> {
    (case.report.provenance == Provenance::None).then(|| {
        against(
            "untrusted",
            "the transport does not say that the kernel wrote it".to_owned(),
            None,
        )
    })
}
