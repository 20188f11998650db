//! The programs the lab needs on the host.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};

/// What a boot needs from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// A statically linked busybox, which becomes the guest's user space.
    pub busybox: PathBuf,
}

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// No emulator.
    #[error("qemu-system-x86_64 is not installed")]
    NoQemu,
    /// No busybox.
    #[error("busybox is not installed")]
    NoBusybox,
    /// A busybox that needs libraries the guest does not have.
    #[error("{path} is not statically linked", path = .0.display())]
    NotStatic(PathBuf),
    /// It could not be read.
    #[error("could not read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ToolsError {
    /// Returns the Debian package that has what is missing.
    pub fn package(&self) -> Option<&'static str> {
        match self {
            Self::NoQemu => Some("qemu-system-x86"),
            Self::NoBusybox | Self::NotStatic(_) => Some("busybox-static"),
            Self::Read { .. } => None,
        }
    }
}

impl Tools {
    /// Looks for the tools on `PATH` and in the folders Debian puts them in.
    pub fn find() -> Result<Self, ToolsError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = env::split_paths(&path)
            .chain(["/usr/bin", "/bin"].map(PathBuf::from))
            .collect();
        let find = |name: &str| {
            folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|file| file.is_file())
        };
        let qemu = find("qemu-system-x86_64").ok_or(ToolsError::NoQemu)?;
        let busybox = find("busybox").ok_or(ToolsError::NoBusybox)?;
        if !is_static(&busybox)? {
            return Err(ToolsError::NotStatic(busybox));
        }
        Ok(Self { qemu, busybox })
    }
}

fn is_static(path: &Path) -> Result<bool, ToolsError> {
    let bytes = fs::read(path).map_err(|source| ToolsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let Ok(file) = ElfFile64::<object::Endianness>::parse(bytes.as_slice()) else {
        return Ok(false);
    };
    let Ok(headers) = file
        .elf_header()
        .program_headers(file.endian(), bytes.as_slice())
    else {
        return Ok(false);
    };
    Ok(headers
        .iter()
        .all(|header| header.p_type(file.endian()) != elf::PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_static_program_is_told_with_its_package() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busybox");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(!is_static(&path).unwrap());
        // The test program itself is linked dynamically or not; it must parse either way.
        is_static(&env::current_exe().unwrap()).unwrap();
        assert_eq!(
            ToolsError::NotStatic(path).package(),
            Some("busybox-static")
        );
        assert_eq!(ToolsError::NoQemu.package(), Some("qemu-system-x86"));
    }
}
