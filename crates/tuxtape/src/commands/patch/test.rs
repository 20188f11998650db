//! `tuxtape patch test`.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;

/// Boot the kernel in a virtual machine, load modules, unload them, and read the log
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
pub fn run(_arguments: Arguments, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not there yet")
}
