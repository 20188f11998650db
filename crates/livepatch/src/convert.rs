//! Turns placeholder symbols of a linked module into livepatch relocations.
//!
//! Format: `Documentation/livepatch/module-elf-format.rst` of the kernel.

use std::collections::BTreeMap;

use object::elf;

use crate::elf::{Binding, ElfFile, FileKind, MalformedObject, Place, SymbolKind};
use crate::emit::PLACEHOLDER;
use crate::write::{OutPlace, OutRelocation, OutSection, OutSymbol, WriteError, relocatable};

/// Why a module could not be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The linker's output is no usable object.
    #[error(transparent)]
    Malformed(#[from] MalformedObject),
    /// Something the conversion would lose.
    #[error("section {section}: {what}")]
    Unexpected {
        /// The section or symbol.
        section: String,
        /// What was found.
        what: &'static str,
    },
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Converts the linked module `module`; everything but placeholders stays as it is.
pub fn convert(module: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let file = ElfFile::parse(module)?;
    if file.kind != FileKind::Relocatable {
        return Err(unexpected("header", "not a relocatable object"));
    }
    let mut sections = Vec::new();
    let mut place_of = BTreeMap::new();
    for section in file.sections().iter().skip(1) {
        if [elf::SHT_RELA.0, elf::SHT_SYMTAB.0, elf::SHT_STRTAB.0].contains(&section.kind) {
            continue;
        }
        let mut flags = section.flags;
        // Padded functions are listed here. On x86 the loader does not read the list, and only a
        // linker would follow the tie to a section of code.
        if section.name == "__patchable_function_entries" {
            flags &= !elf::SHF_LINK_ORDER.0;
        }
        if section.kind == elf::SHT_GROUP.0 || flags & elf::SHF_LINK_ORDER.0 != 0 {
            return Err(unexpected(section.name, "is tied to another section"));
        }
        place_of.insert(section.index, sections.len());
        sections.push(OutSection {
            name: section.name.to_owned(),
            kind: section.kind,
            flags,
            alignment: section.alignment,
            entry_size: section.entry_size,
            data: section.data.to_vec(),
            size: section.size,
            ..OutSection::default()
        });
    }
    let mut objects = BTreeMap::new();
    let mut symbols = Vec::new();
    for symbol in file.symbols().iter().skip(1) {
        let mut out = OutSymbol {
            name: symbol.name.to_owned(),
            place: match symbol.place {
                Place::Undefined => OutPlace::Undefined,
                Place::Absolute => OutPlace::Absolute,
                Place::Section(index) => match place_of.get(&index) {
                    Some(&place) => OutPlace::Section(place),
                    None => return Err(unexpected(symbol.name, "lies in a table")),
                },
                Place::Common | Place::Livepatch | Place::Reserved(_) => {
                    return Err(unexpected(symbol.name, "is neither defined nor undefined"));
                }
            },
            value: symbol.value,
            size: symbol.size,
            kind: kind_number(symbol.kind),
            binding: binding_number(symbol.binding),
        };
        if symbol.kind == SymbolKind::Section {
            out.name = String::new();
        }
        if let Some(rest) = symbol.name.strip_prefix(PLACEHOLDER) {
            let mut parts = rest.splitn(4, '!');
            let (Some(object), Some(owner), Some(position), Some(name)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(unexpected(symbol.name, "is a damaged placeholder"));
            };
            out.name = format!(".klp.sym.{owner}.{name},{position}");
            out.place = OutPlace::Livepatch;
            objects.insert(symbol.index, object.to_owned());
        }
        symbols.push(out);
    }
    for table in file.sections().iter().filter(|section| section.is_rela()) {
        let target = crate::elf::SectionIndex(table.info);
        let Some(home) = place_of
            .get(&target)
            .and_then(|&place| sections.get_mut(place))
        else {
            return Err(unexpected(table.name, "relocates a table"));
        };
        let mut livepatch: BTreeMap<&str, Vec<OutRelocation>> = BTreeMap::new();
        for relocation in file.relocations(table)? {
            let out = OutRelocation {
                offset: relocation.offset,
                kind: relocation.kind,
                symbol: relocation.symbol.0 as usize,
                addend: relocation.addend,
            };
            match objects.get(&relocation.symbol) {
                Some(object) => livepatch.entry(object).or_default().push(out),
                None => home.relocations.push(out),
            }
        }
        home.livepatch.extend(
            livepatch
                .into_iter()
                .map(|(object, list)| (object.to_owned(), list)),
        );
    }
    Ok(relocatable(&sections, &symbols)?)
}

fn unexpected(section: &str, what: &'static str) -> ConvertError {
    ConvertError::Unexpected {
        section: section.to_owned(),
        what,
    }
}

fn kind_number(kind: SymbolKind) -> u8 {
    match kind {
        SymbolKind::None => 0,
        SymbolKind::Object => 1,
        SymbolKind::Function => 2,
        SymbolKind::Section => 3,
        SymbolKind::File => 4,
        SymbolKind::Other(number) => number,
    }
}

fn binding_number(binding: Binding) -> u8 {
    match binding {
        Binding::Local => 0,
        Binding::Global => 1,
        Binding::Weak => 2,
        Binding::Other(number) => number,
    }
}
