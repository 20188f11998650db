//! The hunks that a diff with little context would have.

use std::ops::Range;

use super::{FixHunk, FixLine, FixSide, normal};

/// How many lines of context there are on each side.
const CONTEXT: usize = 3;

/// One hunk cut from one that shows a whole file.
pub(super) struct Part {
    pub(super) hunk: FixHunk,
    /// How many lines of each side are before it.
    old_before: u32,
    new_before: u32,
}

impl Part {
    /// Returns where lines of the old side are in the whole file.
    pub(super) fn old_lines(&self, own: Range<u32>) -> Range<u32> {
        moved(own, self.old_before)
    }

    /// Returns where lines of the new side are in the whole file.
    pub(super) fn new_lines(&self, own: Range<u32>) -> Range<u32> {
        moved(own, self.new_before)
    }
}

fn moved(own: Range<u32>, by: u32) -> Range<u32> {
    if own.is_empty() {
        return own;
    }
    own.start.saturating_add(by)..own.end.saturating_add(by)
}

/// Cuts a hunk that shows a whole file.
pub(super) fn hunks(whole: &FixHunk) -> Vec<Part> {
    let lines = &whole.lines;
    let old = normal::text(lines, FixSide::New);
    let texts: Vec<&str> = old.lines().collect();
    // As git finds it: the nearest line before that begins a definition.
    let heading = |before: u32| {
        let before = texts.get(..usize::try_from(before).ok()?)?;
        let begins = |text: &&&str| {
            let first = text.bytes().next();
            let is_label = text.trim_end().ends_with(':');
            first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_') && !is_label
        };
        before
            .iter()
            .rev()
            .find(begins)
            .map(|text| (*text).to_owned())
    };
    let mut parts = Vec::new();
    let (mut old_number, mut new_number) = (0_u32, 0_u32);
    let mut numbers = Vec::with_capacity(lines.len());
    for line in lines {
        numbers.push((old_number, new_number));
        let (is_old, is_new) = match line.side {
            FixSide::Both => (1, 1),
            FixSide::Old => (1, 0),
            FixSide::New => (0, 1),
        };
        old_number = old_number.saturating_add(is_old);
        new_number = new_number.saturating_add(is_new);
    }
    for range in ranges(lines) {
        let Some((old_before, new_before)) = numbers.get(range.start).copied() else {
            continue;
        };
        parts.push(Part {
            hunk: FixHunk {
                heading: heading(old_before).unwrap_or_default(),
                lines: lines.get(range).unwrap_or_default().to_vec(),
            },
            old_before,
            new_before,
        });
    }
    parts
}

/// Returns the runs of changed lines with their context; those whose context meets are one.
fn ranges(lines: &[FixLine]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.side == FixSide::Both {
            continue;
        }
        let start = at.saturating_sub(CONTEXT);
        let end = at.saturating_add(CONTEXT + 1).min(lines.len());
        match ranges.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            Some(_) | None => ranges.push(start..end),
        }
    }
    ranges
}
