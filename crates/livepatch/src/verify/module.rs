//! A module with its relocations read and its modinfo split.

use std::collections::BTreeMap;

use crate::elf::{
    ElfFile, MalformedObject, Place, Relocation, Section, SectionIndex, Symbol, SymbolKind,
};

/// A place in one of the module's own sections.
pub(super) type Spot = (SectionIndex, u64);

/// A relocation section with what it holds.
#[derive(Debug)]
pub(super) struct RelocationTable<'data> {
    pub(super) section: Section<'data>,
    pub(super) target: Section<'data>,
    pub(super) entries: Vec<Relocation>,
}

#[derive(Debug)]
pub(super) struct Module<'data> {
    pub(super) file: ElfFile<'data>,
    /// Relocation sections of allocated sections, in the order the loader applies them.
    pub(super) tables: Vec<RelocationTable<'data>>,
    info: Vec<(&'data str, &'data str)>,
    lines: Vec<String>,
    functions: BTreeMap<SectionIndex, Vec<Symbol<'data>>>,
}

impl<'data> Module<'data> {
    pub(super) fn read(bytes: &'data [u8]) -> Result<Self, MalformedObject> {
        let file = ElfFile::parse(bytes)?;
        let mut tables = Vec::new();
        for section in file.sections().iter().filter(|section| section.is_rela()) {
            let target = file.section(SectionIndex(section.info));
            let Some(target) = target.filter(|target| target.is_allocated()) else {
                continue;
            };
            tables.push(RelocationTable {
                section: *section,
                target: *target,
                entries: file.relocations(section)?,
            });
        }
        let lines = file
            .section_named(".modinfo")
            .map(|section| section.data)
            .unwrap_or_default()
            .split(|&byte| byte == 0)
            .filter(|line| !line.is_empty());
        let info = lines
            .clone()
            .filter_map(|line| str::from_utf8(line).ok()?.split_once('='))
            .collect();
        let lines = lines
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        let mut functions: BTreeMap<SectionIndex, Vec<Symbol<'data>>> = BTreeMap::new();
        for symbol in file.symbols() {
            if let Some(section) = symbol.section()
                && symbol.kind == SymbolKind::Function
                && file.section(section).is_some_and(Section::is_executable)
            {
                functions.entry(section).or_default().push(*symbol);
            }
        }
        for symbols in functions.values_mut() {
            symbols.sort_by_key(|symbol| (symbol.value, symbol.index));
        }
        Ok(Self {
            file,
            tables,
            info,
            lines,
            functions,
        })
    }

    /// The first value of a modinfo key.
    pub(super) fn info(&self, key: &str) -> Option<&'data str> {
        self.infos(key).next()
    }

    /// Every value of a modinfo key.
    pub(super) fn infos<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'data str> + 'a {
        self.info
            .iter()
            .filter(move |(found, _)| *found == key)
            .map(|(_, value)| *value)
    }

    /// Every line of modinfo, with or without a key.
    pub(super) fn info_lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The functions of each executable section, by offset.
    pub(super) fn functions(&self) -> &BTreeMap<SectionIndex, Vec<Symbol<'data>>> {
        &self.functions
    }

    /// Relocations that change the section called `name`, whoever applies them.
    pub(super) fn relocations_of<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Relocation> {
        self.tables
            .iter()
            .filter(move |table| table.target.name == name)
            .flat_map(|table| &table.entries)
            .filter(|relocation| relocation.width() != Some(0))
    }

    /// The place in this module that a relocation refers to, as an absolute pointer would.
    pub(super) fn spot(&self, relocation: &Relocation) -> Option<Spot> {
        let symbol = self.file.symbol(relocation.symbol)?;
        match symbol.place {
            Place::Section(section) => {
                let offset = symbol.value.checked_add_signed(relocation.addend)?;
                Some((section, offset))
            }
            Place::Undefined
            | Place::Absolute
            | Place::Common
            | Place::Livepatch
            | Place::Reserved(_) => None,
        }
    }

    /// The name behind a symbol index, for messages: a section symbol is called like its section.
    pub(super) fn name_of(&self, relocation: &Relocation) -> &'data str {
        let Some(symbol) = self.file.symbol(relocation.symbol) else {
            return "";
        };
        let section = symbol
            .section()
            .and_then(|section| self.file.section(section));
        match section {
            Some(section) if symbol.name.is_empty() => section.name,
            _ => symbol.name,
        }
    }
}
