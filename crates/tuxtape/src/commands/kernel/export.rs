//! `tuxtape kernel export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::aliases;
use tuxtape_kernel::profile::exchange::{self, Parcel};
use tuxtape_kernel::profile::functions;
use tuxtape_sys::durable;

use crate::context::Context;
use crate::output;

/// What `kernel export` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its release, the text of `uname -r`
    kernel: KernelRelease,
    /// Where to write it; compressed if the name ends in .gz [default: RELEASE.profile.gz]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Exported {
    release: String,
    build_id: Option<String>,
    path: String,
    bytes: usize,
}

/// Writes one profile to a file.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let profile = super::load(context, &arguments.kernel)?;
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.profile.gz", arguments.kernel)));
    // A damaged table is no reason to keep the profile back, and is not handed on.
    let functions = functions::load(&context.home, &profile.id).unwrap_or_else(|error| {
        output::talk(&format!("warning: {:#}", anyhow::Error::new(error)));
        None
    });
    let modules = aliases::load(&context.home, &profile.id).unwrap_or_else(|error| {
        output::talk(&format!("warning: {:#}", anyhow::Error::new(error)));
        None
    });
    let parcel = Parcel {
        profile,
        functions,
        modules,
    };
    let mut bytes = exchange::export(&parcel);
    let Parcel { profile, .. } = parcel;
    if path.extension().is_some_and(|end| end == "gz") {
        bytes = exchange::pack(&bytes).context("could not compress the profile")?;
    }
    durable::write(&path, &bytes)?;
    let exported = Exported {
        release: profile.id.release.to_string(),
        build_id: profile.id.build_id.as_ref().map(ToString::to_string),
        path: path.display().to_string(),
        bytes: bytes.len(),
    };
    if context.json {
        output::json(&exported)?;
    } else {
        output::text(&format!("{}: {} bytes\n", exported.path, exported.bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}
