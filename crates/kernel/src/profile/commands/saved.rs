//! What Kbuild leaves beside the files it makes: `.NAME.cmd`, `NAME.mod` and `modules.order`.
//!
//! Pure. Of a `.cmd` file only what names files is read here; the command of one unit, with its flags,
//! is [`crate::replay::command`]'s matter.

use super::has_end;

/// Longest file that is read, in bytes.
pub(super) const LONGEST: usize = 16 << 20;

/// What one `.cmd` file says. Paths are as Kbuild wrote them, relative to where it worked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved<'a> {
    /// The file made.
    pub(super) target: &'a str,
    /// The shell text that makes it.
    pub(super) command: &'a str,
    /// The one source it is made from, where Kbuild knows one.
    pub(super) source: Option<&'a str>,
    /// Every other file the compiler read.
    pub(super) read: Vec<&'a str>,
}

/// Why a text is not of the form expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Too long, or not UTF-8.
    #[error("it is too long or not text")]
    NotText,
    /// The first line is neither `cmd_FILE := …` nor `savedcmd_FILE := …`.
    #[error("its first line is no saved command")]
    NoCommand,
    /// A line names no object.
    #[error("line {line} names no object")]
    NoObject {
        /// The line, from 1.
        line: usize,
    },
}

/// Reads a `.cmd` file.
pub(super) fn read(bytes: &[u8]) -> Result<Saved<'_>, SavedError> {
    let text = text(bytes)?;
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let (target, command) = first
        .strip_prefix("savedcmd_")
        .or_else(|| first.strip_prefix("cmd_"))
        .and_then(|rest| rest.split_once(":="))
        .map(|(target, command)| (target.trim(), command.trim()))
        .filter(|(target, _)| !target.is_empty())
        .ok_or(SavedError::NoCommand)?;
    let mut saved = Saved {
        target,
        command,
        ..Saved::default()
    };
    let mut inside = false;
    for line in lines {
        let mut list = line;
        if !inside {
            if let Some(rest) = line.strip_prefix("source_") {
                saved.source = rest.split_once(":=").map(|(_, path)| path.trim());
            }
            let Some((_, rest)) = line
                .strip_prefix("deps_")
                .and_then(|rest| rest.split_once(":="))
            else {
                continue;
            };
            list = rest;
        }
        inside = list.trim_end().ends_with('\\');
        let list = list.trim_end().trim_end_matches('\\').trim();
        // `$(wildcard include/config/NAME)` names a setting, not a file that was read.
        if !list.contains("$(") {
            saved.read.extend(list.split_whitespace());
        }
    }
    Ok(saved)
}

/// Returns the members an archive or module is linked from, by its command: `ar`, or `ld` with the
/// objects as words; `printf "FOLDER/%s " NAME…` names them below a folder.
pub(super) fn members(saved: &Saved<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut prefix = "";
    let mut words = saved.command.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "printf" => {
                let format = words.next().unwrap_or_default().trim_matches(['"', '\'']);
                prefix = format.strip_suffix("%s").unwrap_or_default();
            }
            "|" | ";" => prefix = "",
            // The target itself, after `rm -f`, `ar FLAGS` and `-o`.
            word if word == saved.target => {}
            word => {
                let word = word.trim_end_matches(';');
                if has_end(word, "o") || has_end(word, "a") {
                    found.push(format!("{prefix}{word}"));
                }
            }
        }
    }
    found.retain(|member| member != saved.target);
    found
}

/// Reads a `.mod` file: the objects of one module. Older kernels write them on one line, with the
/// symbols the module wants on the next.
pub(super) fn module(bytes: &[u8]) -> Result<Vec<&str>, SavedError> {
    let mut objects = Vec::new();
    for (number, line) in text(bytes)?.lines().enumerate() {
        let words = line.split_whitespace();
        let before = objects.len();
        objects.extend(words.filter(|word| has_end(word, "o")));
        if number == 0 && objects.len() == before {
            return Err(SavedError::NoObject { line: 1 });
        }
    }
    if objects.is_empty() {
        return Err(SavedError::NoObject { line: 1 });
    }
    Ok(objects)
}

/// Reads `modules.order`: every module of a build, as paths without their ending. The ending is `.ko`
/// in older kernels, `.o` in newer ones.
pub(super) fn order(bytes: &[u8]) -> Result<Vec<&str>, SavedError> {
    text(bytes)?
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            let line = line.trim();
            line.strip_suffix(".ko")
                .or_else(|| line.strip_suffix(".o"))
                .ok_or(SavedError::NoObject { line: number + 1 })
        })
        .collect()
}

fn text(bytes: &[u8]) -> Result<&str, SavedError> {
    if bytes.len() > LONGEST {
        return Err(SavedError::NotText);
    }
    std::str::from_utf8(bytes).map_err(|_| SavedError::NotText)
}

/// Entry for fuzzing: reads bytes as each of the files.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(saved) = read(bytes) {
        members(&saved);
    }
    module(bytes).ok();
    order(bytes).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "cmd_net/x.o := gcc -D__KERNEL__ -c -o net/x.o net/x.c\n\n\
        source_net/x.o := net/x.c\n\ndeps_net/x.o := \\\n    $(wildcard include/config/A) \\\n  \
        include/linux/a.h \\\n  net/x.h \\\n\nnet/x.o: $(deps_net/x.o)\n\n$(deps_net/x.o):\n";

    #[test]
    fn a_unit_names_its_source_and_every_file_it_read() {
        for text in [UNIT.to_owned(), UNIT.replacen("cmd_", "savedcmd_", 1)] {
            let saved = read(text.as_bytes()).unwrap();
            assert_eq!(saved.target, "net/x.o");
            assert_eq!(saved.source, Some("net/x.c"));
            assert_eq!(saved.read, ["include/linux/a.h", "net/x.h"]);
        }
    }

    #[test]
    fn an_archive_names_its_members_below_their_folder_or_whole() {
        for (text, expected) in [
            (
                "cmd_net/built-in.a := rm -f net/built-in.a;  printf \"net/%s \" socket.o core/built-in.a | xargs ar cDPrST net/built-in.a",
                vec!["net/socket.o", "net/core/built-in.a"],
            ),
            (
                "cmd_net/built-in.a := rm -f net/built-in.a; ar cDPrST net/built-in.a net/socket.o",
                vec!["net/socket.o"],
            ),
            (
                "savedcmd_fs/x/y.ko := ld -r -m elf_x86_64 --build-id=sha1 -T scripts/module.lds -o fs/x/y.ko fs/x/y.o fs/x/y.mod.o .module-common.o;  make -f ./x fs/x/y.ko",
                vec!["fs/x/y.o", "fs/x/y.mod.o", ".module-common.o"],
            ),
            (
                "cmd_fs/built-in.a := rm -f fs/built-in.a;  ar cDPrST fs/built-in.a",
                vec![],
            ),
        ] {
            assert_eq!(members(&read(text.as_bytes()).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_module_lists_its_objects_in_both_forms() {
        assert_eq!(module(b"a/b.o\na/c.o\n").unwrap(), ["a/b.o", "a/c.o"]);
        assert_eq!(module(b"a/b.o a/c.o\nprintk kfree\n").unwrap().len(), 2);
        assert_eq!(module(b""), Err(SavedError::NoObject { line: 1 }));
    }

    #[test]
    fn the_order_of_modules_is_read_in_both_forms() {
        assert_eq!(order(b"a/b.ko\nc.o\n").unwrap(), ["a/b", "c"]);
        assert_eq!(order(b"").unwrap(), [""; 0]);
        assert_eq!(order(b"a/b.ko\nx\n"), Err(SavedError::NoObject { line: 2 }));
    }

    #[test]
    fn a_cut_or_garbled_file_is_read_or_refused() {
        for end in 0..UNIT.len() {
            fuzz(&UNIT.as_bytes()[..end]);
        }
        for at in 0..UNIT.len() {
            let mut bytes = UNIT.as_bytes().to_vec();
            bytes[at] = 0xff;
            fuzz(&bytes);
        }
        assert_eq!(read(b"x := y"), Err(SavedError::NoCommand));
        assert_eq!(read(&vec![b'a'; LONGEST + 1]), Err(SavedError::NotText));
    }
}
