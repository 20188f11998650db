//! What bytes mean, apart from where they lie: the form in which two versions are compared.

use std::collections::BTreeMap;

use crate::elf::{Relocation, SectionIndex};
use crate::names;
use crate::tables::Role;
use crate::unit::{AtomId, Class, Entry, Target, Unit, is_special};

/// Which version an atom without a partner belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The unit as the kernel has it.
    Original,
    /// The unit with the fix.
    Patched,
}

/// Number of a pair of atoms that are the same thing in both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairId(pub usize);

/// What a relocation refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// A symbol of another unit.
    Outside(String, i64),
    /// A place in something both versions have.
    Pair(PairId, i64),
    /// A place in something only one version has.
    Lone(Side, AtomId, i64),
    /// A per-use-site static with this base name and content.
    Special(String, Box<Content>, i64),
    /// A string or constant.
    Literal(Vec<u8>),
    /// Code reached from alternatives.
    Chunk(Box<Content>),
    /// A fixed value.
    Absolute(i64),
    /// A place in an unnamed part of a section.
    Lost(Side, u32, i64),
}

/// Bytes with their relocated fields blanked, and what stood there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Bytes in memory, also where the file holds none.
    pub size: u64,
    /// Bytes with relocated fields zeroed.
    pub bytes: Vec<u8>,
    /// (offset, type, meaning), by offset.
    pub references: Vec<(u64, u32, Meaning)>,
}

/// One version together with the pairs found so far.
#[derive(Clone, Copy, Debug)]
pub struct View<'unit, 'data> {
    /// The unit.
    pub unit: &'unit Unit<'data>,
    /// Which version it is.
    pub side: Side,
    /// Its atoms' pairs.
    pub pairs: &'unit BTreeMap<AtomId, PairId>,
}

/// Deeper nesting of specials and chunks means a cycle, which no compiler makes.
const DEPTH: u32 = 4;
/// Bytes of specials and chunks that are looked into for one atom or entry. Each reference to one
/// copies it, so that a few hundred bytes of a hostile object could ask for any amount.
const NESTED_LIMIT: u64 = 1 << 20;

/// How far a content may still grow.
struct Room {
    depth: u32,
    bytes: u64,
}

impl Room {
    fn all() -> Self {
        Self {
            depth: DEPTH,
            bytes: NESTED_LIMIT,
        }
    }

    /// Takes what `size` bytes one level deeper need; false where there is no room for them.
    fn enter(&mut self, size: u64) -> bool {
        let cost = size.saturating_add(64);
        match (self.depth.checked_sub(1), self.bytes.checked_sub(cost)) {
            (Some(depth), Some(bytes)) => {
                *self = Self { depth, bytes };
                true
            }
            _ => false,
        }
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }
}

impl View<'_, '_> {
    /// The content of an atom.
    pub fn content(&self, atom: AtomId) -> Content {
        let atom = self.unit.atom(atom);
        self.range(atom.section, atom.start, atom.end, &mut Room::all())
    }

    /// The content of `start..end` of a section.
    pub fn section_content(&self, section: SectionIndex) -> Content {
        self.range(
            section,
            0,
            self.unit.section(section).size,
            &mut Room::all(),
        )
    }

    fn range(&self, section: SectionIndex, start: u64, end: u64, room: &mut Room) -> Content {
        let mut bytes = self.unit.bytes(section, start, end).to_vec();
        let mut references = Vec::new();
        for relocation in self.unit.relocations(section, start, end) {
            let at = relocation.offset.saturating_sub(start);
            blank(&mut bytes, at, relocation.width().unwrap_or(8));
            references.push((at, relocation.kind, self.meaning(section, relocation, room)));
        }
        Content {
            size: end.saturating_sub(start),
            bytes,
            references,
        }
    }

    fn meaning(&self, section: SectionIndex, relocation: &Relocation, room: &mut Room) -> Meaning {
        match self.unit.target(section, relocation) {
            Target::Outside { symbol, addend } => {
                Meaning::Outside(self.unit.symbol(symbol).name.to_owned(), addend)
            }
            Target::Absolute(value) => Meaning::Absolute(value),
            Target::Lost { section, offset } => Meaning::Lost(self.side, section.0, offset),
            Target::Atom { atom, offset } => {
                let body = self.unit.atom(atom);
                if let Some(name) = self.export_name(body.section, body.start, offset) {
                    return Meaning::Literal(name.to_vec());
                }
                if is_special(self.unit, body) && room.enter(body.end.saturating_sub(body.start)) {
                    let content = self.range(body.section, body.start, body.end, room);
                    room.leave();
                    return Meaning::Special(names::base(body.name), Box::new(content), offset);
                }
                match self.pairs.get(&atom) {
                    Some(&pair) => Meaning::Pair(pair, offset),
                    None => Meaning::Lone(self.side, atom, offset),
                }
            }
            Target::Content { section, offset } => self.literal(section, offset, room),
        }
    }

    /// The name or namespace of an export: what counts is the text, not its place among the others.
    fn export_name(&self, section: SectionIndex, start: u64, offset: i64) -> Option<&[u8]> {
        let section = self.unit.section(section);
        if section.name != "__ksymtab_strings" {
            return None;
        }
        let at = start.checked_add_signed(offset)?;
        let rest = section.data.get(usize::try_from(at).ok()?..)?;
        rest.split(|&byte| byte == 0).next()
    }

    fn literal(&self, section: SectionIndex, offset: u64, room: &mut Room) -> Meaning {
        let body = self.unit.section(section);
        let lost = || {
            Meaning::Lost(
                self.side,
                section.0,
                i64::try_from(offset).unwrap_or(i64::MAX),
            )
        };
        match self.unit.class(section) {
            Class::Strings => body.text(offset).map_or_else(lost, |(text, inside)| {
                Meaning::Literal([text, &inside.to_le_bytes()].concat())
            }),
            Class::Constants => constant(body.entry_size, offset)
                .and_then(|(start, end)| {
                    let bytes = body.bytes(start, end.saturating_sub(start))?;
                    let inside = offset.saturating_sub(start).to_le_bytes();
                    Some(Meaning::Literal([bytes, &inside].concat()))
                })
                .unwrap_or_else(lost),
            Class::Chunks => match self.unit.chunk_end(section, offset) {
                Some(end) if room.enter(end.saturating_sub(offset)) => {
                    let content = self.range(section, offset, end, room);
                    room.leave();
                    Meaning::Chunk(Box::new(content))
                }
                Some(_) | None => lost(),
            },
            Class::Ignored
            | Class::Code
            | Class::Data
            | Class::Table(_)
            | Class::OrcAddresses
            | Class::OrcEntries
            | Class::Init
            | Class::Fixed => lost(),
        }
    }

    /// What a table's entry says apart from which code it is about; `None` where that follows from
    /// the code.
    pub fn entry(&self, entry: &Entry) -> Option<Content> {
        match entry.table.role {
            Role::Derived => return None,
            Role::Bug
            | Role::Exception
            | Role::JumpLabel
            | Role::StaticCall
            | Role::Alternative { .. }
            | Role::Paravirt => {}
        }
        let mut content = self.range(entry.section, entry.start, entry.end, &mut Room::all());
        // The code's own address is the key under which entries are compared.
        if !content.references.is_empty() {
            content.references.remove(0);
        }
        match entry.table.role {
            // The line number: moved code is not changed code.
            Role::Bug => blank(&mut content.bytes, 8, 2),
            Role::Alternative { length_at } => {
                let length = self
                    .unit
                    .bytes(
                        entry.section,
                        entry.start.saturating_add(length_at),
                        entry.end,
                    )
                    .first()
                    .copied()
                    .unwrap_or(0);
                if let Some((section, start)) = replacement(self.unit, entry) {
                    let end = start.saturating_add(u64::from(length));
                    let chunk = self.range(section, start, end, &mut Room::all());
                    for reference in &mut content.references {
                        if reference.0 == 4 {
                            reference.2 = Meaning::Chunk(Box::new(chunk.clone()));
                        }
                    }
                }
            }
            Role::Derived
            | Role::Exception
            | Role::JumpLabel
            | Role::StaticCall
            | Role::Paravirt => {}
        }
        // The last paravirt entry is cut short of its padding.
        content.size = 0;
        match entry.table.role {
            Role::Paravirt => content.bytes.truncate(10),
            Role::Derived
            | Role::Bug
            | Role::Exception
            | Role::JumpLabel
            | Role::StaticCall
            | Role::Alternative { .. } => {}
        }
        Some(content)
    }
}

/// Where the replacement instructions of an alternative's entry start.
pub fn replacement(unit: &Unit<'_>, entry: &Entry) -> Option<(SectionIndex, u64)> {
    let field = unit
        .relocations(
            entry.section,
            entry.start.checked_add(4)?,
            entry.start.checked_add(8)?,
        )
        .first()?;
    unit.place(entry.section, field).ok()
}

/// The entry of a section of constants that holds `offset`.
pub fn constant(entry_size: u64, offset: u64) -> Option<(u64, u64)> {
    let start = offset.checked_div(entry_size)?.checked_mul(entry_size)?;
    Some((start, start.checked_add(entry_size)?))
}

fn blank(bytes: &mut [u8], at: u64, width: u64) {
    let range = usize::try_from(at)
        .ok()
        .zip(usize::try_from(at.saturating_add(width)).ok());
    if let Some(field) = range.and_then(|(from, to)| bytes.get_mut(from..to)) {
        field.fill(0);
    }
}
