//! Weights, path tables, word lists and thresholds, read from one TOML text.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use toml::Spanned;

use super::evidence::{Raise, Rules};
use super::impact::{self, Class};
use super::model::{Each, ThreatModel};
use super::reach::{self, Defaults, Rule};
use super::wire::{self, Head, Wire};
use super::words::{Lexicon, Phrase};
use super::{Band, Door};
use crate::cve::Score;
use crate::signals::PartsPerMillion;

/// The policy that comes with the program.
pub const BUILTIN: &str = include_str!("../../../../policies/cloud.toml");

static BASE: LazyLock<Wire> =
    LazyLock::new(|| read(BUILTIN).expect("the policy that comes with the program is tested"));

/// Longest policy, in bytes.
const LONGEST: usize = 1 << 20;

/// Weights, path tables, word lists and thresholds.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    models: Vec<ThreatModel>,
    pub(super) act: u32,
    pub(super) attend: u32,
    // Shared: a policy is cloned to declare other models.
    pub(super) reach: Arc<reach::Table>,
    pub(super) impact: Arc<impact::Table>,
    /// None: evidence does not count.
    pub(super) evidence: Option<Rules>,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is too long to be one.
    #[error("policy is longer than {LONGEST} bytes")]
    Long,
    /// A key is wrong; lines count from 1.
    #[error("policy line {line}: {key}: {problem}")]
    Key {
        /// Line of the text.
        line: usize,
        /// The key with the names of its tables, such as `reach.sched.userns`.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl Policy {
    /// Returns the policy that comes with the program: a fleet of cloud servers.
    pub fn builtin() -> Self {
        static POLICY: LazyLock<Policy> = LazyLock::new(|| {
            compile(BASE.clone(), BUILTIN)
                .expect("the policy that comes with the program is tested")
        });
        POLICY.clone()
    }

    /// Reads a policy; keys that it does not name are the built-in one's.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > LONGEST {
            return Err(PolicyError::Long);
        }
        compile(read(text)?.over(BASE.clone()), text)
    }

    /// Names the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the declared models, sorted.
    pub fn models(&self) -> &[ThreatModel] {
        &self.models
    }

    /// Declares these models and no others; none at all leaves the policy's own.
    #[must_use]
    pub fn declaring(mut self, models: impl IntoIterator<Item = ThreatModel>) -> Self {
        let mut models: Vec<ThreatModel> = models.into_iter().collect();
        models.sort_unstable();
        models.dedup();
        if !models.is_empty() {
            self.models = models;
        }
        self
    }

    /// Lets evidence of exploitation raise nothing, as an evaluation against that evidence wants.
    #[must_use]
    pub fn without_evidence(mut self) -> Self {
        self.evidence = None;
        self
    }

    /// Returns the least points of a band.
    pub fn threshold(&self, band: Band) -> u32 {
        match band {
            Band::Track => 0,
            Band::Attend => self.attend,
            Band::Act => self.act,
        }
    }

    pub(super) fn band(&self, points: u32) -> Band {
        if points >= self.act {
            Band::Act
        } else if points >= self.attend {
            Band::Attend
        } else {
            Band::Track
        }
    }
}

fn read(text: &str) -> Result<Wire, PolicyError> {
    let at = |error: &toml::de::Error| {
        let span = error.span().unwrap_or(0..0);
        locate(text, &span, error.message())
    };
    toml::from_str::<Head>(text).map_err(|error| {
        if error.message().starts_with("missing field") {
            key_error(text, "format", "is missing")
        } else {
            at(&error)
        }
    })?;
    toml::from_str::<Wire>(text).map_err(|error| at(&error))
}

/// Says where `span` starts, by line and key.
fn locate(text: &str, span: &Range<usize>, problem: &str) -> PolicyError {
    let before = text.get(..span.start).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let mut table = "";
    let mut key = "";
    for text in text.lines().take(line) {
        let trimmed = text.trim();
        if let Some(header) = trimmed.strip_prefix('[').filter(|_| !text.starts_with(' ')) {
            table = header.split(']').next().unwrap_or_default();
            key = "";
        } else if let Some((name, _)) = trimmed.split_once('=')
            && !trimmed.starts_with(['#', '"', ']'])
        {
            key = name.trim();
        }
    }
    let key = match (table, key) {
        ("", "") => "format",
        ("", key) => key,
        (table, "") => table,
        (table, key) => {
            return PolicyError::Key {
                line,
                key: format!("{table}.{key}"),
                problem: problem.trim().to_owned(),
            };
        }
    };
    PolicyError::Key {
        line,
        key: key.to_owned(),
        problem: problem.trim().to_owned(),
    }
}

/// A key that no layer names.
struct Missing<'a> {
    text: &'a str,
}

impl Missing<'_> {
    fn key<T>(&self, value: Option<T>, key: &str) -> Result<T, PolicyError> {
        self.of_table(value, &(0..0), key)
    }

    fn of_table<T>(
        &self,
        value: Option<T>,
        span: &Range<usize>,
        key: &str,
    ) -> Result<T, PolicyError> {
        value.ok_or_else(|| {
            let line = match locate(self.text, span, "") {
                PolicyError::Key { line, .. } => line,
                PolicyError::Long => 1,
            };
            PolicyError::Key {
                line,
                key: key.to_owned(),
                problem: "is missing".to_owned(),
            }
        })
    }
}

/// `text` is the upper layer, which any error is about: the lower one is complete and tested.
fn compile(wire: Wire, text: &str) -> Result<Policy, PolicyError> {
    let missing = Missing { text };
    let mut models: Vec<ThreatModel> = missing
        .key(wire.models, "models")?
        .into_iter()
        .map(ThreatModel::from)
        .collect();
    models.sort_unstable();
    models.dedup();
    if models.is_empty() {
        return Err(key_error(text, "models", "declares no threat model"));
    }
    let act = missing.key(wire.bands.act, "bands.act")?;
    let attend = missing.key(wire.bands.attend, "bands.attend")?;
    if attend.get_ref().0 > act.get_ref().0 {
        return Err(key_error(
            text,
            "bands",
            &format!(
                "attend ({}) starts above act ({})",
                attend.get_ref().0,
                act.get_ref().0
            ),
        ));
    }
    let neutral = wire.neutral;
    let defaults = Defaults {
        unknown: missing.key(neutral.reach, "neutral.reach")?.0,
        elsewhere: missing.key(neutral.elsewhere, "neutral.elsewhere")?.0,
        closed: missing.key(neutral.closed, "neutral.closed")?.0,
    };
    let negation = phrases(missing.key(wire.negation.words, "negation.words")?);
    let articles = phrases(missing.key(wire.negation.articles, "negation.articles")?);
    let (classes, words) = classes(wire.impact, &missing)?;
    let lower = impact::Lower {
        why: missing.key(wire.lower.why, "lower.why")?.0,
        points: missing.key(wire.lower.points, "lower.points")?.0,
        words: Lexicon::new(
            &phrases(missing.key(wire.lower.words, "lower.words")?)
                .into_iter()
                .map(|phrase| (0, phrase))
                .collect::<Vec<_>>(),
            Vec::new(),
            Vec::new(),
        ),
        paths: missing
            .key(wire.lower.paths, "lower.paths")?
            .into_iter()
            .map(|path| path.0)
            .collect(),
        models: missing
            .key(wire.lower.models, "lower.models")?
            .into_iter()
            .map(ThreatModel::from)
            .collect(),
    };
    Ok(Policy {
        name: missing.key(wire.name, "name")?.0,
        models,
        act: u32::from(act.get_ref().0),
        attend: u32::from(attend.get_ref().0),
        reach: Arc::new(table(wire.reach, defaults, &missing)?),
        impact: Arc::new(impact::Table {
            classes,
            words: Lexicon::new(&words, negation, articles),
            neutral: missing.key(neutral.impact, "neutral.impact")?.0,
            lower,
        }),
        evidence: Some(rules(&wire.evidence, &missing)?),
    })
}

fn key_error(text: &str, key: &str, problem: &str) -> PolicyError {
    let last = key.rsplit('.').next().unwrap_or(key);
    let line = text
        .lines()
        .position(|line| line.trim_start_matches('[').trim_start().starts_with(last));
    PolicyError::Key {
        line: line.map_or(1, |it| it + 1),
        key: key.to_owned(),
        problem: problem.to_owned(),
    }
}

fn phrases(words: Vec<wire::Words>) -> Vec<Phrase> {
    words.into_iter().map(|words| words.0).collect()
}

type Classes = (Vec<Class>, Vec<(usize, Phrase)>);

fn classes(
    wire: BTreeMap<wire::Text, Spanned<wire::Impact>>,
    missing: &Missing<'_>,
) -> Result<Classes, PolicyError> {
    let mut rows: Vec<(Class, Vec<Phrase>)> = Vec::new();
    for (name, spanned) in wire {
        let span = spanned.span();
        let impact = spanned.into_inner();
        let key = |part: &str| format!("impact.{}.{part}", name.0);
        let class = Class {
            why: missing.of_table(impact.why, &span, &key("why"))?.0,
            points: missing.of_table(impact.points, &span, &key("points"))?.0,
            vectors: impact
                .vectors
                .unwrap_or_default()
                .into_iter()
                .map(|metric| metric.0)
                .collect(),
            name: name.0,
        };
        rows.push((class, phrases(impact.words.unwrap_or_default())));
    }
    // Stable: of equal points the first by name is the stronger.
    rows.sort_by_key(|(class, _)| std::cmp::Reverse(class.points));
    let mut words = Vec::new();
    let mut classes = Vec::new();
    for (rank, (class, phrases)) in rows.into_iter().enumerate() {
        words.extend(phrases.into_iter().map(|phrase| (rank, phrase)));
        classes.push(class);
    }
    Ok((classes, words))
}

fn table(
    wire: BTreeMap<wire::Text, Spanned<wire::Reach>>,
    defaults: Defaults,
    missing: &Missing<'_>,
) -> Result<reach::Table, PolicyError> {
    let (mut rules, mut paths, mut titles) = (Vec::new(), Vec::new(), Vec::new());
    for (name, spanned) in wire {
        let span = spanned.span();
        let reach = spanned.into_inner();
        let rule = rules.len();
        rules.push(Rule {
            weights: Each::new(|model| reach.weight(model)),
            why: missing
                .of_table(reach.why, &span, &format!("reach.{}.why", name.0))?
                .0,
            door: reach.door.map(Door::from),
            name: name.0,
        });
        let prefixes = reach.paths.unwrap_or_default();
        paths.extend(prefixes.into_iter().map(|path| (path.0, rule)));
        let starts = reach.titles.unwrap_or_default();
        titles.extend(starts.into_iter().map(|title| (title.0, rule)));
    }
    Ok(reach::Table::new(rules, paths, titles, defaults))
}

fn rules(wire: &wire::Evidence, missing: &Missing<'_>) -> Result<Rules, PolicyError> {
    let raise = |band: Option<wire::BandName>, add: Option<wire::Points>, name: &str| {
        Ok(Raise {
            band: missing.key(band, &format!("evidence.{name}.band"))?.into(),
            add: missing.key(add, &format!("evidence.{name}.add"))?.0,
        })
    };
    let (poc, score, epss) = (wire.ssvc_poc, wire.score, wire.epss);
    let least_score = missing.key(score.score, "evidence.score.score")?.0;
    let least = missing
        .key(epss.probability, "evidence.epss.probability")?
        .0;
    Ok(Rules {
        kev: raise(wire.kev.band, wire.kev.add, "kev")?,
        active: raise(wire.ssvc_active.band, wire.ssvc_active.add, "ssvc-active")?,
        exploit: raise(wire.exploit.band, wire.exploit.add, "exploit")?,
        poc: raise(poc.band, poc.add, "ssvc-poc")?,
        poc_reach: missing.key(poc.reach, "evidence.ssvc-poc.reach")?.0,
        reference: raise(wire.reference.band, wire.reference.add, "reference")?,
        score: raise(score.band, score.add, "score")?,
        score_least: missing.key(Score::from_tenths(least_score), "evidence.score.score")?,
        epss: raise(epss.band, epss.add, "epss")?,
        epss_least: missing.key(PartsPerMillion::new(least), "evidence.epss.probability")?,
    })
}

#[cfg(test)]
mod tests;
