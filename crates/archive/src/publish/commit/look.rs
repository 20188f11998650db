//! Looking at the tree that is about to become public as a client would.

use std::collections::BTreeMap;

use super::batch::{Batch, Staged, warm};
use super::{View, kernel_of};
use crate::client::{self, MemoryStore, Refusal, Store, Stored, UpdateError};
use crate::hold::{self, Hold};
use crate::metadata::Targets;
use crate::names::cap;
use crate::publish::checked::{Checked, CheckedRole, digest};
use crate::publish::holding::HoldingError;
use crate::publish::{PublishError, Workspace};
use crate::source::{DirectorySource, Fetched, Source};
use crate::time::UtcSeconds;

/// What came of it.
pub(super) struct Look {
    /// Published kernel roles whose validity is over.
    pub(super) expired: Vec<String>,
    /// What was not as the publication before had left it.
    pub(super) surprises: Vec<String>,
    /// What the next publication may take as checked.
    pub(super) checked: Checked,
}

impl Workspace {
    /// Walks the staged tree as a client that saw the last publication: the top-level roles, the stop
    /// button, every kernel's role that changes, and every one that is not the very file that was checked
    /// before, against the same list of kernels.
    ///
    /// A role that was published before and has expired since stops nobody but its own machines, so it
    /// is named in the answer: the others must stay fresh.
    pub(super) fn check(
        &self,
        view: &View<'_>,
        before: Option<&Checked>,
        batch: &Batch,
        now: UtcSeconds,
    ) -> Result<Look, PublishError> {
        for (name, bytes, cap) in batch.metadata() {
            let length = bytes.len() as u64;
            if length > cap / 2 {
                return Err(PublishError::TooLarge {
                    file: name.to_owned(),
                    length,
                    cap,
                });
            }
        }
        let unverified = |error: UpdateError| PublishError::Unverified(Box::new(error));
        let mut store = MemoryStore::default();
        warm(&mut store, view.published, batch).map_err(unverified)?;
        let staged = Staged {
            batch,
            public: DirectorySource::new(&self.public()),
        };
        let list = match (&batch.targets, view.published) {
            (Some((_, bytes)), _) => bytes.as_slice(),
            (None, Some(published)) => published
                .files
                .get(&format!("{}.targets.json", view.targets.version))
                .map_or(&[][..], Vec::as_slice),
            (None, None) => &[],
        };
        let mut look = Look {
            expired: Vec::new(),
            surprises: Vec::new(),
            checked: Checked::against(list),
        };
        let read = self.compare(view, before, batch, now, &mut look);
        for (name, bytes) in &read {
            let role = Stored::Role(name.clone());
            let kept = store.save(&role, bytes);
            kept.map_err(|error| unverified(error.into()))?;
        }
        let mut session = client::refresh(&mut store, &staged, now).map_err(unverified)?;
        // An older one that clients take for a stop must not keep the rest from staying fresh.
        match session.hold().map_err(unverified)? {
            Hold::Unreadable(why) if batch.hold.is_some() => {
                return Err(HoldingError::Unreadable(why).into());
            }
            Hold::Unreadable(_) | Hold::Caps(_) | Hold::Absent => {}
        }
        let delegations = view.targets.delegations.as_ref();
        for role in delegations.iter().flat_map(|all| &all.roles) {
            let name = &role.name;
            let Some(&version) = view.roles.get(name) else {
                continue;
            };
            let Some((arch, release)) = kernel_of(name) else {
                continue;
            };
            if look.checked.roles.contains_key(name) {
                continue;
            }
            let changed = batch.kernels.get(name).map(|(_, bytes)| bytes);
            let bytes = changed.or_else(|| read.get(name));
            let bytes = bytes.map_or(&[][..], Vec::as_slice);
            let known = |expires| CheckedRole::of(version, bytes, expires);
            let kernel = match session.kernel(arch, &release) {
                Err(UpdateError::Refused(Refusal::Expired { role, at, .. }))
                    if changed.is_none() =>
                {
                    look.checked.roles.insert(name.clone(), known(at));
                    look.expired.push(format!("{role} expired at {at}"));
                    continue;
                }
                outcome => outcome.map_err(unverified)?,
            };
            let Some((body, index)) = kernel else {
                continue;
            };
            if changed.is_some() {
                index.check_rollout()?;
                check_modules(&mut session, &body).map_err(unverified)?;
            }
            look.checked.roles.insert(name.clone(), known(body.expires));
        }
        let top = [
            ("root", session.root.version),
            ("timestamp", session.timestamp.version),
            ("snapshot", session.snapshot.version),
            ("targets", session.targets.version),
        ];
        let mut versions: BTreeMap<String, u64> =
            top.map(|(name, version)| (name.to_owned(), version)).into();
        let hold = session.snapshot.meta.get(&format!("{}.json", hold::ROLE));
        versions.extend(hold.map(|meta| (hold::ROLE.to_owned(), meta.version)));
        look.checked.versions = versions;
        look.expired.sort();
        Ok(look)
    }

    /// Compares the roles that stay with what was checked before. Those that are the same go into
    /// `look`; returns the others, as far as they can be read.
    fn compare(
        &self,
        view: &View<'_>,
        before: Option<&Checked>,
        batch: &Batch,
        now: UtcSeconds,
        look: &mut Look,
    ) -> BTreeMap<String, Vec<u8>> {
        let mut others = BTreeMap::new();
        let public = DirectorySource::new(&self.public());
        // Who may sign a role is in the list: with another list nothing is known.
        let known = before.filter(|before| before.targets == look.checked.targets);
        if before.is_none()
            && view
                .published
                .is_some_and(|known| !known.roles.versions().is_empty())
        {
            let why =
                "there is no record of what was checked before; every kernel was checked anew";
            look.surprises.push(why.to_owned());
        }
        for (name, &version) in view.roles {
            if batch.kernels.contains_key(name) {
                continue;
            }
            let file = format!("{version}.{name}.json");
            let Ok(Fetched::Bytes(bytes)) = public.metadata(&file, cap::KERNEL) else {
                // The walk that follows says what is wrong with it.
                continue;
            };
            let role = before.and_then(|before| before.roles.get(name));
            let same = role.filter(|role| role.is(version, &bytes));
            match (same, role) {
                (Some(role), _) if known.is_some() => {
                    if role.expires <= now {
                        let over = format!("{name} expired at {}", role.expires);
                        look.expired.push(over);
                    }
                    look.checked.roles.insert(name.clone(), role.clone());
                    continue;
                }
                (None, Some(role)) => look.surprises.push(format!(
                    "{file} is not the file that was published (sha256 {} then, {} now); it was checked anew",
                    role.sha256,
                    digest(&bytes)
                )),
                (None, None) if before.is_some() => {
                    look.surprises
                        .push(format!("{file} was not checked before; it was now"));
                }
                (Some(_) | None, _) => {}
            }
            others.insert(name.clone(), bytes);
        }
        others
    }
}

fn check_modules(session: &mut client::Session<'_>, role: &Targets) -> Result<(), UpdateError> {
    for name in role.targets.keys() {
        let missing = || UpdateError::Missing { file: name.clone() };
        let target = session.find_target(name)?.ok_or_else(missing)?;
        session.fetch_target(name, &target, cap::MODULE)?;
    }
    Ok(())
}
