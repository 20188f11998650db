//! `tuxtape gauge`.

mod funnel;
mod json;
pub(crate) mod looking;
mod matrix;
pub(crate) mod measure;
mod node;
mod story;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tuxtape_core::applicability::lineage::HistoryAtHand;
use tuxtape_core::applicability::{Applicability, Bench, Freshness, Judgement, unreadable};
use tuxtape_core::cve::CveId;
use tuxtape_core::decision::{self, Decision};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::Horizons;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::profile;
use tuxtape_store::{Feed, Store, Stored};

use self::funnel::Funnel;
use self::looking::Looking;
use self::measure::{Extent, Known, Measured, Records};
use self::story::Story;
use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered;
use crate::screen::{Colour, Screen, Style};

/// Say for every CVE whether a kernel has it, with evidence
///
/// For one kernel: how many CVEs are left after each step. For several: a table of CVEs against kernels.
/// With --cve: what each step found, with commands that check it.
///
/// With --cve the exit code is 0 for not affected, 3 for affected and 4 for unknown; of several kernels
/// the worst counts. It is 1 where a kernel could not be judged, after the others were shown.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The kernels, by their `uname -r`, added before with `tuxtape kernel add`
    #[arg(value_name = "RELEASE", required_unless_present = "all")]
    pub kernels: Vec<KernelRelease>,
    /// All kernels that were added
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// Only this CVE, with its evidence
    #[arg(long)]
    pub cve: Option<CveId>,
    #[command(flatten)]
    looking: Looking,
    /// List the CVEs with this verdict; can be repeated
    #[arg(long, value_enum, value_name = "VERDICT")]
    only: Vec<Only>,
    /// A line for each CVE with the verdict for each kernel, separated by commas
    #[arg(long, conflicts_with_all = ["cve", "json"])]
    csv: bool,
    /// Counts alone, one line for each kernel with --json
    #[arg(long, conflicts_with_all = ["cve", "csv", "only"])]
    summary: bool,
    /// Say how modules stand on a node: its root, such as /, or a folder with copies of its
    /// `proc/modules`, `proc/sys/kernel/modules_disabled`, `proc/cmdline` and `etc/modprobe.d`
    #[arg(long, value_name = "DIR")]
    node: Option<PathBuf>,
    /// When to colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Colour,
}

/// Verdicts to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Affected.
    Affected,
    /// Not affected, for whatever reason.
    NotAffected,
    /// Unknown, for whatever gap.
    Unknown,
}

impl Only {
    fn takes(self, verdict: Applicability) -> bool {
        match verdict {
            Applicability::Affected => self == Self::Affected,
            Applicability::NotAffected(_) => self == Self::NotAffected,
            Applicability::Unknown(_) => self == Self::Unknown,
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let (loaded, known) = thread::scope(|scope| {
        let loaded = scope.spawn(|| load(arguments, context));
        let known = remembered::feed(context).and_then(|(store, feed)| {
            let lines = store.lines()?;
            Ok((store, feed, lines))
        });
        (loaded.join().expect("loading does not panic"), known)
    });
    let Loaded { profiles, failed } = loaded?;
    let (store, feed, lines) = known?;
    let profiles: Vec<Known> = profiles
        .into_iter()
        .map(|profile| Known::new(context, profile))
        .collect();
    let extent = match arguments.cve {
        Some(id) => Extent::One(id),
        None if arguments.needs_all(context) => Extent::All,
        None => Extent::Open,
    };
    let records = Records::read(&store, &lines, &profiles, &extent)?;
    let mut kernels = Vec::new();
    for profile in profiles {
        kernels.push(measure(arguments, context, profile, &records)?);
    }
    let asked = Asked {
        decisions: store.decisions()?,
        kernels: &kernels,
        records: &records,
        feed: &feed,
        screen: Screen::detect(arguments.color),
        arguments,
        context,
    };
    let code = if let Some(id) = arguments.cve {
        asked.one(id)?
    } else {
        asked.list()?;
        ExitCode::SUCCESS
    };
    // The program ends here: the system takes the memory back faster than text by text.
    drop(asked);
    std::mem::forget((records, kernels));
    Ok(if failed { ExitCode::FAILURE } else { code })
}

impl Arguments {
    /// Tells whether records are wanted that versions rule out.
    fn needs_all(&self, context: &Context) -> bool {
        let not = self.only.contains(&Only::NotAffected);
        let lists = context.json && !self.summary && self.only.is_empty();
        not || lists
    }
}

struct Loaded {
    profiles: Vec<KernelProfile>,
    failed: bool,
}

/// Loads the profiles asked for; of several a damaged one does not hide the others.
fn load(arguments: &Arguments, context: &Context) -> anyhow::Result<Loaded> {
    let releases = if arguments.all {
        profile::list(&context.home)?
    } else {
        arguments.kernels.clone()
    };
    if let [release] = &*releases {
        return Ok(Loaded {
            profiles: vec![remembered::kernel(context, release)?],
            failed: false,
        });
    }
    let mut loaded = Loaded {
        profiles: Vec::new(),
        failed: false,
    };
    for release in releases {
        match remembered::kernel(context, &release) {
            Ok(profile) => {
                let again = loaded.profiles.iter().any(|known| known.id == profile.id);
                if !again {
                    loaded.profiles.push(profile);
                }
            }
            Err(error) => {
                output::fail(&error);
                loaded.failed = true;
            }
        }
    }
    if loaded.profiles.is_empty() {
        return Err(anyhow::anyhow!("there is no kernel to gauge"))
            .context(Hint::new("run `tuxtape kernel add debian:RELEASE` first"));
    }
    Ok(loaded)
}

fn measure(
    arguments: &Arguments,
    context: &Context,
    known: Known,
    records: &Records,
) -> anyhow::Result<Measured> {
    let node = match &arguments.node {
        Some(top) => Some(node::read(top, &known.profile.id.release)?),
        None => None,
    };
    let mut measured = Measured::new(known, records)?;
    let library = arguments
        .looking
        .library(context, arguments.cve.is_some())?;
    if let Some(library) = library {
        let bar = (io::stderr().is_terminal() && arguments.cve.is_none()).then(|| {
            let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}, {eta} left");
            let bar = ProgressBar::no_length();
            bar.set_message(measured.profile.id.release.to_string());
            bar.with_style(style.expect("the template is ours"))
        });
        let tell = |done: usize, of: usize| {
            if let Some(bar) = &bar {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            }
        };
        measured.look(context, records, &library, &tell)?;
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
    }
    measured.load(context, node.as_ref());
    Ok(measured)
}

/// What was asked, and what answers it.
struct Asked<'a> {
    kernels: &'a [Measured],
    records: &'a Records,
    decisions: Vec<Decision>,
    feed: &'a Feed,
    screen: Screen,
    arguments: &'a Arguments,
    context: &'a Context,
}

impl Asked<'_> {
    fn standing(&self, kernel: &Measured, cve: CveId) -> Option<&Decision> {
        let release = Some(&kernel.profile.id.release);
        decision::standing(&self.decisions, cve, release, remembered::now())
    }

    /// Tells the story of one CVE for each kernel.
    fn one(&self, id: CveId) -> anyhow::Result<ExitCode> {
        let mut worst = 0;
        for (index, kernel) in self.kernels.iter().enumerate() {
            let Some(judgement) = kernel.judgements.get(&id) else {
                bail!(
                    "the feed of {} has no {id}",
                    remembered::utc(self.feed.time)
                );
            };
            worst = worst.max(match judgement.verdict {
                Applicability::NotAffected(_) => 0,
                Applicability::Unknown(_) => 1,
                Applicability::Affected => 2,
            });
            let decision = self.standing(kernel, id);
            if self.context.json {
                output::json(&json::line(kernel, judgement, decision))?;
                continue;
            }
            let files = KernelFiles::below(&self.context.cache, &kernel.profile.id.release);
            let story = Story {
                judgement,
                cve: self.records.of(id),
                profile: &kernel.profile,
                files: &files,
                feed: self.feed,
                content: kernel.contents.get(&id),
                decision,
            };
            let gap = if index > 0 { "\n" } else { "" };
            output::text(&format!("{gap}{}", story.tell(&self.screen)))?;
        }
        Ok(match worst {
            0 => ExitCode::SUCCESS,
            1 => ExitCode::from(output::UNKNOWN),
            _ => ExitCode::from(output::NO),
        })
    }

    /// Shows all CVEs, or their counts.
    fn list(&self) -> anyhow::Result<()> {
        let Arguments {
            only, csv, summary, ..
        } = self.arguments;
        let kernels: Vec<&Measured> = self.kernels.iter().collect();
        if *csv {
            let rows = matrix::rows(&kernels, only);
            output::text(&json::csv(&kernels, &rows))?;
        } else if self.context.json && *summary {
            for kernel in kernels {
                let funnel = Funnel::of(kernel);
                let time = remembered::utc(self.feed.time);
                let node = self.arguments.node.is_some();
                output::json(&json::summary(kernel, &funnel, time, node))?;
            }
        } else if self.context.json {
            let lines = kernels.iter().flat_map(|kernel| {
                let wanted = |judgement: &&Judgement| {
                    only.is_empty() || only.iter().any(|only| only.takes(judgement.verdict))
                };
                let judgements = kernel.judgements.values().filter(wanted);
                judgements.map(|judgement| {
                    json::line(kernel, judgement, self.standing(kernel, judgement.cve))
                })
            });
            output::json_lines(lines)?;
        } else if let ([kernel], true) = (self.kernels, only.is_empty()) {
            output::text(&self.funnel(kernel))?;
        } else if *summary {
            for kernel in self.kernels {
                output::text(&format!("{}\n", self.funnel(kernel)))?;
            }
        } else {
            let rows = matrix::rows(&kernels, only);
            output::text(&matrix::draw(&kernels, &rows, self.records, &self.screen))?;
        }
        Ok(())
    }

    fn funnel(&self, kernel: &Measured) -> String {
        let profile = &kernel.profile;
        let horizon = kernel
            .horizon
            .map_or_else(String::new, |known| format!(", known to it up to {known}"));
        let head = format!("{} on base {}", profile.id.release, profile.base_version);
        let mut text = format!(
            "{}\nfeed of {}{horizon}\n\n{}",
            self.screen.paint(Style::Heading, &head),
            remembered::utc(self.feed.time),
            Funnel::of(kernel).draw(&self.screen)
        );
        if kernel.standings.is_none() {
            text.push_str(
                "\nhow its modules are loaded is not known: `tuxtape kernel add` again learns it\n",
            );
        }
        text
    }
}

/// Judges every record of the store against one kernel, by id.
pub fn judge_all(
    store: &Store,
    profile: &KernelProfile,
    history: HistoryAtHand<'_>,
) -> anyhow::Result<Vec<Judgement>> {
    let horizons = store.horizons()?;
    let bench = bench(profile, &horizons, history)?;
    let judgements = judge(&store.records()?, store.skipped()?, &bench);
    Ok(judgements.into_values().collect())
}

/// Prepares a kernel to judge records against.
pub fn bench<'a>(
    profile: &'a KernelProfile,
    horizons: &'a Horizons,
    history: HistoryAtHand<'a>,
) -> anyhow::Result<Bench<'a>> {
    let bench = Bench::new(profile, horizons)
        .with_context(|| format!("the profile of {} has no base version", profile.id.release))?;
    Ok(bench.with_history(history))
}

/// Judges `records` and those of which no edition could be read, `skipped`.
pub fn judge(
    records: &[Stored],
    skipped: BTreeMap<CveId, String>,
    bench: &Bench<'_>,
) -> BTreeMap<CveId, Judgement> {
    let mut judgements: BTreeMap<CveId, Judgement> = skipped
        .into_iter()
        .map(|(id, why)| (id, unreadable(id, &why)))
        .collect();
    let judge = |part: &[Stored]| -> Vec<Judgement> {
        part.iter()
            .map(|Stored { cve, stale, .. }| {
                let freshness = stale
                    .as_deref()
                    .map_or(Freshness::Current, Freshness::Stale);
                bench.judge(cve, freshness)
            })
            .collect()
    };
    let (first, second) = records.split_at(records.len() / 2);
    let parts = thread::scope(|scope| {
        let second = scope.spawn(|| judge(second));
        let first = judge(first);
        [first, second.join().expect("judging does not panic")]
    });
    // A record that has a readable edition is judged by it, in place of the entry above.
    for judgement in parts.into_iter().flatten() {
        judgements.insert(judgement.cve, judgement);
    }
    judgements
}
