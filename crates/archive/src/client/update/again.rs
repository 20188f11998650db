//! Asking for the timestamp without having it sent again (RFC 9110, 13.1.2).
//!
//! The tag is the server's word, signed by nobody. So it is kept with the digest of the bytes it came with,
//! and "unchanged" only means that those bytes count as if they had been sent: signature, version and expiry
//! are judged as ever. A server that always says "unchanged" freezes a client no longer than one that
//! always sends the same file. The tag is forgotten with the timestamp it belongs to, so it
//! marks a machine no longer than that.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::{Store, StoreError, Stored};
use super::UpdateError;
use crate::names::cap;
use crate::source::{Again, Source, Tag};

/// Bytes the record may have.
const CAP: u64 = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    /// SHA-256 of the timestamp's bytes, in hex.
    sha256: String,
    tag: String,
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Fetches the timestamp, or takes the stored one where the server says that it is the same. Returns
/// also what the server calls it.
pub(super) fn timestamp(
    store: &dyn Store,
    source: &dyn Source,
) -> Result<(Vec<u8>, Option<Tag>), UpdateError> {
    let file = "timestamp.json";
    let known = known(store);
    let tag = known.as_ref().map(|(tag, _)| tag);
    let answer = source
        .metadata_again(file, cap::TIMESTAMP, tag)
        .map_err(|source| UpdateError::Source {
            file: file.to_owned(),
            source,
        })?;
    match (answer, known) {
        (Again::Bytes(bytes, tag), _) => Ok((bytes, tag)),
        (Again::Same, Some((tag, bytes))) => Ok((bytes, Some(tag))),
        (Again::Same, None) | (Again::Absent, _) => Err(UpdateError::Missing {
            file: file.to_owned(),
        }),
    }
}

/// The tag of the stored timestamp, and its bytes; `None` where anything does not fit.
fn known(store: &dyn Store) -> Option<(Tag, Vec<u8>)> {
    // What cannot be read here is read again, and complained of, where it counts.
    let bytes = store.load(&Stored::Timestamp, cap::TIMESTAMP).ok()??;
    let record = store.load(&Stored::TimestampTag, CAP).ok()??;
    let record: Record = serde_json::from_slice(&record).ok()?;
    let same = record.format == 1 && record.sha256 == digest(&bytes);
    let tag = Tag::new(&record.tag).filter(|_| same)?;
    Some((tag, bytes))
}

/// Keeps what the server calls the timestamp that was just stored.
pub(super) fn keep(
    store: &mut dyn Store,
    bytes: &[u8],
    tag: Option<&Tag>,
) -> Result<(), StoreError> {
    let Some(tag) = tag else {
        return store.discard(&Stored::TimestampTag);
    };
    let record = Record {
        format: 1,
        sha256: digest(bytes),
        tag: tag.as_str().to_owned(),
    };
    let record = serde_json::to_vec(&record).expect("texts and numbers can be written");
    store.save(&Stored::TimestampTag, &record)
}
