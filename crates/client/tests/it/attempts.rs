//! Attempts that end badly: crashes, stalls, complaints, full disks, lost journals.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tuxtape_client::apply::{self, Applied};
use tuxtape_client::guard;
use tuxtape_client::host::Host;
use tuxtape_client::journal::{Attempt, JournalFile, JournaledLevel, Phase};
use tuxtape_client::load::LogVerdict;
use tuxtape_client::plan::Obstacle;
use tuxtape_client::status::status;
use tuxtape_core::identity::{BuildId, PatchLevel};

use super::setup::{Chain, Lab, leave, take_the_name};

#[test]
fn armed_is_on_disk_when_the_kernel_gets_the_module() {
    let mut lab = Lab::new();
    lab.host.journal = Some(lab.settings.state.clone());
    lab.apply().unwrap();
    let [journal] = &lab.host.journaled[..] else {
        panic!("one insertion")
    };
    assert_eq!(journal.phase, Phase::Armed);
    let attempt = journal.attempt.clone().unwrap();
    assert_eq!(attempt.level.sha256, lab.digest());
    assert_eq!(attempt.boot_id, lab.host.boot_id().unwrap());
}

#[test]
fn without_a_journal_nothing_is_loaded() {
    let mut lab = Lab::new();
    let slot = lab.settings.state.join("journal.a");
    fs::create_dir(&slot).unwrap();
    assert!(lab.apply().is_err());
    assert!(lab.host.inserted.is_empty(), "no journal, no insertion");
}

#[test]
fn a_boot_that_ends_during_an_attempt_is_a_strike_and_two_bar_the_level() {
    let mut lab = Lab::new();
    let die = |lab: &mut Lab| {
        let level = JournaledLevel {
            kernel: lab.host.kernel.build_id.clone(),
            level: PatchLevel(1),
            sha256: lab.digest(),
            module: "tt_2f2f2f2f_1".to_owned(),
            module_build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        };
        leave(lab, Phase::Armed, level, |_| {});
        lab.host.reboot();
    };
    die(&mut lab);
    lab.host.up = 60;
    lab.refused("an earlier boot ended while this level was being loaded");
    lab.host.up = 700;
    die(&mut lab);
    lab.refused("level 1 is quarantined on this kernel: two boots ended");
    assert_eq!(
        status(&lab.host, &lab.settings).unwrap().state,
        "quarantined"
    );
}

#[test]
fn a_client_killed_before_the_insertion_blames_nobody() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    let committed = lab.journal().committed.unwrap();
    apply::rollback(&mut lab.host, &lab.settings).unwrap();
    leave(&lab, Phase::Armed, committed, |journal| {
        journal.pinned = false;
    });
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    assert!(lab.journal().strikes.is_empty());
}

#[test]
fn an_oops_while_watched_takes_the_level_out_for_good() {
    let mut lab = Lab::new();
    lab.host.oops_when_loaded = true;
    let error = lab.apply().unwrap_err();
    let said = Chain(&error).to_string();
    assert!(
        said.contains("taken out again and quarantined: the kernel counted 1 oopses"),
        "{said}"
    );
    assert!(lab.in_force().is_empty() && lab.host.modules.is_empty());
    let blocked = lab.apply().unwrap();
    assert!(
        matches!(blocked, Applied::Blocked(_, o) if matches!(o[0], Obstacle::Quarantined { .. }))
    );
}

#[test]
fn a_barred_level_leaves_room_for_the_one_before() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.next_level(2);
    lab.host.oops_when_loaded = true;
    assert!(lab.apply().is_err());
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(level) if level.level == PatchLevel(1)));
}

#[test]
fn the_logs_verdict_takes_the_level_out() {
    let mut lab = Lab::new();
    lab.settings.judge = Some(|_, module| LogVerdict::Guilty(format!("BUG in {module}")));
    let error = lab.apply().unwrap_err();
    assert!(Chain(&error).to_string().contains("BUG in tt_2f2f2f2f_1"));
    assert!(lab.in_force().is_empty());
}

#[test]
fn a_stalled_transition_is_reversed() {
    let mut lab = Lab::new();
    lab.host.transition_takes = None;
    let error = lab.apply().unwrap_err();
    let said = Chain(&error).to_string();
    assert!(
        said.contains("did not end within 60 s and was reversed"),
        "{said}"
    );
    assert!(said.contains("4711 sleeper"), "{said}");
    assert!(lab.in_force().is_empty() && lab.host.modules.is_empty());
    assert!(lab.host.monotonic() >= Duration::from_secs(60));
}

#[test]
fn a_transition_that_goes_neither_way_waits_for_a_reboot() {
    let mut lab = Lab::new();
    lab.host.transition_takes = None;
    lab.host.reversible = false;
    assert!(lab.apply().is_err());
    assert_eq!(lab.journal().phase, Phase::Stuck);
    assert_eq!(status(&lab.host, &lab.settings).unwrap().state, "stalled");
    assert!(
        matches!(lab.apply().unwrap(), Applied::Blocked(_, o) if o.iter().any(|o| matches!(o, Obstacle::Stuck(_))))
    );
    lab.host.reboot();
    lab.host.transition_takes = Some(1);
    lab.apply().unwrap();
    assert_ne!(lab.journal().phase, Phase::Stuck);
}

#[test]
fn a_module_the_kernel_refuses_is_said_so_and_not_retried_blindly() {
    for (errno, text, barred) in [
        (129, "its key is not enrolled", false),
        (1, "lockdown", false),
        (8, "malformed", true),
    ] {
        let mut lab = Lab::new();
        lab.host.refuse = Some(errno);
        lab.refused(text);
        lab.host.refuse = None;
        let again = lab.apply().unwrap();
        assert_eq!(
            matches!(again, Applied::Blocked(..)),
            barred,
            "{errno} {again:?}"
        );
    }
}

#[test]
fn somebody_elses_module_of_that_name_is_not_taken_for_an_interrupted_attempt() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    let level = lab.journal().committed.unwrap();
    lab.host.reboot();
    for phase in [Phase::Armed, Phase::Probation, Phase::Revert] {
        lab.host.modules.clear();
        lab.host.patches.clear();
        take_the_name(&mut lab);
        let mut file = JournalFile::open(&lab.settings.state).unwrap();
        let boot_id = lab.host.boot_id().unwrap();
        file.record(|journal| {
            journal.phase = phase;
            journal.attempt = Some(Attempt {
                level: level.clone(),
                boot_id,
                log_from: 0,
                oopses: None,
                watched: 0,
                early: false,
                because: Some("test".to_owned()),
            });
        })
        .unwrap();
        lab.apply().ok();
        assert_eq!(lab.in_force(), ["tt_2f2f2f2f_1"], "{phase:?}");
        assert!(lab.host.modules.contains_key("tt_2f2f2f2f_1"), "{phase:?}");
        let barred = fs::read_dir(lab.settings.state.join("quarantine")).unwrap();
        assert_eq!(barred.count(), 0, "{phase:?}");
    }
}

/// Makes the journal one that cannot be written, as on a full or failing disk.
fn lose_journal(state: &Path) {
    for slot in ["journal.a", "journal.b"] {
        let slot = state.join(slot);
        fs::remove_file(&slot).ok();
        fs::create_dir(&slot).unwrap();
    }
}

#[test]
fn a_level_that_cannot_be_quarantined_holds_the_machine() {
    let mut lab = Lab::new();
    lab.host.oops_when_loaded = true;
    lab.host.at_insertion = Some((
        |state| fs::remove_dir(state.join("quarantine")).unwrap(),
        lab.settings.state.clone(),
    ));
    assert!(lab.apply().is_err());
    assert!(lab.in_force().is_empty());
    let again = lab.apply().unwrap();
    assert!(matches!(again, Applied::Blocked(..)), "{again:?}");
}

#[test]
fn a_level_is_watched_and_taken_out_though_the_disk_is_full() {
    let mut lab = Lab::new();
    lab.host.oops_when_loaded = true;
    lab.host.at_insertion = Some((lose_journal, lab.settings.state.clone()));
    assert!(lab.apply().is_err());
    assert_eq!(lab.host.inserted.len(), 1);
    assert!(lab.in_force().is_empty(), "it oopsed and is still there");
}

#[test]
fn a_stalled_transition_is_reversed_though_the_disk_is_full() {
    let mut lab = Lab::new();
    lab.host.transition_takes = None;
    lab.host.at_insertion = Some((lose_journal, lab.settings.state.clone()));
    assert!(lab.apply().is_err());
    assert!(lab.in_force().is_empty() && lab.host.modules.is_empty());
}

/// Boots, and ends the boot while the level is watched, after `seconds`.
fn boot_that_ends(lab: &mut Lab, seconds: u64) {
    lab.host.reboot();
    lab.settings.config.probation = Duration::from_secs(900);
    lab.host.stops_after = Some(Duration::from_secs(seconds));
    assert!(lab.apply().is_err(), "the boot ended");
    lab.host.stops_after = None;
    assert_ne!(lab.journal().phase, Phase::Idle);
}

#[test]
fn two_reboots_soon_after_the_start_cost_no_level_that_was_good_before_and_a_third_does() {
    let mut lab = Lab::new();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.apply().unwrap();
    for _ in 0..2 {
        boot_that_ends(&mut lab, 100);
    }
    lab.host.reboot();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    assert!(lab.journal().strikes.is_empty() && lab.journal().cuts.is_empty());
    for _ in 0..3 {
        boot_that_ends(&mut lab, 100);
    }
    lab.host.reboot();
    lab.host.inserted.clear();
    lab.refused("three boots in a row ended soon after it was loaded again");
}

#[test]
fn a_level_that_ends_boots_at_once_is_barred_though_it_was_good_before() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    for _ in 0..2 {
        boot_that_ends(&mut lab, 30);
    }
    lab.host.reboot();
    let Applied::Blocked(_, obstacles) = lab.apply().unwrap() else {
        panic!("it ended two boots")
    };
    let said = obstacles[0].to_string();
    let file = lab.settings.state.join("quarantine");
    assert!(
        said.contains(&format!("removing {}", file.display())) && said.contains("lifts that"),
        "{said}"
    );
    fs::remove_dir_all(&file).unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn a_level_never_good_before_is_not_excused_by_a_minute() {
    let mut lab = Lab::new();
    boot_that_ends(&mut lab, 100);
    lab.host.reboot();
    lab.host.up = 60;
    let blocked = lab.apply().unwrap();
    assert!(
        matches!(&blocked, Applied::Blocked(_, o) if o.contains(&Obstacle::Strike)),
        "{blocked:?}"
    );
}

#[test]
fn a_stall_is_no_crash() {
    let mut lab = Lab::new();
    lab.host.transition_takes = None;
    assert!(lab.apply().is_err());
    let journal = lab.journal();
    assert!(journal.strikes.is_empty());
    assert_eq!(journal.stalls.values().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(status(&lab.host, &lab.settings).unwrap().stalls, 1);
    // One boot that ends while it is loaded is the first, not the second.
    boot_that_ends(&mut lab, 30);
    lab.host.reboot();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn an_oops_the_log_shows_elsewhere_costs_no_level() {
    let mut lab = Lab::new();
    lab.settings.judge = Some(tuxtape_client::log::judge);
    lab.host.oops_when_loaded = true;
    lab.host.log_when_loaded = [
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "RIP: 0010:other_function+0x1/0x20 [e1000]",
        "Call Trace:",
        " g+0x1/0x20",
        "---[ end trace 0000000000000000 ]---",
    ]
    .map(str::to_owned)
    .to_vec();
    lab.host.log = [
        "livepatch: enabling patch 'tt_2f2f2f2f_1'",
        "livepatch: 'tt_2f2f2f2f_1': starting patching transition",
        "livepatch: 'tt_2f2f2f2f_1': patching complete",
    ]
    .map(str::to_owned)
    .to_vec();
    lab.host.log_written_at_insertion = true;
    let mut lost = Lab::new();
    lost.settings.judge = lab.settings.judge;
    lost.host.oops_when_loaded = true;
    lost.host
        .log_when_loaded
        .clone_from(&lab.host.log_when_loaded);
    lost.host.log.clone_from(&lab.host.log);
    lost.host.log_written_at_insertion = true;
    lost.host.log_lost = true;
    let done = lab.apply();
    assert!(matches!(done, Ok(Applied::Loaded(_))), "{done:?}");
    assert!(lost.apply().is_err(), "a log with gaps explains nothing");
    assert!(lost.in_force().is_empty());
}

#[test]
fn the_log_is_read_to_its_end_and_gaps_are_told() {
    let mut lab = Lab::new();
    lab.settings.judge = Some(tuxtape_client::log::judge);
    lab.host.log_reads = 2;
    lab.host.log = vec!["BUG: before it, in f+0x1/0x2 [tt_2f2f2f2f_1]".to_owned(); 9];
    lab.host.log_when_loaded = ["noise"; 20].map(str::to_owned).to_vec();
    lab.host.log_when_loaded.extend(
        [
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "RIP: 0010:f+0x1/0x20 [tt_2f2f2f2f_1]",
        ]
        .map(str::to_owned),
    );
    let said = Chain(&lab.apply().unwrap_err()).to_string();
    assert!(said.contains("the kernel complained about it"), "{said}");
    let mut lab = Lab::new();
    lab.settings.judge = Some(tuxtape_client::log::judge);
    lab.host.log_reads = 2;
    lab.host.log = vec!["BUG: before it, in f+0x1/0x2 [tt_2f2f2f2f_1]".to_owned(); 9];
    lab.host.log_lost = true;
    let source = lab.source();
    let (_, remarks) = apply::apply(&mut lab.host, &lab.settings, &*source, false, false).unwrap();
    assert!(
        remarks
            .iter()
            .any(|r| r.contains("records of the kernel log were lost")),
        "{remarks:?}"
    );
}
