//! Signed files: what is signed, and who signed it.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::RoleKeys;
use crate::canonical::{self, NotCanonical};
use crate::keys::{Key, KeyId, PrivateKey};
use crate::time::UtcSeconds;

/// A signed file: the body as served, its canonical bytes, and its signatures.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The body.
    pub signed: Value,
    /// What the signatures are over.
    pub canonical: Vec<u8>,
    /// Signatures, at most one per key id.
    pub signatures: Vec<Signature>,
}

/// One signature of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key made it.
    pub keyid: KeyId,
    /// The signature in hex.
    pub sig: String,
}

/// Why bytes are no metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Larger than any such file may be.
    #[error("{length} bytes, at most {cap} are read")]
    TooLarge {
        /// Bytes there.
        length: u64,
        /// Bytes allowed.
        cap: u64,
    },
    /// No JSON that can be signed.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// Not the shape of metadata.
    #[error("malformed: {0}")]
    Malformed(String),
    /// One key id signs twice.
    #[error("key {0} signs twice")]
    SignedTwice(KeyId),
    /// Metadata of another role.
    #[error("is metadata of type {found:?}, want {want:?}")]
    Type {
        /// What was wanted.
        want: &'static str,
        /// What it says.
        found: String,
    },
    /// Written to another specification.
    #[error("written to TUF specification {0:?}, only 1.x is known")]
    Specification(String),
}

/// Too few valid signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} valid signatures wanted, {valid} found")]
pub struct Unsigned {
    /// The threshold.
    pub wanted: u32,
    /// Distinct keys of the role with a valid signature.
    pub valid: u32,
}

impl Envelope {
    /// Reads a signed file of at most `cap` bytes. Verifies nothing.
    pub fn parse(bytes: &[u8], cap: u64) -> Result<Self, MetadataError> {
        #[derive(Deserialize)]
        struct Raw {
            signed: Value,
            signatures: Vec<Signature>,
        }
        let length = bytes.len() as u64;
        if length > cap {
            return Err(MetadataError::TooLarge { length, cap });
        }
        let value = canonical::parse(bytes)?;
        let Raw { signed, signatures } =
            serde_json::from_value(value).map_err(|e| MetadataError::Malformed(e.to_string()))?;
        let mut seen = BTreeSet::new();
        for signature in &signatures {
            if !seen.insert(&signature.keyid) {
                return Err(MetadataError::SignedTwice(signature.keyid.clone()));
            }
        }
        Ok(Self {
            canonical: canonical::bytes(&signed)?,
            signed,
            signatures,
        })
    }

    /// Wraps a body of ours, without signatures.
    pub fn unsigned(body: &impl Body) -> Result<Self, MetadataError> {
        let signed =
            serde_json::to_value(body).map_err(|e| MetadataError::Malformed(e.to_string()))?;
        if !canonical::is_plain(&signed) {
            return Err(MetadataError::Malformed(
                "a text is not printable ASCII".to_owned(),
            ));
        }
        Ok(Self {
            canonical: canonical::bytes(&signed)?,
            signed,
            signatures: Vec::new(),
        })
    }

    /// Adds or renews the signature of `key`.
    pub fn sign(&mut self, key: &PrivateKey) {
        self.add(Signature {
            keyid: key.public().id(),
            sig: key.sign(&self.canonical),
        });
    }

    /// Adds a signature, or puts it in the place of one by the same key. Does not verify it.
    pub fn add(&mut self, signature: Signature) {
        self.signatures
            .retain(|known| known.keyid != signature.keyid);
        self.signatures.push(signature);
        self.signatures
            .sort_by(|left, right| left.keyid.cmp(&right.keyid));
    }

    /// Writes the file as it is served.
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = serde_json::json!({"signed": self.signed, "signatures": self.signatures});
        // Not the canonical form, which leaves control characters bare and so is not always JSON.
        let mut bytes = serde_json::to_vec(&value).expect("a value can be written");
        bytes.push(b'\n');
        bytes
    }

    /// Returns the SHA-256 of what is signed.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.canonical).into()
    }

    /// Reads the body as a `T`, whose type it must name.
    pub fn body<T: Body>(&self) -> Result<T, MetadataError> {
        let text = |key: &str| self.signed.get(key).and_then(Value::as_str).unwrap_or("");
        if text("_type") != T::TYPE {
            return Err(MetadataError::Type {
                want: T::TYPE,
                found: text("_type").chars().take(40).collect(),
            });
        }
        let specification = text("spec_version");
        if specification.split('.').next() != Some("1") {
            let found = specification.chars().take(40).collect();
            return Err(MetadataError::Specification(found));
        }
        let body =
            T::deserialize(&self.signed).map_err(|e| MetadataError::Malformed(e.to_string()))?;
        body.check()
            .map_err(|what| MetadataError::Malformed(what.to_owned()))?;
        Ok(body)
    }

    /// Checks that enough distinct keys of `role` signed (specification 5.1: distinct key ids).
    ///
    /// A bad or foreign signature besides is not an error.
    pub fn verify(&self, keys: &BTreeMap<KeyId, Key>, role: &RoleKeys) -> Result<(), Unsigned> {
        let valid = self
            .signatures
            .iter()
            .filter(|signature| role.keyids.contains(&signature.keyid))
            .filter(|signature| {
                keys.get(&signature.keyid)
                    .is_some_and(|key| key.verifies(&self.canonical, &signature.sig))
            })
            .count();
        let valid = u32::try_from(valid).unwrap_or(u32::MAX);
        if valid >= role.threshold && role.threshold > 0 {
            Ok(())
        } else {
            Err(Unsigned {
                wanted: role.threshold,
                valid,
            })
        }
    }
}

/// A body of signed metadata.
pub trait Body: Serialize + DeserializeOwned {
    /// Its `_type`.
    const TYPE: &'static str;
    /// Its version.
    fn version(&self) -> u64;
    /// When it stops being valid.
    fn expires(&self) -> UtcSeconds;
    /// Checks what the shape alone does not say.
    fn check(&self) -> Result<(), &'static str>;
}

#[cfg(test)]
mod tests {
    use super::super::{FileMeta, Root, SPEC_VERSION, Timestamp};
    use super::*;

    fn timestamp() -> Timestamp {
        Timestamp {
            kind: "timestamp".to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: 1,
            expires: UtcSeconds::from_unix(9),
            meta: BTreeMap::from([(
                "snapshot.json".to_owned(),
                FileMeta {
                    version: 1,
                    length: None,
                    hashes: BTreeMap::new(),
                },
            )]),
            tuxtape_issued: None,
        }
    }

    fn role(keys: &[&PrivateKey], threshold: u32) -> (BTreeMap<KeyId, Key>, RoleKeys) {
        let keys: BTreeMap<KeyId, Key> = keys
            .iter()
            .map(|key| (key.public().id(), key.public()))
            .collect();
        let keyids = keys.keys().cloned().collect();
        (keys, RoleKeys { keyids, threshold })
    }

    #[test]
    fn the_threshold_counts_distinct_keys_of_the_role() {
        let [a, b, foreign] = [1, 2, 3].map(|seed| PrivateKey::from_seed([seed; 32]));
        let (keys, role) = role(&[&a, &b], 2);
        let mut envelope = Envelope::unsigned(&timestamp()).unwrap();
        let short = |valid| Err(Unsigned { wanted: 2, valid });
        envelope.sign(&a);
        envelope.sign(&a);
        envelope.sign(&foreign);
        assert_eq!(envelope.verify(&keys, &role), short(1));
        envelope.sign(&b);
        assert_eq!(envelope.verify(&keys, &role), Ok(()));
        envelope.signatures[0].sig = "00".repeat(64);
        assert!(envelope.verify(&keys, &role).is_err());
    }

    #[test]
    fn a_key_id_twice_is_refused() {
        let mut envelope = Envelope::unsigned(&timestamp()).unwrap();
        envelope.sign(&PrivateKey::from_seed([1; 32]));
        envelope.signatures.push(envelope.signatures[0].clone());
        assert!(matches!(
            Envelope::parse(&envelope.to_bytes(), 1 << 20),
            Err(MetadataError::SignedTwice(_))
        ));
    }

    #[test]
    fn unknown_fields_are_signed_and_otherwise_ignored() {
        let key = PrivateKey::from_seed([1; 32]);
        let (keys, role) = role(&[&key], 1);
        let mut envelope = Envelope::unsigned(&timestamp()).unwrap();
        envelope.signed["new"] = serde_json::json!({"field": 1});
        envelope.canonical = canonical::bytes(&envelope.signed).unwrap();
        envelope.sign(&key);
        let read = Envelope::parse(&envelope.to_bytes(), 1 << 20).unwrap();
        assert_eq!(read.verify(&keys, &role), Ok(()));
        assert_eq!(read.body::<Timestamp>().unwrap(), timestamp());
    }

    #[test]
    fn a_file_with_control_characters_is_read_as_it_was_written() {
        let text = r#"{"signed": {"a": "line\n\u0001"}, "signatures": []}"#;
        let envelope = Envelope::parse(text.as_bytes(), 1000).unwrap();
        assert_eq!(Envelope::parse(&envelope.to_bytes(), 1000), Ok(envelope));
    }

    #[test]
    fn metadata_of_another_type_or_specification_is_refused() {
        let mut envelope = Envelope::unsigned(&timestamp()).unwrap();
        assert!(matches!(
            envelope.body::<Root>(),
            Err(MetadataError::Type { .. })
        ));
        envelope.signed["spec_version"] = "2.0".into();
        assert!(matches!(
            envelope.body::<Timestamp>(),
            Err(MetadataError::Specification(_))
        ));
    }
}
