//! C source as text: its lines without comments and blanks, and where its functions are.
//!
//! No preprocessor and no parser: enough to say in which function a line of kernel source lies. Where
//! braces do not add up the region is in no function, rather than in a wrong one.

mod extents;
mod lexer;
mod operands;
mod outline;
mod units;

pub use extents::{FunctionExtent, functions};
pub use lexer::{CodeLine, code_lines};
pub use operands::{Operand, Role, is_name, operands};
pub use outline::{Chunk, ChunkKind, outline, outline_by};
pub use units::Unit;

/// Entry for fuzzing: reads bytes as C source.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    let mut last = 0;
    for extent in functions(&text) {
        assert!(
            extent.first_line > last && extent.first_line <= extent.last_line,
            "functions are apart and in order"
        );
        last = extent.last_line;
        assert!(
            usize::try_from(last).is_ok_and(|last| last <= lines),
            "a function lies in its text"
        );
    }
    let mut last = 0;
    for chunk in outline(&text) {
        let (first, end) = chunk.lines;
        assert!(last <= first && first <= end, "chunks are in order");
        assert!(!chunk.units.is_empty(), "a chunk has code");
        last = first;
    }
    for line in code_lines(&text) {
        assert!(!line.code.is_empty(), "a line of code has code");
        for operand in operands(&line.code) {
            assert!(operand.holds(&operand.path), "an operand is itself");
        }
    }
}
