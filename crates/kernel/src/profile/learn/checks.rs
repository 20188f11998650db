//! Whether the parts at hand belong together.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _};
use tuxtape_core::identity::{KernelRelease, ObjectName};
use tuxtape_core::profile::taken::TakenIn;
use tuxtape_core::version::KernelVersion;
use tuxtape_sys::regular;

use super::super::build;
use super::super::commands::{CommandsError, listed};
use crate::config::Config;
use crate::content::changelog::Changelog;

/// Longest `modules.order` that is read, in bytes.
const LONGEST_ORDER: u64 = 16 << 20;

/// Why a configuration is not this kernel's.
#[derive(Debug, thiserror::Error)]
pub enum OtherConfig {
    /// Its first lines name another branch.
    #[error("not-the-kernel: {path} is a configuration of Linux {config}, the tree is of {tree}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it names.
        config: String,
        /// The tree's version.
        tree: KernelVersion,
    },
    /// It is for another machine.
    #[error("{path} is no configuration for 64-bit x86", path = path.display())]
    Arch {
        /// The file.
        path: PathBuf,
    },
    /// The tree was built with another one.
    #[error("not-the-kernel: {path} has {here}, the build was made with {there}", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The first setting that differs, as it is there.
        here: String,
        /// The same as the build had it.
        there: String,
    },
}

/// Compares the version that `make` wrote at the top of a configuration; returns what a person
/// should know.
pub(super) fn header(
    path: &Path,
    text: &str,
    config: &Config,
    tree: KernelVersion,
) -> Result<Option<String>, OtherConfig> {
    if !config.on("X86_64") {
        return Err(OtherConfig::Arch {
            path: path.to_owned(),
        });
    }
    let written = text.lines().take(4).find_map(|line| {
        let rest = line.strip_prefix("# Linux/")?;
        let (_, rest) = rest.split_once(' ')?;
        rest.strip_suffix(" Kernel Configuration")
    });
    let Some(written) = written else {
        return Ok(Some(format!(
            "{} does not say of which version it is",
            path.display()
        )));
    };
    // `6.1.0`, `6.1.170` or `6.1.0-rc3`, and a distribution's own end.
    let numbers: Vec<&str> = written.splitn(3, '.').collect();
    let branch = numbers.get(..2).unwrap_or_default().join(".");
    let same_branch = branch
        .parse::<KernelVersion>()
        .is_ok_and(|branch| branch.branch() == tree.branch());
    if !same_branch {
        return Err(OtherConfig::Version {
            path: path.to_owned(),
            config: written.to_owned(),
            tree,
        });
    }
    let plain = written.replacen(".0-rc", "-rc", 1);
    let same = plain.strip_suffix(".0").unwrap_or(&plain) == tree.to_string();
    Ok((!same).then(|| {
        format!(
            "{} was written for {written}, the tree is of {tree}: settings that one of them lacks were not looked for",
            path.display()
        )
    }))
}

/// Compares a configuration with the one that `build` was made with, where there is one.
pub(super) fn built_with(build: &Path, path: &Path, config: &Config) -> Result<(), OtherConfig> {
    let Ok(text) = super::tree::read(&build.join("include/config/auto.conf")) else {
        return Ok(());
    };
    let made = Config::parse(&text);
    let shown = |name: &str, value: Option<&str>| match value {
        Some(value) => format!("CONFIG_{name}={value}"),
        None => format!("no CONFIG_{name}"),
    };
    // Settings that are off stand in neither.
    match config.differences(&made).first() {
        None => Ok(()),
        Some(&(name, here, there)) => Err(OtherConfig::Changed {
            path: path.to_owned(),
            here: shown(name, here),
            there: shown(name, there),
        }),
    }
}

/// Returns the release in the banner of a vmlinux.
pub(super) fn banner(file: &ElfFile64<'_, object::LittleEndian>) -> Option<KernelRelease> {
    const START: &[u8] = b"Linux version ";
    const LONGEST: u64 = 64 << 20;
    let section = file.section_by_name(".rodata")?;
    let bytes = (section.size() <= LONGEST)
        .then(|| section.data().ok())
        .flatten()?;
    let mut rest = bytes;
    while let Some(at) = find(rest, START) {
        rest = rest.get(at + START.len()..)?;
        let end = rest.iter().position(|byte| *byte == b' ')?;
        // The same words stand in format strings.
        let release = std::str::from_utf8(rest.get(..end.min(200))?)
            .ok()
            .and_then(|text| text.parse().ok());
        if release.is_some() {
            return release;
        }
    }
    None
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Returns the modules that a build lists in `folder`, as it is installed, or else in `build`.
pub(super) fn listed_modules(
    folder: &Path,
    build: &Path,
) -> Result<Option<BTreeSet<ObjectName>>, CommandsError> {
    for place in [folder, build] {
        if let Some(paths) = order(&place.join("modules.order"))? {
            let names = paths.iter().map(|path| build::module_name(Path::new(path)));
            return Ok(Some(names.collect()));
        }
    }
    Ok(None)
}

/// Reads a `modules.order`, where there is one.
pub(super) fn order(path: &Path) -> Result<Option<Vec<String>>, CommandsError> {
    let read = regular::read_linked(path, LONGEST_ORDER)
        .and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::FileTooLarge.into()));
    match read {
        Ok(bytes) => listed(path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CommandsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads what the distribution took in by itself out of the changelog at `path`, which must be of a
/// package with the base version `base`.
pub(super) fn taken_in(path: &Path, base: KernelVersion) -> Result<TakenIn, String> {
    const UNKNOWN: &str = "what the distribution took in by itself is not known";
    match Changelog::open(path, None) {
        Ok(Some(changelog)) if changelog.base() == Some(base) => Ok(changelog.taken_in(base)),
        Ok(_) => Err(format!(
            "{UNKNOWN}: {} is not that of a package of {base}",
            path.display()
        )),
        Err(error) => Err(format!("{UNKNOWN}: {}", super::whole(&error))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(header: &str, tree: &str) -> Result<Option<String>, OtherConfig> {
        let text = format!(
            "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 {header} Kernel Configuration\n#\nCONFIG_X86_64=y\n"
        );
        super::header(
            Path::new(".config"),
            &text,
            &Config::parse(&text),
            tree.parse().unwrap(),
        )
    }

    #[test]
    fn a_configuration_of_another_branch_is_refused_with_both_versions() {
        let error = check("6.12.107", "6.1.170").unwrap_err().to_string();
        assert!(
            error.contains("6.12.107") && error.contains("6.1.170"),
            "{error}"
        );
        assert!(check("5.10.1", "6.1").is_err());
    }

    #[test]
    fn a_configuration_of_the_same_branch_is_taken_and_a_difference_told() {
        assert_eq!(check("6.1.170", "6.1.170").unwrap(), None);
        assert_eq!(check("6.1.0", "6.1").unwrap(), None);
        assert_eq!(check("6.1.0-rc3", "6.1-rc3").unwrap(), None);
        assert!(check("6.1.100", "6.1.170").unwrap().is_some());
    }

    #[test]
    fn a_configuration_for_another_machine_is_refused() {
        let config = Config::parse("CONFIG_ARM64=y\n");
        let outcome = header(Path::new("x"), "", &config, "6.1".parse().unwrap());
        assert!(matches!(outcome, Err(OtherConfig::Arch { .. })));
    }

    #[test]
    fn a_configuration_changed_after_the_build_is_refused() {
        let build = tempfile::tempdir().unwrap();
        fs::create_dir_all(build.path().join("include/config")).unwrap();
        let made = build.path().join("include/config/auto.conf");
        fs::write(&made, "CONFIG_A=y\nCONFIG_B=m\n").unwrap();
        let check = |text: &str| built_with(build.path(), Path::new("c"), &Config::parse(text));
        assert!(check("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n").is_ok());
        let error = check("CONFIG_A=y\n").unwrap_err().to_string();
        assert!(
            error.contains("no CONFIG_B") && error.contains("CONFIG_B=m"),
            "{error}"
        );
    }

    #[test]
    fn a_changelog_of_another_base_version_says_nothing_of_this_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changelog.Debian.gz");
        let file = fs::File::create(&path).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let text = "linux (6.1.170-3) x; urgency=low\n\n  * x: check it (CVE-2026-0001)\n";
        io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        packed.finish().unwrap();
        let of = |base: &str| taken_in(&path, base.parse().unwrap());
        let told = of("6.1.170").unwrap();
        let version = told.told("CVE-2026-0001".parse().unwrap(), "other");
        assert_eq!(version, Some("6.1.170-3"));
        let why = of("6.1.176").unwrap_err();
        assert!(
            why.ends_with("is not that of a package of 6.1.176"),
            "{why}"
        );
        let missing = taken_in(&folder.path().join("other"), "6.1.170".parse().unwrap());
        assert!(missing.unwrap_err().contains("could not read"));
    }
}
