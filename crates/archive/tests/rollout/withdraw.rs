//! Levels that are taken back.

use std::fs;

use tuxtape_archive::index::OnWithdraw;
use tuxtape_archive::publish::PublishError;
use tuxtape_archive::publish::withdraw::{WithdrawError, WithdrawRequest};
use tuxtape_archive::sample::start;
use tuxtape_core::identity::PatchLevel;

use super::{archive, next, request, seen};

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
