//! `tuxtape archive sign`.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::publish::Workspace;

use super::{hinted, show};
use crate::context::Context;
use crate::output;

/// Show a draft and sign it once its words are typed back
#[derive(Debug, Args)]
pub struct Sign {
    /// Path, file name or role of the draft
    pub draft: String,
    /// Private key of the signer; without one the draft is only shown
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The draft's words, for scripts; refuses a draft that has others
    #[arg(long, value_name = "WORDS")]
    pub expect: Option<String>,
}

/// Runs the command.
pub fn run(workspace: &Workspace, arguments: &Sign, context: &Context) -> anyhow::Result<ExitCode> {
    let shown = workspace.show(&arguments.draft).map_err(hinted)?;
    let Some(path) = &arguments.key else {
        if context.json {
            output::json(&show::to_json(&shown))?;
        } else {
            output::text(&show::text(&shown))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let key = PrivateKey::load(path)?;
    let expected = if let Some(words) = &arguments.expect {
        words.clone()
    } else {
        output::talk(show::text(&shown).trim_end());
        ask()?
    };
    let signed = workspace
        .sign(&arguments.draft, &key, &expected)
        .map_err(hinted)?;
    if context.json {
        output::json(&show::to_json(&signed))?;
    } else {
        output::text(&show::text(&signed))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the words from the person at the terminal.
fn ask() -> anyhow::Result<String> {
    let stdin = io::stdin();
    anyhow::ensure!(
        stdin.is_terminal(),
        "no terminal to ask on; give the words with --expect"
    );
    output::talk("type the words of the draft you mean to sign:");
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .context("could not read the words")?;
    Ok(line)
}
