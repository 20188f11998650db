//! Interfaces of the running kernel.
//!
//! Everything read from a pseudo file goes through [`KernelFs`], whose roots can be pointed at a fake
//! tree. The system calls of [`module`] always reach the running kernel.

pub mod crash;
pub mod livepatch;
pub mod log;
pub mod module;
pub mod policy;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tuxtape_core::identity::{Arch, BuildId, KernelId, KernelRelease};
use tuxtape_core::module::gnu_build_id;

/// Where the kernel's pseudo files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFs {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev/kmsg`.
    pub kmsg: PathBuf,
}

impl Default for KernelFs {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            kmsg: "/dev/kmsg".into(),
        }
    }
}

/// Why the running kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A pseudo file could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pseudo file could not be written.
    #[error("could not write {text:?} to {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        text: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A pseudo file does not say what it should.
    #[error("{path} is malformed: {what}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// `uname` names something we do not know.
    #[error("uname says {text:?}, which is no {what} known here")]
    Uname {
        /// What was asked.
        what: &'static str,
        /// What it said.
        text: String,
    },
}

/// The kernel's own counts of complaints; `None` where this kernel does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `oops_count`, since 6.2 and in current stable branches.
    pub oops: Option<u64>,
    /// `warn_count`, as above.
    pub warn: Option<u64>,
}

impl KernelFs {
    /// Returns what a module must be bound to in order to be loaded here.
    pub fn identity(&self) -> Result<KernelId, KernelError> {
        let name = rustix::system::uname();
        let machine = name.machine().to_string_lossy();
        let release = name.release().to_string_lossy();
        let arch = match machine.as_ref() {
            "x86_64" => Arch::X86_64,
            other => {
                return Err(KernelError::Uname {
                    what: "architecture",
                    text: other.to_owned(),
                });
            }
        };
        Ok(KernelId {
            arch,
            release: release
                .parse::<KernelRelease>()
                .map_err(|_| KernelError::Uname {
                    what: "kernel release",
                    text: release.into_owned(),
                })?,
            build_id: self.build_id()?,
        })
    }

    /// Returns the GNU build-id of the vmlinux that runs, from `/sys/kernel/notes`.
    pub fn build_id(&self) -> Result<BuildId, KernelError> {
        let path = self.sys.join("kernel/notes");
        let notes = read(&path, 64 * 1024)?;
        gnu_build_id(&notes).ok_or(KernelError::Malformed {
            path,
            what: "it holds no GNU build-id, or two that differ",
        })
    }

    /// Returns the random id of this boot.
    pub fn boot_id(&self) -> Result<String, KernelError> {
        let path = self.proc.join("sys/kernel/random/boot_id");
        let text = read_text(&path)?;
        let plain = |c: char| c.is_ascii_hexdigit() || c == '-';
        if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
            return Err(KernelError::Malformed {
                path,
                what: "no boot id",
            });
        }
        Ok(text)
    }

    /// Returns whole seconds since boot.
    pub fn uptime(&self) -> Result<u64, KernelError> {
        let path = self.proc.join("uptime");
        let text = read_text(&path)?;
        text.split('.')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .ok_or(KernelError::Malformed {
                path,
                what: "no seconds",
            })
    }

    /// Returns the kernel's taint bits.
    pub fn taint(&self) -> Result<u64, KernelError> {
        let path = self.proc.join("sys/kernel/tainted");
        read_text(&path)?
            .parse()
            .map_err(|_| KernelError::Malformed {
                path,
                what: "no number",
            })
    }

    /// Returns the kernel's counts of complaints.
    pub fn counters(&self) -> Counters {
        let count = |name| {
            let path = self.sys.join("kernel").join(name);
            read_text(&path).ok().and_then(|text| text.parse().ok())
        };
        Counters {
            oops: count("oops_count"),
            warn: count("warn_count"),
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, KernelError> {
    let failed = |source| KernelError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String, KernelError> {
    let bytes = read(path, 4096)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tuxtape_core::module::sample::note;

    use super::*;

    fn fake() -> (tempfile::TempDir, KernelFs) {
        let folder = tempfile::tempdir().unwrap();
        let fs = KernelFs {
            sys: folder.path().join("sys"),
            proc: folder.path().join("proc"),
            kmsg: folder.path().join("kmsg"),
        };
        fs::create_dir_all(fs.sys.join("kernel")).unwrap();
        (folder, fs)
    }

    #[test]
    fn the_build_id_comes_from_the_gnu_note() {
        let (_folder, kernel) = fake();
        let mut notes = note(b"Xen\0", 6, b"linux\0");
        notes.extend(note(b"GNU\0", 3, &[0x2f; 20]));
        fs::write(kernel.sys.join("kernel/notes"), notes).unwrap();
        assert_eq!(kernel.build_id().unwrap().to_string(), "2f".repeat(20));
        fs::write(kernel.sys.join("kernel/notes"), b"").unwrap();
        let error = kernel.build_id().unwrap_err().to_string();
        assert!(error.contains("kernel/notes"), "{error}");
    }

    #[test]
    fn a_counter_the_kernel_lacks_is_unknown_not_zero() {
        let (_folder, kernel) = fake();
        fs::write(kernel.sys.join("kernel/oops_count"), "4\n").unwrap();
        let counters = kernel.counters();
        assert_eq!((counters.oops, counters.warn), (Some(4), None));
    }
}
