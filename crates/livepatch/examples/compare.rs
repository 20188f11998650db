//! Prints what changed between pairs of objects: `compare ORIG.o PATCHED.o [ORIG.o PATCHED.o …]`.

use std::process::ExitCode;

use tuxtape_livepatch::diff::compare;
use tuxtape_livepatch::tables::layout_for;

#[expect(clippy::print_stdout, reason = "an example prints")]
fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let tables = layout_for(6, 1).unwrap_or_default();
    for pair in paths.chunks_exact(2) {
        let (Ok(original), Ok(patched)) = (std::fs::read(&pair[0]), std::fs::read(&pair[1])) else {
            return ExitCode::FAILURE;
        };
        match compare(&pair[0], &original, &patched, tables) {
            Ok(found) => {
                let changed: Vec<&str> = found
                    .changed
                    .iter()
                    .map(|&id| found.original_name(id))
                    .collect();
                println!(
                    "{} changed {changed:?} new {:?}",
                    pair[0],
                    found.new_functions()
                );
                for refusal in &found.refusals {
                    println!("    {refusal}");
                }
            }
            Err(error) => println!("{} error {error}", pair[0]),
        }
    }
    ExitCode::SUCCESS
}
