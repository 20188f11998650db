//! CVE records as TuxTape knows them.

pub mod beside;
pub mod edition;
pub mod record;
pub mod rows;

use std::fmt;
use std::str::FromStr;

use crate::git_id::GitId;
use crate::span::Span;
use crate::version::KernelVersion;

/// Name of a CVE, `CVE-2024-14027`; ordered by year and number, as numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CveId {
    year: u16,
    number: u32,
}

/// Why a text is no CVE id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no CVE id (want a form such as CVE-2024-14027)")]
pub struct NotACveId {
    text: String,
}

impl CveId {
    /// Puts an id together; `None` when the year has not four digits.
    pub fn new(year: u16, number: u32) -> Option<Self> {
        (1000..=9999)
            .contains(&year)
            .then_some(Self { year, number })
    }

    /// Returns the year in the id, which is not the year of publication.
    pub fn year(self) -> u16 {
        self.year
    }

    /// Returns the number within the year.
    pub fn number(self) -> u32 {
        self.number
    }
}

impl FromStr for CveId {
    type Err = NotACveId;

    fn from_str(text: &str) -> Result<Self, NotACveId> {
        let parse = || {
            let (year, number) = text.strip_prefix("CVE-")?.split_once('-')?;
            let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
            // Four digits, zero-padded, or more without padding.
            let padded = number.len() == 4 || (number.len() > 4 && !number.starts_with('0'));
            if year.len() != 4 || !digits(year) || !digits(number) || !padded {
                return None;
            }
            Self::new(year.parse().ok()?, number.parse().ok()?)
        };
        parse().ok_or_else(|| NotACveId {
            text: text.chars().take(40).collect(),
        })
    }
}

impl fmt::Display for CveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CVE-{}-{:04}", self.year, self.number)
    }
}

impl fmt::Debug for CveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a record stands. The folder it lies in decides, never the text inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Valid.
    Published,
    /// Withdrawn by its authority.
    Rejected,
}

impl State {
    /// Names the folder and the state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A CVSS v3.1 base score, in tenths: 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u8);

impl Score {
    /// Takes tenths; `None` above 100.
    pub fn from_tenths(tenths: u8) -> Option<Self> {
        (tenths <= 100).then_some(Self(tenths))
    }

    /// Returns the score in tenths.
    pub fn tenths(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Severity as the record's own authority gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cvss {
    /// `CVSS:3.1/…`.
    pub vector: String,
    /// Base score.
    pub score: Score,
    /// The authority's reasons, one line per metric; only newer records give them.
    pub reasons: Vec<String>,
}

/// One CVE record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cve {
    /// Its name.
    pub id: CveId,
    /// Whether it is valid.
    pub state: State,
    /// Subject of the mainline fix; may be empty in a rejected record.
    pub title: String,
    /// English description, which the feed cuts at about 4,000 bytes.
    pub description: String,
    /// Files the fix touches, as mainline paths, sorted.
    pub files: Vec<String>,
    /// Severity, present only where the authority published one (7.0 and above).
    pub cvss: Option<Cvss>,
    /// Web pages that the authority names besides the commits, https or http, in its order.
    pub references: Vec<String>,
    /// The fix in mainline, which may be several commits; empty in a rejected record.
    pub mainline_fixes: Vec<GitId>,
    /// Vulnerable stretches, in the feed's order; empty in a rejected record.
    pub spans: Vec<Span>,
    /// Contradictions within the record: while there is one, it decides nothing.
    pub doubts: Vec<String>,
    /// Versions from which on, up to the next landing, its two readings differ; see
    /// [`span::is_disputed`](crate::span::is_disputed). Sorted.
    pub disputes: Vec<KernelVersion>,
    /// Why it was withdrawn, for a rejected record that says so.
    pub rejection: Option<String>,
}

impl Cve {
    /// Returns the spans, or none where the record contradicts itself anywhere.
    ///
    /// Others are judged by what these teach, as by [`Horizons`](crate::span::Horizons): one wrong
    /// line must not decide about them.
    pub fn certain_spans(&self) -> &[Span] {
        if self.doubts.is_empty() && self.disputes.is_empty() {
            &self.spans
        } else {
            &[]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_as_numbers() {
        let mut ids: Vec<CveId> = ["CVE-2024-10000", "CVE-2024-9999", "CVE-2019-25160"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        ids.sort();
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["CVE-2019-25160", "CVE-2024-9999", "CVE-2024-10000"]);
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(
            "CVE-2021-0001".parse::<CveId>().unwrap().to_string(),
            "CVE-2021-0001"
        );
        for bad in [
            "",
            "CVE-2024-1",
            "CVE-24-1000",
            "cve-2024-1000",
            "CVE-2024-010000",
            "CVE-2024-1000 ",
            "CVE-2024-1000.json",
            "CVE-0024-1000",
            "CVE-2024-99999999999",
            "CVE-2024-+100",
        ] {
            assert!(bad.parse::<CveId>().is_err(), "{bad:?}");
        }
    }
}
