//! What the kernel's loader, livepatch core, ftrace and unwinder would say about a finished module.
//!
//! Works on the final bytes alone and shares no code with what emitted them. Rules are the kernel's own
//! (`kernel/module`, `kernel/livepatch/core.c`, `arch/x86/kernel/module.c`) and, where the kernel trusts
//! its build, what it would trust wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tuxtape_core::identity::{BuildId, ObjectName};

use crate::elf::{ElfFile, MalformedObject, Place};
use crate::kallsyms::Parent;
use crate::symvers::Symvers;

mod alternatives;
mod branches;
mod btf;
mod code;
mod entries;
mod exports;
mod flow;
mod functions;
mod init;
mod jumps;
mod klp;
mod layout;
mod modinfo;
mod module;
mod orc;
mod padded;
mod references;
mod relocations;
mod sites;
mod stack;
mod structs;
mod tables;
mod traps;

#[cfg(test)]
mod tests;

pub use functions::PatchedFunction;
pub use klp::KlpSymbol;
pub use structs::{Structures, structures};

use alternatives::Alternative;
use flow::Code;
use module::{Module, Spot};
use stack::Edges;

/// The kernel a module is judged against.
#[derive(Debug)]
pub struct Kernel<'a, 'data> {
    /// The debug vmlinux.
    pub vmlinux: &'a Parent<'data>,
    /// The debug files of the modules it names; see [`objects_of`].
    pub modules: &'a BTreeMap<ObjectName, Parent<'data>>,
    /// Its exports.
    pub symvers: &'a Symvers,
    /// What its own modules say of themselves.
    pub stock: &'a StockModule,
    /// How it lays out what a livepatch module fills in.
    pub structures: &'a Structures,
    /// The vmlinux's own build-id.
    pub build_id: &'a BuildId,
}

/// Facts that every module of one kernel shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockModule {
    /// The `vermagic` text.
    pub vermagic: String,
    /// Size of `.gnu.linkonce.this_module`, the kernel's `struct module`, in bytes.
    pub this_module_size: u64,
    /// Where in it the pointer to the module's init function is.
    pub init_offset: u64,
    /// Where in it the pointer to the module's exit function is.
    pub exit_offset: u64,
    /// Whether they say that they guard indirect branches.
    pub retpoline: bool,
    /// What says which form their entries for the stack unwinder have, on kernels that want it.
    pub orc_header: Option<Vec<u8>>,
}

/// The rule that a problem breaks; [`Check::slug`] is its name in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Not a readable object at all.
    Malformed,
    /// The file's general shape, as the loader wants it.
    Layout,
    /// `livepatch=Y`.
    LivepatchFlag,
    /// A licence that may use GPL-only exports.
    License,
    /// The module's name.
    Name,
    /// `vermagic` equals the kernel's.
    Vermagic,
    /// `tuxtape_kernel_build_id` equals the kernel's.
    BuildId,
    /// The `struct module` it carries.
    ThisModule,
    /// A symbol for the livepatch core is well formed.
    KlpName,
    /// A symbol for the livepatch core resolves to exactly one address that lasts.
    KlpSymbol,
    /// A relocation section for the livepatch core is well formed.
    KlpSection,
    /// A livepatch relocation section names only what exists when it is applied.
    KlpOrder,
    /// An undefined symbol is exported.
    Undefined,
    /// Its checksum is the kernel's.
    Crc,
    /// Its namespace is imported.
    Namespace,
    /// The module that exports it is a declared dependency.
    Dependency,
    /// A relocation is one the loader applies.
    Relocation,
    /// The bytes it overwrites are zero.
    NonzeroTarget,
    /// No two relocations write the same bytes.
    Overlap,
    /// A patched function is there and can be traced.
    Function,
    /// The module's own table of patched functions says the same.
    Entry,
    /// Entries for ftrace.
    Mcount,
    /// Entries for the stack unwinder.
    Orc,
    /// Entries for the return and indirect-branch thunks.
    ThunkSite,
    /// Padding before each function, on kernels that have it.
    Padding,
    /// Entries for direct calls, on kernels that count their depth.
    CallSite,
    /// No pointer to a function at which an indirect branch may not land.
    SealedTarget,
    /// No static key or call of another module.
    ModuleKey,
    /// Tables about code are about this module's code.
    ForeignSite,
    /// What the livepatch core keeps for itself is untouched, and what it reads is whole.
    KlpStruct,
    /// The module does nothing but hand over its patch.
    Init,
    /// What is code, data and constant is loaded as such.
    SectionFlags,
    /// It says what a livepatch module of this kernel says, and nothing else.
    Modinfo,
    /// A direct branch leads to the start of a function, or about in its own.
    Branch,
    /// A relocation fills in a field of an instruction, in the form it is read.
    Operand,
    /// An address is of something that is there.
    Reference,
    /// A function leaves the stack and the registers as it found them.
    Stack,
    /// A static branch is one the kernel can switch, on a key.
    JumpEntry,
    /// A static call is one of the trampoline whose key it names.
    StaticCall,
    /// Code that the kernel exchanges is whole, and so is what comes in its place.
    Alternative,
    /// A call that the kernel makes direct is one.
    ParavirtSite,
    /// A trap is listed, and an entry about traps is about one.
    BugEntry,
    /// A fault goes on in its own function, by a handler the kernel has.
    ExceptionEntry,
    /// A byte the kernel takes for a lock prefix is one.
    LockSite,
}

impl Check {
    /// Its name in JSON.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Layout => "layout",
            Self::LivepatchFlag => "livepatch-flag",
            Self::License => "license",
            Self::Name => "name",
            Self::Vermagic => "vermagic",
            Self::BuildId => "build-id",
            Self::ThisModule => "this-module",
            Self::KlpName => "klp-name",
            Self::KlpSymbol => "klp-symbol",
            Self::KlpSection => "klp-section",
            Self::KlpOrder => "klp-order",
            Self::Undefined => "undefined",
            Self::Crc => "crc",
            Self::Namespace => "namespace",
            Self::Dependency => "dependency",
            Self::Relocation => "relocation",
            Self::NonzeroTarget => "nonzero-target",
            Self::Overlap => "overlap",
            Self::Function => "function",
            Self::Entry => "entry",
            Self::Mcount => "mcount",
            Self::Orc => "orc",
            Self::ThunkSite => "thunk-site",
            Self::Padding => "padding",
            Self::CallSite => "call-site",
            Self::SealedTarget => "sealed-target",
            Self::ModuleKey => "module-key",
            Self::ForeignSite => "foreign-site",
            Self::KlpStruct => "klp-struct",
            Self::Init => "init",
            Self::SectionFlags => "section-flags",
            Self::Modinfo => "modinfo",
            Self::Branch => "branch",
            Self::Operand => "operand",
            Self::Reference => "reference",
            Self::Stack => "stack",
            Self::JumpEntry => "jump-entry",
            Self::StaticCall => "static-call",
            Self::Alternative => "alternative",
            Self::ParavirtSite => "paravirt-site",
            Self::BugEntry => "bug-entry",
            Self::ExceptionEntry => "exception-entry",
            Self::LockSite => "lock-site",
        }
    }
}

impl Check {
    /// What to do about a module that breaks it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Malformed | Self::Layout | Self::SectionFlags | Self::ThisModule => {
                "the file was damaged or edited: take it anew from where it was built, and compare its sha256"
            }
            Self::Vermagic | Self::BuildId | Self::Crc | Self::Undefined => {
                "built for another kernel: build it for this one with `tuxtape patch build`"
            }
            Self::LivepatchFlag
            | Self::License
            | Self::Name
            | Self::Namespace
            | Self::Dependency
            | Self::Modinfo => {
                "made by another tool or edited: build it from its fixes with `tuxtape patch build`"
            }
            Self::KlpName
            | Self::KlpSymbol
            | Self::KlpSection
            | Self::KlpOrder
            | Self::Function
            | Self::Entry
            | Self::KlpStruct
            | Self::Init
            | Self::Relocation
            | Self::NonzeroTarget
            | Self::Overlap
            | Self::Operand
            | Self::Reference
            | Self::Branch
            | Self::Stack
            | Self::Mcount
            | Self::Orc
            | Self::ThunkSite
            | Self::Padding
            | Self::CallSite
            | Self::SealedTarget
            | Self::ModuleKey
            | Self::ForeignSite
            | Self::JumpEntry
            | Self::StaticCall
            | Self::Alternative
            | Self::ParavirtSite
            | Self::BugEntry
            | Self::ExceptionEntry
            | Self::LockSite => {
                "do not load it: build it again from its fixes with `tuxtape patch build`; if that module has the same problem, keep both and report it"
            }
        }
    }
}

/// One reason not to load a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The rule it breaks.
    pub check: Check,
    /// The section it is in.
    pub section: Option<String>,
    /// Offset into that section.
    pub offset: Option<u64>,
    /// The symbol it is about.
    pub symbol: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl Problem {
    fn new(check: Check, why: impl Into<String>) -> Self {
        Self {
            check,
            section: None,
            offset: None,
            symbol: None,
            why: why.into(),
        }
    }

    fn in_section(mut self, section: &str) -> Self {
        self.section = Some(section.to_owned());
        self
    }

    fn at(mut self, section: &str, offset: u64) -> Self {
        self.offset = Some(offset);
        self.in_section(section)
    }

    fn of(mut self, symbol: &str) -> Self {
        self.symbol = Some(symbol.to_owned());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.check.slug())?;
        if let Some(section) = &self.section {
            match self.offset {
                Some(offset) => write!(f, "{section}+{offset:#x}: ")?,
                None => write!(f, "{section}: ")?,
            }
        }
        if let Some(symbol) = &self.symbol {
            write!(f, "{symbol}: ")?;
        }
        f.write_str(&self.why)
    }
}

/// What verifying a module found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Every reason not to load it, sorted.
    pub problems: Vec<Problem>,
    /// What its livepatch symbols resolve to, sorted; for comparison with what was intended.
    pub klp_symbols: Vec<KlpSymbol>,
    /// The functions it says it patches, sorted.
    pub functions: Vec<PatchedFunction>,
    /// How much of its code was compared with its entries for the stack unwinder.
    pub stack: StackCoverage,
}

/// How far the stack could be followed through a module's functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCoverage {
    /// Instructions of its functions.
    pub instructions: usize,
    /// Those at which the stack is known, and equals what the unwinder is told.
    pub followed: usize,
}

/// Verifies the livepatch module `bytes` against `kernel`.
pub fn verify(bytes: &[u8], kernel: &Kernel<'_, '_>) -> VerifyReport {
    let mut report = VerifyReport::default();
    if let Err(malformed) = fill(bytes, kernel, &mut report) {
        report
            .problems
            .push(Problem::new(Check::Malformed, malformed.to_string()));
    }
    report.problems.sort();
    report.problems.dedup();
    report
}

fn fill(
    bytes: &[u8],
    kernel: &Kernel<'_, '_>,
    report: &mut VerifyReport,
) -> Result<(), MalformedObject> {
    let module = Module::read(bytes)?;
    let problems = &mut report.problems;
    let code = Code::read(&module);
    let alternatives = alternatives::read(&module, kernel.structures, problems);
    report.stack = loadable(&module, kernel, &code, &alternatives, problems);
    modinfo::check_livepatch(&module, kernel.stock, kernel.build_id, problems);
    let init = init::check(&module, &code, problems);
    report.functions = functions::check(&module, kernel, problems);
    report.klp_symbols = klp::check(&module, kernel, &report.functions, problems);
    let structures = kernel.structures;
    entries::check(
        &module,
        structures,
        &code,
        &init,
        &report.functions,
        problems,
    );
    tables::check_klp(&module, kernel.symvers, problems);
    alternatives::check_late(&module, &alternatives, problems);
    Ok(())
}

/// Verifies any module, livepatch or not, as far as both are loaded alike.
pub fn verify_plain(bytes: &[u8], kernel: &Kernel<'_, '_>) -> VerifyReport {
    let mut report = VerifyReport::default();
    match Module::read(bytes) {
        Ok(module) => {
            let problems = &mut report.problems;
            let code = Code::read(&module);
            let alternatives = alternatives::read(&module, kernel.structures, problems);
            report.stack = loadable(&module, kernel, &code, &alternatives, problems);
        }
        Err(malformed) => report
            .problems
            .push(Problem::new(Check::Malformed, malformed.to_string())),
    }
    report.problems.sort();
    report.problems.dedup();
    report
}

fn loadable(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    code: &Code<'_>,
    alternatives: &[Alternative],
    problems: &mut Vec<Problem>,
) -> StackCoverage {
    let structures = kernel.structures;
    layout::check(module, kernel.stock, problems);
    modinfo::check(module, kernel.stock, problems);
    exports::check(module, kernel, problems);
    relocations::check(module, problems);
    code::check(module, problems);
    sites::check(module, problems);
    padded::check(module, kernel, problems);
    tables::check(module, problems);
    branches::check(module, kernel, code, problems);
    references::check(module, kernel, code, problems);
    alternatives::check(module, structures, code, alternatives, problems);
    let calls = alternatives::check_paravirt(module, structures.paravirt_slots, code, problems);
    sites::check_locks(module, code, problems);
    let exported = |name: &str| kernel.symvers.get(name).is_some();
    let rewritten = |spot: Spot| {
        let mut originals = alternatives.iter().map(|alternative| alternative.original);
        calls.contains(&spot) || originals.any(|original| original == spot)
    };
    sites::check_bare(module, code, exported, rewritten, problems);
    let mut edges = Edges::default();
    traps::check_bugs(
        module,
        &structures.bug,
        code,
        alternatives,
        &mut edges,
        problems,
    );
    traps::check_faults(module, kernel, code, &mut edges, problems);
    jumps::check_keys(module, kernel, code, &mut edges, problems);
    jumps::check_calls(module, code, problems);
    let stacks = stack::walk(module, code, alternatives, &edges, problems);
    traps::check_fatal(module, code, &edges, &stacks, problems);
    traps::check_breaks(module, code, &stacks, problems);
    orc::check_header(module, kernel.stock, problems);
    orc::check(module, structures.orc, code, &stacks, problems)
}

/// The objects other than vmlinux that a module's livepatch symbols, livepatch relocation sections and
/// patched functions name: [`Kernel::modules`] must hold them.
pub fn objects_of(bytes: &[u8]) -> Result<BTreeSet<ObjectName>, MalformedObject> {
    let module = Module::read(bytes)?;
    let symbols = module
        .file
        .symbols()
        .iter()
        .filter(|symbol| symbol.place == Place::Livepatch)
        .filter_map(|symbol| klp::parse_symbol(symbol.name))
        .map(|(object, _, _)| object);
    let sections = module
        .file
        .sections()
        .iter()
        .filter_map(|section| klp::parse_section(section.name))
        .map(|(object, _)| object);
    let functions = functions::lines(&module)
        .filter_map(functions::parse)
        .map(|(object, _, _)| object);
    Ok(symbols
        .chain(sections)
        .chain(functions)
        .filter(|object| *object != ObjectName::VMLINUX)
        .map(|object| ObjectName(object.to_owned()))
        .collect())
}

/// Reads what every module of a kernel shares from one of them, or `None` if it does not say: it must have
/// both an init and an exit function.
pub fn stock_module(bytes: &[u8]) -> Result<Option<StockModule>, MalformedObject> {
    let module = Module::read(bytes)?;
    let vermagic = module.info("vermagic");
    let this_module = module.file.section_named(layout::THIS_MODULE);
    let pointers = layout::module_functions(&module);
    let facts = || {
        Some(StockModule {
            vermagic: vermagic?.to_owned(),
            this_module_size: this_module?.size,
            init_offset: *pointers.get(layout::INIT)?,
            exit_offset: *pointers.get(layout::EXIT)?,
            retpoline: module.info("retpoline") == Some("Y"),
            orc_header: orc::header(&module).map(ToOwned::to_owned),
        })
    };
    Ok(facts())
}

/// The GNU build-id of a linked kernel, if it carries one.
pub fn build_id(vmlinux: &ElfFile<'_>) -> Option<BuildId> {
    const NOTE: u32 = 7;
    vmlinux
        .sections()
        .iter()
        .filter(|section| section.kind == NOTE)
        .find_map(|section| layout::gnu_build_id(section.data))
}

/// Verifies `bytes` against a kernel made of the same bytes; for fuzzing. Never panics.
pub fn verify_anything(bytes: &[u8]) {
    objects_of(bytes).ok();
    let stock = stock_module(bytes).ok().flatten();
    let stock = stock.unwrap_or_else(|| StockModule {
        vermagic: "modversions".to_owned(),
        this_module_size: 0,
        init_offset: 0,
        exit_offset: 0,
        retpoline: true,
        orc_header: None,
    });
    let mut linked = bytes.to_vec();
    if let Some(kind) = linked.get_mut(16) {
        *kind = 2;
    }
    let vmlinux = ElfFile::parse(&linked)
        .ok()
        .and_then(|file| Parent::new(ObjectName(ObjectName::VMLINUX.to_owned()), file).ok());
    let Some(vmlinux) = vmlinux else {
        return;
    };
    let Ok(unknown) = BuildId::from_bytes(&[0]) else {
        return;
    };
    let build_id = build_id(vmlinux.file()).unwrap_or(unknown);
    let mut modules = BTreeMap::new();
    for name in objects_of(bytes).unwrap_or_default() {
        if let Some(parent) = ElfFile::parse(bytes)
            .ok()
            .and_then(|file| Parent::new(name.clone(), file).ok())
        {
            modules.insert(name, parent);
        }
    }
    let kernel = Kernel {
        vmlinux: &vmlinux,
        modules: &modules,
        symvers: &Symvers::default(),
        stock: &stock,
        structures: &structures(vmlinux.file()).unwrap_or(structs::UPSTREAM),
        build_id: &build_id,
    };
    verify(bytes, &kernel);
    verify_plain(bytes, &kernel);
}
