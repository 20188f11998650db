//! `tuxtape patch test`.

mod report;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::lab::accelerator::{self, Accelerator};
use tuxtape_kernel::lab::module_files;
use tuxtape_kernel::lab::tools::Tools;
use tuxtape_kernel::lab::trial::{self, Limits, Livepatch, Order, Trial};
use tuxtape_sys::durable;

use crate::context::Context;
use crate::output::{self, Hint};

/// Boot the kernel in a virtual machine, load modules, unload them, and read the log
///
/// Each module goes through its whole life: load, end of the transition, the kernel's own list of
/// what it patched, disable, unload. Modules of the kernel that it patches are loaded before it.
/// The test fails when a step fails, when the kernel complains, and when the guest does not answer.
/// Exit code 0: passed; 3: did not pass; 1: could not be held.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Kernel release, as in `uname -r`
    pub kernel: KernelRelease,
    /// Livepatch modules; they share one boot as long as they pass
    #[arg(required = true, value_name = "M.ko")]
    pub modules: Vec<PathBuf>,
    /// Shell script for the guest, run before, while and after each module is loaded
    ///
    /// Run by busybox's sh with `$TUXTAPE_STAGE` = before, during or after, and `$TUXTAPE_MODULE`. A code
    /// other than 0 at `during` fails the test; before and after it is reported.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Test the other order, too: the livepatch first, then the modules it patches
    #[arg(long)]
    pub both_orders: bool,
    /// Keep the kernel's log in this file
    #[arg(long, value_name = "FILE")]
    pub keep_log: Option<PathBuf>,
    /// How to run the guest
    #[arg(long, value_enum, default_value_t = Acceleration::Auto)]
    pub accelerator: Acceleration,
    /// Seconds a transition may take, in or out
    #[arg(long, value_name = "SECONDS", default_value_t = 45, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub transition_limit: u64,
    /// Seconds the script may take each time
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub script_limit: u64,
}

/// How to run the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acceleration {
    /// KVM where a probe shows that it works, else emulation
    Auto,
    /// Emulation
    Tcg,
    /// KVM
    Kvm,
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let kernel = super::files(context, &arguments.kernel)?;
    if !kernel.vmlinuz.is_file() {
        return Err(anyhow::anyhow!(
            "no bootable image of {} at {}",
            kernel.release,
            kernel.vmlinuz.display()
        )
        .context(Hint::new(format!(
            "run `tuxtape kernel add {}` first; a kernel of your own needs its bzImage then",
            super::spec(context, &kernel.release)
        ))));
    }
    let livepatches = arguments
        .modules
        .into_iter()
        .map(livepatch)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let script = arguments
        .script
        .as_ref()
        .map(|path| fs::read(path).with_context(|| format!("could not read {}", path.display())))
        .transpose()?;
    let tools = find_tools()?;
    let mut talk = |line: &str| output::talk(line);
    let trial = Trial {
        livepatches,
        script,
        order: if arguments.both_orders {
            Order::Both
        } else {
            Order::ObjectsFirst
        },
        accelerator: match arguments.accelerator {
            Acceleration::Auto => {
                let memory = context.cache.join("lab/accelerator");
                accelerator::choose(&tools, &kernel, &memory, &mut talk)
            }
            Acceleration::Tcg => Accelerator::Tcg,
            Acceleration::Kvm => Accelerator::Kvm,
        },
        limits: Limits {
            transition: Duration::from_secs(arguments.transition_limit),
            script: Duration::from_secs(arguments.script_limit),
            ..Limits::default()
        },
    };
    let outcome = trial::run(&tools, &kernel, &trial, &mut talk)?;
    if let Some(path) = &arguments.keep_log {
        durable::write(path, &outcome.logs.concat())?;
    }
    if context.json {
        output::json(&report::Output::new(&outcome, start.elapsed()))?;
    } else {
        output::text(&report::text(&outcome, start.elapsed()))?;
    }
    Ok(if outcome.passed() {
        ExitCode::SUCCESS
    } else {
        if let Some(tail) = &outcome.tail {
            output::talk(&format!("last lines of the guest's console:\n{tail}"));
        }
        ExitCode::from(output::NO)
    })
}

/// Finds QEMU and busybox, with the package to install as a hint.
pub fn find_tools() -> anyhow::Result<Tools> {
    Tools::find().map_err(|error| {
        let package = error.package();
        let error = anyhow::Error::new(error);
        match package {
            Some(package) => error.context(Hint::new(format!("apt-get install {package}"))),
            None => error,
        }
    })
}

fn livepatch(path: PathBuf) -> anyhow::Result<Livepatch> {
    let bytes = module_files::read_module(&path)?;
    Ok(Livepatch::from_module(path, bytes)?)
}
