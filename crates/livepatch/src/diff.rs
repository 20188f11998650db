//! Which functions of a unit a fix changes, and whether anything changed that no livepatch can carry.

mod boot;
mod climb;
mod constant;
mod escape;
mod exports;
mod travel;

use std::collections::{BTreeMap, BTreeSet};

use crate::meaning::{Content, Meaning, Side, View};
use crate::names;
use crate::pairing::{Pairing, is_writable, pair};
use crate::refusal::{Refusal, Rule};
use crate::tables::Table;
use crate::unit::{AtomId, Class, Unit, UnitError, is_special};

use boot::Gone;
pub use travel::is_traceable;

/// Two versions of one unit, compared.
#[derive(Debug)]
pub struct Comparison<'data> {
    /// The unit's path in the kernel tree.
    pub name: String,
    /// As the kernel has it.
    pub original: Unit<'data>,
    /// With the fix.
    pub patched: Unit<'data>,
    /// What is the same thing in both.
    pub pairing: Pairing,
    /// Functions to redirect, as atoms of the patched version, in its order.
    pub changed: Vec<AtomId>,
    /// New global functions and variables, which other units of the fix may need.
    pub new_globals: Vec<AtomId>,
    /// Things of the kernel that the module brings its own version of without redirecting the
    /// kernel's: changed constants, functions that cannot be redirected.
    pub own_versions: BTreeSet<AtomId>,
    /// Everything that travels: the changed functions and what they need that the kernel lacks.
    pub travels: BTreeSet<AtomId>,
    /// What was done about changes that cannot be made as they are, for the person who reviews.
    pub notes: Vec<String>,
    /// Why this unit cannot be livepatched; empty when it can.
    pub refusals: Vec<Refusal>,
    /// Differences in sections that are gone after boot or module load; each is refused, too.
    gone: Vec<Gone>,
}

/// Compares two compiled versions of the unit `name`.
pub fn compare<'data>(
    name: &str,
    original: &'data [u8],
    patched: &'data [u8],
    tables: &[Table],
) -> Result<Comparison<'data>, UnitError> {
    let original = Unit::read(original, tables)?;
    let patched = Unit::read(patched, tables)?;
    let pairing = pair(&original, &patched);
    let mut comparison = Comparison {
        name: name.to_owned(),
        original,
        patched,
        pairing,
        changed: Vec::new(),
        new_globals: Vec::new(),
        own_versions: BTreeSet::new(),
        travels: BTreeSet::new(),
        notes: Vec::new(),
        refusals: Vec::new(),
        gone: Vec::new(),
    };
    comparison.find_changes();
    comparison.find_new_globals();
    comparison.close();
    comparison.refusals.sort();
    comparison.refusals.dedup();
    Ok(comparison)
}

impl Comparison<'_> {
    /// Whether the fix changes nothing that runs in this unit.
    pub fn is_unchanged(&self) -> bool {
        self.travels.is_empty() && self.refusals.is_empty()
    }

    /// The name of a changed function in the kernel that runs.
    pub fn original_name(&self, patched: AtomId) -> &str {
        self.pairing.original_of(patched).map_or_else(
            || self.patched.atom(patched).name,
            |id| self.original.atom(id).name,
        )
    }

    /// Names of the functions to redirect, in the kernel that runs.
    pub fn changed_functions(&self) -> Vec<&str> {
        self.changed
            .iter()
            .map(|&id| self.original_name(id))
            .collect()
    }

    /// Names of functions that travel and have no original.
    pub fn new_functions(&self) -> Vec<&str> {
        self.travels
            .iter()
            .filter(|id| !self.pairing.of_patched.contains_key(id))
            .map(|&id| self.patched.atom(id))
            .filter(|atom| atom.is_code() && names::cold_parent(atom.name).is_none())
            .map(|atom| atom.name)
            .collect()
    }

    fn refuse(&mut self, rule: Rule, symbol: &str, why: impl Into<String>) {
        self.refusals.push(Refusal {
            rule,
            unit: self.name.clone(),
            symbol: symbol.to_owned(),
            why: why.into(),
        });
    }

    fn views(&self) -> (View<'_, '_>, View<'_, '_>) {
        (
            View {
                unit: &self.original,
                side: Side::Original,
                pairs: &self.pairing.of_original,
            },
            View {
                unit: &self.patched,
                side: Side::Patched,
                pairs: &self.pairing.of_patched,
            },
        )
    }

    fn find_changes(&mut self) {
        let (left, right) = self.views();
        let (left_entries, right_entries) = (entries_by_atom(&left), entries_by_atom(&right));
        let none = Vec::new();
        let mut code = BTreeSet::new();
        let mut refusals = Vec::new();
        let mut gone = Vec::new();
        let mut data = Vec::new();
        for &(one, other) in &self.pairing.pairs {
            let atom = self.patched.atom(other);
            // Counted in are only the strings that exports name.
            if self.patched.section(atom.section).name == exports::STRINGS {
                continue;
            }
            let (mine, theirs) = (left.content(one), right.content(other));
            // In a table that is read once, the place of an entry is part of what it says.
            let moved = atom.class == Class::Fixed && self.original.atom(one).start != atom.start;
            let same = !moved
                && mine == theirs
                && left_entries.get(&one).unwrap_or(&none)
                    == right_entries.get(&other).unwrap_or(&none);
            if atom.class == Class::Data
                && memory(&self.original, one) != memory(&self.patched, other)
            {
                refusals.push((
                    Rule::DataMoved,
                    atom.name.to_owned(),
                    format!(
                        "went from {} to {}",
                        self.original.section(self.original.atom(one).section).name,
                        self.patched.section(atom.section).name
                    ),
                ));
            }
            if same {
                continue;
            }
            match atom.class {
                Class::Code => {
                    code.insert(other);
                }
                Class::Init => gone.push(Gone {
                    name: atom.name.to_owned(),
                    section: self.patched.section(atom.section).name.to_owned(),
                    what: "changed in",
                    patched: Some(other),
                }),
                Class::Data => data.push((other, describe(&mine, &theirs))),
                Class::Fixed => refusals.push((
                    Rule::Registration,
                    atom.name.to_owned(),
                    format!("changed in {}", self.patched.section(atom.section).name),
                )),
                Class::Ignored
                | Class::Strings
                | Class::Constants
                | Class::Table(_)
                | Class::OrcAddresses
                | Class::OrcEntries
                | Class::Chunks => refusals.push((
                    Rule::DataChanged,
                    atom.name.to_owned(),
                    describe(&mine, &theirs),
                )),
            }
        }
        let names: BTreeSet<&str> = code.iter().map(|&id| self.patched.atom(id).name).collect();
        let exports = exports::compare(&left, &right, &names);
        refusals.extend(exports.refused);
        refusals.extend(tables_grown(&left, &right));
        gone.extend(gone_in_one(&left, &right));
        for &lost in &self.pairing.lost {
            let name = self.original.atom(lost).name;
            refusals.push((
                Rule::StaticLocal,
                name.to_owned(),
                "no variable of the patched version surely continues it".to_owned(),
            ));
        }
        // A changed cold part is reached only through its function.
        let parents: BTreeMap<&str, AtomId> = self
            .patched
            .atom_ids()
            .filter(|&id| self.patched.atom(id).is_code())
            .map(|id| (self.patched.atom(id).name, id))
            .collect();
        let mut changed = BTreeSet::new();
        for &id in &code {
            let name = self.patched.atom(id).name;
            match names::cold_parent(name) {
                None => {
                    changed.insert(id);
                }
                Some(parent) => match parents.get(parent) {
                    Some(&parent) if self.pairing.of_patched.contains_key(&parent) => {
                        changed.insert(parent);
                    }
                    // The parent is new: it travels if something changed needs it.
                    Some(_) => {}
                    None => refusals.push((
                        Rule::NotTraceable,
                        name.to_owned(),
                        "an unlikely part whose function is not in this unit".to_owned(),
                    )),
                },
            }
        }
        let copies = constant::copies(self, &data);
        changed.extend(&copies.readers);
        refusals.extend(copies.refused);
        let climbed = climb::climb(self, &changed);
        self.changed = climbed.changed.into_iter().collect();
        self.own_versions = copies.constants;
        self.own_versions.extend(climbed.carried);
        self.notes.extend(exports.notes);
        self.notes.extend(copies.notes);
        self.notes.extend(climbed.notes);
        for one in &gone {
            refusals.push((Rule::InitCode, one.name.clone(), one.why()));
        }
        self.gone = gone;
        for (rule, symbol, why) in refusals {
            self.refuse(rule, &symbol, why);
        }
    }

    fn find_new_globals(&mut self) {
        self.new_globals = self
            .patched
            .atom_ids()
            .filter(|id| !self.pairing.of_patched.contains_key(id))
            .filter(|&id| {
                let atom = self.patched.atom(id);
                match atom.class {
                    Class::Code | Class::Data => atom.global,
                    Class::Ignored
                    | Class::Strings
                    | Class::Constants
                    | Class::Table(_)
                    | Class::OrcAddresses
                    | Class::OrcEntries
                    | Class::Chunks
                    | Class::Init
                    | Class::Fixed => false,
                }
            })
            .collect();
    }
}

/// Things of `class` that only one version has.
fn lone(view: &View<'_, '_>, class: Class) -> Vec<(AtomId, String, String)> {
    view.unit
        .atom_ids()
        .filter(|id| !view.pairs.contains_key(id))
        .map(|id| (id, view.unit.atom(id)))
        .filter(|(_, atom)| atom.class == class && !is_special(view.unit, atom))
        .map(|(id, atom)| {
            (
                id,
                atom.name.to_owned(),
                view.unit.section(atom.section).name.to_owned(),
            )
        })
        .collect()
}

/// Entries of tables that may not change, in one version only.
fn tables_grown(left: &View<'_, '_>, right: &View<'_, '_>) -> Vec<(Rule, String, String)> {
    let mut found = Vec::new();
    for (view, word) in [(left, "gone from"), (right, "new in")] {
        for (_, name, section) in lone(view, Class::Fixed) {
            let is_export = exports::exported(&section).is_some() || section == exports::STRINGS;
            if is_export {
                continue;
            }
            found.push((Rule::Registration, name, format!("{word} {section}")));
        }
    }
    found
}

/// What is gone after boot or module load, and in one version only.
fn gone_in_one(left: &View<'_, '_>, right: &View<'_, '_>) -> Vec<Gone> {
    let gone = |what, patched: bool| {
        move |(id, name, section): (AtomId, String, String)| Gone {
            name,
            section,
            what,
            patched: patched.then_some(id),
        }
    };
    let mut found: Vec<Gone> = lone(left, Class::Init)
        .into_iter()
        .map(gone("gone from", false))
        .collect();
    found.extend(
        lone(right, Class::Init)
            .into_iter()
            .map(gone("new in", true)),
    );
    found
}

/// The kind of memory an atom lies in, as far as code that uses it must know, and whether it may be
/// written.
fn memory<'data>(unit: &Unit<'data>, id: AtomId) -> (&'data str, bool) {
    const PLAIN: [&str; 4] = [
        "read_mostly",
        "cacheline_aligned",
        "page_aligned",
        "init_task",
    ];
    let name = unit.section(unit.atom(id).section).name;
    let special = [".data..", ".bss..", ".rodata.."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .filter(|kind| !PLAIN.contains(kind));
    (special.unwrap_or_default(), is_writable(unit, id))
}

/// The entries of all tables by the atom they are about, as (offset in the atom, table, content).
fn entries_by_atom(view: &View<'_, '_>) -> BTreeMap<AtomId, Vec<(u64, &'static str, Content)>> {
    let mut by_atom: BTreeMap<AtomId, Vec<(u64, &'static str, Content)>> = BTreeMap::new();
    for entry in view.unit.entries() {
        let Some(atom) = view.unit.atom_at(entry.code_section, entry.code_offset) else {
            continue;
        };
        if let Some(content) = view.entry(entry) {
            let at = entry.code_offset.saturating_sub(view.unit.atom(atom).start);
            by_atom
                .entry(atom)
                .or_default()
                .push((at, entry.table.section, content));
        }
    }
    for entries in by_atom.values_mut() {
        entries.sort();
    }
    by_atom
}

fn describe(mine: &Content, theirs: &Content) -> String {
    if mine.size != theirs.size {
        return format!("its size went from {} to {} bytes", mine.size, theirs.size);
    }
    let different = |pair: &(&(u64, u32, Meaning), &(u64, u32, Meaning))| pair.0 != pair.1;
    if let Some((_, reference)) = mine
        .references
        .iter()
        .zip(&theirs.references)
        .find(different)
    {
        return format!("what it refers to at byte {} changed", reference.0);
    }
    match mine
        .bytes
        .iter()
        .zip(&theirs.bytes)
        .position(|(a, b)| a != b)
    {
        Some(at) => format!("its byte {at} changed"),
        None => "what it refers to changed".to_owned(),
    }
}

/// Takes `bytes` as the length of the original, the original and the patched version, and follows
/// them as far as they lead; for fuzzing. Never panics.
pub fn compare_anything(bytes: &[u8]) {
    let Some((length, both)) = bytes.split_first_chunk() else {
        return;
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (original, patched) = both.split_at(length.min(both.len()));
    let tables = crate::tables::layout_for(6, 1).unwrap_or_default();
    let Ok(mut comparison) = compare("unit.c", original, patched, tables) else {
        return;
    };
    comparison.leave_out_boot_code();
    crate::lint::findings(&comparison);
    // What is refused is never emitted; here the emitter shall see it all the same.
    comparison.refusals.clear();
    if let Ok(emitted) = crate::emit::emit(&comparison, &crate::emit::Anywhere, "0") {
        crate::convert::convert(&emitted.object).ok();
    }
}
