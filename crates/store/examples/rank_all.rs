//! Ranks every record of a checked-out feed and prints one line of JSON for each, best first.
//!
//! ```text
//! rank_all FEED_DIR [--policy FILE] [--models A,B,…] [--evidence] [--no-vectors] [--time]
//! ```
//!
//! For `bench/rank`: evidence of exploitation is off unless asked for. No signals are read, so the
//! only outside score is the CNA's own vector in the feed; `--no-vectors` leaves that out too.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output")]

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use tuxtape_core::cve::{
    Cve, CveId,
    edition::{self, Files},
};
use tuxtape_core::priority::{self, Policy, Priority};
use tuxtape_core::signals::Signals;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let feed = PathBuf::from(arguments.next().ok_or("want a folder of the feed")?);
    let mut policy = Policy::builtin();
    let mut models = Vec::new();
    let (mut evidence, mut vectors, mut time) = (false, true, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--policy" => {
                let file = arguments.next().ok_or("--policy wants a file")?;
                policy = Policy::parse(&fs::read_to_string(file)?)?;
            }
            "--models" => {
                for name in arguments.next().ok_or("--models wants names")?.split(',') {
                    models.push(name.parse()?);
                }
            }
            "--evidence" => evidence = true,
            "--no-vectors" => vectors = false,
            "--time" => time = true,
            other => return Err(format!("{other} is no option").into()),
        }
    }
    policy = policy.declaring(models);
    if !evidence {
        policy = policy.without_evidence();
    }
    let mut cves = read(&feed.join("cve/published"))?;
    if !vectors {
        for cve in &mut cves {
            cve.cvss = None;
        }
    }
    let signals = Signals::default();
    let mut ranked = Vec::new();
    let mut taken = Vec::new();
    for _ in 0..if time { 21 } else { 1 } {
        let start = Instant::now();
        ranked = rank(&cves, &signals, &policy);
        taken.push(start.elapsed().as_micros());
    }
    if time {
        taken.sort_unstable();
        let (least, median) = (taken.first(), taken.get(taken.len() / 2));
        eprintln!(
            "{} records: least {} µs, median {} µs of {} runs",
            ranked.len(),
            least.unwrap_or(&0),
            median.unwrap_or(&0),
            taken.len()
        );
    }
    for it in &ranked {
        let factors: Vec<_> = it
            .factors
            .iter()
            .map(|factor| {
                serde_json::json!({
                    "term": factor.term, "points": factor.points, "cause": factor.cause,
                })
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({
                "cve": it.cve.to_string(),
                "points": it.points,
                "band": it.band.as_str(),
                "model": it.model.map(priority::ThreatModel::as_str),
                "factors": factors,
            })
        );
    }
    Ok(())
}

fn rank(cves: &[Cve], signals: &Signals, policy: &Policy) -> Vec<Priority> {
    let mut ranked: Vec<Priority> = cves
        .iter()
        .map(|cve| priority::prioritize(cve, signals, policy))
        .collect();
    priority::sort(&mut ranked);
    ranked
}

fn read(published: &Path) -> Result<Vec<Cve>, Failure> {
    let mut cves = Vec::new();
    for year in fs::read_dir(published)? {
        let year = year?.path();
        if !year.is_dir() {
            continue;
        }
        for file in fs::read_dir(year)? {
            let file = file?.path();
            if file.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let id: CveId = name.parse()?;
            let json = fs::read(&file)?;
            let dyad = fs::read(file.with_extension("dyad"))?;
            cves.push(edition::published(
                id,
                &Files {
                    json: &json,
                    dyad: &dyad,
                    ..Files::default()
                },
            )?);
        }
    }
    Ok(cves)
}
