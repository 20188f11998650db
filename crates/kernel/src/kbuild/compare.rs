//! An evaluation beside what the debug data of the same kernel shows.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;

use super::Evaluated;

/// Pairs of a unit and an object it goes into.
pub type Pairs = BTreeSet<(String, ObjectName)>;

/// How an evaluation and a profile from debug data differ. Units that are in no tree, such as
/// `x.mod.c`, are left out: the build makes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Units of the tree found by both, each with an object.
    pub both: Pairs,
    /// Units of the tree that only the debug data shows.
    pub missed: Pairs,
    /// Units of the tree that only the evaluation names.
    pub extra: Pairs,
    /// Units that are in no tree, by debug data.
    pub made: Pairs,
    /// Files of the tree with code in the kernel that would pass for "not compiled": neither unit,
    /// nor contributor, nor blind.
    pub wrongly_not_built: BTreeSet<String>,
    /// Modules that only the package has.
    pub missed_modules: BTreeSet<ObjectName>,
    /// Modules that only the evaluation has.
    pub extra_modules: BTreeSet<ObjectName>,
}

/// Compares `evaluated` with `truth`, a profile from debug data, and with the modules of the package.
pub fn compare(
    evaluated: &Evaluated,
    truth: &KernelProfile,
    modules: &BTreeSet<ObjectName>,
    tree: &BTreeSet<String>,
) -> Comparison {
    let pairs = |units: &BTreeMap<String, BTreeSet<ObjectName>>, inside: bool| -> Pairs {
        units
            .iter()
            .filter(|(path, _)| tree.contains(*path) == inside)
            .flat_map(|(path, objects)| {
                objects
                    .iter()
                    .map(move |object| (path.clone(), object.clone()))
            })
            .collect()
    };
    let (shown, named) = (pairs(&truth.units, true), pairs(&evaluated.units, true));
    let wrongly_not_built = truth
        .units
        .keys()
        .chain(truth.contributors.keys())
        .filter(|path| tree.contains(*path) && path.strip_suffix(".h").is_none())
        .filter(|path| !accounts_for(evaluated, path))
        .cloned()
        .collect();
    Comparison {
        both: shown.intersection(&named).cloned().collect(),
        missed: shown.difference(&named).cloned().collect(),
        extra: named.difference(&shown).cloned().collect(),
        made: pairs(&truth.units, false),
        wrongly_not_built,
        missed_modules: modules.difference(&evaluated.modules).cloned().collect(),
        extra_modules: evaluated.modules.difference(modules).cloned().collect(),
    }
}

/// Tells whether `path` is compiled by the evaluation, or not known to be left out.
fn accounts_for(evaluated: &Evaluated, path: &str) -> bool {
    evaluated.units.contains_key(path)
        || evaluated.contributors.contains_key(path)
        || evaluated.is_blind(path)
}

impl Evaluated {
    /// Tells whether it is not known if `path` is compiled.
    pub fn is_blind(&self, path: &str) -> bool {
        self.blind.contains_key(path)
            || path
                .match_indices('/')
                .filter_map(|(at, _)| path.get(..=at))
                .any(|folder| self.blind.contains_key(folder))
    }
}
