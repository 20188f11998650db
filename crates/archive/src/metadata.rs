//! TUF metadata: signed envelopes and the four bodies (specification section 4).

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use crate::canonical::{self, NotCanonical};
use crate::keys::{Key, KeyId, PrivateKey};
use crate::time::UtcSeconds;

/// The specification our files name. Any 1.x is read.
pub const SPEC_VERSION: &str = "1.0.31";

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
        let keyid = key.public().id();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature {
            keyid,
            sig: key.sign(&self.canonical),
        });
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

/// Which keys sign a role, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Key ids, each once.
    pub keyids: Vec<KeyId>,
    /// At least 1.
    pub threshold: u32,
}

impl RoleKeys {
    /// Returns a short digest of the key set, to notice that it changed.
    pub fn fingerprint(&self) -> String {
        let set: BTreeSet<&KeyId> = self.keyids.iter().collect();
        let mut hash = Sha256::new();
        for keyid in set {
            hash.update((keyid.0.len() as u64).to_le_bytes());
            hash.update(&keyid.0);
        }
        hex::encode(hash.finalize()).chars().take(16).collect()
    }

    fn check(&self) -> Result<(), &'static str> {
        let distinct: BTreeSet<&KeyId> = self.keyids.iter().collect();
        if self.threshold == 0 {
            return Err("a threshold is 0");
        }
        if distinct.len() != self.keyids.len() {
            return Err("a role names a key twice");
        }
        Ok(())
    }
}

/// Body of `N.root.json` (4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// `root`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// From 1 up, without gaps.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// Always true here.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Keys of the top-level roles.
    pub keys: BTreeMap<KeyId, Key>,
    /// `root`, `targets`, `snapshot`, `timestamp`.
    pub roles: TopRoles,
}

/// Keys of the top-level roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRoles {
    /// Signs root.
    pub root: RoleKeys,
    /// Signs targets.
    pub targets: RoleKeys,
    /// Signs snapshot.
    pub snapshot: RoleKeys,
    /// Signs timestamp.
    pub timestamp: RoleKeys,
}

impl Body for Root {
    const TYPE: &'static str = "root";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version == 0 {
            return Err("version is 0");
        }
        let TopRoles {
            root,
            targets,
            snapshot,
            timestamp,
        } = &self.roles;
        [root, targets, snapshot, timestamp]
            .into_iter()
            .try_for_each(RoleKeys::check)
    }
}

/// What one file says of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Version of the other file.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its digests in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

/// Body of `timestamp.json` (4.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// `timestamp`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// Rises with each signing.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// `snapshot.json` only.
    pub meta: BTreeMap<String, FileMeta>,
    /// When it was signed; feeds the client's time floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuxtape_issued: Option<UtcSeconds>,
}

impl Timestamp {
    /// Returns what it says of the snapshot.
    pub fn snapshot(&self) -> &FileMeta {
        self.meta
            .get("snapshot.json")
            .expect("checked when the body was read")
    }
}

impl Body for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        match self.meta.get("snapshot.json") {
            _ if self.version == 0 => Err("version is 0"),
            Some(meta) if meta.version > 0 && self.meta.len() == 1 => Ok(()),
            Some(_) | None => Err("meta does not name snapshot.json alone"),
        }
    }
}

/// Body of `N.snapshot.json` (4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `snapshot`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// Rises with each publication.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// `targets.json` and every delegated role's `NAME.json`.
    pub meta: BTreeMap<String, FileMeta>,
}

impl Body for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version == 0 || self.meta.values().any(|meta| meta.version == 0) {
            return Err("a version is 0");
        }
        if !self.meta.contains_key("targets.json") {
            return Err("meta does not name targets.json");
        }
        Ok(())
    }
}

/// Body of `N.targets.json` and of every delegated role (4.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// `targets`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.x.
    pub spec_version: String,
    /// Rises with each signing.
    pub version: u64,
    /// When it stops being valid.
    pub expires: UtcSeconds,
    /// Files by path.
    pub targets: BTreeMap<String, TargetFile>,
    /// Who else may sign for which paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Delegations>,
    /// Our `KernelIndex`, in kernel roles; see [`crate::index`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuxtape: Option<Value>,
}

impl Body for Targets {
    const TYPE: &'static str = "targets";

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UtcSeconds {
        self.expires
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version == 0 {
            return Err("version is 0");
        }
        if self.targets.values().any(|target| target.hashes.is_empty()) {
            return Err("a target has no hash");
        }
        let Some(delegations) = &self.delegations else {
            return Ok(());
        };
        let mut names = BTreeSet::new();
        for role in &delegations.roles {
            role.keys.check()?;
            let top = ["root", "targets", "snapshot", "timestamp"];
            if role.name.is_empty() || top.contains(&role.name.as_str()) {
                return Err("a delegated role has the name of a top-level role, or none");
            }
            if !names.insert(&role.name) {
                return Err("a role is delegated twice");
            }
            if role.paths.is_some() == role.path_hash_prefixes.is_some() {
                return Err("a delegated role wants either paths or path_hash_prefixes");
            }
        }
        Ok(())
    }
}

/// One file that a targets role vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests in hex, by algorithm.
    pub hashes: BTreeMap<String, String>,
}

/// Delegations of a targets role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegations {
    /// Keys of the delegated roles.
    pub keys: BTreeMap<KeyId, Key>,
    /// The roles, in order of precedence.
    pub roles: Vec<DelegatedRole>,
}

/// A role that may sign for some paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Who signs it.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Whether no later role is asked for its paths.
    pub terminating: bool,
    /// Path patterns it may sign for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Hex prefixes of the SHA-256 of paths it may sign for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
}

impl DelegatedRole {
    /// Tells whether this role may sign for `path` (5.6.7).
    pub fn owns(&self, path: &str) -> bool {
        let by_path = self
            .paths
            .iter()
            .flatten()
            .any(|pattern| fits(pattern, path));
        let digest = hex::encode(Sha256::digest(path));
        let prefixes = self.path_hash_prefixes.iter().flatten();
        by_path
            || prefixes
                .into_iter()
                .any(|prefix| digest.starts_with(prefix.as_str()))
    }
}

/// Why a file is not the one that was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unequal {
    /// Another length.
    #[error("length is {found} bytes, signed are {signed}")]
    Length {
        /// Bytes there.
        found: u64,
        /// Bytes signed.
        signed: u64,
    },
    /// Another digest.
    #[error("{algorithm} is {found}, signed is {signed}")]
    Digest {
        /// Hash algorithm.
        algorithm: &'static str,
        /// Digest of the bytes there.
        found: String,
        /// Digest signed.
        signed: String,
    },
    /// Only digests we cannot compute.
    #[error("no known hash algorithm (sha256, sha512) is signed")]
    Algorithm,
}

/// Checks `bytes` against a signed length and every signed digest that can be computed.
pub fn compare(
    bytes: &[u8],
    length: Option<u64>,
    hashes: &BTreeMap<String, String>,
) -> Result<(), Unequal> {
    let found = bytes.len() as u64;
    if let Some(signed) = length.filter(|&signed| signed != found) {
        return Err(Unequal::Length { found, signed });
    }
    let mut known = 0;
    for (algorithm, signed) in hashes {
        let (algorithm, found) = match algorithm.as_str() {
            "sha256" => ("sha256", hex::encode(Sha256::digest(bytes))),
            "sha512" => ("sha512", hex::encode(Sha512::digest(bytes))),
            _ => continue,
        };
        known += 1;
        if !found.eq_ignore_ascii_case(signed) {
            return Err(Unequal::Digest {
                algorithm,
                found,
                signed: signed.chars().take(128).collect(),
            });
        }
    }
    if known == 0 && !hashes.is_empty() {
        return Err(Unequal::Algorithm);
    }
    Ok(())
}

/// Matches `*` and `?` within one part of a path; a `*` never crosses a `/`.
fn fits(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut parts = path.split('/');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if fits_part(pattern.as_bytes(), part.as_bytes()) => {}
            (Some(_) | None, _) => return false,
        }
    }
}

/// Greedy matching with one point to go back to, so hostile patterns cost at most n × m.
fn fits_part(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || Some(&byte) == text.get(t) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .unwrap_or_default()
        .iter()
        .all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_star_stays_in_its_part_of_the_path() {
        for (pattern, path, fit) in [
            ("tt__a__*", "tt__a__1.ko", true),
            ("tt__a__*", "tt__b__1.ko", false),
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("a?c*", "abcd", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn a_file_with_only_unknown_digests_is_not_accepted() {
        let hashes = BTreeMap::from([("md5".to_owned(), "00".to_owned())]);
        assert_eq!(compare(b"x", Some(1), &hashes), Err(Unequal::Algorithm));
    }
}
