//! `tuxtape kernel watch`.

mod news;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::Unit;
use jiff::civil::Date;
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::notice::kernels;
use tuxtape_core::profile::KernelProfile;
use tuxtape_core::span::Horizons;
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::debian::index;
use tuxtape_kernel::debian::lines::{self, Line, SUPPORT_AS_OF, SUPPORT_SOURCE, Support};
use tuxtape_kernel::{debian, profile};
use tuxtape_notice::channel::Channels;
use tuxtape_store::Lock;

use self::news::Verdicts;
use super::add;
use crate::commands::notice::{self, ChannelsArgument, outbox};
use crate::commands::scan;
use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered;
use crate::remembered::shelf::day;
use crate::remembered::weights::Weights;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Look once and end, for cron and timers
    #[arg(long)]
    once: bool,
    /// Time between two looks: 30m, 6h, 1d
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = interval, conflicts_with = "once")]
    interval: Duration,
    /// Add nothing: only say what would be added
    #[arg(long)]
    dry_run: bool,
    /// Refresh apt's package lists before each look; needs root
    #[arg(long)]
    refresh: bool,
    /// Send notices of new kernels, of cover that comes to its end and of verdicts that changed through
    /// the channels of the file, each once
    #[arg(long, conflicts_with = "dry_run")]
    notify: bool,
    #[command(flatten)]
    channels: ChannelsArgument,
    #[command(flatten)]
    weights: Weights,
}

/// One kernel for programs.
#[derive(Debug, Serialize)]
struct Watched {
    release: String,
    /// `known`, `new` (with --dry-run), `added` or `failed`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cover: Option<Cover>,
}

/// Until when a kernel is covered.
#[derive(Debug, Serialize)]
struct Cover {
    base_version: String,
    source: String,
    /// The newest release of its line that apt lists; `None` where apt lists none of it.
    newest: Option<String>,
    /// Whether that is another, newer one: the distribution's fixes come with that.
    superseded: bool,
    /// How far the feed knows its branch; `None` without a feed.
    horizon: Option<String>,
    beyond_horizon: Option<bool>,
    /// Until when its line gets fixes; `None` where no day was promised.
    support: Option<ShownSupport>,
}

#[derive(Debug, Serialize)]
struct ShownSupport {
    of: &'static str,
    /// `full`, `lts` or `ended`.
    phase: &'static str,
    until: &'static str,
    as_of: &'static str,
    source: &'static str,
}

/// Looks for newer kernels of the lines that are followed, adds them, and says until when each kernel
/// is covered.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    loop {
        let outcome = look(arguments, context);
        if arguments.once {
            return outcome;
        }
        if let Err(error) = outcome {
            // The next look may find the network or the lock again.
            output::fail(&error);
        }
        thread::sleep(arguments.interval);
    }
}

fn look(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    // Before anything is added: a wrong file should not show only once there is something to tell.
    let channels = arguments
        .notify
        .then(|| notice::channels(&arguments.channels))
        .transpose()?;
    let known = profile::list(&context.home)?;
    if known.is_empty() {
        return Err(anyhow::anyhow!(
            "there is no kernel whose line could be followed"
        ))
        .context(Hint::new("run `tuxtape kernel add debian:RELEASE` first"));
    }
    if arguments.refresh {
        debian::refresh()
            .context("could not refresh apt's package lists")
            .context(Hint::new("run as root, or leave --refresh out"))?;
    }
    let listed = index::releases()?;
    if listed.is_empty() {
        return Err(anyhow::anyhow!("apt's package lists are empty"))
            .context(Hint::new("run `apt-get update` as root"));
    }
    let horizons = horizons(context);
    let mut watched = Vec::new();
    for release in lines::due(&known, &listed) {
        let outcome = if arguments.dry_run {
            Watched::state(&release, "new")
        } else {
            output::talk(&format!("{release} is new"));
            match add::keep(context, &release) {
                Ok(kernel) => Watched {
                    cover: Some(Cover::of(&kernel, &listed, horizons.as_ref())),
                    ..Watched::state(&release, "added")
                },
                Err(error) => {
                    // One kernel that cannot be had does not hide the others.
                    output::fail(&error);
                    Watched {
                        error: Some(format!("{error:#}")),
                        ..Watched::state(&release, "failed")
                    }
                }
            }
        };
        watched.push(outcome);
    }
    for release in &known {
        watched.push(match super::load(context, release) {
            Ok(kernel) => Watched {
                cover: Some(Cover::of(&kernel, &listed, horizons.as_ref())),
                ..Watched::state(release, "known")
            },
            Err(error) => {
                output::fail(&error);
                Watched {
                    error: Some(format!("{error:#}")),
                    ..Watched::state(release, "failed")
                }
            }
        });
    }
    if context.json {
        output::json_lines(watched.iter())?;
    } else {
        let text: String = watched.iter().map(Watched::text).collect();
        output::text(&text)?;
    }
    if let Some(channels) = &channels {
        tell(arguments, context, channels, &watched)?;
    }
    Ok(if watched.iter().any(|it| it.state == "failed") {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Tells people of what is new, each thing once.
fn tell(
    arguments: &Arguments,
    context: &Context,
    channels: &Channels,
    watched: &[Watched],
) -> anyhow::Result<()> {
    let (store, _) = remembered::feed(context)?;
    let policy = arguments.weights.policy()?;
    let _lock = match store.lock(&scan::note())? {
        Lock::Ours(lock) => lock,
        Lock::Theirs { note } => {
            output::talk(&format!(
                "nobody was told: {note} works on the store; the next look tells"
            ));
            return Ok(());
        }
    };
    let now = notice::now();
    let mut notices = Vec::new();
    let mut verdicts = Vec::new();
    for it in watched {
        let (Some(cover), Ok(release)) = (&it.cover, it.release.parse::<KernelRelease>()) else {
            continue;
        };
        if it.state == "added" {
            notices.push(kernels::arrived(&release, &cover.source, now));
        }
        let ends = cover.support.as_ref().and_then(ShownSupport::ends);
        notices.extend(ends.and_then(|ends| kernels::cover(&release, &ends, now)));
        let profile = super::load(context, &release)?;
        let found = Verdicts::of(context, &store, &profile, now)?;
        notices.extend(found.notice.clone());
        verdicts.push(found);
    }
    let told = outbox::tell(context, &store, channels, &policy, notices, now)?;
    for found in verdicts {
        found.keep()?;
    }
    scan::tell(&told, context)
}

/// How far the feed knows each branch; `None` where there is no feed yet.
fn horizons(context: &Context) -> Option<Horizons> {
    let (store, _) = remembered::feed(context).ok()?;
    store.horizons().ok()
}

impl Watched {
    fn state(release: &KernelRelease, state: &'static str) -> Self {
        Self {
            release: release.to_string(),
            state,
            error: None,
            cover: None,
        }
    }

    fn text(&self) -> String {
        let Self {
            release,
            state,
            error,
            cover,
        } = self;
        let mut text = format!("{release}  {state}\n");
        if let Some(error) = error {
            text.push_str(&format!("  {error}\n"));
        }
        for line in cover.iter().flat_map(Cover::lines) {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }
}

impl Cover {
    fn of(kernel: &KernelProfile, listed: &[KernelRelease], horizons: Option<&Horizons>) -> Self {
        let release = &kernel.id.release;
        let line = Line::of(release);
        let newest = line
            .as_ref()
            .and_then(|line| lines::newest(listed).remove(line));
        let base = kernel.base_version.parse::<KernelVersion>().ok();
        let known = base.and_then(|base| horizons?.of(base));
        Self {
            base_version: kernel.base_version.clone(),
            source: kernel.origin.source.clone(),
            superseded: newest
                .as_ref()
                .is_some_and(|newest| lines::is_newer(newest, release)),
            newest: newest.map(String::from),
            horizon: known.map(|known| known.to_string()),
            beyond_horizon: base.and_then(|base| Some(horizons?.is_beyond(base))),
            support: line
                .as_ref()
                .and_then(lines::support)
                .map(|support| ShownSupport::of(support, &day(remembered::now()))),
        }
    }

    fn lines(&self) -> Vec<String> {
        let packages = match (&self.newest, self.superseded) {
            (None, _) => "apt lists no kernel of its line".to_owned(),
            (Some(_), false) => format!("packages: the newest of its line ({})", self.source),
            (Some(newest), true) => format!(
                "packages: {} ({}) was replaced by {newest}: what was fixed since reaches it as livepatches alone",
                self.base_version, self.source
            ),
        };
        let feed = match (&self.horizon, self.beyond_horizon) {
            (Some(horizon), Some(false)) => format!("feed: knows its branch up to {horizon}"),
            (Some(horizon), Some(true)) => format!(
                "feed: knows its branch up to {horizon} only, before {}",
                self.base_version
            ),
            (None, Some(_)) => "feed: knows nothing of its branch".to_owned(),
            (_, None) => "feed: there is none yet".to_owned(),
        };
        let support = match &self.support {
            None => "support: no day is known until which its line gets fixes".to_owned(),
            Some(support) => match support.phase {
                "ended" => format!(
                    "support: {}'s ended on {} ({} of {})",
                    support.of, support.until, support.source, support.as_of
                ),
                phase => format!(
                    "support: {phase} of {} until {} ({} of {})",
                    support.of, support.until, support.source, support.as_of
                ),
            },
        };
        vec![packages, feed, support]
    }
}

impl ShownSupport {
    /// Says how many days are left of the phase it is in.
    fn ends(&self) -> Option<kernels::Cover> {
        let until: Date = self.until.parse().ok()?;
        let today: Date = day(remembered::now()).parse().ok()?;
        let left = today.until((Unit::Day, until)).ok()?.get_days();
        Some(kernels::Cover {
            what: match self.phase {
                "ended" => format!("support of {}", self.of),
                phase => format!("{phase} support of {}", self.of),
            },
            until: self.until.to_owned(),
            days_left: i64::from(left),
            is_last: self.phase != "full",
        })
    }

    /// Says which phase `today`, `2026-11-25`, is in. Days of this form sort as text.
    fn of(support: Support, today: &str) -> Self {
        let (phase, until) = if today <= support.full {
            ("full", support.full)
        } else if today <= support.lts {
            ("lts", support.lts)
        } else {
            ("ended", support.lts)
        };
        Self {
            of: support.of,
            phase,
            until,
            as_of: SUPPORT_AS_OF,
            source: SUPPORT_SOURCE,
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    const WANT: &str = "want a number with m, h or d, at least 10m";
    let (number, unit) = text
        .char_indices()
        .next_back()
        .and_then(|(at, unit)| Some((text.get(..at)?, unit)))
        .ok_or(WANT)?;
    let number: u64 = number.parse().map_err(|_| WANT)?;
    let minutes = match unit {
        'm' => Some(number),
        'h' => number.checked_mul(60),
        'd' => number.checked_mul(24 * 60),
        _ => None,
    };
    let seconds = minutes
        .filter(|minutes| (10..=525_600).contains(minutes))
        .ok_or(WANT)?
        * 60;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_unit_and_spares_the_mirrors() {
        assert_eq!(interval("6h"), Ok(Duration::from_secs(21_600)));
        assert_eq!(interval("10m"), Ok(Duration::from_secs(600)));
        for bad in [
            "",
            "6",
            "9m",
            "h",
            "-1h",
            "99999999999999999999d",
            "6ü",
            "366d",
        ] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn support_ends_in_two_steps() {
        let support = Support {
            of: "Debian 12",
            full: "2026-06-10",
            lts: "2028-06-30",
        };
        for (today, phase, until) in [
            ("2026-06-10", "full", "2026-06-10"),
            ("2026-06-11", "lts", "2028-06-30"),
            ("2028-07-01", "ended", "2028-06-30"),
        ] {
            let shown = ShownSupport::of(support, today);
            assert_eq!((shown.phase, shown.until), (phase, until), "{today}");
        }
    }
}
