//! What a person must look at that shows in the kernel around a unit, not in the unit.

use tuxtape_livepatch::emit::Emitted;
use tuxtape_livepatch::lint::{Finding, Lint};

use super::UnitPair;

/// The first series that clears what a livepatch wrote into a module when that module goes.
const CLEARS: (u32, u32) = (6, 3);

pub(super) fn findings(pair: &UnitPair, part: &Emitted, series: (u32, u32)) -> Vec<Finding> {
    let finding = |rule, symbol: &str, what: String| Finding {
        rule,
        unit: pair.unit.clone(),
        symbol: symbol.to_owned(),
        what,
    };
    let mut found = Vec::new();
    if !pair.parent.is_vmlinux() && series < CLEARS {
        let what = "is patched, and this kernel cannot load it anew meanwhile".to_owned();
        found.push(finding(Lint::Reload, &pair.parent.0, what));
    }
    for namespace in &part.namespaces {
        let what = "is imported for what the new code uses".to_owned();
        found.push(finding(Lint::Namespace, namespace, what));
    }
    found
}
