//! A finished build, looked at and copied.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tuxtape_core::identity::BuildId;
use tuxtape_core::profile::KernelProfile;
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::verify;
use tuxtape_sys::map::Map;

use super::choose::{self, Chosen, Pair};
use super::{TakeError, at};
use crate::files::KernelFiles;
use crate::profile::commands;
use crate::profile::stamp::TreeStamp;
use crate::replay::tree;
use crate::unified::TreePath;

/// The bootable image, for x86.
const IMAGE: &str = "arch/x86/boot/bzImage";

/// A finished build of a kernel that was added.
#[derive(Debug)]
pub(super) struct Build {
    /// Top of the tree.
    pub tree: PathBuf,
    /// Bytes of all that is copied.
    pub bytes: u64,
    chosen: Chosen,
    /// The modules that were built, by their paths in the tree.
    modules: Vec<PathBuf>,
}

impl Build {
    /// Looks whether `tree` still holds the build `build_id` of `profile`, and what of it is needed.
    pub(super) fn look(
        tree: PathBuf,
        profile: &KernelProfile,
        stamp: Option<&TreeStamp>,
        build_id: &BuildId,
    ) -> Result<Self, TakeError> {
        let missing = |what: String| TakeError::NoBuild {
            tree: tree.clone(),
            what,
        };
        if !commands::is_build(&tree) {
            return Err(missing(
                "no .cmd files; a build made with O= cannot be used yet".to_owned(),
            ));
        }
        for name in [
            "vmlinux",
            ".config",
            "Module.symvers",
            "include/config/auto.conf",
            "include/generated/utsrelease.h",
        ] {
            if !tree.join(name).is_file() {
                return Err(missing(format!("{name} is not there")));
            }
        }
        check(&tree, &tree.join("vmlinux"), profile, stamp, build_id)?;
        if !has_section(&tree.join("vmlinux"), ".debug_info")? {
            return Err(missing(
                "vmlinux has no debug data (CONFIG_DEBUG_INFO)".to_owned(),
            ));
        }
        let chosen = choose::choose(&tree)?;
        let modules = modules(&tree)?;
        let mut bytes = chosen.bytes;
        let others = modules.iter().map(PathBuf::as_path);
        for path in others.chain([Path::new("vmlinux"), Path::new(IMAGE)]) {
            let path = tree.join(path);
            bytes += fs::metadata(&path).map_or(0, |found| found.len());
        }
        Ok(Self {
            tree,
            bytes,
            chosen,
            modules,
        })
    }

    /// Copies what is needed to `files`. Blocks on the disk for long.
    pub(super) fn copy(&self, files: &KernelFiles) -> Result<(), TakeError> {
        let make = |folder: &Path| fs::create_dir_all(folder).map_err(at(folder));
        make(&files.source)?;
        for folder in &self.chosen.folders {
            make(&files.source.join(folder))?;
        }
        for (target, to) in &self.chosen.links {
            let to = files.source.join(to);
            std::os::unix::fs::symlink(target, &to).map_err(at(&to))?;
        }
        let mut pairs: Vec<Pair> = self
            .chosen
            .files
            .iter()
            .map(|(from, to)| (from.clone(), files.source.join(to)))
            .collect();
        let mut add = |from: &Path, to: PathBuf| -> Result<(), TakeError> {
            if let Some(folder) = to.parent() {
                make(folder)?;
            }
            pairs.push((self.tree.join(from), to));
            Ok(())
        };
        add(Path::new(".config"), files.config.clone())?;
        add(Path::new("Module.symvers"), files.symvers.clone())?;
        add(Path::new("vmlinux"), files.vmlinux.clone())?;
        // A kernel that was never made bootable can be patched all the same, and not be tried here.
        if self.tree.join(IMAGE).is_file() {
            add(Path::new(IMAGE), files.vmlinuz.clone())?;
        }
        make(&files.debug_modules)?;
        make(&files.modules.join("kernel"))?;
        let builtin = Path::new("modules.builtin");
        if self.tree.join(builtin).is_file() {
            add(builtin, files.modules.join(builtin))?;
        }
        for module in &self.modules {
            add(module, files.debug_modules.join("kernel").join(module))?;
        }
        pairs
            .par_iter()
            .try_for_each(|(from, to)| tree::copy(from, to))?;
        // Both are ours, and nothing writes either in place.
        for module in &self.modules {
            let to = files.modules.join("kernel").join(module);
            if let Some(folder) = to.parent() {
                make(folder)?;
            }
            let from = files.debug_modules.join("kernel").join(module);
            fs::hard_link(&from, &to).map_err(at(&to))?;
        }
        Ok(())
    }

    /// Checks after copying that the tree is as it was, and that the copy `vmlinux` is of the build.
    pub(super) fn check(
        &self,
        vmlinux: &Path,
        profile: &KernelProfile,
        stamp: Option<&TreeStamp>,
        build_id: &BuildId,
    ) -> Result<(), TakeError> {
        check(&self.tree, vmlinux, profile, stamp, build_id)
    }
}

/// Checks that `vmlinux` is the build `build_id`, and that `tree` is still what it was built of.
fn check(
    tree: &Path,
    vmlinux: &Path,
    profile: &KernelProfile,
    stamp: Option<&TreeStamp>,
    build_id: &BuildId,
) -> Result<(), TakeError> {
    let changed = |what: String| TakeError::Changed {
        tree: tree.to_owned(),
        what,
    };
    let found = build_id_of(vmlinux)?;
    if found.as_ref() != Some(build_id) {
        let found = found.map_or_else(|| "without a build-id".to_owned(), |id| id.to_string());
        return Err(changed(format!(
            "its vmlinux is {found}, and the kernel that was added is {build_id}"
        )));
    }
    let Some(stamp) = stamp.filter(|stamp| stamp.top == tree) else {
        return Err(changed(
            "how it looked when the kernel was added was not kept".to_owned(),
        ));
    };
    let files = profile.tree_files.iter().map(String::as_str);
    if let Some(what) = stamp.changed(files.filter(|path| is_compiled(path))) {
        return Err(changed(what));
    }
    let built = modified(&tree.join("vmlinux"))?;
    if modified(&tree.join(".config"))? > built {
        return Err(changed(".config is newer than the build".to_owned()));
    }
    Ok(())
}

/// Whether what a file holds goes into a kernel.
fn is_compiled(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let ends = [".c", ".h", ".S", ".lds"]
        .iter()
        .any(|end| name.ends_with(end));
    ends || name == "Kbuild" || name.starts_with("Makefile") || name.starts_with("Kconfig")
}

/// Seconds and nanoseconds of the last change to the content.
fn modified(path: &Path) -> Result<(i64, i64), TakeError> {
    let found = fs::metadata(path).map_err(at(path))?;
    Ok((found.mtime(), found.mtime_nsec()))
}

fn build_id_of(vmlinux: &Path) -> Result<Option<BuildId>, TakeError> {
    let map = Map::open(vmlinux)?;
    let file = ElfFile::parse_on_demand(&map).ok();
    Ok(file.and_then(|file| verify::build_id(&file)))
}

/// Whether the ELF file at `path` has a section `name`.
pub(super) fn has_section(path: &Path, name: &str) -> Result<bool, TakeError> {
    let map = Map::open(path)?;
    let file = ElfFile::parse_on_demand(&map).ok();
    Ok(file.is_some_and(|file| file.section_named(name).is_some()))
}

/// The modules of a finished build, from its `modules.order`.
fn modules(tree: &Path) -> Result<Vec<PathBuf>, TakeError> {
    let list = tree.join("modules.order");
    if !list.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&list).map_err(at(&list))?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let found = module(line)
                .into_iter()
                .find(|path| tree.join(path).is_file());
            found.ok_or_else(|| TakeError::NoBuild {
                tree: tree.to_owned(),
                what: format!("modules.order lists {line:?}, and that module is not there"),
            })
        })
        .collect()
}

/// What file a line of `modules.order` may mean: `net/x.ko`, on older series `kernel/net/x.ko`, on newer
/// ones `net/x.o`. Nothing that leads out of the tree.
fn module(line: &str) -> Vec<PathBuf> {
    let stem = line.strip_suffix(".ko").or_else(|| line.strip_suffix(".o"));
    let stems = stem
        .into_iter()
        .flat_map(|stem| [Some(stem), stem.strip_prefix("kernel/")]);
    let paths = stems.flatten().filter_map(|stem| {
        let path: TreePath = format!("{stem}.ko").parse().ok()?;
        Some(PathBuf::from(path.as_str()))
    });
    paths.collect()
}
