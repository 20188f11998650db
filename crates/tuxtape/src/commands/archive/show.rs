//! What drafts look like.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::sign::Shown;

use super::hinted;
use crate::context::Context;
use crate::output;

/// Lists the open drafts.
pub fn drafts(workspace: &Workspace, context: &Context) -> anyhow::Result<ExitCode> {
    for path in workspace.open_drafts().map_err(hinted)? {
        let shown = workspace
            .show(&path.display().to_string())
            .map_err(hinted)?;
        if context.json {
            output::json(&to_json(&shown))?;
        } else {
            output::text(&format!(
                "{} signed by {} of {}{}\n",
                shown.path.display(),
                shown.signed.len(),
                shown.wanted,
                names(&shown),
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes everything a signer must see.
pub fn text(shown: &Shown) -> String {
    let mut text = format!("draft   {}\n", shown.path.display());
    for change in &shown.changes {
        writeln!(text, "        {change}").ok();
    }
    writeln!(text, "sha256  {}\nwords   {}", shown.sha256, shown.words).ok();
    writeln!(
        text,
        "signed  {} of {}{}",
        shown.signed.len(),
        shown.wanted,
        names(shown)
    )
    .ok();
    if let Some((signed, wanted)) = &shown.before {
        let who = signed.join(", ");
        let count = signed.len();
        writeln!(
            text,
            "        and {count} of {wanted} of the root keys trusted so far ({who})"
        )
        .ok();
    }
    if shown.signed.len() < usize::try_from(shown.wanted).unwrap_or(usize::MAX) {
        writeln!(text, "missing any of {}", shown.missing.join(", ")).ok();
    }
    text
}

/// The same for programs.
pub fn to_json(shown: &Shown) -> serde_json::Value {
    json!({
        "draft": shown.path, "role": shown.role, "sha256": shown.sha256, "words": shown.words,
        "changes": shown.changes, "signed": shown.signed, "wanted": shown.wanted,
        "missing": shown.missing,
        "before": shown.before.as_ref().map(|(signed, wanted)| json!({"signed": signed, "wanted": wanted})),
    })
}

fn names(shown: &Shown) -> String {
    if shown.signed.is_empty() {
        String::new()
    } else {
        format!(" ({})", shown.signed.join(", "))
    }
}
