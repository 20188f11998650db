//! The way from a report's lines to the guilty function.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::lines::{Lines, Place};
use super::marks::{self, FOREIGN, INTERRUPTED, POINTER, TRACE};
use super::names::Names;
use super::pattern::Pattern;
use super::shape::{Pick, Step, Walk};
use super::skip;

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
    /// A walk has one or two.
    patterns: Vec<(&'static str, Pattern)>,
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

    fn pattern(&self, text: &str) -> Option<&Pattern> {
        let found = self.patterns.iter().find(|(known, _)| *known == text);
        found.map(|(_, pattern)| pattern)
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
    functions: Vec<Function<'a>>,
    first_only: bool,
}

/// A function's name and the line it stands on.
type Function<'a> = (Cow<'a, [u8]>, usize);

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

    fn add(&mut self, functions: impl IntoIterator<Item = &'a [u8]>, line: usize) {
        for function in functions {
            let function = demangle(function);
            if !self.tools.passes(&function) {
                self.functions.push((function, line));
            }
        }
    }

    fn find(&self, step: Step, line: &'a [u8], words: u16) -> Option<Vec<&'a [u8]>> {
        let pointed = || {
            let pointer = (words & POINTER != 0).then(|| marks::pointer(line));
            pointer
                .flatten()
                .map(|named| named.into_iter().flatten().collect())
        };
        match step {
            Step::Pointer => pointed(),
            Step::PointerOrInterrupt => pointed().or_else(|| {
                (words & INTERRUPTED != 0)
                    .then(|| INTERRUPT.find_in(line))
                    .flatten()
            }),
            Step::Trace => (words & TRACE != 0 && marks::is_trace(line)).then(Vec::new),
            Step::Line(text) => self.tools.pattern(text)?.find_in(line),
            Step::Frames => None,
        }
    }

    fn seek(&mut self, step: Step) -> Stop {
        while let Some((line, index, words)) = self.line() {
            if words & FOREIGN != 0 && marks::is_foreign(line) {
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
            if words & FOREIGN != 0 && marks::is_foreign(line) {
                return Stop::Foreign;
            }
            if marks::starts_stack(line, words) {
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
            if let Some(functions) = marks::frame(line) {
                self.add(functions.into_iter().flatten(), index);
            }
        }
        Stop::End
    }
}

fn choose(pick: Pick, functions: &[Function<'_>]) -> Option<Guilty> {
    let shown = || -> Vec<&[u8]> {
        let names = functions.iter().map(|(function, _)| function);
        names.map(|name| without_call_prefix(name)).collect()
    };
    let (name, index) = match pick {
        Pick::First => (without_call_prefix(&functions.first()?.0).to_vec(), 0),
        Pick::Stall => stalled(&shown())?,
        Pick::Hang => hung(&shown())?,
    };
    let (raw, line) = functions.get(index)?;
    Some(Guilty {
        name,
        raw: raw.to_vec(),
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

fn demangle(function: &[u8]) -> Cow<'_, [u8]> {
    if !function.starts_with(b"_R") {
        return Cow::Borrowed(function);
    }
    let readable = std::str::from_utf8(function)
        .ok()
        .and_then(|name| rustc_demangle::try_demangle(name).ok())
        .map(|name| format!("{name:#}").into_bytes());
    readable.map_or(Cow::Borrowed(function), Cow::Owned)
}

static INTERRUPT: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new("--- interrupt: {num} at {func}"));
