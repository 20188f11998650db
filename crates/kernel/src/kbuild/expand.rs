//! The expansion of references and of the functions that look at variables or files.

use std::collections::BTreeSet;

use super::functions;
use super::scope::Scope;
use super::text::{Text, arguments, blank, bracketed, find_outside, inside};

/// Functions with the most arguments each takes; further commas belong to the last one.
const FUNCTIONS: [(&str, usize); 37] = [
    ("abspath", 1),
    ("addprefix", 2),
    ("addsuffix", 2),
    ("and", usize::MAX),
    ("basename", 1),
    ("call", usize::MAX),
    ("dir", 1),
    ("error", 1),
    ("eval", 1),
    ("file", 2),
    ("filter", 2),
    ("filter-out", 2),
    ("findstring", 2),
    ("firstword", 1),
    ("flavor", 1),
    ("foreach", 3),
    ("guile", 1),
    ("if", 3),
    ("info", 1),
    ("intcmp", 5),
    ("join", 2),
    ("lastword", 1),
    ("let", 3),
    ("notdir", 1),
    ("or", usize::MAX),
    ("origin", 1),
    ("patsubst", 3),
    ("realpath", 1),
    ("shell", 1),
    ("sort", 1),
    ("strip", 1),
    ("subst", 3),
    ("suffix", 1),
    ("value", 1),
    ("warning", 1),
    ("wildcard", 1),
    ("words", 1),
];
/// As above; these two need exact counts, too.
const COUNTED: [(&str, usize); 2] = [("word", 2), ("wordlist", 3)];

impl Scope<'_> {
    /// Returns the value of the variable `name`; nothing where it is not defined.
    pub(super) fn value(&mut self, name: &str) -> Text {
        let mut out = Text::default();
        self.value_into(name, &mut out);
        out
    }

    pub(super) fn expand(&mut self, raw: &str) -> Text {
        let mut out = Text::default();
        self.expand_into(raw, &mut out);
        out
    }

    fn value_into(&mut self, name: &str, out: &mut Text) {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            out.push(value);
            return;
        }
        let index: Option<usize> = name.parse().ok();
        if let (Some(index), Some(frame)) = (index, self.calls.last()) {
            if let Some(argument) = frame.get(index) {
                out.push(argument);
            }
            return;
        }
        let Some(variable) = self.variable(name) else {
            out.doubt(self.unset(name).as_ref());
            return;
        };
        out.doubt(variable.gap.as_ref());
        if variable.simple {
            let gap = self.burn(variable.raw.len());
            out.doubt(gap.as_ref());
            out.text.push_str(&variable.raw);
        } else if self.line == 0 {
            // Asked for after the last line: what cannot be evaluated is named by where it was set.
            let (file, line) = variable.place;
            let file = std::mem::replace(&mut self.file, file);
            self.line = line;
            self.expand_into(&variable.raw, out);
            (self.file, self.line) = (file, 0);
        } else {
            self.expand_into(&variable.raw, out);
        }
    }

    fn expand_into(&mut self, raw: &str, out: &mut Text) {
        if !raw.contains('$') {
            let gap = self.burn(raw.len());
            out.doubt(gap.as_ref());
            out.text.push_str(raw);
            return;
        }
        let mut added = Text::default();
        let gap = self.deeper(raw, |scope| scope.expand_references(raw, &mut added));
        out.push(&added);
        out.doubt(gap.as_ref());
    }

    fn expand_references(&mut self, raw: &str, out: &mut Text) {
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('$') {
            out.text.push_str(before);
            if let Some(gap) = self.burn(before.len() + 1) {
                out.doubt(Some(&gap));
                return;
            }
            let mut letters = after.chars();
            match letters.next() {
                None => {
                    out.text.push('$');
                    return;
                }
                Some('$') => {
                    out.text.push('$');
                    rest = letters.as_str();
                }
                Some('(' | '{') => {
                    let Some((reference, tail)) = bracketed(after) else {
                        out.doubt(Some(&self.gap(&format!("unterminated ${after}"))));
                        return;
                    };
                    self.reference(reference, out);
                    rest = tail;
                }
                Some(letter) => {
                    self.value_into(letter.encode_utf8(&mut [0; 4]), out);
                    rest = letters.as_str();
                }
            }
        }
        let gap = self.burn(rest.len());
        out.doubt(gap.as_ref());
        out.text.push_str(rest);
    }

    /// Expands what stands between the brackets of a reference.
    fn reference(&mut self, reference: &str, out: &mut Text) {
        if let Some((name, tail)) = reference.split_once(blank) {
            let known = FUNCTIONS
                .iter()
                .chain(&COUNTED)
                .find(|(known, _)| *known == name);
            if let Some((name, most)) = known {
                let parts = arguments(tail.trim_start_matches(blank), *most);
                self.function(name, &parts, reference, out);
                return;
            }
        }
        let substitution = find_outside(reference, ':').and_then(|at| {
            let name = reference.get(..at)?;
            let tail = reference.get(at + 1..)?;
            let equals = find_outside(tail, '=')?;
            Some((name, tail.get(..equals)?, tail.get(equals + 1..)?))
        });
        if let Some((name, from, to)) = substitution {
            let name = self.expand(name);
            let mut value = self.value(&name.text);
            let (from, to) = (self.expand(from), self.expand(to));
            let pattern = |text: &str| {
                if from.text.contains('%') {
                    text.to_owned()
                } else {
                    format!("%{text}")
                }
            };
            value.text = functions::patsubst(&pattern(&from.text), &pattern(&to.text), &value.text);
            for part in [&name, &from, &to] {
                value.doubt(part.gap.as_ref());
            }
            out.push(&value);
            return;
        }
        if reference.contains('$') {
            let name = self.expand(reference);
            self.value_into(&name.text, out);
            out.doubt(name.gap.as_ref());
        } else {
            self.value_into(reference, out);
        }
    }

    fn function(&mut self, name: &str, parts: &[&str], reference: &str, out: &mut Text) {
        let part = |index: usize| parts.get(index).copied().unwrap_or_default();
        match name {
            "if" => {
                let condition = self.expand(part(0).trim_matches(blank));
                let holds = !condition.text.is_empty();
                if holds || condition.gap.is_some() {
                    self.expand_into(part(1), out);
                }
                if !holds || condition.gap.is_some() {
                    if condition.gap.is_some() {
                        out.text.push(' ');
                    }
                    self.expand_into(part(2), out);
                }
                out.doubt(condition.gap.as_ref());
            }
            "or" | "and" => self.either(name == "and", parts, out),
            "foreach" => {
                let variable = self.expand(part(0).trim_matches(blank));
                let list = self.expand(part(1));
                out.doubt(variable.gap.as_ref());
                out.doubt(list.gap.as_ref());
                for (index, word) in list.words().enumerate() {
                    if index > 0 {
                        out.text.push(' ');
                    }
                    self.bound
                        .push((variable.text.clone(), Text::from(word.to_owned())));
                    self.expand_into(part(2), out);
                    self.bound.pop();
                    if self.lost.is_some() {
                        out.doubt(self.lost.as_ref());
                        return;
                    }
                }
            }
            "let" => {
                let names = self.expand(part(0));
                let values = self.expand(part(1));
                let names: Vec<&str> = names.words().collect();
                let last = names.len().saturating_sub(1);
                let mut left = values.words();
                let before = self.bound.len();
                for (index, name) in names.iter().enumerate() {
                    let text = if index == last {
                        left.by_ref().collect::<Vec<_>>().join(" ")
                    } else {
                        left.next().unwrap_or_default().to_owned()
                    };
                    let gap = values.gap.clone();
                    self.bound.push(((*name).to_owned(), Text { text, gap }));
                }
                self.expand_into(part(2), out);
                self.bound.truncate(before);
            }
            "call" => self.call(parts, reference, out),
            "eval" => {
                let text = self.expand(part(0));
                out.doubt(text.gap.as_ref());
                let before = self.doubt.clone();
                self.doubt = self.doubt.take().or_else(|| text.gap.clone());
                let gap = self.deeper("$(eval)", |scope| scope.evaluate(&text.text));
                self.doubt = before;
                if let Some(gap) = gap {
                    self.lost.get_or_insert(gap);
                }
            }
            "value" => {
                let name = self.expand(part(0));
                out.doubt(name.gap.as_ref());
                if let Some(variable) = self.variable(&name.text) {
                    out.doubt(variable.gap.as_ref());
                    out.text.push_str(&variable.raw);
                }
            }
            "origin" | "flavor" => {
                let name = self.expand(part(0));
                out.doubt(name.gap.as_ref());
                let variable = self.variable(&name.text);
                out.doubt(variable.as_ref().and_then(|found| found.gap.as_ref()));
                out.text
                    .push_str(match (variable, reference.starts_with("flavor")) {
                        (None, _) => "undefined",
                        (Some(found), true) if found.simple => "simple",
                        (Some(_), true) => "recursive",
                        (Some(found), false) if found.forced => "override",
                        (Some(found), false) if found.inherited => "environment",
                        (Some(_), false) => "file",
                    });
            }
            "shell" => {
                let command = self.expand(part(0));
                out.doubt(command.gap.as_ref());
                match functions::shell(&command.text) {
                    Some(answer) => out.text.push_str(&answer),
                    None => out.doubt(Some(&self.gap(&format!("$({reference})")))),
                }
            }
            "wildcard" => {
                let patterns = self.expand(part(0));
                out.doubt(patterns.gap.as_ref());
                self.wildcard(&patterns, reference, out);
            }
            "error" => {
                let gap = self.gap(&format!("$({reference})"));
                out.doubt(Some(&gap));
                if self.doubt.is_none() {
                    self.lost.get_or_insert(gap);
                }
            }
            "info" | "warning" => {}
            "abspath" | "realpath" => {
                let paths = self.expand(part(0));
                out.doubt(paths.gap.as_ref());
                let plain: Vec<String> = paths
                    .words()
                    .map(|word| match inside(word) {
                        Some(path) if path.is_empty() => ".".to_owned(),
                        Some(path) => path,
                        None => word.to_owned(),
                    })
                    .collect();
                out.text.push_str(&plain.join(" "));
            }
            "file" | "guile" => out.doubt(Some(&self.gap(&format!("$({reference})")))),
            _ => {
                let expanded: Vec<Text> = parts.iter().map(|part| self.expand(part)).collect();
                for text in &expanded {
                    out.doubt(text.gap.as_ref());
                }
                let texts: Vec<String> = expanded.into_iter().map(|text| text.text).collect();
                match functions::call(name, &texts) {
                    Some(answer) => {
                        let gap = self.burn(answer.len());
                        out.doubt(gap.as_ref());
                        out.text.push_str(&answer);
                    }
                    None => out.doubt(Some(&self.gap(&format!("$({reference})")))),
                }
            }
        }
    }

    /// `$(or …)` gives the first text that is not empty, `$(and …)` the last where all are not.
    fn either(&mut self, all: bool, parts: &[&str], out: &mut Text) {
        let mut last = Text::default();
        for part in parts {
            let text = self.expand(part.trim_matches(blank));
            let gap = text.gap.clone();
            let empty = text.text.is_empty();
            last.text = text.text;
            last.doubt(gap.as_ref());
            if gap.is_none() && empty == all {
                break;
            }
        }
        out.push(&last);
    }

    fn call(&mut self, parts: &[&str], reference: &str, out: &mut Text) {
        let mut frame: Vec<Text> = parts.iter().map(|part| self.expand(part)).collect();
        let Some(name) = frame.first_mut() else {
            return;
        };
        name.text = name.text.trim_matches(blank).to_owned();
        let name = name.clone();
        out.doubt(name.gap.as_ref());
        let known = FUNCTIONS
            .iter()
            .chain(&COUNTED)
            .any(|(known, _)| *known == name.text);
        match self.variable(&name.text) {
            Some(variable) if !known => {
                out.doubt(variable.gap.as_ref());
                self.calls.push(frame);
                let mut added = Text::default();
                let gap = self.deeper(reference, |scope| {
                    scope.expand_into(&variable.raw, &mut added);
                });
                self.calls.pop();
                out.push(&added);
                out.doubt(gap.as_ref());
            }
            // What the kernel's own helpers define is known here; anything else is one that these
            // files take from a makefile which is not read.
            _ => out.doubt(Some(&self.gap(&format!("$({reference})")))),
        }
    }

    fn wildcard(&mut self, patterns: &Text, reference: &str, out: &mut Text) {
        let mut found: Vec<String> = Vec::new();
        for pattern in patterns.words() {
            let Some(plain) = inside(pattern) else {
                out.doubt(Some(&self.gap(&format!("$({reference})"))));
                continue;
            };
            let files = self.tree.0.files();
            if !plain.contains(['*', '?', '[']) {
                let folder = format!("{plain}/");
                let below = files.range(folder.clone()..).next();
                if files.contains(&plain) || below.is_some_and(|file| file.starts_with(&folder)) {
                    found.push(pattern.to_owned());
                } else {
                    // A build may have made it.
                    out.doubt(Some(&self.gap(&format!("$({reference})"))));
                }
                continue;
            }
            let start = plain.split(['*', '?', '[']).next().unwrap_or_default();
            let slash = if pattern.ends_with('/') { "/" } else { "" };
            let written = pattern.trim_end_matches('/');
            let cut = written.len().saturating_sub(plain.len());
            let lead = written.get(..cut).filter(|_| written.ends_with(&plain));
            let depth = plain.matches('/').count() + 1;
            let mut matched = BTreeSet::new();
            let mut looked = 0;
            for file in files.range(start.to_owned()..) {
                if !file.starts_with(start) {
                    break;
                }
                looked += file.len();
                // A folder is there where a file lies below it.
                let ends = file
                    .match_indices('/')
                    .map(|(at, _)| at)
                    .chain([file.len()]);
                let Some(end) = ends.into_iter().nth(depth - 1) else {
                    continue;
                };
                let name = file.get(..end).unwrap_or_default();
                if (slash.is_empty() || end < file.len()) && glob(plain.as_bytes(), name.as_bytes())
                {
                    matched.insert(format!("{}{name}{slash}", lead.unwrap_or_default()));
                }
            }
            let gap = self.burn(looked);
            out.doubt(gap.as_ref());
            if matched.is_empty() {
                out.doubt(Some(&self.gap(&format!("$({reference})"))));
            }
            found.extend(matched);
        }
        out.text.push_str(&found.join(" "));
    }
}

/// Matches a shell pattern of `*`, `?`, sets in brackets and plain bytes. `/` is matched by itself
/// alone, and so is a dot at the start of a name.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(place) {
        let first = place == 0 || name.get(place - 1) == Some(&b'/');
        let free = *byte != b'/' && !(first && *byte == b'.');
        let step = match pattern.get(at) {
            Some(b'*') => {
                star = free.then_some((at, place));
                at += 1;
                continue;
            }
            Some(b'?') => free.then_some(1),
            Some(b'[') => set(pattern.get(at..).unwrap_or_default(), *byte).filter(|_| free),
            Some(b'\\') if pattern.get(at + 1) == Some(byte) => Some(2),
            Some(wanted) => (wanted == byte).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => {
                at += step;
                place += 1;
            }
            (None, Some((pattern_at, name_at))) if name.get(name_at) != Some(&b'/') => {
                star = Some((pattern_at, name_at + 1));
                at = pattern_at + 1;
                place = name_at + 1;
            }
            (None, _) => return false,
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Returns the length of the set at the start of `pattern` where it holds `byte`.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let not = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if not { 2 } else { 1 };
    let length = pattern
        .get(start + 1..)?
        .iter()
        .position(|byte| *byte == b']')?;
    let inside = pattern.get(start..start + 1 + length)?;
    let mut held = false;
    let mut rest = inside;
    while let Some((&low, tail)) = rest.split_first() {
        rest = tail;
        let high = match tail {
            [b'-', high, more @ ..] => {
                rest = more;
                *high
            }
            _ => low,
        };
        held |= (low..=high).contains(&byte);
    }
    (held != not).then_some(start + 1 + length + 1)
}
