//! `tuxtape archive bundle`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tuxtape_archive::names::cap;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::bundle;
use tuxtape_core::identity::KernelRelease;
use tuxtape_sys::regular;

use super::{hinted, now, public_of};
use crate::context::Context;
use crate::output;

/// Write the archive into one file for sites without a network, or take one in
#[derive(Debug, Args)]
pub struct Bundle {
    /// Bundle to write; with --import, the mirror's folder; with --list, nothing
    #[arg(value_name = "OUT.tar|DIR")]
    pub place: Option<PathBuf>,
    /// Kernel to include; without one, all
    #[arg(long = "kernel", value_name = "K")]
    pub kernels: Vec<String>,
    /// List of what the far side has, as --list prints it there; those files are left out
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
    /// Bundle to verify and to publish in the mirror's folder
    #[arg(long, value_name = "BUNDLE.tar", conflicts_with_all = ["kernels", "since", "list"])]
    pub import: Option<PathBuf>,
    /// Root to begin with, at the first import; compare its words by voice
    #[arg(long, value_name = "FILE", requires = "import")]
    pub root: Option<PathBuf>,
    /// Print the names that a mirror has, for --since on the near side
    #[arg(long, value_name = "DIR")]
    pub list: Option<PathBuf>,
}

/// Runs the command.
pub fn run(top: &Path, arguments: &Bundle, context: &Context) -> anyhow::Result<ExitCode> {
    if let Some(mirror) = &arguments.list {
        return list(&public_of(mirror));
    }
    let place = arguments.place.as_deref().context("say where to")?;
    match &arguments.import {
        Some(file) => import(file, place, arguments.root.as_deref(), context),
        None => write(top, place, arguments, context),
    }
}

fn write(
    top: &Path,
    out: &Path,
    arguments: &Bundle,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let release = |text: &String| Ok(text.rsplit(':').next().unwrap_or_default().parse()?);
    let kernels = arguments.kernels.iter().map(release);
    let kernels: Vec<KernelRelease> = kernels.collect::<anyhow::Result<_>>()?;
    let have = match &arguments.since {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("could not read {}", path.display()))?;
            text.lines().map(str::to_owned).collect()
        }
        None => BTreeSet::new(),
    };
    let workspace = Workspace::open(top).map_err(hinted)?;
    let names = workspace.bundle(&kernels, &have, out).map_err(hinted)?;
    if context.json {
        output::json(&json!({"bundle": out, "files": names}))?;
    } else {
        output::text(&format!("{} with {} files\n", out.display(), names.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn import(
    file: &Path,
    mirror: &Path,
    root: Option<&Path>,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let read = |path: &Path| {
        regular::read_linked(path, cap::ROOT)
            .with_context(|| format!("could not read {}", path.display()))?
            .with_context(|| format!("{} is too large for a root", path.display()))
    };
    let root = root.map(read).transpose()?;
    let taken = bundle::import(file, mirror, root.as_deref(), now()).map_err(hinted)?;
    if context.json {
        output::json(&json!({
            "timestamp": taken.timestamp, "files": taken.files, "absent": taken.absent,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for name in &taken.files {
        writeln!(text, "published {name}").ok();
    }
    for kernel in &taken.absent {
        writeln!(text, "absent    {kernel}").ok();
    }
    writeln!(text, "timestamp {}", taken.timestamp).ok();
    output::text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn list(public: &Path) -> anyhow::Result<ExitCode> {
    let mut names = Vec::new();
    for folder in ["metadata", "targets"] {
        let path = public.join(folder);
        let entries = std::fs::read_dir(&path)
            .with_context(|| format!("could not read {}", path.display()))?;
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(format!("{folder}/{name}\n"));
            }
        }
    }
    names.sort();
    output::text(&names.concat())?;
    Ok(ExitCode::SUCCESS)
}
