//! `tuxtape cve show`.

mod answer;
mod branches;
mod page;

use std::process::ExitCode;

use clap::Args;
use tuxtape_core::applicability::{Freshness, Judgement};
use tuxtape_core::cve::{Cve, CveId};
use tuxtape_core::decision::{self, Decision};
use tuxtape_core::follow::{self, FollowUp};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::priority::{self, Policy, Priority};
use tuxtape_core::signals::{Signals, Stamp};
use tuxtape_core::span::Horizons;
use tuxtape_store::Stored;
use tuxtape_store::history::Event;

use crate::commands::gauge;
use crate::context::Context;
use crate::output;
use crate::remembered;
use crate::remembered::weights::Weights;
use crate::screen::{Colour, Screen};

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The CVE, such as CVE-2024-14027
    pub cve: CveId,
    /// Say too whether this kernel has it
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<KernelRelease>,
    #[command(flatten)]
    weights: Weights,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,
}

/// Everything about one record.
struct Facts {
    stored: Stored,
    policy: Policy,
    priority: Priority,
    signals: Signals,
    stamps: Vec<Stamp>,
    /// In the order in which they were made.
    decisions: Vec<Decision>,
    history: Vec<Event>,
    horizons: Horizons,
    /// Fixes of others that this one corrects, and what corrects its own.
    follow_ups: Vec<FollowUp>,
    judgement: Option<(KernelRelease, Judgement)>,
    now: UtcSeconds,
}

impl Facts {
    /// Returns the decision that holds, for the kernel asked about or for all.
    fn standing(&self) -> Option<&Decision> {
        let kernel = self.judgement.as_ref().map(|(release, _)| release);
        decision::standing(&self.decisions, self.stored.cve.id, kernel, self.now)
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let policy = arguments.weights.policy()?;
    let (store, feed) = remembered::feed(context)?;
    let id = arguments.cve;
    let mut records = store.records()?;
    let Some(place) = records.iter().position(|stored| stored.cve.id == id) else {
        let when = remembered::utc(feed.time);
        return Err(match store.skipped()?.remove(&id) {
            Some(why) => {
                anyhow::anyhow!("the record of {id} in the feed of {when} could not be read: {why}")
            }
            None => anyhow::anyhow!("the feed of {when} has no {id}"),
        });
    };
    let stored = records[place].clone();
    let cves: Vec<Cve> = records.drain(..).map(|stored| stored.cve).collect();
    let mut horizons = Horizons::default();
    for cve in &cves {
        horizons.learn(cve.certain_spans());
    }
    let mut follow_ups = follow::find(&cves);
    follow_ups.retain(|it| it.earlier == id || it.later == id);
    let judgement = match &arguments.kernel {
        None => None,
        Some(release) => {
            let profile = remembered::kernel(context, release)?;
            let freshness = stored
                .stale
                .as_deref()
                .map_or(Freshness::Current, Freshness::Stale);
            let history = remembered::history(context, &profile);
            let bench = gauge::bench(&profile, &horizons, history.at_hand())?;
            let judgement = bench.judge(&stored.cve, freshness);
            Some((release.clone(), judgement))
        }
    };
    let signals = store.signals_of(id)?;
    let facts = Facts {
        priority: priority::prioritize(&stored.cve, &signals, &policy),
        stored,
        policy,
        signals,
        stamps: store.stamps()?,
        decisions: store.decisions_of(id)?,
        history: store.history_of(id)?,
        horizons,
        follow_ups,
        judgement,
        now: remembered::now(),
    };
    if context.json {
        output::json(&answer::answer(&facts))?;
    } else {
        output::text(&page::page(&facts, Screen::detect(arguments.color)))?;
    }
    Ok(ExitCode::SUCCESS)
}
