//! From records to reports: which line belongs to which complaint, and where one ends.

mod closing;
mod item;
mod notes;
mod open;
mod shown;

use crate::event;
use crate::record::{Context, Provenance, Record};
use crate::report::header::{self, Header};
use crate::report::{self, Class, Report, Standing, Text};
use crate::scan::{self, May};

pub use item::{Event, Gap, GapReason, Incident, IncidentKind, Item};
pub(crate) use notes::marks;
use notes::{Note, note};
use open::{Open, blank};
use shown::Shown;
pub(crate) use shown::turns;

/// Bounds of what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lines of one report.
    pub lines: usize,
    /// Bytes of one report.
    pub bytes: usize,
    /// Reports open at the same time.
    pub open: usize,
    /// Bytes of all open reports together.
    pub budget: usize,
    /// Keep the lines in [`Report::text`].
    pub text: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lines: 1024,
            bytes: 256 * 1024,
            open: 64,
            budget: 4 * 1024 * 1024,
            text: false,
        }
    }
}

/// Reports of one context that are open at once: a third header ends the first.
const NESTED: usize = 2;
/// Puts reports together.
#[derive(Debug, Default)]
pub struct Assembler {
    limits: Limits,
    open: Vec<Open>,
    /// Lines that say why a header should follow.
    foretold: Vec<Open>,
    /// Room for the lines of the next reports.
    rooms: Vec<Text>,
    last_sequence: Option<u64>,
    boot: Option<[u8; 16]>,
    seen_in_boot: bool,
    last_was_header: bool,
    suppressed: bool,
    /// Records read, headers of users, and whether the console's other end was lost.
    pub(crate) counts: Counts,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were looked at.
    pub records: u64,
    /// Headers in records that a user may have written.
    pub untrusted_headers: u64,
    /// Reports.
    pub reports: u64,
    /// Gaps.
    pub gaps: u64,
    /// The virtual machine's console broke.
    pub console_lost: bool,
    /// The log has a panic.
    pub panicked: bool,
    /// A program of the test harness ran out of memory.
    pub suppressed: bool,
}

impl Assembler {
    /// Starts with nothing open.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Tells whether no report is open: then only lines that the scan picks matter.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.foretold.is_empty()
    }

    /// Takes in one record. `marked`: it has one of the scanner's texts.
    pub fn take(&mut self, record: &Record<'_>, marked: bool, out: &mut Vec<Item>) {
        self.counts.records += 1;
        self.follow_sequence(record, out);
        let line = record.line();
        let strict = record.provenance == Provenance::Record;
        let may = marked.then(|| scan::look(line));
        let header = may.and_then(|may| header::find_among(line, may.headers, strict));
        if record.is_from_user() {
            self.counts.untrusted_headers += u64::from(header.is_some());
            return;
        }
        if may.is_some_and(|may| self.take_note(record, line, may, out)) {
            return;
        }
        self.close_quiet(record, out);
        if header.is_some() || !self.is_idle() {
            let turns = may.map_or(0, |may| may.turns);
            let printed = record.context != Context::Bare;
            let shown = Shown::of(line, marked, turns, printed);
            self.append(record, line, shown, header);
            if let Some(header) = header {
                self.open(record, line, shown, header, out);
            }
        }
        self.last_was_header = header.is_some();
        self.close_full(out);
    }

    /// Counts what lies between two record numbers.
    fn follow_sequence(&mut self, record: &Record<'_>, out: &mut Vec<Item>) {
        if record.boot.is_some() && record.boot != self.boot {
            if self.boot.is_some() {
                self.close_all(out);
                self.seen_in_boot = false;
                self.last_sequence = None;
            }
            self.boot = record.boot;
        }
        let Some(sequence) = record.sequence else {
            return;
        };
        if let Some(last) = self.last_sequence
            && sequence > last + 1
        {
            let missing = sequence - last - 1;
            self.gap(GapReason::Overwritten, missing, record, out);
        }
        self.last_sequence = Some(sequence);
    }

    /// Notes that records are missing.
    pub fn gap(
        &mut self,
        reason: GapReason,
        records: u64,
        record: &Record<'_>,
        out: &mut Vec<Item>,
    ) {
        for open in self.open.iter_mut().chain(&mut self.foretold) {
            open.report.dropped += records.max(1);
        }
        self.counts.gaps += 1;
        out.push(Item::Gap(Gap {
            reason,
            records,
            bytes: (record.start, record.end),
            sequence: record.sequence,
        }));
    }

    /// Lines that are no part of a report; returns whether the line is used up.
    fn take_note(
        &mut self,
        record: &Record<'_>,
        line: &[u8],
        may: May,
        out: &mut Vec<Item>,
    ) -> bool {
        match may.note.then(|| note(line)).flatten() {
            Some(Note::Replayed) => {
                self.forget_last();
                return true;
            }
            Some(Note::NewBoot) => {
                self.close_all(out);
                self.seen_in_boot = false;
            }
            Some(Note::Dropped(count)) => {
                self.gap(GapReason::Dropped, count, record, out);
                return true;
            }
            Some(Note::ConsoleLost) => self.counts.console_lost = true,
            Some(Note::Suppressed) => {
                self.suppressed = true;
                self.counts.suppressed = true;
            }
            Some(Note::StackOfOther) => {
                for open in &mut self.open {
                    open.freeze();
                }
            }
            Some(Note::Incident(kind)) => out.push(Item::Incident(Incident {
                kind,
                bytes: (record.start, record.end),
                sequence: record.sequence,
                time_us: record.time_us,
            })),
            None => {}
        }
        if !may.event {
            return false;
        }
        let text = String::from_utf8_lossy(line);
        let Some(said) = event::read(&text) else {
            return false;
        };
        out.push(Item::Event(Event {
            kind: said.kind,
            module: said.module.map(ToOwned::to_owned),
            object: said.object.map(ToOwned::to_owned),
            errno: event::errno(&text),
            text: text.clone().into_owned(),
            bytes: (record.start, record.end),
            sequence: record.sequence,
            time_us: record.time_us,
            provenance: record.provenance,
        }));
        // One line of the core's says it all. What the loader says of other modules is no matter
        // of livepatches.
        if said.kind.is_failure() && line.starts_with(b"livepatch: ") {
            let report = self.failure(record, line);
            self.counts.reports += 1;
            out.push(Item::Report(Box::new(report)));
            return true;
        }
        false
    }

    fn failure(&mut self, record: &Record<'_>, line: &[u8]) -> Report {
        let header = report::header_text(line, 0);
        let title = report::clean_title(line);
        let class = Class::LivepatchError;
        let fingerprint = report::fingerprint::of_title(class, &title);
        let first_in_boot = !self.seen_in_boot;
        self.seen_in_boot = true;
        Report {
            first_in_boot,
            suppressed: self.suppressed,
            header,
            title,
            fingerprint_coarse: fingerprint.clone(),
            fingerprint,
            ..blank(record, class)
        }
    }

    /// The console prints again what it had cut: a header on the line before was none.
    fn forget_last(&mut self) {
        if !self.last_was_header {
            return;
        }
        self.last_was_header = false;
        if self.open.last().is_some_and(|open| open.lines == 1)
            && let Some(open) = self.open.pop()
        {
            self.give_room(open.text);
        }
        for open in &mut self.open {
            if open.frozen_by_last {
                open.frozen = false;
                open.frozen_by_last = false;
                open.own = None;
            }
        }
    }

    fn append(&mut self, record: &Record<'_>, line: &[u8], shown: Shown, header: Option<Header>) {
        let opens = header.is_some_and(|header| header.standing == Standing::Alone);
        for open in self.open.iter_mut().chain(&mut self.foretold) {
            open.frozen_by_last = false;
            if opens && !open.frozen {
                open.freeze();
                open.frozen_by_last = true;
            }
            if opens && (open.report.context == record.context || !open.report.context.is_told()) {
                let before = (open.text.all().len(), open.text.told().len());
                open.own.get_or_insert(before);
            }
            let ours = open.report.context == record.context
                || (open.all_cpus && matches!(record.context, Context::Cpu(_)));
            open.others = if ours { 0 } else { open.others + 1 };
            if ours {
                open.add(record, line, shown);
                if let Some(header) = header
                    && header.standing == Standing::Inside
                {
                    open.raise(header.class);
                }
            }
        }
    }

    fn open(
        &mut self,
        record: &Record<'_>,
        line: &[u8],
        shown: Shown,
        header: Header,
        out: &mut Vec<Item>,
    ) {
        let same = |open: &Open| open.report.context == record.context;
        match header.standing {
            Standing::Before => {
                // `cut here` says nothing of its own: the line behind it does.
                let cut_here = |open: &Open| same(open) && open.header.class == Class::Warn;
                while let Some(index) = self.foretold.iter().position(cut_here) {
                    let before = self.foretold.remove(index);
                    self.give_room(before.text);
                }
                let known = self.foretold.iter().any(same);
                if !known && self.foretold.len() < self.limits.open {
                    let open = self.start(record, line, shown, header);
                    self.foretold.push(open);
                }
                return;
            }
            Standing::Inside => {
                if let Some(index) = self.foretold.iter().position(same) {
                    let mut open = self.foretold.remove(index);
                    if open.header.class == Class::Warn {
                        self.give_room(open.text);
                        let new = self.start(record, line, shown, header);
                        self.admit(new, out);
                    } else {
                        open.raise(header.class);
                        self.admit(open, out);
                    }
                    return;
                }
                if self.open.iter().any(same) {
                    return;
                }
            }
            Standing::Alone => {}
        }
        let mut open = self.start(record, line, shown, header);
        // What follows may be the rest of the one before: nothing tells whose it is.
        if !record.context.is_told() {
            for before in self
                .open
                .iter_mut()
                .filter(|open| same(open) && !open.is_complete())
            {
                before.report.interleaved = true;
                open.report.interleaved = true;
            }
        }
        if let Some(index) = self.foretold.iter().position(same) {
            let before = self.foretold.remove(index);
            if before.header.class != Class::Warn {
                open.report.detail = before
                    .text
                    .all()
                    .iter()
                    .next()
                    .map(|line| String::from_utf8_lossy(line).trim().to_owned());
                open.class = match before.header.class {
                    Class::BadAccess => None,
                    class => Some(class),
                };
                open.report.dropped += before.report.dropped;
                open.raise(before.header.class);
            }
            self.give_room(before.text);
        }
        self.admit(open, out);
    }

    /// Adds an open report, within the bounds.
    fn admit(&mut self, open: Open, out: &mut Vec<Item>) {
        let context = open.report.context;
        let same = |open: &Open| open.report.context == context;
        while self.open.iter().filter(|open| same(open)).count() >= NESTED {
            let Some(oldest) = self.open.iter().position(same) else {
                break;
            };
            self.close(oldest, out);
        }
        while self.open.len() >= self.limits.open {
            self.close_cut(0, out);
        }
        self.open.push(open);
        while self.open.len() > 1 && self.held() > self.limits.budget {
            self.close_cut(0, out);
        }
    }

    fn held(&self) -> usize {
        self.open.iter().map(|open| open.text.bytes()).sum()
    }

    fn start(&mut self, record: &Record<'_>, line: &[u8], shown: Shown, header: Header) -> Open {
        let text = self.rooms.pop().unwrap_or_default();
        let mut open = Open::new(record, line, shown, header, text);
        open.report.suppressed = self.suppressed;
        open
    }
}

#[cfg(test)]
mod tests;
