//! A relocatable object taken apart, changed and put together again, by the file format alone.

/// A section with the fields of its header.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    size: u64,
    link: u32,
    pub(crate) info: u32,
    pub(super) alignment: u64,
    entry_size: u64,
    pub(crate) data: Vec<u8>,
}

/// A symbol as it lies in the table.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    info: u8,
    other: u8,
    pub(crate) section: u16,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

/// One entry of a relocation table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) symbol: u32,
    pub(crate) kind: u32,
    pub(crate) addend: i64,
}

/// The object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    header: Vec<u8>,
    pub(crate) sections: Vec<Section>,
    pub(crate) symbols: Vec<Symbol>,
}

const NOBITS: u32 = 8;

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}
fn place(value: u64) -> usize {
    usize::try_from(value).unwrap()
}
fn text(bytes: &[u8], at: u32) -> String {
    let rest = &bytes[place(at.into())..];
    let end = rest.iter().position(|&byte| byte == 0).unwrap();
    String::from_utf8(rest[..end].to_vec()).unwrap()
}

impl Object {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let headers = place(u64_at(bytes, 0x28));
        let header = |index: usize| &bytes[headers + index * 64..headers + (index + 1) * 64];
        let data = |header: &[u8]| {
            let (start, size) = (place(u64_at(header, 24)), place(u64_at(header, 32)));
            bytes[start..start + size].to_vec()
        };
        let names = data(header(u16_at(bytes, 0x3e).into()));
        let sections: Vec<Section> = (0..usize::from(u16_at(bytes, 0x3c)))
            .map(header)
            .map(|header| Section {
                name: text(&names, u32_at(header, 0)),
                kind: u32_at(header, 4),
                flags: u64_at(header, 8),
                size: u64_at(header, 32),
                link: u32_at(header, 40),
                info: u32_at(header, 44),
                alignment: u64_at(header, 48),
                entry_size: u64_at(header, 56),
                data: match u32_at(header, 4) {
                    0 | NOBITS => Vec::new(),
                    _ => data(header),
                },
            })
            .collect();
        let table = sections.iter().find(|section| section.kind == 2).unwrap();
        let strings = &sections[place(table.link.into())].data;
        let symbols = table
            .data
            .chunks_exact(24)
            .map(|entry| Symbol {
                name: text(strings, u32_at(entry, 0)),
                info: entry[4],
                other: entry[5],
                section: u16_at(entry, 6),
                value: u64_at(entry, 8),
                size: u64_at(entry, 16),
            })
            .collect();
        Self {
            header: bytes[..64].to_vec(),
            sections,
            symbols,
        }
    }

    pub(crate) fn write(mut self) -> Vec<u8> {
        let table = self.index(|section| section.kind == 2);
        let strings = place(self.sections[table].link.into());
        let mut names = vec![0];
        let mut entries = Vec::new();
        for symbol in &self.symbols {
            entries.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
            names.extend(symbol.name.bytes().chain([0]));
            entries.extend([symbol.info, symbol.other]);
            entries.extend(symbol.section.to_le_bytes());
            entries.extend(symbol.value.to_le_bytes());
            entries.extend(symbol.size.to_le_bytes());
        }
        self.sections[table].data = entries;
        self.sections[strings].data = names;
        let named = usize::from(u16_at(&self.header, 0x3e));
        let mut names = vec![0];
        let mut starts = Vec::new();
        for section in &self.sections {
            starts.push(u32::try_from(names.len()).unwrap());
            names.extend(section.name.bytes().chain([0]));
        }
        self.sections[named].data = names;
        let mut bytes = self.header.clone();
        let mut headers = Vec::new();
        for (section, name) in self.sections.iter().zip(starts) {
            bytes.resize(
                bytes
                    .len()
                    .next_multiple_of(place(section.alignment.max(1))),
                0,
            );
            let size = match section.kind {
                0 | NOBITS => section.size,
                _ => section.data.len() as u64,
            };
            headers.extend(name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            headers.extend(section.flags.to_le_bytes());
            headers.extend(0u64.to_le_bytes());
            headers.extend((bytes.len() as u64).to_le_bytes());
            headers.extend(size.to_le_bytes());
            headers.extend(section.link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend(section.alignment.to_le_bytes());
            headers.extend(section.entry_size.to_le_bytes());
            bytes.extend(&section.data);
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let at = (bytes.len() as u64).to_le_bytes();
        bytes[0x28..0x30].copy_from_slice(&at);
        bytes.extend(headers);
        bytes
    }

    fn index(&self, wanted: impl Fn(&Section) -> bool) -> usize {
        self.sections.iter().position(wanted).unwrap()
    }

    pub(crate) fn section(&mut self, name: &str) -> &mut Section {
        let index = self.index(|section| section.name == name);
        &mut self.sections[index]
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.sections.iter().any(|section| section.name == name)
    }

    /// The first symbol whose name begins so, and its index.
    pub(crate) fn symbol(&self, prefix: &str) -> usize {
        let found = self.symbols.iter();
        found
            .into_iter()
            .position(|symbol| symbol.name.starts_with(prefix))
            .unwrap_or_else(|| panic!("no symbol {prefix}"))
    }

    /// Changes the entries of the table called `name`.
    pub(crate) fn relocations(&mut self, name: &str, change: impl FnOnce(&mut Vec<Entry>)) {
        let table = self.section(name);
        let mut entries: Vec<Entry> = table
            .data
            .chunks_exact(24)
            .map(|entry| Entry {
                offset: u64_at(entry, 0),
                kind: u32_at(entry, 8),
                symbol: u32_at(entry, 12),
                addend: u64_at(entry, 16).cast_signed(),
            })
            .collect();
        change(&mut entries);
        table.data = entries
            .iter()
            .flat_map(|entry| {
                let mut bytes = entry.offset.to_le_bytes().to_vec();
                bytes.extend(entry.kind.to_le_bytes());
                bytes.extend(entry.symbol.to_le_bytes());
                bytes.extend(entry.addend.to_le_bytes());
                bytes
            })
            .collect();
    }

    /// Takes the last entry of a table of `size` bytes and its relocation.
    pub(crate) fn drop_last(&mut self, name: &str, size: usize) {
        let data = &mut self.section(name).data;
        data.truncate(data.len() - size);
        let end = data.len() as u64;
        self.relocations(&format!(".rela{name}"), |entries| {
            entries.retain(|entry| entry.offset < end);
        });
    }

    /// Replaces a line of `.modinfo` by its beginning, or adds one.
    pub(crate) fn info(&mut self, prefix: &str, line: &str) {
        let section = self.section(".modinfo");
        let mut lines: Vec<Vec<u8>> = section
            .data
            .split(|&byte| byte == 0)
            .filter(|line| !line.is_empty() && !line.starts_with(prefix.as_bytes()))
            .map(<[u8]>::to_vec)
            .collect();
        lines.extend((!line.is_empty()).then(|| line.as_bytes().to_vec()));
        section.data = lines.join(&0);
        section.data.push(0);
    }
}
