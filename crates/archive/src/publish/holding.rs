//! Pressing the stop button, with the online key of `hold`.

use tuxtape_core::identity::{KernelRelease, PatchLevel};

use super::commit::Publication;
use super::withdraw::find;
use super::{PublishError, Published, Workspace};
use crate::hold::{Cap, Caps, ROLE};
use crate::index::KernelIndex;
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
        let plain = reason.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if reason.is_empty() || reason.len() > 200 || !plain {
            return Err(HoldingError::Reason.into());
        }
        let (published, mut caps) = self.caps(now)?;
        for target in live_targets(&published, release, level)? {
            caps.set(Cap {
                target,
                permille,
                since: now,
                reason: reason.to_owned(),
            });
        }
        forget_gone(&mut caps, &published);
        self.publish_caps(&published, &caps, now)
    }

    /// Takes caps away again; only the signed schedule counts then.
    pub fn lift(
        &self,
        release: &KernelRelease,
        level: Option<PatchLevel>,
        now: UtcSeconds,
    ) -> Result<Publication, PublishError> {
        let (published, mut caps) = self.caps(now)?;
        let targets = live_targets(&published, release, level)?;
        caps.caps.retain(|cap| !targets.contains(&cap.target));
        forget_gone(&mut caps, &published);
        self.publish_caps(&published, &caps, now)
    }

    /// Stops, or lets go, every rollout of the archive.
    pub fn stop_all(&self, stop: bool, now: UtcSeconds) -> Result<Publication, PublishError> {
        let (published, mut caps) = self.caps(now)?;
        caps.stop = stop;
        self.publish_caps(&published, &caps, now)
    }

    /// Returns what is published, and the caps in it.
    pub fn caps(&self, now: UtcSeconds) -> Result<(Published, Caps), PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let delegations = published.targets.delegations.clone().unwrap_or_default();
        if delegations.roles.iter().all(|role| role.name != ROLE) {
            return Err(HoldingError::Absent.into());
        }
        let mut caps = match &published.hold {
            Some(hold) => Caps::read(hold).map_err(HoldingError::Unreadable)?,
            None => Caps::none(now),
        };
        caps.created = now;
        Ok((published, caps))
    }
}

/// A cap on a level that left its role has no meaning any more.
fn forget_gone(caps: &mut Caps, published: &Published) {
    let live = |cap: &Cap| {
        published
            .roles
            .values()
            .any(|role| role.targets.contains_key(&cap.target))
    };
    caps.caps.retain(live);
}

fn live_targets(
    published: &Published,
    release: &KernelRelease,
    level: Option<PatchLevel>,
) -> Result<Vec<String>, PublishError> {
    let (arch, _, role) = find(published, release)?;
    let index = KernelIndex::read(role, arch, release)?;
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
