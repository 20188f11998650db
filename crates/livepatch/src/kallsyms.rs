//! Symbols of a linked parent — the debug vmlinux or a debug module — counted as the kernel counts them.
//!
//! The kernel finds a livepatch target by name and position: position n is the n-th symbol of that name
//! in kallsyms, whatever its binding or type. vmlinux's kallsyms is sorted by address; a module's is its
//! symbol table in file order.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use tuxtape_core::identity::ObjectName;

use crate::elf::{Binding, ElfFile, FileKind, Place, Section, Symbol, SymbolIndex, SymbolKind};

pub mod index;

#[cfg(test)]
mod tests;

use index::Index;

/// Longest name kallsyms can hold, with its NUL (`KSYM_NAME_LEN`; 128 before 6.1).
pub const KSYM_NAME_LEN: usize = 512;

/// Why a parent cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableParent {
    /// It has no symbols.
    #[error("{0} has no symbol table")]
    NoSymbols(ObjectName),
    /// A module must be relocatable, vmlinux must be linked.
    #[error("{0} is not the kind of file its name says")]
    WrongKind(ObjectName),
}

/// One symbol as the kernel would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counted from 1 among all symbols of this name.
    pub position: u32,
    /// The symbol in the parent's table.
    pub symbol: SymbolIndex,
    /// Address in vmlinux; offset into its section in a module.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Its type.
    pub kind: SymbolKind,
    /// Its binding.
    pub binding: Binding,
}

/// The local symbols that one source file brought along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBlock<'data> {
    /// Base name of the source file, `meminfo.c`.
    pub name: &'data str,
    first: u32,
    end: u32,
}

/// A parent with its symbols in the kernel's order.
#[derive(Debug)]
pub struct Parent<'data> {
    object: ObjectName,
    file: ElfFile<'data>,
    names: Names<'data>,
}

/// How symbols are found by name.
#[derive(Debug)]
enum Names<'data> {
    /// Collected from all symbols.
    Collected {
        by_name: HashMap<&'data str, Vec<SymbolIndex>>,
        // Defined globals; kallsyms leaves some of them out, the linker does not.
        globals: HashMap<&'data str, SymbolIndex>,
        blocks: Vec<FileBlock<'data>>,
    },
    /// Looked up in what was collected once.
    Indexed(Index<'data>),
}

impl<'data> Parent<'data> {
    /// Indexes `file`, the debug file of `object`.
    pub fn new(object: ObjectName, file: ElfFile<'data>) -> Result<Self, UnusableParent> {
        if object.is_vmlinux() == (file.kind == FileKind::Relocatable) {
            return Err(UnusableParent::WrongKind(object));
        }
        if file.symbols().is_empty() {
            return Err(UnusableParent::NoSymbols(object));
        }
        let mut counted: Vec<&Symbol<'data>> = if object.is_vmlinux() {
            let filter = |symbol: &&Symbol<'data>| counts_in_vmlinux(&file, symbol);
            file.symbols().iter().filter(filter).collect()
        } else {
            file.symbols()
                .iter()
                .filter(|symbol| counts_in_module(symbol))
                .collect()
        };
        if object.is_vmlinux() {
            // The kernel's own order among equal addresses differs; equal names at one address are
            // interchangeable, so positions do not.
            counted.sort_by_key(|symbol| (symbol.value, symbol.index));
        }
        let mut by_name: HashMap<_, Vec<_>> = HashMap::with_capacity(counted.len());
        for symbol in counted {
            by_name.entry(symbol.name).or_default().push(symbol.index);
        }
        let globals = file
            .symbols()
            .iter()
            .filter(|symbol| symbol.binding != Binding::Local && is_defined(symbol))
            .map(|symbol| (symbol.name, symbol.index))
            .collect();
        let blocks = blocks(file.symbols());
        Ok(Self {
            object,
            file,
            names: Names::Collected {
                by_name,
                globals,
                blocks,
            },
        })
    }

    /// Opens `file`, which [`ElfFile::parse_on_demand`] read, by the `index` made of the same bytes.
    pub fn indexed(
        object: ObjectName,
        file: ElfFile<'data>,
        index: Index<'data>,
    ) -> Result<Self, UnusableParent> {
        if object.is_vmlinux() == (file.kind == FileKind::Relocatable) {
            return Err(UnusableParent::WrongKind(object));
        }
        if file.symbol_count() == 0 {
            return Err(UnusableParent::NoSymbols(object));
        }
        Ok(Self {
            object,
            file,
            names: Names::Indexed(index),
        })
    }

    /// The symbols called `name` that count, in the kernel's order.
    fn counted(&self, name: &str) -> Cow<'_, [SymbolIndex]> {
        match &self.names {
            Names::Collected { by_name, .. } => by_name
                .get(name)
                .map_or(Cow::Borrowed(&[]), |found| Cow::Borrowed(found)),
            Names::Indexed(index) => Cow::Owned(index.counted(&self.file, name)),
        }
    }

    /// Which object this is.
    pub fn object(&self) -> &ObjectName {
        &self.object
    }

    /// The debug file itself.
    pub fn file(&self) -> &ElfFile<'data> {
        &self.file
    }

    /// Every symbol called `name`, in the kernel's order; empty if it knows none.
    pub fn positions(&self, name: &str) -> Vec<Position> {
        (1u32..)
            .zip(self.counted(name).iter())
            .filter_map(|(position, &index)| {
                let symbol = self.file.symbol(index)?;
                Some(Position {
                    position,
                    symbol: index,
                    address: symbol.value,
                    size: symbol.size,
                    kind: symbol.kind,
                    binding: symbol.binding,
                })
            })
            .collect()
    }

    /// What the kernel finds for `name` at `position`; 0 asks for a name that must be the only one.
    pub fn resolve(&self, name: &str, position: u32) -> Result<Position, Unresolved> {
        let found = self.positions(name);
        match (found.as_slice(), position) {
            ([], _) => Err(Unresolved::Unknown),
            ([only], 0) => Ok(*only),
            (_, 0) => Err(Unresolved::Ambiguous(found.len())),
            (_, _) => found
                .iter()
                .find(|found| found.position == position)
                .copied()
                .ok_or(Unresolved::NoSuchPosition(found.len())),
        }
    }

    /// The position to write for `symbol`: 0 if its name is unique, `None` if the kernel does not
    /// know it.
    pub fn sympos(&self, symbol: SymbolIndex) -> Option<u32> {
        let found = self.counted(self.file.symbol(symbol)?.name);
        let at = found.iter().position(|&index| index == symbol)?;
        if found.len() == 1 {
            Some(0)
        } else {
            u32::try_from(at.checked_add(1)?).ok()
        }
    }

    /// The defined global or weak symbol called `name`.
    pub fn global(&self, name: &str) -> Option<Symbol<'data>> {
        self.file.symbol(match &self.names {
            Names::Collected { globals, .. } => *globals.get(name)?,
            Names::Indexed(index) => index.global(&self.file, name)?,
        })
    }

    /// The source files called `name` that went into it, in link order: a base name may come more than
    /// once.
    pub fn files_called(&self, name: &str) -> Vec<FileBlock<'data>> {
        match &self.names {
            Names::Collected { blocks, .. } => {
                let called = |block: &&FileBlock<'data>| block.name == name;
                blocks.iter().filter(called).copied().collect()
            }
            Names::Indexed(index) => index.files_called(&self.file, name),
        }
    }

    /// The base names of all source files that went into it, sorted.
    pub fn file_names(&self) -> BTreeSet<&'data str> {
        match &self.names {
            Names::Collected { blocks, .. } => blocks.iter().map(|block| block.name).collect(),
            Names::Indexed(index) => index.file_names(&self.file),
        }
    }

    /// The local symbols of `block`, in file order.
    pub fn locals_of(
        &self,
        block: &FileBlock<'data>,
    ) -> impl Iterator<Item = Symbol<'data>> + use<'_, 'data> {
        // An index could say anything.
        let count = u32::try_from(self.file.symbol_count()).unwrap_or(u32::MAX);
        (block.first..block.end.min(count)).filter_map(|index| self.file.symbol(SymbolIndex(index)))
    }

    /// The first symbol by name that counts and whose name begins with `prefix`, if `is_wanted`.
    pub fn first_with_prefix(
        &self,
        prefix: &str,
        is_wanted: impl Fn(&Symbol<'data>) -> bool,
    ) -> Option<Symbol<'data>> {
        match &self.names {
            Names::Collected { by_name, .. } => by_name
                .iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .flat_map(|(_, found)| found)
                .filter_map(|&found| self.file.symbol(found))
                .filter(|symbol| is_wanted(symbol))
                .min_by_key(|symbol| (symbol.name, symbol.index)),
            Names::Indexed(index) => index
                .from(&self.file, prefix)
                .map_while(|found| self.file.symbol(found))
                .take_while(|symbol| symbol.name.starts_with(prefix))
                .find(|symbol| is_wanted(symbol)),
        }
    }
}

/// Why the kernel would not find a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No symbol has this name.
    #[error("not in the symbol table")]
    Unknown,
    /// Position 0 was asked for, and so many symbols have the name.
    #[error("{0} symbols have this name and no position is given")]
    Ambiguous(usize),
    /// Only so many symbols have the name.
    #[error("only {0} symbols have this name")]
    NoSuchPosition(usize),
}

fn is_defined(symbol: &Symbol<'_>) -> bool {
    matches!(symbol.place, Place::Section(_) | Place::Absolute)
}

/// Whether the kernel build puts this symbol of vmlinux into kallsyms (with `KALLSYMS_ALL`).
fn counts_in_vmlinux(file: &ElfFile<'_>, symbol: &Symbol<'_>) -> bool {
    // Left out by the kernel's build: export CRCs and strings, compiler labels, mapping symbols, type
    // hashes, and what would change between the link passes.
    const PREFIXES: [&str; 7] = [
        "$",
        ".L",
        "__crc_",
        "__kstrtab_",
        "__kstrtabns_",
        "__kcfi_typeid_",
        "__efistub_",
    ];
    let Place::Section(section) = symbol.place else {
        return false;
    };
    let listed = !matches!(symbol.kind, SymbolKind::Section | SymbolKind::File);
    let allocated = file.section(section).is_some_and(Section::is_allocated);
    listed
        && allocated
        && !symbol.name.is_empty()
        && symbol.name.len() < KSYM_NAME_LEN
        && symbol.name != "L0"
        && !symbol.name.starts_with("kallsyms_")
        && !PREFIXES
            .iter()
            .any(|prefix| symbol.name.starts_with(prefix))
}

/// Whether the module loader's lookup walks this symbol while the module is coming up. It walks every
/// defined one; section and file symbols carry no name a function could have.
fn counts_in_module(symbol: &Symbol<'_>) -> bool {
    !matches!(symbol.place, Place::Undefined)
        && !symbol.name.is_empty()
        && !matches!(symbol.kind, SymbolKind::Section | SymbolKind::File)
}

fn blocks<'data>(symbols: &[Symbol<'data>]) -> Vec<FileBlock<'data>> {
    let mut blocks: Vec<FileBlock<'data>> = Vec::new();
    let mut open: Option<FileBlock<'data>> = None;
    for symbol in symbols {
        let ends = symbol.kind == SymbolKind::File || symbol.binding != Binding::Local;
        if ends && let Some(block) = open.take() {
            blocks.push(FileBlock {
                end: symbol.index.0,
                ..block
            });
        }
        if symbol.kind == SymbolKind::File && !symbol.name.is_empty() {
            let next = symbol.index.0.saturating_add(1);
            open = Some(FileBlock {
                name: symbol.name,
                first: next,
                end: next,
            });
        }
    }
    if let Some(block) = open {
        let end = u32::try_from(symbols.len()).unwrap_or(block.first);
        blocks.push(FileBlock { end, ..block });
    }
    blocks
}
