//! From compiled sources to the sources that they include, and from blind ones to what they may.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use tuxtape_core::identity::ObjectName;

use super::folder::shown;
use super::text::{inside, words};
use super::tree::SourceTree;
use super::{Evaluated, includes};
use crate::config::Config;

/// Adds the sources that compiled sources include, and those that blind ones may.
pub(super) fn compiled_sources(tree: &dyn SourceTree, config: &Config, out: &mut Evaluated) {
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
    if !includes::may_include(path) {
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
        let Some(place) = inside(format!("{from}/{stem}").trim_start_matches('/')) else {
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
