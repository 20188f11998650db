//! Objects of the pristine source, kept by what they were made of.
//!
//! `KEY.o` is the object. `KEY.cmd` holds the line that Kbuild saves for it, then `deps` lines with
//! the files that went into it, and last a line with the digests of those files' contents, of the
//! object, and of the lines before. An entry of which one digest is another is removed and made anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::verify;
use tuxtape_sys::durable;
use tuxtape_sys::map::Map;

use super::command::{self, SavedCommand};
use super::compile::CompileError;
use super::tree::{TreeError, at};

/// Most bytes that the kept objects of one kernel may take; the longest unused go first.
pub(super) const LIMIT: u64 = 2 << 30;

/// What is left of the limit when something had to go, so that not every build cleans up.
const KEPT_OF_TEN: u64 = 9;

/// What is kept of an object; another text makes all of them anew.
pub(super) const FORM: &str = "with checksums of exports";

/// Start of the line with the digests.
const SEAL: &str = "#sealed ";
/// Start of a line that names a file the object was made of.
const INPUT: &str = "#input ";
/// Most files that one object is made of; a unit of a kernel includes a few thousand.
const MOST_INPUTS: usize = 1 << 16;

/// An object of the pristine source.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub path: PathBuf,
    pub command: SavedCommand,
    pub cached: bool,
}

/// The folder of kept objects, and the trees whose files they are made of.
pub(super) struct Originals<'a> {
    folder: PathBuf,
    /// The tree that never changes.
    pristine: &'a Path,
    /// The tree in which Kbuild generates what some units include.
    work: &'a Path,
    limit: u64,
}

impl<'a> Originals<'a> {
    /// Uses `folder`, which is made at need, for objects made of files of `pristine`, and of those that
    /// only `work` has.
    pub(super) fn below(
        folder: PathBuf,
        pristine: &'a Path,
        work: &'a Path,
        limit: u64,
    ) -> Result<Self, TreeError> {
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        Ok(Self {
            folder,
            pristine,
            work,
            limit,
        })
    }

    /// Finds the object kept under `key`, if nothing of it or of what it was made of has changed.
    pub(super) fn find(&self, key: &str, object: &str) -> Result<Option<Original>, TreeError> {
        let (path, words) = self.paths(key);
        let Some(saved) = read(&words)? else {
            return Ok(None);
        };
        let Some(command) = self.proven(&saved, &path, object)? else {
            durable::remove(&words).map_err(at(&words))?;
            durable::remove(&path).map_err(at(&path))?;
            return Ok(None);
        };
        // The time says when it was last of use. Whether that can be noted matters to nobody.
        if let Ok(file) = fs::File::options().append(true).open(&path) {
            file.set_modified(SystemTime::now()).ok();
        }
        Ok(Some(Original {
            path,
            command,
            cached: true,
        }))
    }

    fn proven(
        &self,
        saved: &[u8],
        path: &Path,
        object: &str,
    ) -> Result<Option<SavedCommand>, TreeError> {
        let Some(entry) = Entry::read(saved) else {
            return Ok(None);
        };
        let Ok(command) = command::read(entry.words.as_bytes(), object) else {
            return Ok(None);
        };
        let Some(bytes) = read(path)? else {
            return Ok(None);
        };
        let contents = self.inputs(&entry.inputs, self.pristine)?;
        if digest(&bytes) != entry.object || contents != entry.contents {
            return Ok(None);
        }
        Ok(Some(command))
    }

    /// Keeps under `key` the `object` made in `tree`, which is one of the two: `words` are what Kbuild
    /// saved of it, `inputs` the files it was made of, relative to the tree.
    pub(super) fn keep(
        &self,
        key: &str,
        object: &str,
        tree: &Path,
        words: &str,
        inputs: &[String],
    ) -> Result<Original, CompileError> {
        let command =
            command::read(words.as_bytes(), object).map_err(|source| CompileError::Command {
                object: object.to_owned(),
                source,
            })?;
        let (path, beside) = self.paths(key);
        let made = tree.join(object);
        let bytes = fs::read(&made).map_err(at(&made))?;
        let mut text = words.trim_end().to_owned();
        text.push('\n');
        for input in inputs {
            text.push_str(INPUT);
            text.push_str(input);
            text.push('\n');
        }
        let seal = format!(
            "{SEAL}{} {} {}\n",
            self.inputs(inputs, tree)?,
            digest(&bytes),
            digest(text.as_bytes())
        );
        text.push_str(&seal);
        durable::write(&path, &bytes).map_err(TreeError::from)?;
        // Written last: an original counts as kept only when both are there.
        durable::write(&beside, text.as_bytes()).map_err(TreeError::from)?;
        self.make_room(&path)?;
        Ok(Original {
            path,
            command,
            cached: false,
        })
    }

    /// The digest of the contents of `inputs` in `tree`, in their order; of a file that `tree` lacks it
    /// is what Kbuild generated. A file that is not there has another digest than any file.
    fn inputs(&self, inputs: &[String], tree: &Path) -> Result<String, TreeError> {
        let mut hash = Sha256::new();
        for input in inputs {
            hash.update(input.as_bytes());
            let found = match read(&tree.join(input))? {
                Some(bytes) => Some(bytes),
                None => read(&self.work.join(input))?,
            };
            match found {
                Some(bytes) => {
                    hash.update(b"\0");
                    hash.update(bytes.len().to_le_bytes());
                    hash.update(bytes);
                }
                None => hash.update(b"\n"),
            }
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Removes the longest unused objects where all together take more than the limit. `new`, which
    /// the build at hand will read, stays.
    fn make_room(&self, new: &Path) -> Result<(), TreeError> {
        let mut all: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            if path.extension().is_some_and(|kind| kind == "o") {
                let found = fs::metadata(&path).map_err(at(&path))?;
                all.push((found.modified().map_err(at(&path))?, found.len(), path));
            }
        }
        let mut total: u64 = all.iter().map(|(_, size, _)| size).sum();
        if total <= self.limit {
            return Ok(());
        }
        all.sort();
        for (_, size, path) in all {
            // Those of this build have just been used: they are the last.
            if total <= self.limit / 10 * KEPT_OF_TEN || recent(&path) || path == new {
                break;
            }
            let words = path.with_extension("cmd");
            durable::remove(&words).map_err(at(&words))?;
            durable::remove(&path).map_err(at(&path))?;
            total = total.saturating_sub(size);
        }
        Ok(())
    }

    fn paths(&self, key: &str) -> (PathBuf, PathBuf) {
        let named = |ending| self.folder.join(format!("{key}.{ending}"));
        (named("o"), named("cmd"))
    }
}

/// Whether the object may be one that the running build still reads.
fn recent(path: &Path) -> bool {
    const BUILD: Duration = Duration::from_secs(3600);
    let used = fs::metadata(path).and_then(|found| found.modified());
    used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since < BUILD))
}

/// The text beside a kept object, with its own digest found right.
struct Entry {
    words: String,
    inputs: Vec<String>,
    contents: String,
    object: String,
}

impl Entry {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (before, seal) = text.trim_end_matches('\n').rsplit_once('\n')?;
        let mut digests = seal.strip_prefix(SEAL)?.split(' ');
        let mut next = || digests.next().map(str::to_owned);
        let (contents, object, own) = (next()?, next()?, next()?);
        let lines = format!("{before}\n");
        if digest(lines.as_bytes()) != own {
            return None;
        }
        let inputs: Vec<String> = before
            .lines()
            .filter_map(|line| line.strip_prefix(INPUT))
            .map(str::to_owned)
            .collect();
        Some(Self {
            words: lines,
            inputs,
            contents,
            object,
        })
    }
}

/// Reads the files that the compiler says it read, from the rule it wrote for `make`.
///
/// Pure. Names with blanks do not come in a kernel tree; such a rule gives nothing.
pub(super) fn inputs(rule: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(rule).ok()?;
    let (_, names) = text.split_once(": ")?;
    let mut inputs: Vec<String> = Vec::new();
    for name in names.split_ascii_whitespace() {
        match name {
            "\\" => {}
            name if name.contains('\\') || inputs.len() == MOST_INPUTS => return None,
            name => inputs.push(name.to_owned()),
        }
    }
    inputs.sort();
    inputs.dedup();
    Some(inputs)
}

/// The inputs that Kbuild noted in a `.cmd` file, as [`inputs`] finds them in the compiler's own rule,
/// which Kbuild removes.
pub(super) fn noted_inputs(saved: &str) -> Vec<String> {
    let listed = |line: &&str| !line.contains('$') && !line.contains(':');
    let mut inputs: Vec<String> = saved
        .lines()
        .skip_while(|line| !line.starts_with("deps_"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .filter(listed)
        .chain(
            saved
                .lines()
                .filter(|line| line.starts_with("source_"))
                .filter_map(|line| line.split_once(" := "))
                .map(|(_, unit)| unit),
        )
        .map(|line| line.trim().trim_end_matches('\\').trim_end().to_owned())
        .filter(|name| !name.is_empty())
        .take(MOST_INPUTS)
        .collect();
    inputs.sort();
    inputs.dedup();
    inputs
}

/// A text that is another one for every build of the programs: names of versions do not tell a patched
/// compiler from the one it was patched from.
pub(super) fn identity(programs: &[&Path]) -> String {
    let mut hash = Sha256::new();
    for program in programs {
        hash.update([0]);
        // A kernel without objtool has none.
        let Ok(bytes) = Map::open(program) else {
            continue;
        };
        let build_id = ElfFile::parse(&bytes)
            .ok()
            .and_then(|file| verify::build_id(&file));
        match build_id {
            Some(id) => hash.update(id.to_string()),
            None => hash.update(&bytes[..]),
        }
    }
    hex::encode(hash.finalize())
}

/// Entry for fuzzing: reads bytes as the text beside an object, and as lists of inputs.
pub(super) fn fuzz(bytes: &[u8]) {
    Entry::read(bytes);
    inputs(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        noted_inputs(text);
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, TreeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TreeError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "cmd_a.o := gcc -pg -c -o a.o a.c\n";

    struct Bench {
        folder: tempfile::TempDir,
        tree: PathBuf,
        work: PathBuf,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let tree = folder.path().join("tree");
            fs::create_dir(&tree).unwrap();
            let work = folder.path().join("work");
            fs::create_dir(&work).unwrap();
            for name in ["a.c", "a.h", "a.o"] {
                fs::write(tree.join(name), name).unwrap();
                fs::write(work.join(name), name).unwrap();
            }
            Self { folder, tree, work }
        }

        fn originals(&self, limit: u64) -> Originals<'_> {
            let folder = self.folder.path().join("objects");
            Originals::below(folder, &self.tree, &self.work, limit).unwrap()
        }

        fn keep(&self, originals: &Originals<'_>, key: &str) -> Original {
            let inputs = ["a.c".to_owned(), "a.h".to_owned()];
            originals
                .keep(key, "a.o", &self.tree, WORDS, &inputs)
                .unwrap()
        }

        /// Keeps what Kbuild made, of a header that it generated, too.
        fn keep_generated(&self, originals: &Originals<'_>, key: &str) {
            let inputs = ["a.c", "a.h", "generated.h"].map(str::to_owned);
            originals
                .keep(key, "a.o", &self.work, WORDS, &inputs)
                .unwrap();
        }
    }

    #[test]
    fn an_object_made_of_another_generated_header_is_not_found() {
        let bench = Bench::new();
        let originals = bench.originals(LIMIT);
        let generated = bench.work.join("generated.h");
        let found = || originals.find("k", "a.o").unwrap().is_some();
        fs::write(&generated, "one").unwrap();
        bench.keep_generated(&originals, "k");
        assert!(found());
        fs::write(&generated, "two").unwrap();
        assert!(!found());
        bench.keep_generated(&originals, "k");
        fs::remove_file(&generated).unwrap();
        assert!(!found());
    }

    #[test]
    fn an_object_of_a_header_that_kbuild_made_otherwise_is_not_found() {
        let bench = Bench::new();
        let originals = bench.originals(LIMIT);
        fs::write(bench.work.join("generated.h"), "one").unwrap();
        fs::write(bench.work.join("a.h"), "otherwise").unwrap();
        bench.keep_generated(&originals, "k");
        assert!(originals.find("k", "a.o").unwrap().is_none());
    }

    #[test]
    fn what_is_kept_is_found_until_what_it_was_made_of_changes() {
        let bench = Bench::new();
        let originals = bench.originals(LIMIT);
        assert!(originals.find("k", "a.o").unwrap().is_none());
        assert!(!bench.keep(&originals, "k").cached);
        let found = originals.find("k", "a.o").unwrap().unwrap();
        assert!(found.cached && found.command.traceable);
        assert_eq!(fs::read(&found.path).unwrap(), b"a.o");
        fs::write(bench.tree.join("a.h"), "another").unwrap();
        assert!(originals.find("k", "a.o").unwrap().is_none());
    }

    #[test]
    fn an_entry_with_a_wrong_byte_is_made_anew() {
        let bench = Bench::new();
        let originals = bench.originals(LIMIT);
        for ending in ["o", "cmd"] {
            bench.keep(&originals, "k");
            let path = bench.folder.path().join("objects/k").with_extension(ending);
            let right = fs::read(&path).unwrap();
            for at in 0..right.len() {
                bench.keep(&originals, "k");
                let mut wrong = right.clone();
                wrong[at] ^= 1;
                fs::write(&path, &wrong).unwrap();
                let found = originals.find("k", "a.o").unwrap();
                assert!(found.is_none(), "byte {at} of {ending}");
                assert!(!path.exists());
            }
            fs::write(&path, &right[..right.len() / 2]).unwrap();
            assert!(originals.find("k", "a.o").unwrap().is_none());
        }
    }

    #[test]
    fn the_longest_unused_objects_make_room() {
        let bench = Bench::new();
        let originals = bench.originals(LIMIT);
        let old = |key: &str, hours: u64| {
            let path = bench.keep(&originals, key).path;
            let when = SystemTime::now() - Duration::from_secs(hours * 3600);
            let file = fs::File::options().append(true).open(path).unwrap();
            file.set_modified(when).unwrap();
        };
        old("oldest", 9);
        old("used", 8);
        old("young", 2);
        assert!(originals.find("used", "a.o").unwrap().is_some());
        // Room for three objects of three bytes, and a fourth comes.
        bench.keep(&bench.originals(10), "new");
        let there = |key: &str| originals.find(key, "a.o").unwrap().is_some();
        assert!(!there("oldest") && there("young") && there("used") && there("new"));
    }

    #[test]
    fn the_files_that_kbuild_noted_are_listed() {
        let saved = "cmd_a.o := gcc -c -o a.o a.c\n\nsource_a.o := a.c\n\ndeps_a.o := \\\n    $(wildcard include/config/X) \\\n  include/x.h \\\n\na.o: $(deps_a.o)\n";
        assert_eq!(noted_inputs(saved), ["a.c", "include/x.h"]);
        assert!(noted_inputs("").is_empty());
    }

    #[test]
    fn another_program_has_another_identity() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("cc1");
        fs::write(&program, "one").unwrap();
        let one = identity(&[&program]);
        fs::write(&program, "two").unwrap();
        assert_ne!(one, identity(&[&program]));
        assert_ne!(one, identity(&[]));
    }

    #[test]
    fn the_files_a_compiler_read_are_listed() {
        let rule = b"a.o: b.c \\\n include/x.h b.c \\\n  y.h\n";
        assert_eq!(inputs(rule).unwrap(), ["b.c", "include/x.h", "y.h"]);
        assert_eq!(inputs(b"a.o: odd\\ name.h\n"), None);
        assert_eq!(inputs(b""), None);
    }
}
