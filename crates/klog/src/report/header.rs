//! Which lines open a report.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::class::Class;
use super::families::FAMILIES;
use super::pattern::Pattern;
use super::shape::Standing;
use crate::scan;

/// A line that opens a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of its family.
    pub(crate) family: usize,
    /// Where in the text the header begins, in bytes.
    pub at: usize,
    /// What a report of it alone would be about.
    pub class: Class,
    /// How it stands to other headers.
    pub(crate) standing: Standing,
}

/// Searches for each family's literal, made once.
static LITERALS: LazyLock<Vec<Finder<'static>>> = LazyLock::new(|| {
    let literals = FAMILIES.iter().map(|family| family.literal.as_bytes());
    literals.map(Finder::new).collect()
});

static UNLESS: LazyLock<Vec<Vec<Pattern>>> = LazyLock::new(|| {
    FAMILIES
        .iter()
        .map(|family| {
            family
                .unless
                .iter()
                .map(|text| Pattern::new(text))
                .collect()
        })
        .collect()
});

/// What may stand before a header in a record of the kernel's.
const PREFIXES: &[&[u8]] = &[
    b"NMI watchdog: ",
    b"watchdog: ",
    b"rcu: ",
    b"traps: ",
    b"Oops: ",
    b"usercopy: ",
    b"livepatch: ",
    b"workqueue: ",
    b"[ ",
    b"------------",
];

/// Looks for a header in the text of one record.
///
/// `strict` (records whose border is the kernel's own): only at the start, after a known prefix.
/// Otherwise the literal may stand anywhere in the line. What is behind an embedded newline never
/// counts.
pub fn find(text: &[u8], strict: bool) -> Option<Header> {
    let line = match memchr::memchr(b'\n', text) {
        Some(end) => text.get(..end)?,
        None => text,
    };
    find_among(line, scan::look(line).headers, strict)
}

/// The same for one line, of which is known which families' literals it has.
pub(crate) fn find_among(line: &[u8], families: u64, strict: bool) -> Option<Header> {
    let mut left = families;
    while left != 0 {
        let index = left.trailing_zeros() as usize;
        left &= left - 1;
        let family = FAMILIES.get(index)?;
        let at = LITERALS.get(index)?.find(line)?;
        let unless = UNLESS.get(index)?;
        let excluded = unless.iter().any(|other| other.find_in(line).is_some());
        if !excluded && (!strict || stands_first(line, at)) {
            return Some(Header {
                family: index,
                at,
                class: family.class,
                standing: family.place,
            });
        }
    }
    None
}

/// Tells whether only known prefixes stand before byte `at`.
fn stands_first(line: &[u8], at: usize) -> bool {
    let mut rest = line.get(..at).unwrap_or_default();
    // Each round takes a non-empty prefix off.
    while let Some(shorter) = PREFIXES
        .iter()
        .find_map(|prefix| rest.strip_prefix(*prefix))
    {
        rest = shorter;
    }
    // Process names and file names stand first in some records, but none of them ends like a
    // driver's prefix: `name bus-id: `, `irq 9`, `detected buffer overflow in f` behind `f: `.
    rest.is_empty() || is_device_prefix(rest)
}

fn is_device_prefix(text: &[u8]) -> bool {
    let plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b' ')
    };
    text.len() <= 96
        && text.iter().all(plain)
        && (text.ends_with(b": ") || text.starts_with(b"irq ") || text.starts_with(b"note: ")
            // `CPU 3 self-detected hard LOCKUP`, `Watchdog detected`, and 7.x's `CPU0: Watchdog `.
            || text.ends_with(b"Watchdog ")
            || text.starts_with(b"CPU "))
}
