//! `tuxtape cve rank`.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::mem;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tuxtape_core::applicability::Applicability;
use tuxtape_core::cve::{CveId, State};
use tuxtape_core::decision::{Choice, Decision};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::priority::{Band, Factor, Priority, ThreatModel};
use tuxtape_store::Stored;

use super::json;
use crate::commands::gauge::looking::Looking;
use crate::context::Context;
use crate::output;
use crate::remembered::shelf::{Gauged, Item, Shelf, ages, day};
use crate::remembered::utc;
use crate::remembered::weights::Weights;
use crate::screen::{Colour, Screen, Style};

/// Columns of the bar.
const BAR: usize = 8;
/// Columns between two columns.
const GAP: usize = 2;
/// Most and least columns of the cause.
const WIDEST_WHY: usize = 40;
const LEAST_WHY: usize = 14;
/// Least columns for the title, however narrow the terminal.
const LEAST_TITLE: usize = 20;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only CVEs that this kernel has, or may have
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<KernelRelease>,
    #[command(flatten)]
    weights: Weights,
    /// Most CVEs listed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Only CVEs of this band; can be repeated
    #[arg(long = "band", value_name = "BAND", value_parser = band)]
    bands: Vec<Band>,
    /// Also CVEs that somebody decided to ignore
    #[arg(long)]
    all: bool,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,
}

fn band(text: &str) -> Result<Band, String> {
    [Band::Act, Band::Attend, Band::Track]
        .into_iter()
        .find(|band| band.as_str() == text)
        .ok_or_else(|| "want act, attend or track".to_owned())
}

#[derive(Serialize)]
struct Json<'a> {
    cve: String,
    points: u32,
    band: &'a str,
    model: Option<&'a str>,
    factors: Vec<json::Factor<'a>>,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<json::Decision<'a>>,
}

/// What a ranking holds and leaves out.
struct Ranking<'a> {
    /// Best first, no more than were asked for.
    items: Vec<Item<'a>>,
    /// How many there would be without a limit.
    of: usize,
    /// How many more are ignored by decision.
    ignored: usize,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let policy = arguments.weights.policy()?;
    let shelf = match &arguments.kernel {
        None => Shelf::open(context, None, &Looking::default(), policy)?,
        Some(release) => Shelf::open_for(context, release, policy)?,
    };
    let ranking = rank(&shelf, arguments);
    if context.json {
        for line in shelf.unread_words() {
            output::talk(&format!("warning: {line}"));
        }
        output::json_lines(ranking.items.iter().map(line))?;
    } else {
        let screen = Screen::detect(arguments.color);
        output::text(&page(&ranking, &shelf, screen))?;
    }
    drop(ranking);
    // The program ends here: the system takes the memory back faster than text by text.
    mem::forget(shelf);
    Ok(ExitCode::SUCCESS)
}

fn rank<'a>(shelf: &'a Shelf, arguments: &Arguments) -> Ranking<'a> {
    let has = |stored: &&Stored| match shelf.verdict(stored.cve.id) {
        Some(Applicability::NotAffected(_)) => false,
        // Unknown is not low.
        Some(Applicability::Affected | Applicability::Unknown(_)) | None => {
            // A withdrawn one with a newer edition that nobody could read may be back.
            stored.cve.state == State::Published || stored.stale.is_some()
        }
    };
    let in_band = |item: &Item<'_>| {
        arguments.bands.is_empty() || arguments.bands.contains(&item.priority.band)
    };
    let mut ignored = 0;
    let mut items: Vec<Item<'_>> = shelf
        .records
        .iter()
        // Before they are weighed, which takes longer.
        .filter(has)
        .map(|stored| shelf.item(stored))
        .filter(in_band)
        .filter(|item| {
            let shown = arguments.all || !is_ignored(item);
            ignored += usize::from(!shown);
            shown
        })
        .collect();
    items.sort_by_key(|item| Reverse(order(&item.priority)));
    let of = items.len();
    items.truncate(arguments.limit);
    Ranking { items, of, ignored }
}

/// The order of [`priority::sort`](tuxtape_core::priority::sort), lowest first.
fn order(priority: &Priority) -> (u32, CveId) {
    (priority.points, priority.cve)
}

fn is_ignored(item: &Item<'_>) -> bool {
    item.decision.is_some_and(|decision| match decision.choice {
        Choice::Ignore => true,
        Choice::Accept | Choice::Defer => false,
    })
}

fn line<'a>(item: &'a Item<'_>) -> Json<'a> {
    let priority = &item.priority;
    Json {
        cve: priority.cve.to_string(),
        points: priority.points,
        band: priority.band.as_str(),
        model: priority.model.map(ThreatModel::as_str),
        factors: priority.factors.iter().map(json::factor).collect(),
        title: &item.stored.cve.title,
        verdict: item.verdict.map(Applicability::as_str),
        reason: item.verdict.and_then(Applicability::reason),
        decision: item.decision.map(json::decision),
    }
}

fn page(ranking: &Ranking<'_>, shelf: &Shelf, screen: Screen) -> String {
    let mut text = head(shelf);
    if ranking.items.is_empty() {
        text.push_str("no CVE to show\n");
    } else {
        text.push('\n');
        text.push_str(&table(&ranking.items, shelf, screen));
    }
    let mut left_out = Vec::new();
    if ranking.of > ranking.items.len() {
        left_out.push(format!("{} of {} shown", ranking.items.len(), ranking.of));
    }
    if ranking.ignored > 0 {
        left_out.push(format!("{} ignored by decision (--all)", ranking.ignored));
    }
    if !left_out.is_empty() {
        let line = screen.paint(Style::Faint, &left_out.join("; "));
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// Says what the ranking stands on: the kernel, the feed, the policy and the age of the evidence.
fn head(shelf: &Shelf) -> String {
    let mut text = String::new();
    if let Some(Gauged { profile, .. }) = &shelf.kernel {
        let horizon = profile.base_version.parse().ok();
        let horizon = horizon.and_then(|base| shelf.horizons.of(base));
        let horizon = horizon.map_or_else(
            || "unknown to the feed".to_owned(),
            |horizon| format!("known to the feed up to {horizon}"),
        );
        let (release, base) = (&profile.id.release, &profile.base_version);
        writeln!(text, "kernel {release} on {base}, {horizon}").expect("a String takes everything");
    }
    let models: Vec<&str> = shelf
        .policy
        .models()
        .iter()
        .map(|model| model.as_str())
        .collect();
    writeln!(
        text,
        "feed of {}; {}\npolicy {}: {}",
        utc(shelf.feed.time),
        ages(&shelf.stamps).join(", "),
        shelf.policy.name(),
        models.join(", ")
    )
    .expect("a String takes everything");
    for line in shelf.unread_words() {
        writeln!(text, "{line}").expect("a String takes everything");
    }
    text
}

/// One column: its heading, and for each row the text and how it is painted.
struct Column {
    heading: &'static str,
    cells: Vec<(String, Option<Style>)>,
    right: bool,
}

fn table(items: &[Item<'_>], shelf: &Shelf, screen: Screen) -> String {
    let most = items.iter().map(|item| item.priority.points).max();
    let whole = most.unwrap_or(0).max(shelf.policy.threshold(Band::Act));
    let column = |heading, cell: &dyn Fn(&Item<'_>) -> (String, Option<Style>)| Column {
        heading,
        cells: items.iter().map(cell).collect(),
        right: false,
    };
    let plain = |text: String| (text, None);
    let by_band = |item: &Item<'_>, text: String| (text, Some(Style::Band(item.priority.band)));
    let mut columns = vec![
        column("CVE", &|item| plain(item.priority.cve.to_string())),
        column("", &|item| {
            by_band(item, screen.bar(item.priority.points, whole, BAR))
        }),
        Column {
            right: true,
            ..column("POINTS", &|item| plain(item.priority.points.to_string()))
        },
        column("BAND", &|item| {
            by_band(item, item.priority.band.to_string())
        }),
        column("MODEL", &|item| {
            plain(
                item.priority
                    .model
                    .map_or("", ThreatModel::as_str)
                    .to_owned(),
            )
        }),
    ];
    if shelf.kernel.is_some() {
        columns.push(column("VERDICT", &|item| {
            plain(item.verdict.map_or_else(String::new, short))
        }));
    }
    if items.iter().any(|item| item.decision.is_some()) {
        columns.push(column("DECISION", &|item| {
            plain(item.decision.map_or_else(String::new, mark))
        }));
    }
    let used = |columns: &[Column]| columns.iter().map(|column| column.width() + GAP).sum();
    let left = screen.columns.map(|all| all.saturating_sub(used(&columns)));
    if left.is_some_and(|left| left < LEAST_TITLE) {
        columns.retain(|column| column.heading != "MODEL");
    }
    let used = used(&columns);
    let (why_width, title_width) = share(screen.columns, used);
    if why_width > 0 {
        columns.push(column("WHY", &|item| {
            plain(why(&item.priority.factors, why_width, screen))
        }));
    }
    columns.push(column("TITLE", &|item| {
        plain(screen.cut(&item.stored.cve.title, title_width))
    }));
    draw(&columns, screen)
}

/// Shares what `used` leaves of a line between the cause, which may have to go, and the title.
fn share(columns: Option<usize>, used: usize) -> (usize, usize) {
    let Some(columns) = columns else {
        return (WIDEST_WHY, usize::MAX);
    };
    let left = columns.saturating_sub(used);
    let why = (left * 2 / 5).min(WIDEST_WHY);
    if why < LEAST_WHY {
        return (0, left.max(LEAST_TITLE));
    }
    (why, left - why - GAP)
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|(text, _)| text.chars().count());
        cells.chain([self.heading.len()]).max().unwrap_or(0)
    }
}

fn draw(columns: &[Column], screen: Screen) -> String {
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let cell = |column: &Column, width: usize, text: &str, style: Option<Style>| {
        let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
        let painted = style.map_or_else(|| text.to_owned(), |style| screen.paint(style, text));
        if column.right {
            format!("{blanks}{painted}")
        } else {
            format!("{painted}{blanks}")
        }
    };
    let join = |cells: Vec<String>| format!("{}\n", cells.join("  ").trim_end());
    let heading = columns
        .iter()
        .zip(&widths)
        .map(|(column, width)| cell(column, *width, column.heading, Some(Style::Heading)));
    let mut text = join(heading.collect());
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        let cells = columns.iter().zip(&widths).map(|(column, width)| {
            let (text, style) = &column.cells[row];
            cell(column, *width, text, *style)
        });
        text.push_str(&join(cells.collect()));
    }
    text
}

/// Names the strongest cause in few words: evidence where there is some, else what a hit does and the
/// code that is reached.
fn why(factors: &[Factor], width: usize, screen: Screen) -> String {
    let evidence = factors
        .iter()
        .find(|factor| !matches!(factor.term, "reach" | "impact" | "vector" | "path" | "door"));
    if let Some(Factor { cause, .. }) = evidence {
        let cause = cause.split_once(": CVSS").map_or(&**cause, |(who, _)| who);
        return screen.cut(cause, width);
    }
    let cause = |term: &str| {
        let found = factors.iter().find(|factor| factor.term == term);
        found.map_or("", |factor| &*factor.cause)
    };
    // `use-after-free 100: …`, or words that say that there is none.
    let class = match cause("impact").split_once(':') {
        Some((class, _)) => class.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' '),
        None => "unclear",
    };
    // `userns 100: net/sched/sch_taprio.c (sched)`.
    let place = cause("reach");
    let place = place.split_once(": ").map_or(place, |(_, place)| place);
    let place = place.rsplit_once(" (").map_or(place, |(file, _)| file);
    let place = place.split_once(';').map_or(place, |(words, _)| words);
    let left = width.saturating_sub(class.chars().count() + 2);
    let place = if place.chars().count() > left {
        place.rsplit_once('/').map_or(place, |(_, name)| name)
    } else {
        place
    };
    screen.cut(&format!("{class}: {place}"), width)
}

/// A verdict in few words.
fn short(verdict: Applicability) -> String {
    match verdict {
        Applicability::Affected => "affected".to_owned(),
        Applicability::NotAffected(reason) => format!("no ({})", reason.as_str()),
        Applicability::Unknown(gap) => format!("? ({})", gap.as_str()),
    }
}

/// A decision in few words.
fn mark(decision: &Decision) -> String {
    let until = decision
        .until
        .map_or_else(String::new, |until| format!(" to {}", day(until)));
    format!("{}{until}", decision.choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_and_the_cause_share_a_line() {
        assert_eq!(share(None, 60), (40, usize::MAX));
        assert_eq!(share(Some(200), 60), (40, 98));
        assert_eq!(share(Some(100), 60), (16, 22));
        assert_eq!(share(Some(90), 60), (0, 30));
        assert_eq!(share(Some(40), 60), (0, 20));
    }
}
