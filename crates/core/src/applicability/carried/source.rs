//! A source file, ready to be searched.

use std::collections::BTreeMap;
use std::ops::Range;

use super::whole;
use crate::ctext::{self, Chunk, CodeLine, FunctionExtent};

/// One file of C, ready to be searched for changes.
#[derive(Clone, Debug)]
pub struct Source {
    lines: Vec<CodeLine>,
    functions: Vec<FunctionExtent>,
    /// Indices of `lines`, by their text.
    order: Vec<u32>,
    /// For each of `lines`, whether the preprocessor may leave it out.
    conditional: Vec<bool>,
    chunks: Vec<Chunk>,
    macros: BTreeMap<String, Vec<String>>,
}

impl Source {
    /// Reads a file.
    pub fn read(text: &str) -> Self {
        let mut lines = ctext::code_lines(text);
        // More than this is no source file; what is cut off cannot be found, which is no proof.
        lines.truncate(1 << 20);
        let mut order: Vec<u32> = (0..u32::try_from(lines.len()).unwrap_or(0)).collect();
        order.sort_by(|left, right| code(&lines, *left).cmp(code(&lines, *right)));
        let functions = ctext::functions(text);
        let chunks = ctext::outline_by(text, &functions);
        Self {
            macros: whole::macros(&chunks),
            chunks,
            functions,
            conditional: conditional(&lines),
            lines,
            order,
        }
    }

    /// Returns its functions.
    pub fn functions(&self) -> &[FunctionExtent] {
        &self.functions
    }

    /// Returns the lines that hold code.
    pub fn lines(&self) -> &[CodeLine] {
        &self.lines
    }

    /// Returns its definitions.
    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Returns the directives that define or undefine each name, in order.
    pub(super) fn macros(&self) -> &BTreeMap<String, Vec<String>> {
        &self.macros
    }

    /// Returns about how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        let lines = self.lines.iter().map(|line| line.code.len() + 48);
        // The chunks hold the code once more.
        2 * lines.sum::<usize>() + self.functions.len() * 96
    }

    /// Returns the function of which line `number` is.
    pub fn function_at(&self, number: u32) -> Option<&FunctionExtent> {
        let after = self
            .functions
            .partition_point(|extent| extent.first_line <= number);
        let extent = self.functions.get(after.checked_sub(1)?)?;
        (extent.last_line >= number).then_some(extent)
    }

    /// Returns the indices of the lines that read `code`.
    pub(super) fn places(&self, code: &str) -> &[u32] {
        let text = |at: &u32| crate::applicability::carried::source::code(&self.lines, *at);
        let first = self.order.partition_point(|at| text(at) < code);
        let end = self.order.partition_point(|at| text(at) <= code);
        self.order.get(first..end).unwrap_or_default()
    }

    /// Returns the indices of the lines of each function named `name`.
    pub(super) fn homes(&self, name: &str) -> Vec<Range<usize>> {
        let index = |number: u32| self.lines.partition_point(|line| line.number < number);
        self.functions
            .iter()
            .filter(|extent| extent.name == name)
            .map(|extent| index(extent.first_line)..index(extent.last_line.saturating_add(1)))
            .collect()
    }

    /// Returns the text of the line at `index`.
    pub(super) fn code_at(&self, index: usize) -> Option<&str> {
        self.lines.get(index).map(|line| line.code.as_str())
    }

    /// Tells whether the preprocessor may leave the line at `index` out.
    pub(super) fn is_conditional(&self, index: usize) -> bool {
        self.conditional.get(index).copied().unwrap_or(false)
    }

    /// Returns the number in the file of the line at `index`.
    pub(super) fn number_at(&self, index: usize) -> Option<u32> {
        self.lines.get(index).map(|line| line.number)
    }
}

/// Tells of each line whether it is between an `#if` and its `#endif`, these included.
fn conditional(lines: &[CodeLine]) -> Vec<bool> {
    let mut depth = 0_u32;
    lines
        .iter()
        .map(|line| {
            let directive = line.code.strip_prefix("# ").unwrap_or_default();
            if directive.starts_with("if") {
                depth = depth.saturating_add(1);
            }
            let is_within = depth > 0;
            if directive.starts_with("endif") {
                depth = depth.saturating_sub(1);
            }
            is_within
        })
        .collect()
}

fn code(lines: &[CodeLine], at: u32) -> &str {
    usize::try_from(at)
        .ok()
        .and_then(|at| lines.get(at))
        .map_or("", |line| &line.code)
}
