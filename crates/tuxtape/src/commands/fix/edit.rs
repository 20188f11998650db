//! `tuxtape fix edit`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
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
    let (before, after) = if let Some(file) = edit.file {
        (None, kept::read(file)?)
    } else {
        let before = start(context, &profile, cve, &draft)?;
        let after = edited(&draft, &before)?;
        (Some(before), after)
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

/// Returns what is edited: the draft of an earlier try, which is somebody's work, else the fix that is
/// kept or found.
fn start(
    context: &Context,
    profile: &KernelProfile,
    cve: CveId,
    draft: &Path,
) -> anyhow::Result<String> {
    if draft.exists() {
        output::talk(&format!("going on with {}", draft.display()));
        return Ok(kept::read(draft)?);
    }
    match find::find(context, profile, cve) {
        Ok(found) => Ok(found.fix.diff),
        Err(error) if find::is_no(&error) => Err(error.context(Hint::new(
            "write the diff to a file, and give it with --file",
        ))),
        Err(error) => Err(error),
    }
}

/// Opens the editor on `text` in `draft` and returns what it leaves there.
fn edited(draft: &Path, text: &str) -> anyhow::Result<String> {
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
