//! From fixes to one livepatch module: which files they touch, the units compiled twice, the module
//! made of what changed.

pub mod extend;
mod findings;
mod inlined;
mod merge;
pub mod recipe;
pub mod sift;

use std::path::Path;
use std::time::{Duration, Instant};

use tuxtape_core::profile::KernelProfile;
use tuxtape_livepatch::lint::Finding;
use tuxtape_livepatch::refusal::{Refusal, Rule};
use tuxtape_livepatch::tables;
use tuxtape_sys::regular;

use crate::build::checksums::Checksums;
use crate::build::{self, Answer, BuildError, Label, ModuleName, UnitPair, UnitResult};
use crate::files::KernelFiles;
use crate::profile::functions;
use crate::replay::{self, Budget, ReplayError, ToolchainNote};
use crate::unified::{Diff, TreePath};

pub use merge::Conflict;
use merge::merge;

/// Largest source file that a fix may change, in bytes.
const LARGEST: u64 = 64 << 20;

/// A fix as it goes into a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFix {
    /// Where it came from, for messages: a file name or a CVE.
    pub name: String,
    /// CVEs that it closes; may be empty.
    pub cves: Vec<String>,
    /// The change.
    pub diff: Diff,
}

/// Wall time per step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Compiling the touched units, the original ones unless cached.
    pub compile: Duration,
    /// Comparing the two versions, and the originals with the kernel.
    pub diff: Duration,
    /// Emitting, linking and converting.
    pub link: Duration,
    /// Checking the finished module as the kernel's loader would.
    pub verify: Duration,
}

/// A module and where it came from.
#[derive(Clone, Debug)]
pub struct Produced {
    /// The module's bytes.
    pub bytes: Vec<u8>,
    /// What each unit gave.
    pub units: Vec<UnitResult>,
    /// What a reviewer should know.
    pub warnings: Vec<String>,
    /// What a reviewer must look at, sorted.
    pub findings: Vec<Finding>,
    /// The change of the kernel's source that all fixes together are.
    pub change: Diff,
    /// What it was compiled with.
    pub toolchain: ToolchainNote,
    /// Wall time per step.
    pub durations: Durations,
}

/// The answer for a set of fixes on one kernel.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A module.
    Built(Box<Produced>),
    /// Not these fixes on this kernel; all reasons.
    Refused(Vec<Refusal>),
    /// Nothing that runs changes.
    NoChange {
        /// Files of the fix that reach no unit of this kernel, sorted.
        unused: Vec<TreePath>,
        /// Units that compile to the same code and data, sorted.
        same: Vec<String>,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// Two fixes cannot both be made.
    #[error(transparent)]
    Conflict(#[from] Box<Conflict>),
    /// No image of the kernel was seen, so that a module could not be bound to it.
    #[error("{kernel} was added without its vmlinux: nothing can be bound to it")]
    NoImage {
        /// The kernel.
        kernel: tuxtape_core::identity::KernelRelease,
    },
    /// The base version of the kernel is not of the form `X.Y.Z`.
    #[error("{0:?} is no upstream version")]
    BaseVersion(String),
    /// The table of the kernel's functions cannot be used.
    #[error(transparent)]
    Functions(#[from] Box<functions::LoadError>),
    /// The touched units could not be compiled.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The module could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The kernel that a module is made for.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// Its sources, headers and debug files.
    pub files: &'a KernelFiles,
    /// What is known of it.
    pub profile: &'a KernelProfile,
    /// Folder that holds its profile and what was learnt with it.
    pub home: &'a Path,
}

/// Makes one module of all `fixes`. Compiled objects are left in `scratch`.
///
/// Blocks for seconds per unit, and for minutes where a header reaches many.
pub fn produce(
    target: For<'_>,
    fixes: &[NamedFix],
    name: &ModuleName,
    budget: &Budget,
    scratch: &Path,
) -> Result<Outcome, ProduceError> {
    let For {
        files: kernel,
        profile,
        home,
    } = target;
    let unable = cannot_be_patched(profile);
    if !unable.is_empty() {
        return Ok(Outcome::Refused(unable));
    }
    let series = series(&profile.base_version)?;
    let diff = together(kernel, fixes)?;
    let started = Instant::now();
    let replayed = match replay::compile_pair(kernel, &diff, Some(profile), budget, scratch) {
        Ok(replayed) => replayed,
        Err(error) => return refused_by_replay(profile, error),
    };
    let compile = started.elapsed();
    let mut replayed = replayed;
    if !replayed.followed.is_empty() {
        match functions::load(home, &profile.id).map_err(Box::new)? {
            Some(functions) => {
                let refusals = inlined::elsewhere(&replayed.followed, &functions, |unit| {
                    profile.units.contains_key(unit)
                });
                if !refusals.is_empty() {
                    return Ok(Outcome::Refused(refusals));
                }
            }
            None => replayed.warnings.push(
                "no table of the kernel's functions: inlined copies were looked for by name alone"
                    .to_owned(),
            ),
        }
    }
    let blind: Vec<Refusal> = replayed
        .pairs
        .iter()
        .filter(|pair| !pair.traceable)
        .map(|pair| Refusal {
            rule: Rule::NotTraceable,
            unit: pair.unit.to_string(),
            symbol: pair.object.clone(),
            why: "is compiled without ftrace entries".to_owned(),
        })
        .collect();
    if !blind.is_empty() {
        return Ok(Outcome::Refused(blind));
    }
    let pairs: Vec<UnitPair> = replayed
        .pairs
        .iter()
        .map(|pair| UnitPair {
            unit: pair.unit.to_string(),
            parent: pair.parent.clone(),
            original: pair.original.clone(),
            patched: pair.patched.clone(),
            checksums: Checksums {
                original: pair.command.exports.clone(),
                patched: pair.checksums.clone(),
            },
        })
        .collect();
    if pairs.is_empty() {
        return Ok(Outcome::NoChange {
            unused: replayed.unused,
            same: replayed
                .unaffected
                .iter()
                .map(ToString::to_string)
                .collect(),
        });
    }
    let build_id = profile
        .id
        .build_id
        .as_ref()
        .ok_or_else(|| ProduceError::NoImage {
            kernel: profile.id.release.clone(),
        })?;
    let label = Label {
        name: name.clone(),
        build_id: build_id.clone(),
        series,
        compiler: replayed.compiler.clone(),
    };
    Ok(match build::build(kernel, &pairs, &label)? {
        Answer::Refused(refusals) => Outcome::Refused(refusals),
        Answer::NoChange(mut same) => {
            same.extend(replayed.unaffected.iter().map(ToString::to_string));
            same.sort();
            Outcome::NoChange {
                unused: replayed.unused,
                same,
            }
        }
        Answer::Built(module) => {
            let mut warnings = left_out(&replayed);
            let mut findings = findings::of_fix(&diff, &replayed);
            warnings.extend(replayed.warnings);
            warnings.extend(module.warnings);
            findings.extend(module.findings);
            findings.sort();
            findings.dedup();
            let durations = Durations {
                compile,
                diff: module.durations.diff,
                link: module.durations.link,
                verify: module.durations.verify,
            };
            Outcome::Built(Box::new(Produced {
                bytes: module.bytes,
                units: module.units,
                warnings,
                findings,
                change: diff,
                toolchain: replayed.toolchain,
                durations,
            }))
        }
    })
}

/// One change of all fixes, as they fit the kernel's source one after the other.
pub fn together(kernel: &KernelFiles, fixes: &[NamedFix]) -> Result<Diff, ProduceError> {
    // What a single fix does not fit is told where it is applied.
    if let [only] = fixes {
        return Ok(only.diff.clone());
    }
    let mut failed = None;
    let merged = merge(fixes, |path| {
        let file = kernel.source.join(path.as_str());
        regular::read_if_there(&file, LARGEST).unwrap_or_else(|source| {
            failed.get_or_insert(BuildError::Read { path: file, source });
            None
        })
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(merged?),
    }
}

/// What was looked at and is not in the module, for the person who reviews it.
fn left_out(replayed: &replay::Replayed) -> Vec<String> {
    let same =
        |unit: &TreePath| format!("{unit} is reached by a header of the fix and compiles the same");
    let unused = replayed.unused.iter().map(not_compiled);
    unused.chain(replayed.unaffected.iter().map(same)).collect()
}

/// Says that a file of a fix does nothing on this kernel.
pub fn not_compiled(path: &TreePath) -> String {
    format!("{path} is not compiled into this kernel")
}

/// What the replay knows to be no work for a livepatch is an answer, not a failure.
fn refused_by_replay(profile: &KernelProfile, error: ReplayError) -> Result<Outcome, ProduceError> {
    let why = error.to_string();
    let refusal = |rule, symbol: String| Refusal {
        rule,
        unit: profile.id.release.to_string(),
        symbol,
        why,
    };
    match &error {
        ReplayError::HeaderReach { header, .. } => Ok(Outcome::Refused(vec![refusal(
            Rule::HeaderReach,
            header.to_string(),
        )])),
        ReplayError::Compiler { found, .. } => Ok(Outcome::Refused(vec![refusal(
            Rule::NotTheKernel,
            found.clone(),
        )])),
        ReplayError::Apply(_)
        | ReplayError::Tree(_)
        | ReplayError::Kbuild(_)
        | ReplayError::Version(_)
        | ReplayError::Make(_)
        | ReplayError::Compile(_)
        | ReplayError::Unreplayable { .. }
        | ReplayError::Search(_)
        | ReplayError::Unsearched { .. }
        | ReplayError::Parent { .. }
        | ReplayError::Write(_)
        | ReplayError::Keep { .. } => Err(error.into()),
    }
}

/// Reasons why no fix can be livepatched on this kernel by this engine.
pub fn cannot_be_patched(profile: &KernelProfile) -> Vec<Refusal> {
    let config = &profile.config;
    let is = |accept: fn(u32, u32) -> bool| {
        let series = series(&profile.base_version);
        series.is_ok_and(|(major, minor)| accept(major, minor))
    };
    let known = is(|major, minor| tables::layout_for(major, minor).is_some());
    let ibt = is(tables::is_proven_with_ibt);
    [
        (
            !config.livepatch,
            "CONFIG_LIVEPATCH",
            "is not set: this kernel cannot be livepatched",
        ),
        (
            !config.kallsyms_all,
            "CONFIG_KALLSYMS_ALL",
            "is not set: data could not be found by name",
        ),
        (
            !config.unwinder_orc,
            "CONFIG_UNWINDER_ORC",
            "is not set: stacks could not be checked",
        ),
        (
            config.ibt && !ibt,
            "CONFIG_X86_KERNEL_IBT",
            "is set: this engine has not been proven with it on this series",
        ),
        (
            config.lto,
            "CONFIG_LTO",
            "is set: units could not be compiled apart",
        ),
        (
            config.randstruct,
            "CONFIG_RANDSTRUCT",
            "is set: this engine does not do it yet",
        ),
        (
            config.trim_unused_ksyms,
            "CONFIG_TRIM_UNUSED_KSYMS",
            "is set: needed exports may be gone",
        ),
        (
            !known,
            profile.base_version.as_str(),
            "is of a series this engine has not been proven on",
        ),
    ]
    .into_iter()
    .filter(|(fails, ..)| *fails)
    .map(|(_, symbol, why)| Refusal {
        rule: Rule::KernelCannot,
        unit: profile.id.release.to_string(),
        symbol: symbol.to_owned(),
        why: why.to_owned(),
    })
    .collect()
}

fn series(base_version: &str) -> Result<(u32, u32), ProduceError> {
    let mut parts = base_version.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(ProduceError::BaseVersion(base_version.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_the_module_is_told() {
        let path = |text: &str| vec![text.parse().unwrap()];
        let replayed = replay::Replayed {
            unused: path("arch/arm/x.c"),
            unaffected: path("net/core/dev.c"),
            ..replay::Replayed::default()
        };
        assert_eq!(
            left_out(&replayed),
            [
                "arch/arm/x.c is not compiled into this kernel",
                "net/core/dev.c is reached by a header of the fix and compiles the same"
            ]
        );
        assert!(left_out(&replay::Replayed::default()).is_empty());
    }

    #[test]
    fn a_series_is_the_first_two_numbers() {
        assert_eq!(series("6.1.170").unwrap(), (6, 1));
        assert!(series("six").is_err());
    }
}
