//! `tuxtape archive withdraw`.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tuxtape_archive::hold::Share;
use tuxtape_archive::index::OnWithdraw;
use tuxtape_archive::names::target;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::withdraw::{WithdrawDraft, WithdrawRequest};
use tuxtape_core::identity::{KernelRelease, PatchLevel};

use super::{hinted, now, show, sign};
use crate::context::Context;
use crate::output;

/// Take a published level back: stops its rollout at once and drafts the index that says so
///
/// Two reviewers need two commands: the first drafts and signs (`withdraw K LEVEL --why TEXT --key
/// ALICE.pem`), the second signs and publishes (`sign K --key BOB.pem --publish`).
#[derive(Debug, Args)]
pub struct Withdraw {
    /// Kernel release, or the SPEC it was added by
    #[arg(value_name = "K")]
    pub kernel: String,
    /// The level
    pub level: u32,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Nodes that run it keep it until they boot; without this they leave it
    #[arg(long)]
    pub keep: bool,
    /// First digits of the kernel's build-id, where several builds have that level
    #[arg(long, value_name = "BUILD-ID")]
    pub build: Option<String>,
    /// Sign the draft at once with this key, or by this program
    #[arg(long, value_name = "FILE|exec:PROGRAM")]
    pub key: Option<String>,
    /// Publish at once when that was the last signature it needed
    #[arg(long, requires = "key")]
    pub publish: bool,
}

/// A hold over the whole kernel stops the level that nodes are to fall back to as well.
fn warn_of_held_fallback(workspace: &Workspace, drafted: &WithdrawDraft) {
    let Some(to) = drafted.falls_to else {
        return;
    };
    let Ok((_, hold)) = workspace.hold(now()) else {
        return;
    };
    let Ok(target) = target(&drafted.kernel, to) else {
        return;
    };
    let release = &drafted.kernel.release;
    if let Share::Stopped(why) | Share::Capped { reason: why, .. } =
        hold.share(&target, None, now())
    {
        output::talk(&format!(
            "level {to}, which nodes are to fall back to, is held, too ({why}): nodes that cannot load it go to the stock kernel; `tuxtape rollout lift {release} --level {to}` lets it go"
        ));
    }
}

/// Runs the command.
pub fn run(
    workspace: &Workspace,
    arguments: &Withdraw,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let text = arguments.kernel.rsplit(':').next().unwrap_or_default();
    let release: KernelRelease = text.parse()?;
    let level = PatchLevel(arguments.level);
    let request = WithdrawRequest {
        release: release.clone(),
        build: arguments.build.clone(),
        level,
        on_withdraw: if arguments.keep {
            OnWithdraw::Keep
        } else {
            OnWithdraw::Revert
        },
        reason: arguments.why.clone(),
    };
    // The stop needs no reviewer, so it does not wait for the draft; where it fails, the draft is made
    // all the same.
    let stopped = workspace.cap(&release, Some(level), 0, &arguments.why, now());
    match &stopped {
        Ok(_) => output::talk(&format!(
            "level {level} is stopped: a node that never loaded it will not load it; until the draft is published, those that committed it keep it, also over a boot"
        )),
        Err(error) => output::talk(&format!(
            "level {level} could not be stopped at once: {error}"
        )),
    }
    let drafted = workspace.withdraw(&request, now()).map_err(hinted)?;
    warn_of_held_fallback(workspace, &drafted);
    let draft = drafted.draft.display().to_string();
    let mut shown = workspace.show(&draft).map_err(hinted)?;
    if let Some(key) = &arguments.key {
        // Made by this very command, so there is nothing that somebody else could have put there.
        let words = shown.words.clone();
        shown = sign::sign_by(workspace, &draft, key, &words)?;
    }
    if context.json {
        output::json(&json!({
            "kernel": drafted.kernel, "level": drafted.level, "sha256": drafted.sha256,
            "falls_to": drafted.falls_to, "set_aside": drafted.set_aside,
            "stopped": stopped.is_ok(), "draft": show::to_json(&shown),
        }))?;
    } else {
        let to = drafted.falls_to.map_or_else(
            || "the stock kernel".to_owned(),
            |level| format!("level {level}"),
        );
        let mut text = show::text(&shown);
        writeln!(text, "nodes that leave level {level} go to {to}").ok();
        if let Some(aside) = &drafted.set_aside {
            let aside = aside.display();
            writeln!(
                text,
                "an open level of this kernel was moved to {aside}; stage it again"
            )
            .ok();
        }
        output::text(&text)?;
    }
    if arguments.publish {
        sign::publish_when_full(workspace, &shown, context)?;
    }
    Ok(ExitCode::SUCCESS)
}
