//! Withdrawing, stopping, rotating, pruning, carrying by hand.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tuxtape_archive::canonical;
use tuxtape_archive::client::{self, DiskStore, MemoryStore, Store, Stored, UpdateError};
use tuxtape_archive::hold::{Hold, Share};
use tuxtape_archive::index::{KernelIndex, OnWithdraw};
use tuxtape_archive::keys::{Key, PrivateKey};
use tuxtape_archive::metadata::{Body, Envelope, Targets};
use tuxtape_archive::names::cap;
use tuxtape_archive::policy::{Duty, Person};
use tuxtape_archive::publish::bundle::{BundleError, import, tar};
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::publish::sign::SignError;
use tuxtape_archive::publish::stage::{StageError, StageRequest, StagedFix};
use tuxtape_archive::publish::withdraw::{WithdrawError, WithdrawRequest};
use tuxtape_archive::publish::{PublishError, Workspace};
use tuxtape_archive::sample::{self, Archive, RELEASE, key, policy, start};
use tuxtape_archive::source::DirectorySource;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{Arch, KernelRelease, PatchLevel};
use tuxtape_core::rollout::Waves;

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

fn forge<T: Body>(path: &Path, keys: &[&PrivateKey], change: impl FnOnce(&mut T)) {
    let envelope = Envelope::parse(&fs::read(path).unwrap(), 1 << 22).unwrap();
    let mut body: T = envelope.body().unwrap();
    change(&mut body);
    let mut envelope = Envelope::unsigned(&body).unwrap();
    for key in keys {
        envelope.sign(key);
    }
    fs::write(path, envelope.to_bytes()).unwrap();
}

#[test]
fn a_withdrawn_level_sends_nodes_to_the_one_before() {
    let (_folder, archive) = archive();
    next(&archive, 2, start().plus(60));
    let now = start().plus(120);
    let drafted = archive
        .workspace
        .withdraw(&request(2, OnWithdraw::Revert), now)
        .unwrap();
    assert_eq!(drafted.falls_to, Some(PatchLevel(1)));
    let shown = archive
        .workspace
        .show(&drafted.draft.display().to_string())
        .unwrap();
    let text = shown.changes.join("\n");
    assert!(text.contains("level 2 withdrawn at"), "{text}");
    archive.sign_all().unwrap();
    archive.workspace.publish(now).unwrap();
    let (index, role, _) = seen(&archive.public(), now).unwrap();
    let kernel = &index.kernels[0];
    assert_eq!(kernel.newest(&role.targets).unwrap().level, PatchLevel(1));
    assert_eq!(kernel.withdrawn[0].sha256, drafted.sha256);
    // A level number is never used again.
    let staged = archive.stage(3, now).unwrap();
    assert_eq!(staged.level, PatchLevel(3));
}

#[test]
fn an_open_level_does_not_stand_in_the_way_of_a_withdrawal() {
    let (_folder, archive) = archive();
    let staged = archive.stage(2, start()).unwrap();
    let before = fs::read(&staged.draft).unwrap();
    let drafted = archive
        .workspace
        .withdraw(&request(1, OnWithdraw::Revert), start().plus(60))
        .unwrap();
    assert_eq!(drafted.falls_to, None, "the stock kernel");
    assert_eq!(fs::read(drafted.set_aside.unwrap()).unwrap(), before);
    // A second one in the same night adds to the first.
    let again = archive
        .workspace
        .withdraw(&request(1, OnWithdraw::Keep), start().plus(61));
    assert!(matches!(
        again,
        Err(PublishError::Withdraw(WithdrawError::Already {
            level: PatchLevel(1),
            ..
        }))
    ));
}

#[test]
fn a_level_that_left_its_role_can_still_be_withdrawn() {
    let (_folder, archive) = archive();
    for n in 2..=5 {
        next(&archive, n, start().plus(n.into()));
    }
    let now = start().plus(100);
    let drafted = archive
        .workspace
        .withdraw(&request(1, OnWithdraw::Revert), now)
        .unwrap();
    assert_eq!(drafted.falls_to, Some(PatchLevel(5)));
    archive.sign_all().unwrap();
    archive.workspace.publish(now).unwrap();
    let (index, _, _) = seen(&archive.public(), now).unwrap();
    assert_eq!(index.kernels[0].withdrawn[0].sha256, drafted.sha256);
}

#[test]
fn what_cannot_be_withdrawn_is_said_and_nothing_is_drafted() {
    let (_folder, archive) = archive();
    let check = |request: WithdrawRequest, wanted: &str| {
        let error = archive
            .workspace
            .withdraw(&request, start())
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{error}");
    };
    check(
        request(9, OnWithdraw::Revert),
        "never had a level 9; live levels: 1",
    );
    let mut other = request(1, OnWithdraw::Revert);
    other.release = "6.1.0-50-cloud-amd64".parse().unwrap();
    check(
        other,
        "the archive has no kernel 6.1.0-50-cloud-amd64; it has 6.1.0-47-cloud-amd64",
    );
    for reason in [
        String::new(),
        "x".repeat(201),
        "h\u{e4}ngt".to_owned(),
        "a\nb".to_owned(),
    ] {
        let mut bad = request(1, OnWithdraw::Revert);
        bad.reason = reason;
        check(bad, "1 to 200 printable ASCII");
    }
    assert!(archive.workspace.open_drafts().unwrap().is_empty());
}

#[test]
fn the_stop_button_stops_at_once_and_lifting_opens_no_more_than_the_schedule() {
    let (_folder, archive) = archive();
    let release = RELEASE.parse().unwrap();
    let share = |now| {
        let (index, _, hold) = seen(&archive.public(), now).unwrap();
        let level = index.kernels[0].levels.last().unwrap().clone();
        hold.share(&level.target, level.waves.as_ref(), now)
    };
    assert_eq!(share(start()), Share::Scheduled(1_000_000));
    let files = archive
        .workspace
        .cap(&release, None, 0, "hangs", start().plus(5))
        .unwrap()
        .files;
    assert_eq!(
        files,
        [
            "metadata/2.hold.json",
            "metadata/2.snapshot.json",
            "metadata/timestamp.json"
        ]
    );
    assert_eq!(
        share(start().plus(6)),
        Share::Stopped("hangs (since 2026-11-24T18:00:05Z)".to_owned())
    );
    archive
        .workspace
        .cap(&release, None, 250, "slowly", start().plus(7))
        .unwrap();
    assert_eq!(share(start().plus(8)).ppm(), 250_000);
    archive
        .workspace
        .lift(&release, None, start().plus(9))
        .unwrap();
    assert_eq!(share(start().plus(10)), Share::Scheduled(1_000_000));
    let none = archive
        .workspace
        .cap(&release, Some(PatchLevel(7)), 0, "x", start());
    assert!(
        none.unwrap_err()
            .to_string()
            .contains("has no live level 7")
    );
    let over = archive.workspace.cap(&release, None, 1001, "x", start());
    assert!(over.unwrap_err().to_string().contains("1001 thousandths"));
}

#[test]
fn an_expired_missing_or_forged_hold_stops_every_rollout() {
    let (folder, archive) = archive();
    let path = archive.public().join("metadata/1.hold.json");
    let good = fs::read(&path).unwrap();
    let stopped = |wanted: &str| {
        let (index, _, hold) = seen(&archive.public(), start()).unwrap();
        let target = &index.kernels[0].levels[0].target;
        match hold.share(target, None, start()) {
            Share::Stopped(why) => assert!(why.contains(wanted), "{why}"),
            other => panic!("{other:?}"),
        }
    };
    let online = PrivateKey::load(&folder.path().join("archive/keys/hold.pem")).unwrap();
    forge::<Targets>(&path, &[&online], |body| body.expires = start());
    stopped("hold expired at");
    fs::write(&path, &good).unwrap();
    forge::<Targets>(&path, &[&key(9)], |_| {});
    stopped("1 valid signatures wanted, 0 found");
    forge::<Targets>(&path, &[&online], |body| {
        body.tuxtape_hold = Some(serde_json::json!({"format": 1, "caps": 7}));
    });
    stopped("the caps are malformed");
    forge::<Targets>(&path, &[&online], |body| body.tuxtape_hold = None);
    stopped("it carries no caps");
    fs::write(&path, vec![b' '; 64 * 1024 + 1]).unwrap();
    stopped("larger than 65536 bytes");
    fs::remove_file(&path).unwrap();
    stopped("the archive has no 1.hold.json");
    fs::write(&path, good).unwrap();
    assert!(matches!(
        seen(&archive.public(), start()).unwrap().2,
        Hold::Caps(_)
    ));
}

#[test]
fn a_stop_of_everything_is_set_shown_and_lifted_alone() {
    let (_folder, archive) = archive();
    let workspace = &archive.workspace;
    let release: KernelRelease = RELEASE.parse().unwrap();
    let share = |now| {
        let (index, _, hold) = seen(&archive.public(), now).unwrap();
        hold.share(&index.kernels[0].levels[0].target, None, now)
    };
    let refused = workspace.lift_all(start()).unwrap_err().to_string();
    assert!(refused.contains("no stop of every rollout"), "{refused}");
    workspace
        .cap(&release, None, 250, "slowly", start().plus(1))
        .unwrap();
    workspace.stop_all("bad compiler", start().plus(2)).unwrap();
    let why = "every rollout is stopped: bad compiler".to_owned();
    assert_eq!(share(start().plus(2)), Share::Stopped(why));
    // To let one kernel go would open nothing, so it is refused with the way out.
    let refused = workspace.lift(&release, None, start().plus(3));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("tuxtape rollout lift --all"), "{refused}");
    assert!(refused.contains("bad compiler"), "{refused}");
    let (_, kept) = workspace.lift_all(start().plus(4)).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(share(start().plus(4)).ppm(), 250_000);
    workspace.lift(&release, None, start().plus(5)).unwrap();
    assert_eq!(share(start().plus(5)), Share::Scheduled(1_000_000));
}

#[test]
fn a_hold_that_nobody_can_read_is_replaced_by_lifting_alone() {
    type Spoil = fn(&Path, &PrivateKey);
    let later = start().plus(60);
    let spoils: [Spoil; 6] = [
        |path, _| forge::<Targets>(path, &[&key(9)], |_| {}),
        |path, online| forge::<Targets>(path, &[online], |body| body.tuxtape_hold = None),
        |path, online| {
            forge::<Targets>(path, &[online], |body| {
                body.tuxtape_hold = Some(serde_json::json!({"format": 1, "caps": 7}));
            });
        },
        |path, online| forge::<Targets>(path, &[online], |body| body.version = (1 << 53) - 1),
        |path, _| fs::write(path, "no json").unwrap(),
        |path, _| fs::remove_file(path).unwrap(),
    ];
    for (at, spoil) in spoils.iter().enumerate() {
        let (folder, archive) = archive();
        let workspace = &archive.workspace;
        let online = PrivateKey::load(&folder.path().join("archive/keys/hold.pem")).unwrap();
        spoil(&archive.public().join("metadata/1.hold.json"), &online);
        let (_, hold) = workspace.hold(later).unwrap();
        assert!(matches!(hold, Hold::Unreadable(_)), "{at}: {hold:?}");
        let share = || {
            let (index, _, hold) = seen(&archive.public(), later).unwrap();
            hold.share(&index.kernels[0].levels[0].target, None, later)
        };
        assert_eq!(share().ppm(), 0, "{at}");
        // Neither a renewal nor a hold of one kernel opens anything.
        workspace.renew(later).unwrap();
        assert_eq!(share().ppm(), 0, "{at}");
        workspace
            .cap(&RELEASE.parse().unwrap(), None, 500, "slowly", later)
            .unwrap();
        assert_eq!(share().ppm(), 0, "{at}");
        workspace.lift_all(later).unwrap();
        assert_eq!(share().ppm(), 500_000, "{at}");
    }
}

#[test]
fn an_expired_hold_is_shown_as_the_stop_that_it_is() {
    let (_folder, archive) = archive();
    let later = start().plus(8 * 86_400);
    let (_, hold) = archive.workspace.hold(later).unwrap();
    assert!(
        matches!(&hold, Hold::Unreadable(why) if why.contains("hold expired at")),
        "{hold:?}"
    );
    assert!(matches!(
        archive.workspace.hold(start()).unwrap().1,
        Hold::Caps(_)
    ));
    archive.workspace.lift_all(later).unwrap();
    let (_, hold) = archive.workspace.hold(later).unwrap();
    assert!(matches!(hold, Hold::Caps(_)), "{hold:?}");
}

#[test]
fn a_reason_that_could_deceive_a_terminal_is_refused_and_a_forged_one_is_escaped() {
    let (folder, archive) = archive();
    let release = RELEASE.parse().unwrap();
    for reason in ["a\nb", "\u{1b}[2J", "", " ", "h\u{e4}ngt"] {
        archive
            .workspace
            .cap(&release, None, 0, reason, start())
            .unwrap_err();
        archive.workspace.stop_all(reason, start()).unwrap_err();
    }
    archive
        .workspace
        .cap(&release, None, 0, "hangs", start())
        .unwrap();
    let online = PrivateKey::load(&folder.path().join("archive/keys/hold.pem")).unwrap();
    let path = archive.public().join("metadata/2.hold.json");
    // Our own programs write nothing that is not printable ASCII; a thief of the key may.
    let mut envelope = Envelope::parse(&fs::read(&path).unwrap(), 1 << 16).unwrap();
    envelope.signed["tuxtape_hold"]["caps"][0]["reason"] = "x\u{1b}[2J\nlevel 9 applied".into();
    envelope.canonical = canonical::bytes(&envelope.signed).unwrap();
    envelope.signatures.clear();
    envelope.sign(&online);
    fs::write(&path, envelope.to_bytes()).unwrap();
    let (index, _, hold) = seen(&archive.public(), start()).unwrap();
    let Share::Stopped(why) = hold.share(&index.kernels[0].levels[0].target, None, start()) else {
        panic!("{hold:?}");
    };
    assert!(why.starts_with("x\\u{1b}[2J\\nlevel 9 applied"), "{why}");
}

#[test]
fn a_draft_is_found_by_the_kernel_whose_role_it_is() {
    let (_folder, archive) = archive();
    archive.stage(2, start().plus(60)).unwrap();
    let by_role = archive
        .workspace
        .show("k__x86_64__6.1.0-47-cloud-amd64")
        .unwrap();
    let made = "the index was made at 2026-11-24T18:01:00Z".to_owned();
    assert!(by_role.changes.contains(&made), "{:?}", by_role.changes);
    for name in [RELEASE, "debian:6.1.0-47-cloud-amd64"] {
        assert_eq!(archive.workspace.show(name).unwrap(), by_role);
    }
    for name in ["6.1.0-48-cloud-amd64", "", "47-cloud-amd64"] {
        archive.workspace.show(name).unwrap_err();
    }
}

#[test]
fn no_timestamp_is_issued_before_the_last_one_unless_a_person_vouches_for_the_clock() {
    let (_folder, mut archive) = archive();
    let issued = || {
        let (published, _) = archive.workspace.hold(start()).unwrap();
        published.timestamp.tuxtape_issued.unwrap()
    };
    // A clock set back by a minute keeps nobody from stopping a level, and no time goes back.
    archive.workspace.renew(start().plus(61)).unwrap();
    archive.workspace.renew(start().plus(1)).unwrap();
    assert_eq!(issued(), start().plus(61));
    let error = archive.workspace.renew(start()).unwrap_err();
    assert!(matches!(error, PublishError::Clock { .. }), "{error}");
    assert!(error.to_string().contains("--clock-is-right"), "{error}");
    let usual = archive.workspace.renew(start().plus(3600)).unwrap();
    assert_eq!(usual.clock, None);
    let late = archive
        .workspace
        .renew(start().plus(3601 + 86_400))
        .unwrap();
    let warning = late.clock.unwrap();
    assert!(warning.contains("2026-11-24T19:00:00Z"), "{warning}");
    archive.workspace.trust_clock();
    archive.workspace.renew(start().plus(3602)).unwrap();
}

#[test]
fn the_hold_is_signed_anew_before_it_ends() {
    let (_folder, archive) = archive();
    assert_eq!(
        archive
            .workspace
            .renew(start().plus(3600))
            .unwrap()
            .files
            .len(),
        1
    );
    let later = start().plus(4 * 86_400);
    let renewed = archive.workspace.renew(later).unwrap();
    assert!(
        renewed.files.contains(&"metadata/2.hold.json".to_owned()),
        "{renewed:?}"
    );
    assert!(matches!(
        seen(&archive.public(), later).unwrap().2,
        Hold::Caps(_)
    ));
}

fn staged_with(
    archive: &Archive,
    change: impl FnOnce(&mut StageRequest),
) -> Result<PatchLevel, PublishError> {
    let mut request = StageRequest {
        release: RELEASE.parse().unwrap(),
        module: sample::module(2),
        fixes: Vec::new(),
        unpatchable: Vec::new(),
        base_version: None,
        waves: None,
        floor: None,
        signed: None,
    };
    change(&mut request);
    archive
        .workspace
        .stage(&request, start())
        .map(|staged| staged.level)
}

#[test]
fn malformed_schedules_floors_and_hotfixes_are_not_staged() {
    let (_folder, archive) = archive();
    let check = |change: fn(&mut StageRequest), wanted: &str| {
        let error = staged_with(&archive, change).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(archive.workspace.open_drafts().unwrap().is_empty());
    };
    let fix = |expires| StagedFix {
        cve: None,
        commit: Some("7395dfacfff6".to_owned()),
        fix_sha256: None,
        expires,
    };
    check(
        |request| {
            let mut waves = Waves::normal(start());
            waves.steps[3].permille = 400;
            request.waves = Some(waves);
        },
        "the schedule of level 2: the share of step \"all\" does not rise",
    );
    check(
        |request| request.floor = Some(PatchLevel(3)),
        "the floor cannot be level 3",
    );
    check(
        |request| {
            request.fixes = vec![StagedFix {
                cve: None,
                commit: None,
                fix_sha256: None,
                expires: None,
            }];
        },
        "names neither CVE, commit nor source change",
    );
    check(
        |request| {
            request.fixes = vec![StagedFix {
                cve: Some("CVE-2026-0001".to_owned()),
                commit: None,
                fix_sha256: None,
                expires: Some(start().plus(9)),
            }];
        },
        "CVE-2026-0001 expires; only a fix without a CVE may",
    );
    let over = staged_with(&archive, |request| request.fixes = vec![fix(Some(start()))]);
    assert!(matches!(
        over,
        Err(PublishError::Stage(StageError::HotfixOver { .. }))
    ));
    staged_with(&archive, |request| {
        request.fixes = vec![fix(Some(start().plus(86_400)))];
        request.waves = Some(Waves::urgent(start()));
        request.floor = Some(PatchLevel(2));
    })
    .unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(start()).unwrap();
    let (index, _, _) = seen(&archive.public(), start()).unwrap();
    assert_eq!(index.kernels[0].floor, PatchLevel(2));
    assert_eq!(
        index.kernels[0].fixes.last().unwrap().expires,
        Some(start().plus(86_400))
    );
}

#[test]
fn a_malformed_schedule_that_was_signed_all_the_same_is_not_published() {
    let (_folder, archive) = archive();
    let draft = archive.workspace.redate(start()).unwrap().drafts.remove(0);
    forge::<Targets>(&draft, &[], |body| {
        let index = body.tuxtape.as_mut().unwrap();
        let waves = serde_json::json!({"start": "2026-11-24T18:00:00Z", "urgent": false, "steps": [["all", 9, 5, 1000]]});
        index["kernels"][0]["levels"][0]["waves"] = waves;
    });
    archive.sign_all().unwrap();
    let error = archive.workspace.publish(start()).unwrap_err().to_string();
    assert!(error.contains("\"all\" ends before it begins"), "{error}");
}

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

#[test]
fn pruning_removes_only_what_nobody_can_need() {
    let (_folder, archive) = archive();
    for n in 2..=5 {
        next(&archive, n, start().plus(n.into()));
    }
    let now = start().plus(60);
    let count = |folder: &str| fs::read_dir(archive.public().join(folder)).unwrap().count();
    let before = (count("metadata"), count("targets"));
    assert!(archive.workspace.prune(365, false, now).unwrap().is_empty());
    // Files carry the time they were written at, which is that of this test run.
    let far = UtcSeconds::from_unix(7_000_000_000);
    let listed = archive.workspace.prune(365, true, far).unwrap();
    assert_eq!(
        (count("metadata"), count("targets")),
        before,
        "a dry run removes nothing"
    );
    let gone = archive.workspace.prune(365, false, far).unwrap();
    assert_eq!(gone, listed);
    assert_eq!(count("targets"), 3);
    assert!(archive.public().join("metadata/1.root.json").exists());
    assert!(!archive.public().join("metadata/1.snapshot.json").exists());
    assert_eq!(
        seen(&archive.public(), now).unwrap().0.kernels[0]
            .levels
            .len(),
        3
    );
}

#[test]
fn a_bundle_carries_the_archive_to_a_mirror_and_only_what_is_new() {
    let (folder, archive) = archive();
    let (out, mirror) = (folder.path().join("b.tar"), folder.path().join("mirror"));
    let written = archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &out)
        .unwrap();
    let again = folder.path().join("again.tar");
    archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &again)
        .unwrap();
    assert_eq!(fs::read(&out).unwrap(), fs::read(&again).unwrap());
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    assert!(matches!(
        import(&out, &mirror, None, start()),
        Err(PublishError::Bundle(BundleError::NoRoot { .. }))
    ));
    let taken = import(&out, &mirror, Some(&root), start()).unwrap();
    assert_eq!(taken.files.last().unwrap(), "metadata/timestamp.json");
    assert_eq!(taken.files.len(), written.len());
    assert_eq!(seen(&mirror, start()).unwrap().0.kernels[0].levels.len(), 1);
    next(&archive, 2, start().plus(60));
    let have: BTreeSet<String> = written.into_iter().collect();
    let new = archive
        .workspace
        .bundle(&[RELEASE.parse().unwrap()], &have, &out)
        .unwrap();
    assert!(
        !new.iter()
            .any(|name| have.contains(name) && !name.ends_with("timestamp.json"))
    );
    import(&out, &mirror, None, start().plus(61)).unwrap();
    assert_eq!(
        seen(&mirror, start().plus(61)).unwrap().0.kernels[0]
            .levels
            .len(),
        2
    );
    // The older one again.
    let stale = import(&again, &mirror, None, start().plus(62)).unwrap_err();
    let cause = std::error::Error::source(&stale).unwrap().to_string();
    assert!(cause.contains("older than what was seen before"), "{cause}");
}

fn files_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for name in ["metadata", "targets"] {
        for entry in fs::read_dir(folder.join(name)).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_bundle_that_is_cut_changed_or_incomplete_changes_nothing() {
    let (folder, archive) = archive();
    let (out, mirror) = (folder.path().join("b.tar"), folder.path().join("mirror"));
    archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &out)
        .unwrap();
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    import(&out, &mirror, Some(&root), start()).unwrap();
    next(&archive, 2, start().plus(60));
    archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &out)
        .unwrap();
    let good = fs::read(&out).unwrap();
    let before = files_of(&mirror);
    let refused = |bytes: &[u8], wanted: &str| {
        fs::write(&out, bytes).unwrap();
        let error = import(&out, &mirror, None, start().plus(61)).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        assert!(text.contains(wanted), "{text}");
        assert_eq!(files_of(&mirror), before, "{wanted}");
    };
    for cut in (0..good.len() - 1024).step_by(1777) {
        refused(&good[..cut], "");
    }
    let mut changed = good.clone();
    let at = good.windows(8).position(|w| w == b"livepatc").unwrap();
    changed[at] ^= 1;
    refused(&changed, "is not the one that was signed");
    // Rebuilt without one file, or with one too many.
    let rebuilt = |change: &dyn Fn(&str) -> bool, more: &[(&str, &[u8])]| {
        let mut reader = tar::Reader::new(&good[..]);
        let mut out = Vec::new();
        while let Some((name, bytes)) = reader.entry(|_| Some(cap::MODULE)).unwrap() {
            if change(&name) {
                tar::append(&mut out, &name, &bytes).unwrap();
            }
        }
        for (name, bytes) in more {
            tar::append(&mut out, name, bytes).unwrap();
        }
        tar::finish(&mut out).unwrap();
        out
    };
    let without = rebuilt(&|name| !name.ends_with("__2.ko"), &[]);
    refused(&without, "lacks ");
    let without = rebuilt(&|name| !name.contains("2.k__"), &[]);
    refused(&without, "lacks 2.k__x86_64__6.1.0-47-cloud-amd64.json");
    // Metadata that the verified chain does not name. The roots come first in a bundle, as they may.
    let with = |files: &[(&str, &[u8])]| {
        let mut out = Vec::new();
        let mut reader = tar::Reader::new(&good[..]);
        let mut first = true;
        while let Some((name, bytes)) = reader.entry(|_| Some(cap::MODULE)).unwrap() {
            if !files.iter().any(|(replaced, _)| *replaced == name) {
                tar::append(&mut out, &name, &bytes).unwrap();
            }
            if std::mem::take(&mut first) {
                for (name, bytes) in files {
                    tar::append(&mut out, name, bytes).unwrap();
                }
            }
        }
        tar::finish(&mut out).unwrap();
        out
    };
    let role = "k__x86_64__6.1.0-47-cloud-amd64";
    let published = |name: &str| fs::read(archive.public().join("metadata").join(name)).unwrap();
    refused(
        &with(&[("metadata/3.root.json", &root)]),
        "metadata/3.root.json: the chain of roots ends at 1",
    );
    refused(
        &with(&[("metadata/3.root.json", b"junk")]),
        "metadata/3.root.json: the chain of roots ends at 1",
    );
    refused(
        &with(&[("metadata/1.root.json", b"junk")]),
        "metadata/1.root.json: it is not the root that was verified under this number",
    );
    refused(
        &with(&[("metadata/01.root.json", &root)]),
        "metadata/01.root.json: the verified metadata does not name it",
    );
    refused(
        &with(&[("metadata/7.k__x86_64__6.1.0-99.json", b"junk")]),
        "the snapshot lists no role k__x86_64__6.1.0-99",
    );
    refused(
        &with(&[("metadata/9.snapshot.json", b"junk")]),
        "metadata/9.snapshot.json: the verified metadata does not name it",
    );
    let old = format!("metadata/1.{role}.json");
    refused(
        &with(&[(&old, &published(&format!("1.{role}.json")))]),
        &format!("the snapshot names version 2 of {role}"),
    );
    // A version that the state has seen already is not read again by the workflow.
    for name in ["1.targets.json", "1.hold.json"] {
        let name = format!("metadata/{name}");
        refused(&with(&[(&name, b"junk")]), &name);
    }
    let foreign = format!("targets/{}.evil.ko", "ab".repeat(32));
    refused(
        &rebuilt(&|_| true, &[(&foreign, b"x")]),
        "has a name that no bundle has",
    );
    refused(
        &rebuilt(&|_| true, &[("metadata/../x.json", b"x")]),
        "has a name that no bundle has",
    );
    refused(
        &rebuilt(&|_| true, &[("metadata/9.x.json", b"x")]),
        "a bundle is sorted",
    );
    refused(&rebuilt(&|name| name != "format", &[]), "");
    // The whole one is still taken.
    fs::write(&out, &good).unwrap();
    import(&out, &mirror, None, start().plus(61)).unwrap();
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

#[test]
fn with_the_hold_key_lost_rollouts_stop_and_everything_else_stays_fresh() {
    let (folder, archive) = archive();
    fs::remove_file(folder.path().join("archive/keys/hold.pem")).unwrap();
    let later = start().plus(8 * 86_400);
    archive.workspace.renew(later).unwrap();
    let (index, _, hold) = seen(&archive.public(), later).unwrap();
    assert!(
        matches!(&hold, Hold::Unreadable(why) if why.contains("hold expired")),
        "{hold:?}"
    );
    assert_eq!(index.kernels.len(), 1);
    archive
        .workspace
        .rotate_online(OnlineRole::Hold, later)
        .unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(later).unwrap();
    let (_, _, hold) = seen(&archive.public(), later).unwrap();
    assert!(matches!(hold, Hold::Caps(_)), "{hold:?}");
}
