//! Source archives, and the archive form of a kernel: a mainline version, patches over it, and a
//! configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tuxtape_core::version::KernelVersion;
use tuxtape_sys::process;

use super::listing::{self, Kind, Member, Refused};
use super::{Options, SpecError, kept, patches};
use crate::debian;
use crate::kbuild::{Folder, KbuildError, SourceTree as _};
use crate::profile::learn::{self, LearnError, Parts};
use crate::profile::tree;
use crate::progress::Progress;
use crate::unified::LONGEST_DIFF;

/// Limit of unpacking one archive.
const UNPACK: Duration = Duration::from_secs(1800);

const MAINLINE: &str = "mainline-kernel-version.txt";

/// Makes ready the kernel in the archive at `path`.
pub(super) fn add(
    cache: &Path,
    path: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Parts, SpecError> {
    let members = list(path)?;
    let inside = |name: &str| {
        members.iter().find(|member| {
            member.name == name
                || member
                    .name
                    .split_once('/')
                    .is_some_and(|(_, rest)| rest == name)
        })
    };
    if inside(MAINLINE).is_none() && inside("patches/0-").is_none() && !has_patches(&members) {
        let top = tree(cache, path, progress)?;
        let source = path.display().to_string();
        return Ok(super::parts(top.clone(), top, source));
    }
    let unpacked = unpack(cache, path, progress)?;
    let top = match fs::metadata(unpacked.join(MAINLINE)) {
        Ok(_) => unpacked.clone(),
        Err(_) => only_folder(&unpacked)?,
    };
    let base = mainline(&top)?;
    let names = patch_names(&top)?;
    let ordered = patches::order(&names).map_err(|(name, why)| SpecError::Patches { name, why })?;
    let source = if learn::is_tree(&top) {
        top.clone()
    } else {
        super::source(cache, options, progress)?.ok_or_else(|| SpecError::NoSource {
            what: format!(
                "{} holds patches over Linux {base} and not the source itself",
                path.display()
            ),
        })?
    };
    let version = tree::version(&source).map_err(LearnError::from)?;
    if version.base != base {
        return Err(SpecError::Mainline {
            text: base.to_string(),
            why: format!(
                ", and the source in {} is {}",
                source.display(),
                version.base
            ),
        });
    }
    let key = match &options.source {
        _ if source == top => format!("patched-{}", kept::digest(&[path])?),
        Some(given) if given.is_file() => format!("patched-{}", kept::digest(&[path, given])?),
        // A folder may be another one the next time.
        _ => {
            let key = format!("patched-{}-over-folder", kept::digest(&[path])?);
            kept::remove(&cache.join("trees").join(&key))?;
            key
        }
    };
    let tree = kept::make(cache, &key, |work| {
        debian::step(progress, "patch the source", || {
            copy(&source, work)?;
            for name in &ordered {
                let file = top.join("patches").join(name);
                patches::apply(work, name, &bounded(&file, LONGEST_DIFF as u64)?)?;
            }
            Ok(())
        })
    })?;
    let config = top.join(".config");
    Ok(Parts {
        config: config.is_file().then_some(config),
        base: Some(base),
        ..super::parts(
            tree.clone(),
            tree,
            format!(
                "Linux {base} with {} patches of {}",
                ordered.len(),
                path.display()
            ),
        )
    })
}

/// Returns the source tree in the archive at `path`, unpacked below `cache`.
pub(super) fn tree(
    cache: &Path,
    path: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf, SpecError> {
    let unpacked = unpack(cache, path, progress)?;
    if learn::is_tree(&unpacked) {
        return Ok(unpacked);
    }
    let below = only_folder(&unpacked)?;
    if learn::is_tree(&below) {
        return Ok(below);
    }
    Err(SpecError::NoKernel {
        path: path.to_owned(),
    })
}

/// Unpacks the archive at `path` below `cache`, after looking at every member's name.
fn unpack(cache: &Path, path: &Path, progress: &dyn Progress) -> Result<PathBuf, SpecError> {
    let key = format!("tar-{}", kept::digest(&[path])?);
    kept::make(cache, &key, |work| {
        list(path)?;
        debian::step(progress, "unpack the archive", || {
            let mut command = tar(path);
            command
                .args(["--extract", "--no-same-owner", "--no-same-permissions"])
                .arg("--directory")
                .arg(work);
            run(&mut command, path).map(drop)
        })
    })
}

/// Lists the archive at `path`; an error where anything in it could be written elsewhere.
fn list(path: &Path) -> Result<Vec<Member>, SpecError> {
    // Opened by us first: a missing file is then named as such.
    fs::File::open(path).map_err(|source| SpecError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut command = tar(path);
    command.args([
        "--list",
        "--verbose",
        "--numeric-owner",
        "--quoting-style=escape",
    ]);
    let text = run(&mut command, path)?;
    listing::read(&String::from_utf8_lossy(&text)).map_err(|refused| match refused {
        Refused::Member(member, why) => SpecError::Member {
            archive: path.to_owned(),
            member,
            why,
        },
        Refused::TooLarge(limit) => SpecError::TooLarge {
            archive: path.to_owned(),
            limit,
        },
    })
}

fn tar(path: &Path) -> Command {
    let mut command = Command::new("tar");
    command
        .env_remove("TAR_OPTIONS")
        .env_remove("TAPE")
        .env("LC_ALL", "C")
        // A name with a colon is no host.
        .arg("--force-local")
        .arg("--file")
        .arg(path);
    command
}

fn run(command: &mut Command, path: &Path) -> Result<Vec<u8>, SpecError> {
    match process::run_ok(command, UNPACK) {
        Ok(finished) => Ok(finished.stdout),
        Err(source) => Err(SpecError::Unpack {
            path: path.to_owned(),
            source,
        }),
    }
}

fn has_patches(members: &[Member]) -> bool {
    members.iter().any(|member| {
        let name = member.name.as_str();
        let name = name.split_once("patches/").map_or("", |(folder, rest)| {
            if folder.matches('/').count() > 1 {
                ""
            } else {
                rest
            }
        });
        member.kind == Kind::File
            && name.starts_with(|first: char| first.is_ascii_digit())
            && name.strip_suffix(".diff").is_some()
            && !name.contains('/')
    })
}

fn only_folder(top: &Path) -> Result<PathBuf, SpecError> {
    let failed = |source| SpecError::Read {
        path: top.to_owned(),
        source,
    };
    let mut folders = Vec::new();
    for entry in fs::read_dir(top).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            folders.push(entry.path());
        }
    }
    match folders.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(SpecError::NoKernel {
            path: top.to_owned(),
        }),
    }
}

/// Reads the version that the patches lie over.
fn mainline(top: &Path) -> Result<KernelVersion, SpecError> {
    let path = top.join(MAINLINE);
    if !path.is_file() {
        return Err(SpecError::Mainline {
            text: String::new(),
            why: ": it is not in the archive".to_owned(),
        });
    }
    let text = String::from_utf8_lossy(&bounded(&path, 4096)?).into_owned();
    let plain = text.trim();
    let plain = plain.strip_prefix('v').unwrap_or(plain);
    // The first release of a branch is called by two numbers, in its makefile by three.
    let two = plain
        .strip_suffix(".0")
        .filter(|rest| rest.matches('.').count() == 1);
    two.unwrap_or(plain)
        .parse()
        .map_err(|_| SpecError::Mainline {
            text: text.trim().chars().take(80).collect(),
            why: ", which is no version".to_owned(),
        })
}

fn patch_names(top: &Path) -> Result<Vec<String>, SpecError> {
    let folder = top.join("patches");
    let failed = |source| SpecError::Read {
        path: folder.clone(),
        source,
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, SpecError> {
    let failed = |source| SpecError::Read {
        path: path.to_owned(),
        source,
    };
    match tuxtape_sys::regular::read(path, most).map_err(failed)? {
        Some(bytes) => Ok(bytes),
        None => Err(failed(std::io::ErrorKind::FileTooLarge.into())),
    }
}

/// Copies the files of the tree at `from`; links that lead out of it are left behind.
fn copy(from: &Path, to: &Path) -> Result<(), SpecError> {
    let tree = Folder::open(from).map_err(|error| LearnError::from(KbuildError::from(error)))?;
    let mut made = std::collections::BTreeSet::new();
    for file in tree.files() {
        let (source, target) = (from.join(file), to.join(file));
        let outcome = match target.parent() {
            Some(folder) if made.insert(folder.to_owned()) => fs::create_dir_all(folder),
            _ => Ok(()),
        };
        outcome
            .and_then(|()| fs::copy(&source, &target))
            .map_err(|error| SpecError::Read {
                path: source,
                source: error,
            })?;
    }
    Ok(())
}
