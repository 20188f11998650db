//! Code that the kernel rewrites while loading the module: alternatives and paravirtual calls.
//!
//! It trusts the tables' every word (`arch/x86/kernel/alternative.c`).

use std::collections::BTreeSet;

use iced_x86::FlowControl;
use tuxtape_core::identity::ObjectName;

use super::flow::{Code, REPLACEMENTS};
use super::klp;
use super::module::{Module, Spot};
use super::structs::Structures;
use super::{Check, Problem};
use crate::elf::SectionIndex;

const TABLE: &str = ".altinstructions";
const PARAVIRT: &str = ".parainstructions";
/// Bytes of one `struct paravirt_patch_site`; the last one's padding may be missing.
const SITE: u64 = 16;
/// In the number of a feature: only where the processor does not have it (before 6.3).
const NEGATED: u16 = 1 << 15;
/// `ALT_FLAG_NOT` and `ALT_FLAG_DIRECT_CALL`.
const FLAGS: u16 = 3;
const DIRECT_CALL: u16 = 2;

/// One entry of `.altinstructions`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternative {
    /// Where its entry is in the table.
    at: u64,
    pub(super) original: Spot,
    pub(super) length: u64,
    pub(super) replacement: Spot,
    pub(super) replacement_length: u64,
    feature: u16,
    flags: u16,
}

/// Reads the table; an entry that is not whole is reported and left out.
pub(super) fn read(
    module: &Module<'_>,
    structures: &Structures,
    problems: &mut Vec<Problem>,
) -> Vec<Alternative> {
    let layout = &structures.alternative;
    let Some(table) = module.file.section_named(TABLE) else {
        return Vec::new();
    };
    if layout.size == 0 || !table.size.is_multiple_of(layout.size) {
        let why = format!("its size is no multiple of {}", layout.size);
        problems.push(Problem::new(Check::Layout, why).in_section(TABLE));
        return Vec::new();
    }
    let relocations: std::collections::BTreeMap<u64, Spot> = module
        .relocations_of(TABLE)
        .filter_map(|relocation| Some((relocation.offset, module.spot(relocation)?)))
        .collect();
    let count = (table.data.len() as u64) / layout.size;
    let mut alternatives = Vec::new();
    for at in (0..count).map(|number| number.saturating_mul(layout.size)) {
        let byte = |member: u64| {
            let bytes = table.bytes(at.checked_add(member)?, 1)?;
            bytes.first().copied()
        };
        let half = |member: u64| Some(u16::from_le_bytes([byte(member)?, byte(member + 1)?]));
        let entry = || {
            Some(Alternative {
                at,
                original: *relocations.get(&at)?,
                length: byte(layout.length)?.into(),
                replacement: *relocations.get(&at.checked_add(4)?)?,
                replacement_length: byte(layout.replacement_length)?.into(),
                feature: half(8)?,
                // Wide entries have flags of their own between the feature and the lengths.
                flags: if layout.length > 10 { half(10)? } else { 0 },
            })
        };
        if let Some(alternative) = entry() {
            alternatives.push(alternative);
        } else {
            let why = "does not say what it replaces by what";
            problems.push(Problem::new(Check::Alternative, why).at(TABLE, at));
        }
    }
    alternatives
}

pub(super) fn check(
    module: &Module<'_>,
    structures: &Structures,
    code: &Code<'_>,
    alternatives: &[Alternative],
    problems: &mut Vec<Problem>,
) {
    let replacements = module.file.section_named(REPLACEMENTS);
    let mut ranges: Vec<(Spot, u64, u64)> = Vec::new();
    for alternative in alternatives {
        let mut problem = |why: &str| {
            problems.push(Problem::new(Check::Alternative, why).at(TABLE, alternative.at));
        };
        let (section, start) = alternative.original;
        let end = start.saturating_add(alternative.length);
        let first = code.step(alternative.original);
        let whole = match first {
            Some(_) => {
                let within = code
                    .body_at((section, start))
                    .is_some_and(|body| body.end >= end);
                within
                    && (code.step((section, end)).is_some()
                        || code
                            .body_at((section, start))
                            .is_some_and(|body| body.end == end))
            }
            // Code without a name is not decoded.
            None => code.body_at((section, start)).is_none(),
        };
        if alternative.length == 0 || !whole {
            problem("does not replace whole instructions of one function");
        }
        if alternative.replacement_length > alternative.length {
            problem("what it puts in is longer than what it replaces");
        }
        let (home, from) = alternative.replacement;
        let to = from.saturating_add(alternative.replacement_length);
        let known = replacements
            .is_some_and(|section| section.index == home && to <= section.data.len() as u64);
        if !known && alternative.replacement_length > 0 {
            problem("what it puts in is not among the replacements");
        } else if alternative.replacement_length > 0
            && code.body_at((home, from)).is_some()
            && (code.step((home, from)).is_none()
                || code
                    .around((home, to.saturating_sub(1)))
                    .is_none_or(|step| step.end() != to))
        {
            problem("does not put in whole instructions");
        }
        let feature = match alternative.flags {
            _ if structures.alternative.length > 10 => alternative.feature,
            _ => alternative.feature & !NEGATED,
        };
        if structures
            .features
            .is_some_and(|limit| u64::from(feature) >= limit)
        {
            problem("asks for a feature the kernel does not count, at which it stops");
        }
        if alternative.flags & !FLAGS != 0 {
            problem("has flags that mean nothing");
        }
        let calls =
            first.is_some_and(|step| step.instruction.flow_control() == FlowControl::IndirectCall);
        if alternative.flags & DIRECT_CALL != 0 && (!calls || alternative.replacement_length != 5) {
            problem(
                "is to become a direct call and replaces no indirect one, at which the kernel stops",
            );
        }
        ranges.push((alternative.original, end, alternative.at));
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(before, end, _), (after, _, at)] = pair
            && before.0 == after.0
            && before.1 != after.1
            && after.1 < *end
        {
            let why = "replaces a part of what another one replaces";
            problems.push(Problem::new(Check::Alternative, why).at(TABLE, *at));
        }
    }
}

/// Relocations that come only when a module is patched find the code already rewritten.
pub(super) fn check_late(
    module: &Module<'_>,
    alternatives: &[Alternative],
    problems: &mut Vec<Problem>,
) {
    for table in &module.tables {
        let late = klp::parse_section(table.section.name)
            .is_some_and(|(object, _)| object != ObjectName::VMLINUX);
        if !late {
            continue;
        }
        for relocation in &table.entries {
            let rewritten = table.target.name == REPLACEMENTS
                || alternatives.iter().any(|alternative| {
                    let (section, start) = alternative.original;
                    let distance = relocation.offset.checked_sub(start);
                    section == table.target.index
                        && distance.is_some_and(|distance| distance < alternative.length)
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

/// Calls that the kernel makes direct ones on bare metal; each is listed with its length and number.
pub(super) fn check_paravirt(
    module: &Module<'_>,
    slots: Option<u64>,
    code: &Code<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeSet<Spot> {
    let mut listed = BTreeSet::new();
    let Some(table) = module.file.section_named(PARAVIRT) else {
        return listed;
    };
    for relocation in module.relocations_of(PARAVIRT) {
        let at = relocation.offset;
        let mut problem = |why: &str| {
            problems.push(Problem::new(Check::ParavirtSite, why).at(PARAVIRT, at));
        };
        let Some(slots) = slots else {
            problem("the kernel has no such table");
            return listed;
        };
        let field = at.checked_add(8).and_then(|field| table.bytes(field, 2));
        let (Some(spot), Some([number, length])) = (module.spot(relocation), field) else {
            problem("is no whole entry");
            continue;
        };
        if !at.is_multiple_of(SITE) || relocation.kind != 1 {
            problem("is no whole entry");
        }
        let Some(step) = code.step(spot) else {
            if code.body_at(spot).is_some() {
                problem("is about the middle of an instruction");
            }
            continue;
        };
        listed.insert(spot);
        let calls = matches!(
            step.instruction.flow_control(),
            FlowControl::IndirectCall | FlowControl::IndirectBranch
        );
        if !calls || step.instruction.len() != usize::from(*length) {
            problem("is about no indirect call of its length");
        }
        if u64::from(*number) >= slots {
            problem("names a function that the kernel does not have");
        }
        if let Some(slot) = slot(module, code, spot.0, step)
            && slot != u64::from(*number).saturating_mul(8)
        {
            problem("names another function than the call is of");
        }
    }
    let count = module.relocations_of(PARAVIRT).count() as u64;
    if count != table.size.div_ceil(SITE) {
        let why = format!("{count} relocations for {} bytes", table.size);
        problems.push(Problem::new(Check::ParavirtSite, why).in_section(PARAVIRT));
    }
    listed
}

/// How far into the kernel's `pv_ops` the pointer lies that an indirect call reads.
fn slot(
    module: &Module<'_>,
    code: &Code<'_>,
    section: SectionIndex,
    step: &super::flow::Step,
) -> Option<u64> {
    let at = step
        .start()
        .checked_add(u64::try_from(step.constants.displacement_offset()).ok()?)?;
    let field = code.fields.get(&(section, at))?;
    if module.name_of(&field.relocation) != "pv_ops" {
        return None;
    }
    let behind = if step.instruction.is_ip_rel_memory_operand() {
        i64::try_from(step.end().checked_sub(at)?).ok()?
    } else {
        0
    };
    u64::try_from(field.relocation.addend.checked_add(behind)?).ok()
}
