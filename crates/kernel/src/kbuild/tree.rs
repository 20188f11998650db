//! A kernel source tree as the evaluation sees it: a list of files, and their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tuxtape_sys::regular::{self, Beneath};

/// Most files a tree may have; kernels have under 100,000.
const MOST_FILES: usize = 2_000_000;
/// Deepest folder that is looked into.
const DEEPEST: usize = 40;
/// Ends of names that a build leaves in a tree and that are no sources.
const MADE: [&str; 9] = [
    ".o", ".ko", ".a", ".cmd", ".mod", ".mod.c", ".order", ".symvers", ".d",
];

/// Why a tree could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A folder could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger or deeper than any kernel's.
    #[error("{path} is no kernel source: more than {MOST_FILES} files, or folders {DEEPEST} deep",
        path = path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
}

/// The files of a kernel source tree, by paths relative to its top with `/` between parts.
pub trait SourceTree: Sync {
    /// All files, those that links within the tree lead to under both names.
    fn files(&self) -> &BTreeSet<String>;

    /// The links within the tree with what they lead to; both end in `/` where that is a folder.
    fn links(&self) -> &BTreeMap<String, String>;

    /// Reads one of [`Self::files`]; `None` where it has more than `most` bytes.
    fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>>;
}

/// Returns the files of a tree under their own names alone.
pub fn own_files(tree: &dyn SourceTree) -> BTreeSet<String> {
    let links = tree.links();
    let through = |path: &str| {
        links.contains_key(path)
            || path
                .match_indices('/')
                .filter_map(|(at, _)| path.get(..=at))
                .any(|folder| links.contains_key(folder))
    };
    let own = tree.files().iter().filter(|path| !through(path));
    own.cloned().collect()
}

/// A tree in a folder on disk. Links that lead out of it are no part of it.
#[derive(Debug)]
pub struct Folder {
    top: PathBuf,
    beneath: Beneath,
    files: BTreeSet<String>,
    links: BTreeMap<String, String>,
    outside: BTreeSet<String>,
}

/// A tree in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    files: BTreeSet<String>,
    bytes: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
}

impl Folder {
    /// Lists the files below `top` on all cores. What a build left there (objects, `.cmd` files) and
    /// `.git` are passed over; names that are not UTF-8 are, too: no makefile can name them.
    pub fn open(top: &Path) -> Result<Self, TreeError> {
        let real = fs::canonicalize(top).map_err(|source| TreeError::Read {
            path: top.to_owned(),
            source,
        })?;
        let beneath = Beneath::new(&real).map_err(|source| TreeError::Read {
            path: top.to_owned(),
            source,
        })?;
        let listed = list(&real, "", 0)?;
        if listed.files.len() > MOST_FILES {
            return Err(TreeError::TooLarge {
                path: top.to_owned(),
            });
        }
        let mut files: BTreeSet<String> = listed.files.into_iter().collect();
        let mut outside = BTreeSet::new();
        let mut links = BTreeMap::new();
        for link in listed.links {
            let target = fs::canonicalize(real.join(&link));
            let below = target.as_deref().ok().and_then(|target| {
                let path = target.strip_prefix(&real).ok()?.to_str()?;
                Some((path.to_owned(), target.is_dir()))
            });
            match below {
                Some((target, true)) => {
                    let folder = |path: &str| match path {
                        "" => String::new(),
                        path => format!("{path}/"),
                    };
                    links.insert(format!("{link}/"), folder(&target));
                }
                Some((target, false)) if files.contains(&target) => {
                    links.insert(link, target);
                }
                Some(_) => {}
                None => {
                    outside.insert(link);
                }
            }
        }
        follow(&mut files, &links);
        if files.len() > MOST_FILES {
            return Err(TreeError::TooLarge {
                path: top.to_owned(),
            });
        }
        Ok(Self {
            top: real,
            beneath,
            files,
            links,
            outside,
        })
    }

    /// Names the links that lead out of the tree or nowhere, sorted.
    pub fn outside(&self) -> &BTreeSet<String> {
        &self.outside
    }
}

impl SourceTree for Folder {
    fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    fn links(&self) -> &BTreeMap<String, String> {
        &self.links
    }

    fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        if !self.files.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A link may have been turned since it was listed.
        if let Some(file) = self.beneath.open(path)? {
            return read(file, most);
        }
        let target = fs::canonicalize(self.top.join(path))?;
        if target.starts_with(&self.top) {
            read(
                regular::open(fs::OpenOptions::new().read(true), &target)?,
                most,
            )
        } else {
            Err(io::Error::other("a link leads out of the tree"))
        }
    }
}

impl Memory {
    /// Makes a tree of `files`, each a path and its bytes. Paths that no tree can have are left out.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let is_plain = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let mut bytes: BTreeMap<String, Vec<u8>> = files.into_iter().collect();
        bytes.retain(|path, _| is_plain(path));
        Self {
            files: bytes.keys().cloned().collect(),
            bytes,
            links: BTreeMap::new(),
        }
    }
}

impl SourceTree for Memory {
    fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    fn links(&self) -> &BTreeMap<String, String> {
        &self.links
    }

    fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.bytes.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok((bytes.len() as u64 <= most).then(|| bytes.clone()))
    }
}

/// Reads a file in as few calls as can be: a tree has tens of thousands.
fn read(file: fs::File, most: u64) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    if length > most {
        return Ok(None);
    }
    // One byte more, so that the end is seen without growing the buffer.
    let room = usize::try_from(length).unwrap_or_default() + 1;
    let mut bytes = Vec::with_capacity(room);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// Adds the files that `links` lead to under the names that they have there. Links that lead back to
/// where they lie are not followed round and round.
fn follow(files: &mut BTreeSet<String>, links: &BTreeMap<String, String>) {
    const ROUNDS: usize = 3;
    for _ in 0..ROUNDS {
        let mut more = Vec::new();
        for (link, target) in links {
            if !link.ends_with('/') {
                if files.contains(target) {
                    more.push(link.clone());
                }
                continue;
            }
            if link.starts_with(target.as_str()) {
                continue;
            }
            let below = files.range(target.clone()..);
            let below = below.map_while(|file| file.strip_prefix(target.as_str()));
            more.extend(below.map(|rest| format!("{link}{rest}")));
            if more.len() > MOST_FILES {
                break;
            }
        }
        let before = files.len();
        files.extend(more);
        if files.len() == before || files.len() > MOST_FILES {
            break;
        }
    }
}

#[derive(Default)]
struct Listed {
    files: Vec<String>,
    links: Vec<String>,
}

fn list(top: &Path, folder: &str, depth: usize) -> Result<Listed, TreeError> {
    let path = top.join(folder);
    if depth > DEEPEST {
        return Err(TreeError::TooLarge { path });
    }
    let failed = |source| TreeError::Read {
        path: path.clone(),
        source,
    };
    let mut found = Listed::default();
    let mut folders = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let inside = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        if kind.is_dir() {
            if name != ".git" {
                folders.push(inside);
            }
        } else if kind.is_symlink() {
            found.links.push(inside);
        } else if kind.is_file() && !MADE.iter().any(|end| name.ends_with(end)) {
            found.files.push(inside);
        }
    }
    let below: Vec<Listed> = folders
        .par_iter()
        .map(|folder| list(top, folder, depth + 1))
        .collect::<Result<_, _>>()?;
    for listed in below {
        found.files.extend(listed.files);
        found.links.extend(listed.links);
    }
    if found.files.len() > MOST_FILES {
        return Err(TreeError::TooLarge { path });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_tree_are_not_followed_and_named() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().join("linux");
        fs::create_dir_all(top.join("net")).unwrap();
        fs::write(place.path().join("secret"), "x").unwrap();
        fs::write(top.join("net/a.c"), "y").unwrap();
        for (link, target) in [
            ("net/inside.c", "a.c"),
            ("net/out.c", "../../secret"),
            ("net/nowhere.c", "absent"),
            ("folder", "net"),
            ("up", ".."),
        ] {
            std::os::unix::fs::symlink(target, top.join(link)).unwrap();
        }
        let tree = Folder::open(&top).unwrap();
        let files: Vec<&str> = tree.files().iter().map(String::as_str).collect();
        let expected = ["folder/a.c", "folder/inside.c", "net/a.c", "net/inside.c"];
        assert_eq!(files, expected);
        assert_eq!(own_files(&tree), ["net/a.c".to_owned()].into());
        assert_eq!(tree.read("folder/a.c", 9).unwrap().unwrap(), b"y");
        let outside: Vec<&str> = tree.outside().iter().map(String::as_str).collect();
        assert_eq!(outside, ["net/nowhere.c", "net/out.c", "up"]);
        assert_eq!(tree.read("net/inside.c", 9).unwrap().unwrap(), b"y");
        assert!(tree.read("net/out.c", 9).is_err());
        assert!(tree.read("../secret", 9).is_err());
        // A link turned after the tree was listed is not followed either.
        fs::remove_file(top.join("net/inside.c")).unwrap();
        std::os::unix::fs::symlink("../../secret", top.join("net/inside.c")).unwrap();
        assert!(tree.read("net/inside.c", 9).is_err());
    }

    #[test]
    fn a_large_file_is_not_read() {
        let tree = Memory::new([("a".to_owned(), vec![0; 10])]);
        assert!(tree.read("a", 10).unwrap().is_some());
        assert!(tree.read("a", 9).unwrap().is_none());
    }

    #[test]
    fn what_a_build_left_is_no_source() {
        let place = tempfile::tempdir().unwrap();
        for name in ["a.c", "a.o", ".a.o.cmd", "a.mod.c", "modules.order"] {
            fs::write(place.path().join(name), "").unwrap();
        }
        let tree = Folder::open(place.path()).unwrap();
        assert_eq!(tree.files().iter().collect::<Vec<_>>(), ["a.c"]);
    }
}
