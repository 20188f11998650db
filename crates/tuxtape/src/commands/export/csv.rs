//! Records as rows of a spreadsheet.

use std::fmt::Display;
use std::io::{self, Write};

use clap::Args;
use tuxtape_core::applicability::Applicability;
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::priority::ThreatModel;
use tuxtape_core::span::Span;

use super::sink::Sink;
use crate::commands::gauge::looking::Looking;
use crate::context::Context;
use crate::output;
use crate::remembered::shelf::{Item, Shelf, published};
use crate::remembered::weights::Weights;

/// Columns of every export; those of a kernel follow.
const COLUMNS: [&str; 17] = [
    "cve",
    "state",
    "band",
    "points",
    "model",
    "cvss",
    "cvss_vector",
    "published",
    "changed",
    "title",
    "files",
    "introduced_in",
    "fixed_in",
    "decision",
    "decision_until",
    "decision_who",
    "decision_why",
];
const KERNEL_COLUMNS: [&str; 3] = ["kernel", "verdict", "reason"];

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Add the verdict for this kernel, its reason, and decisions made for it
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<KernelRelease>,
    #[command(flatten)]
    looking: Looking,
    #[command(flatten)]
    weights: Weights,
    /// The file; `-` for the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: Sink,
}

pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<()> {
    let shelf = Shelf::open(
        context,
        arguments.kernel.as_ref(),
        &arguments.looking,
        arguments.weights.policy()?,
    )?;
    let unread: Vec<CveId> = shelf.never_read().map(|(id, _)| id).collect();
    let what = format!("{} rows", shelf.records.len() + unread.len());
    for line in shelf.unread_words() {
        output::talk(&format!("warning: {line}"));
    }
    arguments.out.write(&what, |out| {
        let head = COLUMNS.iter().chain(match shelf.release() {
            Some(_) => &KERNEL_COLUMNS[..],
            None => &[],
        });
        row(out, head)?;
        for item in shelf.items() {
            row(out, cells(&item, &shelf))?;
        }
        for id in unread {
            row(out, unread_cells(id, &shelf))?;
        }
        Ok(())
    })
}

fn cells(item: &Item<'_>, shelf: &Shelf) -> Vec<String> {
    let cve = &item.stored.cve;
    let changed = shelf.changed(item.stored);
    let score = cve.cvss.as_ref();
    let decision = item.decision;
    let mut cells = vec![
        cve.id.to_string(),
        cve.state.to_string(),
        item.priority.band.to_string(),
        item.priority.points.to_string(),
        item.priority
            .model
            .map_or("", ThreatModel::as_str)
            .to_owned(),
        or_empty(score.map(|cvss| cvss.score)),
        or_empty(score.map(|cvss| &cvss.vector)),
        or_empty(published(item.stored)),
        changed.to_string(),
        cve.title.clone(),
        cve.files.join(" "),
        versions(&cve.spans, |span| span.introduced),
        versions(&cve.spans, |span| span.fixed),
        or_empty(decision.map(|it| it.choice)),
        or_empty(decision.and_then(|it| it.until)),
        or_empty(decision.map(|it| &it.who)),
        or_empty(decision.map(|it| &it.why)),
    ];
    if let Some(release) = shelf.release() {
        cells.extend([
            release.to_string(),
            item.verdict.map_or("", Applicability::as_str).to_owned(),
            item.verdict
                .and_then(Applicability::reason)
                .unwrap_or("")
                .to_owned(),
        ]);
    }
    cells
}

/// A record of which no edition could be read: only that there is one.
fn unread_cells(id: CveId, shelf: &Shelf) -> Vec<String> {
    let mut cells = vec![id.to_string(), "unreadable".to_owned()];
    cells.resize(COLUMNS.len(), String::new());
    if let Some(release) = shelf.release() {
        let verdict = shelf.verdict(id);
        cells.extend([
            release.to_string(),
            verdict.map_or("", Applicability::as_str).to_owned(),
            verdict
                .and_then(Applicability::reason)
                .unwrap_or("")
                .to_owned(),
        ]);
    }
    cells
}

fn or_empty(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Names the versions of one side of the spans, oldest first, each once.
fn versions(spans: &[Span], side: impl Fn(&Span) -> Option<tuxtape_core::span::Landing>) -> String {
    let mut versions: Vec<_> = spans
        .iter()
        .filter_map(side)
        .map(|landing| landing.version)
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let texts: Vec<String> = versions.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

fn row<T: AsRef<str>>(out: &mut dyn Write, cells: impl IntoIterator<Item = T>) -> io::Result<()> {
    for (n, cell) in cells.into_iter().enumerate() {
        if n > 0 {
            out.write_all(b",")?;
        }
        out.write_all(field(cell.as_ref()).as_bytes())?;
    }
    out.write_all(b"\r\n")
}

/// Writes one field, so that it is read as this text by parsers and as no formula by spreadsheets.
fn field(text: &str) -> String {
    // What starts a formula in one spreadsheet or another, behind blanks too.
    let formula = text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .starts_with([
            '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
        ])
        || text.starts_with(['\t', '\r', '\n']);
    let mark = if formula { "'" } else { "" };
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{mark}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{mark}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_when_it_must_be() {
        for (text, field_text) in [
            ("plain text", "plain text"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(field(text), field_text);
        }
    }

    #[test]
    fn a_field_is_no_formula() {
        for text in [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            " =1",
            "\u{ff1d}1",
            "=A1,\"x\"",
        ] {
            let written = field(text);
            let inside = written.trim_start_matches('"');
            assert!(inside.starts_with('\''), "{text:?}: {written:?}");
        }
    }
}
