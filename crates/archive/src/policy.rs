//! Who may sign what, and how long it lasts: `policy.toml` of an archive.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::keys::{Key, KeyId, KeyValue};
use crate::metadata::RoleKeys;

/// The archive's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Always 1.
    pub format: u32,
    /// Allows thresholds of 1. For laboratories only.
    pub lab: bool,
    /// How many people must sign.
    pub thresholds: Thresholds,
    /// How long signatures last.
    pub lifetimes: Lifetimes,
    /// The people, each with one key.
    #[serde(default)]
    pub people: Vec<Person>,
}

/// How many people must sign each offline role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Of the people with the duty `root`.
    pub root: u32,
    /// Of the people with the duty `targets`.
    pub targets: u32,
    /// Of the people with the duty `review`.
    pub kernels: u32,
}

/// How long signatures last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lifetimes {
    /// Days for root.
    pub root_days: u32,
    /// Days for targets.
    pub targets_days: u32,
    /// Days for kernel roles.
    pub kernel_days: u32,
    /// Days for snapshot.
    pub snapshot_days: u32,
    /// Hours for timestamp.
    pub timestamp_hours: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            root_days: 365,
            targets_days: 90,
            kernel_days: 30,
            snapshot_days: 7,
            timestamp_hours: 24,
        }
    }
}

/// One person with one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Name, in letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What this person may sign.
    pub duties: BTreeSet<Duty>,
    /// Public key: ed25519 in hex, or ECDSA on P-256 in PEM.
    pub public: String,
}

/// What a person may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duty {
    /// The root.
    Root,
    /// The list of kernels and reviewers.
    Targets,
    /// Levels of kernels.
    Review,
}

impl Duty {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Review => "levels",
        }
    }
}

/// Why a policy is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the file's format.
    #[error("malformed policy: {0}")]
    Malformed(String),
    /// A name that is none.
    #[error("{0:?} is no name for a person (letters, digits, '.', '_' and '-')")]
    Name(String),
    /// One person twice.
    #[error("{0} is listed twice; a person has one key")]
    Twice(String),
    /// Two people with one key.
    #[error("{0} and {1} have the same key")]
    SharedKey(String, String),
    /// A threshold of 1 outside a laboratory.
    #[error(
        "one person could sign {role} alone (threshold {threshold}); only a policy with lab = true allows that"
    )]
    Alone {
        /// The role.
        role: &'static str,
        /// Its threshold.
        threshold: u32,
    },
    /// More signers wanted than there are.
    #[error("{role} wants {threshold} signatures, but {people} people may sign it")]
    TooFew {
        /// The role.
        role: &'static str,
        /// Its threshold.
        threshold: u32,
        /// People with that duty.
        people: usize,
    },
    /// A signature that would end at once, or never.
    #[error("lifetimes must be 1 to 3650 days (timestamp: 1 to 720 hours)")]
    Lifetime,
}

impl Person {
    /// Returns this person's key.
    pub fn key(&self) -> Key {
        let (keytype, scheme) = if self.public.starts_with("-----BEGIN") {
            ("ecdsa", "ecdsa-sha2-nistp256")
        } else {
            ("ed25519", "ed25519")
        };
        Key {
            keytype: keytype.to_owned(),
            scheme: scheme.to_owned(),
            keyval: KeyValue {
                public: self.public.clone(),
            },
        }
    }
}

impl Policy {
    /// Reads a policy file and checks it.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            toml::from_str(text).map_err(|e| PolicyError::Malformed(e.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    /// Writes the policy file.
    pub fn to_toml(&self) -> Result<String, PolicyError> {
        toml::to_string(self).map_err(|e| PolicyError::Malformed(e.to_string()))
    }

    /// Checks what does not depend on how many people there are yet.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.format != 1 {
            return Err(PolicyError::Malformed(format!("format {}", self.format)));
        }
        let mut names = BTreeSet::new();
        let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
        for person in &self.people {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if person.name.is_empty() || person.name.len() > 64 || !person.name.chars().all(plain) {
                return Err(PolicyError::Name(person.name.chars().take(80).collect()));
            }
            if !names.insert(&person.name) {
                return Err(PolicyError::Twice(person.name.clone()));
            }
            if let Some(other) = keys.insert(&person.public, &person.name) {
                return Err(PolicyError::SharedKey(
                    other.to_owned(),
                    person.name.clone(),
                ));
            }
        }
        let Thresholds {
            root,
            targets,
            kernels,
        } = self.thresholds;
        for (role, threshold) in [("root", root), ("targets", targets), ("kernels", kernels)] {
            if threshold == 0 || (threshold == 1 && !self.lab) {
                return Err(PolicyError::Alone { role, threshold });
            }
        }
        let Lifetimes {
            root_days,
            targets_days,
            kernel_days,
            snapshot_days,
            timestamp_hours,
        } = self.lifetimes;
        let days = [root_days, targets_days, kernel_days, snapshot_days];
        if days.iter().any(|days| !(1..=3650).contains(days))
            || !(1..=720).contains(&timestamp_hours)
        {
            return Err(PolicyError::Lifetime);
        }
        Ok(())
    }

    /// Returns the keys of a duty and how many must sign; refuses when there are too few people.
    pub fn role(&self, duty: Duty) -> Result<(BTreeMap<KeyId, Key>, RoleKeys), PolicyError> {
        let (role, threshold) = match duty {
            Duty::Root => ("root", self.thresholds.root),
            Duty::Targets => ("targets", self.thresholds.targets),
            Duty::Review => ("kernels", self.thresholds.kernels),
        };
        let keys: BTreeMap<KeyId, Key> = self
            .people
            .iter()
            .filter(|person| person.duties.contains(&duty))
            .map(|person| (person.key().id(), person.key()))
            .collect();
        if (keys.len() as u64) < u64::from(threshold) {
            return Err(PolicyError::TooFew {
                role,
                threshold,
                people: keys.len(),
            });
        }
        let keyids = keys.keys().cloned().collect();
        Ok((keys, RoleKeys { keyids, threshold }))
    }

    /// Names the person a key belongs to.
    pub fn person(&self, keyid: &KeyId) -> Option<&Person> {
        self.people
            .iter()
            .find(|person| person.key().id() == *keyid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PrivateKey;

    fn policy(lab: bool, threshold: u32, people: u8) -> Policy {
        Policy {
            format: 1,
            lab,
            thresholds: Thresholds {
                root: threshold,
                targets: threshold,
                kernels: threshold,
            },
            lifetimes: Lifetimes::default(),
            people: (0..people)
                .map(|n| Person {
                    name: format!("person-{n}"),
                    duties: [Duty::Root, Duty::Targets, Duty::Review].into(),
                    public: PrivateKey::from_seed([n; 32]).public().keyval.public,
                })
                .collect(),
        }
    }

    #[test]
    fn the_file_survives_the_round_trip() {
        let policy = policy(false, 2, 3);
        assert_eq!(Policy::from_toml(&policy.to_toml().unwrap()), Ok(policy));
    }

    #[test]
    fn one_person_alone_signs_only_in_a_laboratory() {
        assert!(matches!(
            policy(false, 1, 3).check(),
            Err(PolicyError::Alone { .. })
        ));
        assert_eq!(policy(true, 1, 3).check(), Ok(()));
    }

    #[test]
    fn one_person_cannot_be_counted_twice() {
        let mut twice = policy(false, 2, 2);
        twice.people[1].name = twice.people[0].name.clone();
        assert!(matches!(twice.check(), Err(PolicyError::Twice(_))));
        let mut shared = policy(false, 2, 2);
        shared.people[1].public = shared.people[0].public.clone();
        assert!(matches!(shared.check(), Err(PolicyError::SharedKey(_, _))));
    }

    #[test]
    fn a_role_with_too_few_people_is_refused() {
        let short = policy(false, 3, 2);
        assert!(matches!(
            short.role(Duty::Review),
            Err(PolicyError::TooFew { people: 2, .. })
        ));
    }
}
