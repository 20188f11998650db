//! Which objects a fix makes different.

use std::collections::{BTreeMap, BTreeSet};

use super::kbuild::BuiltUnits;
use super::tree::WorkTree;
use super::{ReplayError, Replayed, reach};
use crate::unified::{self, Diff, PatchedFile, TreePath};

/// One object to compile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub object: String,
    pub unit: TreePath,
}

/// A file before (`None`: not there) and after the fix.
pub(super) struct Changed {
    pub before: Option<Vec<u8>>,
    pub after: Option<PatchedFile>,
}

pub(super) fn apply(
    fix: &Diff,
    tree: &WorkTree,
) -> Result<BTreeMap<TreePath, Changed>, ReplayError> {
    let mut changed: BTreeMap<TreePath, Changed> = BTreeMap::new();
    for diff in &fix.files {
        let state = if let Some(state) = changed.remove(&diff.path) {
            state
        } else {
            let before = tree.read(&diff.path)?;
            let after = before.as_deref().map(PatchedFile::pristine);
            Changed { before, after }
        };
        let after = unified::apply(diff, state.after.as_ref())?;
        changed.insert(
            diff.path.clone(),
            Changed {
                before: state.before,
                after,
            },
        );
    }
    Ok(changed)
}

/// Folders whose files never reach a kernel object.
const APART: [&str; 6] = [
    "Documentation/",
    "LICENSES/",
    "samples/",
    "tools/testing/",
    "tools/perf/",
    "rust/",
];

/// Folders that Kbuild compiles by rules of their own.
const OWN_RULES: [&str; 9] = [
    "arch/x86/boot/",
    "arch/x86/entry/vdso/",
    "arch/x86/purgatory/",
    "arch/x86/realmode/",
    "drivers/firmware/efi/libstub/",
    "scripts/",
    "tools/",
    "usr/",
    "certs/",
];

pub(super) fn targets(
    changed: &BTreeMap<TreePath, Changed>,
    units: &BuiltUnits,
    tree: &WorkTree,
    header_units: usize,
    result: &mut Replayed,
) -> Result<BTreeSet<Target>, ReplayError> {
    let mut touched: BTreeSet<TreePath> = BTreeSet::new();
    let mut included: Vec<&TreePath> = Vec::new();
    for (path, file) in changed {
        let refuse = |why| {
            Err(ReplayError::Unreplayable {
                path: path.clone(),
                why,
            })
        };
        let text = path.as_str();
        if units.units.contains_key(path) {
            if file.after.is_none() {
                return refuse("a unit of this kernel is deleted");
            }
            touched.insert(path.clone());
            // A unit may be part of another one, too.
            included.push(path);
        } else if APART.iter().any(|folder| text.starts_with(folder)) {
            result.unused.push(path.clone());
        } else if OWN_RULES.iter().any(|folder| text.starts_with(folder)) {
            return refuse("it is compiled by rules of its own, outside the kernel's units");
        } else if text.starts_with("arch/") && !text.starts_with("arch/x86/") {
            result.unused.push(path.clone());
        } else if matches!(path.name(), "Makefile" | "Kbuild") || path.name().starts_with("Kconfig")
        {
            return refuse("it decides what is built");
        } else if matches!(path.extension(), Some("S" | "lds")) {
            return refuse("it is not C");
        } else if path.extension() == Some("c") && file.before.is_none() {
            return refuse("a new unit");
        } else {
            included.push(path);
        }
    }
    let reached = reach::reached(&included, changed, units, tree, header_units, result)?;
    touched.extend(reached);
    Ok(touched
        .into_iter()
        .filter_map(|unit| Some((units.units.get(&unit)?, unit)))
        .flat_map(|(objects, unit)| {
            objects.iter().map(move |object| Target {
                object: object.clone(),
                unit: unit.clone(),
            })
        })
        .collect())
}

/// Returns the files of a fix as they are written.
pub(super) fn contents(
    changed: &BTreeMap<TreePath, Changed>,
    keep_lines: bool,
) -> Vec<(TreePath, Option<Vec<u8>>)> {
    changed
        .iter()
        .map(|(path, file)| {
            let c = matches!(path.extension(), Some("c" | "h"));
            let bytes = file.after.as_ref().map(|after| {
                if keep_lines && c && file.before.is_some() {
                    unified::keep_line_numbers(after)
                } else {
                    after.bytes()
                }
            });
            (path.clone(), bytes)
        })
        .collect()
}
