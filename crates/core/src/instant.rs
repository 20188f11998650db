//! Instants as RFC 3339 and TUF write them: whole seconds, UTC, `2026-11-24T18:00:00Z`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01 00:00:00 UTC, without leap seconds; years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UtcSeconds(u64);

/// Why a text or a count is no instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an instant (want YYYY-MM-DDTHH:MM:SSZ, year 1970 to 9999)")]
pub struct NotAnInstant;

const DAY: u64 = 86_400;
const END: u64 = 253_402_300_800;

impl UtcSeconds {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Takes seconds since 1970; the last second of 9999 stands for everything later.
    pub fn from_unix(seconds: u64) -> Self {
        Self(seconds.min(END - 1))
    }

    /// Returns seconds since 1970.
    pub fn unix(self) -> u64 {
        self.0
    }

    /// Returns the instant `seconds` later.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self::from_unix(self.0.saturating_add(seconds))
    }

    /// Returns the seconds from `earlier` to this, 0 when it is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl FromStr for UtcSeconds {
    type Err = NotAnInstant;

    fn from_str(text: &str) -> Result<Self, NotAnInstant> {
        let bytes: &[u8; 20] = text.as_bytes().try_into().map_err(|_| NotAnInstant)?;
        let number = |from: usize, to: usize| {
            let digits = bytes.get(from..to).unwrap_or_default();
            digits.iter().try_fold(0u64, |value, digit| match digit {
                b'0'..=b'9' => Ok(value * 10 + u64::from(digit - b'0')),
                _ => Err(NotAnInstant),
            })
        };
        let marks = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'Z'),
        ];
        if marks.iter().any(|&(at, mark)| bytes.get(at) != Some(&mark)) {
            return Err(NotAnInstant);
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || hour > 23 || minute > 59 || second > 59 {
            return Err(NotAnInstant);
        }
        let days = days_before(year, month, day).ok_or(NotAnInstant)?;
        Ok(Self(days * DAY + hour * 3600 + minute * 60 + second))
    }
}

impl fmt::Display for UtcSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut days, seconds) = (self.0 / DAY, self.0 % DAY);
        let mut year = 1970;
        while days >= year_length(year) {
            days -= year_length(year);
            year += 1;
        }
        let mut month = 1;
        while days >= month_length(year, month) {
            days -= month_length(year, month);
            month += 1;
        }
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let day = days + 1;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl TryFrom<String> for UtcSeconds {
    type Error = NotAnInstant;

    fn try_from(text: String) -> Result<Self, NotAnInstant> {
        text.parse()
    }
}

impl From<UtcSeconds> for String {
    fn from(instant: UtcSeconds) -> Self {
        instant.to_string()
    }
}

fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || day == 0 || day > month_length(year, month) {
        return None;
    }
    let years: u64 = (1970..year).map(year_length).sum();
    let months: u64 = (1..month).map(|month| month_length(year, month)).sum();
    Some(years + months + day - 1)
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_length(year: u64) -> u64 {
    if leap(year) { 366 } else { 365 }
}

fn month_length(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_survive_the_round_trip() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:01Z", 951_825_601),
            ("2026-11-24T18:00:00Z", 1_795_543_200),
            ("9999-12-31T23:59:59Z", END - 1),
        ] {
            let instant: UtcSeconds = text.parse().unwrap();
            assert_eq!((instant.unix(), instant.to_string().as_str()), (unix, text));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24 18:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T18:00:00+",
            "+026-11-24T18:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-2\u{665}18:00:00Z",
        ] {
            assert_eq!(text.parse::<UtcSeconds>(), Err(NotAnInstant), "{text:?}");
        }
    }
}
