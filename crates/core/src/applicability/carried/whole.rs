//! Whether a file holds a change of which both whole sides are known.
//!
//! Definitions are compared with definitions: where the file's own function is, unit by unit, that of
//! one side, nothing is left to doubt. Where it has drifted from both, each region of the change is
//! looked for between the same neighbours, and what around it could undo it makes it doubtful.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::align::Numbers;
use super::beside::{Beside, Place};
use super::doubt::Doubt;
use super::drift::{Change, Drift, changes};
use super::{Block, FixHunk, FixSide, Found, Reach, Source, normal};
use crate::ctext::{self, Chunk, ChunkKind, Unit};

/// Words that no macro may stand for.
pub(super) const KEYWORDS: [&str; 10] = [
    "if", "else", "for", "while", "do", "switch", "case", "return", "goto", "break",
];

/// One block with the lines of each side that it changes.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) block: Block,
    /// Lines of the side before, from the first to behind the last.
    pub(super) old: Range<u32>,
    /// Lines of the side after.
    pub(super) new: Range<u32>,
}

impl Region {
    /// Tells whether two regions change the same lines of a side.
    pub(super) fn touches(&self, other: &Self) -> bool {
        let meets = |left: &Range<u32>, right: &Range<u32>| {
            left.start < right.end && right.start < left.end
        };
        meets(&self.old, &other.old) || meets(&self.new, &other.new)
    }
}

/// Both sides of a file's change.
pub(super) struct Sides {
    old: Vec<Chunk>,
    new: Vec<Chunk>,
    old_macros: BTreeMap<String, Vec<String>>,
    new_macros: BTreeMap<String, Vec<String>>,
    old_text: String,
    new_text: String,
}

impl Sides {
    /// Reads both sides of `hunk`, which shows the whole of its file.
    pub(super) fn of(hunk: &FixHunk) -> Self {
        let old_text = normal::text(&hunk.lines, FixSide::New);
        let new_text = normal::text(&hunk.lines, FixSide::Old);
        let (old, new) = (ctext::outline(&old_text), ctext::outline(&new_text));
        Self {
            old_macros: macros(&old),
            new_macros: macros(&new),
            old,
            new,
            old_text,
            new_text,
        }
    }

    /// Looks in `source` for the regions by which the sides differ.
    pub(super) fn look(&self, source: &Source) -> Vec<Region> {
        let judge = Judge::of(self, source);
        let mut regions = Vec::new();
        let mut is_lacking = false;
        for pair in pairs(&self.old, &self.new) {
            match pair {
                (Some(old), Some(new)) => judge.changed(old, new, &mut regions),
                (None, Some(new)) => regions.extend(judge.added(new)),
                (Some(old), None) => {
                    let found = judge.removed(old);
                    is_lacking |= found.is_none() && old.kind != ChunkKind::Include;
                    regions.extend(found);
                }
                (None, None) => {}
            }
        }
        // A file that lacks both what goes and what comes was never like either side.
        let is_seen =
            |region: &Region| region.block.found == Found::Before && region.block.line.is_some();
        if is_lacking && !regions.iter().any(is_seen) {
            for region in &mut regions {
                if region.block.found == Found::Before {
                    region.block.found = Found::Neither;
                }
            }
        }
        regions
    }

    /// Tells whether the side after of `region`, which was found at `line` of `source` by its lines, is
    /// in force there.
    pub(super) fn confirms(&self, region: &Region, source: &Source, line: u32) -> bool {
        let judge = Judge::of(self, source);
        let holds = |chunk: &&Chunk, line: u32| (chunk.lines.0..=chunk.lines.1).contains(&line);
        let new = self.new.iter().find(|it| holds(it, region.new.start));
        let own = source.chunks().iter().find(|it| holds(it, line));
        let (Some(new), Some(own)) = (new, own) else {
            return false;
        };
        let same = |old: &&Chunk| (old.kind, &old.key) == (new.kind, &new.key);
        let Some(old) = self.old.iter().find(same) else {
            return false;
        };
        let place = |units: &[Unit], line: u32| units.iter().position(|unit| unit.line >= line);
        let (Some(of_new), Some(of_own)) =
            (place(&new.units, region.new.start), place(&own.units, line))
        else {
            return false;
        };
        let within = |range: &Range<u32>, unit: &&Unit| range.contains(&unit.line);
        let count = |units: &[Unit], range: &Range<u32>| {
            let own = units.iter().filter(|unit| within(range, unit));
            own.count()
        };
        let start = place(&old.units, region.old.start).unwrap_or(0);
        let change = Change {
            old: start..start + count(&old.units, &region.old),
            new: of_new..of_new + count(&new.units, &region.new),
        };
        let place = Place {
            old,
            new,
            own,
            change: &change,
        };
        (own.kind, &own.key, &own.conditions) == (new.kind, &new.key, &new.conditions)
            && judge.others_are_known(new)
            && judge.are_names_kept(new, &change)
            && Drift::of(old, new, own).doubts(&change, of_own).is_empty()
            && judge.beside.doubts(&place).is_empty()
    }
}

/// Returns the directives that define or undefine each name, in order.
pub(super) fn macros(chunks: &[Chunk]) -> BTreeMap<String, Vec<String>> {
    let mut macros: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for unit in chunks.iter().flat_map(|chunk| &chunk.units) {
        let rest = unit.code.strip_prefix("# define ");
        let rest = rest.or_else(|| unit.code.strip_prefix("# undef "));
        if let Some(name) = rest.and_then(|rest| rest.split(' ').next()) {
            let own = macros.entry(name.to_owned()).or_default();
            own.push(unit.code.clone());
        }
    }
    macros
}

/// Pairs the definitions of two sides that are of one name and not the same.
fn pairs<'a>(old: &'a [Chunk], new: &'a [Chunk]) -> Vec<(Option<&'a Chunk>, Option<&'a Chunk>)> {
    type Sides<'a> = (Vec<&'a Chunk>, Vec<&'a Chunk>);
    let mut names: BTreeMap<(ChunkKind, &str), Sides<'a>> = BTreeMap::new();
    for chunk in old {
        names
            .entry((chunk.kind, &chunk.key))
            .or_default()
            .0
            .push(chunk);
    }
    for chunk in new {
        names
            .entry((chunk.kind, &chunk.key))
            .or_default()
            .1
            .push(chunk);
    }
    let mut pairs = Vec::new();
    for (mut olds, mut news) in names.into_values() {
        let tests: [fn(&Chunk, &Chunk) -> bool; 3] = [
            |old, new| old.conditions == new.conditions && is_same(old, new),
            |old, new| old.conditions == new.conditions,
            |_, _| true,
        ];
        for (step, test) in tests.iter().enumerate() {
            let mut rest = Vec::new();
            for old in olds {
                match news.iter().position(|new| test(old, new)) {
                    Some(at) => {
                        let new = news.remove(at);
                        if step > 0 {
                            pairs.push((Some(old), Some(new)));
                        }
                    }
                    None => rest.push(old),
                }
            }
            olds = rest;
        }
        pairs.extend(olds.into_iter().map(|old| (Some(old), None)));
        pairs.extend(news.into_iter().map(|new| (None, Some(new))));
    }
    pairs.sort_by_key(|(old, new)| {
        let first = |chunk: Option<&Chunk>| chunk.map(|chunk| chunk.lines.0);
        first(*new).or_else(|| first(*old))
    });
    pairs
}

pub(super) fn is_same(left: &Chunk, right: &Chunk) -> bool {
    let codes = |chunk: &'_ Chunk| -> Vec<String> {
        chunk.units.iter().map(|unit| unit.code.clone()).collect()
    };
    left.units.len() == right.units.len() && codes(left) == codes(right)
}

struct Judge<'a> {
    sides: &'a Sides,
    source: &'a Source,
    beside: Beside<'a>,
}

impl<'a> Judge<'a> {
    fn of(sides: &'a Sides, source: &'a Source) -> Self {
        Self {
            sides,
            source,
            beside: Beside::of(
                (source.chunks(), source.macros()),
                &sides.old,
                (&sides.new, &sides.new_macros),
            ),
        }
    }

    /// Judges a definition that both sides have.
    fn changed(&self, old: &Chunk, new: &Chunk, regions: &mut Vec<Region>) {
        match new.kind {
            ChunkKind::Include => {}
            ChunkKind::Macro => regions.push(self.macro_of(Some(old), new)),
            ChunkKind::Function | ChunkKind::Braced => {
                let own = self.own(new);
                let is_one = own.len() == 1;
                let found = own.into_iter().max_by_key(|own| {
                    let like = own.conditions == new.conditions;
                    (
                        like,
                        likeness(&own.units, &new.units).max(likeness(&own.units, &old.units)),
                    )
                });
                let Some(found) = found else {
                    self.absent(old, new, regions);
                    return;
                };
                let is_sure = (is_one || self.others_are_known(new))
                    && found.conditions == new.conditions
                    && old.conditions == new.conditions;
                self.compare(old, new, found, is_sure, regions);
            }
            ChunkKind::Single => {
                // Of one text: what differs is under which condition it stands.
                let own = self.own(new);
                let under = |side: &Chunk| own.iter().any(|own| own.conditions == side.conditions);
                let found = match (under(old), under(new)) {
                    (false, true) => Found::After,
                    (true, false) => Found::Before,
                    (true, true) => Found::Both,
                    (false, false) => Found::Neither,
                };
                let line = own.first().map(|own| own.lines.0);
                regions.push(self.whole(Some(old), Some(new), found, line));
            }
        }
    }

    /// Returns the definitions of the file that are of the same name.
    fn own(&self, of: &Chunk) -> Vec<&Chunk> {
        let chunks = self.source.chunks().iter();
        let same = |own: &&Chunk| own.kind == of.kind && own.key == of.key;
        chunks.filter(same).collect()
    }

    /// Tells whether the file has just the definitions of this name that the side after has, under the
    /// same conditions.
    fn others_are_known(&self, new: &Chunk) -> bool {
        let own: Vec<&Vec<String>> = self.own(new).iter().map(|own| &own.conditions).collect();
        let of = |chunks: &'_ [Chunk]| -> Vec<Vec<String>> {
            let same = chunks
                .iter()
                .filter(|chunk| chunk.kind == new.kind && chunk.key == new.key);
            same.map(|chunk| chunk.conditions.clone()).collect()
        };
        own.into_iter().eq(of(&self.sides.new).iter())
    }

    /// Compares one definition of the file with both sides.
    fn compare(
        &self,
        old: &Chunk,
        new: &Chunk,
        own: &Chunk,
        is_sure: bool,
        regions: &mut Vec<Region>,
    ) {
        let drift = Drift::of(old, new, own);
        for change in changes(&drift.of_old, &drift.of_new) {
            let (mut found, at, mut doubts) = drift.find(&change);
            if found == Found::After || !doubts.is_empty() {
                if !is_sure {
                    doubts.push(Doubt::OtherDefinitions(new.key.clone()));
                }
                if !self.are_names_kept(new, &change) {
                    doubts.push(Doubt::OtherMacro(new.key.clone()));
                }
                let change = &change;
                doubts.extend(self.beside.doubts(&Place {
                    old,
                    new,
                    own,
                    change,
                }));
                if !doubts.is_empty() {
                    found = Found::Both;
                }
            }
            let line = at
                .and_then(|at| own.units.get(at).or_else(|| own.units.last()))
                .map(|unit| unit.line)
                .filter(|_| found != Found::Neither);
            let mut region = self.region(old, new, &change, found, line);
            region.block.doubts = doubts;
            regions.push(region);
        }
    }

    /// Tells whether the preprocessor of the file makes of the names of a change what that of the side
    /// after makes of them.
    fn are_names_kept(&self, new: &Chunk, change: &Change) -> bool {
        let own = new.units.get(change.new.clone()).unwrap_or_default();
        let words = own.iter().flat_map(|unit| unit.code.split(' '));
        let mut names: BTreeSet<&str> = words.collect();
        names.extend(KEYWORDS);
        names.insert(&new.key);
        let macros = self.source.macros();
        names
            .into_iter()
            .all(|name| macros.get(name) == self.sides.new_macros.get(name))
    }

    /// Judges a definition of which the file has not even the name.
    fn absent(&self, old: &Chunk, new: &Chunk, regions: &mut Vec<Region>) {
        let mut numbers = Numbers::default();
        let (of_old, of_new) = (numbers.of(&old.units), numbers.of(&new.units));
        for change in changes(&of_old, &of_new) {
            regions.push(self.region(old, new, &change, Found::Neither, None));
        }
    }

    /// Judges a definition that the change brings.
    fn added(&self, new: &Chunk) -> Option<Region> {
        match new.kind {
            ChunkKind::Include => return None,
            ChunkKind::Macro => return Some(self.macro_of(None, new)),
            ChunkKind::Function | ChunkKind::Braced | ChunkKind::Single => {}
        }
        let own = self.own(new);
        let same = own.iter().find(|own| is_same(own, new));
        let (found, line) = match (same, declared(new)) {
            (Some(same), _) => {
                let is_kept = same.conditions == new.conditions
                    && (own.len() == 1 || self.others_are_known(new))
                    && self.are_names_kept(
                        new,
                        &Change {
                            old: 0..0,
                            new: 0..new.units.len(),
                        },
                    );
                let found = if is_kept { Found::After } else { Found::Both };
                (found, Some(same.lines.0))
            }
            // The declaration that this one replaces.
            (None, Some(name)) if self.has_replaced(new, name) => (Found::Before, None),
            (None, Some(name)) if !normal::has_word(self.source.lines(), name) => {
                (Found::Before, None)
            }
            // It is there in other words, which is no side of the change.
            (None, _) if own.iter().any(|own| !self.is_of_old(own)) => (Found::Both, None),
            (None, _) => (Found::Neither, None),
        };
        Some(self.whole(None, Some(new), found, line))
    }

    /// Tells whether a definition is one that the side before has.
    fn is_of_old(&self, own: &Chunk) -> bool {
        let same = |old: &Chunk| (old.kind, &old.key) == (own.kind, &own.key) && is_same(old, own);
        self.sides.old.iter().any(same)
    }

    /// Tells whether the file has what declared `name` before the change.
    fn has_replaced(&self, new: &Chunk, name: &str) -> bool {
        let is_gone = |old: &&Chunk| {
            old.kind == new.kind
                && declared(old) == Some(name)
                && !self.sides.new.iter().any(|new| is_same(old, new))
        };
        let gone: Vec<&Chunk> = self.sides.old.iter().filter(is_gone).collect();
        gone.iter().any(|gone| {
            let own = self.own(gone);
            own.iter().any(|own| is_same(own, gone))
        })
    }

    /// Judges a definition that goes with the change. That it is not there proves nothing.
    fn removed(&self, old: &Chunk) -> Option<Region> {
        if old.kind == ChunkKind::Include {
            return None;
        }
        let own = self.own(old);
        let same = own.iter().find(|own| is_same(own, old));
        let (found, line) = match (same, old.kind) {
            (Some(same), _) => (Found::Before, Some(same.lines.0)),
            (None, ChunkKind::Function) if !own.is_empty() => (Found::Neither, None),
            (None, _) => return None,
        };
        Some(self.whole(Some(old), None, found, line))
    }

    /// Judges what is made of the name of a macro.
    fn macro_of(&self, old: Option<&Chunk>, new: &Chunk) -> Region {
        let own = self.source.macros().get(&new.key);
        let (was, is) = (
            self.sides.old_macros.get(&new.key),
            self.sides.new_macros.get(&new.key),
        );
        let chunks = self.own(new);
        let conditions: Vec<&Vec<String>> = chunks.iter().map(|own| &own.conditions).collect();
        let same = self
            .sides
            .new
            .iter()
            .filter(|it| it.kind == new.kind && it.key == new.key);
        let is_kept = same.map(|it| &it.conditions).eq(conditions);
        let found = match own {
            _ if own == is && is_kept => Found::After,
            _ if own == is => Found::Both,
            _ if own == was => Found::Before,
            _ => Found::Neither,
        };
        let line = chunks.first().map(|own| own.lines.0);
        self.whole(old, Some(new), found, line)
    }

    fn region(
        &self,
        old: &Chunk,
        new: &Chunk,
        change: &Change,
        found: Found,
        line: Option<u32>,
    ) -> Region {
        let is_function = new.kind == ChunkKind::Function;
        let sample = || {
            let old = longest(&old.units, &change.old, &self.sides.old_text);
            let new = longest(&new.units, &change.new, &self.sides.new_text);
            match found {
                Found::Before => old.or(new),
                Found::After | Found::Both | Found::Neither | Found::Nothing => new.or(old),
            }
        };
        Region {
            block: Block {
                found,
                line,
                function: is_function.then(|| new.key.clone()),
                sample: sample().unwrap_or_default(),
                doubts: Vec::new(),
                reach: match (line, is_function) {
                    (Some(_), true) => Reach::Function,
                    (Some(_), false) => Reach::Outside,
                    (None, _) => Reach::Unknown,
                },
            },
            old: lines(old, &change.old),
            new: lines(new, &change.new),
        }
    }

    /// The region of a whole definition.
    fn whole(
        &self,
        old: Option<&Chunk>,
        new: Option<&Chunk>,
        found: Found,
        line: Option<u32>,
    ) -> Region {
        let of = |chunk: Option<&Chunk>, lines: &str| {
            let chunk = chunk?;
            longest(&chunk.units, &(0..chunk.units.len()), lines)
        };
        let (before, after) = (of(old, &self.sides.old_text), of(new, &self.sides.new_text));
        let is_function =
            |chunk: Option<&Chunk>| chunk.is_some_and(|it| it.kind == ChunkKind::Function);
        let range = |chunk: Option<&Chunk>| {
            chunk.map_or(0..0, |chunk| chunk.lines.0..chunk.lines.1.saturating_add(1))
        };
        Region {
            block: Block {
                found,
                line: line.filter(|_| found != Found::Neither),
                function: None,
                sample: after.or(before).unwrap_or_default(),
                doubts: Vec::new(),
                reach: if is_function(new) && old.is_none() {
                    Reach::NewFunctions
                } else {
                    Reach::Outside
                },
            },
            old: range(old),
            new: range(new),
        }
    }
}

/// Counts the tokens of the units that two definitions share.
pub(super) fn likeness(left: &[Unit], right: &[Unit]) -> u32 {
    let known: BTreeSet<&str> = left.iter().map(|unit| unit.code.as_str()).collect();
    let shared = right
        .iter()
        .filter(|unit| known.contains(unit.code.as_str()));
    shared.fold(0, |sum, unit| sum.saturating_add(unit.tokens))
}

/// Returns the name that a declaration declares: the last word before its parameters, value or end.
fn declared(chunk: &Chunk) -> Option<&str> {
    if chunk.kind == ChunkKind::Function {
        return Some(&chunk.key);
    }
    let head = chunk.units.first()?.code.as_str();
    let end = head.find(['(', '=', ';', '[', '{']).unwrap_or(head.len());
    let (head, _) = head.split_at_checked(end)?;
    let mut words = head.split_ascii_whitespace().rev();
    words.find(|word| word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'))
}

/// Returns the lines of the units `range` of `chunk`.
fn lines(chunk: &Chunk, range: &Range<usize>) -> Range<u32> {
    let first = chunk.units.get(range.start).map(|unit| unit.line);
    let end = chunk.units.get(range.end).map(|unit| unit.line);
    let end = end.unwrap_or(chunk.lines.1.saturating_add(1));
    match first {
        Some(first) if !range.is_empty() => first..end.max(first.saturating_add(1)),
        Some(_) | None => 0..0,
    }
}

/// Returns the first line of the longest of the units `range`.
fn longest(units: &[Unit], range: &Range<usize>, lines: &str) -> Option<String> {
    let own = units.get(range.clone()).unwrap_or_default();
    let longest = own.iter().max_by_key(|unit| unit.tokens)?;
    let at = usize::try_from(longest.line).ok()?.checked_sub(1)?;
    lines.lines().nth(at).map(|line| line.trim().to_owned())
}

#[cfg(test)]
pub(super) mod tests;
