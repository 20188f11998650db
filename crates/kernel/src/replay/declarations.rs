//! What the declarations of a C header define and mention.
//!
//! Pure, and no C parser: it splits a header into top-level declarations and directives and finds
//! the names each defines. Where it is not sure it says so ([`Defines::Unknown`]), never less.

use std::collections::BTreeSet;

/// One declaration, function, or directive at the top level of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declaration {
    /// Its tokens, without comments and white space.
    pub tokens: Vec<String>,
    /// What it defines.
    pub defines: Defines,
}

/// Names that a declaration makes known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Defines {
    /// These, maybe none.
    Names(BTreeSet<String>),
    /// It could be anything: a conditional, an include, a macro used as a declaration.
    Unknown,
}

impl Declaration {
    /// Tells whether any of `names` is one of its tokens.
    pub(super) fn mentions(&self, names: &BTreeSet<String>) -> bool {
        self.tokens.iter().any(|token| names.contains(token))
    }
}

/// Splits a header.
pub(super) fn declarations(text: &[u8]) -> Vec<Declaration> {
    let mut done = Vec::new();
    let mut open = Open::default();
    for line in logical_lines(text) {
        if let Line::Directive(tokens) = &line
            && open.tokens.is_empty()
        {
            done.push(Declaration {
                defines: directive(tokens),
                tokens: tokens.clone(),
            });
            continue;
        }
        match line {
            // Inside a declaration a directive is part of it.
            Line::Directive(tokens) => open.directive(tokens),
            Line::Code(tokens) => {
                for token in tokens {
                    done.extend(open.push(token));
                }
            }
        }
    }
    if !open.tokens.is_empty() {
        done.push(Declaration {
            tokens: open.tokens,
            defines: Defines::Unknown,
        });
    }
    done
}

/// Returns the declarations that are in one of two versions alone.
///
/// An order that changed is a change, too: the moved declarations are returned.
pub(super) fn differing<'a>(
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

enum Line {
    Directive(Vec<String>),
    Code(Vec<String>),
}

/// Joins continued lines, takes comments away, and makes tokens.
fn logical_lines(text: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(next) = continued(rest) {
            rest = next;
        } else if byte == b'\n' {
            lines.push(line(std::mem::take(&mut tokens)));
            rest = after;
        } else if rest.starts_with(b"/*") {
            let end = rest.windows(2).skip(2).position(|pair| pair == b"*/");
            rest = end.and_then(|end| rest.get(end + 4..)).unwrap_or_default();
        } else if rest.starts_with(b"//") {
            let end = rest.iter().position(|&byte| byte == b'\n');
            rest = end.and_then(|end| rest.get(end..)).unwrap_or_default();
        } else if byte.is_ascii_whitespace() {
            rest = after;
        } else {
            let length = token_length(rest).max(1);
            let (token, next) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            tokens.push(String::from_utf8_lossy(token).into_owned());
            rest = next;
        }
    }
    lines.push(line(tokens));
    lines
}

fn line(tokens: Vec<String>) -> Line {
    if tokens.first().is_some_and(|token| token == "#") {
        Line::Directive(tokens)
    } else {
        Line::Code(tokens)
    }
}

fn continued(rest: &[u8]) -> Option<&[u8]> {
    rest.strip_prefix(b"\\\n")
        .or_else(|| rest.strip_prefix(b"\\\r\n"))
}

fn token_length(rest: &[u8]) -> usize {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    match rest.first() {
        Some(&quote @ (b'"' | b'\'')) => {
            let mut index = 1;
            while let Some(&byte) = rest.get(index) {
                match byte {
                    b'\\' => index += 2,
                    // An apostrophe in a disabled text ends with its line.
                    b'\n' => return index,
                    byte if byte == quote => return index + 1,
                    _ => index += 1,
                }
            }
            rest.len()
        }
        Some(byte) if word(byte) => rest.iter().take_while(|byte| word(byte)).count(),
        Some(_) | None => 1,
    }
}

/// A declaration that is being read.
#[derive(Default)]
struct Open {
    tokens: Vec<String>,
    depth: u32,
    /// Where the first `{` at the top of the declaration is.
    body: Option<usize>,
}

impl Open {
    fn directive(&mut self, tokens: Vec<String>) {
        self.tokens.extend(tokens);
    }

    /// Takes a token; returns the declaration it ends.
    fn push(&mut self, token: String) -> Option<Declaration> {
        let mut ends = false;
        match token.as_str() {
            "{" | "(" | "[" => {
                if token == "{" && self.depth == 0 && self.body.is_none() {
                    self.body = Some(self.tokens.len());
                }
                self.depth += 1;
            }
            "}" | ")" | "]" => {
                self.depth = self.depth.saturating_sub(1);
                ends = token == "}" && self.depth == 0 && self.is_function();
            }
            ";" => ends = self.depth == 0,
            _ => {}
        }
        self.tokens.push(token);
        ends.then(|| {
            let open = std::mem::take(self);
            Declaration {
                defines: names(&without_attributes(&open.tokens)),
                tokens: open.tokens,
            }
        })
    }

    fn is_function(&self) -> bool {
        let Some(head) = self.body.and_then(|body| self.tokens.get(..body)) else {
            return false;
        };
        let head = without_attributes(head);
        let top = top_level(&head);
        !top.contains(&"typedef") && !top.contains(&"=") && called(&top).is_some()
    }
}

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
fn top_level(tokens: &[String]) -> Vec<&str> {
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
fn called<'a>(top: &[&'a str]) -> Option<&'a str> {
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

fn directive(tokens: &[String]) -> Defines {
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
fn without_attributes(tokens: &[String]) -> Vec<String> {
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

fn names(tokens: &[String]) -> Defines {
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
    if known {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &[&str]) {
        let found: Vec<String> = declarations(text.as_bytes())
            .into_iter()
            .map(|declaration| match declaration.defines {
                Defines::Names(names) => names.into_iter().collect::<Vec<_>>().join(" "),
                Defines::Unknown => "?".to_owned(),
            })
            .collect();
        assert_eq!(found, wanted, "{text}");
    }

    #[test]
    fn the_name_of_a_function_is_found() {
        check("int f(int a, void (*g)(int));", &["f"]);
        check(
            "extern struct sk_buff *f(u8, struct x *) __must_check;",
            &["f"],
        );
        check(
            "static inline void f(void) { if (x) { y(); } } int z;",
            &["f", "z"],
        );
        check("struct foo f(int x) { return (struct foo){ x }; }", &["f"]);
        check("__printf(1, 2) void f(const char *fmt, ...);", &["f"]);
        check(
            "static inline void f(void) __acquires(RCU) { lock(); }",
            &["f"],
        );
    }

    #[test]
    fn a_type_gives_its_tag_enumerators_and_aliases() {
        check(
            "struct foo { int a; enum e { A, B = 2 } b; };",
            &["A B e foo"],
        );
        check("struct foo;", &["foo"]);
        check("typedef struct { int a; } foo_t;", &["foo_t"]);
        check("typedef int (*handler_t)(int);", &["handler_t"]);
        check("typedef unsigned long pgd_t;", &["pgd_t"]);
        check("enum { A, B };", &["A B"]);
        check("struct foo { int a; } __packed; int b;", &["foo", "b"]);
        check("struct __attribute__((packed)) foo { int a; };", &["foo"]);
        check(
            "struct foo {\n#ifdef X\n#define Y 1\n int a;\n#endif\n};",
            &["Y foo"],
        );
    }

    #[test]
    fn variables_and_macros_are_found() {
        check("extern spinlock_t a_lock, *b[4];", &["a_lock b"]);
        check("extern int a __read_mostly;", &["a"]);
        check("extern u32 __a;", &["__a u32"]);
        check("extern int (*hook)(struct x *);", &["hook"]);
        check("int (*f(int a))(int);", &["f"]);
        check("static const struct o ops = { .f = f };", &["ops"]);
        check("#define MAX(a, b) \\\n ((a) > (b))\nint x;", &["MAX", "x"]);
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for text in [
            "DECLARE_PER_CPU(int, x);",
            "DECLARE_EVENT(a) int b;",
            "#include <x.h>",
            "#ifdef X",
            "struct foo { int a;",
        ] {
            check(text, &["?"]);
        }
    }

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
