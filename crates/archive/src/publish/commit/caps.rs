//! The caps of a publication.

use std::collections::BTreeMap;

use super::View;
use super::batch::Batch;
use crate::hold::{self, Caps};
use crate::metadata::{Body, Envelope, SPEC_VERSION, Targets};
use crate::names::cap;
use crate::publish::{PublishError, Published, Workspace};
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
        let version = view.published.map_or(0, Published::hold_version);
        let Some(delegated) = delegations
            .roles
            .iter()
            .find(|role| role.name == hold::ROLE)
        else {
            // A role may not vanish from the snapshot.
            return Ok((version > 0).then_some(version));
        };
        let life = HOLD_LIFE;
        let signed = |version| {
            let name = format!("{version}.{}.json", hold::ROLE);
            let bytes = view.published?.files.get(&name)?;
            let envelope = Envelope::parse(bytes, cap::HOLD).ok()?;
            envelope.verify(&delegations.keys, &delegated.keys).ok()
        };
        let fresh = before.filter(|before| {
            before.version == version
                && before.expires.since(now) > life / 2
                && signed(version).is_some()
        });
        if fresh.is_some() && caps.is_none() {
            return Ok(Some(version));
        }
        let changes = caps.is_some();
        let caps = match (caps, view.published) {
            (Some(caps), _) => caps.clone(),
            // What cannot be read any more was a stop, and stays one until a person lifts it.
            (None, Some(published)) => published.caps(now),
            (None, None) => Caps::none(now),
        };
        let body = Targets {
            kind: Targets::TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: version.saturating_add(1),
            expires: now.plus(life),
            targets: BTreeMap::new(),
            delegations: None,
            tuxtape: None,
            tuxtape_hold: Some(
                serde_json::to_value(&caps).expect("caps have only texts and numbers"),
            ),
        };
        let bytes = match self.sign_online(hold::ROLE, &body, &delegated.keys) {
            Ok(bytes) => bytes,
            // With its key lost it ends, which stops rollouts; everything else goes on.
            Err(PublishError::NoOnlineKey { .. }) if !changes && version > 0 => {
                return Ok(Some(version));
            }
            Err(error) => return Err(error),
        };
        batch.hold = Some((format!("{}.{}.json", body.version, hold::ROLE), bytes));
        Ok(Some(body.version))
    }
}
