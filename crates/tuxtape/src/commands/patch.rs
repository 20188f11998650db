//! `tuxtape patch`: from a fix to a proven module.

pub mod build;
pub mod diff;
pub mod reproduce;
pub mod test;
pub mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::context::Context;

/// Build, verify and test livepatch modules
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Steps of module making.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build one livepatch module from fixes
    Build(build::Arguments),
    /// Compare two objects of one unit and say what travels
    Diff(diff::Arguments),
    /// Check a module as the kernel would when loading it, without loading it
    Verify(verify::Arguments),
    /// Make a module again from its recipe, and compare it bit for bit
    Reproduce(reproduce::Arguments),
    /// Boot the kernel in a virtual machine, load modules, unload them, and read the log
    Test(test::Arguments),
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Build(arguments) => build::run(&arguments, context),
        Command::Diff(arguments) => diff::run(arguments, context),
        Command::Verify(arguments) => verify::run(arguments, context),
        Command::Reproduce(arguments) => reproduce::run(&arguments, context),
        Command::Test(arguments) => test::run(arguments, context),
    }
}
