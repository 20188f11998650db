//! What the client is about to do to the kernel, and what it did.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{BuildId, PatchLevel};
use tuxtape_sys::slots::{Found, SlotError, Slots};

/// Where the client stands with one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing is under way.
    Idle,
    /// About to hand the module to the kernel.
    Armed,
    /// The kernel has it; tasks move over.
    Transition,
    /// In force and watched.
    Probation,
    /// On its way out.
    Revert,
    /// It neither came into force nor went; a person or a reboot is needed.
    Stuck,
}

/// A module as the journal names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournaledLevel {
    /// Build-id of the vmlinux it is for.
    pub kernel: BuildId,
    /// Its level.
    pub level: PatchLevel,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Its name in the kernel.
    pub module: String,
    /// Its own build-id.
    pub module_build_id: BuildId,
}

/// An attempt to load or unload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// What is loaded or unloaded.
    pub level: JournaledLevel,
    /// In which boot.
    pub boot_id: String,
    /// Kernel log sequence number from which on complaints may be about it.
    pub log_from: u64,
    /// `oops_count` before, where the kernel counts.
    pub oopses: Option<u64>,
    /// Seconds it was watched without complaint.
    pub watched: u64,
    /// Whether it was loaded early in the boot.
    #[serde(default)]
    pub early: bool,
    /// Why it is being taken out; none while it is going in or when a person asked.
    pub because: Option<String>,
}

/// A level that is left alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rest {
    /// SHA-256 of its file.
    pub sha256: String,
    /// Until when.
    pub until: UtcSeconds,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    format: u32,
    /// Where the client stands.
    pub phase: Phase,
    /// With what.
    pub attempt: Option<Attempt>,
    /// The level that passed its probation last.
    pub committed: Option<JournaledLevel>,
    /// The one before.
    pub previous: Option<JournaledLevel>,
    /// Boots that ended while a module, by digest, was being loaded or watched.
    pub strikes: BTreeMap<String, u32>,
    /// Transitions of a module, by digest, that did not end in time: busy tasks, no crash.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stalls: BTreeMap<String, u32>,
    /// Boots in a row that ended in a repeated probation of a module, by digest, after its first minute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cuts: BTreeMap<String, u32>,
    /// Digest of the committed level with which a boot got to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<String>,
    /// Digest of the level that ended a boot when it was loaded early, and is not loaded so again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_early: Option<String>,
    /// After a crash in its probation that does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// Whether a person rolled back, so that nothing is loaded until they say so.
    pub pinned: bool,
}

/// Digests whose strikes, and whose stalls, are kept; more would not fit the slot.
const COUNT_LIMIT: usize = 8;

impl Default for Journal {
    fn default() -> Self {
        Self {
            format: 1,
            phase: Phase::Idle,
            attempt: None,
            committed: None,
            previous: None,
            strikes: BTreeMap::new(),
            stalls: BTreeMap::new(),
            cuts: BTreeMap::new(),
            proven: None,
            never_early: None,
            rest: None,
            pinned: false,
        }
    }
}

impl Journal {
    /// Reads a journal; `None` when the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let journal: Self = serde_json::from_slice(bytes).ok()?;
        (journal.format == 1).then_some(journal)
    }

    /// Tells whether a level is the committed one, and a boot got to its end with it.
    pub fn is_proven(&self, level: &JournaledLevel) -> bool {
        self.committed.as_ref() == Some(level) && self.proven.as_ref() == Some(&level.sha256)
    }

    /// Adds a strike against a module and returns how many it has.
    pub fn strike(&mut self, sha256: &str) -> u32 {
        count(&mut self.strikes, sha256)
    }

    /// Counts a boot that ended in a repeated probation and returns how many did in a row.
    pub fn cut(&mut self, sha256: &str) -> u32 {
        count(&mut self.cuts, sha256)
    }

    /// Counts a stalled transition of a module and returns how many it had.
    pub fn stall(&mut self, sha256: &str) -> u32 {
        count(&mut self.stalls, sha256)
    }
}

fn count(counts: &mut BTreeMap<String, u32>, sha256: &str) -> u32 {
    let counted = counts.entry(sha256.to_owned()).or_default();
    *counted = counted.saturating_add(1);
    let counted = *counted;
    while counts.len() > COUNT_LIMIT {
        let other = counts.keys().find(|key| *key != sha256).cloned();
        match other {
            Some(other) => counts.remove(&other),
            None => break,
        };
    }
    counted
}

/// The journal on disk.
#[derive(Debug)]
pub struct JournalFile {
    slots: Slots,
    /// What it says.
    pub journal: Journal,
    /// Whether neither slot was readable though there were some.
    pub damaged: bool,
}

impl JournalFile {
    /// Reads the journal in `state`. With both slots damaged nothing is known to be committed, and
    /// what is quarantined stays so. A rollback or strikes may be what was lost: the machine counts
    /// as pinned.
    pub fn open(state: &Path) -> Result<Self, SlotError> {
        let slots = Slots::new(state, "journal");
        let lost = || Journal {
            pinned: true,
            ..Journal::default()
        };
        let (journal, damaged) = match slots.read()? {
            Found::Nothing => (Journal::default(), false),
            Found::Damaged => (lost(), true),
            Found::Record { payload, .. } => match Journal::from_bytes(&payload) {
                Some(journal) => (journal, false),
                None => (lost(), true),
            },
        };
        Ok(Self {
            slots,
            journal,
            damaged,
        })
    }

    /// Changes the journal and returns once the change is on disk; on failure nothing has changed.
    pub fn record(&mut self, change: impl FnOnce(&mut Journal)) -> Result<(), SlotError> {
        let mut next = self.journal.clone();
        change(&mut next);
        let bytes = serde_json::to_vec(&next).expect("strings and numbers can be written");
        self.slots.write(&bytes)?;
        self.journal = next;
        Ok(())
    }
}

/// Reads anything as a slot and as a journal; for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    Journal::from_bytes(bytes);
    if let Some((_, payload)) = tuxtape_sys::slots::decode(bytes) {
        Journal::from_bytes(&payload);
    }
}

#[cfg(test)]
mod tests {
    use tuxtape_sys::slots::SLOT_LIMIT;

    use super::*;

    fn level() -> JournaledLevel {
        JournaledLevel {
            kernel: "2f".repeat(32).parse().unwrap(),
            level: PatchLevel(u32::MAX),
            sha256: "ab".repeat(32),
            module: "t".repeat(55),
            module_build_id: "2f".repeat(32).parse().unwrap(),
        }
    }

    #[test]
    fn the_largest_journal_fits_its_slot() {
        let mut journal = Journal {
            phase: Phase::Transition,
            attempt: Some(Attempt {
                level: level(),
                boot_id: "b".repeat(64),
                log_from: u64::MAX,
                oopses: Some(u64::MAX),
                watched: u64::MAX,
                early: true,
                because: Some("x".repeat(200)),
            }),
            committed: Some(level()),
            previous: Some(level()),
            proven: Some("ab".repeat(32)),
            never_early: Some("ab".repeat(32)),
            rest: Some(Rest {
                sha256: "ab".repeat(32),
                until: UtcSeconds::from_unix(4_000_000_000),
            }),
            ..Journal::default()
        };
        for n in 0..100 {
            journal.strike(&format!("{n:064}"));
            journal.stall(&format!("{n:064}"));
            journal.cut(&format!("{n:064}"));
        }
        let bytes = serde_json::to_vec(&journal).unwrap();
        assert!(bytes.len() < SLOT_LIMIT - 24, "{}", bytes.len());
        assert_eq!(Journal::from_bytes(&bytes), Some(journal));
    }

    #[test]
    fn a_torn_slot_leaves_the_journal_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = JournalFile::open(folder.path()).unwrap();
        file.record(|journal| journal.pinned = true).unwrap();
        file.record(|journal| journal.phase = Phase::Armed).unwrap();
        let slot = folder.path().join("journal.b");
        let whole = std::fs::read(&slot).unwrap();
        std::fs::write(&slot, &whole[..whole.len() / 2]).unwrap();
        let again = JournalFile::open(folder.path()).unwrap();
        assert_eq!(again.journal.phase, Phase::Idle);
        assert!(again.journal.pinned && !again.damaged);
    }
}
