//! Which fix a kernel gets: the imported one, else the first that the sources have and that applies.

use std::fmt;

use anyhow::Context as _;
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::found::{DiffKind, PassedOver};
use tuxtape_kernel::fix_source::kept::{self, KeepError};
use tuxtape_kernel::fix_source::library::{Library, Network};
use tuxtape_kernel::fix_source::list;
use tuxtape_kernel::fix_source::spec::SourceSpec;
use tuxtape_kernel::fix_source::{Cut, Fix, FixError};
use tuxtape_kernel::unified::TreePath;
use tuxtape_store::Store;

use super::known::NoFix;
use super::package;
use crate::context::Context;
use crate::output::Hint;

/// A fix for a kernel, and how it was come by.
#[derive(Clone, Debug)]
pub struct FoundFix {
    /// The fix; it applies to the kernel's source.
    pub fix: Fix,
    /// How near to the kernel it was made.
    pub kind: DiffKind,
    /// What a person must know of it, one sentence each.
    pub notes: Vec<String>,
    /// Files asked for that are equal in both sources it was cut from.
    pub unchanged: Vec<TreePath>,
    /// Files asked for that neither of them has.
    pub absent: Vec<TreePath>,
    /// What was tried before it, and why it was passed over.
    pub passed_over: Vec<PassedOver>,
}

impl FoundFix {
    /// Takes a fix of which there is nothing more to say.
    pub(super) fn alone(fix: Fix, kind: DiffKind) -> Self {
        Self {
            fix,
            kind,
            notes: Vec::new(),
            unchanged: Vec::new(),
            absent: Vec::new(),
            passed_over: Vec::new(),
        }
    }
}

/// No source has a fix that applies: an answer, and no failure.
#[derive(Debug)]
pub(super) struct NoneApplies {
    /// The CVE.
    pub(super) cve: CveId,
    /// What was tried, and why it was passed over.
    pub(super) passed_over: Vec<PassedOver>,
}

impl fmt::Display for NoneApplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no source has a fix of {} that applies", self.cve)?;
        for passed_over in &self.passed_over {
            write!(f, "\n{passed_over}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoneApplies {}

/// Finds the fix of `cve` on the kernel of `profile`: the imported one, else the first that applies of
/// the sources listed in the home folder.
///
/// That there is none is an error that [`is_no`] tells from a failure.
pub fn find(context: &Context, profile: &KernelProfile, cve: CveId) -> anyhow::Result<FoundFix> {
    let kernel = KernelFiles::below(&context.cache, &profile.id.release);
    let kept = kept::load(&context.home, &kernel, cve).map_err(|error| match &error {
        // A power cut during `--replace` leaves the new origin beside the old diff.
        KeepError::Origin { .. } => anyhow::Error::new(error).context(Hint::new(
            "give the diff again with `tuxtape fix import --replace`",
        )),
        _ => anyhow::Error::new(error),
    })?;
    match kept {
        Some(fix) => Ok(FoundFix::alone(fix, DiffKind::Hand)),
        None => by_sources(context, profile, cve, &list::load(&context.home)?),
    }
}

/// Asks `sources` in their order for a fix of `cve` that applies to the kernel of `profile`.
pub(super) fn by_sources(
    context: &Context,
    profile: &KernelProfile,
    cve: CveId,
    sources: &[SourceSpec],
) -> anyhow::Result<FoundFix> {
    let record = record(context, cve)?;
    let base: KernelVersion = profile.base_version.parse()?;
    let kernel = KernelFiles::below(&context.cache, &profile.id.release);
    let mut passed_over = Vec::new();
    for source in sources {
        match source {
            SourceSpec::Package(version) => {
                match package::cut_by_record(context, profile, &record, &[], version.as_deref()) {
                    Ok(cut) => return Ok(from_package(cut, passed_over)),
                    // Alone it says by itself whether this is an answer or a failure.
                    Err(error) if sources.len() == 1 => return Err(error),
                    Err(error) => passed_over.push(PassedOver {
                        what: source.to_string(),
                        why: without_hints(&error),
                    }),
                }
            }
            SourceSpec::Git(_) | SourceSpec::Folder(_) | SourceSpec::Web(_) => {
                let library = Library {
                    sources: vec![source.clone()],
                    cache: context.cache.clone(),
                    network: Network::Allowed,
                };
                match library.fix(&record, base, &kernel.source) {
                    Ok(chosen) => {
                        passed_over.extend(chosen.passed_over);
                        return Ok(FoundFix {
                            notes: chosen.notes,
                            passed_over,
                            ..FoundFix::alone(chosen.fix, chosen.kind)
                        });
                    }
                    Err(reasons) => passed_over.extend(reasons),
                }
            }
        }
    }
    Err(NoneApplies { cve, passed_over }.into())
}

/// Takes a cut as a fix that was found.
pub(super) fn from_package(cut: Cut, passed_over: Vec<PassedOver>) -> FoundFix {
    FoundFix {
        unchanged: cut.unchanged,
        absent: cut.absent,
        passed_over,
        ..FoundFix::alone(cut.fix, DiffKind::Package)
    }
}

/// Tells whether `error` says that there is no fix, by the record or by the sources.
pub fn is_no(error: &anyhow::Error) -> bool {
    let nothing_to_cut = matches!(
        error.downcast_ref::<FixError>(),
        Some(FixError::NothingToCut { .. })
    );
    nothing_to_cut
        || error.downcast_ref::<NoFix>().is_some()
        || error.downcast_ref::<NoneApplies>().is_some()
}

/// Returns the record of `cve`, with the way out where there is none.
pub(super) fn record(context: &Context, cve: CveId) -> anyhow::Result<Cve> {
    let way = || Hint::new("run `tuxtape scan`, or give a diff with `tuxtape fix import`");
    let store = Store::open_existing(&context.store).with_context(way)?;
    let stored = store
        .cve(cve)?
        .with_context(|| format!("{cve} is not in the store"))
        .with_context(way)?;
    Ok(stored.cve)
}

/// Writes an error with its causes, without the ways out, which are for the one that ends the command.
fn without_hints(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Hint>().map(ToString::to_string);
    let causes = error.chain().map(ToString::to_string);
    let words: Vec<String> = causes
        .filter(|words| Some(words) != hint.as_ref())
        .collect();
    words.join(": ")
}
