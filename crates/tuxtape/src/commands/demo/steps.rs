//! Running our own commands, one step after the other, with words for the person who watches.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tuxtape_sys::process;

use super::DEADLINE;
use crate::context::Context;
use crate::output;

/// The steps so far.
#[derive(Debug)]
pub(super) struct Steps {
    program: PathBuf,
    home: PathBuf,
    cache: PathBuf,
    count: usize,
    begun: Vec<(&'static str, Instant)>,
}

impl Steps {
    pub(super) fn new(context: &Context, count: usize) -> anyhow::Result<Self> {
        Ok(Self {
            program: std::env::current_exe().context("could not find this program's own file")?,
            home: context.home.clone(),
            cache: context.cache.clone(),
            count,
            begun: Vec::new(),
        })
    }

    /// Begins the next step.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.begun.push((name, Instant::now()));
        output::talk(&format!("\n[{}/{}] {name}", self.begun.len(), self.count));
    }

    /// Says one more thing about the step.
    #[expect(clippy::unused_self, reason = "reads as part of the step")]
    pub(super) fn note(&self, text: &str) {
        output::talk(&format!("      {text}"));
    }

    /// How long each step took.
    pub(super) fn taken(&self) -> Vec<(&'static str, Duration)> {
        let ends = self
            .begun
            .iter()
            .skip(1)
            .map(|(_, begun)| *begun)
            .chain([Instant::now()]);
        self.begun
            .iter()
            .zip(ends)
            .map(|((name, begun), end)| (*name, end.duration_since(*begun)))
            .collect()
    }

    fn command(&self, words: &[impl AsRef<str>]) -> Command {
        let shown: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        output::talk(&format!("      $ tuxtape {}", shortened(&shown.join(" "))));
        let mut command = Command::new(&self.program);
        command
            // The demonstration has a store of its own, whatever the user's is.
            .env_remove("TUXTAPE_STORE")
            .arg("--home")
            .arg(&self.home)
            .arg("--cache")
            .arg(&self.cache);
        command.args(shown);
        command
    }

    /// Runs a command whose output people should see.
    pub(super) fn aloud(&self, words: &[&str]) -> anyhow::Result<()> {
        let stdout = run_aloud(&mut self.command(words), words)?;
        for line in String::from_utf8_lossy(&stdout).lines() {
            self.note(line);
        }
        Ok(())
    }

    /// Runs a command that takes a while: reads its JSON, and people see what it says meanwhile.
    pub(super) fn json_aloud(&self, words: &[String]) -> anyhow::Result<Value> {
        let stdout = run_aloud(self.command(words).arg("--json"), words)?;
        parse(&stdout, words)
    }

    /// Runs a command and reads its JSON; a failure is an error.
    pub(super) fn json(&self, words: &[String]) -> anyhow::Result<Value> {
        let mut command = self.command(words);
        let finished = process::run_ok(command.arg("--json"), DEADLINE)?;
        parse(&finished.stdout, words)
    }

    /// Runs a command that answers a question, and reads its JSON whatever the answer.
    pub(super) fn answer(&self, words: &[String]) -> anyhow::Result<Value> {
        let mut command = self.command(words);
        let finished = process::run(command.arg("--json"), DEADLINE)?;
        if finished.stdout.is_empty() {
            let words = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
            return Ok(serde_json::json!({ "status": "failed", "error": words }));
        }
        parse(&finished.stdout, words)
    }
}

fn run_aloud(command: &mut Command, words: &[impl AsRef<str>]) -> anyhow::Result<Vec<u8>> {
    let finished = process::run_aloud(command, DEADLINE)?;
    if !finished.status.success() {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        // A command that says no does so on its standard output.
        output::talk(String::from_utf8_lossy(&finished.stdout).trim_end());
        anyhow::bail!("`tuxtape {}` failed; its words are above", words.join(" "));
    }
    Ok(finished.stdout)
}

/// One value as itself, several lines as a list.
fn parse(stdout: &[u8], words: &[String]) -> anyhow::Result<Value> {
    let mut values: Vec<Value> = serde_json::Deserializer::from_slice(stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .with_context(|| format!("`tuxtape {} --json` printed no JSON", words.join(" ")))?;
    Ok(match values.len() {
        1 => values.remove(0),
        _ => Value::Array(values),
    })
}

/// Why a build did not succeed, in a few words.
pub(super) fn reason(built: &Value) -> String {
    if let Some(refusal) = built["refusals"].get(0) {
        return format!(
            "{}: {}",
            refusal["rule"].as_str().unwrap_or("refused"),
            refusal["symbol"].as_str().unwrap_or_default()
        );
    }
    let words = built["error"]
        .as_str()
        .or_else(|| built["status"].as_str())
        .unwrap_or("failed");
    if words.contains("does not compile") {
        return "the fix does not compile without other changes".to_owned();
    }
    words
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect()
}

fn shortened(line: &str) -> String {
    const WIDTH: usize = 150;
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let start: String = line.chars().take(WIDTH).collect();
    format!("{start} …")
}
