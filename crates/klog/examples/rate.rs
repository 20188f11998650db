//! How fast a log is read, and in how much memory: `rate FILE…`, or `rate make-clean LINES FILE`.
//!
//! Each file is read in pieces of 64 KiB, as the command does, and timed with its reading.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use tuxtape_klog::assemble::{Item, Limits};
use tuxtape_klog::blame::Blamer;
use tuxtape_klog::fold::Fold;
use tuxtape_klog::parser::Parser;
use tuxtape_klog::patches::{Baseline, Patches};

const MESSAGES: &str = include_str!("../tests/clean/messages.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make-clean", lines, path] => lines
            .parse()
            .map_err(io::Error::other)
            .and_then(|lines| make_clean(lines, path)),
        _ => arguments.iter().try_for_each(|path| rate(path)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn make_clean(lines: usize, path: &str) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    // One line in a hundred has a word that a complaint could have, as in the log of a boot.
    let words = [
        "panic",
        "WARNING",
        "INFO:",
        "EDAC",
        "fault",
        "divide",
        "UBSAN",
        "livepatch",
    ];
    let (odd, messages): (Vec<&str>, Vec<&str>) = MESSAGES
        .lines()
        .partition(|message| words.iter().any(|word| message.contains(word)));
    for index in 0..lines {
        let from = if index % 100 == 0 { &odd } else { &messages };
        let place = (index * 31 + index / from.len()) % from.len();
        let text = from.get(place).copied().unwrap_or_default();
        let number = (index.wrapping_mul(2_654_435_761) % 9973).to_string();
        writeln!(
            out,
            "[{:5}.{:06}] {}",
            index / 50,
            index * 20_000 % 1_000_000,
            text.replace('@', &number)
        )?;
    }
    out.flush()
}

fn rate(path: &str) -> io::Result<()> {
    let start = Instant::now();
    let mut file = File::open(path)?;
    let mut parser = Parser::detecting(Limits::default());
    let mut blamer = Blamer::new(Patches::default(), Baseline::default());
    let mut fold = Fold::default();
    let mut items = Vec::new();
    let mut reports = 0_u64;
    let mut piece = vec![0; 64 * 1024];
    let mut bytes = 0_u64;
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            parser.finish(&mut items);
        } else {
            parser.push(piece.get(..length).unwrap_or_default(), &mut items);
        }
        bytes += length as u64;
        for item in items.drain(..) {
            blamer.take(&item);
            if let Item::Report(report) = &item {
                reports += 1;
                fold.add(&report.fingerprint, report.time_us);
            }
        }
        if length == 0 {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .map_or_else(|| "?".to_owned(), |kib| kib.trim().to_owned())
    };
    writeln!(
        io::stdout(),
        "{path} {bytes} {seconds:.4} {} {reports} {} {}",
        parser.counts().records,
        kib("VmHWM:"),
        kib("RssAnon:"),
    )
}
