//! From a fix to pairs of objects, original and patched, by replaying single compile commands.
//!
//! No kernel is built. Kbuild is asked for the command of each touched unit, which is run over the
//! pristine and over the patched source at a time, in two trees, under the same names.

mod checksums;
pub mod command;
pub mod compile;
mod declarations;
pub mod handed_down;
pub mod kbuild;
pub mod objtool;
mod originals;
mod reach;
mod select;
mod session;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;
use tuxtape_livepatch::elf::{ElfFile, MalformedObject};
use tuxtape_livepatch::layout;
use tuxtape_livepatch::loaded::same_but_for_debug_data;
use tuxtape_sys::durable::{self, WriteError};
use tuxtape_sys::process::ProcessError;

use crate::files::KernelFiles;
use crate::unified::{ApplyError, Diff, TreePath};
use command::SavedCommand;
use compile::CompileError;
use kbuild::{BuiltUnits, KbuildError};
use select::{Changed, Target};
use session::Session;
use tree::{TreeError, WorkTree};

/// What a replay may use.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Compilers at a time.
    pub jobs: usize,
    /// Longest time for one unit.
    pub per_unit: Duration,
    /// Most units that one changed header may reach.
    pub header_units: usize,
    /// Longest time for all trials of what a fix may lack. One that has begun may end
    /// [`Budget::per_unit`] for each of its units later.
    pub search: Duration,
    /// Longest wait for another run in the same tree.
    pub patience: Duration,
    /// Hears that there is such a wait.
    pub told: fn(&str),
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            jobs: thread::available_parallelism().map_or(1, usize::from),
            per_unit: Duration::from_secs(300),
            header_units: 40,
            search: Duration::from_secs(600),
            patience: Duration::from_secs(600),
            told: |_| {},
        }
    }
}

/// What a fix became.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The compiler's program name.
    pub compiler: String,
    /// Which compiler it is, and what else makes the bytes.
    pub toolchain: ToolchainNote,
    /// The compiled pairs, by object.
    pub pairs: Vec<CompiledPair>,
    /// Files of the fix that reach no unit of this kernel, sorted.
    pub unused: Vec<TreePath>,
    /// Units that a changed header might have reached, and whose objects came out equal; sorted.
    pub unaffected: Vec<TreePath>,
    /// What was not looked at, in words for the person who reviews.
    pub warnings: Vec<String>,
    /// What was followed of the fix's headers.
    pub followed: Vec<Followed>,
}

/// What units were compiled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolchainNote {
    /// What the compiler says of its version.
    pub version: String,
    /// Another text for every build of compiler, assembler, linker and objtool.
    pub identity: String,
}

/// The names that a changed header makes different, and where they were looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The header, or another file that is only included.
    pub header: String,
    /// Names that it defines otherwise than before, and names of other headers that mention those.
    pub names: BTreeSet<String>,
    /// Units that mention any of them.
    pub units: BTreeSet<TreePath>,
}

/// One unit, compiled from the pristine and from the patched source.
#[derive(Clone, Debug)]
pub struct CompiledPair {
    /// The unit, `net/core/dev.c`.
    pub unit: TreePath,
    /// The object as Kbuild names it, `net/core/dev.o`.
    pub object: String,
    /// What the object is linked into.
    pub parent: ObjectName,
    /// The object of the pristine source, in the cache; not to be changed.
    pub original: PathBuf,
    /// The object of the patched source.
    pub patched: PathBuf,
    /// Whether functions of this unit have entries that can be patched.
    pub traceable: bool,
    /// The command and what it says.
    pub command: SavedCommand,
    /// Name and checksum of each export of the patched source.
    pub checksums: Vec<(String, u32)>,
    /// Whether later lines kept their numbers; without, `__LINE__` alone makes functions differ.
    pub lines_kept: bool,
    /// Whether the original came from the cache.
    pub cached: bool,
    /// Time the patched object took.
    pub took: Duration,
}

/// Why a fix became no pairs.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It does not fit the source.
    #[error("the fix does not apply")]
    Apply(#[from] ApplyError),
    /// The tree could not be used.
    #[error("could not use the kernel tree")]
    Tree(#[from] TreeError),
    /// The configuration's units could not be listed.
    #[error("could not list the kernel's units")]
    Kbuild(#[from] KbuildError),
    /// The compiler is not the one the tree was prepared with.
    #[error("the tree was prepared with {wanted:?} and the compiler is {found:?}")]
    Compiler {
        /// From the tree's configuration.
        wanted: String,
        /// From the compiler.
        found: String,
    },
    /// The compiler could not be asked.
    #[error("could not ask the compiler for its version")]
    Version(#[source] ProcessError),
    /// `make` could not be run.
    #[error("could not run make")]
    Make(#[source] ProcessError),
    /// Some units do not compile; all of them are listed.
    #[error("{}", list(.0))]
    Compile(Vec<CompileError>),
    /// A file of the fix is built in a way that is not replayed.
    #[error("{path} cannot be replayed: {why}")]
    Unreplayable {
        /// The file.
        path: TreePath,
        /// Why not.
        why: &'static str,
    },
    /// A header reaches more units than may be looked at, or in ways that are not followed.
    #[error(
        "{header} reaches {units} units or more ({names} names followed; the limit is {budget} units)"
    )]
    HeaderReach {
        /// The header.
        header: TreePath,
        /// Units found until then.
        units: usize,
        /// Names followed until then.
        names: usize,
        /// The limit.
        budget: usize,
    },
    /// The tree could not be searched.
    #[error("could not search the kernel tree")]
    Search(#[source] ProcessError),
    /// Some files of the tree could not be searched.
    #[error("some files of the kernel tree could not be searched ({status})")]
    Unsearched {
        /// How the search ended.
        status: ExitStatus,
    },
    /// The profile and Kbuild disagree on what a unit is linked into.
    #[error("{object} is linked into {found} by its command and into {profile} by the profile")]
    Parent {
        /// The object.
        object: String,
        /// From the command.
        found: ObjectName,
        /// From the profile.
        profile: String,
    },
    /// A result could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A result could not be moved.
    #[error("could not keep {path}", path = path.display())]
    Keep {
        /// The object.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn list(errors: &[CompileError]) -> String {
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    words.join("\n")
}

/// Compiles every unit that `fix` touches, before and after it, into the folder `out`.
///
/// Blocks for seconds per unit, and for about 20 s more the first time for a kernel. The prepared
/// tree is not changed; the second tree is, and is put back.
pub fn compile_pair(
    files: &KernelFiles,
    fix: &Diff,
    profile: Option<&KernelProfile>,
    budget: &Budget,
    out: &Path,
) -> Result<Replayed, ReplayError> {
    let toolchain = session::toolchain(files)?;
    let work = files.top.join("work");
    let tree = WorkTree::take(&files.source, &work, budget.patience, budget.told)?;
    let units = built_units(files, &tree)?;
    let changed = select::apply(fix, &tree)?;
    let mut result = Replayed {
        compiler: toolchain.compiler.clone(),
        toolchain: ToolchainNote {
            version: toolchain.version.clone(),
            identity: toolchain.identity.clone(),
        },
        ..Replayed::default()
    };
    let session = Session {
        files,
        tree: &tree,
        toolchain: &toolchain,
        budget,
    };
    fs::create_dir_all(out).map_err(|source| ReplayError::Keep {
        path: out.to_owned(),
        source,
    })?;
    let named = select::named(&changed, &units, &mut result)?;
    let first = select::targets_of(&named.units, &units);
    result.pairs = both(&session, &first, &changed, profile, out)?;
    // What a header reaches may be hundreds of units. A type that the fix's own units show to have
    // changed refuses them all.
    let headers = named
        .included
        .iter()
        .any(|path| !named.units.contains(*path));
    if let Some(unit) = headers
        .then(|| changed_type(&result.pairs))
        .transpose()?
        .flatten()
    {
        result.warnings.push(format!(
            "a type of {unit} changed: what the fix's headers reach was not looked at"
        ));
        result.unused.sort();
        return Ok(result);
    }
    let reached = reach::reached(
        &named.included,
        &changed,
        &units,
        &tree,
        budget.header_units,
        &mut result,
    )?;
    let mut rest = select::targets_of(&reached, &units);
    rest.retain(|target| !first.contains(target));
    let more = both(&session, &rest, &changed, profile, out)?;
    result.pairs.extend(more);
    result.pairs.sort_by(|a, b| a.object.cmp(&b.object));
    drop_equal(&mut result, &changed)?;
    result.unused.sort();
    Ok(result)
}

/// A text that is another one for every build of the program `compiler` and of the objtool of the tree.
pub fn compiler_identity(files: &KernelFiles, compiler: &str) -> Result<String, ProcessError> {
    session::identity(files, compiler)
}

/// Compiles `targets` before and after the fix. The tree is pristine before and after.
fn both(
    session: &Session<'_>,
    targets: &BTreeSet<Target>,
    changed: &BTreeMap<TreePath, Changed>,
    profile: Option<&KernelProfile>,
    out: &Path,
) -> Result<Vec<CompiledPair>, ReplayError> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let outcome = session.pairs(targets, changed, out);
    // Whatever happened, the tree goes back; a failure to do so is the next run's first task.
    let restored = session.tree.restore();
    let pairs = outcome?;
    restored?;
    check_parents(&pairs, profile)?;
    Ok(pairs)
}

/// The first unit in which the layout of a type changed.
fn changed_type(pairs: &[CompiledPair]) -> Result<Option<&TreePath>, ReplayError> {
    for pair in pairs {
        let changes = layout::changes(&bytes(&pair.original)?, &bytes(&pair.patched)?);
        if changes.is_ok_and(|changes| !changes.is_empty()) {
            return Ok(Some(&pair.unit));
        }
    }
    Ok(None)
}

fn bytes(path: &Path) -> Result<Vec<u8>, ReplayError> {
    fs::read(path).map_err(|source| ReplayError::Keep {
        path: path.to_owned(),
        source,
    })
}

/// Compiles only `units`, with `fix`; returns what does not compile.
///
/// Blocks for seconds per unit. The objects are not kept.
pub fn try_units(
    files: &KernelFiles,
    fix: &Diff,
    units: &BTreeSet<TreePath>,
    budget: &Budget,
    out: &Path,
) -> Result<Vec<CompileError>, ReplayError> {
    let toolchain = session::toolchain(files)?;
    let work = files.top.join("work");
    let tree = WorkTree::take(&files.source, &work, budget.patience, budget.told)?;
    let built = built_units(files, &tree)?;
    let changed = select::apply(fix, &tree)?;
    let targets = select::targets_of(units, &built);
    let session = Session {
        files,
        tree: &tree,
        toolchain: &toolchain,
        budget,
    };
    fs::create_dir_all(out).map_err(|source| ReplayError::Keep {
        path: out.to_owned(),
        source,
    })?;
    let outcome = session.pairs(&targets, &changed, out);
    tree.restore()?;
    match outcome {
        Ok(_) => Ok(Vec::new()),
        Err(ReplayError::Compile(errors)) => Ok(errors),
        Err(error) => Err(error),
    }
}

/// Takes out the units that the fix does not name and that came out the same: whatever their debug
/// data says of lines, no code, no data and no layout of a type differs.
fn drop_equal(
    result: &mut Replayed,
    changed: &BTreeMap<TreePath, Changed>,
) -> Result<(), ReplayError> {
    let mut kept = Vec::new();
    for pair in result.pairs.drain(..) {
        let named = changed.contains_key(&pair.unit);
        if !named && is_equal(&bytes(&pair.original)?, &bytes(&pair.patched)?) {
            tree::remove(&pair.patched)?;
            result.unaffected.push(pair.unit);
        } else {
            kept.push(pair);
        }
    }
    result.pairs = kept;
    result.unaffected.sort();
    result.unaffected.dedup();
    Ok(())
}

/// Objects that cannot be read are not equal, so that the build refuses them with its reasons.
fn is_equal(original: &[u8], patched: &[u8]) -> bool {
    let same = || -> Result<bool, MalformedObject> {
        same_but_for_debug_data(&ElfFile::parse(original)?, &ElfFile::parse(patched)?)
    };
    same().is_ok_and(|same| same) && layout::refusals("", original, patched).is_empty()
}

/// Turns an object's path into one file name, `net__core__dev`.
pub fn flat(object: &str) -> String {
    let parts: Vec<&str> = object
        .strip_suffix(".o")
        .unwrap_or(object)
        .split('/')
        .filter(|part| *part != "..")
        .collect();
    parts.join("__")
}

fn check_parents(
    pairs: &[CompiledPair],
    profile: Option<&KernelProfile>,
) -> Result<(), ReplayError> {
    let Some(profile) = profile else {
        return Ok(());
    };
    for pair in pairs {
        let known = profile.units.get(pair.unit.as_str());
        if let Some(known) = known
            && !known.contains(&pair.parent)
        {
            let names: Vec<&str> = known.iter().map(|name| name.0.as_str()).collect();
            return Err(ReplayError::Parent {
                object: pair.object.clone(),
                found: pair.parent.clone(),
                profile: names.join(", "),
            });
        }
    }
    Ok(())
}

fn built_units(files: &KernelFiles, tree: &WorkTree) -> Result<BuiltUnits, ReplayError> {
    let cached = files.top.join("work").join("units");
    // The first line names the form of the file and the tree.
    let head = format!("2 {}\n", tree.stamp());
    if let Some(units) = fs::read_to_string(&cached)
        .ok()
        .and_then(|text| BuiltUnits::from_text(text.strip_prefix(&head)?))
    {
        return Ok(units);
    }
    let question = files.top.join("work").join("units.mk");
    let mut units = kbuild::built_units(tree.top(), &question)?;
    units.included = reach::included_units(tree)?;
    durable::write(&cached, format!("{head}{}", units.to_text()).as_bytes())?;
    Ok(units)
}

/// Entry for fuzzing: reads bytes as a saved command, a rule for `make`, an answer of it, and a header.
pub fn fuzz(bytes: &[u8]) {
    command::read(bytes, "net/core/dev.o").ok();
    originals::fuzz(bytes);
    handed_down::fuzz(bytes);
    let found = declarations::declarations(bytes);
    declarations::differing(&found, found.get(1..).unwrap_or_default());
}
