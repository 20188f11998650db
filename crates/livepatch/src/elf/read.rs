//! Reading the tables.

use object::LittleEndian;
use object::elf;
use object::pod;

use super::{
    Binding, ElfFile, FileKind, MalformedObject, NAME_LIMIT, Place, SHN_LIVEPATCH, Section,
    SectionIndex, Symbol, SymbolIndex, SymbolKind, Symbols,
};

type Header = elf::FileHeader64<LittleEndian>;
type SectionHeader = elf::SectionHeader64<LittleEndian>;
type SymbolEntry = elf::Sym64<LittleEndian>;

const LE: LittleEndian = LittleEndian;

pub(super) fn parse(bytes: &[u8], on_demand: bool) -> Result<ElfFile<'_>, MalformedObject> {
    let (header, _) =
        pod::from_bytes::<Header>(bytes).map_err(|()| MalformedObject::Foreign("too short"))?;
    let kind = file_kind(header)?;
    let sections = read_sections(bytes, header)?;
    let mut tables = sections
        .iter()
        .filter(|section| section.kind == elf::SHT_SYMTAB.0);
    let table = tables.next();
    if tables.next().is_some() {
        return Err(fact("file", "two symbol tables"));
    }
    let symbols = match table {
        Some(table) => {
            let found = symbol_table(&sections, table)?;
            if on_demand {
                Symbols::OnDemand(found)
            } else {
                Symbols::Read(found.all()?)
            }
        }
        None => Symbols::Read(Vec::new()),
    };
    let symbol_table = table.map(|table| table.index);
    Ok(ElfFile {
        kind,
        bytes,
        sections,
        symbols,
        symbol_table,
    })
}

fn fact(place: &str, why: &'static str) -> MalformedObject {
    MalformedObject::Fact {
        place: place.to_owned(),
        why,
    }
}

fn bounds(place: &str, what: &'static str, offset: u64, bound: usize) -> MalformedObject {
    MalformedObject::Bounds {
        place: place.to_owned(),
        what,
        offset,
        bound: bound as u64,
    }
}

fn file_kind(header: &Header) -> Result<FileKind, MalformedObject> {
    let foreign = |why| Err(MalformedObject::Foreign(why));
    let ident = &header.e_ident;
    if ident.magic != elf::ELFMAG {
        return foreign("no ELF magic");
    }
    if ident.class != elf::ELFCLASS64 {
        return foreign("not 64-bit");
    }
    if ident.data != elf::ELFDATA2LSB {
        return foreign("not little-endian");
    }
    if header.e_machine.get(LE) != elf::EM_X86_64 {
        return foreign("another machine");
    }
    match header.e_type.get(LE) {
        elf::ET_REL => Ok(FileKind::Relocatable),
        elf::ET_EXEC => Ok(FileKind::Executable),
        elf::ET_DYN => Ok(FileKind::Shared),
        _ => foreign("neither relocatable nor linked"),
    }
}

fn read_sections<'data>(
    bytes: &'data [u8],
    header: &Header,
) -> Result<Vec<Section<'data>>, MalformedObject> {
    const PLACE: &str = "section header table";
    let start = header.e_shoff.get(LE);
    if start == 0 {
        return Err(fact(PLACE, "none"));
    }
    if usize::from(header.e_shentsize.get(LE)) != size_of::<SectionHeader>() {
        return Err(fact(PLACE, "its entries have an unknown size"));
    }
    let tail = usize::try_from(start)
        .ok()
        .and_then(|start| bytes.get(start..))
        .ok_or_else(|| bounds(PLACE, "its offset", start, bytes.len()))?;
    let (first, _) = pod::from_bytes::<SectionHeader>(tail)
        .map_err(|()| bounds(PLACE, "its offset", start, bytes.len()))?;
    // Numbers that do not fit 16 bits are kept in the null section.
    let count = match header.e_shnum.get(LE) {
        0 => first.sh_size.get(LE),
        count => u64::from(count),
    };
    let names = match header.e_shstrndx.get(LE) {
        elf::SHN_XINDEX => first.sh_link.get(LE),
        index => u32::from(index.0),
    };
    // `slice_from_bytes` refuses a count that the file cannot hold, so this allocates at most what it has.
    let headers = usize::try_from(count)
        .ok()
        .and_then(|count| pod::slice_from_bytes::<SectionHeader>(tail, count).ok())
        .ok_or_else(|| {
            let room = tail.len() / size_of::<SectionHeader>();
            bounds(PLACE, "section count", count, room)
        })?
        .0;
    let names = usize::try_from(names)
        .ok()
        .and_then(|index| headers.get(index))
        .ok_or_else(|| bounds(PLACE, "name section", names.into(), headers.len()))?;
    let names = content(bytes, "section names", names)?;
    let relocatable = header.e_type.get(LE) == elf::ET_REL;
    let mut sections = Vec::with_capacity(headers.len());
    for (index, header) in (0u32..).zip(headers) {
        let name = name_at(names, header.sh_name.get(LE), "section names")?;
        sections.push(Section {
            index: SectionIndex(index),
            name,
            kind: header.sh_type.get(LE).0,
            flags: header.sh_flags.get(LE).0,
            // Where a linker's script laid it out means nothing: offsets count from the section's start.
            address: match (relocatable, index) {
                (true, 1..) => 0,
                (true, 0) | (false, _) => header.sh_addr.get(LE),
            },
            offset: header.sh_offset.get(LE),
            size: header.sh_size.get(LE),
            link: header.sh_link.get(LE),
            info: header.sh_info.get(LE),
            alignment: header.sh_addralign.get(LE),
            entry_size: header.sh_entsize.get(LE),
            data: content(bytes, name, header)?,
        });
    }
    // Sections that share bytes could make readers hold a small file thousands of times.
    let held = sections.iter().fold(0_usize, |sum, section| {
        sum.saturating_add(section.data.len())
    });
    if held > bytes.len() {
        return Err(fact(PLACE, "sections overlap"));
    }
    Ok(sections)
}

fn content<'data>(
    bytes: &'data [u8],
    name: &str,
    header: &SectionHeader,
) -> Result<&'data [u8], MalformedObject> {
    let kind = header.sh_type.get(LE);
    if kind == elf::SHT_NOBITS || kind == elf::SHT_NULL {
        return Ok(&[]);
    }
    let start = header.sh_offset.get(LE);
    let end = start
        .checked_add(header.sh_size.get(LE))
        .ok_or_else(|| fact(name, "its end overflows"))?;
    usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or_else(|| bounds(name, "its end", end, bytes.len()))
}

fn name_at<'data>(
    table: &'data [u8],
    offset: u32,
    place: &str,
) -> Result<&'data str, MalformedObject> {
    // A file without names has an empty table, and everything in it is called "".
    if offset == 0 && table.is_empty() {
        return Ok("");
    }
    let tail = usize::try_from(offset)
        .ok()
        .and_then(|offset| table.get(offset..))
        .ok_or_else(|| bounds(place, "name", offset.into(), table.len()))?;
    let limit = tail.len().min(NAME_LIMIT);
    let name = tail
        .get(..limit)
        .and_then(|tail| tail.split(|&byte| byte == 0).next())
        .unwrap_or_default();
    if name.len() == limit {
        return Err(fact(place, "a name does not end"));
    }
    str::from_utf8(name).map_err(|_| fact(place, "a name is not UTF-8"))
}

/// Where the symbols of a table are, and what their entries may name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'data> {
    place: &'data str,
    entries: &'data [SymbolEntry],
    names_place: &'data str,
    names: &'data [u8],
    sections: usize,
    extended: Option<Section<'data>>,
}

fn symbol_table<'data>(
    sections: &[Section<'data>],
    table: &Section<'data>,
) -> Result<Table<'data>, MalformedObject> {
    let entries = pod::slice_from_all_bytes::<SymbolEntry>(table.data)
        .map_err(|()| fact(table.name, "its size is no multiple of a symbol"))?;
    let names = usize::try_from(table.link)
        .ok()
        .and_then(|link| sections.get(link))
        .ok_or_else(|| {
            bounds(
                table.name,
                "string table",
                table.link.into(),
                sections.len(),
            )
        })?;
    if names.kind != elf::SHT_STRTAB.0 {
        return Err(fact(table.name, "its names are not in a string table"));
    }
    let extended = sections
        .iter()
        .find(|section| section.kind == elf::SHT_SYMTAB_SHNDX.0 && section.link == table.index.0);
    Ok(Table {
        place: table.name,
        entries,
        names_place: names.name,
        names: names.data,
        sections: sections.len(),
        extended: extended.copied(),
    })
}

impl<'data> Table<'data> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reads all symbols, and checks each.
    fn all(&self) -> Result<Vec<Symbol<'data>>, MalformedObject> {
        let mut symbols = Vec::with_capacity(self.entries.len());
        for (index, entry) in (0u32..).zip(self.entries) {
            symbols.push(self.read(index, entry)?);
        }
        Ok(symbols)
    }

    /// Reads one symbol, if it is a proper one.
    pub(super) fn get(&self, index: usize) -> Option<Symbol<'data>> {
        let entry = self.entries.get(index)?;
        self.read(u32::try_from(index).ok()?, entry).ok()
    }

    /// The name of one symbol, if it has a proper one.
    pub(super) fn name(&self, index: usize) -> Option<&'data str> {
        let entry = self.entries.get(index)?;
        name_at(self.names, entry.st_name.get(LE), self.names_place).ok()
    }

    fn read(&self, index: u32, entry: &SymbolEntry) -> Result<Symbol<'data>, MalformedObject> {
        let place = match entry.st_shndx.get(LE) {
            elf::SHN_UNDEF => Place::Undefined,
            elf::SHN_ABS => Place::Absolute,
            elf::SHN_COMMON => Place::Common,
            elf::SHN_XINDEX => {
                let table = self
                    .extended
                    .ok_or_else(|| fact(self.place, "no table of extended section indices"))?;
                let bytes = table.bytes(u64::from(index) * 4, 4).ok_or_else(|| {
                    bounds(self.place, "symbol", index.into(), table.data.len() / 4)
                })?;
                let bytes = <[u8; 4]>::try_from(bytes).unwrap_or_default();
                self.in_section(u32::from_le_bytes(bytes))?
            }
            reserved if reserved.0 == SHN_LIVEPATCH => Place::Livepatch,
            reserved if reserved.is_reserved() => Place::Reserved(reserved.0),
            ordinary => self.in_section(u32::from(ordinary.0))?,
        };
        Ok(Symbol {
            index: SymbolIndex(index),
            name: name_at(self.names, entry.st_name.get(LE), self.names_place)?,
            place,
            value: entry.st_value.get(LE),
            size: entry.st_size.get(LE),
            kind: match entry.st_type() {
                elf::STT_NOTYPE => SymbolKind::None,
                elf::STT_OBJECT => SymbolKind::Object,
                elf::STT_FUNC => SymbolKind::Function,
                elf::STT_SECTION => SymbolKind::Section,
                elf::STT_FILE => SymbolKind::File,
                other => SymbolKind::Other(other.0),
            },
            binding: match entry.st_bind() {
                elf::STB_LOCAL => Binding::Local,
                elf::STB_GLOBAL => Binding::Global,
                elf::STB_WEAK => Binding::Weak,
                other => Binding::Other(other.0),
            },
        })
    }

    fn in_section(&self, index: u32) -> Result<Place, MalformedObject> {
        if usize::try_from(index).is_ok_and(|index| index < self.sections) {
            Ok(Place::Section(SectionIndex(index)))
        } else {
            Err(bounds(self.place, "section", index.into(), self.sections))
        }
    }
}
