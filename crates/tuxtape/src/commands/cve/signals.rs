//! `tuxtape cve signals`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::signals::Signal;
use tuxtape_store::signals::Orphan;

use crate::commands::scan::signals::{age, age_days, day, sort_out};
use crate::context::Context;
use crate::output;
use crate::remembered;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {}

#[derive(Serialize)]
struct Json {
    signals: Vec<JsonSource>,
    not_in_feed: Vec<JsonOrphan>,
    /// Rows of KEV about CVEs without a record that are not about the kernel.
    not_about_the_kernel: usize,
}

#[derive(Serialize)]
struct JsonSource {
    source: &'static str,
    origin: String,
    dated: Option<UtcSeconds>,
    taken: UtcSeconds,
    age_days: u64,
    rows: u64,
}

#[derive(Serialize)]
struct JsonOrphan {
    cve: String,
    source: &'static str,
    what: String,
}

/// Runs the command.
pub fn run(_: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let (store, _) = remembered::feed(context)?;
    let now = remembered::now();
    let stamps = store.stamps()?;
    let (orphans, others) = sort_out(store.orphans()?);
    if context.json {
        output::json(&Json {
            signals: stamps
                .into_iter()
                .map(|stamp| JsonSource {
                    source: stamp.source.as_str(),
                    age_days: age_days(stamp.dated, stamp.taken, now),
                    origin: stamp.origin,
                    dated: stamp.dated,
                    taken: stamp.taken,
                    rows: stamp.rows,
                })
                .collect(),
            not_in_feed: orphans
                .iter()
                .map(|orphan| JsonOrphan {
                    cve: orphan.cve.to_string(),
                    source: orphan.source.as_str(),
                    what: what(orphan),
                })
                .collect(),
            not_about_the_kernel: others,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if stamps.is_empty() {
        output::talk("no signals yet: give files or URLs to `tuxtape scan --signals`");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["SOURCE", "DATED", "AGE", "ROWS", "FROM"]);
    for stamp in &stamps {
        let days = age_days(stamp.dated, stamp.taken, now);
        table.add_row([
            stamp.source.to_string(),
            stamp.dated.map_or_else(|| "no date".to_owned(), day),
            // Without a date nobody knows how old the data is, only when it was read.
            match (stamp.dated, days) {
                (Some(_), days) => age(days),
                (None, 0) => "read today".to_owned(),
                (None, 1) => "read 1 day ago".to_owned(),
                (None, days) => format!("read {days} days ago"),
            },
            stamp.rows.to_string(),
            stamp.origin.clone(),
        ]);
    }
    let mut text = format!("{table}\n");
    if !orphans.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["NOT IN FEED", "SOURCE", "SAYS"]);
        for orphan in &orphans {
            table.add_row([
                orphan.cve.to_string(),
                orphan.source.to_string(),
                what(orphan),
            ]);
        }
        write!(text, "\n{table}\n")?;
    }
    if others > 0 {
        writeln!(text, "\n{others} more rows are not about the kernel")?;
    }
    output::text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Says in a few words what a row says.
fn what(orphan: &Orphan) -> String {
    match &orphan.signal {
        Signal::Kev(kev) => {
            let ransomware = if kev.ransomware {
                ", used for ransom"
            } else {
                ""
            };
            let said = format!("exploited, listed on {}{ransomware}", day(kev.added));
            match kev.product.as_str() {
                "" => said,
                product => format!("{product}: {said}"),
            }
        }
        Signal::Exploit(exploit) => exploit.name.clone(),
        Signal::Epss(_) | Signal::Ssvc(_) | Signal::Score(_) => String::new(),
    }
}
