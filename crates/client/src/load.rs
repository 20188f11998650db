//! Taking a level into the kernel and out of it again, journal first.

use std::io;
use std::time::Duration;

use tuxtape_sys::kernel::KernelError;
use tuxtape_sys::kernel::livepatch::Livepatch;

use crate::host::Host;
use crate::journal::{Attempt, JournaledLevel, Phase};
use crate::recover::is_ours;
use crate::state::{State, StateError};
use crate::watch::{complaint, log_end};

/// How long a transition may take in each direction.
pub const TRANSITION: Duration = Duration::from_secs(60);
/// How long a module may stay in use after its transition out.
const REMOVAL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// What a kernel log says about one loaded level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogVerdict {
    /// Nothing since it was loaded.
    Clean,
    /// Complaints that nothing ties to it.
    Unrelated {
        /// The worst or first of them.
        what: String,
        /// How many of them are oopses.
        oopses: u64,
    },
    /// Complaints with it on the stack or during its transition.
    Guilty(String),
}

/// Judges kernel log records (as `/dev/kmsg` gives them) about the module of that name.
pub type LogJudge = fn(&[u8], &str) -> LogVerdict;

/// What the records of a crash say about one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrashVerdict {
    /// There is none, or none that tells.
    Nothing,
    /// A crash that does not name it.
    Elsewhere(String),
    /// It is on the stack of the crash.
    Involved(String),
    /// The instruction that failed is its own.
    Guilty(String),
}

/// Judges records of crashes, in any order, about the module of that name.
pub type CrashJudge = fn(&[u8], &str) -> CrashVerdict;

/// How a loaded level is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// For how long.
    pub probation: Duration,
    /// Who reads the log; without one, only the kernel's own counters speak.
    pub judge: Option<LogJudge>,
}

/// Why a level is not in force. Where it was refused or its transition reversed, the kernel runs what it
/// ran before; a level that was in force and taken out leaves the original code.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused the module.
    #[error("the kernel refused the module ({error}): {advice}")]
    Refused {
        /// What the system said.
        error: io::Error,
        /// What it means.
        advice: &'static str,
    },
    /// The transition did not end in time and was reversed.
    #[error(
        "the transition did not end within {seconds} s and was reversed; still in old code: {tasks}"
    )]
    Stalled {
        /// The limit.
        seconds: u64,
        /// Who kept it.
        tasks: String,
    },
    /// The transition ended in neither direction.
    #[error(
        "the transition ended in neither direction; the module stays until a reboot; tasks: {tasks}"
    )]
    Stuck {
        /// Who keeps it.
        tasks: String,
    },
    /// It was loaded, complained about, and taken out.
    #[error("the level was taken out again and quarantined: {0}")]
    Complained(String),
    /// The module cannot be removed.
    #[error("livepatch {name} is out of force, but its module stays")]
    Removal {
        /// The module.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The state could not be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Something worth telling that stops nothing.
pub type Remarks = Vec<String>;

/// Loads a verified module: journals ARMED, inserts the very bytes given, waits for the transition,
/// watches, and commits. Takes it out again when anything is wrong.
pub fn load(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    image: &[u8],
    watch: Watch,
) -> Result<Remarks, LoadError> {
    insert(host, state, level, image, false)?;
    settle(host, state, level, watch)
}

/// Like [`load`], and leaves the probation to the next run of the client, which finds it in the journal
/// and reads the kernel log from the attempt on.
pub fn load_unwatched(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    image: &[u8],
) -> Result<Remarks, LoadError> {
    insert(host, state, level, image, true)?;
    come_into_force(host, state, level)
}

fn insert(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    image: &[u8],
    early: bool,
) -> Result<(), LoadError> {
    let boot_id = host.boot_id()?;
    // What a shutdown left that did not come about.
    state.unmark_shut_down(&boot_id);
    // Complaints from before the attempt are not about it.
    let log_from = log_end(host);
    let attempt = Attempt {
        level: level.clone(),
        boot_id,
        log_from,
        oopses: host.counters().oops,
        watched: 0,
        early,
        because: None,
    };
    record(state, Phase::Armed, Some(attempt))?;
    if let Err(error) = host.insert(image) {
        let (advice, defect) = advice(&error);
        if defect {
            let now = host.clock();
            let reason = format!("the kernel refused it: {error}");
            state.quarantine(&level.sha256, &level.kernel, level.level, &reason, now)?;
        }
        record(state, Phase::Idle, None)?;
        return Err(LoadError::Refused { error, advice });
    }
    Ok(())
}

/// Goes on with a level that is in the kernel: transition, probation, commit.
pub fn settle(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    watch: Watch,
) -> Result<Remarks, LoadError> {
    let mut remarks = come_into_force(host, state, level)?;
    if let Some(why) = complaint(host, state, level, watch, &mut remarks)? {
        return Err(condemn(host, state, level, why));
    }
    commit(state, level)?;
    Ok(remarks)
}

/// Waits for the transition of a level that is in the kernel; its probation begins.
fn come_into_force(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
) -> Result<Remarks, LoadError> {
    let mut remarks = Remarks::new();
    note_phase(state, Phase::Transition, &mut remarks);
    let found = wait(host, &level.module, TRANSITION, |patch| {
        patch.is_none_or(|patch| !patch.transition)
    })?;
    match found {
        Waited::Done(Some(patch)) => {
            if let Some(why) = wrong(&patch, level, host) {
                return Err(condemn(host, state, level, why));
            }
        }
        Waited::Done(None) => {
            let why = "the kernel does not list it as a livepatch after loading it".to_owned();
            return Err(condemn(host, state, level, why));
        }
        Waited::Late => {
            let tasks = host.lagging(1).join(", ");
            let counted = state.journal.record(|journal| {
                journal.stall(&level.sha256);
            });
            take_out(host, state, level, Some("the transition stalled"))?;
            counted.map_err(StateError::from)?;
            return Err(LoadError::Stalled {
                seconds: TRANSITION.as_secs(),
                tasks,
            });
        }
    }
    // A replaced module stays in memory under its name; a later return to it would need that name.
    let replaced = state.journal.journal.committed.clone();
    if let Some(old) = replaced.filter(|old| old.module != level.module)
        && host.module(&old.module).is_some()
        && is_ours(host, &old)
        && let Err(error) = remove(host, &old.module)
    {
        remarks.push(format!(
            "module {} of level {} stays in memory: {error}",
            old.module, old.level
        ));
    }
    note_phase(state, Phase::Probation, &mut remarks);
    Ok(remarks)
}

/// Writes down that a level passed its probation.
fn commit(state: &mut State, level: &JournaledLevel) -> Result<(), LoadError> {
    let keep = level.clone();
    state
        .journal
        .record(|journal| {
            journal.strikes.remove(&keep.sha256);
            journal.stalls.remove(&keep.sha256);
            journal.cuts.remove(&keep.sha256);
            if journal.committed.as_ref() != Some(&keep) {
                journal.previous = journal.committed.replace(keep);
            }
            journal.attempt = None;
            journal.phase = Phase::Idle;
        })
        .map_err(StateError::from)?;
    let journal = &state.journal.journal;
    let kept: Vec<&str> = [&journal.committed, &journal.previous]
        .into_iter()
        .flatten()
        .map(|level| level.sha256.as_str())
        .collect();
    state.drop_modules(&kept);
    Ok(())
}

/// Takes a level out of the kernel and removes its module, journal first. What cannot be journaled is
/// taken out all the same, and the journal's error returned: the old code is where it is safe to be.
///
/// `because` is none when a person asked.
pub fn take_out(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    because: Option<&str>,
) -> Result<(), LoadError> {
    let attempt = Attempt {
        level: level.clone(),
        boot_id: host.boot_id()?,
        log_from: 0,
        oopses: None,
        watched: 0,
        early: false,
        because: because.map(|why| why.chars().take(200).collect()),
    };
    // Tried once more at the end, where a failure is told.
    record(state, Phase::Revert, Some(attempt)).ok();
    let listed = host
        .livepatches()?
        .into_iter()
        .find(|patch| patch.name == level.module);
    // Writing the value it has already is an error in the kernel.
    if listed.is_some_and(|patch| patch.enabled) {
        host.disable(&level.module)?;
    }
    let left = wait(host, &level.module, TRANSITION, |patch| patch.is_none())?;
    match left {
        Waited::Done(_) => {}
        Waited::Late => {
            let tasks = host.lagging(0).join(", ");
            // The kernel's state matters more to the reader than a journal that cannot be written.
            set_phase(state, Phase::Stuck).ok();
            return Err(LoadError::Stuck { tasks });
        }
    }
    if host.module(&level.module).is_some()
        && let Err(source) = remove(host, &level.module)
    {
        // Out of force is what matters; the name stays taken until a reboot.
        set_phase(state, Phase::Stuck).ok();
        return Err(LoadError::Removal {
            name: level.module.clone(),
            source,
        });
    }
    finish_revert(state, level, because.is_none())
}

/// Writes down that a level is out: one that a person took out pins the machine, and none that is out
/// counts as committed.
pub(crate) fn finish_revert(
    state: &mut State,
    level: &JournaledLevel,
    by_person: bool,
) -> Result<(), LoadError> {
    let change = |journal: &mut crate::journal::Journal| {
        journal.phase = Phase::Idle;
        journal.attempt = None;
        journal.pinned |= by_person;
        if journal.committed.as_ref() == Some(level) {
            journal.previous = journal.committed.take();
        }
    };
    Ok(state.journal.record(change).map_err(StateError::from)?)
}

/// Quarantines first, so that a crash on the way out does not load it again, then takes it out.
fn condemn(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    why: String,
) -> LoadError {
    let now = host.clock();
    let barred = state.quarantine(&level.sha256, &level.kernel, level.level, &why, now);
    if barred.is_err() {
        // Nothing would keep the next run from loading it again.
        state.journal.record(|journal| journal.pinned = true).ok();
    }
    if let Err(error) = take_out(host, state, level, Some(&why)) {
        return error;
    }
    match barred {
        Ok(_) => LoadError::Complained(why),
        Err(error) => error.into(),
    }
}

/// Says what is wrong with a livepatch that should be in force.
fn wrong(patch: &Livepatch, level: &JournaledLevel, host: &dyn Host) -> Option<String> {
    if !patch.enabled {
        return Some("the kernel lists it as disabled after its transition".to_owned());
    }
    let loaded = host
        .module(&level.module)
        .and_then(|module| module.build_id);
    if loaded.is_some_and(|build_id| build_id != level.module_build_id) {
        return Some("the module in memory has another build-id".to_owned());
    }
    // Modules that are not loaded are patched when they come; vmlinux is always there.
    let vmlinux = patch
        .objects
        .get("vmlinux")
        .and_then(|object| object.patched);
    (vmlinux == Some(false)).then(|| "the kernel did not patch vmlinux".to_owned())
}

enum Waited {
    Done(Option<Livepatch>),
    Late,
}

fn wait(
    host: &mut dyn Host,
    name: &str,
    limit: Duration,
    done: impl Fn(Option<&Livepatch>) -> bool,
) -> Result<Waited, KernelError> {
    let end = host.monotonic() + limit;
    loop {
        let found = host
            .livepatches()?
            .into_iter()
            .find(|patch| patch.name == name);
        if done(found.as_ref()) {
            return Ok(Waited::Done(found));
        }
        if host.monotonic() >= end {
            return Ok(Waited::Late);
        }
        host.pause(LOOK);
    }
}

fn remove(host: &mut dyn Host, name: &str) -> io::Result<()> {
    let end = host.monotonic() + REMOVAL;
    loop {
        match host.remove(name) {
            // The kernel lets go of a livepatch a little after its transition.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && host.monotonic() < end => {
                host.pause(LOOK);
            }
            outcome => return outcome,
        }
    }
}

/// Remarks a thing once.
pub(crate) fn note(remarks: &mut Remarks, remark: String) {
    if !remarks.contains(&remark) {
        remarks.push(remark);
    }
}

fn record(state: &mut State, phase: Phase, attempt: Option<Attempt>) -> Result<(), LoadError> {
    let change = |journal: &mut crate::journal::Journal| {
        journal.phase = phase;
        journal.attempt = attempt;
    };
    Ok(state.journal.record(change).map_err(StateError::from)?)
}

/// Notes a phase where that only tells how far it came: recovery treats all phases from ARMED on alike,
/// and a level in the kernel must be watched even when the disk is full.
fn note_phase(state: &mut State, phase: Phase, remarks: &mut Remarks) {
    if let Err(error) = set_phase(state, phase) {
        note(remarks, format!("the journal was not written: {error}"));
    }
}

fn set_phase(state: &mut State, phase: Phase) -> Result<(), LoadError> {
    Ok(state
        .journal
        .record(|journal| journal.phase = phase)
        .map_err(StateError::from)?)
}

/// Says what an error of `init_module` means, and whether it shows a defect of the module itself.
fn advice(error: &io::Error) -> (&'static str, bool) {
    const EPERM: i32 = 1;
    const ENOENT: i32 = 2;
    const ENOEXEC: i32 = 8;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const EBUSY: i32 = 16;
    const EEXIST: i32 = 17;
    const ENODEV: i32 = 19;
    const EINVAL: i32 = 22;
    const EBADMSG: i32 = 74;
    const EKEYREJECTED: i32 = 129;
    match error.raw_os_error() {
        Some(EKEYREJECTED) => ("its signature is damaged or its key is not enrolled", false),
        Some(EPERM) => (
            "lockdown, a blacklist, modules_disabled or a missing capability forbids it",
            false,
        ),
        Some(EBADMSG | ENOEXEC) => ("it is malformed or for another version magic", true),
        Some(EACCES) => ("a security policy (IMA, SELinux) forbids it", false),
        Some(EEXIST) => ("a module of that name is in memory", false),
        Some(EBUSY) => (
            "another transition or a tracer holds a patched function",
            false,
        ),
        Some(ENOENT) => ("a symbol it needs is not in this kernel", true),
        Some(EINVAL) => (
            "the kernel log says why: a symbol differs, or another livepatch is not compatible",
            false,
        ),
        Some(ENODEV) => ("this kernel has no livepatch support", false),
        Some(ENOMEM) => ("no memory", false),
        Some(_) | None => ("unexpected; the kernel log may say more", false),
    }
}
