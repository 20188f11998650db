//! The operator's program as a library, so that the smaller programs share its commands.

pub mod commands;
pub mod context;
pub mod output;
pub mod remembered;
pub mod screen;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::context::Context;

/// Self-hosted Linux kernel livepatching
///
/// Scans the kernel's CVE feed, gauges which CVEs are in your kernels, builds livepatch modules from
/// their fixes, proves them against the very kernel that will load them, and publishes them in an
/// archive that only your reviewers can sign.
#[derive(Debug, Parser)]
#[command(name = "tuxtape", version, propagate_version = true)]
pub struct Cli {
    /// Folder of the store, profiles and keys
    #[arg(long, env = "TUXTAPE_HOME", global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Where the store is: `postgres://USER@HOST/DATABASE` or `sqlite:PATH` [default: store.sqlite in --home]
    #[arg(
        long,
        env = "TUXTAPE_STORE",
        global = true,
        value_name = "URL",
        hide_env_values = true
    )]
    pub store: Option<String>,
    /// Folder of downloads and unpacked kernels
    #[arg(long, env = "TUXTAPE_CACHE", global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands, in the order of the pipeline.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the store up to date with the CVE feed
    Scan(commands::scan::Arguments),
    /// Show CVE records and what they affect
    Cve(commands::cve::Arguments),
    /// Add kernels and show what is known of them
    Kernel(commands::kernel::Arguments),
    /// Say for every CVE whether a kernel has it, with evidence
    Gauge(commands::gauge::Arguments),
    /// Show or import the source change that closes a CVE
    Fix(commands::fix::Arguments),
    /// Build, verify and test livepatch modules
    Patch(commands::patch::Arguments),
    /// Read kernel logs: complaints, and whether a livepatch is to blame
    Log(commands::log::Arguments),
    /// Show and send what people should hear of
    Notice(commands::notice::Arguments),
    /// Keep the signed archive that clients fetch from
    Archive(commands::archive::Arguments),
    /// Show, stop and let go who may load a level
    Rollout(commands::rollout::Arguments),
    /// Write what is known of the CVEs in formats of other programs
    Export(commands::export::Arguments),
    /// Run the whole line on a stock kernel, from the feed to a patched virtual machine
    Demo(commands::demo::Arguments),
    /// Print a completion script for a shell
    Completions(commands::completions::Arguments),
    /// Write manual pages, one per subcommand
    #[command(hide = true)]
    Man(commands::man::Arguments),
}

/// Parses the command line, runs it, and prints errors with their hints.
pub fn run() -> ExitCode {
    let cli: Cli = parse();
    let context = match Context::new(cli.home, cli.store.as_deref(), cli.cache, cli.json) {
        Ok(context) => context,
        Err(error) => return output::fail(&error),
    };
    match dispatch(cli.command, &context) {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

/// Parses the command line, or ends the program with what is wrong about it.
fn parse<T: CommandFactory + FromArgMatches>() -> T {
    let mut command = without_empty(T::command());
    let matches = command.get_matches_mut();
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// Takes variables that are set to nothing for unset: a file of variables for a service names those
/// that are left as they are, too.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| {
            if is_empty(&arg) {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty)
}

/// The scan alone, for cron and timers
///
/// The same as `tuxtape scan`.
#[derive(Debug, Parser)]
#[command(name = "tuxtape-cve-parser", version)]
struct ScanCli {
    /// Folder of the store, profiles and keys
    #[arg(long, env = "TUXTAPE_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Where the store is: `postgres://USER@HOST/DATABASE` or `sqlite:PATH` [default: store.sqlite in --home]
    #[arg(
        long,
        env = "TUXTAPE_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    store: Option<String>,
    /// Folder of downloads and unpacked kernels
    #[arg(long, env = "TUXTAPE_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    arguments: commands::scan::Arguments,
}

/// Runs the scan as a program of its own.
pub fn run_scan() -> ExitCode {
    let cli: ScanCli = parse();
    let context = match Context::new(cli.home, cli.store.as_deref(), cli.cache, cli.json) {
        Ok(context) => context,
        Err(error) => return output::fail(&error),
    };
    match commands::scan::run(cli.arguments, &context) {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

fn dispatch(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Scan(arguments) => commands::scan::run(arguments, context),
        Command::Cve(arguments) => commands::cve::run(arguments, context),
        Command::Kernel(arguments) => commands::kernel::run(arguments, context),
        Command::Gauge(arguments) => commands::gauge::run(&arguments, context),
        Command::Fix(arguments) => commands::fix::run(arguments, context),
        Command::Patch(arguments) => commands::patch::run(arguments, context),
        Command::Notice(arguments) => commands::notice::run(arguments, context),
        Command::Archive(arguments) => commands::archive::run(arguments, context),
        Command::Rollout(arguments) => commands::rollout::run(arguments, context),
        Command::Log(arguments) => commands::log::run(&arguments, context),
        Command::Export(arguments) => commands::export::run(arguments, context),
        Command::Demo(arguments) => commands::demo::run(arguments, context),
        Command::Completions(arguments) => commands::completions::run(&arguments, context),
        Command::Man(arguments) => commands::man::run(&arguments, context),
    }
}
