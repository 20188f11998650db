//! What the declarations of a C header define and mention.
//!
//! Pure, and no C parser: it splits a header into top-level declarations and directives and finds
//! the names each defines. Where it is not sure it says so ([`Defines::Unknown`]), never less.

mod differing;
mod names;
mod tokens;

use std::collections::BTreeSet;

pub(super) use differing::differing;
use names::{called, directive, names, top_level, without_attributes};
use tokens::{Line, logical_lines};

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
        check("enum { A = f(1, 2), B, };", &["A B f"]);
        check("enum { A, B\n#define C B\n};", &["A B C define"]);
        check(
            "enum { A,\n#ifdef X\n B,\n#endif\n C };",
            &["A B C X endif ifdef"],
        );
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
            "DECLARE_ALL;",
            "enum traces { all_traces } __mode(byte);",
            "enum ids { LIST(ITEM) LAST };",
            "struct s { enum { LIST } a; };",
            "#include <x.h>",
            "#ifdef X",
            "struct foo { int a;",
        ] {
            check(text, &["?"]);
        }
    }
}
