//! A small record that survives a power cut at any moment: two slots, written in turn.
//!
//! A slot is `TTSLOT01`, sequence (u64), length (u32), CRC-32C (u32) over sequence, length and payload,
//! then the payload; numbers are little-endian. The reader takes the highest valid sequence.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{durable, regular};

const MAGIC: &[u8; 8] = b"TTSLOT01";
const HEADER: usize = 24;

/// Bytes a slot may have, header included.
pub const SLOT_LIMIT: usize = 4096;

/// Why the slots could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// A slot could not be read.
    #[error("could not read {path}", path = path.display())]
    Read {
        /// The slot.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A slot could not be written; the other one is untouched.
    #[error("could not write {path}", path = path.display())]
    Write {
        /// The slot.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record does not fit.
    #[error("record of {length} bytes is too large for {path} (at most {SLOT_LIMIT} with header)", path = path.display())]
    TooLarge {
        /// The slot.
        path: PathBuf,
        /// Bytes of the record.
        length: usize,
    },
}

/// What a look at both slots found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Neither slot exists: the first run.
    Nothing,
    /// Slots exist but none is valid.
    Damaged,
    /// The newest valid record.
    Record {
        /// Counts the writes.
        sequence: u64,
        /// The record.
        payload: Vec<u8>,
        /// Whether the other slot exists and is not valid: a write was cut short.
        torn: bool,
    },
}

/// The two files `NAME.a` and `NAME.b` of one folder.
#[derive(Clone, Debug)]
pub struct Slots {
    a: PathBuf,
    b: PathBuf,
}

impl Slots {
    /// Names the slots; creates nothing.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self {
            a: folder.join(format!("{name}.a")),
            b: folder.join(format!("{name}.b")),
        }
    }

    /// Reads both slots and takes the newest valid record.
    pub fn read(&self) -> Result<Found, SlotError> {
        let a = load(&self.a)?;
        let b = load(&self.b)?;
        let there = a.is_some() || b.is_some();
        let decode_slot = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(decode);
        let (valid_a, valid_b) = (decode_slot(&a), decode_slot(&b));
        let torn = (a.is_some() && valid_a.is_none()) || (b.is_some() && valid_b.is_none());
        let newest = match (valid_a, valid_b) {
            (Some(a), Some(b)) => Some(if a.0 >= b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        Ok(match newest {
            Some((sequence, payload)) => Found::Record {
                sequence,
                payload,
                torn,
            },
            None if there => Found::Damaged,
            None => Found::Nothing,
        })
    }

    /// Writes `payload` over the older or damaged slot and returns when it is on disk.
    pub fn write(&self, payload: &[u8]) -> Result<(), SlotError> {
        let a = load(&self.a)?.as_deref().and_then(decode);
        let b = load(&self.b)?.as_deref().and_then(decode);
        let sequence_of = |slot: &Option<(u64, Vec<u8>)>| slot.as_ref().map_or(0, |slot| slot.0);
        let newest = sequence_of(&a).max(sequence_of(&b));
        // The newest valid record must never be the one overwritten.
        let path = if a.is_some() && sequence_of(&a) == newest {
            &self.b
        } else {
            &self.a
        };
        let Some(bytes) = encode(newest.saturating_add(1), payload) else {
            return Err(SlotError::TooLarge {
                path: path.clone(),
                length: payload.len(),
            });
        };
        let failed = |source| SlotError::Write {
            path: path.clone(),
            source,
        };
        // What has a second name is somebody else's, too.
        let ours = |there: Metadata| there.is_file() && there.nlink() == 1;
        if path.symlink_metadata().is_ok_and(ours) {
            let mut file = regular::open(OpenOptions::new().write(true), path).map_err(failed)?;
            file.write_all(&bytes).map_err(failed)?;
            file.set_len(bytes.len() as u64).map_err(failed)?;
            file.sync_all().map_err(failed)
        } else {
            // A new name must be durable in its folder too.
            durable::write(path, &bytes).map_err(|error| failed(error.source))
        }
    }
}

/// Reads one slot: its sequence and payload, or `None` when it is not valid. Never panics.
pub fn decode(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let sequence = bytes.get(8..16)?;
    let length = bytes.get(16..20)?;
    let crc = u32::from_le_bytes(bytes.get(20..24)?.try_into().ok()?);
    let payload_len = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let payload = bytes.get(HEADER..HEADER.checked_add(payload_len)?)?;
    if bytes.get(..8)? != MAGIC || crc != checksum(sequence, length, payload) {
        return None;
    }
    Some((
        u64::from_le_bytes(sequence.try_into().ok()?),
        payload.to_vec(),
    ))
}

fn encode(sequence: u64, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > SLOT_LIMIT - HEADER {
        return None;
    }
    let sequence = sequence.to_le_bytes();
    let length = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&sequence);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&sequence, &length, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    Some(bytes)
}

fn checksum(sequence: &[u8], length: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(sequence);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, length), payload)
}

fn load(path: &Path) -> Result<Option<Vec<u8>>, SlotError> {
    let failed = |source| SlotError::Read {
        path: path.to_owned(),
        source,
    };
    match regular::read(path, SLOT_LIMIT as u64) {
        // A slot that is too large is a slot that is not valid.
        Ok(bytes) => Ok(Some(bytes.unwrap_or_default())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn record(slots: &Slots) -> Option<Vec<u8>> {
        match slots.read().unwrap() {
            Found::Record { payload, .. } => Some(payload),
            Found::Nothing | Found::Damaged => None,
        }
    }

    #[test]
    fn a_torn_write_leaves_the_record_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path(), "journal");
        assert_eq!(slots.read().unwrap(), Found::Nothing);
        slots.write(b"one").unwrap();
        slots.write(b"two").unwrap();
        let whole = fs::read(&slots.b).unwrap();
        for cut in 0..whole.len() {
            fs::write(&slots.b, &whole[..cut]).unwrap();
            assert_eq!(record(&slots).unwrap(), b"one", "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            fs::write(&slots.b, &flipped).unwrap();
            assert_eq!(record(&slots).unwrap(), b"one", "flipped at {at}");
        }
    }

    #[test]
    fn the_next_write_goes_over_the_torn_slot() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path(), "journal");
        for payload in [&b"one"[..], b"two", b"three"] {
            slots.write(payload).unwrap();
        }
        fs::write(&slots.a, b"torn").unwrap();
        slots.write(b"four").unwrap();
        assert_eq!(decode(&fs::read(&slots.b).unwrap()).unwrap().1, b"two");
        assert_eq!(record(&slots).unwrap(), b"four");
    }

    #[test]
    fn two_bad_slots_are_told_from_a_first_run() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path(), "floor");
        fs::write(&slots.a, b"").unwrap();
        fs::write(&slots.b, b"garbage").unwrap();
        assert_eq!(slots.read().unwrap(), Found::Damaged);
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, b"untouched").unwrap();
        let slots = Slots::new(folder.path(), "floor");
        std::os::unix::fs::symlink(&victim, &slots.a).unwrap();
        assert!(slots.read().is_err());
        assert!(slots.write(b"x").is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }

    #[test]
    fn a_planted_second_name_of_a_file_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, b"untouched").unwrap();
        let slots = Slots::new(folder.path(), "floor");
        fs::hard_link(&victim, &slots.a).unwrap();
        slots.write(b"one").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(record(&slots).unwrap(), b"one");
    }

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path(), "journal");
        slots.write(b"one").unwrap();
        assert!(slots.write(&[0; SLOT_LIMIT]).is_err());
        assert_eq!(record(&slots).unwrap(), b"one");
    }
}
