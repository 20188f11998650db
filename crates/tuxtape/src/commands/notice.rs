//! `tuxtape notice`.

pub mod outbox;
mod show;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_notice::channel::{Channels, file};
use tuxtape_notice::letter::Letter;
use tuxtape_notice::send::{Tally, World};
use tuxtape_notice::{Outcome, deliver};
use tuxtape_store::{Lock, Store};

use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered::weights::Weights;

/// Where the channels are looked for when nobody says otherwise.
const CHANNELS: &str = "/etc/tuxtape/notice.toml";

/// Show and send what people should hear of
///
/// Notices are made by `tuxtape scan --notify`, kept in the store, and sent to the channels of
/// /etc/tuxtape/notice.toml until each has them.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// The file of channels.
#[derive(Clone, Debug, Args)]
pub struct ChannelsArgument {
    /// File of the channels to send to
    #[arg(long, env = "TUXTAPE_CHANNELS", value_name = "FILE", default_value = CHANNELS)]
    pub channels: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List notices with their state in each channel, newest first
    List {
        /// How many to list
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
    },
    /// Send what is due; exits 1 where something did not get through
    Send {
        #[command(flatten)]
        channels: ChannelsArgument,
        #[command(flatten)]
        weights: Weights,
    },
    /// Send a test through one channel
    Test {
        /// Its name in the file
        channel: String,
        #[command(flatten)]
        channels: ChannelsArgument,
    },
}

#[derive(Serialize)]
struct JsonTally<'a> {
    delivered: usize,
    postponed: usize,
    given_up: usize,
    remarks: &'a [String],
}

#[derive(Serialize)]
struct JsonTest<'a> {
    channel: &'a str,
    kind: &'a str,
    place: String,
    delivered: bool,
    remarks: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::List { limit } => show::list(limit, context),
        Verb::Send { channels, weights } => send(&channels, &weights, context),
        Verb::Test { channel, channels } => test(&channel, &channels, context),
    }
}

/// Reads the channels, with the way out where there are none.
pub fn channels(argument: &ChannelsArgument) -> anyhow::Result<Channels> {
    let path = &argument.channels;
    file::read(path).map_err(|error| match &error {
        file::FileError::Read { .. } => anyhow::Error::from(error).context(Hint::new(
            "write the channels to /etc/tuxtape/notice.toml or name their file with --channels; docs/notices.md has examples",
        )),
        file::FileError::TooLarge { .. } | file::FileError::Line { .. } => error.into(),
    })
}

/// Returns the time.
pub fn now() -> UtcSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UtcSeconds::from_unix(since.map_or(0, |since| since.as_secs()))
}

fn send(
    argument: &ChannelsArgument,
    weights: &Weights,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let channels = channels(argument)?;
    let policy = weights.policy()?;
    let store = Store::open_existing(&context.store)
        .context(Hint::new("run `tuxtape scan --notify` first"))?;
    let _lock = match store.lock(&super::scan::note())? {
        Lock::Ours(lock) => lock,
        Lock::Theirs { note } => {
            return super::scan::busy("somebody else scans or sends", &note, context);
        }
    };
    outbox::open(&store, &channels, now())?;
    let tally = outbox::send(context, &store, &channels, &policy)?;
    if context.json {
        output::json(&JsonTally {
            delivered: tally.delivered,
            postponed: tally.postponed,
            given_up: tally.given_up,
            remarks: &tally.remarks,
        })?;
    } else {
        output::text(&format!("{}\n", words(&tally)))?;
    }
    for remark in &tally.remarks {
        output::talk(remark);
    }
    Ok(if tally.postponed + tally.given_up > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes a tally on one line.
pub fn words(tally: &Tally) -> String {
    format!(
        "{} delivered, {} to be tried again, {} given up",
        tally.delivered, tally.postponed, tally.given_up
    )
}

fn test(name: &str, argument: &ChannelsArgument, context: &Context) -> anyhow::Result<ExitCode> {
    let channels = channels(argument)?;
    let channel = channels.find(name).with_context(|| {
        let names: Vec<&str> = channels.0.iter().map(|it| it.name.as_str()).collect();
        format!(
            "{} has no channel {name:?} (it has {})",
            argument.channels.display(),
            names.join(", ")
        )
    })?;
    let letter = Letter::test(name, now());
    let outcome = with_world(context, |world| deliver(channel, &letter, 0, world));
    let (delivered, remarks) = match outcome {
        Outcome::Delivered(remarks) => (true, remarks),
        Outcome::Temporary(why)
        | Outcome::Unreachable(why)
        | Outcome::Permanent(why)
        | Outcome::Gone(why) => (false, vec![why]),
    };
    if context.json {
        output::json(&JsonTest {
            channel: name,
            kind: channel.kind(),
            place: channel.place(),
            delivered,
            remarks: remarks.clone(),
        })?;
    }
    for remark in &remarks {
        output::talk(remark);
    }
    if !delivered {
        output::talk(&format!("{name}: the test did not get through"));
        return Ok(ExitCode::FAILURE);
    }
    output::talk(&format!("{name}: a test went to {}", channel.place()));
    Ok(ExitCode::SUCCESS)
}

/// Lends the real clock, environment and output to `work`.
fn with_world<T>(context: &Context, work: impl FnOnce(&mut World<'_>) -> T) -> T {
    // The answer for programs has the standard output to itself.
    let mut out: Box<dyn Write> = if context.json {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    };
    let mut world = World {
        clock: &now,
        environment: &|name| env::var(name).ok(),
        out: &mut *out,
    };
    work(&mut world)
}
