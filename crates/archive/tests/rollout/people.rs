//! Keys that are exchanged, lost and brought together.

use std::fs;
use std::path::PathBuf;

use tuxtape_archive::client::{DiskStore, Store, Stored};
use tuxtape_archive::hold::Hold;
use tuxtape_archive::keys::Key;
use tuxtape_archive::metadata::Envelope;
use tuxtape_archive::policy::{Duty, Person};
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::publish::sign::SignError;
use tuxtape_archive::publish::{PublishError, Workspace};
use tuxtape_archive::sample::{Archive, forge, key, policy, start};

use super::{seen, seen_from};

/// Two reviewers of three, three of whom sign root.
fn three() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = policy();
    policy.people.push(Person {
        name: "carol".to_owned(),
        duties: [Duty::Root, Duty::Targets, Duty::Review].into(),
        public: key(3).public().keyval.public,
    });
    let workspace = Workspace::init(&folder.path().join("archive"), &policy, start()).unwrap();
    let archive = Archive { workspace };
    archive.stage(1, start()).unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(start()).unwrap();
    (folder, archive)
}

fn sign_by(archive: &Archive, people: &[u8]) {
    for path in archive.workspace.open_drafts().unwrap() {
        let draft = path.display().to_string();
        let words = archive.workspace.show(&draft).unwrap().words;
        for person in people {
            archive
                .workspace
                .sign(&draft, &key(*person), &words)
                .unwrap();
        }
    }
}

#[test]
fn every_online_key_can_be_exchanged_and_a_fast_forward_heals_by_it() {
    for role in [
        OnlineRole::Snapshot,
        OnlineRole::Timestamp,
        OnlineRole::Hold,
    ] {
        let (folder, archive) = three();
        let client = folder.path().join("client");
        let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
        let mut store = DiskStore::open(&client).unwrap();
        store.save(&Stored::Root, &root).unwrap();
        seen_from(&mut store, &archive.public(), start()).unwrap();
        let keys = folder.path().join("archive/keys");
        let before = fs::read(keys.join("timestamp.pem")).unwrap();
        archive
            .workspace
            .rotate_online(role, start().plus(60))
            .unwrap();
        // Until it is signed, the old key goes on.
        archive.workspace.renew(start().plus(61)).unwrap();
        seen_from(&mut store, &archive.public(), start().plus(61)).unwrap();
        sign_by(&archive, &[1, 3]);
        archive.workspace.publish(start().plus(62)).unwrap();
        let (_, _, hold) = seen_from(&mut store, &archive.public(), start().plus(62)).unwrap();
        assert!(matches!(hold, Hold::Caps(_)), "{role:?} {hold:?}");
        let after = fs::read(keys.join("timestamp.pem")).unwrap();
        assert_eq!(before != after, role == OnlineRole::Timestamp);
        assert!(!keys.join("timestamp.next.pem").exists());
        archive.workspace.renew(start().plus(63)).unwrap();
        seen_from(&mut store, &archive.public(), start().plus(64)).unwrap();
    }
}

#[test]
fn one_lost_root_key_of_three_is_replaced_by_the_other_two() {
    let (_folder, mut archive) = three();
    let now = start().plus(60);
    let come = [("carol".to_owned(), key(4).public())];
    let leave = ["carol".to_owned()];
    archive
        .workspace
        .rotate_people(Duty::Root, &leave, &come, now)
        .unwrap_err();
    for duty in [Duty::Root, Duty::Targets, Duty::Review] {
        archive
            .workspace
            .rotate_people(duty, &leave, &[], now)
            .unwrap();
    }
    for duty in [Duty::Root, Duty::Targets, Duty::Review] {
        archive
            .workspace
            .rotate_people(duty, &[], &come, now)
            .unwrap();
    }
    let shown = archive.workspace.show("root").unwrap();
    let text = shown.changes.join("\n");
    assert!(
        text.contains("root: carol.former-1 (key") && text.contains("leaves"),
        "{text}"
    );
    assert!(text.contains("root: carol (key"), "{text}");
    sign_by(&archive, &[1, 2]);
    archive.workspace.publish(now).unwrap();
    seen(&archive.public(), now).unwrap();
    // The new key counts from now on.
    archive.stage(2, now).unwrap();
    sign_by(&archive, &[2, 4]);
    archive.workspace.publish(now).unwrap();
    assert_eq!(
        seen(&archive.public(), now).unwrap().0.kernels[0]
            .levels
            .len(),
        2
    );
}

#[test]
fn a_reviewer_who_leaves_takes_no_kernel_along() {
    let (_folder, mut archive) = three();
    let now = start().plus(60);
    archive.stage(2, now).unwrap();
    sign_by(&archive, &[2, 3]);
    archive.workspace.publish(now).unwrap();
    // Bob's key was stolen; what he signed counts no more.
    let drafts = archive
        .workspace
        .rotate_people(Duty::Review, &["bob".to_owned()], &[], now)
        .unwrap();
    let names: Vec<String> = drafts
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        ["2.targets.json", "3.k__x86_64__6.1.0-47-cloud-amd64.json"]
    );
    sign_by(&archive, &[1, 3]);
    archive.workspace.publish(now).unwrap();
    let (index, _, _) = seen(&archive.public(), now).unwrap();
    assert_eq!(index.kernels[0].levels.len(), 2);
}

#[test]
fn signatures_made_apart_come_together_in_any_order() {
    let (folder, archive) = three();
    archive
        .workspace
        .rotate_online(OnlineRole::Timestamp, start())
        .unwrap();
    let draft = archive.workspace.open_drafts().unwrap().remove(0);
    let unsigned = fs::read(&draft).unwrap();
    let words = archive.workspace.show("root").unwrap().words;
    let mut copies = Vec::new();
    for person in [3, 1] {
        archive
            .workspace
            .sign("root", &key(person), &words)
            .unwrap();
        let copy = folder.path().join(format!("{person}.root.json"));
        fs::copy(&draft, &copy).unwrap();
        copies.push(copy);
        fs::write(&draft, &unsigned).unwrap();
    }
    let shown = archive.workspace.merge("root", &copies).unwrap();
    assert_eq!(shown.signed.len(), 2);
    assert_eq!(shown.missing, ["bob"]);
    assert_eq!(shown.before.unwrap().0.len(), 2);
    // Another draft, or a signature that does not count, changes nothing.
    let before = fs::read(&draft).unwrap();
    let other = folder.path().join("2.root.json");
    fs::write(&other, &unsigned).unwrap();
    forge::<tuxtape_archive::metadata::Root>(&other, &[&key(2)], |root| root.version = 3);
    let refused = |files: &[PathBuf]| match archive.workspace.merge("root", files) {
        Err(PublishError::Sign(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        refused(std::slice::from_ref(&other)),
        SignError::OtherDraft { .. }
    ));
    fs::write(&other, &unsigned).unwrap();
    forge::<tuxtape_archive::metadata::Root>(&other, &[&key(9)], |_| {});
    let error = refused(std::slice::from_ref(&other)).to_string();
    assert!(error.contains("belongs to nobody"), "{error}");
    let mut spoiled = Envelope::parse(&before, 1 << 20).unwrap();
    spoiled.signatures[0].sig = "00".repeat(64);
    fs::write(&other, spoiled.to_bytes()).unwrap();
    assert!(
        refused(std::slice::from_ref(&other))
            .to_string()
            .contains("does not verify")
    );
    assert_eq!(fs::read(&draft).unwrap(), before);
}

/// A token or key service with P-256, as `exec:PROGRAM` meets it.
#[test]
fn a_reviewer_with_a_p256_key_signs_by_a_program() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token.pem");
    let public = folder.path().join("token.pub");
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    let (secret_name, public_name) = (secret.to_str().unwrap(), public.to_str().unwrap());
    let made = openssl(&[
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        secret_name,
    ]) && openssl(&["ec", "-in", secret_name, "-pubout", "-out", public_name]);
    if !made {
        eprintln!("skipped: openssl is not there");
        return;
    }
    let mut policy = policy();
    policy.people.push(Person {
        name: "token".to_owned(),
        duties: [Duty::Root, Duty::Targets, Duty::Review].into(),
        public: Key::load(&public).unwrap().keyval.public,
    });
    let workspace = Workspace::init(&folder.path().join("archive"), &policy, start()).unwrap();
    let archive = Archive { workspace };
    archive.stage(1, start()).unwrap();
    let program = folder.path().join("sign");
    let text = format!("#!/bin/sh\nexec openssl dgst -sha256 -sign {secret_name}\n");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for path in archive.workspace.open_drafts().unwrap() {
        let draft = path.display().to_string();
        let words = archive.workspace.show(&draft).unwrap().words;
        archive.workspace.sign(&draft, &key(2), &words).unwrap();
        let shown = archive
            .workspace
            .sign_by_program(&draft, &program, &words)
            .unwrap();
        assert_eq!(shown.missing, ["alice"]);
    }
    archive.workspace.publish(start()).unwrap();
    assert_eq!(seen(&archive.public(), start()).unwrap().0.kernels.len(), 1);
}
