//! What changed functions call: locks, sleeping, permissions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Lint, words};
use crate::diff::Comparison;
use crate::names;
use crate::unit::{AtomId, Target, Unit};

/// One version of a function with its unlikely part.
pub(super) struct Body<'unit, 'data> {
    pub(super) unit: &'unit Unit<'data>,
    pub(super) atoms: Vec<AtomId>,
}

/// A call or jump to another function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call<'data> {
    /// Which of the body's atoms it is in.
    pub(super) part: usize,
    /// Offset in that atom's section.
    pub(super) at: u64,
    /// Name of the function, as the object has it.
    pub(super) to: &'data str,
}

impl<'unit, 'data> Body<'unit, 'data> {
    /// The function `atom` of `unit`.
    pub(super) fn of(unit: &'unit Unit<'data>, atom: AtomId) -> Self {
        let name = unit.atom(atom).name;
        let cold = unit
            .atom_ids()
            .filter(|&id| unit.atom(id).is_code())
            .filter(|&id| names::cold_parent(unit.atom(id).name) == Some(name));
        let atoms = std::iter::once(atom).chain(cold).collect();
        Self { unit, atoms }
    }

    /// Its calls, in the order of the code; the unlikely part comes last.
    pub(super) fn calls(&self) -> Vec<Call<'data>> {
        let mut calls = Vec::new();
        for (part, &id) in self.atoms.iter().enumerate() {
            let section = self.unit.atom(id).section;
            for relocation in self.unit.relocations_of(id) {
                if !self.unit.is_branch(section, relocation) {
                    continue;
                }
                let to = match self.unit.target(section, relocation) {
                    Target::Outside { symbol, .. } => self.unit.symbol(symbol).name,
                    Target::Atom { atom, offset: 0 } if !self.atoms.contains(&atom) => {
                        self.unit.atom(atom).name
                    }
                    Target::Atom { .. }
                    | Target::Content { .. }
                    | Target::Absolute(_)
                    | Target::Lost { .. } => continue,
                };
                if to != "__fentry__" {
                    calls.push(Call {
                        part,
                        at: relocation.offset,
                        to,
                    });
                }
            }
        }
        calls
    }
}

/// The two versions of each changed function, and functions that are new.
pub(super) fn bodies<'run, 'data>(
    comparison: &'run Comparison<'data>,
) -> Vec<(&'run str, Option<Body<'run, 'data>>, Body<'run, 'data>)> {
    let mut bodies = Vec::new();
    for &id in &comparison.travels {
        let atom = comparison.patched.atom(id);
        if !atom.is_code() || names::cold_parent(atom.name).is_some() {
            continue;
        }
        let original = comparison.pairing.original_of(id);
        bodies.push((
            comparison.original_name(id),
            original.map(|id| Body::of(&comparison.original, id)),
            Body::of(&comparison.patched, id),
        ));
    }
    bodies
}

pub(super) fn look(comparison: &Comparison<'_>, found: &mut Found<'_>) {
    let bodies = bodies(comparison);
    for (name, before, after) in &bodies {
        let before = before.as_ref().map(Body::calls).unwrap_or_default();
        let after = after.calls();
        let pick = |calls: &[Call<'_>], of: fn(&str) -> bool| -> Vec<String> {
            let picked = calls.iter().filter(|call| of(call.to));
            picked.map(|call| call.to.to_owned()).collect()
        };
        let of = |of: fn(&str) -> bool| (pick(&before, of), pick(&after, of));
        let (old, new) = of(words::is_lock);
        if let Some(what) = differs(&old, &new) {
            found.note(Lint::Locking, name, what);
        }
        let (old, new) = of(words::is_permission);
        if let Some(what) = differs(&old, &new) {
            found.note(Lint::Interface, name, what);
        }
    }
    sleep(&bodies, found);
}

/// Sleeping is new where no version of the function did before, itself or in what it calls here.
fn sleep(bodies: &[(&str, Option<Body<'_, '_>>, Body<'_, '_>)], found: &mut Found<'_>) {
    for (name, before, after) in bodies {
        // A new function counts for the changed one that calls it.
        let Some(before) = before else { continue };
        if before.calls().iter().any(|call| words::may_sleep(call.to)) {
            continue;
        }
        let mut reached: BTreeSet<AtomId> = after.atoms.iter().copied().collect();
        let mut open = after.calls();
        let mut asleep = BTreeSet::new();
        while let Some(call) = open.pop() {
            if words::may_sleep(call.to) {
                asleep.insert(call.to);
            }
            let callee = bodies.iter().find(|(other, before, body)| {
                before.is_none()
                    && *other == call.to
                    && reached.is_disjoint(&body.atoms.iter().copied().collect())
            });
            if let Some((_, _, body)) = callee {
                reached.extend(&body.atoms);
                open.extend(body.calls());
            }
        }
        if !asleep.is_empty() {
            let list: Vec<&str> = asleep.into_iter().collect();
            found.note(
                Lint::Atomic,
                name,
                format!(
                    "calls {}, and nothing that sleeps before the fix",
                    list.join(", ")
                ),
            );
        }
    }
}

/// Says how two runs of calls differ: in how often each is made, or else in their order.
fn differs(old: &[String], new: &[String]) -> Option<String> {
    if old == new {
        return None;
    }
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for name in old {
        counts.entry(name).or_default().0 += 1;
    }
    for name in new {
        counts.entry(name).or_default().1 += 1;
    }
    counts.retain(|_, (before, after)| before != after);
    if counts.is_empty() {
        return Some(format!("calls {} in another order", unique(new).join(", ")));
    }
    let words = counts
        .iter()
        .map(|(name, (before, after))| match (before, after) {
            (0, 1) => format!("calls {name}"),
            (0, more) => format!("calls {name} {more} times"),
            (_, 0) => format!("no longer calls {name}"),
            (before, after) => format!("calls {name} {after} times, before {before}"),
        });
    Some(words.collect::<Vec<_>>().join("; "))
}

fn unique(names: &[String]) -> Vec<&str> {
    let set: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    set.into_iter().collect()
}
