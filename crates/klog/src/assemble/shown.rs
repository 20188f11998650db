//! What one line shows, found once for all the open reports it goes to.

use std::sync::LazyLock;

use crate::report::{self, Facts, Signs};

/// What a line shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// What the names of reports rest on.
    pub(super) facts: Facts,
    /// A frame the unwinder only guesses at.
    pub(super) guess: bool,
    /// It has a function's offset.
    pub(super) frame: bool,
    /// It looks like a part of a report.
    pub(super) part: bool,
    /// A bit for each of [`turns`] it has.
    pub(super) turns: u8,
}

impl Shown {
    /// Looks at a line without its prefix. `printed`: it had one of printk's.
    #[inline]
    pub(super) fn of(line: &[u8], marked: bool, turns: u8, printed: bool) -> Self {
        let has = Signs::of(line);
        let frame = has.any(Signs::PLUS) && has_offset(line);
        Self {
            facts: Facts {
                words: report::words(line, has),
                marked,
            },
            guess: printed && is_guess(line, has.any(Signs::QUESTION)),
            frame,
            part: frame || is_part(line),
            turns,
        }
    }
}

/// What follows is the kernel's own remark.
pub(super) const ASIDE: u8 = 1;
/// Other CPUs are going to print their stacks.
pub(super) const ALL_CPUS: u8 = 1 << 1;
/// A panic, or a lock taken while printing.
pub(super) const ANOTHER: u8 = 1 << 2 | 1 << 3;

/// Texts that change how a report goes on, in the order of their bits.
pub(crate) fn turns() -> impl Iterator<Item = &'static str> {
    [
        "Disabling lock debugging due to kernel taint",
        "Sending NMI from CPU",
        "Kernel panic - not syncing",
        "WARNING: possible circular locking dependency detected",
    ]
    .into_iter()
}

/// A frame the unwinder only guesses at: ` ? ` on x86, unless an interrupt's border stands on its
/// line, ` (unreliable)` on ppc.
#[inline]
fn is_guess(line: &[u8], has_question: bool) -> bool {
    let question = has_question
        && memchr::memchr_iter(b'?', line)
            .any(|at| at > 0 && line.get(at - 1) == Some(&b' ') && line.get(at + 1) == Some(&b' '));
    (question || line.ends_with(b" (unreliable)"))
        && (memchr::memchr(b'<', line).is_none() || memchr::memmem::find(line, b"<EOI>").is_none())
}

/// Tells whether a line has a function's offset.
#[inline]
fn has_offset(line: &[u8]) -> bool {
    memchr::memchr_iter(b'+', line).any(|at| line.get(at + 1..at + 3) == Some(b"0x"))
}

/// Functions that nothing calls.
pub(super) fn is_outermost(line: &[u8]) -> bool {
    const ENTRIES: [&[u8]; 8] = [
        b"entry_SYSCALL",
        b"entry_INT80",
        b"ret_from_fork",
        b"ret_from_exception",
        b"ret_to_user",
        b"ret_fast_syscall",
        b"el0",
        b"secondary_startup",
    ];
    ENTRIES
        .iter()
        .any(|entry| memchr::memmem::find(line, entry).is_some())
}

/// Texts that a line may start with, by their first byte.
struct Starts(Vec<Vec<&'static [u8]>>);

impl Starts {
    fn new(texts: &[&'static str]) -> Self {
        let mut shelves = vec![Vec::new(); 256];
        for text in texts.iter().map(|text| text.as_bytes()) {
            let shelf = text.first().map(|first| usize::from(*first));
            if let Some(shelf) = shelf.and_then(|first| shelves.get_mut(first)) {
                shelf.push(text);
            }
        }
        Self(shelves)
    }

    fn fit(&self, line: &[u8]) -> bool {
        let first = line.first().map(|first| usize::from(*first));
        let shelf = first.and_then(|first| self.0.get(first));
        shelf.is_some_and(|texts| texts.iter().any(|text| line.starts_with(text)))
    }
}

/// Tells whether a line without an offset looks like a part of a report: registers and headings.
fn is_part(line: &[u8]) -> bool {
    static NAMES: LazyLock<Starts> = LazyLock::new(|| Starts::new(PARTS));
    static LINES: LazyLock<Starts> = LazyLock::new(|| Starts::new(STARTS));
    if matches!(line.first(), None | Some(b' ' | b'\t' | b'-' | b'=')) {
        return true;
    }
    let colon = memchr::memchr(b':', line.get(..24).unwrap_or(line));
    let name = colon.and_then(|at| line.get(..at));
    let named = name.is_some_and(|name| {
        NAMES.fit(name) || (name.len() <= 5 && name.iter().any(u8::is_ascii_digit))
    });
    named || LINES.fit(line)
}

/// What stands before the colon of a report's lines.
const PARTS: &[&str] = &[
    "RIP",
    "EIP",
    "IP",
    "RSP",
    "ESP",
    "RAX",
    "EAX",
    "RDX",
    "RBP",
    "R0",
    "R1",
    "CR2",
    "CR3",
    "FS",
    "CS",
    "DR0",
    "DR3",
    "PKRU",
    "Code",
    "CPU",
    "Hardware name",
    "Workqueue",
    "Call ",
    "Modules ",
    "pc ",
    "lr ",
    "sp ",
    "pstate",
    "ra ",
    "gp ",
    "t0",
    "s0",
    "a0",
    "epc ",
    "status",
    "NIP",
    "LR",
    "CTR",
    "REGS",
    "MSR",
    "CFAR",
    "GPR",
    "Krnl ",
    "PSW",
    "Backtrace",
    "Oops",
    "Stack",
    "Process",
    "Internal error",
    "Kernel panic",
    "Kernel Offset",
    "Rebooting",
    "Allocated",
    "Freed",
    "Tainted",
    "Exception",
    "Mem abort",
    "Data abort",
    "swapper",
    "pgd",
    "page",
    "raw",
    "flags",
    "stack",
    "other info",
    "NMI backtrace",
    "Sending NMI",
    "rcu",
    "task",
];

/// What other lines of a report start with.
const STARTS: &[&str] = &[
    "The buggy address",
    "Memory state",
    "Disabling",
    "Dumping ftrace",
    "PGD ",
    "PUD ",
    "PMD ",
    "PTE ",
    "but task",
    "which lock",
    "the existing",
    "is trying",
    "the code path",
    "irq event",
    "hardirqs",
    "softirqs",
    "Read of size",
    "Write of size",
    "Showing",
    "INFO",
    "BUG",
    "WARNING",
    ">",
    "(",
];
