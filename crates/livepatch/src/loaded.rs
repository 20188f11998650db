//! Whether two objects are the same to whoever loads or links them, whatever their debug data says.

use object::elf;

use crate::elf::{Binding, ElfFile, MalformedObject, Section, SectionIndex, Symbol, SymbolKind};

/// Tells whether both files hold the same sections, symbols and relocations apart from debug data.
pub fn same_but_for_debug_data(
    one: &ElfFile<'_>,
    other: &ElfFile<'_>,
) -> Result<bool, MalformedObject> {
    Ok(one.kind == other.kind
        && sections(one) == sections(other)
        && symbols(one) == symbols(other)
        && relocations(one)? == relocations(other)?)
}

/// What counts of a section.
type Body<'data> = (&'data str, u32, u64, u64, u64, u64, &'data [u8]);

fn sections<'data>(file: &ElfFile<'data>) -> Vec<Body<'data>> {
    let own = file
        .sections()
        .iter()
        .filter(|section| !is_debug(section) && !is_index(section));
    own.map(|section| {
        let Section {
            name,
            kind,
            flags,
            size,
            alignment,
            entry_size,
            data,
            ..
        } = *section;
        (name, kind, flags, size, alignment, entry_size, data)
    })
    .collect()
}

/// A symbol apart from its number.
type Identity<'data> = (
    &'data str,
    Option<&'data str>,
    String,
    u64,
    u64,
    SymbolKind,
    Binding,
);

fn identity<'data>(file: &ElfFile<'data>, symbol: &Symbol<'data>) -> Identity<'data> {
    let home = symbol.section().and_then(|index| file.section(index));
    // The number of a section changes with the debug sections before it.
    let place = if home.is_some() {
        String::new()
    } else {
        format!("{:?}", symbol.place)
    };
    let Symbol {
        name,
        value,
        size,
        kind,
        binding,
        ..
    } = *symbol;
    (
        name,
        home.map(|home| home.name),
        place,
        value,
        size,
        kind,
        binding,
    )
}

fn symbols<'data>(file: &ElfFile<'data>) -> Vec<Identity<'data>> {
    let in_debug = |index: Option<SectionIndex>| {
        index
            .and_then(|index| file.section(index))
            .is_some_and(is_debug)
    };
    let own = file
        .symbols()
        .iter()
        .filter(|symbol| !in_debug(symbol.section()));
    own.map(|symbol| identity(file, symbol)).collect()
}

/// Target section, offset, type, symbol and addend.
type Reference<'data> = (&'data str, u64, u32, Option<Identity<'data>>, i64);

fn relocations<'data>(file: &ElfFile<'data>) -> Result<Vec<Reference<'data>>, MalformedObject> {
    let mut all = Vec::new();
    for table in file.sections().iter().filter(|section| section.is_rela()) {
        let Some(home) = file.section(SectionIndex(table.info)) else {
            continue;
        };
        if is_debug(home) {
            continue;
        }
        for relocation in file.relocations(table)? {
            let symbol = file
                .symbol(relocation.symbol)
                .map(|symbol| identity(file, &symbol));
            all.push((
                home.name,
                relocation.offset,
                relocation.kind,
                symbol,
                relocation.addend,
            ));
        }
    }
    Ok(all)
}

fn is_debug(section: &Section<'_>) -> bool {
    !section.is_allocated() && section.name.starts_with(".debug_")
}

/// Whether it only numbers or names other things, which are compared themselves.
fn is_index(section: &Section<'_>) -> bool {
    [
        elf::SHT_NULL.0,
        elf::SHT_RELA.0,
        elf::SHT_SYMTAB.0,
        elf::SHT_STRTAB.0,
        elf::SHT_SYMTAB_SHNDX.0,
    ]
    .contains(&section.kind)
}
