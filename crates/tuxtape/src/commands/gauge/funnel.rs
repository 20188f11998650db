//! How few of the feed's CVEs are left at each step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use tuxtape_core::applicability::content::{Carried, Content, Functions};
use tuxtape_core::applicability::{Applicability, Gap, Reason};

use super::measure::Measured;
use crate::screen::{Screen, Style, pad};

/// Most columns of the bars.
const WIDEST_BAR: usize = 40;
/// Columns of a step's name and of a number.
const NAME: usize = 22;
const NUMBER: usize = 6;

/// Counts of one kernel's verdicts along the steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Funnel {
    /// Published records.
    pub published: usize,
    /// Those left after each step that says no: by version, by source, by what was compiled, by
    /// functions.
    pub version: usize,
    pub carried: usize,
    pub built: usize,
    pub function: usize,
    /// Of how many the source was looked at with a diff of the fix.
    pub looked_carried: usize,
    /// Of how many the functions were looked at.
    pub looked_functions: usize,
    /// What is left.
    pub affected: usize,
    pub unknown: usize,
    /// The gaps of the unknown ones.
    pub gaps: BTreeMap<&'static str, usize>,
    /// How the code of the affected ones stands; empty where that is not known.
    pub loaded: BTreeMap<&'static str, usize>,
}

impl Funnel {
    pub(super) fn of(measured: &Measured) -> Self {
        let mut counts: BTreeMap<Applicability, usize> = BTreeMap::new();
        let mut loaded: BTreeMap<&'static str, usize> = BTreeMap::new();
        for judgement in measured.judgements.values() {
            *counts.entry(judgement.verdict).or_default() += 1;
            if judgement.verdict == Applicability::Affected && measured.standings.is_some() {
                let slug = measured
                    .standing(judgement)
                    .map_or("not-known", |standing| standing.as_str());
                *loaded.entry(slug).or_default() += 1;
            }
        }
        let no = |reason| {
            let verdict = Applicability::NotAffected(reason);
            counts.get(&verdict).copied().unwrap_or_default()
        };
        let published = measured.ruled_out + measured.judgements.len() - no(Reason::Rejected);
        let version = published - measured.ruled_out - no(Reason::OutsideSpan);
        let carried = version - no(Reason::Carries);
        let built = carried - no(Reason::NotBuilt);
        let function = built - no(Reason::FunctionAbsent);
        let gaps: BTreeMap<&'static str, usize> = counts
            .iter()
            .filter_map(|(verdict, count)| match verdict {
                Applicability::Unknown(gap) => Some((gap.as_str(), *count)),
                Applicability::Affected | Applicability::NotAffected(_) => None,
            })
            .collect();
        let contents = measured.contents.values();
        let carried_looked = |it: &&Content| !matches!(it.carried, Carried::NotLooked { .. });
        let functions_looked = |it: &&Content| !matches!(it.functions, Functions::NotLooked { .. });
        Self {
            published,
            version,
            carried,
            built,
            function,
            looked_carried: contents.clone().filter(carried_looked).count(),
            looked_functions: contents.filter(functions_looked).count(),
            affected: counts
                .get(&Applicability::Affected)
                .copied()
                .unwrap_or_default(),
            unknown: gaps.values().sum(),
            gaps,
            loaded,
        }
    }

    /// Draws it within the screen.
    pub(super) fn draw(&self, screen: &Screen) -> String {
        let columns = screen.columns.unwrap_or(100);
        let bar = columns
            .saturating_sub(NAME + NUMBER + 4 + 26)
            .clamp(8, WIDEST_BAR);
        let mut text = String::new();
        let mut row = |name: &str, left: usize, style: Option<Style>, why: &str| {
            let drawn = screen.bar(clamp(left), clamp(self.published), bar);
            let drawn = match style {
                Some(style) => screen.paint(style, &drawn),
                None => drawn,
            };
            let line = format!("{}{left:>NUMBER$}  {drawn}  {why}", pad(name, NAME));
            writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
        };
        let minus = |before: usize, after: usize, why: &str| {
            let sign = if screen.unicode { "−" } else { "-" };
            match before - after {
                0 => format!("none {why}"),
                less => format!("{sign}{less} {why}"),
            }
        };
        let looked = |count: usize, less: String| {
            if count == 0 {
                "not looked at (--content)".to_owned()
            } else {
                less
            }
        };
        row("published", self.published, None, "records of the feed");
        row(
            "version",
            self.version,
            None,
            &minus(self.published, self.version, Reason::OutsideSpan.as_str()),
        );
        row(
            "carried",
            self.carried,
            None,
            &looked(
                self.looked_carried,
                minus(self.version, self.carried, Reason::Carries.as_str()),
            ),
        );
        row(
            "built",
            self.built,
            None,
            &minus(self.carried, self.built, Reason::NotBuilt.as_str()),
        );
        row(
            "function",
            self.function,
            None,
            &looked(
                self.looked_functions,
                minus(self.built, self.function, Reason::FunctionAbsent.as_str()),
            ),
        );
        row(
            "  affected",
            self.affected,
            Some(Style::Verdict(Applicability::Affected)),
            "",
        );
        for slug in ["loaded", "autoload", "root-only", "blocked", "not-known"] {
            if let Some(count) = self.loaded.get(slug) {
                row(
                    &format!("    {slug}"),
                    *count,
                    Some(Style::Verdict(Applicability::Affected)),
                    meaning(slug),
                );
            }
        }
        row(
            "  unknown",
            self.unknown,
            Some(Style::Verdict(Applicability::Unknown(Gap::NoProfile))),
            "",
        );
        for (gap, count) in &self.gaps {
            row(
                &format!("    {gap}"),
                *count,
                Some(Style::Verdict(Applicability::Unknown(Gap::NoProfile))),
                "",
            );
        }
        text
    }
}

fn meaning(slug: &str) -> &'static str {
    match slug {
        "loaded" => "runs now",
        "autoload" => "loads when asked for",
        "root-only" => "only root can load it",
        "blocked" => "cannot be loaded",
        _ => "",
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
