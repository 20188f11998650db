//! Changed functions that cannot be redirected: their callers are, instead.
//!
//! A function without an ftrace entry stays as it is in the kernel. If it is known who calls it — a
//! local function, called and never pointed to — each caller is replaced by one that calls the
//! module's own version.

use std::collections::{BTreeMap, BTreeSet};

use super::{Comparison, is_traceable};
use crate::names;
use crate::unit::{AtomId, Class, Target, Unit};

/// What became of functions without entries.
#[derive(Debug, Default)]
pub(super) struct Climbed {
    /// Functions to redirect.
    pub changed: BTreeSet<AtomId>,
    /// Functions of which the module brings its own version, called by redirected ones only.
    pub carried: BTreeSet<AtomId>,
    /// What was done, in words.
    pub notes: Vec<String>,
}

/// Replaces functions of `changed` that have no entry by their callers, where all of those are known.
/// A function for which that cannot be done stays in the set, for the refusal.
pub(super) fn climb(comparison: &Comparison<'_>, changed: &BTreeSet<AtomId>) -> Climbed {
    let mut climbed = Climbed::default();
    let mut waiting: Vec<AtomId> = changed.iter().copied().collect();
    let mut through: BTreeMap<AtomId, BTreeSet<AtomId>> = BTreeMap::new();
    // Ends: each function is taken once.
    while let Some(id) = waiting.pop() {
        if climbed.changed.contains(&id) || climbed.carried.contains(&id) {
            continue;
        }
        match callers(comparison, id) {
            Some(callers) if !callers.is_empty() => {
                climbed.carried.insert(id);
                waiting.extend(&callers);
                through.insert(id, callers);
            }
            Some(_) | None => {
                climbed.changed.insert(id);
            }
        }
    }
    for (id, callers) in through {
        let names: BTreeSet<&str> = callers
            .iter()
            .map(|&caller| comparison.patched.atom(caller).name)
            .collect();
        climbed.notes.push(format!(
            "{} has no ftrace entry; all its callers are replaced: {}",
            comparison.patched.atom(id).name,
            names.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    climbed
}

/// The callers of a function without an entry; nothing where it has one, or they are not surely known.
fn callers(comparison: &Comparison<'_>, id: AtomId) -> Option<BTreeSet<AtomId>> {
    let original = comparison.pairing.original_of(id)?;
    let hooked =
        is_traceable(&comparison.patched, id) && is_traceable(&comparison.original, original);
    if hooked || !is_plain(&comparison.original, original) || !is_plain(&comparison.patched, id) {
        return None;
    }
    let mut callers = BTreeSet::new();
    for caller in users(&comparison.original, original)? {
        // One that is gone may have been registered somewhere, and goes on calling the old one.
        callers.insert(comparison.pairing.patched_of(caller)?);
    }
    // A new caller is called by redirected functions only.
    let paired = |id: &AtomId| comparison.pairing.of_patched.contains_key(id);
    callers.extend(users(&comparison.patched, id)?.into_iter().filter(paired));
    callers.remove(&id);
    Some(callers)
}

/// A local function in a section of its own, such as any code may be in: what lies in `.noinstr.text`
/// may not be moved into a module.
fn is_plain(unit: &Unit<'_>, id: AtomId) -> bool {
    let atom = unit.atom(id);
    let section = unit.section(atom.section).name;
    atom.whole && !atom.global && !atom.symbols.is_empty() && section.starts_with(".text.")
}

/// The functions that call or jump to `id`; nothing where anything else refers to it.
fn users(unit: &Unit<'_>, id: AtomId) -> Option<BTreeSet<AtomId>> {
    let mut users = BTreeSet::new();
    for section in unit.file.sections() {
        let class = unit.class(section.index);
        for relocation in unit.relocations(section.index, 0, section.size) {
            let Target::Atom { atom, offset } = unit.target(section.index, relocation) else {
                continue;
            };
            if atom != id {
                continue;
            }
            match class {
                Class::Ignored | Class::OrcAddresses => {}
                // Entries about the function's own code name it by its places.
                Class::Table(_) => {
                    let own = unit.entries().iter().any(|entry| {
                        entry.section == section.index
                            && (entry.start..entry.end).contains(&relocation.offset)
                            && unit.atom_at(entry.code_section, entry.code_offset) == Some(id)
                    });
                    if !own {
                        return None;
                    }
                }
                Class::Code => {
                    let user = unit.atom_at(section.index, relocation.offset)?;
                    let user = function_of(unit, user)?;
                    if user == id {
                        continue;
                    }
                    if offset != 0 || !unit.is_branch(section.index, relocation) {
                        return None;
                    }
                    users.insert(user);
                }
                Class::Data
                | Class::Strings
                | Class::Constants
                | Class::OrcEntries
                | Class::Chunks
                | Class::Init
                | Class::Fixed => return None,
            }
        }
    }
    Some(users)
}

fn function_of(unit: &Unit<'_>, id: AtomId) -> Option<AtomId> {
    let Some(parent) = names::cold_parent(unit.atom(id).name) else {
        return Some(id);
    };
    unit.atom_ids()
        .find(|&other| unit.atom(other).is_code() && unit.atom(other).name == parent)
}
