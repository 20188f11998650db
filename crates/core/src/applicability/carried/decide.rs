//! Decides which side of a block a file holds.

use std::ops::Range;

use super::normal::{self, NormalHunk};
use super::search::{Place, Strength, count, places, runs, tokens};
use super::{Block, BlockAt, FixSide, Found, Reach, Source};
use crate::ctext::CodeLine;

/// Where each side of a whole hunk stands in a file line by line, by index of its first line.
pub(super) struct Whole {
    old: Vec<usize>,
    new: Vec<usize>,
}

/// Finds where the whole hunk stands.
pub(super) fn whole(hunk: &NormalHunk, source: &Source) -> Whole {
    let stands = |side| {
        let lines = hunk.lines(side);
        let is_long = lines.len() >= 3 && tokens(lines) >= 12;
        if count(lines) < 2 && !is_long {
            return Vec::new();
        }
        runs(lines, source, &(0..source.lines().len()))
    };
    Whole {
        old: stands(FixSide::Old),
        new: stands(FixSide::New),
    }
}

impl Whole {
    /// Tells whether the side before stands line by line outside of `areas`, with `block` in it.
    fn has_twin(&self, block: &BlockAt, areas: &[Range<usize>]) -> bool {
        self.old.iter().any(|start| {
            let at = start.saturating_add(block.old.start);
            !areas.iter().any(|area| area.contains(&at))
        })
    }

    /// Tells which side stands, where just one does, with `block` within one of `areas`.
    fn side(&self, block: &BlockAt, areas: &[Range<usize>]) -> Option<FixSide> {
        let stands = |starts: &[usize], own: &Range<usize>| {
            starts.iter().any(|start| {
                let at = start.saturating_add(own.start);
                areas.iter().any(|area| area.contains(&at))
            })
        };
        match (stands(&self.old, &block.old), stands(&self.new, &block.new)) {
            (true, false) => Some(FixSide::Old),
            (false, true) => Some(FixSide::New),
            (true, true) | (false, false) => None,
        }
    }
}

/// Tells whether a label stands right behind the new side of a block at index `at`, and not in the hunk.
fn is_parted(hunk: &NormalHunk, block: &BlockAt, source: &Source, at: usize) -> bool {
    let own = source.code_at(at.saturating_add(block.new.len()));
    let known = hunk.lines(FixSide::New).get(block.new.end);
    own.is_some_and(|own| own.ends_with(':') && known.is_none_or(|known| known.code != own))
}

/// Looks for both sides of `block`. Also returns where the side after stands, as an index, where it was
/// found.
pub(super) fn block(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    whole: &Whole,
) -> (Block, Option<usize>) {
    let homes = homes(hunk, block, source);
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
    let stands = &whole.new;
    let has_twin = whole.has_twin(block, &areas);
    let whole = whole.side(block, &areas);
    let (found, place) = decide(&after, &before, whole, is_home_known);
    let found = match found {
        Found::Neither if lacks_functions(hunk, block, source) => Found::Before,
        Found::Neither => by_whole(hunk, block, whole, is_home_known).unwrap_or(found),
        found => found,
    };
    let found = match found {
        // Short lines are told by the whole hunk, where it stands line by line.
        Found::Neither | Found::Both if !hunk.is_telling(block) => match whole {
            Some(FixSide::New) => Found::After,
            Some(FixSide::Old | FixSide::Both) | None => Found::Nothing,
        },
        found => found,
    };
    let found = match found {
        Found::After
            if !is_sure(
                hunk,
                block,
                source,
                place.ok_or(stands),
                &areas,
                is_home_known,
                has_twin,
            ) =>
        {
            Found::Both
        }
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
    let at = match (found, place) {
        (Found::After, Some(place)) => Some(place.at),
        (Found::After, None) => stands
            .first()
            .map(|start| start.saturating_add(block.new.start)),
        (Found::Before | Found::Both | Found::Neither | Found::Nothing, _) => None,
    };
    let found = Block {
        found,
        line,
        function,
        sample: hunk.sample(block, side),
        doubts: Vec::new(),
        reach,
    };
    (found, at)
}

/// Tells whether the side after the change is really in force where it was found. A kernel that is taken
/// for fixed and is not is the worst answer, so that what only looks like the change is in doubt.
fn is_sure(
    hunk: &NormalHunk,
    block: &BlockAt,
    source: &Source,
    place: Result<&Place, &Vec<usize>>,
    areas: &[Range<usize>],
    is_home_known: bool,
    has_twin: bool,
) -> bool {
    // A twin of a function that was renamed has the same lines.
    if block.function.is_some() && !is_home_known {
        return false;
    }
    let own = hunk.lines(FixSide::New).get(block.new.clone());
    let own = own.unwrap_or_default();
    let is_open = |at: usize| !source.is_conditional(at);
    let has_own_condition = || {
        let lines = hunk.lines(FixSide::New);
        lines.iter().any(|line| line.code.starts_with("# if"))
    };
    let is_in_force = match place {
        // With other lines between them they may be of another path through the function.
        Ok(place) if place.strength == Strength::Loose => return false,
        // The lines alone, with nothing of what they stand between: the same.
        Ok(place)
            if place.fitting <= count(own)
                && !own.is_empty()
                && !place.is_full
                && hunk.brought(block).is_empty() =>
        {
            return false;
        }
        // A label behind it that the change does not have there is another way around it.
        Ok(place) if !place.is_full && is_parted(hunk, block, source, place.at) => return false,
        // Nor one that another statement controls, which the change does not know of.
        Ok(place) if place.lines.start == place.at && !hunk.begins(block, source, place.at) => {
            return false;
        }
        Ok(place) => {
            let last = place.at.saturating_add(own.len().max(1));
            (place.at.saturating_sub(1)..last).all(is_open)
        }
        // The whole hunk stands there.
        Err(starts) => {
            let length = hunk.lines(FixSide::New).len();
            let mut starts = starts.iter();
            starts.any(|start| (*start..start.saturating_add(length)).all(is_open))
        }
    };
    // Another function that is as this one was before, line by line.
    if is_home_known && has_twin {
        return false;
    }
    // What was only removed may have moved; where the change itself puts it is another block's matter.
    let stays = |line: &CodeLine| {
        let places = areas.iter().cloned().flatten();
        let there = places.filter(|at| source.code_at(*at) == Some(&line.code));
        let kept = hunk.lines(FixSide::New).iter();
        there.count() > kept.filter(|it| it.code == line.code).count()
    };
    let removed = hunk.lines(FixSide::Old).get(block.old.clone());
    let at = match place {
        Ok(place) => Some(place.at),
        Err(starts) => starts
            .first()
            .map(|start| start.saturating_add(block.new.start)),
    };
    let number = at.and_then(|at| source.number_at(at));
    if number.is_some_and(|number| {
        source.is_undone(number, own)
            || (block.function.is_none() && source.is_beside(hunk.heading(block), number))
    }) {
        return false;
    }
    let is_gone = !own.is_empty()
        || !removed
            .unwrap_or_default()
            .iter()
            .filter(|line| normal::is_telling(line))
            .any(stays);
    is_gone && (is_in_force || has_own_condition())
}

/// Returns where the function is that a block lies in. One that has none of the lines around the block
/// is not it: a function of that name may be another one by now.
fn homes(hunk: &NormalHunk, block: &BlockAt, source: &Source) -> Vec<Range<usize>> {
    const NEAREST: usize = 4;
    let Some(name) = &block.function else {
        return Vec::new();
    };
    let lines = hunk.lines(FixSide::Old);
    let before = lines.get(..block.old.start).unwrap_or_default();
    let after = lines.get(block.old.end..).unwrap_or_default();
    let around = before
        .iter()
        .rev()
        .filter(|line| normal::is_telling(line))
        .take(NEAREST)
        .chain(
            after
                .iter()
                .filter(|line| normal::is_telling(line))
                .take(NEAREST),
        );
    let around: Vec<&CodeLine> = around.collect();
    let mut homes = source.homes(name);
    homes.retain(|home| {
        around.is_empty()
            || home.clone().any(|at| {
                around
                    .iter()
                    .any(|line| source.code_at(at) == Some(&line.code))
            })
    });
    homes
}

/// Says what the whole hunk says of a block around which it has too little: that one side of it stands
/// in the file line by line. The block must be within those lines, not at their end.
fn by_whole(
    hunk: &NormalHunk,
    block: &BlockAt,
    whole: Option<FixSide>,
    is_home_known: bool,
) -> Option<Found> {
    /// Fewest telling lines by which the seam of a block that only removes is known.
    const SEAM: usize = 4;
    let side = whole?;
    let lines = hunk.lines(side);
    let (own, found) = match side {
        FixSide::Old => (&block.old, Found::Before),
        FixSide::New | FixSide::Both => (&block.new, Found::After),
    };
    let within = own.start > 0 && own.end < lines.len();
    let enough = count(lines.get(own.clone()).unwrap_or_default()) > 0
        || found == Found::Before
        || count(lines) >= SEAM;
    // The same lines may stand in a function's twin.
    let is_right_place = found == Found::Before || is_home_known || block.function.is_none();
    (enough && is_right_place && (within || !own.is_empty())).then_some(found)
}

/// Tells whether a block brings whole functions of which the file does not even have the names.
fn lacks_functions(hunk: &NormalHunk, block: &BlockAt, source: &Source) -> bool {
    let brought = hunk.brought(block);
    !brought.is_empty()
        && brought
            .iter()
            .all(|name| !normal::has_word(source.lines(), name))
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
        _ if !hunk.brought(block).is_empty() => Reach::NewFunctions,
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
    // Where lines repeat, both sides may stand there in full; then one that has a line of its own is
    // really there.
    if overlap && new.is_full && old.is_full {
        return match (new.is_own, old.is_own) {
            (true, false) => (Found::After, Some(new)),
            (false, true) => (Found::Before, Some(old)),
            (true, true) | (false, false) => (Found::Both, Some(new)),
        };
    }
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
