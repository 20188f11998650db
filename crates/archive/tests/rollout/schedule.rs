//! What is staged, and when it is published.

use tuxtape_archive::metadata::Targets;
use tuxtape_archive::publish::PublishError;
use tuxtape_archive::publish::stage::{StageError, StageRequest, StagedFix};
use tuxtape_archive::sample::{self, Archive, RELEASE, forge, start};
use tuxtape_core::identity::PatchLevel;
use tuxtape_core::rollout::Waves;

use super::{archive, seen};

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
