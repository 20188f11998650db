//! How the modules of a kernel are asked for, read from the modules themselves and kept beside the
//! kernel's profile as `HOME/kernels/RELEASE/modules.json`.
//!
//! The same facts that `depmod` gathers in `modules.alias` and `modules.dep`, which packages do not
//! bring.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tuxtape_core::applicability::loaded::{Asker, ModuleFacts, Modules, asker};
use tuxtape_core::identity::{BuildId, KernelRelease, ObjectName};
use tuxtape_core::profile::ProfileId;
use tuxtape_sys::durable::WriteError;

use crate::profile::{self, beside};

/// The one format written and read.
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes.
const LIMIT: u64 = 16 << 20;
/// Most that one module may say of itself, in bytes. A driver with thousands of devices says 300 kB.
const MODINFO_LIMIT: usize = 4 << 20;
const NAME: &str = "modules.json";

/// Why the modules of a kernel could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no list of that kernel's modules.
    #[error("{path} is not the list of modules of {release}: {why}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The kernel asked for.
        release: KernelRelease,
        /// What is wrong in it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u32,
    release: KernelRelease,
    build_id: Option<BuildId>,
    /// Module → aliases, modules it needs, modules it would like.
    modules: BTreeMap<ObjectName, WireFacts>,
}

type WireFacts = (BTreeSet<String>, BTreeSet<ObjectName>, BTreeSet<ObjectName>);

#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

/// Reads a module's `.modinfo`: fields `key=value`, each closed by a NUL.
///
/// Of aliases that name hardware the first for each bus is kept: who can ask is the same for all.
pub fn from_modinfo(bytes: &[u8]) -> ModuleFacts {
    let bytes = bytes.get(..MODINFO_LIMIT).unwrap_or(bytes);
    let mut facts = ModuleFacts::default();
    let mut buses = BTreeSet::new();
    let names = |text: &str, into: &mut BTreeSet<ObjectName>| {
        let names = text.split([',', ' ']).filter(|name| !name.is_empty());
        into.extend(
            names
                .filter(|name| !name.ends_with(':'))
                .map(|name| ObjectName(name.replace('-', "_"))),
        );
    };
    for field in bytes.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(field)
            .ok()
            .and_then(|field| field.split_once('='))
        else {
            continue;
        };
        match key {
            "alias" => {
                let bus = value.split(':').next().unwrap_or(value);
                if asker(value) != Asker::Hardware || buses.insert(bus.to_owned()) {
                    facts.aliases.insert(value.to_owned());
                }
            }
            "depends" => names(value, &mut facts.depends),
            "softdep" => names(value, &mut facts.soft),
            _ => {}
        }
    }
    facts
}

/// Reads the modules of the kernel `id` from below `home`; `None` where none were kept.
pub fn load(home: &Path, id: &ProfileId) -> Result<Option<Modules>, LoadError> {
    let path = place(home, &id.release);
    let failed = |source| LoadError::Read {
        path: path.clone(),
        source,
    };
    let Some(text) = beside::read(&path, LIMIT).map_err(failed)? else {
        return Ok(None);
    };
    from_json(&text, id)
        .map(Some)
        .map_err(|why| LoadError::Malformed {
            path: path.clone(),
            release: id.release.clone(),
            why,
        })
}

/// Writes the modules of the kernel `id` below `home`. Blocks on the disk.
pub fn save(home: &Path, id: &ProfileId, modules: &Modules) -> Result<PathBuf, WriteError> {
    let path = place(home, &id.release);
    beside::write(&path, &to_json(id, modules))?;
    Ok(path)
}

/// Reads the modules of the kernel `id` from their JSON.
pub(crate) fn from_json(text: &[u8], id: &ProfileId) -> Result<Modules, String> {
    let Numbered { format } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, this program reads format {FORMAT}"
        ));
    }
    let wire: Wire = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if wire.release != id.release || wire.build_id != id.build_id {
        return Err(format!("it describes {}", wire.release));
    }
    let facts = |(aliases, depends, soft)| ModuleFacts {
        aliases,
        depends,
        soft,
    };
    let modules = wire.modules.into_iter();
    Ok(modules.map(|(name, wire)| (name, facts(wire))).collect())
}

/// Writes the modules of the kernel `id` as JSON.
pub(crate) fn to_json(id: &ProfileId, modules: &Modules) -> Vec<u8> {
    let wire = Wire {
        format: FORMAT,
        release: id.release.clone(),
        build_id: id.build_id.clone(),
        modules: modules
            .iter()
            .map(|(name, facts)| {
                let ModuleFacts {
                    aliases,
                    depends,
                    soft,
                } = facts.clone();
                (name.clone(), (aliases, depends, soft))
            })
            .collect(),
    };
    serde_json::to_vec(&wire).expect("maps with text keys always become JSON")
}

/// Removes what is kept of `release` below `home`, if anything.
pub(crate) fn forget(home: &Path, release: &KernelRelease) -> Result<(), WriteError> {
    let path = place(home, release);
    beside::remove(&path)
}

fn place(home: &Path, release: &KernelRelease) -> PathBuf {
    profile::folder(home, release).join(NAME)
}

/// Entry for fuzzing: reads bytes as what a module says of itself.
pub fn fuzz(bytes: &[u8]) {
    let facts = from_modinfo(bytes);
    assert!(facts.aliases.iter().all(|alias| !alias.contains('\0')));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::profile::small;

    fn facts() -> ModuleFacts {
        from_modinfo(
            b"license=GPL\0\0alias=pci:v00001AF4d*\0alias=pci:v00001AF5d*\0alias=virtio:d1\0\
              alias=rtnl-link-veth\0alias=net-pf-10\0depends=a-b,c\0softdep=pre: d-e post: f\0alias\0\xff=x\0",
        )
    }

    #[test]
    fn a_module_says_how_it_is_asked_for_and_what_it_needs() {
        let facts = facts();
        let aliases: Vec<&str> = facts.aliases.iter().map(String::as_str).collect();
        assert_eq!(
            aliases,
            [
                "net-pf-10",
                "pci:v00001AF4d*",
                "rtnl-link-veth",
                "virtio:d1"
            ]
        );
        let names = |set: &BTreeSet<ObjectName>| -> Vec<String> {
            set.iter().map(|name| name.0.clone()).collect()
        };
        assert_eq!(names(&facts.depends), ["a_b", "c"]);
        assert_eq!(names(&facts.soft), ["d_e", "f"]);
    }

    #[test]
    fn a_saved_list_loads_equal_and_only_for_its_build() {
        let home = tempfile::tempdir().unwrap();
        let mut id = small().id;
        assert!(load(home.path(), &id).unwrap().is_none());
        let modules = Modules::from([(ObjectName("veth".to_owned()), facts())]);
        let path = save(home.path(), &id, &modules).unwrap();
        assert_eq!(load(home.path(), &id).unwrap(), Some(modules));
        id.build_id = None;
        assert!(load(home.path(), &id).is_err());
        fs::write(&path, "{\"format\":2,\"more\":1}").unwrap();
        let error = load(home.path(), &id).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
    }
}
