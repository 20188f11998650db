//! The compiler and the programs a kernel tree needs, and whether they are the kernel's.

use std::process::Command;
use std::time::Duration;

use tuxtape_sys::process::{self, ProcessError};

use crate::config::Config;

/// Limit of asking one program for its version.
const ASK: Duration = Duration::from_secs(60);

/// Programs that taking a kernel apart and preparing its tree run, and the Debian package of each.
const PROGRAMS: &[(&str, &str)] = &[
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("bc", "bc"),
    ("bison", "bison"),
    ("dpkg-deb", "dpkg"),
    ("flex", "flex"),
    ("make", "make"),
    ("pahole", "dwarves"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
];

/// C headers that the tree's own programs include, and the Debian package of each.
const HEADERS: &[(&str, &str)] = &[
    ("gelf.h", "libelf-dev"),
    ("openssl/opensslv.h", "libssl-dev"),
    ("stdio.h", "libc6-dev"),
];

/// A compiler whose own words equal the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// The command to run, `gcc-12`.
    pub command: String,
    /// The first line of its `--version`.
    pub text: String,
}

/// Why the toolchain cannot serve a kernel.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// Programs or headers are not installed.
    #[error("not installed: {names}", names = names.join(", "))]
    Missing {
        /// What is missing.
        names: Vec<&'static str>,
        /// The Debian packages that have them, sorted, each once.
        packages: Vec<&'static str>,
    },
    /// No compiler answers to the names tried.
    #[error("no compiler of the kernel's is installed (it was made by {wanted:?})")]
    NoCompiler {
        /// `CONFIG_CC_VERSION_TEXT`.
        wanted: String,
        /// The Debian package that should have it.
        package: String,
    },
    /// The installed compiler is another one.
    #[error("not-the-kernel: it was made by {wanted:?}, the compiler here is {found:?}")]
    NotTheKernel {
        /// `CONFIG_CC_VERSION_TEXT`.
        wanted: String,
        /// What the nearest compiler here says.
        found: String,
    },
    /// The configuration names no compiler.
    #[error("the kernel's configuration has no CONFIG_CC_VERSION_TEXT")]
    NoVersionText,
}

/// Checks that every program needed is on `PATH`.
pub fn check_programs() -> Result<(), ToolchainError> {
    missing(PROGRAMS, on_path)
}

/// Checks that `compiler` finds the C headers needed. Runs the preprocessor.
pub fn check_headers(compiler: &Compiler) -> Result<(), ToolchainError> {
    missing(HEADERS, |header| {
        let mut command = Command::new(&compiler.command);
        command.args([
            "-E",
            "-x",
            "c",
            "-o",
            "/dev/null",
            "-include",
            header,
            "/dev/null",
        ]);
        process::run_ok(&mut command, ASK).is_ok()
    })
}

/// Finds the compiler that made the kernel of `config`: by the name it was called by, by its
/// version, or the plain one; its own version text must be the kernel's.
pub fn find_compiler(config: &Config) -> Result<Compiler, ToolchainError> {
    let wanted = config
        .value("CC_VERSION_TEXT")
        .ok_or(ToolchainError::NoVersionText)?;
    let names = names(wanted, config.value("GCC_VERSION"));
    let mut other = None;
    for name in &names {
        let Ok(text) = version_text(name) else {
            continue;
        };
        if own_words(&text) == own_words(wanted) {
            return Ok(Compiler {
                command: name.clone(),
                text,
            });
        }
        other = other.or(Some(text));
    }
    Err(match other {
        Some(found) => ToolchainError::NotTheKernel {
            wanted: wanted.to_owned(),
            found,
        },
        None => ToolchainError::NoCompiler {
            wanted: wanted.to_owned(),
            package: names
                .iter()
                .find(|name| name.starts_with("gcc-"))
                .cloned()
                .unwrap_or_else(|| "gcc".to_owned()),
        },
    })
}

/// Returns the names to try, best first.
fn names(wanted: &str, number: Option<&str>) -> Vec<String> {
    let called = wanted.split(' ').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-+_.".contains(c);
    let mut names = Vec::new();
    // It comes from a package, and is run: nothing but a bare name will do.
    if called.contains("gcc") && called.chars().all(plain) && !called.starts_with('-') {
        names.push(called.to_owned());
    }
    if let Some(major) = number
        .and_then(|number| number.parse::<u32>().ok())
        .map(|number| number / 10_000)
        .filter(|major| *major > 0)
    {
        names.push(format!("gcc-{major}"));
    }
    names.push("gcc".to_owned());
    names.dedup();
    names
}

/// Returns a version text without the name the compiler was called by.
fn own_words(text: &str) -> &str {
    text.split_once(' ').map_or("", |(_, rest)| rest).trim()
}

fn version_text(name: &str) -> Result<String, ProcessError> {
    let finished = process::run_ok(Command::new(name).env("LC_ALL", "C").arg("--version"), ASK)?;
    let text = String::from_utf8_lossy(&finished.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

fn missing(
    wanted: &'static [(&'static str, &'static str)],
    there: impl Fn(&str) -> bool,
) -> Result<(), ToolchainError> {
    let gone: Vec<_> = wanted.iter().filter(|(name, _)| !there(name)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = gone.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    Err(ToolchainError::Missing {
        names: gone.iter().map(|(name, _)| *name).collect(),
        packages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_a_compiler_was_called_by_does_not_make_it_another_one() {
        let debian = "(Debian 12.2.0-14+deb12u1) 12.2.0";
        assert_eq!(own_words(&format!("gcc-12 {debian}")), debian);
        assert_eq!(
            own_words(&format!("x86_64-linux-gnu-gcc-12 {debian}")),
            debian
        );
        assert_ne!(own_words("gcc-12 (Debian 12.2.0-14) 12.2.0"), debian);
    }

    #[test]
    fn only_bare_compiler_names_are_run() {
        assert_eq!(
            names("x86_64-linux-gnu-gcc-12 (Debian) 12.2.0", Some("120200")),
            ["x86_64-linux-gnu-gcc-12", "gcc-12", "gcc"]
        );
        assert_eq!(names("/tmp/gcc x", None), ["gcc"]);
        assert_eq!(names("", Some("0")), ["gcc"]);
    }

    #[test]
    fn another_compiler_is_refused_with_both_texts() {
        let config = Config::parse("CONFIG_CC_VERSION_TEXT=\"gcc (Made Up 1.0) 1.0\"\n");
        let error = find_compiler(&config).unwrap_err();
        match error {
            ToolchainError::NotTheKernel { wanted, found } => {
                assert_eq!(wanted, "gcc (Made Up 1.0) 1.0");
                assert!(found.starts_with("gcc"));
            }
            // A machine without any compiler.
            ToolchainError::NoCompiler { package, .. } => assert_eq!(package, "gcc"),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_missing_is_named_once_with_its_packages() {
        let error = missing(&[("a", "p"), ("b", "p"), ("c", "q")], |name| name == "c").unwrap_err();
        assert!(matches!(
            error,
            ToolchainError::Missing { names, packages } if names == ["a", "b"] && packages == ["p"]
        ));
    }
}
