//! From bytes, in pieces of any size, to what the log says.

use crate::assemble::{Assembler, Counts, GapReason, Item, Limits};
use crate::record::{LINE_LIMIT, Provenance};
use crate::scan;
use crate::transport;

/// Reads a log in pieces. Every way of cutting it gives the same items.
#[derive(Debug, Default)]
pub struct Parser {
    assembler: Assembler,
    /// An unfinished line.
    pending: Vec<u8>,
    /// Where `pending`, or else the next byte, stands in the source.
    offset: u64,
    /// The rest of a line beyond the limit is passed over.
    discarding: bool,
    /// Records carry numbers: every line has to be looked at.
    numbered: bool,
    /// Lines looked at, up to [`LOOKED_AT`].
    looked_at: u32,
}

/// First lines that are looked at in any case: they show the form.
const LOOKED_AT: u32 = 16;

impl Parser {
    /// Starts at the beginning of a log.
    pub fn new(limits: Limits) -> Self {
        Self {
            assembler: Assembler::new(limits),
            ..Self::default()
        }
    }

    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
        let mut bytes = bytes;
        if self.discarding || !self.pending.is_empty() {
            let Some(end) = end_of_line(bytes) else {
                self.keep(bytes, out);
                return;
            };
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.keep(line, out);
            if self.discarding {
                self.discarding = false;
                self.offset += 1;
            } else {
                let pending = std::mem::take(&mut self.pending);
                let marked = scan::next(&pending, 0).is_some();
                self.line(&pending, marked, out);
                self.offset += pending.len() as u64 + 1;
                self.pending = pending;
                self.pending.clear();
            }
        }
        let used = self.lines(bytes, out);
        self.offset += used as u64;
        let rest = bytes.get(used..).unwrap_or_default();
        self.keep(rest, out);
    }

    /// Ends the log and closes what is open.
    pub fn finish(&mut self, out: &mut Vec<Item>) {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            let marked = scan::next(&pending, 0).is_some();
            self.line(&pending, marked, out);
            self.offset += pending.len() as u64;
        }
        self.assembler.close_all(out);
    }

    /// Closes open reports: nothing came for long enough.
    pub fn idle(&mut self, out: &mut Vec<Item>) {
        self.assembler.close_all(out);
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> Counts {
        self.assembler.counts
    }

    /// Returns how many bytes were taken in.
    pub fn offset(&self) -> u64 {
        self.offset + self.pending.len() as u64
    }

    /// Adds a part of a line; of a line beyond the limit only the start is looked at.
    fn keep(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
        if self.discarding {
            self.offset += bytes.len() as u64;
            return;
        }
        let room = LINE_LIMIT - self.pending.len();
        if bytes.len() <= room {
            self.pending.extend_from_slice(bytes);
            return;
        }
        let (kept, rest) = bytes.split_at(room);
        self.pending.extend_from_slice(kept);
        let pending = std::mem::take(&mut self.pending);
        let marked = scan::next(&pending, 0).is_some();
        self.line(&pending, marked, out);
        self.cut(out);
        self.offset += (pending.len() + rest.len()) as u64;
        self.discarding = true;
    }

    fn cut(&mut self, out: &mut Vec<Item>) {
        if let Some((record, _)) = transport::line(b"", self.offset) {
            self.assembler.gap(GapReason::Cut, 1, &record, out);
        }
    }

    /// Takes in the whole lines of `bytes`; returns how many bytes they are.
    fn lines(&mut self, bytes: &[u8], out: &mut Vec<Item>) -> usize {
        let base = self.offset;
        let mut at = 0;
        let mut mark = scan::next(bytes, 0);
        while at < bytes.len() {
            if !self.numbered && self.looked_at >= LOOKED_AT && self.assembler.is_idle() {
                // Nothing is open: the lines before the next mark say nothing.
                let skipped_to = match mark {
                    Some(mark) => line_start(bytes, at, mark),
                    None => last_line(bytes, at),
                };
                let skipped = bytes.get(at..skipped_to).unwrap_or_default();
                self.assembler.counts.records += memchr::memchr_iter(b'\n', skipped).count() as u64;
                at = skipped_to;
                if mark.is_none() {
                    break;
                }
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(length) = end_of_line(rest) else {
                break;
            };
            let end = at + length;
            let marked = mark.is_some_and(|mark| mark < end);
            if marked {
                mark = scan::next(bytes, end);
            }
            self.offset = base + at as u64;
            let line = rest.get(..length).unwrap_or_default();
            if line.len() > LINE_LIMIT {
                let cut = line.get(..LINE_LIMIT).unwrap_or_default();
                let marked = marked && scan::next(cut, 0).is_some();
                self.line(cut, marked, out);
                self.cut(out);
            } else {
                self.line(line, marked, out);
            }
            at = end + 1;
        }
        self.offset = base;
        at.min(bytes.len())
    }

    /// Takes in one line, which stands at `offset`.
    fn line(&mut self, bytes: &[u8], marked: bool, out: &mut Vec<Item>) {
        self.looked_at = self.looked_at.saturating_add(1);
        // The dictionary of the record before.
        if self.numbered && bytes.first() == Some(&b' ') {
            return;
        }
        let Some((record, dropped)) = transport::line(bytes, self.offset) else {
            return;
        };
        self.numbered |= record.provenance == Provenance::Record;
        if dropped > 0 {
            self.assembler
                .gap(GapReason::Dropped, dropped, &record, out);
        }
        self.assembler.take(&record, marked, out);
    }
}

/// Reads a whole log.
pub fn parse(log: &[u8], limits: Limits) -> (Vec<Item>, Counts) {
    let mut parser = Parser::new(limits);
    let mut items = Vec::new();
    parser.push(log, &mut items);
    parser.finish(&mut items);
    (items, parser.counts())
}

fn end_of_line(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}

fn line_start(bytes: &[u8], from: usize, at: usize) -> usize {
    let before = bytes.get(from..at).unwrap_or_default();
    memchr::memrchr(b'\n', before).map_or(from, |end| from + end + 1)
}

fn last_line(bytes: &[u8], from: usize) -> usize {
    line_start(bytes, from, bytes.len())
}
