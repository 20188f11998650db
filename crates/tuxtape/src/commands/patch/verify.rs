//! `tuxtape patch verify`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Check a module as the kernel would when loading it, without loading it
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
