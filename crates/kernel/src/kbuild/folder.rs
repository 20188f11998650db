//! What the makefile of one folder asks for, by the rules of `scripts/Makefile.lib`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tuxtape_core::identity::ObjectName;

use super::flags::{self, Said};
use super::scope::{Handed, Rule, Scope, Variable, Variables, below};
use super::text::{Gap, Text, is_object, words};
use super::tree::SourceTree;
use crate::config::Config;

/// How the folder was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mode {
    /// From `obj-y`: its `obj-y` goes into vmlinux.
    Builtin,
    /// From `obj-m`: only its modules count.
    Modules,
}

/// One folder's part of the kernel. Paths are relative to the top.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Objects (`net/core/dev.o`) and what they are linked into.
    pub(super) objects: Vec<(String, ObjectName)>,
    /// Objects of the archive `lib.a`.
    pub(super) library: Vec<String>,
    /// Objects that are compiled, and not as a part of vmlinux or a module; with the reason.
    pub(super) beside: Vec<(String, &'static str)>,
    pub(super) modules: BTreeSet<ObjectName>,
    pub(super) folders: Vec<(String, Mode)>,
    /// Folders and files that could not be told, with the reason.
    pub(super) blind: BTreeMap<String, String>,
    /// Folders that are made without linking them, unless another list links them.
    pub(super) unlinked: Vec<String>,
    pub(super) rules: Vec<Rule>,
    /// Variables for the folders below.
    pub(super) exported: Variables,
    /// Makefiles that were read.
    pub(super) makefiles: Vec<String>,
    pub(super) said: Said,
}

/// Evaluates the makefile of `folder` (empty for the top), which sees the variables of `base`.
pub(super) fn ask(
    tree: &dyn SourceTree,
    config: &Config,
    base: &Arc<Variables>,
    folder: &str,
    mode: Mode,
) -> Asked {
    let mut asked = Asked::default();
    let candidates = ["Kbuild", "Makefile"].map(|name| place(folder, name));
    let Some(makefile) = candidates.iter().find(|path| tree.files().contains(*path)) else {
        let reason = format!(
            "{} is asked for and has no Kbuild or Makefile",
            shown(folder)
        );
        asked.blind.insert(shown(folder), reason);
        return asked;
    };
    let mut scope = Scope::new(tree, config, Arc::clone(base));
    scope.set_up_folder(folder);
    scope.outside = true;
    if let Err(gap) = scope.include(makefile) {
        scope.lost.get_or_insert(gap);
    }
    scope.file = makefile.as_str().into();
    asked.makefiles.clone_from(&scope.makefiles);
    let side = std::mem::take(&mut scope.side_folders);
    for side in side {
        match (side.gap, below("", side.text.trim())) {
            (None, Some(path)) if !path.is_empty() => {
                let reason = format!("{makefile} has it made apart from vmlinux and the modules");
                asked.blind.insert(shown(&path), reason);
            }
            (_, _) => {}
        }
    }
    let search = scope.value("VPATH");
    if let Some(folder) = search.words().find(|word| *word != ".") {
        let gap = scope.gap(&format!("VPATH has {folder}: sources may lie there"));
        scope.lost.get_or_insert(gap);
    }
    if scope.lost.is_none() {
        Reader {
            scope: &mut scope,
            asked: &mut asked,
            folder,
        }
        .read(mode);
    }
    if let Some(gap) = scope.lost.take() {
        let blind = asked.blind;
        asked = Asked {
            blind,
            makefiles: asked.makefiles,
            said: flags::of(&mut scope, folder),
            ..Asked::default()
        };
        asked.blind.insert(shown(folder), gap.to_string());
        return asked;
    }
    asked.exported = scope.exports();
    asked.said = flags::of(&mut scope, folder);
    for object in asked.said.objects.iter().filter(|path| is_object(path)) {
        asked
            .beside
            .push((object.clone(), "named by flags of the linker"));
    }
    asked.rules = std::mem::take(&mut scope.rules);
    let mut doubtful = asked
        .rules
        .iter()
        .filter(|rule| rule.recipe && rule.may_make_code());
    let gap = doubtful.find_map(|rule| rule.gap.as_ref());
    if let Some(gap) = gap {
        let reason = gap.to_string();
        asked.blind.entry(shown(folder)).or_insert(reason);
    }
    asked
}

impl Scope<'_> {
    /// Sets the variables that `scripts/Makefile.build` sets before it reads a folder's makefile.
    fn set_up_folder(&mut self, folder: &str) {
        let object = if folder.is_empty() { "." } else { folder };
        for name in ["obj", "src", "kbuild-dir"] {
            self.own.insert(name.to_owned(), Variable::simple(object));
        }
        for name in [
            "obj-y",
            "obj-m",
            "lib-y",
            "lib-m",
            "always-y",
            "always-m",
            "targets",
            "subdir-y",
            "subdir-m",
            "asflags-y",
            "ccflags-y",
            "cppflags-y",
            "ldflags-y",
            "rustflags-y",
            "subdir-asflags-y",
            "subdir-ccflags-y",
        ] {
            self.own.insert(name.to_owned(), Variable::simple(""));
        }
    }

    /// Returns the variables that the folders below see changed: expanded, or taken back.
    pub(super) fn exports(&mut self) -> Variables {
        let mut names: BTreeSet<String> = self.handed.keys().cloned().collect();
        // What came from above is handed on, with the value it has here.
        let from_above = self.base.iter().filter(|(_, variable)| variable.inherited);
        let changed = from_above.filter(|(name, _)| self.own.contains_key(*name));
        names.extend(changed.map(|(name, _)| name.clone()));
        if self.export_all {
            let plain = |name: &&String| {
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            names.extend(self.own.keys().filter(plain).cloned());
        }
        names.retain(|name| !name.starts_with("MAKE") && name != "CURDIR" && name != "SHELL");
        let handed = self.handed.clone();
        names
            .into_iter()
            .filter_map(|name| {
                let variable = match handed.get(&name) {
                    Some(Handed::Not) => Variable {
                        undefined: true,
                        ..Variable::simple("")
                    },
                    Some(Handed::Doubt(gap)) => {
                        let mut value = self.value(&name);
                        value.doubt(Some(gap));
                        Variable::handed(value)
                    }
                    // A name without a value is not handed down.
                    Some(Handed::Down) | None => {
                        let named = self.variable(&name)?.named;
                        let mut value = self.value(&name);
                        if named {
                            value.doubt(self.given_outside(&name).as_ref());
                        }
                        Variable::handed(value)
                    }
                };
                Some((name, variable))
            })
            .collect()
    }
}

struct Reader<'a, 'b> {
    scope: &'a mut Scope<'b>,
    asked: &'a mut Asked,
    folder: &'a str,
}

impl Reader<'_, '_> {
    fn read(&mut self, mode: Mode) {
        let built_in = self.list(&["obj-y"]);
        let modular = self.list(&["obj-m"]);
        for word in &built_in {
            if let Some(folder) = word.strip_suffix('/') {
                self.enter(folder, mode);
            }
        }
        for word in &modular {
            if let Some(folder) = word.strip_suffix('/') {
                self.enter(folder, Mode::Modules);
            }
        }
        for word in built_in.iter().filter(|word| is_object(word)) {
            for part in self.parts(word, &["-objs", "-y"]) {
                match (mode, self.object(&part)) {
                    (_, None) => {}
                    (Mode::Builtin, Some(object)) => {
                        let vmlinux = ObjectName(ObjectName::VMLINUX.to_owned());
                        self.asked.objects.push((object, vmlinux));
                    }
                    (Mode::Modules, Some(object)) => self.asked.beside.push((
                        object,
                        "asked for as built in, in a folder that is entered for its modules alone",
                    )),
                }
            }
        }
        for word in modular.iter().filter(|word| is_object(word)) {
            if built_in.contains(word) {
                continue;
            }
            let name = module_name(word);
            for part in self.parts(word, &["-objs", "-y", "-m"]) {
                if let Some(object) = self.object(&part) {
                    self.asked.objects.push((object, name.clone()));
                }
            }
            self.asked.modules.insert(name);
        }
        for word in self.list(&["lib-y", "lib-m"]) {
            if !built_in.contains(&word) && is_object(&word) {
                self.asked.library.extend(below(self.folder, &word));
            }
        }
        self.read_beside();
    }

    /// Notes what is compiled for the build itself or for images of their own.
    fn read_beside(&mut self) {
        for folder in self.list(&["subdir-y", "subdir-m"]) {
            if let Some(path) = below(self.folder, folder.trim_end_matches('/')) {
                self.asked.unlinked.push(path);
            }
        }
        // Doubt about these makes no file look compiled or not: what they name is blind either way.
        for name in ["extra-y", "extra-m", "always-y", "always-m", "targets"] {
            let value = self.scope.value(name);
            for word in value.words() {
                if [".o", ".s", ".i"].iter().any(|end| word.ends_with(end)) {
                    let path = word.strip_prefix(&place(self.folder, "")).unwrap_or(word);
                    let path = below(self.folder, path);
                    let reason = "compiled for the build or for an image of its own";
                    self.asked.beside.extend(path.map(|path| (path, reason)));
                }
            }
        }
        for value in std::mem::take(&mut self.scope.optional) {
            for word in value.words() {
                if is_object(word) {
                    let reason = "compiled where make is called with some variable";
                    self.asked
                        .beside
                        .extend(below(self.folder, word).map(|path| (path, reason)));
                } else if word.ends_with('/') {
                    self.asked.unlinked.extend(below(self.folder, word));
                }
            }
        }
        // What a rule needs an object for is linked by that rule.
        let rules = self.scope.rules.iter();
        let needed = rules.flat_map(|rule| &rule.prerequisites);
        let needed: Vec<String> = needed
            .filter(|word| is_object(word) && !word.contains('%'))
            .cloned()
            .collect();
        for word in needed {
            let own = place(self.folder, "");
            let path = below(self.folder, word.strip_prefix(&own).unwrap_or(&word));
            let reason = "needed by a rule of its makefile";
            self.asked.beside.extend(path.map(|path| (path, reason)));
        }
        let mut programs = Vec::new();
        for kind in ["hostprogs", "userprogs"] {
            for end in ["", "-y", "-always-y", "-always-m"] {
                let value = self.scope.value(&format!("{kind}{end}"));
                programs.extend(value.words().map(str::to_owned));
            }
        }
        for program in programs {
            let mut objects = Text::default();
            for end in ["-objs", "-cxxobjs"] {
                let value = self.scope.value(&format!("{program}{end}"));
                objects.text.push(' ');
                objects.push(&value);
            }
            let own = [format!("{program}.o")];
            let paths: Vec<String> = objects
                .words()
                .chain(own.iter().map(String::as_str))
                .filter_map(|word| below(self.folder, word))
                .collect();
            let reason = "compiled into a program of the build";
            self.asked
                .beside
                .extend(paths.into_iter().map(|path| (path, reason)));
        }
    }

    /// Returns the words of the variables `names`; where one is in doubt the folder becomes blind.
    fn list(&mut self, names: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        for name in names {
            let value = self.scope.value(name);
            match value.gap {
                None => out.extend(words(&value.text).map(str::to_owned)),
                Some(gap) => self.doubt(&gap),
            }
        }
        out
    }

    /// Returns the objects that `word` is composed of, or `word` itself.
    fn parts(&mut self, word: &str, ends: &[&str]) -> Vec<String> {
        let stem = word.strip_suffix(".o").unwrap_or(word);
        let mut found = Vec::new();
        for end in ends {
            let value = self.scope.value(&format!("{stem}{end}"));
            if let Some(gap) = &value.gap {
                self.doubt(gap);
                return Vec::new();
            }
            found.extend(value.words().map(str::to_owned));
        }
        if !found.is_empty() {
            return found;
        }
        let off = self.scope.value(&format!("{stem}-"));
        if off.text.trim().is_empty() {
            return vec![word.to_owned()];
        }
        // Newer kernels link such an object of nothing, older ones compile a source of its name.
        if let Some(object) = self.object(word) {
            let reason = "its parts are all switched off, which kernels read in two ways";
            self.asked.beside.push((object, reason));
        }
        Vec::new()
    }

    fn object(&mut self, word: &str) -> Option<String> {
        let own = place(self.folder, "");
        // A few makefiles give the whole path; below the folder there is none that repeats it.
        let word = word
            .strip_prefix(&own)
            .filter(|_| !own.is_empty())
            .unwrap_or(word);
        let path = below(self.folder, word);
        if path.is_none() {
            let gap = self.scope.gap(&format!("{word} lies outside of the tree"));
            self.doubt(&gap);
        }
        path.filter(|path| is_object(path))
    }

    fn enter(&mut self, word: &str, mode: Mode) {
        match below(self.folder, word) {
            Some(path) if !path.is_empty() => self.asked.folders.push((path, mode)),
            _ => {
                let gap = self.scope.gap(&format!("folder {word}/"));
                self.doubt(&gap);
            }
        }
    }

    fn doubt(&mut self, gap: &Gap) {
        self.asked
            .blind
            .entry(shown(self.folder))
            .or_insert_with(|| gap.to_string());
    }
}

/// Returns the name the kernel gives the module linked as `word`.
pub(super) fn module_name(word: &str) -> ObjectName {
    let name = word.rsplit('/').next().unwrap_or(word);
    let stem = name.strip_suffix(".o").unwrap_or(name);
    ObjectName(stem.replace(['-', ','], "_"))
}

/// Returns the path of `name` in `folder`, which is empty for the top.
pub(super) fn place(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Returns a folder as a prefix of the paths below it.
pub(super) fn shown(folder: &str) -> String {
    if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    }
}

/// Names a folder within a sentence.
pub(super) fn named(folder: &str) -> String {
    if folder.is_empty() {
        "the top folder".to_owned()
    } else {
        shown(folder)
    }
}
