//! Messages that netconsole sent in several datagrams.

use crate::transport::Line;

/// Bytes of one message.
const MESSAGE_LIMIT: usize = 16 * 1024;

/// Joins the parts of one message. They come one after the other, or some are lost.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sequence: u64,
    total: u64,
    text: Vec<u8>,
    start: u64,
    end: u64,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It is a message of its own.
    Whole,
    /// More is to come.
    Waiting,
    /// It was the last part: the whole text.
    Complete(Vec<u8>),
    /// A part of the message that lies here is missing.
    Lost((u64, u64)),
}

impl Fragments {
    /// Takes in a line.
    pub(super) fn add(&mut self, line: &Line<'_>) -> Joined {
        let record = &line.record;
        let Some((from, total)) = line.fragment else {
            return self.finish().map_or(Joined::Whole, Joined::Lost);
        };
        let sequence = record.sequence.unwrap_or_default();
        if let Some(open) = &mut self.open
            && open.sequence == sequence
            && open.total == total
            && open.text.len() as u64 == from
            && open.text.len() + record.text.len() <= MESSAGE_LIMIT
        {
            open.text.extend_from_slice(&record.text);
            open.end = record.end;
            if open.text.len() as u64 >= total {
                let text = std::mem::take(&mut open.text);
                self.open = None;
                return Joined::Complete(text);
            }
            return Joined::Waiting;
        }
        let lost = self.finish();
        if from == 0 && record.text.len() <= MESSAGE_LIMIT {
            self.open = Some(Open {
                sequence,
                total,
                text: record.text.to_vec(),
                start: record.start,
                end: record.end,
            });
            return lost.map_or(Joined::Waiting, Joined::Lost);
        }
        Joined::Lost(lost.unwrap_or((record.start, record.end)))
    }

    /// Gives up what is open; returns where it lies.
    pub(super) fn finish(&mut self) -> Option<(u64, u64)> {
        self.open.take().map(|open| (open.start, open.end))
    }
}
