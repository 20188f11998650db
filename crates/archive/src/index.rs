//! The `KernelIndex`: what a kernel's signed role says, beyond digests and lengths.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tuxtape_core::identity::{Arch, BuildId, KernelId, KernelRelease, PatchLevel};
use tuxtape_core::rollout::Waves;

use crate::metadata::{TargetFile, Targets};
use crate::names::{self, NameTooLong};
use crate::time::UtcSeconds;

/// The format this code writes and reads.
pub const FORMAT: u32 = 1;

/// Levels, fixes and withdrawals of every build of one kernel release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelIndex {
    /// Always [`FORMAT`].
    pub format: u32,
    /// Architecture.
    pub arch: Arch,
    /// `uname -r`.
    pub release: KernelRelease,
    /// When it was drafted.
    pub created: UtcSeconds,
    /// One entry per build that carries this release text.
    pub kernels: Vec<IndexedKernel>,
    /// Free text for people and tools; the only open part.
    #[serde(default)]
    pub notes: BTreeMap<String, Value>,
}

/// One kernel build in a [`KernelIndex`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedKernel {
    /// Build-id of its vmlinux.
    pub build_id: BuildId,
    /// Upstream point release it sits on, where known.
    pub base_version: Option<String>,
    /// Version magic every module must carry, whole.
    pub vermagic: String,
    /// Whether new levels are to be expected.
    pub support: Support,
    /// Lowest level that may be loaded.
    pub floor: PatchLevel,
    /// Levels that may be loaded, rising.
    pub levels: Vec<Level>,
    /// Every fix that is or was in a level.
    pub fixes: Vec<IndexedFix>,
    /// Levels that must not be loaded any more.
    pub withdrawn: Vec<Withdrawn>,
    /// CVEs this kernel has and no level can close.
    pub unpatchable: Vec<Unpatchable>,
}

/// Whether a kernel is still served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// In Canonical's words.
    pub state: SupportState,
    /// Last day, `YYYY-MM-DD`, where announced.
    pub until: Option<String>,
}

/// Words for [`Support`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupportState {
    /// New levels come.
    Supported,
    /// A newer kernel must be booted to get more fixes.
    KernelUpgradeRequired,
    /// No more levels.
    KernelEndOfLife,
}

/// One cumulative module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Counts per build-id, never reused.
    pub level: PatchLevel,
    /// Its file in `targets`.
    pub target: String,
    /// When it was staged.
    pub created: UtcSeconds,
    /// Name the module has in the kernel.
    pub module: String,
    /// GNU build-id of the module.
    pub module_build_id: BuildId,
    /// The module's own source digest, where it has one.
    pub srcversion: Option<String>,
    /// SHA-256 before the module was signed for the kernel, where it was.
    pub unsigned_sha256: Option<String>,
    /// Key id of the module's kernel signature, where there is one.
    pub signer_skid: Option<String>,
    /// Rollout schedule; absent means open to every node at once. A malformed one opens to none.
    pub waves: Option<Waves>,
}

/// A fix, and the levels that carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedFix {
    /// The CVE it closes, if any.
    pub cve: Option<String>,
    /// Upstream commit, where known.
    pub commit: Option<String>,
    /// SHA-256 of the source change, where known.
    pub fix_sha256: Option<String>,
    /// First level with it.
    pub since: PatchLevel,
    /// First level without it again, if it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<PatchLevel>,
    /// Day by which a hotfix, which closes no CVE, must be looked at again. Nothing is unloaded then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UtcSeconds>,
}

impl IndexedFix {
    /// Tells whether `level` carries this fix.
    pub fn is_in(&self, level: PatchLevel) -> bool {
        self.since <= level && self.until.is_none_or(|until| level < until)
    }
}

/// A level that must not be loaded any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The level.
    pub level: PatchLevel,
    /// SHA-256 of its module.
    pub sha256: String,
    /// What a node that runs it does.
    pub on_withdraw: OnWithdraw,
    /// Why, for people.
    pub reason: String,
    /// When.
    pub at: UtcSeconds,
}

/// What a node that runs a withdrawn level does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnWithdraw {
    /// Leaves it.
    Revert,
    /// Keeps it until the next boot.
    Keep,
}

/// A CVE no level can close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpatchable {
    /// The CVE.
    pub cve: String,
    /// Why, in one word.
    pub why: String,
}

/// Why a role's body is no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The role has no index.
    #[error("index missing")]
    Missing,
    /// Written by a newer publisher.
    #[error("this client is too old for the index: {0}")]
    TooNew(String),
    /// It contradicts itself or the targets.
    #[error("index malformed: {0}")]
    Malformed(String),
    /// The release has no name.
    #[error(transparent)]
    Name(#[from] NameTooLong),
}

impl KernelIndex {
    /// Reads the index of `arch` and `release` from its role, and checks it against the targets there.
    pub fn read(role: &Targets, arch: Arch, release: &KernelRelease) -> Result<Self, IndexError> {
        let body = role.tuxtape.as_ref().ok_or(IndexError::Missing)?;
        let format = body.get("format").and_then(Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(IndexError::TooNew(match format {
                Some(format) => format!("format {format}, known is {FORMAT}"),
                None => "it names no format".to_owned(),
            }));
        }
        let index = Self::deserialize(body).map_err(|e| IndexError::TooNew(e.to_string()))?;
        if index.arch != arch || index.release != *release {
            return Err(IndexError::Malformed(format!(
                "it is for {} {}, want {arch} {release}",
                index.arch, index.release
            )));
        }
        index.check(&role.targets)?;
        Ok(index)
    }

    /// Checks the index against itself and against the targets it goes with.
    pub fn check(&self, targets: &BTreeMap<String, TargetFile>) -> Result<(), IndexError> {
        let bad = |what: String| Err(IndexError::Malformed(what));
        let mut named = BTreeSet::new();
        let mut builds = BTreeSet::new();
        let mut modules = BTreeSet::new();
        for kernel in &self.kernels {
            if !builds.insert(&kernel.build_id) {
                return bad(format!("build {} is listed twice", kernel.build_id));
            }
            if kernel.vermagic.split(' ').next() != Some(self.release.as_str()) {
                return bad(format!(
                    "vermagic {:?} is of another release",
                    kernel.vermagic
                ));
            }
            if let Some(entry) = kernel.withdrawn.iter().find(|e| !is_digest(&e.sha256)) {
                return bad(format!(
                    "the withdrawal of level {} has no sha256",
                    entry.level
                ));
            }
            for fix in &kernel.fixes {
                check_fix(fix)?;
            }
            let mut before = PatchLevel(0);
            for level in &kernel.levels {
                if level.level <= before {
                    return bad(format!("levels do not rise at {}", level.level));
                }
                before = level.level;
                let id = self.kernel_id(kernel);
                if level.target != names::target(&id, level.level)? {
                    return bad(format!("level {} has the target of another", level.level));
                }
                let Some(target) = targets.get(&level.target) else {
                    return bad(format!("level {} names no target", level.level));
                };
                // A client knows a module again by this text: withdrawals and its own quarantine.
                if !target.hashes.get("sha256").is_some_and(|d| is_digest(d)) {
                    return bad(format!("level {} has no sha256", level.level));
                }
                if !modules.insert(&level.module) {
                    return bad(format!("two levels are called {}", level.module));
                }
                named.insert(&level.target);
            }
        }
        match targets.keys().find(|target| !named.contains(target)) {
            Some(target) => bad(format!("no level names the target {target}")),
            None => Ok(()),
        }
    }

    /// Checks what a client answers by waiting: schedules, and a level that is out of everybody's reach.
    pub fn check_rollout(&self) -> Result<(), IndexError> {
        for level in self.kernels.iter().flat_map(|kernel| &kernel.levels) {
            if let Some(error) = level.waves.as_ref().and_then(|waves| waves.check().err()) {
                return Err(IndexError::Malformed(format!(
                    "the schedule of level {}: {error}",
                    level.level
                )));
            }
        }
        Ok(())
    }

    /// Returns the entry of the build that `build_id` names.
    pub fn kernel(&self, build_id: &BuildId) -> Option<&IndexedKernel> {
        self.kernels
            .iter()
            .find(|kernel| kernel.build_id == *build_id)
    }

    /// Returns the full identity of one of its kernels.
    pub fn kernel_id(&self, kernel: &IndexedKernel) -> KernelId {
        KernelId {
            arch: self.arch,
            release: self.release.clone(),
            build_id: kernel.build_id.clone(),
        }
    }
}

/// A fix is known by its CVE; without one, by its commit or the digest of its source change.
fn check_fix(fix: &IndexedFix) -> Result<(), IndexError> {
    let bad = |what: String| Err(IndexError::Malformed(what));
    if fix.until.is_some_and(|until| until <= fix.since) {
        return bad(format!(
            "a fix of level {} ends before it begins",
            fix.since
        ));
    }
    if fix
        .fix_sha256
        .as_ref()
        .is_some_and(|digest| !is_digest(digest))
    {
        return bad(format!("a fix of level {} has no sha256", fix.since));
    }
    match (&fix.cve, fix.expires) {
        (Some(cve), Some(_)) => bad(format!("{cve} expires; only a fix without a CVE may")),
        (None, _) if fix.commit.is_none() && fix.fix_sha256.is_none() => bad(format!(
            "a fix of level {} names neither CVE, commit nor source change",
            fix.since
        )),
        (Some(_), None) | (None, _) => Ok(()),
    }
}

/// Whether a text is a SHA-256 in the one form that is written: lowercase hexadecimal.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl IndexedKernel {
    /// Returns the withdrawal of the module with this digest, if it was withdrawn.
    pub fn withdrawal(&self, sha256: &str) -> Option<&Withdrawn> {
        self.withdrawn.iter().find(|entry| entry.sha256 == sha256)
    }

    /// Returns the newest level that may be loaded: not withdrawn, and not below the floor.
    pub fn newest(&self, targets: &BTreeMap<String, TargetFile>) -> Option<&Level> {
        self.levels.iter().rev().find(|level| {
            let digest = targets
                .get(&level.target)
                .and_then(|file| file.hashes.get("sha256"));
            level.level >= self.floor
                && digest.is_some_and(|digest| self.withdrawal(digest).is_none())
        })
    }

    /// Returns the level of that number.
    pub fn level(&self, level: PatchLevel) -> Option<&Level> {
        self.levels.iter().find(|known| known.level == level)
    }

    /// Returns the CVEs that `level` closes, sorted.
    pub fn cves(&self, level: PatchLevel) -> BTreeSet<String> {
        let fixes = self.fixes.iter().filter(|fix| fix.is_in(level));
        fixes.filter_map(|fix| fix.cve.clone()).collect()
    }
}
