//! What only people can renew is said in time, and how; and a rotation that was cut short goes on.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::path::Path;

use tuxtape_archive::client::{self, MemoryStore, Store, Stored};
use tuxtape_archive::publish::redate::TopRole;
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::sample::{Archive, RELEASE, start};
use tuxtape_archive::source::DirectorySource;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::Arch;

const DAY: u64 = 86_400;

fn archive() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::published(&folder.path().join("archive")).unwrap();
    (folder, archive)
}

/// Roles that a renewal at `now` names as ending.
fn named(archive: &Archive, now: UtcSeconds) -> Vec<String> {
    let done = archive.workspace.renew(now).unwrap();
    done.endings.into_iter().map(|ending| ending.role).collect()
}

#[test]
fn what_ends_soon_is_named_with_the_time_left_and_the_way_out() {
    let (_folder, archive) = archive();
    let kernel = format!("k__x86_64__{RELEASE}");
    let day = |n: u64| start().plus(n * DAY);
    assert_eq!(named(&archive, day(1)), [""; 0]);
    assert_eq!(named(&archive, day(24)), [kernel.as_str()]);
    // Kernels last 30 days, targets 90, root 365.
    assert_eq!(named(&archive, day(70)), ["targets", kernel.as_str()]);
    let done = archive.workspace.renew(day(71)).unwrap();
    let said = done.endings[0].sentence();
    assert!(said.starts_with("targets ends in 19 days, at "), "{said}");
    assert!(said.contains("tuxtape archive renew --targets"), "{said}");
    assert!(done.endings[1].sentence().contains("ended at"));
}

#[test]
fn root_and_targets_are_signed_again_in_time_and_the_warning_ends() {
    let (_folder, archive) = archive();
    let mut store = MemoryStore::default();
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    store.save(&Stored::Root, &root).unwrap();
    let workspace = &archive.workspace;
    let mut now = start();
    for (role, name, at) in [
        (TopRole::Targets, "targets", 80),
        (TopRole::Root, "root", 350),
    ] {
        now = start().plus(at * DAY);
        workspace.redate(now).unwrap();
        // Root and targets of the other kind may have ended by now.
        workspace.redate_top(TopRole::Targets, now).unwrap();
        let draft = workspace.redate_top(role, now).unwrap();
        let before = fs::read(&draft).unwrap();
        archive.sign_all().unwrap();
        let signed = fs::read(&draft).unwrap();
        assert_ne!(before, signed);
        assert_eq!(workspace.redate_top(role, now.plus(DAY)).unwrap(), draft);
        assert_eq!(fs::read(&draft).unwrap(), signed, "its signatures stay");
        let shown = workspace.show(name).unwrap();
        assert!(
            shown.changes.iter().any(|line| line.contains("expire")),
            "{:?}",
            shown.changes
        );
        let done = workspace.publish(now).unwrap();
        let ending: Vec<&String> = done.endings.iter().map(|ending| &ending.role).collect();
        assert!(ending.iter().all(|role| *role != name), "{ending:?}");
        let source = DirectorySource::new(&archive.public());
        client::refresh(&mut store, &source, now).unwrap();
    }
    assert_eq!(named(&archive, now.plus(60)), [""; 0]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a client that has `store` makes of the archive.
fn poll(store: &mut MemoryStore, top: &Path, now: UtcSeconds) -> Result<u64, String> {
    let source = DirectorySource::new(&top.join("public"));
    let mut session = client::refresh(store, &source, now).map_err(|error| error.to_string())?;
    let release = RELEASE.parse().unwrap();
    session
        .kernel(Arch::X86_64, &release)
        .map_err(|error| error.to_string())?;
    Ok(session.timestamp.version)
}

#[test]
fn a_rotation_cut_after_any_file_is_taken_up_again() {
    for role in [
        OnlineRole::Snapshot,
        OnlineRole::Timestamp,
        OnlineRole::Hold,
    ] {
        let (folder, archive) = archive();
        archive.workspace.rotate_online(role, start()).unwrap();
        archive.stage(2, start().plus(1)).unwrap();
        archive.sign_all().unwrap();
        let whole = folder.path().join("whole");
        copy(&folder.path().join("archive"), &whole);
        let workspace = tuxtape_archive::publish::Workspace::open(&whole).unwrap();
        let files = workspace.publish(start().plus(2)).unwrap().files;
        assert!(files.len() >= 5, "{files:?}");
        for cut in 0..=files.len() {
            // As it was before, with the first files of the publication, its drafts and its keys.
            let top = folder.path().join(format!("cut-{cut}"));
            copy(&folder.path().join("archive"), &top);
            for file in &files[..cut] {
                fs::copy(
                    whole.join("public").join(file),
                    top.join("public").join(file),
                )
                .unwrap();
            }
            let mut early = MemoryStore::default();
            let root = fs::read(top.join("public/metadata/1.root.json")).unwrap();
            early.save(&Stored::Root, &root).unwrap();
            let mut inside = early.clone();
            poll(&mut early, &folder.path().join("archive"), start().plus(1)).unwrap();
            // One more that polls in between: it may be refused, and must come back.
            poll(&mut inside, &top, start().plus(3)).ok();
            for renew_first in [true, false] {
                let top = if renew_first {
                    let other = folder.path().join(format!("renewed-{cut}"));
                    copy(&top, &other);
                    other
                } else {
                    top.clone()
                };
                let again = tuxtape_archive::publish::Workspace::open(&top).unwrap();
                if renew_first {
                    let done = again.renew(start().plus(4));
                    assert!(done.is_ok(), "{role:?} cut after {cut}: {done:?}");
                }
                let done = again.publish(start().plus(5));
                assert!(done.is_ok(), "{role:?} cut after {cut}: {done:?}");
                assert_eq!(again.open_drafts().unwrap().len(), 0);
                let hour = again.renew(start().plus(3600));
                assert!(hour.is_ok(), "{role:?} cut after {cut}: {hour:?}");
                for store in [&early, &inside] {
                    let seen = poll(&mut store.clone(), &top, start().plus(3600));
                    assert!(seen.is_ok(), "{role:?} cut after {cut}: {seen:?}");
                }
            }
        }
    }
}
