//! Drafts that change nothing but how long a kernel's role is valid.

use std::path::PathBuf;

use super::{PublishError, Workspace, body};
use crate::metadata::Targets;
use crate::time::UtcSeconds;

/// What was drafted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redated {
    /// Drafts that wait for signatures.
    pub drafts: Vec<PathBuf>,
    /// Kernel roles whose open draft changes more than the expiry and was left alone.
    pub open: Vec<String>,
}

impl Workspace {
    /// Drafts, for every published kernel, a successor that differs in version and expiry alone.
    ///
    /// An earlier one that still has half of its life stays, with the signatures it has.
    pub fn redate(&self, now: UtcSeconds) -> Result<Redated, PublishError> {
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let life = self.kernel_lifetime();
        let mut redated = Redated::default();
        for (name, role) in &published.roles {
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
