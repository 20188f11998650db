//! `tuxtape fix`.

mod beside;
mod carried;
mod edit;
mod find;
mod known;
pub(crate) mod origin;
mod package;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::found::DiffKind;
use tuxtape_kernel::fix_source::kept::{self, KeepError, Replace};
use tuxtape_kernel::fix_source::spec::SourceSpec;

use super::kernel;
use crate::context::Context;
use crate::output::Hint;

pub use find::{FoundFix, find, is_no};
pub use known::fixed_in;
pub use package::{Wanted, cut};

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
    /// An imported fix comes first; else the sources are asked in the order given here, or in that of
    /// fix-sources.toml in the home folder, and the first fix that applies to the kernel's source is
    /// taken. Without such a list it is cut from a newer Debian source package of the kernel's series,
    /// restricted to the files the record names; other changes of those files come along.
    ///
    /// Exit code: 0 shown, 3 there is none that applies, each with its reason, 1 failed.
    Show {
        /// Release of the kernel, the text of `uname -r`
        kernel: KernelRelease,
        /// The CVE
        cve: CveId,
        /// Ask this source and not those listed: git:PLACE, package:VERSION, dir:PATH or
        /// url:TEMPLATE with {sha} in it; may be given several times
        #[arg(long = "source", value_name = "SPEC", conflicts_with_all = ["files", "from"])]
        sources: Vec<SourceSpec>,
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
    /// Change the fix of a CVE on a kernel by hand, and keep it after checking that it applies
    ///
    /// Opens the editor that VISUAL or EDITOR names on the fix that `fix show` shows. What is kept names
    /// who edited it, comes before every source, and is never overwritten by one.
    ///
    /// Exit code: 0 kept, 3 nothing was changed, 1 failed; what does not apply waits for the next edit.
    Edit {
        /// Release of the kernel, the text of `uname -r`
        kernel: KernelRelease,
        /// The CVE
        cve: CveId,
        /// Take the diff from this file and open no editor
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Who edits it
        #[arg(long, env = "USER", value_name = "NAME", default_value = "unknown")]
        by: String,
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
        /// The diffs show all of each file, as `git diff -U1000000` writes them; whole functions are
        /// compared then
        #[arg(long)]
        whole: bool,
    },
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Carried { tree, diffs, whole } => {
            let shows = if whole {
                carried::Shows::Files
            } else {
                carried::Shows::Context
            };
            carried::run(context, &tree, &diffs, shows)
        }
        Verb::Show {
            kernel,
            cve,
            sources,
            files,
            from,
        } => {
            let wanted = show::Wanted {
                sources: &sources,
                files: &files,
                from: from.as_deref(),
            };
            show::run(context, &kernel, cve, &wanted)
        }
        Verb::Edit {
            kernel,
            cve,
            file,
            by,
        } => {
            let edit = edit::Edit {
                file: file.as_deref(),
                by: &by,
            };
            edit::run(context, &kernel, cve, &edit)
        }
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
            show::print(context, cve, &FoundFix::alone(fix, DiffKind::Hand))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
