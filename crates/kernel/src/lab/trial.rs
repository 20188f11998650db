//! The life of a livepatch in a guest: loaded, in force, disabled, unloaded; and what the kernel
//! said meanwhile.

mod batch;
mod facts;
mod problem;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tuxtape_core::identity::ObjectName;
use tuxtape_klog::judge::Report;
use tuxtape_klog::report::Severity;

use super::accelerator::Accelerator;
use super::guest::{self, Ending, Fact, GuestError, GuestFile, GuestPlan, Outcome};
use super::module_files::{ModuleError, ModuleFacts, ModuleFiles};
use super::tools::Tools;
use crate::files::KernelFiles;

pub use problem::Problem;

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
    /// Which of livepatch and patched module comes first.
    pub order: Order,
    /// How to run the guest.
    pub accelerator: Accelerator,
    /// The limits.
    pub limits: Limits,
}

/// Which of livepatch and patched module comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The patched modules alone are loaded first.
    ObjectsFirst,
    /// Then once more with the livepatch first: a module part that does not fit blocks a driver.
    Both,
}

/// Outcome of the second order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Late {
    /// Every module that came after the livepatch was patched.
    Patched,
    /// A module could not be taken out of the running kernel.
    Skipped(String),
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
    /// 90 s to boot, which takes 4 s on an idle host. 45 s for a transition: the kernel signals stragglers after 15 s, and an
    /// emulated CPU is slow. A minute for a script.
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(90),
            transition: Duration::from_secs(45),
            script: Duration::from_secs(60),
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
    /// The second order, where it was asked for, the livepatch patches modules, and it did not fail.
    pub late: Option<Late>,
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
    #[error("{release} did not boot in the virtual machine: {ending}{}{tail}", if tail.is_empty() { "" } else { "\n" })]
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
    let known = trial
        .livepatches
        .iter()
        .map(|livepatch| hopeless(livepatch, kernel, &modules))
        .collect();
    let mut lab = Lab {
        tools,
        kernel,
        modules: &modules,
        trial,
        talk,
        before: None,
        boots: 0,
        logs: Vec::new(),
        tail: None,
    };
    let tried = batch::try_all(known, &mut |batch| lab.boot(batch))?;
    Ok(TrialOutcome {
        modules: tried.modules,
        before: lab.before.unwrap_or_default(),
        unexplained: tried.unexplained,
        boots: lab.boots,
        logs: lab.logs,
        tail: lab.tail,
    })
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
        ..facts::nothing(livepatch)
    })
}

/// What all boots of a trial share, and what they leave beside the livepatches' outcomes.
struct Lab<'a> {
    tools: &'a Tools,
    kernel: &'a KernelFiles,
    modules: &'a ModuleFiles,
    trial: &'a Trial,
    talk: &'a mut dyn FnMut(&str),
    before: Option<Vec<Report>>,
    boots: u32,
    logs: Vec<Vec<u8>>,
    tail: Option<String>,
}

impl Lab<'_> {
    /// Boots until the first livepatch is begun; a boot that ends before is no livepatch's fault and
    /// is tried once more, because an emulated machine on a busy host fails now and then.
    fn boot_to_first(
        &mut self,
        plan: &GuestPlan,
        livepatches: &[&Livepatch],
    ) -> Result<Outcome, TrialError> {
        let mut second = false;
        loop {
            let mut progress = |fact: &Fact| {
                if let Some(line) = facts::progress(fact, livepatches) {
                    (self.talk)(&line);
                }
            };
            let result = guest::boot(self.tools, self.kernel, plan, &mut progress)?;
            self.boots += 1;
            let begun = result
                .facts
                .iter()
                .any(|fact| fact.name.starts_with("module."));
            if begun {
                return Ok(result);
            }
            if second {
                return Err(TrialError::NoBoot {
                    release: self.kernel.release.to_string(),
                    tail: last_words(&result),
                    ending: result.ending,
                });
            }
            (self.talk)(&format!("it did not boot ({}); once more", result.ending));
            second = true;
        }
    }

    /// Boots once and tries the livepatches of `batch`, in order.
    fn boot(&mut self, batch: &[usize]) -> Result<Vec<ModuleOutcome>, TrialError> {
        let livepatches: Vec<&Livepatch> = batch
            .iter()
            .filter_map(|index| self.trial.livepatches.get(*index))
            .collect();
        let plan = plan(self.trial, &livepatches, self.modules)?;
        (self.talk)(&format!(
            "booting {} ({})",
            self.kernel.release,
            plan.accelerator.as_str()
        ));
        let result = self.boot_to_first(&plan, &livepatches)?;
        let finished = matches!(result.ending, Ending::Finished { .. });
        if !finished {
            self.tail = Some(last_words(&result));
        }
        let seen = facts::read(&result, &livepatches);
        self.before.get_or_insert(seen.before);
        let mut tried = seen.modules;
        for (module, livepatch) in tried.iter_mut().zip(&livepatches) {
            check_objects(module, livepatch, &result, self.modules);
        }
        self.logs.push(if finished {
            result.records
        } else {
            result.console
        });
        Ok(tried)
    }
}

/// What the guest's script and the kernel's console said last.
fn last_words(boot: &Outcome) -> String {
    let words = [boot.talk.trim_end(), &boot.console_tail(30)].join("\n");
    words.trim().to_owned()
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

fn plan(
    trial: &Trial,
    livepatches: &[&Livepatch],
    modules: &ModuleFiles,
) -> Result<GuestPlan, ModuleError> {
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
        let patched: Vec<ObjectName> = livepatch
            .objects
            .iter()
            .filter(|object| !object.is_vmlinux())
            .cloned()
            .collect();
        script.push_str(&commands(trial.order, place, livepatch, &patched, modules)?);
        objects.extend(patched);
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
    Ok(GuestPlan {
        files,
        modules: objects.into_iter().collect(),
        script,
        deadline: limits.boot.saturating_add(each.saturating_mul(count)),
        silence,
        accelerator: trial.accelerator,
        ..GuestPlan::default()
    })
}

/// The script's lines for one livepatch. Names were checked when they were read: `ModuleFiles` has
/// the modules, and the livepatch's own is of letters, digits and `_`.
fn commands(
    order: Order,
    place: usize,
    livepatch: &Livepatch,
    patched: &[ObjectName],
    modules: &ModuleFiles,
) -> Result<String, ModuleError> {
    let name = &livepatch.name;
    let mut lines = vec![format!("try_livepatch {place} {name} || exit 1\n")];
    if order == Order::Both && !patched.is_empty() {
        let loadable = modules.with_dependencies(patched)?;
        let names: Vec<&str> = loadable
            .iter()
            .map(|module| module.name.0.as_str())
            .filter(|name| patched.iter().any(|object| object.0 == *name))
            .collect();
        lines.push(format!(
            "try_late {place} {name} {} || exit 1\n",
            names.join(" ")
        ));
    }
    lines.push(format!("fact module.{place}.phase done\n"));
    Ok(lines.concat())
}

/// Tells whether a report counts against the livepatch in whose time it fell.
fn counts(report: &Report) -> bool {
    report.severity > Severity::Notice
}
