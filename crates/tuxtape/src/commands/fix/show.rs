//! `tuxtape fix show`.

use std::process::ExitCode;

use serde::Serialize;
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::fix_source::found::PassedOver;
use tuxtape_kernel::fix_source::spec::SourceSpec;
use tuxtape_kernel::unified::TreePath;
use tuxtape_store::Store;

use super::find::{self, FoundFix, NoneApplies};
use super::origin::{self, ShownOrigin};
use super::{beside, package};
use crate::commands::kernel;
use crate::context::Context;
use crate::output;

/// Where the fix is to come from, if not from where it usually does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Sources instead of those listed.
    pub(super) sources: &'a [SourceSpec],
    /// Files to be cut from a source package instead of the record's.
    pub(super) files: &'a [String],
    /// The version of that package.
    pub(super) from: Option<&'a str>,
}

/// What is printed for programs. Without a fix, `origin` and `diff` are null and `why` says why.
#[derive(Serialize)]
struct Shown<'a> {
    cve: String,
    origin: Option<ShownOrigin<'a>>,
    kind: Option<&'static str>,
    branch: Option<String>,
    files: &'a [TreePath],
    diff: Option<&'a str>,
    unchanged: &'a [TreePath],
    absent: &'a [TreePath],
    notes: &'a [String],
    passed_over: Vec<ShownReason<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct ShownReason<'a> {
    what: &'a str,
    why: &'a str,
}

/// Runs the command.
pub(super) fn run(
    context: &Context,
    release: &KernelRelease,
    cve: CveId,
    wanted: &Wanted<'_>,
) -> anyhow::Result<ExitCode> {
    let profile = kernel::load(context, release)?;
    match found(context, &profile, cve, wanted) {
        Ok(mut found) => {
            // An imported fix needs no record.
            if let Ok(store) = Store::open_existing(&context.store)
                && let Some(stored) = store.cve(cve)?
            {
                let notes = beside::notes(&store, &profile, &stored.cve, &found)?;
                found.notes.extend(notes);
            }
            print(context, cve, &found)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if find::is_no(&error) => {
            if context.json {
                let none = error.downcast_ref::<NoneApplies>();
                let passed_over = none.map_or(&[][..], |none| &none.passed_over);
                let why = match none {
                    Some(_) => format!("no source has a fix of {cve} that applies"),
                    None => format!("{error:#}"),
                };
                output::json(&Shown {
                    cve: cve.to_string(),
                    origin: None,
                    kind: None,
                    branch: None,
                    files: &[],
                    diff: None,
                    unchanged: &[],
                    absent: &[],
                    notes: &[],
                    passed_over: reasons(passed_over),
                    why: Some(why),
                })?;
            } else {
                output::talk(&format!("{cve} on {release}: {error:#}"));
            }
            Ok(ExitCode::from(output::NO))
        }
        Err(error) => Err(error),
    }
}

fn found(
    context: &Context,
    profile: &KernelProfile,
    cve: CveId,
    wanted: &Wanted<'_>,
) -> anyhow::Result<FoundFix> {
    if !wanted.sources.is_empty() {
        return find::by_sources(context, profile, cve, wanted.sources);
    }
    if wanted.files.is_empty() && wanted.from.is_none() {
        return find::find(context, profile, cve);
    }
    let record = find::record(context, cve)?;
    let cut = package::cut_by_record(context, profile, &record, wanted.files, wanted.from)?;
    Ok(find::from_package(cut, Vec::new()))
}

/// Prints a fix: the diff on stdout, the words about it on stderr.
pub(super) fn print(context: &Context, cve: CveId, found: &FoundFix) -> anyhow::Result<()> {
    let fix = &found.fix;
    if context.json {
        return output::json(&Shown {
            cve: cve.to_string(),
            origin: Some(ShownOrigin::of(&fix.origin, &fix.diff)),
            kind: Some(found.kind.slug()),
            branch: found.kind.branch().map(|branch| branch.to_string()),
            files: &fix.files,
            diff: Some(&fix.diff),
            unchanged: &found.unchanged,
            absent: &found.absent,
            notes: &found.notes,
            passed_over: reasons(&found.passed_over),
            why: None,
        });
    }
    for passed_over in &found.passed_over {
        output::talk(&format!("passed over {passed_over}"));
    }
    output::talk(&format!("{cve}: {}", origin::told(&fix.origin)));
    for note in &found.notes {
        output::talk(&format!("note: {note}"));
    }
    for (paths, what) in [
        (&found.unchanged, "unchanged"),
        (&found.absent, "in neither source"),
    ] {
        for path in paths {
            output::talk(&format!("{what}: {path}"));
        }
    }
    output::text(&fix.diff)?;
    Ok(())
}

fn reasons(passed_over: &[PassedOver]) -> Vec<ShownReason<'_>> {
    passed_over
        .iter()
        .map(|it| ShownReason {
            what: &it.what,
            why: &it.why,
        })
        .collect()
}
