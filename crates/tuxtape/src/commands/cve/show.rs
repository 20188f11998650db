//! `tuxtape cve show`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tuxtape_core::cve::CveId;
use tuxtape_core::span::Landing;
use tuxtape_store::Stored;

use crate::context::Context;
use crate::output;
use crate::remembered;

/// Arguments of the command.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The CVE, such as CVE-2024-14027
    pub cve: CveId,
}

#[derive(Serialize)]
struct Json<'a> {
    cve: String,
    state: &'a str,
    title: &'a str,
    description: &'a str,
    files: &'a [String],
    cvss: Option<JsonCvss<'a>>,
    spans: Vec<JsonSpan>,
    inconsistent: Vec<String>,
    rejection: Option<&'a str>,
    /// Why a newer edition could not be read.
    stale: Option<&'a str>,
    /// The feed commit whose scan brought this edition.
    feed_commit: String,
}

#[derive(Serialize)]
struct JsonCvss<'a> {
    score: String,
    vector: &'a str,
}

#[derive(Serialize)]
struct JsonSpan {
    introduced: Option<JsonLanding>,
    fixed: Option<JsonLanding>,
}

#[derive(Serialize)]
struct JsonLanding {
    version: String,
    commit: String,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let (store, feed) = remembered::feed(context)?;
    let id = arguments.cve;
    let Some(stored) = store.cve(id)? else {
        let when = remembered::utc(feed.time);
        return Err(match store.skipped()?.remove(&id) {
            Some(why) => {
                anyhow::anyhow!("the record of {id} in the feed of {when} could not be read: {why}")
            }
            None => anyhow::anyhow!("the feed of {when} has no {id}"),
        });
    };
    if context.json {
        output::json(&json(&stored))?;
    } else {
        output::text(&text(&stored))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json(stored: &Stored) -> Json<'_> {
    let Stored {
        cve,
        commit,
        stale,
        dates: _,
    } = stored;
    let landing = |landing: Option<Landing>| {
        landing.map(|landing| JsonLanding {
            version: landing.version.to_string(),
            commit: landing.commit.to_string(),
        })
    };
    Json {
        cve: cve.id.to_string(),
        state: cve.state.as_str(),
        title: &cve.title,
        description: &cve.description,
        files: &cve.files,
        cvss: cve.cvss.as_ref().map(|cvss| JsonCvss {
            score: cvss.score.to_string(),
            vector: &cvss.vector,
        }),
        spans: cve
            .spans
            .iter()
            .map(|span| JsonSpan {
                introduced: landing(span.introduced),
                fixed: landing(span.fixed),
            })
            .collect(),
        inconsistent: inconsistent(stored),
        rejection: cve.rejection.as_deref(),
        stale: stale.as_deref(),
        feed_commit: commit.to_string(),
    }
}

fn inconsistent(stored: &Stored) -> Vec<String> {
    let disputes = stored.cve.disputes.iter();
    let disputes =
        disputes.map(|version| format!("from {version} on the .dyad and the .json file disagree"));
    stored.cve.doubts.iter().cloned().chain(disputes).collect()
}

fn text(stored: &Stored) -> String {
    let Stored {
        cve,
        commit,
        stale,
        dates: _,
    } = stored;
    let mut text = format!("{}  {}\n{}\n\n", cve.id, cve.state, cve.title);
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:13} {value}").expect("a String takes everything");
    };
    if let Some(cvss) = &cve.cvss {
        line("CVSS", &format!("{} {}", cvss.score, cvss.vector));
    }
    for file in &cve.files {
        line("file", file);
    }
    for span in &cve.spans {
        let short = |landing: Option<Landing>| {
            landing.map_or_else(String::new, |landing| landing.commit.short())
        };
        let (bug, fix) = (short(span.introduced), short(span.fixed));
        line("vulnerable", &format!("{span}  ({bug}..{fix})"));
    }
    for why in inconsistent(stored) {
        line("inconsistent", &why);
    }
    if let Some(why) = stale {
        line(
            "stale",
            &format!("the newest edition could not be read: {why}"),
        );
    }
    line("feed", &commit.short());
    for part in cve.rejection.iter().chain([&cve.description]) {
        writeln!(text, "\n{}", part.trim_end()).expect("a String takes everything");
    }
    text
}
