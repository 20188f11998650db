//! Code cut into statements, so that where its lines are broken does not matter.

use super::lexer::{Kind, Lexer, Token};

/// One statement, one head of a statement, one brace or one directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its tokens, one space between them, without comments.
    pub code: String,
    /// How many tokens it has.
    pub tokens: u32,
    /// Line of its first token, from 1.
    pub line: u32,
}

/// What parts the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// Statements: the body of a function.
    Statements,
    /// Commas too: the body of a type or of an initial value.
    Members,
}

/// Cuts `tokens` into units.
pub(super) fn units(tokens: &[Token<'_>], parts: Parts) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut open: Option<Unit> = None;
    // First word of the open unit, by which is told where it ends.
    let mut first = "";
    let mut parens = 0_u32;
    for token in tokens {
        if token.kind == Kind::Directive {
            units.extend(open.take());
            units.push(directive(token));
            parens = 0;
            continue;
        }
        let sign = if token.kind == Kind::Sign {
            token.text
        } else {
            ""
        };
        // A brace that closes ends what was before it.
        if sign == "}" && parens == 0 {
            units.extend(open.take());
        }
        if let Some(unit) = &mut open {
            unit.code.push(' ');
            unit.code.push_str(token.text);
            unit.tokens = unit.tokens.saturating_add(1);
        } else {
            first = token.text;
            open = Some(Unit {
                code: token.text.to_owned(),
                tokens: 1,
                line: token.line,
            });
        }
        match sign {
            "(" | "[" => parens = parens.saturating_add(1),
            ")" | "]" => parens = parens.saturating_sub(1),
            _ => {}
        }
        let is_control = matches!(first, "if" | "for" | "while" | "switch");
        let ends = parens == 0
            && match sign {
                ";" | "{" | "}" => true,
                ")" => is_control,
                "," => parts == Parts::Members,
                ":" => match first {
                    "case" | "default" => true,
                    // A label is one word.
                    _ => open.as_ref().is_some_and(|unit| unit.tokens == 2),
                },
                _ => matches!(first, "else" | "do"),
            };
        if ends {
            units.extend(open.take());
        }
    }
    units.extend(open);
    units
}

/// Reads a directive: its tokens as those of other code.
pub(super) fn directive(token: &Token<'_>) -> Unit {
    let mut unit = Unit {
        code: String::new(),
        tokens: 0,
        line: token.line,
    };
    for part in Lexer::plain(token.text) {
        if unit.tokens > 0 {
            unit.code.push(' ');
        }
        unit.code.push_str(part.text);
        unit.tokens = unit.tokens.saturating_add(1);
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, parts: Parts, expected: &[&str]) {
        let tokens: Vec<Token<'_>> = Lexer::new(text).collect();
        let found = units(&tokens, parts);
        let found: Vec<&str> = found.iter().map(|unit| unit.code.as_str()).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn statements_are_the_same_however_their_lines_are_broken() {
        let expected = [
            "if ( a ( b ) )",
            "{",
            "x = c ? d : e ;",
            "}",
            "else",
            "if ( f )",
            "goto out ;",
            "for ( i = 0 ; i < 3 ; i + + )",
            "g ( ) ;",
            "case A :",
            "out :",
            "return ;",
        ];
        check(
            "if (a(b)) {\n x = c ? d : e;\n} else if (f)\n goto out;\nfor (i = 0; i < 3; i++)\n g();\ncase A: out: return;",
            Parts::Statements,
            &expected,
        );
        check(
            "if\n(a\n(b)){x=c\n?d:e;}else\nif(f)goto/* y */out;for(i=0;\ni<3;i++)g();case A:\nout:\nreturn;",
            Parts::Statements,
            &expected,
        );
    }

    #[test]
    fn members_are_parted_by_commas_and_directives_stand_alone() {
        check(
            "enum x {\n A = f(1, 2),\n# ifdef  CONFIG_B /* c */\n B,\n#endif\n};",
            Parts::Members,
            &[
                "enum x {",
                "A = f ( 1 , 2 ) ,",
                "# ifdef CONFIG_B",
                "B ,",
                "# endif",
                "}",
                ";",
            ],
        );
    }
}
