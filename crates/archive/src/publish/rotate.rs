//! Exchanging keys: of people, and of the roles that are online.

use std::fs;
use std::path::PathBuf;

use super::{PublishError, Workspace, body};
use crate::hold;
use crate::keys::{Key, PrivateKey};
use crate::metadata::{Envelope, Root, Targets};
use crate::names::cap;
use crate::policy::{Duty, Person, Policy};
use crate::time::UtcSeconds;

/// Why a rotation is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// Nobody has that name.
    #[error("nobody in the policy is called {0}")]
    Nobody(String),
    /// The person does not have that duty.
    #[error("{person} does not sign {duty}")]
    NotTheirs {
        /// Who.
        person: String,
        /// What.
        duty: &'static str,
    },
    /// The name is taken.
    #[error(
        "{0} is in the policy already, with another key; remove that first, or give another name"
    )]
    Taken(String),
}

/// A role whose key is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineRole {
    /// Signs what is current.
    Snapshot,
    /// Signs that it is still current.
    Timestamp,
    /// Signs the stop button.
    Hold,
}

impl OnlineRole {
    fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Hold => hold::ROLE,
        }
    }
}

impl Workspace {
    /// Makes the next key of an online role and drafts what has to name it: root, for `hold` targets.
    ///
    /// The present key goes on signing until that draft is published; then it is deleted. Asked again
    /// before, the next key stays.
    pub fn rotate_online(
        &self,
        role: OnlineRole,
        now: UtcSeconds,
    ) -> Result<PathBuf, PublishError> {
        // Also where the present key is lost: nothing that is there is ever replaced before it counts.
        let next = self.key_path(&format!("{}.next", role.name()));
        if !next.exists() {
            PrivateKey::generate()?.save(&next)?;
        }
        match role {
            OnlineRole::Snapshot | OnlineRole::Timestamp => self.draft_root(now),
            OnlineRole::Hold => self.draft_targets(None, now),
        }
    }

    /// Exchanges people with a duty: those that leave keep their entry without it, so that they can
    /// still be named. Returns the drafts that want signatures: root or targets, and every kernel role
    /// whose signatures no longer reach the threshold.
    pub fn rotate_people(
        &mut self,
        duty: Duty,
        leave: &[String],
        come: &[(String, Key)],
        now: UtcSeconds,
    ) -> Result<Vec<PathBuf>, PublishError> {
        let mut policy = self.policy.clone();
        for name in leave {
            let person = policy.people.iter_mut().find(|person| person.name == *name);
            let person = person.ok_or_else(|| RotateError::Nobody(name.clone()))?;
            if !person.duties.remove(&duty) {
                return Err(RotateError::NotTheirs {
                    person: name.clone(),
                    duty: duty.word(),
                }
                .into());
            }
        }
        for (name, key) in come {
            add_person(&mut policy, name, key, duty)?;
        }
        policy.role(duty)?;
        self.set_policy(policy, now)?;
        if duty == Duty::Root || duty == Duty::Targets {
            self.draft_root(now)?;
        }
        if duty == Duty::Review {
            self.redraft_short(now)?;
        }
        self.open_drafts()
    }

    /// Drafts a successor of every kernel role that the coming reviewers have not signed enough.
    fn redraft_short(&self, now: UtcSeconds) -> Result<(), PublishError> {
        let Some(published) = self.published()? else {
            return Ok(());
        };
        let coming = self.newest("targets", Some(&published.targets))?;
        let delegations = coming
            .and_then(|targets| targets.delegations)
            .unwrap_or_default();
        for (name, role) in &published.roles.all()? {
            let Some(delegated) = delegations.roles.iter().find(|known| known.name == *name) else {
                continue;
            };
            let bytes = published.roles.bytes(name)?.unwrap_or_default();
            let enough = Envelope::parse(&bytes, cap::KERNEL)
                .is_ok_and(|file| file.verify(&delegations.keys, &delegated.keys).is_ok());
            if !enough && self.draft(name)?.is_none() {
                let successor = Targets {
                    version: role.version + 1,
                    expires: now.plus(self.kernel_lifetime()),
                    ..role.clone()
                };
                self.write_draft(name, &successor)?;
            }
        }
        Ok(())
    }

    /// Puts the next keys that are public now in the place of those before. Best effort: until then
    /// both are looked at, so a crash in between costs nothing.
    pub(super) fn promote_keys(&self, root: &Root, targets: &Targets) {
        let delegations = targets.delegations.clone().unwrap_or_default();
        let held = delegations
            .roles
            .iter()
            .find(|role| role.name == hold::ROLE);
        let wanted = [
            (OnlineRole::Snapshot, Some(&root.roles.snapshot)),
            (OnlineRole::Timestamp, Some(&root.roles.timestamp)),
            (OnlineRole::Hold, held.map(|role| &role.keys)),
        ];
        for (role, wanted) in wanted {
            let next = self.key_path(&format!("{}.next", role.name()));
            let Ok(key) = PrivateKey::load(&next) else {
                continue;
            };
            if wanted.is_some_and(|wanted| wanted.keyids.contains(&key.public().id())) {
                let public = |path: PathBuf| {
                    let mut path = path.into_os_string();
                    path.push(".pub");
                    PathBuf::from(path)
                };
                let present = self.key_path(role.name());
                fs::rename(public(next.clone()), public(present.clone())).ok();
                fs::rename(next, present).ok();
            }
        }
    }

    /// Names the people whose keys the published root still asks for, for a draft of the next one.
    pub(super) fn old_root(&self) -> Result<Option<Root>, PublishError> {
        Ok(self.published()?.map(|published| published.root))
    }

    /// Reads a draft's body; for tests and tools.
    pub fn draft_body(&self, role: &str) -> Result<Option<Targets>, PublishError> {
        match self.draft(role)? {
            Some((_, envelope)) => Ok(Some(body(&envelope, role)?)),
            None => Ok(None),
        }
    }
}

/// Gives a duty to a person of that name and key; a namesake who has no duties left makes room.
fn add_person(policy: &mut Policy, name: &str, key: &Key, duty: Duty) -> Result<(), RotateError> {
    let public = &key.keyval.public;
    let same = |person: &&mut Person| person.name == name;
    if let Some(person) = policy.people.iter_mut().find(same) {
        if person.public == *public {
            person.duties.insert(duty);
            return Ok(());
        }
        if !person.duties.is_empty() {
            return Err(RotateError::Taken(name.to_owned()));
        }
        let taken: Vec<String> = policy
            .people
            .iter()
            .map(|person| person.name.clone())
            .collect();
        // At most as many names are taken as there are people.
        let free = (1..=taken.len() + 1)
            .map(|n| format!("{name}.former-{n}"))
            .find(|n| !taken.contains(n));
        if let (Some(person), Some(free)) = (policy.people.iter_mut().find(same), free) {
            person.name = free;
        }
    }
    policy.people.push(Person {
        name: name.to_owned(),
        duties: [duty].into(),
        public: public.clone(),
    });
    Ok(())
}
