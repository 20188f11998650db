//! `tuxtape cve`.

pub mod affected;
pub mod decide;
pub mod decisions;
pub(crate) mod json;
pub mod links;
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
    /// By who can reach the code and what a hit does, raised by what is known from outside; among
    /// equals the newest id first. `tuxtape cve show` explains every point.
    Rank(rank::Arguments),
    /// Decide what is done about one: accept, defer or ignore, with a reason
    ///
    /// The last decision counts, one for a kernel before one for all; it is shown wherever the CVE is,
    /// and ends when its time has run out. None is ever removed.
    Decide(decide::Arguments),
    /// List what was decided
    Decisions(decisions::Arguments),
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
        Command::Decide(arguments) => decide::run(&arguments, context),
        Command::Decisions(arguments) => decisions::run(&arguments, context),
        Command::Signals(arguments) => signals::run(&arguments, context),
    }
}
