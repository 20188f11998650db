//! The functions of the make language that turn text into text.

use std::collections::BTreeSet;

use super::text::{blank, words};

/// Returns the result of `name` on its expanded arguments; `None` where it is not one of these.
pub(super) fn call(name: &str, arguments: &[String]) -> Option<String> {
    let argument = |index: usize| arguments.get(index).map_or("", String::as_str);
    let (first, second, third) = (argument(0), argument(1), argument(2));
    Some(match name {
        "subst" => {
            if first.is_empty() {
                format!("{third}{second}")
            } else {
                third.replace(first, second)
            }
        }
        "patsubst" => patsubst(first, second, third),
        "strip" => list(words(first)),
        "findstring" => if second.contains(first) { first } else { "" }.to_owned(),
        "filter" => list(words(second).filter(|word| matches_any(first, word))),
        "filter-out" => list(words(second).filter(|word| !matches_any(first, word))),
        "sort" => list(words(first).collect::<BTreeSet<_>>()),
        "word" => match number(first) {
            Some(0) | None => return None,
            Some(wanted) => words(second).nth(wanted - 1).unwrap_or_default().to_owned(),
        },
        "wordlist" => match (number(first), number(second)) {
            (Some(from @ 1..), Some(to)) => list(words(third).take(to).skip(from - 1)),
            _ => return None,
        },
        "words" => words(first).count().to_string(),
        "firstword" => words(first).next().unwrap_or_default().to_owned(),
        "lastword" => words(first).last().unwrap_or_default().to_owned(),
        "dir" => {
            list(words(first).map(|word| word.rfind('/').map_or("./", |at| part(word, 0, at + 1))))
        }
        "notdir" => list(words(first).map(|word| word.rsplit('/').next().unwrap_or(word))),
        "suffix" => list(words(first).filter_map(|word| {
            let (_, at) = suffix_at(word)?;
            word.get(at..)
        })),
        "basename" => list(words(first).map(|word| suffix_at(word).map_or(word, |(stem, _)| stem))),
        "addsuffix" => list(words(second).map(|word| format!("{word}{first}"))),
        "addprefix" => list(words(second).map(|word| format!("{first}{word}"))),
        "join" => {
            let (left, right): (Vec<&str>, Vec<&str>) =
                (words(first).collect(), words(second).collect());
            list((0..left.len().max(right.len())).map(|index| {
                let of = |list: &[&str]| list.get(index).copied().unwrap_or_default().to_owned();
                of(&left) + &of(&right)
            }))
        }
        "intcmp" => {
            let (left, right): (i64, i64) =
                (first.trim().parse().ok()?, second.trim().parse().ok()?);
            let equal = argument(3);
            match left.cmp(&right) {
                std::cmp::Ordering::Less => third.to_owned(),
                std::cmp::Ordering::Equal if arguments.len() == 2 => left.to_string(),
                std::cmp::Ordering::Equal => equal.to_owned(),
                // Without a fourth text, "greater" gives what "equal" gives.
                std::cmp::Ordering::Greater => {
                    arguments.get(4).map_or(equal, String::as_str).to_owned()
                }
            }
        }
        _ => return None,
    })
}

/// Replaces `pattern` by `replacement` in each word of `text`; `%` stands for any text.
pub(super) fn patsubst(pattern: &str, replacement: &str, text: &str) -> String {
    let (start, Some(end)) = percent(pattern) else {
        return by_word(&percent(pattern).0, replacement, text);
    };
    let (before, after) = percent(replacement);
    list(words(text).map(|word| match between(word, &start, &end) {
        Some(stem) => match &after {
            Some(after) => format!("{before}{stem}{after}"),
            None => before.clone(),
        },
        None => word.to_owned(),
    }))
}

/// Replaces whole words that equal `word`, and leaves the white space as it is.
fn by_word(word: &str, replacement: &str, text: &str) -> String {
    if word.is_empty() {
        return format!("{text}{replacement}");
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(blank).unwrap_or(rest.len());
        let (found, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        out.push_str(if found == word { replacement } else { found });
        let gap = tail.find(|letter| !blank(letter)).unwrap_or(tail.len());
        let (space, tail) = tail.split_at_checked(gap).unwrap_or((tail, ""));
        out.push_str(space);
        rest = tail;
    }
    out
}

/// Splits a pattern at its first `%` that no backslash quotes.
fn percent(pattern: &str) -> (String, Option<String>) {
    let mut start = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        let plain = before.trim_end_matches('\\');
        let signs = before.len() - plain.len();
        start.push_str(plain);
        start.extend(std::iter::repeat_n('\\', signs / 2));
        if signs % 2 == 0 {
            return (start, Some(after.to_owned()));
        }
        start.push('%');
        rest = after;
    }
    start.push_str(rest);
    (start, None)
}

fn between<'a>(word: &'a str, start: &str, end: &str) -> Option<&'a str> {
    word.strip_prefix(start)?.strip_suffix(end)
}

/// Returns what `%` stands for where `pattern` matches `word`; empty where it has no `%`.
pub(super) fn stem<'a>(pattern: &str, word: &'a str) -> Option<&'a str> {
    match percent(pattern) {
        (start, Some(end)) => between(word, &start, &end),
        (whole, None) => (whole == word).then_some(""),
    }
}

/// Runs the few shell commands whose outcome follows from their text alone: comparisons of numbers.
pub(super) fn shell(command: &str) -> Option<String> {
    let parts: Vec<&str> = words(command).collect();
    let [test, left, relation, right, rest @ ..] = parts.as_slice() else {
        return None;
    };
    if !matches!(*test, "test" | "[") {
        return None;
    }
    let (right, ends) = match right.strip_suffix(';') {
        Some(right) => (right, true),
        None => (*right, false),
    };
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    let holds = match *relation {
        "-lt" => left < right,
        "-le" => left <= right,
        "-gt" => left > right,
        "-ge" => left >= right,
        "-eq" => left == right,
        "-ne" => left != right,
        _ => return None,
    };
    let (("[", ["]", rest @ ..]) | ("test", rest)) = (*test, rest) else {
        return None;
    };
    match (ends, rest) {
        (false, ["&&", "echo", word]) => Some(if holds {
            (*word).to_owned()
        } else {
            String::new()
        }),
        (false, ["&&", "echo", word, "||", "echo", other]) => {
            Some((*if holds { word } else { other }).to_owned())
        }
        (true, ["echo", "$?"]) => Some(if holds { "0" } else { "1" }.to_owned()),
        _ => None,
    }
}

fn matches_any(patterns: &str, word: &str) -> bool {
    words(patterns).any(|pattern| stem(pattern, word).is_some())
}

fn suffix_at(word: &str) -> Option<(&str, usize)> {
    let at = word.rfind('.')?;
    let stem = word.get(..at)?;
    (!word.get(at..)?.contains('/')).then_some((stem, at))
}

fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

fn number(text: &str) -> Option<usize> {
    text.trim().parse().ok()
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut out = String::new();
    for item in items {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(item.as_ref());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_give_what_make_gives() {
        for (name, arguments, expected) in [
            (
                "subst",
                &["ee", "EE", "feet on the street"][..],
                "fEEt on the strEEt",
            ),
            (
                "patsubst",
                &["%.c", "%.o", "x.c.c bar.c y.h"],
                "x.c.o bar.o y.h",
            ),
            ("patsubst", &["a", "b", "a aa"], "b aa"),
            ("strip", &["  a   b "], "a b"),
            ("findstring", &["a", "b a"], "a"),
            ("filter", &["%/ x.o", "a/ b.o x.o"], "a/ x.o"),
            ("filter-out", &["%/", "a/ b.o"], "b.o"),
            ("sort", &["c b a b"], "a b c"),
            ("word", &["2", "a b c"], "b"),
            ("wordlist", &["2", "3", "a b c d"], "b c"),
            ("words", &["a b c"], "3"),
            ("firstword", &["a b"], "a"),
            ("lastword", &["a b"], "b"),
            ("dir", &["src/foo.c hacks"], "src/ ./"),
            ("notdir", &["src/foo.c hacks"], "foo.c hacks"),
            ("suffix", &["src/foo.c src-1.0/bar.c hacks"], ".c .c"),
            (
                "basename",
                &["src/foo.c src-1.0/bar hacks"],
                "src/foo src-1.0/bar hacks",
            ),
            ("addsuffix", &[".c", "foo bar"], "foo.c bar.c"),
            ("addprefix", &["src/", "foo bar"], "src/foo src/bar"),
            ("join", &["a b", ".c .o .x"], "a.c b.o .x"),
            ("intcmp", &["1", "2", "l", "e", "g"], "l"),
            ("intcmp", &["2", "2"], "2"),
        ] {
            let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(
                call(name, &arguments).as_deref(),
                Some(expected),
                "{name} {arguments:?}"
            );
        }
        assert_eq!(call("shell", &["ls".to_owned()]), None);
        assert_eq!(call("word", &["0".to_owned(), "a".to_owned()]), None);
    }

    #[test]
    fn only_comparisons_of_numbers_need_no_shell() {
        for (command, expected) in [
            ("test 130000 -lt 120000; echo $?", Some("1")),
            ("test 110000 -lt 120000; echo $?", Some("0")),
            ("test 120200 -ge 70100 && echo y", Some("y")),
            ("test 60200 -ge 70100 && echo y", Some("")),
            ("[ 2 -ge 1 ] && echo y || echo n", Some("y")),
            ("test -ge 70100 && echo y", None),
            ("test 1 -ge 2 && rm x", None),
            ("uname -m", None),
            ("", None),
        ] {
            assert_eq!(shell(command).as_deref(), expected, "{command}");
        }
    }
}
