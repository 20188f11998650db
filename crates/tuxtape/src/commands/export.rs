//! `tuxtape export`.

mod csv;
mod osv;
mod sink;
mod vex;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::context::Context;

/// Write what is known of the CVEs in formats of other programs
#[derive(Debug, Args)]
pub struct Arguments {
    /// The format
    #[command(subcommand)]
    pub format: Format,
}

/// Formats.
#[derive(Debug, Subcommand)]
pub enum Format {
    /// OSV 1.7, one record a line
    ///
    /// Ranges of type ECOSYSTEM answer as `tuxtape cve affected` does, for every version. A range that
    /// ends with `fixed` at the first release candidate of a branch ends there because that branch
    /// does not hold the bug, not because of a fix.
    Osv(osv::Arguments),
    /// CSV (RFC 4180), one CVE a row, for spreadsheets
    ///
    /// A text that a spreadsheet would take for a formula is preceded by an apostrophe.
    Csv(csv::Arguments),
    /// OpenVEX 0.2.0 for one kernel, one statement for every CVE
    ///
    /// The same store, profile and flags give the same bytes.
    Vex(vex::Arguments),
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.format {
        Format::Osv(arguments) => osv::run(&arguments, context)?,
        Format::Csv(arguments) => csv::run(&arguments, context)?,
        Format::Vex(arguments) => vex::run(&arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}
