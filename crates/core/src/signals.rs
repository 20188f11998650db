//! Outside evidence about CVEs: who exploits them, who could, and what others score them.
//!
//! Every source is optional and carries its own date. Evidence only ever raises a priority; its
//! absence says nothing.

pub mod adp;
mod csv;
mod date;
mod decimal;
pub mod epss;
mod error;
pub mod exploits;
mod json;
pub mod kev;
pub mod nvd;
pub mod sniff;

use std::collections::BTreeMap;
use std::fmt;

pub use error::SignalError;

use crate::cve::{CveId, Score};
use crate::instant::UtcSeconds;

/// Largest file that is read, in bytes, once decompressed; a day of EPSS has about 10 MB.
pub const LARGEST: usize = 256 << 20;

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// CISA's catalogue of known exploited vulnerabilities.
    Kev,
    /// FIRST's exploit prediction scores.
    Epss,
    /// CVE records with CISA's own container (Vulnrichment).
    Adp,
    /// The US national vulnerability database, API 2.0.
    Nvd,
    /// A list of public exploits (kernelCTF).
    Exploits,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 5] = [Self::Kev, Self::Epss, Self::Adp, Self::Nvd, Self::Exploits];

    /// Names it in one word, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kev => "kev",
            Self::Epss => "epss",
            Self::Adp => "adp",
            Self::Nvd => "nvd",
            Self::Exploits => "exploits",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kev => "KEV",
            Self::Epss => "EPSS",
            Self::Adp => "CISA ADP",
            Self::Nvd => "NVD",
            Self::Exploits => "public exploits",
        })
    }
}

/// A row of the catalogue of known exploited vulnerabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kev {
    /// When it was added.
    pub added: UtcSeconds,
    /// Vendor and product as the catalogue says; kernel rows hide under several.
    pub product: String,
    /// Known to be used for ransom.
    pub ransomware: bool,
}

/// A share of one, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartsPerMillion(u32);

/// An exploit prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epss {
    /// Probability of exploitation within 30 days.
    pub probability: PartsPerMillion,
    /// Share of all CVEs that score at most as high.
    pub percentile: PartsPerMillion,
}

/// How far exploitation is known to be, in the words of SSVC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exploitation {
    /// No evidence.
    None,
    /// A proof of concept is public.
    Poc,
    /// It is being exploited.
    Active,
}

/// CISA's decision points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssvc {
    /// `Exploitation`.
    pub exploitation: Exploitation,
    /// `Automatable`.
    pub automatable: bool,
    /// `Technical Impact` is `total`.
    pub total: bool,
}

/// Somebody else's severity; scores of two sources are never averaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideScore {
    /// Who says so.
    pub source: Source,
    /// `CVSS:3.1/…`.
    pub vector: String,
    /// Base score.
    pub score: Score,
}

/// A public exploit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exploit {
    /// What to call it, such as `CVE-2024-0001_lts_cos`.
    pub name: String,
    /// What it needs, as the list says: capabilities, attack surface, configuration.
    pub requirements: Vec<String>,
}

/// One row of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Known to be exploited.
    Kev(Kev),
    /// Predicted.
    Epss(Epss),
    /// Decision points.
    Ssvc(Ssvc),
    /// A score.
    Score(OutsideScore),
    /// A public exploit.
    Exploit(Exploit),
}

/// What one file of one source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The source.
    pub source: Source,
    /// The date the data gives itself, where it does.
    pub dated: Option<UtcSeconds>,
    /// Whether the file is all that the source has (a catalogue), so that a CVE it does not name has
    /// no row any more; otherwise only the CVEs it names get new rows (single records, pages).
    pub complete: bool,
    /// Rows, in the file's order. A CVE of a partial file can be named without a row: it then lost its rows.
    pub rows: Vec<(CveId, Signal)>,
    /// CVEs the file speaks about, rows or none; sorted.
    pub named: Vec<CveId>,
    /// Of what a partial file says about a CVE, the date that it gives, where it does: the records
    /// of a folder are of many dates.
    pub updated: BTreeMap<CveId, UtcSeconds>,
}

/// Age of what is known from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The source.
    pub source: Source,
    /// File or URL it was read from last.
    pub origin: String,
    /// The date the data gives itself.
    pub dated: Option<UtcSeconds>,
    /// When it was read.
    pub taken: UtcSeconds,
    /// Rows held.
    pub rows: u64,
}

/// Everything known from outside about one CVE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Known to be exploited.
    pub kev: Option<Kev>,
    /// Predicted.
    pub epss: Option<Epss>,
    /// Decision points.
    pub ssvc: Option<Ssvc>,
    /// Scores, by source.
    pub scores: Vec<OutsideScore>,
    /// Public exploits, sorted.
    pub exploits: Vec<Exploit>,
}

impl Source {
    /// Reads a file of this source. Pure, bounded, and all or nothing: a file that cannot be read to
    /// its end is an error, never a shorter batch.
    pub fn parse(self, bytes: &[u8]) -> Result<Batch, SignalError> {
        match self {
            Self::Kev => kev::parse(bytes),
            Self::Epss => epss::parse(bytes),
            Self::Adp => adp::parse(bytes),
            Self::Nvd => nvd::parse(bytes),
            Self::Exploits => exploits::parse(bytes),
        }
    }
}

/// Joins partial files of one source to one, dated by the newest. No CVE may be in two of them.
pub fn join(batches: impl IntoIterator<Item = Batch>) -> Result<Batch, SignalError> {
    let mut batches = batches.into_iter();
    let mut all = batches.next().ok_or(SignalError::NoRows)?;
    for batch in batches {
        all.dated = all.dated.max(batch.dated);
        all.rows.extend(batch.rows);
        all.named.extend(batch.named);
        all.updated.extend(batch.updated);
    }
    finish(all)
}

/// Checks what holds for every batch: it speaks of something, and of each CVE once.
fn finish(mut batch: Batch) -> Result<Batch, SignalError> {
    if batch.named.is_empty() {
        return Err(SignalError::NoRows);
    }
    batch.named.sort_unstable();
    let mut pairs = batch.named.iter().zip(batch.named.iter().skip(1));
    match pairs.find(|(one, next)| one == next) {
        Some((&cve, _)) => Err(SignalError::Twice { cve }),
        None => Ok(batch),
    }
}

/// Reads any bytes as a file of `source` and checks what holds for every batch; for fuzzing.
pub fn exercise(source: Source, bytes: &[u8]) {
    sniff::source(bytes).ok();
    if source == Source::Exploits {
        exploits::entry("CVE-2024-1001_lts", bytes).ok();
    }
    let Ok(batch) = source.parse(bytes) else {
        return;
    };
    assert_eq!(batch.source, source, "a reader answers for its own source");
    assert!(!batch.named.is_empty(), "a batch speaks of something");
    assert!(
        batch.named.is_sorted_by(|one, next| one < next),
        "a batch names each CVE once"
    );
    for (cve, signal) in &batch.rows {
        assert!(
            batch.named.binary_search(cve).is_ok(),
            "{cve} has a row and is not named"
        );
        if let Signal::Score(score) = signal {
            assert_eq!(score.source, source, "a score says whose it is");
        }
    }
}

impl PartsPerMillion {
    /// Takes parts; `None` above a million.
    pub fn new(parts: u32) -> Option<Self> {
        (parts <= 1_000_000).then_some(Self(parts))
    }

    /// Returns the parts.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PartsPerMillion {
    /// As a percentage: `97.31 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 / 100;
        write!(f, "{}.{:02} %", hundredths / 100, hundredths % 100)
    }
}

impl Exploitation {
    /// Names it as SSVC does.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Poc => "poc",
            Self::Active => "active",
        }
    }
}

impl Signals {
    /// Adds one row; of two rows that cannot both hold, the graver stays.
    pub fn add(&mut self, signal: Signal) {
        match signal {
            Signal::Kev(kev) => {
                let first = self.kev.take();
                let ransomware = kev.ransomware || first.as_ref().is_some_and(|it| it.ransomware);
                let mut kept = first.unwrap_or(kev);
                kept.ransomware = ransomware;
                self.kev = Some(kept);
            }
            Signal::Epss(epss) => {
                let graver = self.epss.is_none_or(|it| it.probability < epss.probability);
                if graver {
                    self.epss = Some(epss);
                }
            }
            Signal::Ssvc(ssvc) => {
                self.ssvc = Some(self.ssvc.map_or(ssvc, |it| Ssvc {
                    exploitation: it.exploitation.max(ssvc.exploitation),
                    automatable: it.automatable || ssvc.automatable,
                    total: it.total || ssvc.total,
                }));
            }
            Signal::Score(score) => {
                self.scores.push(score);
                self.scores.sort_by(|a, b| {
                    (a.source, b.score, &a.vector).cmp(&(b.source, a.score, &b.vector))
                });
                self.scores.dedup();
            }
            Signal::Exploit(exploit) => {
                self.exploits.push(exploit);
                self.exploits.sort();
                self.exploits.dedup();
            }
        }
    }

    /// Collects rows by CVE.
    pub fn collect(rows: impl IntoIterator<Item = (CveId, Signal)>) -> BTreeMap<CveId, Self> {
        let mut signals: BTreeMap<CveId, Self> = BTreeMap::new();
        for (cve, signal) in rows {
            signals.entry(cve).or_default().add(signal);
        }
        signals
    }
}

#[cfg(test)]
mod tests;
