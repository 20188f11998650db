//! Which objects of a build were linked into vmlinux and its modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tuxtape_core::identity::ObjectName;

use super::places::Places;
use super::{CommandsError, has_end, saved};

/// One file that the build made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// The unit it was compiled from, as written.
    pub(super) unit: Option<String>,
    /// Whether it names the files it read.
    pub(super) says_what_it_read: bool,
    /// The objects and archives it was linked from, relative to the build folder.
    pub(super) members: Vec<String>,
    /// Words of its command that may be files.
    pub(super) words: Vec<String>,
}

/// What was linked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Linked {
    /// Each linked object (`net/core/dev.o`) with what it went into.
    pub(super) objects: BTreeMap<String, BTreeSet<ObjectName>>,
    /// Linked objects that have no `.cmd` file.
    pub(super) silent: BTreeSet<String>,
    /// Folders with a module of which nothing says what it is linked from.
    pub(super) lost: BTreeSet<String>,
    pub(super) modules: BTreeSet<ObjectName>,
    pub(super) notes: Vec<String>,
}

/// Objects that `scripts/link-vmlinux.sh` or `head-y` of the top makefile add to the archives,
/// depending on the series.
const LINKED_APART: [&str; 7] = [
    ".vmlinux.export.o",
    "arch/x86/kernel/ebda.o",
    "arch/x86/kernel/head64.o",
    "arch/x86/kernel/head_64.o",
    "arch/x86/kernel/platform-quirks.o",
    "init/version-timestamp.o",
    "init/version.o",
];

/// Follows everything that was linked from its end.
pub(super) fn follow(
    build: &Path,
    places: &Places,
    made: &BTreeMap<String, Made>,
    with_modules: bool,
) -> Result<Linked, CommandsError> {
    let unfinished = |what: &str| CommandsError::Unfinished {
        path: build.to_owned(),
        what: what.to_owned(),
    };
    if !made.contains_key("vmlinux") || !build.join("vmlinux").is_file() {
        return Err(unfinished("vmlinux was not linked"));
    }
    let mut linked = Linked::default();
    let vmlinux = ObjectName(ObjectName::VMLINUX.to_owned());
    let mut waiting: Vec<String> = if made.contains_key("vmlinux.a") {
        vec!["vmlinux.a".to_owned()]
    } else {
        // Older series give the archives to a script. None of another archive is one of them.
        let inner: BTreeSet<&String> = made.values().flat_map(|one| &one.members).collect();
        made.keys()
            .filter(|name| name.ends_with("/built-in.a") || name.ends_with("/lib.a"))
            .filter(|name| !inner.contains(name) && !name.contains("/libstub/"))
            .cloned()
            .collect()
    };
    if waiting.is_empty() {
        return Err(unfinished("no archive of vmlinux has a .cmd file"));
    }
    let apart = LINKED_APART.iter().map(|&name| name.to_owned());
    waiting.extend(apart.filter(|name| made.contains_key(name)));
    linked.add(&vmlinux, waiting, made);
    if with_modules {
        modules(build, places, made, &mut linked)?;
    }
    let at = |path: &str| {
        fs::metadata(build.join(path))
            .and_then(|found| found.modified())
            .ok()
    };
    let image = at("vmlinux");
    for (object, into) in &linked.objects {
        if into.contains(&vmlinux) && at(object).is_some_and(|time| Some(time) > image) {
            return Err(unfinished(&format!(
                "{object} was compiled after vmlinux was linked (or the build was copied without its times)"
            )));
        }
    }
    Ok(linked)
}

impl Linked {
    /// Notes everything that `waiting` is made of as part of `object`.
    fn add(
        &mut self,
        object: &ObjectName,
        mut waiting: Vec<String>,
        made: &BTreeMap<String, Made>,
    ) {
        let mut seen = BTreeSet::new();
        while let Some(target) = waiting.pop() {
            // An archive that names itself ends here.
            if !seen.insert(target.clone()) {
                continue;
            }
            match made.get(&target) {
                Some(one) if one.unit.is_some() => {
                    let entry = self.objects.entry(target).or_default();
                    entry.insert(object.clone());
                }
                Some(one) => {
                    if !one.members.is_empty() || has_end(&target, "a") {
                        waiting.extend(one.members.iter().cloned());
                    } else {
                        // Made by objcopy and the like from what is linked elsewhere.
                        self.objects
                            .entry(target)
                            .or_default()
                            .insert(object.clone());
                    }
                }
                None => {
                    self.silent.insert(target);
                }
            }
        }
    }
}

fn modules(
    build: &Path,
    places: &Places,
    made: &BTreeMap<String, Made>,
    linked: &mut Linked,
) -> Result<(), CommandsError> {
    let unfinished = |what: String| CommandsError::Unfinished {
        path: build.to_owned(),
        what,
    };
    let path = build.join("modules.order");
    let Ok(bytes) = fs::read(&path) else {
        return Err(unfinished("there is no modules.order".to_owned()));
    };
    let form = |path: &Path, source| CommandsError::Form {
        path: path.to_owned(),
        source,
    };
    for module in saved::order(&bytes).map_err(|source| form(&path, source))? {
        // Before 5.3 each line began with the folder it would be installed below.
        let module = match module.strip_prefix("kernel/") {
            Some(rest) if !build.join(format!("{module}.ko")).is_file() => rest,
            _ => module,
        };
        let linked_file = format!("{module}.ko");
        if !build.join(&linked_file).is_file() {
            return Err(unfinished(format!("{linked_file} was not linked")));
        }
        let listed = build.join(format!("{module}.mod"));
        let mut waiting: Vec<String> = if let Ok(bytes) = fs::read(&listed) {
            saved::module(&bytes)
                .map_err(|source| form(&listed, source))?
                .into_iter()
                .filter_map(|object| places.in_build(object))
                .collect()
        } else {
            let object = format!("{module}.o");
            if !made.contains_key(&object) {
                let folder = module.rsplit_once('/').map_or("", |(folder, _)| folder);
                linked.lost.insert(folder.to_owned());
            }
            vec![object]
        };
        if let Some(one) = made.get(&linked_file) {
            // The module's own object is made of those listed; the others hold what modpost wrote.
            let own = format!("{module}.o");
            let more = one.members.iter().filter(|member| **member != own);
            waiting.extend(more.cloned());
        }
        let name = super::super::build::module_name(Path::new(&linked_file));
        linked.add(&name, waiting, made);
        linked.modules.insert(name);
    }
    Ok(())
}
