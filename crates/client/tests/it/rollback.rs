//! Taking levels out again, whatever is under way.

use std::fs;

use tuxtape_archive::metadata::Targets;
use tuxtape_archive::sample::{forge, key};
use tuxtape_client::apply::{self, Applied};
use tuxtape_client::journal::{JournalFile, Phase};
use tuxtape_client::plan::Obstacle;
use tuxtape_client::status::status;
use tuxtape_core::identity::PatchLevel;

use super::setup::{Chain, Lab, killed_in_transition};

#[test]
fn a_lost_journal_holds_the_machine_as_a_rollback_does() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    apply::rollback(&mut lab.host, &lab.settings).unwrap();
    for slot in ["journal.a", "journal.b"] {
        fs::write(lab.settings.state.join(slot), b"garbage").unwrap();
    }
    let blocked = lab.apply().unwrap();
    assert!(
        matches!(&blocked, Applied::Blocked(_, o) if o.contains(&Obstacle::Pinned)),
        "{blocked:?}"
    );
    let source = lab.source();
    let (done, _) = apply::apply(&mut lab.host, &lab.settings, &*source, false, true).unwrap();
    assert!(matches!(done, Applied::Loaded(_)));
}

#[test]
fn a_rollback_during_a_replacement_takes_both_levels_out() {
    let mut lab = Lab::new();
    killed_in_transition(&mut lab);
    assert_eq!(lab.in_force(), ["tt_2f2f2f2f_1", "tt_2f2f2f2f_2"]);
    let (done, _) = apply::rollback(&mut lab.host, &lab.settings).unwrap();
    let levels: Vec<u32> = done.levels.iter().map(|level| level.level.0).collect();
    assert_eq!(levels, [2, 1]);
    assert!(lab.in_force().is_empty() && lab.host.modules.is_empty());
    let journal = lab.journal();
    assert!(journal.pinned && journal.committed.is_none() && journal.attempt.is_none());
}

#[test]
fn a_rollback_of_a_level_on_its_way_out_takes_the_other_out_too() {
    let mut lab = Lab::new();
    killed_in_transition(&mut lab);
    let mut file = JournalFile::open(&lab.settings.state).unwrap();
    file.record(|journal| {
        journal.phase = Phase::Revert;
        journal.attempt.as_mut().unwrap().because = Some("it oopsed".to_owned());
    })
    .unwrap();
    apply::rollback(&mut lab.host, &lab.settings).unwrap();
    assert!(lab.in_force().is_empty() && lab.host.modules.is_empty());
}

#[test]
fn a_module_that_stays_in_memory_keeps_no_other_level_in_force() {
    let mut lab = Lab::new();
    killed_in_transition(&mut lab);
    lab.host.irremovable = Some("tt_2f2f2f2f_2".to_owned());
    let error = apply::rollback(&mut lab.host, &lab.settings).unwrap_err();
    let said = Chain(&error).to_string();
    assert!(
        said.contains("out of force, but its module stays"),
        "{said}"
    );
    assert!(lab.in_force().is_empty());
    assert!(lab.journal().pinned);
}

#[test]
fn a_rollback_of_a_level_that_hangs_is_no_success() {
    let mut lab = Lab::new();
    lab.host.transition_takes = None;
    lab.host.reversible = false;
    assert!(lab.apply().is_err());
    let error = apply::rollback(&mut lab.host, &lab.settings).unwrap_err();
    let said = Chain(&error).to_string();
    assert!(said.contains("ended in neither direction"), "{said}");
    assert!(lab.journal().pinned);
}

#[test]
fn a_rollback_knows_its_level_when_the_index_lists_this_build_no_more() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
    forge::<Targets>(&path, &[&key(1), &key(2)], |body| {
        let index = body.tuxtape.as_mut().unwrap();
        index["kernels"] = serde_json::json!([]);
        body.targets.clear();
    });
    let stored = lab
        .settings
        .state
        .join("tuf/roles/k__x86_64__6.1.0-47-cloud-amd64.json");
    fs::copy(&path, &stored).unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Unsupported(_)));
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!(shown.level.unwrap().level, PatchLevel(1));
    let (done, _) = apply::rollback(&mut lab.host, &lab.settings).unwrap();
    assert_eq!(done.levels.len(), 1);
    assert!(lab.in_force().is_empty());
}
