//! Drafts that change nothing but how long a kernel's role is valid.

use std::path::PathBuf;

use super::{DAY, PublishError, Workspace, body};
use crate::metadata::{Root, Targets};
use crate::time::UtcSeconds;

/// What was drafted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redated {
    /// Drafts that wait for signatures.
    pub drafts: Vec<PathBuf>,
    /// Kernel roles whose open draft changes more than the expiry and was left alone.
    pub open: Vec<String>,
}

/// What people sign offline besides kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopRole {
    /// Whose keys count.
    Root,
    /// The list of kernels.
    Targets,
}

impl Workspace {
    /// Drafts a successor of a published top-level role that is valid longer, with what the policy and the
    /// online keys say now.
    ///
    /// An open draft that still has half of its life stays, with the signatures it has.
    pub fn redate_top(&self, role: TopRole, now: UtcSeconds) -> Result<PathBuf, PublishError> {
        self.published()?.ok_or(PublishError::Unpublished)?;
        let lifetimes = &self.policy.lifetimes;
        let (open, days) = match role {
            TopRole::Root => (self.draft("root")?, lifetimes.root_days),
            TopRole::Targets => (self.draft("targets")?, lifetimes.targets_days),
        };
        if let Some((path, draft)) = open {
            let expires = match role {
                TopRole::Root => body::<Root>(&draft, "root")?.expires,
                TopRole::Targets => body::<Targets>(&draft, "targets")?.expires,
            };
            if expires.since(now) > u64::from(days) * DAY / 2 {
                return Ok(path);
            }
        }
        match role {
            TopRole::Root => self.draft_root(now),
            TopRole::Targets => self.draft_targets(None, now),
        }
    }

    /// Drafts, for every published kernel, a successor that differs in version and expiry alone.
    ///
    /// An earlier one that still has half of its life stays, with the signatures it has.
    pub fn redate(&self, now: UtcSeconds) -> Result<Redated, PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let life = self.kernel_lifetime();
        let mut redated = Redated::default();
        for (name, role) in &published.roles.all()? {
            let successor = Targets {
                version: role.version + 1,
                expires: now.plus(life),
                ..role.clone()
            };
            if let Some((path, draft)) = self.draft(name)? {
                let draft: Targets = body(&draft, name)?;
                let (expires, mut same) = (draft.expires, draft);
                same.expires = successor.expires;
                if same != successor {
                    redated.open.push(name.clone());
                    continue;
                }
                if expires.since(now) > life / 2 {
                    redated.drafts.push(path);
                    continue;
                }
            }
            redated.drafts.push(self.write_draft(name, &successor)?);
        }
        Ok(redated)
    }
}
