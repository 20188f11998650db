//! `tuxtape kernel import`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tuxtape_kernel::aliases;
use tuxtape_kernel::profile::exchange::{self, Made, Parcel, Replace};
use tuxtape_kernel::profile::functions;
use tuxtape_sys::regular;

use super::Shown;
use super::add::kept;
use crate::context::Context;
use crate::output;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// What `kernel import` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The file
    file: PathBuf,
    /// Replace a profile of the same kernel that differs, or of another build with its release
    #[arg(long)]
    replace: bool,
    /// Leave the table of functions and the list of modules that come with it
    #[arg(long)]
    profile_only: bool,
}

/// Keeps the profile in a file.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let name = || format!("could not import {}", arguments.file.display());
    let bytes = regular::read(&arguments.file, LARGEST)
        .with_context(name)?
        .context("it has more than 64 MiB")
        .with_context(name)?;
    let Parcel {
        profile,
        functions,
        modules,
    } = exchange::import(&bytes).with_context(name)?;
    let replace = if arguments.replace {
        Replace::Yes
    } else {
        Replace::No
    };
    let path = exchange::keep(&context.home, &profile, Made::Elsewhere, replace)
        .map_err(|error| kept(error, "kernel import"))?;
    if !arguments.profile_only {
        let id = &profile.id;
        if let Some(table) = functions {
            functions::save(&context.home, id, &table)
                .context("could not keep the table of functions")?;
        }
        if let Some(modules) = modules {
            aliases::save(&context.home, id, &modules)
                .context("could not keep the list of modules")?;
        }
    }
    let shown = Shown::of(&profile);
    if context.json {
        output::json(&shown)?;
    } else {
        output::text(&shown.text())?;
        output::text(&format!("profile       {}\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
