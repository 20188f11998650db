//! The caps of a publication.

use std::collections::BTreeMap;

use super::View;
use super::batch::Batch;
use crate::hold::{self, Caps};
use crate::metadata::{Body, Envelope, SPEC_VERSION, Targets};
use crate::names::cap;
use crate::publish::{PublishError, Workspace};
use crate::time::UtcSeconds;

/// Seconds that a signature over the caps lasts.
const HOLD_LIFE: u64 = 7 * 86_400;

impl Workspace {
    /// Signs the caps where they change, near their end, or where the list of roles wants another key;
    /// returns the version that the snapshot is to name.
    pub(super) fn take_hold(
        &self,
        view: &View<'_>,
        caps: Option<&Caps>,
        batch: &mut Batch,
        now: UtcSeconds,
    ) -> Result<Option<u64>, PublishError> {
        let delegations = view.targets.delegations.clone().unwrap_or_default();
        let before = view.published.and_then(|published| published.hold.as_ref());
        let Some(delegated) = delegations
            .roles
            .iter()
            .find(|role| role.name == hold::ROLE)
        else {
            // A role may not vanish from the snapshot.
            return Ok(before.map(|before| before.version));
        };
        let life = HOLD_LIFE;
        let signed = |version| {
            let name = format!("{version}.{}.json", hold::ROLE);
            let bytes = view.published?.files.get(&name)?;
            let envelope = Envelope::parse(bytes, cap::HOLD).ok()?;
            envelope.verify(&delegations.keys, &delegated.keys).ok()
        };
        let fresh = before.filter(|before| {
            before.expires.since(now) > life / 2 && signed(before.version).is_some()
        });
        if let Some(fresh) = fresh.filter(|_| caps.is_none()) {
            return Ok(Some(fresh.version));
        }
        let changes = caps.is_some();
        let caps = match (caps, before) {
            (Some(caps), _) => caps.clone(),
            // What cannot be read any more was a stop, and stays one until a person lifts it.
            (None, Some(before)) => Caps::read(before).unwrap_or_else(|_| Caps {
                stop: true,
                ..Caps::none(now)
            }),
            (None, None) => Caps::none(now),
        };
        let body = Targets {
            kind: Targets::TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: before.map_or(0, |before| before.version) + 1,
            expires: now.plus(life),
            targets: BTreeMap::new(),
            delegations: None,
            tuxtape: None,
            tuxtape_hold: Some(
                serde_json::to_value(&caps).expect("caps have only texts and numbers"),
            ),
        };
        let bytes = match (self.sign_online(hold::ROLE, &body, &delegated.keys), before) {
            (Ok(bytes), _) => bytes,
            // With its key lost it ends, which stops rollouts; everything else goes on.
            (Err(PublishError::NoOnlineKey { .. }), Some(before)) if !changes => {
                return Ok(Some(before.version));
            }
            (Err(error), _) => return Err(error),
        };
        batch.hold = Some((format!("{}.{}.json", body.version, hold::ROLE), bytes));
        Ok(Some(body.version))
    }
}
