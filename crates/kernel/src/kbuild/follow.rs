//! From compiled sources to the sources that they include, and from blind ones to what they may.
//!
//! First everything that a compiled or blind file could include is skimmed, headers with it. Of that
//! graph only what leads to code is read closely: there `#include` lines under conditions that settings
//! decide are known, and those under others are in doubt.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;
use tuxtape_core::identity::ObjectName;

use super::Evaluated;
use super::condition::Read;
use super::folder::shown;
use super::includes::{self, Names, Operand, Skimmed};
use super::text::{inside, words};
use super::tree::SourceTree;
use crate::config::Config;

/// What the makefiles say of sources beside naming their objects.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Settings that compiler flags define or take back.
    pub(super) settings: BTreeSet<String>,
    /// Files that compiler flags include, with the reason.
    pub(super) included: BTreeMap<String, String>,
    /// Makefiles that were read, each with the folder it was read for.
    pub(super) makefiles: BTreeSet<(String, String)>,
}

/// What the compiler finds where one file names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Sure,
    Doubt,
}

/// Macros and the code files that they name.
type Defined<'m, 'a> = BTreeMap<&'m str, BTreeSet<&'a str>>;

/// A file as skimmed, and the files that it may include.
type Looked<'a> = (Skimmed, Vec<&'a str>);

/// Files and what each may include.
struct Graph<'a> {
    tree: &'a dyn SourceTree,
    names: Names<'a>,
    config: &'a Config,
    seen: HashMap<&'a str, Skimmed>,
    /// Includer and included, whatever the conditions say.
    edges: HashMap<&'a str, Vec<&'a str>>,
    /// Files that could not be read, with the reason.
    lost: BTreeMap<&'a str, String>,
}

/// Adds the sources that compiled sources include, and those that blind ones may.
pub(super) fn compiled_sources(
    tree: &dyn SourceTree,
    config: &Config,
    flags: &Flags,
    out: &mut Evaluated,
) {
    let mut graph = Graph {
        tree,
        names: Names::new(tree.files()),
        config,
        seen: HashMap::new(),
        edges: HashMap::new(),
        lost: BTreeMap::new(),
    };
    let files = tree.files();
    let compiled: BTreeMap<&str, &BTreeSet<ObjectName>> = out
        .units
        .iter()
        .chain(&out.contributors)
        .filter_map(|(path, objects)| Some((files.get(path)?.as_str(), objects)))
        .filter(|(path, _)| includes::is_read(path))
        .collect();
    graph.reach(compiled.keys().copied().collect());
    let mut settings = flags.settings.clone();
    settings.extend(
        graph
            .seen
            .values()
            .flat_map(|seen| seen.settings.iter().cloned()),
    );
    let links = graph.links(&settings, &compiled.keys().copied().collect());
    let mut contributors: BTreeMap<&str, BTreeSet<ObjectName>> = BTreeMap::new();
    let mut reached: BTreeMap<&str, BTreeSet<ObjectName>> = compiled
        .iter()
        .map(|(path, objects)| (*path, (*objects).clone()))
        .collect();
    let mut open: BTreeSet<&str> = reached.keys().copied().collect();
    while let Some(path) = open.pop_first() {
        let objects = reached.get(path).cloned().unwrap_or_default();
        for (to, link) in links.get(path).into_iter().flatten() {
            if *link == Link::Doubt {
                continue;
            }
            let known = reached.entry(to).or_default();
            let before = known.len();
            known.extend(objects.iter().cloned());
            if known.len() > before {
                open.insert(to);
                if includes::is_code(to) {
                    let entry = contributors.entry(to).or_default();
                    entry.extend(objects.iter().cloned());
                }
            }
        }
    }
    let mut doubted: BTreeMap<String, String> = BTreeMap::new();
    let mut open: Vec<(&str, String)> = Vec::new();
    for path in reached.keys() {
        for (to, link) in links.get(path).into_iter().flatten() {
            if *link == Link::Doubt {
                open.push((to, format!("{path} may include it")));
            }
        }
    }
    let mut passed: BTreeSet<&str> = BTreeSet::new();
    while let Some((path, reason)) = open.pop() {
        if !passed.insert(path) {
            continue;
        }
        open.extend(
            links
                .get(path)
                .into_iter()
                .flatten()
                .map(|(to, _)| (*to, reason.clone())),
        );
        if includes::is_code(path) {
            doubted.entry(path.to_owned()).or_insert(reason);
        }
    }
    for (path, reason) in &graph.lost {
        // What it includes is not known; its own folder is where that nearly always lies.
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        doubted.insert(shown(folder), format!("{path}: {reason}"));
    }
    let contributors: Vec<(String, BTreeSet<ObjectName>)> = contributors
        .into_iter()
        .map(|(path, objects)| (path.to_owned(), objects))
        .collect();
    for (path, objects) in contributors {
        out.contributors.entry(path).or_default().extend(objects);
    }
    for (path, reason) in doubted.into_iter().chain(flags.included.clone()) {
        out.blind.entry(path).or_insert(reason);
    }
    graph.named_by_makefiles(flags, out);
    graph.follow_blind(out);
}

/// Returns the code files that `paths` may include, by way of headers too, whatever conditions say.
pub(super) fn may_include(tree: &dyn SourceTree, paths: &BTreeSet<String>) -> BTreeSet<String> {
    let config = Config::default();
    let mut graph = Graph {
        tree,
        names: Names::new(tree.files()),
        config: &config,
        seen: HashMap::new(),
        edges: HashMap::new(),
        lost: BTreeMap::new(),
    };
    let files = tree.files();
    let open = paths.iter().filter_map(|path| files.get(path));
    graph.reach(open.map(String::as_str).collect());
    let code = graph.seen.keys().filter(|path| includes::is_code(path));
    code.map(|path| (*path).to_owned()).collect()
}

impl<'a> Graph<'a> {
    /// Skims `open` and everything that they may include.
    fn reach(&mut self, mut open: Vec<&'a str>) {
        while !open.is_empty() {
            open.retain(|path| !self.seen.contains_key(path));
            open.sort_unstable();
            open.dedup();
            let read: Vec<(&str, Result<Looked<'a>, String>)> = open
                .par_iter()
                .map(|path| (*path, self.skim(path)))
                .collect();
            open.clear();
            for (path, skimmed) in read {
                match skimmed {
                    Ok((skimmed, named)) => {
                        self.seen.insert(path, skimmed);
                        open.extend(named.iter().copied());
                        self.edges.insert(path, named);
                    }
                    Err(reason) => {
                        self.seen.insert(path, Skimmed::default());
                        self.lost.insert(path, reason);
                    }
                }
            }
        }
    }

    fn skim(&self, path: &str) -> Result<Looked<'a>, String> {
        let mut skimmed = includes::skim(&includes::read(path, self.tree)?);
        let mut named: Vec<&str> = Vec::new();
        for written in std::mem::take(&mut skimmed.named) {
            named.extend(self.names.meant(path, &written));
        }
        named.sort_unstable();
        named.dedup();
        Ok((skimmed, named))
    }

    /// Reads closely what leads to code. `settings` are those that the sources themselves change.
    fn links(
        &self,
        settings: &BTreeSet<String>,
        compiled: &BTreeSet<&str>,
    ) -> HashMap<&'a str, Vec<(&'a str, Link)>> {
        // A name of a file that is compiled anyway, as in messages, shows nothing new.
        let mut defined: Defined<'_, 'a> = BTreeMap::new();
        for (path, seen) in &self.seen {
            let code = seen.defined.iter();
            for (name, file) in code.filter(|(_, file)| includes::is_code(file.name())) {
                let meant = self.names.meant(path, file);
                let more = meant.into_iter().filter(|to| !compiled.contains(to));
                let mut more = more.peekable();
                if more.peek().is_some() {
                    defined.entry(name).or_default().extend(more);
                }
            }
        }
        let mut includers: HashMap<&str, Vec<&'a str>> = HashMap::new();
        for (from, named) in &self.edges {
            for to in named {
                includers.entry(to).or_default().push(from);
            }
        }
        let by_macro = |path: &&&str| {
            let seen = self.seen.get(**path);
            seen.is_some_and(|seen| {
                !seen.macros.is_empty()
                    && (!defined.is_empty()
                        || seen.macros.iter().any(|name| self.setting(name).is_some()))
            })
        };
        let mut open: Vec<&'a str> = self
            .seen
            .keys()
            .filter(|path| includes::is_code(path))
            .copied()
            .collect();
        let mut leading: BTreeSet<&'a str> = self.seen.keys().filter(by_macro).copied().collect();
        open.extend(leading.iter().copied());
        while let Some(path) = open.pop() {
            for from in includers.get(path).into_iter().flatten() {
                if leading.insert(from) {
                    open.push(from);
                }
            }
        }
        let worth = |path: &str| includes::is_code(path) || leading.contains(path);
        leading
            .par_iter()
            .map(|path| {
                let bytes = includes::read(path, self.tree).unwrap_or_default();
                let mut found = Vec::new();
                for line in includes::lines(&bytes, self.config) {
                    let changed = line.settings.iter().any(|name| settings.contains(name));
                    let link = match line.read {
                        Read::No if !changed => continue,
                        Read::Yes if !changed => Link::Sure,
                        Read::Yes | Read::No | Read::Maybe => Link::Doubt,
                    };
                    let (files, link) = match &line.operand {
                        Operand::File(written) => (self.names.meant(path, written), link),
                        Operand::Macro(name) => self.by_macro(path, name, &defined, link),
                    };
                    let link = if files.len() > 1 { Link::Doubt } else { link };
                    found.extend(
                        files
                            .into_iter()
                            .filter(|to| worth(to))
                            .map(|to| (to, link)),
                    );
                }
                (*path, found)
            })
            .collect()
    }

    /// Returns what a line may include that names the macro `name`.
    fn by_macro(
        &self,
        path: &str,
        name: &str,
        defined: &Defined<'_, 'a>,
        link: Link,
    ) -> (Vec<&'a str>, Link) {
        if let Some(value) = self.setting(name) {
            let file = includes::Written::Quoted(value.to_owned());
            return (self.names.meant(path, &file), link);
        }
        if let Some(own) = defined.get(name) {
            return (own.iter().copied().collect(), link);
        }
        // It may stand for another macro.
        let all = defined.values().flatten().copied();
        (all.collect(), Link::Doubt)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        let value = self.config.value(name.strip_prefix("CONFIG_")?)?;
        Some(value.trim_matches('"'))
    }

    /// Puts the sources on the list that makefiles name by their whole names, in recipes and flags.
    fn named_by_makefiles(&self, flags: &Flags, out: &mut Evaluated) {
        let named: Vec<(&String, Vec<String>)> = flags
            .makefiles
            .par_iter()
            .map(|(makefile, folder)| {
                let ends = &[".c", ".S"];
                (
                    makefile,
                    named(makefile, folder, self.tree, &self.names, ends),
                )
            })
            .collect();
        for (makefile, files) in named {
            for file in files {
                out.blind
                    .entry(file)
                    .or_insert_with(|| format!("{makefile} names it, and not as an object"));
            }
        }
    }

    /// Blind sources may include others, and blind makefiles may ask for sources of other folders.
    fn follow_blind(&mut self, out: &mut Evaluated) {
        let files = self.tree.files();
        let mut seen: BTreeSet<&'a str> = BTreeSet::new();
        let mut open: Vec<(&'a str, &'a str)> = Vec::new();
        for path in out.blind.keys() {
            let below = files.range(path.clone()..);
            if path.is_empty() || path.ends_with('/') {
                let below = below.take_while(|file| file.starts_with(path.as_str()));
                open.extend(below.map(|file| (file.as_str(), file.as_str())));
            } else if let Some(file) = files.get(path) {
                open.push((file, file));
            }
        }
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        while !open.is_empty() {
            open.retain(|(path, _)| seen.insert(path));
            let text = |(path, _): &&(&'a str, &'a str)| includes::is_read(path) && is_text(path);
            let unread: Vec<&'a str> = open.iter().filter(text).map(|(path, _)| *path).collect();
            self.reach(unread);
            let leads: Vec<(&'a str, Vec<String>)> = open
                .par_iter()
                .filter(|(path, _)| !includes::is_read(path))
                .map(|(path, _)| {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let ends = &[".o", ".c", ".S"];
                    let mut leads = named(path, folder, self.tree, &self.names, ends);
                    // Its own folder is blind as a whole.
                    leads.retain(|lead| {
                        lead.rsplit_once('/').map_or("", |(folder, _)| folder) != folder
                    });
                    (*path, leads)
                })
                .collect();
            let mut next: Vec<(&'a str, &'a str)> = Vec::new();
            for (path, leads) in leads {
                next.extend(
                    leads
                        .iter()
                        .filter_map(|lead| Some((files.get(lead)?.as_str(), path))),
                );
            }
            for (path, origin) in &open {
                let named = self.edges.get(path).into_iter().flatten();
                next.extend(named.map(|to| (*to, *origin)));
            }
            for (path, origin) in &next {
                if includes::is_code(path) && !seen.contains(path) {
                    found
                        .entry((*path).to_owned())
                        .or_insert_with(|| format!("{origin} may have it compiled"));
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
}

/// Tells whether the `#include` lines of a blind file are worth reading.
fn is_text(path: &str) -> bool {
    includes::is_code(path) || path.strip_suffix(".h").is_some()
}

/// Returns the sources that a makefile names by words with one of `ends`, as files of the tree.
fn named(
    makefile: &str,
    folder: &str,
    tree: &dyn SourceTree,
    names: &Names<'_>,
    ends: &[&str],
) -> Vec<String> {
    let Ok(Some(bytes)) = tree.read(makefile, 4 << 20) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        for word in words(line) {
            let word = word.trim_end_matches([')', '\\', ',', ';', '"', '\'', ':']);
            let Some(stem) = ends.iter().find_map(|end| word.strip_suffix(end)) else {
                continue;
            };
            // `-DNAME=\"FILE\"` and `$(call COMMAND,FILE`.
            let stem = stem.rsplit(['"', '\'', ',', '=']).next().unwrap_or(stem);
            let (places, stem) = if let Some(rest) = stem.strip_prefix("$(srctree)/$(src)/") {
                (&[folder][..], rest)
            } else if let Some(rest) = stem.strip_prefix("$(srctree)/") {
                (&[""][..], rest)
            } else if let Some(rest) = stem
                .strip_prefix("$(obj)/")
                .or_else(|| stem.strip_prefix("$(src)/"))
            {
                (&[folder][..], rest)
            } else {
                (&[folder, ""][..], stem)
            };
            let last = stem.rsplit('/').next().unwrap_or(stem);
            if stem.contains('$') && !last.contains('$') {
                for end in [".c", ".S"] {
                    let called = names.called(&format!("{last}{end}"));
                    found.extend(called.iter().map(|path| (*path).to_owned()));
                }
                continue;
            }
            for place in places {
                let Some(place) = inside(format!("{place}/{stem}").trim_start_matches('/')) else {
                    continue;
                };
                found.extend(
                    [".c", ".S"]
                        .map(|end| format!("{place}{end}"))
                        .into_iter()
                        .filter(|path| tree.files().contains(path)),
                );
            }
        }
    }
    found
}
