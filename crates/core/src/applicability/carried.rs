//! Whether a file of C holds a change, by the change's own lines.
//!
//! A change is cut into *blocks*, runs of added and removed lines. For each block both its sides are
//! looked for in the file: not at a line number, but as its lines joined to those around them, with
//! comments, blanks and indentation left out. What is found in the wrong function does not count where
//! the right one is known. Every doubt makes a block [`Found::Neither`] or [`Found::Both`]: to take a
//! kernel for fixed that is not is the error to avoid.

mod align;
mod beside;
mod cut;
mod decide;
mod doubt;
mod drift;
mod flow;
mod normal;
mod search;
mod source;
mod undone;
mod whole;
mod window;

use std::ops::Range;

pub use doubt::Doubt;
pub use source::Source;

use normal::NormalHunk;
use window::Shown;

/// The change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixFile {
    /// Path in the tree that the diff was made against.
    pub path: String,
    /// What happens to the file as a whole.
    pub change: FileChange,
    /// The hunks in order.
    pub hunks: Vec<FixHunk>,
    /// Whether its one hunk shows all of the file, as `git diff -U1000000` writes it.
    pub is_whole: bool,
}

/// What happens to a file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// It is there before and after.
    Edited,
    /// It comes with the change.
    Created,
    /// It goes with the change.
    Deleted,
}

/// One hunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixHunk {
    /// The text after the second `@@`, which names the function before the hunk's first line.
    pub heading: String,
    /// Its lines.
    pub lines: Vec<FixLine>,
}

/// One line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixLine {
    /// Where the line is.
    pub side: FixSide,
    /// Its text, without the mark and the newline.
    pub text: String,
}

/// Which version of the file holds a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixSide {
    /// Both: context.
    Both,
    /// The old version alone: removed.
    Old,
    /// The new version alone: added.
    New,
}

/// What was found of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// The side after the change, and not the one before.
    After,
    /// The side before the change, and not the one after.
    Before,
    /// Both, in places between which nothing decides.
    Both,
    /// Neither.
    Neither,
    /// Its lines are too short or too few to tell.
    Nothing,
}

/// One block and what was found of it in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What was found.
    pub found: Found,
    /// First line in the file of what was found, from 1; `None` where nothing was.
    pub line: Option<u32>,
    /// The function there; where nothing was found, the one that the hunk names.
    pub function: Option<String>,
    /// Its longest line as the diff has it, of the side that was found, else of the one after.
    pub sample: String,
    /// Why it is not [`Found::After`], though the side after stands at its line; with [`Found::Both`] alone.
    pub doubts: Vec<Doubt>,
    /// What of the file it changes.
    pub reach: Reach,
}

/// What of a file a block changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The body or the head of the one function at its line.
    Function,
    /// Nothing that was there: it brings whole functions.
    NewFunctions,
    /// Something outside of functions: data, a macro, a type, a declaration.
    Outside,
    /// It was not found.
    Unknown,
}

/// Looks for the change of one file in `source`.
pub fn look_for(file: &FixFile, source: &Source) -> Vec<Block> {
    match (file.is_whole, file.hunks.as_slice()) {
        (true, [hunk]) => look_whole(hunk, source),
        _ => look(&file.hunks, source),
    }
}

/// Looks for the blocks of the `hunks` of one file in `source`.
pub fn look(hunks: &[FixHunk], source: &Source) -> Vec<Block> {
    let shown = Shown::by(hunks);
    let mut blocks = Vec::new();
    for hunk in hunks {
        let hunk = NormalHunk::of(hunk);
        let whole = decide::whole(&hunk, source);
        for at in hunk.blocks().iter().filter(|block| hunk.has_code(block)) {
            let (mut block, place) = decide::block(&hunk, at, source, &whole);
            if let Some(place) = place {
                block.doubts = window::doubts(&hunk, at, source, place, &shown);
            }
            if !block.doubts.is_empty() {
                block.found = Found::Both;
            }
            blocks.push(block);
        }
    }
    blocks
}

/// Looks for the change of a file that `hunk` shows as a whole. What its definitions leave open is
/// looked for by lines, as that of any hunk.
fn look_whole(hunk: &FixHunk, source: &Source) -> Vec<Block> {
    let sides = whole::Sides::of(hunk);
    let regions = sides.look(source);
    let is_open = |found| match found {
        Found::Neither => true,
        Found::After | Found::Before | Found::Both | Found::Nothing => false,
    };
    if !regions.iter().any(|region| is_open(region.block.found)) {
        return regions.into_iter().map(|region| region.block).collect();
    }
    let by_lines: Vec<whole::Region> = cut::hunks(hunk)
        .iter()
        .flat_map(|part| look_by_lines(part, source))
        .collect();
    let mut blocks = Vec::with_capacity(regions.len());
    for region in regions {
        if !is_open(region.block.found) {
            blocks.push(region.block);
            continue;
        }
        let within = by_lines.iter().filter(|other| region.touches(other));
        let within: Vec<&Block> = within.map(|other| &other.block).collect();
        let all = |found| !within.is_empty() && within.iter().all(|block| block.found == found);
        let is_in_force = |block: &&Block| {
            let line = block.line;
            line.is_some_and(|line| sides.confirms(&region, source, line))
        };
        // A function that the fix brings and that is there in other words was not missing.
        let is_brought = region.block.reach == Reach::NewFunctions;
        if (all(Found::Before) && !is_brought)
            || (all(Found::After) && within.iter().all(is_in_force))
        {
            blocks.extend(within.into_iter().cloned());
        } else {
            blocks.push(region.block);
        }
    }
    blocks
}

/// As [`look`], with the lines of the file's sides that each block changes.
fn look_by_lines(part: &cut::Part, source: &Source) -> Vec<whole::Region> {
    let hunk = NormalHunk::of(&part.hunk);
    let whole = decide::whole(&hunk, source);
    hunk.blocks()
        .iter()
        .filter(|block| hunk.has_code(block))
        .map(|block| whole::Region {
            block: decide::block(&hunk, block, source, &whole).0,
            old: part.old_lines(hunk.numbers(block, FixSide::Old)),
            new: part.new_lines(hunk.numbers(block, FixSide::New)),
        })
        .collect()
}

/// Names the samples of `hunk`, for a file that is not there.
pub fn unseen(hunk: &FixHunk) -> Vec<Block> {
    let hunk = NormalHunk::of(hunk);
    hunk.blocks()
        .iter()
        .filter(|block| hunk.has_code(block))
        .map(|block| Block {
            found: if hunk.is_telling(block) {
                Found::Neither
            } else {
                Found::Nothing
            },
            line: None,
            function: block.function.clone(),
            sample: hunk.sample(block, FixSide::New),
            doubts: Vec::new(),
            reach: Reach::Unknown,
        })
        .collect()
}

/// What the blocks of one fix say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every block is after the change.
    Carries,
    /// Every block that tells is before the change.
    Lacks,
    /// Some are after and some before, or some are neither.
    Partial,
    /// No block tells.
    Nothing,
}

/// Weighs the blocks of one fix.
pub fn weigh(blocks: impl IntoIterator<Item = Found>) -> Verdict {
    let (mut after, mut before, mut untold) = (false, false, false);
    for found in blocks {
        match found {
            Found::After => after = true,
            Found::Before => before = true,
            Found::Both | Found::Neither => return Verdict::Partial,
            Found::Nothing => untold = true,
        }
    }
    match (after, before) {
        // A short line may be all that was forgotten of the fix.
        (true, false) if untold => Verdict::Partial,
        (true, false) => Verdict::Carries,
        (false, true) => Verdict::Lacks,
        (true, true) => Verdict::Partial,
        (false, false) => Verdict::Nothing,
    }
}

/// A run of added and removed lines: indices into the lines of one side each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BlockAt {
    old: Range<usize>,
    new: Range<usize>,
    /// The function it lies in, as far as the hunk says.
    function: Option<String>,
}

#[cfg(test)]
mod tests;
