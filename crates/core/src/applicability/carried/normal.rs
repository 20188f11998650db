//! The lines of a hunk in normal form, cut into blocks.

use std::ops::Range;

use super::{BlockAt, FixHunk, FixLine, FixSide, Source, align, source};
use crate::ctext::{self, CodeLine};

/// Fewest tokens of a line that says anything: `return 0;` and `goto out;` stand everywhere.
const TELLING: u32 = 4;

/// A hunk without comments, blanks and indentation. Lines that differ in those alone are context.
pub(super) struct NormalHunk {
    old: Vec<CodeLine>,
    new: Vec<CodeLine>,
    /// The text that each side was read from.
    old_text: String,
    new_text: String,
    heading: String,
    blocks: Vec<BlockAt>,
}

impl NormalHunk {
    pub(super) fn of(hunk: &FixHunk) -> Self {
        let old_text = text(&hunk.lines, FixSide::New);
        let new_text = text(&hunk.lines, FixSide::Old);
        let old = ctext::code_lines(&old_text);
        let new = ctext::code_lines(&new_text);
        let pairs = pairs(&hunk.lines, &old, &new).unwrap_or_else(|| common(&old, &new));
        let mut blocks = Vec::new();
        let (mut from_old, mut from_new) = (0, 0);
        for (at_old, at_new) in pairs.into_iter().chain([(old.len(), new.len())]) {
            if at_old > from_old || at_new > from_new {
                blocks.push(BlockAt {
                    old: from_old..at_old,
                    new: from_new..at_new,
                    function: None,
                });
            }
            (from_old, from_new) = (at_old + 1, at_new + 1);
        }
        let mut normal = Self {
            old,
            new,
            old_text,
            new_text,
            heading: hunk.heading.clone(),
            blocks,
        };
        normal.name(hunk);
        normal
    }

    /// Names the function of each block: the last whose head stands before it in the hunk, else the
    /// heading's.
    fn name(&mut self, hunk: &FixHunk) {
        let heads: Vec<(u32, Option<String>)> = new_heads(&hunk.lines);
        for block in &mut self.blocks {
            let number = self.new.get(block.new.start).map(|line| line.number);
            let before = heads
                .iter()
                .rev()
                .find(|(line, _)| number.is_none_or(|number| *line < number));
            block.function = match before {
                Some((_, name)) => name.clone(),
                None => head_name(&hunk.heading),
            };
            // A block that changes heads itself is in no one function.
            let own = |line: &CodeLine| heads.iter().any(|(number, _)| *number == line.number);
            if self
                .new
                .get(block.new.clone())
                .unwrap_or_default()
                .iter()
                .any(own)
            {
                block.function = None;
            }
        }
    }

    pub(super) fn blocks(&self) -> &[BlockAt] {
        &self.blocks
    }

    /// Returns the line that begins the definition in which a block's new side is, as far as the hunk
    /// says.
    pub(super) fn heading(&self, block: &BlockAt) -> &str {
        let number = self.new.get(block.new.start).map(|line| line.number);
        let before = number.and_then(|number| usize::try_from(number).ok());
        let mut heading = self.heading.as_str();
        let shown = self.new_text.lines();
        for line in shown.take(before.unwrap_or(1).saturating_sub(1)) {
            match line.bytes().next() {
                Some(b'}') => heading = "",
                Some(c) if c.is_ascii_alphabetic() || c == b'_' => heading = line,
                Some(_) | None => {}
            }
        }
        heading
    }

    /// Tells whether the new side of a block, found at index `at` of `source` without the line before
    /// it, is controlled there by nothing else than it is in the change.
    pub(super) fn begins(&self, block: &BlockAt, source: &Source, at: usize) -> bool {
        let before = block
            .new
            .start
            .checked_sub(1)
            .and_then(|at| self.new.get(at));
        let is_free = before
            .is_none_or(|line| source::ends_statement(&line.code) && !line.code.ends_with('{'));
        is_free && source.begins_statement(at)
    }

    /// Tells whether a line of the new side begins or ends a definition or its body.
    pub(super) fn is_margin(&self, line: &CodeLine) -> bool {
        let at = usize::try_from(line.number).ok();
        let text = at.and_then(|at| self.new_text.lines().nth(at.checked_sub(1)?));
        let text = text.unwrap_or_default();
        let is_label = text.trim_end().ends_with(':') && !text.contains('(');
        let first = text.bytes().next();
        first.is_some_and(|byte| matches!(byte, b'{' | b'}' | b'_') || byte.is_ascii_alphabetic())
            && !is_label
    }

    /// Returns the lines of the old side that stand where the lines `new` around `block` do.
    pub(super) fn old_of(&self, block: &BlockAt, new: &Range<usize>) -> Range<usize> {
        let old = |at: usize| {
            let before = self.blocks.iter().rev().find(|it| it.new.start <= at);
            before.map_or(at, |it| match at.checked_sub(it.new.end) {
                Some(behind) => it.old.end.saturating_add(behind),
                None => it.old.start,
            })
        };
        let start = if new.start == block.new.start {
            block.old.start
        } else {
            old(new.start)
        };
        let end = if new.end == block.new.end {
            block.old.end
        } else {
            old(new.end)
        };
        start..end.max(start)
    }

    pub(super) fn lines(&self, side: FixSide) -> &[CodeLine] {
        match side {
            FixSide::Old => &self.old,
            FixSide::New | FixSide::Both => &self.new,
        }
    }

    /// Returns the lines of a block in the text of one side, from 1, from the first to behind the last.
    pub(super) fn numbers(&self, block: &BlockAt, side: FixSide) -> Range<u32> {
        let own = match side {
            FixSide::Old => self.old.get(block.old.clone()),
            FixSide::New | FixSide::Both => self.new.get(block.new.clone()),
        };
        match own.unwrap_or_default() {
            [] => 0..0,
            [one] => one.number..one.number.saturating_add(1),
            [first, .., last] => first.number..last.number.saturating_add(1),
        }
    }

    /// Returns the names of the functions that a block brings which removes nothing and adds whole
    /// functions alone; else nothing.
    pub(super) fn brought(&self, block: &BlockAt) -> Vec<String> {
        let own = self.new.get(block.new.clone()).unwrap_or_default();
        let (Some(first), Some(last), true) = (own.first(), own.last(), block.old.is_empty())
        else {
            return Vec::new();
        };
        let number = |line: u32| usize::try_from(line).unwrap_or(usize::MAX);
        let text: String = self
            .new_text
            .lines()
            .take(number(last.number))
            .skip(number(first.number).saturating_sub(1))
            .flat_map(|line| [line, "\n"])
            .collect();
        let functions = ctext::functions(&text);
        let within = |line: &CodeLine| {
            functions
                .iter()
                .any(|extent| (extent.first_line..=extent.last_line).contains(&line.number))
        };
        if !ctext::code_lines(&text).iter().all(within) {
            return Vec::new();
        }
        functions.into_iter().map(|extent| extent.name).collect()
    }

    /// Returns a word that a block adds which is long enough to be a name and which neither the old
    /// side of the hunk nor `is_known` has.
    pub(super) fn new_word(
        &self,
        block: &BlockAt,
        is_known: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        const SHORTEST: usize = 4;
        let added = self.new.get(block.new.clone()).unwrap_or_default();
        added
            .iter()
            .flat_map(|line| line.code.split(' '))
            .filter(|word| word.len() >= SHORTEST && is_word(word))
            .find(|word| !has_word(&self.old, word) && !is_known(word))
    }

    /// Tells whether a block changes anything but what is included.
    pub(super) fn has_code(&self, block: &BlockAt) -> bool {
        let any = |lines: &[CodeLine], range: &Range<usize>| {
            let own = lines.get(range.clone()).unwrap_or_default();
            own.iter().any(|line| !line.code.starts_with("# include"))
        };
        any(&self.old, &block.old) || any(&self.new, &block.new)
    }

    /// Tells whether a block has a line by which it can be told.
    pub(super) fn is_telling(&self, block: &BlockAt) -> bool {
        let any = |lines: &[CodeLine], range: &Range<usize>| {
            lines
                .get(range.clone())
                .unwrap_or_default()
                .iter()
                .any(is_telling)
        };
        any(&self.old, &block.old) || any(&self.new, &block.new)
    }

    /// Returns the longest line of a block on `side`, else on the other one.
    pub(super) fn sample(&self, block: &BlockAt, side: FixSide) -> String {
        let longest = |lines: &[CodeLine], range: &Range<usize>, text: &str| {
            let own = lines.get(range.clone()).unwrap_or_default();
            let longest = own.iter().max_by_key(|line| line.tokens)?;
            let at = usize::try_from(longest.number).ok()?.checked_sub(1)?;
            text.lines().nth(at).map(|line| line.trim().to_owned())
        };
        let old = longest(&self.old, &block.old, &self.old_text);
        let new = longest(&self.new, &block.new, &self.new_text);
        let sample = match side {
            FixSide::Old => old.or(new),
            FixSide::New | FixSide::Both => new.or(old),
        };
        sample.unwrap_or_default()
    }
}

/// Tells whether a line is long enough to say anything. What is included changes no function.
pub(super) fn is_telling(line: &CodeLine) -> bool {
    line.tokens >= TELLING && !line.code.starts_with("# include")
}

/// Tells whether any of `lines` has `word` as a token.
pub(super) fn has_word(lines: &[CodeLine], word: &str) -> bool {
    lines
        .iter()
        .any(|line| line.code.contains(word) && line.code.split(' ').any(|token| token == word))
}

fn is_word(token: &str) -> bool {
    let mut bytes = token.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the text of a hunk without the lines of the `other` side.
pub(super) fn text(lines: &[FixLine], other: FixSide) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.side != other) {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

/// Returns the pairs of equal lines: the context as the diff has it, and between the removed and the
/// added lines of one run those that differ in blanks and comments alone. `None` where the context
/// reads differently on both sides, as where a comment begins or ends.
fn pairs(lines: &[FixLine], old: &[CodeLine], new: &[CodeLine]) -> Option<Vec<(usize, usize)>> {
    let context = |other: FixSide| -> Vec<bool> {
        let own = lines.iter().filter(|line| line.side != other);
        own.map(|line| line.side == FixSide::Both).collect()
    };
    let of = |lines: &[CodeLine], marks: &[bool]| -> Vec<usize> {
        let is_context = |line: &CodeLine| {
            let at = usize::try_from(line.number).ok();
            at.and_then(|at| marks.get(at.checked_sub(1)?)) == Some(&true)
        };
        let numbered = lines.iter().enumerate();
        numbered
            .filter(|(_, line)| is_context(line))
            .map(|(at, _)| at)
            .collect()
    };
    let at_old = of(old, &context(FixSide::New));
    let at_new = of(new, &context(FixSide::Old));
    let same = |(left, right): (&usize, &usize)| matches!((old.get(*left), new.get(*right)), (Some(left), Some(right)) if left.code == right.code);
    if at_old.len() != at_new.len() || !at_old.iter().zip(&at_new).all(same) {
        return None;
    }
    let mut pairs = Vec::new();
    let (mut from_old, mut from_new) = (0, 0);
    let context = at_old.into_iter().zip(at_new);
    for (end_old, end_new) in context.chain([(old.len(), new.len())]) {
        let within = common(old.get(from_old..end_old)?, new.get(from_new..end_new)?);
        pairs.extend(
            within
                .into_iter()
                .map(|(left, right)| (from_old + left, from_new + right)),
        );
        if end_old < old.len() {
            pairs.push((end_old, end_new));
        }
        (from_old, from_new) = (end_old + 1, end_new + 1);
    }
    Some(pairs)
}

/// Returns the pairs of equal lines of a longest common subsequence.
fn common(old: &[CodeLine], new: &[CodeLine]) -> Vec<(usize, usize)> {
    fn codes(lines: &[CodeLine]) -> Vec<&str> {
        lines.iter().map(|line| line.code.as_str()).collect()
    }
    align::common(&codes(old), &codes(new))
}

/// Finds lines at the margin that begin a definition in the new side, with the function's name where
/// it is one's head, and where functions end.
fn new_heads(lines: &[FixLine]) -> Vec<(u32, Option<String>)> {
    let mut heads = Vec::new();
    let shown = lines.iter().filter(|line| line.side != FixSide::Old);
    for (number, line) in (1_u32..).zip(shown) {
        let text = line.text.as_str();
        let first = text.bytes().next();
        let begins = first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        // A label stands at the margin, too.
        let is_label = text.trim_end().ends_with(':') && !text.contains('(');
        if begins && !is_label {
            heads.push((number, head_name(text)));
        } else if first == Some(b'}') {
            heads.push((number, None));
        }
    }
    heads
}

/// Reads the function's name out of a line that begins its definition.
fn head_name(text: &str) -> Option<String> {
    // A head that is cut, as headings are, is closed to be read as one.
    let mut closed = text.trim_end().trim_end_matches('{').to_owned();
    if closed.contains(';') || closed.contains('=') {
        return None;
    }
    let open = closed.matches('(').count();
    let close = closed.matches(')').count();
    if open == 0 || close > open {
        return None;
    }
    closed.push_str(" x");
    closed.push_str(&")".repeat(open - close));
    closed.push_str("{}");
    if let Some(extent) = ctext::functions(&closed).pop() {
        return Some(extent.name);
    }
    // The return type is on the line before.
    let (name, _) = text.split_once('(')?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().any(|byte| byte.is_ascii_lowercase());
    is_name.then(|| name.to_owned())
}
