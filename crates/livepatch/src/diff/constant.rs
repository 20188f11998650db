//! Changed constants: a private copy instead of a change, where only code that travels can read it.

use std::collections::BTreeSet;

use super::{Comparison, escape, memory};
use crate::names;
use crate::pairing::is_writable;
use crate::refusal::Rule;
use crate::unit::{AtomId, Class, Unit};

/// Constants that are copied, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The constants, as atoms of the patched version.
    pub constants: BTreeSet<AtomId>,
    /// Functions that read them and must be redirected, too.
    pub readers: BTreeSet<AtomId>,
    /// What was proven, in words.
    pub notes: Vec<String>,
    /// Constants that cannot be copied, with the reason.
    pub refused: Vec<(Rule, String, String)>,
}

/// Decides for each changed datum, given with what changed in it.
pub(super) fn copies(comparison: &Comparison<'_>, changed: &[(AtomId, String)]) -> Copies {
    let mut copies = Copies::default();
    for (id, what) in changed {
        let name = comparison.patched.atom(*id).name;
        let mut family = Family::default();
        match family.take(comparison, *id) {
            Ok(()) => {
                copies.notes.push(note(comparison, name, what, &family));
                copies.constants.extend(&family.constants);
                copies.readers.extend(family.readers);
            }
            Err(why) => copies.refused.push((
                Rule::DataChanged,
                name.to_owned(),
                format!("{what}; no private copy will do: {why}"),
            )),
        }
    }
    copies
}

fn note(comparison: &Comparison<'_>, name: &str, what: &str, family: &Family) -> String {
    let list = |ids: &BTreeSet<AtomId>| -> String {
        let names: BTreeSet<&str> = ids
            .iter()
            .map(|&id| comparison.patched.atom(id).name)
            .collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let holders: BTreeSet<AtomId> = family
        .constants
        .iter()
        .copied()
        .filter(|&id| comparison.patched.atom(id).name != name)
        .collect();
    let readers: BTreeSet<AtomId> = family.readers.union(&family.new_readers).copied().collect();
    let with = if holders.is_empty() {
        String::new()
    } else {
        format!(", with {} that name it", list(&holders))
    };
    format!(
        "{name} changed ({what}): a private copy is read{with}; only {} read it, and its address is kept nowhere",
        list(&readers)
    )
}

/// A constant, the constants that hold its address, and who reads any of them.
#[derive(Default)]
struct Family {
    /// As atoms of the patched version.
    constants: BTreeSet<AtomId>,
    /// Those that the kernel has, too.
    readers: BTreeSet<AtomId>,
    /// Those that only the fix has. They travel where something that travels needs them, and read
    /// the copy as that does.
    new_readers: BTreeSet<AtomId>,
}

impl Family {
    fn take(&mut self, comparison: &Comparison<'_>, first: AtomId) -> Result<(), String> {
        let mut waiting = vec![first];
        // Ends: each atom is taken once.
        while let Some(id) = waiting.pop() {
            if !self.constants.insert(id) {
                continue;
            }
            let holders = self.one(comparison, id, id == first)?;
            if holders.contains(&first) {
                let name = comparison.patched.atom(first).name;
                return Err(format!(
                    "{name} and what holds its address hold each other's"
                ));
            }
            waiting.extend(holders);
        }
        Ok(())
    }

    /// Takes one constant; returns the data that hold its address.
    fn one(
        &mut self,
        comparison: &Comparison<'_>,
        id: AtomId,
        first: bool,
    ) -> Result<Vec<AtomId>, String> {
        let name = comparison.patched.atom(id).name;
        let Some(original) = comparison.pairing.original_of(id) else {
            return Err(format!("{name} is new and holds it"));
        };
        for (unit, id) in [(&comparison.original, original), (&comparison.patched, id)] {
            is_private(unit, id).map_err(|reason| {
                let section = unit.section(unit.atom(id).section).name;
                if first {
                    format!("it lies in {section} and {reason}")
                } else {
                    format!("its address is held by {name} in {section}, which {reason}")
                }
            })?;
        }
        if comparison.pairing.by_order.contains(&id) || comparison.pairing.ambiguous.contains(&id) {
            return Err(format!("{name} shares its name with others"));
        }
        let before = escape::references(&comparison.original, original, !first)
            .map_err(|leak| leak.to_string())?;
        let after =
            escape::references(&comparison.patched, id, !first).map_err(|leak| leak.to_string())?;
        let mates = |ids: &BTreeSet<AtomId>| -> Vec<AtomId> {
            ids.iter()
                .filter_map(|id| comparison.pairing.patched_of(*id))
                .collect()
        };
        for &reader in &before.readers {
            // One that is gone may have been registered somewhere, and goes on reading the old one.
            let reader = whole(&comparison.original, reader)?;
            let Some(mate) = comparison.pairing.patched_of(reader) else {
                let reader = comparison.original.atom(reader).name;
                return Err(format!("{reader}, which is gone, reads it"));
            };
            self.readers.insert(mate);
        }
        for reader in after.readers {
            let reader = whole(&comparison.patched, reader)?;
            if comparison.pairing.of_patched.contains_key(&reader) {
                self.readers.insert(reader);
            } else {
                self.new_readers.insert(reader);
            }
        }
        for holder in &before.holders {
            if comparison.pairing.patched_of(*holder).is_none() {
                let holder = comparison.original.atom(*holder).name;
                return Err(format!("its address is held by {holder}, which is gone"));
            }
        }
        Ok(mates(&before.holders)
            .into_iter()
            .chain(after.holders)
            .collect())
    }
}

/// The function of which `id` is the unlikely part, else `id` itself.
fn whole(unit: &Unit<'_>, id: AtomId) -> Result<AtomId, String> {
    let name = unit.atom(id).name;
    let Some(parent) = names::cold_parent(name) else {
        return Ok(id);
    };
    unit.atom_ids()
        .find(|&other| unit.atom(other).is_code() && unit.atom(other).name == parent)
        .ok_or_else(|| format!("{name} reads it, whose function is not in this unit"))
}

/// Whether only this unit can name the datum, and nobody can write it; else why not.
fn is_private(unit: &Unit<'_>, id: AtomId) -> Result<(), &'static str> {
    let atom = unit.atom(id);
    let section = unit.section(atom.section).name;
    if atom.class != Class::Data || is_writable(unit, id) {
        Err("can be written")
    } else if atom.global {
        Err("is global: other units may read it")
    } else if atom.symbols.is_empty() || !atom.whole || !section.starts_with(".rodata.") {
        Err("shares that with others")
    } else if memory(unit, id).0.is_empty() {
        Ok(())
    } else {
        Err("is memory of a kind of its own")
    }
}
