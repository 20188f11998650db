//! Drafting the next level of a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tuxtape_core::identity::{BuildId, KernelId, KernelRelease, PatchLevel};
use tuxtape_core::module::{self, KERNEL_BUILD_ID, ModuleError, ModuleIdentity};
use tuxtape_core::rollout::Waves;
use tuxtape_sys::durable;

use super::{PublishError, Workspace};
use crate::index::{
    FORMAT, IndexedFix, IndexedKernel, KernelIndex, Level, Support, SupportState, Unpatchable,
};
use crate::metadata::{Body, SPEC_VERSION, TargetFile, Targets};
use crate::names::{self, cap};
use crate::policy::Duty;
use crate::time::UtcSeconds;

/// Levels of one build that stay in its role.
const LIVE_LEVELS: usize = 3;

/// What the next level is made of.
#[derive(Clone, Debug)]
pub struct StageRequest {
    /// The kernel the operator means; must be the module's own.
    pub release: KernelRelease,
    /// The module's bytes, final: approvals bind to them.
    pub module: Vec<u8>,
    /// Every fix the module carries, old and new.
    pub fixes: Vec<StagedFix>,
    /// CVEs no level can close.
    pub unpatchable: Vec<Unpatchable>,
    /// Upstream point release of the kernel, where known.
    pub base_version: Option<String>,
    /// Rollout schedule; `None` opens the level to every node at once.
    pub waves: Option<Waves>,
    /// Lowest level that may still be loaded, where it is to rise.
    pub floor: Option<PatchLevel>,
    /// How the module was signed for the kernel, where it was.
    pub signed: Option<KernelSignature>,
}

/// Who signed a module for the kernel's own check, and what it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSignature {
    /// SHA-256 of the module without its signature, in hex: what a second builder can compare.
    pub unsigned_sha256: String,
    /// Subject key id of the signer's certificate, in hex.
    pub signer_skid: String,
}

/// A fix in a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagedFix {
    /// The CVE it closes, if any.
    pub cve: Option<String>,
    /// Upstream commit, where known.
    pub commit: Option<String>,
    /// SHA-256 of the source change, where known.
    pub fix_sha256: Option<String>,
    /// Day by which a hotfix without a CVE must be looked at again.
    pub expires: Option<UtcSeconds>,
}

/// What was drafted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The kernel.
    pub kernel: KernelId,
    /// The new level.
    pub level: PatchLevel,
    /// Its target name.
    pub target: String,
    /// SHA-256 of the module.
    pub sha256: String,
    /// The draft of the kernel's role.
    pub draft: PathBuf,
    /// The draft of targets, when this kernel is new.
    pub targets_draft: Option<PathBuf>,
}

/// Why a module cannot be staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It is no readable module.
    #[error("the module is not usable")]
    Module(#[from] ModuleError),
    /// It is no livepatch.
    #[error("the module is no livepatch (modinfo has no livepatch=Y)")]
    NotLivepatch,
    /// It was made for another kernel.
    #[error("the module was made for {module}, not for {wanted}")]
    Release {
        /// The module's own.
        module: String,
        /// What the operator means.
        wanted: KernelRelease,
    },
    /// It does not say which vmlinux it was made for.
    #[error(
        "the module does not say which vmlinux it was made for (modinfo has no {KERNEL_BUILD_ID})"
    )]
    NoKernelBuildId,
    /// Another version magic than this build's earlier levels.
    #[error("vermagic is {module:?}, earlier levels have {earlier:?}")]
    Vermagic {
        /// The module's own.
        module: String,
        /// The index's.
        earlier: String,
    },
    /// The very module is a level already.
    #[error("this module is level {0} already")]
    Already(PatchLevel),
    /// The kernel takes no second module of one name.
    #[error(
        "the module's name {name} is that of level {level}; the kernel holds one module of a name, so each level needs its own"
    )]
    Name {
        /// The name.
        name: String,
        /// The level that has it.
        level: PatchLevel,
    },
    /// Too large to serve.
    #[error("the module has {length} bytes, clients take {cap}")]
    TooLarge {
        /// Its bytes.
        length: u64,
        /// Bytes clients take.
        cap: u64,
    },
    /// The floor would go down, or shut out every level.
    #[error("the floor cannot be level {wanted}: it is {now} now, and the new level is {level}")]
    Floor {
        /// Asked for.
        wanted: PatchLevel,
        /// Present floor.
        now: PatchLevel,
        /// The new level.
        level: PatchLevel,
    },
    /// A hotfix whose day has passed.
    #[error(
        "hotfix {what} was to be looked at again by {at}; give it a later day, or leave it out"
    )]
    HotfixOver {
        /// Its commit or digest.
        what: String,
        /// The day.
        at: UtcSeconds,
    },
    /// A level of this kernel waits for signatures.
    #[error(
        "level {0} of this kernel waits for signatures; publish it, or delete its draft, first"
    )]
    Open(PatchLevel),
}

impl Workspace {
    /// Drafts the next level of the kernel that the module was made for.
    ///
    /// The module's bytes are kept with the draft; nothing becomes public.
    pub fn stage(&self, request: &StageRequest, now: UtcSeconds) -> Result<Staged, PublishError> {
        let identity = check_module(request)?;
        // Before anything is written: with too few reviewers the level could never be signed.
        self.policy.role(Duty::Review)?;
        let kernel = KernelId {
            arch: identity.arch,
            release: request.release.clone(),
            build_id: identity
                .kernel_build_id
                .clone()
                .ok_or(StageError::NoKernelBuildId)?,
        };
        let over = request
            .fixes
            .iter()
            .find(|fix| fix.expires.is_some_and(|at| at <= now));
        if let Some((fix, at)) = over.and_then(|fix| Some((fix, fix.expires?))) {
            let what = fix.commit.clone().or_else(|| fix.fix_sha256.clone());
            let what = what.unwrap_or_default();
            return Err(StageError::HotfixOver { what, at }.into());
        }
        let role = names::role(kernel.arch, &kernel.release)?;
        let published = self.published()?;
        let before = published.as_ref().map(|known| known.roles.get(&role));
        let before = before.transpose()?.flatten();
        let before = before.as_ref();
        self.no_open_level(&role, before)?;
        let index = match before {
            Some(before) => KernelIndex::read(before, kernel.arch, &kernel.release)?,
            None => KernelIndex {
                format: FORMAT,
                arch: kernel.arch,
                release: kernel.release.clone(),
                created: now,
                kernels: Vec::new(),
                notes: BTreeMap::new(),
            },
        };
        let sha256 = hex::encode(Sha256::digest(&request.module));
        let old_targets = before
            .map(|before| before.targets.clone())
            .unwrap_or_default();
        let (index, level) = next_index(index, &identity, request, &sha256, &old_targets, now)?;
        let target = names::target(&kernel, level)?;
        let mut targets = old_targets;
        targets.insert(
            target.clone(),
            TargetFile {
                length: request.module.len() as u64,
                hashes: BTreeMap::from([("sha256".to_owned(), sha256.clone())]),
            },
        );
        let levels = index.kernels.iter().flat_map(|kernel| &kernel.levels);
        let live: BTreeSet<&String> = levels.map(|level| &level.target).collect();
        targets.retain(|name, _| live.contains(name));
        index.check(&targets)?;
        index.check_rollout()?;
        let body = Targets {
            kind: Targets::TYPE.to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: before.map_or(0, |before| before.version) + 1,
            expires: now.plus(self.kernel_lifetime()),
            targets,
            delegations: None,
            tuxtape: Some(
                serde_json::to_value(&index).expect("an index has only texts and numbers"),
            ),
            tuxtape_hold: None,
        };
        let modules = self.drafts().join("modules");
        durable::write(&modules.join(format!("{sha256}.{target}")), &request.module)?;
        let draft = self.write_draft(&role, &body)?;
        let known = self.newest("targets", published.as_ref().map(|p| &p.targets))?;
        let delegations = known
            .and_then(|targets| targets.delegations)
            .unwrap_or_default();
        let targets_draft = if delegations.roles.iter().any(|known| known.name == role) {
            None
        } else {
            let pattern = names::pattern(kernel.arch, &kernel.release)?;
            Some(self.draft_targets(Some((role, pattern)), now)?)
        };
        Ok(Staged {
            kernel,
            level,
            target,
            sha256,
            draft,
            targets_draft,
        })
    }

    /// Two levels of one kernel are never open at once: the second would replace the first unseen.
    pub(super) fn no_open_level(
        &self,
        role: &str,
        before: Option<&Targets>,
    ) -> Result<(), PublishError> {
        let Some((_, draft)) = self.draft(role)? else {
            return Ok(());
        };
        let draft: Targets = super::body(&draft, role)?;
        let published = before
            .map(|before| before.targets.clone())
            .unwrap_or_default();
        let added = draft
            .targets
            .keys()
            .find(|name| !published.contains_key(*name));
        let level = added.and_then(|name| {
            let text = name.rsplit_once("__")?.1.strip_suffix(".ko")?;
            text.parse().ok().map(PatchLevel)
        });
        match level {
            Some(level) => Err(StageError::Open(level).into()),
            None => Ok(()),
        }
    }
}

fn check_module(request: &StageRequest) -> Result<ModuleIdentity, StageError> {
    let length = request.module.len() as u64;
    if length > cap::MODULE {
        return Err(StageError::TooLarge {
            length,
            cap: cap::MODULE,
        });
    }
    let identity = module::read(&request.module)?;
    if !identity.livepatch {
        return Err(StageError::NotLivepatch);
    }
    if identity.release() != request.release.as_str() {
        return Err(StageError::Release {
            module: identity.release().to_owned(),
            wanted: request.release.clone(),
        });
    }
    Ok(identity)
}

fn next_index(
    mut index: KernelIndex,
    identity: &ModuleIdentity,
    request: &StageRequest,
    sha256: &str,
    targets: &BTreeMap<String, TargetFile>,
    now: UtcSeconds,
) -> Result<(KernelIndex, PatchLevel), PublishError> {
    let build_id = identity
        .kernel_build_id
        .clone()
        .ok_or(StageError::NoKernelBuildId)?;
    let taken = index.kernels.iter().flat_map(|kernel| &kernel.levels);
    if let Some(level) = taken.clone().find(|level| level.module == identity.name) {
        let digest = targets
            .get(&level.target)
            .and_then(|file| file.hashes.get("sha256"));
        return Err(match digest {
            Some(digest) if digest == sha256 => StageError::Already(level.level),
            Some(_) | None => StageError::Name {
                name: identity.name.clone(),
                level: level.level,
            },
        }
        .into());
    }
    let (release, arch) = (index.release.clone(), index.arch);
    let kernel = entry(&mut index, identity, &build_id);
    if kernel.vermagic != identity.vermagic {
        return Err(StageError::Vermagic {
            module: identity.vermagic.clone(),
            earlier: kernel.vermagic.clone(),
        }
        .into());
    }
    let level = PatchLevel(highest(kernel).0 + 1);
    let id = KernelId {
        arch,
        release,
        build_id,
    };
    kernel.levels.push(Level {
        level,
        target: names::target(&id, level)?,
        created: now,
        module: identity.name.clone(),
        module_build_id: identity.build_id.clone(),
        srcversion: identity.srcversion.clone(),
        unsigned_sha256: request.signed.as_ref().map(|s| s.unsigned_sha256.clone()),
        signer_skid: request.signed.as_ref().map(|s| s.signer_skid.clone()),
        waves: request.waves.clone(),
    });
    if let Some(wanted) = request.floor {
        if wanted < kernel.floor || wanted > level {
            let now = kernel.floor;
            return Err(StageError::Floor { wanted, now, level }.into());
        }
        kernel.floor = wanted;
    }
    let surplus = kernel.levels.len().saturating_sub(LIVE_LEVELS);
    kernel.levels.drain(..surplus);
    carry_fixes(kernel, &request.fixes, level);
    kernel.unpatchable.clone_from(&request.unpatchable);
    if request.base_version.is_some() {
        kernel.base_version.clone_from(&request.base_version);
    }
    index.created = now;
    Ok((index, level))
}

fn entry<'a>(
    index: &'a mut KernelIndex,
    identity: &ModuleIdentity,
    build_id: &BuildId,
) -> &'a mut IndexedKernel {
    let known = index
        .kernels
        .iter()
        .position(|kernel| kernel.build_id == *build_id);
    let at = known.unwrap_or_else(|| {
        index.kernels.push(IndexedKernel {
            build_id: build_id.clone(),
            base_version: None,
            vermagic: identity.vermagic.clone(),
            support: Support {
                state: SupportState::Supported,
                until: None,
            },
            floor: PatchLevel(1),
            levels: Vec::new(),
            fixes: Vec::new(),
            withdrawn: Vec::new(),
            unpatchable: Vec::new(),
        });
        index.kernels.len() - 1
    });
    &mut index.kernels[at]
}

/// Levels are never reused, so those that left the role or were withdrawn count too.
fn highest(kernel: &IndexedKernel) -> PatchLevel {
    let levels = kernel.levels.iter().map(|level| level.level);
    let withdrawn = kernel.withdrawn.iter().map(|entry| entry.level);
    let fixes = kernel
        .fixes
        .iter()
        .map(|fix| fix.until.unwrap_or(fix.since));
    levels
        .chain(withdrawn)
        .chain(fixes)
        .max()
        .unwrap_or(PatchLevel(0))
}

/// A fix the new module carries keeps its `since`; one it does not carry ends here, so that the index
/// never claims a fix that is not in the module.
fn carry_fixes(kernel: &mut IndexedKernel, fixes: &[StagedFix], level: PatchLevel) {
    let staged = |fix: &IndexedFix| StagedFix {
        cve: fix.cve.clone(),
        commit: fix.commit.clone(),
        fix_sha256: fix.fix_sha256.clone(),
        expires: fix.expires,
    };
    let wanted: BTreeSet<&StagedFix> = fixes.iter().collect();
    for fix in &mut kernel.fixes {
        if fix.until.is_none() && !wanted.contains(&staged(fix)) {
            fix.until = Some(level);
        }
    }
    for fix in wanted {
        let carried = |known: &IndexedFix| known.until.is_none() && staged(known) == *fix;
        if !kernel.fixes.iter().any(carried) {
            kernel.fixes.push(IndexedFix {
                cve: fix.cve.clone(),
                commit: fix.commit.clone(),
                fix_sha256: fix.fix_sha256.clone(),
                since: level,
                until: None,
                expires: fix.expires,
            });
        }
    }
}
