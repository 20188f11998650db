//! Writes what travels of one unit as a relocatable object, ready to be linked into a module.
//!
//! References to things the kernel keeps private become references to placeholder symbols, which
//! [`crate::convert`] turns into livepatch relocations after the link: `ld -r` can carry a symbol's
//! name, but neither a second relocation table nor `SHN_LIVEPATCH`.

mod link;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use tuxtape_core::identity::ObjectName;

use crate::diff::Comparison;
use crate::elf::{SectionIndex, SymbolKind};
use crate::meaning;
use crate::refusal::{Refusal, Rule};
use crate::tables::Role;
use crate::unit::{AtomId, Entry, Unit};
use crate::write::{
    ALIGNMENT_LIMIT, OutPlace, OutRelocation, OutSection, OutSymbol, WriteError, relocatable,
};

/// Begins the name of a symbol that stands for one the livepatch core will resolve:
/// `PREFIX OBJECT ! OWNER ! POSITION ! NAME`.
pub const PLACEHOLDER: &str = "__tuxtape_klp!";

/// A symbol of the running kernel or one of its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbol {
    /// Its name in kallsyms.
    pub name: String,
    /// Its place among the symbols of that name in its object, from 1; 0 where it is the only one.
    pub position: u32,
}

/// Where the kernel has a symbol that a unit does not define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The kernel image exports it.
    Exported {
        /// Symbol namespace to import, if any.
        namespace: Option<String>,
    },
    /// Another unit of the object being patched.
    Parent {
        /// Place among the symbols of that name, as in [`KernelSymbol`].
        position: u32,
    },
    /// Another module exports it.
    Module {
        /// That module.
        module: ObjectName,
        /// Place among the symbols of that name, as in [`KernelSymbol`].
        position: u32,
    },
    /// Another unit of the same fix brings it.
    Candidate,
    /// Nowhere that a livepatch of this object could reach; with what is known of it.
    Unreachable(String),
}

/// What a unit's symbols are called in the kernel that runs.
pub trait Surroundings {
    /// The object the unit was linked into.
    fn parent(&self) -> &ObjectName;
    /// The symbol that the compiled original's symbol `name` became.
    fn own(&self, name: &str) -> Option<KernelSymbol>;
    /// Whether the kernel image exports `name` and the unit's own `name` is that export.
    fn exports(&self, name: &str) -> bool;
    /// Where an undefined symbol is.
    fn outside(&self, name: &str) -> Outside;
}

/// A kernel that has every symbol once and exports those with long names; for fuzzing.
pub(crate) struct Anywhere;

impl Surroundings for Anywhere {
    fn parent(&self) -> &ObjectName {
        static PARENT: OnceLock<ObjectName> = OnceLock::new();
        PARENT.get_or_init(|| ObjectName(ObjectName::VMLINUX.to_owned()))
    }

    fn own(&self, name: &str) -> Option<KernelSymbol> {
        Some(KernelSymbol {
            name: name.to_owned(),
            position: 0,
        })
    }

    fn exports(&self, name: &str) -> bool {
        name.len() > 8
    }

    fn outside(&self, name: &str) -> Outside {
        if name.len() > 8 {
            Outside::Exported { namespace: None }
        } else {
            Outside::Parent { position: 1 }
        }
    }
}

/// A function to redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchedFunction {
    /// The function in the kernel.
    pub original: KernelSymbol,
    /// Global symbol of its replacement in the emitted object.
    pub replacement: String,
}

/// One unit's part of a module.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// The relocatable object.
    pub object: Vec<u8>,
    /// Functions to redirect, in the order of the unit.
    pub functions: Vec<PatchedFunction>,
    /// Symbol namespaces the module must import.
    pub namespaces: BTreeSet<String>,
    /// What a reviewer should know.
    pub warnings: Vec<String>,
}

/// Why no object was emitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// Rules refuse it.
    #[error("{} reasons not to build", .0.len())]
    Refused(Vec<Refusal>),
    /// The object cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The bytes of `.altinstr_replacement` that an alternative's entry brings.
pub fn replacement_range(unit: &Unit<'_>, entry: &Entry) -> Option<(SectionIndex, u64, u64)> {
    let length_at = match entry.table.role {
        Role::Alternative { length_at } => length_at,
        Role::Derived
        | Role::Bug
        | Role::Exception
        | Role::JumpLabel
        | Role::StaticCall
        | Role::Paravirt => return None,
    };
    let at = entry.start.checked_add(length_at)?;
    let length = *unit.bytes(entry.section, at, entry.end).first()?;
    let (section, start) = meaning::replacement(unit, entry)?;
    Some((section, start, start.checked_add(u64::from(length))?))
}

/// Emits what travels of `comparison`. `tag` makes the names of replacements unique in the module.
pub fn emit(
    comparison: &Comparison<'_>,
    surroundings: &dyn Surroundings,
    tag: &str,
) -> Result<Emitted, EmitError> {
    if !comparison.refusals.is_empty() {
        return Err(EmitError::Refused(comparison.refusals.clone()));
    }
    let mut builder = Builder::new(comparison, surroundings);
    builder.place_atoms();
    builder.link_atoms();
    builder.tables();
    builder.orc();
    builder.mcount();
    let functions = builder.functions(tag);
    if !builder.refusals.is_empty() {
        builder.refusals.sort();
        builder.refusals.dedup();
        return Err(EmitError::Refused(builder.refusals));
    }
    Ok(Emitted {
        object: relocatable(&builder.sections, &builder.symbols)?,
        functions,
        namespaces: builder.namespaces,
        warnings: builder.warnings,
    })
}

/// What a reference becomes.
enum Link {
    /// This relocation.
    Relocation { symbol: usize, addend: i64 },
    /// Nothing: the entry that holds it is left out.
    Drop,
    /// Nothing: it was refused.
    Refused,
}

/// The place in the output that a range of the input became.
#[derive(Clone, Copy, Debug)]
struct Piece {
    section: SectionIndex,
    start: u64,
    end: u64,
    out: usize,
    out_start: u64,
}

struct Builder<'run, 'data> {
    comparison: &'run Comparison<'data>,
    unit: &'run Unit<'data>,
    surroundings: &'run dyn Surroundings,
    sections: Vec<OutSection>,
    symbols: Vec<OutSymbol>,
    pieces: Vec<Piece>,
    atom_symbol: BTreeMap<AtomId, usize>,
    section_symbol: BTreeMap<usize, usize>,
    outside_symbol: BTreeMap<String, usize>,
    pools: BTreeMap<String, usize>,
    literals: BTreeMap<(usize, Vec<u8>), u64>,
    chunks: BTreeMap<(SectionIndex, u64), (usize, u64)>,
    original_needs: BTreeSet<&'run str>,
    namespaces: BTreeSet<String>,
    warnings: Vec<String>,
    refusals: Vec<Refusal>,
}

impl<'run, 'data> Builder<'run, 'data> {
    fn new(comparison: &'run Comparison<'data>, surroundings: &'run dyn Surroundings) -> Self {
        let original_needs = comparison
            .original
            .file
            .symbols()
            .iter()
            .filter(|symbol| symbol.place == crate::elf::Place::Undefined)
            .map(|symbol| symbol.name)
            .collect();
        Self {
            comparison,
            unit: &comparison.patched,
            surroundings,
            sections: Vec::new(),
            symbols: Vec::new(),
            pieces: Vec::new(),
            atom_symbol: BTreeMap::new(),
            section_symbol: BTreeMap::new(),
            outside_symbol: BTreeMap::new(),
            pools: BTreeMap::new(),
            literals: BTreeMap::new(),
            chunks: BTreeMap::new(),
            original_needs,
            namespaces: BTreeSet::new(),
            warnings: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn refuse(&mut self, rule: Rule, symbol: &str, why: impl Into<String>) -> Link {
        self.refusals.push(Refusal {
            rule,
            unit: self.comparison.name.clone(),
            symbol: symbol.to_owned(),
            why: why.into(),
        });
        Link::Refused
    }

    /// Gives every travelling atom a section of its own and its symbols.
    fn place_atoms(&mut self) {
        for &id in &self.comparison.travels {
            let atom = self.unit.atom(id);
            let from = self.unit.section(atom.section);
            let out = self.sections.len();
            self.sections.push(OutSection {
                name: from.name.to_owned(),
                kind: from.kind,
                flags: from.flags,
                alignment: from.alignment,
                entry_size: from.entry_size,
                data: self.unit.bytes(atom.section, atom.start, atom.end).to_vec(),
                size: atom.end.saturating_sub(atom.start),
                ..OutSection::default()
            });
            self.pieces.push(Piece {
                section: atom.section,
                start: atom.start,
                end: atom.end,
                out,
                out_start: 0,
            });
            let is_new = !self.comparison.pairing.of_patched.contains_key(&id);
            for &index in atom.prefixes.iter().chain(&atom.symbols) {
                let symbol = self.unit.symbol(index);
                // A replaced function must not be linked to by name: others reach it through ftrace.
                let global = is_new && symbol.binding != crate::elf::Binding::Local;
                self.symbols.push(OutSymbol {
                    name: symbol.name.to_owned(),
                    place: OutPlace::Section(out),
                    value: symbol.value.saturating_sub(atom.start),
                    size: symbol.size,
                    kind: if symbol.kind == SymbolKind::Function {
                        2
                    } else {
                        1
                    },
                    binding: u8::from(global),
                });
            }
            let own = self.section_symbol(out);
            self.atom_symbol.insert(id, own);
        }
    }

    fn link_atoms(&mut self) {
        for &id in &self.comparison.travels {
            let atom = self.unit.atom(id);
            let Some(out) = self
                .piece_at(atom.section, atom.start, true)
                .map(|piece| piece.out)
            else {
                continue;
            };
            self.copy_relocations(atom.section, atom.start, atom.end, out, 0);
        }
    }

    /// Links the relocations of `start..end` and adds them to `out` from `out_start` on. False when
    /// one of them asks for the whole entry to be left out.
    fn copy_relocations(
        &mut self,
        section: SectionIndex,
        start: u64,
        end: u64,
        out: usize,
        out_start: u64,
    ) -> bool {
        let mut linked = Vec::new();
        for relocation in self.unit.relocations(section, start, end) {
            let width = relocation.width().unwrap_or(8);
            if relocation
                .offset
                .checked_add(width)
                .is_none_or(|last| last > end)
            {
                let name = self.unit.section(section).name;
                self.refuse(
                    Rule::Unknown,
                    name,
                    format!("a reference reaches over byte {end:#x}"),
                );
                continue;
            }
            match self.link(section, relocation) {
                Link::Relocation { symbol, addend } => linked.push(OutRelocation {
                    offset: relocation
                        .offset
                        .saturating_sub(start)
                        .saturating_add(out_start),
                    kind: relocation.kind,
                    symbol,
                    addend,
                }),
                Link::Drop => return false,
                Link::Refused => {}
            }
        }
        if let Some(home) = self.sections.get_mut(out) {
            home.relocations.extend(linked);
        }
        true
    }

    /// Gives each changed function a global name for the module's table of functions.
    fn functions(&mut self, tag: &str) -> Vec<PatchedFunction> {
        let mut functions = Vec::new();
        for (number, &id) in self.comparison.changed.iter().enumerate() {
            let name = self.comparison.original_name(id).to_owned();
            let Some(original) = self.surroundings.own(&name) else {
                self.refuse(
                    Rule::Unresolved,
                    &name,
                    format!("is not in {} under this name", self.surroundings.parent()),
                );
                continue;
            };
            let atom = self.unit.atom(id);
            let Some(piece) = self.piece_at(atom.section, atom.start, true) else {
                continue;
            };
            let replacement = format!("tuxtape_new_{tag}_{number}");
            self.symbols.push(OutSymbol {
                name: replacement.clone(),
                place: OutPlace::Section(piece.out),
                value: atom.entry.saturating_sub(atom.start),
                size: atom.end.saturating_sub(atom.entry),
                kind: 2,
                binding: 1,
            });
            functions.push(PatchedFunction {
                original,
                replacement,
            });
        }
        functions
    }

    fn piece_at(&self, section: SectionIndex, offset: u64, or_end: bool) -> Option<Piece> {
        let inside =
            |piece: &&Piece| piece.section == section && (piece.start..piece.end).contains(&offset);
        let at_end = |piece: &&Piece| {
            or_end && piece.section == section && (piece.end == offset || piece.start == offset)
        };
        self.pieces
            .iter()
            .find(inside)
            .or_else(|| self.pieces.iter().find(at_end))
            .copied()
    }

    fn pool_like(&mut self, section: SectionIndex) -> usize {
        let from = self.unit.section(section);
        let out = self.pool(from.name, from.kind, from.flags, from.alignment);
        if let Some(section) = self.sections.get_mut(out) {
            section.entry_size = from.entry_size;
        }
        out
    }

    fn pool(&mut self, name: &str, kind: u32, flags: u64, alignment: u64) -> usize {
        if let Some(&out) = self.pools.get(name) {
            return out;
        }
        let out = self.sections.len();
        self.sections.push(OutSection {
            name: name.to_owned(),
            kind,
            flags,
            alignment,
            ..OutSection::default()
        });
        self.pools.insert(name.to_owned(), out);
        out
    }

    fn append(&mut self, out: usize, alignment: u64, bytes: &[u8]) -> u64 {
        let Some(section) = self.sections.get_mut(out) else {
            return 0;
        };
        // More is refused when the section is written.
        let alignment = usize::try_from(alignment.clamp(1, ALIGNMENT_LIMIT)).unwrap_or(1);
        section
            .data
            .resize(section.data.len().next_multiple_of(alignment), 0);
        let at = section.data.len() as u64;
        section.data.extend_from_slice(bytes);
        section.size = section.data.len() as u64;
        at
    }

    fn section_symbol(&mut self, out: usize) -> usize {
        if let Some(&symbol) = self.section_symbol.get(&out) {
            return symbol;
        }
        self.symbols.push(OutSymbol {
            name: String::new(),
            place: OutPlace::Section(out),
            value: 0,
            size: 0,
            kind: 3,
            binding: 0,
        });
        self.section_symbol.insert(out, self.symbols.len());
        self.symbols.len()
    }

    fn undefined(&mut self, name: &str) -> usize {
        if let Some(&symbol) = self.outside_symbol.get(name) {
            return symbol;
        }
        self.symbols.push(OutSymbol {
            name: name.to_owned(),
            place: OutPlace::Undefined,
            value: 0,
            size: 0,
            kind: 0,
            binding: 1,
        });
        self.outside_symbol
            .insert(name.to_owned(), self.symbols.len());
        self.symbols.len()
    }
}
