//! Building the profile of a kernel from its debug data.

mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tuxtape_core::applicability::loaded::Modules;
use tuxtape_core::history::History;
use tuxtape_core::identity::{Arch, BuildId, ObjectName};
use tuxtape_core::profile::functions::{FunctionTable, UnitFunctions};
use tuxtape_core::profile::{KernelProfile, ProfileId, ProfileOrigin, Sureness, Way};
use tuxtape_sys::map::{Map, MapError};

use super::dwarf::{self, Compiled, DwarfError};
use super::headers;
use super::paths;
use super::stamp::TreeStamp;
use crate::config::Config;
use crate::content::changelog::Changelog;
use crate::debian::version::DebianVersion;
use crate::files::KernelFiles;
use crate::vmlinuz::ImageError;

/// Sources whose objects end in images of their own (boot stub, EFI stub, vDSO, real-mode code), so
/// that the debug data of vmlinux and modules cannot tell whether they were compiled.
const APART: &[&str] = &[
    "arch/x86/boot/",
    "arch/x86/entry/vdso/",
    "arch/x86/purgatory/",
    "arch/x86/realmode/",
    "drivers/firmware/efi/libstub/",
    "kernel/bpf/preload/",
    "lib/decompress",
    "lib/inflate.c",
    "lib/lz4/",
    "lib/lzo/",
    "lib/vdso/",
    "lib/xz/",
    "lib/zlib_inflate/",
    "lib/zstd/",
    "usr/",
];

/// Where the parts of a profile come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The SPEC it was added by, `debian:6.1.0-47-cloud-amd64`.
    pub spec: String,
    /// Name of the source package, `linux-source-6.1`.
    pub source_package: String,
    /// Its version, `6.1.170-3`.
    pub source_version: String,
}

/// A profile, and what could not be checked on the way.
#[derive(Debug)]
pub struct Built {
    /// The profile.
    pub profile: KernelProfile,
    /// The functions of its units, kept apart from it.
    pub functions: FunctionTable,
    /// How its modules are loaded.
    pub modules: Modules,
    /// The history of its source, where that is a commit of git whose history is at hand.
    pub history: Option<History>,
    /// How the tree looks, where it is not one that is kept in the cache.
    pub stamp: Option<TreeStamp>,
    /// Checks that could not be made, each a sentence for a person.
    pub unchecked: Vec<String>,
}

/// Why no profile could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file or folder of the kernel could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A large file could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The debug data of an object is missing or damaged.
    #[error("could not read the debug data of {path}", path = path.display())]
    Dwarf {
        /// The object.
        path: PathBuf,
        /// What is wrong with it.
        source: DwarfError,
    },
    /// A module that is loaded has no debug data: what it was built of would pass for not built.
    #[error("{path} has no counterpart among the {count} modules in {folder}",
        path = path.display(), folder = folder.display())]
    NoDebugData {
        /// The module.
        path: PathBuf,
        /// Where its debug data was looked for.
        folder: PathBuf,
        /// Number of modules there.
        count: usize,
    },
    /// An object has no build-id.
    #[error("{path} has no build-id", path = path.display())]
    NoBuildId {
        /// The object.
        path: PathBuf,
    },
    /// The bootable image is damaged.
    #[error("could not read the build-id of {path}", path = path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// Debug data and image are of two builds.
    #[error(
        "not-the-kernel: {debug_path} has build-id {debug}, but {image_path} has {image}",
        debug_path = debug_path.display(), image_path = image_path.display()
    )]
    OtherBuild {
        /// File of the debug package.
        debug_path: PathBuf,
        /// Its build-id.
        debug: BuildId,
        /// File of the image package.
        image_path: PathBuf,
        /// Its build-id.
        image: BuildId,
    },
    /// Configuration and vmlinux name two compilers.
    #[error(
        "not-the-kernel: its configuration says {config:?}, its vmlinux was made by {comment:?}"
    )]
    Compiler {
        /// `CONFIG_CC_VERSION_TEXT`.
        config: String,
        /// The strings of `.comment`.
        comment: Vec<String>,
    },
    /// The configuration lacks what every kernel's has.
    #[error("{path} has no CONFIG_CC_VERSION_TEXT", path = path.display())]
    NoCompiler {
        /// The `.config`.
        path: PathBuf,
    },
    /// The source version does not start with an upstream point release.
    #[error("{version:?} does not start with an upstream version")]
    Version {
        /// The version of the source package.
        version: String,
    },
}

/// Builds the profile of the kernel whose packages lie at `files`.
///
/// `tree` holds the files of the source tree as it was unpacked. Reads vmlinux and all modules
/// through memory maps on all cores; refuses debug data of another build than the image's.
pub fn build(
    files: &KernelFiles,
    provenance: &Provenance,
    tree: BTreeSet<String>,
) -> Result<Built, BuildError> {
    let text = fs::read_to_string(&files.config).map_err(|source| BuildError::Read {
        path: files.config.clone(),
        source,
    })?;
    let config = Config::parse(&text);
    let compiler = config
        .value("CC_VERSION_TEXT")
        .ok_or_else(|| BuildError::NoCompiler {
            path: files.config.clone(),
        })?;
    let base_version =
        base_version(&provenance.source_version).ok_or_else(|| BuildError::Version {
            version: provenance.source_version.clone(),
        })?;
    let mut unchecked = Vec::new();

    let vmlinux = read(&files.vmlinux)?;
    let build_id = vmlinux
        .build_id
        .clone()
        .ok_or_else(|| BuildError::NoBuildId {
            path: files.vmlinux.clone(),
        })?;
    check_compiler(compiler, &vmlinux)?;
    unchecked.extend(image::check_kernel(files, &build_id)?);

    let modules = objects(&files.debug_modules)?;
    unchecked.extend(image::check_modules(files, &modules)?);
    let mut found = of_objects(vmlinux, &modules, &tree)?;
    let functions = found.functions_of_units();
    let mut built = Built {
        profile: KernelProfile {
            id: ProfileId {
                arch: Arch::X86_64,
                release: files.release.clone(),
                build_id: Some(build_id),
            },
            base_version,
            origin: ProfileOrigin {
                spec: provenance.spec.clone(),
                source: format!(
                    "{} {}",
                    provenance.source_package, provenance.source_version
                ),
            },
            compiler: compiler.to_owned(),
            config: config.facts(),
            units: found.units,
            contributors: found.contributors,
            tree_files: tree,
            functions: found.functions,
            sureness: Sureness {
                way: Way::DebugData,
                all_headers: false,
                blind: found.blind,
            },
            readable: None,
            git: None,
            taken_in: None,
        },
        functions,
        modules: found.modules,
        history: None,
        stamp: None,
        unchecked,
    };
    match headers::readable(&files.source, &built.profile) {
        Ok(readable) => built.profile.readable = Some(readable),
        Err(error) => built.unchecked.push(format!(
            "which headers could be read is not known, and those without code are unknown: {error}"
        )),
    }
    let version = DebianVersion::new(provenance.source_version.as_str());
    let base = built.profile.base_version.parse();
    match (Changelog::open(&files.changelog(), Some(&version)), base) {
        (Ok(Some(changelog)), Ok(base)) => built.profile.taken_in = Some(changelog.taken_in(base)),
        (Ok(_), _) => {}
        (Err(error), _) => built.unchecked.push(format!(
            "what the distribution took in by itself is not known: {error}"
        )),
    }
    Ok(built)
}

/// Names the modules of the image package at `files`, as the kernel calls them.
pub fn modules(files: &KernelFiles) -> Result<BTreeSet<ObjectName>, BuildError> {
    let found = objects(&files.modules)?;
    Ok(found.iter().map(|path| module_name(path)).collect())
}

/// Returns the upstream point release a Debian version sits on: `6.1.170-3` → `6.1.170`.
pub fn base_version(version: &str) -> Option<String> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let upstream = version.rsplit_once('-').map_or(version, |(left, _)| left);
    let (numbers, candidate) = match upstream.split_once("~rc") {
        Some((numbers, candidate)) => (numbers, Some(candidate)),
        None => (upstream, None),
    };
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = numbers.split('.').count();
    if !(2..=4).contains(&parts) || !numbers.split('.').all(plain) || !candidate.is_none_or(plain) {
        return None;
    }
    Some(match candidate {
        Some(candidate) => format!("{numbers}-rc{candidate}"),
        None => numbers.to_owned(),
    })
}

/// What the debug data of a kernel's objects says together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) units: BTreeMap<String, BTreeSet<ObjectName>>,
    pub(super) contributors: BTreeMap<String, BTreeSet<ObjectName>>,
    pub(super) functions: u64,
    pub(super) blind: BTreeMap<String, String>,
    pub(super) modules: Modules,
    tables: BTreeMap<String, Option<UnitFunctions>>,
}

/// Joins what vmlinux and the modules at `modules` say, of which each must have debug data.
pub(super) fn of_objects(
    vmlinux: Compiled,
    modules: &[PathBuf],
    tree: &BTreeSet<String>,
) -> Result<Found, BuildError> {
    let mut found = Found::default();
    found.add(&ObjectName(ObjectName::VMLINUX.to_owned()), vmlinux, tree);
    let compiled: Vec<(ObjectName, Compiled)> = modules
        .par_iter()
        .map(|path| Ok((module_name(path), read(path)?)))
        .collect::<Result<_, BuildError>>()?;
    for (name, mut module) in compiled {
        let loading = std::mem::take(&mut module.loading);
        found.modules.insert(name.clone(), loading);
        found.add(&name, module, tree);
    }
    for path in tree.iter().filter(|path| is_linked_apart(path)) {
        if !found.knows(path) {
            let why = "linked into an image of its own, which the debug data does not show";
            found.blind.insert(path.clone(), why.to_owned());
        }
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, name: &ObjectName, compiled: Compiled, tree: &BTreeSet<String>) {
        let note = |map: &mut BTreeMap<String, BTreeSet<ObjectName>>, path: String| {
            map.entry(path).or_default().insert(name.clone());
        };
        let written = [(true, &compiled.units), (false, &compiled.contributors)];
        for (unit, path) in written
            .into_iter()
            .flat_map(|(unit, paths)| paths.iter().map(move |path| (unit, path)))
        {
            let path = paths::in_tree(path, tree);
            for source in paths::generators(&path, tree) {
                note(&mut self.contributors, source);
            }
            note(
                if unit {
                    &mut self.units
                } else {
                    &mut self.contributors
                },
                path,
            );
        }
        self.functions += compiled.functions;
        for (unit, table) in compiled.tables {
            dwarf::join(&mut self.tables, paths::in_tree(&unit, tree), table);
        }
    }

    /// Takes out the functions of the units of which all could be told.
    pub(super) fn functions_of_units(&mut self) -> FunctionTable {
        let tables = std::mem::take(&mut self.tables);
        FunctionTable {
            units: tables
                .into_iter()
                .filter_map(|(unit, table)| Some((unit, table?)))
                .collect(),
        }
    }

    fn knows(&self, path: &str) -> bool {
        self.units.contains_key(path) || self.contributors.contains_key(path)
    }
}

fn is_linked_apart(path: &str) -> bool {
    APART.iter().any(|prefix| path.starts_with(prefix))
}

/// Reads the debug data of the object at `path`.
pub(super) fn read(path: &Path) -> Result<Compiled, BuildError> {
    let map = Map::open(path)?;
    dwarf::read(&map).map_err(|source| BuildError::Dwarf {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn check_compiler(config: &str, vmlinux: &Compiled) -> Result<(), BuildError> {
    // The first word is the name the compiler was called by; the rest is its own.
    let own = config.split_once(' ').map_or(config, |(_, rest)| rest);
    let agrees = |text: &String| {
        // Clang writes its whole text. What is written in Rust is another compiler's.
        text.strip_prefix("GCC: ") == Some(own) || text == config || text.starts_with("rustc ")
    };
    if !vmlinux.compilers.is_empty() && vmlinux.compilers.iter().all(agrees) {
        return Ok(());
    }
    Err(BuildError::Compiler {
        config: config.to_owned(),
        comment: vmlinux.compilers.iter().cloned().collect(),
    })
}

/// Returns the name the kernel calls the module at `path` by.
pub(super) fn module_name(path: &Path) -> ObjectName {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split_once(".ko").map_or(&*name, |(stem, _)| stem);
    ObjectName(stem.replace('-', "_"))
}

/// Lists the modules below `folder`, sorted.
pub(super) fn objects(folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| BuildError::Read {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Links are not followed: `build` and `source` of an image package point elsewhere.
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_module(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_module(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".ko", ".ko.debug", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_version_is_the_tree_before_the_distributions_changes() {
        for (version, base) in [
            ("6.1.170-3", Some("6.1.170")),
            ("6.12.107-1~deb12u1", Some("6.12.107")),
            ("7.2~rc4-1~exp1", Some("7.2-rc4")),
            ("1:5.10-1", Some("5.10")),
            ("5-1", None),
            ("6.1.x-1", None),
            ("", None),
        ] {
            assert_eq!(base_version(version).as_deref(), base, "{version}");
        }
    }

    #[test]
    fn a_module_is_called_as_the_kernel_calls_it() {
        for path in ["net/vmw-vsock.ko", "vmw-vsock.ko.xz"] {
            assert_eq!(module_name(Path::new(path)).0, "vmw_vsock");
        }
    }

    #[test]
    fn another_compiler_than_the_configurations_is_refused() {
        let made_by = |texts: &[&str]| Compiled {
            compilers: texts.iter().map(|text| (*text).to_owned()).collect(),
            ..Compiled::default()
        };
        let config = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0";
        let same = "GCC: (Debian 12.2.0-14+deb12u1) 12.2.0";
        assert!(check_compiler(config, &made_by(&[same])).is_ok());
        for bad in [
            &[][..],
            &["GCC: (Debian 12.2.0-14) 12.2.0"],
            &[same, "clang"],
        ] {
            assert!(check_compiler(config, &made_by(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn code_of_the_boot_stub_is_never_called_absent_from_the_build() {
        assert!(is_linked_apart("drivers/firmware/efi/libstub/gop.c"));
        assert!(!is_linked_apart("drivers/firmware/efi/efi.c"));
    }
}
