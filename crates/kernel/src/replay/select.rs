//! Which objects a fix makes different.

use std::collections::{BTreeMap, BTreeSet};

use super::kbuild::BuiltUnits;
use super::tree::WorkTree;
use super::{ReplayError, Replayed};
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

/// What a file of a fix is to this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// One of its units.
    Unit,
    /// Perhaps part of units, by being included.
    Included,
    /// Nothing.
    Unused,
    /// Something a livepatch cannot carry, for this reason.
    Refused(&'static str),
}

/// Tells what `path` is. A file that is not known to be harmless is refused: without it the module would
/// hold half a fix.
fn fate(path: &TreePath, unit: bool, new: bool, deleted: bool) -> Fate {
    /// Texts that are included; what else acts on the kernel does so through programs of its build.
    const INCLUDED: [&str; 7] = ["c", "h", "inc", "def", "in", "reg", "pro"];
    const INERT: [&str; 7] = ["dts", "dtsi", "dtso", "md", "rst", "yaml", "gitignore"];
    const INERT_NAMES: [&str; 6] = [
        ".gitignore",
        ".mailmap",
        "COPYING",
        "CREDITS",
        "MAINTAINERS",
        "README",
    ];
    /// Headers that programs of the build read: tables of names and numbers are made of them, and what
    /// includes those is not known to include these.
    const READ_BY_PROGRAMS: [&str; 6] = [
        "arch/x86/include/asm/cpufeatures.h",
        "include/linux/mod_devicetable.h",
        "include/linux/oid_registry.h",
        "include/scsi/scsi_devinfo.h",
        "security/selinux/include/classmap.h",
        "security/selinux/include/initial_sid_to_string.h",
    ];
    let (text, name) = (path.as_str(), path.name());
    let under = |folders: &[&str]| folders.iter().any(|folder| text.starts_with(folder));
    let extension = path.extension();
    let generates = [
        "asm-offsets",
        "bounds.",
        "gen-",
        "gen_",
        "mk",
        "conmakehash",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
        || name.ends_with(".bpf.c");
    if unit {
        return if deleted {
            Fate::Refused("a unit of this kernel is deleted")
        } else {
            Fate::Unit
        };
    }
    if READ_BY_PROGRAMS.contains(&text) {
        return Fate::Refused("a program of the kernel's build makes code of it");
    }
    if under(&APART) || INERT_NAMES.contains(&name) {
        Fate::Unused
    } else if under(&OWN_RULES) {
        Fate::Refused("it is compiled by rules of its own, outside the kernel's units")
    } else if text.starts_with("arch/") && !text.starts_with("arch/x86/") {
        Fate::Unused
    } else if matches!(name, "Makefile" | "Kbuild") || name.starts_with("Kconfig") {
        Fate::Refused("it decides what is built")
    } else if matches!(extension, Some("S" | "lds")) {
        Fate::Refused("it is not C")
    } else if extension == Some("c") && generates {
        Fate::Refused("a program of the kernel's build makes code of it")
    } else if extension == Some("c") && new {
        Fate::Refused("a new unit")
    } else if extension.is_some_and(|extension| INERT.contains(&extension)) {
        Fate::Unused
    } else if extension.is_some_and(|extension| INCLUDED.contains(&extension)) {
        Fate::Included
    } else {
        Fate::Refused("what it brings into the kernel is not known")
    }
}

/// What the files of a fix are to this kernel.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    /// Units among them.
    pub units: BTreeSet<TreePath>,
    /// Files that units may include; a unit may be part of another one, too.
    pub included: Vec<&'a TreePath>,
}

/// Sorts the files of a fix; those that reach no unit are noted in `result`.
pub(super) fn named<'a>(
    changed: &'a BTreeMap<TreePath, Changed>,
    units: &BuiltUnits,
    result: &mut Replayed,
) -> Result<Named<'a>, ReplayError> {
    let mut named = Named::default();
    for (path, file) in changed {
        let unit = units.units.contains_key(path);
        match fate(path, unit, file.before.is_none(), file.after.is_none()) {
            Fate::Refused(why) => {
                return Err(ReplayError::Unreplayable {
                    path: path.clone(),
                    why,
                });
            }
            Fate::Unused => result.unused.push(path.clone()),
            Fate::Unit => {
                named.units.insert(path.clone());
                named.included.push(path);
            }
            Fate::Included => named.included.push(path),
        }
    }
    Ok(named)
}

/// The objects that `touched` are compiled into.
pub(super) fn targets_of(touched: &BTreeSet<TreePath>, units: &BuiltUnits) -> BTreeSet<Target> {
    touched
        .iter()
        .filter_map(|unit| Some((units.units.get(unit)?, unit)))
        .flat_map(|(objects, unit)| {
            objects.iter().map(move |object| Target {
                object: object.clone(),
                unit: unit.clone(),
            })
        })
        .collect()
}

/// Headers for fixes that are written for a livepatch, found as those of `include/` are. They are
/// compiled into modules, under the licence they name.
const HELPERS: [(&str, &str); 2] = [
    (
        "kpatch-macros.h",
        include_str!("../../../../gpl/kpatch-macros.h"),
    ),
    (
        "kpatch-syscall.h",
        include_str!("../../../../gpl/kpatch-syscall.h"),
    ),
];

/// Returns the files of a fix as they are written, with the helper headers that they include.
pub(super) fn contents(
    changed: &BTreeMap<TreePath, Changed>,
    keep_lines: bool,
) -> Vec<(TreePath, Option<Vec<u8>>)> {
    let mut files: Vec<(TreePath, Option<Vec<u8>>)> = changed
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
        .collect();
    let names = |name: &str| {
        files.iter().any(|(_, bytes)| {
            let bytes = bytes.as_deref().unwrap_or_default();
            memchr::memmem::find(bytes, name.as_bytes()).is_some()
        })
    };
    if HELPERS.iter().any(|(name, _)| names(name)) {
        let helpers = HELPERS.iter().filter_map(|(name, text)| {
            let path: TreePath = format!("include/{name}").parse().ok()?;
            let brought = changed.contains_key(&path);
            (!brought).then(|| (path, Some(text.as_bytes().to_vec())))
        });
        files.extend(helpers.collect::<Vec<_>>());
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Fate {
        fate(&path.parse().unwrap(), false, false, false)
    }

    #[test]
    fn what_acts_through_programs_of_the_build_is_refused_not_unused() {
        for path in [
            "arch/x86/entry/syscalls/syscall_64.tbl",
            "arch/x86/lib/x86-opcode-map.txt",
            "arch/x86/kernel/asm-offsets.c",
            "arch/x86/crypto/sha256-mb.pl",
            "crypto/rsapubkey.asn1",
            "drivers/tty/vt/defkeymap.map",
            "kernel/bounds.c",
            "kernel/bpf/preload/iterators/iterators.bpf.c",
            "lib/gen_crc32table.c",
            "lib/raid6/mktables.c",
            "net/Kconfig",
            "net/core/Makefile",
            "arch/x86/lib/copy_user_64.S",
            "arch/x86/include/asm/cpufeatures.h",
            "security/selinux/include/classmap.h",
        ] {
            assert!(matches!(found(path), Fate::Refused(_)), "{path}");
        }
    }

    #[test]
    fn what_no_kernel_of_this_machine_holds_is_unused() {
        for path in [
            "Documentation/process/cve.rst",
            "MAINTAINERS",
            "arch/arm64/kernel/signal.c",
            "include/dt-bindings/x.dtsi",
            "tools/testing/selftests/Makefile",
        ] {
            assert_eq!(found(path), Fate::Unused, "{path}");
        }
    }

    #[test]
    fn a_file_that_may_be_included_is_followed() {
        for path in ["net/rds/rds.h", "drivers/net/not-configured.c", "lib/x.inc"] {
            assert_eq!(found(path), Fate::Included, "{path}");
        }
    }
}
