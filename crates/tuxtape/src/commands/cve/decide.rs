//! `tuxtape cve decide`.

use std::env;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use tuxtape_core::cve::CveId;
use tuxtape_core::decision::{Choice, Decision};
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;

use super::json;
use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered;
use crate::remembered::shelf::day;

const DAY: u64 = 86_400;
/// Longest name and reason, in characters.
const LONGEST: usize = 1000;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The CVE
    cve: CveId,
    /// Only for this kernel; for all when not given
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<KernelRelease>,
    #[command(flatten)]
    choice: Chosen,
    /// Why, for whoever asks later
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// When to look again: 2026-12-31 (from its first second on, UTC) or 30d from now
    #[arg(long, value_name = "DATE")]
    until: Option<Until>,
    /// Who decides; the login name when not given
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
}

/// One of three.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Chosen {
    /// Close it: it belongs into the next level
    #[arg(long)]
    accept: bool,
    /// Not now; wants --until
    #[arg(long, requires = "until")]
    defer: bool,
    /// Not at all: it does not matter here
    #[arg(long)]
    ignore: bool,
}

/// When a decision ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At this instant.
    At(UtcSeconds),
    /// This many days from now.
    Days(u64),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no date (want 2026-12-31 or 30d)");
        if let Some(days) = text.strip_suffix('d') {
            let plain = days.bytes().all(|c| c.is_ascii_digit());
            let days = plain.then(|| days.parse().ok()).flatten();
            days.map(Self::Days).ok_or_else(wrong)
        } else {
            let instant = format!("{text}T00:00:00Z").parse();
            instant.map(Self::At).map_err(|_| wrong())
        }
    }
}

impl Until {
    fn instant(self, now: UtcSeconds) -> UtcSeconds {
        match self {
            Self::At(instant) => instant,
            Self::Days(days) => now.plus(days.saturating_mul(DAY)),
        }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    cve: String,
    #[serde(flatten)]
    decision: json::Decision<'a>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let now = remembered::now();
    let (store, feed) = remembered::feed(context)?;
    let id = arguments.cve;
    // A decision about a misspelt CVE or kernel would never hold, and nobody would see it.
    if store.cve(id)?.is_none() && !store.skipped()?.contains_key(&id) {
        bail!("the feed of {} has no {id}", remembered::utc(feed.time));
    }
    if let Some(release) = &arguments.kernel {
        remembered::kernel(context, release)?;
    }
    let who = match &arguments.who {
        Some(who) => who.clone(),
        None => login()
            .context("it is not known who you are")
            .context(Hint::new("say it with --who NAME"))?,
    };
    let decision = Decision {
        cve: id,
        kernel: arguments.kernel.clone(),
        choice: arguments.choice.choice(),
        who: plain("--who", &who)?,
        why: plain("--why", &arguments.why)?,
        at: now,
        until: arguments.until.map(|until| until.instant(now)),
    };
    if let Some(until) = decision.until.filter(|until| *until <= now) {
        bail!("--until {} is not in the future", day(until));
    }
    store.decide(&decision)?;
    if context.json {
        output::json(&Json {
            cve: id.to_string(),
            decision: json::decision(&decision),
        })?;
    } else {
        let kernel = decision
            .kernel
            .as_ref()
            .map_or_else(|| "all kernels".to_owned(), ToString::to_string);
        let until = decision
            .until
            .map_or_else(|| "for good".to_owned(), |until| format!("until {until}"));
        output::text(&format!(
            "{id}  {} by {} for {kernel}, {until}: {}\n",
            decision.choice, decision.who, decision.why
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Chosen {
    fn choice(self) -> Choice {
        if self.accept {
            Choice::Accept
        } else if self.defer {
            Choice::Defer
        } else {
            Choice::Ignore
        }
    }
}

/// Takes the name the system logged the caller in with.
fn login() -> Option<String> {
    ["SUDO_USER", "LOGNAME", "USER"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|who| !who.is_empty()))
}

/// Refuses what would be empty, or could not be shown on one line of a terminal.
fn plain(flag: &str, text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    if text.is_empty() {
        bail!("{flag} is empty");
    }
    if text.chars().any(char::is_control) {
        bail!("{flag} holds line ends or control characters");
    }
    if text.chars().count() > LONGEST {
        bail!("{flag} is longer than {LONGEST} characters");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_day_or_a_number_of_days() {
        let at = |text: &str| Until::At(text.parse().unwrap());
        assert_eq!("30d".parse(), Ok(Until::Days(30)));
        assert_eq!("2026-12-31".parse(), Ok(at("2026-12-31T00:00:00Z")));
        for bad in [
            "",
            "d",
            "30",
            "-1d",
            "+1d",
            "2026-13-01",
            "tomorrow",
            "2026-12-31T00:00:00Z",
        ] {
            assert!(bad.parse::<Until>().is_err(), "{bad:?}");
        }
        let now = UtcSeconds::from_unix(100);
        assert_eq!(Until::Days(2).instant(now).unix(), 172_900);
    }

    #[test]
    fn words_must_be_there_and_plain() {
        assert_eq!(
            plain("--why", "  not built here ").unwrap(),
            "not built here"
        );
        for bad in ["", "  ", "two\nlines", "\u{1b}[2J", &"x".repeat(1001)] {
            assert!(plain("--why", bad).is_err(), "{bad:?}");
        }
    }
}
