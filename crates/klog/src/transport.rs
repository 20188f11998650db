//! From bytes to records: the forms kernel messages are stored and sent in.

mod prefix;
mod record;

pub use record::{Context, Record};

use crate::record::LINE_LIMIT;

/// One line of a text form as a record; nothing where the line is empty.
pub(crate) fn line(bytes: &[u8], start: u64) -> Option<(Record<'_>, u64)> {
    let end = start + bytes.len() as u64;
    let cut = bytes.get(..LINE_LIMIT).unwrap_or(bytes);
    let stripped = prefix::strip(cut);
    Some((
        Record {
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
        stripped.dropped,
    ))
}
