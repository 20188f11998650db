//! What a hit does: one class of bug, from the text and from CVSS vectors.

use super::model::ThreatModel;
use super::words::{self, Boundary, Lexicon, Match};
use crate::cve::Cve;
use crate::signals::Signals;

/// A class of bug.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) why: String,
    pub(super) points: u8,
    /// A vector with all of these names the class; empty: none does.
    pub(super) vectors: Vec<String>,
}

/// The classes, strongest first, and what lowers them.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) classes: Vec<Class>,
    pub(super) words: Lexicon,
    pub(super) neutral: u8,
    pub(super) lower: Lower,
}

/// Set-up, tear-down and power paths of drivers.
#[derive(Clone, Debug)]
pub(super) struct Lower {
    pub(super) why: String,
    pub(super) points: u8,
    pub(super) words: Lexicon,
    pub(super) paths: Vec<String>,
    pub(super) models: Vec<ThreatModel>,
}

/// Where a text span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Title,
    Description,
}

/// What a record says of itself.
#[derive(Debug)]
pub(super) struct Impact<'a> {
    /// The class that the text names.
    pub(super) named: Option<(&'a Class, Text, Match)>,
    /// Points of that class, or the neutral ones.
    pub(super) text: u8,
    /// A vector that says more, and whose.
    pub(super) vector: Option<(&'a Class, String)>,
    /// The path that lowers it, in the title.
    pub(super) lowered: Option<Match>,
}

impl Table {
    /// Reads `cve` and the vectors of others.
    pub(super) fn read<'a>(&'a self, cve: &Cve, signals: &Signals) -> Impact<'a> {
        let search = |text: &str, limit| self.words.strongest(text, Boundary::Identifiers, limit);
        let title = search(&cve.title, usize::MAX);
        let limit = title.map_or(usize::MAX, |found| found.rank);
        let found = search(&cve.description, limit)
            .map(|found| (Text::Description, found))
            .or(title.map(|found| (Text::Title, found)));
        let named = found.and_then(|(text, found)| {
            self.classes
                .get(found.rank)
                .map(|class| (class, text, found))
        });
        let text = named.map_or(self.neutral, |(class, _, _)| class.points);
        Impact {
            named,
            text,
            vector: self
                .by_vector(cve, signals)
                .filter(|(class, _)| class.points > text),
            lowered: self.lowered(cve),
        }
    }

    fn by_vector(&self, cve: &Cve, signals: &Signals) -> Option<(&Class, String)> {
        let own = cve
            .cvss
            .as_ref()
            .map(|cvss| ("the record", cvss.vector.as_str()));
        let others = signals
            .scores
            .iter()
            .map(|score| (score.source.as_str(), score.vector.as_str()));
        let mut best: Option<(usize, &str, &str)> = None;
        for (source, vector) in own.into_iter().chain(others) {
            let says = |metric: &String| vector.split('/').any(|it| it == metric);
            let rank = self
                .classes
                .iter()
                .position(|class| !class.vectors.is_empty() && class.vectors.iter().all(says));
            if let Some(rank) = rank
                && best.is_none_or(|(best, _, _)| rank < best)
            {
                best = Some((rank, source, vector));
            }
        }
        let (rank, source, vector) = best?;
        let class = self.classes.get(rank)?;
        Some((class, format!("{} by {source}", words::shorten(vector))))
    }

    fn lowered(&self, cve: &Cve) -> Option<Match> {
        let driver = |file: &String| self.lower.paths.iter().any(|path| file.starts_with(path));
        if !cve.files.iter().any(driver) {
            return None;
        }
        self.lower
            .words
            .strongest(&cve.title, Boundary::Underscores, usize::MAX)
    }
}

impl Impact<'_> {
    /// Points before what lowers them.
    pub(super) fn value(&self) -> u8 {
        self.vector
            .as_ref()
            .map_or(self.text, |(class, _)| class.points)
    }

    /// What a set-up or tear-down path takes off for `model`.
    pub(super) fn taken_off(&self, model: ThreatModel, lower: &Lower) -> u8 {
        if self.lowered.is_some() && lower.models.contains(&model) {
            lower.points.min(self.value())
        } else {
            0
        }
    }

    /// Says which words named the class, and where.
    pub(super) fn span(text: Text, found: Match, cve: &Cve) -> String {
        match text {
            Text::Title => format!("\"{}\" in the title", words::excerpt(&cve.title, found)),
            Text::Description => format!(
                "\"{}\" in line {} of the description",
                words::excerpt(&cve.description, found),
                words::line_of(&cve.description, found.start)
            ),
        }
    }
}
