//! Lays the units of one definition beside those of another.

use std::collections::BTreeMap;

use super::flow;
use crate::ctext::Unit;

/// Most cells of the table by which two runs are compared; longer ones are compared at their ends.
const LARGEST_TABLE: usize = 4 << 20;

/// Fewest tokens of a unit that is known when it is seen again: `goto out ;` stands everywhere.
pub(super) const TELLING: u32 = 4;

/// Gives each text of a unit one number.
#[derive(Default)]
pub(super) struct Numbers<'a> {
    known: BTreeMap<&'a str, u32>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of(&mut self, units: &'a [Unit]) -> Vec<u32> {
        let number = |unit: &'a Unit| {
            let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
            *self.known.entry(&unit.code).or_insert(next)
        };
        units.iter().map(number).collect()
    }
}

/// Returns the pairs of equal items of a longest common subsequence, in order.
pub(super) fn common<T: PartialEq>(old: &[T], new: &[T]) -> Vec<(usize, usize)> {
    let front = old.iter().zip(new).take_while(|(l, r)| l == r).count();
    let back = old
        .iter()
        .skip(front)
        .rev()
        .zip(new.iter().skip(front).rev())
        .take_while(|(l, r)| l == r)
        .count();
    let mut pairs: Vec<(usize, usize)> = (0..front).map(|at| (at, at)).collect();
    let inner_old = old.get(front..old.len() - back).unwrap_or_default();
    let inner_new = new.get(front..new.len() - back).unwrap_or_default();
    let (rows, columns) = (inner_old.len() + 1, inner_new.len() + 1);
    if rows.saturating_mul(columns) <= LARGEST_TABLE {
        let table = lengths(inner_old, inner_new);
        let (mut row, mut column) = (0, 0);
        while let (Some(left), Some(right)) = (inner_old.get(row), inner_new.get(column)) {
            let cell = |row: usize, column: usize| table.get(row * columns + column).copied();
            if left == right {
                pairs.push((front + row, front + column));
                (row, column) = (row + 1, column + 1);
            } else if cell(row + 1, column) >= cell(row, column + 1) {
                row += 1;
            } else {
                column += 1;
            }
        }
    }
    let (from_old, from_new) = (old.len() - back, new.len() - back);
    pairs.extend((0..back).map(|at| (from_old + at, from_new + at)));
    pairs
}

/// Fills the table of the lengths of common subsequences of the tails, row by row.
fn lengths<T: PartialEq>(old: &[T], new: &[T]) -> Vec<u32> {
    let columns = new.len() + 1;
    let mut table = vec![0_u32; (old.len() + 1) * columns];
    for (row, left) in old.iter().enumerate().rev() {
        for (column, right) in new.iter().enumerate().rev() {
            let at = |row: usize, column: usize| row * columns + column;
            let get = |index: usize| table.get(index).copied().unwrap_or(0);
            let best = if left == right {
                get(at(row + 1, column + 1)) + 1
            } else {
                get(at(row + 1, column)).max(get(at(row, column + 1)))
            };
            if let Some(cell) = table.get_mut(at(row, column)) {
                *cell = best;
            }
        }
    }
    table
}

/// Returns for each of `side` its place in `own`, where it has one.
pub(super) fn places(side: &[u32], own: &[u32]) -> Vec<Option<usize>> {
    let mut places = vec![None; side.len()];
    for (left, right) in common(side, own) {
        if let Some(place) = places.get_mut(left) {
            *place = Some(right);
        }
    }
    places
}

/// Counts the tokens of `units`.
pub(super) fn tokens(units: &[Unit]) -> u32 {
    units
        .iter()
        .fold(0, |sum, unit| sum.saturating_add(unit.tokens))
}

/// Returns what the unit at `at` stands in: the heads of the blocks around it within the definition and
/// the conditions of the preprocessor there, the outermost first.
pub(super) fn path(units: &[Unit], at: usize) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    // Each condition with the blocks that were open where it began.
    let mut conditions: Vec<(String, Vec<String>)> = Vec::new();
    let mut heads: Vec<&str> = Vec::new();
    for unit in units.iter().take(at) {
        let code = unit.code.as_str();
        if let Some(directive) = code.strip_prefix("# ") {
            if directive.starts_with("if") {
                conditions.push((code.to_owned(), blocks.clone()));
            } else if directive.starts_with("el") {
                if let Some((condition, open)) = conditions.last_mut() {
                    condition.push_str(" | ");
                    condition.push_str(code);
                    blocks.clone_from(open);
                }
            } else if directive.starts_with("endif") {
                conditions.pop();
            }
            continue;
        }
        if is_head(code) {
            heads.push(code);
            continue;
        }
        if code == "{" || code.ends_with(" {") {
            heads.push(code);
            blocks.push(heads.join(" "));
        } else if code == "}" {
            blocks.pop();
        }
        heads.clear();
    }
    // The outermost is the definition itself.
    let mut blocks: Vec<String> = blocks.into_iter().skip(1).collect();
    blocks.extend(conditions.into_iter().map(|(condition, _)| condition));
    blocks
}

/// Tells whether the unit at `at` never runs, whatever it is part of: behind a jump, or in a block whose
/// condition is never true.
pub(super) fn is_cut_off(units: &[Unit], at: usize) -> bool {
    const NEVER: [&str; 6] = [
        "if ( 0 )",
        "if ( 0 & &",
        "if ( false",
        "while ( 0 )",
        "while ( false )",
        "for ( ; 0 ;",
    ];
    let is_never = |block: &String| NEVER.iter().any(|never| block.starts_with(never));
    flow::unreached(units).get(at) == Some(&true) || path(units, at).iter().any(is_never)
}

/// Tells whether the next statement is the one that this unit controls.
pub(super) fn is_head(code: &str) -> bool {
    let word = code.split(' ').next().unwrap_or_default();
    match word {
        "else" | "do" => code == word,
        "if" | "for" | "while" | "switch" => code.ends_with(')'),
        _ => false,
    }
}

pub(super) fn is_jump(code: &str) -> bool {
    let word = code.split(' ').next().unwrap_or_default();
    matches!(word, "return" | "goto" | "break" | "continue")
}
