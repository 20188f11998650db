//! The lines of a header and their tokens.

/// One line, continued lines being one.
pub(super) enum Line {
    Directive(Vec<String>),
    Code(Vec<String>),
}

/// Joins continued lines, takes comments away, and makes tokens.
pub(super) fn logical_lines(text: &[u8]) -> Vec<Line> {
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
