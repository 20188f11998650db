//! What the machine kept of kernels that crashed.
//!
//! A kernel with a backend (`efi_pstore`, ERST, ramoops) writes the end of its log there when it oopses
//! or panics; the next one shows it below `/sys/fs/pstore`. systemd moves the files from there to
//! `/var/lib/systemd/pstore`, one folder for each record, before anything of ours runs.

use std::fs;
use std::path::{Path, PathBuf};

use super::KernelFs;
use crate::regular;

/// Bytes of one record. ERST and EFI keep 64 KiB at most, ramoops what it is given, some MiB with zip.
const LARGEST: u64 = 4 << 20;
/// Bytes of all of them.
const ALL: usize = 16 << 20;
/// Records looked at.
const MOST: usize = 1024;

/// One record of a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashRecord {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub bytes: Vec<u8>,
}

/// What was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashRecords {
    /// The records, in the order of their paths.
    pub records: Vec<CrashRecord>,
    /// What could not be read.
    pub unread: Vec<PathBuf>,
}

impl KernelFs {
    /// Reads the records of crashes from pstore and from the folder `moved` that systemd moves them to.
    pub fn crash_records(&self, moved: &Path) -> CrashRecords {
        let mut paths = Vec::new();
        list(&self.sys.join("fs/pstore"), 0, &mut paths);
        list(moved, 0, &mut paths);
        // systemd also joins the parts of a record; where parts lie beside that file it says nothing new.
        let joined: Vec<PathBuf> = paths
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| name == "dmesg.txt"))
            .filter(|path| {
                paths
                    .iter()
                    .any(|other| other != *path && other.parent() == path.parent())
            })
            .cloned()
            .collect();
        paths.retain(|path| !joined.contains(path));
        paths.sort();
        let mut found = CrashRecords::default();
        let mut all = 0;
        for path in paths {
            match regular::read(&path, LARGEST) {
                Ok(Some(bytes)) if all + bytes.len() <= ALL => {
                    all += bytes.len();
                    found.records.push(CrashRecord { path, bytes });
                }
                Ok(_) | Err(_) => found.unread.push(path),
            }
        }
        found
    }

    /// Tells whether pstore has a backend, so that this kernel would keep a crash.
    pub fn keeps_crashes(&self) -> bool {
        let path = self.sys.join("module/pstore/parameters/backend");
        // The kernel prints a pointer that is null so.
        fs::read_to_string(path).is_ok_and(|name| !matches!(name.trim(), "" | "(null)"))
    }
}

fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < 3 {
            list(&entry.path(), depth + 1, found);
        } else if kind.is_file()
            && found.len() < MOST
            && entry.file_name().to_string_lossy().starts_with("dmesg")
        {
            found.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_both_folders_are_read_and_joined_ones_left() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path().join("sys");
        let moved = folder.path().join("moved");
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(sys.join("fs/pstore/dmesg-erst-1"), "one");
        write(sys.join("fs/pstore/console-ramoops-0"), "no crash");
        write(sys.join("module/pstore/parameters/backend"), "erst\n");
        write(moved.join("7/001/dmesg-efi-2"), "two");
        write(moved.join("7/001/dmesg.txt"), "two again");
        write(moved.join("8/dmesg.txt"), "three");
        std::os::unix::fs::symlink("/dev/zero", moved.join("8/dmesg-efi-link")).unwrap();
        let kernel = KernelFs {
            sys,
            ..KernelFs::default()
        };
        let found = kernel.crash_records(&moved);
        let texts: Vec<&[u8]> = found
            .records
            .iter()
            .map(|record| &record.bytes[..])
            .collect();
        assert_eq!(texts, [&b"two"[..], b"three", b"one"]);
        assert!(kernel.keeps_crashes() && found.unread.is_empty());
    }

    #[test]
    fn without_pstore_there_is_neither_backend_nor_record() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = KernelFs {
            sys: folder.path().to_owned(),
            ..KernelFs::default()
        };
        let found = kernel.crash_records(&folder.path().join("none"));
        assert_eq!(found, CrashRecords::default());
        let backend = folder.path().join("module/pstore/parameters/backend");
        fs::create_dir_all(backend.parent().unwrap()).unwrap();
        fs::write(&backend, "(null)\n").unwrap();
        assert!(!kernel.keeps_crashes());
    }
}
