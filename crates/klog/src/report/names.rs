//! Lists of function names: the short notation they are written in, and a matcher for them.
//!
//! `a{b,c}d` stands for `abd` and `acd`. `^` in front and `$` behind bind a name to the start and
//! the end of the function's; without them it may stand anywhere. `#` is one digit, `*` anything.

use std::collections::HashMap;

/// Names to match a function's name against.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names that may stand anywhere, by a key of their first bytes: a function is walked over once.
    anywhere: HashMap<u16, Vec<Box<[u8]>>>,
    /// A bit for each of their keys: most places of a function have none.
    starts: Vec<u64>,
    bound: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    start: bool,
    end: bool,
    pieces: Vec<String>,
}

impl Names {
    /// Reads lists in the notation.
    pub(super) fn new(lists: &[&[&str]]) -> Self {
        let mut names = Self::default();
        for name in lists
            .iter()
            .copied()
            .flatten()
            .flat_map(|name| expand(name))
        {
            if name.contains(['^', '$', '#', '*']) || name.len() < 3 {
                let start = name.starts_with('^');
                let end = name.ends_with('$');
                let pieces = name
                    .trim_start_matches('^')
                    .trim_end_matches('$')
                    .split('*')
                    .map(ToOwned::to_owned)
                    .collect();
                names.bound.push(Bound { start, end, pieces });
            } else if let Some(key) = name.as_bytes().first_chunk().copied().map(key) {
                let bit = usize::from(key);
                names.starts.resize(1024, 0);
                if let Some(word) = names.starts.get_mut(bit / 64) {
                    *word |= 1 << (bit % 64);
                }
                names
                    .anywhere
                    .entry(key)
                    .or_default()
                    .push(name.as_bytes().into());
            }
        }
        names
    }

    /// Tells whether `function` is on the list.
    pub(super) fn has(&self, function: &[u8]) -> bool {
        let somewhere = function.windows(3).enumerate().any(|(at, window)| {
            let Some(key) = window.first_chunk().copied().map(key) else {
                return false;
            };
            let bit = usize::from(key);
            let may = self
                .starts
                .get(bit / 64)
                .is_some_and(|word| word >> (bit % 64) & 1 != 0);
            may && self.anywhere.get(&key).is_some_and(|names| {
                let rest = function.get(at..).unwrap_or_default();
                names.iter().any(|name| rest.starts_with(name))
            })
        });
        somewhere || self.bound.iter().any(|bound| bound.fits(function))
    }
}

/// Names are of letters, digits and `_`: five bits of each byte tell most apart.
fn key(bytes: [u8; 3]) -> u16 {
    bytes
        .iter()
        .fold(0, |key, byte| key << 5 | u16::from(byte & 0x1f))
}

impl Bound {
    fn fits(&self, function: &[u8]) -> bool {
        let starts = if self.start { 1 } else { function.len() + 1 };
        (0..starts).any(|start| {
            let mut at = start;
            for (index, piece) in self.pieces.iter().enumerate() {
                let last = if index == 0 { at } else { function.len() };
                match (at..=last).find(|place| same(function, *place, piece)) {
                    Some(place) => at = place + piece.len(),
                    None => return false,
                }
            }
            !self.end || at == function.len()
        })
    }
}

fn same(function: &[u8], at: usize, piece: &str) -> bool {
    let Some(part) = function.get(at..at + piece.len()) else {
        return false;
    };
    part.iter().zip(piece.bytes()).all(|(have, want)| {
        if want == b'#' {
            have.is_ascii_digit()
        } else {
            *have == want
        }
    })
}

/// Undoes the braces.
fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (inside, after) = rest.split_once('}').unwrap_or((rest, ""));
    let tails = expand(after);
    inside
        .split(',')
        .flat_map(|choice| {
            tails
                .iter()
                .map(move |tail| format!("{before}{choice}{tail}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bound_where_they_say_so() {
        let names = Names::new(&[&[
            "^kfree$",
            "mem{cpy,set}",
            "^crc#",
            "_trap$",
            "once_*nocheck",
        ]]);
        for name in [
            "kfree",
            "__memcpy_mcsafe",
            "memset",
            "crc32c",
            "x_trap",
            "read_once_word_nocheck",
        ] {
            assert!(names.has(name.as_bytes()), "{name}");
        }
        for name in [
            "kfree_skb",
            "memory",
            "crc_itu_t",
            "a_crc32",
            "trap",
            "x_traps",
            "once_x",
            "",
        ] {
            assert!(!names.has(name.as_bytes()), "{name}");
        }
    }
}
