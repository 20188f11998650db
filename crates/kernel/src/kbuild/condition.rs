//! Conditions of the preprocessor, as far as `CONFIG_` settings decide them.

use std::collections::BTreeSet;

use super::text::bracketed;
use crate::config::Config;

/// Deepest nesting of a condition that is read.
const DEEPEST: usize = 16;

/// Whether the lines under a condition are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Yes,
    No,
    Maybe,
}

/// Cuts `text` behind the name that it starts with.
pub(super) fn split_name(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .next()
        .unwrap_or_default()
}

/// Lists the settings that a condition asks for.
pub(super) fn settings_in(text: &str) -> BTreeSet<String> {
    text.match_indices("CONFIG_")
        .filter_map(|(at, word)| text.get(at + word.len()..))
        .map(|rest| {
            let name = split_name(rest);
            name.strip_suffix("_MODULE").unwrap_or(name).to_owned()
        })
        .collect()
}

/// Tells whether the macro `name` is defined, where that is a setting's.
pub(super) fn known(name: &str, config: &Config) -> Read {
    let Some(setting) = name.strip_prefix("CONFIG_") else {
        return Read::Maybe;
    };
    let (setting, wanted) = match setting.strip_suffix("_MODULE") {
        // `CONFIG_X_MODULE` may also be a setting that ends so.
        Some(stem) if config.value(setting).is_none() => (stem, "m"),
        _ => (setting, "y"),
    };
    match config.value(setting) {
        Some("m") => truth(wanted == "m"),
        Some("n") | None => Read::No,
        Some(_) => truth(wanted == "y"),
    }
}

/// Reads the forms of `#if` that ask for settings; anything else in it is `Maybe`.
pub(super) fn condition(text: &str, config: &Config) -> Read {
    any_of(text.trim(), config, 0)
}

fn any_of(text: &str, config: &Config, depth: usize) -> Read {
    if depth > DEEPEST {
        return Read::Maybe;
    }
    split_outside(text, "||")
        .into_iter()
        .map(|part| {
            split_outside(part, "&&")
                .into_iter()
                .map(|part| term(part.trim(), config, depth))
                .fold(Read::Yes, both)
        })
        .fold(Read::No, either)
}

fn term(text: &str, config: &Config, depth: usize) -> Read {
    if let Some(rest) = text.strip_prefix('!') {
        if depth > DEEPEST {
            return Read::Maybe;
        }
        return not(term(rest.trim_start(), config, depth + 1));
    }
    if let Some((inner, "")) = bracketed(text).filter(|_| text.starts_with('(')) {
        return any_of(inner.trim(), config, depth + 1);
    }
    let call = |name: &str| {
        let rest = text.strip_prefix(name)?.trim_start();
        let rest = rest
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or(rest);
        let symbol = rest.trim();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        (!symbol.is_empty() && symbol.chars().all(plain)).then_some(symbol)
    };
    if let Some(symbol) = call("IS_ENABLED") {
        let module = format!("{symbol}_MODULE");
        return either(known(symbol, config), known(&module, config));
    }
    if let Some(symbol) = call("IS_BUILTIN").or_else(|| call("defined")) {
        return known(symbol, config);
    }
    match text {
        "0" => Read::No,
        "1" => Read::Yes,
        _ => Read::Maybe,
    }
}

/// Splits `text` at `sign` outside of brackets.
fn split_outside<'a>(text: &'a str, sign: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    let mut skip = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0
                && at >= skip
                && text.get(at..).is_some_and(|rest| rest.starts_with(sign)) =>
            {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + sign.len();
                skip = start;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn truth(holds: bool) -> Read {
    if holds { Read::Yes } else { Read::No }
}

pub(super) fn not(read: Read) -> Read {
    match read {
        Read::Yes => Read::No,
        Read::No => Read::Yes,
        Read::Maybe => Read::Maybe,
    }
}

pub(super) fn both(left: Read, right: Read) -> Read {
    match (left, right) {
        (Read::No, _) | (_, Read::No) => Read::No,
        (Read::Yes, Read::Yes) => Read::Yes,
        (Read::Maybe, _) | (_, Read::Maybe) => Read::Maybe,
    }
}

pub(super) fn either(left: Read, right: Read) -> Read {
    not(both(not(left), not(right)))
}
