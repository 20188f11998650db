//! The ground-truth gate: is a freshly compiled unit the one the running kernel was linked from?
//!
//! Every function of the compiled original is found in its parent and compared byte for byte, with
//! relocated fields masked; then each masked field's target is compared too, where that can be told.

use std::collections::BTreeMap;
use std::fmt;

use tuxtape_core::identity::ObjectName;

use crate::elf::{ElfFile, MalformedObject, SectionIndex, SymbolIndex};
use crate::kallsyms::Parent;

mod block;
mod compare;
mod judge;
mod relaxed;
mod target;

#[cfg(test)]
mod tests;

/// What a unit's comparison with its parent found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroundTruth {
    /// Every function of the unit, sorted by name.
    pub functions: Vec<FunctionTruth>,
    /// Where the unit's own symbols are in the parent.
    pub map: UnitMap,
    /// Relocated fields whose target was compared.
    pub targets: TargetCount,
    /// The answer.
    pub verdict: Verdict,
}

impl GroundTruth {
    /// How many functions are equal.
    pub fn equal(&self) -> usize {
        self.functions
            .iter()
            .filter(|function| function.outcome == Outcome::Equal)
            .count()
    }

    /// What the comparison says of the function called `name` in the unit.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.functions
            .iter()
            .find(|function| function.name == name)
            .map(|function| &function.outcome)
    }
}

/// One function of the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionTruth {
    /// Its name in the unit.
    pub name: String,
    /// What the comparison says.
    pub outcome: Outcome,
}

/// How a function compares with its counterpart in the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Same size, bytes and provable targets.
    Equal,
    /// The parent has another function of this name.
    Differs(Difference),
    /// The parent has no function of this name.
    Missing,
    /// Weak here, and another definition won the link: this code does not run and cannot be patched.
    Overridden,
}

/// The first difference of two functions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Sizes in bytes.
    Size {
        /// Of the compiled unit's function.
        ours: u64,
        /// Of the parent's.
        theirs: u64,
    },
    /// Bytes from `offset` on, at most 16, masked fields as zero.
    Bytes {
        /// Offset into the function.
        offset: u64,
        /// In the compiled unit.
        ours: Vec<u8>,
        /// In the parent.
        theirs: Vec<u8>,
    },
    /// A relocated field names something else.
    Target {
        /// Offset of the field into the function.
        offset: u64,
        /// What the compiled unit names.
        ours: String,
        /// What the parent names.
        theirs: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { ours, theirs } => {
                write!(f, "{ours} bytes here, {theirs} in the kernel")
            }
            Self::Bytes {
                offset,
                ours,
                theirs,
            } => {
                write!(f, "at offset {offset:#x}")?;
                for (bytes, place) in [(ours, "here"), (theirs, "in the kernel")] {
                    for byte in bytes {
                        write!(f, " {byte:02x}")?;
                    }
                    write!(f, " {place}")?;
                }
                Ok(())
            }
            Self::Target {
                offset,
                ours,
                theirs,
            } => write!(
                f,
                "at offset {offset:#x} refers to {ours} here, to {theirs} in the kernel"
            ),
        }
    }
}

/// Whether the unit is the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every function that runs is equal.
    Equal,
    /// At least one is not.
    NotTheKernel {
        /// The first differing function by name.
        function: String,
        /// How it differs; `None` if the parent lacks it.
        difference: Option<Difference>,
        /// What most often makes units differ like this.
        likely: Cause,
    },
}

/// The likely cause of a mismatch: a guess for the person who has to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Another compiler, or other flags.
    Compiler,
    /// Another configuration.
    Config,
    /// One side did not go through objtool.
    Objtool,
    /// Another source version.
    Source,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compiler => "compiler or its flags",
            Self::Config => "configuration",
            Self::Objtool => "objtool",
            Self::Source => "source version",
        })
    }
}

/// Relocated fields by what is known of their targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCount {
    /// The same symbol, string or constant in both.
    pub proven: u64,
    /// Nothing in the parent tells (unnamed read-only data).
    pub unproven: u64,
    /// Proven to be something else; such a function is not equal.
    pub contradicted: u64,
}

/// Where a unit's own functions and objects are in the parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitMap {
    /// By name in the unit. A name that stands for two symbols of the unit is not here; an overridden
    /// weak function stands for the definition that won.
    pub symbols: BTreeMap<String, ParentSymbol>,
}

/// One symbol of the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentSymbol {
    /// Its name there; static locals may be numbered differently.
    pub name: String,
    /// Its index in the parent's table.
    pub symbol: SymbolIndex,
    /// Its section in the parent.
    pub section: SectionIndex,
    /// Address in vmlinux; offset into `section` in a module.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// The position to write: 0 if the name is unique; `None` if kallsyms does not hold it.
    pub sympos: Option<u32>,
    /// Whether it is global or weak there.
    pub global: bool,
}

/// Why a unit could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroundTruthError {
    /// A file is malformed.
    #[error(transparent)]
    Malformed(#[from] MalformedObject),
    /// No source file of the parent has the unit's local symbols.
    #[error("{unit} is not in {parent}: {detail}", detail = Sides(only_in_unit, only_in_parent))]
    NotFound {
        /// The unit's path.
        unit: String,
        /// Where it was looked for.
        parent: ObjectName,
        /// Local names only the compiled unit has.
        only_in_unit: Vec<String>,
        /// Local names only the nearest source file of that base name has.
        only_in_parent: Vec<String>,
        /// What most often makes units differ like this.
        likely: Cause,
    },
    /// Several source files of the parent have exactly the unit's local symbols.
    #[error("{unit} is in {parent} {times} times with equal local symbols")]
    FoundTwice {
        /// The unit's path.
        unit: String,
        /// Where it was looked for.
        parent: ObjectName,
        /// How often.
        times: usize,
    },
}

struct Sides<'a>(&'a [String], &'a [String]);

impl fmt::Display for Sides<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names if names.len() > SHOWN => {
                let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
                format!("{} and {} more", shown.join(", "), names.len() - SHOWN)
            }
            names => names.join(", "),
        };
        write!(
            f,
            "local symbols only in the compiled unit: {}; only in the kernel: {}",
            list(self.0),
            list(self.1)
        )
    }
}

/// Compares the compiled original `unit`, whose source is `path` (`fs/proc/meminfo.c`), with `parent`.
pub fn compare(
    unit: &ElfFile<'_>,
    parent: &Parent<'_>,
    path: &str,
) -> Result<GroundTruth, GroundTruthError> {
    let block = block::find(unit, parent, path)?;
    let map = block::map(unit, parent, block.as_ref());
    let (functions, targets) = compare::functions(unit, parent, &map)?;
    let verdict = judge::judge(&functions);
    Ok(GroundTruth {
        functions,
        map,
        targets,
        verdict,
    })
}

/// Compares `bytes` with a parent made of the same bytes; for fuzzing. Never panics.
pub fn compare_anything(bytes: &[u8]) {
    let Ok(unit) = ElfFile::parse(bytes) else {
        return;
    };
    for name in [ObjectName::VMLINUX, "module"] {
        let object = ObjectName(name.to_owned());
        let parent = ElfFile::parse(bytes)
            .ok()
            .and_then(|file| Parent::new(object, file).ok());
        if let Some(parent) = parent {
            for path in parent.file_names().into_iter().take(8) {
                compare(&unit, &parent, path).ok();
            }
        }
    }
}
