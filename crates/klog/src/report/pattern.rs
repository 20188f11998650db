//! Patterns of report lines: literal text with a few kinds of gaps, matched in linear time.
//!
//! | in a pattern | stands for | captured |
//! |---|---|---|
//! | `{func}` | a function's name, up to the `.` or `+` behind it, which is taken too | yes |
//! | `{src}` | `file.c:12` | yes |
//! | `{kebab}`, `{~kebab}` | lower-case letters and dashes | the first |
//! | `{word}` | lower-case letters and `_` | yes |
//! | `{name}` | letters, digits and `_` | yes |
//! | `{rest}`, `{some}` | the rest of the line; the second is not empty | yes |
//! | `{until}` | as little as possible before the next piece | yes |
//! | `{a\|b}` | one of these texts, the first that fits | yes |
//! | `{?a\|b}` | the same | no |
//! | `{pc}` | `[<ffff…>]` or `[0x…]` and the blanks behind it | no |
//! | `{pc?}` | the same, or nothing | no |
//! | `{hex}`, `{num}` | digits, at least one | no |
//! | `{*}` | anything within the line, as little as possible | no |
//! | `{line}` | the end of this line and as many more as it takes | no |
//! | `{blank}` | nothing but blanks up to the end of the line | no |

use memchr::memmem::Finder;

use super::lines::{Lines, Place};

/// A pattern, ready to be searched for.
#[derive(Debug)]
pub(super) struct Pattern {
    /// One entry for each line that has to be found; the first is where a match starts.
    lines: Vec<Vec<Run>>,
}

/// Pieces that follow each other without a gap.
#[derive(Debug, Default)]
struct Run {
    start: Start,
    pieces: Vec<Piece>,
}

/// Where a run may begin.
#[derive(Debug, Default)]
enum Start {
    #[default]
    Anywhere,
    Text(Box<Finder<'static>>),
    /// At one of these bytes.
    Bytes(Vec<u8>),
}

impl Start {
    fn of(piece: &Piece) -> Self {
        match piece {
            Piece::Text(text) => Self::Text(Box::new(Finder::new(*text))),
            Piece::OneOf { texts, .. } => {
                let bytes: Option<Vec<u8>> =
                    texts.iter().map(|text| text.first().copied()).collect();
                bytes.map_or(Self::Anywhere, Self::Bytes)
            }
            Piece::Function
            | Piece::Source
            | Piece::Class { .. }
            | Piece::Rest { .. }
            | Piece::Until(_)
            | Piece::Address
            | Piece::MaybeAddress
            | Piece::Blank => Self::Anywhere,
        }
    }

    fn find(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Anywhere => Some(0),
            Self::Text(finder) => finder.find(rest),
            Self::Bytes(bytes) => match bytes.as_slice() {
                [one] => memchr::memchr(*one, rest),
                [one, two] => memchr::memchr2(*one, *two, rest),
                [one, two, three] => memchr::memchr3(*one, *two, *three, rest),
                many => rest.iter().position(|byte| many.contains(byte)),
            },
        }
    }
}

#[derive(Debug)]
enum Piece {
    Text(&'static [u8]),
    OneOf {
        texts: Vec<&'static [u8]>,
        captured: bool,
    },
    Function,
    Source,
    Class {
        of: fn(u8) -> bool,
        captured: bool,
    },
    Rest {
        least: usize,
    },
    Until(&'static [u8]),
    Address,
    MaybeAddress,
    Blank,
}

/// Where a pattern was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Match<'a> {
    /// Line of its first byte.
    pub(super) line: usize,
    /// Byte of that line.
    pub(super) column: usize,
    /// What the gaps held.
    pub(super) captures: Vec<&'a [u8]>,
}

impl Pattern {
    /// Reads `text`. A mistake in it is one of ours, found by the test that reads all of them.
    pub(super) fn new(text: &'static str) -> Self {
        let mut lines = vec![vec![Run::default()]];
        let mut rest = text;
        while !rest.is_empty() {
            let gap = rest.find('{').unwrap_or(rest.len());
            let (literal, after) = rest.split_at(gap);
            let runs = lines.last_mut().expect("one line is there from the start");
            let run = runs.last_mut().expect("one run is there from the start");
            if !literal.is_empty() {
                run.pieces.push(Piece::Text(literal.as_bytes()));
            }
            let Some((name, after)) = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'))
            else {
                break;
            };
            match name {
                "*" => runs.push(Run::default()),
                "line" => lines.push(vec![Run::default()]),
                "until" => {
                    let end = after.find('{').unwrap_or(after.len());
                    run.pieces
                        .push(Piece::Until(after.split_at(end).0.as_bytes()));
                }
                _ => run.pieces.push(Piece::new(name)),
            }
            rest = after;
        }
        for run in lines.iter_mut().flatten() {
            run.start = run.pieces.first().map(Start::of).unwrap_or_default();
        }
        Self { lines }
    }

    /// Looks for the pattern in `lines` from `from` on.
    ///
    /// Each part is taken where it first fits: what has to follow it can only be missed there if it
    /// is missing behind every later place too.
    ///
    /// `spots` are the places, in order, that a match can start at.
    pub(super) fn find<'a>(
        &self,
        lines: Lines<'a>,
        from: Place,
        spots: &[Place],
    ) -> Option<Match<'a>> {
        let (first, more) = self.lines.split_first()?;
        let (start, rest) = first.split_first()?;
        let mut found = Match::default();
        // On a line where the start fits and the rest does not, no later place is any better.
        let mut missed = None;
        let spot = spots.iter().find(|spot| {
            if **spot < from || missed == Some(spot.line) {
                return false;
            }
            let line = lines.get(spot.line);
            found.captures.clear();
            let Some(end) = start.fit(line, spot.column, &mut found.captures) else {
                return false;
            };
            let fits = rest.is_empty() || find_runs(rest, line, end, &mut found.captures).is_some();
            if !fits {
                missed = Some(spot.line);
            }
            fits
        })?;
        (found.line, found.column) = (spot.line, spot.column);
        let mut next = found.line + 1;
        for runs in more {
            let before = found.captures.len();
            next += (next..lines.len()).position(|index| {
                found.captures.truncate(before);
                find_runs(runs, lines.get(index), 0, &mut found.captures).is_some()
            })? + 1;
        }
        Some(found)
    }

    /// Looks for a pattern of one line in `line`; returns what it captured.
    pub(super) fn find_in<'a>(&self, line: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let mut captures = Vec::new();
        let runs = self.lines.first()?;
        find_runs(runs, line, 0, &mut captures).map(|_| captures)
    }
}

fn find_runs<'a>(
    runs: &[Run],
    line: &'a [u8],
    from: usize,
    captures: &mut Vec<&'a [u8]>,
) -> Option<usize> {
    let mut start = None;
    let mut at = from;
    for run in runs {
        let (first, end) = run.find(line, at, captures)?;
        start.get_or_insert(first);
        at = end;
    }
    start
}

impl Run {
    fn find<'a>(
        &self,
        line: &'a [u8],
        from: usize,
        captures: &mut Vec<&'a [u8]>,
    ) -> Option<(usize, usize)> {
        let before = captures.len();
        let mut at = from;
        while at <= line.len() {
            at += self.start.find(line.get(at..)?)?;
            if let Some(end) = self.fit(line, at, captures) {
                return Some((at, end));
            }
            captures.truncate(before);
            at += 1;
        }
        None
    }

    fn fit<'a>(&self, line: &'a [u8], from: usize, captures: &mut Vec<&'a [u8]>) -> Option<usize> {
        let mut at = from;
        for piece in &self.pieces {
            at = piece.fit(line, at, captures)?;
        }
        Some(at)
    }
}

impl Piece {
    fn new(name: &'static str) -> Self {
        let class = |of, captured| Self::Class { of, captured };
        match name {
            "func" => Self::Function,
            "src" => Self::Source,
            "kebab" => class(|byte| byte.is_ascii_lowercase() || byte == b'-', true),
            "word" => class(|byte| byte.is_ascii_lowercase() || byte == b'_', true),
            "name" => class(is_name, true),
            "hex" => class(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'), false),
            "num" => class(|byte| byte.is_ascii_digit(), false),
            "~kebab" => class(|byte| byte.is_ascii_lowercase() || byte == b'-', false),
            "rest" => Self::Rest { least: 0 },
            "some" => Self::Rest { least: 1 },
            "pc" => Self::Address,
            "pc?" => Self::MaybeAddress,
            "blank" => Self::Blank,
            _ => {
                let (texts, captured) = match name.strip_prefix('?') {
                    Some(texts) => (texts, false),
                    None => (name, true),
                };
                Self::OneOf {
                    texts: texts.split('|').map(str::as_bytes).collect(),
                    captured,
                }
            }
        }
    }

    fn fit<'a>(&self, line: &'a [u8], at: usize, captures: &mut Vec<&'a [u8]>) -> Option<usize> {
        let rest = line.get(at..)?;
        let mut keep = |bytes: &'a [u8]| captures.push(bytes);
        let taken = match self {
            Self::Text(text) => rest.starts_with(text).then_some(text.len())?,
            Self::OneOf { texts, captured } => {
                let text = texts.iter().find(|text| rest.starts_with(text))?;
                if *captured {
                    keep(text);
                }
                text.len()
            }
            Self::Function => {
                let (name, taken) = function(rest)?;
                keep(name);
                taken
            }
            Self::Source => {
                let length = source(rest)?;
                keep(rest.get(..length)?);
                length
            }
            Self::Class { of, captured } => {
                let length = span(rest, *of);
                if length == 0 {
                    return None;
                }
                if *captured {
                    keep(rest.get(..length)?);
                }
                length
            }
            Self::Rest { least } => {
                if rest.len() < *least {
                    return None;
                }
                keep(rest);
                rest.len()
            }
            Self::Until(text) => {
                let length = memchr::memmem::find(rest, text)?;
                keep(rest.get(..length)?);
                length
            }
            Self::Address => address(rest)?,
            Self::MaybeAddress => address(rest).unwrap_or(0),
            Self::Blank => rest
                .iter()
                .all(u8::is_ascii_whitespace)
                .then_some(rest.len())?,
        };
        Some(at + taken)
    }
}

/// Counts the bytes at the start of `text` that are `of` a kind.
pub(super) fn span(text: &[u8], of: impl Fn(u8) -> bool) -> usize {
    text.iter()
        .position(|byte| !of(*byte))
        .unwrap_or(text.len())
}

/// Tells whether `byte` can be part of a function's name.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `name+` or `name.`; returns the name and the bytes taken.
pub(super) fn function(text: &[u8]) -> Option<(&[u8], usize)> {
    let length = span(text, is_name);
    let (name, after) = text.split_at_checked(length)?;
    (length > 0 && matches!(after.first(), Some(b'.' | b'+'))).then_some((name, length + 1))
}

/// `[<ffffffff81000000>] `, `[0xc0000000] `; returns the bytes taken, with the blanks behind it.
pub(super) fn address(text: &[u8]) -> Option<usize> {
    let length = bracketed(text)?;
    let blanks = span(text.get(length..)?, |byte| byte == b' ');
    (blanks > 0).then_some(length + blanks)
}

/// The same without what follows.
pub(super) fn bracketed(text: &[u8]) -> Option<usize> {
    let mut rest = text.strip_prefix(b"[")?;
    rest = rest.strip_prefix(b"<").unwrap_or(rest);
    if let Some(after) = rest.strip_prefix(b"0x") {
        rest = after;
    }
    let digits = span(rest, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    rest = rest.get(digits..)?;
    rest = rest.strip_prefix(b">").unwrap_or(rest);
    rest = rest.strip_prefix(b"]")?;
    (digits > 0).then(|| text.len() - rest.len())
}

/// `dir/file.c:12`; returns its length.
fn source(text: &[u8]) -> Option<usize> {
    let path = span(text, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'.')
    });
    let (name, after) = text.split_at_checked(path)?;
    let extension = name.len() - memchr::memrchr(b'.', name)?.checked_add(1)?;
    let ending = name.get(name.len() - extension..)?;
    let digits = span(after.strip_prefix(b":")?, |byte| byte.is_ascii_digit());
    let fits = extension > 0
        && extension < name.len() - 1
        && ending.iter().all(u8::is_ascii_lowercase)
        && digits > 0;
    fits.then_some(path + 1 + digits)
}

#[cfg(test)]
mod tests {
    use super::super::lines::Text;
    use super::*;

    fn check(pattern: &'static str, text: &str, expected: Option<&[&str]>) {
        let lines: Text = text.split('\n').map(str::as_bytes).collect();
        let told = lines.told();
        let places =
            |line: usize| (0..told.get(line).len()).map(move |column| Place { line, column });
        let spots: Vec<Place> = (0..told.len()).flat_map(places).collect();
        let found = Pattern::new(pattern).find(told, Place { line: 0, column: 0 }, &spots);
        let captures = found.map(|found| {
            found
                .captures
                .iter()
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                .collect::<Vec<_>>()
        });
        let expected = expected.map(|list| list.iter().map(ToString::to_string).collect());
        assert_eq!(captures, expected, "{pattern} in {text}");
    }

    #[test]
    fn gaps_take_what_they_stand_for() {
        check("in {func}", "in in f.part.0+0x1/0x2", Some(&["f"]));
        check("in {func}", "in f 0x1", None);
        check(
            "at {src} {func}",
            "at x at a/b.c:12 f+0x1/0x2",
            Some(&["a/b.c:12", "f"]),
        );
        check("at {src}", "at .c:12", None);
        check("({a|bc}) {?d|e}", "(x) (bc) e", Some(&["bc"]));
        check("at: {pc?}{func}", "at: [<ffff>] f+0", Some(&["f"]));
        check("{until} in", "a b in c in d", Some(&["a b"]));
        check("BUG:{blank}", "BUG: x", None);
        check("BUG:{blank}", "x BUG:  ", Some(&[]));
    }

    #[test]
    fn lines_between_are_passed_over_but_one_is_needed() {
        check("A{line}B {rest}", "A B 0\nx\nB 1\nB 2", Some(&["1"]));
        check("A{line}B", "A B", None);
        check("A{line}B{line}C", "A\nC\nB\nC", Some(&[]));
        check("A{line}B{line}C", "A\nC\nB", None);
    }
}
