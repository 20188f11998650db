//! Making a source tree ready for compiling single units and linking modules.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::process::{self, ProcessError};

use crate::config::Config;
use crate::files::KernelFiles;
use crate::toolchain::Compiler;

/// Limit of one run of `make`.
const MAKE: Duration = Duration::from_secs(1800);

/// Variables of an outer `make` or shell that would change what the tree's own `make` does.
const FOREIGN: &[&str] = &[
    "ARCH",
    "CROSS_COMPILE",
    "GNUMAKEFLAGS",
    "KAFLAGS",
    "KBUILD_OUTPUT",
    "KCFLAGS",
    "KCONFIG_CONFIG",
    "KCPPFLAGS",
    "LOCALVERSION",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "O",
    "V",
];

/// Why a tree could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file could not be copied or read.
    #[error("could not use {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `make` failed.
    #[error("could not prepare the kernel tree (make {target})")]
    Make {
        /// What was to be made.
        target: &'static str,
        /// Its last words.
        source: ProcessError,
    },
    /// The tree, with the tools here, does not keep the kernel's configuration.
    #[error(
        "not-the-kernel: the tree turns its configuration into another: {}",
        list(differences)
    )]
    Configuration {
        /// Name, value of the kernel, value here.
        differences: Vec<(String, Option<String>, Option<String>)>,
    },
    /// The tree calls itself by another release.
    #[error("not-the-kernel: want release {wanted}, the prepared tree says {found}")]
    Release {
        /// The kernel's.
        wanted: KernelRelease,
        /// What the tree generated.
        found: String,
    },
}

/// Prepares the tree at `files.source` for `files.release`: the kernel's own configuration, checked
/// to survive `olddefconfig`; generated headers and build programs; symbol versions.
///
/// Returns the settings that differ and may: texts of versions. Blocks on `make` for 10 s and more.
pub fn prepare(
    files: &KernelFiles,
    compiler: &Compiler,
    jobs: usize,
) -> Result<Vec<String>, PrepareError> {
    let config = files.source.join(".config");
    copy(&files.config, &config)?;
    copy(&files.symvers, &files.source.join("Module.symvers"))?;
    make(files, compiler, jobs, "olddefconfig", &["olddefconfig"])?;
    let texts = compare(
        &Config::parse(&read(&files.config)?),
        &Config::parse(&read(&config)?),
    )?;
    make(
        files,
        compiler,
        jobs,
        "prepare",
        &["prepare", "modules_prepare"],
    )?;
    let generated = files.source.join("include/generated/utsrelease.h");
    let found = read(&generated)?;
    let release = found.split('"').nth(1).unwrap_or_default();
    if release != files.release.as_str() {
        return Err(PrepareError::Release {
            wanted: files.release.clone(),
            found: release.to_owned(),
        });
    }
    Ok(texts)
}

/// Returns a `make` in the tree `source` with nothing of the caller's environment that would change
/// the kernel's build; the compiler is the kernel's.
pub fn make_command(source: &Path, release: &KernelRelease, compiler: &Compiler) -> Command {
    let mut command = Command::new("make");
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
        .env("LC_ALL", "C")
        .current_dir(source)
        .arg("--silent")
        .arg(format!("KERNELRELEASE={release}"))
        .arg(format!("CC={}", compiler.command))
        .arg(format!("HOSTCC={}", compiler.command));
    command
}

fn make(
    files: &KernelFiles,
    compiler: &Compiler,
    jobs: usize,
    target: &'static str,
    targets: &[&str],
) -> Result<(), PrepareError> {
    let mut command = make_command(&files.source, &files.release, compiler);
    command.arg(format!("-j{jobs}")).args(targets);
    match process::run_ok(&mut command, MAKE) {
        Ok(_) => Ok(()),
        Err(source) => Err(PrepareError::Make { target, source }),
    }
}

/// Returns the differences that may be: a compiler called by another name changes no code, nor does a
/// Rust compiler that happens to be here where neither side builds Rust. Any other may, so it is
/// refused.
fn compare(kernels: &Config, ours: &Config) -> Result<Vec<String>, PrepareError> {
    let rust = kernels.on("RUST") || ours.on("RUST");
    let harmless = |name: &str| {
        name.ends_with("_VERSION_TEXT")
            || (!rust && (name.starts_with("RUSTC_") || name == "RUST_IS_AVAILABLE"))
    };
    let (texts, differences): (Vec<_>, Vec<_>) = kernels
        .differences(ours)
        .into_iter()
        .partition(|(name, ..)| harmless(name));
    if differences.is_empty() {
        let shown = texts.into_iter().map(|(name, kernels, ours)| {
            format!(
                "{name} is {:?} here, {:?} in the kernel; no code depends on it",
                ours.unwrap_or_default(),
                kernels.unwrap_or_default()
            )
        });
        return Ok(shown.collect());
    }
    let owned = |value: Option<&str>| value.map(str::to_owned);
    Err(PrepareError::Configuration {
        differences: differences
            .into_iter()
            .map(|(name, kernels, ours)| (name.to_owned(), owned(kernels), owned(ours)))
            .collect(),
    })
}

fn list(differences: &[(String, Option<String>, Option<String>)]) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    let shown: Vec<String> = differences
        .iter()
        .take(8)
        .map(|(name, kernels, ours)| {
            format!(
                "CONFIG_{name} is {} here, {} in the kernel",
                value(ours),
                value(kernels)
            )
        })
        .collect();
    let more = differences.len().saturating_sub(shown.len());
    if more == 0 {
        shown.join("; ")
    } else {
        format!("{}; and {more} more", shown.join("; "))
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), PrepareError> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|source| PrepareError::File {
            path: from.to_owned(),
            source,
        })
}

fn read(path: &Path) -> Result<String, PrepareError> {
    fs::read_to_string(path).map_err(|source| PrepareError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ours: &str) -> Result<Vec<String>, PrepareError> {
        let kernels = "CONFIG_CC_VERSION_TEXT=\"gcc-12 x\"\nCONFIG_A=y\n# CONFIG_B is not set\n";
        compare(&Config::parse(kernels), &Config::parse(ours))
    }

    #[test]
    fn comments_and_version_texts_may_differ() {
        assert!(
            check("# other\nCONFIG_CC_VERSION_TEXT=\"gcc-12 x\"\nCONFIG_A=y\n")
                .unwrap()
                .is_empty()
        );
        let texts = check("CONFIG_CC_VERSION_TEXT=\"gcc x\"\nCONFIG_A=y\n").unwrap();
        assert_eq!(texts.len(), 1);
    }

    #[test]
    fn a_rust_compiler_here_matters_only_to_kernels_with_rust() {
        let text = "CONFIG_CC_VERSION_TEXT=\"gcc-12 x\"\nCONFIG_A=y\nCONFIG_RUSTC_VERSION=109500\n";
        assert_eq!(check(text).unwrap().len(), 1);
        assert!(check(&format!("{text}CONFIG_RUST=y\n")).is_err());
    }

    #[test]
    fn any_other_difference_is_refused_with_both_values() {
        let text = "CONFIG_CC_VERSION_TEXT=\"gcc x\"\nCONFIG_A=m\nCONFIG_B=y\n";
        let error = check(text).unwrap_err().to_string();
        assert!(
            error.contains("CONFIG_A is m here, y in the kernel"),
            "{error}"
        );
        assert!(
            error.contains("CONFIG_B is y here, not set in the kernel"),
            "{error}"
        );
    }
}
