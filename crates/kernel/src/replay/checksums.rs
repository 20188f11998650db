//! Checksums of what a unit exports, made as the kernel's own build makes them.
//!
//! A module that uses an export holds the checksum of its type. Kbuild makes them with genksyms of the
//! preprocessed unit, and notes them beside the object.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::symvers;
use tuxtape_sys::process;

use super::command::{self, SavedCommand};
use super::compile::{self, CompileError};
use super::tree::at;

/// The program that makes them, relative to a prepared tree; kernels without checksums have none.
const GENKSYMS: &str = "scripts/genksyms/genksyms";

/// Start of a line that Kbuild notes one in.
pub(super) const NOTED: &str = "#SYMVER ";

/// Returns name and checksum of each export of `object`, which `saved` made in `tree` of the source that
/// is there now. Empty where it exports nothing, or the kernel has no checksums.
///
/// Blocks for half a second where there are any. Exports that are not C have none here.
pub(super) fn of(
    tree: &Path,
    object: &str,
    saved: &SavedCommand,
    deadline: Duration,
) -> Result<Vec<(String, u32)>, CompileError> {
    let path = tree.join(object);
    let bytes = fs::read(&path).map_err(at(&path))?;
    let exports =
        ElfFile::parse(&bytes).is_ok_and(|file| symvers::exported(&file).next().is_some());
    if !exports || !tree.join(GENKSYMS).is_file() {
        return Ok(Vec::new());
    }
    let failed = |source| CompileError::Process {
        object: object.to_owned(),
        source,
    };
    let broken = |source| CompileError::Command {
        object: object.to_owned(),
        source,
    };
    let words = preprocessing(&saved.shell, object).map_err(broken)?;
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| broken(command::CommandError::NotThisObject))?;
    let mut compiler = Command::new(program);
    compile::plain_environment(&mut compiler);
    compiler.current_dir(tree).args(arguments);
    let text = process::run_ok(&mut compiler, deadline).map_err(failed)?;
    let mut genksyms = Command::new(format!("./{GENKSYMS}"));
    compile::plain_environment(&mut genksyms);
    genksyms.current_dir(tree).args(["-r", "/dev/null"]);
    let made = process::run_ok_with(&mut genksyms, &text.stdout, deadline).map_err(failed)?;
    command::versions(&String::from_utf8_lossy(&made.stdout)).map_err(broken)
}

/// Turns the command that compiles `object` into one that prints the preprocessed unit as genksyms reads
/// it, in words.
fn preprocessing(shell: &str, object: &str) -> Result<Vec<String>, command::CommandError> {
    let words = command::split(shell)?;
    let compile = words
        .split(|word| word == ";")
        .find(|command| command.iter().any(|word| word == "-c"))
        .unwrap_or_default();
    let mut kept: Vec<String> = compile
        .iter()
        .filter(|word| !matches!(word.as_str(), "-c" | "-o"))
        .filter(|word| *word != object && !word.starts_with("-Wp,-M"))
        .cloned()
        .collect();
    if !kept.is_empty() {
        kept.splice(1..1, ["-E", "-D__GENKSYMS__"].map(str::to_owned));
    }
    Ok(kept)
}

/// The lines in which Kbuild notes checksums.
pub(super) fn lines(checksums: &[(String, u32)]) -> String {
    let line = |(name, crc): &(String, u32)| format!("{NOTED}{name} {crc:#010x}\n");
    checksums.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_an_object_is_made_to_preprocess_it() {
        let shell = "gcc -Wp,-MMD,a/.b.o.d -DX='\"x y\"' -c -o a/b.o a/b.c  ; objtool a/b.o";
        let words = preprocessing(shell, "a/b.o").unwrap();
        assert_eq!(
            words,
            ["gcc", "-E", "-D__GENKSYMS__", "-DX=\"x y\"", "a/b.c"]
        );
    }

    #[test]
    fn what_is_noted_is_read_back() {
        let made = [("f".to_owned(), 0x0bad_cafe), ("g".to_owned(), 7)];
        assert_eq!(lines(&made[1..]), "#SYMVER g 0x00000007\n");
        assert_eq!(command::versions(&lines(&made)).unwrap(), made);
    }
}
