//! What two versions of a header do not share.

use std::collections::BTreeSet;

use super::Declaration;

/// Returns the declarations that are in one of two versions alone.
///
/// An order that changed is a change, too: the moved declarations are returned.
pub(in crate::replay) fn differing<'a>(
    old: &'a [Declaration],
    new: &'a [Declaration],
) -> Vec<&'a Declaration> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let old = old.get(head..).unwrap_or_default();
    let new = new.get(head..).unwrap_or_default();
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let old = old
        .get(..old.len().saturating_sub(tail))
        .unwrap_or_default();
    let new = new
        .get(..new.len().saturating_sub(tail))
        .unwrap_or_default();
    let common = longest_common(old, new);
    let alone = |side: &'a [Declaration], pick: fn(&(usize, usize)) -> usize| {
        let kept: BTreeSet<usize> = common.iter().map(pick).collect();
        side.iter()
            .enumerate()
            .filter(move |(index, _)| !kept.contains(index))
            .map(|(_, declaration)| declaration)
            .collect::<Vec<_>>()
    };
    let mut differing = alone(old, |pair| pair.0);
    differing.extend(alone(new, |pair| pair.1));
    differing
}

/// Largest table of the comparison; beyond it everything in between counts as differing.
const LARGEST_TABLE: usize = 16 << 20;

fn longest_common(old: &[Declaration], new: &[Declaration]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let Some(size) = (old.len() + 1).checked_mul(width) else {
        return Vec::new();
    };
    if size > LARGEST_TABLE {
        return Vec::new();
    }
    let mut table = vec![0_u32; size];
    let at = |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or(0);
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let best = if a == b {
                at(&table, i + 1, j + 1) + 1
            } else {
                at(&table, i + 1, j).max(at(&table, i, j + 1))
            };
            if let Some(cell) = table.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    let (mut i, mut j, mut common) = (0, 0, Vec::new());
    while let (Some(a), Some(b)) = (old.get(i), new.get(j)) {
        if a == b {
            common.push((i, j));
            i += 1;
            j += 1;
        } else if at(&table, i + 1, j) >= at(&table, i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::super::declarations;
    use super::*;

    #[test]
    fn only_what_changed_differs_and_comments_do_not_count() {
        let old = declarations(b"int a;\nint b; /* one */\n#ifdef X\nint c;\n#endif\n");
        let new = declarations(b"int a;\n/* more */\nint b2;\nint b;\n#ifdef X\nint c;\n#endif\n");
        let found: Vec<String> = differing(&old, &new)
            .iter()
            .map(|declaration| declaration.tokens.join(" "))
            .collect();
        assert_eq!(found, ["int b2 ;"]);
    }
}
