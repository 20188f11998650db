//! How urgent a CVE is: who can reach the code, what a hit does, and what is known from outside.
//!
//! Pure integers; every point has a factor that names what made it.

use std::cmp::Reverse;
use std::fmt;

use crate::cve::{Cve, CveId};
use crate::signals::Signals;

/// Who attacks, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreatModel {
    /// An unprivileged account.
    Local,
    /// The same, where user namespaces give it capabilities.
    Userns,
    /// Root in a container.
    Container,
    /// Remote packets.
    Network,
    /// A neighbour on radio or link.
    Adjacent,
    /// Someone who plugs a device in.
    Usb,
    /// Code in a virtual machine, or a hostile host.
    Guest,
}

impl ThreatModel {
    /// Every model.
    pub const ALL: [Self; 7] = [
        Self::Local,
        Self::Userns,
        Self::Container,
        Self::Network,
        Self::Adjacent,
        Self::Usb,
        Self::Guest,
    ];

    /// Names it in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Userns => "userns",
            Self::Container => "container",
            Self::Network => "network",
            Self::Adjacent => "adjacent",
            Self::Usb => "usb",
            Self::Guest => "guest",
        }
    }
}

/// What to do about a CVE; higher is more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Band {
    /// With the rest.
    Track,
    /// With the next planned level.
    Attend,
    /// Now.
    Act,
}

impl Band {
    /// Names it in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Attend => "attend",
            Self::Act => "act",
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    /// Sum of the factors' points.
    pub points: u32,
    /// What to do.
    pub band: Band,
    /// The threat model that gave the most points.
    pub model: Option<ThreatModel>,
    /// Every term.
    pub factors: Vec<Factor>,
}

/// Weights, path tables, word lists and thresholds.
#[derive(Clone, Debug)]
pub struct Policy {}

impl Policy {
    /// Returns the policy that comes with the program.
    pub fn builtin() -> Self {
        Self {}
    }
}

/// Says how urgent `cve` is.
pub fn prioritize(cve: &Cve, _signals: &Signals, _policy: &Policy) -> Priority {
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
        band: Band::Track,
        model: None,
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
                reasons: Vec::new(),
            }),
            references: Vec::new(),
            mainline_fixes: Vec::new(),
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
        .map(|cve| prioritize(cve, &Signals::default(), &Policy::builtin()))
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
