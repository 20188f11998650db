//! How urgent a CVE is: who can reach the code, what a hit does, and what is known from outside.
//!
//! ```text
//! points = max over declared threat models of  reach × impact,  then evidence, which only raises
//! ```
//!
//! Reach and impact are 0 to 100. Pure integers; every point has a factor that names what made it, and
//! the factors' points sum to the whole: with the neutral impact N of the policy,
//!
//! | term | points | cause |
//! |---|---|---|
//! | `reach` | reach × N | file or title that the model's attacker gets to |
//! | `impact` | reach × (class − N) | words of the text that name the class |
//! | `vector` | reach × (its class − class) | CVSS vector that says more than the text |
//! | `path` | −reach × lowering | words of the title that name a set-up or tear-down path |
//! | `door` | points here − points with every door open | setting or module of this node |
//! | `kev`, `exploit`, … | rise to the band's threshold + `add` | row of a signal |

mod doors;
mod evidence;
mod impact;
mod model;
mod policy;
mod reach;
mod wire;
mod words;

use std::cmp::Reverse;
use std::fmt;

use crate::cve::{Cve, CveId, State};
use crate::signals::Signals;

pub use doors::{Door, Doors};
pub use model::{NotAThreatModel, ThreatModel};
pub use policy::{BUILTIN, Policy, PolicyError};

use evidence::Setting;
use impact::Impact;
use reach::{Place, Reached};

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
    /// What it adds, or takes off.
    pub points: i32,
    /// What made it: text span, file, setting or signal row.
    pub cause: String,
    /// Why the policy weighs it so.
    pub why: Option<String>,
}

/// How urgent one CVE is, explained whole by its factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The CVE.
    pub cve: CveId,
    /// Sum of the factors' points.
    pub points: u32,
    /// What to do. The record's own: doors that are shut on one node do not lower it.
    pub band: Band,
    /// The threat model that gave the most points.
    pub model: Option<ThreatModel>,
    /// Every term.
    pub factors: Vec<Factor>,
}

/// Says how urgent `cve` is in itself.
pub fn prioritize(cve: &Cve, signals: &Signals, policy: &Policy) -> Priority {
    prioritize_on(cve, signals, policy, &Doors::default())
}

/// What one model gives.
struct Candidate<'a> {
    model: ThreatModel,
    reached: Reached<'a>,
    taken_off: u8,
    points: u32,
}

/// Says how urgent `cve` is on a node or kernel with these doors shut.
///
/// Points are never more than without them; the band is the record's own.
pub fn prioritize_on(cve: &Cve, signals: &Signals, policy: &Policy, doors: &Doors) -> Priority {
    let hits = policy.reach.hits(cve, doors);
    let impact = policy.impact.read(cve, signals);
    let open = best(policy, &impact, |model| policy.reach.open(&hits, model));
    let mut factors = terms(cve, policy, &impact, &open);
    let mut points = open.points;
    let mut model = open.model;
    if !doors.is_empty() {
        let shut = best(policy, &impact, |model| {
            policy.reach.shut(&hits, model, doors)
        });
        if shut.points < open.points {
            let cause = policy
                .reach
                .shut(&hits, open.model, doors)
                .shut
                .unwrap_or_default();
            factors.push(Factor {
                term: "door",
                points: signed(shut.points) - signed(open.points),
                cause: format!(
                    "{cause}; {} reaches it at {} of 100 here",
                    shut.model, shut.reached.weight
                ),
                why: None,
            });
            points = shut.points;
            model = shut.model;
        }
    }
    let mut own = open.points;
    if let Some(rules) = &policy.evidence {
        let widest = policy
            .models()
            .iter()
            .map(|model| policy.reach.open(&hits, *model).weight)
            .max();
        let setting = Setting {
            reach: widest.unwrap_or(0),
            network: policy.models().contains(&ThreatModel::Network),
        };
        let evidence = rules.gather(cve, signals, setting);
        let threshold = |band| policy.threshold(band);
        own = raised(own, &evidence::factors(own, &evidence, threshold));
        let raises = evidence::factors(points, &evidence, threshold);
        points = raised(points, &raises);
        factors.extend(raises);
    }
    Priority {
        cve: cve.id,
        points,
        band: policy.band(own),
        model: Some(model),
        factors,
    }
}

/// Returns the model that gives the most points; of equals the first declared.
fn best<'a>(
    policy: &Policy,
    impact: &Impact<'_>,
    reach: impl Fn(ThreatModel) -> Reached<'a>,
) -> Candidate<'a> {
    let candidate = |model| {
        let reached = reach(model);
        let taken_off = impact.taken_off(model, &policy.impact.lower);
        let value = impact.value().saturating_sub(taken_off);
        Candidate {
            model,
            reached,
            taken_off,
            points: u32::from(reached.weight) * u32::from(value),
        }
    };
    policy
        .models()
        .iter()
        .map(|model| candidate(*model))
        .reduce(|best, next| {
            if next.points > best.points {
                next
            } else {
                best
            }
        })
        .expect("a policy declares at least one model")
}

fn terms(
    cve: &Cve,
    policy: &Policy,
    impact: &Impact<'_>,
    candidate: &Candidate<'_>,
) -> Vec<Factor> {
    let weight = candidate.reached.weight;
    let by = |from: u8, to: u8| i32::from(weight) * (i32::from(to) - i32::from(from));
    let neutral = policy.impact.neutral;
    let model = candidate.model;
    let rule = candidate
        .reached
        .hit
        .and_then(|hit| Some((policy.reach.rules.get(hit.rule)?, hit.place)));
    let (cause, why) = match rule {
        Some((rule, place)) => {
            let what = match place {
                Place::File(path) => words::shorten_path(path),
                Place::Title(prefix) => format!("\"{prefix}\" in the title"),
            };
            (
                format!("{model} {weight}: {what} ({})", rule.name),
                Some(rule.why.clone()),
            )
        }
        None => (
            format!("{model} {weight}: no rule knows its files; neutral"),
            None,
        ),
    };
    let mut factors = vec![Factor {
        term: "reach",
        points: by(0, neutral),
        cause,
        why,
    }];
    let (cause, why) = match impact.named {
        Some((class, text, found)) => (
            format!(
                "{} {}: {}",
                class.name,
                class.points,
                Impact::span(text, found, cve)
            ),
            Some(class.why.clone()),
        ),
        None => (format!("no words name a class; neutral {neutral}"), None),
    };
    factors.push(Factor {
        term: "impact",
        points: by(neutral, impact.text),
        cause,
        why,
    });
    if let Some((class, vector)) = &impact.vector {
        factors.push(Factor {
            term: "vector",
            points: by(impact.text, class.points),
            cause: format!("{} {}: {vector}", class.name, class.points),
            why: Some(class.why.clone()),
        });
    }
    if let (Some(found), 1..) = (impact.lowered, candidate.taken_off) {
        factors.push(Factor {
            term: "path",
            points: by(candidate.taken_off, 0),
            cause: Impact::span(impact::Text::Title, found, cve),
            why: Some(policy.impact.lower.why.clone()),
        });
    }
    factors
}

fn raised(base: u32, factors: &[Factor]) -> u32 {
    factors
        .iter()
        .filter_map(|factor| u32::try_from(factor.points).ok())
        .fold(base, u32::saturating_add)
}

/// Points are far below 2^31: at most 100 × 100, a threshold and a few additions of 16 bits.
fn signed(points: u32) -> i32 {
    i32::try_from(points).unwrap_or(i32::MAX)
}

/// Sorts the most urgent first, of equals the newest CVE id; equal input in any order gives the same result.
pub fn sort(priorities: &mut [Priority]) {
    priorities.sort_by_key(|priority| Reverse((priority.points, priority.cve)));
}

/// Feeds `bytes` to the policy's reader and to the ranking, for fuzzing.
///
/// # Panics
///
/// Where the factors of a priority do not sum to its points.
pub fn exercise(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let policy = Policy::parse(&text).unwrap_or_else(|_| Policy::builtin());
    let mut lines = text.lines();
    let Some(id) = CveId::new(2024, 1) else {
        return;
    };
    let cve = Cve {
        id,
        state: State::Published,
        title: lines.next().unwrap_or_default().to_owned(),
        description: text.clone().into_owned(),
        files: lines.take(8).map(str::to_owned).collect(),
        cvss: None,
        references: Vec::new(),
        mainline_fixes: Vec::new(),
        spans: Vec::new(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    };
    let priority = prioritize(&cve, &Signals::default(), &policy);
    let sum: i64 = priority
        .factors
        .iter()
        .map(|factor| i64::from(factor.points))
        .sum();
    assert_eq!(
        sum,
        i64::from(priority.points),
        "factors explain the points"
    );
}

#[cfg(test)]
mod tests;
