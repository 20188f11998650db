//! Which functions of a unit a fix changes, and whether anything changed that no livepatch can carry.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::{Relocation, SectionIndex, SymbolKind};
use crate::meaning::{Content, Meaning, Side, View};
use crate::names;
use crate::pairing::{Pairing, is_writable, pair};
use crate::refusal::{Refusal, Rule};
use crate::tables::Table;
use crate::unit::{AtomId, Class, Target, Unit, UnitError, is_once, is_special};

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
    /// Everything that travels: the changed functions and what they need that the kernel lacks.
    pub travels: BTreeSet<AtomId>,
    /// Why this unit cannot be livepatched; empty when it can.
    pub refusals: Vec<Refusal>,
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
        travels: BTreeSet::new(),
        refusals: Vec::new(),
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
        for &(one, other) in &self.pairing.pairs {
            let atom = self.patched.atom(other);
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
                Class::Init => refusals.push((
                    Rule::InitCode,
                    atom.name.to_owned(),
                    format!("changed in {}", self.patched.section(atom.section).name),
                )),
                Class::Fixed => refusals.push((
                    Rule::Registration,
                    atom.name.to_owned(),
                    format!("changed in {}", self.patched.section(atom.section).name),
                )),
                Class::Data
                | Class::Ignored
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
        refusals.extend(fixed_sections_changed(&left, &right));
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
        self.changed = changed.into_iter().collect();
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

    /// Follows references from the changed functions to everything that must come along.
    fn close(&mut self) {
        let mut queue: Vec<AtomId> = self.changed.clone();
        queue.extend(&self.new_globals);
        let mut travels: BTreeSet<AtomId> = BTreeSet::new();
        let changed: BTreeSet<AtomId> = self.changed.iter().copied().collect();
        let mut refusals = Vec::new();
        while let Some(id) = queue.pop() {
            if !travels.insert(id) {
                continue;
            }
            refusals.extend(self.cannot_travel(id));
            for (section, start, end) in self.ranges_of(id) {
                for relocation in self.patched.relocations(section, start, end) {
                    let Target::Atom { atom: to, .. } = self.patched.target(section, relocation)
                    else {
                        continue;
                    };
                    if self.pairing.by_order.contains(&to) {
                        let name = self.patched.atom(to).name;
                        refusals.push((
                            Rule::AmbiguousStatic,
                            name.to_owned(),
                            format!(
                                "used by {}, and one of several variables of that name",
                                self.patched.atom(id).name
                            ),
                        ));
                    }
                    if self.is_shifted(relocation, to) {
                        let at = self.patched.atom(to).section;
                        refusals.push((
                            Rule::AmbiguousStatic,
                            self.patched.section(at).name.to_owned(),
                            format!(
                                "holds other variables than before; {} names a place in it",
                                self.patched.atom(id).name
                            ),
                        ));
                    }
                    if self.comes_along(to, &changed) {
                        queue.push(to);
                    }
                }
            }
        }
        refusals.extend(self.points_inside(&travels));
        self.travels = travels;
        for (rule, symbol, why) in refusals {
            self.refuse(rule, &symbol, why);
        }
    }

    /// Whether a reference that only names a place in a section may mean another variable than
    /// `to`: an array's end is where the next variable starts, and which one that is has changed.
    fn is_shifted(&self, relocation: &Relocation, to: AtomId) -> bool {
        let section = self.patched.atom(to).section;
        if self.patched.symbol(relocation.symbol).kind != SymbolKind::Section
            || self.patched.atom(to).class != Class::Data
            || is_once(self.patched.section(section).name)
        {
            return false;
        }
        let here = self.patched.atoms_of(section);
        let there = here
            .iter()
            .find_map(|&id| self.pairing.original_of(id))
            .map_or(&[][..], |id| {
                self.original.atoms_of(self.original.atom(id).section)
            });
        if here.len().max(there.len()) < 2 {
            return false;
        }
        let same = |&id: &AtomId, &other: &AtomId| {
            let (now, then) = (self.patched.atom(id), self.original.atom(other));
            let known = self.pairing.original_of(id) == Some(other)
                || is_special(&self.patched, now)
                    && is_special(&self.original, then)
                    && names::base(now.name) == names::base(then.name);
            known && (now.start, now.end) == (then.start, then.end)
        };
        here.len() != there.len() || !here.iter().zip(there).all(|(id, other)| same(id, other))
    }

    /// Data that stays in the kernel and holds places inside of functions that are replaced, such as
    /// a table of labels: the new function would go on in the old one.
    fn points_inside(&self, travels: &BTreeSet<AtomId>) -> Vec<(Rule, String, String)> {
        let mut found = Vec::new();
        for &(_, other) in &self.pairing.pairs {
            let atom = self.patched.atom(other);
            if atom.class != Class::Data || travels.contains(&other) {
                continue;
            }
            for relocation in self.patched.relocations_of(other) {
                if let Target::Atom { atom: to, offset } =
                    self.patched.target(atom.section, relocation)
                    && offset != 0
                    && travels.contains(&to)
                    && self.patched.atom(to).is_code()
                {
                    found.push((
                        Rule::DataChanged,
                        atom.name.to_owned(),
                        format!("holds places inside of {}", self.patched.atom(to).name),
                    ));
                }
            }
        }
        found
    }

    /// Whether a reference to `to` needs our own copy of it.
    fn comes_along(&self, to: AtomId, changed: &BTreeSet<AtomId>) -> bool {
        let atom = self.patched.atom(to);
        let cold = names::cold_parent(atom.name).is_some() && atom.is_code();
        changed.contains(&to)
            || cold
            || is_special(&self.patched, atom)
            || !self.pairing.of_patched.contains_key(&to)
            || atom.symbols.is_empty()
    }

    /// The byte ranges whose references count as the atom's own: itself, the entries of tables about
    /// it, and the alternatives they bring.
    pub fn ranges_of(&self, id: AtomId) -> Vec<(SectionIndex, u64, u64)> {
        let unit = &self.patched;
        let atom = unit.atom(id);
        let mut ranges = vec![(atom.section, atom.start, atom.end)];
        for relocation in unit.relocations_of(id) {
            if let Target::Content { section, offset } = unit.target(atom.section, relocation)
                && let Some(end) = unit.chunk_end(section, offset)
                && unit.class(section) == Class::Chunks
            {
                ranges.push((section, offset, end));
            }
        }
        for entry in unit.entries() {
            let here = entry.code_section == atom.section
                && (atom.start..atom.end).contains(&entry.code_offset);
            if here {
                ranges.push((entry.section, entry.start, entry.end));
                if let Some((section, start, end)) = crate::emit::replacement_range(unit, entry) {
                    ranges.push((section, start, end));
                }
            }
        }
        ranges
    }

    fn cannot_travel(&self, id: AtomId) -> Option<(Rule, String, String)> {
        let unit = &self.patched;
        let atom = unit.atom(id);
        let section = unit.section(atom.section).name;
        let refuse = |rule, why: String| Some((rule, atom.name.to_owned(), why));
        match atom.class {
            Class::Init => {
                return refuse(
                    Rule::InitCode,
                    format!("needed by a changed function, in {section}"),
                );
            }
            Class::Fixed => {
                return refuse(
                    Rule::Registration,
                    format!("needed by a changed function, in {section}"),
                );
            }
            Class::Code if !atom.whole => {
                return refuse(Rule::SharedSection, format!("shares {section} with others"));
            }
            Class::Code if atom.symbols.is_empty() => {
                return refuse(Rule::Unknown, format!("unnamed code in {section}"));
            }
            Class::Data if self.pairing.ambiguous.contains(&id) => {
                return refuse(
                    Rule::AmbiguousStatic,
                    "shares its name with another variable that changed".to_owned(),
                );
            }
            Class::Data if atom.symbols.is_empty() && is_writable(unit, id) => {
                return refuse(Rule::Unknown, format!("unnamed data in {section}"));
            }
            Class::Data if !movable_data(section, is_special(unit, atom)) => {
                return refuse(Rule::DataMoved, format!("new in {section}"));
            }
            Class::Code
            | Class::Data
            | Class::Ignored
            | Class::Strings
            | Class::Constants
            | Class::Table(_)
            | Class::OrcAddresses
            | Class::OrcEntries
            | Class::Chunks => {}
        }
        let redirected = self.changed.contains(&id);
        // The kernel redirects the original: what the fix makes of it does not help.
        let original = self.pairing.original_of(id);
        let hooked = is_traceable(unit, id)
            && original.is_none_or(|original| is_traceable(&self.original, original));
        if redirected && !hooked {
            return refuse(Rule::NotTraceable, "has no ftrace entry".to_owned());
        }
        None
    }
}

/// Sections that may not change, and appear in one version only.
fn fixed_sections_changed(
    left: &View<'_, '_>,
    right: &View<'_, '_>,
) -> Vec<(Rule, String, String)> {
    let lone = |view: &View<'_, '_>, class: Class| -> Vec<(String, String)> {
        view.unit
            .atom_ids()
            .filter(|id| !view.pairs.contains_key(id))
            .map(|id| view.unit.atom(id))
            .filter(|atom| atom.class == class && !is_special(view.unit, atom))
            .map(|atom| {
                (
                    atom.name.to_owned(),
                    view.unit.section(atom.section).name.to_owned(),
                )
            })
            .collect()
    };
    let mut found = Vec::new();
    for (view, word) in [(left, "gone from"), (right, "new in")] {
        for (name, section) in lone(view, Class::Init) {
            found.push((Rule::InitCode, name, format!("{word} {section}")));
        }
        for (name, section) in lone(view, Class::Fixed) {
            found.push((Rule::Registration, name, format!("{word} {section}")));
        }
    }
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

fn movable_data(section: &str, special: bool) -> bool {
    if special {
        return true;
    }
    let plain = [".data.", ".rodata.", ".bss.", ".data", ".rodata", ".bss"];
    let special_place = section.starts_with(".data..") && section != ".data..read_mostly"
        || section.starts_with(".bss..");
    plain.iter().any(|prefix| section.starts_with(prefix)) && !special_place
}

/// Whether the function begins with the call that ftrace owns.
pub fn is_traceable(unit: &Unit<'_>, id: AtomId) -> bool {
    let atom = unit.atom(id);
    let endbr64 = [0xf3, 0x0f, 0x1e, 0xfa];
    let entry = if unit
        .bytes(atom.section, atom.start, atom.end)
        .starts_with(&endbr64)
    {
        4
    } else {
        0
    };
    unit.relocations_of(id).first().is_some_and(|relocation| {
        unit.symbol(relocation.symbol).name == "__fentry__"
            && relocation.offset == atom.start.saturating_add(entry).saturating_add(1)
    })
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
    // What is refused is never emitted; here the emitter shall see it all the same.
    comparison.refusals.clear();
    if let Ok(emitted) = crate::emit::emit(&comparison, &crate::emit::Anywhere, "0") {
        crate::convert::convert(&emitted.object).ok();
    }
}
