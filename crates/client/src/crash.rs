//! How the last boot ended, as far as anything was kept of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tuxtape_sys::kernel::crash::CrashRecord;

use crate::host::Host;
use crate::load::{CrashJudge, CrashVerdict, Remarks, note};
use crate::state::{State, StateError};

/// Digests remembered: more records than a backend holds.
const REMEMBERED: usize = 2048;

/// Records of crashes that were judged before, by their SHA-256. A record stays after it was judged, in
/// pstore or where systemd moved it, and has no boot id: only one that is not here can be of the last boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    format: u32,
    records: BTreeSet<String>,
}

impl Judged {
    /// Reads what was written by [`Judged::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(bytes).ok()?;
        (read.format == 1).then_some(read)
    }

    /// Writes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers can be written")
    }
}

/// Crashes that nobody judged yet.
#[derive(Debug)]
pub struct Crashes {
    fresh: Vec<u8>,
    all: BTreeSet<String>,
    known: Judged,
}

impl Crashes {
    /// Looks for records that were not judged before.
    pub fn look(host: &dyn Host, state: &State, remarks: &mut Remarks) -> Self {
        let kept = host.crash_records();
        for path in &kept.unread {
            note(remarks, format!("{} was not read", path.display()));
        }
        let known = state.judged_crashes();
        let mut fresh = Vec::new();
        let mut all = BTreeSet::new();
        for record in &kept.records {
            let digest = digest(record);
            if !known.records.contains(&digest) {
                fresh.extend_from_slice(&record.bytes);
                if !fresh.ends_with(b"\n") {
                    fresh.push(b'\n');
                }
            }
            all.insert(digest);
        }
        Self { fresh, all, known }
    }

    /// Says what the new records say about a module.
    pub fn verdict(&self, judge: Option<CrashJudge>, module: &str) -> CrashVerdict {
        match judge {
            Some(judge) if !self.fresh.is_empty() => judge(&self.fresh, module),
            Some(_) | None => CrashVerdict::Nothing,
        }
    }

    /// Remembers all records as judged, once what follows from them is durable.
    pub fn judged(self, state: &State) -> Result<(), StateError> {
        // Records that are gone are forgotten, but for ones that may only be on their way to the other
        // folder.
        let mut records = self.all;
        for digest in &self.known.records {
            if records.len() < REMEMBERED {
                records.insert(digest.clone());
            }
        }
        if records == self.known.records {
            return Ok(());
        }
        state.set_judged_crashes(&Judged { format: 1, records })
    }
}

fn digest(record: &CrashRecord) -> String {
    hex::encode(Sha256::digest(&record.bytes))
}
