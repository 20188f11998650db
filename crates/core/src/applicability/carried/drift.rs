//! One definition of a file that has drifted from both sides of a change.

use std::ops::Range;

use super::align::{self, Numbers, TELLING};
use super::doubt::Doubt;
use super::{Found, flow, undone};
use crate::ctext::{Chunk, Unit};

/// How many units away the next known neighbour may be where one is missing.
const NEAR: usize = 3;

/// Most neighbours on each side that are looked at.
const NEIGHBOURS: usize = 8;

/// Fewest tokens of a region together with the neighbours by which its place is known.
const ENOUGH: u32 = 12;

/// Fewest tokens of an added unit that tells, where it stands elsewhere, that the change moved.
const DISTINCTIVE: u32 = 6;

/// A run of units by which two definitions differ.
pub(super) struct Change {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// One definition of the file beside both sides.
pub(super) struct Drift<'a> {
    pub(super) old: &'a Chunk,
    pub(super) new: &'a Chunk,
    pub(super) own: &'a Chunk,
    pub(super) of_old: Vec<u32>,
    pub(super) of_new: Vec<u32>,
    of_own: Vec<u32>,
    /// For each unit of a side its place in the file's own.
    old_places: Vec<Option<usize>>,
    pub(super) new_places: Vec<Option<usize>>,
}

impl<'a> Drift<'a> {
    pub(super) fn of(old: &'a Chunk, new: &'a Chunk, own: &'a Chunk) -> Self {
        let mut numbers = Numbers::default();
        let of_old = numbers.of(&old.units);
        let of_new = numbers.of(&new.units);
        let of_own = numbers.of(&own.units);
        Self {
            old,
            new,
            own,
            old_places: align::places(&of_old, &of_own),
            new_places: align::places(&of_new, &of_own),
            of_old,
            of_new,
            of_own,
        }
    }

    /// Says which side of `change` the file's own definition has, where, and what makes that doubtful.
    pub(super) fn find(&self, change: &Change) -> (Found, Option<usize>, Vec<Doubt>) {
        if self.of_own == self.of_new {
            return (Found::After, Some(change.new.start), Vec::new());
        }
        if self.of_own == self.of_old {
            return (Found::Before, Some(change.old.start), Vec::new());
        }
        let before = self.side_before().stands(&change.old);
        let after = self.side_after().stands(&change.new);
        let after = match before {
            Some(_) => after,
            None => after.or_else(|| self.near(change)),
        };
        match (after, before) {
            (Some(at), None) => {
                let doubts = self.doubts(change, at);
                let found = if doubts.is_empty() {
                    Found::After
                } else {
                    Found::Both
                };
                (found, Some(at), doubts)
            }
            (None, Some(at)) if !self.has_moved(change) => (Found::Before, Some(at), Vec::new()),
            (None, None) => (Found::Neither, None, Vec::new()),
            (Some(at), _) | (None, Some(at)) => (Found::Both, Some(at), Vec::new()),
        }
    }

    /// Tells whether the file's own definition, of another name than the sides, is before `change`.
    pub(super) fn is_before(&self, change: &Change) -> bool {
        self.side_before().stands(&change.old).is_some()
            && self.side_after().stands(&change.new).is_none()
            && !self.has_moved(change)
    }

    fn side_after(&self) -> Side<'_> {
        Side {
            units: &self.new.units,
            places: &self.new_places,
            numbers: &self.of_new,
            own: &self.of_own,
        }
    }

    fn side_before(&self) -> Side<'_> {
        Side {
            units: &self.old.units,
            places: &self.old_places,
            numbers: &self.of_old,
            own: &self.of_own,
        }
    }

    /// Returns where the units that a change brings stand joined to their neighbours on one side, while
    /// on the other something came between. One of them must be of the change alone.
    fn near(&self, change: &Change) -> Option<usize> {
        let side = self.side_after();
        let count =
            |numbers: &[u32], number: u32| numbers.iter().filter(|it| **it == number).count();
        let is_own = |at: usize| {
            let (Some(unit), Some(number)) = (self.new.units.get(at), self.of_new.get(at)) else {
                return false;
            };
            unit.tokens >= DISTINCTIVE
                && !self.of_old.contains(number)
                && count(&self.of_new, *number) == count(&self.of_own, *number)
        };
        if !change.new.clone().any(is_own) {
            return None;
        }
        let start = side.place(change.new.start)?;
        let end = start.checked_add(change.new.len())?;
        if self.of_own.get(start..end)? != self.of_new.get(change.new.clone())? {
            return None;
        }
        let (before, after) = side.neighbours(&change.new, start, end);
        let is_head = |units: &[Unit], at: Option<usize>| {
            let unit = at.and_then(|at| units.get(at));
            unit.is_some_and(|unit| align::is_head(&unit.code))
        };
        // What came between must not part a statement from the head that controls it.
        let left = change.new.start.checked_sub(1);
        let is_free = !is_head(&self.new.units, left)
            && !is_head(&self.own.units, start.checked_sub(1))
            && after.is_telling();
        let is_whole =
            !is_head(&self.new.units, change.new.end.checked_sub(1)) && before.is_telling();
        // A label in between makes it another path: the arm of another case.
        let is_near = |places: &mut dyn Iterator<Item = usize>, from: usize| {
            let place = places.take(NEAR).find_map(|at| side.place(at));
            place.is_some_and(|place| {
                let between = self.own.units.get(place.min(from)..place.max(from));
                let mut between = between.unwrap_or_default().iter();
                place.abs_diff(from) <= NEIGHBOURS && !between.any(|unit| unit.code.ends_with(':'))
            })
        };
        let joined = match (before.units, after.units) {
            (0, 0) => false,
            (0, _) => is_free && is_near(&mut (0..change.new.start).rev(), start),
            (_, 0) => is_whole && is_near(&mut (change.new.end..self.new.units.len()), end),
            (_, _) => false,
        };
        (joined && side.is_like()).then_some(start)
    }

    /// Returns what makes it doubtful that the side after, which stands at `at`, is in force there: that it
    /// is within other blocks, cannot be reached, or is undone by what differs from the side after.
    pub(super) fn doubts(&self, change: &Change, at: usize) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if align::path(&self.own.units, at) != align::path(&self.new.units, change.new.start) {
            doubts.push(Doubt::OtherBlocks);
        }
        let (own, new) = (
            flow::unreached(&self.own.units),
            flow::unreached(&self.new.units),
        );
        let mut both = (at..).zip(change.new.start..change.new.end.max(change.new.start + 1));
        if both.any(|(at, side)| own.get(at) == Some(&true) && new.get(side) != Some(&true)) {
            doubts.push(Doubt::NotReached);
        }
        let removed = self.old.units.get(change.old.clone()).unwrap_or_default();
        let removed = removed.iter().zip(change.old.clone());
        let still = removed
            .filter(|(unit, _)| unit.tokens >= TELLING)
            .find(|(_, at)| {
                let number = self.of_old.get(*at);
                number.is_some_and(|it| !self.of_new.contains(it) && self.of_own.contains(it))
            });
        doubts.extend(still.map(|(unit, _)| Doubt::StillThere(unit.code.clone())));
        doubts.extend(self.fewer(change));
        doubts.extend(self.more(change));
        doubts.extend(undone::doubts(self, change, at));
        doubts
    }

    /// A statement that `change` puts beside its like: which of them is the new one cannot be told, so that
    /// there must be as many.
    fn fewer(&self, change: &Change) -> Option<Doubt> {
        let at = beside_its_like(&self.of_new, &change.new, |number| {
            count(&self.of_own, number) < count(&self.of_new, number)
        })?;
        let unit = self.new.units.get(at)?;
        Some(Doubt::Fewer(unit.code.clone()))
    }

    /// A statement that `change` takes from beside its like: it is only gone where there are no more.
    fn more(&self, change: &Change) -> Option<Doubt> {
        let at = beside_its_like(&self.of_old, &change.old, |number| {
            count(&self.of_own, number) > count(&self.of_new, number)
        })?;
        let unit = self.old.units.get(at)?;
        Some(Doubt::StillThere(unit.code.clone()))
    }

    /// Tells whether what `change` adds stands elsewhere in the definition.
    fn has_moved(&self, change: &Change) -> bool {
        let added = self.new.units.get(change.new.clone()).unwrap_or_default();
        added
            .iter()
            .zip(change.new.clone())
            .filter(|(unit, _)| unit.tokens >= DISTINCTIVE)
            .filter_map(|(_, at)| self.of_new.get(at))
            .any(|number| !self.of_old.contains(number) && self.of_own.contains(number))
    }
}

fn count(numbers: &[u32], wanted: u32) -> usize {
    numbers.iter().filter(|number| **number == wanted).count()
}

/// Finds, at the ends of `range`, a statement with its like outside of it, of which `holds`.
fn beside_its_like(
    numbers: &[u32],
    range: &Range<usize>,
    holds: impl Fn(u32) -> bool,
) -> Option<usize> {
    let (first, last) = (range.start, range.end.checked_sub(1)?);
    let ends = [(first, first.checked_sub(1)), (last, last.checked_add(1))];
    let number = |at: usize| numbers.get(at).copied();
    ends.into_iter()
        .find(|(own, beside)| {
            number(*own).is_some_and(|own| beside.and_then(number) == Some(own) && holds(own))
        })
        .map(|(at, _)| at)
}

/// One side of a definition beside the file's own.
struct Side<'a> {
    units: &'a [Unit],
    places: &'a [Option<usize>],
    /// The numbers of its units and of the file's own.
    numbers: &'a [u32],
    own: &'a [u32],
}

impl Side<'_> {
    fn place(&self, at: usize) -> Option<usize> {
        self.places.get(at).copied().flatten()
    }

    /// Returns where the units `change` stand in the file's own between the same neighbours.
    fn stands(&self, change: &Range<usize>) -> Option<usize> {
        let start = match change.start.checked_sub(1) {
            Some(left) => self.place(left)?.checked_add(1)?,
            None => 0,
        };
        let end = if change.end < self.units.len() {
            self.place(change.end)?
        } else {
            self.own.len()
        };
        if self.own.get(start..end)? != self.numbers.get(change.clone())? {
            return None;
        }
        let (before, after) = self.neighbours(change, start, end);
        let own = align::tokens(self.units.get(change.clone())?);
        let is_known = before.is_telling() || after.is_telling();
        let tokens = before
            .tokens
            .saturating_add(own)
            .saturating_add(after.tokens);
        (is_known && tokens >= ENOUGH && self.is_like()).then_some(start)
    }

    /// Returns the neighbours of `change` that stand as one run on either side of `start..end`.
    fn neighbours(&self, change: &Range<usize>, start: usize, end: usize) -> (Run, Run) {
        let fits = |(left, right): &(usize, usize)| self.place(*left) == Some(*right);
        let before = (0..change.start)
            .rev()
            .zip((0..start).rev())
            .take(NEIGHBOURS)
            .take_while(fits)
            .count();
        let after = (change.end..self.units.len())
            .zip(end..self.own.len())
            .take(NEIGHBOURS)
            .take_while(fits)
            .count();
        let first = change.start.saturating_sub(before);
        let last = change.end.saturating_add(after);
        let tokens = |range| align::tokens(self.units.get(range).unwrap_or_default());
        let before = Run {
            units: before,
            tokens: tokens(first..change.start),
            is_all: first == 0,
        };
        let after = Run {
            units: after,
            tokens: tokens(change.end..last),
            is_all: last == self.units.len(),
        };
        (before, after)
    }

    /// Tells whether the file's own definition has so much of the side that it is no other one.
    fn is_like(&self) -> bool {
        let matched = self.places.iter().zip(self.units);
        let matched = matched.filter(|(place, _)| place.is_some());
        let matched = matched.fold(0_u32, |sum, (_, unit)| sum.saturating_add(unit.tokens));
        matched.saturating_mul(2) >= align::tokens(self.units)
    }
}

/// Neighbours that stand there as one run.
struct Run {
    units: usize,
    tokens: u32,
    /// Whether there are no further ones.
    is_all: bool,
}

impl Run {
    fn is_telling(&self) -> bool {
        self.tokens >= TELLING || self.is_all
    }
}

/// Returns the runs of units by which two sides differ.
pub(super) fn changes(old: &[u32], new: &[u32]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut from_old, mut from_new) = (0, 0);
    let ends = [(old.len(), new.len())];
    for (at_old, at_new) in align::common(old, new).into_iter().chain(ends) {
        if at_old > from_old || at_new > from_new {
            changes.push(Change {
                old: from_old..at_old,
                new: from_new..at_new,
            });
        }
        (from_old, from_new) = (at_old + 1, at_new + 1);
    }
    changes
}
