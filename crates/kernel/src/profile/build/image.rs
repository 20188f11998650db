//! The image package must be of the same build as the debug package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use object::Object as _;
use object::read::elf::ElfFile64;
use rayon::prelude::*;
use tuxtape_core::identity::{BuildId, ObjectName};
use tuxtape_sys::map::Map;
use tuxtape_sys::process;

use super::{BuildError, module_name, objects};
use crate::files::KernelFiles;
use crate::vmlinuz::{self, ImageBuild};

/// How many packed modules are unpacked to compare them; plain ones are compared all.
const SAMPLE: usize = 16;

/// Compares the kernel inside the bootable image; returns what could not be told.
pub(super) fn check_kernel(
    files: &KernelFiles,
    debug: &BuildId,
) -> Result<Option<String>, BuildError> {
    let map = Map::open(&files.vmlinuz)?;
    let image = vmlinuz::build_id(&map).map_err(|source| BuildError::Image {
        path: files.vmlinuz.clone(),
        source,
    })?;
    match image {
        ImageBuild::Known(image) if image == *debug => Ok(None),
        ImageBuild::Known(image) => Err(BuildError::OtherBuild {
            debug_path: files.vmlinux.clone(),
            debug: debug.clone(),
            image_path: files.vmlinuz.clone(),
            image,
        }),
        ImageBuild::Packed(how) => Ok(Some(format!(
            "the build-id inside {} was not compared: it is packed with {how}",
            files.vmlinuz.display()
        ))),
    }
}

/// Compares the modules as they are loaded with those of the debug package: all plain ones, or some
/// of the packed ones. Returns what could not be told.
pub(super) fn check_modules(
    files: &KernelFiles,
    debug_modules: &[PathBuf],
) -> Result<Option<String>, BuildError> {
    let debug: BTreeMap<ObjectName, &PathBuf> = debug_modules
        .iter()
        .map(|path| (module_name(path), path))
        .collect();
    let loaded = objects(&files.modules)?;
    let (plain, packed): (Vec<_>, Vec<_>) = loaded
        .iter()
        .partition(|path| path.extension().is_some_and(|end| end == "ko"));
    let step = packed.len().div_ceil(SAMPLE).max(1);
    let compared: Vec<&PathBuf> = plain
        .into_iter()
        .chain(packed.into_iter().step_by(step))
        .collect();
    let unread: Vec<Option<&PathBuf>> = compared
        .par_iter()
        .map(|image_path| {
            let Some(debug_path) = debug.get(&module_name(image_path)) else {
                return Ok(Some(*image_path));
            };
            let Some(image) = build_id(image_path)? else {
                return Ok(Some(*image_path));
            };
            let debug = build_id(debug_path)?.ok_or_else(|| BuildError::NoBuildId {
                path: (*debug_path).clone(),
            })?;
            if image == debug {
                Ok(None)
            } else {
                Err(BuildError::OtherBuild {
                    debug_path: (*debug_path).clone(),
                    debug,
                    image_path: (*image_path).clone(),
                    image,
                })
            }
        })
        .collect::<Result<_, BuildError>>()?;
    let unread: Vec<&PathBuf> = unread.into_iter().flatten().collect();
    Ok(unread.first().map(|first| {
        format!(
            "{} of {} modules could not be compared with their debug data, the first is {}",
            unread.len(),
            compared.len(),
            first.display()
        )
    }))
}

/// Reads the build-id of a module; `None` where it has none or cannot be unpacked here.
fn build_id(path: &Path) -> Result<Option<BuildId>, BuildError> {
    let bytes_of = |bytes: &[u8]| {
        let file = ElfFile64::<object::LittleEndian>::parse(bytes).ok()?;
        BuildId::from_bytes(file.build_id().ok()??).ok()
    };
    let program = match path.extension().and_then(|end| end.to_str()) {
        Some("ko") => return Ok(bytes_of(&Map::open(path)?)),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => "gzip",
    };
    let unpacked = process::run_ok(
        Command::new(program).arg("-dc").arg(path),
        Duration::from_secs(60),
    );
    Ok(unpacked
        .ok()
        .and_then(|finished| bytes_of(&finished.stdout)))
}
