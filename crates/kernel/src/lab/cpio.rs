//! The initramfs: a `newc` archive, uncompressed, because unpacking costs an emulated CPU more than
//! the bytes cost the host.

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: std::collections::BTreeSet<String>,
}

/// Why a file does not fit into an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpioError {
    /// The name is not one the guest could use.
    #[error("{0:?} is no absolute path of plain components")]
    Path(String),
    /// The format has 32 bits for a size.
    #[error("{0} is larger than the archive format allows")]
    TooLarge(String),
}

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

impl Archive {
    /// Adds a file at the absolute `path` with the permission bits `mode`, after the folders it needs.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), CpioError> {
        let name = inside(path).ok_or_else(|| CpioError::Path(path.to_owned()))?;
        for (end, _) in name.match_indices('/') {
            let folder = name.get(..end).unwrap_or_default();
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER | 0o755, &[])?;
            }
        }
        self.entry(name, REGULAR | (mode & 0o7777), content)
    }

    /// Ends the archive and returns its bytes.
    pub fn finish(mut self) -> Result<Vec<u8>, CpioError> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), CpioError> {
        use std::io::Write as _;
        let size =
            u32::try_from(content.len()).map_err(|_| CpioError::TooLarge(name.to_owned()))?;
        let name_size = name.len() + 1;
        self.entries += 1;
        // inode, mode, uid, gid, links, time, size, device (2), special device (2), name, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            u32::try_from(name_size).map_err(|_| CpioError::Path(name.to_owned()))?,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08X}").expect("a vector takes every write");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

fn inside(path: &str) -> Option<&str> {
    let name = path.strip_prefix('/')?;
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fits = name.len() < 1024 && !name.contains('\0') && name.split('/').all(plain);
    (fits && name != "TRAILER!!!").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_and_body_is_aligned_and_folders_come_first() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", 0o755, b"12345").unwrap();
        archive.file("/a/d", 0o644, b"").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + 110) {
            assert_eq!(&header[..6], b"070701");
            let number = |field: usize| {
                let start = 6 + field * 8;
                let text = std::str::from_utf8(&header[start..start + 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (number(6), number(11));
            let name = &bytes[at + 110..at + 110 + name_size - 1];
            names.push(String::from_utf8(name.to_vec()).unwrap());
            let body = (at + 110 + name_size).next_multiple_of(4);
            at = (body + size).next_multiple_of(4);
        }
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d", "TRAILER!!!"]);
    }

    #[test]
    fn a_path_out_of_the_archive_is_refused() {
        for path in ["a", "/", "/../x", "/a//b", "/a/.", "/TRAILER!!!", "/a\0b"] {
            let mut archive = Archive::default();
            assert_eq!(
                archive.file(path, 0o644, b""),
                Err(CpioError::Path(path.to_owned())),
                "{path:?}"
            );
        }
    }
}
