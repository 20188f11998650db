//! From what is known to the outbox, and from the outbox to the channels.
//!
//! The store tells a notice on every channel that was known when it was posted. What a channel does not
//! want is noted there at once, so that nobody asks again; what nobody is to hear of is dated before
//! all channels.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use tuxtape_core::applicability::{Applicability, Freshness};
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::follow;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::derive::{Derived, Hearing, Situation, Watched, asked, derive};
use tuxtape_core::notice::{Notice, NoticeKind};
use tuxtape_core::priority::{Band, Policy, Priority, prioritize};
use tuxtape_core::signals::Signals;
use tuxtape_core::span::Horizons;
use tuxtape_kernel::profile;
use tuxtape_notice::channel::Channels;
use tuxtape_notice::send::Tally;
use tuxtape_notice::{Attempt, Due, Sent};
use tuxtape_store::outbox::OutboxError;
use tuxtape_store::{Store, Stored};

use crate::commands::gauge;
use crate::context::Context;
use crate::remembered;

/// What is noted where a channel does not want a notice.
pub const NOT_WANTED: &str = "not wanted by this channel";
/// More than any outbox holds, and within what every database counts.
const ALL: u64 = 1 << 40;

/// What a run of [`notify`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Notices that are new and go to channels.
    pub new: usize,
    /// Notices that were so when watching started, and go to nobody.
    pub baseline: usize,
    /// Kernels and records that could not be watched, with the reason.
    pub unwatched: Vec<String>,
    /// What was sent, of these and of earlier ones.
    pub tally: Tally,
}

/// Makes the channels known to the store, so that what is posted from now on is told on them.
pub fn open(store: &Store, channels: &Channels, now: UtcSeconds) -> anyhow::Result<()> {
    for channel in &channels.0 {
        store.open_channel(&channel.name, now)?;
    }
    Ok(())
}

/// Posts what is new at `now` and sends what is due.
///
/// The caller holds the store's lock. The error is one of the store: a channel that fails is no error,
/// and is told in the summary. A first run sets the baseline and tells nothing.
pub fn notify(
    context: &Context,
    store: &Store,
    channels: &Channels,
    policy: &Policy,
    now: UtcSeconds,
) -> anyhow::Result<Summary> {
    open(store, channels, now)?;
    let mut summary = Summary::default();
    let derived = news(context, store, policy, now, &mut summary.unwatched)?;
    post(store, channels, derived, &mut summary)?;
    summary.tally = send(context, store, channels, policy)?;
    Ok(summary)
}

/// Posts `notices`, whose keys say whether they were told before, and sends what is due.
///
/// The caller holds the store's lock.
pub fn tell(
    context: &Context,
    store: &Store,
    channels: &Channels,
    policy: &Policy,
    notices: Vec<Notice>,
    now: UtcSeconds,
) -> anyhow::Result<Summary> {
    open(store, channels, now)?;
    let known = known(store)?;
    let derived = notices
        .into_iter()
        .filter(|notice| !known.contains(&notice.key))
        .map(|notice| Derived {
            notice,
            band: None,
            hearing: Hearing::Channels,
        })
        .collect();
    let mut summary = Summary::default();
    post(store, channels, derived, &mut summary)?;
    summary.tally = send(context, store, channels, policy)?;
    Ok(summary)
}

/// Derives what is new from everything the store and the profiles know.
fn news(
    context: &Context,
    store: &Store,
    policy: &Policy,
    now: UtcSeconds,
    unwatched: &mut Vec<String>,
) -> anyhow::Result<Vec<Derived>> {
    let mut records: Vec<Cve> = Vec::new();
    let mut stale: BTreeMap<CveId, String> = BTreeMap::new();
    for stored in store.records()? {
        let Stored {
            cve, stale: why, ..
        } = stored;
        stale.extend(why.map(|why| (cve.id, why)));
        records.push(cve);
    }
    let signals = store.signals()?;
    let none = Signals::default();
    let priorities: BTreeMap<CveId, Priority> = records
        .iter()
        .map(|cve| {
            let known = signals.get(&cve.id).unwrap_or(&none);
            (cve.id, prioritize(cve, known, policy))
        })
        .collect();
    let follow_ups = follow::find(&records);
    let kernels = watched(
        context,
        &Judged {
            records: &records,
            stale: &stale,
            asked: asked(&priorities, &follow_ups),
            horizons: store.horizons()?,
        },
        unwatched,
    )?;
    for (id, why) in store.skipped()? {
        if !priorities.contains_key(&id) {
            unwatched.push(format!("{id} is not watched: {why}"));
        }
    }
    let known = known(store)?;
    let removals = store.removals()?;
    let gone: Vec<(CveId, u64)> = removals
        .iter()
        .map(|event| (event.cve, event.sequence))
        .collect();
    Ok(derive(&Situation {
        records: &records,
        priorities: &priorities,
        signals: &signals,
        kernels: &kernels,
        decisions: &store.decisions()?,
        gone: &gone,
        follow_ups: &follow_ups,
        known: &known,
        now,
    }))
}

fn known(store: &Store) -> anyhow::Result<BTreeSet<String>> {
    let notices = store.notices(ALL)?;
    Ok(notices.into_iter().map(|notice| notice.key).collect())
}

/// What kernels are judged by.
struct Judged<'a> {
    records: &'a [Cve],
    stale: &'a BTreeMap<CveId, String>,
    asked: BTreeSet<CveId>,
    horizons: Horizons,
}

/// Judges every kernel that was added. One that cannot be read hides no other.
fn watched(
    context: &Context,
    judged: &Judged<'_>,
    unwatched: &mut Vec<String>,
) -> anyhow::Result<Vec<Watched>> {
    let mut kernels = Vec::new();
    for release in profile::list(&context.home).context("could not list the kernels")? {
        match verdicts(context, &release, judged) {
            Ok(verdicts) => kernels.push(Watched { release, verdicts }),
            Err(error) => unwatched.push(format!("{release} is not watched: {error:#}")),
        }
    }
    Ok(kernels)
}

fn verdicts(
    context: &Context,
    release: &KernelRelease,
    judged: &Judged<'_>,
) -> anyhow::Result<BTreeMap<CveId, Applicability>> {
    let profile = profile::load(&context.home, release)?;
    let history = remembered::history(context, &profile);
    let bench = gauge::bench(&profile, &judged.horizons, history.at_hand())?;
    let asked = |cve: &&Cve| judged.asked.contains(&cve.id);
    Ok(judged
        .records
        .iter()
        .filter(asked)
        .map(|cve| {
            let why = judged.stale.get(&cve.id);
            let freshness = why.map_or(Freshness::Current, |why| Freshness::Stale(why));
            (cve.id, bench.judge(cve, freshness).verdict)
        })
        .collect())
}

fn post(
    store: &Store,
    channels: &Channels,
    derived: Vec<Derived>,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut notices = Vec::new();
    let mut unwanted: Vec<(String, String, UtcSeconds)> = Vec::new();
    for Derived {
        notice,
        band,
        hearing,
    } in derived
    {
        match hearing {
            Hearing::Nobody => {
                summary.baseline += 1;
                // Before all channels, and without the words nobody will read.
                notices.push(Notice {
                    at: UtcSeconds::EPOCH,
                    subject: String::new(),
                    body: String::new(),
                    ..notice
                });
            }
            Hearing::Channels => {
                summary.new += 1;
                let wanting = channels.wanting(notice.kind, band);
                for channel in &channels.0 {
                    if !wanting.contains(&channel.name.as_str()) {
                        unwanted.push((notice.key.clone(), channel.name.clone(), notice.at));
                    }
                }
                notices.push(notice);
            }
        }
    }
    // One transaction: a baseline cut off halfway would tell its other half next time.
    store.post(&notices)?;
    for (key, channel, at) in unwanted {
        store.gave_up(&key, &channel, at, NOT_WANTED)?;
    }
    Ok(())
}

/// Sends what is due to every channel, noting each outcome before the next attempt.
///
/// The caller holds the store's lock, so that no two send the same.
pub fn send(
    context: &Context,
    store: &Store,
    channels: &Channels,
    policy: &Policy,
) -> anyhow::Result<Tally> {
    let mut due = Vec::new();
    let mut bands = Bands::new(store, policy);
    for channel in &channels.0 {
        for it in store.due(&channel.name, super::now(), ALL)? {
            // Posted by somebody who did not know what this channel wants. What was tried was wanted.
            let is_wanted = channel.notices.contains(&it.notice.kind)
                && (it.tries > 0 || channel.wants(it.notice.kind, bands.of(&it.notice)?));
            if !is_wanted {
                store.gave_up(&it.notice.key, &channel.name, super::now(), NOT_WANTED)?;
                continue;
            }
            due.push(Due {
                notice: it.notice,
                channel: channel.name.clone(),
                tries: u32::try_from(it.tries).unwrap_or(u32::MAX),
            });
        }
    }
    let mut record = |sent: &[Sent]| sent.iter().try_for_each(|sent| note(store, sent));
    let tally = super::with_world(context, |world| {
        tuxtape_notice::send(channels, due, world, &mut record)
    })?;
    Ok(tally)
}

/// How urgent the CVEs are that notices are about, each weighed once.
struct Bands<'a> {
    store: &'a Store,
    policy: &'a Policy,
    signals: Option<BTreeMap<CveId, Signals>>,
    known: BTreeMap<CveId, Option<Band>>,
}

impl<'a> Bands<'a> {
    fn new(store: &'a Store, policy: &'a Policy) -> Self {
        Self {
            store,
            policy,
            signals: None,
            known: BTreeMap::new(),
        }
    }

    /// Returns the gravest band of the CVEs in a notice's key, as its poster had it.
    fn of(&mut self, notice: &Notice) -> anyhow::Result<Option<Band>> {
        // There is no other of this kind, and the CVE may have lost the band since.
        if notice.kind == NoticeKind::Urgent {
            return Ok(Some(Band::Act));
        }
        let mut gravest = None;
        for id in notice.key.split('/').filter_map(|part| part.parse().ok()) {
            gravest = gravest.max(self.weigh(id)?);
        }
        Ok(gravest)
    }

    fn weigh(&mut self, id: CveId) -> anyhow::Result<Option<Band>> {
        if let Some(band) = self.known.get(&id) {
            return Ok(*band);
        }
        if self.signals.is_none() {
            self.signals = Some(self.store.signals()?);
        }
        let none = Signals::default();
        let signals = self.signals.as_ref().and_then(|all| all.get(&id));
        let stored = self.store.cve(id)?;
        let weigh = |stored: Stored| prioritize(&stored.cve, signals.unwrap_or(&none), self.policy);
        let band = stored.map(|stored| weigh(stored).band);
        self.known.insert(id, band);
        Ok(band)
    }
}

fn note(store: &Store, sent: &Sent) -> Result<(), OutboxError> {
    let Sent {
        channel,
        key,
        attempt,
    } = sent;
    match attempt {
        Attempt::Delivered => store.delivered(key, channel, super::now()),
        Attempt::Failed {
            why,
            next: Some(next),
        } => store.failed(key, channel, *next, why),
        Attempt::Failed { why, next: None } => store.gave_up(key, channel, super::now(), why),
    }
}
