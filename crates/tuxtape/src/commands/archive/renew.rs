//! `tuxtape archive renew`.

use std::process::ExitCode;

use clap::Args;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::redate::TopRole;

use super::{hinted, now, show, show_publication};
use crate::context::Context;
use crate::output;

/// Sign the timestamp anew, and the snapshot when it is due
#[derive(Debug, Args)]
pub struct Renew {
    /// Draft for every kernel a successor that is only valid longer, for reviewers to sign
    #[arg(long)]
    pub kernels: bool,
    /// Draft a successor of root that is valid longer, for the people of root to sign
    #[arg(long)]
    pub root: bool,
    /// Draft a successor of targets, the list of kernels, that is valid longer, for its people to sign
    #[arg(long)]
    pub targets: bool,
    /// Also remove modules that no role names any more and that came this many days ago, and
    /// superseded metadata of more than 30 days
    #[arg(long, value_name = "DAYS", num_args = 0..=1, default_missing_value = "365")]
    pub prune: Option<u32>,
    /// The timestamp published last was issued by a clock that ran ahead: issue an earlier one
    #[arg(long, conflicts_with_all = ["kernels", "root", "targets"])]
    pub clock_is_right: bool,
    /// With --prune: only list what would be removed
    #[arg(long, requires = "prune")]
    pub dry_run: bool,
}

/// Runs the command. Exits with 3 where it renewed what it can, but people must sign something soon.
pub(super) fn run(
    mut workspace: Workspace,
    arguments: &Renew,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    if arguments.kernels || arguments.root || arguments.targets {
        return draft(&workspace, arguments, context);
    }
    if arguments.clock_is_right {
        workspace.trust_clock();
    }
    let publication = workspace.renew(now()).map_err(hinted)?;
    let removed = match arguments.prune {
        Some(days) => workspace
            .prune(days, arguments.dry_run, now())
            .map_err(hinted)?,
        None => Vec::new(),
    };
    for path in removed {
        let what = if arguments.dry_run {
            "would remove"
        } else {
            "removed"
        };
        output::talk(&format!("{what} {}", path.display()));
    }
    show_publication(&publication, context)?;
    Ok(if publication.endings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

/// Drafts what only people can sign.
fn draft(workspace: &Workspace, arguments: &Renew, context: &Context) -> anyhow::Result<ExitCode> {
    let now = now();
    for (wanted, role) in [
        (arguments.root, TopRole::Root),
        (arguments.targets, TopRole::Targets),
    ] {
        if wanted {
            workspace.redate_top(role, now).map_err(hinted)?;
        }
    }
    if arguments.kernels {
        let redated = workspace.redate(now).map_err(hinted)?;
        for role in &redated.open {
            output::talk(&format!(
                "{role} has an open draft that changes more; sign and publish it, which renews it too"
            ));
        }
    }
    show::drafts(workspace, context)
}
