//! What a person must look at that shows in the kernel around the units, not in a unit.

use std::collections::BTreeMap;

use tuxtape_livepatch::emit::Emitted;
use tuxtape_livepatch::lint::{Finding, Lint};

use super::UnitPair;

/// The first series that clears what a livepatch wrote into a module when that module goes.
const CLEARS: (u32, u32) = (6, 3);

/// Tells each module and each namespace once, with the first unit that has to do with it.
pub(super) fn around(emitted: &[(&UnitPair, Emitted)], series: (u32, u32)) -> Vec<Finding> {
    let mut found: BTreeMap<(Lint, &str), (&UnitPair, &'static str)> = BTreeMap::new();
    for (pair, part) in emitted {
        if !pair.parent.is_vmlinux() && series < CLEARS {
            let what = "is patched, and this kernel cannot load it anew meanwhile";
            found
                .entry((Lint::Reload, &pair.parent.0))
                .or_insert((pair, what));
        }
        for namespace in &part.namespaces {
            let what = "is imported for what the new code uses";
            found
                .entry((Lint::Namespace, namespace))
                .or_insert((pair, what));
        }
    }
    found
        .into_iter()
        .map(|((rule, symbol), (pair, what))| Finding {
            rule,
            unit: pair.unit.clone(),
            symbol: symbol.to_owned(),
            what: what.to_owned(),
        })
        .collect()
}
