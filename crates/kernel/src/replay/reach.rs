//! Which units a changed header, or another file that is only included, can make different.
//!
//! Following `#include` lines alone is useless: a header such as `net/sock.h` is in most units. What
//! changes a unit is a *name* that the header defines otherwise than before, used in the unit or in
//! a declaration the unit uses. So the names of the changed declarations are collected, closed over
//! the declarations of all headers that mention them, and the units that mention any are taken.
//! Where that is not clear (a conditional changed, a macro declares), every unit that includes the
//! header is taken. Too many units are a refusal.
//!
//! A header that comes or goes may be found in the place of another of its name: then every unit that
//! asks for that name is taken.
//!
//! Not seen: a unit that forms a name by token pasting. That is said in a warning wherever a name
//! was there before; a new name cannot be in use.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process;

use super::compile;
use super::declarations::{Declaration, Defines, declarations, differing};
use super::kbuild::BuiltUnits;
use super::select::Changed;
use super::tree::WorkTree;
use super::{Followed, ReplayError, Replayed};
use crate::unified::{PatchedFile, TreePath};

/// Folders whose files can end up in a kernel object.
const SEARCHED: [&str; 18] = [
    "arch/x86", "block", "certs", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc",
    "kernel", "lib", "mm", "net", "security", "sound", "usr", "virt",
];

/// Most names that are followed before giving up.
const MOST_NAMES: usize = 200;

/// Most searches of the tree, each about 1.5 s.
const MOST_SEARCHES: usize = 30;

/// Largest file that is read for its declarations, in bytes.
const LARGEST: usize = 8 << 20;

/// Returns the units that files of the fix reach by being included; the fix's own units may be
/// among them.
pub(super) fn reached(
    included: &[&TreePath],
    changed: &BTreeMap<TreePath, Changed>,
    units: &BuiltUnits,
    tree: &WorkTree,
    budget: usize,
    result: &mut Replayed,
) -> Result<BTreeSet<TreePath>, ReplayError> {
    let mut reached = BTreeSet::new();
    for path in included {
        let mut search = Search {
            header: path,
            changed,
            units,
            tree,
            budget,
            names: BTreeSet::new(),
            includers: BTreeSet::new(),
            found: BTreeSet::new(),
            searches: 0,
        };
        if path.extension() == Some("c") {
            search.include(path)?;
        } else {
            search.names_of(result)?;
        }
        if search.found.is_empty() && !units.units.contains_key(*path) {
            result.unused.push((*path).clone());
        }
        if !search.names.is_empty() {
            result.followed.push(Followed {
                header: path.to_string(),
                names: search.names,
                units: search.found.clone(),
            });
        }
        reached.extend(search.found);
    }
    Ok(reached)
}

/// The search for one header.
struct Search<'a> {
    header: &'a TreePath,
    changed: &'a BTreeMap<TreePath, Changed>,
    units: &'a BuiltUnits,
    tree: &'a WorkTree,
    budget: usize,
    names: BTreeSet<String>,
    includers: BTreeSet<TreePath>,
    found: BTreeSet<TreePath>,
    searches: usize,
}

impl Search<'_> {
    /// Follows the names that the header defines otherwise than before.
    fn names_of(&mut self, result: &mut Replayed) -> Result<(), ReplayError> {
        let Some(file) = self.changed.get(self.header) else {
            return Ok(());
        };
        if file.before.is_none() != file.after.is_none() {
            for includer in self.finding_another()? {
                if !self.takes_unit(&includer)? {
                    self.include(&includer)?;
                }
            }
        }
        let old = declarations(file.before.as_deref().unwrap_or_default());
        let new = file.after.as_ref().map(PatchedFile::bytes);
        let new = declarations(new.as_deref().unwrap_or_default());
        let differing = differing(&old, &new);
        let names = self.take(self.header, differing.iter().copied())?;
        let mut there: BTreeSet<&String> = BTreeSet::new();
        for declaration in &old {
            match &declaration.defines {
                Defines::Names(names) => there.extend(names),
                Defines::Unknown => {}
            }
        }
        let pasted: Vec<&str> = names
            .iter()
            .filter(|name| there.contains(name))
            .map(String::as_str)
            .take(8)
            .collect();
        if !pasted.is_empty() {
            result.warnings.push(format!(
                "{} changes {}; a unit that forms such a name by token pasting is not looked for",
                self.header,
                pasted.join(", ")
            ));
        }
        self.follow(names)
    }

    /// Takes what `declarations` of `file` define; returns the names that are new to the search.
    fn take<'d>(
        &mut self,
        file: &TreePath,
        declarations: impl Iterator<Item = &'d Declaration>,
    ) -> Result<BTreeSet<String>, ReplayError> {
        let mut fresh = BTreeSet::new();
        let mut unclear = false;
        for declaration in declarations {
            match &declaration.defines {
                Defines::Names(names) => {
                    for name in names {
                        if self.names.insert(name.clone()) {
                            fresh.insert(name.clone());
                        }
                    }
                }
                Defines::Unknown => unclear = true,
            }
        }
        if unclear {
            self.include(file)?;
        }
        if self.names.len() > MOST_NAMES {
            return Err(self.too_far());
        }
        Ok(fresh)
    }

    /// Follows names from file to file until no new one turns up.
    fn follow(&mut self, mut names: BTreeSet<String>) -> Result<(), ReplayError> {
        // Ends: each round either finds new names, of which there are few, or none.
        while !names.is_empty() {
            let mut fresh = BTreeSet::new();
            for file in self.files_with(&names)? {
                if self.takes_unit(&file)? {
                    continue;
                }
                for text in self.versions(&file)? {
                    let declarations = declarations(&text);
                    let mentioning = declarations
                        .iter()
                        .filter(|declaration| declaration.mentions(&names));
                    fresh.extend(self.take(&file, mentioning)?);
                }
            }
            names = fresh;
        }
        Ok(())
    }

    /// Takes every unit that includes `file`, through other headers too.
    fn include(&mut self, file: &TreePath) -> Result<(), ReplayError> {
        let mut waiting = vec![file.clone()];
        while let Some(file) = waiting.pop() {
            if !self.includers.insert(file.clone()) {
                continue;
            }
            for includer in self.files_including(&file)? {
                if !self.takes_unit(&includer)? {
                    waiting.push(includer);
                }
            }
        }
        Ok(())
    }

    /// Takes `file` if it is a unit; tells whether there is nothing more to follow in it.
    fn takes_unit(&mut self, file: &TreePath) -> Result<bool, ReplayError> {
        if may_be_in_vdso(file) {
            return Err(ReplayError::Unreplayable {
                path: self.header.clone(),
                why: "it reaches the vDSO, which no livepatch can change",
            });
        }
        match file.extension() {
            Some("c") => {
                let unit = self.units.units.contains_key(file);
                if unit {
                    self.found.insert(file.clone());
                    if self.found.len() > self.budget {
                        return Err(self.too_far());
                    }
                }
                // A `.c` may be part of another one.
                Ok(!self.units.included.contains(file.name()))
            }
            Some("S") => {
                let stem = file.as_str().strip_suffix('S').unwrap_or_default();
                let unit = format!("{stem}c").parse::<TreePath>();
                match unit {
                    Ok(unit) if self.units.units.contains_key(&unit) => {
                        Err(ReplayError::Unreplayable {
                            path: self.header.clone(),
                            why: "it reaches a unit that is not C",
                        })
                    }
                    Ok(_) | Err(_) => Ok(true),
                }
            }
            Some("h" | "inc" | "def" | "in" | "reg" | "pro") => Ok(false),
            Some(_) | None => Ok(true),
        }
    }

    /// Returns what a file holds: before the fix, and after it if the fix changes it.
    fn versions(&self, file: &TreePath) -> Result<Vec<Vec<u8>>, ReplayError> {
        let mut versions = Vec::new();
        if let Some(changed) = self.changed.get(file) {
            versions.extend(changed.before.clone());
            versions.extend(changed.after.as_ref().map(PatchedFile::bytes));
        } else {
            versions.extend(self.tree.read(file)?);
        }
        if versions.iter().any(|text| text.len() > LARGEST) {
            return Err(self.too_far());
        }
        Ok(versions)
    }

    fn files_with(&mut self, names: &BTreeSet<String>) -> Result<Vec<TreePath>, ReplayError> {
        let mut arguments = vec!["-rlwFsI".to_owned()];
        for name in names {
            arguments.push("-e".to_owned());
            arguments.push(name.clone());
        }
        self.count_search()?;
        let mut files = grep(self.tree, &arguments)?;
        // The search sees the pristine tree; files of the fix may mention a name only afterwards.
        for (path, changed) in self.changed {
            let after = changed.after.as_ref().map(PatchedFile::bytes);
            let after = declarations(&after.unwrap_or_default());
            if after.iter().any(|declaration| declaration.mentions(names)) {
                files.push(path.clone());
            }
        }
        Ok(files)
    }

    fn files_including(&mut self, file: &TreePath) -> Result<Vec<TreePath>, ReplayError> {
        if file.extension() == Some("c") && !self.units.included.contains(file.name()) {
            return Ok(Vec::new());
        }
        let name = escaped(file.name());
        let pattern = format!("^[[:space:]]*#[[:space:]]*include.*[\"</]{name}[\">]");
        grep(self.tree, &["-rlEsI".to_owned(), "-e".to_owned(), pattern])
    }

    /// Files of the tree that include something which was another file before the header came, or will be
    /// when it is gone.
    fn finding_another(&self) -> Result<Vec<TreePath>, ReplayError> {
        let name = escaped(self.header.name());
        let pattern = format!("^[[:space:]]*#.*include.*[\"</]{name}[\">]");
        let lines = search(self.tree, &["-rHEsI".to_owned(), "-e".to_owned(), pattern])?;
        let mut found = Vec::new();
        for line in lines.lines() {
            let Some((file, directive)) = line.split_once(':') else {
                continue;
            };
            let Ok(file) = file.parse::<TreePath>() else {
                continue;
            };
            let own = own_folder(&file, directive);
            // What a quoted name finds beside its file is found before all others.
            let beside = match &own {
                Some(own) if own != self.header => self.tree.read(own)?.is_some(),
                Some(_) | None => false,
            };
            if !beside && (own.as_ref() == Some(self.header) || may_find(directive, self.header)) {
                found.push(file);
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn count_search(&mut self) -> Result<(), ReplayError> {
        self.searches += 1;
        if self.searches > MOST_SEARCHES {
            return Err(self.too_far());
        }
        Ok(())
    }

    fn too_far(&self) -> ReplayError {
        ReplayError::HeaderReach {
            header: self.header.clone(),
            units: self.found.len(),
            names: self.names.len(),
            budget: self.budget,
        }
    }
}

/// A file's name as a pattern for it alone.
fn escaped(name: &str) -> String {
    name.replace('.', "\\.").replace('+', "\\+")
}

/// What a directive asks for, and whether in quotes.
fn asked(directive: &str) -> Option<(&str, bool)> {
    let at = directive.find(['"', '<'])?;
    let (opening, rest) = directive.get(at..)?.split_at_checked(1)?;
    let quoted = opening == "\"";
    let (name, _) = rest.split_once(if quoted { '"' } else { '>' })?;
    Some((name, quoted))
}

/// The parts of a path with `.` and `..` taken away, and how many `..` are left over at its start.
fn plain(path: &str) -> (Vec<&str>, usize) {
    let (mut parts, mut above) = (Vec::new(), 0_usize);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.is_empty() => above = above.saturating_add(1),
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (parts, above)
}

/// The file beside `file` that a quoted name asks for first.
fn own_folder(file: &TreePath, directive: &str) -> Option<TreePath> {
    let (name, quoted) = asked(directive)?;
    let (folder, _) = file.as_str().rsplit_once('/').unwrap_or_default();
    let path = format!("{folder}/{name}");
    let (parts, above) = plain(&path);
    (quoted && above == 0).then(|| parts.join("/").parse().ok())?
}

/// Whether what a directive asks for can be `header`, by one folder or another that is searched.
fn may_find(directive: &str, header: &TreePath) -> bool {
    asked(directive).is_some_and(|(name, _)| {
        let (parts, _) = plain(name);
        let wanted = parts.join("/");
        let folders = header.as_str().strip_suffix(&wanted);
        !wanted.is_empty() && folders.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    })
}

/// Tells whether `file` may be compiled into what runs in every process. A few files of that folder
/// are units of the kernel; they are not told apart.
fn may_be_in_vdso(file: &TreePath) -> bool {
    file.as_str().starts_with("arch/x86/entry/vdso/") && matches!(file.extension(), Some("c" | "S"))
}

/// Finds the names of `.c` files that are included somewhere.
pub(super) fn included_units(tree: &WorkTree) -> Result<BTreeSet<String>, ReplayError> {
    let pattern = "^[[:space:]]*#[[:space:]]*include.*\\.c[\">]".to_owned();
    let lines = search(tree, &["-rhEsI".to_owned(), "-e".to_owned(), pattern])?;
    Ok(lines
        .lines()
        .filter_map(|line| line.trim_end().split(['"', '<', '>']).nth(1))
        .filter_map(|path| path.rsplit('/').next())
        .map(ToOwned::to_owned)
        .collect())
}

fn grep(tree: &WorkTree, arguments: &[String]) -> Result<Vec<TreePath>, ReplayError> {
    let mut files: Vec<TreePath> = search(tree, arguments)?
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    files.sort();
    Ok(files)
}

/// Runs `grep` over the tree; its output, whether or not it found something.
fn search(tree: &WorkTree, arguments: &[String]) -> Result<String, ReplayError> {
    let top = tree.top();
    let mut command = Command::new("grep");
    compile::plain_environment(&mut command);
    command
        .current_dir(top)
        .args(arguments)
        .arg("--")
        .args(SEARCHED.iter().filter(|folder| top.join(folder).is_dir()));
    let finished =
        process::run(&mut command, Duration::from_secs(300)).map_err(ReplayError::Search)?;
    // 1 is "nothing found"; anything else than both means files were not looked at.
    if matches!(finished.status.code(), Some(0 | 1)) {
        Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
    } else {
        Err(ReplayError::Unsearched {
            status: finished.status,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A small prepared tree: `net/a.c` and `net/b.c` include `linux/x.h`, which is in `include/uapi`,
    /// the latter through a header; `net/c.c` has an `x.h` beside it.
    fn small(folder: &Path) -> WorkTree {
        for (name, text) in [
            (".config", ""),
            ("Makefile", ""),
            ("MAINTAINERS", ""),
            ("include/generated/autoconf.h", ""),
            ("include/generated/utsrelease.h", ""),
            ("include/generated/asm-offsets.h", ""),
            ("include/uapi/linux/x.h", "#define OLD 1\n"),
            ("include/net/y.h", "#  include <linux/x.h>\n"),
            ("net/a.c", "#include <linux/x.h>\n"),
            ("net/b.c", "#include \"../include/net/y.h\"\n"),
            ("net/c.c", "#include \"x.h\"\n"),
            ("net/x.h", "#define OWN 1\n"),
            ("net/d.c", "#include <linux/ax.h>\n"),
        ] {
            let path = folder.join("source").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (source, work) = (folder.join("source"), folder.join("work"));
        WorkTree::take(&source, &work, Duration::from_secs(20), |_| {}).unwrap()
    }

    /// The units that a header reaches which is not there `before`, or not after.
    fn by(header: &str, before: Option<&str>, after: Option<&str>) -> (Vec<String>, Vec<TreePath>) {
        let folder = tempfile::tempdir().unwrap();
        let tree = small(folder.path());
        let mut units = BuiltUnits::default();
        for unit in ["net/a.c", "net/b.c", "net/c.c", "net/d.c"] {
            let object = unit.replace(".c", ".o");
            units
                .units
                .insert(unit.parse().unwrap(), BTreeSet::from([object]));
        }
        let header: TreePath = header.parse().unwrap();
        let change = Changed {
            before: before.map(|text| text.as_bytes().to_vec()),
            after: after.map(|text| PatchedFile::pristine(text.as_bytes())),
        };
        let changed = BTreeMap::from([(header.clone(), change)]);
        let mut result = Replayed::default();
        let found = reached(&[&header], &changed, &units, &tree, 40, &mut result).unwrap();
        (
            found.iter().map(ToString::to_string).collect(),
            result.unused,
        )
    }

    #[test]
    fn a_header_found_before_another_reaches_all_that_ask_for_its_name() {
        let (units, unused) = by("include/linux/x.h", None, Some("#define NEW 1\n"));
        assert_eq!(units, ["net/a.c", "net/b.c"]);
        assert_eq!(unused, []);
    }

    #[test]
    fn a_header_that_goes_reaches_all_that_find_another() {
        let (units, _) = by("include/uapi/linux/x.h", Some("#define OLD 1\n"), None);
        assert_eq!(units, ["net/a.c", "net/b.c"]);
    }

    #[test]
    fn a_header_of_a_name_that_nobody_asks_for_there_is_unused() {
        for name in ["include/linux/z.h", "drivers/x.h/y.c.h", "include/x/x.h"] {
            let (units, unused) = by(name, None, Some("#define NEW 1\n"));
            assert_eq!(units, [""; 0], "{name}");
            assert_eq!(unused, [name.parse().unwrap()], "{name}");
        }
    }

    #[test]
    fn assembly_of_the_vdso_is_in_it_like_its_c() {
        for (path, wanted) in [
            ("arch/x86/entry/vdso/vclock_gettime.c", true),
            ("arch/x86/entry/vdso/vdso32/system_call.S", true),
            ("arch/x86/entry/vdso/vdso2c.h", false),
            ("arch/x86/entry/entry_64.S", false),
        ] {
            assert_eq!(may_be_in_vdso(&path.parse().unwrap()), wanted, "{path}");
        }
    }
}
