//! Free space of file systems.

use std::io;
use std::path::Path;

/// Returns the bytes an unprivileged process may still write on the file system that holds `path`,
/// or will hold it: the nearest folder that exists is asked.
pub fn free(path: &Path) -> io::Result<u64> {
    let mut asked = path;
    loop {
        match rustix::fs::statvfs(asked) {
            Ok(found) => return Ok(found.f_bavail.saturating_mul(found.f_frsize)),
            Err(rustix::io::Errno::NOENT) => match asked.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => asked = parent,
                Some(_) => asked = Path::new("."),
                None => return Err(io::ErrorKind::NotFound.into()),
            },
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_not_made_yet_has_the_space_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(&folder.path().join("a/b")).unwrap() > 0);
    }
}
