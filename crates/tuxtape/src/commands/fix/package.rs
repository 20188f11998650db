//! Fixes cut from a newer source package of the distribution.

use anyhow::Context as _;
use tuxtape_core::cve::Cve;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::debian::fetch::FetchError;
use tuxtape_kernel::debian::index::Package;
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::debian::{self, AddError};
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::{self, Cut, NewerSource};

use super::known;
use crate::commands::kernel;
use crate::context::Context;
use crate::output::Hint;

/// Cuts `files`, else those the record names, from a source that has the fix by the record: from
/// version `from`, else from the oldest served.
pub(super) fn cut_by_record(
    context: &Context,
    profile: &KernelProfile,
    record: &Cve,
    files: &[String],
    from: Option<&str>,
) -> anyhow::Result<Cut> {
    let fixed = known::landing(record, profile, from)?;
    let files = if files.is_empty() {
        &record.files
    } else {
        files
    };
    anyhow::ensure!(
        !files.is_empty(),
        "the record of {} names no files",
        record.id
    );
    let wanted = from.map_or(Wanted::AtLeast(fixed), Wanted::Exactly);
    cut(context, profile, files, wanted)
}

/// Which newer source package is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The oldest served of at least this upstream version.
    AtLeast(KernelVersion),
    /// This version of the package.
    Exactly(&'a str),
}

/// Cuts the change of `files` for the kernel of `profile` from a newer source package.
///
/// Fetches and unpacks the package at need.
pub fn cut(
    context: &Context,
    profile: &KernelProfile,
    files: &[String],
    wanted: Wanted<'_>,
) -> anyhow::Result<Cut> {
    let kernel = KernelFiles::below(&context.cache, &profile.id.release);
    let newer = source(context, profile, wanted)?;
    Ok(fix_source::cut(&kernel, &newer, files)?)
}

/// Finds, fetches and unpacks the newer source package that [`cut`] takes.
fn source(
    context: &Context,
    profile: &KernelProfile,
    wanted: Wanted<'_>,
) -> anyhow::Result<NewerSource> {
    let (name, own) = profile
        .origin
        .source
        .split_once(' ')
        .context("the kernel's profile names no source package")?;
    let mut candidates = fix_source::newer_sources(&DebianVersion::new(own))?;
    match wanted {
        Wanted::AtLeast(version) => {
            candidates = fix_source::with_upstream(candidates, &version.to_string());
            // The oldest that has the fix brings the fewest other changes along.
            candidates.reverse();
        }
        Wanted::Exactly(version) => {
            candidates.retain(|package| package.version.as_str() == version);
        }
    }
    let mut failure = None;
    for package in candidates {
        match unpacked(context, &package) {
            Ok(newer) => return Ok(newer),
            // The next one may be served; the first reason is the one worth telling.
            Err(error @ AddError::Fetch(FetchError::NotServed { .. })) => {
                failure = failure.or(Some(error));
            }
            Err(error) => return Err(explained(error)),
        }
    }
    if let Some(error) = failure {
        return Err(explained(error));
    }
    let what = match wanted {
        Wanted::Exactly(version) => format!("{name} {version} is not listed as newer than {own}"),
        Wanted::AtLeast(version) => {
            format!("no {name} of at least {version} and newer than {own} is listed")
        }
    };
    Err(anyhow::anyhow!(what).context(Hint::new(
        "run `apt-get update` as root, or give a diff with `tuxtape fix import`",
    )))
}

fn unpacked(context: &Context, package: &Package) -> Result<NewerSource, AddError> {
    let told = kernel::add::Told::new();
    Ok(NewerSource {
        package: package.name.clone(),
        version: package.version.clone(),
        tree: debian::source_tree(&context.cache, package, &told)?,
    })
}

fn explained(error: AddError) -> anyhow::Error {
    let hint = kernel::add::hint(&error);
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(hint),
        None => error,
    }
}
