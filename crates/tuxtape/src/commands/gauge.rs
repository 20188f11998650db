//! `tuxtape gauge`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Say for every CVE whether a kernel has it, with evidence
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
