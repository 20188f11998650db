//! Folders and packages with debug data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process;

use super::{Options, SpecError, archive, kept};
use crate::debian;
use crate::profile::learn::Parts;
use crate::progress::Progress;

/// Limit of unpacking one package.
const UNPACK: Duration = Duration::from_secs(1800);
/// Most files that are looked through; all debug packages of one kernel have 10,000.
const MOST: usize = 500_000;
/// Deepest folder that is looked into.
const DEEPEST: usize = 24;

/// Which packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of Debian or Ubuntu, `.ddeb` too. Unpacked by `dpkg-deb`.
    Deb,
    /// Unpacked by `bsdtar`, which reads every form of them and refuses names that lead elsewhere.
    Rpm,
}

/// Unpacks package files and makes ready what is in them.
pub(super) fn packages(
    cache: &Path,
    files: &[PathBuf],
    options: &Options,
    kind: Kind,
    progress: &dyn Progress,
) -> Result<Parts, SpecError> {
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let key = format!("packages-{}", kept::digest(&paths)?);
    let top = kept::make(cache, &key, |work| {
        debian::step(progress, "unpack the packages", || {
            for path in &paths {
                let mut command = match kind {
                    Kind::Deb => {
                        let mut command = Command::new("dpkg-deb");
                        command.arg("--extract").arg(path).arg(work);
                        command
                    }
                    Kind::Rpm => {
                        let mut command = Command::new("bsdtar");
                        command
                            .args(["--extract", "--no-same-owner", "--no-same-permissions"])
                            .arg("--directory")
                            .arg(work)
                            .arg("--file")
                            .arg(path);
                        command
                    }
                };
                process::run_ok(command.env("LC_ALL", "C"), UNPACK).map_err(|source| {
                    SpecError::Unpack {
                        path: (*path).to_owned(),
                        source,
                    }
                })?;
            }
            Ok(())
        })
    })?;
    let tree = match super::source(cache, options, progress)? {
        Some(tree) => Some(tree),
        None => match Found::below(&top)?.source()? {
            Some(source) => Some(archive::tree(cache, &source, progress)?),
            None => None,
        },
    };
    let mut parts = folder(&top, tree)?;
    let names = files.iter().filter_map(|path| path.file_name());
    let names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    parts.source = names.join(", ");
    parts.changelog = match kind {
        Kind::Deb => changelog(&top),
        Kind::Rpm => None,
    };
    Ok(parts)
}

/// Finds the changelog of the kernel's package among those of the packages unpacked at `top`. That of
/// debug data is the kernel's own; an image that was signed has one of another source package.
fn changelog(top: &Path) -> Option<PathBuf> {
    let rank = |name: &str| match name {
        name if !name.starts_with("linux-") => None,
        name if name.ends_with("-dbg") || name.ends_with("-dbgsym") => Some(0),
        name if name.ends_with("-unsigned") || name.contains("-unsigned-") => Some(1),
        name if name.starts_with("linux-source-") => Some(2),
        name if name.starts_with("linux-image-") => Some(3),
        _ => None,
    };
    let folders = fs::read_dir(top.join("usr/share/doc")).ok()?;
    let found = folders.filter_map(|entry| {
        let entry = entry.ok()?;
        let rank = rank(entry.file_name().to_str()?)?;
        let path = entry.path().join("changelog.Debian.gz");
        path.is_file().then_some((rank, path))
    });
    found.min().map(|(_, path)| path)
}

/// Makes ready the kernel whose vmlinux and modules lie somewhere below `top`.
pub(super) fn folder(top: &Path, tree: Option<PathBuf>) -> Result<Parts, SpecError> {
    let found = Found::below(top)?;
    let Some(vmlinux) = found.vmlinux()? else {
        return Err(SpecError::NoKernel {
            path: top.to_owned(),
        });
    };
    let Some(tree) = tree else {
        return Err(SpecError::NoSource {
            what: format!("{} holds debug data and no source tree", top.display()),
        });
    };
    let debug = found.modules(is_debug)?;
    let modules = match debug {
        Some(folder) => Some(folder),
        None => found.modules(|path| !is_debug(path))?,
    };
    // The package of the image lists the modules; the debug data is apart from it.
    let installed = found.modules(|path| !is_debug(path))?;
    Ok(Parts {
        config: found.config()?,
        vmlinux: Some(vmlinux),
        modules: Some(modules.unwrap_or_else(|| top.to_owned())),
        ..super::parts(
            tree.clone(),
            installed.unwrap_or_else(|| top.to_owned()),
            tree.display().to_string(),
        )
    })
}

fn is_debug(path: &Path) -> bool {
    path.to_string_lossy().contains("usr/lib/debug")
}

/// What lies in a folder, by kind.
#[derive(Debug, Default)]
struct Found {
    images: Vec<PathBuf>,
    configs: Vec<PathBuf>,
    sources: Vec<PathBuf>,
    /// `…/lib/modules/RELEASE`.
    modules: Vec<PathBuf>,
}

impl Found {
    fn below(top: &Path) -> Result<Self, SpecError> {
        let mut found = Self::default();
        let mut seen = 0_usize;
        let mut folders = vec![(top.to_owned(), 0_usize)];
        while let Some((folder, depth)) = folders.pop() {
            let failed = |source| SpecError::Read {
                path: folder.clone(),
                source,
            };
            let is_modules = folder.ends_with("lib/modules");
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                seen += 1;
                if seen > MOST {
                    return Err(SpecError::NoKernel {
                        path: top.to_owned(),
                    });
                }
                let kind = entry.file_type().map_err(failed)?;
                let path = entry.path();
                if kind.is_dir() {
                    if is_modules {
                        found.modules.push(path.clone());
                    }
                    if depth < DEEPEST {
                        folders.push((path, depth + 1));
                    }
                } else if kind.is_file() {
                    found.file(&entry.file_name().to_string_lossy(), path);
                }
            }
        }
        for list in [
            &mut found.images,
            &mut found.configs,
            &mut found.sources,
            &mut found.modules,
        ] {
            list.sort();
        }
        Ok(found)
    }

    fn file(&mut self, name: &str, path: PathBuf) {
        let in_modules = path
            .parent()
            .and_then(Path::parent)
            .is_some_and(|above| above.ends_with("lib/modules"));
        if matches!(name, "vmlinux" | "vmlinux.debug") || name.starts_with("vmlinux-") {
            self.images.push(path);
        } else if name == ".config"
            || name.starts_with("config-")
            || (name == "config" && in_modules)
        {
            self.configs.push(path);
        } else if name.starts_with("linux-source-") && name.contains(".tar.") {
            self.sources.push(path);
        }
    }

    fn vmlinux(&self) -> Result<Option<PathBuf>, SpecError> {
        // A stripped one beside it has nothing to say.
        let debug: Vec<PathBuf> = self
            .images
            .iter()
            .filter(|path| is_debug(path))
            .cloned()
            .collect();
        if debug.is_empty() {
            only(&self.images)
        } else {
            only(&debug)
        }
    }

    fn config(&self) -> Result<Option<PathBuf>, SpecError> {
        // Packages hold it twice, in /boot and with the modules or the headers.
        let texts: Vec<Option<Vec<u8>>> = self
            .configs
            .iter()
            .map(|path| fs::read(path).ok())
            .collect();
        if texts
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a == b))
        {
            return Ok(self.configs.first().cloned());
        }
        only(&self.configs)
    }

    fn source(&self) -> Result<Option<PathBuf>, SpecError> {
        only(&self.sources)
    }

    fn modules(&self, wanted: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>, SpecError> {
        let some: Vec<PathBuf> = self
            .modules
            .iter()
            .filter(|path| wanted(path))
            .cloned()
            .collect();
        only(&some)
    }
}

fn only(paths: &[PathBuf]) -> Result<Option<PathBuf>, SpecError> {
    match paths {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, second, ..] => Err(SpecError::Several {
            first: first.clone(),
            second: second.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_is_that_of_the_debug_data_before_any_other() {
        let top = tempfile::tempdir().unwrap();
        let add = |name: &str| {
            let folder = top.path().join("usr/share/doc").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("changelog.Debian.gz"), "").unwrap();
        };
        let found = || {
            let path = changelog(top.path())?;
            let name = path.parent()?.file_name()?;
            Some(name.to_string_lossy().into_owned())
        };
        assert_eq!(found(), None);
        add("linux-headers-6.1.0-47-amd64");
        add("gcc-12");
        assert_eq!(found(), None);
        for better in [
            "linux-image-6.1.0-47-amd64",
            "linux-source-6.1",
            "linux-image-6.1.0-47-amd64-unsigned",
            "linux-image-6.1.0-47-amd64-dbg",
        ] {
            add(better);
            assert_eq!(found().as_deref(), Some(better));
        }
    }
}
