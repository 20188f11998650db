//! Profiles of kernels, kept as `HOME/kernels/RELEASE/profile.json[.gz]`.

pub mod agree;
pub mod build;
pub mod commands;
pub mod dwarf;
pub mod exchange;
pub mod functions;
pub mod history;
pub mod learn;
pub mod paths;
pub mod tree;
mod wire;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_sys::durable::{self, WriteError};

#[cfg(test)]
pub(crate) use self::wire::tests::small;
pub use self::wire::{Malformed, from_json, fuzz, to_json};

/// Largest profile text that is read, in bytes, before and after decompression.
const LIMIT: u64 = 64 << 20;
/// Largest profile text that is kept as plain JSON, in bytes.
const PLAIN: usize = 5 << 20;

const PLAIN_NAME: &str = "profile.json";
const PACKED_NAME: &str = "profile.json.gz";

/// Why a profile could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such kernel was added.
    #[error("kernel {release} has not been added")]
    Missing {
        /// The release asked for.
        release: KernelRelease,
    },
    /// The file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no profile of that kernel.
    #[error("{path} is not the profile of {release}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The release asked for.
        release: KernelRelease,
        /// What is wrong in it.
        source: Malformed,
    },
}

/// Why a profile could not be saved; an older one is untouched.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Its folder could not be made.
    #[error("could not create {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text could not be compressed.
    #[error("could not compress the profile")]
    Compress(#[source] io::Error),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Reads the profile of `release` from below `home`.
pub fn load(home: &Path, release: &KernelRelease) -> Result<KernelProfile, LoadError> {
    let folder = folder(home, release);
    let packed = folder.join(PACKED_NAME);
    let plain = folder.join(PLAIN_NAME);
    // `save` leaves one of the two; after a crash between its steps the packed one may be older.
    let (path, text) = match read(&plain) {
        Ok(bytes) => (plain, bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match read_packed(&packed) {
            Ok(bytes) => (packed, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::Missing {
                    release: release.clone(),
                });
            }
            Err(source) => {
                return Err(LoadError::Read {
                    path: packed,
                    source,
                });
            }
        },
        Err(source) => {
            return Err(LoadError::Read {
                path: plain,
                source,
            });
        }
    };
    from_json(&text)
        .and_then(|profile| {
            if profile.id.release == *release {
                Ok(profile)
            } else {
                Err(Malformed::OtherKernel {
                    found: profile.id.release,
                })
            }
        })
        .map_err(|source| LoadError::Malformed {
            path,
            release: release.clone(),
            source,
        })
}

/// Writes `profile` below `home` so that a reader sees the old one or the whole new one.
///
/// Texts above 5 MiB are compressed. Blocks on the disk.
pub fn save(home: &Path, profile: &KernelProfile) -> Result<PathBuf, SaveError> {
    let folder = folder(home, &profile.id.release);
    fs::create_dir_all(&folder).map_err(|source| SaveError::Folder {
        path: folder.clone(),
        source,
    })?;
    let text = to_json(profile);
    let plain = folder.join(PLAIN_NAME);
    let packed = folder.join(PACKED_NAME);
    let (path, other) = if text.len() > PLAIN {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&text).map_err(SaveError::Compress)?;
        let bytes = encoder.finish().map_err(SaveError::Compress)?;
        durable::write(&packed, &bytes)?;
        (packed, plain)
    } else {
        durable::write(&plain, &text)?;
        (plain, packed)
    };
    durable::remove(&other).map_err(|source| WriteError {
        path: other,
        source,
    })?;
    Ok(path)
}

/// Names the kernels that have a profile below `home`, sorted.
pub fn list(home: &Path) -> Result<Vec<KernelRelease>, LoadError> {
    let top = home.join("kernels");
    let failed = |source| LoadError::Read {
        path: top.clone(),
        source,
    };
    let entries = match fs::read_dir(&top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut releases = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let kept = [PLAIN_NAME, PACKED_NAME]
            .iter()
            .any(|name| entry.path().join(name).is_file());
        let release = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<KernelRelease>().ok());
        if let (true, Some(release)) = (kept, release) {
            releases.push(release);
        }
    }
    releases.sort();
    Ok(releases)
}

pub(crate) fn folder(home: &Path, release: &KernelRelease) -> PathBuf {
    home.join("kernels").join(release.as_str())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded(fs::File::open(path)?)
}

fn read_packed(path: &Path) -> io::Result<Vec<u8>> {
    bounded(GzDecoder::new(fs::File::open(path)?.take(LIMIT)))
}

fn bounded(source: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {} MiB", LIMIT >> 20),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::small;

    #[test]
    fn a_saved_profile_loads_equal() {
        let home = tempfile::tempdir().unwrap();
        let profile = small();
        save(home.path(), &profile).unwrap();
        assert_eq!(load(home.path(), &profile.id.release).unwrap(), profile);
        assert_eq!(list(home.path()).unwrap(), [profile.id.release]);
    }

    #[test]
    fn a_large_profile_is_compressed_and_replaces_the_plain_one() {
        let home = tempfile::tempdir().unwrap();
        let mut profile = small();
        save(home.path(), &profile).unwrap();
        profile
            .tree_files
            .extend((0..100_000).map(|n| format!("drivers/{n:050}/{n:010}.c")));
        let path = save(home.path(), &profile).unwrap();
        assert!(path.ends_with(PACKED_NAME));
        assert_eq!(load(home.path(), &profile.id.release).unwrap(), profile);
        let folder = folder(home.path(), &profile.id.release);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn a_kernel_never_added_is_named() {
        let home = tempfile::tempdir().unwrap();
        let release: KernelRelease = "6.1.0-47-cloud-amd64".parse().unwrap();
        let error = load(home.path(), &release).unwrap_err();
        assert!(error.to_string().contains("6.1.0-47-cloud-amd64"));
        assert!(list(home.path()).unwrap().is_empty());
    }

    #[test]
    fn the_profile_of_another_kernel_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let profile = small();
        let saved = save(home.path(), &profile).unwrap();
        let other: KernelRelease = "6.1.0-50-cloud-amd64".parse().unwrap();
        fs::create_dir_all(folder(home.path(), &other)).unwrap();
        fs::copy(saved, folder(home.path(), &other).join(PLAIN_NAME)).unwrap();
        assert!(matches!(
            load(home.path(), &other),
            Err(LoadError::Malformed { .. })
        ));
    }
}
