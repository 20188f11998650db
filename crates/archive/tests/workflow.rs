//! What a client accepts from an archive, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::path::PathBuf;

use tuxtape_archive::client::{
    self, DiskStore, Refusal, Session, Store, Stored, UpdateError, refresh,
};
use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::metadata::{Envelope, Root, Targets, Timestamp};
use tuxtape_archive::names::cap;
use tuxtape_archive::sample::{self, Archive, RELEASE, forge, key, start};
use tuxtape_archive::serve::serve;
use tuxtape_archive::source::{DirectorySource, HttpOptions, SourceError, open};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::Arch;

struct Lab {
    folder: tempfile::TempDir,
    archive: Archive,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::published(&folder.path().join("archive")).unwrap();
        Self { folder, archive }
    }

    fn next_level(&self, n: u8, now: UtcSeconds) {
        self.archive.stage(n, now).unwrap();
        self.archive.sign_all().unwrap();
        self.archive.workspace.publish(now).unwrap();
    }

    fn store(&self) -> DiskStore {
        let mut store = DiskStore::open(&self.folder.path().join("client")).unwrap();
        if store.load(&Stored::Root, cap::ROOT).unwrap().is_none() {
            let root = fs::read(self.metadata("1.root.json")).unwrap();
            store.save(&Stored::Root, &root).unwrap();
        }
        store
    }

    fn source(&self) -> DirectorySource {
        DirectorySource::new(&self.archive.public())
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.archive.public().join("metadata").join(name)
    }

    fn online(&self, role: &str) -> PrivateKey {
        let keys = self.folder.path().join("archive/keys");
        PrivateKey::load(&keys.join(format!("{role}.pem"))).unwrap()
    }

    fn update(&self, now: UtcSeconds) -> Result<u32, UpdateError> {
        let mut store = self.store();
        let source = self.source();
        let mut session = refresh(&mut store, &source, now)?;
        newest(&mut session)
    }

    fn copy_public(&self, to: &str) -> PathBuf {
        let to = self.folder.path().join(to);
        for folder in ["metadata", "targets"] {
            fs::create_dir_all(to.join(folder)).unwrap();
            for entry in fs::read_dir(self.archive.public().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap();
                fs::copy(&path, to.join(folder).join(name)).unwrap();
            }
        }
        to
    }
}

fn newest(session: &mut Session<'_>) -> Result<u32, UpdateError> {
    let (role, index) = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())?
        .unwrap();
    let level = index.kernels[0].newest(&role.targets).unwrap();
    let target = session.find_target(&level.target)?.unwrap();
    session.fetch_target(&level.target, &target, cap::MODULE)?;
    Ok(level.level.0)
}

#[test]
fn a_published_level_reaches_the_client_over_folder_and_http() {
    let lab = Lab::new();
    assert_eq!(lab.update(start()).unwrap(), 1);
    lab.next_level(2, start().plus(60));
    let serving = serve(&lab.archive.public(), "127.0.0.1:0", |_, _, _| {}).unwrap();
    let url = format!("http://{}", serving.address);
    let source = open(&url, &HttpOptions::default()).unwrap();
    let mut store = lab.store();
    let mut session = refresh(&mut store, &*source, start().plus(61)).unwrap();
    assert_eq!(newest(&mut session).unwrap(), 2);
}

#[test]
fn an_older_timestamp_is_refused() {
    let lab = Lab::new();
    let old = fs::read(lab.metadata("timestamp.json")).unwrap();
    lab.archive.workspace.renew(start().plus(3600)).unwrap();
    lab.update(start().plus(3601)).unwrap();
    fs::write(lab.metadata("timestamp.json"), old).unwrap();
    let error = lab.update(start().plus(3602)).unwrap_err();
    assert!(matches!(
        error,
        UpdateError::Refused(Refusal::Rollback {
            found: 1,
            seen: 2,
            ..
        })
    ));
    assert!(
        error
            .to_string()
            .contains("timestamp.json is older than what was seen before")
    );
}

#[test]
fn the_floor_refuses_an_older_timestamp_when_the_stored_one_is_gone() {
    let lab = Lab::new();
    let old = lab.copy_public("old");
    lab.next_level(2, start().plus(60));
    lab.update(start().plus(61)).unwrap();
    for file in ["timestamp.json", "snapshot.json", "targets.json"] {
        fs::remove_file(lab.folder.path().join("client/tuf").join(file)).unwrap();
    }
    let mut store = lab.store();
    let error = refresh(&mut store, &DirectorySource::new(&old), start()).unwrap_err();
    assert!(
        matches!(error, UpdateError::Refused(Refusal::Rollback { .. })),
        "{error}"
    );
}

#[test]
fn an_expired_timestamp_is_refused() {
    let lab = Lab::new();
    let error = lab.update(start().plus(24 * 3600)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("timestamp expired at 2026-11-25T18:00:00Z"),
        "{text}"
    );
    lab.archive
        .workspace
        .renew(start().plus(24 * 3600))
        .unwrap();
    assert_eq!(lab.update(start().plus(24 * 3600)).unwrap(), 1);
}

#[test]
fn a_clock_behind_the_signed_time_does_not_revive_expired_metadata() {
    let lab = Lab::new();
    let old = lab.copy_public("old");
    let later = start().plus(3 * 24 * 3600);
    lab.archive.workspace.renew(later).unwrap();
    lab.update(later).unwrap();
    fs::remove_file(lab.folder.path().join("client/tuf/timestamp.json")).unwrap();
    fs::remove_file(lab.folder.path().join("client/floor.b")).unwrap();
    fs::remove_file(lab.folder.path().join("client/floor.a")).unwrap();
    let mut store = lab.store();
    let mut floor = store.floor().clone();
    floor.raise_time(later);
    store.set_floor(floor).unwrap();
    let error = refresh(&mut store, &DirectorySource::new(&old), UtcSeconds::EPOCH).unwrap_err();
    assert!(
        matches!(error, UpdateError::Refused(Refusal::Expired { .. })),
        "{error}"
    );
}

#[test]
fn metadata_signed_by_the_wrong_key_is_refused() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let path = lab.metadata("timestamp.json");
    forge::<Timestamp>(&path, &[&lab.online("snapshot")], |body| body.version = 9);
    let text = lab.update(start()).unwrap_err().to_string();
    assert_eq!(
        text,
        "timestamp.json is not signed by the timestamp key: 1 valid signatures wanted, 0 found"
    );
}

#[test]
fn a_snapshot_of_another_publication_is_refused() {
    let lab = Lab::new();
    let first = fs::read(lab.metadata("1.snapshot.json")).unwrap();
    lab.next_level(2, start().plus(60));
    fs::write(lab.metadata("2.snapshot.json"), first).unwrap();
    let error = lab.update(start().plus(61)).unwrap_err();
    assert!(
        matches!(&error, UpdateError::Refused(Refusal::Content { file, .. }) if file == "2.snapshot.json"),
        "{error}"
    );
}

#[test]
fn a_kernel_role_of_another_publication_is_refused() {
    let lab = Lab::new();
    let role = "k__x86_64__6.1.0-47-cloud-amd64.json";
    let first = fs::read(lab.metadata(&format!("1.{role}"))).unwrap();
    lab.next_level(2, start().plus(60));
    fs::write(lab.metadata(&format!("2.{role}")), first).unwrap();
    let error = lab.update(start().plus(61)).unwrap_err();
    assert!(
        matches!(
            error,
            UpdateError::Refused(Refusal::Version {
                found: 1,
                wanted: 2,
                ..
            })
        ),
        "{error}"
    );
}

#[test]
fn one_reviewer_alone_adds_nothing() {
    let lab = Lab::new();
    let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
    forge::<Targets>(&path, &[&key(1)], |body| {
        body.expires = body.expires.plus(1);
    });
    let text = lab.update(start()).unwrap_err().to_string();
    assert!(
        text.contains("2 valid signatures wanted, 1 found"),
        "{text}"
    );
}

#[test]
fn a_module_with_one_byte_changed_is_refused() {
    let lab = Lab::new();
    let targets = lab.archive.public().join("targets");
    let path = fs::read_dir(targets)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let good = fs::read(&path).unwrap();
    let mut changed = good.clone();
    changed[100] ^= 1;
    let mut longer = good.clone();
    longer.push(0);
    for (bytes, what) in [
        (&changed[..], "sha256 is"),
        (&longer, "length is"),
        (&good[1..], "length is"),
    ] {
        fs::write(&path, bytes).unwrap();
        let text = lab.update(start()).unwrap_err().to_string();
        assert!(
            text.contains("is not the one that was signed") && text.contains(what),
            "{text}"
        );
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        lab.update(start()),
        Err(UpdateError::Missing { .. })
    ));
    fs::write(&path, good).unwrap();
    assert_eq!(lab.update(start()).unwrap(), 1);
}

#[test]
fn a_timestamp_of_the_same_version_with_other_content_changes_nothing() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let seen = fs::read(lab.folder.path().join("client/tuf/timestamp.json")).unwrap();
    let path = lab.metadata("timestamp.json");
    forge::<Timestamp>(&path, &[&lab.online("timestamp")], |body| {
        body.expires = body.expires.plus(1);
    });
    assert_eq!(lab.update(start()).unwrap(), 1);
    assert_eq!(
        fs::read(lab.folder.path().join("client/tuf/timestamp.json")).unwrap(),
        seen
    );
}

#[test]
fn a_role_may_not_vanish_from_the_snapshot() {
    use tuxtape_archive::metadata::Snapshot;
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let from = lab.metadata("1.snapshot.json");
    let to = lab.metadata("2.snapshot.json");
    fs::copy(&from, &to).unwrap();
    forge::<Snapshot>(&to, &[&lab.online("snapshot")], |body| {
        body.version = 2;
        body.meta.retain(|name, _| !name.starts_with("k__"));
    });
    let path = lab.metadata("timestamp.json");
    forge::<Timestamp>(&path, &[&lab.online("timestamp")], |body| {
        body.version = 2;
        let meta = body.meta.get_mut("snapshot.json").unwrap();
        (meta.version, meta.length) = (2, None);
        meta.hashes.clear();
    });
    let text = lab.update(start()).unwrap_err().to_string();
    assert_eq!(
        text,
        "2.snapshot.json no longer names k__x86_64__6.1.0-47-cloud-amd64.json"
    );
}

#[test]
fn a_new_root_wants_old_and_new_keys_and_the_next_version() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let check = |version: u64, signers: &[&PrivateKey], wanted: &str| {
        let path = lab.metadata("2.root.json");
        fs::copy(lab.metadata("1.root.json"), &path).unwrap();
        forge::<Root>(&path, signers, |root| {
            root.version = version;
            let new = key(9).public();
            root.keys.insert(new.id(), new.clone());
            root.roles.root.keyids = vec![key(1).public().id(), new.id()];
        });
        let outcome = lab.update(start()).map_err(|e| e.to_string());
        match outcome {
            Ok(_) => assert_eq!(wanted, "accepted"),
            Err(text) => assert!(text.contains(wanted), "{text}"),
        }
    };
    check(
        2,
        &[&key(1), &key(9)],
        "root keys trusted so far: 2 valid signatures wanted, 1",
    );
    check(
        2,
        &[&key(1), &key(2)],
        "its own root keys: 2 valid signatures wanted, 1",
    );
    check(3, &[&key(1), &key(2), &key(9)], "version is 3, named is 2");
    check(2, &[&key(1), &key(2), &key(9)], "accepted");
    // The root that was accepted counts from now on, also when the archive withholds it.
    fs::remove_file(lab.metadata("2.root.json")).unwrap();
    lab.update(start()).unwrap();
    let stored = fs::read(lab.folder.path().join("client/tuf/root.json")).unwrap();
    let envelope = Envelope::parse(&stored, 1 << 20).unwrap();
    assert_eq!(envelope.body::<Root>().unwrap().version, 2);
}

#[test]
fn rotating_the_timestamp_key_heals_a_fast_forward() {
    let lab = Lab::new();
    let path = lab.metadata("timestamp.json");
    let good = fs::read(&path).unwrap();
    lab.update(start()).unwrap();
    forge::<Timestamp>(&path, &[&lab.online("timestamp")], |body| {
        body.version = 1 << 50;
    });
    lab.update(start()).unwrap();
    fs::write(&path, &good).unwrap();
    assert!(lab.update(start()).is_err(), "the same key cannot go back");
    let root = lab.metadata("2.root.json");
    fs::copy(lab.metadata("1.root.json"), &root).unwrap();
    forge::<Root>(&root, &[&key(1), &key(2)], |root| {
        root.version = 2;
        let new = key(8).public();
        root.roles.timestamp.keyids = vec![new.id()];
        root.keys.insert(new.id(), new);
    });
    forge::<Timestamp>(&path, &[&key(8)], |body| body.version = 2);
    assert_eq!(lab.update(start()).unwrap(), 1);
}

#[test]
fn a_torn_root_is_replaced_from_its_history() {
    let lab = Lab::new();
    let root = lab.metadata("2.root.json");
    fs::copy(lab.metadata("1.root.json"), &root).unwrap();
    forge::<Root>(&root, &[&key(1), &key(2)], |root| root.version = 2);
    lab.update(start()).unwrap();
    let stored = lab.folder.path().join("client/tuf/root.json");
    let whole = fs::read(&stored).unwrap();
    fs::write(&stored, &whole[..300]).unwrap();
    assert_eq!(lab.update(start()).unwrap(), 1);
}

#[test]
fn metadata_over_its_cap_is_not_read() {
    let lab = Lab::new();
    let path = lab.metadata("timestamp.json");
    fs::write(&path, vec![b' '; 16 * 1024 + 1]).unwrap();
    let error = lab.update(start()).unwrap_err();
    assert!(
        matches!(
            error,
            UpdateError::Source {
                source: SourceError::TooLarge { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_was_trusted_can_be_read_without_the_archive_even_when_expired() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let mut store = lab.store();
    let mut session = client::local(&mut store).unwrap();
    let found = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())
        .unwrap();
    assert_eq!(found.unwrap().1.kernels.len(), 1);
}

#[test]
fn an_update_cut_between_snapshot_and_role_leaves_the_trusted_role_readable() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let mut policy = lab.archive.workspace.policy.clone();
    policy.lifetimes.targets_days += 1;
    let mut lab = lab;
    lab.archive.workspace.set_policy(policy, start()).unwrap();
    lab.next_level(2, start().plus(60));
    for cut in ["2.targets.json", "2.k__x86_64__6.1.0-47-cloud-amd64.json"] {
        let hidden = fs::read(lab.metadata(cut)).unwrap();
        fs::remove_file(lab.metadata(cut)).unwrap();
        assert!(lab.update(start().plus(61)).is_err());
        let mut store = lab.store();
        let floor = store.floor().clone();
        let mut session = client::local(&mut store).unwrap();
        let (_, index) = session
            .kernel(Arch::X86_64, &RELEASE.parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(index.kernels[0].levels.len(), 1, "{cut}");
        assert_eq!(*lab.store().floor(), floor, "looking changes nothing");
        fs::write(lab.metadata(cut), hidden).unwrap();
    }
    // The archive itself is still held to what its snapshot names.
    assert_eq!(lab.update(start().plus(62)).unwrap(), 2);
}

#[test]
fn looking_never_raises_the_floor() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    for slot in ["floor.a", "floor.b"] {
        fs::remove_file(lab.folder.path().join("client").join(slot)).ok();
    }
    let mut store = lab.store();
    let mut session = client::local(&mut store).unwrap();
    session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())
        .unwrap();
    assert_eq!(store.floor().time, UtcSeconds::EPOCH);
    assert!(!lab.folder.path().join("client/floor.a").exists());
}

#[test]
fn a_kernel_the_archive_does_not_have_is_no_error() {
    let lab = Lab::new();
    let mut store = lab.store();
    let source = lab.source();
    let mut session = refresh(&mut store, &source, start()).unwrap();
    let other = "6.1.0-50-cloud-amd64".parse().unwrap();
    assert!(session.kernel(Arch::X86_64, &other).unwrap().is_none());
}

#[test]
fn the_server_answers_with_the_right_status_and_cache_headers() {
    let lab = Lab::new();
    let serving = serve(&lab.archive.public(), "127.0.0.1:0", |_, _, _| {}).unwrap();
    let url = format!("http://{}", serving.address);
    let source = open(&url, &HttpOptions::default()).unwrap();
    let absent = source.metadata("2.root.json", 100).unwrap();
    assert_eq!(absent, tuxtape_archive::source::Fetched::Absent);
    let error = source.metadata("1.root.json", 10).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { cap: 10 }));
    let error = source.metadata("../policy.toml", 1000).unwrap_err();
    assert!(
        matches!(error, SourceError::Status { status: 400, .. }),
        "{error}"
    );
    let ask = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(serving.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(ask("/metadata/timestamp.json").contains("Cache-Control: public, max-age=60\r\n"));
    assert!(ask("/metadata/1.root.json").contains("max-age=31536000, immutable"));
    let missing = ask("/metadata/2.root.json");
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("max-age=60\r\n"));
}

#[test]
fn a_reviewer_added_later_signs_in_place_of_another() {
    let mut lab = Lab::new();
    let mut policy = lab.archive.workspace.policy.clone();
    policy.people.push(tuxtape_archive::policy::Person {
        name: "carol".to_owned(),
        duties: [tuxtape_archive::policy::Duty::Review].into(),
        public: key(3).public().keyval.public,
    });
    lab.archive.workspace.set_policy(policy, start()).unwrap();
    lab.archive.sign_all().unwrap();
    let staged = lab.archive.stage(2, start().plus(5)).unwrap();
    let draft = staged.draft.display().to_string();
    let words = lab.archive.workspace.show(&draft).unwrap().words;
    for person in [2, 3] {
        lab.archive
            .workspace
            .sign(&draft, &key(person), &words)
            .unwrap();
    }
    lab.archive.workspace.publish(start().plus(6)).unwrap();
    assert_eq!(lab.update(start().plus(7)).unwrap(), 2);
    drop(sample::policy());
}

#[test]
fn a_stolen_timestamp_key_cannot_end_the_time_of_every_later_root() {
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let root = Envelope::parse(&fs::read(lab.metadata("1.root.json")).unwrap(), 1 << 20).unwrap();
    let root: Root = root.body().unwrap();
    forge::<Timestamp>(
        &lab.metadata("timestamp.json"),
        &[&lab.online("timestamp")],
        |body| {
            body.version += 1;
            body.expires = UtcSeconds::from_unix(u64::MAX);
            body.tuxtape_issued = Some(UtcSeconds::from_unix(u64::MAX));
        },
    );
    lab.update(start()).ok();
    assert!(lab.store().floor().time <= root.expires);
}

#[test]
fn a_stolen_timestamp_key_moves_the_time_floor_by_no_more_than_a_day_from_the_clock() {
    const DAY: u64 = 86_400;
    let lab = Lab::new();
    lab.update(start()).unwrap();
    let honest = lab.store().floor().time;
    let issue = |issued: UtcSeconds, life: u64| {
        forge::<Timestamp>(
            &lab.metadata("timestamp.json"),
            &[&lab.online("timestamp")],
            |body| {
                body.version += 1;
                body.expires = start().plus(life);
                body.tuxtape_issued = Some(issued);
            },
        );
        // The metadata itself is good.
        assert_eq!(lab.update(start()).unwrap(), 1);
        lab.store().floor().time
    };
    assert_eq!(issue(start().plus(DAY + 1), 90 * DAY), honest);
    assert_eq!(issue(start().plus(3601), 3600), honest, "after its own end");
    assert_eq!(issue(start().plus(DAY), 90 * DAY), start().plus(DAY));
    // The floor is no clock: another day from there is not had by asking twice.
    assert_eq!(issue(start().plus(2 * DAY), 90 * DAY), start().plus(DAY));
    assert_eq!(issue(start().plus(DAY + 1), 90 * DAY), start().plus(DAY));
    // The archive's own next timestamp is still taken by a right clock.
    forge::<Timestamp>(
        &lab.metadata("timestamp.json"),
        &[&lab.online("timestamp")],
        |body| {
            body.version += 1;
            body.expires = start().plus(3 * DAY);
            body.tuxtape_issued = Some(start().plus(DAY + 60));
        },
    );
    assert_eq!(lab.update(start().plus(DAY + 60)).unwrap(), 1);
    assert_eq!(lab.store().floor().time, start().plus(DAY + 60));
}

#[test]
fn a_digest_has_one_form_so_that_a_withdrawal_finds_its_module() {
    let lab = Lab::new();
    let mut store = lab.store();
    let source = lab.source();
    let mut session = refresh(&mut store, &source, start()).unwrap();
    let (role, index) = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())
        .unwrap()
        .unwrap();
    let mut targets = role.targets.clone();
    for target in targets.values_mut() {
        let digest = target.hashes.get_mut("sha256").unwrap();
        *digest = digest.to_uppercase();
    }
    assert!(index.check(&role.targets).is_ok());
    assert!(index.check(&targets).is_err());
}
