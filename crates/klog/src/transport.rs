//! From bytes to records: the forms kernel messages are stored and sent in.

mod export;
mod form;
mod journal;
mod json;
mod prefix;
pub mod pstore;

pub(crate) use export::Export;
pub use form::{Form, HEAD, Source, detect};
pub(crate) use journal::{Entry, Meaning};
pub(crate) use json::{Object, Objects};
#[cfg(test)]
pub(crate) use prefix::clock;

use crate::record::{LINE_LIMIT, Record};

/// One line of a text form.
pub(crate) struct Line<'a> {
    pub(crate) record: Record<'a>,
    /// Records the console says it dropped before it.
    pub(crate) dropped: u64,
    /// It is a part of a message: where it begins in it, and how long all is.
    pub(crate) fragment: Option<(u64, u64)>,
}

/// Reads one line of a text form.
#[inline]
pub(crate) fn line(bytes: &[u8], start: u64) -> Line<'_> {
    let end = start + bytes.len() as u64;
    let cut = bytes.get(..LINE_LIMIT).unwrap_or(bytes);
    let stripped = prefix::strip(cut);
    Line {
        record: Record {
            start,
            end,
            provenance: stripped.provenance,
            priority: stripped.priority,
            sequence: stripped.sequence,
            time_us: stripped.time_us,
            wall_us: stripped.wall_us,
            context: stripped.context,
            boot: None,
            text: stripped.text,
        },
        dropped: stripped.dropped,
        fragment: stripped.fragment,
    }
}

/// Returns the records of a log of lines, in order. Of kmsg, the dictionary lines between them come
/// too, as bare text.
pub fn records(log: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut start = 0_u64;
    log.split(|byte| matches!(byte, b'\n' | 0))
        .map(move |bytes| {
            let record = line(bytes, start).record;
            start += bytes.len() as u64 + 1;
            record
        })
}
