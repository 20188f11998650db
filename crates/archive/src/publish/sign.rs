//! Signing a draft.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tuxtape_sys::durable;

use super::commit::kernel_of;
use super::describe::describe;
use super::{PublishError, Workspace, body, kind_of, read_draft, role_of};
use crate::keys::{Key, KeyId, PrivateKey, program};
use crate::metadata::{Envelope, RoleKeys, Root, Signature, Targets};
use crate::policy::{Duty, Person, PolicyError};
use crate::words;

/// What a signer must see before signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The draft.
    pub path: PathBuf,
    /// The role.
    pub role: String,
    /// SHA-256 of the canonical bytes in hex.
    pub sha256: String,
    /// The same, to compare by voice.
    pub words: String,
    /// What changes, in sentences.
    pub changes: Vec<String>,
    /// Who signed already.
    pub signed: Vec<String>,
    /// How many must sign.
    pub wanted: u32,
    /// Who may still sign.
    pub missing: Vec<String>,
    /// Of the keys trusted so far: who signed, and how many must. For a root after the first.
    pub before: Option<(Vec<String>, u32)>,
}

/// Why a draft cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// There is no such draft.
    #[error("{} is no open draft of this archive", words::one_line(.0))]
    NoDraft(String),
    /// The signer saw another file.
    #[error(
        "the draft is not the one you expect: its words are \"{found}\", expected \"{expected}\""
    )]
    Words {
        /// Of the draft.
        found: String,
        /// Of the signer.
        expected: String,
    },
    /// The key belongs to nobody.
    #[error("key {0} belongs to nobody in the policy")]
    UnknownKey(KeyId),
    /// The person may not sign this.
    #[error("{person} may not sign {role}")]
    NotTheirs {
        /// Who.
        person: String,
        /// What.
        role: String,
    },
    /// A key stands under the id of another.
    #[error(
        "{file} lists a key under an id that is not its own: {name} holds key {found}; somebody may have swapped it"
    )]
    Swapped {
        /// The role that lists it.
        file: String,
        /// The id it stands under.
        name: KeyId,
        /// Its own id.
        found: KeyId,
    },
    /// A file to merge is another draft.
    #[error("{file} is another draft: its sha256 is {found}, this one's is {wanted}", file = file.display())]
    OtherDraft {
        /// The file.
        file: PathBuf,
        /// Digest of what it holds.
        found: String,
        /// Digest of the draft.
        wanted: String,
    },
    /// A file to merge brings a signature that counts for nothing.
    #[error("{file} has a signature by {key}, {why}", file = file.display())]
    Worthless {
        /// The file.
        file: PathBuf,
        /// The key id.
        key: KeyId,
        /// Why it does not count.
        why: &'static str,
    },
    /// A kernel's draft holds the index of another.
    #[error("the draft of {draft} holds the index of {index}")]
    OtherKernel {
        /// The draft's role.
        draft: String,
        /// The index's role.
        index: String,
    },
}

/// Checks that every key stands under the id this program gives it.
///
/// Clients take ids as they are, and people see nothing but the id: a key swapped behind an id would
/// go through unseen.
pub(crate) fn own_ids(file: &str, keys: &BTreeMap<KeyId, Key>) -> Result<(), SignError> {
    match keys.iter().find(|(name, key)| key.id() != **name) {
        Some((name, key)) => Err(SignError::Swapped {
            file: file.to_owned(),
            name: name.clone(),
            found: key.id(),
        }),
        None => Ok(()),
    }
}

impl Workspace {
    /// Reads a draft, given by path or by name, and says what signing it would do.
    pub fn show(&self, draft: &str) -> Result<Shown, PublishError> {
        let path = self.find_draft(draft)?;
        let role = role_of(&path).ok_or_else(|| SignError::NoDraft(draft.to_owned()))?;
        let envelope = read_draft(&path)?;
        let published = self.published()?;
        let (_, keys) = self.signers(role, &envelope)?;
        let old = match &published {
            Some(published) if role == "root" => Some(&published.root.roles.root),
            Some(_) | None => None,
        };
        let signed = self.signed_by(&envelope, &keys);
        let people = keys.keyids.iter().filter_map(|id| self.policy.person(id));
        let names = people.map(|person| person.name.clone());
        Ok(Shown {
            missing: names.filter(|name| !signed.contains(name)).collect(),
            before: old.map(|old| (self.signed_by(&envelope, old), old.threshold)),
            sha256: hex::encode(envelope.digest()),
            words: words::spoken(&envelope.digest()),
            // The draft is not trusted yet: nothing in it may rewrite what the signer sees.
            changes: describe(&envelope, role, published.as_ref(), &self.policy)?
                .iter()
                .map(|change| words::one_line(change))
                .collect(),
            signed,
            wanted: keys.threshold,
            role: role.to_owned(),
            path,
        })
    }

    /// Signs a draft whose words are `expected`, and returns what it then looks like.
    pub fn sign(
        &self,
        draft: &str,
        key: &PrivateKey,
        expected: &str,
    ) -> Result<Shown, PublishError> {
        self.sign_by(draft, expected, |canonical| {
            Ok((key.public().id(), key.sign(canonical)))
        })
    }

    /// Like [`Self::sign`], with a program that gets the bytes and prints the signature. Whose it is
    /// shows in the key that verifies it.
    pub fn sign_by_program(
        &self,
        draft: &str,
        program: &Path,
        expected: &str,
    ) -> Result<Shown, PublishError> {
        let people = self.policy.people.iter().map(Person::key);
        let known: BTreeMap<KeyId, Key> = people.map(|key| (key.id(), key)).collect();
        self.sign_by(draft, expected, |canonical| {
            Ok(program::sign(program, canonical, &known)?)
        })
    }

    fn sign_by(
        &self,
        draft: &str,
        expected: &str,
        make: impl FnOnce(&[u8]) -> Result<(KeyId, String), PublishError>,
    ) -> Result<Shown, PublishError> {
        let path = self.find_draft(draft)?;
        let role = role_of(&path).ok_or_else(|| SignError::NoDraft(draft.to_owned()))?;
        let mut envelope = read_draft(&path)?;
        let found = words::spoken(&envelope.digest());
        let given: Vec<&str> = expected.split_whitespace().collect();
        if given.join(" ") != found {
            return Err(SignError::Words {
                found,
                expected: given.join(" "),
            }
            .into());
        }
        let (duty, keys) = self.signers(role, &envelope)?;
        let (keyid, sig) = make(&envelope.canonical)?;
        let Some(person) = self.policy.person(&keyid) else {
            return Err(SignError::UnknownKey(keyid).into());
        };
        // Who leaves the root is among those who must let the next one in.
        let old = match kind_of(&envelope) {
            "root" => self.old_root()?,
            _ => None,
        };
        let leaving = old.is_some_and(|old| old.roles.root.keyids.contains(&keyid));
        if !person.duties.contains(&duty) && !keys.keyids.contains(&keyid) && !leaving {
            return Err(SignError::NotTheirs {
                person: person.name.clone(),
                role: role.to_owned(),
            }
            .into());
        }
        envelope.add(Signature { keyid, sig });
        durable::write(&path, &envelope.to_bytes())?;
        self.show(draft)
    }

    /// Adds the signatures of copies of a draft that were signed elsewhere, in any order.
    ///
    /// Nothing is taken when any of them is another draft or brings a signature that does not count.
    pub fn merge(&self, draft: &str, files: &[PathBuf]) -> Result<Shown, PublishError> {
        let path = self.find_draft(draft)?;
        let role = role_of(&path).ok_or_else(|| SignError::NoDraft(draft.to_owned()))?;
        let mut envelope = read_draft(&path)?;
        let (_, keys) = self.signers(role, &envelope)?;
        let old = match kind_of(&envelope) {
            "root" => self.old_root()?.map(|old| old.roles.root.keyids),
            _ => None,
        };
        for file in files {
            let other = read_draft(file)?;
            if other.canonical != envelope.canonical {
                return Err(SignError::OtherDraft {
                    file: file.clone(),
                    found: hex::encode(other.digest()),
                    wanted: hex::encode(envelope.digest()),
                }
                .into());
            }
            for signature in other.signatures {
                let worthless = |why| SignError::Worthless {
                    file: file.clone(),
                    key: signature.keyid.clone(),
                    why,
                };
                let person = self.policy.person(&signature.keyid);
                let person = person.ok_or_else(|| worthless("which belongs to nobody"))?;
                let asked = keys.keyids.contains(&signature.keyid)
                    || old
                        .as_ref()
                        .is_some_and(|old| old.contains(&signature.keyid));
                if !asked {
                    return Err(worthless("which may not sign this").into());
                }
                if !person.key().verifies(&envelope.canonical, &signature.sig) {
                    return Err(worthless("which does not verify").into());
                }
                envelope.add(signature);
            }
        }
        durable::write(&path, &envelope.to_bytes())?;
        self.show(draft)
    }

    /// Names the people of `keys` whose valid signature is on the draft.
    pub(crate) fn signed_by(&self, envelope: &Envelope, keys: &RoleKeys) -> Vec<String> {
        let valid = |keyid: &KeyId| {
            let person = self.policy.person(keyid)?;
            let signature = envelope.signatures.iter().find(|s| s.keyid == *keyid)?;
            person
                .key()
                .verifies(&envelope.canonical, &signature.sig)
                .then(|| person.name.clone())
        };
        keys.keyids.iter().filter_map(valid).collect()
    }

    /// Returns whose signatures a draft needs.
    fn signers(&self, role: &str, envelope: &Envelope) -> Result<(Duty, RoleKeys), PublishError> {
        let published = self.published()?;
        match kind_of(envelope) {
            "root" => {
                let root: Root = body(envelope, role)?;
                own_ids(role, &root.keys)?;
                Ok((Duty::Root, root.roles.root))
            }
            "targets" if role == "targets" => {
                let root = self.newest("root", published.as_ref().map(|p| &p.root))?;
                let root = root.ok_or_else(|| SignError::NoDraft(role.to_owned()))?;
                own_ids("root", &root.keys)?;
                let new: Targets = body(envelope, role)?;
                if let Some(delegations) = &new.delegations {
                    own_ids(role, &delegations.keys)?;
                }
                Ok((Duty::Targets, root.roles.targets))
            }
            "targets" => {
                let known: Option<Targets> =
                    self.newest("targets", published.as_ref().map(|p| &p.targets))?;
                let delegations = known
                    .and_then(|targets| targets.delegations)
                    .unwrap_or_default();
                own_ids("targets", &delegations.keys)?;
                let delegated = delegations
                    .roles
                    .into_iter()
                    .find(|delegated| delegated.name == role);
                delegated
                    .map(|delegated| (Duty::Review, delegated.keys))
                    .ok_or_else(|| SignError::NoDraft(role.to_owned()).into())
            }
            other => Err(PolicyError::Malformed(format!("no draft has type {other:?}")).into()),
        }
    }

    fn find_draft(&self, draft: &str) -> Result<PathBuf, PublishError> {
        let drafts = self.open_drafts()?;
        let given = Path::new(draft);
        let same = |path: &&PathBuf| {
            path.file_name() == given.file_name()
                && (given.components().count() == 1
                    || given.canonicalize().ok() == path.canonicalize().ok())
        };
        let by_role = |path: &&PathBuf| role_of(path) == Some(draft);
        // A kernel's role has a long name that nobody types at night: its release will do, also as the
        // last part of a SPEC.
        let release = draft.rsplit(':').next().unwrap_or_default();
        let by_release = |path: &&PathBuf| {
            let kernel = role_of(path).and_then(kernel_of);
            kernel.is_some_and(|(_, known)| known.as_str() == release)
        };
        drafts
            .iter()
            .find(same)
            .or_else(|| drafts.iter().find(by_role))
            .or_else(|| drafts.iter().find(by_release))
            .cloned()
            .ok_or_else(|| SignError::NoDraft(draft.to_owned()).into())
    }
}
