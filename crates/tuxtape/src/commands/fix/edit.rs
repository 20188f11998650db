//! `tuxtape fix edit`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::found::DiffKind;
use tuxtape_kernel::fix_source::kept::{self, Given, Replace};
use tuxtape_sys::editor;

use super::find::{self, FoundFix};
use super::show;
use crate::commands::kernel;
use crate::context::Context;
use crate::output::{self, Hint};

/// Where the new diff comes from, and from whom.
pub(super) struct Edit<'a> {
    /// A file to take instead of opening an editor.
    pub(super) file: Option<&'a Path>,
    /// Who edits.
    pub(super) by: &'a str,
}

/// Lets a person change the fix of a CVE, and keeps what applies.
pub(super) fn run(
    context: &Context,
    release: &KernelRelease,
    cve: CveId,
    edit: &Edit<'_>,
) -> anyhow::Result<ExitCode> {
    let profile = kernel::load(context, release)?;
    let files = KernelFiles::below(&context.cache, release);
    let draft = kept::draft(&context.home, release, cve);
    let (before, after) = match edit.file {
        Some(file) => (None, kept::read(file)?),
        None => {
            // A draft of an earlier try is somebody's work.
            let before = if draft.exists() {
                output::talk(&format!("going on with {}", draft.display()));
                kept::read(&draft)?
            } else {
                match find::find(context, &profile, cve) {
                    Ok(found) => found.fix.diff,
                    Err(error) if find::is_no(&error) => {
                        let hint = "write the diff to a file, and give it with --file";
                        return Err(error.context(Hint::new(hint)));
                    }
                    Err(error) => return Err(error),
                }
            };
            let after = edited(&draft, &before)?;
            (Some(before), after)
        }
    };
    if before.as_deref() == Some(after.as_str()) {
        fs::remove_file(&draft).ok();
        output::talk("nothing was changed: the fix stays as it is");
        return Ok(ExitCode::from(output::NO));
    }
    if after.trim().is_empty() {
        bail!("the diff is empty: the fix stays as it is");
    }
    let name = match edit.file {
        Some(file) => file.file_name().unwrap_or_default().to_string_lossy(),
        None => "an editor".into(),
    };
    let given = Given {
        diff: &after,
        person: edit.by,
        name: &name,
    };
    let fix = kept::keep(&context.home, &files, cve, &given, Replace::Yes).map_err(|error| {
        let hint = match edit.file {
            Some(_) => "the fix that was kept stays".to_owned(),
            None => format!(
                "what was written is in {}: `tuxtape fix edit {release} {cve}` goes on with it",
                draft.display()
            ),
        };
        anyhow::Error::new(error).context(Hint::new(hint))
    })?;
    if edit.file.is_none() {
        fs::remove_file(&draft).ok();
    }
    show::print(context, cve, &FoundFix::alone(fix, DiffKind::Hand))?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the editor on `text` in `draft` and returns what it leaves there.
fn edited(draft: &PathBuf, text: &str) -> anyhow::Result<String> {
    let command = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.trim().is_empty()))
        .context("no editor is set")
        .context(Hint::new(
            "set EDITOR, or give the changed diff with --file",
        ))?;
    if let Some(folder) = draft.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
    }
    fs::write(draft, text).with_context(|| format!("could not write {}", draft.display()))?;
    editor::open(&command, draft)?;
    Ok(kept::read(draft)?)
}
