//! Where a guest's kernel leaves its last words: a file behind QEMU's device for ACPI's Error Record
//! Serialization Table, which the kernel's pstore writes to as it dies and shows after the next boot.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the file: a header and 31 records of 8 KiB. A crash takes two or three.
const SIZE: u64 = 256 << 10;

/// The file. It outlives the guests, which are to use it one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashStore {
    path: PathBuf,
}

impl CrashStore {
    /// Makes an empty store at `path`; an old file there is emptied.
    ///
    /// QEMU formats it at the first boot. It fails where the file cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create(path)?.set_len(SIZE)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Returns what QEMU has to be told.
    pub(super) fn arguments(&self) -> [String; 4] {
        // QEMU ends an option at a comma and takes two for one.
        let path = self.path.display().to_string().replace(',', ",,");
        [
            "-object".to_owned(),
            format!("memory-backend-file,id=crash,mem-path={path},size={SIZE},share=on"),
            "-device".to_owned(),
            "acpi-erst,memdev=crash".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_empty_and_as_large_as_qemu_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a,b");
        std::fs::write(&path, "old").unwrap();
        let store = CrashStore::create(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        let arguments = store.arguments();
        assert!(arguments[1].contains("/a,,b,"), "{arguments:?}");
        assert!(arguments[1].contains(&format!("size={},", bytes.len())));
        assert!(CrashStore::create(&folder.path().join("no/such")).is_err());
    }
}
