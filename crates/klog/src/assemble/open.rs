//! A report whose lines still come.

use super::shown::{ALL_CPUS, ANOTHER, ASIDE, Shown, is_outermost};
use crate::record::Record;
use crate::report::header::Header;
use crate::report::{Body, Class, Draft, Report, Severity, Standing, Text};

/// An open report.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) header: Header,
    pub(super) text: Text,
    pub(super) sequences: Vec<u64>,
    pub(super) report: Report,
    /// What a line before the header says it is about.
    pub(super) class: Option<Class>,
    pub(super) severity: Severity,
    pub(super) end: usize,
    /// Lines until another report of its context began, or of any where nothing tells them apart.
    pub(super) own: Option<(usize, usize)>,
    pub(super) frozen: bool,
    pub(super) frozen_by_last: bool,
    pub(super) lines: usize,
    pub(super) skipping: bool,
    pub(super) all_cpus: bool,
    pub(super) panic_after: usize,
    pub(super) plain: u32,
    pub(super) ended: bool,
    /// It was told of ahead of its end.
    pub(super) foreseen: bool,
    pub(super) frames: bool,
    /// The last line, where it is a frame.
    pub(super) last_frame: Vec<u8>,
    pub(super) last_us: Option<u64>,
    /// Lines of others since the last of its own.
    pub(super) others: u32,
}

impl Open {
    /// Opens a report with the line of its header.
    pub(super) fn new(
        record: &Record<'_>,
        line: &[u8],
        shown: Shown,
        header: Header,
        text: Text,
    ) -> Self {
        let kmsan = memchr::memmem::find(line, b"BUG: KMSAN:").is_some();
        let mut open = Self {
            header,
            text,
            sequences: Vec::new(),
            report: blank(record, header.class),
            class: None,
            severity: Severity::Notice,
            end: 0,
            own: None,
            frozen: false,
            frozen_by_last: false,
            lines: 1,
            skipping: false,
            all_cpus: false,
            // KMSAN's reports lack what others have before their stack.
            panic_after: if kmsan { 16 } else { 22 },
            plain: 0,
            ended: false,
            foreseen: false,
            frames: false,
            last_frame: Vec::new(),
            last_us: record.time_us,
            others: 0,
        };
        if header.standing == Standing::Inside {
            open.raise(header.class);
        }
        open.keep(record, line, shown, true);
        open
    }

    /// What follows belongs to another report.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Tells whether its stack came to an end.
    pub(super) fn is_complete(&self) -> bool {
        let over = self.last_frame.is_empty() || is_outermost(&self.last_frame);
        self.ended || (self.frames && over)
    }

    /// Makes it as bad as something of this class, which stands inside it.
    pub(super) fn raise(&mut self, class: Class) {
        self.severity = self.severity.max(class.severity());
        if class == Class::Panic {
            self.report.panicked = true;
        }
        if matches!(class, Class::Panic | Class::DoubleFault) {
            self.report.fatal = true;
        }
    }

    /// Adds a line of its own.
    #[inline]
    pub(super) fn add(&mut self, record: &Record<'_>, line: &[u8], shown: Shown) {
        if shown.guess {
            self.keep(record, line, shown, false);
            self.plain = 0;
            return;
        }
        self.lines += 1;
        let mut skip = self.skipping;
        if shown.turns & ASIDE != 0 {
            skip = true;
        } else if shown.turns & ALL_CPUS != 0 {
            self.all_cpus = true;
        } else if self.lines > self.panic_after && shown.turns & ANOTHER != 0 {
            // From here on it is the panic's own stack, or a lock taken while printing.
            self.skipping = true;
            skip = true;
        }
        if shown.part {
            self.plain = 0;
        } else {
            self.plain += 1;
        }
        self.ended |= line.starts_with(b"---[ end ");
        if !self.frozen {
            self.frames |= shown.frame;
            self.last_frame.clear();
            if shown.frame {
                self.last_frame
                    .extend_from_slice(line.get(..64).unwrap_or(line));
            }
        }
        self.keep(record, line, shown, !skip);
    }

    #[inline]
    fn keep(&mut self, record: &Record<'_>, line: &[u8], shown: Shown, told: bool) {
        const LINE: usize = 16 * 1024;
        self.text
            .push(line.get(..LINE).unwrap_or(line), shown.facts, told);
        if let Some(sequence) = record.sequence {
            self.sequences.push(sequence);
            if let Some((_, last)) = &mut self.report.sequence
                && self.own.is_none()
            {
                *last = (*last).max(sequence);
            }
        }
        // A frozen report goes on being checked for its stack, but is not named by what follows;
        // where the transport tells callers apart, these lines are its own all the same.
        if !self.frozen || self.report.context.is_told() {
            self.end = self.text.told().len();
        }
        if self.plain == 0 && self.own.is_none() {
            self.report.bytes.1 = record.end;
        }
        self.last_us = record.time_us.or(self.last_us);
    }

    /// Names the report; gives the room its lines took back.
    pub(super) fn finish(self, keep_text: bool) -> (Report, Text) {
        let report = self.name(self.report.clone(), keep_text);
        (report, self.text)
    }

    /// What the report would be if no more lines came.
    pub(super) fn foresee(&self) -> Report {
        self.name(self.report.clone(), false)
    }

    fn name(&self, report: Report, keep_text: bool) -> Report {
        Draft {
            family: self.header.family,
            at: self.header.at,
            class: self.class,
            end: self.end,
            own: self.own.map_or(usize::MAX, |(all, _)| all),
            own_told: self.own.map_or(usize::MAX, |(_, told)| told),
            lines: &self.text,
            sequences: &self.sequences,
            severity: self.severity,
            keep_text,
            report,
        }
        .finish()
    }
}

/// A report of which only the place is known.
pub(super) fn blank(record: &Record<'_>, class: Class) -> Report {
    Report {
        bytes: (record.start, record.end),
        sequence: record.sequence.map(|sequence| (sequence, sequence)),
        boot: record.boot,
        time_us: record.time_us,
        wall_us: record.wall_us,
        provenance: record.provenance,
        context: record.context,
        class,
        severity: class.severity(),
        header: String::new(),
        title: String::new(),
        alt: Vec::new(),
        kind: "",
        frame: None,
        detail: None,
        corrupted: None,
        suppressed: false,
        panicked: false,
        fatal: false,
        first_in_boot: false,
        truncated: false,
        dropped: 0,
        interleaved: false,
        guilty: None,
        guilty_sequence: None,
        body: Body::default(),
        frame_sequences: Vec::new(),
        fingerprint: String::new(),
        fingerprint_coarse: String::new(),
        text: String::new(),
    }
}
