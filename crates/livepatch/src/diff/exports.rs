//! Exports that come or go with a fix.
//!
//! The kernel's lists of exports cannot be changed while it runs, and need not be: no module that
//! exists was built to need an export that is new, and one that is gone does no harm by staying.

use std::collections::{BTreeMap, BTreeSet};

use super::lone;
use crate::meaning::View;
use crate::refusal::Rule;
use crate::unit::Class;

/// Holds the names and namespaces of a unit's exports, which each export names.
pub(super) const STRINGS: &str = "__ksymtab_strings";

/// What a change of the lists of exports comes to.
#[derive(Debug, Default)]
pub(super) struct Exports {
    /// What is left as it is, in words.
    pub notes: Vec<String>,
    /// What cannot be.
    pub refused: Vec<(Rule, String, String)>,
}

/// The symbol that a section of one export is about: `f` for `___ksymtab_gpl+f`.
pub(super) fn exported(section: &str) -> Option<&str> {
    [
        "___ksymtab+",
        "___ksymtab_gpl+",
        "___kcrctab+",
        "___kcrctab_gpl+",
    ]
    .iter()
    .find_map(|prefix| section.strip_prefix(prefix))
}

/// Compares the exports of both versions; `changed` are the functions that differ, by name.
pub(super) fn compare(
    left: &View<'_, '_>,
    right: &View<'_, '_>,
    changed: &BTreeSet<&str>,
) -> Exports {
    let mut found = Exports::default();
    let (gone, come) = (alone(left), alone(right));
    for (name, section) in &gone {
        if let Some(new) = come.get(name) {
            found.refused.push((
                Rule::Registration,
                (*name).to_owned(),
                format!("its export moved from {section} to {new}"),
            ));
        } else if changed.contains(name) || lives_on_as_a_clone(right, name) {
            found.refused.push((
                Rule::Registration,
                (*name).to_owned(),
                "is exported no more and changed: modules go on to call it".to_owned(),
            ));
        } else {
            found
                .notes
                .push(format!("{name} stays exported; the fix exports it no more"));
        }
    }
    for name in come.keys().filter(|name| !gone.contains_key(*name)) {
        found.notes.push(format!(
            "the new export {name} is left out: nothing that is built already can need it"
        ));
    }
    found
}

/// Whether the function has only clones (`f.constprop.0`) left: those are the changed ones, and modules
/// call the whole.
fn lives_on_as_a_clone(view: &View<'_, '_>, name: &str) -> bool {
    let mut code = view.unit.atom_ids().map(|id| view.unit.atom(id));
    code.any(|atom| {
        let clone = atom.name.strip_prefix(name);
        atom.is_code() && clone.is_some_and(|rest| rest.starts_with('.') && !rest.contains("cold"))
    })
}

/// Exports that only this version has, with the section of each.
fn alone<'unit>(view: &View<'unit, '_>) -> BTreeMap<&'unit str, &'unit str> {
    lone(view, Class::Fixed)
        .into_iter()
        .filter_map(|(id, ..)| {
            let section = view.unit.section(view.unit.atom(id).section).name;
            Some((exported(section)?, section))
        })
        .collect()
}
