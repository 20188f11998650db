//! Reads the command that Kbuild saved for an object, and what it says of the object.
//!
//! Pure.

use tuxtape_core::identity::ObjectName;

/// Longest `.cmd` file that is read, in bytes.
pub const LONGEST_SAVED: usize = 8 << 20;

/// What a saved command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedCommand {
    /// The shell text that makes the object, run from the top of the tree.
    pub shell: String,
    /// The object the unit is linked into.
    pub parent: ObjectName,
    /// Whether the compiler leaves room at function entries, without which nothing can be patched.
    pub traceable: bool,
    /// Whether objtool is part of the command.
    pub objtool: bool,
    /// Checksums of exported symbols, as `genksyms` found them: name and CRC.
    pub exports: Vec<(String, u32)>,
}

/// Why a `.cmd` file tells no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Too long or not text.
    #[error("the saved command is too long or not text")]
    NotText,
    /// The first line is not `cmd_OBJECT := …` or `savedcmd_OBJECT := …` for this object.
    #[error("the first line is no saved command of this object")]
    NotThisObject,
    /// A quote is open at its end.
    #[error("the saved command has an open quote")]
    OpenQuote,
    /// A unit of a module without the module's name.
    #[error("the saved command is for a module and does not name it")]
    NoModuleName,
    /// What the compiler read for the object cannot be told.
    #[error("the list of files that the compiler read cannot be read")]
    Inputs,
    /// A checksum line is broken.
    #[error("a symbol version line of the saved command cannot be read")]
    Version,
}

/// Reads the `.cmd` file of `object` (relative to the top of the tree).
pub fn read(file: &[u8], object: &str) -> Result<SavedCommand, CommandError> {
    if file.len() > LONGEST_SAVED {
        return Err(CommandError::NotText);
    }
    let text = std::str::from_utf8(file).map_err(|_| CommandError::NotText)?;
    let shell = shell_of(text, object).ok_or(CommandError::NotThisObject)?;
    let words = split(&shell)?;
    let compiler = words
        .split(|word| word == ";")
        .find(|command| command.iter().any(|word| word == "-c"))
        .ok_or(CommandError::NotThisObject)?;
    let has = |wanted: &str| compiler.iter().any(|word| word == wanted);
    let parent = if has("-DMODULE") {
        compiler
            .iter()
            .find_map(|word| word.strip_prefix("-DKBUILD_MODNAME="))
            .map(|name| name.trim_matches('"'))
            .filter(|name| !name.is_empty())
            .ok_or(CommandError::NoModuleName)?
    } else {
        ObjectName::VMLINUX
    };
    let traceable = has("-pg")
        || has("-mfentry")
        || compiler
            .iter()
            .any(|word| word.starts_with("-fpatchable-function-entry="));
    let objtool = words
        .split(|word| word == ";")
        .filter_map(<[String]>::first)
        .any(|program| program.ends_with("tools/objtool/objtool"));
    Ok(SavedCommand {
        parent: ObjectName(parent.to_owned()),
        traceable,
        objtool,
        exports: versions(text)?,
        shell,
    })
}

/// The shell text in the first line of the `.cmd` file `text` of `target`, as Kbuild names it.
pub fn shell_of(text: &str, target: &str) -> Option<String> {
    let first = text.lines().next()?;
    first
        .strip_prefix("savedcmd_")
        .or_else(|| first.strip_prefix("cmd_"))
        .and_then(|rest| rest.strip_prefix(target))
        .and_then(|rest| rest.trim_start().strip_prefix(":="))
        .map(|rest| unescape(rest.trim()))
        .filter(|shell| !shell.is_empty())
}

/// The checksums of exports in lines as genksyms writes them; other lines do not matter.
pub(super) fn versions(text: &str) -> Result<Vec<(String, u32)>, CommandError> {
    text.lines()
        .filter_map(|line| line.strip_prefix(super::checksums::NOTED))
        .map(|line| version(line).ok_or(CommandError::Version))
        .collect()
}

fn version(line: &str) -> Option<(String, u32)> {
    let (name, crc) = line.split_once(' ')?;
    let crc = u32::from_str_radix(crc.trim().strip_prefix("0x")?, 16).ok()?;
    Some((name.to_owned(), crc))
}

/// Undoes what Kbuild does so that make can read the command back.
fn unescape(text: &str) -> String {
    text.replace("$(pound)", "#").replace("$$", "$")
}

/// Splits shell text into words; a `;` outside quotes is a word of its own.
///
/// Knows quotes and backslashes, which is all that compile commands use.
pub fn split(shell: &str) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut text = shell.chars();
    while let Some(c) = text.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(text.next()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ';') => {
                words.extend(word.take());
                words.push(";".to_owned());
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(CommandError::OpenQuote);
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "cmd_net/x/y-z.o := gcc -Wp,-MMD,net/x/.y-z.o.d -pg -mfentry  -DMODULE  -DKBUILD_BASENAME='\"y_z\"' -DKBUILD_MODNAME='\"x_mod\"' -c -o net/x/y-z.o net/x/y-z.c   ; ./tools/objtool/objtool --orc net/x/y-z.o\n\nsource_net/x/y-z.o := net/x/y-z.c\n#SYMVER x_do 0x0badcafe\n";

    #[test]
    fn a_module_unit_names_its_module() {
        let saved = read(MODULE.as_bytes(), "net/x/y-z.o").unwrap();
        assert_eq!(saved.parent, ObjectName("x_mod".to_owned()));
        assert!(saved.traceable && saved.objtool);
        assert_eq!(saved.exports, [("x_do".to_owned(), 0x0bad_cafe)]);
        assert!(saved.shell.contains("'\"x_mod\"'"), "{}", saved.shell);
    }

    #[test]
    fn a_built_in_unit_is_in_vmlinux_whatever_its_modname_says() {
        let saved = read(
            b"savedcmd_a.o := gcc -DKBUILD_MODNAME='\"proc\"' -c -o a.o a.c",
            "a.o",
        )
        .unwrap();
        assert!(saved.parent.is_vmlinux());
        assert!(!saved.traceable && !saved.objtool);
    }

    #[test]
    fn another_objects_command_is_not_taken() {
        assert_eq!(
            read(MODULE.as_bytes(), "net/x/y.o"),
            Err(CommandError::NotThisObject)
        );
        assert_eq!(read(b"", "a.o"), Err(CommandError::NotThisObject));
        assert_eq!(
            read(b"cmd_a.o := gcc -DX='\"a -c a.c", "a.o"),
            Err(CommandError::OpenQuote)
        );
        assert_eq!(
            read(b"cmd_a.o := gcc -DMODULE -c a.c", "a.o"),
            Err(CommandError::NoModuleName)
        );
    }

    #[test]
    fn kbuilds_own_escapes_are_undone() {
        let saved = read(b"cmd_a.o := gcc -DX=$(pound)$$ -c a.c", "a.o").unwrap();
        assert_eq!(saved.shell, "gcc -DX=#$ -c a.c");
    }
}
