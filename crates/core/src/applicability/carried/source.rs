//! A source file, ready to be searched.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::align;
use super::whole::{self, KEYWORDS};
use crate::ctext::{self, Chunk, ChunkKind, CodeLine, FunctionExtent};

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

    /// Returns the indices of the lines of the function of which line `number` is.
    pub(super) fn home_at(&self, number: u32) -> Option<Range<usize>> {
        let extent = self.function_at(number)?;
        let homes = self.homes(&extent.name).into_iter();
        let index = self.lines.partition_point(|line| line.number < number);
        homes.into_iter().find(|home| home.contains(&index))
    }

    /// Returns the text of the line at `index`.
    pub(super) fn code_at(&self, index: usize) -> Option<&str> {
        self.lines.get(index).map(|line| line.code.as_str())
    }

    /// Tells whether the preprocessor may leave the line at `index` out.
    pub(super) fn is_conditional(&self, index: usize) -> bool {
        self.conditional.get(index).copied().unwrap_or(false)
    }

    /// Tells whether a statement ends before the line at `index`, so that what is there is under no
    /// `if (0)` of the line before.
    pub(super) fn begins_statement(&self, index: usize) -> bool {
        let before = index.checked_sub(1).and_then(|at| self.code_at(at));
        before.is_none_or(ends_statement)
    }

    /// Says whether something of the file keeps `code` at line `number` from having its effect: a jump
    /// before it, a block that never runs, a macro of one of its names.
    pub(super) fn is_undone(&self, number: u32, code: &[CodeLine]) -> bool {
        let holds = |it: &&Chunk| (it.lines.0..=it.lines.1).contains(&number);
        let chunk = self.chunks.iter().find(holds);
        let is_cut_off = chunk.is_some_and(|chunk| {
            let place = chunk.units.iter().position(|unit| unit.line >= number);
            chunk.kind == ChunkKind::Function
                && place.is_some_and(|at| align::is_cut_off(&chunk.units, at))
        });
        let mut names: BTreeSet<&str> = code.iter().flat_map(|it| it.code.split(' ')).collect();
        names.extend(chunk.map(|chunk| chunk.key.as_str()));
        let is_function = |name: &str| self.functions.iter().any(|it| it.name == name);
        let is_remade = |name: &str, defined: &[String]| {
            let is_once = matches!(defined, [one] if one.starts_with("# define "));
            // The file's own errors would be those of its headers.
            let is_error = name.starts_with('E')
                && name.len() > 3
                && name
                    .bytes()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
            !is_once || is_function(name) || is_error
        };
        let words = chunk.map(|chunk| &chunk.units).into_iter().flatten();
        let mut words = words
            .filter(|unit| unit.line < number)
            .flat_map(|unit| unit.code.split(' '));
        // A macro of the file, before it in the function, that jumps; the change may not know of it.
        let jumps = |name: &str| {
            let defined = self.macros.get(name).into_iter().flatten();
            let mut bodies = defined.flat_map(|body| body.split(' '));
            bodies.any(|word| matches!(word, "goto" | "return"))
        };
        is_cut_off
            || words.any(jumps)
            || KEYWORDS.iter().any(|word| self.macros.contains_key(*word))
            || names.into_iter().any(|name| {
                let defined = self.macros.get(name);
                defined.is_some_and(|defined| is_remade(name, defined))
            })
    }

    /// Tells whether the file has a type or a value whose head is `heading`, and line `number` is not in
    /// it.
    pub(super) fn is_beside(&self, heading: &str, number: u32) -> bool {
        let mut heads = ctext::code_lines(heading).into_iter();
        let (Some(head), None) = (heads.next(), heads.next()) else {
            return false;
        };
        let same = |it: &&Chunk| it.kind == ChunkKind::Braced && it.key == head.code;
        let mut own = self.chunks.iter().filter(same).peekable();
        own.peek().is_some() && !own.any(|it| (it.lines.0..=it.lines.1).contains(&number))
    }

    /// Returns the number in the file of the line at `index`.
    pub(super) fn number_at(&self, index: usize) -> Option<u32> {
        self.lines.get(index).map(|line| line.number)
    }
}

/// Tells of each line whether it is between an `#if` and its `#endif`, these included. The guard of a
/// header is none.
fn conditional(lines: &[CodeLine]) -> Vec<bool> {
    let mut depth = 0_u32;
    let mut depths: Vec<u32> = Vec::with_capacity(lines.len());
    for line in lines {
        let directive = line.code.strip_prefix("# ").unwrap_or_default();
        if directive.starts_with("if") {
            depth = depth.saturating_add(1);
        }
        depths.push(depth);
        if directive.starts_with("endif") {
            depth = depth.saturating_sub(1);
        }
    }
    let guarded = match lines {
        [first, second, .., last] => {
            let name = first.code.strip_prefix("# ifndef ");
            let defined = second.code.strip_prefix("# define ");
            let is_guard = name.is_some() && name == defined && last.code.starts_with("# endif");
            is_guard && depths.iter().all(|depth| *depth > 0)
        }
        _ => false,
    };
    let open = u32::from(guarded);
    depths.into_iter().map(|depth| depth > open).collect()
}

/// Tells whether what follows a line is under no head on it.
pub(super) fn ends_statement(code: &str) -> bool {
    code.ends_with([';', '{', '}', ':']) || code.starts_with('#')
}

fn code(lines: &[CodeLine], at: u32) -> &str {
    usize::try_from(at)
        .ok()
        .and_then(|at| lines.get(at))
        .map_or("", |line| &line.code)
}
