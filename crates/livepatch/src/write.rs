//! Writes relocatable ELF64 x86-64 files: byte for byte the same for the same input.

use object::LittleEndian as LE;
use object::elf;
use object::pod::bytes_of;
use object::{I64, U16, U32, U64};

use crate::elf::{SHF_RELA_LIVEPATCH, SHN_LIVEPATCH};

/// More sections than this need an extended table, which the kernel's loader does not read.
const SECTION_LIMIT: usize = 0xff00;

/// Larger alignments than a page are refused: the kernel's loader allots whole pages, and a file
/// would grow by as much.
pub const ALIGNMENT_LIMIT: u64 = 4096;

/// A relocation to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRelocation {
    /// Offset in its section.
    pub offset: u64,
    /// `R_X86_64_*`.
    pub kind: u32,
    /// Index in the list of symbols; 0 is "no symbol".
    pub symbol: usize,
    /// Addend.
    pub addend: i64,
}

/// A section to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutSection {
    /// Its name.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_addralign`, a power of two or 0.
    pub alignment: u64,
    /// `sh_entsize`.
    pub entry_size: u64,
    /// Bytes; for `SHT_NOBITS` only `size` counts.
    pub data: Vec<u8>,
    /// Bytes in memory.
    pub size: u64,
    /// Relocations the loader applies at once.
    pub relocations: Vec<OutRelocation>,
    /// Relocations the livepatch core applies, by patched object.
    pub livepatch: Vec<(String, Vec<OutRelocation>)>,
}

/// Where a symbol to write is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutPlace {
    /// Elsewhere.
    Undefined,
    /// A fixed value.
    Absolute,
    /// Resolved by the livepatch core.
    Livepatch,
    /// In a section, by index in the list of sections.
    Section(usize),
}

/// A symbol to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutSymbol {
    /// Its name; empty for section symbols.
    pub name: String,
    /// Where it is defined.
    pub place: OutPlace,
    /// Offset in its section.
    pub value: u64,
    /// Bytes.
    pub size: u64,
    /// `STT_*`.
    pub kind: u8,
    /// `STB_*`.
    pub binding: u8,
}

/// Why a file could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The kernel reads no extended section table.
    #[error("{0} sections are more than a module may have")]
    TooManySections(usize),
    /// No loader would place a section like that.
    #[error("section {section} wants to be aligned to {alignment:#x}")]
    Alignment {
        /// The section.
        section: String,
        /// Its `sh_addralign`.
        alignment: u64,
    },
}

/// Writes sections (without the null section) and symbols (without the null symbol; index 1 is the
/// first) as one relocatable file. Local symbols are moved to the front, as ELF demands.
pub fn relocatable(sections: &[OutSection], symbols: &[OutSymbol]) -> Result<Vec<u8>, WriteError> {
    let odd = sections.iter().find(|section| {
        section.alignment > ALIGNMENT_LIMIT
            || section.alignment != 0 && !section.alignment.is_power_of_two()
    });
    if let Some(section) = odd {
        let (section, alignment) = (section.name.clone(), section.alignment);
        return Err(WriteError::Alignment { section, alignment });
    }
    let mut order: Vec<usize> = (0..symbols.len()).collect();
    order.sort_by_key(|&index| symbols.get(index).is_some_and(|symbol| symbol.binding != 0));
    let locals = symbols.iter().filter(|symbol| symbol.binding == 0).count();
    let mut new_index = vec![0_u32; symbols.len() + 1];
    for (place, &old) in order.iter().enumerate() {
        if let Some(index) = new_index.get_mut(old + 1) {
            *index = narrow(place + 1);
        }
    }

    let mut body = Body::default();
    for section in sections {
        body.data(section);
    }
    let tables: usize = sections
        .iter()
        .map(|section| usize::from(!section.relocations.is_empty()) + section.livepatch.len())
        .sum();
    let symtab = sections.len() + tables + 1;
    if symtab + 3 >= SECTION_LIMIT {
        return Err(WriteError::TooManySections(symtab + 3));
    }
    for (index, section) in sections.iter().enumerate() {
        let mut table = |name: String, flags: u64, list: &[OutRelocation]| {
            let mut bytes = Vec::with_capacity(list.len() * 24);
            for entry in list {
                let symbol = new_index.get(entry.symbol).copied().unwrap_or(0);
                let rela = elf::Rela64::<LE> {
                    r_offset: U64::new(LE, entry.offset),
                    r_info: U64::new(LE, u64::from(symbol) << 32 | u64::from(entry.kind)),
                    r_addend: I64::new(LE, entry.addend),
                };
                bytes.extend_from_slice(bytes_of(&rela));
            }
            body.raw(
                &name,
                elf::SHT_RELA.0,
                flags,
                &bytes,
                [narrow(symtab), narrow(index + 1)],
                8,
                24,
            );
        };
        let info_link = elf::SHF_INFO_LINK.0;
        if !section.relocations.is_empty() {
            table(
                format!(".rela{}", section.name),
                info_link,
                &section.relocations,
            );
        }
        let alloc = elf::SHF_ALLOC.0;
        for (object, list) in &section.livepatch {
            let name = format!(".klp.rela.{object}.{}", section.name);
            table(name, info_link | alloc | SHF_RELA_LIVEPATCH, list);
        }
    }
    let mut names = vec![0_u8];
    let mut table = vec![0_u8; 24];
    for &old in &order {
        let Some(symbol) = symbols.get(old) else {
            continue;
        };
        let entry = elf::Sym64::<LE> {
            st_name: U32::new(LE, add_name(&mut names, &symbol.name)),
            st_info: elf::SymbolInfo(symbol.binding << 4 | (symbol.kind & 0xf)),
            st_other: elf::SymbolOther(0),
            st_shndx: U16::new(
                LE,
                elf::SymbolSection(match symbol.place {
                    OutPlace::Undefined => 0,
                    OutPlace::Absolute => 0xfff1,
                    OutPlace::Livepatch => SHN_LIVEPATCH,
                    OutPlace::Section(index) => u16::try_from(index + 1).unwrap_or(u16::MAX),
                }),
            ),
            st_value: U64::new(LE, symbol.value),
            st_size: U64::new(LE, symbol.size),
        };
        table.extend_from_slice(bytes_of(&entry));
    }
    let links = [narrow(symtab + 1), narrow(locals + 1)];
    body.raw(".symtab", elf::SHT_SYMTAB.0, 0, &table, links, 8, 24);
    body.raw(".strtab", elf::SHT_STRTAB.0, 0, &names, [0, 0], 1, 0);
    Ok(body.finish())
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn add_name(names: &mut Vec<u8>, name: &str) -> u32 {
    if name.is_empty() {
        return 0;
    }
    let at = narrow(names.len());
    names.extend_from_slice(name.as_bytes());
    names.push(0);
    at
}

/// The file's bytes so far and the headers of what is in them.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    headers: Vec<elf::SectionHeader64<LE>>,
    names: Vec<u8>,
}

impl Body {
    fn align(&mut self, alignment: u64) {
        let alignment = usize::try_from(alignment.max(1)).unwrap_or(1);
        if self.bytes.is_empty() {
            self.bytes.resize(64, 0);
        }
        self.bytes
            .resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    fn data(&mut self, section: &OutSection) {
        let bytes = if section.kind == elf::SHT_NOBITS.0 {
            &[][..]
        } else {
            section.data.as_slice()
        };
        self.header(section, bytes, [0, 0]);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a section header")]
    fn raw(
        &mut self,
        name: &str,
        kind: u32,
        flags: u64,
        bytes: &[u8],
        links: [u32; 2],
        alignment: u64,
        entry_size: u64,
    ) {
        let section = OutSection {
            name: name.to_owned(),
            kind,
            flags,
            alignment,
            entry_size,
            size: bytes.len() as u64,
            ..OutSection::default()
        };
        self.header(&section, bytes, links);
    }

    fn header(&mut self, section: &OutSection, bytes: &[u8], [link, info]: [u32; 2]) {
        if self.names.is_empty() {
            self.names.push(0);
        }
        self.align(section.alignment);
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        self.headers.push(elf::SectionHeader64 {
            sh_name: U32::new(LE, add_name(&mut self.names, &section.name)),
            sh_type: U32::new(LE, elf::SectionType(section.kind)),
            sh_flags: U64::new(LE, elf::SectionFlags(section.flags)),
            sh_addr: U64::new(LE, 0),
            sh_offset: U64::new(LE, offset),
            sh_size: U64::new(LE, section.size),
            sh_link: U32::new(LE, link),
            sh_info: U32::new(LE, info),
            sh_addralign: U64::new(LE, section.alignment),
            sh_entsize: U64::new(LE, section.entry_size),
        });
    }

    fn finish(mut self) -> Vec<u8> {
        let at = add_name(&mut self.names, ".shstrtab");
        let names = std::mem::take(&mut self.names);
        self.names = vec![0];
        self.raw("", elf::SHT_STRTAB.0, 0, &names, [0, 0], 1, 0);
        if let Some(last) = self.headers.last_mut() {
            last.sh_name = U32::new(LE, at);
        }
        self.align(8);
        let table = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&[0; 64]);
        for header in &self.headers {
            self.bytes.extend_from_slice(bytes_of(header));
        }
        let count = u16::try_from(self.headers.len() + 1).unwrap_or(u16::MAX);
        let mut e_ident = elf::Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        };
        e_ident.abi_version = 0;
        let header = elf::FileHeader64::<LE> {
            e_ident,
            e_type: U16::new(LE, elf::ET_REL),
            e_machine: U16::new(LE, elf::EM_X86_64),
            e_version: U32::new(LE, u32::from(elf::EV_CURRENT.0)),
            e_entry: U64::new(LE, 0),
            e_phoff: U64::new(LE, 0),
            e_shoff: U64::new(LE, table),
            e_flags: U32::new(LE, elf::FileFlags(0)),
            e_ehsize: U16::new(LE, 64),
            e_phentsize: U16::new(LE, 0),
            e_phnum: U16::new(LE, 0),
            e_shentsize: U16::new(LE, 64),
            e_shnum: U16::new(LE, count),
            e_shstrndx: U16::new(LE, elf::SymbolSection(count.saturating_sub(1))),
        };
        if let Some(start) = self.bytes.get_mut(..64) {
            start.copy_from_slice(bytes_of(&header));
        }
        self.bytes
    }
}
