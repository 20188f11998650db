//! The top makefile: which folders are entered, and what all makefiles see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::KbuildError;
use super::flags::{self, Said};
use super::folder::{self, Mode, shown};
use super::scope::{Scope, Variable, Variables};
use super::text::{inside, words};
use super::tree::SourceTree;
use crate::config::Config;

/// Helpers of the kernel's makefiles; every folder's makefile sees what they define.
const HELPERS: [&str; 2] = ["scripts/Kbuild.include", "scripts/Makefile.compiler"];

/// Folders to enter, and what the top makefile says of them.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) folders: Vec<(String, Mode)>,
    /// Folders whose `lib.a` is linked into vmlinux.
    pub(super) libraries: BTreeSet<String>,
    /// Objects linked into vmlinux although folders name them in `extra-y` (up to Linux 6.0).
    pub(super) heads: BTreeSet<String>,
    pub(super) base: Arc<Variables>,
    pub(super) side: BTreeMap<String, String>,
    pub(super) makefiles: Vec<String>,
    pub(super) said: Said,
}

/// Evaluates the top makefile as `make` with no goal would.
pub(super) fn read(tree: &dyn SourceTree, config: &Config) -> Result<Top, KbuildError> {
    let makefile = "Makefile";
    if !tree.files().contains(makefile) {
        return Err(KbuildError::Missing {
            path: makefile.to_owned(),
        });
    }
    let mut scope = Scope::new(tree, config, Arc::new(Variables::new()));
    for (name, value) in [
        // What a build of x86 from the top of the tree is called with.
        ("ARCH", "x86_64"),
        ("SUBARCH", "x86"),
        ("srctree", "."),
        ("objtree", "."),
        ("abs_srctree", "."),
        ("abs_objtree", "."),
        ("sub_make_done", "1"),
        ("MAKE_VERSION", "4.3"),
        (
            ".FEATURES",
            "else-if order-only output-sync second-expansion target-specific undefine",
        ),
        ("MAKE", "make"),
        ("MAKEFLAGS", "rR --no-print-directory"),
        ("CURDIR", "."),
        ("VPATH", ""),
        ("KBUILD_EXTMOD", ""),
    ] {
        scope.own.insert(name.to_owned(), Variable::simple(value));
    }
    if let Err(gap) = scope.include(makefile) {
        scope.lost.get_or_insert(gap);
    }
    if let Some(gap) = scope.lost.take() {
        return Err(KbuildError::Top {
            reason: gap.to_string(),
        });
    }
    // Set in the part that builds; a makefile that hands over to another run of make stops before.
    let source_arch = scope.value("SRCARCH");
    if source_arch.text != "x86" || source_arch.gap.is_some() {
        return Err(KbuildError::Top {
            reason: format!(
                "{makefile} sets SRCARCH to {:?}, not to x86",
                source_arch.text
            ),
        });
    }
    let list = |scope: &mut Scope<'_>, name: &str| {
        let value = scope.value(name);
        match value.gap {
            None => Ok(words(&value.text).map(str::to_owned).collect::<Vec<_>>()),
            Some(gap) => Err(KbuildError::Top {
                reason: gap.to_string(),
            }),
        }
    };
    let folder_of = |word: &str| inside(word.trim_end_matches('/'));
    // The lists name `lib/` or, once turned into what is linked, `lib/lib.a`.
    let mut libraries = BTreeSet::new();
    for name in [
        "libs-y",
        "libs-m",
        "libs-y1",
        "KBUILD_VMLINUX_OBJS",
        "KBUILD_VMLINUX_LIBS",
    ] {
        for word in list(&mut scope, name)? {
            let folder = word
                .strip_suffix("/lib.a")
                .or_else(|| word.strip_suffix('/'));
            libraries.extend(folder.and_then(folder_of));
        }
    }
    let heads: BTreeSet<String> = list(&mut scope, "head-y")?
        .iter()
        .filter_map(|word| inside(word))
        .collect();
    let mut folders: Vec<(String, Mode)> = Vec::new();
    let kbuild = tree.files().contains("Kbuild").then(|| {
        folder::ask(
            tree,
            config,
            &Arc::new(base(&mut scope, tree, config)),
            "",
            Mode::Builtin,
        )
    });
    let descends = kbuild.is_some_and(|asked| !asked.folders.is_empty());
    if descends {
        folders.push((String::new(), Mode::Builtin));
    } else {
        for name in ["vmlinux-dirs", "build-dirs"] {
            for word in list(&mut scope, name)? {
                folders.extend(folder_of(&word).map(|folder| (folder, Mode::Builtin)));
            }
        }
        let mut modular = BTreeSet::new();
        for name in ["core-m", "drivers-m", "net-m", "libs-m", "init-m", "virt-m"] {
            for word in list(&mut scope, name)? {
                if word.ends_with('/') {
                    modular.extend(folder_of(&word));
                }
            }
        }
        // Lists of folders entered for vmlinux may have been turned into `….a`.
        let mut built_in = BTreeSet::new();
        for name in [
            "core-y",
            "drivers-y",
            "net-y",
            "libs-y",
            "libs-y2",
            "init-y",
            "virt-y",
        ] {
            for word in list(&mut scope, name)? {
                let folder = word
                    .strip_suffix("/built-in.a")
                    .or_else(|| word.strip_suffix('/'));
                built_in.extend(folder.and_then(folder_of));
            }
        }
        for (folder, mode) in &mut folders {
            if modular.contains(folder) && !built_in.contains(folder) {
                *mode = Mode::Modules;
            }
        }
        // The top Kbuild of these kernels only prepares the build.
        folders.push((String::new(), Mode::Builtin));
    }
    if folders.len() < 2 && !descends {
        return Err(KbuildError::Top {
            reason: format!("{makefile} and Kbuild name no folder"),
        });
    }
    let mut side = BTreeMap::new();
    for text in std::mem::take(&mut scope.side_folders) {
        let path = inside(text.text.trim()).filter(|path| !path.is_empty() && text.gap.is_none());
        if let Some(path) = path {
            let reason = "made by the build apart from vmlinux and the modules";
            side.insert(shown(&path), reason.to_owned());
        }
    }
    let makefiles = scope.makefiles.clone();
    let said = flags::of(&mut scope, "");
    let base = Arc::new(base(&mut scope, tree, config));
    Ok(Top {
        folders,
        libraries,
        heads,
        base,
        side,
        makefiles,
        said,
    })
}

/// Returns what every folder's makefile sees: what the top one exports, and the helpers.
fn base(top: &mut Scope<'_>, tree: &dyn SourceTree, config: &Config) -> Variables {
    let mut exported = top.exports();
    for name in ["srctree", "objtree", "MAKE", "MAKE_VERSION", "CURDIR"] {
        let value = top.value(name);
        exported.insert(name.to_owned(), Variable::simple(&value.text));
    }
    let mut scope = Scope::new(tree, config, Arc::new(Variables::new()));
    scope.own = exported;
    for helper in HELPERS {
        // Older kernels have but one. Without them their names are undefined, which leaves gaps.
        if tree.files().contains(helper) {
            scope.include(helper).ok();
        }
    }
    scope.own
}
