//! What stands before the text of a line, in all the forms `dmesg`, consoles and syslog write.

use std::borrow::Cow;

use crate::record::{Context, Priority, Provenance};

/// A line without its prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stripped<'a> {
    pub(super) provenance: Provenance,
    pub(super) priority: Option<Priority>,
    pub(super) sequence: Option<u64>,
    pub(super) time_us: Option<u64>,
    pub(super) wall_us: Option<i64>,
    pub(super) context: Context,
    /// Records the console says it dropped before this line.
    pub(super) dropped: u64,
    /// A part of a message: where it begins in it, and how long all is.
    pub(super) fragment: Option<(u64, u64)>,
    pub(super) text: Cow<'a, [u8]>,
}

impl<'a> Stripped<'a> {
    fn bare(text: &'a [u8]) -> Self {
        Self {
            provenance: Provenance::None,
            priority: None,
            sequence: None,
            time_us: None,
            wall_us: None,
            context: Context::Bare,
            dropped: 0,
            fragment: None,
            text: Cow::Borrowed(text),
        }
    }
}

/// Takes the prefix off `line`, whichever it is.
#[inline]
pub(super) fn strip(line: &[u8]) -> Stripped<'_> {
    let controls = memchr::memchr2(0x1b, b'\r', line).is_some();
    if !controls && let Some((time_us, context, text)) = console(line) {
        return with_time(time_us, context, text);
    }
    let line = without_ends(line);
    if controls && memchr::memchr2(0x1b, b'\r', line).is_some() {
        let clean = uncoloured(line);
        let kept = strip_plain(&clean);
        return Stripped {
            text: Cow::Owned(kept.text.into_owned()),
            ..kept
        };
    }
    strip_plain(line)
}

#[inline]
fn strip_plain(line: &[u8]) -> Stripped<'_> {
    let stripped = match line.first() {
        Some(b'[') => bracket(line),
        Some(b'<') => angle(line),
        Some(b'0'..=b'9') => kmsg(line).or_else(|| iso(line)).or_else(|| released(line)),
        Some(b'*') => dropped(line),
        Some(b'A'..=b'Z') => syslog(line),
        Some(b'a'..=b'z') => words(line),
        _ => None,
    };
    stripped
        .or_else(|| login(line))
        .unwrap_or_else(|| Stripped::bare(line))
}

#[inline]
fn without_ends(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let [rest @ .., b'\r' | 0] = line {
        line = rest;
    }
    while let [0 | b'\r', rest @ ..] = line {
        line = rest;
    }
    line
}

/// Takes terminal escapes out, and what a carriage return has overwritten.
fn uncoloured(line: &[u8]) -> Vec<u8> {
    // A prompt or a progress line, then the kernel's own on top of it.
    let line = memchr::memchr_iter(b'\r', line)
        .rev()
        .filter_map(|at| line.get(at + 1..))
        .find(|rest| matches!(rest.first(), Some(b'[' | b'<' | 0x1b)))
        .unwrap_or(line);
    let mut clean = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != 0x1b {
            clean.push(*first);
            continue;
        }
        if let [b'[', parameters @ ..] = after {
            let end = parameters
                .iter()
                .position(|byte| (0x40..0x7f).contains(byte))
                .unwrap_or(parameters.len());
            rest = parameters.get(end + 1..).unwrap_or_default();
        }
    }
    clean
}

/// `[    5.123456] text`, `[    5.123456][  T123] text`: nearly all lines, in fewer steps than
/// [`bracket`] takes for them.
#[inline]
fn console(line: &[u8]) -> Option<(u64, Context, &[u8])> {
    let rest = line.strip_prefix(b"[")?;
    if line.last() == Some(&0) {
        return None;
    }
    let (seconds, rest) = number(rest.get(blanks(rest)..)?)?;
    let (micros, text) = rest.strip_prefix(b".")?.split_first_chunk::<6>()?;
    let mut value = 0_u64;
    for digit in micros {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    let time_us = seconds.checked_mul(1_000_000)?.checked_add(value)?;
    let text = text.strip_prefix(b"]")?;
    if let Some(text) = text.strip_prefix(b" ") {
        return Some((time_us, Context::Console, text));
    }
    let (context, text) = caller(text.strip_prefix(b"[")?)?;
    Some((time_us, context, text))
}

/// `T1234] text` or `C0] text`, as `CONFIG_PRINTK_CALLER` has it.
#[inline]
fn caller(text: &[u8]) -> Option<(Context, &[u8])> {
    let (kind, rest) = text.get(blanks(text)..)?.split_first()?;
    let (number, rest) = number(rest)?;
    let number = u32::try_from(number).ok()?;
    let context = match kind {
        b'T' => Context::Task(number),
        b'C' => Context::Cpu(number),
        _ => return None,
    };
    Some((context, rest.strip_prefix(b"] ")?))
}

/// `[    5.123456] text`, with a caller, with a difference, or with a time of day inside.
#[inline]
fn bracket(line: &[u8]) -> Option<Stripped<'_>> {
    let inside_at = 1 + blanks(line.get(1..)?);
    let rest = line.get(inside_at..)?;
    let Some((time_us, rest)) = seconds(rest) else {
        return human(line);
    };
    let rest = match rest.strip_prefix(b"] ") {
        Some(rest) => return Some(with_time(time_us, Context::Console, rest)),
        None => rest,
    };
    if let Some(rest) = rest.strip_prefix(b"][") {
        let (context, text) = caller(rest)?;
        return Some(with_time(time_us, context, text));
    }
    // `dmesg -d`: the difference to the line before.
    let rest = rest.strip_prefix(b" <")?;
    let (_, rest) = seconds(rest.get(blanks(rest)..)?)?;
    let rest = rest.strip_prefix(b">] ")?;
    Some(with_time(time_us, Context::Console, rest))
}

#[inline]
fn with_time(time_us: u64, context: Context, text: &[u8]) -> Stripped<'_> {
    Stripped {
        time_us: Some(time_us),
        context,
        ..Stripped::bare(text)
    }
}

/// `5.123456`, `+0.000123`; returns microseconds and what follows.
#[inline]
pub(super) fn seconds(text: &[u8]) -> Option<(u64, &[u8])> {
    let (whole, rest) = number(text)?;
    let rest = rest.strip_prefix(b".")?;
    let (mut micros, mut digits) = (0_u64, 0);
    while let Some(digit) = rest.get(digits).filter(|byte| byte.is_ascii_digit()) {
        if digits < 6 {
            micros = micros * 10 + u64::from(digit - b'0');
        }
        digits += 1;
    }
    if digits == 0 {
        return None;
    }
    for _ in digits..6 {
        micros *= 10;
    }
    let time = whole.checked_mul(1_000_000)?.checked_add(micros)?;
    Some((time, rest.get(digits..)?))
}

/// Decimal digits, at most 18.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut digits) = (0_u64, 0);
    while let Some(digit) = text.get(digits).filter(|byte| byte.is_ascii_digit()) {
        if digits == 18 {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
        digits += 1;
    }
    (digits > 0).then_some((value, text.get(digits..)?))
}

fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|byte| **byte == b' ').count()
}

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// `[Mon Nov 23 16:44:00 2026] `, `[Nov23 16:44] `, `[  +0.000123] `: computed from the boot time,
/// so not taken for an order.
fn human(line: &[u8]) -> Option<Stripped<'_>> {
    let end = memchr::memchr(b']', line.get(..40).unwrap_or(line))?;
    let inside = line.get(1..end)?;
    let rest = line.get(end + 1..)?.strip_prefix(b" ")?;
    let is_clock = |text: &[u8]| {
        MONTHS
            .iter()
            .any(|month| memchr::memmem::find(text, month).is_some())
            && memchr::memchr(b':', text).is_some()
            && text.iter().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b':' | b'.' | b',' | b'+')
            })
    };
    let difference = inside
        .get(blanks(inside)..)?
        .strip_prefix(b"+")
        .is_some_and(|rest| seconds(rest).is_some_and(|(_, rest)| rest.is_empty()));
    (difference || is_clock(inside)).then(|| Stripped {
        context: Context::Console,
        ..Stripped::bare(rest)
    })
}

/// `<13>` and what stands behind: a console line, RFC 5424, or nothing of the kind.
fn angle(line: &[u8]) -> Option<Stripped<'_>> {
    let (value, rest) = number(line.get(1..)?)?;
    let rest = rest.strip_prefix(b">")?;
    let priority = Priority::from_number(u32::try_from(value).ok().filter(|value| *value < 8192)?);
    if let Some(rest) = rest.strip_prefix(b"1 ") {
        return rfc5424(rest).map(|stripped| Stripped {
            priority: Some(priority),
            ..stripped
        });
    }
    // `<5>` alone can be free text; with a time behind it, it is printk's.
    bracket(rest).map(|stripped| Stripped {
        provenance: Provenance::Line,
        priority: Some(priority),
        ..stripped
    })
}

/// `TIME HOST APP PROCID MSGID SD TEXT`.
fn rfc5424(line: &[u8]) -> Option<Stripped<'_>> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let wall_us = words.next().and_then(clock);
    let _host = words.next()?;
    let program = words.next()?;
    let _process = words.next()?;
    let _id = words.next()?;
    let mut rest = words.next()?;
    rest = match rest.strip_prefix(b"- ") {
        Some(rest) => rest,
        None => rest.get(memchr::memmem::find(rest, b"] ")? + 2..)?,
    };
    Some(from_program(program, rest, wall_us))
}

/// A line that a log daemon wrote: only what the kernel said is looked at.
fn from_program<'a>(program: &[u8], text: &'a [u8], wall_us: Option<i64>) -> Stripped<'a> {
    if program != b"kernel" {
        return Stripped {
            wall_us,
            // What a program says has a facility of its own.
            priority: Some(Priority {
                facility: 1,
                level: 6,
            }),
            context: Context::Console,
            ..Stripped::bare(text)
        };
    }
    // A newline inside a message is written as its octal number.
    let text = match memchr::memmem::find(text, b"#012") {
        Some(end) => text.get(..end).unwrap_or(text),
        None => text,
    };
    let stripped = bracket(text).unwrap_or_else(|| Stripped {
        context: Context::Console,
        ..Stripped::bare(text)
    });
    Stripped {
        wall_us,
        ..stripped
    }
}

/// `kern  :warn  : [ts] text`, `kern  :warn  : text`.
fn words(line: &[u8]) -> Option<Stripped<'_>> {
    const FACILITIES: [&[u8]; 12] = [
        b"kern",
        b"user",
        b"mail",
        b"daemon",
        b"auth",
        b"syslog",
        b"lpr",
        b"news",
        b"uucp",
        b"cron",
        b"authpriv",
        b"ftp",
    ];
    const LEVELS: [&[u8]; 8] = [
        b"emerg", b"alert", b"crit", b"err", b"warn", b"notice", b"info", b"debug",
    ];
    let colon = memchr::memchr(b':', line.get(..12).unwrap_or(line))?;
    let facility = line.get(..colon)?.trim_ascii_end();
    let rest = line.get(colon + 1..)?;
    let second = memchr::memchr(b':', rest.get(..10).unwrap_or(rest))?;
    let level = rest.get(..second)?.trim_ascii_end();
    let rest = rest.get(second + 1..)?.strip_prefix(b" ")?;
    let facility = FACILITIES.iter().position(|name| *name == facility)?;
    let level = LEVELS.iter().position(|name| *name == level)?;
    let priority = Priority {
        facility: u32::try_from(facility).ok()?,
        level: u8::try_from(level).ok()?,
    };
    let stripped = bracket(rest)
        .or_else(|| iso(rest))
        .unwrap_or_else(|| Stripped {
            context: Context::Console,
            ..Stripped::bare(rest)
        });
    Some(Stripped {
        provenance: Provenance::Line,
        priority: Some(priority),
        ..stripped
    })
}

/// `2026-11-23T16:44:00,123456+00:00 text` of dmesg, or with `host kernel: ` of syslog.
fn iso(line: &[u8]) -> Option<Stripped<'_>> {
    let end = memchr::memchr(b' ', line.get(..40).unwrap_or(line))?;
    let time = line.get(..end)?;
    let wall_us = Some(clock(time)?);
    let rest = line.get(end + 1..)?;
    if memchr::memchr(b',', time).is_some() {
        return Some(Stripped {
            wall_us,
            context: Context::Console,
            ..Stripped::bare(rest)
        });
    }
    daemon(rest, wall_us)
}

/// `Nov 23 16:44:00 host kernel: text`.
fn syslog(line: &[u8]) -> Option<Stripped<'_>> {
    let month = line.get(..3)?;
    if !MONTHS.contains(&month) || line.get(3) != Some(&b' ') {
        return None;
    }
    let time = line.get(7..15)?;
    let is_time = time.iter().enumerate().all(|(index, byte)| match index {
        2 | 5 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    is_time.then_some(())?;
    daemon(line.get(15..)?.strip_prefix(b" ")?, None)
}

/// `host program[12]: text`.
fn daemon(rest: &[u8], wall_us: Option<i64>) -> Option<Stripped<'_>> {
    let host = memchr::memchr(b' ', rest)?;
    let rest = rest.get(host + 1..)?;
    let end = memchr::memmem::find(rest, b": ")?;
    let program = rest.get(..end)?;
    if memchr::memchr(b' ', program).is_some() {
        return None;
    }
    Some(from_program(program, rest.get(end + 2..)?, wall_us))
}

/// Microseconds since 1970 of an ISO time with a zone.
pub(crate) fn clock(text: &[u8]) -> Option<i64> {
    let part = |from: usize, to: usize| {
        let (value, rest) = number(text.get(from..to)?)?;
        rest.is_empty().then_some(i64::try_from(value).ok()?)
    };
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if text.get(4) != Some(&b'-') || text.get(10) != Some(&b'T') {
        return None;
    }
    let rest = text.get(19..)?;
    let (micros, zone) = match rest.first() {
        Some(b'.' | b',') => {
            let fraction = rest.get(1..)?;
            let digits = fraction
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let micros = (0..6).fold(0_i64, |value, place| {
                let digit = fraction
                    .get(place)
                    .filter(|_| place < digits)
                    .map_or(0, |byte| i64::from(byte - b'0'));
                value * 10 + digit
            });
            (micros, fraction.get(digits..)?)
        }
        _ => (0, rest),
    };
    let shift = match zone.first() {
        Some(sign @ (b'+' | b'-')) => {
            let hours = number(zone.get(1..3)?)?.0;
            let minutes = number(zone.get(zone.len().checked_sub(2)?..)?)?.0;
            let shift = i64::try_from(hours * 60 + minutes).ok()?;
            if *sign == b'-' { -shift } else { shift }
        }
        _ => 0,
    };
    // Days since 1970 by the proleptic Gregorian calendar, years from March on.
    let shifted = if month > 2 { year } else { year - 1 };
    let era_day = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + era_day - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute - shift) * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

/// `** 42 printk messages dropped **` in front of a line or alone.
fn dropped(line: &[u8]) -> Option<Stripped<'_>> {
    let rest = line.strip_prefix(b"** ")?;
    let (count, rest) = number(rest)?;
    let rest = rest.strip_prefix(b" printk messages dropped **")?;
    let rest = rest.get(blanks(rest)..)?;
    let stripped = match rest.first() {
        Some(b'[') => bracket(rest)?,
        Some(b'<') => angle(rest)?,
        _ => Stripped {
            context: Context::Console,
            ..Stripped::bare(rest)
        },
    };
    Some(Stripped {
        dropped: count,
        ..stripped
    })
}

/// A login prompt that the kernel's line was printed behind.
fn login(line: &[u8]) -> Option<Stripped<'_>> {
    const PROMPT: &[u8] = b" login: ";
    let at = memchr::memmem::rfind(line, PROMPT)?;
    let rest = line.get(at + PROMPT.len()..)?;
    match rest.first()? {
        b'[' => bracket(rest),
        b'<' => angle(rest),
        _ => None,
    }
}

/// `prio,seq,usec,flags[,more];text`, also behind a `release,` of netconsole's.
pub(super) fn kmsg(line: &[u8]) -> Option<Stripped<'_>> {
    let (priority, rest) = number(line)?;
    let (sequence, rest) = number(rest.strip_prefix(b",")?)?;
    let (time_us, rest) = number(rest.strip_prefix(b",")?)?;
    let mut rest = rest.strip_prefix(b",")?;
    let flags = rest
        .iter()
        .take_while(|byte| matches!(byte, b'-' | b'c' | b'+'))
        .count();
    if flags == 0 {
        return None;
    }
    rest = rest.get(flags..)?;
    let mut context = Context::Console;
    let mut fragment = None;
    // At most as many fields as there are bytes.
    while let Some(field) = rest.strip_prefix(b",") {
        let end = memchr::memchr2(b',', b';', field)?;
        let (value, after) = field.split_at_checked(end)?;
        if let Some(caller) = value.strip_prefix(b"caller=") {
            let (kind, digits) = caller.split_first()?;
            let number = number(digits).and_then(|(number, _)| u32::try_from(number).ok());
            context = match (kind, number) {
                (b'T', Some(number)) => Context::Task(number),
                (b'C', Some(number)) => Context::Cpu(number),
                _ => Context::Console,
            };
        } else if let Some(place) = value.strip_prefix(b"ncfrag=") {
            let (from, place) = number(place)?;
            let (total, _) = number(place.strip_prefix(b"/")?)?;
            fragment = Some((from, total));
        }
        rest = after;
    }
    let text = rest.strip_prefix(b";")?;
    Some(Stripped {
        provenance: Provenance::Record,
        priority: Some(Priority::from_number(u32::try_from(priority).ok()?)),
        sequence: Some(sequence),
        time_us: Some(time_us),
        wall_us: None,
        context,
        dropped: 0,
        fragment,
        text: unescape(text),
    })
}

/// netconsole's `release,` in front of a record.
fn released(line: &[u8]) -> Option<Stripped<'_>> {
    let comma = memchr::memchr(b',', line.get(..80).unwrap_or(line))?;
    memchr::memchr(b'.', line.get(..comma)?)?;
    kmsg(line.get(comma + 1..)?)
}

/// Undoes `\xNN`. Done after splitting, so that an escaped newline stays inside its record.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memmem::find(text, b"\\x").is_none() {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
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
    Cow::Owned(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
