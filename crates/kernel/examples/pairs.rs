//! Writes the object pairs of a fix into a folder: `pairs CACHE RELEASE FIX OUT`.
//!
//! `OUT/DIR__x.orig.o`, `OUT/DIR__x.patched.o` and `OUT/pairs.json`.
#![expect(
    clippy::print_stderr,
    reason = "a program for developers; its words go to a terminal"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, error, fs};

use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::replay::{self, Budget, Replayed};
use tuxtape_kernel::unified;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [cache, release, fix, out] = arguments.as_slice() else {
        eprintln!("usage: pairs CACHE RELEASE FIX OUT");
        return ExitCode::from(2);
    };
    match pairs(Path::new(cache), release, Path::new(fix), Path::new(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut words = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                words = format!("{words}: {inner}");
                cause = inner.source();
            }
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

fn pairs(cache: &Path, release: &str, fix: &Path, out: &Path) -> Result<(), Box<dyn error::Error>> {
    let files = KernelFiles::below(cache, &release.parse()?);
    let diff = unified::parse(&fs::read(fix)?)?;
    fs::create_dir_all(out)?;
    let replayed = replay::compile_pair(&files, &diff, None, &Budget::default(), out)?;
    fs::write(out.join("pairs.json"), describe(&replayed, out)?)?;
    Ok(())
}

fn describe(replayed: &Replayed, out: &Path) -> Result<String, Box<dyn error::Error>> {
    let mut pairs = Vec::new();
    for pair in &replayed.pairs {
        let original = PathBuf::from(format!("{}.orig.o", replay::flat(&pair.object)));
        fs::copy(&pair.original, out.join(&original))?;
        pairs.push(serde_json::json!({
            "unit": pair.unit,
            "object": pair.object,
            "parent": pair.parent,
            "original": original,
            "patched": pair.patched.file_name().map(|name| name.to_string_lossy()),
            "traceable": pair.traceable,
            "objtool": pair.command.objtool,
            "exports": pair.command.exports,
            "line_numbers_kept": pair.lines_kept,
            "seconds": pair.took.as_secs_f64(),
            "command": pair.command.shell,
        }));
    }
    let all = serde_json::json!({
        "pairs": pairs,
        "unused": replayed.unused,
        "warnings": replayed.warnings,
    });
    Ok(serde_json::to_string_pretty(&all)?)
}
