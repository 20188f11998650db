//! The stop button.

use std::fs;
use std::path::Path;

use tuxtape_archive::canonical;
use tuxtape_archive::hold::{Hold, Share};
use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::metadata::{Envelope, Targets};
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::sample::{RELEASE, forge, key, start};
use tuxtape_core::identity::{KernelRelease, PatchLevel};

use super::{archive, seen};

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
