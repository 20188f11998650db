//! What people and programs see: data on stdout, talk on stderr.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

/// "No, and here is why": the exit code of a command that asks a question.
pub const NO: u8 = 3;
/// "Unknown, and here is the gap".
pub const UNKNOWN: u8 = 4;

/// A way out of an error; attach it with `anyhow`'s `.context(Hint::new("…"))`.
#[derive(Debug)]
pub struct Hint(String);

impl Hint {
    /// Takes an imperative sentence without a full stop: `run `tuxtape scan` first`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hint {}

/// Prints `error` with its causes and hints to stderr.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    // Whoever read our output has seen enough: `tuxtape … | head` is no failure to talk about.
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::FAILURE;
    }
    let mut message = Vec::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        match cause.downcast_ref::<Hint>() {
            Some(hint) => hints.push(hint.to_string()),
            None => message.push(cause.to_string()),
        }
    }
    // `Context` wraps: asked through the chain a hint shows as itself only when it is a source.
    if let Some(hint) = error.downcast_ref::<Hint>() {
        let text = hint.to_string();
        message.retain(|line| *line != text);
        if !hints.contains(&text) {
            hints.push(text);
        }
    }
    talk(&format!("error: {}", message.join(": ")));
    for hint in hints {
        talk(&format!("hint: {hint}"));
    }
    ExitCode::FAILURE
}

/// Prints one line of talk to stderr.
pub fn talk(line: &str) {
    // Nobody is left to tell when stderr is gone.
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Prints text to stdout.
pub fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints JSON values, each on one line of stdout.
pub fn json_lines<T: Serialize>(values: impl Iterator<Item = T>) -> anyhow::Result<()> {
    let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
    for value in values {
        // A reader who left shows as an error of the system only when it is unwrapped.
        serde_json::to_writer(&mut out, &value).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Prints one JSON value on one line of stdout.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}
