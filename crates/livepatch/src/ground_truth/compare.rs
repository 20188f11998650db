//! Comparing functions byte for byte.

use std::collections::BTreeMap;

use super::target::Targets;
use super::{Difference, FunctionTruth, Outcome, ParentSymbol, TargetCount, UnitMap};
use crate::elf::{
    Binding, ElfFile, MalformedObject, Relocation, SectionIndex, Symbol, SymbolKind,
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
    for symbol in unit.symbols() {
        if symbol.kind != SymbolKind::Function || symbol.section().is_none() {
            continue;
        }
        let outcome = match map.symbols.get(symbol.name) {
            None => Outcome::Missing,
            Some(found) => {
                let outcome = function(
                    unit,
                    symbol,
                    parent,
                    found,
                    &relocations,
                    &targets,
                    &mut count,
                );
                match outcome {
                    Some(difference) if was_overridden(symbol, parent, found) => {
                        drop(difference);
                        Outcome::Overridden
                    }
                    Some(difference) => Outcome::Differs(difference),
                    None => Outcome::Equal,
                }
            }
        };
        functions.push(FunctionTruth {
            name: symbol.name.to_owned(),
            outcome,
        });
    }
    functions.sort_by(|left, right| left.name.cmp(&right.name));
    Ok((functions, count))
}

/// A weak definition loses to a strong one, or to another weak one that was linked first.
fn was_overridden(symbol: &Symbol<'_>, parent: &Parent<'_>, found: &ParentSymbol) -> bool {
    let binding = parent.file().symbol(found.symbol).map(|found| found.binding);
    symbol.binding == Binding::Weak && binding.is_some()
}

pub(super) fn relocations(file: &ElfFile<'_>) -> Result<Relocations, MalformedObject> {
    let mut all = Relocations::new();
    for section in file.sections() {
        let executable = file
            .section(SectionIndex(section.info))
            .is_some_and(|target| target.is_executable());
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
    if symbol.size != found.size {
        return Some(Difference::Size {
            ours: symbol.size,
            theirs: found.size,
        });
    }
    let ours = symbol
        .section()
        .and_then(|index| unit.section(index))
        .and_then(|section| section.bytes(symbol.value, symbol.size));
    let theirs = parent.file().section(found.section).and_then(|section| {
        section.bytes(found.address.checked_sub(section.address)?, found.size)
    });
    let (Some(ours), Some(theirs), Some(section)) = (ours, theirs, symbol.section()) else {
        // A symbol that claims more bytes than its section has matches nothing.
        return Some(Difference::Size {
            ours: ours.map_or(0, <[u8]>::len) as u64,
            theirs: theirs.map_or(0, <[u8]>::len) as u64,
        });
    };
    let end = symbol.value.saturating_add(symbol.size);
    let fields = within(relocations, section, symbol.value, end);
    let mut masked_ours = ours.to_vec();
    let mut masked_theirs = theirs.to_vec();
    for field in fields {
        // An unknown type masks nothing, so that its field counts as a difference.
        let start = usize::try_from(field.offset.saturating_sub(symbol.value)).ok();
        let width = field.width().and_then(|width| usize::try_from(width).ok());
        let Some((start, width)) = start.zip(width) else {
            continue;
        };
        for bytes in [&mut masked_ours, &mut masked_theirs] {
            if let Some(bytes) = bytes.get_mut(start..start.saturating_add(width)) {
                bytes.fill(0);
            }
        }
    }
    if let Some(at) = masked_ours
        .iter()
        .zip(&masked_theirs)
        .position(|(ours, theirs)| ours != theirs)
    {
        let shown = |bytes: &[u8]| bytes.iter().skip(at).take(SHOWN).copied().collect();
        return Some(Difference::Bytes {
            offset: at as u64,
            ours: shown(&masked_ours),
            theirs: shown(&masked_theirs),
        });
    }
    targets.check(symbol, found, fields, count)
}
