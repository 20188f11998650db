//! Profiles of kernels, kept as `HOME/kernels/RELEASE/profile.json[.gz]`.

pub mod agree;
pub(crate) mod beside;
pub mod build;
pub mod commands;
pub mod dwarf;
pub mod exchange;
pub mod functions;
pub mod headers;
pub mod history;
pub mod learn;
pub mod paths;
pub mod stamp;
pub mod tree;
mod wire;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_sys::durable::{self, WriteError};

#[cfg(test)]
pub(crate) use self::wire::tests::small;
pub use self::wire::{Malformed, from_json, fuzz, to_json};

/// Largest profile text that is read, in bytes, before and after decompression.
const LIMIT: u64 = 64 << 20;
/// Largest profile text that is kept as plain JSON, in bytes. Its digest is that of the packed file, which
/// is read faster by about as much as unpacking takes.
const PLAIN: usize = 64 << 10;

const PLAIN_NAME: &str = "profile.json";
const PACKED_NAME: &str = "profile.json.gz";
/// Digests of the profile's file, as `sha256sum` writes them; two while one replaces the other.
const DIGEST_NAME: &str = "profile.sha256";
/// Longest file of digests that is read, in bytes.
const LONGEST_DIGESTS: u64 = 1024;

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
    /// The file is not the one that was written.
    #[error("{path} is not as `tuxtape kernel add` wrote it: {why}: add the kernel again", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
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
    let (path, text, digest) = match read(&plain) {
        Ok(bytes) => {
            let digest = digest(&bytes);
            (plain, bytes, digest)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match read_packed(&packed) {
            Ok((bytes, digest)) => (packed, bytes, digest),
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
    let profile = from_json(&text).and_then(|profile| {
        if profile.id.release == *release {
            Ok(profile)
        } else {
            Err(Malformed::OtherKernel {
                found: profile.id.release,
            })
        }
    });
    match profile {
        // What another version of this program wrote is named as such.
        Err(source @ Malformed::Format { .. }) => Err(LoadError::Malformed {
            path,
            release: release.clone(),
            source,
        }),
        profile => {
            check_digest(&folder, &path, &digest)?;
            profile.map_err(|source| LoadError::Malformed {
                path,
                release: release.clone(),
                source,
            })
        }
    }
}

/// Refuses a profile that somebody changed: verdicts follow from it.
fn check_digest(folder: &Path, path: &Path, digest: &str) -> Result<(), LoadError> {
    let beside = folder.join(DIGEST_NAME);
    let changed = |why: String| LoadError::Changed {
        path: path.to_owned(),
        why,
    };
    let text = match fs::File::open(&beside) {
        Ok(file) => {
            let mut text = String::new();
            file.take(LONGEST_DIGESTS)
                .read_to_string(&mut text)
                .map_err(|source| LoadError::Read {
                    path: beside.clone(),
                    source,
                })?;
            text
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(changed(format!("{DIGEST_NAME} is not beside it")));
        }
        Err(source) => {
            return Err(LoadError::Read {
                path: beside,
                source,
            });
        }
    };
    let known = text.lines().filter_map(|line| line.split(' ').next());
    if known.into_iter().any(|known| known == digest) {
        return Ok(());
    }
    Err(changed(format!(
        "its SHA-256 is {digest}, which {DIGEST_NAME} does not name"
    )))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Writes `profile` below `home` so that a reader sees the old one or the whole new one.
///
/// Texts above 64 KiB are compressed. Blocks on the disk.
pub fn save(home: &Path, profile: &KernelProfile) -> Result<PathBuf, SaveError> {
    let folder = folder(home, &profile.id.release);
    fs::create_dir_all(&folder).map_err(|source| SaveError::Folder {
        path: folder.clone(),
        source,
    })?;
    let text = to_json(profile);
    let plain = folder.join(PLAIN_NAME);
    let packed = folder.join(PACKED_NAME);
    let (path, other, bytes) = if text.len() > PLAIN {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&text).map_err(SaveError::Compress)?;
        let bytes = encoder.finish().map_err(SaveError::Compress)?;
        (packed, plain, bytes)
    } else {
        (plain, packed, text)
    };
    // While one file replaces the other both are known, so that a crash leaves one that can be read.
    let beside = folder.join(DIGEST_NAME);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{}  {name}\n", digest(&bytes));
    let kept = fs::read_to_string(&beside).unwrap_or_default();
    let kept = kept.split_inclusive('\n').next().unwrap_or_default();
    durable::write(&beside, format!("{line}{kept}").as_bytes())?;
    durable::write(&path, &bytes)?;
    durable::write(&beside, line.as_bytes())?;
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

/// Returns the text of a compressed profile, and the digest of its file.
fn read_packed(path: &Path) -> io::Result<(Vec<u8>, String)> {
    let packed = read(path)?;
    let text = bounded(GzDecoder::new(packed.as_slice()))?;
    Ok((text, digest(&packed)))
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
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
    }

    #[test]
    fn a_large_profile_that_is_not_packed_still_loads_and_is_packed_by_the_next() {
        let home = tempfile::tempdir().unwrap();
        let mut profile = small();
        let files = (0..5_000).map(|n| format!("drivers/{n:050}/{n:010}.c"));
        profile.tree_files.extend(files);
        let folder = folder(home.path(), &profile.id.release);
        fs::create_dir_all(&folder).unwrap();
        let text = to_json(&profile);
        assert!(text.len() > PLAIN);
        fs::write(folder.join(PLAIN_NAME), &text).unwrap();
        let line = format!("{}  {PLAIN_NAME}\n", digest(&text));
        fs::write(folder.join(DIGEST_NAME), line).unwrap();
        assert_eq!(load(home.path(), &profile.id.release).unwrap(), profile);
        let packed = save(home.path(), &profile).unwrap();
        assert!(packed.ends_with(PACKED_NAME) && !folder.join(PLAIN_NAME).exists());
        assert!(fs::metadata(&packed).unwrap().len() * 4 < text.len() as u64);
        assert_eq!(load(home.path(), &profile.id.release).unwrap(), profile);
    }

    #[test]
    fn a_profile_that_was_changed_by_hand_is_refused_with_the_way_out() {
        let home = tempfile::tempdir().unwrap();
        let profile = small();
        let path = save(home.path(), &profile).unwrap();
        let release = &profile.id.release;
        let refused = || load(home.path(), release).unwrap_err().to_string();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("6.1.170\"", "6.1.999\"")).unwrap();
        let error = refused();
        assert!(error.contains("profile.json is not as"), "{error}");
        assert!(error.ends_with("add the kernel again"), "{error}");
        fs::write(&path, text).unwrap();
        assert_eq!(load(home.path(), release).unwrap(), profile);
        fs::remove_file(path.with_file_name(DIGEST_NAME)).unwrap();
        assert!(refused().contains("profile.sha256 is not beside it"));
    }

    #[test]
    fn a_crash_while_one_profile_replaces_another_leaves_one() {
        let home = tempfile::tempdir().unwrap();
        let old = small();
        let path = save(home.path(), &old).unwrap();
        let beside = path.with_file_name(DIGEST_NAME);
        let before = (
            fs::read(&path).unwrap(),
            fs::read_to_string(&beside).unwrap(),
        );
        let mut new = small();
        new.functions = 8;
        save(home.path(), &new).unwrap();
        let after = fs::read_to_string(&beside).unwrap();
        // As it is between the steps: both digests, and either file.
        fs::write(&beside, format!("{after}{}", before.1)).unwrap();
        assert_eq!(load(home.path(), &new.id.release).unwrap(), new);
        fs::write(&path, before.0).unwrap();
        assert_eq!(load(home.path(), &old.id.release).unwrap(), old);
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
        for name in [PLAIN_NAME, DIGEST_NAME] {
            let from = saved.with_file_name(name);
            fs::copy(from, folder(home.path(), &other).join(name)).unwrap();
        }
        assert!(matches!(
            load(home.path(), &other),
            Err(LoadError::Malformed { .. })
        ));
    }
}
