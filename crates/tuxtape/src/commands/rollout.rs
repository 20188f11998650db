//! `tuxtape rollout`: who may load a level now.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tuxtape_archive::hold::{Hold, Share};
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::commit::index_of;
use tuxtape_archive::words::one_line;
use tuxtape_core::identity::{KernelRelease, PatchLevel};

use super::archive::{hinted, now, place, show_publication};
use crate::context::Context;
use crate::output;

/// Show, stop and let go who may load a level
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the archive: policy, online keys, drafts, and the public tree
    #[arg(long, env = "TUXTAPE_ARCHIVE", global = true, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with a rollout.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show each level's schedule, its cap, and the share of nodes that may load it now
    Show {
        /// Kernel release, or the SPEC it was added by
        #[arg(value_name = "K")]
        kernel: String,
    },
    /// Let no further node load a level, at once; unloads nothing
    ///
    /// A held level is not loaded anew: a node that never loaded it waits, also where it should fall back
    /// to it. A node that runs it keeps it, and loads it again after a boot once it was committed there;
    /// only `archive withdraw` ends that.
    Hold {
        /// Kernel release, or the SPEC it was added by
        #[arg(value_name = "K", required_unless_present = "all")]
        kernel: Option<String>,
        /// Every level of every kernel of the archive
        #[arg(long, conflicts_with_all = ["kernel", "level", "cap"])]
        all: bool,
        /// Level; without it, every live level of the kernel
        #[arg(long)]
        level: Option<u32>,
        /// Share that may still load it, in thousandths
        #[arg(long, default_value_t = 0, value_name = "PERMILLE")]
        cap: u32,
        /// Why, for people
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Let only the signed schedule count again
    Lift {
        /// Kernel release, or the SPEC it was added by
        #[arg(value_name = "K", required_unless_present = "all")]
        kernel: Option<String>,
        /// Lift the stop of the whole archive, also one that comes of a hold that expired or cannot be
        /// read; caps of single levels stay
        #[arg(long, conflicts_with_all = ["kernel", "level"])]
        all: bool,
        /// Level; without it, every live level of the kernel
        #[arg(long)]
        level: Option<u32>,
    },
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let top = place(arguments.archive, context);
    let workspace = Workspace::open(&top).map_err(hinted)?;
    let release = |text: &str| -> anyhow::Result<KernelRelease> {
        Ok(text.rsplit(':').next().unwrap_or_default().parse()?)
    };
    match arguments.command {
        Command::Show { kernel } => show(&workspace, &release(&kernel)?, context),
        Command::Hold {
            kernel,
            all: _,
            level,
            cap,
            why,
        } => {
            let done = match kernel {
                Some(kernel) => {
                    let level = level.map(PatchLevel);
                    workspace.cap(&release(&kernel)?, level, cap, &why, now())
                }
                None => workspace.stop_all(&why, now()),
            };
            show_publication(&done.map_err(hinted)?, context)
        }
        Command::Lift {
            kernel: Some(kernel),
            level,
            ..
        } => {
            let done = workspace.lift(&release(&kernel)?, level.map(PatchLevel), now());
            show_publication(&done.map_err(hinted)?, context)
        }
        Command::Lift { kernel: None, .. } => {
            let (done, caps) = workspace.lift_all(now()).map_err(hinted)?;
            for cap in caps {
                output::talk(&format!(
                    "{} keeps its cap of {} thousandths: {}",
                    one_line(&cap.target),
                    cap.permille,
                    one_line(&cap.reason)
                ));
            }
            show_publication(&done, context)
        }
    }
}

fn show(
    workspace: &Workspace,
    release: &KernelRelease,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let now = now();
    // As clients read it: expired, unsigned or malformed is a stop.
    let (published, hold) = workspace.hold(now).map_err(hinted)?;
    let mut text = String::new();
    let stopped = match &hold {
        Hold::Absent => None,
        Hold::Caps(caps) => caps.stopped(),
        Hold::Unreadable(why) => Some(one_line(why)),
    };
    if let Some(why) = &stopped {
        let out = match &hold {
            Hold::Unreadable(_) => {
                "`tuxtape archive renew` signs an expired one anew, `tuxtape rollout lift --all` replaces any"
            }
            Hold::Absent | Hold::Caps(_) => "`tuxtape rollout lift --all` lifts it",
        };
        writeln!(text, "no node loads anything new: {why}; {out}").ok();
    }
    let mut lines = Vec::new();
    let index = index_of(&published, release).map_err(hinted)?;
    let index = index.ok_or_else(|| anyhow::anyhow!("the archive has no kernel {release}"))?;
    for kernel in &index.kernels {
        for level in &kernel.levels {
            let share = hold.share(&level.target, level.waves.as_ref(), now);
            let ppm = share.ppm();
            let why = match &share {
                Share::Scheduled(_) => String::new(),
                Share::Capped { reason, .. } | Share::Stopped(reason) => format!(" ({reason})"),
            };
            let build = kernel.build_id.short();
            let (whole, part) = (ppm / 10_000, ppm / 100 % 100);
            let number = level.level;
            writeln!(
                text,
                "level {number} build {build}: open to {whole}.{part:02} %{why}"
            )
            .ok();
            lines.push(json!({
                "build_id": kernel.build_id, "level": level.level, "open_ppm": ppm,
                "waves": level.waves, "cap": hold.cap(&level.target),
            }));
        }
    }
    if context.json {
        output::json(&json!({"kernel": release, "stopped": stopped, "levels": lines}))?;
    } else {
        output::text(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
