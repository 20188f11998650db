//! All records side by side, with everything that is known about each.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use tuxtape_core::applicability::{Applicability, Judgement};
use tuxtape_core::cve::CveId;
use tuxtape_core::decision::{self, Decision};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::priority::{self, Policy, Priority};
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::signals::{Signals, Source, Stamp};
use tuxtape_core::span::Horizons;
use tuxtape_store::{Feed, Published, Store, Stored};

use super::instant;
use crate::commands::gauge;
use crate::commands::gauge::looking::Looking;
use crate::commands::gauge::measure::{Known, Measured, Records};
use crate::context::Context;
use crate::remembered::KnownHistory;

/// The records of the store, loaded.
#[derive(Debug)]
pub struct Shelf {
    /// The feed they came from.
    pub feed: Feed,
    /// By id.
    pub records: Vec<Stored>,
    /// Decisions, in the order in which they were made.
    pub decisions: Vec<Decision>,
    /// The kernel asked about.
    pub kernel: Option<Gauged>,
    /// How the records are weighed.
    pub policy: Policy,
    /// How far the feed's knowledge reaches.
    pub horizons: Horizons,
    /// What outside evidence there is, and how old.
    pub stamps: Vec<Stamp>,
    /// Records whose newest edition could not be read, with the reason; of some there is no other.
    pub unread: BTreeMap<CveId, String>,
    /// When it was asked.
    pub now: UtcSeconds,
    signals: BTreeMap<CveId, Signals>,
}

/// A kernel with the verdict for every record that was loaded.
#[derive(Debug)]
pub struct Gauged {
    /// Its profile.
    pub profile: KernelProfile,
    /// By id; also of records that could never be read.
    pub judgements: BTreeMap<CveId, Judgement>,
}

impl Gauged {
    fn new(
        store: &Store,
        records: &[Stored],
        horizons: &Horizons,
        profile: KernelProfile,
        history: &KnownHistory,
    ) -> anyhow::Result<Self> {
        let bench = gauge::bench(&profile, horizons, history.at_hand())?;
        let judgements = gauge::judge(records, store.skipped()?, &bench);
        Ok(Self {
            profile,
            judgements,
        })
    }
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

impl Shelf {
    /// Loads everything, and gauges `kernel` where there is one, by its source too where that is asked for.
    pub fn open(
        context: &Context,
        kernel: Option<&KernelRelease>,
        looking: &Looking,
        policy: Policy,
    ) -> anyhow::Result<Self> {
        let (store, feed) = super::feed(context)?;
        let (records, profile) = thread::scope(|scope| {
            let profile = scope.spawn(|| kernel.map(|release| super::kernel(context, release)));
            let records = store.records();
            (records, profile.join().expect("loading does not panic"))
        });
        let (profile, mut records) = (profile.transpose()?, records?);
        let mut horizons = Horizons::default();
        for stored in &records {
            horizons.learn(stored.cve.certain_spans());
        }
        let kernel = match profile {
            None => None,
            // The same chain as that of `gauge`: two answers of one program must be one.
            Some(profile) => {
                let read = Records::taken(records, horizons, store.skipped()?);
                let mut measured = Measured::new(Known::new(context, profile), &read)?;
                if let Some(library) = looking.library(context, false)? {
                    measured.look(context, &read, &library, &|_, _| {})?;
                }
                (records, horizons) = (read.stored, read.horizons);
                Some(Gauged {
                    profile: measured.profile,
                    judgements: measured.judgements,
                })
            }
        };
        Self::filled(&store, feed, records, kernel, policy, horizons)
    }

    /// Loads the published records that `release` has or may have, and some that it has not. The spans
    /// of all records settle most of them, and are read faster than their texts.
    pub fn open_for(
        context: &Context,
        release: &KernelRelease,
        policy: Policy,
    ) -> anyhow::Result<Self> {
        let (store, feed) = super::feed(context)?;
        let (horizons, profile) = thread::scope(|scope| {
            let profile = scope.spawn(|| super::kernel(context, release));
            let horizons = store.horizons();
            (horizons, profile.join().expect("loading does not panic"))
        });
        let (profile, horizons) = (profile?, horizons?);
        let stale = store.skipped()?;
        let history = super::history(context, &profile);
        let bench = gauge::bench(&profile, &horizons, history.at_hand())?;
        // Those that are withdrawn by their last good edition have no spans, and may be back.
        let mut open: BTreeSet<CveId> = stale.keys().copied().collect();
        store.each_lines(&mut |record| {
            if record.doubtful || bench.rules_out(&record.spans, &record.disputes).is_none() {
                open.insert(record.id);
            }
        })?;
        let records = store.records_of(&open)?;
        let kernel = Gauged::new(&store, &records, &horizons, profile, &history)?;
        Self::filled(&store, feed, records, Some(kernel), policy, horizons)
    }

    fn filled(
        store: &Store,
        feed: Feed,
        records: Vec<Stored>,
        kernel: Option<Gauged>,
        policy: Policy,
        horizons: Horizons,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            feed,
            decisions: store.decisions()?,
            kernel,
            policy,
            horizons,
            stamps: store.stamps()?,
            unread: store.skipped()?,
            now: super::now(),
            signals: store.signals()?,
            records,
        })
    }

    /// Lists the records of which no edition could be read, with the reason; they are in no list of
    /// records.
    pub fn never_read(&self) -> impl Iterator<Item = (CveId, &str)> {
        let has = |id: CveId| {
            let found = self.records.binary_search_by_key(&id, |it| it.cve.id);
            found.is_ok()
        };
        self.unread
            .iter()
            .filter(move |(id, _)| !has(**id))
            .map(|(id, why)| (*id, &**why))
    }

    /// Says which records could not be read and what stands in for them, one line each.
    pub fn unread_words(&self) -> Vec<String> {
        let never: BTreeSet<CveId> = self.never_read().map(|(id, _)| id).collect();
        let line = |(id, why): (&CveId, &String)| {
            let kept = if never.contains(id) {
                "it is left out"
            } else {
                "its last good edition stands in"
            };
            format!("unread {id}: {why} ({kept})")
        };
        self.unread.iter().map(line).collect()
    }

    /// Returns the release of the kernel asked about.
    pub fn release(&self) -> Option<&KernelRelease> {
        let gauged = self.kernel.as_ref()?;
        Some(&gauged.profile.id.release)
    }

    /// Goes through all records, by id.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.records.iter().map(|stored| self.item(stored))
    }

    /// Says everything about one record of this shelf.
    pub fn item<'a>(&'a self, stored: &'a Stored) -> Item<'a> {
        let id = stored.cve.id;
        let none = Signals::default();
        let signals = self.signals.get(&id).unwrap_or(&none);
        Item {
            stored,
            priority: priority::prioritize(&stored.cve, signals, &self.policy),
            decision: self.decision(id),
            verdict: self.verdict(id),
        }
    }

    /// Returns whether the kernel asked about has `id`.
    pub fn verdict(&self, id: CveId) -> Option<Applicability> {
        Some(self.kernel.as_ref()?.judgements.get(&id)?.verdict)
    }

    /// Returns what was decided about `id` for the kernel asked about, or for all, and still holds.
    pub fn decision(&self, id: CveId) -> Option<&Decision> {
        decision::standing(&self.decisions, id, self.release(), self.now)
    }

    /// Returns when `stored` last changed; where the feed's history was not read, the feed's time.
    pub fn changed(&self, stored: &Stored) -> UtcSeconds {
        let known = stored.dates.map(|dates| dates.changed);
        known.unwrap_or_else(|| instant(self.feed.time))
    }
}

/// Returns when a record was published first, where that is known for certain.
pub fn published(stored: &Stored) -> Option<UtcSeconds> {
    match stored.dates?.published {
        Published::At(time) => Some(time),
        Published::By(_) => None,
    }
}

/// Lists how a record contradicts itself.
pub fn inconsistencies(stored: &Stored) -> Vec<String> {
    let disputes = stored.cve.disputes.iter();
    let disputes =
        disputes.map(|version| format!("from {version} on the .dyad and the .json file disagree"));
    stored.cve.doubts.iter().cloned().chain(disputes).collect()
}

/// Says of each source how old its data is, or that there is none: `KEV of 2026-11-20`.
pub fn ages(stamps: &[Stamp]) -> Vec<String> {
    Source::ALL
        .into_iter()
        .map(|source| {
            let stamp = stamps.iter().find(|stamp| stamp.source == source);
            match stamp {
                None => format!("no {source}"),
                Some(stamp) => match stamp.dated {
                    Some(dated) => format!("{source} of {}", day(dated)),
                    None => format!("{source} read {}", day(stamp.taken)),
                },
            }
        })
        .collect()
}

/// Writes the day alone: `2026-11-24`.
pub fn day(instant: UtcSeconds) -> String {
    instant.to_string().chars().take(10).collect()
}
