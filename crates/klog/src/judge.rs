//! From a log to what it says: reports, livepatch events, and a verdict for each module.

use std::collections::BTreeMap;

use crate::event::{self, Direction, Kind};
use crate::header::{self, Class, Severity};
use crate::record::{self, Provenance, Record};

/// Reports kept; what comes beyond is judged too, but only counted in
/// [`Judgement::reports_dropped`].
pub const REPORT_LIMIT: usize = 256;
/// Events kept; what comes beyond is counted in [`Judgement::events_dropped`].
pub const EVENT_LIMIT: usize = 4096;
/// Frames kept of one report.
pub const FRAME_LIMIT: usize = 128;
/// Records after its header that can still belong to a report.
const REPORT_SPAN: u64 = 1024;
const TITLE_LIMIT: usize = 240;

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

/// One function of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function's name.
    pub function: String,
    /// The module it lies in; none for the kernel image.
    pub module: Option<String>,
    /// Whether the unwinder stands by it.
    pub reliable: bool,
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

/// Where a livepatch stands, by the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The log has no line that settles it.
    Unknown,
    /// Taken on by the kernel.
    Loading,
    /// On its way in.
    Transition,
    /// On its way in or out, and tasks had to be signalled.
    Stalled,
    /// In force.
    Applied,
    /// On its way out.
    Removing,
    /// Out again.
    Removed,
    /// Never came into force.
    Failed,
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
    /// One verdict for each module asked about, in the order given.
    pub modules: Vec<ModuleVerdict>,
    /// Records read.
    pub records: u64,
    /// Records lost on the way, by the kernel's numbers.
    pub missing: u64,
    /// Headers in records a user may have written: never evidence.
    pub untrusted_headers: u64,
}

impl Judgement {
    /// Returns the worst severity above a notice, or none when the log is clean.
    pub fn worst(&self) -> Option<Severity> {
        self.reports
            .iter()
            .map(|report| report.severity)
            .filter(|severity| *severity > Severity::Notice)
            .max()
    }
}

/// Reads a whole log and judges the livepatches called `modules`.
///
/// Memory is bounded by the limits above whatever the input; the log is read once, in order. Never
/// fails: what cannot be read as a record is read as bare text.
pub fn judge(log: &[u8], modules: &[&str]) -> Judgement {
    let mut reader = Reader::new(modules);
    for record in record::records(log) {
        reader.read(&record);
    }
    reader.judgement
}

/// Where a report is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the list.
    Listed(usize),
    /// Beyond the limit: in the scratch, until the next one comes.
    Scratch,
}

/// The report whose lines are being read.
struct Open {
    place: Place,
    /// Records read since its header.
    span: u64,
    caller: Option<String>,
}

struct Reader {
    judgement: Judgement,
    places: BTreeMap<String, usize>,
    open: Option<Open>,
    /// The newest report beyond the limit. A flood of complaints must not hide the one that counts.
    scratch: Option<Report>,
    last_sequence: Option<u64>,
}

impl Reader {
    fn new(modules: &[&str]) -> Self {
        let verdicts = modules
            .iter()
            .map(|module| ModuleVerdict {
                module: (*module).to_owned(),
                state: State::Unknown,
                verdict: Verdict::Innocent,
                reports: Vec::new(),
                because: None,
            })
            .collect();
        Self {
            judgement: Judgement {
                modules: verdicts,
                ..Judgement::default()
            },
            places: modules
                .iter()
                .enumerate()
                .map(|(place, module)| ((*module).to_owned(), place))
                .collect(),
            open: None,
            scratch: None,
            last_sequence: None,
        }
    }

    fn read(&mut self, record: &Record<'_>) {
        self.judgement.records += 1;
        self.count_missing(record);
        let strict = record.provenance == Provenance::Record;
        let header = header::find(&record.text, strict);
        if record.is_from_user() {
            self.judgement.untrusted_headers += u64::from(header.is_some());
            return;
        }
        if let Some(said) = event::read(&record.text) {
            self.take_event(record, &said);
            if said.kind.is_failure() {
                let class = if record.text.contains("relocation") {
                    Class::ModuleRelocation
                } else {
                    Class::LivepatchError
                };
                let report = self.open_report(record, class, 0);
                if let Some(module) = said.module {
                    self.accuse(module, Verdict::Guilty, report);
                }
                // One line says it all: what follows is not its stack.
                self.open = None;
                return;
            }
        }
        if let Some(header) = header {
            let inside = header.continues
                && self
                    .open
                    .as_ref()
                    .is_some_and(|open| same_context(open, record));
            if inside {
                self.raise(header.class);
            } else {
                self.open_or_merge(record, header);
                return;
            }
        }
        self.read_body(record);
    }

    fn count_missing(&mut self, record: &Record<'_>) {
        let Some(sequence) = record.sequence else {
            return;
        };
        if let Some(last) = self.last_sequence {
            self.judgement.missing += sequence.saturating_sub(last.saturating_add(1));
        }
        self.last_sequence = Some(sequence);
    }

    /// `cut here` and the line that says why come before the real header: one report, not three.
    fn open_or_merge(&mut self, record: &Record<'_>, header: header::Header) {
        let preamble = self
            .open
            .as_ref()
            .filter(|open| open.span < 8 && same_context(open, record))
            .map(|open| open.place);
        if let Some(report) = preamble.and_then(|place| self.report_mut(place)) {
            let is_cut = report.title.starts_with("------------[ cut here");
            let said_why = matches!(
                report.class,
                Class::ListCorruption
                    | Class::Refcount
                    | Class::Fortify
                    | Class::Usercopy
                    | Class::FtraceBug
                    | Class::Cfi
            );
            let names_it = matches!(
                header.class,
                Class::Warn | Class::Bug | Class::BadAccess | Class::InvalidOpcode
            );
            if is_cut || (said_why && names_it && report.frames.is_empty()) {
                let title = title_of(&record.text, header.at);
                if is_cut {
                    report.class = header.class;
                    report.title = title;
                }
                report.severity = report.severity.max(header.class.severity());
                return;
            }
        }
        self.open_report(record, header.class, header.at);
    }

    fn report(&self, place: Place) -> Option<&Report> {
        match place {
            Place::Listed(index) => self.judgement.reports.get(index),
            Place::Scratch => self.scratch.as_ref(),
        }
    }

    fn report_mut(&mut self, place: Place) -> Option<&mut Report> {
        match place {
            Place::Listed(index) => self.judgement.reports.get_mut(index),
            Place::Scratch => self.scratch.as_mut(),
        }
    }

    fn open_report(&mut self, record: &Record<'_>, class: Class, at: usize) -> Place {
        let report = Report {
            class,
            severity: class.severity(),
            title: title_of(&record.text, at),
            line: record.line,
            offset: record.offset,
            sequence: record.sequence,
            time_us: record.time_us,
            provenance: record.provenance,
            ip: frame_in_header(&record.text),
            frames: Vec::new(),
        };
        let place = if self.judgement.reports.len() < REPORT_LIMIT {
            self.judgement.reports.push(report);
            Place::Listed(self.judgement.reports.len() - 1)
        } else {
            self.judgement.reports_dropped += 1;
            self.scratch = Some(report);
            Place::Scratch
        };
        self.open = Some(Open {
            place,
            span: 0,
            caller: record.caller.map(ToOwned::to_owned),
        });
        if class.severity() > Severity::Livepatch {
            self.suspect_all_moving(place);
        }
        self.accuse_by_frame(place);
        place
    }

    fn raise(&mut self, class: Class) {
        let place = self.open.as_ref().map(|open| open.place);
        if let Some(report) = place.and_then(|place| self.report_mut(place)) {
            report.severity = report.severity.max(class.severity());
        }
    }

    fn read_body(&mut self, record: &Record<'_>) {
        let Some(open) = &mut self.open else { return };
        if !same_context(open, record) {
            return;
        }
        open.span += 1;
        let place = open.place;
        let ends = record.text.starts_with("---[ end ") || open.span > REPORT_SPAN;
        if let Some(report) = self.report_mut(place) {
            if let Some(ip) = frame_on_ip_line(&record.text) {
                report.ip.get_or_insert(ip);
            } else if let Some(frame) = frame_of(&record.text)
                && report.frames.len() < FRAME_LIMIT
            {
                report.frames.push(frame);
            }
        }
        self.accuse_by_frame(place);
        if ends {
            self.open = None;
        }
    }

    fn accuse_by_frame(&mut self, place: Place) {
        let Some(report) = self.report(place) else {
            return;
        };
        let direct = report.ip.as_ref().and_then(|frame| frame.module.clone());
        // Only the newest frame can have changed anything.
        let indirect = report
            .frames
            .last()
            .filter(|frame| frame.reliable)
            .and_then(|frame| frame.module.clone());
        if let Some(module) = direct {
            self.accuse(&module, Verdict::Guilty, place);
        }
        if let Some(module) = indirect {
            self.accuse(&module, Verdict::Suspect, place);
        }
    }

    fn suspect_all_moving(&mut self, place: Place) {
        let title = self.report(place).map(|report| report.title.clone());
        for verdict in &mut self.judgement.modules {
            let found = match verdict.state {
                State::Loading | State::Transition | State::Stalled | State::Removing => {
                    Verdict::Suspect
                }
                State::Applied => Verdict::Unknown,
                State::Unknown | State::Removed | State::Failed => continue,
            };
            verdict.blame(found, place, title.as_deref());
        }
    }

    fn accuse(&mut self, module: &str, found: Verdict, place: Place) {
        let title = self.report(place).map(|report| report.title.clone());
        let verdict = self
            .places
            .get(module)
            .and_then(|place| self.judgement.modules.get_mut(*place));
        if let Some(verdict) = verdict {
            verdict.blame(found, place, title.as_deref());
        }
    }

    fn take_event(&mut self, record: &Record<'_>, said: &event::Said<'_>) {
        let named = said
            .module
            .and_then(|module| self.places.get(module))
            .copied();
        match named {
            Some(place) => {
                if let Some(verdict) = self.judgement.modules.get_mut(place) {
                    verdict.state = next_state(verdict.state, said.kind);
                }
            }
            // The kernel names no module here: it holds for whichever is in transition.
            None if said.kind == Kind::Stalled => {
                for verdict in &mut self.judgement.modules {
                    match verdict.state {
                        State::Transition | State::Removing => verdict.state = State::Stalled,
                        State::Unknown
                        | State::Loading
                        | State::Stalled
                        | State::Applied
                        | State::Removed
                        | State::Failed => {}
                    }
                }
            }
            None => {}
        }
        if self.judgement.events.len() < EVENT_LIMIT {
            self.judgement.events.push(Event {
                kind: said.kind,
                module: said.module.map(ToOwned::to_owned),
                object: said.object.map(ToOwned::to_owned),
                line: record.line,
                sequence: record.sequence,
                time_us: record.time_us,
            });
        } else {
            self.judgement.events_dropped += 1;
        }
    }
}

impl ModuleVerdict {
    /// Takes a report into account: the verdict only gets worse.
    fn blame(&mut self, found: Verdict, place: Place, title: Option<&str>) {
        if found > self.verdict {
            self.verdict = found;
            self.because = title.map(ToOwned::to_owned);
        }
        if let Place::Listed(index) = place
            && self.reports.last() != Some(&index)
        {
            self.reports.push(index);
        }
    }
}

fn next_state(before: State, kind: Kind) -> State {
    match kind {
        Kind::Enabling => State::Loading,
        Kind::Started(Direction::Patching) => State::Transition,
        Kind::Started(Direction::Unpatching) => State::Removing,
        Kind::Completed(Direction::Patching) => State::Applied,
        // `unpatching complete` also follows a module that never was applied.
        Kind::Completed(Direction::Unpatching) if before == State::Failed => State::Failed,
        Kind::Completed(Direction::Unpatching) => State::Removed,
        Kind::Stalled => State::Stalled,
        Kind::Failed | Kind::BuildFault => State::Failed,
        Kind::Forced | Kind::Applying | Kind::Reverting | Kind::RefusedLoad => before,
    }
}

fn same_context(open: &Open, record: &Record<'_>) -> bool {
    match (&open.caller, record.caller) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    }
}

fn title_of(text: &str, at: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut title = String::new();
    for c in line
        .get(at..)
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
    {
        if title.len() + c.len_utf8() > TITLE_LIMIT {
            break;
        }
        title.push(c);
    }
    title
}

/// `WARNING: CPU: 0 PID: 1 at file.c:1 f+0x1/0x2 [m]`: the frame stands in the header.
fn frame_in_header(text: &str) -> Option<Frame> {
    let start = text.find("WARNING: ")?;
    let rest = text.get(start..)?;
    let words: Vec<&str> = rest.split(' ').take(16).collect();
    let place = words.iter().position(|word| is_location(word))?;
    let module = words
        .get(place + 1)
        .and_then(|word| module_of(word.trim_end_matches(',')));
    named(words.get(place)?.trim_end_matches(','), module, true)
}

/// `RIP: 0010:f+0x1/0x2 [m]` and the other architectures' forms.
fn frame_on_ip_line(text: &str) -> Option<Frame> {
    let text = text.trim_start();
    let rest = ["RIP: 0010:", "EIP: ", "pc : ", "PC is at ", "epc : "]
        .iter()
        .find_map(|start| text.strip_prefix(start))?;
    frame_of(rest)
}

/// ` ? f+0x1/0x2 [m 0123…]`.
fn frame_of(text: &str) -> Option<Frame> {
    let text = text.trim();
    let (reliable, text) = match text.strip_prefix("? ") {
        Some(text) => (false, text),
        None => (true, text),
    };
    let mut words = text.split(' ');
    let location = words.next().filter(|word| is_location(word))?;
    let module = words.next().and_then(module_of);
    named(
        location,
        module,
        reliable && !text.ends_with("(unreliable)"),
    )
}

fn named(location: &str, module: Option<String>, reliable: bool) -> Option<Frame> {
    let (function, _) = location.split_once('+')?;
    Some(Frame {
        function: function.to_owned(),
        module,
        reliable,
    })
}

/// Tells whether `word` reads `name+0x1/0x2`.
fn is_location(word: &str) -> bool {
    let Some((name, rest)) = word.trim_end_matches(',').split_once('+') else {
        return false;
    };
    let number = |text: &str| {
        text.strip_prefix("0x").is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    !name.is_empty()
        && name.len() <= 511
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | ':' | '<' | '>'))
        && rest
            .split_once('/')
            .is_some_and(|(offset, size)| number(offset) && number(size))
}

/// `[m]`, or `[m` of `[m 0123…]`.
fn module_of(word: &str) -> Option<String> {
    let name = word.strip_prefix('[')?;
    let name = name.strip_suffix(']').unwrap_or(name);
    let fits = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
