//! A file of C cut into its definitions.

use super::extents::{FunctionExtent, functions};
use super::lexer::{Kind, Lexer, Token};
use super::units::{self, Parts, Unit};

/// Deepest nesting of `#if` that is kept.
const DEEPEST: usize = 64;

/// One definition or declaration at the top level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What it is.
    pub kind: ChunkKind,
    /// By what it is known: a function's name, the head of a type or value, the name of a macro; else
    /// its code.
    pub key: String,
    /// Its code.
    pub units: Vec<Unit>,
    /// The conditions of the preprocessor around it, outermost first, without the guard of a header.
    pub conditions: Vec<String>,
    /// Its first and last line, from 1.
    pub lines: (u32, u32),
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkKind {
    /// A function with its body.
    Function,
    /// A type or a value with braces that begin at the margin.
    Braced,
    /// A directive that defines or undefines a name.
    Macro,
    /// A directive that includes a file.
    Include,
    /// Anything else: a declaration, a call of a macro, a directive.
    Single,
}

/// Cuts `text` into its chunks, in order; their lines do not overlap but for several on one line.
pub fn outline(text: &str) -> Vec<Chunk> {
    outline_by(text, &functions(text))
}

/// As [`outline`], with the functions already at hand.
pub fn outline_by(text: &str, functions: &[FunctionExtent]) -> Vec<Chunk> {
    let mut reader = Reader::default();
    let mut functions = functions.iter().peekable();
    for token in Lexer::new(text) {
        while functions
            .next_if(|extent| extent.last_line < token.line)
            .is_some()
        {
            reader.end();
        }
        let within = functions
            .peek()
            .filter(|extent| extent.first_line <= token.line);
        match (within, token.kind) {
            (Some(extent), _) => reader.take_in_function(extent, token),
            (None, Kind::Directive) => reader.direct(&token),
            (None, _) => reader.take(token),
        }
    }
    reader.end();
    without_guard(reader.chunks)
}

#[derive(Default)]
struct Reader<'a> {
    chunks: Vec<Chunk>,
    tokens: Vec<Token<'a>>,
    /// The function whose tokens these are.
    function: Option<(String, u32)>,
    braces: u32,
    parens: u32,
    conditions: Vec<String>,
    /// How many conditions are too deep to be kept.
    deeper: usize,
}

impl<'a> Reader<'a> {
    fn take_in_function(&mut self, extent: &FunctionExtent, token: Token<'a>) {
        let own = (extent.name.clone(), extent.first_line);
        if self.function.as_ref() != Some(&own) {
            self.end();
            self.function = Some(own);
        }
        self.tokens.push(token);
    }

    fn take(&mut self, token: Token<'a>) {
        let sign = if token.kind == Kind::Sign {
            token.text
        } else {
            ""
        };
        // What begins at the margin behind a call is not of it: macros are called without `;`.
        let is_apart = token.at_margin
            && token.kind == Kind::Word
            && (self.braces, self.parens) == (0, 0)
            && self.tokens.last().is_some_and(|last| last.text == ")");
        if is_apart {
            self.end();
        }
        // At the margin a brace closes what is at the top level, however it was counted.
        if sign == "}" && token.at_margin {
            (self.braces, self.parens) = (1, 0);
        }
        self.tokens.push(token);
        match sign {
            "{" => self.braces = self.braces.saturating_add(1),
            "}" => self.braces = self.braces.saturating_sub(1),
            "(" => self.parens = self.parens.saturating_add(1),
            ")" => self.parens = self.parens.saturating_sub(1),
            ";" if (self.braces, self.parens) == (0, 0) => self.end(),
            _ => {}
        }
    }

    /// Takes a directive outside of functions. Within braces it is of what they hold.
    fn direct(&mut self, token: &Token<'a>) {
        if self.braces > 0 {
            self.tokens.push(*token);
            return;
        }
        self.end();
        let unit = units::directive(token);
        let rest = unit.code.strip_prefix("# ").unwrap_or_default();
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "if" | "ifdef" | "ifndef" => {
                if self.conditions.len() < DEEPEST {
                    self.conditions.push(unit.code);
                } else {
                    self.deeper = self.deeper.saturating_add(1);
                }
            }
            "else" | "elif" | "elifdef" | "elifndef" => {
                if let (Some(last), 0) = (self.conditions.last_mut(), self.deeper) {
                    last.push_str(" | ");
                    last.push_str(&unit.code);
                }
            }
            "endif" => match self.deeper.checked_sub(1) {
                Some(less) => self.deeper = less,
                None => drop(self.conditions.pop()),
            },
            _ => {
                let (kind, key) = match word {
                    "define" | "undef" => {
                        let name = rest.split(' ').next().unwrap_or_default();
                        (ChunkKind::Macro, name.to_owned())
                    }
                    "include" => (ChunkKind::Include, unit.code.clone()),
                    _ => (ChunkKind::Single, unit.code.clone()),
                };
                let last = u32::try_from(token.text.matches('\n').count()).unwrap_or(u32::MAX);
                self.chunks.push(Chunk {
                    kind,
                    key,
                    lines: (unit.line, unit.line.saturating_add(last)),
                    units: vec![unit],
                    conditions: self.conditions.clone(),
                });
            }
        }
    }

    /// Ends the chunk at hand.
    fn end(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        let function = self.function.take();
        (self.braces, self.parens) = (0, 0);
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            return;
        };
        let has_braces = tokens.iter().any(|token| token.text == "{");
        let (kind, parts) = match (&function, has_braces && first.at_margin) {
            (Some(_), _) => (ChunkKind::Function, Parts::Statements),
            (None, true) => (ChunkKind::Braced, Parts::Members),
            (None, false) => (ChunkKind::Single, Parts::Statements),
        };
        let units = units::units(&tokens, parts);
        let key = match (function, kind) {
            (Some((name, _)), _) => name,
            (None, ChunkKind::Braced) => {
                units.first().map_or_else(String::new, |it| it.code.clone())
            }
            (None, _) => joined(&units),
        };
        let lines = (first.line, last.line);
        self.chunks.push(Chunk {
            kind,
            key,
            units,
            conditions: self.conditions.clone(),
            lines,
        });
        // The conditions that open within a function or a type close there.
    }
}

fn joined(units: &[Unit]) -> String {
    let codes: Vec<&str> = units.iter().map(|unit| unit.code.as_str()).collect();
    codes.join(" ")
}

/// Takes the guard of a header away: the condition under which all of the file stands, which begins by
/// defining the name that it asks for.
fn without_guard(mut chunks: Vec<Chunk>) -> Vec<Chunk> {
    let guard = chunks.first().and_then(|first| {
        let condition = first.conditions.first()?;
        let name = condition.strip_prefix("# ifndef ")?;
        (first.kind == ChunkKind::Macro && first.key == name).then(|| condition.clone())
    });
    if let Some(guard) = guard
        && chunks
            .iter()
            .all(|chunk| chunk.conditions.first() == Some(&guard))
    {
        for chunk in &mut chunks {
            chunk.conditions.remove(0);
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(ChunkKind, &str, &[&str])]) {
        let chunks = outline(text);
        let found: Vec<(ChunkKind, &str, Vec<&str>)> = chunks
            .iter()
            .map(|chunk| {
                let conditions = chunk.conditions.iter().map(String::as_str).collect();
                (chunk.kind, chunk.key.as_str(), conditions)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(kind, key, conditions)| (*kind, *key, conditions.to_vec()))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_file_is_cut_into_its_definitions() {
        use ChunkKind::{Braced, Function, Include, Macro, Single};
        check(
            "#include <a.h>\nMODULE_A(\"x\")\nint a;\nstatic struct b c[] = {\n { 1, 2 },\n#ifdef D\n 3,\n#endif\n};\n\
             int f(int a)\n{\n#ifdef E\n\treturn 1;\n#endif\n}\nEXPORT(f);\n#define G(x) \\\n\t(x)\n\
             #if H\nint i(void) { }\n#else\nint i(void);\n#endif\nenum {\n J,\n};\n",
            &[
                (Include, "# include < a . h >", &[]),
                (Single, "MODULE_A ( \"x\" )", &[]),
                (Single, "int a ;", &[]),
                (Braced, "static struct b c [ ] = {", &[]),
                (Function, "f", &[]),
                (Single, "EXPORT ( f ) ;", &[]),
                (Macro, "G", &[]),
                (Function, "i", &["# if H"]),
                (Single, "int i ( void ) ;", &["# if H | # else"]),
                (Braced, "enum {", &[]),
            ],
        );
    }

    #[test]
    fn the_guard_of_a_header_is_no_condition() {
        use ChunkKind::{Macro, Single};
        check(
            "#ifndef A_H\n#define A_H\nint a;\n#ifdef B\nint b;\n#endif\n#endif\n",
            &[
                (Macro, "A_H", &[]),
                (Single, "int a ;", &[]),
                (Single, "int b ;", &["# ifdef B"]),
            ],
        );
        check(
            "#ifndef A_H\n#define A_H\nint a;\n#endif\nint b;\n",
            &[
                (Macro, "A_H", &["# ifndef A_H"]),
                (Single, "int a ;", &["# ifndef A_H"]),
                (Single, "int b ;", &[]),
            ],
        );
    }

    #[test]
    fn braces_that_do_not_add_up_end_at_the_margin() {
        use ChunkKind::{Braced, Single};
        check(
            "struct a {\n int b[{;\n};\nint c;\n",
            &[(Braced, "struct a {", &[]), (Single, "int c ;", &[])],
        );
        check(
            "}\n;\nint c;\n",
            &[(Single, "} ;", &[]), (Single, "int c ;", &[])],
        );
    }
}
