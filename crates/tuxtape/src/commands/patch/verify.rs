//! `tuxtape patch verify`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tuxtape_core::identity::{KernelRelease, ObjectName};
use tuxtape_kernel::files::KernelFiles;
use tuxtape_livepatch::elf::ElfFile;
use tuxtape_livepatch::kallsyms::Parent;
use tuxtape_livepatch::symvers::Symvers;
use tuxtape_livepatch::verify::{self, Kernel, Problem, StockModule, VerifyReport};
use tuxtape_sys::map::Map;

use crate::context::Context;
use crate::output::{self, Hint};

/// Folders nested deeper than this are no module folders.
const DEPTH_LIMIT: usize = 16;

/// Check a module as the kernel would when loading it, without loading it
#[derive(Debug, Args)]
pub struct Arguments {
    /// Release of the kernel, as `uname -r` prints it
    #[arg(value_name = "K")]
    pub kernel: KernelRelease,
    /// The livepatch module
    #[arg(value_name = "MODULE.ko")]
    pub module: PathBuf,
}

#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    problems: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    check: &'static str,
    section: Option<&'a str>,
    offset: Option<u64>,
    symbol: Option<&'a str>,
    why: &'a str,
}

impl<'a> From<&'a Problem> for Row<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            check: problem.check.slug(),
            section: problem.section.as_deref(),
            offset: problem.offset,
            symbol: problem.symbol.as_deref(),
            why: &problem.why,
        }
    }
}

/// Runs the command. Exits with [`output::NO`] if there is a problem.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let Arguments { kernel, module } = arguments;
    let files = KernelFiles::below(&context.cache, &kernel);
    let module = Map::open(&module)?;
    let vmlinux = open(&files, &files.vmlinux)?;
    let vmlinux = index(ObjectName(ObjectName::VMLINUX.to_owned()), &vmlinux)
        .with_context(|| format!("could not use {}", files.vmlinux.display()))?;
    let report = verify_module(&files, &vmlinux, &module)?;
    let passed = report.problems.is_empty();
    if context.json {
        output::json(&Answer {
            status: if passed { "pass" } else { "fail" },
            problems: report.problems.iter().map(Row::from).collect(),
        })?;
    } else {
        output::text(&describe(&report))?;
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::NO)
    })
}

fn describe(report: &VerifyReport) -> String {
    let lines: Vec<String> = if report.problems.is_empty() {
        let patched = report
            .functions
            .iter()
            .map(|function| format!("patches {}:{}", function.object, function.name));
        patched.chain(["no problems".to_owned()]).collect()
    } else {
        report.problems.iter().map(Problem::to_string).collect()
    };
    lines.join("\n") + "\n"
}

/// Verifies `module` against the kernel in `files`, whose debug vmlinux is already indexed.
pub fn verify_module(
    files: &KernelFiles,
    vmlinux: &Parent<'_>,
    module: &[u8],
) -> anyhow::Result<VerifyReport> {
    let symvers = open(files, &files.symvers)?;
    let symvers = Symvers::parse(&symvers)
        .with_context(|| format!("could not use {}", files.symvers.display()))?;
    let build_id = verify::build_id(vmlinux.file())
        .with_context(|| format!("{} has no build-id", files.vmlinux.display()))?;
    let stock = stock_module(files)?;
    // A file that names nothing readable has problems enough without its objects.
    let objects = verify::objects_of(module).unwrap_or_default();
    let mut maps = BTreeMap::new();
    if !objects.is_empty() {
        for path in modules_below(&files.debug_modules) {
            let object = object_name(&path);
            if objects.contains(&object) {
                maps.insert(object, Map::open(&path)?);
            }
        }
    }
    let modules = maps
        .iter()
        .map(|(object, map)| {
            let parent = index(object.clone(), map)
                .with_context(|| format!("could not use the debug file of {object}"))?;
            Ok((object.clone(), parent))
        })
        .collect::<anyhow::Result<_>>()?;
    let kernel = Kernel {
        vmlinux,
        modules: &modules,
        symvers: &symvers,
        stock: &stock,
        build_id: &build_id,
    };
    Ok(verify::verify(module, &kernel))
}

fn index(object: ObjectName, bytes: &[u8]) -> anyhow::Result<Parent<'_>> {
    Ok(Parent::new(object, ElfFile::parse(bytes)?)?)
}

fn open(files: &KernelFiles, path: &Path) -> anyhow::Result<Map> {
    Map::open(path).with_context(|| {
        Hint::new(format!(
            "run `tuxtape kernel add debian:{}` to fetch this kernel",
            files.release
        ))
    })
}

/// What the kernel's own modules share, read from the first debug module by path.
fn stock_module(files: &KernelFiles) -> anyhow::Result<StockModule> {
    for path in modules_below(&files.debug_modules) {
        let bytes = Map::open(&path)?;
        let stock = verify::stock_module(&bytes)
            .with_context(|| format!("could not use {}", path.display()))?;
        if let Some(stock) = stock {
            return Ok(stock);
        }
    }
    Err(anyhow::anyhow!(
        "no module of the kernel below {}",
        files.debug_modules.display()
    ))
    .with_context(|| {
        Hint::new(format!(
            "run `tuxtape kernel add debian:{}` to fetch this kernel",
            files.release
        ))
    })
}

fn object_name(path: &Path) -> ObjectName {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    ObjectName(stem.replace('-', "_"))
}

/// Every `*.ko` below `folder`, sorted. Symbolic links are not followed.
fn modules_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_LIMIT => folders.push((path, depth + 1)),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "ko") => {
                    found.push(path);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_not_fetched_yet_gets_a_hint() {
        let context = Context {
            home: PathBuf::from("/nonexistent"),
            cache: PathBuf::from("/nonexistent"),
            json: false,
        };
        let arguments = Arguments {
            kernel: "6.1.0-1-test".parse().unwrap(),
            module: Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"),
        };
        let error = run(arguments, &context).unwrap_err();
        let hint = error.downcast_ref::<Hint>().unwrap().to_string();
        assert_eq!(
            hint,
            "run `tuxtape kernel add debian:6.1.0-1-test` to fetch this kernel"
        );
    }

    #[test]
    fn problems_are_the_answer_one_per_line() {
        let mut report = VerifyReport::default();
        assert_eq!(describe(&report), "no problems\n");
        report.problems.push(Problem {
            check: verify::Check::Orc,
            section: Some(".text.f".to_owned()),
            offset: Some(16),
            symbol: Some("f".to_owned()),
            why: "no entry".to_owned(),
        });
        assert_eq!(describe(&report), "orc: .text.f+0x10: f: no entry\n");
    }

    #[test]
    fn modules_are_named_as_the_kernel_names_them() {
        let name = object_name(Path::new("/lib/modules/x/kernel/net/l2tp/snd-pcm.ko"));
        assert_eq!(name, ObjectName("snd_pcm".to_owned()));
    }
}
