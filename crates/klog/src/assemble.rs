//! From records to reports: which line belongs to which complaint, and where one ends.

use crate::event;
use crate::record::Provenance;
use crate::report::header::{self, Header};
use crate::report::{self, Body, Class, Draft, Report, Severity, Standing, Text};
use crate::scan::{self, May};
use crate::transport::{Context, Record};

mod notes;

pub(crate) use notes::marks;
pub use notes::{Gap, GapReason, Incident, IncidentKind};
use notes::{Note, note};

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

/// What a log says, in the order it became certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A complaint, complete.
    Report(Box<Report>),
    /// A step in the life of a livepatch.
    Event(Event),
    /// Something that speaks against blaming a livepatch.
    Incident(Incident),
    /// Something is missing.
    Gap(Gap),
}

/// One livepatch event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: event::Kind,
    /// The livepatch, where the message names it.
    pub module: Option<String>,
    /// The patched object, where the message names it.
    pub object: Option<String>,
    /// The error number in the message.
    pub errno: Option<i32>,
    /// The message.
    pub text: String,
    /// Bytes of the source.
    pub bytes: (u64, u64),
    /// The kernel's record number.
    pub sequence: Option<u64>,
    /// printk's clock, in microseconds.
    pub time_us: Option<u64>,
    /// How far it can be believed.
    pub provenance: Provenance,
}

/// Reports of one context that are open at once: a third header ends the first.
const NESTED: usize = 2;
/// Lines a header may come behind the line that says why.
const FORETOLD: usize = 8;
/// Lines that look like no part of a report before it is over.
const PLAIN: u32 = 64;
/// The same behind a line that says it is over.
const PLAIN_ENDED: u32 = 16;
/// printk time without a line of the report before it is over.
const QUIET_US: u64 = 10_000_000;

/// Lines of other callers before a quiet report is over.
const OTHERS: u32 = 256;

/// Puts reports together.
#[derive(Debug, Default)]
pub struct Assembler {
    limits: Limits,
    open: Vec<Open>,
    /// Lines that say why a header should follow.
    foretold: Vec<Open>,
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

#[derive(Debug)]
struct Open {
    header: Header,
    text: Text,
    sequences: Vec<u64>,
    report: Report,
    /// What a line before the header says it is about.
    class: Option<Class>,
    severity: Severity,
    end: usize,
    /// Lines until another report of its context began, or of any where nothing tells them apart.
    own: Option<(usize, usize)>,
    frozen: bool,
    frozen_by_last: bool,
    lines: usize,
    skipping: bool,
    all_cpus: bool,
    panic_after: usize,
    plain: u32,
    ended: bool,
    frames: bool,
    /// The last line, where it is a frame.
    last_frame: Vec<u8>,
    last_us: Option<u64>,
    /// Lines of others since the last of its own.
    others: u32,
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
        self.append(record, line, header, marked);
        if let Some(header) = header {
            self.open(record, line, header, out);
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
        if self.open.last().is_some_and(|open| open.lines == 1) {
            self.open.pop();
        }
        for open in &mut self.open {
            if open.frozen_by_last {
                open.frozen = false;
                open.frozen_by_last = false;
                open.own = None;
            }
        }
    }

    fn append(&mut self, record: &Record<'_>, line: &[u8], header: Option<Header>, marked: bool) {
        let opens = header.is_some_and(|header| header.standing == Standing::Alone);
        let guess = record.context != Context::Bare && is_guess(line);
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
                open.add(record, line, guess, marked);
                if let Some(header) = header
                    && header.standing == Standing::Inside
                {
                    open.raise(header.class);
                }
            }
        }
    }

    fn open(&mut self, record: &Record<'_>, line: &[u8], header: Header, out: &mut Vec<Item>) {
        let same = |open: &Open| open.report.context == record.context;
        match header.standing {
            Standing::Before => {
                // `cut here` says nothing of its own: the line behind it does.
                self.foretold
                    .retain(|open| !(same(open) && open.header.class == Class::Warn));
                let known = self.foretold.iter().any(same);
                if !known && self.foretold.len() < self.limits.open {
                    let open = self.start(record, line, header);
                    self.foretold.push(open);
                }
                return;
            }
            Standing::Inside => {
                if let Some(index) = self.foretold.iter().position(same) {
                    let mut open = self.foretold.remove(index);
                    if open.header.class == Class::Warn {
                        let new = self.start(record, line, header);
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
        let mut open = self.start(record, line, header);
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

    fn start(&self, record: &Record<'_>, line: &[u8], header: Header) -> Open {
        let report = Report {
            suppressed: self.suppressed,
            ..blank(record, header.class)
        };
        let kmsan = memchr::memmem::find(line, b"BUG: KMSAN:").is_some();
        let mut open = Open {
            header,
            text: Text::default(),
            sequences: Vec::new(),
            report,
            class: None,
            severity: Severity::Notice,
            end: 0,
            own: None,
            frozen: false,
            frozen_by_last: false,
            lines: 0,
            skipping: false,
            all_cpus: false,
            // KMSAN's reports lack what others have before their stack.
            panic_after: if kmsan { 16 } else { 22 },
            plain: 0,
            ended: false,
            frames: false,
            last_frame: Vec::new(),
            last_us: record.time_us,
            others: 0,
        };
        if header.standing == Standing::Inside {
            open.raise(header.class);
        }
        open.add_header(record, line);
        open
    }

    /// The clocks of CPUs differ, and a console mixes old lines with new: where callers are told
    /// apart, it takes some lines of others beside the time.
    fn close_quiet(&mut self, record: &Record<'_>, out: &mut Vec<Item>) {
        let Some(now) = record.time_us else { return };
        let quiet = |open: &Open| {
            let late = open
                .last_us
                .is_some_and(|last| now > last.saturating_add(QUIET_US));
            late && (open.report.context == record.context || open.others >= OTHERS)
        };
        while let Some(index) = self.open.iter().position(quiet) {
            self.close(index, out);
        }
        while let Some(index) = self.foretold.iter().position(quiet) {
            self.give_up(index, out);
        }
    }

    fn close_full(&mut self, out: &mut Vec<Item>) {
        let limits = self.limits;
        let full = |open: &Open| {
            open.text.all().len() >= limits.lines || open.text.bytes() >= limits.bytes
        };
        if let Some(index) = self.open.iter().position(full) {
            self.close_cut(index, out);
        }
        let over = |open: &Open| open.plain >= if open.ended { PLAIN_ENDED } else { PLAIN };
        if let Some(index) = self.open.iter().position(over) {
            self.close(index, out);
        }
        let late = |open: &Open| open.lines > FORETOLD;
        if let Some(index) = self.foretold.iter().position(late) {
            self.give_up(index, out);
        }
    }

    /// No header followed what foretold one: where it says something itself, it is a report.
    fn give_up(&mut self, index: usize, out: &mut Vec<Item>) {
        let open = self.foretold.remove(index);
        if open.header.class != Class::Warn {
            self.admit(open, out);
        }
    }

    fn close_cut(&mut self, index: usize, out: &mut Vec<Item>) {
        if let Some(open) = self.open.get_mut(index) {
            open.report.truncated = true;
        }
        self.close(index, out);
    }

    fn close(&mut self, index: usize, out: &mut Vec<Item>) {
        let open = self.open.remove(index);
        self.counts.reports += 1;
        let mut report = Draft {
            family: open.header.family,
            at: open.header.at,
            class: open.class,
            end: open.end,
            own: open.own.map_or(usize::MAX, |(all, _)| all),
            own_told: open.own.map_or(usize::MAX, |(_, told)| told),
            lines: open.text,
            sequences: open.sequences,
            severity: open.severity,
            keep_text: self.limits.text,
            report: open.report,
        }
        .finish();
        report.first_in_boot = !self.seen_in_boot;
        report.suppressed |= self.suppressed;
        if self.counts.console_lost {
            report.corrupted.get_or_insert("the console was lost");
        }
        self.seen_in_boot = true;
        self.counts.panicked |= report.panicked;
        out.push(Item::Report(Box::new(report)));
    }

    /// Closes what is open: no more lines will come, or none for long enough.
    pub fn close_all(&mut self, out: &mut Vec<Item>) {
        while !self.foretold.is_empty() {
            self.give_up(0, out);
        }
        while !self.open.is_empty() {
            self.close(0, out);
        }
    }
}

impl Open {
    fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Tells whether its stack came to an end.
    fn is_complete(&self) -> bool {
        let over = self.last_frame.is_empty() || is_outermost(&self.last_frame);
        self.ended || (self.frames && over)
    }

    fn raise(&mut self, class: Class) {
        self.severity = self.severity.max(class.severity());
        if class == Class::Panic {
            self.report.panicked = true;
        }
        if matches!(class, Class::Panic | Class::DoubleFault) {
            self.report.fatal = true;
        }
    }

    fn add_header(&mut self, record: &Record<'_>, line: &[u8]) {
        self.lines = 1;
        self.keep(record, line, true);
    }

    fn add(&mut self, record: &Record<'_>, line: &[u8], guess: bool, marked: bool) {
        if guess {
            self.keep(record, line, false);
            self.plain = 0;
            return;
        }
        self.lines += 1;
        let mut skip = self.skipping;
        if marked {
            let has = |text: &[u8]| memchr::memmem::find(line, text).is_some();
            if has(b"Disabling lock debugging due to kernel taint") {
                skip = true;
            } else if has(b"Sending NMI from CPU") {
                self.all_cpus = true;
            } else if self.lines > self.panic_after
                && (has(b"Kernel panic - not syncing")
                    || has(b"WARNING: possible circular locking dependency detected"))
            {
                // From here on it is the panic's own stack, or a lock taken while printing.
                self.skipping = true;
                skip = true;
            }
        }
        if is_part(line) {
            self.plain = 0;
        } else {
            self.plain += 1;
        }
        self.ended |= line.starts_with(b"---[ end ");
        if !self.frozen {
            let frame = has_offset(line);
            self.frames |= frame;
            self.last_frame.clear();
            if frame {
                self.last_frame
                    .extend_from_slice(line.get(..64).unwrap_or(line));
            }
        }
        self.keep(record, line, !skip);
    }

    fn keep(&mut self, record: &Record<'_>, line: &[u8], told: bool) {
        const LINE: usize = 16 * 1024;
        self.text.push(line.get(..LINE).unwrap_or(line), told);
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
}

/// A report of which only the place is known.
fn blank(record: &Record<'_>, class: Class) -> Report {
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

/// A frame the unwinder only guesses at: ` ? ` on x86, unless an interrupt's border stands on its
/// line, ` (unreliable)` on ppc.
fn is_guess(line: &[u8]) -> bool {
    let question = memchr::memchr_iter(b'?', line)
        .any(|at| at > 0 && line.get(at - 1) == Some(&b' ') && line.get(at + 1) == Some(&b' '));
    (question || line.ends_with(b" (unreliable)")) && memchr::memmem::find(line, b"<EOI>").is_none()
}

/// Tells whether a line has a function's offset.
fn has_offset(line: &[u8]) -> bool {
    memchr::memchr_iter(b'+', line).any(|at| line.get(at + 1..at + 3) == Some(b"0x"))
}

/// Functions that nothing calls.
fn is_outermost(line: &[u8]) -> bool {
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

/// Tells whether a line looks like a part of a report: frames, registers, and their headings.
fn is_part(line: &[u8]) -> bool {
    match line.first() {
        None | Some(b' ' | b'\t' | b'-' | b'=') => true,
        Some(_) => {
            has_offset(line)
                || memchr::memchr(b':', line.get(..24).unwrap_or(line)).is_some_and(|at| {
                    line.get(..at).is_some_and(|name| {
                        PARTS.iter().any(|part| name.starts_with(part.as_bytes()))
                            || (name.len() <= 5 && name.iter().any(u8::is_ascii_digit))
                    })
                })
                || STARTS
                    .iter()
                    .any(|start| line.starts_with(start.as_bytes()))
        }
    }
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
