//! Comparing functions byte for byte.

use std::collections::BTreeMap;

use super::block::is_padding;
use super::relaxed::{self, Counterpart, Field};
use super::target::Targets;
use super::{Difference, FunctionTruth, Outcome, ParentSymbol, TargetCount, UnitMap};
use crate::elf::{
    Binding, ElfFile, MalformedObject, Relocation, Section, SectionIndex, Symbol, SymbolKind,
};
use crate::kallsyms::Parent;

/// How many bytes of a difference are shown.
const SHOWN: usize = 16;

/// Relocations of each section, sorted by offset.
pub(super) type Relocations = BTreeMap<SectionIndex, Vec<Relocation>>;

pub(super) fn functions(
    unit: &ElfFile<'_>,
    parent: &Parent<'_>,
    map: &UnitMap,
) -> Result<(Vec<FunctionTruth>, TargetCount), MalformedObject> {
    let relocations = relocations(unit)?;
    // vmlinux keeps its relocations too, but there they are already applied.
    let theirs = if parent.object().is_vmlinux() {
        None
    } else {
        Some(self::relocations(parent.file())?)
    };
    let targets = Targets::new(unit, parent, map, theirs.as_ref());
    let mut count = TargetCount::default();
    let mut functions = Vec::new();
    let padding = padding(unit);
    for symbol in unit.symbols() {
        if symbol.kind != SymbolKind::Function || symbol.section().is_none() || is_padding(symbol) {
            continue;
        }
        let outcome = match map.symbols.get(symbol.name) {
            None => Outcome::Missing,
            Some(found) if was_overridden(symbol, parent, found) => Outcome::Overridden,
            Some(found) => function(
                unit,
                symbol,
                parent,
                found,
                &relocations,
                &targets,
                &mut count,
            )
            .or_else(|| {
                let before = padding.get(&(symbol.section()?, symbol.value))?;
                different_padding(unit, before, parent, found)
            })
            .map_or(Outcome::Equal, Outcome::Differs),
        };
        functions.push(FunctionTruth {
            name: symbol.name.to_owned(),
            outcome,
        });
    }
    functions.sort_by(|left, right| left.name.cmp(&right.name));
    Ok((functions, count))
}

/// The padding of each function, by the function's place.
fn padding<'a, 'data>(
    unit: &'a ElfFile<'data>,
) -> BTreeMap<(SectionIndex, u64), &'a Symbol<'data>> {
    unit.symbols()
        .iter()
        .filter(|symbol| is_padding(symbol))
        .filter_map(|symbol| {
            let end = symbol.value.checked_add(symbol.size)?;
            Some(((symbol.section()?, end), symbol))
        })
        .collect()
}

/// The first difference of the padding before two functions.
fn different_padding(
    unit: &ElfFile<'_>,
    before: &Symbol<'_>,
    parent: &Parent<'_>,
    found: &ParentSymbol,
) -> Option<Difference> {
    let ours = unit
        .section(before.section()?)
        .and_then(|section| section.bytes(before.value, before.size));
    let theirs = parent.file().section(found.section).and_then(|section| {
        let start = found.address.checked_sub(before.size)?;
        section.bytes(start.checked_sub(section.address)?, before.size)
    });
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => first_difference(ours, theirs, &[]),
        (ours, theirs) => Some(Difference::Size {
            ours: ours.map_or(0, <[u8]>::len) as u64,
            theirs: theirs.map_or(0, <[u8]>::len) as u64,
        }),
    }
}

/// A weak definition that lost to a strong one. Equal bytes would not make it the one that runs.
fn was_overridden(symbol: &Symbol<'_>, parent: &Parent<'_>, found: &ParentSymbol) -> bool {
    symbol.binding == Binding::Weak
        && parent
            .file()
            .symbol(found.symbol)
            .is_some_and(|found| found.binding != Binding::Weak)
}

pub(super) fn relocations(file: &ElfFile<'_>) -> Result<Relocations, MalformedObject> {
    let mut all = Relocations::new();
    for section in file.sections() {
        let executable = file
            .section(SectionIndex(section.info))
            .is_some_and(Section::is_executable);
        if section.is_rela() && executable {
            all.entry(SectionIndex(section.info))
                .or_default()
                .extend(file.relocations(section)?);
        }
    }
    for entries in all.values_mut() {
        entries.sort_by_key(|entry| entry.offset);
    }
    Ok(all)
}

/// The relocations of `section` within `range`.
pub(super) fn within(
    relocations: &Relocations,
    section: SectionIndex,
    start: u64,
    end: u64,
) -> &[Relocation] {
    let Some(all) = relocations.get(&section) else {
        return &[];
    };
    let first = all.partition_point(|entry| entry.offset < start);
    let last = all.partition_point(|entry| entry.offset < end);
    all.get(first..last).unwrap_or_default()
}

/// The first difference of one function, or `None` if it is equal.
fn function(
    unit: &ElfFile<'_>,
    symbol: &Symbol<'_>,
    parent: &Parent<'_>,
    found: &ParentSymbol,
    relocations: &Relocations,
    targets: &Targets<'_, '_>,
    count: &mut TargetCount,
) -> Option<Difference> {
    let ours = symbol
        .section()
        .and_then(|index| unit.section(index))
        .and_then(|section| section.bytes(symbol.value, symbol.size));
    let theirs = parent
        .file()
        .section(found.section)
        .and_then(|section| section.bytes(found.address.checked_sub(section.address)?, found.size));
    let (Some(ours), Some(theirs), Some(section)) = (ours, theirs, symbol.section()) else {
        // A symbol that claims more bytes than its section has matches nothing.
        return Some(Difference::Size {
            ours: ours.map_or(0, <[u8]>::len) as u64,
            theirs: theirs.map_or(0, <[u8]>::len) as u64,
        });
    };
    let end = symbol.value.saturating_add(symbol.size);
    let relocations: Vec<Relocation> = within(relocations, section, symbol.value, end)
        .iter()
        .map(|relocation| Relocation {
            offset: relocation.offset.saturating_sub(symbol.value),
            ..*relocation
        })
        .collect();
    let fields = if ours.len() == theirs.len() {
        if let Some(difference) = first_difference(ours, theirs, &relocations) {
            return Some(difference);
        }
        relocations
            .iter()
            .map(|&relocation| Field {
                relocation,
                theirs: Counterpart::At(relocation.offset),
            })
            .collect()
    } else if let Some(fields) = relaxed::pair(ours, theirs, &relocations) {
        fields
    } else {
        return Some(Difference::Size {
            ours: symbol.size,
            theirs: found.size,
        });
    };
    targets.check(found, &fields, count)
}

/// The first bytes outside relocated fields that differ in two functions of equal size.
fn first_difference(ours: &[u8], theirs: &[u8], fields: &[Relocation]) -> Option<Difference> {
    let mut ours = ours.to_vec();
    let mut theirs = theirs.to_vec();
    for field in fields {
        // An unknown type masks nothing, so that its field counts as a difference.
        let width = field.width().and_then(|width| usize::try_from(width).ok());
        let Some((start, width)) = usize::try_from(field.offset).ok().zip(width) else {
            continue;
        };
        for bytes in [&mut ours, &mut theirs] {
            if let Some(bytes) = bytes.get_mut(start..start.saturating_add(width)) {
                bytes.fill(0);
            }
        }
    }
    let at = ours
        .iter()
        .zip(&theirs)
        .position(|(ours, theirs)| ours != theirs)?;
    let shown = |bytes: &[u8]| bytes.iter().skip(at).take(SHOWN).copied().collect();
    Some(Difference::Bytes {
        offset: at as u64,
        ours: shown(&ours),
        theirs: shown(&theirs),
    })
}
