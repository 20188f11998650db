//! What the outbox looks like.

use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_store::Store;
use tuxtape_store::outbox::{Delivery, DeliveryState};

use super::outbox::NOT_WANTED;
use crate::context::Context;
use crate::output::{self, Hint};

#[derive(Serialize)]
struct Json<'a> {
    key: &'a str,
    kind: &'a str,
    at: String,
    cve: Option<String>,
    kernel: Option<&'a str>,
    subject: &'a str,
    body: &'a str,
    channel: &'a str,
    state: &'a str,
    when: String,
    tries: u64,
    why: Option<&'a str>,
}

/// Lists the newest notices, one line per channel.
pub(super) fn list(limit: u64, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open_existing(&context.store)
        .context(Hint::new("run `tuxtape scan --notify` first"))?;
    let deliveries = store.outbox(limit)?;
    if context.json {
        for delivery in &deliveries {
            output::json(&json(delivery))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if deliveries.is_empty() {
        output::talk("no notice was posted since the first channel was known");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["AT", "CHANNEL", "STATE", "TRIES", "NOTICE"]);
    for delivery in &deliveries {
        let (state, when) = state(delivery);
        let waits_again =
            matches!(delivery.state, DeliveryState::Waiting { .. }) && delivery.tries > 0;
        let state = if waits_again {
            format!("{state} until {when}")
        } else {
            state.to_owned()
        };
        table.add_row([
            delivery.notice.at.to_string(),
            delivery.channel.clone(),
            state,
            delivery.tries.to_string(),
            format!("{}{}", delivery.notice.subject, trouble(delivery)),
        ]);
    }
    output::text(&format!("{table}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Says on a line of its own why a notice has not come through.
fn trouble(delivery: &Delivery) -> String {
    match (&delivery.state, &delivery.why) {
        (DeliveryState::Waiting { .. } | DeliveryState::GaveUp { .. }, Some(why))
            if why != NOT_WANTED =>
        {
            format!("\n{why}")
        }
        (
            DeliveryState::Waiting { .. }
            | DeliveryState::GaveUp { .. }
            | DeliveryState::Delivered { .. },
            _,
        ) => String::new(),
    }
}

fn state(delivery: &Delivery) -> (&'static str, String) {
    match delivery.state {
        DeliveryState::Waiting { next } => ("waiting", next.to_string()),
        DeliveryState::Delivered { at } => ("delivered", at.to_string()),
        DeliveryState::GaveUp { at } if delivery.why.as_deref() == Some(NOT_WANTED) => {
            ("not-wanted", at.to_string())
        }
        DeliveryState::GaveUp { at } => ("gave-up", at.to_string()),
    }
}

fn json(delivery: &Delivery) -> Json<'_> {
    let (state, when) = state(delivery);
    let notice = &delivery.notice;
    Json {
        key: &notice.key,
        kind: notice.kind.as_str(),
        at: notice.at.to_string(),
        cve: notice.cve.map(|cve| cve.to_string()),
        kernel: notice.kernel.as_ref().map(KernelRelease::as_str),
        subject: &notice.subject,
        body: &notice.body,
        channel: &delivery.channel,
        state,
        when,
        tries: delivery.tries,
        why: delivery.why.as_deref(),
    }
}
