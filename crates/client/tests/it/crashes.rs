//! Boots that end badly: what was kept of the crash, shutdowns, boot loops.

use std::time::Duration;

use tuxtape_client::apply::{self, Applied};
use tuxtape_client::guard;
use tuxtape_client::host::Host;
use tuxtape_client::journal::{JournalFile, Phase};
use tuxtape_client::reapply::reapply;
use tuxtape_client::status::status;
use tuxtape_sys::kernel::crash::CrashRecord;

use super::setup::{Lab, leave};

const MODULE: &str = "tt_2f2f2f2f_1";

/// What pstore keeps of an oops in `function`, with `caller` on the stack.
fn record(function: &str, caller: &str) -> CrashRecord {
    let text = format!(
        "Panic#1 Part1\n\
         <1>[   20.1] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
         <4>[   20.2] CPU: 0 PID: 1 Comm: sh Tainted: G           OE K    6.1.0-47-cloud-amd64 #1\n\
         <4>[   20.2] RIP: 0010:{function}\n\
         <4>[   20.3] Call Trace:\n<4>[   20.4]  <TASK>\n<4>[   20.5]  {caller}\n\
         <4>[   20.6]  do_syscall_64+0x5b/0xc0\n<4>[   20.7]  </TASK>\n\
         <0>[   20.8] Kernel panic - not syncing: Fatal exception\n"
    );
    CrashRecord {
        path: format!("/sys/fs/pstore/dmesg-erst-{}", text.len()).into(),
        bytes: text.into_bytes(),
    }
}

/// The boot ends while level 1 is watched, which was loaded just before.
fn end_in_probation(lab: &mut Lab) {
    lab.apply().unwrap();
    let level = lab.journal().committed.unwrap();
    leave(lab, Phase::Probation, level, |journal| {
        journal.committed = None;
    });
    lab.host.reboot();
    lab.host.inserted.clear();
}

#[test]
fn a_kept_crash_that_names_the_new_level_bars_it_at_once() {
    for (function, caller) in [
        ("f+0x1/0x20 [tt_2f2f2f2f_1]", "g+0x1/0x20"),
        ("tcp_sendmsg+0x1/0x20", "f+0x1/0x20 [tt_2f2f2f2f_1]"),
    ] {
        let mut lab = Lab::new();
        end_in_probation(&mut lab);
        lab.host.crashes.records.push(record(function, caller));
        lab.refused("level 1 is quarantined on this kernel: the machine crashed while it was new");
        lab.refused("level 1 is quarantined");
    }
}

#[test]
fn a_kept_crash_elsewhere_is_a_strike_and_a_day_of_rest() {
    let mut lab = Lab::new();
    end_in_probation(&mut lab);
    lab.host
        .crashes
        .records
        .push(record("g+0x1/0x20 [e1000]", "h+0x1/0x20"));
    lab.refused("the crash names something else; next try after");
    assert_eq!(lab.journal().strikes.len(), 1);
    // A look later in the same boot finds nothing new.
    lab.refused("the crash names something else");
    assert_eq!(lab.journal().strikes.values().sum::<u32>(), 1);
    lab.host.now = lab.host.now.plus(86_401);
    lab.archive.workspace.renew(lab.host.now).unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn a_person_may_end_the_rest() {
    let mut lab = Lab::new();
    end_in_probation(&mut lab);
    lab.host
        .crashes
        .records
        .push(record("g+0x1/0x20 [e1000]", "h+0x1/0x20"));
    lab.refused("next try after");
    let source = lab.source();
    let (applied, _) = apply::apply(&mut lab.host, &lab.settings, &*source, false, true).unwrap();
    assert!(matches!(applied, Applied::Loaded(_)), "{applied:?}");
}

#[test]
fn an_old_record_says_nothing_about_a_new_attempt() {
    let mut lab = Lab::new();
    let old = record("f+0x1/0x20 [tt_2f2f2f2f_1]", "g+0x1/0x20");
    lab.host.crashes.records.push(old.clone());
    end_in_probation(&mut lab);
    // systemd moved it meanwhile.
    lab.host.crashes.records[0].path = "/var/lib/systemd/pstore/1/dmesg-erst-1".into();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    assert!(
        lab.journal().strikes.is_empty(),
        "committed, which clears strikes"
    );
}

#[test]
fn a_shutdown_in_order_is_no_strike() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    guard::end(&lab.host, &lab.settings.state).unwrap();
    end_in_probation(&mut lab);
    lab.host.up = 60;
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    // The mark is of that boot alone.
    end_in_probation(&mut lab);
    lab.host.up = 60;
    lab.refused("an earlier boot ended while this level was being loaded");
}

#[test]
fn a_crash_that_was_kept_outweighs_the_mark_of_a_shutdown() {
    let mut lab = Lab::new();
    guard::end(&lab.host, &lab.settings.state).unwrap();
    end_in_probation(&mut lab);
    lab.host
        .crashes
        .records
        .push(record("f+0x1/0x20 [tt_2f2f2f2f_1]", "g+0x1/0x20"));
    lab.refused("quarantined");
}

#[test]
fn a_level_that_ran_well_is_barred_only_by_a_crash_in_its_own_code() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.host.reboot();
    lab.host
        .crashes
        .records
        .push(record("tcp_sendmsg+0x1/0x20", "f+0x1/0x20 [tt_2f2f2f2f_1]"));
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    lab.host.reboot();
    lab.host.inserted.clear();
    lab.host
        .crashes
        .records
        .push(record("f+0x2/0x20 [tt_2f2f2f2f_1]", "g+0x1/0x20"));
    lab.refused("the machine crashed in it");
    assert_eq!(
        status(&lab.host, &lab.settings).unwrap().state,
        "quarantined"
    );
}

#[test]
fn two_boots_that_do_not_complete_and_the_third_loads_nothing() {
    let mut lab = Lab::new();
    assert_eq!(guard::begin(&lab.host, &lab.settings.state).unwrap(), 0);
    lab.apply().unwrap();
    let mut counts = Vec::new();
    for _ in 0..2 {
        lab.host.reboot();
        counts.push(guard::begin(&lab.host, &lab.settings.state).unwrap());
        // Asked twice in one boot it counts once.
        counts.push(guard::begin(&lab.host, &lab.settings.state).unwrap());
    }
    assert_eq!(counts, [1, 1, 2, 2]);
    lab.host.inserted.clear();
    lab.refused("2 boots in a row did not complete");
    assert!(
        lab.journal().strikes.is_empty(),
        "nothing shows that it was the level"
    );
    // It holds for the rest of the boot, and ends with it.
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.refused("2 boots in a row did not complete");
    lab.host.reboot();
    assert_eq!(guard::begin(&lab.host, &lab.settings.state).unwrap(), 0);
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn shutdowns_and_complete_boots_are_no_boot_loop() {
    let mut lab = Lab::new();
    for _ in 0..3 {
        guard::begin(&lab.host, &lab.settings.state).unwrap();
        guard::end(&lab.host, &lab.settings.state).unwrap();
        lab.host.reboot();
    }
    for _ in 0..3 {
        assert_eq!(guard::begin(&lab.host, &lab.settings.state).unwrap(), 0);
        guard::complete(&lab.host, &lab.settings.state).unwrap();
        lab.host.reboot();
    }
}

#[test]
fn a_person_may_load_in_a_boot_loop() {
    let mut lab = Lab::new();
    for _ in 0..3 {
        guard::begin(&lab.host, &lab.settings.state).unwrap();
        lab.host.reboot();
    }
    guard::begin(&lab.host, &lab.settings.state).unwrap();
    lab.refused("3 boots in a row did not complete");
    let source = lab.source();
    let (applied, _) = apply::apply(&mut lab.host, &lab.settings, &*source, false, true).unwrap();
    assert!(matches!(applied, Applied::Loaded(_)), "{applied:?}");
}

#[test]
fn a_count_or_a_list_that_is_garbled_stops_nothing() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    for name in [
        "bootcount.a",
        "bootcount.b",
        "crashes.json",
        "clean.00000001",
    ] {
        std::fs::write(lab.settings.state.join(name), b"\xff{").unwrap();
    }
    lab.host.reboot();
    assert_eq!(guard::begin(&lab.host, &lab.settings.state).unwrap(), 0);
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    assert_eq!(lab.in_force(), [MODULE]);
}

#[test]
fn early_in_a_boot_only_a_level_is_loaded_with_which_a_boot_got_to_its_end() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.host.reboot();
    let early = |lab: &mut Lab| reapply(&mut lab.host, &lab.settings).unwrap().0;
    assert_eq!(early(&mut lab), Applied::NothingToApply);
    assert!(lab.in_force().is_empty());
    // Complete without it in force proves nothing.
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    assert_eq!(early(&mut lab), Applied::NothingToApply);
    lab.apply().unwrap();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.host.reboot();
    // Nobody is asked: the archive is gone.
    std::fs::remove_dir_all(lab.archive.public()).unwrap();
    assert!(matches!(early(&mut lab), Applied::Loaded(_)));
    assert_eq!(lab.in_force(), [MODULE]);
    assert_eq!(
        lab.journal().phase,
        Phase::Probation,
        "left to the next run"
    );
    assert!(matches!(early(&mut lab), Applied::UpToDate(_)));
    assert_eq!(lab.journal().phase, Phase::Idle);
}

#[test]
fn a_level_loaded_early_is_judged_by_what_the_kernel_said_since() {
    let mut lab = Lab::new();
    lab.settings.judge = Some(tuxtape_client::log::judge);
    lab.apply().unwrap();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.host.reboot();
    lab.host.log.clear();
    let (applied, _) = reapply(&mut lab.host, &lab.settings).unwrap();
    assert!(matches!(applied, Applied::Loaded(_)));
    lab.host.log.extend([
        "BUG: kernel NULL pointer dereference, address: 0000000000000000".to_owned(),
        format!("RIP: 0010:f+0x1/0x20 [{MODULE}]"),
        "Call Trace:".to_owned(),
        " g+0x1/0x20".to_owned(),
    ]);
    assert!(lab.apply().is_err());
    assert!(lab.in_force().is_empty());
    assert_eq!(
        status(&lab.host, &lab.settings).unwrap().state,
        "quarantined"
    );
}

#[test]
fn a_proven_level_that_crashes_early_is_not_loaded_early_again() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    let level = lab.journal().committed.unwrap();
    lab.host.reboot();
    lab.host.up = 5;
    leave(&lab, Phase::Armed, level, |_| {});
    lab.host.reboot();
    lab.host.up = 5;
    let (applied, _) = reapply(&mut lab.host, &lab.settings).unwrap();
    assert!(matches!(applied, Applied::Blocked(..)), "{applied:?}");
}

/// What is kept of the crashes of a bad level.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kept {
    Nothing,
    Own,
    Elsewhere,
}

/// One boot as the units make it: count, load early, complete after a minute, poll after two minutes and
/// then hourly. Tells whether it crashed.
fn boot(lab: &mut Lab, polls: u32) -> bool {
    let wait = |lab: &mut Lab, until: u64| {
        while lab.host.up < until && !lab.host.crashed() {
            lab.host.up += 1;
            lab.host.pause(Duration::from_secs(1));
        }
        lab.host.crashed()
    };
    lab.host.up = 5;
    guard::begin(&lab.host, &lab.settings.state).unwrap();
    drop(reapply(&mut lab.host, &lab.settings));
    if wait(lab, 60) {
        return true;
    }
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    for poll in 0..polls {
        if wait(lab, 120 + u64::from(poll) * 3600) {
            return true;
        }
        drop(lab.apply());
        if lab.host.crashed() {
            return true;
        }
    }
    guard::end(&lab.host, &lab.settings.state).unwrap();
    false
}

#[test]
fn a_bad_level_costs_two_boots_at_most_with_nobody_there() {
    let mut seen = Vec::new();
    for after in [0, 30, 62, 119, 299, 899] {
        for kept in [Kept::Nothing, Kept::Own, Kept::Elsewhere] {
            for good_at_first in [false, true] {
                let mut lab = Lab::new();
                lab.settings.config.probation = Duration::from_secs(900);
                if good_at_first {
                    assert!(!boot(&mut lab, 2));
                    lab.host.reboot();
                }
                lab.host.crashes_after = Some(Duration::from_secs(after));
                let mut crashes = 0;
                for n in 0..8 {
                    if boot(&mut lab, 2) {
                        crashes += 1;
                        let mut record = match kept {
                            Kept::Nothing => None,
                            Kept::Own => Some(record("f+0x1/0x20 [tt_2f2f2f2f_1]", "g+0x1/0x20")),
                            Kept::Elsewhere => Some(record("f+0x1/0x20 [e1000]", "g+0x1/0x20")),
                        };
                        // No two crashes leave the same text.
                        if let Some(record) = &mut record {
                            record
                                .bytes
                                .extend(format!("<4>[ 99.0] end {n}\n").into_bytes());
                        }
                        lab.host.crashes.records.extend(record);
                    }
                    lab.host.reboot();
                    lab.host.now = lab.host.now.plus(7200);
                }
                seen.push((after, kept, good_at_first, crashes));
            }
        }
    }
    for (after, kept, good_at_first, crashes) in &seen {
        let most = match kept {
            Kept::Own => 1,
            // Loaded early, and watched for a minute by the poll: the first two pass for power cuts.
            Kept::Nothing | Kept::Elsewhere if *good_at_first && *after >= 115 + 60 => 3,
            Kept::Nothing | Kept::Elsewhere => 2,
        };
        assert!(
            (1..=most).contains(crashes),
            "{after} s, {kept:?}, {good_at_first}: {crashes}"
        );
    }
}

/// Level 1 committed in a boot that got to its end, and the next boot begun.
fn proven() -> Lab {
    let mut lab = Lab::new();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.apply().unwrap();
    lab.host.reboot();
    lab.host.up = 5;
    lab
}

fn early(lab: &mut Lab) -> Applied {
    reapply(&mut lab.host, &lab.settings).unwrap().0
}

#[test]
fn a_proven_level_comes_back_while_a_newer_one_waits() {
    let mut lab = proven();
    lab.next_level(2);
    let journal = lab.journal();
    let digest = journal.committed.unwrap().sha256;
    // Known, and barred for now: as one that waits for its turn.
    let source = lab.source();
    apply::refresh(&lab.host, &lab.settings, &*source).unwrap();
    let Applied::Loaded(level) = early(&mut lab) else {
        panic!("nothing is loaded early")
    };
    assert_eq!(level.sha256, digest);
    // And by the poll, where the newer one rests.
    lab.host.reboot();
    lab.host.up = 5;
    let mut file = JournalFile::open(&lab.settings.state).unwrap();
    let newer = newest_digest(&lab);
    file.record(|journal| {
        journal.phase = Phase::Idle;
        journal.attempt = None;
        journal.strike(&newer);
    })
    .unwrap();
    let Applied::Loaded(level) = lab.apply().unwrap() else {
        panic!("the committed level stays out")
    };
    assert_eq!(level.sha256, digest);
}

fn newest_digest(lab: &Lab) -> String {
    use sha2::{Digest, Sha256};
    assert!(lab.archive.public().exists());
    hex::encode(Sha256::digest(tuxtape_archive::sample::module(2)))
}

#[test]
fn a_level_that_ends_a_boot_when_loaded_early_is_not_loaded_early_again() {
    let mut lab = proven();
    lab.host.crashes_after = Some(Duration::ZERO);
    assert!(reapply(&mut lab.host, &lab.settings).is_err());
    for _ in 0..3 {
        // It does no harm later in a boot.
        lab.host.crashes_after = None;
        lab.host.reboot();
        lab.host.up = 5;
        lab.host.inserted.clear();
        assert!(!matches!(early(&mut lab), Applied::Loaded(_)));
        assert!(lab.host.inserted.is_empty());
        guard::complete(&lab.host, &lab.settings.state).unwrap();
        lab.host.up = 700;
        assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    }
}

#[test]
fn power_cuts_without_the_level_bar_nothing() {
    let mut lab = proven();
    guard::begin(&lab.host, &lab.settings.state).unwrap();
    early(&mut lab);
    for _ in 0..4 {
        lab.host.reboot();
        lab.host.up = 5;
        guard::begin(&lab.host, &lab.settings.state).unwrap();
        assert!(
            !matches!(early(&mut lab), Applied::Loaded(_)),
            "it has a strike"
        );
    }
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.host.reboot();
    guard::begin(&lab.host, &lab.settings.state).unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn a_boot_is_noted_as_complete_while_a_client_is_at_work() {
    let lab = Lab::new();
    let busy = tuxtape_client::state::State::open(&lab.settings.state).unwrap();
    guard::begin(&lab.host, &lab.settings.state).unwrap();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    drop(busy);
    let mut lab = lab;
    lab.host.reboot();
    assert_eq!(guard::begin(&lab.host, &lab.settings.state).unwrap(), 0);
}

#[test]
fn a_mark_in_the_middle_of_a_boot_excuses_nothing() {
    let mut lab = Lab::new();
    guard::end(&lab.host, &lab.settings.state).unwrap();
    guard::complete(&lab.host, &lab.settings.state).unwrap();
    lab.host.crashes_after = Some(Duration::ZERO);
    assert!(lab.apply().is_err());
    lab.host.crashes_after = None;
    lab.host.reboot();
    lab.host.up = 60;
    lab.host.inserted.clear();
    lab.refused("an earlier boot ended while this level was being loaded");
}

#[test]
fn an_oops_that_the_machine_survived_is_no_crash() {
    let mut lab = Lab::new();
    end_in_probation(&mut lab);
    let boot = lab.journal().attempt.unwrap().boot_id;
    let state = tuxtape_client::state::State::look(&lab.settings.state).unwrap();
    state.mark_shut_down(&boot).unwrap();
    lab.host
        .crashes
        .records
        .push(record("g+0x1/0x20 [e1000]", "h+0x1/0x20"));
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn a_level_that_is_barred_is_taken_out_and_not_kept_for_being_there() {
    // While it is watched.
    let mut lab = proven();
    early(&mut lab);
    lab.host
        .crashes
        .records
        .push(record("f+0x1/0x20 [tt_2f2f2f2f_1]", "g+0x1/0x20"));
    lab.apply().ok();
    assert!(lab.in_force().is_empty());
    // When it was committed.
    let mut lab = Lab::new();
    lab.apply().unwrap();
    let level = lab.journal().committed.unwrap();
    let state = tuxtape_client::state::State::look(&lab.settings.state).unwrap();
    state
        .quarantine(
            &level.sha256,
            &level.kernel,
            level.level,
            "by hand",
            lab.host.now,
        )
        .unwrap();
    let Applied::Left(_, why) = lab.apply().unwrap() else {
        panic!("it stays")
    };
    assert!(why.contains("by hand"));
    assert!(lab.in_force().is_empty());
}

#[test]
fn a_stall_that_a_reboot_clears_bars_nothing() {
    let mut lab = Lab::new();
    lab.host.transition_takes = None;
    lab.host.reversible = false;
    assert!(lab.apply().is_err());
    assert_eq!(lab.journal().phase, Phase::Stuck);
    lab.host.reboot();
    lab.host.transition_takes = Some(2);
    lab.host.reversible = true;
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn a_withdrawn_level_goes_though_nothing_about_the_look_can_be_kept() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    let folder = lab.settings.state.join("check.json");
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    lab.next_level(2);
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}
