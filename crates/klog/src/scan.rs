//! One pass over raw bytes for the few lines worth a look.
//!
//! A clean log has nearly none of them, so nothing of it is split, copied or decoded. The texts
//! searched for cover all headers, events and notes.

mod grams;

use std::sync::LazyLock;

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, Span, packed};

use crate::{assemble, event, report};
use grams::Grams;

/// Texts of which, or of those in [`LONG`], every line worth a look has at least one.
///
/// None is shorter than four bytes: the search looks at as many at once, and each byte fewer lets
/// more of what is not searched for through. Up to 32 it looks at them in half the time.
const SHORT: &[&str] = &[
    "BUG:",
    "l BUG",
    "UG kmalloc-",
    "ARNING:",
    "INFO:",
    "int3:",
    "UBSAN:",
    "SYZFA",
    "l panic",
    "panic:",
    "PANIC: ",
    "Oops: ",
    "EDAC ",
    "SIGBUS",
    "FAULT_",
    "atal error",
    "corruption",
    "refcount_t: ",
    "exited with ",
    "livepatch: ",
    "relocation",
    "Loading of ",
];

/// The same of at least thirteen bytes: their number costs nothing. Their first thirteen are no words
/// that kernels say every day.
const LONG: &[&str] = &[
    // Headers.
    "nel: panicked",
    "trusty: panic",
    "Unable to handle kernel",
    "ral protection fault",
    "stack segment: ",
    "divide error:",
    "divide_error:",
    "invalid opcode:",
    "Booting the kernel.",
    "netdevice: waiting for",
    "VFS: Close: file count",
    "VFS: Busy inodes",
    "Internal error:",
    "Unhandled fault:",
    "Alignment trap:",
    "d hard LOCKUP",
    "[ ftrace bug ]",
    "Missing ENDBR: ",
    "Unexpected #CP",
    "CFI failure at ",
    "NETDEV WATCHDOG: ",
    "uffer overflow",
    "sercopy: Kernel memory",
    "sercopy: kernel memory",
    "cute NX-protected",
    "cute userspace",
    "Fixing recursive fault",
    "nobody cared (try",
    "duplicate filename",
    "rcu_tasks detected",
    "--[ cut here ]--",
    // What livepatches and the module loader do.
    "marked as livepatch",
    "disagrees about",
    "Unknown symbol ",
    "version magic '",
    "no symbol version",
    "le uses symbols",
    "using GPL-only",
    // What speaks against blame.
    "Hardware Error]",
    "NMI received for ",
    "emperature above",
    "Out of memory",
    "Killed process",
    // What the reader of reports has to know.
    "printk message",
    "Linux version ",
    "ending NMI from",
    "lock debugging",
    "ocation failure",
    "VM disconnected",
    "stack smashing",
];

/// Finds lines with one of the texts in bytes, front to back.
#[derive(Debug)]
pub(crate) struct Marks<'a> {
    bytes: &'a [u8],
    short: Option<usize>,
    long: Option<usize>,
}

static SEARCHERS: LazyLock<(packed::Searcher, Grams)> = LazyLock::new(|| {
    let short = packed::Config::new().builder().extend(SHORT).build();
    let short = short.expect("the set is not empty and fits the packed search");
    (short, Grams::new(LONG))
});

impl<'a> Marks<'a> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut marks = Self {
            bytes,
            short: None,
            long: None,
        };
        (marks.short, marks.long) = (marks.find_short(0), marks.find_long(0));
        marks
    }

    /// Returns a place in the first line behind `from` that has a text. `from` must not go back.
    pub(crate) fn next(&mut self, from: usize) -> Option<usize> {
        if self.short.is_some_and(|at| at < from) {
            self.short = self.find_short(from);
        }
        if self.long.is_some_and(|at| at < from) {
            self.long = self.find_long(from);
        }
        match (self.short, self.long) {
            (Some(short), Some(long)) => Some(short.min(long)),
            (short, long) => short.or(long),
        }
    }

    fn find_short(&self, from: usize) -> Option<usize> {
        let span = Span::from(from..self.bytes.len());
        if span.start >= span.end {
            return None;
        }
        let found = SEARCHERS.0.find_in(self.bytes, span)?;
        Some(found.start())
    }

    fn find_long(&self, from: usize) -> Option<usize> {
        SEARCHERS.1.find(self.bytes, from)
    }
}

/// Returns all texts searched for.
#[cfg(test)]
pub(crate) fn texts() -> impl Iterator<Item = &'static [u8]> {
    SHORT.iter().chain(LONG).map(|text| text.as_bytes())
}

/// Tells whether `line` has one of the texts.
pub(crate) fn is_marked(line: &[u8]) -> bool {
    Marks::new(line).next(0).is_some()
}

/// Which of some texts a line has.
#[derive(Debug)]
pub(crate) struct Words {
    /// For lines of some length, with the number of the first text of each.
    packed: Vec<(usize, packed::Searcher)>,
    /// For others.
    automaton: NFA,
}

impl Words {
    /// Takes the texts; their numbers are their places. No text may be the start of another.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        // Up to 32 texts, the packed search looks at twice as many bytes at once.
        const FEW: usize = 32;
        let texts: Vec<&str> = texts.into_iter().collect();
        let packed = texts.chunks(FEW).enumerate().map(|(chunk, few)| {
            let searcher = packed::Config::new().builder().extend(few).build();
            let searcher = searcher.expect("a few texts fit the packed search");
            (chunk * FEW, searcher)
        });
        Self {
            packed: packed.collect(),
            // A DFA takes milliseconds to make: longer than most logs to read.
            automaton: NFA::new(&texts).expect("a few dozen short texts fit"),
        }
    }

    /// Calls `found` with the number of each text that `line` has, once or more.
    pub(crate) fn each(&self, line: &[u8], mut found: impl FnMut(usize)) {
        /// Below, the automaton is faster.
        const LONG_LINE: usize = 24;
        if line.len() >= LONG_LINE {
            for (first, packed) in &self.packed {
                let mut from = 0;
                while from < line.len()
                    && let Some(one) = packed.find_in(line, Span::from(from..line.len()))
                {
                    found(first + one.pattern().as_usize());
                    // Not behind it: another may begin inside.
                    from = one.start() + 1;
                }
            }
            return;
        }
        let Ok(mut state) = self.automaton.start_state(Anchored::No) else {
            return;
        };
        for byte in line {
            state = self.automaton.next_state(Anchored::No, state, *byte);
            if self.automaton.is_match(state) {
                for index in 0..self.automaton.match_len(state) {
                    found(self.automaton.match_pattern(state, index).as_usize());
                }
            }
        }
    }
}

/// What a marked line may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct May {
    /// A bit for each family of reports whose literal it has.
    pub(crate) headers: u64,
    /// It has a text of [`crate::assemble`]'s notes.
    pub(crate) note: bool,
    /// It has a text of [`crate::event`].
    pub(crate) event: bool,
    /// A bit for each text of [`crate::assemble`]'s that changes how a report goes on.
    pub(crate) turns: u8,
}

/// Tells what a marked line may be.
pub(crate) fn look(line: &[u8]) -> May {
    #[derive(Clone, Copy)]
    enum Is {
        Header(usize),
        Note,
        Event,
        Turn(usize),
    }
    static ALL: LazyLock<(Words, Vec<Is>)> = LazyLock::new(|| {
        let headers = report::literals().enumerate();
        let headers = headers.map(|(index, text)| (text, Is::Header(index)));
        let notes = assemble::marks().map(|text| (text, Is::Note));
        let events = event::texts().map(|text| (text, Is::Event));
        let turns = assemble::turns().enumerate();
        let turns = turns.map(|(index, text)| (text, Is::Turn(index)));
        let all = headers.chain(notes).chain(events).chain(turns);
        let (texts, meanings): (Vec<&str>, Vec<Is>) = all.unzip();
        (Words::new(texts), meanings)
    });
    let (words, meanings) = &*ALL;
    let mut may = May::default();
    words.each(line, |number| match meanings.get(number) {
        Some(Is::Header(index)) => may.headers |= 1 << index,
        Some(Is::Note) => may.note = true,
        Some(Is::Event) => may.event = true,
        Some(Is::Turn(index)) => may.turns |= 1 << index,
        None => {}
    });
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_and_event_is_covered() {
        let covered = |text: &str| {
            let mut all = SHORT.iter().chain(LONG);
            all.any(|cover| text.contains(cover))
        };
        for literal in report::literals() {
            assert!(covered(literal), "{literal}");
        }
        for text in event::texts()
            .chain(assemble::marks())
            .chain(assemble::turns())
        {
            assert!(covered(text), "{text}");
        }
    }

    #[test]
    fn the_first_line_of_several_is_found() {
        let text = b"clean\nWARNING: x\nBUG: y livepatch: z";
        let mut marks = Marks::new(text);
        assert_eq!(marks.next(0), Some(7));
        assert_eq!(marks.next(8), Some(17));
        assert_eq!(marks.next(18), Some(24));
        assert_eq!(marks.next(25), None);
        assert_eq!(marks.next(100), None);
        assert!(!is_marked(b"") && !is_marked(b"x") && is_marked(b"BUG:"));
    }

    proptest::proptest! {
        #[test]
        fn what_the_plain_search_finds_is_marked(
            picks in proptest::collection::vec((0_usize..200, 0_usize..12), 0..12),
        ) {
            // Texts, whole and without an end of theirs, and fill.
            let texts: Vec<&str> = SHORT.iter().chain(LONG).copied().collect();
            let mut log = Vec::new();
            for (text, fill) in picks {
                let text = texts.get(text).copied().unwrap_or("anic ernel").as_bytes();
                let kept = text.len() - usize::from(fill % 3 == 1);
                log.extend_from_slice(text.get(..kept).unwrap_or(text));
                log.extend(std::iter::repeat_n(b'-', fill));
            }
            let starts = |at: usize| {
                let rest = log.get(at..).unwrap_or_default();
                texts.iter().any(|text| rest.starts_with(text.as_bytes()))
            };
            let plain = (0..log.len()).find(|at| starts(*at));
            let found = Marks::new(&log).next(0);
            proptest::prop_assert_eq!(found.is_some(), plain.is_some());
            if let Some(found) = found {
                proptest::prop_assert!(starts(found));
            }
        }
    }
}
