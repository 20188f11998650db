//! Changed code and data that are gone after boot.
//!
//! A livepatch is loaded after the kernel image has run its init code and freed it: a change there
//! has no effect any more and may be left out, with the reason shown. A module may still be loaded
//! later and would run the old init code: there it stays a refusal.

use std::collections::BTreeSet;

use super::Comparison;
use crate::pairing::is_writable;
use crate::refusal::Rule;
use crate::unit::{AtomId, Class, Target};

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
    /// What new code of the unit would need it for is refused, and so is what may run later after all
    /// (`.meminit` with memory hotplug, `.ref` always).
    pub fn leave_out_boot_code(&mut self) {
        let mut notes = Vec::new();
        let gone = std::mem::take(&mut self.gone);
        for one in &gone {
            if !is_gone_after_boot(&one.section) {
                continue;
            }
            let needed = one.patched.map(|id| self.set_up_by(id)).unwrap_or_default();
            if let Some(name) = needed.new.first() {
                let why = format!(
                    "{} {}, and changed functions use {name}, which it would set up",
                    one.what, one.section
                );
                self.refusals.retain(|refusal| !is_about(refusal, one));
                self.refuse(Rule::InitCode, &one.name, why);
                continue;
            }
            self.refusals.retain(|refusal| !is_about(refusal, one));
            let mut note = format!(
                "{} ({} {}) ran at boot and is left out",
                one.name, one.what, one.section
            );
            if !needed.shared.is_empty() {
                note.push_str(&format!(
                    "; it shares {} with changed functions: see that they can do with what the old one left",
                    needed.shared.join(", ")
                ));
            }
            notes.push(note);
        }
        self.gone = gone;
        self.notes.extend(notes);
        self.refusals.sort();
    }

    /// What a function that does not run again would have set up for the changed ones.
    fn set_up_by(&self, id: AtomId) -> Needed {
        let unit = &self.patched;
        let atom = unit.atom(id);
        let mut named: BTreeSet<AtomId> = BTreeSet::new();
        for relocation in unit.relocations_of(id) {
            if let Target::Atom { atom: to, .. } = unit.target(atom.section, relocation)
                && unit.atom(to).class == Class::Data
                && is_writable(unit, to)
            {
                named.insert(to);
            }
        }
        let is_new = |id: &AtomId| !self.pairing.of_patched.contains_key(id);
        let used: BTreeSet<AtomId> = self
            .travels
            .iter()
            .flat_map(|&id| {
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
            })
            .collect();
        let both = named.intersection(&used).copied();
        let name = |id: AtomId| unit.atom(id).name.to_owned();
        let (new, shared): (Vec<AtomId>, Vec<AtomId>) = both.partition(is_new);
        Needed {
            new: new
                .into_iter()
                .filter(|&id| !crate::unit::is_special(unit, unit.atom(id)))
                .map(name)
                .collect(),
            shared: shared.into_iter().map(name).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Needed {
    new: Vec<String>,
    shared: Vec<String>,
}

fn is_about(refusal: &crate::refusal::Refusal, one: &Gone) -> bool {
    refusal.rule == Rule::InitCode && refusal.symbol == one.name && refusal.why == one.why()
}

/// Sections of the kernel image that are freed when it has booted (`free_initmem`). Its exit code never
/// runs.
fn is_gone_after_boot(section: &str) -> bool {
    section.starts_with(".init.") || section.starts_with(".exit.")
}
