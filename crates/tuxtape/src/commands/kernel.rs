//! `tuxtape kernel`.

pub(crate) mod add;
mod check;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::profile::{self, LoadError};

use crate::context::Context;
use crate::output::{self, Hint};

/// Add kernels and show what is known of them
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetch a kernel's packages, prepare its source and build its profile
    Add {
        /// Which kernel: debian:RELEASE, such as debian:6.1.0-47-cloud-amd64
        spec: String,
    },
    /// Add newer kernels of the distribution as apt lists them, and say until when each is covered
    ///
    /// Follows the lines (series and flavour) of the kernels that were added before. Exit code: 0 done,
    /// 1 where a kernel could not be added or read, after the others.
    Watch(watch::Arguments),
    /// List the kernels added
    List,
    /// Show what is known of one kernel
    Show {
        /// Its release, the text of `uname -r`
        kernel: KernelRelease,
    },
    /// Say whether a kernel can be livepatched, by which engine, and if not what to change
    ///
    /// Exit code: 0 it can, 3 it cannot here, 1 failed; with --json 0 whenever the answer was read.
    Check {
        /// Its release, the text of `uname -r`
        kernel: KernelRelease,
    },
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Add { spec } => add::run(&spec, context),
        Verb::Watch(arguments) => watch::run(&arguments, context),
        Verb::List => list(context),
        Verb::Show { kernel } => show(&kernel, context),
        Verb::Check { kernel } => check::run(&kernel, context),
    }
}

/// Loads the profile of `release`, with the way out where it was never added.
pub fn load(context: &Context, release: &KernelRelease) -> anyhow::Result<KernelProfile> {
    profile::load(&context.home, release).map_err(|error| {
        let again = match &error {
            LoadError::Missing { .. } | LoadError::Malformed { .. } => true,
            LoadError::Read { .. } => false,
        };
        let error = anyhow::Error::new(error);
        if again {
            error.context(Hint::new(format!(
                "run `tuxtape kernel add debian:{release}`"
            )))
        } else {
            error
        }
    })
}

/// What `kernel show` prints for programs.
#[derive(Debug, Serialize)]
struct Shown {
    release: String,
    arch: String,
    build_id: Option<String>,
    base_version: String,
    spec: String,
    source: String,
    compiler: String,
    units: usize,
    contributors: usize,
    modules: usize,
    functions: u64,
    tree_files: usize,
    config: tuxtape_core::profile::ConfigFacts,
}

impl Shown {
    fn of(kernel: &KernelProfile) -> Self {
        Self {
            release: kernel.id.release.to_string(),
            arch: kernel.id.arch.to_string(),
            build_id: kernel.id.build_id.as_ref().map(ToString::to_string),
            base_version: kernel.base_version.clone(),
            spec: kernel.origin.spec.clone(),
            source: kernel.origin.source.clone(),
            compiler: kernel.compiler.clone(),
            units: kernel.units.len(),
            contributors: kernel.contributors.len(),
            modules: modules(kernel),
            functions: kernel.functions,
            tree_files: kernel.tree_files.len(),
            config: kernel.config.clone(),
        }
    }

    fn text(&self) -> String {
        let on = |facts: &[(&str, bool)]| {
            let names: Vec<&str> = facts
                .iter()
                .filter_map(|(name, on)| on.then_some(*name))
                .collect();
            names.join(" ")
        };
        let config = &self.config;
        format!(
            "{release} ({arch})\n\
             build-id      {build_id}\n\
             base version  {base}\n\
             source        {source}\n\
             added by      {spec}\n\
             compiler      {compiler}\n\
             configuration {facts}\n\
             units         {units} in vmlinux and {modules} modules\n\
             functions     {functions}\n",
            release = self.release,
            arch = self.arch,
            build_id = self.build_id.as_deref().unwrap_or("(no image was seen)"),
            base = self.base_version,
            source = self.source,
            spec = self.spec,
            compiler = self.compiler,
            facts = on(&[
                ("livepatch", config.livepatch),
                ("ibt", config.ibt),
                ("modversions", config.modversions),
                ("lto", config.lto),
                ("randstruct", config.randstruct),
                ("kallsyms-all", config.kallsyms_all),
                ("unwinder-orc", config.unwinder_orc),
                ("module-sig-force", config.module_sig_force),
                ("trim-unused-ksyms", config.trim_unused_ksyms),
            ]),
            units = self.units,
            modules = self.modules,
            functions = self.functions,
        )
    }
}

fn modules(kernel: &KernelProfile) -> usize {
    let objects: std::collections::BTreeSet<_> = kernel.units.values().flatten().collect();
    objects.iter().filter(|name| !name.is_vmlinux()).count()
}

fn list(context: &Context) -> anyhow::Result<ExitCode> {
    for release in profile::list(&context.home)? {
        // One damaged profile does not hide the others.
        match load(context, &release) {
            Ok(kernel) if context.json => output::json(&Shown::of(&kernel))?,
            Ok(kernel) => output::text(&format!(
                "{release}  {base}  {spec}\n",
                base = kernel.base_version,
                spec = kernel.origin.spec
            ))?,
            Err(error) => {
                output::fail(&error);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(release: &KernelRelease, context: &Context) -> anyhow::Result<ExitCode> {
    let shown = Shown::of(&load(context, release)?);
    if context.json {
        output::json(&shown)?;
    } else {
        output::text(&shown.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
