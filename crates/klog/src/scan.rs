//! One pass over raw bytes for the few lines worth a look.
//!
//! A clean log has nearly none of them, so nothing of it is split, copied or decoded. The texts
//! searched for are a small set that covers all headers, events and notes: half as many cost half.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, packed};

use crate::{assemble, event, report};

/// Texts of which every line worth a look has at least one.
///
/// None is shorter than four bytes: the search looks at as many at once, and each byte fewer lets
/// more of what is not searched for through.
pub(crate) const COVER: &[&str] = &[
    // Headers.
    "BUG:",
    "ernel BUG",
    "BUG kmalloc-",
    "ARNING:",
    "INFO:",
    "anic",
    "PANIC",
    "Unable to handle",
    "stack segment: ",
    "divide",
    "invalid opcode",
    "int3:",
    "UBSAN:",
    "Booting the k",
    "unregister_netdevice",
    "VFS: ",
    " fault",
    "Alignment trap",
    "al error",
    "SYZFA",
    " hard LOCKUP",
    "ftrace bug",
    "Missing ENDBR",
    "Unexpected #CP",
    "CFI failure",
    "NETDEV WATCHDOG",
    " corruption",
    "refcount_t: ",
    "detected buffer overflow",
    "usercopy: ",
    "NX-protected",
    "(SMEP?)",
    "exited with",
    "nobody cared",
    "duplicate filename",
    "rcu_tasks detected",
    "Oops: ",
    "[ cut here",
    // What livepatches and the module loader do.
    "livepatch",
    "relocation",
    "Loading of ",
    "disagrees about",
    "Unknown symbol",
    "version magic",
    "symbol version",
    "module us",
    // What speaks against blame.
    "Hardware Error",
    "EDAC",
    "NMI received",
    "emperature above",
    "Out of memory",
    "Killed process",
    // What the reader of reports has to know.
    "printk message",
    "Linux version",
    "ending NMI from",
    "lock debugging",
    "allocation failure",
    "FAULT_",
    "VM disconnected",
    "SIGBUS",
    "stack smashing",
];

static SEARCHER: LazyLock<packed::Searcher> = LazyLock::new(|| {
    packed::Config::new()
        .builder()
        .extend(COVER)
        .build()
        .expect("the set is not empty and fits the packed search")
});

/// Which of up to 128 texts a line has, in one pass over it.
#[derive(Debug)]
pub(crate) struct Words(AhoCorasick);

impl Words {
    /// Takes the texts; their numbers are their places.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let texts: Vec<&str> = texts.into_iter().collect();
        assert!(texts.len() <= 128, "a set of 128 is all that is kept");
        let built = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .build(texts);
        Self(built.expect("a few dozen short texts fit"))
    }

    /// Returns a bit for each text that `line` has.
    pub(crate) fn of(&self, line: &[u8]) -> u128 {
        self.0
            .find_overlapping_iter(line)
            .fold(0, |all, found| all | 1 << found.pattern().as_u32())
    }
}

/// What a marked line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct May {
    /// A bit for each family of reports whose literal it has.
    pub(crate) headers: u64,
    /// It has a text of [`crate::assemble`]'s notes.
    pub(crate) note: bool,
    /// It has a text of [`crate::event`].
    pub(crate) event: bool,
}

/// Tells what a marked line may be.
pub(crate) fn look(line: &[u8]) -> May {
    static ALL: LazyLock<Words> = LazyLock::new(|| {
        let texts = report::literals().chain(assemble::marks());
        Words::new(texts.chain(event::texts()))
    });
    static COUNTS: LazyLock<(usize, usize)> =
        LazyLock::new(|| (report::literals().count(), assemble::marks().count()));
    let (headers, notes) = *COUNTS;
    let found = ALL.of(line);
    let below = |count: usize| (1_u128 << count) - 1;
    May {
        headers: u64::try_from(found & below(headers)).unwrap_or(u64::MAX),
        note: found >> headers & below(notes) != 0,
        event: found >> (headers + notes) != 0,
    }
}

/// Returns where the next text of [`COVER`] begins in `bytes` from `from` on.
pub(crate) fn next(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    SEARCHER.find(rest).map(|found| from + found.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_and_event_is_covered() {
        let covered = |text: &str| COVER.iter().any(|cover| text.contains(cover));
        for literal in report::literals() {
            assert!(covered(literal), "{literal}");
        }
        for text in event::texts().chain(assemble::marks()) {
            assert!(covered(text), "{text}");
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        let text = b"clean\nWARNING: x\nBUG: y";
        assert_eq!(next(text, 0), Some(7));
        assert_eq!(next(text, 8), Some(17));
        assert_eq!(next(text, 18), None);
        assert_eq!(next(text, 100), None);
    }
}
