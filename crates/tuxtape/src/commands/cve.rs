//! `tuxtape cve`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Show CVE records and what they affect
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
