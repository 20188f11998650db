//! How urgent a CVE is.
//!
//! For now by one documented order: the score its authority published, highest first; records without
//! one after them; among equals the newest id first. Absence of a score is no statement: only 7.0 and
//! above are published.

use std::cmp::Reverse;

use crate::cve::{Cve, CveId};

/// One term of a priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Fixed slug.
    pub term: &'static str,
    /// What it adds.
    pub points: u32,
    /// What made it.
    pub cause: String,
}

/// How urgent one CVE is, explained whole by its factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The CVE.
    pub cve: CveId,
    /// Sum of the factors' points: the published score in tenths.
    pub points: u32,
    /// Every term.
    pub factors: Vec<Factor>,
}

/// Says how urgent `cve` is.
pub fn prioritize(cve: &Cve) -> Priority {
    let factor = match &cve.cvss {
        Some(cvss) => Factor {
            term: "cna-cvss",
            points: u32::from(cvss.score.tenths()),
            cause: format!("{} {}", cvss.score, cvss.vector),
        },
        None => Factor {
            term: "cna-cvss",
            points: 0,
            cause: "no score published".to_owned(),
        },
    };
    Priority {
        cve: cve.id,
        points: factor.points,
        factors: vec![factor],
    }
}

/// Sorts the most urgent first; equal input in any order gives the same result.
pub fn sort(priorities: &mut [Priority]) {
    priorities.sort_by_key(|priority| Reverse((priority.points, priority.cve)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cve::{Cvss, Score, State};

    fn cve(id: &str, tenths: Option<u8>) -> Cve {
        Cve {
            id: id.parse().unwrap(),
            state: State::Published,
            title: String::new(),
            description: String::new(),
            files: Vec::new(),
            cvss: tenths.map(|tenths| Cvss {
                vector: "CVSS:3.1/AV:L".to_owned(),
                score: Score::from_tenths(tenths).unwrap(),
            }),
            spans: Vec::new(),
            doubts: Vec::new(),
            disputes: Vec::new(),
            rejection: None,
        }
    }

    #[test]
    fn scores_come_first_then_the_newest() {
        let mut priorities: Vec<Priority> = [
            cve("CVE-2024-9999", None),
            cve("CVE-2024-1000", Some(78)),
            cve("CVE-2024-10000", None),
            cve("CVE-2021-1000", Some(98)),
            cve("CVE-2025-1000", Some(78)),
        ]
        .iter()
        .map(prioritize)
        .collect();
        sort(&mut priorities);
        let order: Vec<String> = priorities.iter().map(|it| it.cve.to_string()).collect();
        assert_eq!(
            order,
            [
                "CVE-2021-1000",
                "CVE-2025-1000",
                "CVE-2024-1000",
                "CVE-2024-10000",
                "CVE-2024-9999"
            ]
        );
        for priority in priorities {
            let explained: u32 = priority.factors.iter().map(|factor| factor.points).sum();
            assert_eq!(explained, priority.points);
        }
    }
}
