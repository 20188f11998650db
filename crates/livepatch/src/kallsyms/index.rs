//! What a parent's symbols are found by, collected once and kept.
//!
//! Three tables of 32-bit little-endian numbers, which name symbols by index: those that kallsyms
//! counts, sorted by name and then in the kernel's order; defined globals, sorted by name; source
//! files, sorted by name and then in link order, each as the file's symbol and where its local symbols
//! begin and end. A search reads the names of few symbols, and the rest of the symbol table not at all.

use std::collections::BTreeSet;

use super::{FileBlock, Names, Parent};
use crate::elf::{ElfFile, SymbolIndex};

/// Bytes of one number.
const WIDTH: usize = 4;

/// The tables, as they lie in a file.
#[derive(Clone, Copy, Debug)]
pub struct Index<'data> {
    counted: &'data [u8],
    globals: &'data [u8],
    files: &'data [u8],
}

impl<'data> Index<'data> {
    /// Reads what [`Index::write`] wrote; nothing if the tables do not have the lengths they say.
    ///
    /// Numbers are checked when they are used: one that names no symbol finds nothing.
    pub fn read(bytes: &'data [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(3 * WIDTH)?;
        let mut next = |number: usize, columns: usize| -> Option<&'data [u8]> {
            let count = usize::try_from(number_at(head, number)?).ok()?;
            let (table, more) = rest.split_at_checked(count.checked_mul(columns * WIDTH)?)?;
            rest = more;
            Some(table)
        };
        let (counted, globals, files) = (next(0, 1)?, next(1, 1)?, next(2, 3)?);
        rest.is_empty().then_some(Self {
            counted,
            globals,
            files,
        })
    }

    /// Writes the tables of `parent`; nothing for one that is itself read by such tables.
    pub fn write(parent: &Parent<'_>) -> Option<Vec<u8>> {
        let Names::Collected {
            by_name,
            globals,
            blocks,
        } = &parent.names
        else {
            return None;
        };
        let mut names: Vec<(&str, &[SymbolIndex])> = by_name
            .iter()
            .map(|(name, found)| (*name, found.as_slice()))
            .collect();
        names.sort_unstable();
        let counted = names.iter().flat_map(|(_, found)| found.iter().copied());
        let counted: Vec<SymbolIndex> = counted.collect();
        let mut globals: Vec<(&str, SymbolIndex)> = globals
            .iter()
            .map(|(name, found)| (*name, *found))
            .collect();
        globals.sort_unstable();
        let mut files: Vec<&FileBlock<'_>> = blocks.iter().collect();
        files.sort_by_key(|block| (block.name, block.first));
        let mut bytes = Vec::new();
        let mut put = |number: u32| bytes.extend(number.to_le_bytes());
        for count in [counted.len(), globals.len(), files.len()] {
            put(u32::try_from(count).ok()?);
        }
        for symbol in counted {
            put(symbol.0);
        }
        for (_, symbol) in globals {
            put(symbol.0);
        }
        for block in files {
            // The file's symbol is the one before its first.
            for number in [block.first.checked_sub(1)?, block.first, block.end] {
                put(number);
            }
        }
        Some(bytes)
    }

    /// The symbols called `name` that count, in the kernel's order.
    pub(super) fn counted(&self, file: &ElfFile<'_>, name: &str) -> Vec<SymbolIndex> {
        self.from(file, name)
            .take_while(|&found| file.symbol_name(found) == Some(name))
            .collect()
    }

    /// Those that count, by name, from the first that is not before `name`.
    pub(super) fn from<'file>(
        &self,
        file: &'file ElfFile<'_>,
        name: &str,
    ) -> impl Iterator<Item = SymbolIndex> + use<'file, 'data> {
        let counted = self.counted;
        let start = first_not_before(file, counted, 1, name);
        (start..).map_while(move |at| Some(SymbolIndex(number_at(counted, at)?)))
    }

    /// The defined global called `name`.
    pub(super) fn global(&self, file: &ElfFile<'_>, name: &str) -> Option<SymbolIndex> {
        let at = first_not_before(file, self.globals, 1, name);
        let found = SymbolIndex(number_at(self.globals, at)?);
        (file.symbol_name(found) == Some(name)).then_some(found)
    }

    /// The source files called `name`, in link order.
    pub(super) fn files_called<'file>(
        &self,
        file: &ElfFile<'file>,
        name: &str,
    ) -> Vec<FileBlock<'file>> {
        let start = first_not_before(file, self.files, 3, name);
        (start..)
            .map_while(|at| self.file(file, at))
            .take_while(|block| block.name == name)
            .collect()
    }

    /// The names of all source files.
    pub(super) fn file_names<'file>(&self, file: &ElfFile<'file>) -> BTreeSet<&'file str> {
        (0..)
            .map_while(|at| Some(self.file(file, at)?.name))
            .collect()
    }

    fn file<'file>(&self, file: &ElfFile<'file>, at: usize) -> Option<FileBlock<'file>> {
        let column = |number| number_at(self.files, at.checked_mul(3)?.checked_add(number)?);
        Some(FileBlock {
            name: file.symbol_name(SymbolIndex(column(0)?))?,
            first: column(1)?,
            end: column(2)?,
        })
    }
}

fn number_at(table: &[u8], at: usize) -> Option<u32> {
    let start = at.checked_mul(WIDTH)?;
    let bytes = table.get(start..start.checked_add(WIDTH)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The first row, of so many columns, whose symbol's name is `name` or comes after it.
fn first_not_before(file: &ElfFile<'_>, table: &[u8], columns: usize, name: &str) -> usize {
    let before = |row: usize| {
        number_at(table, row.saturating_mul(columns))
            .and_then(|symbol| file.symbol_name(SymbolIndex(symbol)))
            .is_some_and(|found| found < name)
    };
    let (mut low, mut high) = (0, table.len() / (columns * WIDTH));
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Takes `bytes` as the length of an index, the index, and the file it is for; for fuzzing. Never panics.
pub fn read_anything(bytes: &[u8]) {
    let Some((length, both)) = bytes.split_first_chunk() else {
        return;
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (index, file) = both.split_at(length.min(both.len()));
    let (Some(index), Ok(file)) = (Index::read(index), ElfFile::parse_on_demand(file)) else {
        return;
    };
    let names = index.file_names(&file);
    for name in names.into_iter().take(8).chain(["", "a", "__pfx_"]) {
        index.counted(&file, name);
        index.global(&file, name);
        index.files_called(&file, name);
    }
}
