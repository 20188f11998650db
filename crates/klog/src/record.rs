//! One printk message, whatever transport it came by, and whom to believe.

use std::borrow::Cow;

/// Bytes of one line that are looked at; what a line holds beyond it is dropped. A printk record
/// holds about 1 KiB of text, four times that when every byte is escaped.
pub const LINE_LIMIT: usize = 16 * 1024;

/// How far the border and the origin of a record can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provenance {
    /// Bare text: user bytes with a newline in them look like a line of the kernel's.
    None,
    /// Text lines that carry the facility.
    Line,
    /// `/dev/kmsg` records: borders and facility are the kernel's own.
    Record,
}

/// The number a syslog priority is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// 0 = kernel; nothing written by a user gets it.
    pub facility: u32,
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
}

impl Priority {
    pub(crate) fn from_number(number: u32) -> Self {
        Self {
            facility: number / 8,
            level: u8::try_from(number % 8).unwrap_or(7),
        }
    }
}

/// Who printed a message, as far as the transport tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Context {
    /// The line has no prefix of printk's at all.
    Bare,
    /// printk's, but it does not say whose.
    Console,
    /// A task, by its number.
    Task(u32),
    /// A CPU in interrupt context, by its number.
    Cpu(u32),
}

impl Context {
    /// Tells whether the transport says who printed the message.
    pub fn is_told(self) -> bool {
        match self {
            Self::Bare | Self::Console => false,
            Self::Task(_) | Self::Cpu(_) => true,
        }
    }

    /// `T123`, `C0`, or nothing.
    pub fn caller(self) -> Option<String> {
        match self {
            Self::Bare | Self::Console => None,
            Self::Task(number) => Some(format!("T{number}")),
            Self::Cpu(number) => Some(format!("C{number}")),
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins in the source, in bytes.
    pub start: u64,
    /// Where it ends, without its newline.
    pub end: u64,
    /// How far its border and origin can be believed.
    pub provenance: Provenance,
    /// Facility and level, where the transport has them.
    pub priority: Option<Priority>,
    /// The kernel's record number.
    pub sequence: Option<u64>,
    /// printk's clock, in microseconds.
    pub time_us: Option<u64>,
    /// The time of day it was logged, in microseconds since 1970, UTC.
    pub wall_us: Option<i64>,
    /// Who printed it.
    pub context: Context,
    /// The boot it belongs to, where the transport says so.
    pub boot: Option<[u8; 16]>,
    /// The message without any prefix. What is behind a newline in it is not to be believed.
    pub text: Cow<'a, [u8]>,
}

impl Record<'_> {
    /// Tells whether a user may have written it.
    pub fn is_from_user(&self) -> bool {
        self.priority.is_some_and(|priority| priority.facility != 0)
    }

    /// Returns the text up to the first newline: user text with a newline in it looks like a line of
    /// the kernel's.
    pub fn line(&self) -> &[u8] {
        // The other transports cut at newlines.
        if self.provenance != Provenance::Record {
            return &self.text;
        }
        match memchr::memchr(b'\n', &self.text) {
            Some(end) => self.text.get(..end).unwrap_or_default(),
            None => &self.text,
        }
    }
}
