//! Relocations of debug sections: modules are relocatable files, so every string offset in them is
//! still a relocation.

use std::borrow::Cow;

use gimli::{Relocate, SectionId};
use object::elf::{self, Rela64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::{LittleEndian, Object as _, ObjectSection as _, SectionIndex};

use super::{DwarfError, Elf};

/// Relocations of one section, ordered by offset and looked up in place: a map of them all would
/// take several times the memory of the section.
#[derive(Clone, Debug)]
pub(super) struct Relocations<'a> {
    entries: Cow<'a, [Rela64<LittleEndian>]>,
    values: Values<'a>,
}

/// Symbol table, for the values of the section symbols.
#[derive(Clone, Copy, Debug)]
struct Values<'a>(&'a [elf::Sym64<LittleEndian>]);

impl<'a> Relocations<'a> {
    /// Finds the relocations that are still to be applied to section `id`: none in a linked image,
    /// whatever relocation sections it keeps.
    pub(super) fn of(file: &Elf<'a>, id: SectionId) -> Result<Self, DwarfError> {
        let none = Self {
            entries: Cow::Borrowed(&[]),
            values: Values(&[]),
        };
        let endian = file.endian();
        if file.elf_header().e_type(endian) != elf::ET_REL {
            return Ok(none);
        }
        let Some(target) = file.section_by_name(id.name()) else {
            return Ok(none);
        };
        let Some(entries) = entries(file, target.index())? else {
            return Ok(none);
        };
        let sorted = entries.is_sorted_by_key(|entry| entry.r_offset(endian));
        let entries = if sorted {
            Cow::Borrowed(entries)
        } else {
            let mut entries = entries.to_vec();
            entries.sort_by_key(|entry| entry.r_offset(endian));
            Cow::Owned(entries)
        };
        Ok(Self {
            entries,
            values: Values(file.elf_symbol_table().symbols()),
        })
    }

    fn applied(&self, offset: usize, value: usize) -> Result<usize, gimli::Error> {
        let endian = LittleEndian;
        let wanted = offset as u64;
        let Ok(found) = self
            .entries
            .binary_search_by_key(&wanted, |entry| entry.r_offset(endian))
        else {
            return Ok(value);
        };
        let unsupported = || gimli::Error::UnsupportedOffset;
        let entry = self.entries.get(found).ok_or_else(unsupported)?;
        let symbol = usize::try_from(entry.r_sym(endian, false))
            .ok()
            .and_then(|index| self.values.0.get(index))
            .ok_or_else(unsupported)?;
        if !matches!(
            entry.r_type(endian, false),
            elf::R_X86_64_32 | elf::R_X86_64_64
        ) {
            return Err(unsupported());
        }
        let addend = entry.r_addend(endian);
        let sum = symbol.st_value(endian).checked_add_signed(addend);
        sum.and_then(|sum| usize::try_from(sum).ok())
            .ok_or_else(unsupported)
    }
}

impl Relocate<usize> for Relocations<'_> {
    /// Addresses stay as they are: which file gave code does not depend on where the code lies.
    fn relocate_address(&self, _offset: usize, value: u64) -> Result<u64, gimli::Error> {
        Ok(value)
    }

    fn relocate_offset(&self, offset: usize, value: usize) -> Result<usize, gimli::Error> {
        self.applied(offset, value)
    }
}

fn entries<'a>(
    file: &Elf<'a>,
    target: SectionIndex,
) -> Result<Option<&'a [Rela64<LittleEndian>]>, DwarfError> {
    let endian = file.endian();
    for section in file.elf_section_table().iter() {
        if section.sh_type(endian) != elf::SHT_RELA || section.info_link(endian) != target {
            continue;
        }
        if let Some((entries, _)) = section.rela(endian, file.data())? {
            return Ok(Some(entries));
        }
    }
    Ok(None)
}
