//! From bytes to records: one printk message each, whatever transport it came by.

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

/// One message of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Line of the input it stands on, from 1.
    pub line: u64,
    /// Byte offset of that line in the input.
    pub offset: u64,
    /// Whom to believe.
    pub provenance: Provenance,
    /// Facility and level, where the transport has them.
    pub priority: Option<Priority>,
    /// The kernel's own record number, where the transport has it.
    pub sequence: Option<u64>,
    /// printk's clock in microseconds.
    pub time_us: Option<u64>,
    /// `T123` for a task, `C0` for a CPU.
    pub caller: Option<&'a str>,
    /// The message without any prefix of the transport. May hold newlines only in kmsg records.
    pub text: Cow<'a, str>,
}

impl Record<'_> {
    /// Tells whether a user may have written it.
    pub fn is_from_user(&self) -> bool {
        self.priority.is_some_and(|priority| priority.facility != 0)
    }
}

/// Splits `log` into records: kmsg records, `dmesg -r` lines, `dmesg` or serial lines, or bare text,
/// told apart line by line. Dictionary lines (` KEY=value`) after a kmsg record are left out.
pub fn records(log: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut after_kmsg = false;
    lines(log).filter_map(move |(line, offset, bytes)| {
        let text = to_text(bytes);
        let record = match text {
            Cow::Borrowed(text) => parse(line, offset, text),
            // Not UTF-8: the replaced text is parsed and kept by value.
            Cow::Owned(text) => {
                let record = parse(line, offset, &text);
                Record {
                    line,
                    offset,
                    provenance: record.provenance,
                    priority: record.priority,
                    sequence: record.sequence,
                    time_us: record.time_us,
                    caller: None,
                    text: Cow::Owned(record.text.into_owned()),
                }
            }
        };
        let dictionary =
            after_kmsg && record.provenance != Provenance::Record && bytes.starts_with(b" ");
        if dictionary {
            return None;
        }
        after_kmsg = record.provenance == Provenance::Record;
        (!record.text.is_empty()).then_some(record)
    })
}

fn lines(log: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    let mut offset = 0_u64;
    (1..)
        .zip(log.split(|byte| matches!(byte, b'\n' | 0)))
        .map(move |(line, whole)| {
            let start = offset;
            offset += whole.len() as u64 + 1;
            let mut bytes = whole.get(..LINE_LIMIT).unwrap_or(whole);
            while let [rest @ .., b'\r'] = bytes {
                bytes = rest;
            }
            (line, start, bytes)
        })
}

fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn parse(line: u64, offset: u64, text: &str) -> Record<'_> {
    let bare = Record {
        line,
        offset,
        provenance: Provenance::None,
        priority: None,
        sequence: None,
        time_us: None,
        caller: None,
        text: Cow::Borrowed(text),
    };
    if let Some(record) = kmsg(text, &bare) {
        return record;
    }
    let (priority, rest) = match angle(text) {
        Some((number, rest)) => (Some(Priority::from_number(number)), rest),
        None => (None, text),
    };
    let (time_us, rest) = stamp(rest).map_or((None, rest), |(time, rest)| (Some(time), rest));
    let (caller, rest) = match time_us.and_then(|_| caller(rest)) {
        Some((caller, rest)) => (Some(caller), rest),
        None => (None, rest),
    };
    // `<5>` alone can be free text; with a time behind it, it is printk's.
    if priority.is_some() && time_us.is_none() {
        return bare;
    }
    Record {
        provenance: if priority.is_some() {
            Provenance::Line
        } else {
            Provenance::None
        },
        priority,
        time_us,
        caller,
        text: Cow::Borrowed(rest),
        ..bare
    }
}

/// `prio,seq,usec,flags[,more];text`.
fn kmsg<'a>(text: &'a str, bare: &Record<'a>) -> Option<Record<'a>> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (prefix, message) = text.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let time_us = fields.next()?.parse().ok()?;
    let flags = fields.next()?;
    if !flags.chars().all(|c| matches!(c, '-' | 'c' | '+')) {
        return None;
    }
    let caller = fields.find_map(|field| field.strip_prefix("caller="));
    Some(Record {
        provenance: Provenance::Record,
        priority: Some(Priority::from_number(priority)),
        sequence: Some(sequence),
        time_us: Some(time_us),
        caller,
        text: unescape(message),
        ..bare.clone()
    })
}

/// `<13>rest`.
fn angle(text: &str) -> Option<(u32, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    (number.len() <= 4).then(|| Some((number.parse().ok()?, rest)))?
}

/// `[    5.123456] rest`.
fn stamp(text: &str) -> Option<(u64, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = inside.trim_start_matches(' ').split_once('.')?;
    if micros.len() != 6 || !micros.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let micros: u64 = micros.parse().ok()?;
    let time = seconds.checked_mul(1_000_000)?.checked_add(micros)?;
    Some((time, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// `[  T123] rest`, `[    C0] rest`.
fn caller(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let name = inside.trim_start_matches(' ');
    let number = name.strip_prefix(['T', 'C'])?;
    let fits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| (name, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// Undoes `\xNN`. Done after splitting, so that an escaped newline stays inside its record.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains("\\x") {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', high, low, after @ ..] => hex(*high)
                .zip(hex(*low))
                .map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(log: &str) -> Record<'_> {
        let mut all = records(log.as_bytes());
        let first = all.next().expect("one record");
        assert_eq!(all.next(), None);
        first
    }

    #[test]
    fn one_message_reads_alike_by_every_transport() {
        let text = "livepatch: enabling patch 'tt'";
        for (log, provenance) in [
            (
                "5,1201,363047285,-;livepatch: enabling patch 'tt'\n SUBSYSTEM=x\n",
                Provenance::Record,
            ),
            (
                "5,1201,363047285,-,caller=T1;livepatch: enabling patch 'tt'",
                Provenance::Record,
            ),
            (
                "<5>[  363.047285] livepatch: enabling patch 'tt'\n",
                Provenance::Line,
            ),
            (
                "[  363.047285] livepatch: enabling patch 'tt'\r\n",
                Provenance::None,
            ),
            (
                "[  363.047285][    T1] livepatch: enabling patch 'tt'",
                Provenance::None,
            ),
        ] {
            let record = only(log);
            assert_eq!(record.text, text, "{log}");
            assert_eq!(record.time_us, Some(363_047_285), "{log}");
            assert_eq!(record.provenance, provenance, "{log}");
        }
    }

    #[test]
    fn an_escaped_newline_stays_inside_its_record() {
        let record = only("6,1,2,-;mount \\x0aBUG: not mine \\\\x41 \\xzz");
        assert_eq!(record.text, "mount \nBUG: not mine \\A \\xzz");
    }

    #[test]
    fn a_users_record_is_told_apart() {
        assert!(only("12,5,6,-;BUG: fake").is_from_user());
        assert!(!only("4,5,6,-;BUG: real").is_from_user());
        assert!(!only("BUG: who knows").is_from_user());
    }

    #[test]
    fn garbage_is_kept_as_bare_text() {
        for log in [
            "<",
            "[",
            "<5>",
            "[ 1.5]",
            "1,2,3",
            ";",
            "9999999999999,1,1,-;x",
            "<5>x",
        ] {
            let record = only(log);
            assert_eq!(
                (record.provenance, record.text.as_ref()),
                (Provenance::None, log)
            );
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_the_next_is_read() {
        let mut log = vec![b'a'; LINE_LIMIT * 2];
        log.extend_from_slice(b"\n\xff\xfe BUG: x\n");
        let all: Vec<_> = records(&log).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].text.len(), LINE_LIMIT);
        assert!(all[1].text.ends_with("BUG: x"));
    }
}
