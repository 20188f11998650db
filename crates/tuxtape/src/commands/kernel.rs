//! `tuxtape kernel`.

pub(crate) mod add;
mod check;
mod export;
mod import;
mod watch;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::{KernelProfile, Way};
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
    /// Build the profile of a kernel, from packages, a build, a tree or an archive
    Add(add::Arguments),
    /// Write the profile of a kernel to one file
    Export(export::Arguments),
    /// Keep a profile written by `kernel export`
    Import(import::Arguments),
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
        Verb::Add(arguments) => add::run(&arguments, context),
        Verb::Export(arguments) => export::run(&arguments, context),
        Verb::Import(arguments) => import::run(&arguments, context),
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
            LoadError::Missing { .. } | LoadError::Malformed { .. } | LoadError::Changed { .. } => {
                true
            }
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
    sureness: Sure,
    #[serde(skip)]
    way: Way,
}

/// How sure a profile is, for programs.
#[derive(Debug, Serialize)]
struct Sure {
    way: &'static str,
    all_headers: bool,
    blind: BTreeMap<String, String>,
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
            sureness: Sure {
                way: kernel.sureness.way.as_str(),
                all_headers: kernel.sureness.all_headers,
                blind: kernel.sureness.blind.clone(),
            },
            way: kernel.sureness.way,
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
             functions     {functions}\n\
             known by      {way}\n\
             {headers}{blind}",
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
            functions = match self.functions {
                0 => "(no image was read)".to_owned(),
                count => count.to_string(),
            },
            way = self.way.says(),
            headers = if self.sureness.all_headers {
                "headers       every one that a unit read is known\n"
            } else {
                "headers       those that left code, and those that no compiled file could read: others are unknown\n"
            },
            blind = self.blind(),
        )
    }

    /// Lists the first of what cannot be told, by reason.
    fn blind(&self) -> String {
        const SHOWN: usize = 3;
        const LINES: usize = 8;
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, why) in &self.sureness.blind {
            reasons.entry(why).or_default().push(name);
        }
        let lines = reasons.iter().map(|(why, names)| {
            let shown = names.get(..SHOWN).unwrap_or(names).join(" ");
            let more = match names.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("unknown       {shown}{more}: {why}\n")
        });
        let mut text: String = lines.take(LINES).collect();
        if reasons.len() > LINES {
            text.push_str(&format!(
                "unknown       and more, for {} other reasons: see --json\n",
                reasons.len() - LINES
            ));
        }
        text
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
