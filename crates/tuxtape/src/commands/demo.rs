//! `tuxtape demo`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Run the whole line on a stock kernel, from the feed to a patched virtual machine
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
