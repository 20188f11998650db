//! Small objects for tests, with every field under the test's control.

use super::{
    Binding, Place, Relocation, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, SectionIndex, SymbolIndex,
    SymbolKind,
};

pub(crate) const ALLOC: u64 = 2;
pub(crate) const WRITE: u64 = 1;
pub(crate) const TEXT: u64 = 6;
pub(crate) const STRINGS: u64 = 0x32;
pub(crate) const KLP_RELA: u64 = SHF_RELA_LIVEPATCH | 0x40 | ALLOC;
pub(crate) const RELA: u64 = 0x40;

pub(crate) const R_64: u32 = 1;
pub(crate) const R_PC32: u32 = 2;
pub(crate) const R_PLT32: u32 = 4;
pub(crate) const R_32S: u32 = 11;

#[derive(Clone, Debug)]
pub(crate) struct FixtureSection {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) info: u32,
    pub(crate) alignment: u64,
    pub(crate) entry_size: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct FixtureSymbol {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) kind: SymbolKind,
    pub(crate) binding: Binding,
}

/// An object being put together. Section 0 and symbol 0 are there from the start.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    /// `e_type`: 1 relocatable, 2 linked.
    pub(crate) file_type: u16,
    pub(crate) sections: Vec<FixtureSection>,
    pub(crate) symbols: Vec<FixtureSymbol>,
}

impl Fixture {
    pub(crate) fn new(file_type: u16) -> Self {
        Self {
            file_type,
            sections: vec![FixtureSection {
                name: String::new(),
                kind: 0,
                flags: 0,
                address: 0,
                data: Vec::new(),
                info: 0,
                alignment: 16,
                entry_size: 0,
            }],
            symbols: vec![FixtureSymbol {
                name: String::new(),
                place: Place::Undefined,
                value: 0,
                size: 0,
                kind: SymbolKind::None,
                binding: Binding::Local,
            }],
        }
    }

    pub(crate) fn section(&mut self, name: &str, flags: u64, data: &[u8]) -> SectionIndex {
        self.section_at(name, flags, data, 0)
    }

    pub(crate) fn section_at(
        &mut self,
        name: &str,
        flags: u64,
        data: &[u8],
        address: u64,
    ) -> SectionIndex {
        let index = u32::try_from(self.sections.len()).unwrap();
        self.sections.push(FixtureSection {
            name: name.to_owned(),
            kind: 1,
            flags,
            address,
            data: data.to_vec(),
            info: 0,
            alignment: 16,
            entry_size: u64::from(flags & 0x30 == 0x30),
        });
        SectionIndex(index)
    }

    pub(crate) fn relocations(
        &mut self,
        name: &str,
        flags: u64,
        target: SectionIndex,
        relocations: &[Relocation],
    ) -> SectionIndex {
        let mut data = Vec::new();
        for relocation in relocations {
            data.extend(relocation.offset.to_le_bytes());
            let symbol = u64::from(relocation.symbol.0) << 32;
            data.extend((symbol | u64::from(relocation.kind)).to_le_bytes());
            data.extend(relocation.addend.to_le_bytes());
        }
        let index = self.section(name, flags, &data);
        let section = self.sections.last_mut().unwrap();
        section.kind = 4;
        section.info = target.0;
        section.entry_size = 24;
        index
    }

    pub(crate) fn file(&mut self, name: &str) -> SymbolIndex {
        self.push(
            name,
            Place::Absolute,
            0,
            0,
            SymbolKind::File,
            Binding::Local,
        )
    }

    pub(crate) fn section_symbol(&mut self, section: SectionIndex) -> SymbolIndex {
        let address = self.sections[section.0 as usize].address;
        self.push(
            "",
            Place::Section(section),
            address,
            0,
            SymbolKind::Section,
            Binding::Local,
        )
    }

    pub(crate) fn function(
        &mut self,
        name: &str,
        section: SectionIndex,
        value: u64,
        size: u64,
        binding: Binding,
    ) -> SymbolIndex {
        let place = Place::Section(section);
        self.push(name, place, value, size, SymbolKind::Function, binding)
    }

    pub(crate) fn object(
        &mut self,
        name: &str,
        section: SectionIndex,
        value: u64,
        size: u64,
        binding: Binding,
    ) -> SymbolIndex {
        let place = Place::Section(section);
        self.push(name, place, value, size, SymbolKind::Object, binding)
    }

    pub(crate) fn undefined(&mut self, name: &str) -> SymbolIndex {
        self.push(
            name,
            Place::Undefined,
            0,
            0,
            SymbolKind::None,
            Binding::Global,
        )
    }

    pub(crate) fn livepatch(&mut self, name: &str) -> SymbolIndex {
        self.push(
            name,
            Place::Livepatch,
            0,
            0,
            SymbolKind::None,
            Binding::Global,
        )
    }

    pub(crate) fn push(
        &mut self,
        name: &str,
        place: Place,
        value: u64,
        size: u64,
        kind: SymbolKind,
        binding: Binding,
    ) -> SymbolIndex {
        let index = u32::try_from(self.symbols.len()).unwrap();
        self.symbols.push(FixtureSymbol {
            name: name.to_owned(),
            place,
            value,
            size,
            kind,
            binding,
        });
        SymbolIndex(index)
    }

    /// Lays the file out: header, section contents, symbol table, names, section headers.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut names = vec![0];
        let mut table = Vec::new();
        for symbol in &self.symbols {
            let name = if symbol.name.is_empty() {
                0
            } else {
                let at = u32::try_from(names.len()).unwrap();
                names.extend(symbol.name.bytes());
                names.push(0);
                at
            };
            let kind = match symbol.kind {
                SymbolKind::None => 0,
                SymbolKind::Object => 1,
                SymbolKind::Function => 2,
                SymbolKind::Section => 3,
                SymbolKind::File => 4,
                SymbolKind::Other(other) => other,
            };
            let binding = match symbol.binding {
                Binding::Local => 0,
                Binding::Global => 1,
                Binding::Weak => 2,
                Binding::Other(other) => other,
            };
            let section = match symbol.place {
                Place::Undefined => 0,
                Place::Absolute => 0xfff1,
                Place::Common => 0xfff2,
                Place::Livepatch => SHN_LIVEPATCH,
                Place::Section(index) => u16::try_from(index.0).unwrap(),
                Place::Reserved(reserved) => reserved,
            };
            table.extend(name.to_le_bytes());
            table.push((binding << 4) | kind);
            table.push(0);
            table.extend(section.to_le_bytes());
            table.extend(symbol.value.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
        }
        let own = u32::try_from(self.sections.len()).unwrap();
        let locals = self
            .symbols
            .iter()
            .take_while(|symbol| symbol.binding == Binding::Local)
            .count();
        let mut sections = self.sections.clone();
        let tables = [
            (".symtab", 2, table, u32::try_from(locals).unwrap(), 24),
            (".strtab", 3, names, 0, 0),
            (".shstrtab", 3, Vec::new(), 0, 0),
        ];
        for (name, kind, data, info, entry_size) in tables {
            sections.push(FixtureSection {
                name: name.to_owned(),
                kind,
                flags: 0,
                address: 0,
                data,
                info,
                alignment: 16,
                entry_size,
            });
        }
        let mut section_names = vec![0];
        let offsets: Vec<u32> = sections
            .iter()
            .map(|section| {
                if section.name.is_empty() {
                    return 0;
                }
                let at = u32::try_from(section_names.len()).unwrap();
                section_names.extend(section.name.bytes());
                section_names.push(0);
                at
            })
            .collect();
        sections.last_mut().unwrap().data = section_names;

        let mut file = vec![0; 64];
        let mut headers = Vec::new();
        for (section, name) in sections.iter().zip(offsets) {
            file.resize(file.len().next_multiple_of(16), 0);
            let link = match section.kind {
                4 => own,
                2 => own + 1,
                _ => 0,
            };
            headers.extend(name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            headers.extend(section.flags.to_le_bytes());
            headers.extend(section.address.to_le_bytes());
            headers.extend((file.len() as u64).to_le_bytes());
            headers.extend((section.data.len() as u64).to_le_bytes());
            headers.extend(link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend(section.alignment.to_le_bytes());
            headers.extend(section.entry_size.to_le_bytes());
            file.extend(&section.data);
        }
        file.resize(file.len().next_multiple_of(16), 0);
        let start = file.len() as u64;
        file.extend(headers);
        file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file[16..18].copy_from_slice(&self.file_type.to_le_bytes());
        file[18..20].copy_from_slice(&62u16.to_le_bytes());
        file[20..24].copy_from_slice(&1u32.to_le_bytes());
        file[40..48].copy_from_slice(&start.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        let count = u16::try_from(sections.len()).unwrap();
        file[60..62].copy_from_slice(&count.to_le_bytes());
        file[62..64].copy_from_slice(&(count - 1).to_le_bytes());
        file
    }
}
