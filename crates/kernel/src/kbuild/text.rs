//! Text that may hold what could not be evaluated, and the shapes of the make language.

use std::fmt;
use std::sync::Arc;

/// Something that could not be evaluated: `drivers/x/Makefile:12: $(shell ls)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    text: Arc<str>,
    /// Whether it is a variable that only the command line or the environment of make may set.
    pub(super) outside: bool,
}

impl Gap {
    /// Longest construct that is quoted, in characters.
    const QUOTED: usize = 120;

    pub(super) fn new(file: &str, line: usize, construct: &str) -> Self {
        let construct: String = construct
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .take(Self::QUOTED)
            .collect();
        let text = match line {
            0 => format!("{file}: {construct}").into(),
            _ => format!("{file}:{line}: {construct}").into(),
        };
        Self {
            text,
            outside: false,
        }
    }
}

impl Gap {
    /// The same, of a variable that only the command line or the environment of make may set.
    pub(super) fn outside(self) -> Self {
        Self {
            outside: true,
            ..self
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An expanded text; with a gap, parts of it may be missing or too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) gap: Option<Gap>,
}

impl Text {
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        words(&self.text)
    }

    /// Adds `other` behind `self`.
    pub(super) fn push(&mut self, other: &Self) {
        self.text.push_str(&other.text);
        self.doubt(other.gap.as_ref());
    }

    /// Notes a gap; the first one is kept.
    pub(super) fn doubt(&mut self, gap: Option<&Gap>) {
        if self.gap.is_none() {
            self.gap = gap.cloned();
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, gap: None }
    }
}

/// Tells whether make takes `letter` for white space between words.
pub(super) fn blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Tells whether a word of a makefile names an object.
pub(super) fn is_object(word: &str) -> bool {
    // Makefiles tell `.o` from `.O`.
    word.strip_suffix(".o").is_some()
}

pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(blank).filter(|word| !word.is_empty())
}

/// Splits `text`, which starts with `(` or `{`, into what its brackets hold and what follows them.
pub(super) fn bracketed(text: &str) -> Option<(&str, &str)> {
    let open = text.chars().next()?;
    let close = if open == '{' { '}' } else { ')' };
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        if letter == open {
            depth += 1;
        } else if letter == close {
            depth -= 1;
            if depth == 0 {
                return Some((text.get(1..at)?, text.get(at + 1..)?));
            }
        }
    }
    None
}

/// Finds `wanted` outside of references and, of those, returns its place.
pub(super) fn find_outside(text: &str, wanted: char) -> Option<usize> {
    let mut depth = 0_usize;
    let mut after_dollar = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '{' if depth > 0 || after_dollar => depth += 1,
            ')' | '}' if depth > 0 => depth -= 1,
            _ if letter == wanted && depth == 0 => return Some(at),
            _ => {}
        }
        after_dollar = letter == '$';
    }
    None
}

/// Splits the arguments of a function: at commas outside of brackets, at most `most` parts.
pub(super) fn arguments(text: &str, most: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '{' => depth += 1,
            ')' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 && parts.len() + 1 < most => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// One line of a makefile after joining continued ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Number of its first physical line, from 1.
    pub(super) number: usize,
    /// The text as written, with continuations.
    pub(super) raw: &'a str,
}

/// Splits a makefile into lines, those that end in an odd number of backslashes joined to the next.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut rest = text;
    let mut number = 1;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let first = number;
        let mut end = 0;
        loop {
            let tail = rest.get(end..).unwrap_or_default();
            let (length, more) = match tail.find('\n') {
                Some(at) => (at, true),
                None => (tail.len(), false),
            };
            number += 1;
            let line = tail.get(..length).unwrap_or_default();
            end += length;
            if !more {
                break;
            }
            if !continued(line) {
                break;
            }
            end += 1;
        }
        let raw = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(Line { number: first, raw })
    })
}

fn continued(line: &str) -> bool {
    let line = line.strip_suffix('\r').unwrap_or(line);
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Joins continuations of a line that is no recipe: each becomes one blank.
pub(super) fn joined(raw: &str) -> String {
    if !raw.contains('\n') {
        return raw.trim_end_matches('\r').to_owned();
    }
    let mut out = String::with_capacity(raw.len());
    for (index, part) in raw.split('\n').enumerate() {
        let part = part.strip_suffix('\r').unwrap_or(part);
        let body = if continued(part) {
            part.strip_suffix('\\')
                .unwrap_or(part)
                .trim_end_matches(blank)
        } else {
            part
        };
        if index > 0 {
            out.push(' ');
            out.push_str(body.trim_start_matches(blank));
        } else {
            out.push_str(body);
        }
    }
    out
}

/// Removes a comment: from the first `#` outside of references that no backslash quotes.
pub(super) fn without_comment(line: &str) -> String {
    if !line.contains('#') {
        return line.to_owned();
    }
    let mut out = String::with_capacity(line.len());
    let mut depth = 0_usize;
    let mut last = ' ';
    for letter in line.chars() {
        match letter {
            '(' | '{' if depth > 0 || last == '$' => depth += 1,
            ')' | '}' if depth > 0 => depth -= 1,
            '#' if depth > 0 => {}
            '#' if last == '\\' => {
                out.pop();
            }
            '#' => return out,
            _ => {}
        }
        out.push(letter);
        last = letter;
    }
    out
}

/// Resolves `.` and `..` in a path below the top by text alone; `None` where it leaves the tree.
pub(super) fn inside(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_joins_lines_and_two_do_not() {
        let text = "a \\\n\t b\\\nc\nd \\\\\ne";
        let found: Vec<(usize, String)> = lines(text)
            .map(|line| (line.number, joined(line.raw)))
            .collect();
        let expected = [(1, "a b c"), (4, "d \\\\"), (5, "e")];
        assert_eq!(
            found,
            expected.map(|(number, line)| (number, line.to_owned()))
        );
    }

    #[test]
    fn a_comment_ends_a_line_unless_it_is_quoted_or_in_a_reference() {
        for (line, expected) in [
            ("a # b", "a "),
            ("a \\# b", "a # b"),
            ("a $(subst #,x,y) b # c", "a $(subst #,x,y) b "),
            ("# all", ""),
        ] {
            assert_eq!(without_comment(line), expected, "{line}");
        }
    }

    #[test]
    fn commas_in_brackets_split_no_arguments() {
        assert_eq!(arguments("a,$(b c,d),e", 3), ["a", "$(b c,d)", "e"]);
        assert_eq!(arguments("a,b,c", 2), ["a", "b,c"]);
    }

    #[test]
    fn a_path_that_leaves_the_tree_is_none() {
        assert_eq!(inside("./a/../b//c").as_deref(), Some("b/c"));
        for outside in ["../a", "/a", "a/../../b"] {
            assert_eq!(inside(outside), None, "{outside}");
        }
    }
}
