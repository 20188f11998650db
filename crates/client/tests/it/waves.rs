//! Who may load a level when, and what the stop button does.

use std::fs;

use tuxtape_archive::publish::stage::StageRequest;
use tuxtape_archive::sample::{self, RELEASE, start};
use tuxtape_client::apply::Applied;
use tuxtape_client::plan::Obstacle;
use tuxtape_core::identity::PatchLevel;
use tuxtape_core::rollout::Waves;

use super::setup::Lab;

fn publish_with_waves(lab: &Lab, n: u8, waves: Waves) {
    let request = StageRequest {
        release: RELEASE.parse().unwrap(),
        module: sample::module(n),
        fixes: Vec::new(),
        unpatchable: Vec::new(),
        base_version: None,
        waves: Some(waves),
        floor: None,
        signed: None,
    };
    lab.archive.workspace.stage(&request, lab.host.now).unwrap();
    lab.archive.sign_all().unwrap();
    lab.archive.workspace.publish(lab.host.now).unwrap();
}

fn blocked(lab: &mut Lab) -> Vec<Obstacle> {
    match lab.apply().unwrap() {
        Applied::Blocked(_, obstacles) => obstacles,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_machine_waits_for_its_turn_and_then_loads() {
    let mut lab = Lab::new();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    publish_with_waves(&lab, 2, Waves::normal(start()));
    let obstacles = blocked(&mut lab);
    let [Obstacle::Wave { share, opens }] = &obstacles[..] else {
        panic!("{obstacles:?}")
    };
    assert_eq!(share, "1.00 %");
    let opens = opens.unwrap();
    lab.host.now = opens.plus(0);
    // Days pass; the archive stays fresh meanwhile.
    lab.archive.workspace.renew(lab.host.now).unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(level) if level.level == PatchLevel(2)));
}

#[test]
fn without_a_machine_id_the_turn_comes_last() {
    let mut lab = Lab::new();
    lab.host.machine_id = None;
    publish_with_waves(&lab, 2, Waves::urgent(start()));
    // Level 1 has no schedule, but the newest is what is wanted.
    assert!(matches!(&blocked(&mut lab)[..], [Obstacle::Wave { .. }]));
    lab.host.now = start().plus(21_599);
    assert!(matches!(&blocked(&mut lab)[..], [Obstacle::Wave { .. }]));
    lab.host.now = start().plus(21_600);
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn a_hold_keeps_a_new_level_out_and_leaves_the_one_that_runs() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.next_level(2);
    let release = RELEASE.parse().unwrap();
    lab.archive
        .workspace
        .cap(&release, None, 0, "hangs", start())
        .unwrap();
    assert!(matches!(&blocked(&mut lab)[..], [Obstacle::Held(why)] if why.starts_with("hangs")));
    assert_eq!(lab.in_force(), ["tt_2f2f2f2f_1"]);
    // A reboot: what passed its probation here comes back, hold or not.
    lab.host.reboot();
    let release = RELEASE.parse().unwrap();
    lab.archive
        .workspace
        .cap(&release, None, 0, "hangs", start())
        .unwrap();
    lab.archive
        .workspace
        .lift(&release, Some(PatchLevel(2)), start())
        .unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(level) if level.level == PatchLevel(2)));
}

#[test]
fn a_withheld_hold_stops_what_is_new() {
    let mut lab = Lab::new();
    fs::remove_file(lab.metadata("1.hold.json")).unwrap();
    let obstacles = blocked(&mut lab);
    assert!(
        matches!(&obstacles[..], [Obstacle::Held(why)] if why.contains("the archive has no 1.hold.json")),
        "{obstacles:?}"
    );
    assert!(lab.host.inserted.is_empty());
}
