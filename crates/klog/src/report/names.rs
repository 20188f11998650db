//! Lists of function names: the short notation they are written in, and a matcher for them.
//!
//! `a{b,c}d` stands for `abd` and `acd`. `^` in front and `$` behind bind a name to the start and
//! the end of the function's; without them it may stand anywhere. `#` is one digit, `*` anything.

/// Names to match a function's name against. A function is walked over once: nearly no place of it
/// has the key of a name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// A bit for each key of a name that may stand anywhere; empty where there is none.
    keys: Vec<u64>,
    /// Those names, by the low bits of their keys.
    anywhere: Vec<Vec<Box<[u8]>>>,
    /// Names bound to a function's start, by their first byte.
    started: Vec<Vec<Bound>>,
    /// Names bound to a function's end alone, by their last byte.
    ended: Vec<Vec<Bound>>,
    /// What else is bound.
    bound: Vec<Bound>,
}

/// Lists of names that share the low bits of their keys.
const SHELVES: usize = 256;

#[derive(Debug)]
struct Bound {
    start: bool,
    end: bool,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    text: Box<[u8]>,
    /// It has a `#`.
    digits: bool,
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
                let bound = Bound::new(&name);
                let (shelves, byte) = match (bound.first(), bound.last()) {
                    (Some(first), _) => (&mut names.started, first),
                    (None, Some(last)) => (&mut names.ended, last),
                    (None, None) => {
                        names.bound.push(bound);
                        continue;
                    }
                };
                shelves.resize_with(256, Vec::new);
                if let Some(shelf) = shelves.get_mut(usize::from(byte)) {
                    shelf.push(bound);
                }
            } else if let Some(key) = name.as_bytes().first_chunk().copied().map(key) {
                names.keys.resize(512, 0);
                names.anywhere.resize(SHELVES, Vec::new());
                if let Some(word) = names.keys.get_mut(key / 64) {
                    *word |= 1 << (key % 64);
                }
                if let Some(shelf) = names.anywhere.get_mut(key % SHELVES) {
                    shelf.push(name.as_bytes().into());
                }
            }
        }
        names
    }

    /// Tells whether `function` is on the list.
    pub(super) fn has(&self, function: &[u8]) -> bool {
        let fits = |shelves: &[Vec<Bound>], byte: Option<&u8>| {
            let shelf = byte.and_then(|byte| shelves.get(usize::from(*byte)));
            shelf.is_some_and(|shelf| shelf.iter().any(|bound| bound.fits(function)))
        };
        self.has_anywhere(function)
            || fits(&self.started, function.first())
            || fits(&self.ended, function.last())
            || self.bound.iter().any(|bound| bound.fits(function))
    }

    fn has_anywhere(&self, function: &[u8]) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let mut key = 0;
        function.iter().enumerate().any(|(at, byte)| {
            key = shifted(key, *byte);
            let may = self
                .keys
                .get(key / 64)
                .is_some_and(|word| word >> (key % 64) & 1 != 0);
            may && at >= 2
                && self.anywhere.get(key % SHELVES).is_some_and(|names| {
                    let rest = function.get(at - 2..).unwrap_or_default();
                    names.iter().any(|name| rest.starts_with(name))
                })
        })
    }
}

/// Names are of letters, digits and `_`: five bits of each byte tell most apart.
fn key(bytes: [u8; 3]) -> usize {
    bytes.into_iter().fold(0, shifted)
}

/// The key of the last three bytes.
fn shifted(key: usize, byte: u8) -> usize {
    (key << 5 | usize::from(byte & 0x1f)) & 0x7fff
}

impl Bound {
    fn new(name: &str) -> Self {
        let start = name.starts_with('^');
        let pieces = name
            .trim_start_matches('^')
            .trim_end_matches('$')
            .split('*')
            .map(|piece| Piece {
                text: piece.as_bytes().into(),
                digits: piece.contains('#'),
            })
            .collect();
        Self {
            start,
            end: name.ends_with('$'),
            pieces,
        }
    }

    /// The byte a function has to start with, where there is one.
    fn first(&self) -> Option<u8> {
        let first = self.pieces.first().and_then(|piece| piece.text.first());
        first.copied().filter(|byte| self.start && *byte != b'#')
    }

    /// The byte a function has to end with, where there is one.
    fn last(&self) -> Option<u8> {
        let last = self.pieces.last().and_then(|piece| piece.text.last());
        last.copied().filter(|byte| self.end && *byte != b'#')
    }

    fn fits(&self, function: &[u8]) -> bool {
        if let [piece] = self.pieces.as_slice() {
            let behind = function.len().checked_sub(piece.text.len());
            match (self.start, self.end) {
                (true, true) => return behind == Some(0) && piece.fits(function, 0),
                (true, false) => return piece.fits(function, 0),
                (false, true) => return behind.is_some_and(|at| piece.fits(function, at)),
                (false, false) => {}
            }
        }
        let starts = if self.start { 1 } else { function.len() + 1 };
        let head = self.pieces.first().and_then(|piece| piece.text.first());
        let head = head.copied().filter(|byte| *byte != b'#');
        (0..starts).any(|start| {
            if head.is_some() && head != function.get(start).copied() {
                return false;
            }
            let mut at = start;
            for (index, piece) in self.pieces.iter().enumerate() {
                let last = if index == 0 { at } else { function.len() };
                match (at..=last).find(|place| piece.fits(function, *place)) {
                    Some(place) => at = place + piece.text.len(),
                    None => return false,
                }
            }
            !self.end || at == function.len()
        })
    }
}

impl Piece {
    fn fits(&self, function: &[u8], at: usize) -> bool {
        let Some(part) = function.get(at..at + self.text.len()) else {
            return false;
        };
        if !self.digits {
            return *part == *self.text;
        }
        part.iter().zip(&self.text).all(|(have, want)| {
            if *want == b'#' {
                have.is_ascii_digit()
            } else {
                have == want
            }
        })
    }
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
