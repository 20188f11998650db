//! `tuxtape fix`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Show or import the source change that closes a CVE
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
