//! CVEs against kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tuxtape_core::applicability::{Applicability, Judgement, Reason};
use tuxtape_core::cve::CveId;

use super::Only;
use super::funnel::Funnel;
use super::measure::{Measured, Records};
use crate::screen::{Screen, Style, pad};

/// Columns of an id, and of one kernel.
const ID: usize = 16;
const CELL: usize = 3;

/// A CVE's verdict for each kernel; `None` where its version alone rules it out.
pub(super) type Rows<'a> = BTreeMap<CveId, Vec<Option<&'a Judgement>>>;

/// Lists the CVEs for which a verdict of some kernel is among `only`; without any, those that some
/// kernel has or may have.
pub(super) fn rows<'a>(kernels: &[&'a Measured], only: &[Only]) -> Rows<'a> {
    let wanted = |judgement: &&Judgement| {
        if only.is_empty() {
            match judgement.verdict {
                Applicability::Affected | Applicability::Unknown(_) => true,
                Applicability::NotAffected(_) => false,
            }
        } else {
            only.iter().any(|only| only.takes(judgement.verdict))
        }
    };
    let ids: BTreeSet<CveId> = kernels
        .iter()
        .flat_map(|kernel| kernel.judgements.values().filter(wanted))
        .map(|judgement| judgement.cve)
        .collect();
    ids.into_iter()
        .map(|id| {
            let cells = kernels.iter().map(|kernel| kernel.judgements.get(&id));
            (id, cells.collect())
        })
        .collect()
}

/// Draws the table: a legend, a row for each CVE, and the counts of each kernel.
pub(super) fn draw(
    kernels: &[&Measured],
    rows: &Rows<'_>,
    records: &Records,
    screen: &Screen,
) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
    };
    for (index, kernel) in kernels.iter().enumerate() {
        line(&format!(
            "{:>3}  {} on {}",
            index + 1,
            kernel.profile.id.release,
            kernel.profile.base_version
        ));
    }
    line("");
    line(&legend());
    line("");
    let numbers: Vec<String> = (1..=kernels.len())
        .map(|number| format!("{number:>CELL$}"))
        .collect();
    let numbers = numbers.concat();
    line(&screen.paint(
        Style::Heading,
        &format!("{}{numbers}  TITLE", pad("CVE", ID)),
    ));
    let left = screen
        .columns
        .map(|columns| columns.saturating_sub(ID + CELL * kernels.len() + 2).max(8));
    for (id, cells) in rows {
        let cells: String = cells
            .iter()
            .map(|cell| {
                let verdict = cell.map(|judgement| judgement.verdict);
                let verdict = verdict.unwrap_or(Applicability::NotAffected(Reason::OutsideSpan));
                let cell = format!("{:>CELL$}", letter(verdict));
                screen.paint(Style::Verdict(verdict), &cell)
            })
            .collect();
        let title = records.of(*id).map_or("", |cve| cve.title.as_str());
        let title = left.map_or_else(|| title.to_owned(), |left| screen.cut(title, left));
        line(&format!("{}{cells}  {title}", pad(&id.to_string(), ID)));
    }
    line("");
    line(&counts(kernels, screen));
    text
}

/// Counts each kernel's verdicts, a line for each kernel.
fn counts(kernels: &[&Measured], screen: &Screen) -> String {
    let mut text = screen.paint(
        Style::Heading,
        "     affected  unknown  outside-span  carries  not-built  function-absent",
    );
    for (index, kernel) in kernels.iter().enumerate() {
        let funnel = Funnel::of(kernel);
        let number = index + 1;
        write!(
            text,
            "\n{number:>3}  {:>8}  {:>7}  {:>12}  {:>7}  {:>9}  {:>15}",
            funnel.affected,
            funnel.unknown,
            funnel.published - funnel.version,
            funnel.version - funnel.carried,
            funnel.carried - funnel.built,
            funnel.built - funnel.function
        )
        .expect("a String takes everything");
    }
    text
}

fn legend() -> String {
    "A affected  ? unknown; not affected: . by version, c carries the fix,\n\
     b not built, f function absent, r rejected"
        .to_owned()
}

fn letter(verdict: Applicability) -> char {
    match verdict {
        Applicability::Affected => 'A',
        Applicability::Unknown(_) => '?',
        Applicability::NotAffected(reason) => match reason {
            Reason::OutsideSpan => '.',
            Reason::Carries => 'c',
            Reason::NotBuilt => 'b',
            Reason::FunctionAbsent => 'f',
            Reason::Rejected => 'r',
        },
    }
}
