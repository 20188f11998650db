//! The answer from nothing but a clone: the `.dyad` files of its newest commit.

use std::collections::BTreeMap;
use std::time::Duration;

use tuxtape_core::cve::{CveId, State};
use tuxtape_core::dyad;
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::Span;
use tuxtape_store::Lines;
use tuxtape_store::tree::{FOLDERS, records};
use tuxtape_sys::git::{Blob, BranchName};
use tuxtape_sys::url;

use super::Known;
use crate::commands::scan;
use crate::context::Context;
use crate::output::Hint;

/// Longest reading them may take.
const READ: Duration = Duration::from_secs(120);

/// Hands the spans of every published record of `feed`, a folder or a bundle, to `take`.
pub(super) fn read(
    feed: &str,
    context: &Context,
    take: &mut dyn FnMut(&Lines),
) -> anyhow::Result<Known> {
    let hint = "give a folder with a clone of the kernel's CVE feed, or a bundle of it";
    read_from(feed, context, take).map_err(|error| error.context(Hint::new(hint)))
}

fn read_from(feed: &str, context: &Context, take: &mut dyn FnMut(&Lines)) -> anyhow::Result<Known> {
    let branch = BranchName::new(scan::BRANCH)?;
    let repository = scan::repository(feed, &branch, None, &context.cache)?;
    let tip = repository.tip(&branch)?;
    let entries = repository.files(tip.id, &FOLDERS.map(|(folder, _)| folder))?;
    let mut skipped = BTreeMap::new();
    let mut wanted: Vec<(CveId, GitId)> = Vec::new();
    for (id, found) in records(&entries) {
        match found {
            Ok(edition) => match edition.state {
                State::Published => wanted.extend(edition.dyad.map(|dyad| (id, dyad))),
                State::Rejected => {}
            },
            Err(why) => {
                skipped.insert(id, why);
            }
        }
    }
    if wanted.is_empty() {
        anyhow::bail!("{} holds no records", url::shown(feed));
    }
    let names = wanted.iter().map(|(_, dyad)| *dyad).collect();
    let limit = u64::try_from(dyad::LARGEST).unwrap_or(u64::MAX);
    let mut blobs = repository.blobs(names, limit, READ)?;
    let mut bytes = Vec::new();
    for (id, _) in wanted {
        let spans = match blobs.next(&mut bytes)? {
            Blob::Read => dyad::parse(&bytes).map_err(|error| error.to_string()),
            Blob::TooLarge { bytes } => Err(format!("{bytes} bytes")),
            Blob::Missing => Err("missing".to_owned()),
        };
        match spans {
            Ok(spans) => take(&Lines {
                id,
                doubtful: spans.iter().any(Span::is_backwards),
                disputes: Vec::new(),
                spans,
            }),
            Err(why) => {
                skipped.insert(id, format!(".dyad: {why}"));
            }
        }
    }
    Ok(Known {
        skipped,
        commit: tip.id,
        time: tip.time,
    })
}
