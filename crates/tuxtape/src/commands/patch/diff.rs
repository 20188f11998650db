//! `tuxtape patch diff`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Compare two objects of one unit and say what travels
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
