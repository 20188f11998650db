//! Which functions of each unit left code in a kernel.

use std::collections::{BTreeMap, BTreeSet};

/// The functions of every compiled unit, from its debug data or symbols.
///
/// Kept apart from [`KernelProfile`](super::KernelProfile): most questions do not need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionTable {
    /// Unit (`net/core/dev.c`), or `.c` file that units take in → its functions; for the latter all
    /// functions of those units. What is absent here was not looked at.
    pub units: BTreeMap<String, UnitFunctions>,
}

/// The functions of one unit, by their names in the source, without the compiler's suffixes
/// (`.isra.0`, `.constprop.0`, `.part.0`, `.cold`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFunctions {
    /// With a body of their own.
    pub own: BTreeSet<String>,
    /// With a copy inlined into another function, or without a place of its own, perhaps because the
    /// compiler found it equal to another and keeps one body; may be in `own`, too. Functions of
    /// headers and of included `.c` files count here and in `own` as those of the unit.
    pub inlined: BTreeSet<String>,
}
