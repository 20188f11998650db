//! `tuxtape scan`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Bring the store up to date with the CVE feed
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
