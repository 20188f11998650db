//! What the `.cmd` files of a finished build say: every compiled unit, every file each one read, and
//! the object each was linked into.
//!
//! A `.cmd` file alone proves little: it stays when its object was left out of a later build, and the
//! boot stub and the build's own programs have them too. So the objects are followed from what was
//! linked: the archives of vmlinux and the modules of `modules.order`. What was made and not linked is
//! put on the list of what cannot be told.

mod links;
mod places;
mod saved;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tuxtape_core::identity::ObjectName;

use super::paths;
use crate::kbuild::{self, Folder};

use self::links::Made;
use self::places::Places;
pub use self::saved::{SavedError, fuzz};

/// Programs that a build runs. What they write into the kernel shows in no unit.
const PROGRAMS: &str = "read by a program that the build runs, or belongs to one";
/// What is compiled and linked apart.
const APART: &str = "compiled, and not linked into vmlinux or a module of this build";
/// What a rule other than compiling read.
const READ: &str = "read by a step of the build that compiles nothing into vmlinux or a module";

/// What a finished build holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commanded {
    /// Compiled units and the objects each went into.
    pub units: BTreeMap<String, BTreeSet<ObjectName>>,
    /// Every file of the tree that a unit read, with the objects of those units.
    pub contributors: BTreeMap<String, BTreeSet<ObjectName>>,
    /// Files and folders of which it cannot be told, with the reason.
    pub blind: BTreeMap<String, String>,
    /// Whether every unit says what it read.
    pub all_headers: bool,
    /// Every file that the build made, with a `.cmd` file beside it.
    pub made: BTreeSet<String>,
    /// The modules, by the kernel's names.
    pub modules: BTreeSet<ObjectName>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Why a build says nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommandsError {
    /// A file or folder could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has another form than Kbuild's.
    #[error("could not read {path}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SavedError,
    },
    /// The tree could not be listed.
    #[error(transparent)]
    Tree(#[from] kbuild::TreeError),
    /// The build did not run to its end, so that what is missing may only not be made yet.
    #[error("the build in {path} is not finished: {what}", path = path.display())]
    Unfinished {
        /// The build folder.
        path: PathBuf,
        /// What is not there.
        what: String,
    },
}

/// Tells whether `build` looks like the folder of a build, finished or not.
pub fn is_build(build: &Path) -> bool {
    [".vmlinux.cmd", ".vmlinux.a.cmd", "init/.main.o.cmd"]
        .iter()
        .any(|name| build.join(name).is_file())
}

/// Reads the finished build in `build` of the tree at `source`, which may be the same folder.
///
/// `with_modules`: whether the configuration has modules. Reads every `.cmd` file, in parallel.
pub fn read(
    build: &Path,
    source: &Path,
    tree: &BTreeSet<String>,
    with_modules: bool,
) -> Result<Commanded, CommandsError> {
    let places = Places::of(build, source)?;
    let Leftovers {
        mut made,
        targets: targets_made,
        read,
        bare,
    } = gather(build, &places)?;
    let linked = links::follow(build, &places, &made, with_modules)?;
    let mut found = Commanded {
        all_headers: true,
        modules: linked.modules.clone(),
        notes: linked.notes.clone(),
        ..Commanded::default()
    };
    let mut silent_units = BTreeSet::new();
    for target in &linked.silent {
        // Linked in, and nothing says from what.
        found.all_headers = false;
        let why = format!("{target} has no .cmd file");
        if has_end(target, "a") {
            let folder = target.rsplit_once('/').map_or("", |(folder, _)| folder);
            found.blind.insert(format!("{folder}/"), why);
            continue;
        }
        let stem = target.strip_suffix(".o").unwrap_or(target);
        for end in ["c", "S", "rs"] {
            silent_units.insert(format!("{stem}.{end}"));
            found.blind.insert(format!("{stem}.{end}"), why.clone());
        }
    }
    for folder in bare.iter().chain(&linked.lost) {
        found.all_headers = false;
        let why = "objects were made here, and no .cmd file says of what".to_owned();
        found.blind.insert(format!("{folder}/"), why);
    }
    if !silent_units.is_empty() {
        let tree = Folder::open(source)?;
        for path in kbuild::may_include(&tree, &silent_units) {
            let why = "a unit without .cmd file may include it".to_owned();
            found.blind.entry(path).or_insert(why);
        }
    }
    let none = BTreeSet::new();
    let mut apart = BTreeSet::new();
    for (target, one) in &mut made {
        let objects = linked.objects.get(target).unwrap_or(&none);
        let Some(unit) = one.unit.take() else {
            if objects.is_empty() {
                for word in one.words.drain(..) {
                    if tree.contains(&word) {
                        found.blind.insert(word, READ.to_owned());
                    }
                }
            }
            continue;
        };
        let unit = places.in_tree(&unit, tree);
        let Some(unit) = unit else { continue };
        if objects.is_empty() {
            apart.insert(unit);
            continue;
        }
        if !one.says_what_it_read {
            found.all_headers = false;
            let note = format!("{target} does not say which headers it read");
            found.notes.push(note);
        }
        for origin in paths::generators(&unit, tree) {
            let entry = found.contributors.entry(origin).or_default();
            entry.extend(objects.iter().cloned());
        }
        let entry = found.units.entry(unit).or_default();
        entry.extend(objects.iter().cloned());
    }
    for (raw, targets) in read {
        let Some(path) = places.in_tree(&raw, tree) else {
            continue;
        };
        let mut files = paths::generators(&path, tree);
        if tree.contains(&path) {
            files.push(path);
        }
        let mut objects = BTreeSet::new();
        let mut elsewhere = false;
        for number in targets {
            let target = usize::try_from(number)
                .ok()
                .and_then(|at| targets_made.get(at));
            match target.and_then(|target| linked.objects.get(target)) {
                Some(into) => objects.extend(into.iter().cloned()),
                None => elsewhere = true,
            }
        }
        for file in files {
            if !objects.is_empty() {
                let entry = found.contributors.entry(file).or_default();
                entry.extend(objects.iter().cloned());
            } else if elsewhere {
                found.blind.insert(file, APART.to_owned());
            }
        }
    }
    for file in apart {
        found.blind.insert(file, APART.to_owned());
    }
    found.made = made.keys().cloned().collect();
    found
        .blind
        .retain(|path, _| (path.ends_with('/') || tree.contains(path)) && !made.contains_key(path));
    found.blind.retain(|path, _| {
        !found.units.contains_key(path) && !found.contributors.contains_key(path)
    });
    hide_programs(&made, &mut found);
    Ok(found)
}

/// Puts the folders of the build's own programs on the list, in place of their files.
fn hide_programs(made: &BTreeMap<String, Made>, found: &mut Commanded) {
    let mut folders: BTreeSet<String> = [
        "scripts/",
        "tools/include/",
        "tools/arch/",
        "tools/build/",
        "tools/lib/",
    ]
    .map(str::to_owned)
    .into();
    for target in made.keys() {
        if let Some((folder, _)) = target
            .strip_prefix("tools/")
            .and_then(|rest| rest.split_once('/'))
        {
            folders.insert(format!("tools/{folder}/"));
        }
    }
    let known =
        |path: &str| found.units.contains_key(path) || found.contributors.contains_key(path);
    let mut blind = std::mem::take(&mut found.blind);
    blind.retain(|path, _| {
        !known(path)
            && !folders
                .iter()
                .any(|folder| path.starts_with(folder.as_str()))
    });
    blind.extend(
        folders
            .into_iter()
            .map(|folder| (folder, PROGRAMS.to_owned())),
    );
    found.blind = blind;
}

/// Reads the bytes of a `modules.order` at `path`: every module, as a path without its ending.
pub fn listed(path: &Path, bytes: &[u8]) -> Result<Vec<String>, CommandsError> {
    match saved::order(bytes) {
        Ok(modules) => Ok(modules.into_iter().map(str::to_owned).collect()),
        Err(source) => Err(CommandsError::Form {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Everything the `.cmd` files say.
struct Leftovers {
    /// What was made, by path relative to the build folder.
    made: BTreeMap<String, Made>,
    /// The keys of `made`, numbered.
    targets: Vec<String>,
    /// Each file that was read, as written, with the numbers of what read it.
    read: HashMap<String, Vec<u32>>,
    /// Folders with objects and without any `.cmd` file.
    bare: BTreeSet<String>,
}

fn gather(build: &Path, places: &Places) -> Result<Leftovers, CommandsError> {
    /// Files read at a time: one names a thousand others, and a large kernel has 30,000.
    const AT_ONCE: usize = 1024;
    let (files, bare) = command_files(build)?;
    let mut all = Leftovers {
        made: BTreeMap::new(),
        targets: Vec::new(),
        read: HashMap::new(),
        bare,
    };
    let mut number = 0_u32;
    for some in files.chunks(AT_ONCE) {
        let texts: Vec<(String, Made, Vec<String>)> = some
            .par_iter()
            .filter_map(|(folder, path)| one(folder, path, places).transpose())
            .collect::<Result<_, _>>()?;
        for (target, made, read) in texts {
            for path in read {
                all.read.entry(path).or_default().push(number);
            }
            all.targets.push(target.clone());
            all.made.insert(target, made);
            number = number.saturating_add(1);
        }
    }
    Ok(all)
}

/// Reads one `.cmd` file; `None` where it belongs to a program with a build system of its own.
fn one(
    folder: &str,
    path: &Path,
    places: &Places,
) -> Result<Option<(String, Made, Vec<String>)>, CommandsError> {
    let bytes = fs::read(path).map_err(|source| CommandsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let saved = match saved::read(&bytes) {
        Ok(saved) => saved,
        // These name no unit of the kernel whatever they say.
        Err(_) if folder.starts_with("tools/") || folder.starts_with("scripts/") => {
            return Ok(None);
        }
        Err(source) => {
            return Err(CommandsError::Form {
                path: path.to_owned(),
                source,
            });
        }
    };
    let Some(target) = places.in_build(saved.target) else {
        return Ok(None);
    };
    let is_unit = saved.source.is_some();
    let made = Made {
        unit: saved.source.map(str::to_owned),
        says_what_it_read: !saved.read.is_empty(),
        members: if is_unit {
            Vec::new()
        } else {
            saved::members(&saved)
                .iter()
                .filter_map(|member| places.in_build(member))
                .collect()
        },
        words: if is_unit {
            Vec::new()
        } else {
            words(saved.command)
        },
    };
    let read = saved.read.into_iter().map(str::to_owned).collect();
    Ok(Some((target, made, read)))
}

/// Words of a command that may name files of the tree.
fn words(command: &str) -> Vec<String> {
    const MOST: usize = 64;
    command
        .split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ';' | '<' | '>' | '(' | ')'))
        .map(|word| word.trim_start_matches("./"))
        .filter(|word| word.contains('/') && !word.starts_with('-') && !has_end(word, "o"))
        .take(MOST)
        .map(str::to_owned)
        .collect()
}

/// Tells whether `path` ends in a dot and `end`, case as it is.
fn has_end(path: &str, end: &str) -> bool {
    path.strip_suffix(end)
        .is_some_and(|rest| rest.ends_with('.'))
}

/// A `.cmd` file with its folder (`net/core/`).
type Placed = (String, PathBuf);

/// Lists the `.cmd` files below `build`, and the folders of the kernel that hold objects and none.
fn command_files(build: &Path) -> Result<(Vec<Placed>, BTreeSet<String>), CommandsError> {
    let mut found = Vec::new();
    let mut bare = BTreeSet::new();
    let mut folders = vec![(build.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let failed = |source| CommandsError::Read {
            path: folder.clone(),
            source,
        };
        let (mut objects, before) = (false, found.len());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // Links are not followed: `source` of a build folder leads to the tree.
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                if name != ".git" {
                    folders.push((entry.path(), format!("{prefix}{name}/")));
                }
            } else if kind.is_file() && name.starts_with('.') && has_end(name, "cmd") {
                found.push((prefix.clone(), entry.path()));
            } else {
                objects |= has_end(name, "o") || has_end(name, "a");
            }
        }
        let apart =
            prefix.is_empty() || prefix.starts_with("tools/") || prefix.starts_with("scripts/");
        if objects && found.len() == before && !apart {
            bare.insert(prefix.trim_end_matches('/').to_owned());
        }
    }
    found.sort();
    Ok((found, bare))
}

#[cfg(test)]
mod tests;
