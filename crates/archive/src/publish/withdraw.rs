//! Taking a published level back.

use std::fs;
use std::path::PathBuf;

use tuxtape_core::identity::{Arch, KernelId, KernelRelease, PatchLevel};

use super::{PublishError, Published, Workspace, body};
use crate::index::{IndexedKernel, KernelIndex, OnWithdraw, Withdrawn};
use crate::metadata::Targets;
use crate::names;
use crate::policy::Duty;
use crate::time::UtcSeconds;
use crate::words::one_line;

/// What is to be taken back.
#[derive(Clone, Debug)]
pub struct WithdrawRequest {
    /// The kernel.
    pub release: KernelRelease,
    /// First digits of the build-id, where the release has several builds with that level.
    pub build: Option<String>,
    /// The level.
    pub level: PatchLevel,
    /// What nodes that run it do.
    pub on_withdraw: OnWithdraw,
    /// Why, for people: printable ASCII.
    pub reason: String,
}

/// What was drafted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawDraft {
    /// The kernel.
    pub kernel: KernelId,
    /// The level.
    pub level: PatchLevel,
    /// Its target.
    pub target: String,
    /// SHA-256 of its module.
    pub sha256: String,
    /// The draft that wants signatures.
    pub draft: PathBuf,
    /// The level that nodes go to; `None` for the stock kernel.
    pub falls_to: Option<PatchLevel>,
    /// An open draft with a newer level, moved there: it has to be staged again.
    pub set_aside: Option<PathBuf>,
}

/// Why a level cannot be withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WithdrawError {
    /// No such kernel.
    #[error("the archive has no kernel {release}; it has {known}")]
    NoKernel {
        /// Asked for.
        release: KernelRelease,
        /// What there is.
        known: String,
    },
    /// No such level.
    #[error("kernel {release} never had a level {level}; live levels: {live}")]
    NoLevel {
        /// The kernel.
        release: KernelRelease,
        /// Asked for.
        level: PatchLevel,
        /// What there is.
        live: String,
    },
    /// More than one build has that level.
    #[error("level {level} is there for several builds; say which: {builds}")]
    Builds {
        /// Asked for.
        level: PatchLevel,
        /// What there is.
        builds: String,
    },
    /// It is withdrawn already.
    #[error("level {level} was withdrawn at {at}: {reason}")]
    Already {
        /// The level.
        level: PatchLevel,
        /// Since when.
        at: UtcSeconds,
        /// Why.
        reason: String,
    },
    /// The reason is none.
    #[error("the reason must be 1 to 200 printable ASCII characters")]
    Reason,
}

impl Workspace {
    /// Drafts an index in which a level is withdrawn.
    ///
    /// An open draft with a newer level does not stand in the way: it is set aside. One that changes
    /// nothing but dates or earlier withdrawals is carried on.
    pub fn withdraw(
        &self,
        request: &WithdrawRequest,
        now: UtcSeconds,
    ) -> Result<WithdrawDraft, PublishError> {
        let plain = request
            .reason
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~'));
        if request.reason.trim().is_empty() || request.reason.len() > 200 || !plain {
            return Err(WithdrawError::Reason.into());
        }
        self.policy.role(Duty::Review)?;
        let published = self.published()?.ok_or(PublishError::Unpublished)?;
        let (arch, role, before) = find(&published, &request.release)?;
        let open = self.draft(&role)?;
        let newer_level = self.no_open_level(&role, Some(&before)).is_err();
        let (base, open) = match open {
            Some((_, envelope)) if !newer_level => (body::<Targets>(&envelope, &role)?, None),
            Some((path, _)) => (before.clone(), Some(path)),
            None => (before.clone(), None),
        };
        let mut index = KernelIndex::read(&base, arch, &request.release)?;
        let (at, target, sha256) = self.locate(&index, &base, request)?;
        let id = index.kernel_id(&index.kernels[at]);
        let kernel = &mut index.kernels[at];
        let known = kernel.withdrawn.iter().find(|entry| entry.sha256 == sha256);
        if let Some(known) = known {
            let stricter =
                known.on_withdraw == OnWithdraw::Keep && request.on_withdraw == OnWithdraw::Revert;
            if !stricter {
                return Err(WithdrawError::Already {
                    level: known.level,
                    at: known.at,
                    reason: one_line(&known.reason),
                }
                .into());
            }
        }
        kernel.withdrawn.retain(|entry| entry.sha256 != sha256);
        kernel.withdrawn.push(Withdrawn {
            level: request.level,
            sha256: sha256.clone(),
            on_withdraw: request.on_withdraw,
            reason: request.reason.clone(),
            at: now,
        });
        kernel.withdrawn.sort_by_key(|entry| entry.level);
        let falls_to = kernel.newest(&base.targets).map(|level| level.level);
        index.created = now;
        index.check(&base.targets)?;
        let successor = Targets {
            version: before.version + 1,
            expires: now.plus(self.kernel_lifetime()),
            tuxtape: Some(
                serde_json::to_value(&index).expect("an index has only texts and numbers"),
            ),
            ..base
        };
        let set_aside = open.map(|path| self.set_aside(&path, now)).transpose()?;
        Ok(WithdrawDraft {
            kernel: id,
            level: request.level,
            target,
            sha256,
            draft: self.write_draft(&role, &successor)?,
            falls_to,
            set_aside,
        })
    }

    /// Finds the build, the target and the digest of a level that is, or was, in the index.
    fn locate(
        &self,
        index: &KernelIndex,
        role: &Targets,
        request: &WithdrawRequest,
    ) -> Result<(usize, String, String), PublishError> {
        let wanted = |kernel: &IndexedKernel| {
            let build = request.build.as_deref().unwrap_or_default();
            kernel.build_id.to_string().starts_with(build)
        };
        let mut found = Vec::new();
        for (at, kernel) in index.kernels.iter().enumerate() {
            if !wanted(kernel) {
                continue;
            }
            let target = names::target(&index.kernel_id(kernel), request.level)?;
            let digest = match role.targets.get(&target) {
                Some(file) => file.hashes.get("sha256").cloned(),
                // It left the role; its file is still there for a year.
                None => self.digest_of(&target)?,
            };
            found.extend(digest.map(|digest| (at, target, digest)));
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => {
                let levels = index.kernels.iter().flat_map(|kernel| &kernel.levels);
                let live: Vec<String> = levels.map(|level| level.level.to_string()).collect();
                Err(WithdrawError::NoLevel {
                    release: request.release.clone(),
                    level: request.level,
                    live: live.join(", "),
                }
                .into())
            }
            _ => {
                let builds = found
                    .iter()
                    .map(|(at, _, _)| index.kernels[*at].build_id.short());
                let builds: Vec<String> = builds.map(|build| format!("--build {build}")).collect();
                Err(WithdrawError::Builds {
                    level: request.level,
                    builds: builds.join(", "),
                }
                .into())
            }
        }
    }

    fn digest_of(&self, target: &str) -> Result<Option<String>, PublishError> {
        let folder = self.public().join("targets");
        let failed = |source| PublishError::File {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let digest = name
                .to_str()
                .and_then(|name| name.strip_suffix(target)?.strip_suffix('.'));
            if let Some(digest) = digest.filter(|digest| digest.len() == 64) {
                return Ok(Some(digest.to_owned()));
            }
        }
        Ok(None)
    }

    /// Moves a draft out of the way, with the signatures it has.
    fn set_aside(&self, path: &std::path::Path, now: UtcSeconds) -> Result<PathBuf, PublishError> {
        let folder = self.drafts().join("aside");
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source| PublishError::File { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = folder.join(format!("{}.{name}", now.unix()));
        fs::rename(path, &to).map_err(failed(&to))?;
        Ok(to)
    }
}

/// Finds the role of a kernel release.
pub(super) fn find(
    published: &Published,
    release: &KernelRelease,
) -> Result<(Arch, String, Targets), PublishError> {
    let arch = Arch::X86_64;
    let role = names::role(arch, release)?;
    if let Some(body) = published.roles.get(&role)? {
        return Ok((arch, role, body));
    }
    let known = published
        .roles
        .versions()
        .keys()
        .filter_map(|role| super::commit::kernel_of(role));
    let known: Vec<String> = known.map(|(_, release)| release.to_string()).collect();
    Err(WithdrawError::NoKernel {
        release: release.clone(),
        known: if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        },
    }
    .into())
}
