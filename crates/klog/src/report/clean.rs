//! Takes out of a title what differs from one time to the next.

use std::borrow::Cow;

/// Longest title, in bytes before cleaning.
const LIMIT: usize = 120;

/// Cleans a title.
pub(crate) fn title(title: &[u8]) -> String {
    // What is far beyond the limit can not come in front of it.
    let mut text = Cow::Borrowed(title.get(..LIMIT * 8).unwrap_or(title));
    // No rule puts a digit in.
    let digits = text.iter().any(u8::is_ascii_digit);
    for (rule, wants_digits) in RULES {
        if wants_digits && !digits {
            continue;
        }
        // Each application makes the text shorter; the bound is for the reader.
        for _ in 0..LIMIT * 8 {
            let Some(next) = rule(&text) else { break };
            text = Cow::Owned(next);
        }
    }
    let mut clean = String::with_capacity(text.len().min(LIMIT));
    for byte in text.iter().take(LIMIT) {
        let byte = if *byte == b'\t' { b' ' } else { *byte };
        let visible = (0x20..0x7f).contains(&byte);
        let doubled = byte == b' ' && (clean.is_empty() || clean.ends_with(' '));
        if visible && !doubled {
            clean.push(char::from(byte));
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// One application; nothing where it changes nothing.
type Rule = fn(&[u8]) -> Option<Vec<u8>>;

/// Each applied until nothing changes, and whether it can change a text without digits.
const RULES: [(Rule, bool); 9] = [
    (|text| process(text, b"syz-executor", true), true),
    (|text| process(text, b"syzkaller", false), true),
    (addresses, false),
    (networks, true),
    (source_lines, true),
    (offsets, true),
    (processors, true),
    (numbers, true),
    (long_numbers, true),
];

/// Rewrites `text`: at each place that starts with one of the bytes, `rule` says how many to take
/// and what to put there. Nothing where it takes nothing.
fn rewrite(
    text: &[u8],
    starts: impl Fn(u8) -> bool,
    rule: impl Fn(&[u8], usize) -> Option<(usize, Vec<u8>)>,
) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match starts(*byte).then(|| rule(text, at)).flatten() {
            Some((taken, new)) if taken > 0 => {
                let kept = || text.get(..at).unwrap_or_default().to_vec();
                out.get_or_insert_with(kept).extend_from_slice(&new);
                at += taken;
            }
            _ => {
                if let Some(out) = &mut out {
                    out.push(*byte);
                }
                at += 1;
            }
        }
    }
    out
}

fn span(text: &[u8], at: usize, of: impl Fn(u8) -> bool) -> usize {
    super::pattern::span(text.get(at..).unwrap_or_default(), of)
}

fn digits(text: &[u8], at: usize) -> usize {
    span(text, at, |byte| byte.is_ascii_digit())
}

fn before(text: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1)
        .and_then(|before| text.get(before))
        .copied()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `syz-executor.3/12` to `syz-executor`: a process's number, or a pair of them.
fn process(text: &[u8], name: &[u8], dotted: bool) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| name.first() == Some(&byte),
        |text, at| {
            let rest = text.get(at..)?.strip_prefix(name)?;
            let dot = usize::from(dotted && rest.first() == Some(&b'.'));
            let first = digits(rest, dot);
            if first == 0 {
                return None;
            }
            let mut taken = dot + first;
            if matches!(rest.get(taken), Some(b'/' | b':')) {
                let second = digits(rest, taken + 1);
                if second > 0 {
                    taken += 1 + second;
                }
            }
            Some((name.len() + taken, name.to_vec()))
        },
    )
}

/// Six hexadecimal digits and more that no letter or digit stands before.
fn addresses(text: &[u8]) -> Option<Vec<u8>> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // Words have a few of these letters, few have six in a row.
    if !text.split(|byte| !is_hex(byte)).any(|run| run.len() >= 6) {
        return None;
    }
    rewrite(
        text,
        |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        |text, at| {
            let first = before(text, at)?;
            if first.is_ascii_alphanumeric() {
                return None;
            }
            let prefix = if text.get(at..)?.starts_with(b"0x") {
                2
            } else {
                0
            };
            let length = span(text, at + prefix, |byte| is_hex(&byte));
            if length >= 6 {
                return Some((prefix + length, b"ADDR".to_vec()));
            }
            None
        },
    )
}

fn networks(text: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| byte.is_ascii_digit(),
        |text, at| {
            let mut taken = 0;
            for part in 0..4 {
                if part > 0 {
                    if text.get(at + taken) != Some(&b'.') {
                        return None;
                    }
                    taken += 1;
                }
                let length = digits(text, at + taken).min(3);
                if length == 0 {
                    return None;
                }
                taken += length;
            }
            Some((taken, b"IP".to_vec()))
        },
    )
}

/// `.c:12:3` to `.c:LINE`.
fn source_lines(text: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| byte == b'.',
        |text, at| {
            let extension = span(text, at + 1, is_word);
            if extension == 0 {
                return None;
            }
            let mut taken = 1 + extension;
            let start = taken;
            while text.get(at + taken) == Some(&b':') {
                let length = digits(text, at + taken + 1);
                if length == 0 {
                    break;
                }
                taken += 1 + length;
            }
            if taken == start {
                return None;
            }
            let mut new = text.get(at..at + start)?.to_vec();
            new.extend_from_slice(b":LINE");
            Some((taken, new))
        },
    )
}

/// `f+0x1/0x2` to `f`.
fn offsets(text: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| byte == b'+',
        |text, at| {
            let name = text
                .get(..at)?
                .iter()
                .rev()
                .take_while(|byte| is_word(**byte) || **byte == b'.')
                .count();
            // One letter in front of at least one more byte.
            let named = text
                .get(at - name..at.saturating_sub(1))?
                .iter()
                .any(u8::is_ascii_alphabetic);
            let number = |at: usize| {
                let rest = text.get(at..)?.strip_prefix(b"0x")?;
                let length = span(rest, 0, |byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit()
                });
                (length > 0).then_some(2 + length)
            };
            let offset = number(at + 1)?;
            if text.get(at + 1 + offset) != Some(&b'/') {
                return None;
            }
            let size = number(at + 2 + offset)?;
            named.then(|| (2 + offset + size, Vec::new()))
        },
    )
}

fn processors(text: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| byte == b'C',
        |text, at| {
            let rest = text.get(at..)?.strip_prefix(b"CPU#")?;
            let length = digits(rest, 0);
            (length > 0).then(|| (4 + length, b"CPU".to_vec()))
        },
    )
}

/// Decimal numbers that stand alone, but for one at the very start.
fn numbers(text: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| byte.is_ascii_digit(),
        |text, at| {
            let first = before(text, at)?;
            let length = digits(text, at);
            let alone = !text.get(at + length).is_some_and(|byte| is_word(*byte));
            (!is_word(first) && length > 0 && alone).then(|| (length, b"NUM".to_vec()))
        },
    )
}

/// Long ones also within a word: `cfg80211` is a name, twelve digits are not.
fn long_numbers(text: &[u8]) -> Option<Vec<u8>> {
    rewrite(
        text,
        |byte| byte.is_ascii_digit(),
        |text, at| {
            let length = digits(text, at);
            (length >= 7).then(|| (length, b"NUM".to_vec()))
        },
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_differs_each_time_is_taken_out() {
        for (title, expected) in [
            (
                "a syz-executor.3/12 b syz-executor7",
                "a syz-executor b syz-executor",
            ),
            ("at ffff88002bde1e40, 0xdeadbeef", "at ADDR, ADDR"),
            ("beef 10.0.0.1:80", "beef IP:NUM"),
            ("at mm/slab.c:12:3!", "at mm/slab.c:LINE!"),
            ("in f.part.0+0x1/0x2 [m]", "in f.part.NUM [m]"),
            ("stuck CPU#12", "stuck CPU"),
            (
                "0,1,2 x-3 cfg80211 y12345678",
                "0,NUM,NUM x-NUM cfg80211 yNUM",
            ),
            ("\ta  b\u{7}\u{e9} ", "a b"),
        ] {
            assert_eq!(super::title(title.as_bytes()), expected, "{title}");
        }
    }

    #[test]
    fn a_title_ends_at_120_bytes() {
        assert_eq!(super::title(&[b'g'; 500]).len(), 120);
    }
}
