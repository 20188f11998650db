//! What a kernel's source tree says of itself: its version, and the release it was built as.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tuxtape_core::identity::KernelRelease;
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::regular;

use crate::kbuild::release;

/// Longest text file that is read here, in bytes.
const LONGEST: u64 = 4 << 20;

/// Why a tree could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file or folder could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The top makefile has no version.
    #[error("{path} is no kernel's top makefile: no VERSION, PATCHLEVEL and SUBLEVEL",
        path = path.display())]
    NoVersion {
        /// The makefile.
        path: PathBuf,
    },
    /// `include/config/kernel.release` holds something else.
    #[error("{path} holds no kernel release: {text:?}", path = path.display())]
    Release {
        /// The file.
        path: PathBuf,
        /// The beginning of what it holds.
        text: String,
    },
}

/// The version in a tree's top makefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The upstream version the tree is of: `6.1` and not `6.1.0`.
    pub base: KernelVersion,
    /// `VERSION.PATCHLEVEL.SUBLEVEL` and `EXTRAVERSION`, as the release begins: `6.1.0-rc3`.
    pub text: String,
    /// Whether its makefiles see texts of the configuration in quotes, as before Linux 5.17.
    pub quotes: bool,
    /// `EXTRAVERSION` where it is not a release candidate's: somebody changed this tree.
    pub extra: Option<String>,
}

/// Returns the source files among `listed`, the files in a tree's folder: without what a build adds.
pub fn sources(listed: &BTreeSet<String>) -> BTreeSet<String> {
    listed
        .iter()
        .filter(|path| !is_made(path))
        .cloned()
        .collect()
}

fn is_made(path: &str) -> bool {
    const FOLDERS: [&str; 3] = ["include/generated/", "include/config/", "debian/"];
    const ENDS: [&str; 4] = [".so", ".so.dbg", ".elf", ".debug"];
    let name = path.rsplit('/').next().unwrap_or(path);
    // Nothing that a record names begins with a dot.
    name.starts_with('.')
        || FOLDERS.iter().any(|folder| path.starts_with(folder))
        || (path.starts_with("arch/") && path.contains("/include/generated/"))
        || ENDS.iter().any(|end| name.ends_with(end))
}

/// Reads the version in the top makefile of `top`.
pub fn version(top: &Path) -> Result<Version, TreeError> {
    let path = top.join("Makefile");
    let text = read(&path)?;
    release::version(&text).ok_or(TreeError::NoVersion { path })
}

/// Reads the release a tree was built as; `None` where it was not built or prepared.
pub fn release(build: &Path) -> Result<Option<KernelRelease>, TreeError> {
    let path = build.join("include/config/kernel.release");
    match read(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(release) => Ok(Some(release)),
            Err(_) => Err(TreeError::Release {
                path,
                text: text.chars().take(80).collect(),
            }),
        },
        Err(TreeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the release a build of this tree with `local` as `CONFIG_LOCALVERSION` would have: with
/// the `localversion*` files of its top, as `scripts/setlocalversion` joins them.
///
/// What `CONFIG_LOCALVERSION_AUTO` adds from git is not known here.
pub fn evaluated_release(top: &Path, version: &Version, local: &str) -> Option<KernelRelease> {
    let mut names: Vec<String> = fs::read_dir(top)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("localversion") && !name.ends_with('~'))
        .collect();
    names.sort();
    let mut text = version.text.clone();
    for name in names {
        text.extend(read(&top.join(name)).ok()?.split_whitespace());
    }
    text.push_str(local);
    text.parse().ok()
}

/// Reads a text file of a tree: a regular one, of bounded length.
pub(crate) fn read(path: &Path) -> Result<String, TreeError> {
    let failed = |source| TreeError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = regular::read_linked(path, LONGEST)
        .and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::FileTooLarge.into()))
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makefile(sublevel: &str, extra: &str) -> String {
        format!(
            "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = {sublevel}\nEXTRAVERSION ={extra}\nNAME = X\n"
        )
    }

    #[test]
    fn a_fifo_or_a_device_is_no_configuration_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join(".config");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            let Err(TreeError::Read { source, .. }) = read(path) else {
                panic!("{} was read", path.display());
            };
            assert_eq!(source.to_string(), "not a regular file");
        }
    }

    #[test]
    fn the_first_release_of_a_branch_is_called_without_its_zero() {
        for (sublevel, extra, base, text) in [
            ("0", "", "6.1", "6.1.0"),
            ("0", " -rc3", "6.1-rc3", "6.1.0-rc3"),
            ("170", "", "6.1.170", "6.1.170"),
            ("170", " -custom", "6.1.170", "6.1.170-custom"),
        ] {
            let version = release::version(&makefile(sublevel, extra)).unwrap();
            assert_eq!(
                (version.base.to_string().as_str(), version.text.as_str()),
                (base, text)
            );
            assert_eq!(version.extra.is_some(), extra.contains("custom"));
        }
        assert_eq!(release::version("all:\n\ttrue\n"), None);
        // A comment behind a number, and the last of two lines, as make has them.
        let odd = makefile("5 # x\nSUBLEVEL = 170 # y", "");
        assert_eq!(release::version(&odd).unwrap().text, "6.1.170");
        for unclear in [
            "ifdef X\nSUBLEVEL = 3\nendif\n",
            "SUBLEVEL += 3\n",
            "SUBLEVEL = $(X)\n",
        ] {
            let text = makefile("1", "") + unclear;
            assert_eq!(release::version(&text), None, "{unclear}");
        }
    }

    #[test]
    fn what_a_build_adds_is_no_source() {
        let listed = [
            "net/x.c",
            "include/generated/autoconf.h",
            "include/linux/generated.h",
            "arch/x86/include/generated/asm/x.h",
            "arch/x86/entry/vdso/vdso64.so.dbg",
            ".config",
        ];
        let kept = sources(&listed.map(str::to_owned).into());
        assert_eq!(
            kept,
            ["include/linux/generated.h", "net/x.c"]
                .map(str::to_owned)
                .into()
        );
    }

    #[test]
    fn a_release_is_joined_from_the_tree_and_its_configuration() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("Makefile"), makefile("0", "")).unwrap();
        fs::write(top.path().join("localversion-rt"), "-rt5\n").unwrap();
        let version = version(top.path()).unwrap();
        let release = evaluated_release(top.path(), &version, "-x").unwrap();
        assert_eq!(release.as_str(), "6.1.0-rt5-x");
        assert!(super::release(top.path()).unwrap().is_none());
        fs::create_dir_all(top.path().join("include/config")).unwrap();
        fs::write(top.path().join("include/config/kernel.release"), "no\n").unwrap();
        assert!(matches!(
            super::release(top.path()),
            Err(TreeError::Release { .. })
        ));
    }
}
