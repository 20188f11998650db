//! All records side by side, with everything that is known about each.

use std::collections::BTreeMap;

use tuxtape_core::applicability::{Applicability, Judgement};
use tuxtape_core::cve::CveId;
use tuxtape_core::decision::{self, Decision};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::priority::{self, Policy, Priority};
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::signals::Signals;
use tuxtape_store::{Feed, Stored};

use super::instant;
use crate::commands::gauge;
use crate::context::Context;

/// The records of the store, loaded.
#[derive(Debug)]
pub struct Shelf {
    /// The feed they came from.
    pub feed: Feed,
    /// Published and rejected, by id.
    pub records: Vec<Stored>,
    /// Decisions, in the order in which they were made.
    pub decisions: Vec<Decision>,
    /// The kernel asked about.
    pub kernel: Option<Gauged>,
    signals: BTreeMap<CveId, Signals>,
    policy: Policy,
    now: UtcSeconds,
}

/// A kernel with the verdict for every record.
#[derive(Debug)]
pub struct Gauged {
    /// Its profile.
    pub profile: KernelProfile,
    /// By id; also of records that could never be read.
    pub judgements: BTreeMap<CveId, Judgement>,
}

/// One record with everything about it.
#[derive(Debug)]
pub struct Item<'a> {
    /// The record.
    pub stored: &'a Stored,
    /// How urgent it is.
    pub priority: Priority,
    /// What was decided about it and still holds.
    pub decision: Option<&'a Decision>,
    /// Whether the kernel asked about has it.
    pub verdict: Option<Applicability>,
}

/// When a record came and changed, by the feed's commits.
#[derive(Clone, Copy, Debug)]
pub struct Dates {
    /// First published, where that is known.
    pub published: Option<UtcSeconds>,
    /// Last changed, at the latest.
    pub changed: UtcSeconds,
}

impl Shelf {
    /// Loads everything, and gauges `kernel` where there is one.
    pub fn open(context: &Context, kernel: Option<&KernelRelease>) -> anyhow::Result<Self> {
        let (store, feed) = super::feed(context)?;
        let kernel = match kernel {
            None => None,
            Some(release) => {
                let profile = super::kernel(context, release)?;
                let judgements = gauge::judge_all(&store, &profile)?
                    .into_iter()
                    .map(|judgement| (judgement.cve, judgement))
                    .collect();
                Some(Gauged {
                    profile,
                    judgements,
                })
            }
        };
        Ok(Self {
            feed,
            records: store.records()?,
            decisions: Vec::new(),
            kernel,
            signals: BTreeMap::new(),
            policy: Policy::builtin(),
            now: super::now(),
        })
    }

    /// Returns the release of the kernel asked about.
    pub fn release(&self) -> Option<&KernelRelease> {
        let gauged = self.kernel.as_ref()?;
        Some(&gauged.profile.id.release)
    }

    /// Goes through all records, by id.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let none = Signals::default();
        self.records.iter().map(move |stored| {
            let id = stored.cve.id;
            let signals = self.signals.get(&id).unwrap_or(&none);
            Item {
                stored,
                priority: priority::prioritize(&stored.cve, signals, &self.policy),
                decision: self.decision(id),
                verdict: self
                    .kernel
                    .as_ref()
                    .and_then(|kernel| Some(kernel.judgements.get(&id)?.verdict)),
            }
        })
    }

    /// Returns what was decided about `id` for the kernel asked about, or for all, and still holds.
    pub fn decision(&self, id: CveId) -> Option<&Decision> {
        decision::standing(&self.decisions, id, self.release(), self.now)
    }

    /// Returns when `stored` came and changed.
    pub fn dates(&self, _stored: &Stored) -> Dates {
        Dates {
            published: None,
            changed: instant(self.feed.time),
        }
    }
}

/// Lists how a record contradicts itself.
pub fn inconsistencies(stored: &Stored) -> Vec<String> {
    let disputes = stored.cve.disputes.iter();
    let disputes =
        disputes.map(|version| format!("from {version} on the .dyad and the .json file disagree"));
    stored.cve.doubts.iter().cloned().chain(disputes).collect()
}
