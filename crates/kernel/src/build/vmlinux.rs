//! The debug vmlinux, opened by an index of its symbols that is made once per kernel.
//!
//! Reading every symbol of a vmlinux takes longer than comparing the objects of most fixes. The index
//! lies beside the kernel's files as `vmlinux.index`: a line that names the vmlinux it is of and the
//! digest of the rest, then the tables. One of another vmlinux, of another form, or with a wrong byte
//! is made anew.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tuxtape_core::identity::ObjectName;
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::kallsyms::index::Index;
use tuxtape_livepatch::verify;
use tuxtape_sys::durable;
use tuxtape_sys::map::Map;

use super::parents::{self, ParentError};
use crate::files::KernelFiles;

/// Start of the first line of an index.
const HEAD: &str = "tuxtape symbols 1";

/// Longest first line, in bytes.
const LONGEST_HEAD: usize = 256;

/// A mapped vmlinux, with its index where there is one.
#[derive(Debug)]
pub struct Vmlinux {
    image: Map,
    index: Option<Opened>,
}

/// A mapped index, and where its tables begin.
#[derive(Debug)]
struct Opened {
    file: Map,
    start: usize,
}

impl Vmlinux {
    /// Maps the vmlinux of `kernel` and its index, which is made first where it is missing or stale.
    pub fn open(kernel: &KernelFiles) -> Result<Self, ParentError> {
        Self::open_with(&kernel.vmlinux, &kernel.top.join("vmlinux.index"))
    }

    fn open_with(vmlinux: &Path, index: &Path) -> Result<Self, ParentError> {
        let image = Map::open(vmlinux)?;
        let Some(key) = key(vmlinux, &image) else {
            // Nothing tells this vmlinux from another.
            return Ok(Self { image, index: None });
        };
        let mut opened = Opened::load(index, &key);
        if opened.is_none() {
            let tables = Index::write(&parents::parent(name(), &image)?);
            // A cache that cannot be written costs time only.
            opened = tables
                .and_then(|tables| save(index, &key, &tables))
                .and_then(|path| Opened::load(&path, &key));
        }
        Ok(Self {
            image,
            index: opened,
        })
    }

    /// The vmlinux with its symbols.
    pub fn parent(&self) -> Result<Parent<'_>, ParentError> {
        let index = self.index.as_ref().and_then(Opened::index);
        let Some(index) = index else {
            return parents::parent(name(), &self.image);
        };
        let file =
            ElfFile::parse_on_demand(&self.image).map_err(|source| ParentError::Malformed {
                object: name(),
                source,
            })?;
        Ok(Parent::indexed(name(), file, index)?)
    }
}

impl Opened {
    fn load(path: &Path, key: &str) -> Option<Self> {
        let file = Map::open(path).ok()?;
        let end = file
            .iter()
            .take(LONGEST_HEAD)
            .position(|byte| *byte == b'\n')?;
        let (head, rest) = file.split_at(end);
        let tables = rest.get(1..)?;
        let wanted = head_of(key, tables);
        let start = end + 1;
        (head == wanted.as_bytes()).then_some(())?;
        Index::read(tables)?;
        Some(Self { file, start })
    }

    fn index(&self) -> Option<Index<'_>> {
        Index::read(self.file.get(self.start..)?)
    }
}

/// What tells one vmlinux from another: its build, and its file.
fn key(path: &Path, image: &[u8]) -> Option<String> {
    let file = ElfFile::parse_on_demand(image).ok()?;
    let build_id = verify::build_id(&file)?;
    let found = fs::metadata(path).ok()?;
    let (length, seconds, nanos) = (found.len(), found.mtime(), found.mtime_nsec());
    Some(format!("{build_id} {length} {seconds}.{nanos:09}"))
}

fn save(path: &Path, key: &str, tables: &[u8]) -> Option<PathBuf> {
    let head = head_of(key, tables);
    let bytes = [head.as_bytes(), b"\n", tables].concat();
    durable::write(path, &bytes).ok()?;
    Some(path.to_owned())
}

fn head_of(key: &str, tables: &[u8]) -> String {
    format!("{HEAD} {key} {}", hex::encode(Sha256::digest(tables)))
}

fn name() -> ObjectName {
    ObjectName(ObjectName::VMLINUX.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A linked object with the build-id of 20 bytes `id`.
    fn linked(folder: &Path, id: u8) -> PathBuf {
        let (source, path) = (folder.join("x.s"), folder.join("vmlinux"));
        fs::write(
            &source,
            ".file \"x.c\"\n.text\n.globl go\n.type go,@function\ngo: ret\n.size go,.-go\n.type own,@function\nown: ret\n.size own,.-own\n",
        )
        .unwrap();
        let object = folder.join("x.o");
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let status = std::process::Command::new(program).args(arguments).status();
            assert!(status.unwrap().success());
        };
        run("as", &["-o".as_ref(), object.as_ref(), source.as_ref()]);
        let id = format!("--build-id=0x{}", format!("{id:02x}").repeat(20));
        run(
            "ld",
            &[
                "-e".as_ref(),
                "go".as_ref(),
                id.as_ref(),
                "-o".as_ref(),
                path.as_ref(),
                object.as_ref(),
            ],
        );
        path
    }

    fn is_indexed(vmlinux: &Vmlinux) -> bool {
        let parent = vmlinux.parent().unwrap();
        assert_eq!(parent.sympos(parent.global("go").unwrap().index), Some(0));
        assert_eq!(parent.positions("own").len(), 1);
        vmlinux.index.is_some()
    }

    #[test]
    fn an_index_is_made_once_and_again_for_another_vmlinux() {
        let folder = tempfile::tempdir().unwrap();
        let (path, index) = (linked(folder.path(), 1), folder.path().join("index"));
        let open = || Vmlinux::open_with(&path, &index).unwrap();
        assert!(is_indexed(&open()));
        let first = fs::read(&index).unwrap();
        assert!(is_indexed(&open()));
        assert_eq!(fs::read(&index).unwrap(), first);
        linked(folder.path(), 2);
        assert!(is_indexed(&open()));
        assert_ne!(fs::read(&index).unwrap(), first);
    }

    #[test]
    fn an_index_with_a_wrong_byte_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, index) = (linked(folder.path(), 1), folder.path().join("index"));
        let open = || Vmlinux::open_with(&path, &index).unwrap();
        drop(open());
        let right = fs::read(&index).unwrap();
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            fs::write(&index, wrong).unwrap();
            assert!(is_indexed(&open()));
            assert_eq!(fs::read(&index).unwrap(), right, "byte {at}");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_costs_time_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = linked(folder.path(), 1);
        let opened = Vmlinux::open_with(&path, &folder.path().join("none/index")).unwrap();
        assert!(!is_indexed(&opened));
    }
}
