//! `tuxtape archive sign`.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::sign::Shown;

use super::{hinted, now, people, show, show_publication};
use crate::context::Context;
use crate::output;

/// Show a draft and sign it once its words are typed back
#[derive(Debug, Args)]
pub struct Sign {
    /// Path, file name or role of the draft, or the kernel release whose role it is
    pub draft: String,
    /// Private key of the signer, or a program that gets the bytes on its standard input and prints
    /// the signature; without one the draft is only shown
    #[arg(long, value_name = "FILE|exec:PROGRAM")]
    pub key: Option<String>,
    /// The draft's words, for scripts; refuses a draft that has others
    #[arg(long, value_name = "WORDS")]
    pub expect: Option<String>,
    /// Copies of the draft that were signed on other machines: take their signatures
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "key")]
    pub merge: Vec<PathBuf>,
    /// Publish at once when this was the last signature it needed
    #[arg(long)]
    pub publish: bool,
}

/// Runs the command.
pub fn run(workspace: &Workspace, arguments: &Sign, context: &Context) -> anyhow::Result<ExitCode> {
    let draft = &arguments.draft;
    let shown = if !arguments.merge.is_empty() {
        workspace.merge(draft, &arguments.merge).map_err(hinted)?
    } else if let Some(key) = &arguments.key {
        let words = if let Some(words) = &arguments.expect {
            words.clone()
        } else {
            let shown = workspace.show(draft).map_err(hinted)?;
            output::talk(show::text(&shown).trim_end());
            ask()?
        };
        sign_by(workspace, draft, key, &words)?
    } else {
        workspace.show(draft).map_err(hinted)?
    };
    if context.json {
        output::json(&show::to_json(&shown))?;
    } else {
        output::text(&show::text(&shown))?;
    }
    if arguments.publish {
        publish_when_full(workspace, &shown, context)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs with a key file or a program.
pub fn sign_by(
    workspace: &Workspace,
    draft: &str,
    key: &str,
    words: &str,
) -> anyhow::Result<Shown> {
    match key.strip_prefix("exec:") {
        Some(program) => workspace.sign_by_program(draft, Path::new(program), words),
        None => workspace.sign(draft, &people::open_key(Path::new(key))?, words),
    }
    .map_err(hinted)
}

/// Publishes once nothing is missing, and says what is otherwise.
pub fn publish_when_full(
    workspace: &Workspace,
    shown: &Shown,
    context: &Context,
) -> anyhow::Result<()> {
    let full = |signed: &[String], wanted: u32| signed.len() as u64 >= u64::from(wanted);
    let before = shown.before.as_ref();
    if full(&shown.signed, shown.wanted) && before.is_none_or(|(signed, n)| full(signed, *n)) {
        let publication = workspace.publish(now()).map_err(hinted)?;
        show_publication(&publication, context)?;
    } else {
        output::talk("not published: signatures are missing");
    }
    Ok(())
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
