//! What a log says.

use crate::event;
use crate::record::Provenance;
use crate::report::Report;

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

/// Something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What happened to it.
    pub reason: GapReason,
    /// How many records, where known.
    pub records: u64,
    /// Bytes of the source: of the first record behind the gap, or of what could not be read.
    pub bytes: (u64, u64),
    /// Record number of the first record behind it.
    pub sequence: Option<u64>,
}

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The kernel's buffer was overwritten before it was read.
    Overwritten,
    /// The console was too slow.
    Dropped,
    /// journald says that it missed some.
    Missed,
    /// A part of a message did not arrive.
    FragmentLost,
    /// It is of no known form.
    Unparsed,
    /// It was longer than is read, or its text was left out by the writer.
    Cut,
}

impl GapReason {
    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overwritten => "overwritten",
            Self::Dropped => "dropped",
            Self::Missed => "missed",
            Self::FragmentLost => "fragment-lost",
            Self::Unparsed => "unparsed",
            Self::Cut => "cut",
        }
    }
}

/// Something that speaks against blaming a livepatch for what comes soon after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What happened.
    pub kind: IncidentKind,
    /// Bytes of the source.
    pub bytes: (u64, u64),
    /// The kernel's record number.
    pub sequence: Option<u64>,
    /// printk's clock, in microseconds.
    pub time_us: Option<u64>,
}

/// What happened beside the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// The machine reported an error of its own.
    Hardware,
    /// A task was killed for want of memory.
    OutOfMemory,
}
