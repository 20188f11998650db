//! What the feed's other records say of a fix: CVEs whose bug its commits brought, and CVEs that a cut
//! closes too.

use std::collections::BTreeSet;

use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::git_id::GitId;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::fix_source::Origin;
use tuxtape_kernel::profile::build::base_version;
use tuxtape_store::Store;

use super::find::FoundFix;
use super::known;

/// Says what other records of `store` say of `found`, the fix of `record` on the kernel of `profile`.
pub(super) fn notes(
    store: &Store,
    profile: &KernelProfile,
    record: &Cve,
    found: &FoundFix,
) -> anyhow::Result<Vec<String>> {
    let mut notes = Vec::new();
    let brought = brought(store, record, &found.fix.origin)?;
    if !brought.is_empty() {
        notes.push(format!(
            "the fix brought bugs of its own, by the feed: {}",
            brought.join(", ")
        ));
    }
    if let Origin::Package { version, .. } = &found.fix.origin {
        let others = closed_too(store, profile, record, version)?;
        if !others.is_empty() {
            notes.push(format!(
                "changes of the same files close {} too, as far as they are in these files",
                others.join(", ")
            ));
        }
    }
    Ok(notes)
}

/// Lists the CVEs whose bug came with a commit of this fix, on whatever branch.
fn brought(store: &Store, record: &Cve, origin: &Origin) -> anyhow::Result<Vec<String>> {
    let mut commits: BTreeSet<GitId> = record.mainline_fixes.iter().copied().collect();
    let fixes = record.spans.iter().filter_map(|span| span.fixed);
    commits.extend(fixes.map(|landing| landing.commit));
    if let Origin::Git { commits: own, .. } | Origin::Web { commits: own, .. } = origin {
        commits.extend(own);
    }
    let mut found = Vec::new();
    store.each_lines(&mut |lines| {
        let mut bugs = lines.spans.iter().filter_map(|span| span.introduced);
        if lines.id != record.id && bugs.any(|bug| commits.contains(&bug.commit)) {
            found.push(lines.id.to_string());
        }
    })?;
    Ok(found)
}

/// Lists the other CVEs that are open in the kernel, that the source of `version` has fixed, and whose
/// files are among those of `record`.
fn closed_too(
    store: &Store,
    profile: &KernelProfile,
    record: &Cve,
    version: &str,
) -> anyhow::Result<Vec<String>> {
    let base: KernelVersion = profile.base_version.parse()?;
    let newer: Option<KernelVersion> = base_version(version).and_then(|text| text.parse().ok());
    let mut open: BTreeSet<CveId> = BTreeSet::new();
    store.each_lines(&mut |lines| {
        let mut fixes = lines.spans.iter().filter_map(|span| span.fixed);
        if lines.id != record.id
            && fixes.any(|fix| fix.version.branch() == base.branch() && fix.version > base)
        {
            open.insert(lines.id);
        }
    })?;
    let files: BTreeSet<&String> = record.files.iter().collect();
    let records = store.records_of(&open)?.into_iter();
    let closed = records.map(|stored| stored.cve).filter(|other| {
        other.files.iter().any(|file| files.contains(file))
            && known::fixed_in(other, profile).is_some_and(|fixed| Some(fixed) <= newer)
    });
    Ok(closed.map(|other| other.id.to_string()).collect())
}
