//! A small archive for tests of this and other crates: two reviewers, one kernel, real signatures.

use std::fs;
use std::path::{Path, PathBuf};

use tuxtape_core::identity::KernelRelease;
use tuxtape_core::module::{KERNEL_BUILD_ID, sample};

use crate::keys::PrivateKey;
use crate::metadata::{Body, Envelope};
use crate::policy::{Duty, Lifetimes, Person, Policy, Thresholds};
use crate::publish::stage::{StageRequest, Staged, StagedFix};
use crate::publish::{PublishError, Workspace};
use crate::time::UtcSeconds;

/// Release of the kernel that sample modules are for.
pub const RELEASE: &str = "6.1.0-47-cloud-amd64";
/// Build-id of its vmlinux.
pub const KERNEL: [u8; 20] = [0x2f; 20];
/// Its version magic.
pub const VERMAGIC: &str = "6.1.0-47-cloud-amd64 SMP preempt mod_unload modversions ";

/// Returns the time at which sample archives are made.
pub fn start() -> UtcSeconds {
    UtcSeconds::from_unix(1_795_543_200)
}

/// Changes the body of the signed file at `path` and signs it with `keys` alone, as somebody does who
/// holds them.
///
/// # Panics
///
/// If there is no such file or it cannot be written.
pub fn forge<T: Body>(path: &Path, keys: &[&PrivateKey], change: impl FnOnce(&mut T)) {
    let bytes = fs::read(path).expect("a signed file");
    let envelope = Envelope::parse(&bytes, 1 << 22).expect("an envelope");
    let mut body: T = envelope.body().expect("a body of this kind");
    change(&mut body);
    let mut envelope = Envelope::unsigned(&body).expect("a body that can be written");
    for key in keys {
        envelope.sign(key);
    }
    fs::write(path, envelope.to_bytes()).expect("a folder that can be written to");
}

/// Returns the key of the `n`th person.
pub fn key(n: u8) -> PrivateKey {
    PrivateKey::from_seed([n; 32])
}

/// Builds a livepatch module for [`RELEASE`], different for each `n`.
pub fn module(n: u8) -> Vec<u8> {
    module_for(n, VERMAGIC, &KERNEL)
}

/// Builds a livepatch module for any kernel.
pub fn module_for(n: u8, vermagic: &str, kernel: &[u8]) -> Vec<u8> {
    let name = format!("tt_2f2f2f2f_{n}");
    let build_id = hex::encode(kernel);
    let fields = [
        ("license", "GPL"),
        ("livepatch", "Y"),
        ("name", name.as_str()),
        ("vermagic", vermagic),
        (KERNEL_BUILD_ID, build_id.as_str()),
    ];
    sample::module(&fields, &[n; 20])
}

/// Returns a policy with two people who together may sign everything.
pub fn policy() -> Policy {
    Policy {
        format: 1,
        lab: false,
        thresholds: Thresholds {
            root: 2,
            targets: 2,
            kernels: 2,
        },
        lifetimes: Lifetimes::default(),
        people: [("alice", 1), ("bob", 2)]
            .map(|(name, seed)| Person {
                name: name.to_owned(),
                duties: [Duty::Root, Duty::Targets, Duty::Review].into(),
                public: key(seed).public().keyval.public,
            })
            .to_vec(),
    }
}

/// An archive in a folder.
#[derive(Debug)]
pub struct Archive {
    /// Its workspace.
    pub workspace: Workspace,
}

impl Archive {
    /// Makes an archive in `top` with one published level.
    pub fn published(top: &Path) -> Result<Self, PublishError> {
        let archive = Self {
            workspace: Workspace::init(top, &policy(), start())?,
        };
        archive.stage(1, start())?;
        archive.sign_all()?;
        archive.workspace.publish(start())?;
        Ok(archive)
    }

    /// Stages [`module`] `n` as the next level, closing the CVEs 1 to `n`.
    pub fn stage(&self, n: u8, now: UtcSeconds) -> Result<Staged, PublishError> {
        self.stage_module(module(n), n, now)
    }

    /// Stages any module as the next level, closing the CVEs 1 to `n`.
    pub fn stage_module(
        &self,
        module: Vec<u8>,
        n: u8,
        now: UtcSeconds,
    ) -> Result<Staged, PublishError> {
        let release: KernelRelease = RELEASE.parse().expect("a release");
        let fix = |n: u8| StagedFix {
            cve: Some(format!("CVE-2026-{n:04}")),
            commit: None,
            fix_sha256: None,
            expires: None,
        };
        let request = StageRequest {
            release,
            module,
            fixes: (1..=n).map(fix).collect(),
            unpatchable: Vec::new(),
            base_version: Some("6.1.170".to_owned()),
            waves: None,
            floor: None,
            signed: None,
        };
        self.workspace.stage(&request, now)
    }

    /// Signs every open draft with both people's keys.
    pub fn sign_all(&self) -> Result<(), PublishError> {
        for path in self.workspace.open_drafts()? {
            let draft = path.display().to_string();
            let words = self.workspace.show(&draft)?.words;
            for person in [1, 2] {
                self.workspace.sign(&draft, &key(person), &words)?;
            }
        }
        Ok(())
    }

    /// Returns the folder clients fetch from.
    pub fn public(&self) -> PathBuf {
        self.workspace.public()
    }
}
