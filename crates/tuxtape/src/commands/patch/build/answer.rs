//! What `patch build` prints.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tuxtape_kernel::build::UnitResult;
use tuxtape_kernel::produce::Produced;
use tuxtape_kernel::produce::recipe::digest;
use tuxtape_kernel::produce::sift::LeftOut;
use tuxtape_livepatch::lint::{Finding, Weight};
use tuxtape_livepatch::refusal::Refusal;

use super::lacking;
use crate::context::Context;
use crate::output::{self, NO};

pub(super) fn built(
    produced: Produced,
    (module, recipe): (PathBuf, PathBuf),
    cves: Vec<String>,
    total: Duration,
) -> AnswerWire {
    let mut answer = AnswerWire::new("built", cves, total);
    answer.sha256 = Some(digest(&produced.bytes));
    answer.module = Some(module);
    answer.recipe = Some(recipe);
    answer.objects = produced.units.iter().map(ObjectWire::from).collect();
    answer.warnings = produced.warnings;
    answer.findings = produced.findings.iter().map(FindingWire::from).collect();
    answer.seconds.compile = seconds(produced.durations.compile);
    answer.seconds.diff = seconds(produced.durations.diff);
    answer.seconds.link = seconds(produced.durations.link);
    answer.seconds.verify = seconds(produced.durations.verify);
    answer
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The JSON of `patch build`.
#[derive(Debug, Serialize)]
pub(super) struct AnswerWire {
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) module: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recipe: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) objects: Vec<ObjectWire>,
    pub(super) refusals: Vec<RefusalWire>,
    pub(super) warnings: Vec<String>,
    pub(super) findings: Vec<FindingWire>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) left_out: Vec<LeftOutWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extension: Option<lacking::ExtensionWire>,
    pub(super) cves: Vec<String>,
    pub(super) seconds: SecondsWire,
}

#[derive(Debug, Serialize)]
pub(super) struct ObjectWire {
    object: String,
    unit: String,
    changed: Vec<String>,
    new: Vec<String>,
    equal: usize,
    compared: usize,
}

/// One reason for refusing, as printed.
#[derive(Debug, Serialize)]
pub(in super::super) struct RefusalWire {
    pub(super) rule: &'static str,
    pub(super) unit: String,
    pub(super) symbol: String,
    pub(super) why: String,
    pub(super) hint: &'static str,
}

/// A fix that is not in the module, as printed.
#[derive(Debug, Serialize)]
pub(super) struct LeftOutWire {
    fix: String,
    cves: Vec<String>,
    why: String,
}

impl From<LeftOut> for LeftOutWire {
    fn from(LeftOut { fix, cves, why }: LeftOut) -> Self {
        Self { fix, cves, why }
    }
}

impl From<&RefusalWire> for LeftOutWire {
    fn from(refusal: &RefusalWire) -> Self {
        Self {
            fix: refusal.symbol.clone(),
            cves: vec![refusal.symbol.clone()],
            why: refusal.why.clone(),
        }
    }
}

/// One thing for a reviewer to look at, as printed.
#[derive(Debug, Serialize)]
pub(in super::super) struct FindingWire {
    rule: &'static str,
    weight: &'static str,
    unit: String,
    symbol: String,
    what: String,
    why: &'static str,
    advice: &'static str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct SecondsWire {
    compile: f64,
    diff: f64,
    link: f64,
    verify: f64,
    total: f64,
}

impl From<&UnitResult> for ObjectWire {
    fn from(unit: &UnitResult) -> Self {
        Self {
            object: unit.object.to_string(),
            unit: unit.unit.clone(),
            changed: unit.changed.clone(),
            new: unit.new.clone(),
            equal: unit.equal.0,
            compared: unit.equal.1,
        }
    }
}

impl From<&Refusal> for RefusalWire {
    fn from(refusal: &Refusal) -> Self {
        Self {
            rule: refusal.rule.slug(),
            unit: refusal.unit.clone(),
            symbol: refusal.symbol.clone(),
            why: refusal.why.clone(),
            hint: refusal.rule.hint(),
        }
    }
}

impl From<&Finding> for FindingWire {
    fn from(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.slug(),
            weight: match finding.rule.weight() {
                Weight::Look => "look",
                Weight::Note => "note",
            },
            unit: finding.unit.clone(),
            symbol: finding.symbol.clone(),
            what: finding.what.clone(),
            why: finding.rule.why(),
            advice: finding.rule.advice(),
        }
    }
}

impl FindingWire {
    /// What to look at, why, and how; a note in one line.
    pub(in super::super) fn to_text(&self) -> String {
        let Self {
            rule,
            weight,
            unit,
            symbol,
            what,
            why,
            advice,
        } = self;
        let head = format!("  {weight}: {rule}: {symbol} in {unit}: {what}\n");
        match *weight {
            "look" => format!("{head}    why: {why}\n    hint: {advice}\n"),
            _ => head,
        }
    }
}

impl RefusalWire {
    /// Two lines: the reason, and what can be done.
    pub(in super::super) fn to_text(&self) -> String {
        let Self {
            rule,
            unit,
            symbol,
            why,
            hint,
        } = self;
        format!("  {rule}: {symbol} in {unit}: {why}\n    hint: {hint}")
    }
}

impl AnswerWire {
    pub(super) fn new(status: &'static str, cves: Vec<String>, total: Duration) -> Self {
        Self {
            status,
            module: None,
            sha256: None,
            recipe: None,
            error: None,
            objects: Vec::new(),
            refusals: Vec::new(),
            warnings: Vec::new(),
            findings: Vec::new(),
            left_out: Vec::new(),
            extension: None,
            cves,
            seconds: SecondsWire {
                total: seconds(total),
                ..SecondsWire::default()
            },
        }
    }

    pub(super) fn print(&self, context: &Context) -> anyhow::Result<ExitCode> {
        if context.json {
            output::json(self)?;
        } else {
            output::text(&self.to_text())?;
        }
        Ok(match self.status {
            "built" => ExitCode::SUCCESS,
            "failed" => ExitCode::FAILURE,
            _ => ExitCode::from(NO),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        match (&self.module, &self.sha256) {
            (Some(module), Some(sha256)) => {
                text.push_str(&format!(
                    "built {} in {:.1} s\n",
                    module.display(),
                    self.seconds.total
                ));
                text.push_str(&format!("  sha256 {sha256}\n"));
                if let Some(recipe) = &self.recipe {
                    text.push_str(&format!("  recipe {}\n", recipe.display()));
                }
            }
            _ => text.push_str(&format!(
                "{} after {:.1} s\n",
                self.status, self.seconds.total
            )),
        }
        for unit in &self.objects {
            text.push_str(&format!(
                "  {} in {}: changes {}\n",
                unit.unit,
                unit.object,
                if unit.changed.is_empty() {
                    "nothing".to_owned()
                } else {
                    unit.changed.join(", ")
                }
            ));
            if !unit.new.is_empty() {
                text.push_str(&format!("    brings {}\n", unit.new.join(", ")));
            }
            text.push_str(&format!(
                "    {} of {} functions of the compiled original equal the kernel's\n",
                unit.equal, unit.compared
            ));
        }
        for refusal in &self.refusals {
            text.push_str(&refusal.to_text());
            text.push('\n');
        }
        for one in &self.left_out {
            text.push_str(&format!("  left out: {}: {}\n", one.fix, one.why));
        }
        for finding in &self.findings {
            text.push_str(&finding.to_text());
        }
        for warning in &self.warnings {
            text.push_str(&format!("  note: {warning}\n"));
        }
        if let Some(extension) = &self.extension {
            text.push_str(&extension.to_text());
        }
        text
    }
}
