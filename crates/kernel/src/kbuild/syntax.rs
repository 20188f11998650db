//! The shapes of a makefile's lines.

use super::text::{blank, bracketed};

/// What a sign of assignment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Recursive,
    Simple,
    Append,
    IfAbsent,
    Shell,
}

/// `NAME = VALUE` and its kin, or the head of a `define`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    pub(super) name: &'a str,
    pub(super) operator: Operator,
    pub(super) value: &'a str,
    pub(super) export: bool,
    /// Whether it is an `override`.
    pub(super) forced: bool,
    pub(super) define: bool,
}

/// Splits the two sides of `ifeq (a,b)`, `ifeq "a" "b"` and the like.
pub(super) fn compared(rest: &str) -> Option<(&str, &str)> {
    if rest.starts_with('(') {
        let (both, _) = bracketed(rest)?;
        let at = comma(both)?;
        let left = both.get(..at)?.trim_end_matches(blank);
        let right = both.get(at + 1..)?.trim_start_matches(blank);
        return Some((left, right));
    }
    let (left, rest) = quoted(rest)?;
    let (right, _) = quoted(rest.trim_start_matches(blank))?;
    Some((left, right))
}

fn comma(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '{' => depth += 1,
            ')' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text
        .chars()
        .next()
        .filter(|letter| matches!(letter, '"' | '\''))?;
    text.get(1..)?.split_once(quote)
}

/// Reads a line as an assignment or as the head of a `define`.
pub(super) fn assignment(line: &str) -> Option<Assignment<'_>> {
    let mut rest = line;
    let mut export = false;
    let mut forced = false;
    let mut define = false;
    while let Some((word, tail)) = rest.split_once(blank) {
        match word {
            "export" => export = true,
            "override" => forced = true,
            "private" => {}
            "define" => define = true,
            _ => break,
        }
        let tail = tail.trim_start_matches(blank);
        // A variable may be called `export`.
        if operator(tail).is_some() && !define {
            break;
        }
        rest = tail;
        if define {
            break;
        }
    }
    let mut depth = 0_usize;
    let mut last = ' ';
    let mut name_end: Option<usize> = None;
    for (at, letter) in rest.char_indices() {
        let here = rest.get(at..)?;
        if depth == 0 {
            if let Some((operator, tail)) = operator(here) {
                let name = rest.get(..name_end.unwrap_or(at))?.trim_matches(blank);
                return Some(Assignment {
                    name,
                    operator,
                    value: tail.trim_start_matches(blank),
                    export,
                    forced,
                    define,
                });
            }
            if letter == ':' {
                return None;
            }
            if blank(letter) {
                name_end.get_or_insert(at);
            } else if name_end.is_some() {
                return None;
            }
        }
        match letter {
            '(' | '{' if depth > 0 || last == '$' => depth += 1,
            ')' | '}' if depth > 0 => depth -= 1,
            _ => {}
        }
        last = letter;
    }
    define.then(|| Assignment {
        name: rest.trim_matches(blank),
        operator: Operator::Recursive,
        value: "",
        export,
        forced,
        define,
    })
}

fn operator(text: &str) -> Option<(Operator, &str)> {
    const OPERATORS: [(&str, Operator); 7] = [
        (":::=", Operator::Simple),
        ("::=", Operator::Simple),
        (":=", Operator::Simple),
        ("+=", Operator::Append),
        ("?=", Operator::IfAbsent),
        ("!=", Operator::Shell),
        ("=", Operator::Recursive),
    ];
    OPERATORS
        .iter()
        .find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)))
}
/// Returns where the first word of `text` ends, taking references whole.
pub(super) fn end_of_word(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '{' => depth += 1,
            ')' | '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 && blank(letter) => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, Operator, &str)>) {
        let found = assignment(line);
        let found = found.map(|found| (found.name, found.operator, found.value));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn a_line_is_an_assignment_only_by_its_sign() {
        use Operator::{Append, IfAbsent, Recursive, Shell, Simple};
        for (line, expected) in [
            ("a = b", Some(("a", Recursive, "b"))),
            ("a:=b c", Some(("a", Simple, "b c"))),
            ("a ::= b", Some(("a", Simple, "b"))),
            (
                "obj-$(CONFIG_X) += y.o",
                Some(("obj-$(CONFIG_X)", Append, "y.o")),
            ),
            ("a ?= b", Some(("a", IfAbsent, "b"))),
            ("a != b", Some(("a", Shell, "b"))),
            ("export A := b", Some(("A", Simple, "b"))),
            ("override A = b", Some(("A", Recursive, "b"))),
            ("export = b", Some(("export", Recursive, "b"))),
            ("$(a:x=y) = b", Some(("$(a:x=y)", Recursive, "b"))),
            ("a: b", None),
            ("a: B = c", None),
            ("$(obj)/a.o: b = c", None),
            ("two words = c", None),
            ("export A B", None),
            ("ifeq ($(a),b)", None),
        ] {
            check(line, expected);
        }
    }

    #[test]
    fn a_define_has_a_name_and_perhaps_a_sign() {
        for (line, name) in [("define a", "a"), ("define a =", "a"), ("define  a+=", "a")] {
            let found = assignment(line).filter(|found| found.define);
            assert_eq!(found.map(|found| found.name), Some(name), "{line}");
        }
        assert!(assignment("a = define").is_some_and(|found| !found.define));
    }

    #[test]
    fn conditions_compare_texts_in_brackets_or_quotes() {
        for (rest, expected) in [
            ("($(a),b)", Some(("$(a)", "b"))),
            ("($(subst a,b,$(c)), )", Some(("$(subst a,b,$(c))", ""))),
            ("(a , b)", Some(("a", "b"))),
            ("\"a\" \"b c\"", Some(("a", "b c"))),
            ("'a' \"b\"", Some(("a", "b"))),
            ("(a)", None),
            ("(a,b", None),
            ("a b", None),
        ] {
            assert_eq!(compared(rest), expected, "{rest}");
        }
    }

    #[test]
    fn a_word_ends_outside_of_references() {
        assert_eq!(end_of_word("$(a b)/c d"), 8);
        assert_eq!(end_of_word("$@ d"), 2);
        assert_eq!(end_of_word("a"), 1);
    }
}
