//! Compiles units of a kernel that were picked by a seed and compares each with what runs:
//! `truth CACHE HOME RELEASE SEED COUNT`.
//!
//! Half of the units are of vmlinux and half of modules, from as many folders as there are. A row says
//! how many functions were compared and how many were equal, the same of checksums of exports, and
//! whether a fix that only adds a line changes anything. What is not equal follows the table.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers; its words go to a terminal"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::replay::{self, Budget, CompiledPair};
use tuxtape_kernel::{profile, unified};
use tuxtape_livepatch::diff;
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::ground_truth::{self, Outcome};
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::symvers::Symvers;
use tuxtape_livepatch::tables::layout_for;
use tuxtape_sys::map::Map;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [cache, home, release, seed, count] = arguments.as_slice() else {
        eprintln!("usage: truth CACHE HOME RELEASE SEED COUNT");
        return ExitCode::from(2);
    };
    match table(Path::new(cache), Path::new(home), release, seed, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", in_words(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

fn table(cache: &Path, home: &Path, release: &str, seed: &str, count: &str) -> Result<(), Failure> {
    let files = KernelFiles::below(cache, &release.parse()?);
    let profile = profile::load(home, &files.release)?;
    let symvers = Symvers::parse(&fs::read(&files.symvers)?)?;
    let vmlinux = Map::open(&files.vmlinux)?;
    let image = ObjectName(ObjectName::VMLINUX.to_owned());
    let vmlinux = Parent::new(image, ElfFile::parse(&vmlinux)?)?;
    println!(
        "| unit | in | functions compared | equal | overridden | CRCs compared | equal | with an added line |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut all, mut apart) = ([0; 5], Vec::new());
    for unit in pick(&profile, &files.source, seed.parse()?, count.parse()?) {
        match row(&files, &profile, &symvers, &vmlinux, unit) {
            Ok(row) => {
                println!("{}", row.line);
                for (sum, one) in all.iter_mut().zip(row.counts) {
                    *sum += one;
                }
                apart.extend(row.apart);
            }
            Err(error) => {
                println!("| {unit} | – | – | – | – | – | – | – |");
                apart.push(format!("{unit}: {}", in_words(error.as_ref())));
            }
        }
    }
    let [compared, equal, overridden, crcs, same] = all;
    println!("| **all** | | {compared} | {equal} | {overridden} | {crcs} | {same} | |\n");
    for words in apart {
        println!("- {}", words.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// Takes units from folder after folder, the folders in an order that the seed gives.
fn pick<'a>(profile: &'a KernelProfile, source: &Path, seed: u64, count: usize) -> Vec<&'a str> {
    let built_in = |unit: &str| {
        let parents = profile.units.get(unit);
        parents.is_some_and(|parents| parents.iter().any(ObjectName::is_vmlinux))
    };
    let mut picked = Vec::new();
    for wanted in [true, false] {
        let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for unit in profile.units.keys().map(String::as_str) {
            // What the kernel's build writes itself, such as `.mod.c`, is in no source.
            let written = unit.strip_suffix(".c").is_some() && source.join(unit).is_file();
            if written && built_in(unit) == wanted {
                let folder = unit.rsplit_once('/').map_or("", |(folder, _)| folder);
                folders.entry(folder).or_default().push(unit);
            }
        }
        let mut folders: Vec<(u64, Vec<&str>)> = folders
            .into_iter()
            .map(|(folder, mut units)| {
                units.sort_by_key(|unit| mixed(seed, unit));
                (mixed(seed, folder), units)
            })
            .collect();
        folders.sort();
        let deepest = folders.iter().map(|(_, units)| units.len()).max();
        let rounds = (0..deepest.unwrap_or(0)).flat_map(|round| {
            folders
                .iter()
                .filter_map(move |(_, units)| units.get(round))
        });
        picked.extend(
            rounds
                .copied()
                .take(count / 2 + usize::from(wanted) * (count % 2)),
        );
    }
    picked
}

/// A number that looks random and is the same for the same seed and text (FNV-1a, then a finisher).
fn mixed(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let hash = text.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

struct Row {
    line: String,
    counts: [usize; 5],
    apart: Vec<String>,
}

fn row(
    files: &KernelFiles,
    profile: &KernelProfile,
    symvers: &Symvers,
    vmlinux: &Parent<'_>,
    unit: &str,
) -> Result<Row, Failure> {
    let pair = compiled(files, profile, unit)?;
    let object = fs::read(&pair.original)?;
    let file = ElfFile::parse(&object)?;
    let truth = if pair.parent.is_vmlinux() {
        ground_truth::compare(&file, vmlinux, unit)?
    } else {
        let debug = Map::open(&module(&files.debug_modules, &pair.parent)?)?;
        let parent = Parent::new(pair.parent.clone(), ElfFile::parse(&debug)?)?;
        ground_truth::compare(&file, &parent, unit)?
    };
    let mut apart = Vec::new();
    let mut overridden = 0;
    for function in &truth.functions {
        let words = match &function.outcome {
            Outcome::Equal => continue,
            Outcome::Differs(difference) => difference.to_string(),
            Outcome::Missing => "the kernel has no such function".to_owned(),
            Outcome::Overridden => {
                overridden += 1;
                "weak, and another definition runs".to_owned()
            }
        };
        apart.push(format!("{unit}: {}: {words}", function.name));
    }
    let exports = &pair.command.exports;
    let mut same = 0;
    for (name, crc) in exports {
        if symvers.get(name).is_some_and(|export| export.crc == *crc) {
            same += 1;
        } else {
            apart.push(format!(
                "{unit}: {name}: its checksum is {crc:#010x}, not the kernel's"
            ));
        }
    }
    let (compared, equal) = (truth.functions.len(), truth.equal());
    Ok(Row {
        line: format!(
            "| {unit} | {} | {compared} | {equal} | {overridden} | {} | {same} | {} |",
            pair.parent,
            exports.len(),
            added_line(profile, &pair, &object)?,
        ),
        counts: [compared, equal, overridden, exports.len(), same],
        apart,
    })
}

/// Compiles the unit as it is, and with a line more.
fn compiled(
    files: &KernelFiles,
    profile: &KernelProfile,
    unit: &str,
) -> Result<CompiledPair, Failure> {
    let text = fs::read_to_string(files.source.join(unit))?;
    let first = text.lines().next().unwrap_or_default();
    let fix = format!("--- a/{unit}\n+++ b/{unit}\n@@ -1 +1,2 @@\n+\n {first}\n");
    let out = tempfile(unit);
    let budget = Budget {
        jobs: 1,
        ..Budget::default()
    };
    let diff = unified::parse(fix.as_bytes())?;
    let replayed = replay::compile_pair(files, &diff, Some(profile), &budget, &out)?;
    let pair = replayed.pairs.into_iter().next();
    pair.ok_or_else(|| "it gives no object".into())
}

fn tempfile(unit: &str) -> PathBuf {
    env::temp_dir().join(format!(
        "truth-{}-{}",
        std::process::id(),
        replay::flat(unit)
    ))
}

/// What the engine says of a fix that changes no code.
fn added_line(
    profile: &KernelProfile,
    pair: &CompiledPair,
    original: &[u8],
) -> Result<String, Failure> {
    let patched = fs::read(&pair.patched)?;
    if let Some(folder) = pair.patched.parent() {
        fs::remove_dir_all(folder)?;
    }
    let mut numbers = profile.base_version.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Err("a base version without numbers".into());
    };
    let tables = layout_for(major, minor).ok_or("an unknown series")?;
    let compared = diff::compare(pair.unit.as_str(), original, &patched, tables)?;
    Ok(if compared.is_unchanged() {
        "no change".to_owned()
    } else {
        let refusals: Vec<String> = compared.refusals.iter().map(ToString::to_string).collect();
        format!(
            "changed {}; refused {}",
            compared.changed_functions().join(", "),
            refusals.join("; ")
        )
    })
}

/// The debug file of a module: the kernel writes `-` as `_` in its name.
fn module(folder: &Path, name: &ObjectName) -> Result<PathBuf, Failure> {
    let mut folders = vec![folder.to_owned()];
    // Ends: a package's folders hold no links.
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ko")
                && path
                    .file_stem()
                    .is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name.0)
            {
                return Ok(path);
            }
        }
    }
    Err(format!("no debug file of module {name}").into())
}
