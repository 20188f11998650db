//! The names that a declaration makes known.

use std::collections::BTreeSet;

use super::Defines;

/// Words that look like calls in a declaration and are none.
const ATTRIBUTES: [&str; 17] = [
    "__attribute__",
    "__printf",
    "__scanf",
    "__acquires",
    "__releases",
    "__must_hold",
    "__aligned",
    "__section",
    "__alloc_size",
    "__realloc_size",
    "__malloc",
    "__nonnull",
    "__counted_by",
    "__cond_acquires",
    "__assume_aligned",
    "__no_sanitize",
    "__asm__",
];

/// Returns the tokens outside brackets, each bracket pair as what opens it.
pub(super) fn top_level(tokens: &[String]) -> Vec<&str> {
    let mut top: Vec<&str> = Vec::new();
    let mut depth = 0_u32;
    for token in tokens {
        match token.as_str() {
            "(" | "[" | "{" => {
                if depth == 0 {
                    top.push(token);
                }
                depth += 1;
            }
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            token if depth == 0 => top.push(token),
            _ => {}
        }
    }
    top
}

/// Returns the name before the only `(` of a declaration's top level, with something before it.
pub(super) fn called<'a>(top: &[&'a str]) -> Option<&'a str> {
    let mut groups = top.iter().enumerate().filter(|(_, token)| **token == "(");
    let (at, _) = groups.next()?;
    if groups.next().is_some() || at < 2 {
        return None;
    }
    let name = top.get(at - 1).filter(|name| is_name(name))?;
    // Behind a name in capitals is a macro, which declares what it likes.
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        return None;
    }
    // `DECLARE_X(a) int b;` has more words after the brackets; attributes are in lower case.
    let plain =
        |token: &&str| matches!(*token, ";" | "{") || (is_name(token) && token.starts_with("__"));
    top.get(at + 1..)?.iter().all(plain).then_some(name)
}

/// Attributes without brackets that follow a name.
const TRAILING: [&str; 16] = [
    "__cacheline_aligned",
    "__cacheline_aligned_in_smp",
    "__cold",
    "__deprecated",
    "__init",
    "__initconst",
    "__initdata",
    "__maybe_unused",
    "__must_check",
    "__packed",
    "__pure",
    "__read_mostly",
    "__refdata",
    "__ro_after_init",
    "__visible",
    "__weak",
];

/// Words of C that name nothing by themselves.
const KEYWORDS: [&str; 34] = [
    "auto", "bool", "break", "case", "char", "const", "continue", "default", "do", "double",
    "else", "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register",
    "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union",
    "unsigned", "void", "volatile", "while",
];

fn is_name(token: &str) -> bool {
    token
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && !KEYWORDS.contains(&token)
}

pub(super) fn directive(tokens: &[String]) -> Defines {
    let none = || Defines::Names(BTreeSet::new());
    match tokens.get(1).map(String::as_str) {
        None | Some("error" | "warning" | "line") => none(),
        Some("define" | "undef") => tokens.get(2).map_or(Defines::Unknown, |name| {
            Defines::Names(BTreeSet::from([name.clone()]))
        }),
        Some(_) => Defines::Unknown,
    }
}

/// Takes `__attribute__((…))` and the like away.
pub(super) fn without_attributes(tokens: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    let mut depth = 0_u32;
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        let opens = tokens.peek().is_some_and(|next| *next == "(");
        match token.as_str() {
            "(" if depth > 0 => depth += 1,
            ")" if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            word if opens && ATTRIBUTES.contains(&word) => {
                tokens.next();
                depth = 1;
            }
            _ => left.push(token.clone()),
        }
    }
    left
}

/// Finds the first `{` outside brackets.
fn body(tokens: &[String]) -> Option<usize> {
    let mut depth = 0_u32;
    for (index, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" if depth == 0 => return Some(index),
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

pub(super) fn names(tokens: &[String]) -> Defines {
    let mut found = BTreeSet::new();
    for window in tokens.windows(3) {
        match window {
            [hash, define, name] if hash == "#" && (define == "define" || define == "undef") => {
                found.insert(name.clone());
            }
            [kind, tag, brace] if is_kind(kind) && is_name(tag) && brace == "{" => {
                found.insert(tag.clone());
            }
            _ => {}
        }
    }
    let top = top_level(tokens);
    let known = match top.as_slice() {
        [";"] | ["static_assert" | "_Static_assert", "(", ";"] => true,
        // A lone word is a macro, which declares what it likes.
        [word, ";"] if is_name(word) => false,
        [kind, tag, ";"] if is_kind(kind) && is_name(tag) => {
            found.insert((*tag).to_owned());
            true
        }
        _ => match body(tokens) {
            Some(body) if kind_with_body(tokens, body) => {
                enumerators(tokens, &mut found);
                declared(after_body(tokens, body), &mut found)
            }
            Some(_) | None => declared(tokens, &mut found),
        },
    };
    if known && lists_enumerators(tokens) {
        Defines::Names(found)
    } else {
        Defines::Unknown
    }
}

fn is_kind(token: &str) -> bool {
    matches!(token, "struct" | "union" | "enum")
}

/// Tells whether the `{` at `body` opens a struct, union or enum.
fn kind_with_body(tokens: &[String], body: usize) -> bool {
    let head = tokens.get(..body).unwrap_or_default();
    let top = top_level(head);
    match top.as_slice() {
        [.., kind] if is_kind(kind) => true,
        [.., kind, tag] if is_kind(kind) && is_name(tag) => true,
        // `struct foo __packed {` and the like.
        [.., kind, tag, attribute] if is_kind(kind) && is_name(tag) && is_name(attribute) => true,
        _ => false,
    }
}

/// Returns what follows the body: `name;`, `*name, other;`, or attributes.
fn after_body(tokens: &[String], body: usize) -> &[String] {
    let mut depth = 0_u32;
    for (index, token) in tokens.iter().enumerate().skip(body) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return tokens.get(index + 1..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    &[]
}

/// Adds the names inside `enum` bodies: enumerators, and what they are computed from.
fn enumerators(tokens: &[String], found: &mut BTreeSet<String>) {
    let mut inside = None;
    let mut depth = 0_u32;
    let mut kind = "";
    for token in tokens {
        match token.as_str() {
            word if is_kind(word) => kind = if word == "enum" { "enum" } else { "other" },
            "{" => {
                depth += 1;
                if kind == "enum" && inside.is_none() {
                    inside = Some(depth);
                }
                kind = "";
            }
            "}" => {
                if inside == Some(depth) {
                    inside = None;
                }
                depth = depth.saturating_sub(1);
            }
            ";" => kind = "",
            name if inside.is_some() && is_name(name) => {
                found.insert(name.to_owned());
            }
            _ => {}
        }
    }
}

/// Tells whether every `enum` body spells its enumerators out. A macro there stands for any number of
/// them: one with brackets, one beside another word, or one that is all there is.
fn lists_enumerators(tokens: &[String]) -> bool {
    let mut rest = tokens;
    // Each round drops at least the `enum`.
    while let Some(at) = rest.iter().position(|token| token == "enum") {
        rest = rest.get(at + 1..).unwrap_or_default();
        let tagged = rest.first().is_some_and(|tag| is_name(tag));
        let body = match rest.get(usize::from(tagged)..) {
            Some([brace, body @ ..]) if brace == "{" => body,
            Some(_) | None => continue,
        };
        let end = body.iter().position(|token| token == "}");
        let body = top_level(body.get(..end.unwrap_or(body.len())).unwrap_or_default());
        let clear = |item: &[&str]| match item {
            // Often the last one is named again behind it.
            [] | [_, "#", "define", ..] => true,
            [name] => is_name(name) && body.len() > 1,
            // The tokens of a directive are not told from what follows it.
            [name, next, ..] => *next == "=" || *name == "#",
        };
        if !body.split(|token| *token == ",").all(clear) {
            return false;
        }
    }
    true
}

/// Adds the names that a declaration without a struct body declares; tells whether it was clear.
fn declared(tokens: &[String], found: &mut BTreeSet<String>) -> bool {
    let top = top_level(tokens);
    if let Some(name) = called(&top) {
        found.insert(name.to_owned());
        return true;
    }
    // `int (*name)(…)`, `typedef void (*name)(…)`
    if let Some(at) = tokens.windows(2).position(|pair| pair == ["(", "*"]) {
        let groups = top.iter().filter(|token| **token == "(").count();
        let name = tokens
            .iter()
            .skip(at)
            .find(|token| is_name(token) && !token.starts_with("__"));
        return match name {
            Some(name) if groups == 2 && !top.contains(&",") => {
                found.insert(name.clone());
                true
            }
            Some(_) | None => false,
        };
    }
    if top.contains(&"(") {
        return false;
    }
    // `extern type a, *b[4], c = 1;`
    let mut last: Option<&str> = None;
    for token in &top {
        match *token {
            "," | ";" | "=" | "[" | ":" => {
                if let Some(name) = last.take() {
                    found.insert(name.to_owned());
                }
            }
            token if is_name(token) && !TRAILING.contains(&token) => {
                // `u32 __a;` or `a __attribute;`: not told apart, so both are taken.
                if let Some(name) = last.take().filter(|_| token.starts_with("__")) {
                    found.insert(name.to_owned());
                }
                last = Some(token);
            }
            _ => {}
        }
    }
    true
}
