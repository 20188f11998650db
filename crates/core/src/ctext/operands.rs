//! What a statement reads, sets and calls, as far as its text tells.

/// One name that a statement uses, with the members behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Its parts as written, without blanks; what is between brackets is left out: `a->b[].c`.
    pub path: String,
    /// What the statement does with it.
    pub role: Role,
    /// Whether it stands beside `<`, `>`, `<=` or `>=`.
    pub is_bounded: bool,
}

/// What a statement does with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It calls it, or uses it as a macro with arguments.
    Called,
    /// It sets it, by any operator or a step up or down.
    Set,
    /// It takes its address, so that others may set it.
    Addressed,
    /// It reads it.
    Read,
}

impl Operand {
    /// Tells whether `self` is `path`, a part of it, or holds it: whether setting one may change the other.
    pub fn overlaps(&self, path: &str) -> bool {
        within(&self.path, path) || within(path, &self.path)
    }

    /// Tells whether setting `self` sets `path`.
    pub fn holds(&self, path: &str) -> bool {
        within(path, &self.path)
    }
}

/// Tells whether `inner` is `outer` or a member of it.
fn within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '[']))
}

/// Returns the operands of `code`, which is in normal form: one space between its tokens. Names of types
/// and of labels are among them, keywords and members of what a call returns are not.
pub fn operands(code: &str) -> Vec<Operand> {
    let tokens: Vec<&str> = code.split(' ').collect();
    let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
    let mut operands = Vec::new();
    for (at, first) in tokens.iter().enumerate() {
        if !is_name(first) || is_keyword(first) || is_member(&tokens, at) {
            continue;
        }
        let (path, end) = path(&tokens, at);
        let before = |back: usize| at.checked_sub(back).map_or("", token);
        let role = if token(end) == "(" {
            Role::Called
        } else if is_set_by(&tokens, end)
            || matches!((before(2), before(1)), ("+", "+") | ("-", "-"))
        {
            Role::Set
        } else if before(1) == "&" && !ends_operand(before(2)) && before(2) != "&" {
            Role::Addressed
        } else {
            Role::Read
        };
        let is_ahead = match (token(end), token(end.saturating_add(1))) {
            ("<", next) => next != "<",
            (">", next) => next != ">",
            (_, _) => false,
        };
        let (ahead, sign) = if before(1) == "=" {
            (before(3), before(2))
        } else {
            (before(2), before(1))
        };
        let is_behind = match sign {
            "<" => ahead != "<",
            ">" => ahead != ">" && ahead != "-",
            _ => false,
        };
        operands.push(Operand {
            path,
            role,
            is_bounded: is_ahead || is_behind,
        });
    }
    operands
}

/// Reads the path whose first name is at `at`; also returns the index of the token behind it.
fn path(tokens: &[&str], at: usize) -> (String, usize) {
    let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
    let mut path = token(at).to_owned();
    let mut end = at.saturating_add(1);
    loop {
        match (token(end), token(end + 1), token(end + 2)) {
            ("-", ">", member) if is_name(member) => {
                path.push_str("->");
                path.push_str(member);
                end += 3;
            }
            (".", member, _) if is_name(member) => {
                path.push('.');
                path.push_str(member);
                end += 2;
            }
            ("[", _, _) => {
                let mut depth = 0_u32;
                let close = (end..tokens.len()).find(|at| {
                    match token(*at) {
                        "[" => depth = depth.saturating_add(1),
                        "]" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    depth == 0
                });
                let Some(close) = close else {
                    return (path, end);
                };
                path.push_str("[]");
                end = close + 1;
            }
            (_, _, _) => return (path, end),
        }
    }
}

/// Tells whether the tokens at `at` set what is before them.
fn is_set_by(tokens: &[&str], at: usize) -> bool {
    let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
    match (token(at), token(at + 1), token(at + 2)) {
        ("=", next, _) => next != "=",
        ("+", "+", _)
        | ("-", "-", _)
        | ("+" | "-" | "*" | "/" | "%" | "&" | "|" | "^", "=", _)
        | ("<", "<", "=")
        | (">", ">", "=") => true,
        (_, _, _) => false,
    }
}

/// Tells whether the name at `at` is a member of what is before it.
fn is_member(tokens: &[&str], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at)).copied();
    matches!(
        (before(2), before(1)),
        (_, Some(".")) | (Some("-"), Some(">"))
    )
}

/// Tells whether a token may end an operand, so that `&` behind it is not the address of what follows.
fn ends_operand(token: &str) -> bool {
    token == ")"
        || token == "]"
        || (!is_keyword(token) && is_name(token))
        || token.starts_with(|c: char| c.is_ascii_digit())
}

/// Tells whether a token is a name.
pub fn is_name(token: &str) -> bool {
    let mut bytes = token.bytes();
    let is_first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    is_first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_keyword(token: &str) -> bool {
    matches!(
        token,
        "if" | "else" | "for" | "while" | "do" | "switch" | "case" | "default" | "return" | "goto" | "break" | "continue"
            | "sizeof" | "typeof" | "struct" | "union" | "enum" | "static" | "inline" | "const" | "volatile" | "extern"
            | "unsigned" | "signed" | "int" | "char" | "long" | "short" | "void" | "bool"
            // Constants as good as keywords.
            | "NULL" | "true" | "false"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &str, expected: &[(&str, Role, bool)]) {
        let found = operands(code);
        let found: Vec<(&str, Role, bool)> = found
            .iter()
            .map(|it| (it.path.as_str(), it.role, it.is_bounded))
            .collect();
        assert_eq!(found, expected, "{code}");
    }

    #[test]
    fn what_is_read_set_and_called_is_told_apart() {
        use Role::{Addressed, Called, Read, Set};
        check(
            "a - > b [ i ] . c = f ( & d - > e , g & h ) ;",
            &[
                ("a->b[].c", Set, false),
                ("i", Read, false),
                ("f", Called, false),
                ("d->e", Addressed, false),
                ("g", Read, false),
                ("h", Read, false),
            ],
        );
        check("a + + ;", &[("a", Set, false)]);
        check("+ + a ;", &[("a", Set, false)]);
        check("a < < = b ;", &[("a", Set, false), ("b", Read, false)]);
        check(
            "if ( a = = NULL | | & & b )",
            &[("a", Read, false), ("b", Read, false)],
        );
        check(
            "f ( ) - > a = b ;",
            &[("f", Called, false), ("b", Read, false)],
        );
        check("a [ b", &[("a", Read, false), ("b", Read, false)]);
    }

    #[test]
    fn bounds_are_no_shifts_and_no_members() {
        use Role::Read;
        check("if ( a < b )", &[("a", Read, true), ("b", Read, true)]);
        check(
            "if ( a > = b - > c )",
            &[("a", Read, true), ("b->c", Read, true)],
        );
        check("if ( a < < b )", &[("a", Read, false), ("b", Read, false)]);
        check(
            "if ( a - > b > > c )",
            &[("a->b", Read, false), ("c", Read, false)],
        );
        check("if ( a = = b )", &[("a", Read, false), ("b", Read, false)]);
    }

    #[test]
    fn a_member_is_within_what_holds_it() {
        let of = |path: &str| Operand {
            path: path.to_owned(),
            role: Role::Read,
            is_bounded: false,
        };
        assert!(of("a").holds("a->b") && of("a").holds("a[].b") && of("a->b").holds("a->b"));
        assert!(!of("a->b").holds("a") && of("a->b").overlaps("a"));
        assert!(!of("a").holds("ab") && !of("ab").overlaps("a"));
    }
}
