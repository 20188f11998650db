//! From the top makefile down to every folder that is entered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use tuxtape_core::identity::ObjectName;

use super::folder::{self, Asked, Mode, shown};
use super::scope::{Scope, Variable, Variables};
use super::text::{inside, words};
use super::tree::SourceTree;
use super::{Evaluated, KbuildError, includes, sources};
use crate::config::Config;

/// Deepest folder that is entered.
const DEEPEST: usize = 40;

/// Helpers of the kernel's makefiles; every folder's makefile sees what they define.
const HELPERS: [&str; 2] = ["scripts/Kbuild.include", "scripts/Makefile.compiler"];

/// Folders to enter, and what the top makefile says of them.
struct Top {
    folders: Vec<(String, Mode)>,
    /// Folders whose `lib.a` is linked into vmlinux.
    libraries: BTreeSet<String>,
    /// Objects linked into vmlinux although folders name them in `extra-y` (up to Linux 6.0).
    heads: BTreeSet<String>,
    base: Arc<Variables>,
    side: BTreeMap<String, String>,
    makefiles: usize,
}

/// One folder's results with their sources.
#[derive(Default)]
struct Sourced {
    asked: Asked,
    units: Vec<(String, ObjectName)>,
    contributors: Vec<(String, ObjectName)>,
    unsourced: BTreeMap<String, String>,
}

pub(super) fn evaluate(tree: &dyn SourceTree, config: &Config) -> Result<Evaluated, KbuildError> {
    let top = top(tree, config)?;
    let mut out = Evaluated {
        blind: top.side.clone(),
        makefiles: top.makefiles,
        ..Evaluated::default()
    };
    let mut entered: BTreeSet<(String, Mode)> = BTreeSet::new();
    let mut next: Vec<(String, Mode, Arc<Variables>)> = top
        .folders
        .iter()
        .map(|(folder, mode)| (folder.clone(), *mode, Arc::clone(&top.base)))
        .collect();
    while !next.is_empty() {
        // One level at a time and in order, so that the outcome does not hang on timing.
        next.sort_by(|left, right| (&left.0, left.1).cmp(&(&right.0, right.1)));
        next.retain(|(folder, mode, _)| {
            let as_builtin = (folder.clone(), Mode::Builtin);
            !entered.contains(&as_builtin) && entered.insert((folder.clone(), *mode))
        });
        let level: Vec<(Sourced, Arc<Variables>)> = next
            .par_iter()
            .map(|(folder, mode, base)| {
                let asked = folder::ask(tree, config, base, folder, *mode);
                (sourced(asked, folder, &top, tree), Arc::clone(base))
            })
            .collect();
        next = Vec::new();
        for (found, base) in level {
            let base = if found.asked.exported.is_empty() {
                base
            } else {
                let mut own = Variables::clone(&base);
                own.extend(found.asked.exported.clone());
                Arc::new(own)
            };
            for (folder, mode) in &found.asked.folders {
                if folder.split('/').count() > DEEPEST {
                    let reason = format!("lies more than {DEEPEST} folders deep");
                    out.blind.insert(shown(folder), reason);
                } else {
                    next.push((folder.clone(), *mode, Arc::clone(&base)));
                }
            }
            collect(found, &mut out);
        }
    }
    follow(tree, config, &mut out);
    Ok(out)
}

fn collect(found: Sourced, out: &mut Evaluated) {
    for (unit, object) in found.units {
        out.units.entry(unit).or_default().insert(object);
    }
    for (path, object) in found.contributors {
        out.contributors.entry(path).or_default().insert(object);
    }
    out.modules.extend(found.asked.modules);
    out.unsourced.extend(found.unsourced);
    out.makefiles += found.asked.makefiles;
    for (path, reason) in found.asked.blind {
        out.blind.entry(path).or_insert(reason);
    }
}

/// Finds the sources of what a folder asks for.
fn sourced(asked: Asked, folder: &str, top: &Top, tree: &dyn SourceTree) -> Sourced {
    let vmlinux = ObjectName(ObjectName::VMLINUX.to_owned());
    let mut out = Sourced::default();
    let mut objects = asked.objects.clone();
    let mut beside = asked.beside.clone();
    for object in &asked.library {
        if top.libraries.contains(folder) {
            objects.push((object.clone(), vmlinux.clone()));
        } else {
            beside.push((
                object.clone(),
                "compiled into a library that is not vmlinux's",
            ));
        }
    }
    beside.retain(|(object, _)| {
        let head = top.heads.contains(object);
        if head {
            objects.push((object.clone(), vmlinux.clone()));
        }
        !head
    });
    for (object, name) in objects {
        match sources::of(&object, folder, &asked.rules, tree) {
            sources::Made::Source(path) => out.units.push((path, name)),
            sources::Made::Generated { unit, sources } => {
                out.contributors
                    .extend(sources.into_iter().map(|path| (path, name.clone())));
                out.units.push((unit, name));
            }
            sources::Made::Nothing => {
                out.unsourced
                    .insert(object, format!("asked for in {}", shown(folder)));
            }
        }
    }
    out.asked = asked;
    for (object, reason) in beside {
        match sources::of(&object, folder, &out.asked.rules, tree) {
            sources::Made::Source(path) => {
                let reason = format!("{} has it {reason}", shown(folder));
                out.asked.blind.entry(path).or_insert(reason);
            }
            sources::Made::Generated { sources, .. } => {
                for path in sources {
                    let reason = format!("{} makes a source of it that is {reason}", shown(folder));
                    out.asked.blind.entry(path).or_insert(reason);
                }
            }
            sources::Made::Nothing => {}
        }
    }
    out
}

/// Adds the sources that compiled sources include, and those that blind ones may.
fn follow(tree: &dyn SourceTree, config: &Config, out: &mut Evaluated) {
    let names = includes::Names::new(tree.files());
    let mut reached: BTreeMap<String, BTreeSet<ObjectName>> = out
        .units
        .iter()
        .chain(&out.contributors)
        .filter(|(path, _)| includes::is_source(path) && tree.files().contains(*path))
        .map(|(path, objects)| (path.clone(), objects.clone()))
        .collect();
    let mut open: Vec<String> = reached.keys().cloned().collect();
    let mut doubted: BTreeMap<String, String> = BTreeMap::new();
    let mut lost: Vec<(String, String)> = Vec::new();
    while !open.is_empty() {
        let read: Vec<_> = open
            .par_iter()
            .map(|path| (path, includes::of(path, tree, &names, config)))
            .collect();
        let mut next = BTreeSet::new();
        for (path, found) in read {
            let objects = reached.get(path).cloned().unwrap_or_default();
            match found {
                Ok(found) => {
                    for included in found {
                        match included {
                            includes::Included::File(to) => {
                                let known = reached.entry(to.clone()).or_default();
                                let before = known.len();
                                known.extend(objects.iter().cloned());
                                if known.len() > before {
                                    next.insert(to.clone());
                                    out.contributors
                                        .entry(to)
                                        .or_default()
                                        .extend(objects.iter().cloned());
                                }
                            }
                            includes::Included::OneOf(several) => {
                                for to in several {
                                    doubted
                                        .entry(to)
                                        .or_insert_with(|| format!("{path} may include it"));
                                }
                            }
                        }
                    }
                }
                Err(reason) => lost.push((path.clone(), reason)),
            }
        }
        open = next.into_iter().collect();
    }
    for (path, reason) in lost {
        // What it includes is not known; its own folder is where that nearly always lies.
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        doubted.insert(shown(folder), format!("{path}: {reason}"));
    }
    for (path, reason) in doubted {
        out.blind.entry(path).or_insert(reason);
    }
    follow_blind(tree, config, &names, out);
}

/// Blind sources may include others, and blind makefiles may ask for sources of other folders.
fn follow_blind(
    tree: &dyn SourceTree,
    config: &Config,
    names: &includes::Names<'_>,
    out: &mut Evaluated,
) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    for path in out.blind.keys() {
        if path.is_empty() || path.ends_with('/') {
            let below = tree.files().range(path.clone()..);
            open.extend(below.take_while(|file| file.starts_with(path)).cloned());
        } else {
            open.push(path.clone());
        }
    }
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    while !open.is_empty() {
        open.retain(|path| seen.insert(path.clone()));
        let read: Vec<(&String, Vec<String>)> = open
            .par_iter()
            .map(|path| (path, leads(path, tree, config, names)))
            .collect();
        let mut next = Vec::new();
        for (path, leads) in read {
            for lead in leads {
                if !seen.contains(&lead) {
                    found
                        .entry(lead.clone())
                        .or_insert_with(|| format!("{path} may have it compiled"));
                    next.push(lead);
                }
            }
        }
        open = next;
    }
    let covered: Vec<String> = out
        .blind
        .keys()
        .filter(|path| path.ends_with('/'))
        .cloned()
        .collect();
    for (path, reason) in found {
        if !covered.iter().any(|folder| path.starts_with(folder)) {
            out.blind.entry(path).or_insert(reason);
        }
    }
}

/// Returns the sources that a blind file may bring in: by `#include`, or by naming their objects.
fn leads(
    path: &str,
    tree: &dyn SourceTree,
    config: &Config,
    names: &includes::Names<'_>,
) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("Makefile") || name.starts_with("Kbuild") {
        return named_elsewhere(path, tree, names);
    }
    if !(path.ends_with(".c") || path.ends_with(".S") || name.ends_with("_sources.h")) {
        return Vec::new();
    }
    let found = includes::of(path, tree, names, config).unwrap_or_default();
    found
        .into_iter()
        .flat_map(|included| match included {
            includes::Included::File(path) => vec![path],
            includes::Included::OneOf(paths) => paths,
        })
        .collect()
}

/// Returns the sources in other folders whose objects a makefile names, by its words alone.
fn named_elsewhere(path: &str, tree: &dyn SourceTree, names: &includes::Names<'_>) -> Vec<String> {
    let Ok(Some(bytes)) = tree.read(path, 4 << 20) else {
        return Vec::new();
    };
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let text = String::from_utf8_lossy(&bytes);
    let mut found = Vec::new();
    for word in words(&text) {
        let word = word.trim_end_matches([')', '\\', ',', ';']);
        let ends = [".o", ".c", ".S"];
        let Some(stem) = ends.iter().find_map(|end| word.strip_suffix(end)) else {
            continue;
        };
        let (from, stem) = if let Some(rest) = stem.strip_prefix("$(srctree)/$(src)/") {
            (folder, rest)
        } else if let Some(rest) = stem.strip_prefix("$(srctree)/") {
            ("", rest)
        } else {
            let rest = stem
                .strip_prefix("$(obj)/")
                .or_else(|| stem.strip_prefix("$(src)/"));
            (folder, rest.unwrap_or(stem))
        };
        if !stem.contains('/') {
            continue;
        }
        if stem.contains('$') {
            let last = stem.rsplit('/').next().unwrap_or(stem);
            if !last.contains('$') {
                for end in [".c", ".S"] {
                    let called = names.called(&format!("{last}{end}"));
                    found.extend(called.iter().map(|path| (*path).to_owned()));
                }
            }
            continue;
        }
        let Some(place) = inside(&format!("{from}/{stem}").trim_start_matches('/').to_owned())
        else {
            continue;
        };
        found.extend(
            [".c", ".S"]
                .map(|end| format!("{place}{end}"))
                .into_iter()
                .filter(|path| tree.files().contains(path)),
        );
    }
    found
}

/// Evaluates the top makefile as `make` with no goal would.
fn top(tree: &dyn SourceTree, config: &Config) -> Result<Top, KbuildError> {
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
        ("MAKE", "make"),
        ("MAKEFLAGS", "rR"),
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
        if let (None, Some(path)) = (text.gap, inside(text.text.trim())) {
            if !path.is_empty() {
                let reason = "made by the build apart from vmlinux and the modules";
                side.insert(shown(&path), reason.to_owned());
            }
        }
    }
    let makefiles = scope.makefiles.len();
    let base = Arc::new(base(&mut scope, tree, config));
    Ok(Top {
        folders,
        libraries,
        heads,
        base,
        side,
        makefiles,
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
