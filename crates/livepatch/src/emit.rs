//! Writes what travels of one unit as a relocatable object, ready to be linked into a module.
//!
//! References to things the kernel keeps private become references to placeholder symbols, which
//! [`crate::convert`] turns into livepatch relocations after the link: `ld -r` can carry a symbol's
//! name, but neither a second relocation table nor `SHN_LIVEPATCH`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use object::elf;
use tuxtape_core::identity::ObjectName;

use crate::diff::{Comparison, is_traceable};
use crate::elf::{Relocation, SectionIndex, SymbolKind};
use crate::meaning;
use crate::refusal::{Refusal, Rule};
use crate::tables::{ORC_ENTRY, Role};
use crate::unit::{AtomId, Class, Entry, Target, Unit};
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
    let Role::Alternative { length_at } = entry.table.role else {
        return None;
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
            for &index in &atom.symbols {
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

    fn link(&mut self, section: SectionIndex, relocation: &Relocation) -> Link {
        let bias = self.unit.bias(section, relocation);
        match self.unit.target(section, relocation) {
            Target::Outside { symbol, .. } => {
                let name = self.unit.symbol(symbol).name;
                self.link_outside(section, name, relocation.addend)
            }
            Target::Absolute(value) => Link::Relocation {
                symbol: 0,
                addend: value.saturating_sub(bias),
            },
            Target::Lost {
                section: home,
                offset,
            } => {
                let name = self.unit.section(home).name;
                self.refuse(
                    Rule::Unknown,
                    name,
                    format!("reference to unnamed content at {offset:#x}"),
                )
            }
            Target::Content {
                section: home,
                offset,
            } => self.link_content(home, offset, bias),
            Target::Atom { atom, offset } => {
                self.link_atom(section, relocation, atom, offset, bias)
            }
        }
    }

    fn link_atom(
        &mut self,
        section: SectionIndex,
        relocation: &Relocation,
        to: AtomId,
        offset: i64,
        bias: i64,
    ) -> Link {
        let atom = self.unit.atom(to);
        let from_table = matches!(self.unit.class(section), Class::Table(_));
        let original = self.comparison.pairing.original_of(to);
        let travels = self.comparison.travels.contains(&to);
        // A pointer may outlive this module in a timer, a list or an ops table: let it name the
        // original, which ftrace redirects for as long as the module is in force.
        let pointer = !from_table
            && atom.is_code()
            && offset == 0
            && !self.unit.is_branch(section, relocation);
        if travels && !(pointer && original.is_some()) {
            if pointer {
                self.warnings.push(format!(
                    "the address of the new function {} is taken",
                    atom.name
                ));
            }
            let symbol = self.atom_symbol.get(&to).copied().unwrap_or(0);
            return Link::Relocation {
                symbol,
                addend: offset.saturating_sub(bias),
            };
        }
        let Some(original) = original else {
            return self.refuse(Rule::Unknown, atom.name, "is new but does not travel");
        };
        if atom.is_code() && offset != 0 {
            return self.refuse(Rule::Unknown, atom.name, "is entered in the middle");
        }
        let body = self.comparison.original.atom(original);
        let names: Vec<&str> = body
            .symbols
            .iter()
            .map(|&symbol| self.comparison.original.symbol(symbol).name)
            .collect();
        let addend = offset.saturating_sub(bias);
        if let Some(name) = names
            .iter()
            .find(|name| body.global && self.surroundings.exports(name))
        {
            let symbol = self.undefined(name);
            return Link::Relocation { symbol, addend };
        }
        let Some(symbol) = names.iter().find_map(|name| self.surroundings.own(name)) else {
            return self.refuse(
                Rule::Unresolved,
                atom.name,
                format!("is not in {} under this name", self.surroundings.parent()),
            );
        };
        let parent = self.surroundings.parent().clone();
        self.placeholder(section, &parent, &symbol.name, symbol.position, addend)
    }

    fn link_outside(&mut self, section: SectionIndex, name: &str, addend: i64) -> Link {
        match self.surroundings.outside(name) {
            Outside::Exported { namespace } => {
                self.namespaces.extend(namespace);
                Link::Relocation {
                    symbol: self.undefined(name),
                    addend,
                }
            }
            Outside::Candidate => Link::Relocation {
                symbol: self.undefined(name),
                addend,
            },
            Outside::Parent { position } => {
                let parent = self.surroundings.parent().clone();
                self.placeholder(section, &parent, name, position, addend)
            }
            Outside::Module { module, position } => {
                if !self.original_needs.contains(name) {
                    return self.refuse(
                        Rule::NewDependency,
                        name,
                        format!("is exported by module {module}, which this unit did not need"),
                    );
                }
                self.placeholder(section, &module, name, position, addend)
            }
            Outside::Unreachable(what) => self.refuse(Rule::Unresolved, name, what),
        }
    }

    /// A reference that the livepatch core resolves when the patched object is there.
    fn placeholder(
        &mut self,
        section: SectionIndex,
        owner: &ObjectName,
        name: &str,
        position: u32,
        addend: i64,
    ) -> Link {
        let parent = self.surroundings.parent();
        if let Class::Table(table) = self.unit.class(section)
            && !parent.is_vmlinux()
        {
            // The kernel reads these tables when our module loads, before the patched module's
            // symbols can be resolved. A tracepoint or static call site may stay as compiled:
            // the tracepoint is off, the call goes through its trampoline.
            let harmless = match table.role {
                Role::JumpLabel => name.starts_with("__tracepoint_"),
                Role::StaticCall => name.starts_with("__SCK__tp_func_"),
                Role::Derived
                | Role::Bug
                | Role::Exception
                | Role::Alternative { .. }
                | Role::Paravirt => false,
            };
            if harmless {
                self.warnings
                    .push(format!("{name} stays off in the patched function"));
                return Link::Drop;
            }
            return self.refuse(
                Rule::ModuleKey,
                name,
                format!(
                    "is owned by {owner} and used by an entry of {}",
                    table.section
                ),
            );
        }
        let too_long = name.len() >= 512 || owner.0.len() > 55 || parent.0.len() > 55;
        if too_long || name.contains([',', '!']) || owner.0.contains(['.', '!']) {
            return self.refuse(
                Rule::Names,
                name,
                "does not fit the kernel's livepatch symbol format",
            );
        }
        let stand_in = format!("{PLACEHOLDER}{parent}!{owner}!{position}!{name}");
        Link::Relocation {
            symbol: self.undefined(&stand_in),
            addend,
        }
    }

    fn link_content(&mut self, home: SectionIndex, offset: u64, bias: i64) -> Link {
        let body = *self.unit.section(home);
        let found = match self.unit.class(home) {
            Class::Strings => body.string(offset).map(|text| {
                let mut bytes = text.to_vec();
                bytes.push(0);
                (self.literal(".rodata.strings", body.alignment, bytes), 0)
            }),
            Class::Constants => {
                meaning::constant(body.entry_size, offset).and_then(|(start, end)| {
                    let bytes = body.bytes(start, end.saturating_sub(start))?.to_vec();
                    Some((
                        self.literal(".rodata.constants", body.alignment, bytes),
                        offset - start,
                    ))
                })
            }
            Class::Chunks => self.chunk(home, offset).map(|place| (place, 0)),
            _ => None,
        };
        match found {
            Some(((out, at), inside)) => Link::Relocation {
                symbol: self.section_symbol(out),
                addend: i64::try_from(at.saturating_add(inside))
                    .unwrap_or(i64::MAX)
                    .saturating_sub(bias),
            },
            None => self.refuse(
                Rule::Unknown,
                body.name,
                format!("reference to its byte {offset:#x} is not understood"),
            ),
        }
    }

    fn literal(&mut self, pool: &str, alignment: u64, bytes: Vec<u8>) -> (usize, u64) {
        let name = if alignment > 1 {
            format!("{pool}.{alignment}")
        } else {
            pool.to_owned()
        };
        let out = self.pool(&name, elf::SHT_PROGBITS.0, elf::SHF_ALLOC.0, alignment);
        if let Some(&at) = self.literals.get(&(out, bytes.clone())) {
            return (out, at);
        }
        let at = self.append(out, alignment, &bytes);
        self.literals.insert((out, bytes), at);
        (out, at)
    }

    /// A block of `.altinstr_aux`, copied once.
    fn chunk(&mut self, home: SectionIndex, offset: u64) -> Option<(usize, u64)> {
        if let Some(&place) = self.chunks.get(&(home, offset)) {
            return Some(place);
        }
        let end = self.unit.chunk_end(home, offset)?;
        let out = self.pool_like(home);
        let bytes = self.unit.bytes(home, offset, end).to_vec();
        let at = self.append(out, 1, &bytes);
        // Known before its references are linked: a block may jump within itself.
        self.chunks.insert((home, offset), (out, at));
        self.pieces.push(Piece {
            section: home,
            start: offset,
            end,
            out,
            out_start: at,
        });
        self.copy_relocations(home, offset, end, out, at);
        Some((out, at))
    }

    /// Rebuilds the tables' entries that are about travelling code.
    fn tables(&mut self) {
        for entry in self.unit.entries() {
            if self
                .piece_at(entry.code_section, entry.code_offset, false)
                .is_none()
            {
                continue;
            }
            let out = self.pool_like(entry.section);
            let bytes = self
                .unit
                .bytes(entry.section, entry.start, entry.end)
                .to_vec();
            let wanted = usize::try_from(entry.table.entry).unwrap_or(bytes.len());
            let before = self
                .sections
                .get(out)
                .map_or(0, |section| section.data.len());
            // A paravirt entry cut short of its padding is only valid at the very end.
            let mut bytes = bytes;
            bytes.resize(wanted, 0);
            let at = self.append(out, 1, &bytes);
            if !self.copy_entry(entry, out, at)
                && let Some(section) = self.sections.get_mut(out)
            {
                section.data.truncate(before);
                section.size = before as u64;
                section
                    .relocations
                    .retain(|relocation| relocation.offset < before as u64);
            }
        }
    }

    fn copy_entry(&mut self, entry: &Entry, out: usize, at: u64) -> bool {
        let Some((section, start, end)) = replacement_range(self.unit, entry) else {
            return self.link_entry(entry, entry.start, entry.end, out, at);
        };
        let home = self.pool_like(section);
        let bytes = self.unit.bytes(section, start, end).to_vec();
        let place = self.append(home, 1, &bytes);
        self.pieces.push(Piece {
            section,
            start,
            end,
            out: home,
            out_start: place,
        });
        self.copy_relocations(section, start, end, home, place);
        let symbol = self.section_symbol(home);
        if let Some(table) = self.sections.get_mut(out) {
            table.relocations.push(OutRelocation {
                offset: at.saturating_add(4),
                kind: elf::R_X86_64_PC32.0,
                symbol,
                addend: i64::try_from(place).unwrap_or(i64::MAX),
            });
        }
        self.link_entry(entry, entry.start, entry.start.saturating_add(4), out, at)
    }

    /// The first field names the code by its place; the rest are ordinary references.
    fn link_entry(&mut self, entry: &Entry, start: u64, end: u64, out: usize, at: u64) -> bool {
        let unit = self.unit;
        for relocation in unit.relocations(entry.section, start, end) {
            let offset = relocation
                .offset
                .saturating_sub(entry.start)
                .saturating_add(at);
            let inside =
                unit.place(entry.section, relocation)
                    .ok()
                    .and_then(|(section, offset)| {
                        self.piece_at(section, offset, false)
                            .map(|piece| (piece, offset))
                    });
            let link = match inside {
                Some((piece, target)) if unit.section(piece.section).is_executable() => {
                    let target = target
                        .saturating_sub(piece.start)
                        .saturating_add(piece.out_start);
                    Link::Relocation {
                        symbol: self.section_symbol(piece.out),
                        addend: i64::try_from(target).unwrap_or(i64::MAX),
                    }
                }
                _ => self.link(entry.section, relocation),
            };
            match link {
                Link::Relocation { symbol, addend } => {
                    if let Some(home) = self.sections.get_mut(out) {
                        home.relocations.push(OutRelocation {
                            offset,
                            kind: relocation.kind,
                            symbol,
                            addend,
                        });
                    }
                }
                Link::Drop => return false,
                Link::Refused => {}
            }
        }
        true
    }

    /// Copies the unwind entries of travelling code, with those that end a function.
    fn orc(&mut self) {
        let unit = self.unit;
        let sections = unit.file.sections();
        let Some(addresses) = sections
            .iter()
            .find(|s| unit.class(s.index) == Class::OrcAddresses)
        else {
            return;
        };
        let Some(entries) = sections
            .iter()
            .find(|s| unit.class(s.index) == Class::OrcEntries)
        else {
            self.refuse(
                Rule::Unknown,
                addresses.name,
                "has no .orc_unwind beside it",
            );
            return;
        };
        if (addresses.size / 4).checked_mul(ORC_ENTRY) != Some(entries.size) {
            self.refuse(Rule::Unknown, entries.name, "does not fit .orc_unwind_ip");
            return;
        }
        for relocation in unit.relocations(addresses.index, 0, addresses.size) {
            let Ok((section, offset)) = unit.place(addresses.index, relocation) else {
                continue;
            };
            let Some(piece) = self.piece_at(section, offset, true) else {
                continue;
            };
            let at = (relocation.offset / 4).saturating_mul(ORC_ENTRY);
            let entry = unit
                .bytes(entries.index, at, at.saturating_add(ORC_ENTRY))
                .to_vec();
            let ip = self.pool_like(addresses.index);
            let place = self.append(ip, 1, &[0; 4]);
            let symbol = self.section_symbol(piece.out);
            let target = offset
                .saturating_sub(piece.start)
                .saturating_add(piece.out_start);
            if let Some(home) = self.sections.get_mut(ip) {
                home.relocations.push(OutRelocation {
                    offset: place,
                    kind: relocation.kind,
                    symbol,
                    addend: i64::try_from(target).unwrap_or(i64::MAX),
                });
            }
            let table = self.pool_like(entries.index);
            self.append(table, 1, &entry);
        }
    }

    /// Lists the ftrace entries of travelling functions.
    fn mcount(&mut self) {
        for &id in &self.comparison.travels {
            let atom = self.unit.atom(id);
            if !atom.is_code() || !is_traceable(self.unit, id) {
                continue;
            }
            let Some(call) = self.unit.relocations_of(id).first() else {
                continue;
            };
            let at = call.offset.saturating_sub(1).saturating_sub(atom.start);
            let flags = elf::SHF_ALLOC.0;
            let out = self.pool("__mcount_loc", elf::SHT_PROGBITS.0, flags, 8);
            let place = self.append(out, 8, &[0; 8]);
            let symbol = self.atom_symbol.get(&id).copied().unwrap_or(0);
            if let Some(home) = self.sections.get_mut(out) {
                home.relocations.push(OutRelocation {
                    offset: place,
                    kind: elf::R_X86_64_64.0,
                    symbol,
                    addend: i64::try_from(at).unwrap_or(i64::MAX),
                });
            }
        }
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
                value: 0,
                size: atom.end.saturating_sub(atom.start),
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
