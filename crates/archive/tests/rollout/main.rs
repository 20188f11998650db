//! Withdrawing, stopping, rotating, pruning, carrying by hand.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod hold;
mod mirror;
mod people;
mod schedule;
mod withdraw;

use std::fs;
use std::path::Path;

use tuxtape_archive::client::{self, MemoryStore, Store, Stored, UpdateError};
use tuxtape_archive::hold::Hold;
use tuxtape_archive::index::{KernelIndex, OnWithdraw};
use tuxtape_archive::metadata::Targets;
use tuxtape_archive::publish::withdraw::WithdrawRequest;
use tuxtape_archive::sample::{Archive, RELEASE};
use tuxtape_archive::source::DirectorySource;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{Arch, PatchLevel};

fn archive() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::published(&folder.path().join("archive")).unwrap();
    (folder, archive)
}

fn next(archive: &Archive, n: u8, now: UtcSeconds) {
    archive.stage(n, now).unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(now).unwrap();
}

fn request(level: u32, on_withdraw: OnWithdraw) -> WithdrawRequest {
    WithdrawRequest {
        release: RELEASE.parse().unwrap(),
        build: None,
        level: PatchLevel(level),
        on_withdraw,
        reason: "hangs in madvise under load".to_owned(),
    }
}

/// What a client that starts from the first root sees.
fn seen(public: &Path, now: UtcSeconds) -> Result<(KernelIndex, Targets, Hold), UpdateError> {
    let root = fs::read(public.join("metadata/1.root.json")).unwrap();
    let mut store = MemoryStore::default();
    store.save(&Stored::Root, &root)?;
    seen_from(&mut store, public, now)
}

fn seen_from(
    store: &mut dyn Store,
    public: &Path,
    now: UtcSeconds,
) -> Result<(KernelIndex, Targets, Hold), UpdateError> {
    let source = DirectorySource::new(public);
    let mut session = client::refresh(store, &source, now)?;
    let (role, index) = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())?
        .unwrap();
    Ok((index, role, session.hold()?))
}
