//! Memory-mapped files, for images too large to read.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A file mapped read-only.
#[derive(Debug)]
pub struct Map {
    bytes: Option<memmap2::Mmap>,
}

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("could not read {path}", path = path.display())]
pub struct MapError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Map {
    /// Maps `path`. The file must not be truncated while mapped: kernel images and packages unpacked
    /// by us are written once under their final name and never changed in place.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        let failed = |source| MapError {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Self { bytes: None });
        }
        #[expect(
            unsafe_code,
            reason = "mapping a file is unsafe by nature; this is the one place"
        )]
        // SAFETY: the mapping is private and read-only; files are replaced by rename, not in place.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Ok(Self { bytes: Some(bytes) })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}
