//! `tuxtape cve`.

pub mod affected;
pub mod rank;
pub mod show;
pub mod signals;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::context::Context;

/// Show CVE records and what they affect
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to show
    #[command(subcommand)]
    pub command: Command,
}

/// Questions about CVE records.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show one record
    Show(show::Arguments),
    /// List the CVEs that affect an upstream version
    ///
    /// By the feed alone: a distribution's kernel carries fixes this does not see; use `gauge` for it.
    Affected(affected::Arguments),
    /// List CVEs, the most urgent first
    ///
    /// By the score the record's authority published, highest first; then those without one; among
    /// equals the newest id first. Absence of a score says nothing: only 7.0 and above are published.
    Rank(rank::Arguments),
    /// Show what outside evidence the store has, how old it is, and what of it the feed does not know
    ///
    /// Evidence is taken in with `scan --signals`. The feed holds only CVEs that the kernel's own
    /// authority assigned; what says that another one is exploited is kept, and listed here.
    Signals(signals::Arguments),
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Show(arguments) => show::run(&arguments, context),
        Command::Affected(arguments) => affected::run(&arguments, context),
        Command::Rank(arguments) => rank::run(&arguments, context),
        Command::Signals(arguments) => signals::run(&arguments, context),
    }
}
