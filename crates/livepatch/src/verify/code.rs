//! Entries that ftrace and the stack unwinder need for each piece of code.

use std::collections::{BTreeMap, BTreeSet};

use super::module::{Module, Spot};
use super::{Check, Problem};
use crate::elf::{Section, SectionIndex, Symbol};

const MCOUNT: &str = "__mcount_loc";
const ORC: &str = ".orc_unwind";
const ORC_IP: &str = ".orc_unwind_ip";
const ORC_SIZE: u64 = 6;
const ORC_IP_SIZE: u64 = 4;
/// Opcode of a call with a 32-bit distance.
const CALL: u8 = 0xe8;

pub(super) fn check(module: &Module<'_>, problems: &mut Vec<Problem>) {
    check_mcount(module, problems);
    check_orc(module, problems);
}

/// Where the module calls `__fentry__`.
pub(super) fn fentry_calls(module: &Module<'_>) -> BTreeSet<Spot> {
    let mut calls = BTreeSet::new();
    for table in module
        .tables
        .iter()
        .filter(|table| table.target.is_executable())
    {
        for relocation in &table.entries {
            if module.name_of(relocation) != "__fentry__" {
                continue;
            }
            if let Some(start) = relocation.offset.checked_sub(1)
                && table.target.bytes(start, 1) == Some(&[CALL])
            {
                calls.insert((table.target.index, start));
            }
        }
    }
    calls
}

fn check_mcount(module: &Module<'_>, problems: &mut Vec<Problem>) {
    let calls = fentry_calls(module);
    let mut listed = BTreeSet::new();
    for relocation in module.relocations_of(MCOUNT) {
        let problem = |why: &str| {
            Problem::new(Check::Mcount, why)
                .at(MCOUNT, relocation.offset)
                .of(module.name_of(relocation))
        };
        match module.spot(relocation) {
            None => problems.push(problem("not a place in this module")),
            Some(spot) if !calls.contains(&spot) => {
                problems.push(problem("does not point to a call of __fentry__"));
            }
            Some(spot) => {
                if !listed.insert(spot) {
                    problems.push(problem("listed twice"));
                }
            }
        }
    }
    for spot in calls.difference(&listed) {
        let section = section_name(module, spot.0);
        let why = "a call of __fentry__ that ftrace does not know of";
        let mut problem = Problem::new(Check::Mcount, why).at(section, spot.1);
        if let Some(symbol) = function_at(module, *spot) {
            problem = problem.of(symbol.name);
        }
        problems.push(problem);
    }
    let size = module
        .file
        .section_named(MCOUNT)
        .map_or(0, |table| table.size);
    let count = module.relocations_of(MCOUNT).count() as u64;
    if Some(size) != count.checked_mul(8) {
        let why = format!("{count} relocations for {size} bytes");
        problems.push(Problem::new(Check::Mcount, why).in_section(MCOUNT));
    }
}

fn check_orc(module: &Module<'_>, problems: &mut Vec<Problem>) {
    let size = |name| {
        module
            .file
            .section_named(name)
            .map_or(0, |section| section.size)
    };
    let (entries, addresses) = (size(ORC), size(ORC_IP));
    let count = module.relocations_of(ORC_IP).count() as u64;
    if !entries.is_multiple_of(ORC_SIZE)
        || !addresses.is_multiple_of(ORC_IP_SIZE)
        || entries / ORC_SIZE != addresses / ORC_IP_SIZE
        || addresses / ORC_IP_SIZE != count
    {
        let why =
            format!("{entries} bytes for {addresses} bytes of addresses with {count} relocations");
        problems.push(Problem::new(Check::Orc, why).in_section(ORC));
    }
    let mut covered: BTreeMap<SectionIndex, BTreeSet<u64>> = BTreeMap::new();
    for relocation in module.relocations_of(ORC_IP) {
        if let Some((section, offset)) = module.spot(relocation) {
            covered.entry(section).or_default().insert(offset);
        }
    }
    for (section, functions) in module.functions() {
        let starts = covered.get(section);
        for symbol in functions.iter().filter(|symbol| symbol.size > 0) {
            // The unwinder takes the last entry at or below an address, which must be of this section.
            let known = starts.is_some_and(|starts| starts.range(..=symbol.value).next().is_some());
            if !known {
                let why = "the stack unwinder has no entry for it";
                let name = section_name(module, *section);
                problems.push(
                    Problem::new(Check::Orc, why)
                        .at(name, symbol.value)
                        .of(symbol.name),
                );
            }
        }
    }
}

pub(super) fn section_name<'data>(module: &Module<'data>, section: SectionIndex) -> &'data str {
    module
        .file
        .section(section)
        .map_or("", |section: &Section<'data>| section.name)
}

/// The function that holds `spot`.
pub(super) fn function_at<'a, 'data>(
    module: &'a Module<'data>,
    spot: Spot,
) -> Option<&'a Symbol<'data>> {
    module.functions().get(&spot.0)?.iter().find(|symbol| {
        spot.1
            .checked_sub(symbol.value)
            .is_some_and(|distance| distance < symbol.size)
    })
}
