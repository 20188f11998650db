//! The families of reports.
//!
//! Titles of the first part are those of the public corpus of kernel reports, so that two tools
//! name a bug alike; those of [`production`] are ours. Header texts are the kernel's own, of 4.x to
//! 7.x: where a version changed one, both stand here.

mod arch;
mod bug;
mod info;
mod production;
mod warning;

use std::sync::LazyLock;

use super::shape::Family;

/// All families, in order of precedence when one line has several.
pub(super) static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let mut all = vec![bug::BUG, warning::WARNING, info::INFO];
    all.extend(arch::families());
    all.extend(production::families());
    all
});

/// The texts that open a report.
pub(crate) fn literals() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.literal)
}
