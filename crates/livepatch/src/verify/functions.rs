//! The functions a module says it patches: present, unique and traceable.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::identity::ObjectName;

use super::klp;
use super::module::Module;
use super::{Check, Kernel, Problem};
use crate::elf::{Place, SectionIndex, SymbolKind};
use crate::kallsyms::Parent;

/// The modinfo key: `tuxtape_func=OBJECT:NAME,POSITION`, once per patched function.
const KEY: &str = "tuxtape_func";
/// Length of ENDBR64, after which the entry for ftrace may come.
const ENDBR: u64 = 4;

/// One patched function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PatchedFunction {
    /// The object it is in.
    pub object: ObjectName,
    /// Its name there.
    pub name: String,
    /// Its position, 0 for a unique name.
    pub sympos: u32,
    /// Address in vmlinux; in a module the offset into its section. `None` if it does not resolve.
    pub address: Option<u64>,
}

pub(super) fn lines<'a>(module: &'a Module<'_>) -> impl Iterator<Item = &'a str> {
    module.infos(KEY)
}

/// The objects that a module brings callbacks for: `tuxtape_callback=OBJECT:MOMENT`.
pub(super) fn callbacks<'a>(module: &'a Module<'_>) -> impl Iterator<Item = &'a str> {
    callback_lines(module).filter_map(|line| Some(line.split_once(':')?.0))
}

pub(super) fn callback_lines<'a>(module: &'a Module<'_>) -> impl Iterator<Item = &'a str> {
    module.infos("tuxtape_callback")
}

pub(super) fn parse(line: &str) -> Option<(&str, &str, u32)> {
    let (object, rest) = line.split_once(':')?;
    let (name, position) = rest.split_once(',')?;
    let whole = klp::is_object(object) && !name.is_empty();
    Some((object, name, klp::parse_position(position)?)).filter(|_| whole)
}

pub(super) fn check(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    problems: &mut Vec<Problem>,
) -> Vec<PatchedFunction> {
    let mut functions = Vec::new();
    let mut entries: BTreeMap<&str, BTreeSet<(SectionIndex, u64)>> = BTreeMap::new();
    for line in lines(module) {
        let problem = |why: String| {
            Problem::new(Check::Function, why)
                .in_section(".modinfo")
                .of(line)
        };
        let Some((object, name, sympos)) = parse(line) else {
            let why = format!("not of the form {KEY}=OBJECT:NAME,POSITION");
            problems.push(problem(why));
            continue;
        };
        let found = klp::resolve(kernel, object, name, sympos);
        match (&found, klp::parent(kernel, object)) {
            (Ok(found), Some(parent)) => {
                let known = entries
                    .entry(object)
                    .or_insert_with(|| traceable(parent, problems));
                let section = parent
                    .file()
                    .symbol(found.symbol)
                    .and_then(|symbol| symbol.section());
                let at = |distance: u64| {
                    let section = place_key(parent, section?);
                    Some(known.contains(&(section, found.address.checked_add(distance)?)))
                };
                if found.kind != SymbolKind::Function {
                    problems.push(problem("not a function".to_owned()));
                } else if at(0) != Some(true) && at(ENDBR) != Some(true) {
                    problems.push(problem(
                        "has no entry for ftrace, so nothing can redirect it".to_owned(),
                    ));
                }
                // The core asks kallsyms for its size and gives up on none.
                if found.size == 0 {
                    problems.push(problem("has no size".to_owned()));
                }
            }
            (Ok(_), None) => {}
            (Err(why), _) => problems.push(problem(why.clone())),
        }
        functions.push(PatchedFunction {
            object: ObjectName(object.to_owned()),
            name: name.to_owned(),
            sympos,
            address: found.ok().map(|found| found.address),
        });
    }
    if functions.is_empty() && callbacks(module).next().is_none() {
        let why = format!("no {KEY} line: patches nothing");
        problems.push(Problem::new(Check::Function, why).in_section(".modinfo"));
    }
    functions.sort();
    check_names(&functions, problems);
    functions
}

/// Each function gets a folder `NAME,POSITION` below its object's, where 0 shows as 1.
fn check_names(functions: &[PatchedFunction], problems: &mut Vec<Problem>) {
    let mut folders = BTreeSet::new();
    for function in functions {
        let folder = (&function.object, &function.name, function.sympos.max(1));
        if !folders.insert(folder) {
            let why = "patched twice under one name and position";
            problems.push(Problem::new(Check::Function, why).of(&function.name));
        }
    }
}

/// In vmlinux an address is enough; in a module it needs its section.
fn place_key(parent: &Parent<'_>, section: SectionIndex) -> SectionIndex {
    if parent.object().is_vmlinux() {
        SectionIndex(0)
    } else {
        section
    }
}

/// The places where ftrace can hook into `parent`.
fn traceable(parent: &Parent<'_>, problems: &mut Vec<Problem>) -> BTreeSet<(SectionIndex, u64)> {
    let found = if parent.object().is_vmlinux() {
        traceable_vmlinux(parent)
    } else {
        traceable_module(parent)
    };
    found.unwrap_or_else(|| {
        let why = format!(
            "{} has no readable table of ftrace entries",
            parent.object()
        );
        problems.push(Problem::new(Check::Function, why));
        BTreeSet::new()
    })
}

fn traceable_vmlinux(parent: &Parent<'_>) -> Option<BTreeSet<(SectionIndex, u64)>> {
    let start = parent.global("__start_mcount_loc")?;
    let stop = parent.global("__stop_mcount_loc")?;
    let section = parent.file().section(start.section()?)?;
    let offset = start.value.checked_sub(section.address)?;
    let table = section.bytes(offset, stop.value.checked_sub(start.value)?)?;
    let (entries, rest) = table.as_chunks::<8>();
    if !rest.is_empty() || entries.is_empty() {
        return None;
    }
    let address = |entry: &[u8; 8]| (SectionIndex(0), u64::from_le_bytes(*entry));
    Some(entries.iter().map(address).collect())
}

fn traceable_module(parent: &Parent<'_>) -> Option<BTreeSet<(SectionIndex, u64)>> {
    let file = parent.file();
    let table = file.section_named("__mcount_loc")?;
    let mut found = BTreeSet::new();
    for section in file.relocation_sections(table.index) {
        for relocation in file.relocations(section).ok()? {
            let symbol = file.symbol(relocation.symbol)?;
            if let Place::Section(section) = symbol.place {
                let offset = symbol.value.checked_add_signed(relocation.addend)?;
                found.insert((section, offset));
            }
        }
    }
    Some(found)
}
