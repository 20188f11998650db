//! Whether the feed knows a fix for a kernel, and from which version on sources have it.

use std::fmt;

use anyhow::Context as _;
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::{self, Reading};
use tuxtape_core::version::{Branch, KernelVersion};
use tuxtape_kernel::profile::build::base_version;

/// There is no fix of a CVE to be cut for a kernel: an answer, and no failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFix {
    /// The CVE.
    pub(super) cve: CveId,
    /// Why there is none.
    pub(super) why: Why,
}

/// Why there is no fix to be cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The base version has the bug, and the record names no fix on its branch.
    OtherBranches(Branch),
    /// The base version has the fix already, from this version on.
    Carried {
        base: KernelVersion,
        since: KernelVersion,
    },
    /// The bug never came to the base version.
    NeverThere(KernelVersion),
    /// The source that was asked for is older than the fix.
    TooOld { from: String, fixed: KernelVersion },
}

impl fmt::Display for NoFix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cve = self.cve;
        match &self.why {
            Why::OtherBranches(branch) => write!(f, "no fix of {cve} is known on branch {branch}"),
            Why::Carried { base, since } => {
                write!(
                    f,
                    "{base} already has the fix of {cve}, which is in {since}"
                )
            }
            Why::NeverThere(base) => write!(f, "{base} never had {cve}, by its record"),
            Why::TooOld { from, fixed } => {
                write!(
                    f,
                    "{from} does not have the fix of {cve}, which is in {fixed}"
                )
            }
        }
    }
}

impl std::error::Error for NoFix {}

/// Returns the newest fix the record names on the kernel's own branch, if its base version lacks it.
pub fn fixed_in(record: &Cve, profile: &KernelProfile) -> Option<KernelVersion> {
    newest(record, profile.base_version.parse().ok()?)
}

/// Like [`fixed_in`], with the reason where there is no fix, or where the source version `from` is
/// older than it.
pub(super) fn landing(
    record: &Cve,
    profile: &KernelProfile,
    from: Option<&str>,
) -> anyhow::Result<KernelVersion> {
    let base: KernelVersion = profile.base_version.parse()?;
    let no = |why| NoFix {
        cve: record.id,
        why,
    };
    let Some(fixed) = newest(record, base) else {
        return Err(no(match span::read(&record.spans, base) {
            Reading::Affected(_) => Why::OtherBranches(base.branch()),
            Reading::Fixed(landing) => Why::Carried {
                base,
                since: landing.version,
            },
            Reading::NeverIntroduced => Why::NeverThere(base),
        })
        .into());
    };
    if let Some(from) = from {
        let upstream: KernelVersion = base_version(from)
            .with_context(|| format!("{from} is no version of a source package"))?
            .parse()?;
        if upstream < fixed {
            let from = from.to_owned();
            return Err(no(Why::TooOld { from, fixed }).into());
        }
    }
    Ok(fixed)
}

fn newest(record: &Cve, base: KernelVersion) -> Option<KernelVersion> {
    let fixes = record.spans.iter().filter_map(|span| span.fixed);
    fixes
        .map(|landing| landing.version)
        .filter(|version| version.branch() == base.branch() && *version > base)
        .max()
}
