//! Why a unit cannot become part of a livepatch module.

use std::fmt;

/// A rule that refuses; its slug is what `patch build --json` prints as `rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Static data could not be matched between the two versions without guessing.
    AmbiguousStatic,
    /// The initialiser of data that lives in the kernel changed.
    DataChanged,
    /// New data in a section that only the boot code or the per-cpu allocator can set up.
    DataMoved,
    /// An exported function takes or gives something else than before.
    ExportCrc,
    /// A changed header may reach more units than may be compiled.
    HeaderReach,
    /// Code or data that is gone after boot or module load changed.
    InitCode,
    /// A changed inline function has copies in units that were not looked at.
    InlinedElsewhere,
    /// This kernel cannot be livepatched, or not by this engine.
    KernelCannot,
    /// A static key or call that a module owns is used.
    ModuleKey,
    /// A name is too long or holds a character the kernel's formats cannot carry.
    Names,
    /// An export of a module is used that the unit did not use before.
    NewDependency,
    /// The compiled original is not what runs.
    NotTheKernel,
    /// A changed function has no ftrace entry.
    NotTraceable,
    /// A table that is read once, at boot or module load, changed.
    Registration,
    /// A pointer to a function at which an indirect branch may not land (IBT).
    SealedTarget,
    /// A changed function shares its section with others.
    SharedSection,
    /// A static variable of a function is gone.
    StaticLocal,
    /// The layout of a type with live instances changed.
    TypeLayout,
    /// The object holds something this engine does not know.
    Unknown,
    /// A symbol that neither the kernel exports nor the patched object holds.
    Unresolved,
    /// The finished module failed a check of the kernel's loader.
    Verifier,
    /// A weak function that another definition overrides.
    WeakOverridden,
}

impl Rule {
    /// All rules, by slug.
    pub const ALL: [Self; 22] = [
        Self::AmbiguousStatic,
        Self::DataChanged,
        Self::DataMoved,
        Self::ExportCrc,
        Self::HeaderReach,
        Self::InitCode,
        Self::InlinedElsewhere,
        Self::KernelCannot,
        Self::ModuleKey,
        Self::Names,
        Self::NewDependency,
        Self::NotTheKernel,
        Self::NotTraceable,
        Self::Registration,
        Self::SealedTarget,
        Self::SharedSection,
        Self::StaticLocal,
        Self::TypeLayout,
        Self::Unknown,
        Self::Unresolved,
        Self::Verifier,
        Self::WeakOverridden,
    ];

    /// The stable name of the rule.
    pub fn slug(self) -> &'static str {
        match self {
            Self::AmbiguousStatic => "ambiguous-static",
            Self::DataChanged => "data-changed",
            Self::DataMoved => "data-moved",
            Self::ExportCrc => "export-crc",
            Self::HeaderReach => "header-reach",
            Self::InitCode => "init-code",
            Self::InlinedElsewhere => "inlined-elsewhere",
            Self::KernelCannot => "kernel-cannot",
            Self::ModuleKey => "module-key",
            Self::Names => "names",
            Self::NewDependency => "new-dependency",
            Self::NotTheKernel => "not-the-kernel",
            Self::NotTraceable => "not-traceable",
            Self::Registration => "registration",
            Self::SealedTarget => "sealed-target",
            Self::SharedSection => "shared-section",
            Self::StaticLocal => "static-local",
            Self::TypeLayout => "type-layout",
            Self::Unknown => "unknown-content",
            Self::Unresolved => "unresolved",
            Self::Verifier => "verifier",
            Self::WeakOverridden => "weak-overridden",
        }
    }

    /// What a person can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::AmbiguousStatic => "give the static variables of the fix distinct names",
            Self::DataChanged => "change the code that reads the data instead, or write a callback",
            Self::DataMoved => "put the new data into plain static storage",
            Self::ExportCrc => {
                "keep the old prototype for modules that call it, and give the new one another name"
            }
            Self::HeaderReach => "cut the fix down to the functions that matter",
            Self::InitCode => "leave code that already ran out of the fix",
            Self::InlinedElsewhere => "name the units in the fix, with a change of their own",
            Self::KernelCannot => "ask `tuxtape kernel check` which engine could",
            Self::ModuleKey => "use static_key_enabled() or a plain call in the fix",
            Self::Names => "rename the symbol in the fix",
            Self::NewDependency => "avoid the new call: the exporting module may not be loaded",
            Self::NotTheKernel => "check compiler, configuration and source version of this kernel",
            Self::NotTraceable | Self::SharedSection => "change the callers instead",
            Self::Registration => {
                "the table was read at boot: this needs a callback written by a person"
            }
            Self::SealedTarget => "call the function directly, or bring a copy of it into the fix",
            Self::StaticLocal => "keep the variable in the fix",
            Self::TypeLayout => "use a shadow variable instead of a new field",
            Self::Unknown => "report this object: the engine refuses what it does not know",
            Self::Unresolved => "avoid the symbol, or bring its definition into the fix",
            Self::Verifier => "this is a fault of the engine: keep the fix and report it",
            Self::WeakOverridden => "change the function that overrides it",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// One reason for not producing a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// The unit, relative to the kernel tree.
    pub unit: String,
    /// The symbol or section at fault.
    pub symbol: String,
    /// What was found.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} in {}: {}",
            self.rule, self.symbol, self.unit, self.why
        )
    }
}
