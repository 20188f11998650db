//! From bytes, in pieces of any size, to what the log says.

mod fragments;

use crate::assemble::{Assembler, Counts, GapReason, Item, Limits};
use crate::record::{LINE_LIMIT, Provenance, Record};
use crate::report::Report;
use crate::scan::{self, Marks};
use crate::transport::{self, Entry, Export, Form, HEAD, Meaning, Object, Objects, Source};
use fragments::{Fragments, Joined};

/// Reads a log in pieces. Every way of cutting it gives the same items.
#[derive(Debug, Default)]
pub struct Parser {
    assembler: Assembler,
    /// The first bytes, while the form is not known.
    head: Option<Vec<u8>>,
    source: Option<Source>,
    form: Form,
    export: Export,
    objects: Objects,
    fragments: Fragments,
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
    /// Starts at the beginning of a log of lines.
    pub fn new(limits: Limits) -> Self {
        Self {
            assembler: Assembler::new(limits),
            ..Self::default()
        }
    }

    /// Starts at the beginning of a log whose form is told by its first bytes.
    pub fn detecting(limits: Limits) -> Self {
        Self {
            head: Some(Vec::new()),
            ..Self::new(limits)
        }
    }

    /// Starts at the beginning of a log from a known source; of journald, the form is told by its
    /// first bytes.
    pub fn of(source: Source, limits: Limits) -> Self {
        let parser = match source {
            Source::Journal | Source::Dmesg => Self::detecting(limits),
            Source::Kmsg
            | Source::Pstore
            | Source::Netconsole
            | Source::Serial
            | Source::Syslog => Self::new(limits),
        };
        Self {
            source: Some(source),
            ..parser
        }
    }

    /// Returns where the log comes from; none where that is not known, or not yet.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
        let Some(head) = &mut self.head else {
            self.feed(bytes, out);
            return;
        };
        let room = HEAD - head.len();
        let (start, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        head.extend_from_slice(start);
        if head.len() >= HEAD {
            self.settle(out);
        }
        if !rest.is_empty() {
            self.feed(rest, out);
        }
    }

    fn settle(&mut self, out: &mut Vec<Item>) {
        let Some(head) = self.head.take() else {
            return;
        };
        if let Some((source, form)) = transport::detect(&head) {
            self.source.get_or_insert(source);
            self.form = form;
        }
        self.feed(&head, out);
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
        match self.form {
            Form::Lines => self.feed_lines(bytes, out),
            Form::Export => {
                let assembler = &mut self.assembler;
                self.export
                    .push(bytes, |entry| take_entry(assembler, entry, out));
                self.offset += bytes.len() as u64;
            }
            Form::Json => {
                let assembler = &mut self.assembler;
                self.objects
                    .push(bytes, |object| take_object(assembler, object, out));
                self.offset += bytes.len() as u64;
            }
        }
    }

    fn feed_lines(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
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
                self.take_pending(out);
                self.offset += 1;
            }
        }
        let used = self.lines(bytes, out);
        self.offset += used as u64;
        let rest = bytes.get(used..).unwrap_or_default();
        self.keep(rest, out);
    }

    /// Tells whether a line without a mark says nothing: no report is open, and the first lines
    /// showed a form without numbers.
    fn skips(&self) -> bool {
        !self.numbered && self.looked_at >= LOOKED_AT && self.assembler.is_idle()
    }

    /// Takes in what is held as a whole line, as [`Parser::lines`] would.
    fn take_pending(&mut self, out: &mut Vec<Item>) {
        if self.skips() && !(scan::is_marked(&self.pending) && tells(&self.pending)) {
            self.assembler.counts.records += 1;
            self.offset += self.pending.len() as u64;
            self.pending.clear();
        } else {
            self.take_held(out);
        }
    }

    /// Takes in what is held of a line.
    fn take_held(&mut self, out: &mut Vec<Item>) {
        let mut pending = std::mem::take(&mut self.pending);
        let marked = scan::is_marked(&pending);
        self.line(&pending, marked, out);
        self.offset += pending.len() as u64;
        pending.clear();
        self.pending = pending;
    }

    /// Ends the log and closes what is open.
    pub fn finish(&mut self, out: &mut Vec<Item>) {
        self.settle(out);
        let assembler = &mut self.assembler;
        match self.form {
            Form::Lines => {
                if !self.pending.is_empty() {
                    self.take_pending(out);
                }
                if let Some(lost) = self.fragments.finish() {
                    self.lost(lost, out);
                }
            }
            Form::Export => self
                .export
                .finish(|entry| take_entry(assembler, entry, out)),
            Form::Json => self
                .objects
                .finish(|object| take_object(assembler, object, out)),
        }
        self.assembler.close_all(out);
    }

    /// Closes open reports: nothing came for long enough.
    pub fn idle(&mut self, out: &mut Vec<Item>) {
        self.settle(out);
        self.assembler.close_all(out);
    }

    /// Returns what the reports that are over by their own words will be, before they are closed.
    pub fn foresee(&mut self) -> Vec<Report> {
        self.assembler.foresee()
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> Counts {
        self.assembler.counts
    }

    /// Returns how many bytes were taken in.
    pub fn offset(&self) -> u64 {
        let head = self.head.as_ref().map_or(0, Vec::len);
        self.offset + (self.pending.len() + head) as u64
    }

    /// Notes a gap that the reader of the bytes knows of, such as records of `/dev/kmsg` that were
    /// overwritten before they were read.
    pub fn note_gap(&mut self, reason: GapReason, records: u64, out: &mut Vec<Item>) {
        let at = transport::line(b"", self.offset()).record;
        self.assembler.gap(reason, records, &at, out);
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
        let start = self.offset;
        self.take_held(out);
        self.cut(start, out);
        self.offset += rest.len() as u64;
        self.discarding = true;
    }

    fn cut(&mut self, start: u64, out: &mut Vec<Item>) {
        let at = transport::line(b"", start).record;
        self.assembler.gap(GapReason::Cut, 1, &at, out);
    }

    fn lost(&mut self, at: (u64, u64), out: &mut Vec<Item>) {
        let mut record = transport::line(b"", at.0).record;
        record.end = at.1;
        self.assembler.gap(GapReason::FragmentLost, 1, &record, out);
    }

    /// Takes in the whole lines of `bytes`; returns how many bytes they are.
    fn lines(&mut self, bytes: &[u8], out: &mut Vec<Item>) -> usize {
        let base = self.offset;
        let mut at = 0;
        let mut marks = Marks::new(bytes);
        let mut mark = marks.next(0);
        while at < bytes.len() {
            if self.skips() {
                // Nothing is open: the lines before the next that means something say nothing.
                mark = telling(bytes, &mut marks, mark);
                let skipped_to = match mark {
                    Some(mark) => line_start(bytes, at, mark),
                    None => last_line(bytes, at),
                };
                let skipped_to = long_line(bytes, at, skipped_to).unwrap_or(skipped_to);
                let skipped = bytes.get(at..skipped_to).unwrap_or_default();
                self.assembler.counts.records += memchr::memchr_iter(b'\n', skipped).count() as u64;
                at = skipped_to;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(length) = end_of_line(rest) else {
                break;
            };
            let end = at + length;
            let marked = mark.is_some_and(|mark| mark < end);
            if marked {
                mark = marks.next(end);
            }
            self.offset = base + at as u64;
            let line = rest.get(..length).unwrap_or_default();
            if line.len() > LINE_LIMIT {
                let cut = line.get(..LINE_LIMIT).unwrap_or_default();
                let marked = marked && scan::is_marked(cut);
                self.line(cut, marked, out);
                self.cut(self.offset, out);
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
        let line = transport::line(bytes, self.offset);
        self.numbered |= line.record.provenance == Provenance::Record;
        if line.dropped > 0 {
            self.assembler
                .gap(GapReason::Dropped, line.dropped, &line.record, out);
        }
        match self.fragments.add(&line) {
            Joined::Whole => self.assembler.take(&line.record, marked, out),
            Joined::Waiting => {}
            Joined::Lost(at) => {
                self.lost(at, out);
                if line.fragment.is_none() {
                    self.assembler.take(&line.record, marked, out);
                }
            }
            Joined::Complete(text) => {
                let marked = scan::is_marked(&text);
                let record = Record {
                    text: text.into(),
                    ..line.record
                };
                self.assembler.take(&record, marked, out);
            }
        }
    }
}

fn take_entry(assembler: &mut Assembler, entry: &Entry, out: &mut Vec<Item>) {
    let mut place = transport::line(b"", entry.start).record;
    place.end = entry.end;
    match entry.meaning() {
        Meaning::Record(record) => {
            let marked = scan::is_marked(record.line());
            assembler.take(&record, marked, out);
        }
        Meaning::Missed(count) => assembler.gap(GapReason::Missed, count, &place, out),
        Meaning::Cut => assembler.gap(GapReason::Cut, 1, &place, out),
        Meaning::Other => {}
    }
}

fn take_object(assembler: &mut Assembler, object: Object, out: &mut Vec<Item>) {
    match object {
        Object::Entry(entry) => take_entry(assembler, &entry, out),
        Object::Line(text, start, end) => {
            let marked = scan::is_marked(&text);
            let mut record = transport::line(&text, start).record;
            record.end = end;
            assembler.take(&record, marked, out);
        }
        Object::Unparsed(start, end) => {
            let mut place = transport::line(b"", start).record;
            place.end = end;
            assembler.gap(GapReason::Unparsed, 1, &place, out);
        }
    }
}

/// Makes the tables that the first report would otherwise wait for: some milliseconds.
pub fn prepare() {
    const SAMPLE: &[u8] = b"BUG: unable to handle page fault for address: 0\n\
        CPU: 0 PID: 1 Comm: x Not tainted 6.1 #1\nRIP: 0010:f+0x1/0x2\n\
        Call Trace:\n <TASK>\n g+0x1/0x2\n h+0x1/0x2\n </TASK>\n";
    parse(SAMPLE, Limits::default());
}

/// Reads a whole log.
pub fn parse(log: &[u8], limits: Limits) -> (Vec<Item>, Counts) {
    all(Parser::new(limits), log)
}

/// Reads a whole log whose form is told by its first bytes.
pub fn parse_any(log: &[u8], limits: Limits) -> (Vec<Item>, Counts) {
    all(Parser::detecting(limits), log)
}

fn all(mut parser: Parser, log: &[u8]) -> (Vec<Item>, Counts) {
    let mut items = Vec::new();
    parser.push(log, &mut items);
    parser.finish(&mut items);
    (items, parser.counts())
}

/// Returns the first mark, from `mark` on, in a line that has to be looked at. Many a mark is half a
/// word; the line behind it says nothing.
fn telling(bytes: &[u8], marks: &mut Marks<'_>, mark: Option<usize>) -> Option<usize> {
    let mut mark = mark;
    while let Some(at) = mark {
        let start = line_start(bytes, 0, at);
        let rest = bytes.get(start..)?;
        let line = rest.get(..end_of_line(rest)?)?;
        if line.len() > LINE_LIMIT || tells(line) {
            break;
        }
        mark = marks.next(start + line.len());
    }
    mark
}

/// Tells whether a line can say something where no report is open.
fn tells(line: &[u8]) -> bool {
    // A number in front: it may be the first record of a kind whose every line counts. Escapes: what
    // is said stands between them.
    let visible = line.strip_suffix(b"\r").unwrap_or(line);
    line.first().is_some_and(u8::is_ascii_digit)
        || memchr::memchr2(0x1b, b'\r', visible).is_some()
        || scan::look(line) != scan::May::default()
}

/// Returns where the first line of more than [`LINE_LIMIT`] bytes begins in whole lines.
fn long_line(bytes: &[u8], from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    while to.saturating_sub(at) > LINE_LIMIT {
        let window = bytes.get(at..=at + LINE_LIMIT)?;
        match memchr::memrchr(b'\n', window) {
            Some(end) => at += end + 1,
            None => return Some(at),
        }
    }
    None
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

#[cfg(test)]
mod tests;
