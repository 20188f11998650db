//! What is to be done, decided from facts alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tuxtape_archive::hold::{Hold, Share};
use tuxtape_archive::index::{IndexedKernel, KernelIndex, OnWithdraw, SupportState};
use tuxtape_archive::metadata::{TargetFile, Targets};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{BuildId, KernelId};
use tuxtape_core::module::{self, KERNEL_BUILD_ID, ModuleError};
use tuxtape_core::rollout::{Node, Rank};
use tuxtape_sys::kernel::livepatch::Livepatch;

use crate::config::Foreign;
use crate::guard::BOOT_LOOP;
use crate::journal::{Journal, JournaledLevel, Phase};
use crate::mode::Mode;
use crate::state::Quarantine;

/// Uptime from which on a level is tried again that did not survive an earlier boot, seconds.
const RETRY_UPTIME: u64 = 600;
/// How long a level is left alone after a crash that does not name it, seconds.
pub const REST: u64 = 86_400;
/// A clock further than this behind the latest signed time is not believed, seconds.
const CLOCK_SLACK: u64 = 86_400;

/// A livepatch in the kernel, and whether it is one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its state.
    pub livepatch: Livepatch,
    /// Build-id of its module, where the kernel shows it.
    pub build_id: Option<BuildId>,
}

/// Everything a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The kernel that runs.
    pub kernel: &'a KernelId,
    /// Its role and index; `None` when the archive has none.
    pub index: Option<(&'a Targets, &'a KernelIndex)>,
    /// The journal, after recovery.
    pub journal: &'a Journal,
    /// Livepatches in the kernel.
    pub running: &'a [Running],
    /// Modules barred from this build, by digest.
    pub quarantined: &'a BTreeMap<String, Quarantine>,
    /// What to do about somebody else's livepatches.
    pub foreign: Foreign,
    /// Seconds since boot.
    pub uptime: u64,
    /// Whether the boot has just begun, so that nothing but a proven level is loaded.
    pub early: bool,
    /// Boots in a row before this one that did not complete.
    pub unfinished_boots: u32,
    /// Local clock.
    pub clock: UtcSeconds,
    /// Latest signed time seen.
    pub time_floor: UtcSeconds,
    /// The emergency switch.
    pub mode: Mode,
    /// What the stop button says; `None` when going by what was trusted before, where nothing is
    /// accepted anew.
    pub hold: Option<&'a Hold>,
    /// This machine, as ranks are computed for it; without one its turn comes last.
    pub node: Option<Node>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The archive has nothing for this kernel.
    Unsupported(Unsupported),
    /// The newest level runs.
    UpToDate(JournaledLevel),
    /// The kernel is in the archive, and there is no level for it yet.
    NothingToApply,
    /// A level is to be loaded.
    Load(JournaledLevel, TargetFile, String),
    /// The level that runs was withdrawn and is to be left.
    Leave(JournaledLevel, String),
    /// A level could be loaded, but something stands in the way.
    Blocked(JournaledLevel, Vec<Obstacle>),
}

/// Why the archive has nothing for this kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// No role for this release.
    #[error("kernel {} is not in the archive", .0.release)]
    Release(KernelId),
    /// A role for this release, but not for this build.
    #[error("the archive has kernel {release} only in other builds: this is {running}, listed is {listed}",
        release = kernel.release, running = kernel.build_id)]
    Build {
        /// The kernel that runs.
        kernel: KernelId,
        /// Builds listed.
        listed: String,
    },
}

/// What stands between a level and the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The switch.
    #[error("mode is {0}")]
    Mode(Mode),
    /// A person rolled back.
    #[error("pinned by a rollback or a lost journal; `tuxtape-client apply --clear` lifts it")]
    Pinned,
    /// Barred here.
    #[error("level {level} is quarantined on this kernel: {reason}; removing {file} lifts that", file = file.display())]
    Quarantined {
        /// The level.
        level: u32,
        /// Why.
        reason: String,
        /// The file that bars it.
        file: PathBuf,
    },
    /// An earlier boot ended during an attempt.
    #[error(
        "an earlier boot ended while this level was being loaded or watched; next try {RETRY_UPTIME} s after boot"
    )]
    Strike,
    /// The machine crashed while the level was new, and the crash does not name it.
    #[error(
        "the machine crashed while this level was new, and the crash names something else; next try after {0}"
    )]
    Rest(UtcSeconds),
    /// Boots before this one did not complete.
    #[error(
        "{0} boots in a row did not complete; nothing is loaded until one does, or until `apply --clear`"
    )]
    BootLoop(u32),
    /// Somebody else's livepatches.
    #[error("livepatches of somebody else are loaded and would be replaced: {0}")]
    Foreign(String),
    /// The kernel runs one transition at a time.
    #[error("livepatch {0} is in transition")]
    Transition(String),
    /// A level hangs between in and out.
    #[error("module {0} neither came into force nor left; reboot to clear it")]
    Stuck(String),
    /// The clock cannot be right.
    #[error("the clock says {clock}, more than a day before {floor}, which was signed already")]
    Clock {
        /// Local clock.
        clock: UtcSeconds,
        /// Latest signed time.
        floor: UtcSeconds,
    },
    /// `kernel.modules_disabled`.
    #[error(
        "this kernel takes no more modules until it is booted again (kernel.modules_disabled is 1)"
    )]
    ModulesDisabled,
    /// The stop button is pressed, or cannot be read.
    #[error("the rollout is stopped: {0}")]
    Held(String),
    /// Its turn has not come.
    #[error("this machine waits for its turn: {share} of the fleet may load the level now{}", opens_text(*.opens))]
    Wave {
        /// Open share, for people.
        share: String,
        /// When the signed schedule reaches this machine, unless a cap delays it.
        opens: Option<UtcSeconds>,
    },
    /// Signatures are demanded and there is none.
    #[error("the module is not signed for the kernel, which demands it ({0})")]
    SignatureDemanded(String),
    /// Signatures are demanded, and the kernel does not list the key.
    #[error(
        "the kernel demands signed modules ({why}) and does not know key {skid}, which signed this one; enrol this key: run `mokutil --import` with its certificate, boot, and confirm it there"
    )]
    KeyUnknown {
        /// What demands it.
        why: String,
        /// Subject key id of the signer's certificate, in hex.
        skid: String,
    },
}

/// Decides what is to be done.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let Some((role, index)) = facts.index else {
        return Plan::Unsupported(Unsupported::Release(facts.kernel.clone()));
    };
    let Some(kernel) = index.kernel(&facts.kernel.build_id) else {
        let listed: Vec<String> = index
            .kernels
            .iter()
            .map(|k| k.build_id.to_string())
            .collect();
        return Plan::Unsupported(Unsupported::Build {
            kernel: facts.kernel.clone(),
            listed: listed.join(", "),
        });
    };
    let current = current(
        &kernel.build_id,
        Some((role, kernel)),
        facts.journal,
        facts.running,
    );
    if let Some(current) = &current
        && let Some(withdrawn) = kernel.withdrawal(&current.sha256)
        && facts.mode == Mode::Normal
    {
        match withdrawn.on_withdraw {
            OnWithdraw::Revert => {
                let why = format!("withdrawn: {}", withdrawn.reason);
                return Plan::Leave(current.clone(), why);
            }
            OnWithdraw::Keep => {}
        }
    }
    if let Some(current) = &current
        && let Some(quarantine) = facts.quarantined.get(&current.sha256)
        && facts.mode == Mode::Normal
    {
        let why = format!("quarantined: {}", quarantine.reason);
        return Plan::Leave(current.clone(), why);
    }
    let candidates = candidates(facts, kernel, role);
    let Some((wanted, target, name)) = newest(facts, &candidates) else {
        return match current {
            Some(current) => Plan::UpToDate(current),
            None => Plan::NothingToApply,
        };
    };
    let runs = current.is_some();
    if let Some(current) = current.filter(|current| current.level >= wanted.level) {
        return Plan::UpToDate(current);
    }
    let found = obstacles(facts, kernel, role, &wanted);
    if found.is_empty() {
        return Plan::Load(wanted, target, name);
    }
    // While a newer level waits, the one that ran here before comes back.
    let committed = facts.journal.committed.as_ref();
    let again = candidates
        .into_iter()
        .find(|(level, _, _)| Some(level) == committed && *level != wanted);
    match again {
        Some((level, target, name))
            if !runs && obstacles(facts, kernel, role, &level).is_empty() =>
        {
            Plan::Load(level, target, name)
        }
        Some(_) | None => Plan::Blocked(wanted, found),
    }
}

/// Finds the level of ours that is in force, by the build-id of its module; the highest, when one
/// replaces another just now.
///
/// The journal says what was loaded; the index, where this build is in it, also knows a level that a
/// lost journal forgot.
pub fn current(
    build_id: &BuildId,
    indexed: Option<(&Targets, &IndexedKernel)>,
    journal: &Journal,
    running: &[Running],
) -> Option<JournaledLevel> {
    running
        .iter()
        .filter(|running| running.livepatch.enabled)
        .filter_map(|running| ours(build_id, indexed, journal, running))
        .max_by_key(|level| level.level)
}

/// Tells which level a livepatch is; `None` when it is somebody else's.
pub fn ours(
    build_id: &BuildId,
    indexed: Option<(&Targets, &IndexedKernel)>,
    journal: &Journal,
    running: &Running,
) -> Option<JournaledLevel> {
    let name = &running.livepatch.name;
    let same = |module: &str, build_id: &BuildId| match &running.build_id {
        Some(found) => found == build_id,
        None => name == module,
    };
    let attempt = journal.attempt.iter().map(|attempt| &attempt.level);
    let journaled = attempt.chain(&journal.committed).chain(&journal.previous);
    let mut journaled = journaled.filter(|level| level.kernel == *build_id);
    if let Some(level) = journaled.find(|level| same(&level.module, &level.module_build_id)) {
        return Some(level.clone());
    }
    let (role, kernel) = indexed?;
    let level = kernel
        .levels
        .iter()
        .find(|level| same(&level.module, &level.module_build_id))?;
    journaled_level(kernel, role, level)
}

/// The newest level that may be loaded here; when all of them are barred, the newest there is.
fn newest(facts: &Facts<'_>, candidates: &[Candidate]) -> Option<Candidate> {
    let free = candidates
        .iter()
        .find(|(level, _, _)| !facts.quarantined.contains_key(&level.sha256));
    free.or(candidates.first()).cloned()
}

/// A level with its file and the file's name.
type Candidate = (JournaledLevel, TargetFile, String);

/// The levels that the index allows here, newest first.
fn candidates(facts: &Facts<'_>, kernel: &IndexedKernel, role: &Targets) -> Vec<Candidate> {
    let allowed = |level: &JournaledLevel| {
        let early = !facts.early || facts.journal.is_proven(level);
        early && level.level >= kernel.floor && kernel.withdrawal(&level.sha256).is_none()
    };
    kernel
        .levels
        .iter()
        .rev()
        .filter_map(|level| {
            let target = role.targets.get(&level.target)?.clone();
            let journaled = journaled_level(kernel, role, level)?;
            allowed(&journaled).then(|| (journaled, target, level.target.clone()))
        })
        .collect()
}

fn journaled_level(
    kernel: &IndexedKernel,
    role: &Targets,
    level: &tuxtape_archive::index::Level,
) -> Option<JournaledLevel> {
    Some(JournaledLevel {
        kernel: kernel.build_id.clone(),
        level: level.level,
        sha256: role
            .targets
            .get(&level.target)?
            .hashes
            .get("sha256")?
            .clone(),
        module: level.module.clone(),
        module_build_id: level.module_build_id.clone(),
    })
}

fn obstacles(
    facts: &Facts<'_>,
    kernel: &IndexedKernel,
    role: &Targets,
    wanted: &JournaledLevel,
) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if facts.mode != Mode::Normal {
        found.push(Obstacle::Mode(facts.mode));
    }
    if facts.journal.pinned {
        found.push(Obstacle::Pinned);
    }
    match facts.journal.phase {
        Phase::Stuck => {
            let name = facts
                .journal
                .attempt
                .as_ref()
                .map(|attempt| &attempt.level.module);
            found.push(Obstacle::Stuck(name.cloned().unwrap_or_default()));
        }
        Phase::Idle | Phase::Armed | Phase::Transition | Phase::Probation | Phase::Revert => {}
    }
    if let Some(quarantine) = facts.quarantined.get(&wanted.sha256) {
        found.push(Obstacle::Quarantined {
            level: wanted.level.0,
            reason: quarantine.reason.clone(),
            file: quarantine.file.clone(),
        });
    }
    let struck = facts
        .journal
        .strikes
        .get(&wanted.sha256)
        .is_some_and(|count| *count > 0);
    if struck && facts.uptime < RETRY_UPTIME {
        found.push(Obstacle::Strike);
    }
    if let Some(rest) = &facts.journal.rest
        && rest.sha256 == wanted.sha256
    {
        let now = facts.clock.max(facts.time_floor);
        // Longer than a rest ever is: the clock was wrong when it was written.
        if (1..=REST).contains(&rest.until.since(now)) {
            found.push(Obstacle::Rest(rest.until));
        }
    }
    if facts.unfinished_boots >= BOOT_LOOP {
        found.push(Obstacle::BootLoop(facts.unfinished_boots));
    }
    let foreign: Vec<&str> = facts
        .running
        .iter()
        .filter(|running| {
            ours(
                &kernel.build_id,
                Some((role, kernel)),
                facts.journal,
                running,
            )
            .is_none()
        })
        .map(|running| running.livepatch.name.as_str())
        .collect();
    match facts.foreign {
        Foreign::Refuse if !foreign.is_empty() => {
            found.push(Obstacle::Foreign(foreign.join(", ")));
        }
        Foreign::Refuse | Foreign::Replace => {}
    }
    if let Some(busy) = facts
        .running
        .iter()
        .find(|running| running.livepatch.transition)
    {
        found.push(Obstacle::Transition(busy.livepatch.name.clone()));
    }
    found.extend(turn(facts, kernel, wanted));
    if facts.time_floor.since(facts.clock) > CLOCK_SLACK {
        found.push(Obstacle::Clock {
            clock: facts.clock,
            floor: facts.time_floor,
        });
    }
    found
}

/// Whether a level that is new here may be loaded by this machine now: the signed schedule, and the
/// caps below it.
fn turn(facts: &Facts<'_>, kernel: &IndexedKernel, wanted: &JournaledLevel) -> Option<Obstacle> {
    let hold = facts.hold?;
    let committed = facts.journal.committed.as_ref();
    // A hold unloads nothing, so it does not keep a level out either that passed its probation here.
    if committed.is_some_and(|committed| committed.sha256 == wanted.sha256) {
        return None;
    }
    let level = kernel.level(wanted.level)?;
    // Not the time floor: that knows times which the online keys signed, and those open nothing.
    let now = facts.clock;
    let share = hold.share(&level.target, level.waves.as_ref(), now);
    let ppm = match &share {
        Share::Stopped(why) => return Some(Obstacle::Held(why.clone())),
        Share::Scheduled(ppm) | Share::Capped { ppm, .. } => *ppm,
    };
    let mut digest = [0; 32];
    let known = hex::decode_to_slice(&wanted.sha256, &mut digest).is_ok();
    let last = Rank(u64::MAX);
    let rank = facts
        .node
        .filter(|_| known)
        .map_or(last, |node| node.rank(&digest));
    if rank.is_within(ppm) {
        return None;
    }
    let capped = match &share {
        Share::Capped { reason, .. } => format!(", capped: {reason}"),
        Share::Scheduled(_) | Share::Stopped(_) => String::new(),
    };
    Some(Obstacle::Wave {
        share: format!("{}.{:02} %{capped}", ppm / 10_000, ppm / 100 % 100),
        opens: level.waves.as_ref().and_then(|waves| rank.opens(waves)),
    })
}

fn opens_text(opens: Option<UtcSeconds>) -> String {
    opens.map_or_else(String::new, |at| format!("; its turn is at {at}"))
}

/// Why a module, though signed by the reviewers, is not given to this kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not readable.
    #[error("the module is not usable")]
    Module(#[from] ModuleError),
    /// No livepatch.
    #[error("the module is no livepatch (modinfo has no livepatch=Y)")]
    NotLivepatch,
    /// Another release.
    #[error("the module was built for kernel {module}, this is {running}")]
    Release {
        /// The module's own.
        module: String,
        /// `uname -r`.
        running: String,
    },
    /// Another build of the release.
    #[error("the module was built for the kernel with build-id {module}, this is {running}")]
    Build {
        /// The module's own.
        module: String,
        /// From `/sys/kernel/notes`.
        running: BuildId,
    },
    /// It does not say.
    #[error(
        "the module does not say which kernel build it is for (modinfo has no {KERNEL_BUILD_ID})"
    )]
    NoBuild,
    /// Another version magic than the index says.
    #[error("vermagic is {module:?}, the index says {index:?}")]
    Vermagic {
        /// The module's own.
        module: String,
        /// The index's.
        index: String,
    },
    /// Not the module the index describes.
    #[error("the module is {found}, the index says {listed}")]
    Other {
        /// Name and build-id in the file.
        found: String,
        /// Name and build-id in the index.
        listed: String,
    },
}

/// Checks that a module is what the index says and fits the running kernel.
pub fn fits(
    image: &[u8],
    wanted: &JournaledLevel,
    kernel: &KernelId,
    indexed: &IndexedKernel,
) -> Result<(), Unfit> {
    let module = module::read(image)?;
    if !module.livepatch {
        return Err(Unfit::NotLivepatch);
    }
    if module.release() != kernel.release.as_str() {
        return Err(Unfit::Release {
            module: module.release().to_owned(),
            running: kernel.release.to_string(),
        });
    }
    match &module.kernel_build_id {
        None => return Err(Unfit::NoBuild),
        Some(build) if *build != kernel.build_id => {
            return Err(Unfit::Build {
                module: build.to_string(),
                running: kernel.build_id.clone(),
            });
        }
        Some(_) => {}
    }
    if module.vermagic != indexed.vermagic {
        return Err(Unfit::Vermagic {
            module: module.vermagic,
            index: indexed.vermagic.clone(),
        });
    }
    if module.name != wanted.module || module.build_id != wanted.module_build_id {
        return Err(Unfit::Other {
            found: format!("{} {}", module.name, module.build_id),
            listed: format!("{} {}", wanted.module, wanted.module_build_id),
        });
    }
    Ok(())
}

/// Says in Canonical's words whether new levels are to be expected.
pub fn support_word(kernel: Option<&IndexedKernel>) -> &'static str {
    match kernel.map(|kernel| kernel.support.state) {
        None => "unsupported",
        Some(SupportState::Supported) => "supported",
        Some(SupportState::KernelUpgradeRequired) => "kernel-upgrade-required",
        Some(SupportState::KernelEndOfLife) => "kernel-end-of-life",
    }
}
