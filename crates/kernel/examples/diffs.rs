//! Measures how long the diffs of many fixes take: `diffs SOURCE LIST CACHE`, where a line of LIST is a
//! CVE and the commit that fixes it on the kernel's own branch.
#![expect(clippy::print_stdout, reason = "it is a program for a terminal")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use tuxtape_core::cve::{Cve, State};
use tuxtape_core::span::{Landing, Span};
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::fix_source::library::{Library, Network};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, list, cache] = arguments.as_slice() else {
        return Err("want SOURCE LIST CACHE".into());
    };
    let list = std::fs::read_to_string(list)?;
    let cves: Vec<Cve> = list.lines().filter_map(record).collect();
    let library = Library {
        sources: vec![source.parse()?],
        cache: PathBuf::from(cache),
        network: Network::Allowed,
    };
    let base: KernelVersion = "6.1.170".parse()?;
    let start = Instant::now();
    let found = library.diffs(&cves.iter().collect::<Vec<_>>(), base);
    let took = start.elapsed();
    let bytes: usize = found
        .values()
        .flat_map(|found| &found.diffs)
        .map(|diff| diff.text.len())
        .sum();
    let whole = found
        .values()
        .filter(|found| !found.diffs.is_empty())
        .count();
    println!(
        "{whole} of {} CVEs have a diff, {bytes} bytes, {:.2} s",
        cves.len(),
        took.as_secs_f64()
    );
    for reason in found.values().flat_map(|found| &found.passed_over).take(3) {
        println!("passed over {reason}");
    }
    Ok(())
}

fn record(line: &str) -> Option<Cve> {
    let (cve, commit) = line.split_once(' ')?;
    Some(Cve {
        id: cve.parse().ok()?,
        state: State::Published,
        title: String::new(),
        description: String::new(),
        files: Vec::new(),
        cvss: None,
        references: Vec::new(),
        mainline_fixes: Vec::new(),
        spans: vec![Span {
            introduced: None,
            fixed: Some(Landing {
                version: "6.1.176".parse().ok()?,
                commit: commit.trim().parse().ok()?,
            }),
        }],
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    })
}
