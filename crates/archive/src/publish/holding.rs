//! Pressing the stop button, with the online key of `hold`.

use tuxtape_core::identity::{KernelRelease, PatchLevel};

use super::commit::Publication;
use super::withdraw::find;
use super::{PublishError, Published, Workspace};
use crate::client::trusted;
use crate::hold::{Cap, Caps, Hold, ROLE};
use crate::index::KernelIndex;
use crate::names;
use crate::time::UtcSeconds;

/// Why a hold cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldingError {
    /// The archive has no such role.
    #[error("this archive has no role hold; run `tuxtape archive rotate hold` and have it signed")]
    Absent,
    /// The kernel has no such level.
    #[error("kernel {release} has no live level{}", .level.map(|l| format!(" {l}")).unwrap_or_default())]
    NoLevel {
        /// The kernel.
        release: KernelRelease,
        /// Asked for; `None` for any.
        level: Option<PatchLevel>,
    },
    /// Not a share.
    #[error("{0} thousandths are no share (0 to 1000)")]
    Share(u32),
    /// The reason is none.
    #[error("the reason must be 1 to 200 printable ASCII characters")]
    Reason,
    /// One kernel is to be let go, but the whole archive is stopped.
    #[error(
        "{0}; letting one kernel go would open nothing: run `tuxtape rollout lift --all` first"
    )]
    AllStopped(String),
    /// Nothing is stopped.
    #[error(
        "no stop of every rollout is set; `tuxtape rollout lift K` lifts the caps of one kernel"
    )]
    NotStopped,
    /// Clients could not read it, which stops every rollout.
    #[error("clients would take the caps for a stop of every rollout: {0}")]
    Unreadable(String),
}

impl Workspace {
    /// Caps the share of nodes that may load a level anew, at once; 0 stops it. `None` caps every live
    /// level of the kernel. The signed schedule stays the ceiling, so a high cap opens nothing.
    pub fn cap(
        &self,
        release: &KernelRelease,
        level: Option<PatchLevel>,
        permille: u32,
        reason: &str,
        now: UtcSeconds,
    ) -> Result<Publication, PublishError> {
        if permille > 1000 {
            return Err(HoldingError::Share(permille).into());
        }
        check_reason(reason)?;
        let (published, mut caps) = self.caps(now)?;
        for target in live_targets(&published, release, level)? {
            caps.set(Cap {
                target,
                permille,
                since: now,
                reason: reason.to_owned(),
            });
        }
        forget_gone(&mut caps, &published)?;
        self.publish_caps(&published, &caps, now)
    }

    /// Takes caps away again; only the signed schedule counts then. Refused while every rollout is
    /// stopped (see [`Self::lift_all`]).
    pub fn lift(
        &self,
        release: &KernelRelease,
        level: Option<PatchLevel>,
        now: UtcSeconds,
    ) -> Result<Publication, PublishError> {
        let (published, mut caps) = self.caps(now)?;
        if let Some(why) = caps.stopped() {
            return Err(HoldingError::AllStopped(why).into());
        }
        let targets = live_targets(&published, release, level)?;
        caps.caps.retain(|cap| !targets.contains(&cap.target));
        forget_gone(&mut caps, &published)?;
        self.publish_caps(&published, &caps, now)
    }

    /// Stops every rollout of the archive; the caps of single levels stay as they are.
    pub fn stop_all(&self, reason: &str, now: UtcSeconds) -> Result<Publication, PublishError> {
        check_reason(reason)?;
        let (published, mut caps) = self.caps(now)?;
        caps.stop = true;
        caps.stop_reason = Some(reason.to_owned());
        self.publish_caps(&published, &caps, now)
    }

    /// Lifts the stop of every rollout, also one that comes of a published hold that cannot be read;
    /// the caps of single levels stay, as far as they can be read. Returns those.
    pub fn lift_all(&self, now: UtcSeconds) -> Result<(Publication, Vec<Cap>), PublishError> {
        let (published, mut caps) = self.caps(now)?;
        // An expired hold is a stop, too, and signing it anew ends that.
        if !caps.stop && matches!(seen(&published, now), Hold::Caps(_)) {
            return Err(HoldingError::NotStopped.into());
        }
        caps.stop = false;
        caps.stop_reason = None;
        forget_gone(&mut caps, &published)?;
        let done = self.publish_caps(&published, &caps, now)?;
        Ok((done, caps.caps))
    }

    /// Returns what is published, and the caps to go on from. What cannot be read was a stop of
    /// everything, and stays one until a person lifts it.
    pub fn caps(&self, now: UtcSeconds) -> Result<(Published, Caps), PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let delegations = published.targets.delegations.clone().unwrap_or_default();
        if delegations.roles.iter().all(|role| role.name != ROLE) {
            return Err(HoldingError::Absent.into());
        }
        let mut caps = published.caps(now);
        caps.created = now;
        Ok((published, caps))
    }

    /// Returns what is published, and what clients make of its stop button at `now`.
    pub fn hold(&self, now: UtcSeconds) -> Result<(Published, Hold), PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let hold = seen(&published, now);
        Ok((published, hold))
    }
}

impl Published {
    /// The version of the hold that the snapshot names; 0 when there never was one.
    pub(super) fn hold_version(&self) -> u64 {
        let named = self.snapshot.meta.get(&format!("{ROLE}.json"));
        named.map_or(0, |meta| meta.version)
    }

    /// The caps that are published, expired or not; a stop where clients cannot read them.
    pub(super) fn caps(&self, now: UtcSeconds) -> Caps {
        if self.hold_version() == 0 {
            return Caps::none(now);
        }
        // What ended was still said.
        match seen(self, UtcSeconds::EPOCH) {
            Hold::Caps(caps) => caps,
            Hold::Absent => Caps::none(now),
            Hold::Unreadable(_) => Caps::unreadable(now),
        }
    }
}

/// What clients make of the published hold.
fn seen(published: &Published, now: UtcSeconds) -> Hold {
    let delegations = published.targets.delegations.clone().unwrap_or_default();
    let Some(delegated) = delegations.roles.iter().find(|role| role.name == ROLE) else {
        return Hold::Absent;
    };
    let version = published.hold_version();
    let file = format!("{version}.{ROLE}.json");
    let Some(bytes) = published.files.get(&file) else {
        return Hold::Unreadable(format!("the archive has no usable {file}"));
    };
    let role = trusted::targets(&delegations.keys, &delegated.keys, ROLE, bytes, &file)
        .and_then(|role| trusted::fresh(&role, ROLE, now).map(|()| role));
    match role {
        Ok(role) if role.version != version => {
            Hold::Unreadable(format!("{file} holds version {}", role.version))
        }
        Ok(role) => Caps::read(&role).map_or_else(
            |why| Hold::Unreadable(format!("the caps are malformed: {why}")),
            Hold::Caps,
        ),
        Err(refusal) => Hold::Unreadable(format!("the caps are not usable: {refusal}")),
    }
}

fn check_reason(reason: &str) -> Result<(), HoldingError> {
    let plain = reason.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if reason.trim().is_empty() || reason.len() > 200 || !plain {
        return Err(HoldingError::Reason);
    }
    Ok(())
}

/// A cap on a level that left its role has no meaning any more.
fn forget_gone(caps: &mut Caps, published: &Published) -> Result<(), PublishError> {
    let mut live = Vec::new();
    for cap in std::mem::take(&mut caps.caps) {
        let role = match names::role_of_target(&cap.target) {
            Some(role) => published.roles.get(&role)?,
            None => None,
        };
        if role.is_some_and(|role| role.targets.contains_key(&cap.target)) {
            live.push(cap);
        }
    }
    caps.caps = live;
    Ok(())
}

fn live_targets(
    published: &Published,
    release: &KernelRelease,
    level: Option<PatchLevel>,
) -> Result<Vec<String>, PublishError> {
    let (arch, _, role) = find(published, release)?;
    let index = KernelIndex::read(&role, arch, release)?;
    let levels = index.kernels.iter().flat_map(|kernel| &kernel.levels);
    let wanted = levels.filter(|known| level.is_none_or(|level| known.level == level));
    let targets: Vec<String> = wanted.map(|known| known.target.clone()).collect();
    if targets.is_empty() {
        return Err(HoldingError::NoLevel {
            release: release.clone(),
            level,
        }
        .into());
    }
    Ok(targets)
}
