//! Tables about code: each entry must be about this module's own code.

use std::collections::BTreeSet;

use tuxtape_core::identity::ObjectName;

use super::module::{Module, RelocationTable};
use super::{Check, Problem, klp};
use crate::elf::{Place, Relocation};
use crate::symvers::Symvers;

/// What a table's relocations may refer to.
#[derive(Clone, Copy)]
enum Wants {
    /// This module's instructions.
    Code,
    /// Anything this module loads: code, or data about it.
    Own,
    /// Instructions, except for the field at this offset into each entry of that size: a key that may
    /// be the kernel's.
    CodeButKey(u64, u64),
}

impl Wants {
    /// Whether all it refers to, but for keys, must be instructions.
    fn is_about_code(self) -> bool {
        match self {
            Self::Code | Self::CodeButKey(..) => true,
            Self::Own => false,
        }
    }

    fn has_keys(self) -> bool {
        match self {
            Self::CodeButKey(..) => true,
            Self::Code | Self::Own => false,
        }
    }
}

const TABLES: [(&str, Wants); 13] = [
    ("__jump_table", Wants::CodeButKey(8, 16)),
    (".static_call_sites", Wants::CodeButKey(4, 8)),
    (".altinstructions", Wants::Code),
    (".parainstructions", Wants::Code),
    (".smp_locks", Wants::Code),
    (".orc_unwind_ip", Wants::Code),
    (".return_sites", Wants::Code),
    (".retpoline_sites", Wants::Code),
    (".call_sites", Wants::Code),
    (".ibt_endbr_seal", Wants::Code),
    ("__mcount_loc", Wants::Code),
    ("__ex_table", Wants::Code),
    ("__bug_table", Wants::Own),
];

/// Entry size and the fields that need a relocation each, for tables whose layout no series changed.
const STRIDES: [(&str, u64, &[u64]); 10] = [
    ("__jump_table", 16, &[0, 4, 8]),
    (".static_call_sites", 8, &[0, 4]),
    (".smp_locks", 4, &[0]),
    (".orc_unwind_ip", 4, &[0]),
    (".return_sites", 4, &[0]),
    (".retpoline_sites", 4, &[0]),
    (".call_sites", 4, &[0]),
    (".ibt_endbr_seal", 4, &[0]),
    ("__mcount_loc", 8, &[0]),
    ("__ex_table", 12, &[0, 4]),
];

fn wants(table: &RelocationTable<'_>) -> Option<Wants> {
    TABLES
        .iter()
        .find(|(name, _)| *name == table.target.name)
        .map(|(_, wants)| *wants)
}

fn is_key(wants: Wants, relocation: &Relocation) -> bool {
    match wants {
        Wants::Code | Wants::Own => false,
        Wants::CodeButKey(field, size) => relocation.offset % size == field,
    }
}

pub(super) fn check(module: &Module<'_>, problems: &mut Vec<Problem>) {
    check_strides(module, problems);
    for table in &module.tables {
        let Some(wants) = wants(table) else {
            continue;
        };
        for relocation in &table.entries {
            if is_key(wants, relocation) {
                continue;
            }
            let problem = |why: &str| {
                Problem::new(Check::ForeignSite, why)
                    .at(table.target.name, relocation.offset)
                    .of(module.name_of(relocation))
            };
            let Some((section, offset)) = module.spot(relocation) else {
                problems.push(problem("refers to something outside this module"));
                continue;
            };
            let Some(section) = module.file.section(section) else {
                continue;
            };
            if wants.is_about_code() && !section.is_executable() {
                problems.push(problem("does not refer to code"));
            } else if offset > section.size {
                problems.push(problem("refers to a place behind its section"));
            }
        }
    }
}

/// An entry whose relocation is missing would be about whatever lies at the table itself.
fn check_strides(module: &Module<'_>, problems: &mut Vec<Problem>) {
    for (name, stride, fields) in STRIDES {
        let Some(section) = module.file.section_named(name) else {
            continue;
        };
        let found: BTreeSet<u64> = module
            .relocations_of(name)
            .map(|relocation| relocation.offset)
            .collect();
        if section.size % stride != 0 {
            let why = format!("its size is no multiple of {stride}");
            problems.push(Problem::new(Check::Layout, why).in_section(name));
        }
        // Bounded by the file: a table without bytes has no entries to relocate.
        let entries = (section.data.len() as u64) / stride;
        for entry in 0..entries {
            for field in fields {
                let offset = entry.saturating_mul(stride).saturating_add(*field);
                if !found.contains(&offset) {
                    let why = "no relocation fills this in";
                    problems.push(Problem::new(Check::ForeignSite, why).at(name, offset));
                }
            }
        }
    }
}

/// Static keys and calls that livepatch modules may not use: the kernel initialises these tables before
/// it resolves what belongs to another module.
pub(super) fn check_klp(module: &Module<'_>, symvers: &Symvers, problems: &mut Vec<Problem>) {
    for table in &module.tables {
        if !wants(table).is_some_and(Wants::has_keys) {
            continue;
        }
        let problem = |relocation: &Relocation, why: String| {
            Problem::new(Check::ModuleKey, why)
                .at(table.target.name, relocation.offset)
                .of(module.name_of(relocation))
        };
        let object = klp::parse_section(table.section.name).map(|(object, _)| object);
        for relocation in &table.entries {
            if let Some(object) = object.filter(|object| *object != ObjectName::VMLINUX) {
                let why = format!("resolved only when {object} is patched, long after its use");
                problems.push(problem(relocation, why));
                continue;
            }
            let Some(symbol) = module.file.symbol(relocation.symbol) else {
                continue;
            };
            if symbol.place == Place::Undefined
                && let Some(export) = symvers.get(symbol.name)
                && !export.object.is_vmlinux()
            {
                let why = format!("a key of module {}", export.object);
                problems.push(problem(relocation, why));
            }
        }
    }
}
