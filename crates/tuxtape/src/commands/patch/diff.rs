//! `tuxtape patch diff`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tuxtape_core::identity::ObjectName;
use tuxtape_kernel::build::single::{Single, compare_objects};
use tuxtape_sys::durable;
use tuxtape_sys::map::Map;

use super::build::answer::{FindingWire, RefusalWire};
use crate::context::Context;
use crate::output::{self, NO};

/// Compare two objects of one unit and say what travels
///
/// Both are compiled with `-ffunction-sections -fdata-sections -g`, the original from the kernel's
/// own source: it has to be byte for byte what the kernel runs. A symbol that another unit of the
/// same fix brings is unresolved here; `patch build` sees all units at once.
///
/// Exit code: 0 something changed and can be patched, 3 refused or nothing changed, 1 failed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The unit compiled from the kernel's own source
    #[arg(value_name = "ORIG.o")]
    pub original: PathBuf,
    /// The unit compiled with the fix
    #[arg(value_name = "PATCHED.o")]
    pub patched: PathBuf,
    /// What the unit is linked into: `vmlinux` or a module's name
    #[arg(long, value_name = "NAME")]
    pub parent: String,
    /// The parent with its debug data: vmlinux or a .ko
    #[arg(long, value_name = "ELF")]
    pub symbols: PathBuf,
    /// The kernel's Module.symvers
    #[arg(long, value_name = "FILE")]
    pub symvers: PathBuf,
    /// Where to write the object with what travels
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// The JSON of `patch diff`.
#[derive(Debug, Serialize)]
struct AnswerWire {
    status: &'static str,
    changed: Vec<String>,
    new: Vec<String>,
    refusals: Vec<RefusalWire>,
    warnings: Vec<String>,
    findings: Vec<FindingWire>,
}

/// Runs the command. Exits with [`NO`] when it is refused or nothing changed.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let Arguments {
        original,
        patched,
        parent,
        symbols,
        symvers,
        out,
    } = arguments;
    let parent = ObjectName(parent.replace('-', "_"));
    let single = compare_objects(
        &parent,
        &read(&original)?,
        &read(&patched)?,
        &Map::open(&symbols)?,
        &read(&symvers)?,
    )
    .with_context(|| {
        format!(
            "could not compare {} and {}",
            original.display(),
            patched.display()
        )
    })?;
    if let (Some(path), Some(object)) = (&out, &single.object) {
        durable::write(path, object)?;
    }
    let answer = AnswerWire::from(single);
    if context.json {
        output::json(&answer)?;
    } else {
        output::text(&answer.to_text())?;
    }
    Ok(if answer.status == CHANGED {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}

const CHANGED: &str = "changed";

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

impl From<Single> for AnswerWire {
    fn from(single: Single) -> Self {
        let status = match (single.refusals.is_empty(), &single.object) {
            (false, _) => "refused",
            (true, Some(_)) => CHANGED,
            (true, None) => "no-change",
        };
        Self {
            status,
            changed: single.changed,
            new: single.new,
            refusals: single.refusals.iter().map(RefusalWire::from).collect(),
            warnings: single.warnings,
            findings: single.findings.iter().map(FindingWire::from).collect(),
        }
    }
}

impl AnswerWire {
    fn to_text(&self) -> String {
        let mut lines = vec![self.status.to_owned()];
        lines.extend(self.changed.iter().map(|name| format!("  changes {name}")));
        lines.extend(self.new.iter().map(|name| format!("  brings {name}")));
        lines.extend(self.refusals.iter().map(RefusalWire::to_text));
        lines.extend(
            self.warnings
                .iter()
                .map(|warning| format!("  note: {warning}")),
        );
        let findings: String = self.findings.iter().map(FindingWire::to_text).collect();
        lines.join("\n") + "\n" + &findings
    }
}

#[cfg(test)]
mod tests {
    use tuxtape_livepatch::refusal::{Refusal, Rule};

    use super::*;

    #[test]
    fn an_answer_is_refused_before_it_is_anything_else() {
        let changed = Single {
            changed: vec!["f".to_owned()],
            object: Some(Vec::new()),
            ..Single::default()
        };
        let refusal = Refusal {
            rule: Rule::TypeLayout,
            unit: "a.c".to_owned(),
            symbol: "struct s".to_owned(),
            why: "new member n at byte 8".to_owned(),
        };
        let refused = Single {
            refusals: vec![refusal],
            ..changed.clone()
        };
        for (single, status) in [
            (changed, "changed"),
            (refused.clone(), "refused"),
            (Single::default(), "no-change"),
        ] {
            assert_eq!(AnswerWire::from(single).status, status);
        }
        assert_eq!(
            AnswerWire::from(refused).to_text(),
            "refused\n  changes f\n  type-layout: struct s in a.c: new member n at byte 8\n    \
             hint: use a shadow variable instead of a new field\n"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let path = PathBuf::from("/nonexistent/a.o");
        assert_eq!(
            read(&path).unwrap_err().to_string(),
            "could not read /nonexistent/a.o"
        );
    }
}
