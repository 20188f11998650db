//! What is known from outside: it only raises.

use super::{Band, Factor, words};
use crate::cve::{Cve, Score};
use crate::instant::UtcSeconds;
use crate::signals::{Exploitation, PartsPerMillion, Signals};

/// What one kind of evidence does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raise {
    pub(super) band: Band,
    pub(super) add: u16,
}

/// What each kind of evidence does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) kev: Raise,
    pub(super) active: Raise,
    pub(super) exploit: Raise,
    pub(super) poc: Raise,
    /// Least reach of a declared model for `poc` to count.
    pub(super) poc_reach: u8,
    pub(super) reference: Raise,
    pub(super) score: Raise,
    /// Least score for `score` to count.
    pub(super) score_least: Score,
    pub(super) epss: Raise,
    /// Least probability for `epss` to count.
    pub(super) epss_least: PartsPerMillion,
}

/// One piece of evidence that counts.
#[derive(Debug)]
pub(super) struct Evidence {
    term: &'static str,
    raise: Raise,
    cause: String,
}

/// What decides whether evidence counts, besides the evidence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Greatest reach of a declared model, doors open.
    pub(super) reach: u8,
    /// Whether `network` is declared.
    pub(super) network: bool,
}

impl Rules {
    /// Lists what counts, gravest first.
    pub(super) fn gather(&self, cve: &Cve, signals: &Signals, setting: Setting) -> Vec<Evidence> {
        let mut found = Vec::new();
        let mut add = |term, raise, cause| found.push(Evidence { term, raise, cause });
        if let Some(kev) = &signals.kev {
            let ransom = if kev.ransomware { ", for ransom" } else { "" };
            add(
                "kev",
                self.kev,
                format!(
                    "KEV since {} as {}{ransom}",
                    day(kev.added),
                    words::shorten(&kev.product)
                ),
            );
        }
        let exploitation = signals
            .ssvc
            .map_or(Exploitation::None, |it| it.exploitation);
        // What is active has been shown too, so both count: no policy can make the graver one count less.
        if exploitation >= Exploitation::Active {
            add(
                "ssvc-active",
                self.active,
                "SSVC exploitation: active".to_owned(),
            );
        }
        if let Some(first) = signals.exploits.first() {
            let more = match signals.exploits.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            add(
                "exploit",
                self.exploit,
                format!("public exploit {}{more}", words::shorten(&first.name)),
            );
        }
        if exploitation >= Exploitation::Poc && setting.reach >= self.poc_reach {
            let cause = match exploitation {
                Exploitation::Poc => "SSVC exploitation: poc",
                Exploitation::Active | Exploitation::None => "SSVC exploitation: at least poc",
            };
            add("ssvc-poc", self.poc, cause.to_owned());
        }
        if let Some(first) = cve.references.first() {
            add("reference", self.reference, words::shorten(first));
        }
        if setting.network
            && let Some(cause) = self.scored(cve, signals)
        {
            add("score", self.score, cause);
        }
        if let Some(epss) = signals.epss.filter(|it| it.probability >= self.epss_least) {
            add(
                "epss",
                self.epss,
                format!("EPSS {} within 30 days", epss.probability),
            );
        }
        found
    }

    /// The highest score of a remote attack that is high enough.
    fn scored(&self, cve: &Cve, signals: &Signals) -> Option<String> {
        let own = cve
            .cvss
            .as_ref()
            .map(|cvss| (cvss.score, "the record", cvss.vector.as_str()));
        let others = signals
            .scores
            .iter()
            .map(|it| (it.score, it.source.as_str(), it.vector.as_str()));
        own.into_iter()
            .chain(others)
            .filter(|(score, _, vector)| {
                *score >= self.score_least && vector.split('/').any(|metric| metric == "AV:N")
            })
            .max_by_key(|(score, source, _)| (*score, *source == "the record"))
            .map(|(score, source, vector)| {
                format!("{score} by {source}: {}", words::shorten(vector))
            })
    }
}

/// Returns one factor for each piece of evidence; `threshold` gives the least points of a band.
///
/// Together they raise `base` to the highest threshold, and what each adds comes on top: a sum that
/// grows with each piece, in any order.
pub(super) fn factors(
    base: u32,
    evidence: &[Evidence],
    threshold: impl Fn(Band) -> u32,
) -> Vec<Factor> {
    let mut floor = base;
    evidence
        .iter()
        .map(|it| {
            let raised = floor.max(threshold(it.raise.band));
            let gain = raised - floor;
            floor = raised;
            Factor {
                term: it.term,
                points: super::signed(gain + u32::from(it.raise.add)),
                cause: it.cause.clone(),
                why: None,
            }
        })
        .collect()
}

fn day(instant: UtcSeconds) -> String {
    instant.to_string().chars().take(10).collect()
}
