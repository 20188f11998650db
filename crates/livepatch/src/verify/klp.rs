//! Symbols and relocations that the kernel's livepatch core handles.

use std::collections::BTreeSet;

use tuxtape_core::identity::ObjectName;

use super::functions;
use super::module::Module;
use super::{Check, Kernel, PatchedFunction, Problem};
use crate::elf::{Place, SectionIndex};
use crate::kallsyms::{KSYM_NAME_LEN, Parent, Position};

/// Longest object name in a livepatch symbol or section.
const OBJECT_LIMIT: usize = 55;
/// `SHF_ALLOC` and `SHF_INFO_LINK`.
const WANTED_FLAGS: u64 = 0x42;

/// A livepatch symbol and what the kernel will find for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KlpSymbol {
    /// The object that defines it.
    pub object: ObjectName,
    /// Its name there.
    pub name: String,
    /// The position asked for.
    pub sympos: u32,
    /// Address in vmlinux; in a module the offset into its section.
    pub address: u64,
}

/// Splits `.klp.sym.OBJECT.NAME,POSITION` as the kernel does, but wants nothing left over.
pub(super) fn parse_symbol(symbol: &str) -> Option<(&str, &str, u32)> {
    let (object, rest) = symbol.strip_prefix(".klp.sym.")?.split_once('.')?;
    let (name, position) = rest.split_once(',')?;
    let whole = is_object(object) && !name.is_empty() && name.len() < KSYM_NAME_LEN;
    Some((object, name, parse_position(position)?)).filter(|_| whole)
}

/// Splits `.klp.rela.OBJECT.SECTION`; a section's own name starts with a dot of its own.
pub(super) fn parse_section(section: &str) -> Option<(&str, &str)> {
    let (object, target) = section.strip_prefix(".klp.rela.")?.split_once('.')?;
    Some((object, target)).filter(|_| is_object(object) && !target.is_empty())
}

/// A decimal number without sign or leading zero.
pub(super) fn parse_position(position: &str) -> Option<u32> {
    let plain = position.bytes().all(|digit| digit.is_ascii_digit())
        && (position == "0" || !position.starts_with('0'));
    position.parse().ok().filter(|_| plain)
}

pub(super) fn is_object(object: &str) -> bool {
    (1..=OBJECT_LIMIT).contains(&object.len())
        && object
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Finds `name` at `position` in `object` as the kernel would, and asks that it be there for good.
pub(super) fn resolve(
    kernel: &Kernel<'_, '_>,
    object: &str,
    name: &str,
    position: u32,
) -> Result<Position, String> {
    let parent = parent(kernel, object).ok_or_else(|| format!("no debug file of {object}"))?;
    let found = parent
        .resolve(name, position)
        .map_err(|unresolved| format!("{object}: {unresolved}"))?;
    let in_init = |position: &Position| {
        parent
            .file()
            .symbol(position.symbol)
            .and_then(|symbol| symbol.section())
            .and_then(|section| parent.file().section(section))
            .is_some_and(|section| {
                section.name.starts_with(".init") || section.name.starts_with(".exit")
            })
    };
    // vmlinux frees everything between two symbols, whatever the sections there are called.
    let edge = |name| parent.global(name).map(|symbol| symbol.value);
    let freed = object == ObjectName::VMLINUX
        && edge("__init_begin")
            .zip(edge("__init_end"))
            .is_some_and(|(start, end)| (start..end).contains(&found.address));
    if freed || in_init(&found) {
        return Err(format!("in init memory of {object}, which is freed"));
    }
    // A module's init symbols are gone once it runs, and with them what they added to the count.
    if object != ObjectName::VMLINUX && parent.positions(name).iter().any(in_init) {
        return Err(format!(
            "its position changes when {object} frees its init memory"
        ));
    }
    Ok(found)
}

pub(super) fn parent<'a, 'data>(
    kernel: &Kernel<'a, 'data>,
    object: &str,
) -> Option<&'a Parent<'data>> {
    if object == ObjectName::VMLINUX {
        Some(kernel.vmlinux)
    } else {
        kernel.modules.get(&ObjectName(object.to_owned()))
    }
}

pub(super) fn check(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    functions: &[PatchedFunction],
    problems: &mut Vec<Problem>,
) -> Vec<KlpSymbol> {
    let resolved = check_symbols(module, kernel, problems);
    // An object without patched functions may have callbacks.
    let patched: BTreeSet<&str> = functions
        .iter()
        .map(|function| function.object.0.as_str())
        .chain(functions::callbacks(module))
        .collect();
    for section in module.file.sections() {
        let named = section.name.starts_with(".klp.");
        if !named && !section.is_livepatch() {
            continue;
        }
        let problem = |why: String| Problem::new(Check::KlpSection, why).in_section(section.name);
        let Some((object, target)) = parse_section(section.name) else {
            problems.push(problem(
                "not of the form .klp.rela.OBJECT.SECTION".to_owned(),
            ));
            continue;
        };
        if !section.is_rela() {
            problems.push(problem("not a table of relocations".to_owned()));
        }
        if !section.is_livepatch() {
            problems.push(problem(
                "not flagged for the livepatch core, so the loader would apply it itself"
                    .to_owned(),
            ));
        }
        if section.flags & WANTED_FLAGS != WANTED_FLAGS {
            problems.push(problem("lacks the flags ALLOC and INFO_LINK".to_owned()));
        }
        match module.file.section(SectionIndex(section.info)) {
            Some(found) if found.name == target && found.is_allocated() => {}
            Some(found) => {
                problems.push(problem(format!("applies to section {}", found.name)));
            }
            None => problems.push(problem("applies to no section".to_owned())),
        }
        // The core applies a module's sections when it patches that module, and only then.
        if object != ObjectName::VMLINUX && !patched.contains(object) {
            problems.push(problem(format!(
                "never applied: no function of {object} is patched"
            )));
        }
    }
    check_relocations(module, kernel, problems);
    resolved
}

fn check_symbols(
    module: &Module<'_>,
    kernel: &Kernel<'_, '_>,
    problems: &mut Vec<Problem>,
) -> Vec<KlpSymbol> {
    let mut resolved = Vec::new();
    for symbol in module.file.symbols() {
        let marked = symbol.place == Place::Livepatch;
        if !marked && !symbol.name.starts_with(".klp.") {
            continue;
        }
        let problem = |check, why: String| Problem::new(check, why).of(symbol.name);
        let Some((object, name, sympos)) = parse_symbol(symbol.name) else {
            let why = "not of the form .klp.sym.OBJECT.NAME,POSITION".to_owned();
            problems.push(problem(Check::KlpName, why));
            continue;
        };
        if !marked {
            let why = "not marked as a livepatch symbol".to_owned();
            problems.push(problem(Check::KlpName, why));
        }
        match resolve(kernel, object, name, sympos) {
            Err(why) => problems.push(problem(Check::KlpSymbol, why)),
            Ok(found) => resolved.push(KlpSymbol {
                object: ObjectName(object.to_owned()),
                name: name.to_owned(),
                sympos,
                address: found.address,
            }),
        }
    }
    resolved.sort();
    resolved
}

fn check_relocations(module: &Module<'_>, kernel: &Kernel<'_, '_>, problems: &mut Vec<Problem>) {
    for table in &module.tables {
        let patched = parse_section(table.section.name).map(|(object, _)| object);
        for relocation in &table.entries {
            let Some(symbol) = module.file.symbol(relocation.symbol) else {
                continue;
            };
            let problem = |check, why: String| {
                Problem::new(check, why)
                    .at(table.section.name, relocation.offset)
                    .of(symbol.name)
            };
            let marked = symbol.place == Place::Livepatch;
            if !table.section.is_livepatch() {
                if marked {
                    let why = "only the livepatch core resolves it, but the loader applies this";
                    problems.push(problem(Check::KlpOrder, why.to_owned()));
                }
                continue;
            }
            if !marked {
                let why = "not marked as a livepatch symbol".to_owned();
                problems.push(problem(Check::KlpName, why));
                continue;
            }
            let Some((patched, (owner, _, _))) = patched.zip(parse_symbol(symbol.name)) else {
                continue;
            };
            match (patched == ObjectName::VMLINUX, owner == ObjectName::VMLINUX) {
                (true, false) => {
                    let why = format!("{owner} need not be loaded when this is applied");
                    problems.push(problem(Check::KlpOrder, why));
                }
                (false, true) => {
                    let why = "vmlinux symbol in a module's relocation section".to_owned();
                    problems.push(problem(Check::KlpOrder, why));
                }
                (false, false) if owner != patched && !depends_on(kernel, patched, owner) => {
                    let why = format!("{patched} does not depend on {owner}");
                    problems.push(problem(Check::KlpOrder, why));
                }
                (true, true) | (false, false) => {}
            }
        }
    }
}

/// Whether a stock module declares another as its dependency.
fn depends_on(kernel: &Kernel<'_, '_>, object: &str, owner: &str) -> bool {
    let modinfo = parent(kernel, object)
        .and_then(|parent| parent.file().section_named(".modinfo"))
        .map(|section| section.data)
        .unwrap_or_default();
    modinfo
        .split(|&byte| byte == 0)
        .filter_map(|line| str::from_utf8(line).ok()?.strip_prefix("depends="))
        .flat_map(|depends| depends.split(','))
        .any(|name| name.replace('-', "_") == owner)
}
