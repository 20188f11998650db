//! One compiled unit, cut into atoms: the smallest pieces that can travel alone.
//!
//! Units are compiled with `-ffunction-sections -fdata-sections`, so nearly every atom is a whole
//! section. The rest (`.init.text`, `.data.once`, …) is cut at its symbols.

mod class;
mod prefix;
mod read;

use std::collections::BTreeMap;

use crate::elf::{
    Binding, ElfFile, MalformedObject, Place, Relocation, Section, SectionIndex, Symbol,
    SymbolIndex, SymbolKind,
};
use crate::names;
use crate::tables::Table;

/// Index of an atom in its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtomId(pub usize);

/// What a section is to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Not in memory, or read by nobody at run time.
    Ignored,
    /// Code that a livepatch can replace.
    Code,
    /// Data.
    Data,
    /// NUL-terminated strings, compared by content.
    Strings,
    /// Literal constants, compared by content.
    Constants,
    /// A table rebuilt entry by entry.
    Table(Table),
    /// `.orc_unwind_ip`, with its twin `.orc_unwind`.
    OrcAddresses,
    /// `.orc_unwind`.
    OrcEntries,
    /// `.altinstr_replacement` and `.altinstr_aux`: code reached from alternatives only.
    Chunks,
    /// Code or data that is gone after boot or module load.
    Init,
    /// Tables read once, exports, and sections this engine does not know: may not change.
    Fixed,
}

/// One instruction of a code section.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// Offset of its first byte.
    pub start: u64,
    /// Offset of the next instruction.
    pub end: u64,
    /// A direct call or jump, conditional or not.
    pub is_branch: bool,
    /// A jump from which the next instruction is not reached.
    pub is_jump: bool,
}

/// The smallest piece that can travel alone.
#[derive(Clone, Debug)]
pub struct Atom<'data> {
    /// Its section.
    pub section: SectionIndex,
    /// Its section's class.
    pub class: Class,
    /// First byte in the section.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What its symbols name and offsets into it count from: its first byte, or in padded code the
    /// first byte behind the padding.
    pub entry: u64,
    /// Its function and object symbols; empty for an unnamed section.
    pub symbols: Vec<SymbolIndex>,
    /// Symbols of the padding before its entry.
    pub prefixes: Vec<SymbolIndex>,
    /// Name of its first symbol, a global one before a local one; else the section's name.
    pub name: &'data str,
    /// Whether any of its symbols is global or weak.
    pub global: bool,
    /// Whether any of its symbols is weak.
    pub weak: bool,
    /// Whether it is all there is in its section.
    pub whole: bool,
}

impl Atom<'_> {
    /// Whether it holds instructions.
    pub fn is_code(&self) -> bool {
        self.class == Class::Code
    }
}

/// Where a relocation leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a symbol of another unit; `addend` counts from the field's end of instruction.
    Outside {
        /// The symbol.
        symbol: SymbolIndex,
        /// What is added to it.
        addend: i64,
    },
    /// Into an atom, `offset` bytes from its entry (which may lie outside of it).
    Atom {
        /// The atom.
        atom: AtomId,
        /// Offset from its entry.
        offset: i64,
    },
    /// Into a section of strings, constants or chunks, or a table.
    Content {
        /// The section.
        section: SectionIndex,
        /// Offset into it.
        offset: u64,
    },
    /// To a fixed value.
    Absolute(i64),
    /// To a place that belongs to no atom.
    Lost {
        /// The section.
        section: SectionIndex,
        /// Offset into it.
        offset: i64,
    },
}

/// One entry of a table, and the code it is about.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The table.
    pub table: Table,
    /// Its section.
    pub section: SectionIndex,
    /// First byte of the entry.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
    /// Section of the code it is about.
    pub code_section: SectionIndex,
    /// Offset of that code.
    pub code_offset: u64,
}

/// Why a unit could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The bytes are no usable object.
    #[error(transparent)]
    Malformed(#[from] MalformedObject),
    /// Bytes that should be instructions are not.
    #[error("section {section}: no instruction at {offset:#x}")]
    Undecodable {
        /// The section.
        section: String,
        /// Offset of the byte.
        offset: u64,
    },
    /// Something the engine does not know; refusing is the safe answer.
    #[error("section {section}: {what}")]
    Unexpected {
        /// The section.
        section: String,
        /// What was found.
        what: String,
    },
}

const NO_SECTION: Section<'static> = Section {
    index: SectionIndex(0),
    name: "",
    kind: 0,
    flags: 0,
    address: 0,
    offset: 0,
    size: 0,
    link: 0,
    info: 0,
    alignment: 0,
    entry_size: 0,
    data: &[],
};

const NO_SYMBOL: Symbol<'static> = Symbol {
    index: SymbolIndex(0),
    name: "",
    place: Place::Undefined,
    value: 0,
    size: 0,
    kind: SymbolKind::None,
    binding: Binding::Local,
};

/// A unit's object with its atoms, relocations by section, and instruction borders.
#[derive(Debug)]
pub struct Unit<'data> {
    /// The object.
    pub file: ElfFile<'data>,
    /// Its atoms, in section and offset order.
    pub atoms: Vec<Atom<'data>>,
    classes: Vec<Class>,
    relocations: Vec<Vec<Relocation>>,
    instructions: Vec<Vec<Instruction>>,
    atoms_by_section: BTreeMap<SectionIndex, Vec<AtomId>>,
    atom_by_symbol: BTreeMap<SymbolIndex, AtomId>,
    entries: Vec<Entry>,
}

impl<'data> Unit<'data> {
    /// Reads the relocatable object `bytes`, whose tables are laid out as `tables` says.
    pub fn read(bytes: &'data [u8], tables: &[Table]) -> Result<Self, UnitError> {
        let file = ElfFile::parse(bytes)?;
        if file.kind != crate::elf::FileKind::Relocatable {
            return Err(unexpected("header", "not a relocatable object"));
        }
        let classes: Vec<Class> = file
            .sections()
            .iter()
            .map(|section| class::classify(section, tables))
            .collect();
        let mut unit = Self {
            relocations: vec![Vec::new(); classes.len()],
            instructions: vec![Vec::new(); classes.len()],
            file,
            atoms: Vec::new(),
            classes,
            atoms_by_section: BTreeMap::new(),
            atom_by_symbol: BTreeMap::new(),
            entries: Vec::new(),
        };
        unit.read_relocations()?;
        unit.decode()?;
        unit.cut()?;
        unit.read_entries()?;
        Ok(unit)
    }

    /// The class of `section`.
    pub fn class(&self, section: SectionIndex) -> Class {
        self.classes
            .get(section.0 as usize)
            .copied()
            .unwrap_or(Class::Ignored)
    }

    /// One atom.
    pub fn atom(&self, id: AtomId) -> &Atom<'data> {
        &self.atoms[id.0]
    }

    /// All atoms with their ids.
    pub fn atom_ids(&self) -> impl Iterator<Item = AtomId> + use<> {
        (0..self.atoms.len()).map(AtomId)
    }

    /// The section with this index, which came from this unit.
    pub fn section(&self, index: SectionIndex) -> &Section<'data> {
        self.file.section(index).unwrap_or(&NO_SECTION)
    }

    /// The symbol with this index, which came from this unit.
    ///
    /// Index 0 is "no symbol" also where the object has no symbols at all.
    pub fn symbol(&self, index: SymbolIndex) -> &Symbol<'data> {
        usize::try_from(index.0)
            .ok()
            .and_then(|index| self.file.symbols().get(index))
            .unwrap_or(&NO_SYMBOL)
    }

    /// The entries of all tables, in section and offset order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The relocations of `section` in `start..end`, by offset.
    pub fn relocations(&self, section: SectionIndex, start: u64, end: u64) -> &[Relocation] {
        let all = self
            .relocations
            .get(section.0 as usize)
            .map_or(&[][..], Vec::as_slice);
        let first = all.partition_point(|relocation| relocation.offset < start);
        let last = all.partition_point(|relocation| relocation.offset < end);
        all.get(first..last).unwrap_or_default()
    }

    /// The relocations of an atom.
    pub fn relocations_of(&self, atom: AtomId) -> &[Relocation] {
        let atom = self.atom(atom);
        self.relocations(atom.section, atom.start, atom.end)
    }

    /// The bytes of `start..end` of `section`; empty where the section has none in the file.
    pub fn bytes(&self, section: SectionIndex, start: u64, end: u64) -> &'data [u8] {
        self.section(section)
            .bytes(start, end.saturating_sub(start))
            .unwrap_or_default()
    }

    /// The instruction of `section` that holds the byte at `offset`.
    pub fn instruction(&self, section: SectionIndex, offset: u64) -> Option<Instruction> {
        let all = self.instructions.get(section.0 as usize)?;
        let next = all.partition_point(|instruction| instruction.end <= offset);
        all.get(next)
            .copied()
            .filter(|instruction| instruction.start <= offset)
    }

    /// Bytes from a PC-relative field to the address it counts from: the next instruction in code,
    /// the field itself in tables.
    pub fn bias(&self, section: SectionIndex, relocation: &Relocation) -> i64 {
        if !relocation.is_relative() || !self.section(section).is_executable() {
            return 0;
        }
        self.instruction(section, relocation.offset)
            .and_then(|instruction| {
                i64::try_from(instruction.end.checked_sub(relocation.offset)?).ok()
            })
            .unwrap_or(0)
    }

    /// Whether the relocation is the operand of a direct call or jump.
    pub fn is_branch(&self, section: SectionIndex, relocation: &Relocation) -> bool {
        self.section(section).is_executable()
            && self
                .instruction(section, relocation.offset)
                .is_some_and(|instruction| instruction.is_branch)
    }

    /// Finds where a relocation in `section` leads.
    pub fn target(&self, section: SectionIndex, relocation: &Relocation) -> Target {
        let symbol = self.symbol(relocation.symbol);
        let bias = self.bias(section, relocation);
        let addend = relocation.addend.saturating_add(bias);
        let home = match symbol.place {
            Place::Undefined if relocation.symbol.0 == 0 => return Target::Absolute(addend),
            Place::Undefined | Place::Common | Place::Livepatch | Place::Reserved(_) => {
                return Target::Outside {
                    symbol: relocation.symbol,
                    addend,
                };
            }
            Place::Absolute => {
                let value = i64::try_from(symbol.value).unwrap_or(i64::MAX);
                return Target::Absolute(value.saturating_add(addend));
            }
            Place::Section(home) => home,
        };
        let offset = i64::try_from(symbol.value)
            .unwrap_or(i64::MAX)
            .saturating_add(addend);
        match self.class(home) {
            Class::Strings
            | Class::Constants
            | Class::Chunks
            | Class::Table(_)
            | Class::OrcAddresses
            | Class::OrcEntries => match u64::try_from(offset) {
                Ok(offset) => Target::Content {
                    section: home,
                    offset,
                },
                Err(_) => Target::Lost {
                    section: home,
                    offset,
                },
            },
            Class::Ignored | Class::Code | Class::Data | Class::Init | Class::Fixed => {
                self.target_atom(relocation.symbol, home, offset)
            }
        }
    }

    fn target_atom(&self, symbol: SymbolIndex, home: SectionIndex, offset: i64) -> Target {
        let found = self.atom_by_symbol.get(&symbol).copied().or_else(|| {
            let here = self.atoms_by_section.get(&home)?;
            match here.as_slice() {
                [only] => Some(*only),
                many => many.iter().copied().find(|&id| {
                    let atom = self.atom(id);
                    let from = i64::try_from(atom.start).unwrap_or(i64::MAX);
                    let to = i64::try_from(atom.end).unwrap_or(i64::MAX);
                    (from..to).contains(&offset) || (from == to && from == offset)
                }),
            }
        });
        match found {
            Some(atom) => {
                let entry = i64::try_from(self.atom(atom).entry).unwrap_or(i64::MAX);
                Target::Atom {
                    atom,
                    offset: offset.saturating_sub(entry),
                }
            }
            None => Target::Lost {
                section: home,
                offset,
            },
        }
    }

    /// The atoms of `section`, by offset.
    pub fn atoms_of(&self, section: SectionIndex) -> &[AtomId] {
        self.atoms_by_section
            .get(&section)
            .map_or(&[][..], Vec::as_slice)
    }

    /// The atom that covers `offset` of `section`, if any.
    pub fn atom_at(&self, section: SectionIndex, offset: u64) -> Option<AtomId> {
        self.atoms_by_section
            .get(&section)?
            .iter()
            .copied()
            .find(|&id| (self.atom(id).start..self.atom(id).end).contains(&offset))
    }

    /// The chunk of alternative code that starts at `offset`: up to its first unconditional jump.
    /// Only `.altinstr_aux` is cut this way; replacements have their length in the table.
    pub fn chunk_end(&self, section: SectionIndex, offset: u64) -> Option<u64> {
        let all = self.instructions.get(section.0 as usize)?;
        let first = all.partition_point(|instruction| instruction.start < offset);
        let run = all.get(first..)?;
        if run.first()?.start != offset {
            return None;
        }
        run.iter()
            .find(|instruction| instruction.is_jump)
            .map(|instruction| instruction.end)
    }

    /// The section and offset inside this unit that a table's field leads to.
    pub fn place(
        &self,
        section: SectionIndex,
        relocation: &Relocation,
    ) -> Result<(SectionIndex, u64), UnitError> {
        let lost = || {
            unexpected(
                self.section(section).name,
                format!(
                    "the field at {:#x} leads out of the unit",
                    relocation.offset
                ),
            )
        };
        let symbol = self.symbol(relocation.symbol);
        let home = symbol.section().ok_or_else(lost)?;
        let offset = i64::try_from(symbol.value)
            .ok()
            .and_then(|value| value.checked_add(relocation.addend))
            .and_then(|offset| u64::try_from(offset).ok())
            .ok_or_else(lost)?;
        Ok((home, offset))
    }
}

fn unexpected(section: &str, what: impl Into<String>) -> UnitError {
    UnitError::Unexpected {
        section: section.to_owned(),
        what: what.into(),
    }
}

/// Tells whether an atom is a per-use-site static, which always travels anew.
pub fn is_special(unit: &Unit<'_>, atom: &Atom<'_>) -> bool {
    let section = unit.section(atom.section).name;
    // Macros make them inside of functions, where the compiler numbers them. A variable of the file
    // that has such a name by chance is state like any other.
    let by_name =
        || names::is_numbered(atom.name) && names::is_special_static(&names::base(atom.name));
    atom.class == Class::Data && (is_once(section) || by_name())
}

/// Tells whether a section holds nothing but per-use-site statics.
pub fn is_once(section: &str) -> bool {
    matches!(
        section,
        "__dyndbg" | ".data.once" | ".data..once" | ".data..do_once"
    )
}
