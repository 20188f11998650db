//! Sending what is due, and telling after each attempt how it went.

use std::collections::BTreeMap;
use std::io::Write;

use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::Notice;
use tuxtape_core::notice::retry::{Jitter, next_try};

use crate::channel::{Carrier, Channel, Channels};
use crate::letter::Letter;
use crate::mail::smtp::{self, Patience};
use crate::secret::{Secret, SecretSource};
use crate::{lines, webhook};

/// More mails than this to one channel in one run are sent as one that lists them.
const DIGEST_OVER: usize = 20;
/// Most notices listed in one mail.
const DIGEST_MOST: usize = 500;
/// After this many failures in a row a channel is left alone for the rest of the run.
const FAILURES_IN_A_ROW: usize = 3;
/// After this many failed attempts a mail goes to those recipients who can have it.
const PATIENT_TRIES: u32 = 3;

/// A notice that is to go to a channel now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The notice.
    pub notice: Notice,
    /// Name of the channel.
    pub channel: String,
    /// Attempts that failed so far.
    pub tries: u32,
}

/// What one attempt to deliver came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it; with what people should know, such as an address that was refused.
    Delivered(Vec<String>),
    /// Not now; another notice may get through.
    Temporary(String),
    /// Not now, and nothing else gets through either.
    Unreachable(String),
    /// Never.
    Permanent(String),
    /// The receiver wants nothing any more.
    Gone(String),
}

/// What became of one notice in one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Name of the channel.
    pub channel: String,
    /// The notice's key.
    pub key: String,
    /// How it went.
    pub attempt: Attempt,
}

/// How an attempt went, for the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was taken.
    Delivered,
    /// It was not.
    Failed {
        /// Why, without secrets.
        why: String,
        /// When to try again; `None` for never.
        next: Option<UtcSeconds>,
    },
}

/// What the sender uses of the world.
pub struct World<'a> {
    /// The time.
    pub clock: &'a dyn Fn() -> UtcSeconds,
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Where lines go.
    pub out: &'a mut dyn Write,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Notices delivered, per channel they went to.
    pub delivered: usize,
    /// Notices to be tried again.
    pub postponed: usize,
    /// Notices given up.
    pub given_up: usize,
    /// What people should know, one line each.
    pub remarks: Vec<String>,
}

/// Sends what is due, and calls `record` after each attempt, before the next one.
///
/// A crash between the two sends a notice again: with the same key, and for mail the same
/// `Message-ID`. An error of `record` ends the run. Blocks on the network; every attempt has a deadline.
pub fn send<E>(
    channels: &Channels,
    due: Vec<Due>,
    world: &mut World<'_>,
    record: &mut dyn FnMut(&[Sent]) -> Result<(), E>,
) -> Result<Tally, E> {
    let mut by_channel: BTreeMap<String, Vec<Due>> = BTreeMap::new();
    for it in due {
        by_channel.entry(it.channel.clone()).or_default().push(it);
    }
    let mut tally = Tally::default();
    for (name, due) in by_channel {
        let Some(channel) = channels.find(&name) else {
            // Kept: another file of channels, or the next edition of this one, may know it.
            let why = format!(
                "channel {name:?} is not in the file; {} wait for it",
                due.len()
            );
            tally.postponed += due.len();
            tally.remarks.push(why);
            continue;
        };
        through(channel, due, world, record, &mut tally)?;
    }
    Ok(tally)
}

fn through<E>(
    channel: &Channel,
    due: Vec<Due>,
    world: &mut World<'_>,
    record: &mut dyn FnMut(&[Sent]) -> Result<(), E>,
    tally: &mut Tally,
) -> Result<(), E> {
    let mut failures = 0;
    let mut pieces = pieces(channel, due).into_iter();
    for piece in pieces.by_ref() {
        let letter = match piece.as_slice() {
            [one] => Letter::of(&one.notice),
            many => Letter::digest(&many.iter().map(|it| &it.notice).collect::<Vec<_>>()),
        };
        let tries = piece.iter().map(|it| it.tries).min().unwrap_or(0);
        let outcome = deliver(channel, &letter, tries, world);
        let sent = take_down(channel, &piece, &outcome, (world.clock)(), tally);
        record(&sent)?;
        failures = match &outcome {
            Outcome::Delivered(_) | Outcome::Permanent(_) => 0,
            Outcome::Temporary(_) => failures + 1,
            Outcome::Unreachable(_) | Outcome::Gone(_) => FAILURES_IN_A_ROW,
        };
        if failures >= FAILURES_IN_A_ROW {
            break;
        }
    }
    let left: usize = pieces.map(|piece| piece.len()).sum();
    if left > 0 {
        let why = format!("{}: {left} more wait for the next run", channel.name);
        tally.postponed += left;
        tally.remarks.push(why);
    }
    Ok(())
}

/// Splits what is due into what goes in one piece.
fn pieces(channel: &Channel, due: Vec<Due>) -> Vec<Vec<Due>> {
    match channel.carrier {
        Carrier::Mail(_) if due.len() > DIGEST_OVER => {
            due.chunks(DIGEST_MOST).map(<[Due]>::to_vec).collect()
        }
        // Programs do not mind many.
        Carrier::Mail(_) | Carrier::Webhook(_) | Carrier::Stdout(_) => {
            due.into_iter().map(|it| vec![it]).collect()
        }
    }
}

fn take_down(
    channel: &Channel,
    piece: &[Due],
    outcome: &Outcome,
    now: UtcSeconds,
    tally: &mut Tally,
) -> Vec<Sent> {
    let name = &channel.name;
    let sent = piece
        .iter()
        .map(|due| {
            let key = due.notice.key.clone();
            let tries = due.tries.saturating_add(1);
            let attempt = match outcome {
                Outcome::Delivered(_) => Attempt::Delivered,
                Outcome::Temporary(why) | Outcome::Unreachable(why) => Attempt::Failed {
                    why: why.clone(),
                    next: next_try(tries, now, Jitter::of(&key, name, tries)),
                },
                Outcome::Permanent(why) | Outcome::Gone(why) => Attempt::Failed {
                    why: why.clone(),
                    next: None,
                },
            };
            match &attempt {
                Attempt::Delivered => tally.delivered += 1,
                Attempt::Failed { next: Some(_), .. } => tally.postponed += 1,
                Attempt::Failed { next: None, .. } => {
                    tally.given_up += 1;
                    tally.remarks.push(format!("{name}: gave up on {key}"));
                }
            }
            Sent {
                channel: name.clone(),
                key,
                attempt,
            }
        })
        .collect();
    match outcome {
        Outcome::Delivered(remarks) => {
            let remarks = remarks.iter().map(|why| format!("{name}: {why}"));
            tally.remarks.extend(remarks);
        }
        Outcome::Temporary(why)
        | Outcome::Unreachable(why)
        | Outcome::Permanent(why)
        | Outcome::Gone(why) => tally.remarks.push(format!("{name}: {why}")),
    }
    sent
}

/// Sends one letter through one channel. `tries` is how often that failed before. Blocks, at most two
/// minutes.
pub fn deliver(channel: &Channel, letter: &Letter, tries: u32, world: &mut World<'_>) -> Outcome {
    match &channel.carrier {
        Carrier::Mail(mail) => {
            let source = mail.login.as_ref().map(|(_, source)| source);
            match load(source, world) {
                Ok(password) => {
                    let patience = if tries < PATIENT_TRIES {
                        Patience::WaitForAll
                    } else {
                        Patience::TakeWhoIsThere
                    };
                    smtp::send(mail, password, letter, patience)
                }
                Err(outcome) => outcome,
            }
        }
        Carrier::Webhook(webhook) => match load(webhook.secret.as_ref(), world) {
            Ok(secret) => webhook::post(webhook, secret.as_ref(), letter, (world.clock)()),
            Err(outcome) => outcome,
        },
        Carrier::Stdout(form) => match lines::write(world.out, *form, letter) {
            Ok(()) => Outcome::Delivered(Vec::new()),
            Err(error) => Outcome::Unreachable(format!("standard output: {error}")),
        },
    }
}

/// Fetches a secret; one that cannot be had is for people to repair.
fn load(source: Option<&SecretSource>, world: &World<'_>) -> Result<Option<Secret>, Outcome> {
    source
        .map(|source| source.load(world.environment))
        .transpose()
        .map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => Outcome::Unreachable(format!("{error}: {cause}")),
            None => Outcome::Unreachable(error.to_string()),
        })
}

#[cfg(test)]
mod tests;
