//! `tuxtape cve decisions`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tuxtape_core::cve::CveId;
use tuxtape_core::decision::Decision;
use tuxtape_core::instant::UtcSeconds;

use super::json;
use crate::context::Context;
use crate::output;
use crate::remembered;
use crate::remembered::shelf::day;
use crate::screen::pad;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only about this CVE
    cve: Option<CveId>,
    /// Also those that expired or were replaced
    #[arg(long)]
    all: bool,
}

/// Whether a decision holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It holds.
    Holds,
    /// Its time has run out.
    Expired,
    /// A later one about the same CVE and kernel took its place.
    Replaced,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
        }
    }
}

/// Tells whether `decision`, one of `history`, holds at `now`.
pub(super) fn state(decision: &Decision, history: &[Decision], now: UtcSeconds) -> State {
    let last = history
        .iter()
        .rfind(|it| it.cve == decision.cve && it.kernel == decision.kernel);
    if last.is_some_and(|last| !std::ptr::eq(last, decision)) {
        State::Replaced
    } else if decision.is_expired(now) {
        State::Expired
    } else {
        State::Holds
    }
}

#[derive(Serialize)]
struct Json<'a> {
    cve: String,
    #[serde(flatten)]
    decision: json::Decision<'a>,
    state: &'static str,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let (store, _) = remembered::feed(context)?;
    let history = match arguments.cve {
        Some(cve) => store.decisions_of(cve)?,
        None => store.decisions()?,
    };
    let now = remembered::now();
    let shown: Vec<(&Decision, State)> = history
        .iter()
        .map(|decision| (decision, state(decision, &history, now)))
        .filter(|(_, state)| match state {
            State::Holds => true,
            State::Expired | State::Replaced => arguments.all,
        })
        .collect();
    if context.json {
        for (decision, state) in shown {
            output::json(&Json {
                cve: decision.cve.to_string(),
                decision: json::decision(decision),
                state: state.as_str(),
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (decision, state) in &shown {
        text.push_str(&line(decision, *state));
    }
    output::text(&text)?;
    let hidden = history.len() - shown.len();
    if hidden > 0 {
        output::talk(&format!("{hidden} expired or replaced (--all)"));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(decision: &Decision, state: State) -> String {
    let kernel = decision
        .kernel
        .as_ref()
        .map_or_else(|| "all kernels".to_owned(), ToString::to_string);
    let until = decision.until.map_or_else(
        || "for good".to_owned(),
        |until| format!("until {}", day(until)),
    );
    format!(
        "{}  {}  {}  {}  {}  {}, by {}: {}\n",
        pad(&decision.cve.to_string(), 14),
        pad(state.as_str(), 8),
        pad(decision.choice.as_str(), 6),
        pad(&until, 16),
        kernel,
        day(decision.at),
        decision.who,
        decision.why
    )
}
