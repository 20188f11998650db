//! What the demo shows at its end.

use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use tuxtape_core::cve::CveId;

use super::choose::{Candidate, Choice};
use super::steps;

/// One CVE and what became of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) cve: CveId,
    pub(super) title: String,
    pub(super) score: Option<String>,
    pub(super) files: Vec<String>,
    pub(super) functions: Vec<String>,
    pub(super) objects: Vec<String>,
    pub(super) outcome: String,
    pub(super) built: bool,
    pub(super) in_level: bool,
    pub(super) seconds: Duration,
}

impl Row {
    pub(super) fn new(candidate: Candidate) -> Self {
        Self {
            cve: candidate.cve,
            title: candidate.title,
            score: candidate.score,
            files: candidate.files,
            functions: Vec::new(),
            objects: Vec::new(),
            outcome: String::new(),
            built: false,
            in_level: false,
            seconds: Duration::ZERO,
        }
    }

    /// Takes over what `patch build` answered.
    pub(super) fn take(&mut self, built: &Value) {
        self.built = built["status"] == "built";
        for object in built["objects"].as_array().into_iter().flatten() {
            let names = object["changed"].as_array().into_iter().flatten();
            self.functions
                .extend(names.filter_map(Value::as_str).map(str::to_owned));
            self.objects
                .extend(object["object"].as_str().map(str::to_owned));
        }
        self.objects.sort();
        self.objects.dedup();
        self.outcome = if self.built {
            "closed".to_owned()
        } else {
            steps::reason(built)
        };
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{}: {}",
            self.cve,
            if self.built { "built" } else { &self.outcome }
        )
    }

    fn function(&self) -> String {
        match self.functions.as_slice() {
            [] => "–".to_owned(),
            [one] => one.clone(),
            [one, more @ ..] => format!("{one} and {} more", more.len()),
        }
    }
}

/// Wall time of the demo.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) total: Duration,
    pub(super) steps: Vec<(&'static str, Duration)>,
}

pub(super) fn text(rows: &[Row], timing: &Timing, choice: &Choice, dir: &Path) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["CVE", "score", "function", "module", "outcome", "seconds"]);
    for row in rows {
        table.add_row([
            row.cve.to_string(),
            row.score.clone().unwrap_or_else(|| "–".to_owned()),
            row.function(),
            row.objects.join(", "),
            row.outcome.clone(),
            format!("{:.1}", row.seconds.as_secs_f64()),
        ]);
    }
    let closed = rows.iter().filter(|row| row.in_level).count();
    let mut text = format!(
        "{table}\n{closed} of {} CVEs closed in a running, stock {}\n\n",
        rows.len(),
        choice.release
    );
    for (name, took) in &timing.steps {
        text.push_str(&format!("{:>7.1} s  {name}\n", took.as_secs_f64()));
    }
    text.push_str(&format!(
        "{:>7.1} s  in all\n\n",
        timing.total.as_secs_f64()
    ));
    for (what, part) in [
        ("store, profiles", "home"),
        ("fixes", "fixes"),
        ("modules", "modules"),
        ("keys", "keys"),
        ("archive", "archive"),
        ("kernel log of the boot test", "boot-test.log"),
        ("the machine's own words", "client.log"),
    ] {
        text.push_str(&format!("{what:<28} {}\n", dir.join(part).display()));
    }
    text
}

pub(super) fn json(
    rows: &[Row],
    timing: &Timing,
    choice: &Choice,
    dir: &Path,
    client: &Value,
) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "cve": row.cve.to_string(), "title": row.title, "score": row.score,
                "functions": row.functions, "objects": row.objects, "outcome": row.outcome,
                "built": row.built, "closed": row.in_level, "seconds": row.seconds.as_secs_f64(),
            })
        })
        .collect();
    let steps: Vec<Value> = timing
        .steps
        .iter()
        .map(|(name, took)| json!({"step": name, "seconds": took.as_secs_f64()}))
        .collect();
    json!({
        "kernel": choice.release.as_str(), "source": choice.own.as_str(), "fixes_from": choice.newer.as_str(),
        "cves": rows, "steps": steps, "seconds": timing.total.as_secs_f64(), "client": client, "dir": dir,
    })
}
