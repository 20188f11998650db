//! Changed code and data that are gone after boot.
//!
//! A livepatch is loaded after the kernel image has run its init code and freed it: a change there
//! has no effect any more and may be left out, with the reason shown. A module may still be loaded
//! later and would run the old init code: there it stays a refusal.

use std::collections::BTreeSet;

use super::Comparison;
use crate::elf::{Relocation, SectionIndex};
use crate::pairing::is_writable;
use crate::refusal::Rule;
use crate::unit::{AtomId, Class, Target, Unit, is_special};

/// One difference in a section that is gone after boot or module load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    /// The function, variable or section.
    pub name: String,
    /// Its section.
    pub section: String,
    /// What happened to it, in words that the section ends: "changed in".
    pub what: &'static str,
    /// Its atom in the patched version, where it has one.
    pub patched: Option<AtomId>,
}

impl Gone {
    /// The reason to refuse it where it may still run.
    pub(super) fn why(&self) -> String {
        format!("{} {}", self.what, self.section)
    }
}

impl Comparison<'_> {
    /// Leaves out what of the change ran at boot, for a unit of the kernel image. Each thing left out
    /// is told in [`Comparison::notes`].
    ///
    /// Refused is init code of a fix that brings anything new to set up, and what may run later after
    /// all (`.meminit` with memory hotplug, `.ref` always).
    pub fn leave_out_boot_code(&mut self) {
        let mut notes = Vec::new();
        let gone = std::mem::take(&mut self.gone);
        let new = self.new_state();
        for one in &gone {
            if !is_gone_after_boot(&one.section) {
                continue;
            }
            // Exit code sets nothing up.
            let sets_up = one.section.starts_with(".init.");
            if let Some(name) = new.first().filter(|_| sets_up) {
                let why = format!(
                    "{} {}, and it may be what sets up {name}, which is new",
                    one.what, one.section
                );
                self.refusals.retain(|refusal| !is_about(refusal, one));
                self.refuse(Rule::InitCode, &one.name, why);
                continue;
            }
            let shared = one.patched.map(|id| self.shared_with(id));
            let shared = shared.unwrap_or_default();
            self.refusals.retain(|refusal| !is_about(refusal, one));
            let mut note = format!(
                "{} ({} {}) ran at boot and is left out",
                one.name, one.what, one.section
            );
            if !shared.is_empty() {
                note.push_str(&format!(
                    "; it shares {} with changed functions: see that they can do with what the old one left",
                    shared.join(", ")
                ));
            }
            notes.push(note);
        }
        self.gone = gone;
        self.notes.extend(notes);
        self.refusals.sort();
    }

    /// What the fix brings that code at boot may have to set up: new variables, keys of switched
    /// branches and calls, and variables of other units that this one did not name before. By which way
    /// (a helper, a table of pointers) is not followed: any of them is one too many.
    fn new_state(&self) -> Vec<String> {
        let unit = &self.patched;
        let mut new: Vec<String> = unit
            .atom_ids()
            .filter(|id| !self.pairing.of_patched.contains_key(id))
            .filter(|&id| is_writable(unit, id) && !is_special(unit, unit.atom(id)))
            .map(|id| unit.atom(id))
            .filter(|atom| atom.class == Class::Data)
            .map(|atom| atom.name.to_owned())
            .collect();
        let before = outside(&self.original, |_, _| true);
        let named = outside(unit, |section, relocation| {
            unit.class(section) != Class::Init && !unit.is_branch(section, relocation)
        });
        new.extend(named.difference(&before).map(|name| (*name).to_owned()));
        new
    }

    /// The variables that a function which does not run again shares with what travels.
    fn shared_with(&self, id: AtomId) -> Vec<String> {
        let unit = &self.patched;
        let named = |id: AtomId| {
            let section = unit.atom(id).section;
            unit.relocations_of(id)
                .iter()
                .filter_map(move |relocation| match unit.target(section, relocation) {
                    Target::Atom { atom, .. } => Some(atom),
                    Target::Outside { .. }
                    | Target::Content { .. }
                    | Target::Absolute(_)
                    | Target::Lost { .. } => None,
                })
        };
        let used: BTreeSet<AtomId> = self.travels.iter().flat_map(|&id| named(id)).collect();
        let shared: BTreeSet<AtomId> = named(id)
            .filter(|&to| unit.atom(to).class == Class::Data && is_writable(unit, to))
            .filter(|to| used.contains(to))
            .collect();
        shared
            .into_iter()
            .map(|id| unit.atom(id).name.to_owned())
            .collect()
    }
}

/// The names outside of the unit that its relocations have, those that `wanted` picks.
fn outside<'unit>(
    unit: &'unit Unit<'_>,
    wanted: impl Fn(SectionIndex, &Relocation) -> bool,
) -> BTreeSet<&'unit str> {
    let mut names = BTreeSet::new();
    for section in unit.file.sections() {
        if unit.class(section.index) == Class::Ignored {
            continue;
        }
        for relocation in unit.relocations(section.index, 0, section.size) {
            if let Target::Outside { symbol, .. } = unit.target(section.index, relocation)
                && wanted(section.index, relocation)
            {
                names.insert(unit.symbol(symbol).name);
            }
        }
    }
    names
}

fn is_about(refusal: &crate::refusal::Refusal, one: &Gone) -> bool {
    refusal.rule == Rule::InitCode && refusal.symbol == one.name && refusal.why == one.why()
}

/// Sections of the kernel image that are freed when it has booted (`free_initmem`). Its exit code never
/// runs.
fn is_gone_after_boot(section: &str) -> bool {
    section.starts_with(".init.") || section.starts_with(".exit.")
}
