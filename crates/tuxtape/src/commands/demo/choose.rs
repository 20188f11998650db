//! Which kernel, and which CVEs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::Context as _;
use tuxtape_core::applicability::Applicability;
use tuxtape_core::applicability::lineage::HistoryAtHand;
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::priority::{self, Policy};
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::signals::Signals;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::debian::index;
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::fix_source;
use tuxtape_livepatch::tables::layout_for;
use tuxtape_store::Store;

use super::upstream;
use crate::commands::{fix, gauge};
use crate::output::Hint;

/// The kernel to patch, and where its fixes come from.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) release: KernelRelease,
    /// Version of its own source package.
    pub(super) own: DebianVersion,
    /// Version of the newer source package.
    pub(super) newer: DebianVersion,
}

/// A CVE to close.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) cve: CveId,
    pub(super) title: String,
    pub(super) score: Option<String>,
    pub(super) files: Vec<String>,
}

/// Takes the newest cloud kernel for which a newer source package is listed that the feed knows.
pub(super) fn kernel(
    store: &Store,
    wanted: Option<KernelRelease>,
    from: Option<&str>,
) -> anyhow::Result<Choice> {
    let horizons = store.horizons()?;
    let asked = wanted.is_some();
    let releases = if let Some(release) = wanted {
        vec![release]
    } else {
        let mut all = index::releases()?;
        all.retain(|release| release.as_str().ends_with("-cloud-amd64"));
        all
    };
    let mut choices = Vec::new();
    for release in releases {
        let packages = match index::find(&release) {
            Ok(packages) => packages,
            Err(error) if asked => return Err(error.into()),
            Err(_) => continue,
        };
        let own = packages.source.version.clone();
        let Some(base) = upstream(&own) else { continue };
        if !asked && !engine_knows(base) {
            continue;
        }
        let newer = fix_source::newer_sources(&own)?
            .into_iter()
            .map(|package| package.version)
            .filter(|version| match from {
                Some(from) => version.as_str() == from,
                None => upstream(version)
                    .is_some_and(|newer| newer > base && !horizons.is_beyond(newer)),
            })
            .max_by_key(upstream);
        if let Some(newer) = newer {
            choices.push((
                base,
                Choice {
                    release,
                    own,
                    newer,
                },
            ));
        }
    }
    choices.sort_by_key(|(base, _)| Reverse(*base));
    choices.into_iter().next().map(|(_, choice)| choice).context(Hint::new(
        "run `apt-get update` as root, or name a kernel with --kernel and a source version with --from",
    )).context("no cloud kernel is listed for which a newer source package is known to the feed")
}

fn engine_knows(version: KernelVersion) -> bool {
    let text = version.branch().to_string();
    let mut numbers = text.split('.').map(str::parse);
    matches!(
        (numbers.next(), numbers.next()),
        (Some(Ok(major)), Some(Ok(minor))) if layout_for(major, minor).is_some()
    )
}

/// The most urgent CVEs that affect the kernel and that the newer source fixes, and what the gauge
/// counted.
pub(super) fn candidates(
    store: &Store,
    profile: &KernelProfile,
    choice: &Choice,
    top: usize,
) -> anyhow::Result<(Vec<Candidate>, String)> {
    // The kernels of a demonstration are the distribution's.
    let judgements = gauge::judge_all(store, profile, HistoryAtHand::NoGit)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for judgement in &judgements {
        *counts.entry(judgement.verdict.as_str()).or_default() += 1;
    }
    let newer = upstream(&choice.newer);
    let mut records: BTreeMap<CveId, Cve> = store
        .records()?
        .into_iter()
        .map(|stored| (stored.cve.id, stored.cve))
        .collect();
    let open: Vec<CveId> = judgements
        .iter()
        .filter(|judgement| judgement.verdict == Applicability::Affected)
        .map(|judgement| judgement.cve)
        .filter(|id| {
            records
                .get(id)
                .and_then(|cve| fix::fixed_in(cve, profile))
                .is_some_and(|fixed| Some(fixed) <= newer)
        })
        .collect();
    let policy = Policy::builtin();
    let mut ranked: Vec<priority::Priority> = open
        .iter()
        .filter_map(|id| records.get(id))
        .map(|cve| priority::prioritize(cve, &Signals::default(), &policy))
        .collect();
    priority::sort(&mut ranked);
    let words = format!(
        "{} of {} records, rejected ones included, affect this kernel; {} of them are fixed by {}; the first {} are taken",
        counts.get("affected").unwrap_or(&0),
        judgements.len(),
        open.len(),
        choice.newer,
        top.min(open.len())
    );
    let candidates = ranked
        .into_iter()
        .take(top)
        .filter_map(|priority| records.remove(&priority.cve))
        .map(|cve| Candidate {
            cve: cve.id,
            score: cve.cvss.as_ref().map(|cvss| cvss.score.to_string()),
            title: cve.title,
            files: cve.files,
        })
        .collect();
    Ok((candidates, words))
}
