//! What Kbuild's top makefile hands down to the makefiles below, learnt once per tree.
//!
//! Reading the top makefile takes longer than most units take to compile: it tries dozens of compiler
//! flags, each with a run of the compiler. All of it comes down to the variables that it exports. With
//! these the makefiles below it are asked, without making anything, for the command of an object.
//!
//! What is learnt counts only after it gave, for one object, the command that the whole of Kbuild
//! saved, and that command the object that the whole of Kbuild made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tuxtape_sys::durable;
use tuxtape_sys::process::{self, ProcessError};

use super::compile::{self, Toolchain};
use super::tree::TreeError;

/// A makefile read before the top one, with a goal whose recipe prints what it was handed. It may not
/// depend on `prepare`: some series read the top makefile a second time, by a rule for all goals that
/// alone knows none of theirs.
const QUESTION: &str = "\
.PHONY: tuxtape-handed-down
tuxtape-handed-down:
\t@env -0 > $(TUXTAPE_ANSWER)
";

/// First line of the file that keeps an answer.
const HEAD: &str = "tuxtape handed-down 1";

/// Longest answer that is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// Variables that belong to one run of `make`, to the question, or to our own environment.
const OWN: [&str; 9] = [
    "HOME",
    "LC_ALL",
    "MAKEFILES",
    "MAKEOVERRIDES",
    "OLDPWD",
    "PATH",
    "PWD",
    "TMPDIR",
    "TUXTAPE_ANSWER",
];

/// The variables that the top makefile exports in one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedDown {
    /// Where they were learnt; values that name this tree name another in another.
    tree: PathBuf,
    variables: BTreeMap<String, String>,
}

impl HandedDown {
    /// Asks the top makefile of `tree`, a prepared tree. `scratch` is a folder that may be written.
    ///
    /// Blocks for some seconds; `None` where the answer is not what such an answer looks like.
    pub fn learn(
        tree: &Path,
        toolchain: &Toolchain,
        scratch: &Path,
        deadline: Duration,
    ) -> Result<Option<Self>, LearnError> {
        let (question, answer) = (scratch.join("question.mk"), scratch.join("answer"));
        durable::write(&question, QUESTION.as_bytes()).map_err(TreeError::from)?;
        durable::remove(&answer).map_err(|source| TreeError::Io {
            path: answer.clone(),
            source,
        })?;
        let mut make = compile::make(tree, toolchain);
        make.env("MAKEFILES", &question)
            .env("TUXTAPE_ANSWER", &answer)
            .args(["prepare", "tuxtape-handed-down"]);
        process::run_ok(&mut make, deadline)?;
        let bytes = std::fs::read(&answer).map_err(|source| TreeError::Io {
            path: answer,
            source,
        })?;
        Ok(variables(&bytes).map(|variables| Self {
            tree: tree.to_owned(),
            variables,
        }))
    }

    /// Reads what [`HandedDown::save`] or [`HandedDown::disprove`] wrote for the same `key` and `tree`.
    pub fn load(path: &Path, key: &str, tree: &Path) -> Known {
        let Ok(bytes) = std::fs::read(path) else {
            return Known::Unknown;
        };
        let text = String::from_utf8_lossy(&bytes);
        match text.split_once('\n') {
            Some((head, body)) if head == head_of(key, tree, body) => {
                if body.is_empty() {
                    return Known::Disproven;
                }
                variables(body.as_bytes()).map_or(Known::Unknown, |variables| {
                    Known::Proven(Self {
                        tree: tree.to_owned(),
                        variables,
                    })
                })
            }
            Some(_) | None => Known::Unknown,
        }
    }

    /// Notes that the makefiles of this tree do not answer as Kbuild does, so that they are not asked
    /// again.
    pub fn disprove(path: &Path, key: &str, tree: &Path) -> Result<(), TreeError> {
        durable::write(path, format!("{}\n", head_of(key, tree, "")).as_bytes())?;
        Ok(())
    }

    /// Writes it for `key`, a text that is another one for every tree and compiler.
    pub fn save(&self, path: &Path, key: &str) -> Result<(), TreeError> {
        let mut body = String::new();
        for (name, value) in &self.variables {
            body.push_str(name);
            body.push('=');
            body.push_str(value);
            body.push('\0');
        }
        let head = head_of(key, &self.tree, &body);
        durable::write(path, format!("{head}\n{body}").as_bytes())?;
        Ok(())
    }

    /// Asks the makefiles of `tree`, made like the one this was learnt in, for the lines that Kbuild
    /// would save with `objects`. Nothing is made. Objects of which nothing was said are not in it.
    pub fn commands(
        &self,
        tree: &Path,
        objects: &[&str],
        deadline: Duration,
    ) -> Result<BTreeMap<String, String>, ProcessError> {
        let mut make = Command::new("make");
        compile::plain_environment(&mut make);
        let (from, to) = (self.tree.to_string_lossy(), tree.to_string_lossy());
        for (name, value) in &self.variables {
            make.env(name, value.replace(from.as_ref(), to.as_ref()));
        }
        make.current_dir(tree)
            .args(["-n", "-f", "./scripts/Makefile.build", "obj=."])
            .args(["need-builtin=1", "need-modorder=1"])
            .args(objects);
        let finished = process::run(&mut make, deadline)?;
        let text = String::from_utf8_lossy(&finished.stdout);
        Ok(objects
            .iter()
            .filter_map(|object| Some(((*object).to_owned(), saved_line(&text, object)?)))
            .collect())
    }
}

/// What is known of asking the makefiles of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// They answer as the whole of Kbuild does.
    Proven(HandedDown),
    /// They do not.
    Disproven,
    /// Nobody tried, or what was kept of it is not usable.
    Unknown,
}

/// Why the top makefile could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// `make` failed.
    #[error("could not ask the top makefile what it hands down")]
    Make(#[from] ProcessError),
    /// A file could not be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn head_of(key: &str, tree: &Path, body: &str) -> String {
    let mut hash = Sha256::new();
    for part in [key, &tree.to_string_lossy(), body] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    format!("{HEAD} {}", hex::encode(hash.finalize()))
}

/// Reads `NAME=VALUE` texts that end with NUL.
fn variables(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    if bytes.len() > LONGEST {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut found = BTreeMap::new();
    for line in text.split_terminator('\0') {
        let (name, value) = line.split_once('=')?;
        if !OWN.contains(&name) {
            found.insert(name.to_owned(), value.to_owned());
        }
    }
    // Without these it was not the top makefile of a kernel that answered.
    let needed = ["KBUILD_CFLAGS", "MAKEFLAGS", "srctree"];
    needed
        .iter()
        .all(|name| found.contains_key(*name))
        .then_some(found)
}

/// Finds, in what a dry run of `make` printed, the line that would be saved with `object`: the last
/// argument of the program that writes it.
fn saved_line(text: &str, object: &str) -> Option<String> {
    let (folder, name) = object.rsplit_once('/').unwrap_or_default();
    let name = if folder.is_empty() { object } else { name };
    let slash = if folder.is_empty() { "" } else { "/" };
    let start = format!("scripts/basic/fixdep {folder}{slash}.{name}.d {object} '");
    let end = format!("' > {folder}{slash}.{name}.cmd");
    let mut found = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(&start)?;
        let (command, _) = rest.split_once(&end)?;
        Some(command.replace("'\\''", "'"))
    });
    let line = found.next()?;
    // Said twice, it is not known which is meant.
    found
        .next()
        .is_none()
        .then(|| format!("cmd_{object} := {line}\n"))
}

/// Entry for fuzzing: reads bytes as an answer, and as what a dry run printed.
pub fn fuzz(bytes: &[u8]) {
    variables(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        saved_line(text, "net/core/dev.o");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::command;

    const ANSWER: &[u8] =
        b"PATH=/bin\0srctree=.\0MAKEFLAGS=rRs\0KBUILD_CFLAGS=-O2\n-g\0abs_srctree=/cache/tree\0";

    fn answer() -> HandedDown {
        HandedDown {
            tree: "/cache/tree".into(),
            variables: variables(ANSWER).unwrap(),
        }
    }

    #[test]
    fn what_was_handed_down_is_read_back_for_the_same_tree_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handed-down");
        answer().save(&path, "key").unwrap();
        let load = |key: &str, tree: &str| HandedDown::load(&path, key, tree.as_ref());
        assert_eq!(load("key", "/cache/tree"), Known::Proven(answer()));
        assert!(!answer().variables.contains_key("PATH"));
        assert_eq!(load("another", "/cache/tree"), Known::Unknown);
        assert_eq!(load("key", "/another/tree"), Known::Unknown);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            std::fs::write(&path, wrong).unwrap();
            assert_eq!(load("key", "/cache/tree"), Known::Unknown, "byte {at}");
        }
    }

    #[test]
    fn a_tree_that_does_not_answer_as_kbuild_does_is_known_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let (path, tree) = (folder.path().join("handed-down"), Path::new("/cache/tree"));
        assert_eq!(HandedDown::load(&path, "key", tree), Known::Unknown);
        HandedDown::disprove(&path, "key", tree).unwrap();
        assert_eq!(HandedDown::load(&path, "key", tree), Known::Disproven);
        assert_eq!(HandedDown::load(&path, "another", tree), Known::Unknown);
    }

    #[test]
    fn an_answer_of_something_else_is_none() {
        assert!(variables(b"A=1\0").is_none());
        assert!(variables(b"srctree=.\0MAKEFLAGS=\0KBUILD_CFLAGS=\0no equals\0").is_none());
        assert!(variables(ANSWER).is_some());
    }

    #[test]
    fn the_line_to_save_is_found_in_a_dry_run() {
        let text = "make -f ./scripts/Makefile.build obj=a\n\
            set -e; gcc -DX='\"x\"' -c -o a/b.o a/b.c; scripts/basic/fixdep a/.b.o.d a/b.o 'gcc -pg -DX='\\''\"x\"'\\'' -D$(pound) -c -o a/b.o a/b.c' > a/.b.o.cmd; rm -f a/.b.o.d\n";
        let line = saved_line(text, "a/b.o").unwrap();
        let saved = command::read(line.as_bytes(), "a/b.o").unwrap();
        assert_eq!(saved.shell, "gcc -pg -DX='\"x\"' -D# -c -o a/b.o a/b.c");
        assert_eq!(saved_line(text, "a/c.o"), None);
        assert_eq!(saved_line(&format!("{text}{text}"), "a/b.o"), None);
    }

    /// A tree of makefiles that have what Kbuild has, as far as it is asked for.
    fn small_tree(top: &Path) {
        let write = |name: &str, text: &str| {
            let path = top.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "Makefile",
            "KBUILD_CFLAGS := -O2 $(KCFLAGS)\nsrctree := .\nabs_srctree := $(CURDIR)\nexport KBUILD_CFLAGS srctree abs_srctree\nMAKEFLAGS += -rR\nprepare:\n\t@touch prepared\n",
        );
        write(
            "scripts/Makefile.build",
            "cmd = gcc $(KBUILD_CFLAGS) -DTOP=\"$(abs_srctree)\" -c -o $@ $(@:.o=.c)\na/%.o:\n\t$(cmd); scripts/basic/fixdep a/.$*.o.d $@ '$(cmd)' > a/.$*.o.cmd\n",
        );
    }

    /// How the top makefile of 6.12 begins: it reads itself once more for whatever is wanted.
    const AGAIN: &str = "\
ifneq ($(sub_make_done),1)
export sub_make_done := 1
.PHONY: $(MAKECMDGOALS) __sub-make
$(MAKECMDGOALS): __sub-make
\t@:
__sub-make:
\t@$(MAKE) --no-print-directory -f Makefile $(MAKECMDGOALS)
else
";

    #[test]
    fn a_top_makefile_that_reads_itself_again_answers_too() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("tree");
        small_tree(&top);
        let makefile = top.join("Makefile");
        let plain = std::fs::read_to_string(&makefile).unwrap();
        std::fs::write(&makefile, format!("{AGAIN}{plain}endif\n")).unwrap();
        let second = Duration::from_secs(30);
        let learnt = HandedDown::learn(&top, &toolchain(), folder.path(), second).unwrap();
        let flags = &learnt.unwrap().variables["KBUILD_CFLAGS"];
        assert_eq!(flags, &format!("-O2 {}", compile::EXTRA_FLAGS));
        assert!(top.join("prepared").exists());
    }

    fn toolchain() -> Toolchain {
        Toolchain {
            release: "6.1.0".parse().unwrap(),
            compiler: "gcc".to_owned(),
            version: String::new(),
            identity: String::new(),
            objtool: &[],
        }
    }

    #[test]
    fn a_second_tree_answers_for_itself_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        small_tree(&one);
        small_tree(&other);
        let second = Duration::from_secs(30);
        let learnt = HandedDown::learn(&one, &toolchain(), folder.path(), second)
            .unwrap()
            .unwrap();
        let found = learnt.commands(&other, &["a/b.o", "c.o"], second).unwrap();
        let line = &found["a/b.o"];
        let flags = format!("gcc -O2 {} -DTOP=", compile::EXTRA_FLAGS);
        assert!(line.starts_with(&format!("cmd_a/b.o := {flags}")), "{line}");
        assert!(line.contains(other.to_str().unwrap()), "{line}");
        assert_eq!(found.len(), 1);
        assert!(!other.join("prepared").exists() && !other.join("a").exists());
    }
}
