//! Whether a changed inline function has copies that the search by name did not see.
//!
//! A unit that forms a name by token pasting does not mention it. The kernel's debug data tells all
//! the same which functions each unit holds copies of.

use std::collections::BTreeSet;

use tuxtape_core::profile::functions::FunctionTable;
use tuxtape_livepatch::refusal::{Refusal, Rule};

use crate::replay::Followed;
use crate::unified::TreePath;

/// Most units that one refusal names.
const SHOWN: usize = 4;

/// Refuses functions of changed headers of which units hold code that were not looked at.
///
/// The table also lists files that units include, with the functions of those units; `is_unit` tells
/// them apart.
pub(super) fn elsewhere(
    followed: &[Followed],
    functions: &FunctionTable,
    is_unit: impl Fn(&str) -> bool,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for one in followed {
        let looked_at: BTreeSet<&str> = one.units.iter().map(TreePath::as_str).collect();
        for name in &one.names {
            let missed: Vec<&str> = functions
                .units
                .iter()
                .filter(|(_, held)| held.inlined.contains(name) || held.own.contains(name))
                .map(|(unit, _)| unit.as_str())
                .filter(|unit| !looked_at.contains(unit) && is_unit(unit))
                .collect();
            if missed.is_empty() {
                continue;
            }
            let mut units = missed
                .iter()
                .take(SHOWN)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            if missed.len() > SHOWN {
                units.push_str(&format!(" and {} more", missed.len() - SHOWN));
            }
            refusals.push(Refusal {
                rule: Rule::InlinedElsewhere,
                unit: one.header.clone(),
                symbol: name.clone(),
                why: format!("by the debug data it has code in {units}, which do not mention it"),
            });
        }
    }
    refusals
}

#[cfg(test)]
mod tests {
    use tuxtape_core::profile::functions::UnitFunctions;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn table(units: &[(&str, &[&str], &[&str])]) -> FunctionTable {
        let units = units.iter().map(|(unit, own, inlined)| {
            let functions = UnitFunctions {
                own: names(own),
                inlined: names(inlined),
            };
            ((*unit).to_owned(), functions)
        });
        FunctionTable {
            units: units.collect(),
        }
    }

    fn followed(units: &[&str]) -> Vec<Followed> {
        vec![Followed {
            header: "include/net/x.h".to_owned(),
            names: names(&["pull", "struct_x"]),
            units: units.iter().map(|unit| unit.parse().unwrap()).collect(),
        }]
    }

    #[test]
    fn copies_in_units_that_were_looked_at_are_no_reason() {
        let table = table(&[
            ("net/a.c", &["f"], &["pull"]),
            ("net/b.c", &["pull"], &[]),
            ("net/c.c", &["g"], &["push"]),
        ]);
        let looked = followed(&["net/a.c", "net/b.c"]);
        assert_eq!(elsewhere(&looked, &table, |_| true), []);
    }

    #[test]
    fn a_copy_that_no_name_led_to_is_refused() {
        let table = table(&[("net/a.c", &["f"], &["pull"]), ("net/b.c", &["pull"], &[])]);
        assert_eq!(
            elsewhere(&followed(&["net/a.c"]), &table, |unit| unit != "net/b.c"),
            []
        );
        let refusals = elsewhere(&followed(&["net/a.c"]), &table, |_| true);
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].rule, Rule::InlinedElsewhere);
        assert_eq!(refusals[0].symbol, "pull");
        assert!(refusals[0].why.contains("net/b.c"), "{}", refusals[0].why);
    }
}
