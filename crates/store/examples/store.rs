//! For measuring and comparing stores by hand.
//!
//!     store dump STORE            everything of the feed's records as text
//!     store scan STORE REPO BRANCH    one scan; prints what it did and how long it took
//!     store times STORE           how long the readings of a full store take
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::env;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use tuxtape_core::cve::CveId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::signals::{Batch, Epss, PartsPerMillion, Signal, Source};
use tuxtape_store::scan::{self, Options};
use tuxtape_store::signals::Older;
use tuxtape_store::{Location, Store, horizons};
use tuxtape_sys::git::{BranchName, Repository};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["dump", location] => print!("{}", Store::open(&Location::parse(location)?)?.dump()?),
        ["scan", location, repository, branch] => {
            let began = Instant::now();
            let store = Store::open(&Location::parse(location)?)?;
            let options = Options {
                source: (*repository).to_owned(),
                branch: BranchName::new(branch)?,
                allow_rewind: false,
                force_shrink: false,
            };
            let repository = Repository::open(Path::new(repository))?;
            let report = scan::scan(&store, &repository, &options)?;
            println!(
                "{} +{} ~{} -{} rows {} in {:.3} s",
                report.commit.id.short(),
                report.added,
                report.changed,
                report.removed,
                report.rows,
                began.elapsed().as_secs_f64()
            );
            let learnt = timed("dates", || scan::read_dates(&store, &repository))?;
            println!("{learnt} dates");
        }
        ["times", location] => times(&Store::open(&Location::parse(location)?)?)?,
        _ => return Err("usage: store dump|scan|times STORE …".into()),
    }
    Ok(())
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let value = run();
    println!(
        "{what:40} {:8.1} ms",
        began.elapsed().as_secs_f64() * 1000.0
    );
    value
}

fn times(store: &Store) -> Result<(), Box<dyn Error>> {
    let version = "6.1.170".parse()?;
    for _ in 0..3 {
        timed("lines, affected, horizons", || {
            let lines = store.lines()?;
            let affected = lines
                .iter()
                .filter(|line| line.read(version).is_affected())
                .count();
            horizons(&lines).of(version);
            Ok::<_, Box<dyn Error>>(affected)
        })?;
    }
    timed("records", || store.records())?;
    timed("dump", || store.dump())?;
    let mut rows = Vec::new();
    for number in 0..300_000 {
        let id = CveId::new(
            2020 + u16::try_from(number / 50_000)?,
            1000 + number % 50_000,
        );
        let share = PartsPerMillion::new(number).ok_or("a share")?;
        let epss = Epss {
            probability: share,
            percentile: share,
        };
        rows.push((id.ok_or("an id")?, Signal::Epss(epss)));
    }
    let batch = Batch {
        source: Source::Epss,
        dated: None,
        complete: true,
        rows,
        named: Vec::new(),
        updated: std::collections::BTreeMap::new(),
    };
    for _ in 0..2 {
        timed("300,000 EPSS rows in", || {
            store.put_signals(&batch, "made up", UtcSeconds::EPOCH, Older::Refuse)
        })?;
    }
    timed("signals", || store.signals())?;
    Ok(())
}
