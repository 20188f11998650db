//! Which form a log is in, by its first bytes.

use super::prefix;
use crate::record::{Context, Provenance};

/// Where a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `dmesg`, in any of its forms.
    Dmesg,
    /// Records of `/dev/kmsg`.
    Kmsg,
    /// journald, as export or as JSON.
    Journal,
    /// What the firmware or a piece of RAM kept over a crash.
    Pstore,
    /// netconsole, plain or extended.
    Netconsole,
    /// A serial console.
    Serial,
    /// Files of a syslog daemon.
    Syslog,
}

impl Source {
    /// All of them, in the order of their names in a help text.
    pub const ALL: [Self; 7] = [
        Self::Dmesg,
        Self::Kmsg,
        Self::Journal,
        Self::Pstore,
        Self::Netconsole,
        Self::Serial,
        Self::Syslog,
    ];

    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dmesg => "dmesg",
            Self::Kmsg => "kmsg",
            Self::Journal => "journal",
            Self::Pstore => "pstore",
            Self::Netconsole => "netconsole",
            Self::Serial => "serial",
            Self::Syslog => "syslog",
        }
    }

    /// Returns what a record of it looks like.
    pub fn example(self) -> &'static str {
        match self {
            Self::Dmesg => "[    5.123456] text, with or without <6>, a caller or a time of day",
            Self::Kmsg => "6,1201,363047285,-;text",
            Self::Journal => {
                "KEY=value lines of `journalctl -o export`, or one JSON object a record"
            }
            Self::Pstore => "Panic#1 Part1, then <6>[    5.123456] text",
            Self::Netconsole => "6,1201,363047285,-;text, or what a console prints",
            Self::Serial => "[    5.123456] text, between what else the console shows",
            Self::Syslog => "Nov 23 16:44:00 host kernel: [    5.123456] text",
        }
    }
}

/// How records are cut out of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// A record a line.
    #[default]
    Lines,
    /// journald's export.
    Export,
    /// JSON objects.
    Json,
}

/// Bytes that [`detect`] looks at.
pub const HEAD: usize = 64 * 1024;

/// Tells source and form by the first bytes of a log; nothing where no line of it is known.
pub fn detect(head: &[u8]) -> Option<(Source, Form)> {
    let head = head.get(..HEAD).unwrap_or(head);
    let first = head.trim_ascii_start();
    let has = |text: &[u8]| memchr::memmem::find(head, text).is_some();
    if first.starts_with(b"{") || first.starts_with(b"[{") {
        let journal = has(b"\"MESSAGE\"") || has(b"\"_TRANSPORT\"") || has(b"\"__CURSOR\"");
        let source = if journal {
            Source::Journal
        } else {
            Source::Dmesg
        };
        let known = journal || has(b"\"dmesg\"") || has(b"\"msg\"");
        return known.then_some((source, Form::Json));
    }
    if first.starts_with(b"__CURSOR=") || first.starts_with(b"__REALTIME_TIMESTAMP=") {
        return Some((Source::Journal, Form::Export));
    }
    let mut serial = memchr::memmem::find(head, b" login: ").is_some();
    let mut best = None;
    for line in head.split(|byte| matches!(byte, b'\n' | 0)).take(2048) {
        serial |= line.len() > 1 && line.ends_with(b"\r");
        if is_part_header(line) {
            return Some((Source::Pstore, Form::Lines));
        }
        if line.starts_with(b"_TRANSPORT=") || line.starts_with(b"__MONOTONIC_TIMESTAMP=") {
            return Some((Source::Journal, Form::Export));
        }
        let stripped = prefix::strip(line);
        if stripped.provenance == Provenance::Record {
            let sent = memchr::memmem::find(line, b",ncfrag=").is_some()
                || !line.first().is_some_and(u8::is_ascii_digit)
                || line
                    .split(|byte| *byte == b',')
                    .next()
                    .is_some_and(|first| first.contains(&b'.'));
            let source = if sent {
                Source::Netconsole
            } else {
                Source::Kmsg
            };
            return Some((source, Form::Lines));
        }
        if stripped.context != Context::Bare {
            // dmesg puts a comma before the fraction of an ISO time, daemons a dot.
            let own = line.get(19) == Some(&b',');
            let daemon = (matches!(line.first(), Some(b'A'..=b'Z' | b'2')) && !own)
                || (line.first() == Some(&b'<') && memchr::memmem::find(line, b">1 ").is_some());
            best = best.or(Some(if daemon {
                Source::Syslog
            } else {
                Source::Dmesg
            }));
        }
    }
    match best {
        Some(Source::Dmesg) if serial => Some((Source::Serial, Form::Lines)),
        Some(source) => Some((source, Form::Lines)),
        // A console without times: the kernel's own words have to do.
        None => {
            let header = head
                .split(|byte| *byte == b'\n')
                .take(2048)
                .any(|line| crate::report::header::find(line, false).is_some());
            header.then_some((Source::Serial, Form::Lines))
        }
    }
}

/// `Panic#1 Part3`, `====1234.5678-D`, `dmesg-efi-16…:`: where a part of a crash's log begins.
pub(super) fn is_part_header(line: &[u8]) -> bool {
    part(line).is_some() || line.starts_with(b"====") && line.len() < 40
}

/// The reason, the crash's number and the part's of `Panic#1 Part3`.
pub(super) fn part(line: &[u8]) -> Option<(&[u8], u64, u64)> {
    const REASONS: [&[u8]; 5] = [b"Panic", b"Oops", b"Emergency", b"Shutdown", b"Unknown"];
    let reason = REASONS
        .into_iter()
        .find(|reason| line.starts_with(reason))?;
    let rest = line.get(reason.len()..)?.strip_prefix(b"#")?;
    let (count, rest) = prefix::number(rest)?;
    let rest = rest.strip_prefix(b" Part")?;
    let (part, rest) = prefix::number(rest)?;
    rest.trim_ascii()
        .is_empty()
        .then_some((reason, count, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_by_its_first_bytes() {
        for (head, expected) in [
            (
                "[    0.000000] Linux version 6.1",
                Some((Source::Dmesg, Form::Lines)),
            ),
            ("<6>[    0.000000] x", Some((Source::Dmesg, Form::Lines))),
            (
                "kern  :info  : [    0.000000] x",
                Some((Source::Dmesg, Form::Lines)),
            ),
            (
                "[Mon Nov 23 16:44:00 2026] x",
                Some((Source::Dmesg, Form::Lines)),
            ),
            ("6,1,2,-;x", Some((Source::Kmsg, Form::Lines))),
            (
                "6.1.0-47,6,1,2,-;x",
                Some((Source::Netconsole, Form::Lines)),
            ),
            (
                "6,1,2,-,ncfrag=0/20;x",
                Some((Source::Netconsole, Form::Lines)),
            ),
            ("__CURSOR=s\n", Some((Source::Journal, Form::Export))),
            ("{\"MESSAGE\":\"x\"}", Some((Source::Journal, Form::Json))),
            ("{\n \"dmesg\": [", Some((Source::Dmesg, Form::Json))),
            (
                "Panic#1 Part3\n<6>[ 1.0] x",
                Some((Source::Pstore, Form::Lines)),
            ),
            (
                "Nov 23 16:44:00 h kernel: x",
                Some((Source::Syslog, Form::Lines)),
            ),
            (
                "<6>1 2026-11-23T16:44:00Z h kernel - - - x",
                Some((Source::Syslog, Form::Lines)),
            ),
            ("[    0.000000] x\r\n", Some((Source::Serial, Form::Lines))),
            (
                "BUG: kernel NULL pointer dereference",
                Some((Source::Serial, Form::Lines)),
            ),
            ("once upon a time", None),
            ("\u{0}\u{1}\u{2}", None),
            ("", None),
        ] {
            assert_eq!(detect(head.as_bytes()), expected, "{head:?}");
        }
    }
}
