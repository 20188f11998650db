//! The life of a livepatch in a guest: loaded, in force, disabled, unloaded; and what the kernel
//! said meanwhile.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tuxtape_core::identity::ObjectName;
use tuxtape_klog::header::Severity;
use tuxtape_klog::judge::{Report, State};

use super::accelerator::Accelerator;
use super::guest::{self, Ending, Fact, GuestError, GuestFile, GuestPlan, Outcome};
use super::module_files::{ModuleError, ModuleFacts, ModuleFiles};
use super::tools::Tools;
use super::trial_facts;
use crate::files::KernelFiles;

/// Longest name the livepatch formats of the kernel leave room for.
const NAME_LIMIT: usize = 55;

/// A livepatch to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Livepatch {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its kernel name.
    pub name: ObjectName,
    /// The objects it patches, `vmlinux` among them where it does.
    pub objects: Vec<ObjectName>,
    /// Whether `objects` is the whole list: declared by its builder, not guessed from references.
    pub objects_are_complete: bool,
    /// The kernel release it was built for, where its file says.
    pub built_for: Option<String>,
    /// The module.
    pub bytes: Vec<u8>,
}

impl Livepatch {
    /// Takes the bytes of a module; the objects it patches are read from its own declaration
    /// (`tuxtape_objects=` in `.modinfo`), else from its livepatch relocations and symbols.
    pub fn from_module(path: PathBuf, bytes: Vec<u8>) -> Result<Self, ModuleError> {
        let facts = ModuleFacts::read(&bytes, &path)?;
        let failed = |why: &str| ModuleError::NotAModule {
            path: path.clone(),
            why: why.to_owned(),
        };
        let name = facts
            .name
            .clone()
            .ok_or_else(|| failed("its .modinfo has no name"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.0.is_empty() || name.0.len() > NAME_LIMIT || !name.0.chars().all(plain) {
            return Err(failed("its name is not one a livepatch can have"));
        }
        Ok(Self {
            objects: facts.objects(),
            objects_are_complete: facts.declared_objects.is_some(),
            built_for: facts
                .vermagic
                .as_deref()
                .and_then(|text| text.split(' ').next())
                .map(ToOwned::to_owned),
            path,
            name,
            bytes,
        })
    }
}

/// What to try and how.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The livepatches, tried one after another.
    pub livepatches: Vec<Livepatch>,
    /// A busybox shell script, run before, while and after each is loaded, with `TUXTAPE_STAGE` =
    /// `before`, `during`, `after` and `TUXTAPE_MODULE` = its name. It fails the test by a code
    /// other than 0 at `during`, or by not ending; codes before and after are reported alone.
    pub script: Option<Vec<u8>>,
    /// How to run the guest.
    pub accelerator: Accelerator,
    /// The limits.
    pub limits: Limits,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From power on to the first fact, and for loading the patched modules.
    pub boot: Duration,
    /// One transition, either way.
    pub transition: Duration,
    /// One run of the script.
    pub script: Duration,
}

impl Default for Limits {
    /// A minute to boot. 45 s for a transition: the kernel signals stragglers after 15 s, and an
    /// emulated CPU is slow. A minute for a script.
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            transition: Duration::from_secs(45),
            script: Duration::from_secs(60),
        }
    }
}

/// Why a livepatch did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An object it patches is neither a module of this kernel nor the kernel itself.
    NoSuchObject(ObjectName),
    /// The module of a patched object did not load in the guest.
    ObjectNotLoaded(ObjectName, String),
    /// It was built for another kernel. The kernel's own check passes over the release where symbol
    /// versions agree, so it is not left to the kernel.
    OtherKernel {
        /// The release it was built for, or why that cannot be told.
        built_for: String,
    },
    /// The kernel did not take it.
    Refused(String),
    /// The program that loaded it was killed inside the kernel.
    DiedLoading,
    /// It loaded, but is no livepatch.
    NotALivepatch,
    /// The transition did not end in time.
    Stalled(Duration),
    /// It is in force, but not for this object.
    NotPatched(ObjectName),
    /// The kernel lists an object its builder did not declare.
    UndeclaredObject(ObjectName),
    /// It could not be disabled.
    NotDisabled(String),
    /// It was disabled, but its transition out did not end in time.
    StalledOut(Duration),
    /// It could not be unloaded.
    NotUnloaded(String),
    /// The script did not end well while it was loaded.
    ScriptFailed(i32),
    /// The script did not end.
    ScriptStopped(&'static str),
    /// The kernel complained.
    Complaint(String),
    /// The log says something else than sysfs.
    LogDisagrees(State),
    /// Records of the kernel's log were lost: silence proves nothing.
    LogIncomplete(u64),
    /// The guest said nothing more: never taken for a pass.
    NoAnswer {
        /// The step it was in.
        during: String,
        /// How the boot ended.
        ending: Ending,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchObject(object) => write!(
                f,
                "patches {object}, which this kernel does not have as a module"
            ),
            Self::ObjectNotLoaded(object, why) => write!(
                f,
                "patches {object}, which did not load in the guest: {why}"
            ),
            Self::OtherKernel { built_for } => write!(f, "built for another kernel: {built_for}"),
            Self::Refused(why) => write!(f, "refused by the kernel: {why}"),
            Self::DiedLoading => f.write_str("loading it crashed inside the kernel"),
            Self::NotALivepatch => f.write_str("loaded, but it registered no livepatch"),
            Self::Stalled(limit) => {
                write!(f, "transition not complete after {} s", limit.as_secs())
            }
            Self::NotPatched(object) => write!(f, "{object} is loaded but not patched"),
            Self::UndeclaredObject(object) => {
                write!(f, "patches {object}, which it does not declare")
            }
            Self::NotDisabled(why) => write!(f, "could not be disabled: {why}"),
            Self::StalledOut(limit) => {
                write!(f, "transition out not complete after {} s", limit.as_secs())
            }
            Self::NotUnloaded(why) => write!(f, "could not be unloaded: {why}"),
            Self::ScriptFailed(code) => {
                write!(f, "the script ended with code {code} while it was loaded")
            }
            Self::ScriptStopped(stage) => write!(f, "the script did not end ({stage})"),
            Self::Complaint(title) => write!(f, "kernel complaint: {title}"),
            Self::LogDisagrees(state) => write!(f, "the kernel's log leaves it in state {state:?}"),
            Self::LogIncomplete(count) => {
                write!(f, "{count} records of the kernel's log were lost")
            }
            Self::NoAnswer { during, ending } => {
                write!(f, "no answer from the guest during {during}: {ending}")
            }
        }
    }
}

/// One run of the script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptRun {
    /// Exit code; 137 when it was stopped.
    pub code: Option<i32>,
    /// What it printed, at most 256 KiB.
    pub output: String,
    /// How long it took, in milliseconds.
    pub milliseconds: Option<u64>,
}

/// An object as the kernel lists it under the livepatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchedObject {
    /// Its name.
    pub object: ObjectName,
    /// The kernel's word; none where it has none (before 6.1).
    pub patched: Option<bool>,
    /// Functions with their symbol position: `name,1`.
    pub functions: Vec<String>,
}

/// What one livepatch did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleOutcome {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its kernel name.
    pub name: ObjectName,
    /// Whether it came into force.
    pub loaded: bool,
    /// From the load to the end of the transition, in milliseconds.
    pub transition_ms: Option<u64>,
    /// The kernel's own list of what it patched.
    pub objects: Vec<PatchedObject>,
    /// Whether it went away again.
    pub unloaded: bool,
    /// Runs of the script: before, during, after.
    pub script: [Option<ScriptRun>; 3],
    /// What the kernel complained about from its load on.
    pub reports: Vec<Report>,
    /// Why it did not pass; empty when it did.
    pub problems: Vec<Problem>,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub struct TrialOutcome {
    /// One for each livepatch, in the order given.
    pub modules: Vec<ModuleOutcome>,
    /// Complaints of the kernel before any livepatch was loaded: its own, not theirs.
    pub before: Vec<Report>,
    /// Complaints in a boot several shared that the accused did not repeat alone. Nobody can say
    /// whose they are, so the trial as a whole did not pass.
    pub unexplained: Vec<Report>,
    /// Number of boots.
    pub boots: u32,
    /// The kernel's log of every boot: console text where the guest crashed, else records.
    pub logs: Vec<Vec<u8>>,
    /// Last lines of the console of the last boot that did not end by itself.
    pub tail: Option<String>,
}

impl TrialOutcome {
    /// Tells whether every livepatch did all it should and the kernel did not complain.
    pub fn passed(&self) -> bool {
        self.unexplained.is_empty() && self.modules.iter().all(|module| module.problems.is_empty())
    }
}

/// Why a trial could not be held.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The guest could not be booted.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The kernel's modules could not be read.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// The guest never got as far as the first livepatch.
    #[error("{release} did not boot in the virtual machine: {ending}\n{tail}")]
    NoBoot {
        /// The kernel.
        release: String,
        /// How it ended.
        ending: Ending,
        /// Last lines of its console.
        tail: String,
    },
}

/// Tries every livepatch of `trial` on `kernel`.
///
/// All share one boot as long as they pass. One that fails as the first of its boot has failed; any
/// other is tried once more alone, and those behind it get a fresh boot. `talk` hears of progress.
/// Blocks for the boots, each with its deadline.
pub fn run(
    tools: &Tools,
    kernel: &KernelFiles,
    trial: &Trial,
    talk: &mut dyn FnMut(&str),
) -> Result<TrialOutcome, TrialError> {
    let modules = ModuleFiles::below(&kernel.modules)?;
    let mut outcome = TrialOutcome {
        modules: Vec::new(),
        before: Vec::new(),
        unexplained: Vec::new(),
        boots: 0,
        logs: Vec::new(),
        tail: None,
    };
    let mut results: Vec<Option<ModuleOutcome>> = trial
        .livepatches
        .iter()
        .map(|livepatch| hopeless(livepatch, kernel, &modules))
        .collect();
    let mut queue: Vec<Vec<usize>> = vec![
        (0..results.len())
            .filter(|index| results.get(*index).is_some_and(Option::is_none))
            .collect(),
    ];
    while let Some(batch) = queue.pop() {
        if batch.is_empty() {
            continue;
        }
        let tried = boot(tools, kernel, &modules, trial, &batch, &mut outcome, talk)?;
        let mut rest = batch.iter().copied().zip(tried).enumerate();
        for (place, (index, result)) in rest.by_ref() {
            let passed = result.problems.is_empty();
            if !passed && place > 0 {
                let after = batch.get(place + 1..).unwrap_or_default().to_vec();
                queue.push(after);
                retry(
                    tools,
                    kernel,
                    &modules,
                    trial,
                    index,
                    result,
                    &mut outcome,
                    &mut results,
                    talk,
                )?;
                break;
            }
            if let Some(slot) = results.get_mut(index) {
                *slot = Some(result);
            }
            if !passed {
                queue.push(batch.get(place + 1..).unwrap_or_default().to_vec());
                break;
            }
        }
    }
    outcome.modules = results.into_iter().flatten().collect();
    Ok(outcome)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one step of `run`, apart for its length"
)]
fn retry(
    tools: &Tools,
    kernel: &KernelFiles,
    modules: &ModuleFiles,
    trial: &Trial,
    index: usize,
    first: ModuleOutcome,
    outcome: &mut TrialOutcome,
    results: &mut [Option<ModuleOutcome>],
    talk: &mut dyn FnMut(&str),
) -> Result<(), TrialError> {
    talk(&format!(
        "{} failed in a shared boot; once more alone",
        first.name
    ));
    let alone = boot(tools, kernel, modules, trial, &[index], outcome, talk)?;
    let alone = alone.into_iter().next().unwrap_or(first.clone());
    if alone.problems.is_empty() {
        outcome.unexplained.extend(first.reports);
    }
    if let Some(slot) = results.get_mut(index) {
        *slot = Some(alone);
    }
    Ok(())
}

/// A livepatch for another kernel, or for an object this kernel does not have, fails without a boot.
fn hopeless(
    livepatch: &Livepatch,
    kernel: &KernelFiles,
    modules: &ModuleFiles,
) -> Option<ModuleOutcome> {
    let mut problems = Vec::new();
    if livepatch.built_for.as_deref() != Some(kernel.release.as_str()) {
        let built_for = livepatch.built_for.clone();
        problems.push(Problem::OtherKernel {
            built_for: built_for.unwrap_or_else(|| "it has no vermagic".to_owned()),
        });
    }
    for object in &livepatch.objects {
        if !object.is_vmlinux() && !modules.has(object) {
            problems.push(Problem::NoSuchObject(object.clone()));
        }
    }
    (!problems.is_empty()).then(|| ModuleOutcome {
        problems,
        ..trial_facts::nothing(livepatch)
    })
}

fn boot(
    tools: &Tools,
    kernel: &KernelFiles,
    modules: &ModuleFiles,
    trial: &Trial,
    batch: &[usize],
    outcome: &mut TrialOutcome,
    talk: &mut dyn FnMut(&str),
) -> Result<Vec<ModuleOutcome>, TrialError> {
    let livepatches: Vec<&Livepatch> = batch
        .iter()
        .filter_map(|index| trial.livepatches.get(*index))
        .collect();
    let plan = plan(trial, &livepatches);
    talk(&format!(
        "booting {} ({})",
        kernel.release,
        plan.accelerator.as_str()
    ));
    let mut progress = |fact: &Fact| {
        if let Some(line) = trial_facts::progress(fact, &livepatches) {
            talk(&line);
        }
    };
    let result = guest::boot(tools, kernel, &plan, &mut progress)?;
    outcome.boots += 1;
    let finished = matches!(result.ending, Ending::Finished { .. });
    if !finished {
        outcome.tail = Some(result.console_tail(30));
    }
    if !result
        .facts
        .iter()
        .any(|fact| fact.name.starts_with("module."))
    {
        return Err(TrialError::NoBoot {
            release: kernel.release.to_string(),
            tail: result.console_tail(30),
            ending: result.ending,
        });
    }
    let seen = trial_facts::read(&result, &livepatches);
    if outcome.boots == 1 {
        outcome.before = seen.before;
    }
    let mut tried = seen.modules;
    for (module, livepatch) in tried.iter_mut().zip(&livepatches) {
        check_objects(module, livepatch, &result, modules);
    }
    outcome.logs.push(if finished {
        result.records
    } else {
        result.console
    });
    Ok(tried)
}

/// Compares what the kernel lists with what the livepatch says it patches.
fn check_objects(
    module: &mut ModuleOutcome,
    livepatch: &Livepatch,
    boot: &Outcome,
    modules: &ModuleFiles,
) {
    let failed = boot.failed_modules();
    for object in &livepatch.objects {
        if let Some((_, why)) = failed.iter().find(|(name, _)| name == object) {
            module
                .problems
                .push(Problem::ObjectNotLoaded(object.clone(), why.clone()));
        }
    }
    if !module.loaded {
        return;
    }
    for object in &livepatch.objects {
        let listed = module
            .objects
            .iter()
            .find(|listed| listed.object == *object);
        match listed.map(|listed| listed.patched) {
            // Before 6.1 the kernel does not say; the transition's end then stands for it.
            Some(Some(true) | None) => {}
            Some(Some(false)) | None => module.problems.push(Problem::NotPatched(object.clone())),
        }
    }
    let named: BTreeSet<&ObjectName> = livepatch.objects.iter().collect();
    for listed in &module.objects {
        let unknown = !named.contains(&listed.object);
        if unknown && livepatch.objects_are_complete {
            module
                .problems
                .push(Problem::UndeclaredObject(listed.object.clone()));
        } else if unknown && listed.patched == Some(false) && modules.has(&listed.object) {
            // Found out too late to load it: what was not patched was not tested.
            module
                .problems
                .push(Problem::NotPatched(listed.object.clone()));
        }
    }
}

fn plan(trial: &Trial, livepatches: &[&Livepatch]) -> GuestPlan {
    use std::fmt::Write as _;
    let limits = trial.limits;
    let mut files = vec![GuestFile {
        path: "/lab/livepatch.sh".to_owned(),
        mode: 0o644,
        bytes: include_bytes!("livepatch.sh").to_vec(),
    }];
    let mut script = format!(
        "TRANSITION_MS={}\nSCRIPT_SECONDS={}\n. /lab/livepatch.sh\n",
        limits.transition.as_millis(),
        limits.script.as_secs()
    );
    let mut objects = BTreeSet::new();
    for (place, livepatch) in livepatches.iter().enumerate() {
        files.push(GuestFile {
            path: format!("/lab/livepatch/{place}.ko"),
            mode: 0o644,
            bytes: livepatch.bytes.clone(),
        });
        // The name was checked when it was read: letters, digits and `_`.
        writeln!(script, "try_livepatch {place} {} || exit 1", livepatch.name)
            .expect("a string takes every write");
        objects.extend(
            livepatch
                .objects
                .iter()
                .filter(|object| !object.is_vmlinux())
                .cloned(),
        );
    }
    if let Some(bytes) = &trial.script {
        files.push(GuestFile {
            path: "/lab/test-script".to_owned(),
            mode: 0o755,
            bytes: bytes.clone(),
        });
    }
    let scripts = if trial.script.is_some() {
        limits.script * 3
    } else {
        Duration::ZERO
    };
    // Every step of the guest's script says so when it begins; none takes longer than these.
    let silence = limits.boot.max(limits.transition).max(limits.script) + Duration::from_secs(5);
    let each = limits.transition * 2 + scripts + Duration::from_secs(20);
    let count = u32::try_from(livepatches.len()).unwrap_or(u32::MAX);
    GuestPlan {
        files,
        modules: objects.into_iter().collect(),
        script,
        deadline: limits.boot.saturating_add(each.saturating_mul(count)),
        silence,
        accelerator: trial.accelerator,
        ..GuestPlan::default()
    }
}

/// Tells whether a report counts against the livepatch in whose time it fell.
pub(super) fn counts(report: &Report) -> bool {
    report.severity > Severity::Notice
}
