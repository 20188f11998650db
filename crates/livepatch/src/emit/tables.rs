//! The tables that go with travelling code, rebuilt entry by entry.

use object::elf;

use super::{Builder, Link, PLACEHOLDER, Piece, replacement_range};
use crate::diff::is_traceable;
use crate::refusal::Rule;
use crate::tables::ORC_ENTRY;
use crate::unit::{Class, Entry};
use crate::write::OutRelocation;

/// The list of direct calls, which kernels that count the depth of calls rewrite.
const CALL_SITES: &str = ".call_sites";

impl Builder<'_, '_> {
    /// Rebuilds the tables' entries that are about travelling code.
    pub(super) fn tables(&mut self) {
        for entry in self.unit.entries() {
            if self
                .piece_at(entry.code_section, entry.code_offset, false)
                .is_none()
            {
                continue;
            }
            if self.is_resolved_late(entry) {
                continue;
            }
            let out = self.pool_like(entry.section);
            let bytes = self
                .unit
                .bytes(entry.section, entry.start, entry.end)
                .to_vec();
            let wanted = usize::try_from(entry.table.entry).unwrap_or(bytes.len());
            let before = self
                .sections
                .get(out)
                .map_or(0, |section| section.data.len());
            // A paravirt entry cut short of its padding is only valid at the very end.
            let mut bytes = bytes;
            bytes.resize(wanted, 0);
            let at = self.append(out, 1, &bytes);
            if !self.copy_entry(entry, out, at)
                && let Some(section) = self.sections.get_mut(out)
            {
                section.data.truncate(before);
                section.size = before as u64;
                section
                    .relocations
                    .retain(|relocation| relocation.offset < before as u64);
            }
        }
    }

    /// Whether the entry lists a call whose target is not known before a module is patched. The
    /// kernel would follow such a call when ours loads, to wherever it leads until then; a call
    /// that is not listed is only not counted.
    fn is_resolved_late(&self, entry: &Entry) -> bool {
        if entry.table.section != CALL_SITES || self.surroundings.parent().is_vmlinux() {
            return false;
        }
        let Some(piece) = self.piece_at(entry.code_section, entry.code_offset, false) else {
            return false;
        };
        let field = entry
            .code_offset
            .saturating_sub(piece.start)
            .saturating_add(piece.out_start)
            .saturating_add(1);
        let relocations = self.sections.get(piece.out).map(|out| &out.relocations);
        relocations.into_iter().flatten().any(|relocation| {
            let symbol = relocation.symbol.checked_sub(1);
            relocation.offset == field
                && symbol
                    .and_then(|index| self.symbols.get(index))
                    .is_some_and(|symbol| symbol.name.starts_with(PLACEHOLDER))
        })
    }

    pub(super) fn copy_entry(&mut self, entry: &Entry, out: usize, at: u64) -> bool {
        let Some((section, start, end)) = replacement_range(self.unit, entry) else {
            return self.link_entry(entry, entry.start, entry.end, out, at);
        };
        let home = self.pool_like(section);
        let bytes = self.unit.bytes(section, start, end).to_vec();
        let place = self.append(home, 1, &bytes);
        self.pieces.push(Piece {
            section,
            start,
            end,
            out: home,
            out_start: place,
        });
        self.copy_relocations(section, start, end, home, place);
        let symbol = self.section_symbol(home);
        if let Some(table) = self.sections.get_mut(out) {
            table.relocations.push(OutRelocation {
                offset: at.saturating_add(4),
                kind: elf::R_X86_64_PC32.0,
                symbol,
                addend: i64::try_from(place).unwrap_or(i64::MAX),
            });
        }
        self.link_entry(entry, entry.start, entry.start.saturating_add(4), out, at)
    }

    /// The first field names the code by its place; the rest are ordinary references.
    pub(super) fn link_entry(
        &mut self,
        entry: &Entry,
        start: u64,
        end: u64,
        out: usize,
        at: u64,
    ) -> bool {
        let unit = self.unit;
        for relocation in unit.relocations(entry.section, start, end) {
            let offset = relocation
                .offset
                .saturating_sub(entry.start)
                .saturating_add(at);
            let inside =
                unit.place(entry.section, relocation)
                    .ok()
                    .and_then(|(section, offset)| {
                        self.piece_at(section, offset, false)
                            .map(|piece| (piece, offset))
                    });
            let link = match inside {
                Some((piece, target)) if unit.section(piece.section).is_executable() => {
                    let target = target
                        .saturating_sub(piece.start)
                        .saturating_add(piece.out_start);
                    Link::Relocation {
                        symbol: self.section_symbol(piece.out),
                        addend: i64::try_from(target).unwrap_or(i64::MAX),
                    }
                }
                _ => self.link(entry.section, relocation),
            };
            match link {
                Link::Relocation { symbol, addend } => {
                    if let Some(home) = self.sections.get_mut(out) {
                        home.relocations.push(OutRelocation {
                            offset,
                            kind: relocation.kind,
                            symbol,
                            addend,
                        });
                    }
                }
                Link::Drop => return false,
                Link::Refused => {}
            }
        }
        true
    }

    /// Copies the unwind entries of travelling code, with those that end a function.
    pub(super) fn orc(&mut self) {
        let unit = self.unit;
        let sections = unit.file.sections();
        let Some(addresses) = sections
            .iter()
            .find(|s| unit.class(s.index) == Class::OrcAddresses)
        else {
            return;
        };
        let Some(entries) = sections
            .iter()
            .find(|s| unit.class(s.index) == Class::OrcEntries)
        else {
            self.refuse(
                Rule::Unknown,
                addresses.name,
                "has no .orc_unwind beside it",
            );
            return;
        };
        if (addresses.size / 4).checked_mul(ORC_ENTRY) != Some(entries.size) {
            self.refuse(Rule::Unknown, entries.name, "does not fit .orc_unwind_ip");
            return;
        }
        for relocation in unit.relocations(addresses.index, 0, addresses.size) {
            let Ok((section, offset)) = unit.place(addresses.index, relocation) else {
                continue;
            };
            let Some(piece) = self.piece_at(section, offset, true) else {
                continue;
            };
            let at = (relocation.offset / 4).saturating_mul(ORC_ENTRY);
            let entry = unit
                .bytes(entries.index, at, at.saturating_add(ORC_ENTRY))
                .to_vec();
            let ip = self.pool_like(addresses.index);
            let place = self.append(ip, 1, &[0; 4]);
            let symbol = self.section_symbol(piece.out);
            let target = offset
                .saturating_sub(piece.start)
                .saturating_add(piece.out_start);
            if let Some(home) = self.sections.get_mut(ip) {
                home.relocations.push(OutRelocation {
                    offset: place,
                    kind: relocation.kind,
                    symbol,
                    addend: i64::try_from(target).unwrap_or(i64::MAX),
                });
            }
            let table = self.pool_like(entries.index);
            self.append(table, 1, &entry);
        }
    }

    /// Lists the ftrace entries of travelling functions.
    pub(super) fn mcount(&mut self) {
        for &id in &self.comparison.travels {
            let atom = self.unit.atom(id);
            if !atom.is_code() || !is_traceable(self.unit, id) {
                continue;
            }
            let Some(call) = self.unit.relocations_of(id).first() else {
                continue;
            };
            let at = call.offset.saturating_sub(1).saturating_sub(atom.start);
            let flags = elf::SHF_ALLOC.0;
            let out = self.pool("__mcount_loc", elf::SHT_PROGBITS.0, flags, 8);
            let place = self.append(out, 8, &[0; 8]);
            let symbol = self.atom_symbol.get(&id).copied().unwrap_or(0);
            if let Some(home) = self.sections.get_mut(out) {
                home.relocations.push(OutRelocation {
                    offset: place,
                    kind: elf::R_X86_64_64.0,
                    symbol,
                    addend: i64::try_from(at).unwrap_or(i64::MAX),
                });
            }
        }
    }
}
