//! Cuts C source into tokens, and lines of code into their normal form.

/// One line that holds code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLine {
    /// Its number, from 1.
    pub number: u32,
    /// Its tokens, one space between them, without comments.
    pub code: String,
    /// How many tokens it has.
    pub tokens: u32,
}

/// One token of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// Its bytes as written.
    pub(super) text: &'a str,
    /// The line it begins on, from 1.
    pub(super) line: u32,
    /// Whether it begins its line, with nothing before it.
    pub(super) at_margin: bool,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a keyword.
    Word,
    /// A number.
    Number,
    /// A string or a character constant; ends at the end of its line where it is not closed.
    Quoted,
    /// One character of punctuation.
    Sign,
    /// A whole preprocessor directive, continued lines too, in its own raw text.
    Directive,
}

/// Returns the lines of `text` that hold code, in their normal form. Text may begin or end within a
/// comment, as the lines of a diff do: a first line such as ` * words` is taken as one's middle.
pub fn code_lines(text: &str) -> Vec<CodeLine> {
    let mut lines: Vec<CodeLine> = Vec::new();
    let mut add = |number: u32, token: &str| match lines.last_mut() {
        Some(last) if last.number == number => {
            last.code.push(' ');
            last.code.push_str(token);
            last.tokens = last.tokens.saturating_add(1);
        }
        Some(_) | None => lines.push(CodeLine {
            number,
            code: token.to_owned(),
            tokens: 1,
        }),
    };
    let (text, offset) = skip_comment_tail(text);
    for token in Lexer::plain(text) {
        add(token.line.saturating_add(offset), token.text);
    }
    lines
}

/// Skips the rest of a comment that began before the text; returns what is left and how many lines
/// were skipped.
fn skip_comment_tail(text: &str) -> (&str, u32) {
    let within = text
        .lines()
        .map(str::trim_start)
        .find(|line| !line.is_empty())
        .is_some_and(|line| {
            line == "*"
                || line == "**"
                || line.starts_with("* ")
                || line.starts_with("*/")
                || line.starts_with("*\t")
        });
    let closed_first = match (text.find("*/"), text.find("/*")) {
        (Some(end), Some(start)) => end < start,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if !within && !closed_first {
        return (text, 0);
    }
    let skipped = match text.find("*/") {
        Some(end) if closed_first => end.saturating_add(2),
        // No end in sight: only lines in the middle of the comment are skipped.
        Some(_) | None => text
            .lines()
            .take_while(|line| {
                let line = line.trim_start();
                line.is_empty() || line.starts_with('*')
            })
            .map(|line| line.len().saturating_add(1))
            .sum::<usize>()
            .min(text.len()),
    };
    let (before, rest) = text.split_at_checked(skipped).unwrap_or((text, ""));
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    (rest, u32::try_from(lines).unwrap_or(u32::MAX))
}

/// Walks over the tokens of a text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// Nothing but white space and comments on this line so far.
    fresh: bool,
    /// Whether directives come as one token.
    directives: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
            fresh: true,
            directives: true,
        }
    }

    /// As [`new`](Self::new), with the tokens of directives as those of other code.
    pub(super) fn plain(text: &'a str) -> Self {
        Self {
            directives: false,
            ..Self::new(text)
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text
            .as_bytes()
            .get(self.at.checked_add(ahead)?)
            .copied()
    }

    /// Steps over one byte and counts its line.
    fn step(&mut self) {
        if self.byte(0) == Some(b'\n') {
            self.line = self.line.saturating_add(1);
            self.fresh = true;
        }
        self.at = self.at.saturating_add(1);
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Tells whether a backslash and the end of the line come here.
    fn continues(&self) -> Option<usize> {
        match (self.byte(0), self.byte(1), self.byte(2)) {
            (Some(b'\\'), Some(b'\n'), _) => Some(2),
            (Some(b'\\'), Some(b'\r'), Some(b'\n')) => Some(3),
            _ => None,
        }
    }

    fn skip_blank(&mut self) {
        loop {
            if let Some(length) = self.continues() {
                let fresh = self.fresh;
                self.steps(length);
                // A continued line is no line of its own to a directive.
                self.fresh = fresh;
                continue;
            }
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'*')) => {
                    let fresh = self.fresh;
                    self.steps(2);
                    while self.byte(0).is_some()
                        && (self.byte(0), self.byte(1)) != (Some(b'*'), Some(b'/'))
                    {
                        self.step();
                    }
                    self.steps(2.min(self.text.len().saturating_sub(self.at)));
                    self.fresh |= fresh;
                }
                (Some(b'/'), Some(b'/')) => self.skip_line(),
                (Some(byte), _) if byte.is_ascii_whitespace() || byte.is_ascii_control() => {
                    self.step();
                }
                _ => return,
            }
        }
    }

    /// Steps to the end of the line, over continued ones.
    fn skip_line(&mut self) {
        while let Some(byte) = self.byte(0) {
            match self.continues() {
                Some(length) => self.steps(length),
                None if byte == b'\n' => return,
                None => self.step(),
            }
        }
    }

    /// Steps to the end of a directive: its line and continued ones, over comments that span lines.
    fn skip_directive(&mut self) {
        while let Some(byte) = self.byte(0) {
            match (self.continues(), byte, self.byte(1)) {
                (Some(length), ..) => self.steps(length),
                (None, b'\n', _) => return,
                (None, b'/', Some(b'*')) => {
                    self.steps(2);
                    while self.byte(0).is_some()
                        && (self.byte(0), self.byte(1)) != (Some(b'*'), Some(b'/'))
                    {
                        self.step();
                    }
                    self.steps(2.min(self.text.len().saturating_sub(self.at)));
                }
                (None, b'/', Some(b'/')) => self.skip_line(),
                // A comment mark within is none. A lone apostrophe is common (`#error can't`).
                (None, b'"', _) => self.skip_quoted(b'"'),
                (None, ..) => self.step(),
            }
        }
    }

    fn skip_quoted(&mut self, quote: u8) {
        self.step();
        while let Some(byte) = self.byte(0) {
            match (self.continues(), byte) {
                (Some(length), _) => self.steps(length),
                (None, b'\n') => return,
                (None, b'\\') if self.byte(1).is_some() => self.steps(2),
                (None, byte) => {
                    self.step();
                    if byte == quote {
                        return;
                    }
                }
            }
        }
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&keep) {
            self.step();
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = self.byte(0)?;
        let (start, line, fresh) = (self.at, self.line, self.fresh);
        let at_margin =
            start == 0 || self.text.as_bytes().get(start.saturating_sub(1)) == Some(&b'\n');
        let kind = match first {
            b'#' if fresh && self.directives => {
                self.skip_directive();
                Kind::Directive
            }
            b'"' | b'\'' => {
                self.skip_quoted(first);
                Kind::Quoted
            }
            b'0'..=b'9' => {
                self.skip_while(|byte| is_of_word(byte) || byte == b'.');
                Kind::Number
            }
            byte if is_of_word(byte) => {
                self.skip_while(is_of_word);
                Kind::Word
            }
            _ => {
                self.step();
                Kind::Sign
            }
        };
        self.fresh = false;
        // Every stop is before or after an ASCII byte, so that the cut is on a character.
        let text = self.text.get(start..self.at.min(self.text.len()))?;
        Some(Token {
            kind,
            text,
            line,
            at_margin,
        })
    }
}
