//! Where the functions of a C file begin and end.

use super::lexer::{Kind, Lexer, Token};

/// Where one function is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionExtent {
    /// Its name in the source; for one made by a macro, the macro's first argument.
    pub name: String,
    /// The macro that makes its name, as `SYSCALL_DEFINE3`; the name in an object is another.
    pub via: Option<String>,
    /// First line of its definition, the return type's, from 1.
    pub first_line: u32,
    /// The line of its closing brace.
    pub last_line: u32,
}

/// Most tokens before a `{` that are looked at.
const LONGEST_HEAD: usize = 600;

/// Deepest nesting of `#if` that is followed.
const DEEPEST: usize = 64;

/// Returns the functions defined at the top level of `text`, in order; they never overlap.
///
/// Of the arms of an `#if` each is read from where the first began, and what follows continues from
/// the end of the first that can be compiled; a function whose arms begin or end differently is that
/// of the first. A function whose braces do not close by its `}` at the margin is left out.
pub fn functions(text: &str) -> Vec<FunctionExtent> {
    let mut reader = Reader::default();
    let mut arms: Vec<Arms<'_>> = Vec::new();
    // Arms nested too deep are read one after another.
    let mut ignored = 0_usize;
    for token in Lexer::new(text) {
        if token.kind != Kind::Directive {
            reader.take(&token);
            continue;
        }
        match directive(token.text) {
            Directive::If { never } if arms.len() < DEEPEST => arms.push(Arms {
                start: reader.state.clone(),
                end: None,
                never,
            }),
            Directive::If { .. } => ignored = ignored.saturating_add(1),
            Directive::Else | Directive::End if ignored > 0 => {
                if directive(token.text) == Directive::End {
                    ignored = ignored.saturating_sub(1);
                }
            }
            Directive::Else => {
                if let Some(arms) = arms.last_mut() {
                    let ended = std::mem::replace(&mut reader.state, arms.start.clone());
                    if !arms.never && arms.end.is_none() {
                        arms.end = Some(ended);
                    }
                    arms.never = false;
                }
            }
            Directive::End => {
                if let Some(arms) = arms.pop() {
                    match (arms.end, arms.never) {
                        (Some(end), _) => reader.state = end,
                        (None, true) => reader.state = arms.start,
                        (None, false) => {}
                    }
                }
            }
            Directive::Other => {}
        }
    }
    let mut found = reader.found;
    found.sort_by_key(|extent| (extent.first_line, std::cmp::Reverse(extent.last_line)));
    let mut last = 0;
    // Arms that both define the whole function lie apart; what overlaps began in a first arm.
    found.retain(|extent| {
        let apart = extent.first_line > last;
        if apart {
            last = extent.last_line;
        }
        apart
    });
    found
}

/// The arms of one `#if`.
struct Arms<'a> {
    start: State<'a>,
    /// Where the first arm that can be compiled ended.
    end: Option<State<'a>>,
    /// Whether the arm being read is `#if 0`.
    never: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    If { never: bool },
    Else,
    End,
    Other,
}

fn directive(text: &str) -> Directive {
    let text = text.trim_start_matches('#').trim_start();
    let word = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or("");
    match word {
        "if" => {
            let rest = text.get(2..).unwrap_or("").trim();
            Directive::If {
                never: rest == "0" || rest.starts_with("0 ") || rest.starts_with("0/"),
            }
        }
        "ifdef" | "ifndef" => Directive::If { never: false },
        "else" | "elif" | "elifdef" | "elifndef" => Directive::Else,
        "endif" => Directive::End,
        _ => Directive::Other,
    }
}

/// Where the reader is; what an `#else` goes back to.
#[derive(Clone, Default)]
struct State<'a> {
    braces: u32,
    parens: u32,
    /// Tokens at the top level since the last definition ended.
    head: Vec<Token<'a>>,
    /// The head grew too long to be a function's.
    lost: bool,
    /// The function whose body this is.
    open: Option<Head>,
}

#[derive(Clone, Debug)]
struct Head {
    name: String,
    via: Option<String>,
    first_line: u32,
}

#[derive(Default)]
struct Reader<'a> {
    state: State<'a>,
    found: Vec<FunctionExtent>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, token: &Token<'a>) {
        let state = &mut self.state;
        let sign = (token.kind == Kind::Sign).then_some(token.text);
        if state.braces > 0 {
            match sign {
                Some("{") => state.braces = state.braces.saturating_add(1),
                Some("}") => {
                    state.braces -= 1;
                    // Kernel style closes at the margin what is at the top level: where the count
                    // says otherwise, the count is wrong.
                    let astray = token.at_margin && state.braces > 0;
                    if astray {
                        state.braces = 0;
                        state.open = None;
                    }
                    if state.braces == 0 {
                        self.close(token.line);
                    }
                }
                _ => {}
            }
            return;
        }
        match sign {
            Some("(") => state.parens = state.parens.saturating_add(1),
            Some(")") => state.parens = state.parens.saturating_sub(1),
            // A brace within parentheses is an argument; at the margin it opens a body, and the
            // parentheses were counted wrong.
            Some("{") if state.parens == 0 || token.at_margin => {
                state.open = if state.parens == 0 && !state.lost {
                    head(&state.head)
                } else {
                    None
                };
                state.parens = 0;
                state.braces = 1;
                return;
            }
            Some("}") if token.at_margin => {
                self.reset();
                return;
            }
            Some(";") if state.parens == 0 || token.at_margin => {
                self.reset();
                return;
            }
            _ => {}
        }
        if state.head.len() < LONGEST_HEAD {
            state.head.push(*token);
        } else {
            state.lost = true;
        }
    }

    fn close(&mut self, line: u32) {
        if let Some(open) = self.state.open.take() {
            self.found.push(FunctionExtent {
                name: open.name,
                via: open.via,
                first_line: open.first_line,
                last_line: line,
            });
            self.reset();
        } else {
            // The end of a structure or of an initial value; its declaration goes on to `;`.
            self.state.head.clear();
            self.state.lost = false;
        }
    }

    fn reset(&mut self) {
        self.state = State::default();
    }
}

/// Reads what stands before a `{` at the top level; `None` when it is no function's head.
fn head(tokens: &[Token<'_>]) -> Option<Head> {
    let first_line = tokens.first()?.line;
    let groups = groups(tokens)?;
    // From the end: attributes may follow the parameters, and have parameters themselves.
    let mut groups = groups.iter().rev().peekable();
    while let Some(group) = groups.next() {
        let before = group.start.checked_sub(1).and_then(|at| tokens.get(at));
        let name = before?;
        if name.text == ")" {
            // `FNAME(walk)(…)`: the name is made of the group before.
            let inner = groups.next()?;
            let macro_name = inner.start.checked_sub(1).and_then(|at| tokens.get(at))?;
            return made(tokens, inner.start, macro_name, first_line);
        }
        if name.kind != Kind::Word || is_statement(name.text) {
            return None;
        }
        let ahead = group.start.checked_sub(2).and_then(|at| tokens.get(at));
        let follows_parameters = ahead.is_some_and(|token| token.text == ")");
        let is_trailing = groups.peek().is_some()
            && (is_attribute(name.text) || (follows_parameters && name.text.starts_with('_')));
        if is_trailing {
            continue;
        }
        let typed = tokens
            .get(..group.start.saturating_sub(1))
            .unwrap_or_default()
            .iter()
            .any(|token| token.kind == Kind::Word && !is_storage(token.text));
        return if typed && !is_macro_name(name.text) {
            Some(Head {
                name: name.text.to_owned(),
                via: None,
                first_line: name_line(tokens, group.start, first_line),
            })
        } else if is_macro_name(name.text) {
            made(tokens, group.start, name, first_line)
        } else {
            None
        };
    }
    None
}

/// A function whose name is the first argument of the macro before `start`.
fn made(tokens: &[Token<'_>], start: usize, name: &Token<'_>, first_line: u32) -> Option<Head> {
    let argument = tokens.get(start.checked_add(1)?)?;
    (argument.kind == Kind::Word && name.kind == Kind::Word).then(|| Head {
        name: argument.text.to_owned(),
        via: Some(name.text.to_owned()),
        first_line: name_line(tokens, start, first_line),
    })
}

/// Returns the line on which the definition begins whose parameters are at `start`: after a macro
/// call without `;` that stands on lines of its own.
fn name_line(tokens: &[Token<'_>], start: usize, first_line: u32) -> u32 {
    let before = tokens.get(..start).unwrap_or(tokens);
    let call = before
        .iter()
        .rposition(|token| token.text == ")" && token.kind == Kind::Sign)
        .and_then(|at| Some((tokens.get(at)?, before.get(at.checked_add(1)?)?)));
    match call {
        Some((end, next)) if next.line > end.line => next.line,
        Some(_) | None => first_line,
    }
}

/// A pair of parentheses at the top of a head, by the indices of its ends.
struct Group {
    start: usize,
}

/// Finds the pairs of parentheses; `None` where a `=` outside of them says that this is a value.
fn groups(tokens: &[Token<'_>]) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    let mut depth = 0_u32;
    for (at, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Sign {
            continue;
        }
        match token.text {
            "(" => {
                if depth == 0 {
                    groups.push(Group { start: at });
                }
                depth = depth.saturating_add(1);
            }
            ")" => depth = depth.checked_sub(1)?,
            "=" if depth == 0 => return None,
            _ => {}
        }
    }
    (depth == 0).then_some(groups)
}

fn is_statement(word: &str) -> bool {
    matches!(
        word,
        "if" | "for"
            | "while"
            | "switch"
            | "do"
            | "else"
            | "return"
            | "sizeof"
            | "typeof"
            | "struct"
            | "union"
            | "enum"
    )
}

fn is_storage(word: &str) -> bool {
    matches!(
        word,
        "static" | "inline" | "__inline" | "extern" | "asmlinkage" | "notrace" | "noinline"
    )
}

fn is_attribute(word: &str) -> bool {
    matches!(
        word,
        "__attribute__"
            | "__printf"
            | "__scanf"
            | "__aligned"
            | "__section"
            | "__acquires"
            | "__releases"
            | "__must_hold"
            | "__cond_acquires"
            | "__cond_lock"
            | "__alloc_size"
            | "__realloc_size"
            | "__assume_aligned"
            | "__nonnull"
            | "__no_sanitize"
            | "__target"
            | "__bpf_kfunc_arg"
            | "__malloc"
            | "__diagnose_as"
            | "__counted_by"
            | "__attribute"
    ) || word.starts_with("__releases_")
        || word.starts_with("__acquires_")
        || word.starts_with("__must_hold_")
}

/// Tells whether a name is written as macros are: no small letter in it.
fn is_macro_name(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_uppercase())
        && !word.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, u32, u32)]) {
        let found = functions(text);
        let found: Vec<(&str, u32, u32)> = found
            .iter()
            .map(|extent| (extent.name.as_str(), extent.first_line, extent.last_line))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn functions_have_their_return_type_and_their_closing_brace() {
        check(
            "#include <x.h>\nint a;\n\nstatic int\nfoo(int x)\n{\n\treturn x;\n}\n\nvoid bar(void) { }\n",
            &[("foo", 4, 8), ("bar", 10, 10)],
        );
    }

    #[test]
    fn values_and_types_are_no_functions() {
        check(
            "struct a {\n int x;\n};\nstatic const struct b c = {\n .x = f(1),\n};\nenum { A, B(2) };\n\
             static struct d e[] __initdata = { X(1) };\ntypedef struct { int y; } z;\nint f(void);\n\
             union u { int i; } v;\nstatic DEFINE_SPINLOCK(l);\n",
            &[],
        );
    }

    #[test]
    fn comments_and_quotes_hold_no_braces() {
        check(
            "int f(void)\n{\n\t/* } */ char c = '}'; // }\n\tchar d = '\\'';\n\treturn g(\"}\\\"}\");\n}\nint h(void)\n{\n}\n",
            &[("f", 1, 6), ("h", 7, 9)],
        );
    }

    #[test]
    fn attributes_are_not_taken_for_names() {
        check(
            "static __printf(2, 3) void f(int a, const char *b, ...)\n{\n}\n\
             void *g(int a) __acquires(l) __releases(m)\n{\n}\n\
             __printf(1, 2)\nint h(const char *a, ...)\n{\n}\n\
             static int __init i(void) { }\n\
             static int __attribute__((unused)) j(int (*cb)(int)) { }\n\
             static struct x *k(struct y z[static 3]) __must_hold(&l) { }\n",
            &[
                ("f", 1, 3),
                ("g", 4, 6),
                ("h", 8, 10),
                ("i", 11, 11),
                ("j", 12, 12),
                ("k", 13, 13),
            ],
        );
    }

    #[test]
    fn macros_that_define_functions_give_their_argument_and_their_name() {
        let found = functions(
            "SYSCALL_DEFINE3(read, int, fd)\n{\n}\nstatic int FNAME(walk)(struct x *y)\n{\n}\n\
             BPF_CALL_1(bpf_x, int, a)\n{\n}\nEXPORT_THING(x)\nstatic int z(void)\n{\n}\n",
        );
        let found: Vec<_> = found
            .iter()
            .map(|extent| {
                (
                    extent.name.as_str(),
                    extent.via.as_deref(),
                    extent.first_line,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("read", Some("SYSCALL_DEFINE3"), 1),
                ("walk", Some("FNAME"), 4),
                ("bpf_x", Some("BPF_CALL_1"), 7),
                ("z", None, 11),
            ]
        );
    }

    #[test]
    fn arms_of_if_are_read_from_one_place() {
        check(
            "#ifdef A\nint f(int a) {\n#else\nint f(void) {\n#endif\n\tx();\n}\nint g(void) { }\n",
            &[("f", 2, 7), ("g", 8, 8)],
        );
        check(
            "int f(void)\n{\n#ifdef A\n\tif (a) {\n#else\n\tif (b) {\n#endif\n\t}\n}\nint g(void) { }\n",
            &[("f", 1, 9), ("g", 10, 10)],
        );
        check(
            "int f(void)\n{\n#ifdef A\n\tif (a) {\n#endif\n\tx();\n#ifdef A\n\t}\n#endif\n}\nint g(void) { }\n",
            &[("f", 1, 10), ("g", 11, 11)],
        );
        check(
            "#if 0\nint f(void) {\n#else\nint h(void) {\n#endif\n}\nint g(void) { }\n",
            &[("h", 4, 6), ("g", 7, 7)],
        );
        check(
            "#ifdef A\nint f(void)\n{\n}\n#else\nint f(void)\n{\n\tx();\n}\n#endif\n",
            &[("f", 2, 4), ("f", 6, 9)],
        );
    }

    #[test]
    fn a_function_whose_braces_do_not_add_up_is_none_and_the_next_is_found() {
        check(
            "int f(void)\n{\n\tif (x) {\n}\n\nint g(void)\n{\n}\n",
            &[("g", 6, 8)],
        );
        check("int f(void)\n{\n\tx();\n", &[]);
        check("}\n}\nint g(void)\n{\n}\n", &[("g", 3, 5)]);
        check(
            "X(a, ({ int b; }), c);\nint g(void)\n{\n}\n",
            &[("g", 2, 4)],
        );
    }
}
