//! Files that somebody else may have planted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Opens `path` as `options` say, without following a link at its end or waiting on a fifo, and only
/// if it is a regular file.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_with(options, path, OFlags::NOFOLLOW)
}

fn open_with(options: &mut OpenOptions, path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK;
    let file = options
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    regular(file)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Reads a regular file of at most `cap` bytes; `None` when it is larger.
pub fn read(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    bounded(open(OpenOptions::new().read(true), path)?, cap)
}

/// Like [`read()`], and follows a link at the end: for what a person named, or a folder that may hold
/// links.
pub fn read_linked(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    let none = OFlags::empty();
    bounded(open_with(OpenOptions::new().read(true), path, none)?, cap)
}

fn bounded(file: File, cap: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= cap).then_some(bytes))
}

/// A folder that files are read below, never outside of it: openat2(2).
#[derive(Debug)]
pub struct Beneath(OwnedFd);

impl Beneath {
    /// Opens the folder.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(folder, flags, Mode::empty())?))
    }

    /// Opens the regular file `path`, which relative links within the folder may lead to. `None` where
    /// the system cannot tell whether it is below the folder: an absolute link, a kernel before 5.6, a
    /// sandbox that forbids the call.
    pub fn open(&self, path: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(file) => regular(File::from(file)).map(Some),
            Err(
                rustix::io::Errno::XDEV
                | rustix::io::Errno::NOSYS
                | rustix::io::Errno::PERM
                | rustix::io::Errno::AGAIN,
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Like [`read()`], and `None` also when there is nothing.
pub fn read_if_there(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    match read(path, cap) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_lies_beneath_a_folder_is_read_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("tree");
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("a/f"), "x").unwrap();
        fs::write(top.path().join("secret"), "y").unwrap();
        for (link, target) in [
            ("inside", "a/f".into()),
            ("out", "../secret".into()),
            ("absolute", folder.join("a/f")),
        ] {
            std::os::unix::fs::symlink(target, folder.join(link)).unwrap();
        }
        let beneath = Beneath::new(&folder).unwrap();
        for path in ["a/f", "inside", "a/../inside"] {
            assert!(beneath.open(path).unwrap().is_some(), "{path}");
        }
        for path in ["out", "absolute", "../secret", "/etc/passwd"] {
            assert!(beneath.open(path).unwrap().is_none(), "{path}");
        }
        assert!(beneath.open("a").is_err());
        assert!(beneath.open("absent").is_err());
    }

    #[test]
    fn links_folders_and_larger_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(read(&path, 4).unwrap(), None);
        let link = folder.path().join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link, 5).is_err());
        assert_eq!(
            read_linked(&link, 5).unwrap().as_deref(),
            Some(&b"12345"[..])
        );
        assert_eq!(read_linked(&link, 4).unwrap(), None);
        assert!(read(folder.path(), 5).is_err());
    }

    #[test]
    fn a_fifo_or_a_device_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            for read in [read, read_linked] {
                assert_eq!(read(path, 5).unwrap_err().to_string(), "not a regular file");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_nothing_and_what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_if_there(&folder.path().join("f"), 5).unwrap(), None);
        assert!(read_if_there(folder.path(), 5).is_err());
    }
}
