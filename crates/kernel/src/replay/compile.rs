//! Runs `make` and the commands it saved.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::process::{self, Finished, ProcessError};

use super::command::{CommandError, SavedCommand};
use super::tree::{self, TreeError};

/// Flags added to the kernel's own. Sections per function and datum let objects be compared. Debug
/// data tells the layout of types; where variables live is left out of it, which would cost a tenth
/// of the time and more. Neither changes code.
pub const EXTRA_FLAGS: &str = "-ffunction-sections -fdata-sections -g -gz=none -fno-var-tracking";

/// Most lines of the compiler that are passed on.
const SHOWN: usize = 8;

/// Why an object was not made.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler, or objtool, refused.
    #[error("{object} does not compile: {words}")]
    Refused {
        /// The object.
        object: String,
        /// The first lines of what was said.
        words: String,
        /// Names the compiler did not know, sorted.
        missing: Vec<String>,
    },
    /// It did not end in time, or could not be started.
    #[error("could not compile {object}")]
    Process {
        /// The object.
        object: String,
        /// What went wrong.
        source: ProcessError,
    },
    /// Its saved command could not be read.
    #[error("could not read the saved command of {object}")]
    Command {
        /// The object.
        object: String,
        /// What was wrong with it.
        source: CommandError,
    },
    /// A file could not be read, moved or removed.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// How `make` is called for one kernel.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// `uname -r` of the kernel.
    pub release: KernelRelease,
    /// The compiler's program name.
    pub compiler: String,
    /// What the compiler says of its version.
    pub version: String,
    /// Another text for every build of the compiler and of objtool.
    pub identity: String,
    /// What makes Kbuild run objtool on single units.
    pub objtool: &'static [&'static str],
}

/// Makes objects as the kernel was built, with [`EXTRA_FLAGS`]. Afterwards an object is there or it
/// is not: the outcome of `make` as a whole is returned for its words alone.
pub fn make_objects(
    tree: &Path,
    toolchain: &Toolchain,
    objects: &[&str],
    jobs: usize,
    deadline: Duration,
) -> Result<Finished, ProcessError> {
    let mut command = make(tree, toolchain);
    command.arg("-k").arg(format!("-j{jobs}")).args(objects);
    process::run(&mut command, deadline)
}

/// A `make` in `tree` as the kernel was built, with [`EXTRA_FLAGS`], that still wants its goals.
pub fn make(tree: &Path, toolchain: &Toolchain) -> Command {
    let mut command = Command::new("make");
    plain_environment(&mut command);
    command
        .current_dir(tree)
        .arg("-s")
        .arg(format!("KERNELRELEASE={}", toolchain.release))
        .arg(format!("CC={}", toolchain.compiler))
        .arg(format!("KCFLAGS={EXTRA_FLAGS}"))
        .args(toolchain.objtool);
    command
}

/// Reads the whole `.cmd` file of `object`, which Kbuild wrote.
pub fn saved_text(tree: &Path, object: &str) -> Result<String, CompileError> {
    let path = tree.join(saved_path(object));
    let bytes = fs::read(&path).map_err(|source| TreeError::Io { path, source })?;
    String::from_utf8(bytes).map_err(|_| CompileError::Command {
        object: object.to_owned(),
        source: CommandError::NotText,
    })
}

/// The rule that the compiler wrote with `object` cannot be read.
pub fn unreadable_rule(object: &str) -> CompileError {
    CompileError::Command {
        object: object.to_owned(),
        source: CommandError::Inputs,
    }
}

/// Removes an object and what was saved of its making, so that nothing old is taken for new.
///
/// Also needed because compilers write over what is there, which could be a link to another tree.
pub fn forget(tree: &Path, object: &str) -> Result<(), TreeError> {
    tree::remove(&tree.join(object))?;
    tree::remove(&tree.join(saved_path(object)))?;
    tree::remove(&tree.join(dependencies_path(object)))
}

/// Runs the saved command of `object` again, in the tree as it is now.
pub fn replay(
    tree: &Path,
    object: &str,
    saved: &SavedCommand,
    deadline: Duration,
) -> Result<Duration, CompileError> {
    tree::remove(&tree.join(object))?;
    tree::remove(&tree.join(dependencies_path(object)))?;
    let start = Instant::now();
    let mut shell = Command::new("sh");
    plain_environment(&mut shell);
    // As make runs it: the first failing command ends it.
    shell.current_dir(tree).args(["-e", "-c", &saved.shell]);
    let finished = process::run(&mut shell, deadline).map_err(|source| CompileError::Process {
        object: object.to_owned(),
        source,
    })?;
    if finished.status.success() && tree.join(object).is_file() {
        Ok(start.elapsed())
    } else {
        Err(refused(object, &finished))
    }
}

/// Turns what a failed compiler printed into the first lines that matter.
pub fn refused(object: &str, finished: &Finished) -> CompileError {
    let text = String::from_utf8_lossy(&finished.stderr);
    let stem = object.strip_suffix(".o").unwrap_or(object);
    let lines: Vec<&str> = text.lines().collect();
    let is_error = |line: &&str| line.contains(" error: ") || line.contains(" Error: ");
    // `make -k` mixes several units: the error that names this one comes first.
    let first = lines
        .iter()
        .position(|line| is_error(line) && line.contains(stem))
        .or_else(|| lines.iter().position(is_error))
        .unwrap_or_default();
    let words = lines
        .iter()
        .skip(first)
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join("\n");
    CompileError::Refused {
        object: object.to_owned(),
        words: if words.is_empty() {
            format!("{} and no words", finished.status)
        } else {
            words
        },
        missing: missing_names(&text),
    }
}

/// Finds the names that an English gcc says it does not know, or knows otherwise than they are used.
fn missing_names(text: &str) -> Vec<String> {
    /// What stands before the quoted name.
    const BEFORE: [&str; 10] = [
        "implicit declaration of function ",
        "has no member named ",
        "unknown type name ",
        "too few arguments to function ",
        "too many arguments to function ",
        "conflicting types for ",
        "static declaration of ",
        "invalid use of undefined type ",
        "to incomplete type ",
        "incomplete definition of type ",
    ];
    let mut names: Vec<String> = text
        .lines()
        .filter(|line| line.contains(" error: "))
        .filter_map(|line| {
            let quoted = |after: &str| {
                let rest = line.split_once(after)?.1;
                let rest = rest.trim_start_matches(['\'', '‘']);
                let rest = ["struct ", "union ", "enum "]
                    .iter()
                    .find_map(|kind| rest.strip_prefix(kind))
                    .unwrap_or(rest);
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                (!name.is_empty()).then_some(name)
            };
            if let Some((before, _)) = line.split_once(": No such file or directory") {
                return before
                    .rsplit_once("fatal error: ")
                    .map(|(_, path)| path.to_owned());
            }
            if line.contains("passing argument ") {
                return quoted(" of ");
            }
            if line.contains(" undeclared") {
                return quoted("error: ");
            }
            BEFORE.iter().find_map(|before| quoted(before))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Gives a child the search path and an English, byte-wise locale; nothing else of ours may reach
/// the kernel's build.
pub fn plain_environment(command: &mut Command) {
    command.env_clear();
    command.env("LC_ALL", "C");
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

fn saved_path(object: &str) -> String {
    beside(object, ".cmd")
}

/// The path of the rule that the compiler writes with `object`: what it read.
pub fn dependencies_path(object: &str) -> String {
    beside(object, ".d")
}

/// Returns `dir/.x.o` + `ending` for `dir/x.o`.
fn beside(object: &str, ending: &str) -> String {
    match object.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.{name}{ending}"),
        None => format!(".{object}{ending}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_a_compiler_misses_are_told() {
        let text = "\
net/rds/send.c:5:3: error: implicit declaration of function 'rds_new'; did you mean 'rds_old'?
x.c:7:1: error: 'MAX' undeclared (first use in this function)
x.c:9:9: error: 'struct vmcb' has no member named 'cs'
x.c:9:9: note: has no member named 'not_an_error'
";
        assert_eq!(missing_names(text), ["MAX", "cs", "rds_new"]);
    }

    #[test]
    fn names_that_are_used_otherwise_than_declared_are_told() {
        for (line, name) in [
            ("a.c:1:2: error: too few arguments to function 'f'", "f"),
            (
                "a.c:1:2: error: conflicting types for 'f'; have 'int(int)'",
                "f",
            ),
            (
                "a.c:1:2: error: static declaration of 'f' follows non-static declaration",
                "f",
            ),
            (
                "a.c:1:2: error: passing argument 1 of 'f' from incompatible pointer type [-Werror]",
                "f",
            ),
            (
                "a.c:1:2: error: invalid use of undefined type 'struct s'",
                "s",
            ),
            (
                "a.c:1:2: fatal error: linux/x.h: No such file or directory",
                "linux/x.h",
            ),
        ] {
            assert_eq!(missing_names(line), [name], "{line}");
        }
    }

    #[test]
    fn what_lies_beside_an_object_is_found() {
        assert_eq!(saved_path("net/core/dev.o"), "net/core/.dev.o.cmd");
        assert_eq!(dependencies_path("x.o"), ".x.o.d");
    }
}
