//! What people hear of kernels that are watched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::{BuildId, KernelRelease};
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::Notice;
use tuxtape_core::notice::kernels::{self, Change};
use tuxtape_core::profile::{KernelProfile, ProfileId};
use tuxtape_store::Store;
use tuxtape_sys::{durable, regular};

use crate::commands::gauge;
use crate::context::Context;
use crate::output;
use crate::remembered;

/// The one format written and read.
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes.
const LIMIT: u64 = 16 << 20;

/// The verdicts of the last look, kept beside the profile as `verdicts.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u32,
    release: KernelRelease,
    build_id: Option<BuildId>,
    /// By CVE, in one word.
    verdicts: BTreeMap<String, String>,
}

/// Verdicts that changed, and those of now, to be kept once people were told.
pub(super) struct Verdicts {
    path: PathBuf,
    text: Vec<u8>,
    pub(super) notice: Option<Notice>,
}

impl Verdicts {
    /// Judges every record and compares with the last look. The first look tells nothing: it is what
    /// later ones are compared with.
    pub(super) fn of(
        context: &Context,
        store: &Store,
        profile: &KernelProfile,
        now: UtcSeconds,
    ) -> anyhow::Result<Self> {
        let id = &profile.id;
        let history = remembered::history(context, profile);
        let judgements = gauge::judge_all(store, profile, history.at_hand())?;
        let verdicts: BTreeMap<CveId, &str> = judgements
            .iter()
            .map(|judgement| (judgement.cve, judgement.verdict.as_str()))
            .collect();
        let path = context
            .home
            .join("kernels")
            .join(id.release.as_str())
            .join("verdicts.json");
        let changes = before(&path, id)?.map(|before| changes(&before, &verdicts));
        let wire = Wire {
            format: FORMAT,
            release: id.release.clone(),
            build_id: id.build_id.clone(),
            verdicts: verdicts
                .iter()
                .map(|(cve, verdict)| (cve.to_string(), (*verdict).to_owned()))
                .collect(),
        };
        let notice = changes.and_then(|changes| {
            let digest = digest(&changes);
            kernels::verdicts(&id.release, &changes, &digest, now)
        });
        Ok(Self {
            path,
            text: serde_json::to_vec(&wire).context("could not write verdicts")?,
            notice,
        })
    }

    /// Keeps the verdicts of now. Told before and kept after: a crash between the two tells the same key
    /// again, which the outbox knows.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        durable::write(&self.path, &self.text)?;
        Ok(())
    }
}

/// Reads the verdicts of the last look; `None` where there was none at this build.
fn before(path: &Path, id: &ProfileId) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let text = match regular::read(path, LIMIT) {
        Ok(Some(text)) => text,
        Ok(None) => anyhow::bail!("{} is too long", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("could not read {}", path.display()));
        }
    };
    match serde_json::from_slice::<Wire>(&text) {
        Ok(wire) if wire.format == FORMAT && wire.release == id.release => {
            Ok((wire.build_id == id.build_id).then_some(wire.verdicts))
        }
        Ok(_) | Err(_) => {
            output::talk(&format!(
                "warning: {} is not what was written there; changes since the last look are not told",
                path.display()
            ));
            Ok(None)
        }
    }
}

/// Lists what is another than before. A record that came and is not in the kernel is no news.
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<CveId, &str>) -> Vec<Change> {
    now.iter()
        .filter_map(|(cve, verdict)| {
            let before = before.get(&cve.to_string());
            let is_news = match before {
                Some(before) => before != verdict,
                None => *verdict != "not-affected",
            };
            is_news.then(|| Change {
                cve: *cve,
                before: before.cloned(),
                now: (*verdict).to_owned(),
            })
        })
        .collect()
}

fn digest(changes: &[Change]) -> String {
    let mut all = Sha256::new();
    for Change { cve, before, now } in changes {
        let before = before.as_deref().unwrap_or_default();
        all.update(format!("{cve} {before} {now}\n"));
    }
    let digits = hex::encode(all.finalize());
    digits.chars().take(24).collect()
}
