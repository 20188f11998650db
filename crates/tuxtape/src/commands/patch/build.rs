//! `tuxtape patch build`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Build one livepatch module from fixes
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
