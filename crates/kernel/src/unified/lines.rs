//! Keeps the line numbers of code that a change does not touch.
//!
//! `__LINE__` is in every `WARN`, `might_sleep` and lockdep call: one inserted line makes the rest of
//! the file look changed. A `#line` after the change gives the later lines their numbers back.

use super::PatchedFile;

/// Returns the bytes of `file` with `#line` directives, so that each line that was there before the
/// change counts as the line it was then.
///
/// No file name is given, so `__FILE__` stays. A directive is put right after a change, or where
/// that is inside a comment, a string, a continued line, or brackets (a macro's arguments), at the
/// next place that is not. Lines up to there count as the compiler finds them.
pub fn keep_line_numbers(file: &PatchedFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut scan = Scan::default();
    // Number the compiler gives to the next line.
    let mut presumed = 1_u32;
    for line in &file.lines {
        if let Some(origin) = line.origin
            && origin != presumed
            && scan.takes_directive()
        {
            bytes.extend_from_slice(format!("#line {origin}\n").as_bytes());
            presumed = origin;
        }
        bytes.extend_from_slice(&line.bytes);
        if line.newline {
            bytes.push(b'\n');
        }
        scan.read(&line.bytes);
        presumed = presumed.saturating_add(1);
    }
    bytes
}

/// What is open at the start of a line of C.
#[derive(Default)]
struct Scan {
    comment: bool,
    /// The quote of a literal that a backslash carried over from the line before.
    literal: Option<u8>,
    /// The line before ended with a backslash.
    continued: bool,
    /// The line belongs to a directive that a backslash carried over.
    directive: bool,
    /// Open `(` and `[`.
    brackets: u32,
    /// Brackets open at each `#if` around this line: its branches begin alike.
    branches: Vec<u32>,
}

impl Scan {
    fn takes_directive(&self) -> bool {
        !self.comment && self.literal.is_none() && !self.continued && self.brackets == 0
    }

    fn read(&mut self, line: &[u8]) {
        let text = line.trim_ascii_end();
        let continues = text.ends_with(b"\\");
        if !self.continued {
            self.directive = !self.comment && text.trim_ascii_start().starts_with(b"#");
            if self.directive {
                self.branch(text.trim_ascii_start());
            }
        }
        self.tokens(text);
        if !continues {
            // An unclosed quote, as in `#error don't`, ends with its line.
            self.literal = None;
        }
        self.continued = continues;
    }

    fn branch(&mut self, directive: &[u8]) {
        let word = directive.get(1..).unwrap_or_default().trim_ascii_start();
        if word.starts_with(b"if") {
            self.branches.push(self.brackets);
        } else if word.starts_with(b"el") {
            if let Some(&brackets) = self.branches.last() {
                self.brackets = brackets;
            }
        } else if word.starts_with(b"endif") {
            self.branches.pop();
        }
    }

    fn tokens(&mut self, line: &[u8]) {
        let mut rest = line;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if self.comment {
                if byte == b'*' && rest.first() == Some(&b'/') {
                    self.comment = false;
                    rest = rest.get(1..).unwrap_or_default();
                }
                continue;
            }
            match (self.literal, byte) {
                (Some(_), b'\\') => rest = rest.get(1..).unwrap_or_default(),
                (Some(quote), _) => {
                    if byte == quote {
                        self.literal = None;
                    }
                }
                (None, b'"' | b'\'') => self.literal = Some(byte),
                (None, b'/') if rest.first() == Some(&b'/') => return,
                (None, b'/') if rest.first() == Some(&b'*') => {
                    self.comment = true;
                    rest = rest.get(1..).unwrap_or_default();
                }
                (None, b'(' | b'[') if !self.directive => {
                    self.brackets = self.brackets.saturating_add(1);
                }
                (None, b')' | b']') if !self.directive => {
                    self.brackets = self.brackets.saturating_sub(1);
                }
                (None, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PatchedLine;
    use super::*;

    /// Keeps the numbers of a text in which lines beginning with `+` are added and `~` stands for a
    /// removed line.
    fn check(marked: &str, wanted: &str) {
        let (mut file, mut origin) = (PatchedFile::default(), 0);
        for line in marked.lines() {
            let added = line.strip_prefix('+');
            if added.is_none() {
                origin += 1;
            }
            if line != "~" {
                file.lines.push(PatchedLine {
                    bytes: added.unwrap_or(line).into(),
                    newline: true,
                    origin: added.is_none().then_some(origin),
                });
            }
        }
        let kept = String::from_utf8(keep_line_numbers(&file)).unwrap();
        assert_eq!(kept, wanted, "{marked}");
    }

    #[test]
    fn lines_after_a_change_keep_their_numbers() {
        check("a\n+x\n+y\nb\nc\n", "a\nx\ny\n#line 2\nb\nc\n");
        check("a\n~\nb\n", "a\n#line 3\nb\n");
        check("a\n~\n+x\nb\n", "a\nx\nb\n");
        check("+x\na\n", "x\n#line 1\na\n");
        check("a\n+x\nb\n+y\n", "a\nx\n#line 2\nb\ny\n");
    }

    #[test]
    fn no_directive_splits_a_macro() {
        check(
            "#define A \\\n+ 1 \\\n 2\nb\n",
            "#define A \\\n 1 \\\n 2\n#line 3\nb\n",
        );
    }

    #[test]
    fn no_directive_is_put_inside_brackets() {
        check("f(a,\n+ x,\n b);\nc;\n", "f(a,\n x,\n b);\n#line 3\nc;\n");
        check(
            "f(')',\n+x,\n \"(\");\nc;\n",
            "f(')',\nx,\n \"(\");\n#line 3\nc;\n",
        );
        check(
            "f( /* ) */\n+x,\n b);\nc;\n",
            "f( /* ) */\nx,\n b);\n#line 3\nc;\n",
        );
        check(
            "f( // )\n+x,\n b);\nc;\n",
            "f( // )\nx,\n b);\n#line 3\nc;\n",
        );
    }

    #[test]
    fn no_directive_is_put_inside_a_comment_or_a_string() {
        check("/* a\n+ x\n b */\nc\n", "/* a\n x\n b */\n#line 3\nc\n");
        check(
            "s = \"a\\\n+x\\\nb\";\nc\n",
            "s = \"a\\\nx\\\nb\";\n#line 3\nc\n",
        );
    }

    #[test]
    fn branches_with_brackets_of_their_own_do_not_stop_it() {
        check(
            "#ifdef A\nif (a &&\n#else\nif (b &&\n#endif\nc)\n+x\ny\n",
            "#ifdef A\nif (a &&\n#else\nif (b &&\n#endif\nc)\nx\n#line 7\ny\n",
        );
        check("#define O (\n+x\ny\n", "#define O (\nx\n#line 2\ny\n");
        check("#error don't\n+x\ny\n", "#error don't\nx\n#line 2\ny\n");
    }
}
