//! Files that are kept beside a profile: each is read whole within a bound, and written whole or not at
//! all.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tuxtape_sys::durable::{self, WriteError};

/// Reads at most `limit` bytes of the file at `path`; `None` where there is none.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The same of a file packed by gzip, with at most `unpacked` bytes of what is in it.
pub(crate) fn read_gzip(path: &Path, limit: u64, unpacked: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(packed) = read(path, limit)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice())
        .take(unpacked)
        .read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes `bytes` so that a reader sees the old file or the whole new one. Blocks on the disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| WriteError {
            path: path.to_owned(),
            source,
        })?;
    }
    durable::write(path, bytes)
}

/// The same, packed by gzip.
pub(crate) fn write_gzip(path: &Path, bytes: &[u8], level: Compression) -> Result<(), WriteError> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    let packed = packed.map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })?;
    write(path, &packed)
}

/// Removes the file at `path`, if there is one.
pub(crate) fn remove(path: &Path) -> Result<(), WriteError> {
    durable::remove(path).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}
