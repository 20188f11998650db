//! The short question a loader asks: what does this piece of log say about the livepatch I just
//! loaded?
//!
//! Stricter than [`crate::blame`]: while a livepatch is new, a report that falls into its load or
//! transition, or has it on the stack, counts against it. The kernel without it is known to run.

use crate::assemble::{self, Item, Limits};
use crate::blame::{Blamer, Strength};
use crate::event::Kind;
use crate::parser::Parser;
use crate::patches::{Baseline, Patch, Patches};
use crate::record::Provenance;
pub use crate::report::Frame;
use crate::report::{Class, Severity};
pub use crate::timeline::State;
use crate::timeline::Timeline;
use crate::transport::pstore;

/// Reports kept; what comes beyond is judged too, but only counted in
/// [`Judgement::reports_dropped`].
pub const REPORT_LIMIT: usize = 256;
/// Events kept; what comes beyond is counted in [`Judgement::events_dropped`].
pub const EVENT_LIMIT: usize = 4096;
/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is about.
    pub class: Class,
    /// How bad it is.
    pub severity: Severity,
    /// Its header from the first word on, at most 240 bytes, without control characters.
    pub title: String,
    /// Line of the input, from 1.
    pub line: u64,
    /// Byte offset of that line.
    pub offset: u64,
    /// The kernel's record number, where known.
    pub sequence: Option<u64>,
    /// printk's clock, where known.
    pub time_us: Option<u64>,
    /// Whom to believe.
    pub provenance: Provenance,
    /// What stands on the instruction pointer's line.
    pub ip: Option<Frame>,
    /// Functions of the call trace, innermost first.
    pub frames: Vec<Frame>,
}

/// One livepatch event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// The livepatch, where the message names it.
    pub module: Option<String>,
    /// The patched object, where the message names it.
    pub object: Option<String>,
    /// Line of the input, from 1.
    pub line: u64,
    /// The kernel's record number, where known.
    pub sequence: Option<u64>,
    /// printk's clock, where known.
    pub time_us: Option<u64>,
}

/// What the log says about a livepatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No report since it was taken on.
    Innocent,
    /// There are reports; nothing ties them to it.
    Unknown,
    /// One of its frames is on a stack, or a report fell into its load or transition.
    Suspect,
    /// The instruction that failed is its own, or the kernel refused it.
    Guilty,
}

/// The verdict for one livepatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleVerdict {
    /// The livepatch.
    pub module: String,
    /// Where it stands.
    pub state: State,
    /// What the log says about it.
    pub verdict: Verdict,
    /// Indices into [`Judgement::reports`] that led there.
    pub reports: Vec<usize>,
    /// Title of the first report that led to the verdict; also where that report was beyond
    /// [`REPORT_LIMIT`].
    pub because: Option<String>,
}

/// Everything one log says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Complaints in order.
    pub reports: Vec<Report>,
    /// Complaints beyond [`REPORT_LIMIT`].
    pub reports_dropped: u64,
    /// Livepatch events in order.
    pub events: Vec<Event>,
    /// Events beyond [`EVENT_LIMIT`].
    pub events_dropped: u64,
    /// One verdict for each module asked about, in that order.
    pub modules: Vec<ModuleVerdict>,
    /// Records read.
    pub records: u64,
    /// Records missing between those read, by their numbers.
    pub missing: u64,
    /// Headers in records that a user may have written: not looked at any further.
    pub untrusted_headers: u64,
}

impl Judgement {
    /// Returns how bad the worst report is.
    pub fn worst(&self) -> Option<Severity> {
        self.reports.iter().map(|report| report.severity).max()
    }
}

/// Reads `log`, as `/dev/kmsg` gives it, and says what it says about `modules`.
pub fn judge(log: &[u8], modules: &[&str]) -> Judgement {
    judge_as(Parser::new(Limits::default()), log, modules)
}

/// Reads what was kept of a log over a crash: parts of pstore in any order, or text of any form that
/// [`crate::transport`] tells apart.
pub fn judge_kept(log: &[u8], modules: &[&str]) -> Judgement {
    let joined = pstore::join(log);
    judge_as(Parser::detecting(Limits::default()), &joined, modules)
}

fn judge_as(mut parser: Parser, log: &[u8], modules: &[&str]) -> Judgement {
    let mut judge = Judge::new(modules);
    let mut items = Vec::new();
    for piece in log.chunks(PIECE) {
        parser.push(piece, &mut items);
        items.drain(..).for_each(|item| judge.take(&item));
    }
    parser.finish(&mut items);
    items.drain(..).for_each(|item| judge.take(&item));
    let counts = parser.counts();
    let mut judgement = judge.judgement;
    judgement.records = counts.records;
    judgement.untrusted_headers = counts.untrusted_headers;
    number_lines(&mut judgement, log);
    judgement
}

struct Judge {
    judgement: Judgement,
    timelines: Vec<Timeline>,
    blamer: Blamer,
}

impl Judge {
    fn new(modules: &[&str]) -> Self {
        let verdict = |module: &&str| ModuleVerdict {
            module: (*module).to_owned(),
            state: State::Unknown,
            verdict: Verdict::Innocent,
            reports: Vec::new(),
            because: None,
        };
        let patch = |module: &&str| Patch {
            name: (*module).to_owned(),
            ours: true,
            ..Patch::default()
        };
        let patches = Patches {
            modules: modules.iter().map(patch).collect(),
            ..Patches::default()
        };
        Self {
            judgement: Judgement {
                modules: modules.iter().map(verdict).collect(),
                ..Judgement::default()
            },
            timelines: modules.iter().map(|module| Timeline::new(module)).collect(),
            blamer: Blamer::new(patches, Baseline::default()),
        }
    }

    fn take(&mut self, item: &Item) {
        let findings = self.blamer.take(item);
        match item {
            Item::Gap(gap) => self.judgement.missing += gap.records,
            Item::Incident(_) => {}
            Item::Event(event) => self.take_event(event),
            // The event's own line is the report.
            Item::Report(report) if report.class == Class::LivepatchError => {}
            Item::Report(report) => {
                let index = self.list(Report {
                    class: report.class,
                    severity: report.severity,
                    title: report.header.clone(),
                    line: 0,
                    offset: report.bytes.0,
                    sequence: report.sequence.map(|(first, _)| first),
                    time_us: report.time_us,
                    provenance: report.provenance,
                    ip: report.body.ip.clone(),
                    frames: report.body.frames.clone(),
                });
                for place in 0..self.timelines.len() {
                    let strongest = self
                        .judgement
                        .modules
                        .get(place)
                        .and_then(|module| {
                            findings
                                .iter()
                                .find(|finding| finding.module == module.module)
                        })
                        .and_then(|finding| finding.evidence.first())
                        .map(|evidence| evidence.strength);
                    let state = self
                        .timelines
                        .get(place)
                        .map_or(State::Unknown, |timeline| timeline.state_at(report.bytes.0));
                    let told = report.severity > Severity::Livepatch;
                    let found = match strongest {
                        Some(Strength::Direct) => Some(Verdict::Guilty),
                        Some(Strength::Indirect) => Some(Verdict::Suspect),
                        Some(Strength::Weak | Strength::Against) | None if !told => None,
                        Some(Strength::Weak | Strength::Against) | None if state.is_moving() => {
                            Some(Verdict::Suspect)
                        }
                        Some(Strength::Weak | Strength::Against) | None => {
                            (state == State::Applied).then_some(Verdict::Unknown)
                        }
                    };
                    if let Some(found) = found {
                        self.accuse(place, found, index, &report.header);
                    }
                }
            }
        }
    }

    fn take_event(&mut self, event: &assemble::Event) {
        let named = event.module.as_ref().and_then(|name| {
            self.timelines
                .iter()
                .position(|known| known.module == *name)
        });
        for (place, timeline) in self.timelines.iter_mut().enumerate() {
            // The kernel names nobody when it signals tasks: it holds for what is in transition.
            if named == Some(place) || (event.module.is_none() && event.kind == Kind::Stalled) {
                timeline.step(event);
            }
            if let Some(module) = self.judgement.modules.get_mut(place) {
                module.state = timeline.state();
            }
        }
        if event.kind.is_failure() {
            let class = if event.text.contains("relocation") {
                Class::ModuleRelocation
            } else {
                Class::LivepatchError
            };
            let title = event.text.clone();
            let index = self.list(Report {
                class,
                severity: class.severity(),
                title: title.clone(),
                line: 0,
                offset: event.bytes.0,
                sequence: event.sequence,
                time_us: event.time_us,
                provenance: event.provenance,
                ip: None,
                frames: Vec::new(),
            });
            if let Some(place) = named {
                self.accuse(place, Verdict::Guilty, index, &title);
            }
        }
        if self.judgement.events.len() < EVENT_LIMIT {
            self.judgement.events.push(Event {
                kind: event.kind,
                module: event.module.clone(),
                object: event.object.clone(),
                line: event.bytes.0,
                sequence: event.sequence,
                time_us: event.time_us,
            });
        } else {
            self.judgement.events_dropped += 1;
        }
    }

    /// Keeps a report within the limit; returns its index if it is kept.
    fn list(&mut self, report: Report) -> Option<usize> {
        if self.judgement.reports.len() >= REPORT_LIMIT {
            self.judgement.reports_dropped += 1;
            return None;
        }
        self.judgement.reports.push(report);
        Some(self.judgement.reports.len() - 1)
    }

    /// The verdict only gets worse. A flood of complaints must not hide the one that counts.
    fn accuse(&mut self, place: usize, found: Verdict, index: Option<usize>, title: &str) {
        let Some(module) = self.judgement.modules.get_mut(place) else {
            return;
        };
        if found > module.verdict {
            module.verdict = found;
            module.because = Some(title.to_owned());
        }
        module.reports.extend(index);
    }
}

/// Puts line numbers where byte offsets stand.
fn number_lines(judgement: &mut Judgement, log: &[u8]) {
    let mut wanted: Vec<&mut u64> = Vec::new();
    for report in &mut judgement.reports {
        report.line = report.offset;
        wanted.push(&mut report.line);
    }
    wanted.extend(judgement.events.iter_mut().map(|event| &mut event.line));
    wanted.sort_by_key(|offset| **offset);
    let (mut line, mut at) = (1_u64, 0_usize);
    for offset in wanted {
        let end = usize::try_from(*offset)
            .unwrap_or(usize::MAX)
            .min(log.len());
        let between = log.get(at..end).unwrap_or_default();
        line += memchr::memchr_iter(b'\n', between).count() as u64;
        at = end.max(at);
        *offset = line;
    }
}

#[cfg(test)]
mod tests;
