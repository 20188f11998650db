//! Whether a report came through whole.

use super::lines::Lines;
use super::marks::{self, RISCV_STATE, STARTS};
use super::pattern;

/// Lines behind the start of a stack in which a frame has to come.
const NEAR: usize = 15;

/// Says what is missing. A `bare` report needs no stack.
pub(super) fn check(title: &[u8], lines: Lines<'_>, bare: bool) -> Option<&'static str> {
    if let Some(why) = check_title(title) {
        return Some(why);
    }
    if bare {
        return None;
    }
    let mut firsts = [None; STARTS.len()];
    for (index, line) in lines.iter().enumerate() {
        if !marks::may_start_stack(lines.words(index)) {
            continue;
        }
        for (first, start) in firsts.iter_mut().zip(STARTS) {
            if first.is_none() && start(line) {
                *first = Some(index);
            }
        }
    }
    let mut has_stack = false;
    for (kind, first) in firsts.iter().enumerate() {
        let Some(first) = *first else { continue };
        if lines.len() - first < 3 {
            return Some("it ends where a stack starts");
        }
        let framed = (first + 1..lines.len().min(first + 1 + NEAR))
            .map(|index| (lines.get(index), lines.words(index)))
            .take_while(|(line, words)| !marks::starts_stack(line, *words))
            .any(|(line, _)| {
                marks::frame(line).is_some() || marks::has(line, b"(stack is not available)")
            });
        has_stack |= framed;
        // riscv's registers come with and without a stack behind them.
        if !framed && kind != RISCV_STATE {
            return Some("a stack has no frames");
        }
    }
    (!has_stack).then_some("it has no stack")
}

/// A time inside the title: two lines became one.
pub(super) fn check_title(title: &[u8]) -> Option<&'static str> {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let merged = memchr::memchr_iter(b'[', title).any(|at| {
        let rest = title.get(at + 1..).unwrap_or_default();
        let rest = rest
            .get(pattern::span(rest, |byte| byte == b' ')..)
            .unwrap_or_default();
        let seconds = pattern::span(rest, is_digit);
        let Some(rest) = rest.get(seconds..).and_then(|rest| rest.strip_prefix(b".")) else {
            return false;
        };
        let micros = pattern::span(rest, is_digit);
        seconds > 0 && micros > 0 && rest.get(micros) == Some(&b']')
    });
    merged.then_some("two lines are mixed in its title")
}
