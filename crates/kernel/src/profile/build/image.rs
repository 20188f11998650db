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

/// Compares the modules as they are loaded with those of the debug package: all names, and the
/// build-ids of all plain ones and of some of the packed ones. Returns what could not be told.
pub(super) fn check_modules(
    files: &KernelFiles,
    debug_modules: &[PathBuf],
) -> Result<Option<String>, BuildError> {
    let debug: BTreeMap<ObjectName, &PathBuf> = debug_modules
        .iter()
        .map(|path| (module_name(path), path))
        .collect();
    let loaded = objects(&files.modules)?;
    let counterparts: Vec<(&PathBuf, &PathBuf)> = loaded
        .iter()
        .map(|path| match debug.get(&module_name(path)) {
            Some(counterpart) => Ok((path, *counterpart)),
            None => Err(BuildError::NoDebugData {
                path: path.clone(),
                folder: files.debug_modules.clone(),
                count: debug.len(),
            }),
        })
        .collect::<Result<_, BuildError>>()?;
    let (plain, packed): (Vec<_>, Vec<_>) = counterparts
        .into_iter()
        .partition(|(path, _)| path.extension().is_some_and(|end| end == "ko"));
    let step = packed.len().div_ceil(SAMPLE).max(1);
    let compared: Vec<(&PathBuf, &PathBuf)> = plain
        .into_iter()
        .chain(packed.into_iter().step_by(step))
        .collect();
    let unread: Vec<Option<&PathBuf>> = compared
        .par_iter()
        .map(|&(image_path, debug_path)| {
            let Some(image) = build_id(image_path)? else {
                return Ok(Some(image_path));
            };
            let debug = build_id(debug_path)?.ok_or_else(|| BuildError::NoBuildId {
                path: debug_path.clone(),
            })?;
            if image == debug {
                Ok(None)
            } else {
                Err(BuildError::OtherBuild {
                    debug_path: debug_path.clone(),
                    debug,
                    image_path: image_path.clone(),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Compares 40 modules with their debug data, of which those at `absent` have none.
    fn check(end: &str, absent: &[usize]) -> Result<Option<String>, BuildError> {
        let folder = tempfile::tempdir().unwrap();
        let release = "6.1.0-1-test".parse().unwrap();
        let files = KernelFiles::below(folder.path(), &release);
        for folder in [&files.modules, &files.debug_modules] {
            fs::create_dir_all(folder).unwrap();
        }
        for number in 0..40 {
            let name = format!("module-{number:02}.ko");
            fs::write(files.modules.join(format!("{name}{end}")), "no module").unwrap();
            if !absent.contains(&number) {
                fs::write(files.debug_modules.join(&name), "no module").unwrap();
            }
        }
        let debug = objects(&files.debug_modules).unwrap();
        check_modules(&files, &debug)
    }

    #[test]
    fn a_module_without_debug_data_is_refused_packed_or_not() {
        for end in ["", ".gz"] {
            assert!(check(end, &[]).is_ok());
            for absent in 0..40 {
                let outcome = check(end, &[absent]);
                let Err(BuildError::NoDebugData { path, count, .. }) = outcome else {
                    panic!("{end} {absent}: {outcome:?}");
                };
                assert_eq!(
                    (module_name(&path).0, count),
                    (format!("module_{absent:02}"), 39)
                );
            }
        }
    }

    #[test]
    fn a_module_that_cannot_be_read_is_told() {
        let told = check("", &[]).unwrap().unwrap();
        assert!(
            told.starts_with("40 of 40 modules could not be compared"),
            "{told}"
        );
    }
}
