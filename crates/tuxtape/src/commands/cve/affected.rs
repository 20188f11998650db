//! `tuxtape cve affected`.

mod clone;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;
use tuxtape_core::cve::CveId;
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::Horizons;
use tuxtape_core::version::{KernelVersion, NotAVersion};
use tuxtape_store::Lines;

use crate::context::Context;
use crate::output;
use crate::remembered;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Upstream version, such as 6.1.170, 6.11 or 6.17-rc3
    // The plain name `version` belongs to the flag.
    #[arg(value_name = "VERSION")]
    pub upstream: Asked,
    /// Answer from this clone or bundle of the feed, without a store
    ///
    /// Reads the .dyad files alone: what contradicts them in the .json files is not seen.
    #[arg(long, value_name = "DIR|BUNDLE")]
    pub feed: Option<String>,
}

/// What is known beside the spans.
struct Known {
    skipped: BTreeMap<CveId, String>,
    /// The feed's commit and its time in seconds since 1970 UTC.
    commit: GitId,
    time: i64,
}

/// What the spans say, gathered record by record.
struct Answer {
    version: KernelVersion,
    horizons: Horizons,
    affected: Vec<CveId>,
    inconsistent: Vec<CveId>,
}

impl Answer {
    fn take(&mut self, record: &Lines) {
        self.horizons.learn(record.certain_spans());
        if record.read(self.version).is_affected() {
            self.affected.push(record.id);
        }
        if record.is_doubtful_at(self.version) {
            self.inconsistent.push(record.id);
        }
    }
}

/// A version as it was typed.
#[derive(Clone, Debug)]
pub struct Asked {
    text: String,
    version: KernelVersion,
}

impl FromStr for Asked {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        Ok(Self {
            text: text.to_owned(),
            version: text.parse()?,
        })
    }
}

#[derive(Serialize)]
struct Json<'a> {
    version: &'a str,
    horizon: Option<String>,
    beyond_horizon: bool,
    feed_commit: String,
    cves: Vec<String>,
    /// Records whose answer here is in doubt, because they contradict themselves.
    inconsistent: Vec<String>,
    /// Records whose newest edition could not be read.
    skipped: Vec<JsonSkipped>,
}

#[derive(Serialize)]
struct JsonSkipped {
    cve: String,
    why: String,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let Asked { text, version } = &arguments.upstream;
    let mut answer = Answer {
        version: *version,
        horizons: Horizons::default(),
        affected: Vec::new(),
        inconsistent: Vec::new(),
    };
    let known = match &arguments.feed {
        Some(feed) => clone::read(feed, context, &mut |record| answer.take(record))?,
        None => stored(context, &mut |record| answer.take(record))?,
    };
    let Known { skipped, .. } = &known;
    let horizons = &answer.horizons;
    let horizon = horizons.of(*version);
    let beyond = horizons.is_beyond(*version);
    let ids = |ids: &[CveId]| -> Vec<String> { ids.iter().map(ToString::to_string).collect() };
    let (cves, inconsistent) = (ids(&answer.affected), ids(&answer.inconsistent));

    if beyond {
        let reach = horizon.map_or_else(
            || "nothing at or below it".to_owned(),
            |horizon| format!("this line up to {horizon}"),
        );
        output::talk(&format!(
            "warning: {text} is beyond what the feed knows ({reach}): fixes and backports since then are not seen"
        ));
    }
    for id in &inconsistent {
        output::talk(&format!(
            "warning: {id} contradicts itself here; see `tuxtape cve show {id}`"
        ));
    }
    for (id, why) in skipped {
        output::talk(&format!(
            "warning: the newest edition of {id} could not be read: {why}"
        ));
    }
    if context.json {
        output::json(&Json {
            version: text,
            horizon: horizon.map(|horizon| horizon.to_string()),
            beyond_horizon: beyond,
            feed_commit: known.commit.to_string(),
            cves,
            inconsistent,
            skipped: skipped
                .iter()
                .map(|(id, why)| JsonSkipped {
                    cve: id.to_string(),
                    why: why.clone(),
                })
                .collect(),
        })?;
    } else {
        output::text(
            &cves
                .iter()
                .map(|id| format!("{id}\n"))
                .collect::<Vec<_>>()
                .concat(),
        )?;
        let horizon = horizon.map_or_else(|| "none".to_owned(), |horizon| horizon.to_string());
        output::talk(&format!(
            "{} CVEs affect {text}; horizon {horizon}, feed of {}",
            cves.len(),
            remembered::utc(known.time)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn stored(context: &Context, take: &mut dyn FnMut(&Lines)) -> anyhow::Result<Known> {
    let (store, feed) = remembered::feed(context)?;
    store.each_lines(take)?;
    Ok(Known {
        skipped: store.skipped()?,
        commit: feed.commit,
        time: feed.time,
    })
}
