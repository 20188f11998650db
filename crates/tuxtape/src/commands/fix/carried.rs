//! `tuxtape fix carried`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use tuxtape_core::applicability::carried::{Found, Verdict};
use tuxtape_kernel::content::{Judged, Looker};
use tuxtape_kernel::unified::LONGEST_DIFF;
use tuxtape_sys::regular;

use crate::context::Context;
use crate::output;

/// How much of each file the diffs show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// Some lines around each change.
    Context,
    /// All of it.
    Files,
}

/// What is printed for programs, one line per diff.
#[derive(Serialize)]
struct Line<'a> {
    diff: String,
    verdict: &'static str,
    files: Vec<FileLine<'a>>,
    /// Other files of the diff, in which nothing was looked for: with one the diff is never "carried".
    not_judged: &'a [String],
}

#[derive(Serialize)]
struct FileLine<'a> {
    file: &'a str,
    found_as: Option<&'a str>,
    counts: bool,
    blocks: Vec<BlockLine<'a>>,
}

#[derive(Serialize)]
struct BlockLine<'a> {
    found: &'static str,
    line: Option<u32>,
    function: Option<&'a str>,
    text: &'a str,
    /// Why it is not "after", though that side stands at its line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doubts: Vec<String>,
}

/// Says for each of `diffs` whether the source tree at `tree` holds it.
pub(super) fn run(
    context: &Context,
    tree: &Path,
    diffs: &[PathBuf],
    shows: Shows,
) -> anyhow::Result<ExitCode> {
    let looker = Looker::new(tree, None);
    let mut worst = Verdict::Carries;
    for path in diffs {
        let text = read(path)?;
        let judged = match shows {
            Shows::Context => looker.judge(&text),
            Shows::Files => looker.judge_whole(&text),
        };
        let judged = judged.with_context(|| format!("could not look for {}", path.display()))?;
        let verdict = judged.verdict();
        worst = worse(worst, verdict);
        if context.json {
            output::json_lines(std::iter::once(line(path, &judged)))?;
        } else {
            output::text(&told(path, &judged))?;
        }
    }
    Ok(match worst {
        Verdict::Carries => ExitCode::SUCCESS,
        Verdict::Lacks => ExitCode::from(output::NO),
        Verdict::Partial | Verdict::Nothing => ExitCode::from(output::UNKNOWN),
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    regular::read_linked(path, LONGEST_DIFF as u64)
        .with_context(|| format!("could not read {}", path.display()))?
        .with_context(|| format!("{} is too long for a diff", path.display()))
}

/// Returns what two diffs are together: one that is missing is missing, doubt comes before "carried".
fn worse(left: Verdict, right: Verdict) -> Verdict {
    match (left, right) {
        (Verdict::Lacks, _) | (_, Verdict::Lacks) => Verdict::Lacks,
        (Verdict::Partial | Verdict::Nothing, _) | (_, Verdict::Partial | Verdict::Nothing) => {
            Verdict::Partial
        }
        (Verdict::Carries, Verdict::Carries) => Verdict::Carries,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Carries => "carried",
        Verdict::Lacks => "not-carried",
        Verdict::Partial => "partial",
        Verdict::Nothing => "nothing-to-tell-by",
    }
}

fn line<'a>(path: &Path, judged: &'a Judged) -> Line<'a> {
    Line {
        diff: path.display().to_string(),
        verdict: word(judged.verdict()),
        files: judged
            .files
            .iter()
            .map(|file| FileLine {
                file: &file.path,
                found_as: file.tree_path.as_deref(),
                counts: file.counts,
                blocks: file
                    .blocks
                    .iter()
                    .map(|block| BlockLine {
                        found: match block.found {
                            Found::After => "after",
                            Found::Before => "before",
                            Found::Both => "both",
                            Found::Neither => "neither",
                            Found::Nothing => "too-short",
                        },
                        line: block.line,
                        function: block.function.as_deref(),
                        text: &block.sample,
                        doubts: block.doubts.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
            })
            .collect(),
        not_judged: &judged.unjudged,
    }
}

fn told(path: &Path, judged: &Judged) -> String {
    let mut text = format!("{}: {}\n", path.display(), word(judged.verdict()));
    for place in judged.places() {
        text.push_str("  ");
        text.push_str(&place);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_or_a_device_is_no_diff_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            let error = read(path).unwrap_err();
            assert!(format!("{error:#}").ends_with("not a regular file"));
        }
    }
}
