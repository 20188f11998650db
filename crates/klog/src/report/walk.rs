//! The way from a report's lines to the guilty function.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lines::{Lines, Place};
use super::names::Names;
use super::pattern::{self, Pattern};
use super::shape::{Pick, Step, Walk};
use super::skip;
use crate::scan::Words;

/// A function found guilty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guilty {
    /// Its name without what a system call's name starts with.
    pub(super) name: Vec<u8>,
    /// Its name as it stands there.
    pub(super) raw: Vec<u8>,
    /// The line it was taken from; none where nothing was found.
    pub(super) line: Option<usize>,
}

/// What a walk came to.
#[derive(Debug)]
pub(super) struct Found {
    /// One function for each stack passed.
    pub(super) guilty: Vec<Guilty>,
    /// Whether all of them were found, and no stack of another report lay between.
    pub(super) whole: bool,
}

/// What is shared by the walks of one shape, made once.
#[derive(Debug)]
pub(super) struct Tools {
    skip: Names,
    patterns: HashMap<&'static str, Pattern>,
}

impl Tools {
    /// Makes what `walk` needs.
    pub(super) fn new(walk: &Walk) -> Self {
        let steps = walk.steps.iter().chain(walk.or.iter().copied().flatten());
        Self {
            skip: Names::new(&[walk.skip]),
            patterns: steps
                .filter_map(|step| match step {
                    Step::Line(text) => Some((*text, Pattern::new(text))),
                    Step::Pointer | Step::PointerOrInterrupt | Step::Trace | Step::Frames => None,
                })
                .collect(),
        }
    }

    fn passes(&self, function: &[u8]) -> bool {
        self.skip.has(function) || skip::ALWAYS.has(function)
    }
}

/// Walks `lines` from `from` on.
pub(super) fn walk(walk: &Walk, tools: &Tools, lines: Lines<'_>, from: Place) -> Found {
    let mut found = pass(walk.steps, walk.pick, tools, lines, from);
    for steps in walk.or {
        if found.whole {
            break;
        }
        found = pass(steps, walk.pick, tools, lines, from);
    }
    found
}

fn pass(steps: &[Step], pick: Pick, tools: &Tools, lines: Lines<'_>, from: Place) -> Found {
    let mut reader = Reader {
        tools,
        lines,
        next: from,
        functions: Vec::new(),
        first_only: pick == Pick::First,
    };
    let mut guilty = Vec::new();
    let mut whole = true;
    let mut stacks = 0_u32;
    let mut index = 0;
    loop {
        let step = steps.get(index);
        if step.is_none() || (step == Some(&Step::Frames) && stacks > 0) {
            let function = choose(pick, &reader.functions);
            whole &= function.is_some();
            guilty.push(function.unwrap_or_else(nobody));
            reader.functions.clear();
        }
        match step {
            None => break,
            Some(Step::Frames) => {
                stacks += 1;
                match reader.frames(steps.get(index + 1)) {
                    Stop::Foreign => whole = false,
                    Stop::NextStep => index += 1,
                    Stop::End => {}
                }
            }
            Some(step) => {
                if let Stop::Foreign = reader.seek(*step) {
                    whole = false;
                }
            }
        }
        index += 1;
    }
    Found { guilty, whole }
}

fn nobody() -> Guilty {
    Guilty {
        name: b"corrupted".to_vec(),
        raw: b"corrupted".to_vec(),
        line: None,
    }
}

enum Stop {
    End,
    NextStep,
    /// A line of a stack that belongs to something else.
    Foreign,
}

struct Reader<'a> {
    tools: &'a Tools,
    lines: Lines<'a>,
    next: Place,
    functions: Vec<(Vec<u8>, usize)>,
    first_only: bool,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<(&'a [u8], usize, u16)> {
        let at = self.next;
        if at.line >= self.lines.len() {
            return None;
        }
        self.next = Place {
            line: at.line + 1,
            column: 0,
        };
        Some((self.lines.get_from(at), at.line, self.lines.words(at.line)))
    }

    fn add(&mut self, functions: Vec<Vec<u8>>, line: usize) {
        for function in functions {
            let function = demangle(function);
            if !self.tools.passes(&function) {
                self.functions.push((function, line));
            }
        }
    }

    fn find(&self, step: Step, line: &[u8], words: u16) -> Option<Vec<Vec<u8>>> {
        let pointed = || (words & POINTER != 0).then(|| pointer(line)).flatten();
        match step {
            Step::Pointer => pointed(),
            Step::PointerOrInterrupt => pointed().or_else(|| {
                (words & INTERRUPTED != 0)
                    .then(|| INTERRUPT.find_in(line))
                    .flatten()
            }),
            Step::Trace => (words & TRACE != 0 && is_trace(line)).then(Vec::new),
            Step::Line(text) => self.tools.patterns.get(text)?.find_in(line),
            Step::Frames => None,
        }
    }

    fn seek(&mut self, step: Step) -> Stop {
        while let Some((line, index, words)) = self.line() {
            if words & FOREIGN != 0 && is_foreign(line) {
                return Stop::Foreign;
            }
            if let Some(functions) = self.find(step, line, words) {
                self.add(functions, index);
                break;
            }
        }
        Stop::End
    }

    fn frames(&mut self, until: Option<&Step>) -> Stop {
        while let Some((line, index, words)) = self.line() {
            if words & FOREIGN != 0 && is_foreign(line) {
                return Stop::Foreign;
            }
            if starts_stack(line, words) {
                break;
            }
            if let Some(functions) = until.and_then(|step| self.find(*step, line, words)) {
                self.add(functions, index);
                return Stop::NextStep;
            }
            // Of a stack of which the first function counts, the rest is only looked through.
            if self.first_only && !self.functions.is_empty() {
                continue;
            }
            if let Some(functions) = frame(line) {
                self.add(functions, index);
            }
        }
        Stop::End
    }
}

fn choose(pick: Pick, functions: &[(Vec<u8>, usize)]) -> Option<Guilty> {
    let shown: Vec<&[u8]> = functions
        .iter()
        .map(|(function, _)| without_call_prefix(function))
        .collect();
    let (name, index) = match pick {
        Pick::First => (shown.first()?.to_vec(), 0),
        Pick::Stall => stalled(&shown)?,
        Pick::Hang => hung(&shown)?,
    };
    let (raw, line) = functions.get(index)?;
    Some(Guilty {
        name,
        raw: raw.clone(),
        line: Some(*line),
    })
}

fn stalled(shown: &[&[u8]]) -> Option<(Vec<u8>, usize)> {
    const CALL: &[u8] = b"smp_call_function";
    let anchor = shown.iter().position(|name| skip::ANCHORS.has(name))?;
    let itself = shown
        .get(anchor)
        .is_some_and(|name| memchr::memmem::find(name, CALL).is_some());
    if itself {
        // There are several of them; the CPU waits for another one, whatever called it.
        return Some((CALL.to_vec(), anchor));
    }
    let above = anchor.saturating_sub(1);
    Some((shown.get(above)?.to_vec(), above))
}

fn hung(shown: &[&[u8]]) -> Option<(Vec<u8>, usize)> {
    const RCU: &[u8] = b"synchronize_rcu";
    for (index, name) in shown.iter().enumerate() {
        let has = |text: &[u8]| memchr::memmem::find(name, text).is_some();
        if has(b"rtnl_lock") {
            return Some((name.to_vec(), index));
        }
        let waits: [&[u8]; 4] = [
            RCU,
            b"synchronize_srcu",
            b"synchronize_net",
            b"synchronize_sched",
        ];
        if waits.into_iter().any(has) {
            return Some((RCU.to_vec(), index));
        }
    }
    let index = shown.iter().position(|name| !skip::WAITING.has(name))?;
    Some((shown.get(index)?.to_vec(), index))
}

/// Takes off the prefix that leaves the shortest name.
pub(super) fn without_call_prefix(function: &[u8]) -> &[u8] {
    skip::CALL_PREFIXES
        .iter()
        .filter_map(|prefix| function.strip_prefix(prefix.as_bytes()))
        .min_by_key(|name| name.len())
        .unwrap_or(function)
}

fn demangle(function: Vec<u8>) -> Vec<u8> {
    if !function.starts_with(b"_R") {
        return function;
    }
    let readable = std::str::from_utf8(&function)
        .ok()
        .and_then(|name| rustc_demangle::try_demangle(name).ok())
        .map(|name| format!("{name:#}"));
    readable.map_or(function, String::into_bytes)
}

/// Words that matter in a line of a report: [`words`] has a bit for each.
const WORDS: [&str; 16] = [
    "Call ",
    "Allocated",
    "Freed",
    " backtrace",
    "Backtrace:",
    "Uninit was stored",
    "badaddr: ",
    "should_fail",
    "IP",
    "pc ",
    "PC is at",
    "--- interrupt: ",
    "Modules linked in:",
    "CPU: ",
    "PSW",
    "Tainted",
];

/// Bits of the words that start a stack.
const STACK: u16 = 0b111_1111;
const TRACE: u16 = 0b1_0001;
const FOREIGN: u16 = 1 << 7;
/// Bits of the words before an instruction pointer.
pub(super) const POINTER: u16 = 0b111 << 8 | 1 << 14;
const INTERRUPTED: u16 = 1 << 11;
pub(super) const MODULES: u16 = 1 << 12;
pub(super) const CPU: u16 = 1 << 13;

/// Returns which of [`WORDS`] a line has.
pub(super) fn words(line: &[u8]) -> u16 {
    static SET: LazyLock<Words> = LazyLock::new(|| Words::new(WORDS));
    // Nearly all lines of a stack: what else starts with a blank and matters has a colon.
    if line.first() == Some(&b' ') && memchr::memchr(b':', line).is_none() {
        return if has(line, b"should_fail") {
            FOREIGN
        } else {
            0
        };
    }
    u16::try_from(SET.of(line)).unwrap_or(u16::MAX)
}

static INTERRUPT: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new("--- interrupt: {num} at {func}"));

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
fn is_foreign(line: &[u8]) -> bool {
    if !has(line, b"should_fail") {
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

/// The line of the instruction pointer, with the function where it names one.
pub(super) fn pointer(line: &[u8]) -> Option<Vec<Vec<u8>>> {
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
fn pointed(text: &[u8]) -> Option<Vec<Vec<u8>>> {
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
            return Some(vec![function.to_vec()]);
        }
        let raw = text.strip_prefix(b"0x").is_some_and(|rest| {
            rest.first()
                .is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if raw || is_null(rest) {
            return Some(Vec::new());
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
        .then(Vec::new)
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
pub(super) fn frame(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = line.get(pattern::span(line, |byte| byte == b' ')..)?;
    let start = rest;
    for _ in 0..2 {
        match bracketed_and_blank(rest) {
            Some(length) => rest = rest.get(length..)?,
            None => break,
        }
    }
    if let Some((function, _)) = pattern::function(rest) {
        return Some(vec![function.to_vec()]);
    }
    let rest = start.get(bracketed_and_blank(start)?..)?;
    let rest = rest.strip_prefix(b"(")?;
    let length = pattern::span(rest, |byte| pattern::is_name(byte) || byte == b'.');
    let (name, rest) = rest.split_at_checked(length)?;
    let rest = rest.strip_prefix(b") from ")?;
    let rest = rest.get(bracketed_and_blank(rest)?..)?.strip_prefix(b"(")?;
    let (caller, _) = pattern::function(rest)?;
    (length > 0).then(|| vec![name.to_vec(), caller.to_vec()])
}

fn bracketed_and_blank(text: &[u8]) -> Option<usize> {
    let length = pattern::bracketed(text)?;
    (text.get(length) == Some(&b' ')).then_some(length + 1)
}
