//! One complaint of the kernel: what it is called, whom it points at, what it says.

mod body;
mod class;
mod clean;
mod families;
pub(crate) mod fingerprint;
mod frame;
pub mod header;
mod kind;
mod lines;
mod marks;
mod names;
mod pattern;
mod shape;
mod signs;
pub(crate) mod skip;
mod title;
mod walk;
mod whole;

pub use body::{Body, FRAME_LIMIT, Module, ModuleState};
pub use class::{Class, Severity};
pub(crate) use clean::title as clean_title;
pub(crate) use families::literals;
pub use frame::{Frame, Stack, read_frame};
pub(crate) use lines::{Facts, Text};
pub(crate) use marks::words;
pub(crate) use shape::Standing;
pub(crate) use signs::Signs;

use crate::record::{Context, Provenance};

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of the source, from its header's line to the end of its last line.
    pub bytes: (u64, u64),
    /// The kernel's record numbers, first and last.
    pub sequence: Option<(u64, u64)>,
    /// The boot it fell into, where the transport says so.
    pub boot: Option<[u8; 16]>,
    /// printk's clock at its header, in microseconds.
    pub time_us: Option<u64>,
    /// The time of day at its header, in microseconds since 1970, UTC.
    pub wall_us: Option<i64>,
    /// How far it can be believed.
    pub provenance: Provenance,
    /// Who printed it.
    pub context: Context,
    /// What it is about.
    pub class: Class,
    /// How bad it is.
    pub severity: Severity,
    /// Its header's line from the header on.
    pub header: String,
    /// What it is called; what differs each time is taken out.
    pub title: String,
    /// Other names of the same bug, sorted.
    pub alt: Vec<String>,
    /// A coarse word for what it is, by the title; empty where there is none.
    pub kind: &'static str,
    /// What follows the last ` in ` of the title.
    pub frame: Option<String>,
    /// The line before the header that says why.
    pub detail: Option<String>,
    /// Why all but the title is not to be trusted.
    pub corrupted: Option<&'static str>,
    /// A program's own end, not the kernel's fault.
    pub suppressed: bool,
    /// The kernel panicked within it.
    pub panicked: bool,
    /// The machine needs a reboot.
    pub fatal: bool,
    /// The first report of its boot.
    pub first_in_boot: bool,
    /// Cut at a limit.
    pub truncated: bool,
    /// Records lost inside it.
    pub dropped: u64,
    /// Another report's header stood between its lines, and nothing tells whose line is whose.
    pub interleaved: bool,
    /// The guilty function as its line has it.
    pub guilty: Option<Frame>,
    /// Record number of that line.
    pub guilty_sequence: Option<u64>,
    /// All that its lines say.
    pub body: Body,
    /// Record numbers of the frames in [`Body::frames`], where the transport has them.
    pub frame_sequences: Vec<u64>,
    /// Fingerprint over the stack.
    pub fingerprint: String,
    /// Fingerprint over the guilty function alone.
    pub fingerprint_coarse: String,
    /// Its lines, without prefixes.
    pub text: String,
}

/// What the parser knows of a report when it closes it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) family: usize,
    /// Where in its line the header begins.
    pub(crate) at: usize,
    /// What a line before the header says it is about.
    pub(crate) class: Option<Class>,
    pub(crate) lines: &'a Text,
    /// Lines up to where a foreign header stands.
    pub(crate) end: usize,
    /// All lines up to where the next report of the same context begins.
    pub(crate) own: usize,
    /// The same of the lines it is named by.
    pub(crate) own_told: usize,
    pub(crate) sequences: &'a [u64],
    pub(crate) severity: Severity,
    pub(crate) keep_text: bool,
    pub(crate) report: Report,
}

impl Draft<'_> {
    /// Names the report and reads what it says.
    pub(crate) fn finish(self) -> Report {
        let mut report = self.report;
        let mut body = Body::default();
        let own = self.lines.all().first(self.own);
        for (index, line) in own.iter().enumerate() {
            body.read(index, line, own.words(index));
        }
        let told = self.lines.told();
        report.header = header_text(told.get(0), self.at);
        if let Some(name) = title::name(self.family, self.lines, self.end) {
            report.class = self.class.unwrap_or(name.class);
            report.severity = report.class.severity().max(self.severity);
            report.kind = kind::of(&name.title);
            report.frame = title::frame(&name.title);
            report.corrupted = name.corrupted;
            // A name may come from the next report of the same caller; blame may not.
            let guilty = name
                .guilty
                .as_ref()
                .filter(|guilty| guilty.line.is_some_and(|line| line < self.own_told));
            let prints = fingerprint::make(
                report.class,
                &name.title,
                guilty.map(|guilty| guilty.raw.as_slice()),
                name.hangs,
                &body.frames,
            );
            report.fingerprint = prints.fine;
            report.fingerprint_coarse = prints.coarse;
            report.guilty = guilty.and_then(|guilty| {
                let line = told.get(guilty.line?);
                let found = frame::pointer(line)
                    .or_else(|| frame::parse(line))
                    .or_else(|| named_in(line, &guilty.raw));
                found.or_else(|| {
                    Some(Frame {
                        function: Some(String::from_utf8_lossy(&guilty.raw).into_owned()),
                        reliable: true,
                        ..Frame::default()
                    })
                })
            });
            report.title = name.title;
            report.alt = name.alt;
        }
        let sequence = |line: &usize| self.sequences.get(*line).copied();
        report.frame_sequences = body.frame_lines.iter().filter_map(sequence).collect();
        report.guilty_sequence = body.ip_line.as_ref().and_then(sequence);
        report.body = body;
        let kept = self
            .keep_text
            .then(|| self.lines.all().first(self.own).iter());
        for line in kept.into_iter().flatten() {
            report.text.push_str(&String::from_utf8_lossy(line));
            report.text.push('\n');
        }
        report
    }
}

/// Longest header kept.
const HEADER_LIMIT: usize = 240;

/// The header's own words, without control characters.
pub(crate) fn header_text(line: &[u8], at: usize) -> String {
    let rest = line.get(at..).unwrap_or_default();
    let visible = |byte: &u8| (0x20..0x7f).contains(byte);
    let head = rest.get(..HEADER_LIMIT).unwrap_or(rest);
    if let Ok(text) = std::str::from_utf8(head)
        && head.iter().all(visible)
    {
        return text.to_owned();
    }
    let mut text = String::new();
    for c in String::from_utf8_lossy(rest)
        .chars()
        .filter(|c| !c.is_control())
    {
        if text.len() + c.len_utf8() > HEADER_LIMIT {
            break;
        }
        text.push(c);
    }
    text
}

/// `WARNING: CPU: 0 PID: 1 at file.c:1 f+0x1/0x2 [m]`: the frame within a longer line.
fn named_in(line: &[u8], function: &[u8]) -> Option<Frame> {
    memchr::memmem::find_iter(line, function)
        .find_map(|at| frame::located(line.get(at..).unwrap_or_default()))
}
