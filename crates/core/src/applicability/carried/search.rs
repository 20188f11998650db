//! Finds where the sides of a block stand in a file.

use std::ops::Range;

use super::normal::{self, NormalHunk};
use super::{BlockAt, FixSide, Source};
use crate::ctext::CodeLine;

/// Most places of one line that are looked at; one that stands more often says nothing.
const MOST_PLACES: usize = 2_000;

/// Fewest tokens of an added line that stands for its block where other lines came between.
const DISTINCTIVE: u32 = 6;

/// Fewest tokens of a line that stands for its block with nothing but short lines around it.
const LONG: u32 = 10;

/// How well a side was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// Its lines in order in the right function, with others between.
    Loose,
    /// Its lines joined to those before or those after them.
    OneSided,
    /// Its lines joined to those before and after them.
    Joined,
}

/// A place where a side was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) strength: Strength,
    /// Telling lines that fit, those around the block too.
    pub(super) fitting: usize,
    /// Whether all lines of this side of the hunk fit.
    pub(super) is_full: bool,
    /// Whether the block has a telling line that the other side of its hunk has not.
    pub(super) is_own: bool,
    /// Indices of the lines that fit, from the first to behind the last.
    pub(super) lines: Range<usize>,
    /// Index of the block's own first line, or of the line behind the seam where it has none.
    pub(super) at: usize,
}

/// Finds the places of one side of a block within `area`.
pub(super) fn places(
    hunk: &NormalHunk,
    block: &BlockAt,
    side: FixSide,
    source: &Source,
    area: &Range<usize>,
    is_home: bool,
) -> Vec<Place> {
    let lines = hunk.lines(side);
    let own = match side {
        FixSide::Old => &block.old,
        FixSide::New | FixSide::Both => &block.new,
    };
    let all = Around::of(lines, own);
    let mut found = Vec::new();
    if own.is_empty() {
        for at in seams(lines, own.start, source, area) {
            let fit = Fit::of(lines, own, source, at);
            if fit.is_seam(&all, side, is_home) {
                found.push(fit.place(Strength::Joined, &all, false));
            }
        }
        if found.is_empty() && side == FixSide::Old {
            found.extend(half_seam(hunk, block, source, area, is_home));
        }
        return found;
    }
    let text = lines.get(own.clone()).unwrap_or_default();
    let telling = count(text);
    let tokens = tokens(text);
    let slides = slides(lines, own);
    let own_tokens = own_tokens(hunk, block, side);
    let runs = runs(text, source, area);
    for at in runs.iter().copied() {
        let fit = Fit::of(lines, own, source, at);
        if slides && !fit.place(Strength::Joined, &all, false).is_full {
            continue;
        }
        let before = fit.before > 0 || fit.lines_before == own.start;
        let after = fit.after > 0 || fit.lines_after == all.lines_after;
        let around = fit.before + fit.after;
        let is_one = runs.len() == 1 && own_tokens >= DISTINCTIVE && tokens >= 8;
        let strength = match (before, after) {
            (true, true) if around > 0 && telling > 0 => Strength::Joined,
            (true, true) if fit.is_seam(&all, FixSide::New, is_home) => Strength::Joined,
            // Short lines around a long one that stands just here.
            (true, true) if is_one && own_tokens >= LONG => Strength::Joined,
            (true, _) | (_, true) if around > 0 && telling > 0 && is_one => Strength::OneSided,
            // A whole function or table needs nothing around it.
            _ if telling >= 4 && is_one => Strength::OneSided,
            _ => continue,
        };
        found.push(fit.place(strength, &all, own_tokens > 0));
    }
    if found.is_empty() && is_home {
        found.extend(loose(hunk, block, side, source, area));
    }
    found
}

/// Returns how many tokens the longest line of a block has that the other side of its hunk has not.
fn own_tokens(hunk: &NormalHunk, block: &BlockAt, side: FixSide) -> u32 {
    let (own, other) = match side {
        FixSide::Old => (&block.old, FixSide::New),
        FixSide::New | FixSide::Both => (&block.new, FixSide::Old),
    };
    let elsewhere = hunk.lines(other);
    let own = hunk.lines(side).get(own.clone()).unwrap_or_default();
    own.iter()
        .filter(|line| normal::is_telling(line))
        .filter(|line| !elsewhere.iter().any(|other| other.code == line.code))
        .map(|line| line.tokens)
        .max()
        .unwrap_or(0)
}

/// Tells whether the lines `own` could as well be one further up or down, as where a line repeats.
/// Then only all that is around them says which is which.
fn slides(lines: &[CodeLine], own: &Range<usize>) -> bool {
    let code = |at: Option<usize>| at.and_then(|at| lines.get(at)).map(|line| &line.code);
    let last = own.end.checked_sub(1);
    let up = own.start.checked_sub(1);
    (up.is_some() && code(up) == code(last)) || {
        let down = code(Some(own.end));
        down.is_some() && down == code(Some(own.start))
    }
}

/// Returns the indices behind which and before which the lines around `seam` are joined.
fn seams(lines: &[CodeLine], seam: usize, source: &Source, area: &Range<usize>) -> Vec<usize> {
    let around = seam
        .checked_sub(1)
        .and_then(|before| lines.get(before..seam.checked_add(1)?))
        .unwrap_or_default();
    let runs = runs(around, source, area);
    runs.into_iter().map(|at| at.saturating_add(1)).collect()
}

/// Finds the lines on one side of a block that only adds, where the hunk has nothing but comments on
/// the other side, and nothing of the block near them.
fn half_seam(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    area: &Range<usize>,
    is_home: bool,
) -> Vec<Place> {
    /// How near in lines something of the block would be.
    const NEAR: usize = 12;
    let lines = hunk.lines(FixSide::Old);
    let seam = block.old.start;
    let around = match (seam == 0, seam == lines.len()) {
        (true, false) => lines,
        (false, true) => lines.get(..seam).unwrap_or_default(),
        (true, true) | (false, false) => return Vec::new(),
    };
    let is_known = |word: &str| normal::has_word(source.lines(), word);
    if hunk.new_word(block, is_known).is_none()
        && (count(around) < 2 || tokens(around) < 10)
        && (!is_home || count(around) == 0)
    {
        return Vec::new();
    }
    let added = hunk.lines(FixSide::New).get(block.new.clone());
    let near = |start: usize| {
        let end = start.saturating_add(around.len()).saturating_add(NEAR);
        (start.saturating_sub(NEAR)..end).any(|at| {
            let added = added.unwrap_or_default().iter();
            let mut added = added.filter(|line| normal::is_telling(line));
            added.any(|line| source.code_at(at) == Some(&line.code))
        })
    };
    runs(around, source, area)
        .into_iter()
        .filter(|start| !near(*start))
        .map(|start| {
            let end = start.saturating_add(around.len());
            Place {
                strength: Strength::OneSided,
                fitting: count(around),
                is_full: false,
                is_own: false,
                lines: start..end,
                at: if seam == 0 { start } else { end },
            }
        })
        .collect()
}

/// Finds the telling lines of a block in order within one function, others between them; one of them
/// must be of this side alone.
fn loose(
    hunk: &NormalHunk,
    block: &BlockAt,
    side: FixSide,
    source: &Source,
    area: &Range<usize>,
) -> Option<Place> {
    let own = match side {
        FixSide::Old => &block.old,
        FixSide::New | FixSide::Both => &block.new,
    };
    let text = hunk.lines(side).get(own.clone())?;
    let telling = || text.iter().filter(|line| normal::is_telling(line));
    if telling().count() < 2 || own_tokens(hunk, block, side) < DISTINCTIVE {
        return None;
    }
    let mut from = area.start;
    let mut first = None;
    for line in telling() {
        let at = (from..area.end).find(|at| source.code_at(*at) == Some(&line.code))?;
        first = first.or(Some(at));
        from = at.checked_add(1)?;
    }
    let first = first?;
    Some(Place {
        strength: Strength::Loose,
        fitting: telling().count(),
        is_full: false,
        is_own: true,
        lines: first..from,
        at: first,
    })
}

/// How many lines there are around a block in its hunk.
struct Around {
    lines_before: usize,
    lines_after: usize,
}

impl Around {
    fn of(lines: &[CodeLine], own: &Range<usize>) -> Self {
        Self {
            lines_before: own.start,
            lines_after: lines.len().saturating_sub(own.end),
        }
    }
}

/// How far the lines around a block fit in one place.
struct Fit {
    /// Telling ones.
    before: usize,
    after: usize,
    own: usize,
    /// All.
    lines_before: usize,
    lines_after: usize,
    /// Tokens of all of them.
    tokens: u32,
    lines: Range<usize>,
    at: usize,
}

impl Fit {
    /// Says how far the lines around a block fit where the block itself is at index `at`.
    fn of(lines: &[CodeLine], own: &Range<usize>, source: &Source, at: usize) -> Self {
        let behind = at.saturating_add(own.len());
        let fits = |(line, at): &(&CodeLine, usize)| source.code_at(*at) == Some(&line.code);
        let ahead = lines.get(..own.start).unwrap_or_default();
        let follow = lines.get(own.end..).unwrap_or_default();
        let lines_before = ahead
            .iter()
            .rev()
            .zip((0..at).rev())
            .take_while(fits)
            .count();
        let lines_after = follow.iter().zip(behind..).take_while(fits).count();
        let before = ahead.get(own.start - lines_before..).unwrap_or_default();
        let after = follow.get(..lines_after).unwrap_or_default();
        Self {
            before: count(before),
            after: count(after),
            own: count(lines.get(own.clone()).unwrap_or_default()),
            lines_before,
            lines_after,
            tokens: tokens(before).saturating_add(tokens(after)),
            lines: at.saturating_sub(lines_before)..behind.saturating_add(lines_after),
            at,
        }
    }

    /// Tells whether the lines around a block that says nothing itself say enough.
    ///
    /// The seam that a fix leaves where it only removes must fit by two telling lines on each side, or
    /// as far as the hunk goes. One that a fix fills needs one on each side, as "not fixed" is the
    /// safe answer.
    fn is_seam(&self, all: &Around, side: FixSide, is_home: bool) -> bool {
        let wanted = match side {
            FixSide::Old => 1,
            FixSide::New | FixSide::Both => 2,
        };
        let least = if is_home { 6 } else { 10 };
        let enough = |telling: usize, lines: usize, all: usize| {
            lines > 0 && (telling >= wanted || lines == all)
        };
        enough(self.before, self.lines_before, all.lines_before)
            && enough(self.after, self.lines_after, all.lines_after)
            && self.tokens >= least
    }

    fn place(&self, strength: Strength, all: &Around, is_own: bool) -> Place {
        Place {
            strength,
            fitting: self.before + self.own + self.after,
            is_full: self.lines_before == all.lines_before && self.lines_after == all.lines_after,
            is_own,
            lines: self.lines.clone(),
            at: self.at,
        }
    }
}

/// Counts the telling lines.
pub(super) fn count(lines: &[CodeLine]) -> usize {
    lines.iter().filter(|line| normal::is_telling(line)).count()
}

/// Counts the tokens.
pub(super) fn tokens(lines: &[CodeLine]) -> u32 {
    lines
        .iter()
        .fold(0, |sum, line| sum.saturating_add(line.tokens))
}

/// Returns where `lines` stand in the file one after another, all within `area`.
pub(super) fn runs(lines: &[CodeLine], source: &Source, area: &Range<usize>) -> Vec<usize> {
    let rarest = lines
        .iter()
        .enumerate()
        .map(|(offset, line)| (source.places(&line.code), offset))
        .min_by_key(|(places, _)| places.len());
    let Some((places, offset)) = rarest else {
        return Vec::new();
    };
    if places.len() > MOST_PLACES {
        return Vec::new();
    }
    places
        .iter()
        .filter_map(|at| usize::try_from(*at).ok()?.checked_sub(offset))
        .filter(|start| *start >= area.start && start.saturating_add(lines.len()) <= area.end)
        .filter(|start| {
            lines
                .iter()
                .zip(*start..)
                .all(|(line, at)| source.code_at(at) == Some(&line.code))
        })
        .collect()
}
