//! What a masked field names: masking alone would call two functions equal that call different ones.

use std::collections::BTreeMap;

use super::block::linked_global;
use super::compare::{Relocations, within};
use super::relaxed::{Counterpart, Field};
use super::{Difference, ParentSymbol, TargetCount, UnitMap};
use crate::elf::{
    Binding, ElfFile, Place, Relocation, Section, SectionIndex, Symbol, SymbolIndex, SymbolKind,
};
use crate::kallsyms::Parent;

/// A place in the parent, or a name it does not define, with the addend applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim<'a> {
    /// In the memory of the parent. In vmlinux an address, in a module an offset into a section.
    Inside(Option<SectionIndex>, u64),
    /// Another object's symbol.
    Outside(&'a str, i64),
}

enum Found {
    Same,
    Unproven,
    Other { ours: String, theirs: String },
}

/// Compares the targets of a unit's relocated fields with what the parent holds there.
pub(super) struct Targets<'a, 'data> {
    unit: &'a ElfFile<'data>,
    parent: &'a Parent<'data>,
    map: &'a UnitMap,
    // A module's relocations; vmlinux has them applied.
    theirs: Option<&'a Relocations>,
    // Where each section of the unit went, if one of its symbols tells.
    bases: BTreeMap<SectionIndex, (SectionIndex, u64)>,
}

impl<'a, 'data> Targets<'a, 'data> {
    pub(super) fn new(
        unit: &'a ElfFile<'data>,
        parent: &'a Parent<'data>,
        map: &'a UnitMap,
        theirs: Option<&'a Relocations>,
    ) -> Self {
        Self {
            unit,
            parent,
            map,
            theirs,
            bases: bases(unit, map),
        }
    }

    /// Checks every field of one function; the first that names something else is the difference.
    pub(super) fn check(
        &self,
        found: &ParentSymbol,
        fields: &[Field],
        count: &mut TargetCount,
    ) -> Option<Difference> {
        let mut first = None;
        for field in fields {
            let relocation = &field.relocation;
            if relocation.width() == Some(0) {
                continue;
            }
            let answer = match field.theirs {
                Counterpart::At(offset) => self.field(found, offset, relocation),
                Counterpart::Jump(offset) => self.jump(found, offset, relocation),
            };
            match answer {
                Found::Same => count.proven += 1,
                Found::Unproven => count.unproven += 1,
                Found::Other { ours, theirs } => {
                    count.contradicted += 1;
                    first.get_or_insert(Difference::Target {
                        offset: relocation.offset,
                        ours,
                        theirs,
                    });
                }
            }
        }
        first
    }

    fn field(&self, found: &ParentSymbol, offset: u64, field: &Relocation) -> Found {
        let Some(target) = self.unit.symbol(field.symbol) else {
            return Found::Unproven;
        };
        let Some(theirs) = self.held(found, offset, field) else {
            return Found::Unproven;
        };
        let section = target
            .section()
            .and_then(|section| self.unit.section(section));
        if let Some(section) = section
            && target.kind == SymbolKind::Section
            && section.is_mergeable()
        {
            return self.content(section, field, theirs);
        }
        let Some(ours) = self.aim(&target, field.addend) else {
            return Found::Unproven;
        };
        if ours == theirs {
            Found::Same
        } else {
            self.other(&target, field, theirs)
        }
    }

    /// A jump whose short form in the parent goes `offset` bytes from the start of its function. Only
    /// proof makes forms of different length equal.
    fn jump(&self, found: &ParentSymbol, offset: u64, field: &Relocation) -> Found {
        let section = self.theirs.is_some().then_some(found.section);
        let theirs = Aim::Inside(section, found.address.wrapping_add(offset));
        let Some(target) = self.unit.symbol(field.symbol) else {
            return Found::Unproven;
        };
        // The distance counts from the end of the four-byte field, which ends the instruction.
        match self.aim(&target, field.addend.wrapping_add(4)) {
            Some(ours) if ours == theirs && field.is_relative() => Found::Same,
            _ => self.other(&target, field, theirs),
        }
    }

    fn other(&self, target: &Symbol<'_>, field: &Relocation, theirs: Aim<'_>) -> Found {
        let section = target
            .section()
            .and_then(|section| self.unit.section(section));
        Found::Other {
            ours: with_addend(name_of(target, section), field.addend),
            theirs: self.describe(theirs),
        }
    }

    /// What the unit's relocation means in the parent.
    fn aim<'s>(&self, target: &Symbol<'s>, addend: i64) -> Option<Aim<'s>> {
        match target.place {
            Place::Section(section) => {
                if target.binding != Binding::Local {
                    let linked = linked_global(self.parent, target.name)?;
                    return Some(self.inside(linked.section()?, linked.value, addend));
                }
                if target.kind != SymbolKind::Section
                    && let Some(mapped) = self.map.symbols.get(target.name)
                {
                    return Some(self.inside(mapped.section, mapped.address, addend));
                }
                let &(parent, base) = self.bases.get(&section)?;
                Some(self.inside(parent, base.wrapping_add(target.value), addend))
            }
            Place::Undefined => match linked_global(self.parent, target.name) {
                Some(linked) => match linked.place {
                    Place::Section(section) => Some(self.inside(section, linked.value, addend)),
                    Place::Absolute => {
                        Some(Aim::Inside(None, linked.value.wrapping_add_signed(addend)))
                    }
                    Place::Undefined | Place::Common | Place::Livepatch | Place::Reserved(_) => {
                        None
                    }
                },
                // An undefined weak name becomes zero in vmlinux; a module leaves it to its loader.
                None if self.theirs.is_some() => Some(Aim::Outside(target.name, addend)),
                None => None,
            },
            Place::Absolute | Place::Common | Place::Livepatch | Place::Reserved(_) => None,
        }
    }

    fn inside<'s>(&self, section: SectionIndex, value: u64, addend: i64) -> Aim<'s> {
        let section = self.theirs.is_some().then_some(section);
        Aim::Inside(section, value.wrapping_add_signed(addend))
    }

    /// What the parent holds in a field, the field's own address taken out.
    fn held(&self, found: &ParentSymbol, offset: u64, field: &Relocation) -> Option<Aim<'data>> {
        let place = found.address.checked_add(offset)?;
        if let Some(relocations) = self.theirs {
            let end = place.checked_add(1)?;
            if let [theirs, ..] = within(relocations, found.section, place, end) {
                if theirs.is_relative() != field.is_relative() || theirs.width() != field.width() {
                    return None;
                }
                let symbol = self.parent.file().symbol(theirs.symbol)?;
                return match symbol.place {
                    Place::Section(section) => Some(Aim::Inside(
                        Some(section),
                        symbol.value.wrapping_add_signed(theirs.addend),
                    )),
                    Place::Undefined => Some(Aim::Outside(symbol.name, theirs.addend)),
                    Place::Absolute | Place::Common | Place::Livepatch | Place::Reserved(_) => None,
                };
            }
            // The assembler resolves distances within one section itself.
            if !field.is_relative() {
                return None;
            }
        }
        let section = self.parent.file().section(found.section)?;
        let bytes = section.bytes(place.checked_sub(section.address)?, field.width()?)?;
        let value = match (bytes, field.kind) {
            // R_X86_64_32 is zero-extended, all other four-byte fields are signed.
            (&[a, b, c, d], 10) => u64::from(u32::from_le_bytes([a, b, c, d])),
            (&[a, b, c, d], _) => i64::from(i32::from_le_bytes([a, b, c, d])).cast_unsigned(),
            (bytes, _) => u64::from_le_bytes(<[u8; 8]>::try_from(bytes).ok()?),
        };
        let value = if field.is_relative() {
            value.wrapping_add(place)
        } else {
            value
        };
        let section = self.theirs.is_some().then_some(found.section);
        Some(Aim::Inside(section, value))
    }

    /// Strings and constants have no names and are merged by the linker: their content must be equal.
    fn content(&self, section: &Section<'_>, field: &Relocation, theirs: Aim<'_>) -> Found {
        let Aim::Inside(parent, at) = theirs else {
            return Found::Unproven;
        };
        // A distance counts from the end of its instruction, which is the end of the field unless an
        // immediate follows; then the content below is taken from elsewhere and proves nothing.
        let adjust = if field.is_relative() { 4 } else { 0 };
        let start = field.addend.wrapping_add(adjust).cast_unsigned();
        let at = at.wrapping_add_signed(adjust);
        let file = self.parent.file();
        let holder = match parent {
            Some(index) => file.section(index),
            None => file.sections().iter().find(|section| {
                section.is_allocated()
                    && at
                        .checked_sub(section.address)
                        .is_some_and(|offset| offset < section.size)
            }),
        };
        let Some(holder) = holder else {
            return Found::Unproven;
        };
        let offset = at.wrapping_sub(holder.address);
        let (ours, theirs) = if section.is_strings() {
            match section.text(start) {
                // The linked section may not say how wide its characters are.
                Some((wide, inside)) if section.entry_size > 1 => {
                    let length = wide.len() as u64;
                    let found = offset.checked_sub(inside);
                    (Some(wide), found.and_then(|at| holder.bytes(at, length)))
                }
                _ => (section.string(start), holder.string(offset)),
            }
        } else {
            let size = section.entry_size;
            let whole = start.checked_rem(size) == Some(0);
            let ours = whole.then(|| section.bytes(start, size)).flatten();
            (ours, holder.bytes(offset, size))
        };
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours == theirs => Found::Same,
            (Some(ours), Some(theirs)) if !field.is_relative() => Found::Other {
                ours: format!("{:?}", String::from_utf8_lossy(ours)),
                theirs: format!("{:?}", String::from_utf8_lossy(theirs)),
            },
            _ => Found::Unproven,
        }
    }

    fn describe(&self, aim: Aim<'_>) -> String {
        match aim {
            Aim::Outside(name, addend) => with_addend(name, addend),
            Aim::Inside(section, at) => {
                let file = self.parent.file();
                let count = u32::try_from(file.symbol_count()).unwrap_or(u32::MAX);
                let below = (0..count)
                    .filter_map(|index| file.symbol(SymbolIndex(index)))
                    .filter(|symbol| {
                        matches!(symbol.kind, SymbolKind::Function | SymbolKind::Object)
                            && symbol.value <= at
                            && (section.is_none() || symbol.section() == section)
                    })
                    .max_by_key(|symbol| symbol.value);
                match (below, section.and_then(|section| file.section(section))) {
                    (Some(symbol), _) => format!("{}+{:#x}", symbol.name, at - symbol.value),
                    (None, Some(section)) => format!("{}+{at:#x}", section.name),
                    (None, None) => format!("{at:#x}"),
                }
            }
        }
    }
}

fn with_addend(name: &str, addend: i64) -> String {
    let sign = if addend < 0 { '-' } else { '+' };
    format!("{name}{sign}{:#x}", addend.unsigned_abs())
}

fn name_of<'a>(target: &Symbol<'a>, section: Option<&Section<'a>>) -> &'a str {
    match section {
        Some(section) if target.kind == SymbolKind::Section => section.name,
        _ => target.name,
    }
}

/// Where whole sections of the unit went. Sections are linked whole, so one symbol tells; one that
/// contradicts another says that the section was cut differently, and then nothing is known.
fn bases(unit: &ElfFile<'_>, map: &UnitMap) -> BTreeMap<SectionIndex, (SectionIndex, u64)> {
    let mut bases = BTreeMap::new();
    let mut unknown = Vec::new();
    for symbol in unit.symbols() {
        let Some(section) = symbol.section() else {
            continue;
        };
        // Another unit's definition may have won over a weak one.
        if symbol.binding == Binding::Weak {
            continue;
        }
        let Some(mapped) = map.symbols.get(symbol.name) else {
            continue;
        };
        if !matches!(symbol.kind, SymbolKind::Function | SymbolKind::Object) {
            continue;
        }
        let base = (mapped.section, mapped.address.wrapping_sub(symbol.value));
        if *bases.entry(section).or_insert(base) != base {
            unknown.push(section);
        }
    }
    for section in unknown {
        bases.remove(&section);
    }
    bases
}
