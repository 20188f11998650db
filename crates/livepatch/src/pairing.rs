//! Finding what is the same thing in both versions of a unit.
//!
//! Functions that stay unpaired are treated as removed and new, which redirects more than needed but
//! never wrongly. Variables are different: a wrong pair means wrong state, so they are paired only
//! when name and users leave no choice.

use std::collections::{BTreeMap, BTreeSet};

use crate::meaning::{Content, PairId, Side, View};
use crate::names;
use crate::unit::{AtomId, Class, Target, Unit, is_special};

/// Pairs of atoms, and what could not be paired.
#[derive(Clone, Debug, Default)]
pub struct Pairing {
    /// (original, patched), by pair.
    pub pairs: Vec<(AtomId, AtomId)>,
    /// Pair of each paired atom of the original.
    pub of_original: BTreeMap<AtomId, PairId>,
    /// Pair of each paired atom of the patched version.
    pub of_patched: BTreeMap<AtomId, PairId>,
    /// Variables of the patched version that share their name with unpaired ones of the original.
    pub ambiguous: BTreeSet<AtomId>,
    /// Variables paired by the order of their first use alone. They are surely the same only for
    /// functions that did not change; a function that travels may not refer to them.
    pub by_order: BTreeSet<AtomId>,
    /// Numbered variables of the original that no variable of the patched version continues.
    pub lost: BTreeSet<AtomId>,
}

impl Pairing {
    /// The original of a patched atom.
    pub fn original_of(&self, patched: AtomId) -> Option<AtomId> {
        let pair = self.of_patched.get(&patched)?;
        self.pairs.get(pair.0).map(|pair| pair.0)
    }

    /// The patched version of an original atom.
    pub fn patched_of(&self, original: AtomId) -> Option<AtomId> {
        let pair = self.of_original.get(&original)?;
        self.pairs.get(pair.0).map(|pair| pair.1)
    }

    fn join(&mut self, original: AtomId, patched: AtomId) {
        let pair = PairId(self.pairs.len());
        self.pairs.push((original, patched));
        self.of_original.insert(original, pair);
        self.of_patched.insert(patched, pair);
    }
}

/// What must agree before two atoms can be the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    place: &'static str,
    base: String,
    numbered: bool,
}

/// Pairs the atoms of both versions.
pub fn pair(original: &Unit<'_>, patched: &Unit<'_>) -> Pairing {
    let mut pairing = Pairing::default();
    let (left, right) = (groups(original), groups(patched));
    let mut undecided = Vec::new();
    for (key, ours) in &left {
        let theirs = right.get(key).map_or(&[][..], Vec::as_slice);
        match (ours.as_slice(), theirs, key.numbered) {
            ([one], [other], false) => pairing.join(*one, *other),
            _ => undecided.push((key.clone(), ours.clone(), theirs.to_vec())),
        }
    }
    pair_numbered(original, patched, &mut pairing, &undecided);
    pairing
}

fn groups(unit: &Unit<'_>) -> BTreeMap<Key, Vec<AtomId>> {
    let mut groups: BTreeMap<Key, Vec<AtomId>> = BTreeMap::new();
    for id in unit.atom_ids() {
        let atom = unit.atom(id);
        if is_special(unit, atom) {
            continue;
        }
        let place = match atom.class {
            Class::Code => "code",
            Class::Init => "init",
            Class::Fixed => "fixed",
            Class::Data
            | Class::Ignored
            | Class::Strings
            | Class::Constants
            | Class::Table(_)
            | Class::OrcAddresses
            | Class::OrcEntries
            | Class::Chunks => "data",
        };
        let base = names::base(atom.name);
        // One section may be all the identity there is: `.init.text` of two units is not one thing.
        let base = if atom.symbols.is_empty() {
            unit.section(atom.section).name.to_owned()
        } else {
            base
        };
        let numbered = names::is_numbered(atom.name) && !atom.symbols.is_empty();
        groups
            .entry(Key {
                place,
                base,
                numbered,
            })
            .or_default()
            .push(id);
    }
    groups
}

/// Pairs compiler-numbered atoms: by who uses them, and where that is not enough by equal content.
fn pair_numbered(
    original: &Unit<'_>,
    patched: &Unit<'_>,
    pairing: &mut Pairing,
    undecided: &[(Key, Vec<AtomId>, Vec<AtomId>)],
) {
    let (left_users, right_users) = (users(original), users(patched));
    let none = BTreeSet::new();
    for (key, ours, theirs) in undecided {
        let variable = key.place == "data" && ours.iter().any(|&id| is_writable(original, id));
        let mut free: Vec<AtomId> = theirs.clone();
        let mut left: Vec<AtomId> = Vec::new();
        if let ([one], [other]) = (ours.as_slice(), theirs.as_slice()) {
            let (a, b) = (
                left_users.get(one).unwrap_or(&none),
                right_users.get(other).unwrap_or(&none),
            );
            if !variable || a.is_empty() || b.is_empty() || !a.is_disjoint(b) {
                pairing.join(*one, *other);
                continue;
            }
        }
        for &one in ours {
            let mine = left_users.get(&one).unwrap_or(&none);
            let shares = |id: &AtomId| {
                let theirs = right_users.get(id).unwrap_or(&none);
                !mine.is_disjoint(theirs) && similar(original, one, patched, *id)
            };
            let candidates: Vec<AtomId> = free.iter().copied().filter(shares).collect();
            // Another original may have the same user: then the user does not tell them apart.
            let rivals = ours
                .iter()
                .filter(|&&id| {
                    let users = left_users.get(&id).unwrap_or(&none);
                    !users.is_disjoint(mine) && similar(original, one, original, id)
                })
                .count();
            match candidates.as_slice() {
                [only] if rivals == 1 => {
                    pairing.join(one, *only);
                    free.retain(|id| id != only);
                }
                _ => left.push(one),
            }
        }
        if variable && left.len() == free.len() {
            let (from, to) = (in_order(original, &left), in_order(patched, &free));
            let alike = from.iter().zip(&to).all(|(&a, &b)| {
                similar(original, a, patched, b)
                    && left_users.get(&a).unwrap_or(&none) == right_users.get(&b).unwrap_or(&none)
            });
            if alike {
                for (&one, &other) in from.iter().zip(&to) {
                    pairing.join(one, other);
                    pairing.by_order.insert(other);
                }
                continue;
            }
        }
        if variable {
            if !left.is_empty() {
                pairing.ambiguous.extend(free);
            }
            pairing.lost.extend(left);
        } else {
            // Where several are equal in content, who uses them first decides, not the file's order.
            let (left, free) = (in_order(original, &left), in_order(patched, &free));
            pair_equal(original, patched, pairing, &left, &free);
        }
    }
}

/// Pairs functions and constants that are equal in content, in order.
fn pair_equal(
    original: &Unit<'_>,
    patched: &Unit<'_>,
    pairing: &mut Pairing,
    ours: &[AtomId],
    theirs: &[AtomId],
) {
    let content = |unit: &Unit<'_>, side, pairs: &BTreeMap<AtomId, PairId>, id| -> Content {
        View { unit, side, pairs }.content(id)
    };
    let mut free: Vec<(AtomId, Content)> = theirs
        .iter()
        .map(|&id| (id, content(patched, Side::Patched, &pairing.of_patched, id)))
        .collect();
    for &one in ours {
        let mine = content(original, Side::Original, &pairing.of_original, one);
        if let Some(index) = free.iter().position(|(_, theirs)| *theirs == mine) {
            let (other, _) = free.remove(index);
            pairing.join(one, other);
        }
    }
}

/// Sorts atoms by the first place that refers to them: by the name of what refers, then by the place in
/// it. Where sections stand in a file says nothing.
fn in_order(unit: &Unit<'_>, atoms: &[AtomId]) -> Vec<AtomId> {
    let mut first: BTreeMap<AtomId, (String, u64)> = BTreeMap::new();
    for from in unit.atom_ids() {
        let user = unit.atom(from);
        for relocation in unit.relocations_of(from) {
            let Target::Atom { atom, .. } = unit.target(user.section, relocation) else {
                continue;
            };
            if !atoms.contains(&atom) {
                continue;
            }
            let place = (
                names::base(user.name),
                relocation.offset.saturating_sub(user.start),
            );
            match first.get(&atom) {
                Some(before) if *before <= place => {}
                Some(_) | None => {
                    first.insert(atom, place);
                }
            }
        }
    }
    let mut sorted = atoms.to_vec();
    sorted.sort_by_key(|atom| (first.get(atom), *atom));
    sorted
}

fn similar(a: &Unit<'_>, one: AtomId, b: &Unit<'_>, other: AtomId) -> bool {
    let (one_atom, other_atom) = (a.atom(one), b.atom(other));
    one_atom.end.wrapping_sub(one_atom.start) == other_atom.end.wrapping_sub(other_atom.start)
        && is_writable(a, one) == is_writable(b, other)
}

/// Whether an atom lies in memory that the kernel may write.
pub fn is_writable(unit: &Unit<'_>, id: AtomId) -> bool {
    unit.section(unit.atom(id).section).flags & object::elf::SHF_WRITE.0 != 0
}

/// The source functions and variables that refer to each atom.
fn users<'unit>(unit: &'unit Unit<'_>) -> BTreeMap<AtomId, BTreeSet<&'unit str>> {
    let mut users: BTreeMap<AtomId, BTreeSet<&'unit str>> = BTreeMap::new();
    for from in unit.atom_ids() {
        let atom = unit.atom(from);
        for relocation in unit.relocations_of(from) {
            if let Target::Atom { atom: to, .. } = unit.target(atom.section, relocation) {
                users
                    .entry(to)
                    .or_default()
                    .insert(names::source_function(atom.name));
            }
        }
    }
    users
}
