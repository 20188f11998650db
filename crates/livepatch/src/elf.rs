//! A bounds-checked view of a little-endian x86-64 ELF64 file, relocatable or linked.
//!
//! The file is hostile: every table, name and index is checked once, here, so that readers above deal
//! with sections, symbols and relocations only.

use std::fmt;

use object::LittleEndian;
use object::elf;
use object::pod;
use symbols::Symbols;

#[cfg(test)]
pub(crate) mod fixture;
mod read;
mod symbols;

#[cfg(test)]
mod tests;

/// Names longer than this are refused: the kernel's own limit is 512.
pub const NAME_LIMIT: usize = 4096;
/// `SHF_RELA_LIVEPATCH`: a relocation section the kernel's livepatch core applies.
pub const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
/// `SHN_LIVEPATCH`: a symbol the kernel's livepatch core resolves.
pub const SHN_LIVEPATCH: u16 = 0xff20;

/// Why a file is not a usable object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedObject {
    /// Something lies outside what contains it.
    #[error("malformed object: {place}: {what} {offset:#x} is beyond {bound:#x}")]
    Bounds {
        /// Section, or part of the file.
        place: String,
        /// What points there.
        what: &'static str,
        /// Where it points.
        offset: u64,
        /// The first value that is too large.
        bound: u64,
    },
    /// A fact that does not hold for any object we read.
    #[error("malformed object: {place}: {why}")]
    Fact {
        /// Section, or part of the file.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not an ELF64 x86-64 little-endian file.
    #[error("not an x86-64 object: {0}")]
    Foreign(&'static str),
}

/// Index of a section in its file's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionIndex(pub u32);

/// Index of a symbol in its file's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolIndex(pub u32);

impl fmt::Display for SectionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "section {}", self.0)
    }
}

impl fmt::Display for SymbolIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "symbol {}", self.0)
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `ET_REL`: a unit's object or a module.
    Relocatable,
    /// `ET_EXEC`: a vmlinux.
    Executable,
    /// `ET_DYN`: a relocatable vmlinux, or a shared object.
    Shared,
}

/// One section header with its name and bytes.
#[derive(Clone, Copy, Debug)]
pub struct Section<'data> {
    /// Its own index.
    pub index: SectionIndex,
    /// Its name.
    pub name: &'data str,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_addr`; taken as zero in relocatable files, whatever a linker's script left there.
    pub address: u64,
    /// `sh_offset`, where its bytes start in the file.
    pub offset: u64,
    /// Bytes in memory.
    pub size: u64,
    /// `sh_link`.
    pub link: u32,
    /// `sh_info`.
    pub info: u32,
    /// `sh_addralign`.
    pub alignment: u64,
    /// `sh_entsize`.
    pub entry_size: u64,
    /// The bytes in the file; empty for `SHT_NOBITS`.
    pub data: &'data [u8],
}

impl<'data> Section<'data> {
    /// Whether it takes memory at run time (`SHF_ALLOC`).
    pub fn is_allocated(&self) -> bool {
        self.flags & elf::SHF_ALLOC.0 != 0
    }

    /// Whether it holds instructions (`SHF_EXECINSTR`).
    pub fn is_executable(&self) -> bool {
        self.flags & elf::SHF_EXECINSTR.0 != 0
    }

    /// Whether it holds NUL-terminated strings (`SHF_STRINGS`).
    pub fn is_strings(&self) -> bool {
        self.flags & elf::SHF_STRINGS.0 != 0
    }

    /// Whether the linker may merge its entries (`SHF_MERGE`).
    pub fn is_mergeable(&self) -> bool {
        self.flags & elf::SHF_MERGE.0 != 0
    }

    /// Whether it is a relocation section for the kernel's livepatch core.
    pub fn is_livepatch(&self) -> bool {
        self.flags & SHF_RELA_LIVEPATCH != 0
    }

    /// Whether it is a table of relocations with addends.
    pub fn is_rela(&self) -> bool {
        self.kind == elf::SHT_RELA.0
    }

    /// Whether it has no bytes in the file.
    pub fn is_nobits(&self) -> bool {
        self.kind == elf::SHT_NOBITS.0
    }

    /// Returns `length` bytes from `offset`, if the section has them in the file.
    pub fn bytes(&self, offset: u64, length: u64) -> Option<&'data [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.data.get(start..end)
    }

    /// Returns the NUL-terminated string at `offset`, without its NUL.
    pub fn string(&self, offset: u64) -> Option<&'data [u8]> {
        let tail = self.data.get(usize::try_from(offset).ok()?..)?;
        let end = tail.iter().position(|&byte| byte == 0)?;
        tail.get(..end)
    }

    /// Returns the whole string that holds `offset`, with its terminator, and where in it that is;
    /// its characters are as wide as the section's entries.
    ///
    /// Code that names the middle of a string may read it from its start, too.
    pub fn text(&self, offset: u64) -> Option<(&'data [u8], u64)> {
        let width = usize::try_from(self.entry_size.max(1)).ok()?;
        let at = usize::try_from(offset).ok()?;
        let is_end = |character: &[u8]| character.iter().all(|&byte| byte == 0);
        let whole = at.checked_sub(at.checked_rem(width)?)?;
        let before = self.data.get(..whole)?.rchunks_exact(width);
        let length = before.take_while(|character| !is_end(character)).count();
        let start = whole.checked_sub(length.checked_mul(width)?)?;
        let tail = self.data.get(start..)?;
        let end = tail.chunks_exact(width).position(is_end)?;
        let text = tail.get(..end.checked_add(1)?.checked_mul(width)?)?;
        let inside = at.checked_sub(start)?;
        (inside < text.len()).then_some((text, inside as u64))
    }
}

/// Where a symbol is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nowhere in this file.
    Undefined,
    /// A fixed value.
    Absolute,
    /// Not yet allocated common storage.
    Common,
    /// Resolved by the kernel's livepatch core.
    Livepatch,
    /// In a section of this file.
    Section(SectionIndex),
    /// Another reserved index.
    Reserved(u16),
}

/// A symbol's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SymbolKind {
    /// `STT_NOTYPE`.
    None,
    /// `STT_OBJECT`.
    Object,
    /// `STT_FUNC`.
    Function,
    /// `STT_SECTION`.
    Section,
    /// `STT_FILE`.
    File,
    /// Any other type, by number.
    Other(u8),
}

/// A symbol's binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binding {
    /// `STB_LOCAL`.
    Local,
    /// `STB_GLOBAL`.
    Global,
    /// `STB_WEAK`.
    Weak,
    /// Any other binding, by number.
    Other(u8),
}

/// One symbol.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'data> {
    /// Its own index.
    pub index: SymbolIndex,
    /// Its name; empty for most section symbols.
    pub name: &'data str,
    /// Where it is defined.
    pub place: Place,
    /// `st_value`: an offset into its section in relocatable files, else an address.
    pub value: u64,
    /// `st_size` in bytes.
    pub size: u64,
    /// Its type.
    pub kind: SymbolKind,
    /// Its binding.
    pub binding: Binding,
}

impl Symbol<'_> {
    /// The section it is defined in.
    pub fn section(&self) -> Option<SectionIndex> {
        match self.place {
            Place::Section(index) => Some(index),
            Place::Undefined
            | Place::Absolute
            | Place::Common
            | Place::Livepatch
            | Place::Reserved(_) => None,
        }
    }
}

/// One relocation with addend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Offset into the target section in relocatable files, else an address.
    pub offset: u64,
    /// The symbol; checked to be in the table. Index 0 is "no symbol".
    pub symbol: SymbolIndex,
    /// `R_X86_64_*`.
    pub kind: u32,
    /// What to add to the symbol's value.
    pub addend: i64,
}

impl Relocation {
    /// Bytes of the relocated field, or `None` for a type that an x86-64 kernel object never holds.
    pub fn width(&self) -> Option<u64> {
        match self.kind {
            0 => Some(0),
            // R_X86_64_64, R_X86_64_PC64
            1 | 24 => Some(8),
            // PC32, PLT32, 32, 32S
            2 | 4 | 10 | 11 => Some(4),
            _ => None,
        }
    }

    /// Whether the field holds a distance from itself.
    pub fn is_relative(&self) -> bool {
        matches!(self.kind, 2 | 4 | 24)
    }
}

/// A checked file.
#[derive(Debug)]
pub struct ElfFile<'data> {
    /// What kind of file it is.
    pub kind: FileKind,
    bytes: &'data [u8],
    sections: Vec<Section<'data>>,
    symbols: Symbols<'data>,
    symbol_table: Option<SectionIndex>,
}

impl<'data> ElfFile<'data> {
    /// Reads the section and symbol tables of `bytes`.
    pub fn parse(bytes: &'data [u8]) -> Result<Self, MalformedObject> {
        read::parse(bytes, false)
    }

    /// Like [`ElfFile::parse`], with each symbol read and checked when it is asked for: for large
    /// files of which few symbols matter. One that is not proper is then not there, and
    /// [`ElfFile::symbols`] gives none.
    pub fn parse_on_demand(bytes: &'data [u8]) -> Result<Self, MalformedObject> {
        read::parse(bytes, true)
    }

    /// The whole file.
    pub fn bytes(&self) -> &'data [u8] {
        self.bytes
    }

    /// All sections, by index; the first is the null section.
    pub fn sections(&self) -> &[Section<'data>] {
        &self.sections
    }

    /// One section.
    pub fn section(&self, index: SectionIndex) -> Option<&Section<'data>> {
        self.sections.get(usize::try_from(index.0).ok()?)
    }

    /// The first section called `name`.
    pub fn section_named(&self, name: &str) -> Option<&Section<'data>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// All symbols, by index; the first is the null symbol. None of a file that
    /// [`ElfFile::parse_on_demand`] read: there each is asked for.
    pub fn symbols(&self) -> &[Symbol<'data>] {
        self.symbols.read()
    }

    /// How many symbols there are, the null symbol among them.
    pub fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    /// The name of one symbol.
    pub fn symbol_name(&self, index: SymbolIndex) -> Option<&'data str> {
        self.symbols.name(usize::try_from(index.0).ok()?)
    }

    /// One symbol.
    pub fn symbol(&self, index: SymbolIndex) -> Option<Symbol<'data>> {
        self.symbols.get(usize::try_from(index.0).ok()?)
    }

    /// The section that is the symbol table.
    pub fn symbol_table(&self) -> Option<SectionIndex> {
        self.symbol_table
    }

    /// The relocations that `section` holds, in file order; symbols are in the table, offsets are not
    /// checked.
    pub fn relocations(
        &self,
        section: &Section<'data>,
    ) -> Result<Vec<Relocation>, MalformedObject> {
        let fact = |why| MalformedObject::Fact {
            place: section.name.to_owned(),
            why,
        };
        if !section.is_rela() {
            return Err(fact("not a table of relocations"));
        }
        if Some(SectionIndex(section.link)) != self.symbol_table {
            return Err(fact("its symbols are not this file's symbol table"));
        }
        let entries = pod::slice_from_all_bytes::<elf::Rela64<LittleEndian>>(section.data)
            .map_err(|()| fact("its size is no multiple of a relocation"))?;
        entries
            .iter()
            .map(|entry| {
                let symbol = SymbolIndex(entry.r_sym(LittleEndian, false));
                if self.symbol(symbol).is_none() && symbol.0 != 0 {
                    return Err(MalformedObject::Bounds {
                        place: section.name.to_owned(),
                        what: "symbol",
                        offset: u64::from(symbol.0),
                        bound: self.symbols.len() as u64,
                    });
                }
                Ok(Relocation {
                    offset: entry.r_offset.get(LittleEndian),
                    symbol,
                    kind: entry.r_type(LittleEndian, false).0,
                    addend: entry.r_addend.get(LittleEndian),
                })
            })
            .collect()
    }

    /// The relocation sections that apply to `target`, in file order.
    pub fn relocation_sections(
        &self,
        target: SectionIndex,
    ) -> impl Iterator<Item = &Section<'data>> {
        self.sections
            .iter()
            .filter(move |section| section.is_rela() && section.info == target.0)
    }
}

/// Reads everything that can be read of `bytes`; for fuzzing. Never panics.
pub fn read_everything(bytes: &[u8]) {
    let Ok(file) = ElfFile::parse(bytes) else {
        return;
    };
    for section in file.sections() {
        if section.is_rela() {
            file.relocations(section).ok();
        }
        section.string(section.size / 2);
        section.bytes(section.offset, section.size);
        file.relocation_sections(section.index).count();
    }
}
