//! Relocations as the x86 loader applies them.

use std::collections::BTreeMap;

use super::{Check, Problem, module::Module};
use crate::elf::{Place, Section, SectionIndex};

pub(super) fn check(module: &Module<'_>, problems: &mut Vec<Problem>) {
    // End of the last field and its table, per section, to find fields written twice.
    let mut written: BTreeMap<SectionIndex, Vec<(u64, u64, &str)>> = BTreeMap::new();
    for table in &module.tables {
        for relocation in &table.entries {
            let problem = |check, why: String| {
                Problem::new(check, why)
                    .at(table.section.name, relocation.offset)
                    .of(module.name_of(relocation))
            };
            let Some(width) = relocation.width() else {
                let why = format!("type {} is not one the loader knows", relocation.kind);
                problems.push(problem(Check::Relocation, why));
                continue;
            };
            let Some(end) = relocation
                .offset
                .checked_add(width)
                .filter(|end| *end <= table.target.size)
            else {
                let why = format!(
                    "beyond {}, which has {:#x} bytes",
                    table.target.name, table.target.size
                );
                problems.push(problem(Check::Relocation, why));
                continue;
            };
            // The loader skips it. objtool leaves some in code it turned into nops; elsewhere it means
            // that something was not done.
            if width == 0 {
                if !table.target.is_executable() {
                    problems.push(problem(Check::Relocation, "does nothing".to_owned()));
                }
                continue;
            }
            match table.target.bytes(relocation.offset, width) {
                None => problems.push(problem(
                    Check::Relocation,
                    format!("{} has no bytes in the file", table.target.name),
                )),
                Some(bytes) if bytes.iter().any(|&byte| byte != 0) => problems.push(problem(
                    Check::NonzeroTarget,
                    format!(
                        "the bytes it overwrites in {} are not zero",
                        table.target.name
                    ),
                )),
                Some(_) => {}
            }
            // Data is laid out by the compiler: a pointer in it that is not aligned was moved.
            let data = table.target.name.starts_with(".data") || table.target.name == ".rodata";
            if data && relocation.kind == 1 && !relocation.offset.is_multiple_of(8) {
                problems.push(problem(Check::Relocation, "is not aligned".to_owned()));
            }
            let place = module
                .file
                .symbol(relocation.symbol)
                .map(|symbol| symbol.place);
            if relocation.symbol.0 == 0 {
                let why = "refers to no symbol".to_owned();
                problems.push(problem(Check::Relocation, why));
            } else if relocation.kind == 10 && place != Some(Place::Absolute) {
                // R_X86_64_32 is zero-extended and no kernel address survives that.
                let why = "an address of the kernel does not fit 32 unsigned bits".to_owned();
                problems.push(problem(Check::Relocation, why));
            }
            if let Some(Place::Section(section)) = place
                && !module
                    .file
                    .section(section)
                    .is_some_and(Section::is_allocated)
            {
                let why = "refers to a section that is not loaded".to_owned();
                problems.push(problem(Check::Relocation, why));
            }
            written.entry(table.target.index).or_default().push((
                relocation.offset,
                end,
                table.section.name,
            ));
        }
    }
    for fields in written.values_mut() {
        fields.sort_unstable();
        for pair in fields.windows(2) {
            if let [(_, end, first), (start, _, second)] = pair
                && start < end
            {
                let why = format!("overwrites what {first} wrote");
                problems.push(Problem::new(Check::Overlap, why).at(second, *start));
            }
        }
    }
}
