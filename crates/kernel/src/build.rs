//! From pairs of compiled units to one livepatch module, without building the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use tuxtape_core::identity::{BuildId, ObjectName};
use tuxtape_livepatch::convert::{ConvertError, convert};
use tuxtape_livepatch::diff::{Comparison, compare};
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::emit::{EmitError, Emitted, emit};
use tuxtape_livepatch::ground_truth::{self, GroundTruth, Outcome, Verdict};
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::layout;
use tuxtape_livepatch::lint::{self, Finding};
use tuxtape_livepatch::refusal::{Refusal, Rule};
use tuxtape_livepatch::symvers::{self, MalformedSymvers, Symvers};
use tuxtape_livepatch::tables::{Table, layout_for};
use tuxtape_livepatch::unit::UnitError;
use tuxtape_livepatch::verify::Problem;
use tuxtape_livepatch::write::WriteError;
use tuxtape_sys::map::MapError;

use crate::files::KernelFiles;
use crate::verify::VerifyError;

mod callbacks;
pub mod checksums;
mod findings;
pub mod init;
pub mod link;
mod names;
pub mod parents;
mod sealed;
pub mod single;
pub mod vmlinux;

use checksums::Checksums;
pub use init::ModuleName;
use link::LinkError;
use names::Names;
use parents::{DebugModules, ParentError};
use vmlinux::Vmlinux;

/// Two compiled versions of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPair {
    /// The source, relative to the tree.
    pub unit: String,
    /// What it was linked into.
    pub parent: ObjectName,
    /// Object compiled from the kernel's own source.
    pub original: PathBuf,
    /// Object compiled from the fixed source.
    pub patched: PathBuf,
    /// Checksums of what it exports.
    pub checksums: Checksums,
}

/// What one unit gives to the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitResult {
    /// What is patched: `vmlinux` or a module.
    pub object: ObjectName,
    /// The source, relative to the tree.
    pub unit: String,
    /// Functions redirected.
    pub changed: Vec<String>,
    /// Functions that are new.
    pub new: Vec<String>,
    /// Functions of the compiled original that equal the kernel's, of all compared.
    pub equal: (usize, usize),
}

/// Wall time per step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Comparing the two versions of each unit, and the original with the kernel.
    pub diff: Duration,
    /// Emitting, linking and converting.
    pub link: Duration,
    /// Checking the finished module as the kernel's loader would.
    pub verify: Duration,
}

/// A module and where it came from.
#[derive(Clone, Debug)]
pub struct Module {
    /// The module's bytes.
    pub bytes: Vec<u8>,
    /// What each unit gave.
    pub units: Vec<UnitResult>,
    /// What a reviewer should know.
    pub warnings: Vec<String>,
    /// What a reviewer must look at.
    pub findings: Vec<Finding>,
    /// Wall time per step.
    pub durations: Durations,
}

/// The answer of a build.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A module.
    Built(Box<Module>),
    /// Not this fix on this kernel; all reasons.
    Refused(Vec<Refusal>),
    /// The fix changes nothing that runs in these units.
    NoChange(Vec<String>),
}

/// Why a build gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file of ours is gone.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An object cannot be used.
    #[error("{unit}")]
    Unit {
        /// The unit.
        unit: String,
        /// Why.
        source: UnitError,
    },
    /// A debug file cannot be used.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// A file cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The list of exports cannot be used.
    #[error(transparent)]
    Symvers(#[from] MalformedSymvers),
    /// The finished module could not be checked.
    #[error("could not check the module")]
    Verify(#[from] VerifyError),
    /// The kernel series is not known.
    #[error("this engine is not proven on Linux {major}.{minor} yet")]
    Series {
        /// First number.
        major: u32,
        /// Second number.
        minor: u32,
    },
    /// A debug file does not say which kernel it is of.
    #[error("the debug file names no version of Linux")]
    Nameless,
    /// Linking failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The linked module cannot be converted.
    #[error("could not convert the linked module")]
    Convert(#[from] ConvertError),
}

/// What the module says of itself.
#[derive(Clone, Debug)]
pub struct Label {
    /// The module's name.
    pub name: ModuleName,
    /// Build-id of the vmlinux it is for.
    pub build_id: BuildId,
    /// Series of the kernel, such as (6, 1).
    pub series: (u32, u32),
    /// The compiler's program name; its version was checked with the compiled units.
    pub compiler: String,
}

/// Makes one module of the changed functions of all `pairs`. Blocks on the linker; writes only below
/// a temporary folder.
pub fn build(
    kernel: &KernelFiles,
    pairs: &[UnitPair],
    label: &Label,
) -> Result<Answer, BuildError> {
    let (major, minor) = label.series;
    let tables = layout_for(major, minor).ok_or(BuildError::Series { major, minor })?;
    let started = Instant::now();
    let objects: Vec<(Vec<u8>, Vec<u8>)> = pairs
        .iter()
        .map(|pair| Ok((read(&pair.original)?, read(&pair.patched)?)))
        .collect::<Result<_, BuildError>>()?;
    // A unit whose code is the same may still show that a type changed.
    let layouts = || -> Vec<Refusal> {
        let all = pairs.par_iter().zip(&objects);
        all.flat_map_iter(|(pair, (original, patched))| {
            layout::refusals(&pair.unit, original, patched)
        })
        .collect()
    };
    let (compared, layouts) = rayon::join(|| compare_all(pairs, &objects, tables), layouts);
    let mut comparisons = compared?;
    leave_out_boot_code(&mut comparisons);
    let (touched, untouched): (Vec<_>, Vec<_>) = comparisons
        .into_iter()
        .partition(|(_, _, comparison)| !comparison.is_unchanged());
    let mut quiet: Vec<String> = untouched
        .iter()
        .flat_map(|(pair, _, comparison)| comparison.notes.iter().map(|note| told(pair, note)))
        .collect();
    if touched.is_empty() && layouts.is_empty() {
        return Ok(Answer::NoChange(
            untouched
                .into_iter()
                .map(|(pair, ..)| pair.unit.clone())
                .collect(),
        ));
    }

    let vmlinux = Vmlinux::open(kernel)?;
    let vmlinux = vmlinux.parent()?;
    let exports = Symvers::parse(&read(&kernel.symvers)?)?;
    let modules = DebugModules::below(&kernel.debug_modules)?;
    let maps = modules.map(touched.iter().map(|(pair, ..)| &pair.parent))?;
    let parents: BTreeMap<&ObjectName, Parent<'_>> = maps
        .iter()
        .map(|(name, map)| Ok((name, parents::parent(name.clone(), map)?)))
        .collect::<Result<_, ParentError>>()?;
    let owners = Owners {
        vmlinux: &vmlinux,
        modules: &parents,
    };

    let mut refusals: Vec<Refusal> = touched
        .iter()
        .flat_map(|(_, _, comparison)| comparison.refusals.clone())
        .collect();
    refusals.extend(layouts);
    for (pair, (original, _)) in pairs.iter().zip(&objects) {
        let Ok(file) = ElfFile::parse(original) else {
            continue;
        };
        let exported = symvers::exported(&file).collect();
        let said = checksums::compare(&pair.unit, &exported, &pair.checksums, &exports);
        refusals.extend(said.refusals);
        quiet.extend(said.warnings.iter().map(|text| told(pair, text)));
    }
    let mut truths = Vec::new();
    for (pair, original, comparison) in &touched {
        match truth(pair, original, comparison, &owners) {
            Ok(truth) => truths.push(truth),
            Err(found) => refusals.extend(found),
        }
    }
    let diff = started.elapsed();
    if !refusals.is_empty() {
        return Ok(Answer::Refused(sorted(refusals)));
    }

    let started = Instant::now();
    let brought: BTreeSet<&str> = touched
        .iter()
        .flat_map(|(_, _, comparison)| {
            comparison
                .new_globals
                .iter()
                .map(|&id| comparison.patched.atom(id).name)
        })
        .collect();
    let opened = opened(&touched, &truths);
    let mut emitted: Vec<(&UnitPair, Emitted)> = Vec::new();
    for (number, ((pair, _, comparison), truth)) in touched.iter().zip(&truths).enumerate() {
        let names = Names {
            parent: owners.of(&pair.parent),
            vmlinux: &vmlinux,
            symvers: &exports,
            modules: &modules,
            brought: &brought,
            opened: &opened,
            map: &truth.map,
        };
        match emit(comparison, &names, &number.to_string()) {
            Ok(part) => emitted.push((pair, part)),
            Err(EmitError::Refused(found)) => refusals.extend(found),
            Err(EmitError::Write(error)) => refusals.push(refused_by_writer(pair, &error)),
        }
    }
    refusals.extend(patched_twice(&emitted));
    refusals.extend(sealed::refusals(&emitted, &owners));
    if !refusals.is_empty() {
        return Ok(Answer::Refused(sorted(refusals)));
    }
    // New code that nothing of these units calls runs nowhere.
    let idle = |part: &Emitted| part.functions.is_empty() && callbacks::of(&part.object).is_empty();
    if emitted.iter().all(|(_, part)| idle(part)) {
        let units = touched.iter().map(|(pair, ..)| pair.unit.clone());
        return Ok(Answer::NoChange(units.collect()));
    }
    let source = init::source(label, &emitted);
    let linked = link::link(
        kernel,
        label,
        &source,
        emitted.iter().map(|(_, part)| part.object.as_slice()),
    )?;
    let bytes = convert(&linked)?;
    let link = started.elapsed();
    let started = Instant::now();
    let problems = crate::verify::with_kernel(&bytes, &vmlinux, &exports, &modules)?.problems;
    if !problems.is_empty() {
        return Ok(Answer::Refused(sorted(
            problems
                .iter()
                .map(|problem| disagrees(label, problem))
                .collect(),
        )));
    }
    let verify = started.elapsed();
    let units = touched
        .iter()
        .zip(&truths)
        .map(|((pair, _, comparison), truth)| UnitResult {
            object: pair.parent.clone(),
            unit: pair.unit.clone(),
            changed: owned(comparison.changed_functions()),
            new: owned(comparison.new_functions()),
            equal: (truth.equal(), truth.functions.len()),
        })
        .collect();
    let mut warnings = quiet;
    for ((pair, _, comparison), (_, part)) in touched.iter().zip(&emitted) {
        warnings.extend(notes(pair, comparison, part));
    }
    warnings.sort();
    warnings.dedup();
    let mut findings: Vec<Finding> = touched
        .iter()
        .flat_map(|(_, _, comparison)| lint::findings(comparison))
        .collect();
    findings.extend(findings::around(&emitted, label.series));
    let durations = Durations { diff, link, verify };
    Ok(Answer::Built(Box::new(Module {
        bytes,
        units,
        warnings,
        findings,
        durations,
    })))
}

/// The debug files of everything that is patched.
struct Owners<'run, 'data> {
    vmlinux: &'run Parent<'data>,
    modules: &'run BTreeMap<&'run ObjectName, Parent<'data>>,
}

impl<'run, 'data> Owners<'run, 'data> {
    fn of(&self, object: &ObjectName) -> &'run Parent<'data> {
        self.modules.get(object).unwrap_or(self.vmlinux)
    }
}

type Touched<'run> = (&'run UnitPair, &'run [u8], Comparison<'run>);

fn compare_all<'run>(
    pairs: &'run [UnitPair],
    objects: &'run [(Vec<u8>, Vec<u8>)],
    tables: &[Table],
) -> Result<Vec<Touched<'run>>, BuildError> {
    pairs
        .par_iter()
        .zip(objects)
        .map(|(pair, (original, patched))| {
            let comparison = compare(&pair.unit, original, patched, tables).map_err(|source| {
                BuildError::Unit {
                    unit: pair.unit.clone(),
                    source,
                }
            })?;
            Ok((pair, original.as_slice(), comparison))
        })
        .collect()
}

/// Leaves out of units of the kernel image what ran at boot, if the fix changes anything else: a fix
/// of nothing but boot code would be a module without an effect.
fn leave_out_boot_code(comparisons: &mut [Touched<'_>]) {
    if !comparisons
        .iter()
        .any(|(_, _, comparison)| runs(comparison))
    {
        return;
    }
    for (pair, _, comparison) in comparisons {
        if pair.parent.is_vmlinux() {
            comparison.leave_out_boot_code();
        }
    }
}

/// Whether anything of the unit runs after boot and differs.
fn runs(comparison: &Comparison<'_>) -> bool {
    !comparison.changed.is_empty() || !comparison.new_globals.is_empty()
}

/// What a reviewer should know of one unit.
fn notes<'run>(
    pair: &'run UnitPair,
    comparison: &'run Comparison<'_>,
    emitted: &'run Emitted,
) -> impl Iterator<Item = String> {
    let notes = comparison.notes.iter().chain(&emitted.warnings);
    notes.map(|text| told(pair, text))
}

fn told(pair: &UnitPair, text: &str) -> String {
    format!("{}: {text}", pair.unit)
}

/// Symbols that are local in the kernel and global with the fix, so that other units may name them.
fn opened<'run>(
    touched: &'run [Touched<'run>],
    truths: &'run [GroundTruth],
) -> BTreeMap<&'run str, (&'run ObjectName, u32)> {
    let mut opened = BTreeMap::new();
    for ((pair, _, comparison), truth) in touched.iter().zip(truths) {
        for &(one, other) in &comparison.pairing.pairs {
            let (before, after) = (
                comparison.original.atom(one),
                comparison.patched.atom(other),
            );
            if before.global || !after.global || before.name != after.name {
                continue;
            }
            if let Some(symbol) = truth.map.symbols.get(before.name)
                && symbol.name == before.name
                && let Some(position) = symbol.sympos
            {
                opened.insert(after.name, (&pair.parent, position));
            }
        }
    }
    opened
}

/// Compares the compiled original with what runs.
fn truth(
    pair: &UnitPair,
    original: &[u8],
    comparison: &Comparison<'_>,
    owners: &Owners<'_, '_>,
) -> Result<GroundTruth, Vec<Refusal>> {
    let refuse = |rule, symbol: &str, why: String| Refusal {
        rule,
        unit: pair.unit.clone(),
        symbol: symbol.to_owned(),
        why,
    };
    let not_the_kernel = |why| vec![refuse(Rule::NotTheKernel, &pair.unit, why)];
    let file = ElfFile::parse(original).map_err(|error| not_the_kernel(error.to_string()))?;
    let truth = ground_truth::compare(&file, owners.of(&pair.parent), &pair.unit)
        .map_err(|error| not_the_kernel(error.to_string()))?;
    match &truth.verdict {
        Verdict::Equal => {}
        Verdict::NotTheKernel {
            function,
            difference,
            likely,
        } => {
            let difference = difference
                .as_ref()
                .map_or_else(|| "is not in it".to_owned(), ToString::to_string);
            return Err(vec![refuse(
                Rule::NotTheKernel,
                function,
                format!(
                    "differs from {}: {difference}; likely cause: {likely}",
                    pair.parent
                ),
            )]);
        }
    }
    let overridden: Vec<Refusal> = comparison
        .changed_functions()
        .into_iter()
        .filter_map(|name| match truth.outcome(name) {
            Some(Outcome::Equal) => None,
            Some(Outcome::Overridden) => Some(refuse(
                Rule::WeakOverridden,
                name,
                "is weak, and another definition runs".to_owned(),
            )),
            Some(Outcome::Differs(_) | Outcome::Missing) | None => Some(refuse(
                Rule::NotTheKernel,
                name,
                "was not found equal in the kernel".to_owned(),
            )),
        })
        .collect();
    if overridden.is_empty() {
        Ok(truth)
    } else {
        Err(overridden)
    }
}

fn refused_by_writer(pair: &UnitPair, error: &WriteError) -> Refusal {
    Refusal {
        rule: Rule::Unknown,
        unit: pair.unit.clone(),
        symbol: pair.unit.clone(),
        why: error.to_string(),
    }
}

/// The kernel refuses a module that names a function twice.
fn patched_twice(emitted: &[(&UnitPair, Emitted)]) -> Vec<Refusal> {
    let mut seen = BTreeSet::new();
    let mut refusals = Vec::new();
    for (pair, part) in emitted {
        for function in &part.functions {
            let name = &function.original.name;
            if !seen.insert((&pair.parent, name, function.original.position)) {
                refusals.push(Refusal {
                    rule: Rule::Names,
                    unit: pair.unit.clone(),
                    symbol: name.clone(),
                    why: format!("is patched twice in {}", pair.parent),
                });
            }
        }
    }
    refusals
}

/// A module that the verifier does not like is our fault; it is refused and never overruled.
fn disagrees(label: &Label, problem: &Problem) -> Refusal {
    Refusal {
        rule: Rule::Verifier,
        unit: format!("{}.ko", label.name),
        symbol: problem
            .symbol
            .clone()
            .or_else(|| problem.section.clone())
            .unwrap_or_default(),
        why: problem.to_string(),
    }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn sorted(mut refusals: Vec<Refusal>) -> Vec<Refusal> {
    refusals.sort();
    refusals.dedup();
    layout::once_per_type(&mut refusals);
    refusals
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}
