//! Code that the kernel rewrites while loading the module, before a patched module's relocations come.

use tuxtape_core::identity::ObjectName;

use super::klp;
use super::module::{Module, Spot};
use super::{Check, Problem};

const TABLE: &str = ".altinstructions";
const REPLACEMENTS: &str = ".altinstr_replacement";

pub(super) fn check(module: &Module<'_>, problems: &mut Vec<Problem>) {
    let Some(originals) = originals(module) else {
        let why = "entries of an unknown size";
        problems.push(Problem::new(Check::Layout, why).in_section(TABLE));
        return;
    };
    for table in &module.tables {
        let late = klp::parse_section(table.section.name)
            .is_some_and(|(object, _)| object != ObjectName::VMLINUX);
        if !late {
            continue;
        }
        for relocation in &table.entries {
            let rewritten = table.target.name == REPLACEMENTS
                || originals.iter().any(|((section, start), length)| {
                    *section == table.target.index
                        && relocation
                            .offset
                            .checked_sub(*start)
                            .is_some_and(|distance| distance < *length)
                });
            if rewritten {
                let why = "alternatives have rewritten this code before it is relocated";
                problems.push(
                    Problem::new(Check::KlpOrder, why)
                        .at(table.section.name, relocation.offset)
                        .of(module.name_of(relocation)),
                );
            }
        }
    }
}

/// Start and length of each piece of code that has an alternative, or `None` if the table cannot be read.
fn originals(module: &Module<'_>) -> Option<Vec<(Spot, u64)>> {
    let Some(table) = module.file.section_named(TABLE) else {
        return Some(Vec::new());
    };
    // Two relocations each; the kernel's series differ in what follows.
    let count = module.relocations_of(TABLE).count() as u64 / 2;
    let size = table.size.checked_div(count).unwrap_or(0);
    let length_at = match size {
        0 if table.size == 0 => return Some(Vec::new()),
        12 | 13 => 10,
        14 => 12,
        _ => return None,
    };
    if count.checked_mul(size) != Some(table.size) {
        return None;
    }
    let mut originals = Vec::new();
    for relocation in module.relocations_of(TABLE) {
        if relocation.offset % size != 0 {
            continue;
        }
        let length = table.bytes(relocation.offset.checked_add(length_at)?, 1)?;
        if let (Some(spot), [length]) = (module.spot(relocation), length) {
            originals.push((spot, u64::from(*length)));
        }
    }
    Some(originals)
}
