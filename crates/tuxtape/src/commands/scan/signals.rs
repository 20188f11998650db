//! The part of `tuxtape scan` that takes in outside evidence.

mod place;

use std::env;
use std::fmt::Write as _;

use anyhow::anyhow;
use serde::Serialize;
use tuxtape_core::cve::CveId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::signals::{Batch, Signal, Source, Stamp};
use tuxtape_store::signals::{Older, Orphan, SignalsError, Taken};
use tuxtape_store::{Store, StoreError};
use tuxtape_sys::fetch::Options;

pub use place::Place;

use crate::output::Hint;

const DAY: u64 = 86_400;
/// A catalogue that loses more than this share of its rows, in percent, looks cut short …
const SHRINKS: u64 = 5;
/// … unless they are this few, as a person takes out of a list.
const FEW: u64 = 10;
/// Most CVEs that are named in one line.
const MOST_NAMED: usize = 10;

/// What may be taken in against appearances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Data dated before what is stored.
    pub older: bool,
    /// A catalogue with many fewer rows than before.
    pub fewer: bool,
}

/// One source as it was taken in.
#[derive(Debug)]
pub struct Entered {
    source: Source,
    origin: String,
    dated: Option<UtcSeconds>,
    at: UtcSeconds,
    taken: Taken,
    /// CVEs without a record that are about the kernel by what the source says.
    orphans: Vec<CveId>,
}

/// What came of all places.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was taken in, in the order it was named.
    pub entered: Vec<Entered>,
    /// What was not, and why; the store keeps what it had of it.
    pub failed: Vec<Failed>,
}

/// One place that nothing came of.
#[derive(Debug)]
pub struct Failed {
    origin: String,
    why: anyhow::Error,
    hint: Hint,
}

/// One source, for programs.
#[derive(Debug, Serialize)]
pub struct Json<'a> {
    source: &'a str,
    origin: &'a str,
    dated: Option<UtcSeconds>,
    taken: UtcSeconds,
    age_days: u64,
    rows: u64,
    not_in_feed: usize,
    /// Those that name the kernel; see `cve signals`.
    orphans: Vec<String>,
    /// CVEs of a partial file for which the store has newer rows.
    passed_over: usize,
}

/// One failure, for programs.
#[derive(Debug, Serialize)]
pub struct JsonFailed<'a> {
    origin: &'a str,
    error: String,
}

/// Reads every place and takes in what it says, each source in one transaction. A place that fails
/// leaves the others and the store alone.
pub fn take(store: &Store, places: &[Place], accept: Accept, now: UtcSeconds) -> Outcome {
    let options = Options::from_variables(|name| env::var(name).ok());
    let mut outcome = Outcome::default();
    let mut exploits: Vec<(String, Batch)> = Vec::new();
    // What could not be read may be one of the lists of exploits, which make up the whole together.
    let mut missing: Option<String> = None;
    for place in places {
        let origin = place.origin();
        if place.is_remote() {
            crate::output::talk(&format!("fetching {origin}"));
        }
        match place.read(&options) {
            Ok(batch) if batch.source == Source::Exploits => exploits.push((origin, batch)),
            Ok(batch) => enter(store, &batch, origin, accept, now, &mut outcome),
            Err(unread) => {
                if matches!(unread.source, None | Some(Source::Exploits)) {
                    missing.get_or_insert_with(|| origin.clone());
                }
                let failed = Failed::new(store, origin, unread.source, unread.why, "");
                outcome.failed.push(failed);
            }
        }
    }
    if let Some(missing) = missing {
        for (origin, _) in exploits {
            let why = anyhow!("lists of exploits are taken together, and {missing} is not read");
            let failed = Failed::new(store, origin, Some(Source::Exploits), why, "");
            outcome.failed.push(failed);
        }
    } else if let Some((origin, batch)) = together(exploits) {
        enter(store, &batch, origin, accept, now, &mut outcome);
    }
    outcome
}

/// Makes one complete list of several: each alone would remove what the others say.
fn together(exploits: Vec<(String, Batch)>) -> Option<(String, Batch)> {
    exploits
        .into_iter()
        .reduce(|(all_from, mut all), (origin, batch)| {
            all.dated = all.dated.max(batch.dated);
            all.rows.extend(batch.rows);
            all.named.extend(batch.named);
            all.named.sort_unstable();
            all.named.dedup();
            (format!("{all_from}, {origin}"), all)
        })
}

fn enter(
    store: &Store,
    batch: &Batch,
    origin: String,
    accept: Accept,
    now: UtcSeconds,
    outcome: &mut Outcome,
) {
    match put(store, batch, &origin, accept, now) {
        Ok((taken, orphans)) => outcome.entered.push(Entered {
            source: batch.source,
            origin,
            dated: batch.dated,
            at: now,
            taken,
            orphans,
        }),
        Err((why, way_out)) => {
            let failed = Failed::new(store, origin, Some(batch.source), why, way_out);
            outcome.failed.push(failed);
        }
    }
}

/// Puts one batch into the store; what goes wrong comes with a way out, or with none.
fn put(
    store: &Store,
    batch: &Batch,
    origin: &str,
    accept: Accept,
    now: UtcSeconds,
) -> Result<(Taken, Vec<CveId>), (anyhow::Error, &'static str)> {
    let failed = |error: StoreError| (error.into(), "");
    if batch.complete && !accept.fewer {
        let before = stamp(store, batch.source).map_err(failed)?;
        let before = before.map_or(0, |stamp| stamp.rows);
        let rows = batch.rows.len() as u64;
        let lost = before.saturating_sub(rows);
        if lost > FEW && lost.saturating_mul(100) > before.saturating_mul(SHRINKS) {
            return Err((
                anyhow!("it has {rows} rows, and {before} are stored: it looks cut short"),
                "look at it, and accept it as it is with --force-shrink; ",
            ));
        }
    }
    let older = if accept.older {
        Older::Accept
    } else {
        Older::Refuse
    };
    let taken = store
        .put_signals(batch, origin, now, older)
        .map_err(|error| match error {
            SignalsError::Older { .. } => (
                error.into(),
                "accept it with --allow-rewind if it is meant; ",
            ),
            SignalsError::Future { .. } => (error.into(), "look at it, and at the clock; "),
            SignalsError::Store(error) => failed(error),
        })?;
    let orphans = store.orphans().map_err(failed)?;
    let mut orphans: Vec<CveId> = orphans
        .iter()
        .filter(|orphan| orphan.source == batch.source && is_about_the_kernel(&orphan.signal))
        .map(|orphan| orphan.cve)
        .collect();
    orphans.dedup();
    Ok((taken, orphans))
}

/// Tells whether a row about a CVE without a record names the kernel: most of KEV is about other
/// software, and the kernel's rows hide under several vendors.
pub fn is_about_the_kernel(signal: &Signal) -> bool {
    match signal {
        Signal::Kev(kev) => {
            let product = kev.product.to_lowercase();
            // Without a product it comes from a record that somebody chose to read.
            product.is_empty() || product.contains("kernel") || product.contains("linux")
        }
        Signal::Exploit(_) => true,
        Signal::Epss(_) | Signal::Ssvc(_) | Signal::Score(_) => false,
    }
}

fn stamp(store: &Store, source: Source) -> Result<Option<Stamp>, StoreError> {
    let stamps = store.stamps()?;
    Ok(stamps.into_iter().find(|stamp| stamp.source == source))
}

/// Says what the store still holds of the source.
fn stays(store: &Store, source: Option<Source>) -> String {
    let Some(source) = source else {
        return "what the store has stays; see it with `tuxtape cve signals`".to_owned();
    };
    match stamp(store, source) {
        Ok(Some(stamp)) => {
            let day = day(stamp.dated.unwrap_or(stamp.taken));
            format!("the {source} data of {day} stays: {} rows", stamp.rows)
        }
        Ok(None) => format!("the store has no {source} data yet"),
        Err(_) => "check the disk and who else uses the store".to_owned(),
    }
}

/// Returns the age in whole days: of the data where it is dated, else of the reading.
pub fn age_days(dated: Option<UtcSeconds>, taken: UtcSeconds, now: UtcSeconds) -> u64 {
    now.since(dated.unwrap_or(taken)) / DAY
}

/// Writes the day of an instant.
pub fn day(instant: UtcSeconds) -> String {
    instant.to_string().chars().take(10).collect()
}

/// Writes an age for people.
pub fn age(days: u64) -> String {
    match days {
        0 => "of today".to_owned(),
        1 => "1 day old".to_owned(),
        more => format!("{more} days old"),
    }
}

impl Entered {
    fn age_days(&self) -> u64 {
        age_days(self.dated, self.at, self.at)
    }

    /// For programs.
    pub fn json(&self) -> Json<'_> {
        Json {
            source: self.source.as_str(),
            origin: &self.origin,
            dated: self.dated,
            taken: self.at,
            age_days: self.age_days(),
            rows: self.taken.rows,
            not_in_feed: self.taken.without_record,
            orphans: self.orphans.iter().map(ToString::to_string).collect(),
            passed_over: self.taken.older.len(),
        }
    }

    /// For people, in the form of the scan's other lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            writeln!(text, "{name:13} {value}").expect("a String takes everything");
        };
        let dated = match self.dated {
            Some(dated) => format!("of {} ({})", day(dated), age(self.age_days())),
            None => "without a date".to_owned(),
        };
        let cves = |count: usize| match count {
            1 => "1 CVE".to_owned(),
            more => format!("{more} CVEs"),
        };
        let mut parts = vec![format!("{} rows", self.taken.rows)];
        if self.taken.without_record > 0 {
            parts.push(format!(
                "{} not in the feed",
                cves(self.taken.without_record)
            ));
        }
        if !self.taken.older.is_empty() {
            let passed_over = cves(self.taken.older.len());
            parts.push(format!("{passed_over} passed over, known from newer data"));
        }
        let what = format!("{} {dated}: {}", self.source, parts.join(", "));
        line("signals", &what);
        if !self.orphans.is_empty() {
            let mut names: Vec<String> = self.orphans.iter().map(ToString::to_string).collect();
            let more = names.len().saturating_sub(MOST_NAMED);
            names.truncate(MOST_NAMED);
            let mut names = names.join(", ");
            if more > 0 {
                names += &format!(" and {more} more; list them with `tuxtape cve signals`");
            }
            line("not in feed", &names);
        }
        text
    }
}

impl Failed {
    fn new(
        store: &Store,
        origin: String,
        source: Option<Source>,
        why: anyhow::Error,
        way_out: &str,
    ) -> Self {
        let source_name = source.map_or_else(String::new, |source| format!(" as {source}"));
        Self {
            why: why.context(format!("could not take in {origin}{source_name}")),
            hint: Hint::new(format!("{way_out}{}", stays(store, source))),
            origin,
        }
    }

    /// For programs.
    pub fn json(&self) -> JsonFailed<'_> {
        JsonFailed {
            origin: &self.origin,
            error: format!("{:#}", self.why),
        }
    }

    /// For people: what went wrong, with a hint.
    pub fn into_error(self) -> anyhow::Error {
        self.why.context(self.hint)
    }
}

/// Sorts out the rows about CVEs without a record: those about the kernel, and the number of others.
pub fn sort_out(orphans: Vec<Orphan>) -> (Vec<Orphan>, usize) {
    let all = orphans.len();
    let kernel: Vec<Orphan> = orphans
        .into_iter()
        .filter(|orphan| is_about_the_kernel(&orphan.signal))
        .collect();
    let others = all.saturating_sub(kernel.len());
    (kernel, others)
}
