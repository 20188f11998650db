//! `tuxtape fix`.

mod carried;
mod known;
pub(crate) mod origin;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::debian::fetch::FetchError;
use tuxtape_kernel::debian::index::Package;
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::debian::{self, AddError};
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::kept::{self, KeepError, Replace};
use tuxtape_kernel::fix_source::{self, Cut, Fix, FixError, NewerSource};
use tuxtape_kernel::unified::TreePath;
use tuxtape_store::Store;

use super::kernel;
use crate::context::Context;
use crate::output::{self, Hint};

use known::NoFix;
pub use known::fixed_in;
use origin::ShownOrigin;

/// Show or import the source change that closes a CVE
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the source change that closes a CVE on a kernel and where it comes from
    ///
    /// An imported fix comes first; else it is cut from a newer Debian source package of the kernel's
    /// series, restricted to the files the record names. Other changes of those files come along.
    ///
    /// Exit code: 0 shown, 3 there is none to be cut, by the record or by the source, 1 failed.
    Show {
        /// Release of the kernel, the text of `uname -r`
        kernel: KernelRelease,
        /// The CVE
        cve: CveId,
        /// Cut these files and not those of the record
        #[arg(long = "file", value_name = "PATH")]
        files: Vec<String>,
        /// Cut from this version of the source package and not from the oldest that has the fix
        #[arg(long, value_name = "VERSION")]
        from: Option<String>,
    },
    /// Keep a diff as the fix of a CVE on a kernel, after checking that it applies
    Import {
        /// Release of the kernel, the text of `uname -r`
        kernel: KernelRelease,
        /// The CVE
        cve: CveId,
        /// The diff, -p1 against the kernel's own source
        file: PathBuf,
        /// Who gives it
        #[arg(long, env = "USER", value_name = "NAME", default_value = "unknown")]
        by: String,
        /// Replace the fix kept before
        #[arg(long)]
        replace: bool,
    },
    /// Say whether a source tree holds the change of a diff, by content
    ///
    /// Looks for both sides of every change in the tree's own files, in the same function, and in a
    /// file of the same name where the tree lacks one. Says where each was found, to be checked with
    /// grep.
    ///
    /// Exit code: 0 all are carried, 3 one is not, 4 partial or not to be told, 1 failed.
    Carried {
        /// Top of the source tree
        tree: PathBuf,
        /// Diffs, -p1
        #[arg(required = true, value_name = "FILE")]
        diffs: Vec<PathBuf>,
    },
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Carried { tree, diffs } => carried::run(context, &tree, &diffs),
        Verb::Show {
            kernel,
            cve,
            files,
            from,
        } => show(context, &kernel, cve, &files, from.as_deref()),
        Verb::Import {
            kernel,
            cve,
            file,
            by,
            replace,
        } => {
            kernel::load(context, &kernel)?;
            let files = KernelFiles::below(&context.cache, &kernel);
            let replace = if replace { Replace::Yes } else { Replace::No };
            let fix =
                kept::import(&context.home, &files, cve, &file, &by, replace).map_err(|error| {
                    match &error {
                        KeepError::Kept { .. } => anyhow::Error::new(error)
                            .context(Hint::new("give --replace to replace it")),
                        _ => anyhow::Error::new(error),
                    }
                })?;
            print(context, cve, &fix, &[], &[])?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What `fix show` prints for programs.
#[derive(Serialize)]
struct Shown<'a> {
    cve: String,
    origin: ShownOrigin<'a>,
    files: &'a [TreePath],
    diff: &'a str,
    unchanged: &'a [TreePath],
    absent: &'a [TreePath],
}

fn show(
    context: &Context,
    release: &KernelRelease,
    cve: CveId,
    files: &[String],
    from: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let profile = kernel::load(context, release)?;
    let found = if files.is_empty() && from.is_none() {
        find(context, &profile, cve)
    } else {
        cut_by_record(context, &profile, cve, files, from)
    };
    match found {
        Ok(Cut {
            fix,
            unchanged,
            absent,
        }) => {
            print(context, cve, &fix, &unchanged, &absent)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if is_no(&error) => {
            output::talk(&format!("{cve} on {release}: {error:#}"));
            Ok(ExitCode::from(output::NO))
        }
        Err(error) => Err(error),
    }
}

/// Finds the fix of `cve` on the kernel of `profile`: the imported one, else one cut from the oldest
/// source package that has the fix the record names.
///
/// That there is none is an error that [`is_no`] tells from a failure.
pub fn find(context: &Context, profile: &KernelProfile, cve: CveId) -> anyhow::Result<Cut> {
    let kernel = KernelFiles::below(&context.cache, &profile.id.release);
    let kept = kept::load(&context.home, &kernel, cve).map_err(|error| match &error {
        // A power cut during `--replace` leaves the new origin beside the old diff.
        KeepError::Origin { .. } => anyhow::Error::new(error).context(Hint::new(
            "give the diff again with `tuxtape fix import --replace`",
        )),
        _ => anyhow::Error::new(error),
    })?;
    match kept {
        Some(fix) => Ok(Cut {
            fix,
            unchanged: Vec::new(),
            absent: Vec::new(),
        }),
        None => cut_by_record(context, profile, cve, &[], None),
    }
}

/// Tells whether `error` says that there is no fix, by the record or by the source.
pub fn is_no(error: &anyhow::Error) -> bool {
    let nothing_to_cut = matches!(
        error.downcast_ref::<FixError>(),
        Some(FixError::NothingToCut { .. })
    );
    nothing_to_cut || error.downcast_ref::<NoFix>().is_some()
}

/// Cuts `files`, else those the record of `cve` names, from a source that has the fix by the record:
/// from version `from`, else from the oldest served.
fn cut_by_record(
    context: &Context,
    profile: &KernelProfile,
    cve: CveId,
    files: &[String],
    from: Option<&str>,
) -> anyhow::Result<Cut> {
    let record = record(context, cve)?;
    let fixed = known::landing(&record, profile, from)?;
    let files = if files.is_empty() {
        &record.files
    } else {
        files
    };
    anyhow::ensure!(!files.is_empty(), "the record of {cve} names no files");
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

fn record(context: &Context, cve: CveId) -> anyhow::Result<Cve> {
    let way = || Hint::new("run `tuxtape scan`, or give a diff with `tuxtape fix import`");
    let store = Store::open_existing(&context.store).with_context(way)?;
    let stored = store
        .cve(cve)?
        .with_context(|| format!("{cve} is not in the store"))
        .with_context(way)?;
    Ok(stored.cve)
}

fn print(
    context: &Context,
    cve: CveId,
    fix: &Fix,
    unchanged: &[TreePath],
    absent: &[TreePath],
) -> anyhow::Result<()> {
    if context.json {
        return output::json(&Shown {
            cve: cve.to_string(),
            origin: ShownOrigin::of(&fix.origin, &fix.diff),
            files: &fix.files,
            diff: &fix.diff,
            unchanged,
            absent,
        });
    }
    output::talk(&format!("{cve}: {}", origin::told(&fix.origin)));
    for (paths, what) in [(unchanged, "unchanged"), (absent, "in neither source")] {
        for path in paths {
            output::talk(&format!("{what}: {path}"));
        }
    }
    output::text(&fix.diff)?;
    Ok(())
}
