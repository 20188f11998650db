//! What must come along with the changed functions, and what cannot.

use std::collections::BTreeSet;

use super::Comparison;
use crate::elf::{Relocation, SectionIndex, SymbolKind};
use crate::names;
use crate::pairing::is_writable;
use crate::refusal::Rule;
use crate::unit::{AtomId, Class, Target, Unit, is_once, is_special};

impl Comparison<'_> {
    /// Follows references from the changed functions to everything that must come along.
    pub(super) fn close(&mut self) {
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
            || self.own_versions.contains(&to)
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
    let landing = if unit
        .bytes(atom.section, atom.entry, atom.end)
        .starts_with(&endbr64)
    {
        4
    } else {
        0
    };
    unit.relocations_of(id).first().is_some_and(|relocation| {
        unit.symbol(relocation.symbol).name == "__fentry__"
            && relocation.offset == atom.entry.saturating_add(landing).saturating_add(1)
    })
}
