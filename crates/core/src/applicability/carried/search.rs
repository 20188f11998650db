//! Finds the sides of a block in a file.

use std::ops::Range;

use super::normal::{self, NormalHunk};
use super::{Block, BlockAt, FixSide, Found, Reach, Source};
use crate::ctext::CodeLine;

/// Most places of one line that are looked at; one that stands more often says nothing.
const MOST_PLACES: usize = 2_000;

/// Fewest tokens of an added line that stands for its block where other lines came between.
const DISTINCTIVE: u32 = 6;

/// How well a side was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    /// Its lines in order in the right function, with others between.
    Loose,
    /// Its lines joined to those before or those after them.
    OneSided,
    /// Its lines joined to those before and after them.
    Joined,
}

/// A place where a side was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    strength: Strength,
    /// Telling lines that fit, those around the block too.
    fitting: usize,
    /// Indices of the lines that fit, from the first to behind the last.
    lines: Range<usize>,
    /// Index of the block's own first line, or of the line behind the seam where it has none.
    at: usize,
}

/// Tells which side of the whole hunk stands in the file line by line, where just one does.
pub(super) fn whole(hunk: &NormalHunk, source: &Source) -> Option<FixSide> {
    let stands = |side| {
        let lines = hunk.lines(side);
        lines.iter().filter(|line| normal::is_telling(line)).count() >= 2
            && !runs(lines, source, &(0..source.lines().len())).is_empty()
    };
    match (stands(FixSide::Old), stands(FixSide::New)) {
        (true, false) => Some(FixSide::Old),
        (false, true) => Some(FixSide::New),
        (true, true) | (false, false) => None,
    }
}

/// Looks for both sides of `block`.
pub(super) fn block(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    whole: Option<FixSide>,
) -> Block {
    let homes = block
        .function
        .as_deref()
        .map(|name| source.homes(name))
        .unwrap_or_default();
    let is_home_known = !homes.is_empty();
    let everywhere = 0..source.lines().len();
    let areas = if is_home_known {
        homes
    } else {
        vec![everywhere]
    };
    let look = |side| -> Vec<Place> {
        areas
            .iter()
            .flat_map(|area| places(hunk, block, side, source, area, is_home_known))
            .collect()
    };
    let (after, before) = (look(FixSide::New), look(FixSide::Old));
    let (found, place) = decide(&after, &before, whole, is_home_known);
    let found = match found {
        Found::Neither | Found::Both if !hunk.is_telling(block) => Found::Nothing,
        found => found,
    };
    let line = place.and_then(|place| {
        let own = source.number_at(place.at);
        own.or_else(|| source.number_at(place.at.checked_sub(1)?))
    });
    let function = line
        .and_then(|line| source.function_at(line))
        .map(|extent| extent.name.clone())
        .or_else(|| block.function.clone());
    let side = match found {
        Found::Before => FixSide::Old,
        Found::After | Found::Both | Found::Neither | Found::Nothing => FixSide::New,
    };
    let reach = place.map_or(Reach::Unknown, |place| {
        reach(hunk, block, side, source, place.at)
    });
    Block {
        found,
        line,
        function,
        sample: hunk.sample(block, side),
        reach,
    }
}

/// Says what of the file a block changes whose `side` stands at index `at`.
fn reach(hunk: &NormalHunk, block: &BlockAt, side: FixSide, source: &Source, at: usize) -> Reach {
    let own = match side {
        FixSide::Old => block.old.len(),
        FixSide::New | FixSide::Both => block.new.len(),
    };
    // A seam is within a function when the lines on both of its sides are.
    let (first, last) = if own == 0 {
        (at.saturating_sub(1), at)
    } else {
        (at, at.saturating_add(own - 1))
    };
    let function = |index| {
        let number = source.number_at(index)?;
        source.function_at(number).map(|extent| extent.first_line)
    };
    match (function(first), function(last)) {
        (Some(first), Some(last)) if first == last => Reach::Function,
        _ if hunk.brings_functions(block) => Reach::NewFunctions,
        _ => Reach::Outside,
    }
}

/// Weighs the places of both sides against each other.
fn decide<'a>(
    after: &'a [Place],
    before: &'a [Place],
    whole: Option<FixSide>,
    is_home_known: bool,
) -> (Found, Option<&'a Place>) {
    let best = |places: &'a [Place]| {
        places
            .iter()
            .max_by_key(|place| (place.fitting, place.strength))
    };
    let (new, old) = match (best(after), best(before)) {
        (None, None) => return (Found::Neither, None),
        (Some(new), None) => return (Found::After, Some(new)),
        (None, Some(old)) => return (Found::Before, Some(old)),
        (Some(new), Some(old)) => (new, old),
    };
    // In one place the side of which more stands there is the one.
    let overlap = new.lines.start < old.lines.end && old.lines.start < new.lines.end;
    let (new_weight, old_weight) = ((new.strength, new.fitting), (old.strength, old.fitting));
    if overlap && new_weight > old_weight {
        return (Found::After, Some(new));
    }
    if overlap && old_weight > new_weight {
        return (Found::Before, Some(old));
    }
    match whole {
        Some(FixSide::Old) if old.strength == Strength::Joined => {
            return (Found::Before, Some(old));
        }
        Some(FixSide::New) if new.strength == Strength::Joined && is_home_known => {
            return (Found::After, Some(new));
        }
        Some(_) | None => {}
    }
    // Elsewhere the better one is right in doubt only where it says "not fixed".
    if old.strength == Strength::Joined && new.strength < Strength::Joined {
        return (Found::Before, Some(old));
    }
    (Found::Both, Some(new))
}

/// Finds the places of one side of a block within `area`.
fn places(
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
        // The seam: the line before and the line after, joined.
        let seam = own.start.saturating_sub(1)..own.end.saturating_add(1).min(lines.len());
        if own.start == 0 || own.start == lines.len() {
            return found;
        }
        for at in runs(lines.get(seam).unwrap_or_default(), source, area) {
            let fit = Fit::of(lines, own, source, at.saturating_add(1));
            if fit.is_seam(&all, side) {
                found.push(fit.place(Strength::Joined));
            }
        }
        return found;
    }
    let text = lines.get(own.clone()).unwrap_or_default();
    let telling = count(text);
    let tokens: u32 = text.iter().map(|line| line.tokens).sum();
    for at in runs(text, source, area) {
        let fit = Fit::of(lines, own, source, at);
        let before = fit.before > 0 || (all.before == 0 && fit.joins_before(own));
        let after = fit.after > 0 || (all.after == 0 && fit.joins_after(lines, own));
        let around = fit.before + fit.after;
        let strength = match (before, after) {
            (true, true) if around > 0 && telling > 0 => Strength::Joined,
            (true, true) if fit.is_seam(&all, FixSide::New) => Strength::Joined,
            (true, _) | (_, true) if around > 0 && telling > 0 && tokens >= 8 => Strength::OneSided,
            // A whole function or table needs nothing around it.
            _ if telling >= 4 => Strength::OneSided,
            _ => continue,
        };
        found.push(fit.place(strength));
    }
    if found.is_empty() && is_home {
        found.extend(loose(hunk, block, side, source, area));
    }
    found
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
    let (own, other) = match side {
        FixSide::Old => (&block.old, FixSide::New),
        FixSide::New | FixSide::Both => (&block.new, FixSide::Old),
    };
    let text = hunk.lines(side).get(own.clone())?;
    let elsewhere = hunk.lines(other);
    let telling = || text.iter().filter(|line| normal::is_telling(line));
    let is_own = |line: &CodeLine| {
        line.tokens >= DISTINCTIVE && !elsewhere.iter().any(|other| other.code == line.code)
    };
    if telling().count() < 2 || !telling().any(is_own) {
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
        lines: first..from,
        at: first,
    })
}

/// How many telling lines there are around a block in its hunk.
struct Around {
    before: usize,
    after: usize,
}

impl Around {
    fn of(lines: &[CodeLine], own: &Range<usize>) -> Self {
        Self {
            before: count(lines.get(..own.start).unwrap_or_default()),
            after: count(lines.get(own.end..).unwrap_or_default()),
        }
    }
}

/// How far the lines around a block fit in one place.
struct Fit {
    before: usize,
    after: usize,
    own: usize,
    lines: Range<usize>,
    lines_before: usize,
    lines_after: usize,
    at: usize,
}

impl Fit {
    /// Says how far the lines around a block fit where the block itself is at index `at`.
    fn of(lines: &[CodeLine], own: &Range<usize>, source: &Source, at: usize) -> Self {
        let before = lines
            .get(..own.start)
            .unwrap_or_default()
            .iter()
            .rev()
            .zip((0..at).rev())
            .take_while(|(line, at)| source.code_at(*at) == Some(&line.code));
        let behind = at.saturating_add(own.len());
        let after = lines
            .get(own.end..)
            .unwrap_or_default()
            .iter()
            .zip(behind..)
            .take_while(|(line, at)| source.code_at(*at) == Some(&line.code));
        let telling = |fitting: &[&CodeLine]| {
            fitting
                .iter()
                .filter(|line| normal::is_telling(line))
                .count()
        };
        let before: Vec<&CodeLine> = before.map(|(line, _)| line).collect();
        let after: Vec<&CodeLine> = after.map(|(line, _)| line).collect();
        Self {
            before: telling(&before),
            after: telling(&after),
            own: count(lines.get(own.clone()).unwrap_or_default()),
            lines: at.saturating_sub(before.len())..behind.saturating_add(after.len()),
            lines_before: before.len(),
            lines_after: after.len(),
            at,
        }
    }
    /// Tells whether the lines around a block that says nothing itself say enough: two telling ones on
    /// each side, or as many as there are. The seam that a fix leaves where it only removes needs all
    /// of that; one that a fix fills needs a telling line on each side, as to say "not fixed" is safe.
    fn is_seam(&self, all: &Around, side: FixSide) -> bool {
        let wanted = match side {
            FixSide::Old => 1,
            FixSide::New | FixSide::Both => 2,
        };
        let enough = |fitting: usize, all: usize| fitting >= wanted.min(all);
        self.lines_before > 0
            && self.lines_after > 0
            && enough(self.before, all.before)
            && enough(self.after, all.after)
            && self.before + self.after >= 2
    }

    /// Tells whether all there is before the block fits, which is nothing telling.
    fn joins_before(&self, own: &Range<usize>) -> bool {
        self.lines_before == own.start
    }

    fn joins_after(&self, lines: &[CodeLine], own: &Range<usize>) -> bool {
        self.lines_after == lines.len().saturating_sub(own.end)
    }

    fn place(&self, strength: Strength) -> Place {
        Place {
            strength,
            fitting: self.before + self.own + self.after,
            lines: self.lines.clone(),
            at: self.at,
        }
    }
}

fn count(lines: &[CodeLine]) -> usize {
    lines.iter().filter(|line| normal::is_telling(line)).count()
}

/// Returns where `lines` stand in the file one after another, all within `area`.
fn runs(lines: &[CodeLine], source: &Source, area: &Range<usize>) -> Vec<usize> {
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
