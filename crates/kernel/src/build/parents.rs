//! The debug files of what is patched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::elf::{ElfFile, MalformedObject};
use tuxtape_livepatch::kallsyms::{Parent, UnusableParent};
use tuxtape_sys::map::{Map, MapError};

/// Why a debug file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The folder of debug modules cannot be read.
    #[error("could not read {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No debug file for a module.
    #[error("no debug file of module {0}")]
    Missing(ObjectName),
    /// It cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It is no usable object.
    #[error("the debug file of {object}")]
    Malformed {
        /// Whose debug file.
        object: ObjectName,
        /// Why.
        source: MalformedObject,
    },
    /// It cannot be indexed.
    #[error(transparent)]
    Unusable(#[from] UnusableParent),
}

/// Reads the debug file `bytes` of `object`.
pub fn parent(object: ObjectName, bytes: &[u8]) -> Result<Parent<'_>, ParentError> {
    let file = ElfFile::parse(bytes).map_err(|source| ParentError::Malformed {
        object: object.clone(),
        source,
    })?;
    Ok(Parent::new(object, file)?)
}

/// Where the debug file of each module is.
#[derive(Clone, Debug, Default)]
pub struct DebugModules {
    paths: BTreeMap<ObjectName, PathBuf>,
}

/// Deeper folders than this are not a kernel's.
const DEPTH: usize = 24;

impl DebugModules {
    /// Finds all modules below `folder`.
    pub fn below(folder: &Path) -> Result<Self, ParentError> {
        let mut paths = BTreeMap::new();
        let mut queue = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = queue.pop() {
            let failed = |source| ParentError::Folder {
                path: folder.clone(),
                source,
            };
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                if entry.file_type().map_err(failed)?.is_dir() {
                    if depth < DEPTH {
                        queue.push((path, depth + 1));
                    }
                } else if path.extension().is_some_and(|kind| kind == "ko")
                    && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
                {
                    paths.insert(ObjectName(stem.replace('-', "_")), path);
                }
            }
        }
        Ok(Self { paths })
    }

    /// Where the debug file of `module` is.
    pub fn path(&self, module: &ObjectName) -> Result<&Path, ParentError> {
        self.paths
            .get(module)
            .map(PathBuf::as_path)
            .ok_or_else(|| ParentError::Missing(module.clone()))
    }

    /// All of them, by path.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.paths.values().map(PathBuf::as_path).collect();
        paths.sort();
        paths
    }

    /// Maps the debug files of the modules among `objects`.
    pub fn map<'name>(
        &self,
        objects: impl Iterator<Item = &'name ObjectName>,
    ) -> Result<BTreeMap<ObjectName, Map>, ParentError> {
        let mut maps = BTreeMap::new();
        for object in objects.filter(|object| !object.is_vmlinux()) {
            if !maps.contains_key(object) {
                maps.insert(object.clone(), Map::open(self.path(object)?)?);
            }
        }
        Ok(maps)
    }
}
