//! journald: one entry's fields as a record.
//!
//! journald tags lines that user space wrote to `/dev/kmsg` as the kernel's too; only the facility
//! tells them apart, and older versions leave it out for the kernel's own.

use std::borrow::Cow;

use crate::record::{Context, Priority, Provenance, Record};

/// The fields of one entry that matter.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entry {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) message: Option<Vec<u8>>,
    /// The writer left the text out.
    pub(crate) message_is_null: bool,
    pub(crate) transport: Vec<u8>,
    pub(crate) facility: Option<u32>,
    pub(crate) level: Option<u8>,
    pub(crate) identifier: Vec<u8>,
    pub(crate) boot: Option<[u8; 16]>,
    pub(crate) monotonic_us: Option<u64>,
    pub(crate) realtime_us: Option<i64>,
    pub(crate) any: bool,
}

/// What an entry is to a reader of kernel messages.
#[derive(Debug)]
pub(crate) enum Meaning<'a> {
    /// A message of the kernel's, or one that claims to be.
    Record(Record<'a>),
    /// journald says that it missed this many.
    Missed(u64),
    /// Its text was left out.
    Cut,
    /// Something else.
    Other,
}

impl Entry {
    /// Takes in one field.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        self.any = true;
        let number = || std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
        match name {
            b"MESSAGE" => self.message = Some(value.to_vec()),
            b"_TRANSPORT" => self.transport = value.to_vec(),
            b"SYSLOG_FACILITY" => {
                // What cannot be read is not the kernel's.
                let facility = number().and_then(|number| u32::try_from(number).ok());
                self.facility = Some(facility.unwrap_or(1));
            }
            b"PRIORITY" => {
                self.level = number().and_then(|number| u8::try_from(number.min(7)).ok());
            }
            b"SYSLOG_IDENTIFIER" => self.identifier = value.to_vec(),
            b"_BOOT_ID" => self.boot = boot_id(value),
            b"_SOURCE_MONOTONIC_TIMESTAMP" => self.monotonic_us = number(),
            b"__REALTIME_TIMESTAMP" => {
                self.realtime_us = number().and_then(|number| i64::try_from(number).ok());
            }
            _ => {}
        }
    }

    /// Says what the entry is.
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        if self.transport != b"kernel" {
            let missed = self.identifier == b"systemd-journald";
            let text = self.message.as_deref().unwrap_or_default();
            let count = text
                .strip_prefix(b"Missed ")
                .filter(|rest| missed && rest.ends_with(b" kernel messages"))
                .and_then(super::prefix::number);
            return count.map_or(Meaning::Other, |(count, _)| Meaning::Missed(count));
        }
        let Some(message) = &self.message else {
            return if self.message_is_null {
                Meaning::Cut
            } else {
                Meaning::Other
            };
        };
        Meaning::Record(Record {
            start: self.start,
            end: self.end,
            provenance: Provenance::Record,
            priority: Some(Priority {
                facility: self.facility.unwrap_or(0),
                level: self.level.unwrap_or(6),
            }),
            sequence: None,
            time_us: self.monotonic_us,
            wall_us: self.realtime_us,
            context: Context::Console,
            boot: self.boot,
            text: Cow::Borrowed(message),
        })
    }
}

fn boot_id(text: &[u8]) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    let digits: Vec<u8> = text
        .iter()
        .filter(|byte| **byte != b'-')
        .map(|byte| {
            char::from(*byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        if let [high, low] = pair {
            *byte = high << 4 | low;
        }
    }
    Some(id)
}
