//! From the top folder down to every folder that is entered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use tuxtape_core::identity::ObjectName;

use super::flags::Said;
use super::folder::{self, Asked, Mode, named, shown};
use super::scope::Variables;
use super::top::{self, Top};
use super::tree::SourceTree;
use super::{Evaluated, KbuildError, follow, links, release, sources};
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
    let quotes = release::quotes(tree);
    let seen = match quotes {
        Some(true) => config.quoted(),
        Some(false) | None => config.clone(),
    };
    let config = &seen;
    let top = top::read(tree, config)?;
    if quotes.is_none() {
        let found = "no VERSION, or one that only make could tell".to_owned();
        return Err(KbuildError::Version { found });
    }
    let mut out = Evaluated {
        blind: top.side.clone(),
        makefiles: top.makefiles.len(),
        ..Evaluated::default()
    };
    let mut flags = follow::Flags::default();
    note(
        &mut flags,
        "",
        &top.said,
        &top.makefiles,
        "the top makefile",
    );
    let mut entered = Entered::default();
    let mut unlinked: BTreeMap<String, String> = BTreeMap::new();
    let mut next: Vec<(String, Mode, Arc<Variables>)> = top
        .folders
        .iter()
        .map(|(folder, mode)| (folder.clone(), *mode, Arc::clone(&top.base)))
        .collect();
    while !next.is_empty() {
        // One level at a time and in order, so that the outcome does not hang on timing.
        next.sort_by(|left, right| (&left.0, left.1).cmp(&(&right.0, right.1)));
        next.retain(|(folder, mode, base)| entered.first_time(folder, *mode, base));
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
                let reason = format!("{} has it made without linking it", named(&found.folder));
                (path, reason)
            }));
            let makefiles = &found.asked.makefiles;
            note(
                &mut flags,
                &found.folder,
                &found.asked.said,
                makefiles,
                &shown(&found.folder),
            );
            collect(found, &mut out);
        }
    }
    for (folder, reason) in unlinked {
        if !entered.0.contains_key(&folder) {
            out.blind.entry(shown(&folder)).or_insert(reason);
        }
    }
    for (folder, times) in &entered.0 {
        let [first, rest @ ..] = times.as_slice() else {
            continue;
        };
        if rest.iter().any(|(_, base)| !alike(&first.1, base)) {
            let reason = "is entered twice, with other variables each time".to_owned();
            out.blind.entry(shown(folder)).or_insert(reason);
        }
    }
    // Where the top folder itself is in doubt, so is everything.
    if let Some(reason) = out.blind.remove("") {
        return Err(KbuildError::Top { reason });
    }
    link_step(tree, &mut out);
    follow::compiled_sources(tree, config, &flags, &mut out);
    let Evaluated {
        units,
        contributors,
        blind,
        ..
    } = &mut out;
    links::spread(tree.links(), units, contributors, blind);
    // What is known to be compiled is in no doubt, and other architectures' files never are.
    blind.retain(|path, _| {
        let known = units.contains_key(path) || contributors.contains_key(path);
        !known && !of_other_arch(path) && exists(tree, path)
    });
    Ok(out)
}

/// How often each folder was entered, and with which variables.
#[derive(Default)]
struct Entered(BTreeMap<String, Vec<(Mode, Arc<Variables>)>>);

impl Entered {
    /// Most sets of variables that one folder is evaluated with.
    const MOST: usize = 4;

    /// Notes that `folder` is entered; tells whether that may show anything new.
    fn first_time(&mut self, folder: &str, mode: Mode, base: &Arc<Variables>) -> bool {
        let times = self.0.entry(folder.to_owned()).or_default();
        // What a folder is entered for as built in holds its modules, too.
        let seen = times.iter().any(|(earlier, variables)| {
            (*earlier == mode || *earlier == Mode::Builtin) && alike(variables, base)
        });
        if seen || times.len() > Self::MOST {
            return false;
        }
        times.push((mode, Arc::clone(base)));
        times.len() <= Self::MOST
    }
}

/// Tells whether two folders hand down the same.
fn alike(left: &Arc<Variables>, right: &Arc<Variables>) -> bool {
    let same = |left: &Variables, right: &Variables| {
        left.iter().all(|(name, value)| {
            right.get(name).is_some_and(|other| {
                (
                    &value.raw,
                    value.simple,
                    value.undefined,
                    value.gap.is_some(),
                ) == (
                    &other.raw,
                    other.simple,
                    other.undefined,
                    other.gap.is_some(),
                )
            })
        })
    };
    Arc::ptr_eq(left, right) || (left.len() == right.len() && same(left, right))
}

fn note(flags: &mut follow::Flags, folder: &str, said: &Said, makefiles: &[String], by: &str) {
    flags.settings.extend(said.settings.iter().cloned());
    for file in &said.files {
        let reason = format!("flags of {by} include it");
        flags.included.entry(file.clone()).or_insert(reason);
    }
    let read = makefiles
        .iter()
        .map(|path| (path.clone(), folder.to_owned()));
    flags.makefiles.extend(read);
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
    out.makefiles += found.asked.makefiles.len();
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
    let mut doubtful = Vec::new();
    for (object, name) in objects {
        let found = sources::of(&object, folder, &asked.rules, tree);
        doubtful.extend(
            found
                .doubtful
                .into_iter()
                .map(|path| (path, object.clone())),
        );
        match found.made {
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
    for (path, object) in doubtful {
        let reason = format!("a rule of {} makes {object}, perhaps of it", named(folder));
        out.asked.blind.entry(path).or_insert(reason);
    }
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
        let found = sources::of(&object, folder, &out.asked.rules, tree);
        for path in found.doubtful {
            let reason = format!("{} has it {reason}", named(folder));
            out.asked.blind.entry(path).or_insert(reason);
        }
        match found.made {
            sources::Made::Source(path) => {
                let reason = format!("{} has it {reason}", named(folder));
                out.asked.blind.entry(path).or_insert(reason);
            }
            sources::Made::Generated { sources, .. } => {
                for path in sources {
                    let reason = format!("{} makes a source of it that is {reason}", named(folder));
                    out.asked.blind.entry(path).or_insert(reason);
                }
            }
            sources::Made::Nothing => {}
        }
    }
    out
}
