//! `tuxtape patch`: from a fix to a proven module.

pub mod build;
pub mod diff;
pub mod reproduce;
pub mod test;
pub mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::build_tree::{self, TakeError};
use tuxtape_kernel::debian::AddError;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::profile;

use crate::commands::kernel::add::Told;
use crate::context::Context;
use crate::output::Hint;

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

/// Returns where the files of a kernel lie. Those of one that its owner built are copied from the build
/// tree where that was not done, which takes a minute.
fn files(context: &Context, release: &KernelRelease) -> anyhow::Result<KernelFiles> {
    match profile::load(&context.home, release) {
        Ok(profile) => files_of(context, &profile),
        // One that lies in the cache can be used without what is known of it.
        Err(_) => Ok(KernelFiles::below(&context.cache, release)),
    }
}

/// Like [`files`], of a kernel whose profile is at hand.
fn files_of(context: &Context, profile: &KernelProfile) -> anyhow::Result<KernelFiles> {
    let told = Told::new();
    build_tree::take(&context.cache, &context.home, profile, &told)
        .map_err(|error| hinted(error, profile))
}

/// Tells what would help where a build tree cannot be used.
fn hinted(error: TakeError, profile: &KernelProfile) -> anyhow::Error {
    let add = format!("`tuxtape kernel add {}`", profile.origin.spec);
    let hint = match &error {
        TakeError::NoTree { .. } => Some(format!("run {add} where the tree is")),
        TakeError::NoBuild { .. } => Some(format!("finish the build in that tree, then run {add}")),
        TakeError::Changed { .. } => Some(format!(
            "put the tree back to what was built, or build it again (where make finds nothing to do, remove its vmlinux first), then run {add}; the kernel that runs must be that build"
        )),
        TakeError::Taken { .. } => Some(
            "give this kernel another release (CONFIG_LOCALVERSION), or use another cache (--cache)".to_owned(),
        ),
        TakeError::Types(_) => Some(
            "apt-get install dwarves, or build the kernel with CONFIG_DEBUG_INFO_BTF".to_owned(),
        ),
        TakeError::Add(AddError::Busy { .. }) => {
            Some("wait until the other command has ended, then run this again".to_owned())
        }
        TakeError::Stamp(_) => Some(format!("run {add} again")),
        TakeError::Io { .. }
        | TakeError::Copy(_)
        | TakeError::Map(_)
        | TakeError::Write(_)
        | TakeError::Add(_) => None,
    };
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(Hint::new(hint)),
        None => error,
    }
}

/// The SPEC to add a kernel by, for hints: as it was added, else from its distribution.
fn spec(context: &Context, release: &KernelRelease) -> String {
    profile::load(&context.home, release).map_or_else(
        |_| format!("debian:{release}"),
        |profile| profile.origin.spec,
    )
}
