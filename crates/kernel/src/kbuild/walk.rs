//! From the top folder down to every folder that is entered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use tuxtape_core::identity::ObjectName;

use super::folder::{self, Asked, Mode, shown};
use super::scope::Variables;
use super::top::{self, Top};
use super::tree::SourceTree;
use super::{Evaluated, KbuildError, follow, sources};
use crate::config::Config;

/// Deepest folder that is entered.
const DEEPEST: usize = 40;

/// One folder's results with their sources.
#[derive(Default)]
struct Sourced {
    folder: String,
    asked: Asked,
    units: Vec<(String, ObjectName)>,
    contributors: Vec<(String, ObjectName)>,
    unsourced: BTreeMap<String, String>,
}

pub(super) fn evaluate(tree: &dyn SourceTree, config: &Config) -> Result<Evaluated, KbuildError> {
    let top = top::read(tree, config)?;
    let mut out = Evaluated {
        blind: top.side.clone(),
        makefiles: top.makefiles,
        ..Evaluated::default()
    };
    let mut entered: BTreeSet<(String, Mode)> = BTreeSet::new();
    let mut unlinked: BTreeMap<String, String> = BTreeMap::new();
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
        for (mut found, base) in level {
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
            let unlinked_here = std::mem::take(&mut found.asked.unlinked);
            unlinked.extend(unlinked_here.into_iter().map(|path| {
                let reason = format!("{} has it made without linking it", shown(&found.folder));
                (path, reason)
            }));
            collect(found, &mut out);
        }
    }
    for (folder, reason) in unlinked {
        if !entered.iter().any(|(other, _)| *other == folder) {
            out.blind.entry(shown(&folder)).or_insert(reason);
        }
    }
    // Where the top folder itself is in doubt, so is everything.
    if let Some(reason) = out.blind.remove("") {
        return Err(KbuildError::Top { reason });
    }
    link_step(tree, &mut out);
    follow::compiled_sources(tree, config, &mut out);
    let Evaluated {
        units,
        contributors,
        blind,
        ..
    } = &mut out;
    // What is known to be compiled is in no doubt, and other architectures' files never are.
    blind.retain(|path, _| {
        let known = units.contains_key(path) || contributors.contains_key(path);
        !known && !of_other_arch(path) && exists(tree, path)
    });
    Ok(out)
}

/// Adds what no folder asks for: the units that linking itself compiles.
fn link_step(tree: &dyn SourceTree, out: &mut Evaluated) {
    // `scripts/link-vmlinux.sh`, and from 6.12 on `scripts/Makefile.modfinal`.
    let vmlinux = BTreeSet::from([ObjectName(ObjectName::VMLINUX.to_owned())]);
    let units = [
        ("init/version-timestamp.c", vmlinux),
        ("scripts/module-common.c", out.modules.clone()),
    ];
    for (unit, objects) in units {
        if tree.files().contains(unit) && !objects.is_empty() {
            out.units
                .entry(unit.to_owned())
                .or_default()
                .extend(objects);
        }
    }
}

fn exists(tree: &dyn SourceTree, path: &str) -> bool {
    let below = tree.files().range(path.to_owned()..).next();
    below.is_some_and(|file| file == path || (path.ends_with('/') && file.starts_with(path)))
}

fn of_other_arch(path: &str) -> bool {
    path.starts_with("arch/") && !path.starts_with("arch/x86/") && path != "arch/"
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
    let mut out = Sourced {
        folder: folder.to_owned(),
        ..Sourced::default()
    };
    let mut objects = asked.objects.clone();
    let mut beside = asked.beside.clone();
    let mut lost = Vec::new();
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
            sources::Made::Nothing => lost.push(object),
        }
    }
    out.asked = asked;
    for object in lost {
        // A rule that was not understood may compile any file of the folder.
        let reason = format!("{object} is asked for, and no source of it is in the tree");
        out.asked
            .blind
            .entry(shown(folder))
            .or_insert_with(|| reason.clone());
        out.unsourced.insert(object, reason);
    }
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
