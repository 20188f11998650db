//! `tuxtape patch verify`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_livepatch::verify::{Problem, VerifyReport};
use tuxtape_sys::map::Map;

use crate::context::Context;
use crate::output::{self, Hint};

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
    /// Instructions of the module, and at how many of them the stack was followed.
    instructions: usize,
    stack_followed: usize,
}

#[derive(Serialize)]
struct Row<'a> {
    check: &'static str,
    section: Option<&'a str>,
    offset: Option<u64>,
    symbol: Option<&'a str>,
    why: &'a str,
    remedy: &'static str,
}

impl<'a> From<&'a Problem> for Row<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            check: problem.check.slug(),
            section: problem.section.as_deref(),
            offset: problem.offset,
            symbol: problem.symbol.as_deref(),
            why: &problem.why,
            remedy: problem.check.remedy(),
        }
    }
}

/// Runs the command. Exits with [`output::NO`] if there is a problem.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let Arguments { kernel, module } = arguments;
    let files = super::files(context, &kernel)?;
    let module = Map::open(&module)?;
    let report = tuxtape_kernel::verify::module(&files, &module).context(Hint::new(format!(
        "run `tuxtape kernel add {}` to fetch this kernel",
        super::spec(context, &files.release)
    )))?;
    let passed = report.problems.is_empty();
    if context.json {
        output::json(&Answer {
            status: if passed { "pass" } else { "fail" },
            problems: report.problems.iter().map(Row::from).collect(),
            instructions: report.stack.instructions,
            stack_followed: report.stack.followed,
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
        let stack = &report.stack;
        let followed = format!(
            "the stack was followed at {} of {} instructions",
            stack.followed, stack.instructions
        );
        let last = [followed, "no problems".to_owned()];
        patched.chain(last).collect()
    } else {
        let remedies: BTreeSet<&str> = report
            .problems
            .iter()
            .map(|problem| problem.check.remedy())
            .collect();
        let problems = report.problems.iter().map(Problem::to_string);
        let hints = remedies.iter().map(|remedy| format!("hint: {remedy}"));
        problems.chain(hints).collect()
    };
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tuxtape_livepatch::verify;

    use super::*;

    #[test]
    fn a_kernel_not_fetched_yet_gets_a_hint() {
        let context = Context {
            home: PathBuf::from("/nonexistent"),
            store: tuxtape_store::Location::below(Path::new("/nonexistent")),
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
        assert_eq!(
            describe(&report),
            "the stack was followed at 0 of 0 instructions\nno problems\n"
        );
        report.problems.push(Problem {
            check: verify::Check::Orc,
            section: Some(".text.f".to_owned()),
            offset: Some(16),
            symbol: Some("f".to_owned()),
            why: "no entry".to_owned(),
        });
        assert_eq!(
            describe(&report),
            "orc: .text.f+0x10: f: no entry\n\
             hint: do not load it: build it again from its fixes with `tuxtape patch build`; \
             if that module has the same problem, keep both and report it\n"
        );
    }
}
