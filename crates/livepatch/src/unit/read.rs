//! Reading an object and cutting it into atoms.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use super::{Atom, AtomId, Class, Entry, Instruction, Unit, UnitError, prefix, unexpected};
use crate::elf::{Binding, Section, SectionIndex, Symbol, SymbolKind};
use crate::tables::Role;

impl<'data> Unit<'data> {
    pub(super) fn read_relocations(&mut self) -> Result<(), UnitError> {
        let mut tables = Vec::new();
        for section in self.file.sections() {
            if !section.is_rela() {
                continue;
            }
            let target = SectionIndex(section.info);
            let home = self
                .file
                .section(target)
                .ok_or_else(|| unexpected(section.name, "relocates a section that is not there"))?;
            if !home.is_allocated() {
                continue;
            }
            let relocations = self.file.relocations(section)?;
            if home.is_nobits() && !relocations.is_empty() {
                return Err(unexpected(
                    home.name,
                    "relocates bytes that are not in the file",
                ));
            }
            for relocation in &relocations {
                let width = relocation.width().ok_or_else(|| {
                    unexpected(home.name, format!("relocation type {}", relocation.kind))
                })?;
                if relocation
                    .offset
                    .checked_add(width)
                    .is_none_or(|end| end > home.size)
                {
                    return Err(unexpected(
                        home.name,
                        format!("relocation at {:#x} is outside", relocation.offset),
                    ));
                }
            }
            tables.push((target, relocations));
        }
        for (target, relocations) in tables {
            if let Some(slot) = self.relocations.get_mut(target.0 as usize) {
                slot.extend(
                    relocations
                        .into_iter()
                        .filter(|relocation| relocation.kind != 0),
                );
                slot.sort_by_key(|relocation| relocation.offset);
            }
        }
        Ok(())
    }

    pub(super) fn decode(&mut self) -> Result<(), UnitError> {
        for section in self.file.sections() {
            if !section.is_allocated() || !section.is_executable() {
                continue;
            }
            let mut decoder = Decoder::new(64, section.data, DecoderOptions::NONE);
            let mut run = Vec::new();
            while decoder.can_decode() {
                let instruction = decoder.decode();
                if instruction.is_invalid() {
                    return Err(UnitError::Undecodable {
                        section: section.name.to_owned(),
                        offset: instruction.ip(),
                    });
                }
                let flow = instruction.flow_control();
                run.push(Instruction {
                    start: instruction.ip(),
                    end: instruction.next_ip(),
                    is_branch: matches!(
                        flow,
                        FlowControl::Call
                            | FlowControl::UnconditionalBranch
                            | FlowControl::ConditionalBranch
                    ),
                    is_jump: flow == FlowControl::UnconditionalBranch,
                });
            }
            if let Some(slot) = self.instructions.get_mut(section.index.0 as usize) {
                *slot = run;
            }
        }
        Ok(())
    }

    pub(super) fn cut(&mut self) -> Result<(), UnitError> {
        let mut named: BTreeMap<SectionIndex, Vec<&Symbol<'data>>> = BTreeMap::new();
        for symbol in self.file.symbols() {
            let Some(section) = symbol.section() else {
                continue;
            };
            if matches!(symbol.kind, SymbolKind::Function | SymbolKind::Object) {
                named.entry(section).or_default().push(symbol);
            }
        }
        let mut atoms = Vec::new();
        for section in self.file.sections() {
            let class = self.class(section.index);
            match class {
                Class::Code | Class::Data | Class::Init | Class::Fixed => {}
                Class::Ignored
                | Class::Strings
                | Class::Constants
                | Class::Table(_)
                | Class::OrcAddresses
                | Class::OrcEntries
                | Class::Chunks => continue,
            }
            let symbols = named.remove(&section.index).unwrap_or_default();
            if symbols.is_empty() && section.size == 0 {
                continue;
            }
            let first = atoms.len();
            atoms.extend(cut_section(section, class, symbols)?);
            let ids: Vec<AtomId> = (first..atoms.len()).map(AtomId).collect();
            self.atoms_by_section.insert(section.index, ids);
        }
        for (index, atom) in atoms.iter().enumerate() {
            for &symbol in atom.symbols.iter().chain(&atom.prefixes) {
                self.atom_by_symbol.insert(symbol, AtomId(index));
            }
        }
        self.atoms = atoms;
        self.check_gaps()
    }

    /// Bytes that belong to no atom must carry nothing.
    pub(super) fn check_gaps(&self) -> Result<(), UnitError> {
        for (&index, ids) in &self.atoms_by_section {
            let section = self.section(index);
            let mut covered = 0;
            let edges = ids
                .iter()
                .map(|&id| (self.atom(id).start, self.atom(id).end));
            for (start, end) in edges.chain([(section.size, section.size)]) {
                if covered < start {
                    let silent = section.is_executable()
                        || self
                            .bytes(index, covered, start)
                            .iter()
                            .all(|&byte| byte == 0);
                    if !silent || !self.relocations(index, covered, start).is_empty() {
                        return Err(unexpected(
                            section.name,
                            format!("unnamed content at {covered:#x}..{start:#x}"),
                        ));
                    }
                }
                covered = covered.max(end);
            }
        }
        Ok(())
    }

    pub(super) fn read_entries(&mut self) -> Result<(), UnitError> {
        let mut entries = Vec::new();
        for section in self.file.sections() {
            let Class::Table(table) = self.class(section.index) else {
                continue;
            };
            let padded = match table.role {
                Role::Paravirt => true,
                Role::Derived
                | Role::Bug
                | Role::Exception
                | Role::JumpLabel
                | Role::StaticCall
                | Role::Alternative { .. } => false,
            };
            let mut start = 0;
            while start < section.size {
                let end = start.saturating_add(table.entry);
                if end > section.size && !padded {
                    return Err(unexpected(
                        section.name,
                        "its size is no multiple of its entry",
                    ));
                }
                let end = end.min(section.size);
                let code = self
                    .relocations(section.index, start, end)
                    .first()
                    .filter(|relocation| relocation.offset == start)
                    .ok_or_else(|| {
                        unexpected(section.name, format!("entry at {start:#x} names no code"))
                    })?;
                let (code_section, code_offset) = self.place(section.index, code)?;
                entries.push(Entry {
                    table,
                    section: section.index,
                    start,
                    end,
                    code_section,
                    code_offset,
                });
                start = end;
            }
        }
        self.entries = entries;
        Ok(())
    }
}

/// Cuts one section at its symbols; symbols whose ranges touch inside share an atom.
fn cut_section<'data>(
    section: &Section<'data>,
    class: Class,
    mut symbols: Vec<&Symbol<'data>>,
) -> Result<Vec<Atom<'data>>, UnitError> {
    let prefixes = match class {
        Class::Code | Class::Init => prefix::take(&mut symbols),
        Class::Ignored
        | Class::Data
        | Class::Strings
        | Class::Constants
        | Class::Table(_)
        | Class::OrcAddresses
        | Class::OrcEntries
        | Class::Chunks
        | Class::Fixed => Vec::new(),
    };
    let mut atoms: Vec<(u64, u64, Vec<&Symbol<'data>>)> = Vec::new();
    symbols.sort_by_key(|symbol| (symbol.value, std::cmp::Reverse(symbol.size), symbol.index));
    for symbol in symbols {
        let end = symbol
            .value
            .checked_add(symbol.size)
            .filter(|&end| end <= section.size)
            .ok_or_else(|| unexpected(section.name, format!("{} is longer", symbol.name)))?;
        match atoms.last_mut() {
            Some((start, last, names)) if symbol.value < *last || symbol.value == *start => {
                *last = end.max(*last);
                names.push(symbol);
            }
            _ => atoms.push((symbol.value, end, vec![symbol])),
        }
    }
    if atoms.is_empty() {
        atoms.push((0, section.size, Vec::new()));
    }
    // Between the names of a table that is read once lie parts of it: flags of BTF ids have none.
    if class == Class::Fixed {
        let starts: Vec<u64> = atoms.iter().skip(1).map(|(start, ..)| *start).collect();
        let ends = starts.into_iter().chain([section.size]);
        for ((_, end, _), next) in atoms.iter_mut().zip(ends) {
            *end = next.max(*end);
        }
    }
    // A function's or variable's own section belongs to it, from the padding before its entry to
    // that behind its end.
    let whole = match atoms.as_slice() {
        [(start, ..)] => *start == prefix::length(&prefixes, *start),
        _ => false,
    };
    if whole && let Some((_, end, _)) = atoms.first_mut() {
        *end = section.size;
    }
    Ok(atoms
        .into_iter()
        .enumerate()
        .map(|(number, (start, end, names))| {
            // One place may have several names: which of them stands first in the table says nothing.
            // A weak one may be another unit's in the kernel.
            let first = names.iter().min_by_key(|symbol| {
                let binding = symbol.binding;
                (
                    binding == Binding::Local,
                    binding == Binding::Weak,
                    symbol.name,
                )
            });
            let length = prefix::length(&prefixes, start);
            Atom {
                section: section.index,
                class,
                // What lies before the first name of such a table is part of it, too.
                start: match (class, number) {
                    (Class::Fixed, 0) => 0,
                    _ => start.saturating_sub(length),
                },
                end,
                entry: start,
                name: first.map_or(section.name, |symbol| symbol.name),
                global: names.iter().any(|symbol| symbol.binding != Binding::Local),
                weak: names.iter().any(|symbol| symbol.binding == Binding::Weak),
                symbols: names.iter().map(|symbol| symbol.index).collect(),
                prefixes: prefixes
                    .iter()
                    .filter(|prefix| prefix::end(prefix) == Some(start))
                    .map(|prefix| prefix.index)
                    .collect(),
                whole,
            }
        })
        .collect())
}
