//! What single lines of a report show: where a stack starts, the instruction pointer, a frame.

use std::sync::LazyLock;

use super::pattern::{self, Pattern};
use super::signs::Signs;
use crate::scan::Words;

/// May start a stack.
const STACK: u16 = 1;
/// May be the line above a call trace.
pub(super) const TRACE: u16 = 1 << 1;
/// May be of a stack of fault injection.
pub(super) const FOREIGN: u16 = 1 << 2;
/// May be the line of an instruction pointer.
pub(super) const POINTER: u16 = 1 << 3;
/// May be ppc's line of an interrupt.
pub(super) const INTERRUPTED: u16 = 1 << 4;
/// May list the modules.
pub(super) const MODULES: u16 = 1 << 5;
/// May name CPU and task.
pub(super) const CPU: u16 = 1 << 6;

/// Words of which each line with a meaning has one, and what it may mean.
const WORDS: [(&str, u16); 16] = [
    ("Call ", STACK | TRACE),
    ("Backtrace:", STACK | TRACE),
    ("Allocated", STACK),
    ("Freed", STACK),
    (" backtrace", STACK),
    ("Uninit was stored", STACK),
    ("badaddr: ", STACK),
    ("should_fail", FOREIGN),
    ("IP:", POINTER),
    ("IP ", POINTER),
    ("pc ", POINTER),
    ("PC is at", POINTER),
    ("PSW", POINTER),
    ("--- interrupt: ", INTERRUPTED),
    ("Modules linked in:", MODULES),
    ("CPU: ", CPU),
];

/// Returns what a line may mean, a bit each.
#[inline]
pub(crate) fn words(line: &[u8], has: Signs) -> u16 {
    static SET: LazyLock<Words> = LazyLock::new(|| Words::new(WORDS.map(|(word, _)| word)));
    // Nearly all lines of a stack: what else starts with a blank and matters has a colon.
    if line.first() == Some(&b' ') && !has.any(Signs::COLON) {
        return if is_foreign(line) { FOREIGN } else { 0 };
    }
    if !has.may_have_word() {
        return 0;
    }
    let mut all = 0;
    SET.each(line, |number| {
        all |= WORDS.get(number).map_or(0, |(_, meaning)| *meaning);
    });
    all
}

/// `Call Trace:`, `Call trace:`, `Backtrace:`.
pub(super) fn is_trace(line: &[u8]) -> bool {
    call_trace(line).is_some_and(|rest| rest.starts_with(b":")) || has(line, b"Backtrace:")
}

fn call_trace(line: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(line, b"Call ")?;
    let rest = line.get(at + 5..)?;
    [b"Trace", b"trace"]
        .into_iter()
        .find_map(|word| rest.strip_prefix(word))
        .or_else(|| call_trace(rest))
}

pub(super) fn has(line: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(line, text).is_some()
}

/// Starts of stacks, each looked for on its own when a report is checked for being whole.
pub(super) const STARTS: [fn(&[u8]) -> bool; 9] = [
    |line| call_trace(line).is_some(),
    |line| has(line, b"Allocated:"),
    |line| by_task(line, b"Allocated by task "),
    |line| has(line, b"Freed:"),
    |line| by_task(line, b"Freed by task "),
    is_leak_trace,
    |line| has(line, b"Backtrace:"),
    |line| has(line, b"Uninit was stored to memory at"),
    is_riscv_state,
];

/// Place of riscv's in [`STARTS`].
pub(super) const RISCV_STATE: usize = 8;

/// Tells whether a stack starts here.
pub(super) fn starts_stack(line: &[u8], words: u16) -> bool {
    words & STACK != 0 && STARTS.iter().any(|start| start(line))
}

/// Tells whether a line may start a stack of any kind.
pub(super) fn may_start_stack(words: u16) -> bool {
    words & STACK != 0
}

fn by_task(line: &[u8], text: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(line, text) else {
        return false;
    };
    let rest = line.get(at + text.len()..).unwrap_or_default();
    let digits = pattern::span(rest, |byte| byte.is_ascii_digit());
    digits > 0 && rest.get(digits) == Some(&b':')
}

/// ` backtrace:`, ` backtrace (crc 1234):`, but not `stack backtrace:`.
fn is_leak_trace(line: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(line, b" backtrace") else {
        return false;
    };
    if at.checked_sub(1).and_then(|before| line.get(before)) == Some(&b'k') {
        return false;
    }
    let rest = line.get(at + b" backtrace".len()..).unwrap_or_default();
    let rest = rest
        .strip_prefix(b" (crc ")
        .and_then(|rest| {
            let digits = pattern::span(rest, |byte| byte.is_ascii_hexdigit());
            rest.get(digits..)?.strip_prefix(b")")
        })
        .unwrap_or(rest);
    rest.starts_with(b":")
}

/// The last line of riscv's registers: its stack comes without a line of its own.
fn is_riscv_state(line: &[u8]) -> bool {
    static STATE: LazyLock<Pattern> =
        LazyLock::new(|| Pattern::new("status: {hex} badaddr: {hex} cause: {hex}"));
    has(line, b"badaddr: ") && STATE.find_in(line).is_some()
}

/// Stacks of fault injection get between the lines of other reports.
pub(super) fn is_foreign(line: &[u8]) -> bool {
    // Nearly no line goes beyond this.
    if !matches!(line, [b' ', b's' | b'[', ..] | [b's', ..]) {
        return false;
    }
    let mut rest = line;
    if let Some(after) = line.strip_prefix(b" ")
        && let Some(length) = pattern::bracketed(after)
    {
        rest = after.get(length..).unwrap_or_default();
    }
    let Some(rest) = rest
        .strip_prefix(b" should_fail")
        .or_else(|| rest.strip_prefix(b"should_fail"))
    else {
        return false;
    };
    let rest = rest.strip_prefix(b"slab").unwrap_or(rest);
    let suffix = if rest.starts_with(b".") {
        pattern::span(
            rest,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.'),
        )
    } else {
        0
    };
    rest.get(suffix..).unwrap_or_default().starts_with(b"+0x")
}

/// Functions that a line names: none, one, or on arm two.
pub(super) type Named<'a> = [Option<&'a [u8]>; 2];

/// The line of the instruction pointer, with the function where it names one.
pub(super) fn pointer(line: &[u8]) -> Option<Named<'_>> {
    let mut from = 0;
    loop {
        let rest = line.get(from..)?;
        let (at, length) = mark(rest)?;
        let after = rest.get(at + length..)?;
        let after = after.strip_prefix(b":").unwrap_or(after);
        if let Some(found) = after.strip_prefix(b" ").and_then(pointed) {
            return Some(found);
        }
        from += at + 1;
    }
}

/// `IP`, `NIP`, `pc `, `PC is at`.
fn mark(text: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        at += memchr::memchr3(b'I', b'p', b'P', text.get(at..)?)?;
        let rest = text.get(at..)?;
        for mark in [&b"IP"[..], b"pc ", b"PC is at"] {
            if rest.starts_with(mark) {
                return Some((at, mark.len()));
            }
        }
        at += 1;
    }
}

/// What stands behind the mark: a function, an address, or nothing at all.
fn pointed(text: &[u8]) -> Option<Named<'_>> {
    let digits = pattern::span(text, |byte| byte.is_ascii_digit());
    let segmented = (digits > 0)
        .then(|| text.get(digits..)?.strip_prefix(b":"))
        .flatten();
    for text in segmented.into_iter().chain([text]) {
        let mut rest = text;
        for _ in 0..2 {
            match pattern::address(rest) {
                Some(length) => rest = rest.get(length..)?,
                None => break,
            }
        }
        if let Some((function, _)) = pattern::function(rest) {
            return Some([Some(function), None]);
        }
        let raw = text.strip_prefix(b"0x").is_some_and(|rest| {
            rest.first()
                .is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if raw || is_null(rest) {
            return Some([None, None]);
        }
    }
    segmented
        .is_some_and(|rest| {
            let blanks = pattern::span(rest, |byte| byte == b' ');
            blanks > 0
                && rest
                    .get(blanks..)
                    .is_some_and(|rest| rest.starts_with(b"(null)"))
        })
        .then_some([None, None])
}

/// `[<  (null)>]  (null)`.
fn is_null(text: &[u8]) -> bool {
    let blanks = |text: &[u8]| pattern::span(text, |byte| byte == b' ');
    let inside = text
        .strip_prefix(b"[<")
        .and_then(|rest| rest.get(blanks(rest)..))
        .and_then(|rest| rest.strip_prefix(b"(null)>]"));
    inside.is_some_and(|rest| {
        blanks(rest) > 0
            && rest
                .get(blanks(rest)..)
                .is_some_and(|rest| rest.starts_with(b"(null)"))
    })
}

/// A line of a stack: its function, or two on arm, which prints the next one too.
pub(super) fn frame(line: &[u8]) -> Option<Named<'_>> {
    let mut rest = line.get(pattern::span(line, |byte| byte == b' ')..)?;
    let start = rest;
    for _ in 0..2 {
        match bracketed_and_blank(rest) {
            Some(length) => rest = rest.get(length..)?,
            None => break,
        }
    }
    if let Some((function, _)) = pattern::function(rest) {
        return Some([Some(function), None]);
    }
    let rest = start.get(bracketed_and_blank(start)?..)?;
    let rest = rest.strip_prefix(b"(")?;
    let length = pattern::span(rest, |byte| pattern::is_name(byte) || byte == b'.');
    let (name, rest) = rest.split_at_checked(length)?;
    let rest = rest.strip_prefix(b") from ")?;
    let rest = rest.get(bracketed_and_blank(rest)?..)?.strip_prefix(b"(")?;
    let (caller, _) = pattern::function(rest)?;
    (length > 0).then_some([Some(name), Some(caller)])
}

fn bracketed_and_blank(text: &[u8]) -> Option<usize> {
    let length = pattern::bracketed(text)?;
    (text.get(length) == Some(&b' ')).then_some(length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_signs() {
        for (word, _) in WORDS {
            assert!(Signs::of(word.as_bytes()).may_have_word(), "{word}");
        }
        let registers = b"RAX: dffffc0000000000 RBP: ffff880068f28840 R10: 0000000000000000";
        assert!(!Signs::of(registers).may_have_word());
    }
}
