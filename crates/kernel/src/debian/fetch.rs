//! Downloading packages by apt, without root, into the cache.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tuxtape_sys::process::{self, ProcessError};

use super::index::Package;
use crate::progress::{Event, Progress};

/// Limit of one package's download. apt gives up on a silent server long before.
const DOWNLOAD: Duration = Duration::from_secs(2 * 3600);

/// Why a package could not be fetched; whole files fetched before are kept.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file or folder of the cache could not be used.
    #[error("could not use {path}", path = path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server does not have what apt's index promises.
    #[error("package {package} is listed but not served")]
    NotServed {
        /// Name and version.
        package: String,
        /// The last words of apt.
        source: ProcessError,
    },
    /// The download failed in another way.
    #[error("could not download {package}")]
    Download {
        /// Name and version.
        package: String,
        /// What went wrong.
        source: ProcessError,
    },
    /// The downloaded bytes are others than the index promises.
    #[error("{package} has sha256 {found}, apt's index says {wanted}")]
    Digest {
        /// Name and version.
        package: String,
        /// Of the file.
        found: String,
        /// Of the index.
        wanted: String,
    },
}

/// Returns where `package` lies below `cache` once fetched.
pub fn place(cache: &Path, package: &Package) -> PathBuf {
    cache.join("debian").join(package.file_name())
}

/// Tells which of `packages` are not below `cache` yet, by name and size alone.
pub fn absent<'a>(cache: &Path, packages: &[&'a Package]) -> Vec<&'a Package> {
    let there = |package: &Package| {
        fs::metadata(place(cache, package)).is_ok_and(|found| found.len() == package.size)
    };
    packages
        .iter()
        .copied()
        .filter(|package| !there(package))
        .collect()
}

/// Makes sure that `package` lies below `cache` with the bytes the index promises, and returns where.
///
/// A file already there is used after its digest was checked, and replaced where that differs. A
/// download runs in a folder of its own and is moved in place when whole, so an interrupted one is
/// never taken for a package. Call it with the cache's lock held.
pub fn fetch(
    cache: &Path,
    package: &Package,
    progress: &dyn Progress,
) -> Result<PathBuf, FetchError> {
    let path = place(cache, package);
    let named = || format!("{} {}", package.name, package.version);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FetchError::Cache { path, source }
    };
    if path.is_file() && digest(&path).map_err(failed(&path))? == package.sha256 {
        progress.tell(Event::Reused {
            name: package.file_name(),
        });
        return Ok(path);
    }
    let folder = cache.join("debian/.partial");
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let partial = folder.join(package.file_name());
    download(&folder, &partial, package, progress)?;
    let found = digest(&partial).map_err(failed(&partial))?;
    if found != package.sha256 {
        fs::remove_file(&partial).map_err(failed(&partial))?;
        return Err(FetchError::Digest {
            package: named(),
            found,
            wanted: package.sha256.clone(),
        });
    }
    File::open(&partial)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&partial, &path))
        .map_err(failed(&path))?;
    Ok(path)
}

fn download(
    folder: &Path,
    partial: &Path,
    package: &Package,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let mut command = Command::new("apt-get");
    command
        .current_dir(folder)
        .env("LC_ALL", "C")
        .args(["--quiet", "-o", "Acquire::Retries=2", "download"])
        .arg(format!("{}={}", package.name, package.version));
    let (ended, end) = mpsc::channel();
    let outcome = thread::scope(|scope| {
        scope.spawn(move || {
            ended.send(process::run_ok(&mut command, DOWNLOAD)).ok();
        });
        loop {
            match end.recv_timeout(Duration::from_millis(200)) {
                Ok(outcome) => break Some(outcome),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => progress.tell(Event::Bytes {
                    name: package.file_name(),
                    done: fs::metadata(partial).map_or(0, |found| found.len()),
                    total: package.size,
                }),
            }
        }
    });
    let named = format!("{} {}", package.name, package.version);
    let outcome = outcome.expect("the thread sends its outcome before it ends");
    match outcome.map_err(without_sandbox_warning) {
        Ok(_) => {
            progress.tell(Event::Bytes {
                name: package.file_name(),
                done: package.size,
                total: package.size,
            });
            Ok(())
        }
        Err(source) if not_served(&source) => Err(FetchError::NotServed {
            package: named,
            source,
        }),
        Err(source) => Err(FetchError::Download {
            package: named,
            source,
        }),
    }
}

/// As root, apt warns that its unprivileged user cannot reach the folder; the bytes are checked all
/// the same, so nobody needs to hear of it.
fn without_sandbox_warning(error: ProcessError) -> ProcessError {
    match error {
        ProcessError::Failed {
            program,
            status,
            tail,
        } => ProcessError::Failed {
            program,
            status,
            tail: tail
                .lines()
                .filter(|line| !line.contains("performed unsandboxed as root"))
                .collect::<Vec<_>>()
                .join("\n"),
        },
        other @ (ProcessError::Start { .. }
        | ProcessError::Deadline { .. }
        | ProcessError::Output { .. }) => other,
    }
}

/// Tells a server's "no such file" from every other failure.
fn not_served(error: &ProcessError) -> bool {
    match error {
        ProcessError::Failed { tail, .. } => {
            tail.contains("404") || tail.contains("410  Gone") || tail.contains("File not found")
        }
        ProcessError::Start { .. }
        | ProcessError::Deadline { .. }
        | ProcessError::Output { .. } => false,
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
    }
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::version::DebianVersion;
    use crate::progress::Silent;

    fn package(content: &[u8]) -> Package {
        Package {
            name: "no-such-package-anywhere".to_owned(),
            version: DebianVersion::new("1-1"),
            architecture: "all".to_owned(),
            size: content.len() as u64,
            installed_size: 0,
            sha256: hex::encode(Sha256::digest(content)),
            depends: String::new(),
        }
    }

    #[test]
    fn a_file_with_the_promised_bytes_is_used_without_apt() {
        let cache = tempfile::tempdir().unwrap();
        let package = package(b"deb");
        assert_eq!(absent(cache.path(), &[&package]).len(), 1);
        fs::create_dir_all(cache.path().join("debian")).unwrap();
        fs::write(place(cache.path(), &package), b"deb").unwrap();
        assert!(absent(cache.path(), &[&package]).is_empty());
        assert!(fetch(cache.path(), &package, &Silent).is_ok());
    }

    #[test]
    fn the_warning_about_the_unprivileged_user_is_not_passed_on() {
        let error = without_sandbox_warning(ProcessError::Failed {
            program: "apt-get".to_owned(),
            status: std::process::ExitStatus::default(),
            tail: "W: Download is performed unsandboxed as root as …\nE: no".to_owned(),
        });
        assert!(error.to_string().ends_with(": E: no"), "{error}");
    }

    #[test]
    fn a_missing_file_on_the_server_is_told_from_a_dead_network() {
        let failed = |tail: &str| ProcessError::Failed {
            program: "apt-get".to_owned(),
            status: std::process::ExitStatus::default(),
            tail: tail.to_owned(),
        };
        assert!(not_served(&failed(
            "E: Failed to fetch …/x.deb  404  Not Found [IP: ::1 80]"
        )));
        assert!(!not_served(&failed("Temporary failure resolving 'mirror'")));
    }
}
