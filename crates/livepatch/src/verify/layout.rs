//! The general shape of the file.

use std::collections::BTreeMap;

use tuxtape_core::identity::BuildId;

use super::{Check, Problem, StockModule, module::Module};
use crate::elf::{FileKind, Place, Section};
use crate::kallsyms::KSYM_NAME_LEN;

/// The section that holds the kernel's `struct module`.
pub(super) const THIS_MODULE: &str = ".gnu.linkonce.this_module";
/// The function the loader runs first.
pub(super) const INIT: &str = "init_module";
/// The function it runs before the module goes.
pub(super) const EXIT: &str = "cleanup_module";

/// Where in `struct module` its name is: behind its state and its place in the list of modules.
const NAME_OFFSET: u64 = 24;
/// The loader's section count is 16 bits wide, and the topmost values are reserved.
const SECTION_LIMIT: usize = 0xff00;
/// The loader gives a module's memory in pages, and aligns its sections from the start of one.
const PAGE: u64 = 4096;

pub(super) fn check(module: &Module<'_>, stock: &StockModule, problems: &mut Vec<Problem>) {
    let file = &module.file;
    let mut layout = |why: &str| problems.push(Problem::new(Check::Layout, why));
    if file.kind != FileKind::Relocatable {
        layout("not a relocatable file");
    }
    if file.sections().len() >= SECTION_LIMIT {
        layout("more sections than the loader can count");
    }
    if file.symbol_table().is_none() {
        layout("no symbol table");
    }
    if let Some(first) = file.sections().first()
        && (first.kind != 0 || first.size != 0 || first.address != 0)
    {
        layout("section 0 is not empty");
    }
    for name in [".modinfo", THIS_MODULE] {
        if !file
            .section_named(name)
            .is_some_and(|section| section.is_allocated() && !section.data.is_empty())
        {
            problems.push(Problem::new(Check::Layout, "missing").in_section(name));
        }
    }
    for section in file.sections() {
        // The loader reads these as strings, whatever follows.
        let strings = section.kind == 3 || section.name == ".modinfo";
        if strings && section.data.last().is_some_and(|&last| last != 0) {
            let why = "its last string does not end";
            problems.push(Problem::new(Check::Layout, why).in_section(section.name));
        }
        if section.alignment > 1 && !section.alignment.is_power_of_two() {
            let why = "its alignment is no power of two";
            problems.push(Problem::new(Check::Layout, why).in_section(section.name));
        }
        if section.is_allocated() && section.alignment > PAGE {
            let why = "is aligned to more than a page, which the loader does not keep";
            problems.push(Problem::new(Check::Layout, why).in_section(section.name));
        }
    }
    for symbol in file.symbols() {
        let problem = |why: &str| Problem::new(Check::Layout, why).of(symbol.name);
        match symbol.place {
            Place::Common => problems.push(problem("in common storage, which the loader refuses")),
            Place::Reserved(_) => problems.push(problem("in a reserved section index")),
            Place::Section(_) if symbol.name.len() >= KSYM_NAME_LEN => {
                problems.push(problem("its name is longer than kallsyms can hold"));
            }
            Place::Section(index) => {
                let size = file.section(index).map_or(0, |section| section.size);
                let end = symbol.value.checked_add(symbol.size);
                let allocated = file.section(index).is_some_and(Section::is_allocated);
                if allocated && end.is_none_or(|end| end > size) {
                    problems.push(problem("reaches beyond its section"));
                }
            }
            Place::Undefined | Place::Absolute | Place::Livepatch => {}
        }
    }
    check_flags(module, problems);
    check_this_module(module, stock, problems);
}

/// `SHF_WRITE`, `SHF_ALLOC` and `SHF_EXECINSTR`.
const WRITE: u64 = 1;
const ALLOC: u64 = 2;
const EXECUTE: u64 = 4;

/// The flags that the loader protects a section's memory by, for those it reads by name or the compiler
/// makes; the longest name that fits counts.
const FLAGS: [(&str, u64); 30] = [
    (".text", ALLOC | EXECUTE),
    (".init.text", ALLOC | EXECUTE),
    (".exit.text", ALLOC | EXECUTE),
    (".noinstr.text", ALLOC | EXECUTE),
    (".altinstr_replacement", ALLOC | EXECUTE),
    (".altinstr_aux", ALLOC | EXECUTE),
    (".static_call.text", ALLOC | EXECUTE),
    (".data", ALLOC | WRITE),
    (".bss", ALLOC | WRITE),
    (".init.data", ALLOC | WRITE),
    (".exit.data", ALLOC | WRITE),
    (THIS_MODULE, ALLOC | WRITE),
    ("__jump_table", ALLOC | WRITE),
    ("__bug_table", ALLOC | WRITE),
    (".static_call_sites", ALLOC | WRITE),
    ("__dyndbg", ALLOC | WRITE),
    (".rodata", ALLOC),
    ("__versions", ALLOC),
    (".modinfo", ALLOC),
    (".smp_locks", ALLOC),
    (".orc_unwind", ALLOC),
    (".orc_header", ALLOC),
    (".return_sites", ALLOC),
    (".retpoline_sites", ALLOC),
    (".call_sites", ALLOC),
    (".ibt_endbr_seal", ALLOC),
    (".altinstructions", ALLOC),
    (".parainstructions", ALLOC),
    ("__ex_table", ALLOC),
    ("__mcount_loc", ALLOC),
];

fn check_flags(module: &Module<'_>, problems: &mut Vec<Problem>) {
    for table in &module.tables {
        // Pointers that the kernel reads, sorts or swaps in one piece.
        let whole = table.entries.iter().any(|entry| entry.width() == Some(8));
        let code = table.target.is_executable();
        // The kernel's own build leaves ftrace's table as it comes.
        let exempt = code || table.target.name == "__mcount_loc";
        if whole && !exempt && table.target.alignment < 8 {
            let why = "holds addresses, and is aligned to less than eight bytes";
            problems.push(Problem::new(Check::SectionFlags, why).in_section(table.target.name));
        }
    }
    for section in module.file.sections() {
        let problem = |why: &str| Problem::new(Check::SectionFlags, why).in_section(section.name);
        let flags = section.flags & (WRITE | ALLOC | EXECUTE);
        if flags & (WRITE | EXECUTE) == WRITE | EXECUTE {
            problems.push(problem("its code could be written to"));
            continue;
        }
        let known = FLAGS
            .iter()
            .filter(|(name, _)| {
                section
                    .name
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
            })
            .max_by_key(|(name, _)| name.len());
        let Some((_, wanted)) = known else {
            continue;
        };
        for (bit, lacks, has) in [
            (ALLOC, "is not loaded", "is loaded"),
            (
                EXECUTE,
                "its code could not be run",
                "its data could be run",
            ),
            (WRITE, "could not be written to", "could be written to"),
        ] {
            match (wanted & bit != 0, flags & bit != 0) {
                (true, false) => problems.push(problem(lacks)),
                (false, true) => problems.push(problem(has)),
                (true, true) | (false, false) => {}
            }
        }
        let empty = section.name == ".bss" || section.name.starts_with(".bss.");
        if section.is_nobits() != empty && section.size > 0 {
            problems.push(problem(if empty {
                "has bytes in the file where it must be zero"
            } else {
                "has no bytes in the file"
            }));
        }
    }
}

fn check_this_module(module: &Module<'_>, stock: &StockModule, problems: &mut Vec<Problem>) {
    let Some(this_module) = module.file.section_named(THIS_MODULE) else {
        return;
    };
    let mut problem =
        |why: String| problems.push(Problem::new(Check::ThisModule, why).in_section(THIS_MODULE));
    if this_module.size != stock.this_module_size {
        problem(format!(
            "{} bytes, this kernel's modules have {}",
            this_module.size, stock.this_module_size
        ));
    }
    let pointers = module_functions(module);
    let defined = |name| {
        let mut symbols = module.file.symbols().iter();
        symbols.any(|symbol| symbol.name == name && symbol.section().is_some())
    };
    for (function, expected) in [(INIT, stock.init_offset), (EXIT, stock.exit_offset)] {
        if defined(function) && pointers.get(function) != Some(&expected) {
            problem(format!("no pointer to {function} at offset {expected:#x}"));
        }
    }
    if let Some(name) = module.info("name") {
        let named = [name.as_bytes(), &[0]].concat();
        if this_module.bytes(NAME_OFFSET, named.len() as u64) != Some(&named) {
            problem(format!("does not carry the name {name}"));
        }
    }
    // Everything else in it is the loader's, which does not clear it.
    let name = module.info("name").unwrap_or_default().as_bytes();
    let named = NAME_OFFSET..NAME_OFFSET.saturating_add(name.len() as u64);
    let mut bytes = this_module.data.iter().zip(0u64..);
    let odd = bytes.find(|(byte, at)| **byte != 0 && !named.contains(at));
    if let Some((_, at)) = odd {
        problem(format!("its byte {at:#x} is neither zero nor of its name"));
    }
    for relocation in module.relocations_of(THIS_MODULE) {
        let at = relocation.offset;
        if at != stock.init_offset && at != stock.exit_offset {
            problem(format!("an address at {at:#x}, which is the loader's"));
        }
    }
    if module
        .file
        .sections()
        .iter()
        .filter(|section| section.name == THIS_MODULE)
        .count()
        > 1
    {
        problem("there is more than one".to_owned());
    }
}

/// Where `struct module` points to functions of the module, by their names.
pub(super) fn module_functions<'data>(module: &Module<'data>) -> BTreeMap<&'data str, u64> {
    module
        .relocations_of(THIS_MODULE)
        .filter(|relocation| relocation.kind == 1 && relocation.addend == 0)
        .filter(|relocation| module.spot(relocation).is_some())
        .map(|relocation| (module.name_of(relocation), relocation.offset))
        .collect()
}

/// The build-id in a note section's bytes.
pub(super) fn gnu_build_id(notes: &[u8]) -> Option<BuildId> {
    const GNU_BUILD_ID: u32 = 3;
    let mut rest = notes;
    // Every round takes at least the twelve bytes of a header.
    while let Some((header, body)) = rest.split_at_checked(12) {
        let word = |at: usize| {
            let bytes = header.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(<[u8; 4]>::try_from(bytes).ok()?))
        };
        let name_size = usize::try_from(word(0)?).ok()?;
        let size = usize::try_from(word(4)?).ok()?;
        let start = name_size.checked_next_multiple_of(4)?;
        let name = body.get(..name_size)?;
        let description = body.get(start..start.checked_add(size)?)?;
        if word(8)? == GNU_BUILD_ID && name == b"GNU\0" {
            return BuildId::from_bytes(description).ok();
        }
        let next = start.checked_add(size.checked_next_multiple_of(4)?)?;
        rest = body.get(next..).unwrap_or_default();
    }
    None
}
