//! What stands around a change of which a few lines alone are known.
//!
//! Of the function after the change a hunk shows a window. The file's own function with the hunk's lines
//! there in place of its own is the side after, as far as it can be known: by what differs from it the
//! change is doubted as one of whole functions is. What stands further away cannot be told from what
//! was always there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::doubt::Doubt;
use super::drift::{self, Drift};
use super::normal::{self, NormalHunk};
use super::undone::{called, is_constant, is_lock};
use super::{BlockAt, FixHunk, FixSide, Found, Source, align};
use crate::ctext::{self, Chunk, ChunkKind, CodeLine, Role, Unit, operands};

/// How many lines that a hunk does not have may stand between two of it.
const GAP: usize = 12;

/// How far calls are followed.
const DEEPEST: usize = 4;

/// What the hunks of one file show of its side after.
#[derive(Default)]
pub(super) struct Shown {
    lines: BTreeSet<String>,
}

impl Shown {
    pub(super) fn by<'a>(hunks: impl IntoIterator<Item = &'a FixHunk>) -> Self {
        let mut lines = BTreeSet::new();
        for hunk in hunks {
            let text = normal::text(&hunk.lines, FixSide::Old);
            lines.extend(ctext::code_lines(&text).into_iter().map(|line| line.code));
        }
        Self { lines }
    }
}

/// Returns what makes it doubtful that `block`, whose side after stands at index `at`, has its effect there.
pub(super) fn doubts(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    at: usize,
    shown: &Shown,
) -> Vec<Doubt> {
    let mut doubts = BTreeSet::new();
    doubts.extend(unknown_bound(hunk, block, source, shown));
    let number = |at| source.number_at(at);
    let home = number(at).or_else(|| number(at.checked_sub(1)?));
    if let Some(home) = home.and_then(|number| source.home_at(number)) {
        doubts.extend(still_there(hunk, block, source, &home, shown));
        let windows = [Edge::Replaced, Edge::Found]
            .into_iter()
            .filter_map(|edge| Window::find(hunk, block, source, at, &home, edge));
        let mut beside = windows.map(|window| window.beside(hunk, source, &home));
        // The narrower one where the wider one is no function.
        match beside.next() {
            Some(Some(found)) => doubts.extend(found),
            Some(None) => {
                let narrow = beside.next().flatten();
                doubts.extend(narrow.unwrap_or_else(|| vec![Doubt::OtherBlocks]));
            }
            None => {}
        }
    }
    doubts.into_iter().collect()
}

/// A bound that the change asks for and that the file gives its value, where no hunk shows that.
fn unknown_bound(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    shown: &Shown,
) -> Option<Doubt> {
    let added = hunk.lines(FixSide::New).get(block.new.clone())?;
    let operands = added.iter().flat_map(|line| operands(&line.code));
    let bounds = operands.filter(|it| it.is_bounded && is_constant(&it.path));
    let is_unknown = |name: &String| {
        let defined = source.macros().get(name);
        defined.is_some_and(|defined| !defined.iter().all(|line| shown.lines.contains(line)))
    };
    bounds
        .map(|it| it.path)
        .find(is_unknown)
        .map(Doubt::OtherValue)
}

/// A line that the change removes and no hunk keeps, anywhere in the function beside one that it stood
/// beside: the same once more, as it was before.
fn still_there(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    home: &Range<usize>,
    shown: &Shown,
) -> Option<Doubt> {
    let lines = hunk.lines(FixSide::Old);
    let is_beside = |line: Option<&CodeLine>, at: Option<usize>| {
        let there = at.filter(|at| home.contains(at));
        let there = there.and_then(|at| source.code_at(at));
        line.is_some_and(|line| line.tokens > 2 && there == Some(&line.code))
    };
    let is_there = |index: &usize| {
        let Some(line) = lines.get(*index) else {
            return false;
        };
        let (before, behind) = (index.checked_sub(1), index.checked_add(1));
        normal::is_telling(line)
            && !shown.lines.contains(&line.code)
            && home.clone().any(|at| {
                source.code_at(at) == Some(&line.code)
                    && (is_beside(before.and_then(|it| lines.get(it)), at.checked_sub(1))
                        || is_beside(behind.and_then(|it| lines.get(it)), at.checked_add(1)))
            })
    };
    let still = block.old.clone().find(is_there)?;
    Some(Doubt::StillThere(lines.get(still)?.code.clone()))
}

/// What the window ends with, where the hunk goes on and its lines were not found.
#[derive(Clone, Copy)]
enum Edge {
    /// As many lines of the file, which stand in their place.
    Replaced,
    /// The last line that was found.
    Found,
}

/// Where the lines of a hunk around one block stand in a function, others perhaps between them.
struct Window {
    /// In the file.
    own: Range<usize>,
    /// In the sides of the hunk.
    old: Range<usize>,
    new: Range<usize>,
}

impl Window {
    /// Finds the window of a block that is in the body of a function; of one that changes or brings heads
    /// there is none.
    fn find(
        hunk: &NormalHunk,
        block: &BlockAt,
        source: &Source,
        at: usize,
        home: &Range<usize>,
        edge: Edge,
    ) -> Option<Self> {
        let lines = hunk.lines(FixSide::New);
        let body = |at: &usize| source.code_at(*at).is_some_and(|code| code.ends_with('{'));
        let begin = home.clone().find(body).map_or(home.start, |at| at + 1);
        let end = home.end.saturating_sub(1).max(begin);
        let behind = at.saturating_add(block.new.len());
        let is_head = |line: &CodeLine| hunk.is_margin(line);
        if at < begin || behind > end || lines.get(block.new.clone())?.iter().any(is_head) {
            return None;
        }
        let (mut own, mut new) = (at..behind, block.new.clone());
        // Lines of the hunk that were not found, since the last that was.
        let mut missed = 0;
        for (index, line) in lines.iter().enumerate().take(block.new.start).rev() {
            if is_head(line) {
                (own.start, new.start) = (begin, index + 1);
                missed = 0;
                break;
            }
            let near = own.start.saturating_sub(GAP).max(begin)..own.start;
            let found = near
                .rev()
                .find(|at| is_at(line, source, *at, at + 1 == own.start));
            match found {
                Some(at) => (own.start, new.start, missed) = (at, index, 0),
                None => missed += 1,
            }
        }
        let replaced = |missed: usize| match edge {
            Edge::Replaced => missed,
            Edge::Found => 0,
        };
        own.start = own.start.saturating_sub(replaced(missed)).max(begin);
        new.start = new.start.saturating_sub(replaced(missed));
        missed = 0;
        for (index, line) in lines.iter().enumerate().skip(block.new.end) {
            if is_head(line) {
                (own.end, new.end) = (end, index);
                missed = 0;
                break;
            }
            let mut near = own.end..own.end.saturating_add(GAP).min(end);
            let found = near.find(|at| is_at(line, source, *at, *at == own.end));
            match found {
                Some(at) => (own.end, new.end, missed) = (at + 1, index + 1, 0),
                None => missed += 1,
            }
        }
        own.end = own.end.saturating_add(replaced(missed)).min(end);
        new.end = new.end.saturating_add(replaced(missed));
        let old = hunk.old_of(block, &new);
        Some(Self { own, old, new })
    }

    /// Lays the file's own function beside the sides. `None` where one of them is no function.
    fn beside(
        &self,
        hunk: &NormalHunk,
        source: &Source,
        home: &Range<usize>,
    ) -> Option<Vec<Doubt>> {
        let shown = |side, range: &Range<usize>| hunk.lines(side).get(range.clone());
        let new = shown(FixSide::New, &self.new).unwrap_or_default();
        let old = shown(FixSide::Old, &self.old).unwrap_or_default();
        let of_file = |range: Range<usize>| source.lines().get(range).unwrap_or_default();
        let own = of_file(self.own.clone());
        if codes(own).eq(codes(new)) {
            return Some(Vec::new());
        }
        let with = |lines: &[CodeLine]| {
            let before = of_file(home.start..self.own.start);
            let after = of_file(self.own.end..home.end);
            function(codes(before).chain(codes(lines)).chain(codes(after)))
        };
        let (own, new, old) = (with(own)?, with(new)?, with(old)?);
        let drift = Drift::of(&old, &new, &own);
        let mut doubts = Vec::new();
        for change in drift::changes(&drift.of_old, &drift.of_new) {
            let (side, _, found) = drift.find(&change);
            doubts.extend(found);
            // It stands there by its lines, and not by its statements: they are part of others, or control
            // others.
            if side == Found::Neither {
                doubts.push(Doubt::OtherNeighbours);
            }
            let units = |chunk: &'_ Chunk, range| chunk.units.get(range).map(<[Unit]>::to_vec);
            let gone = called(&units(&old, change.old).unwrap_or_default());
            let kept = called(&units(&new, change.new).unwrap_or_default());
            doubts.extend(called_again(&drift, source, &gone, &kept));
        }
        Some(doubts)
    }
}

/// Tells whether `line` is the one at index `at`. What stands everywhere is only known when it is next.
fn is_at(line: &CodeLine, source: &Source, at: usize, is_next: bool) -> bool {
    let is_known = line.tokens > 2 && !align::is_jump(&line.code) && !line.code.starts_with('}');
    (is_known || is_next) && source.code_at(at) == Some(&line.code)
}

fn codes(lines: &[CodeLine]) -> impl Iterator<Item = &str> {
    lines.iter().map(|line| line.code.as_str())
}

/// Reads the one function that `lines` are.
fn function<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Chunk> {
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let chunks = ctext::outline(&text).into_iter();
    let mut functions = chunks.filter(|chunk| chunk.kind == ChunkKind::Function);
    match (functions.next(), functions.next()) {
        (Some(one), None) => Some(one),
        (_, _) => None,
    }
}

/// A function that only a statement which the hunk does not have calls, and that makes a call which the
/// change removes.
fn called_again(
    drift: &Drift<'_>,
    source: &Source,
    gone: &BTreeSet<String>,
    kept: &BTreeSet<String>,
) -> Option<Doubt> {
    let gone: BTreeSet<&String> = gone
        .difference(kept)
        .filter(|name| !is_lock(name))
        .collect();
    if gone.is_empty() {
        return None;
    }
    let functions: BTreeMap<&str, &Chunk> = source
        .chunks()
        .iter()
        .filter(|it| it.kind == ChunkKind::Function)
        .map(|it| (it.key.as_str(), it))
        .collect();
    let known: BTreeSet<usize> = drift.new_places.iter().copied().flatten().collect();
    let extra = drift.own.units.iter().enumerate();
    let extra = extra.filter(|(at, _)| !known.contains(at));
    let mut open: Vec<(String, usize)> = extra
        .flat_map(|(_, unit)| calls(unit))
        .map(|name| (name, 0))
        .collect();
    let mut seen = BTreeSet::from([drift.own.key.clone()]);
    while let Some((name, depth)) = open.pop() {
        let Some(helper) = functions.get(name.as_str()) else {
            continue;
        };
        if depth >= DEEPEST || !seen.insert(name.clone()) {
            continue;
        }
        let names: BTreeSet<String> = helper.units.iter().flat_map(calls).collect();
        if gone.iter().any(|name| names.contains(*name)) {
            return Some(Doubt::CalledAgain(name));
        }
        open.extend(names.into_iter().map(|name| (name, depth + 1)));
    }
    None
}

fn calls(unit: &Unit) -> impl Iterator<Item = String> {
    let operands = operands(&unit.code).into_iter();
    operands
        .filter(|it| it.role == Role::Called)
        .map(|it| it.path)
}

#[cfg(test)]
mod tests;
