//! What a machine does from day to day: load, replace, come back, tell.

use std::fs;

use tuxtape_archive::metadata::Targets;
use tuxtape_archive::sample::{forge, key, start};
use tuxtape_archive::serve::serve;
use tuxtape_archive::source::{HttpOptions, open};
use tuxtape_client::apply::{self, Applied, Refreshed};
use tuxtape_client::check::{Checked, check};
use tuxtape_client::journal::{Journal, Phase};
use tuxtape_client::mode;
use tuxtape_client::plan::Obstacle;
use tuxtape_client::status::status;
use tuxtape_core::identity::PatchLevel;

use super::setup::{Lab, killed_in_transition, take_the_name};

#[test]
fn a_level_is_loaded_shown_and_rolled_back() {
    let mut lab = Lab::new();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(level) if level.level == PatchLevel(1)));
    assert_eq!(lab.in_force(), ["tt_2f2f2f2f_1"]);
    let journal = lab.journal();
    assert_eq!(journal.phase, Phase::Idle);
    assert_eq!(journal.committed.unwrap().level, PatchLevel(1));
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!((shown.state, shown.exit_code()), ("applied", 0));
    assert_eq!(shown.fixed, ["CVE-2026-0001"]);
    let json = serde_json::to_value(shown.json("0")).unwrap();
    assert_eq!(json["Status"][0]["Livepatch"]["Version"], "1");
    assert_eq!(
        json["Status"][0]["Livepatch"]["Fixes"][0]["Name"],
        "cve-2026-0001"
    );
    assert!(matches!(lab.apply().unwrap(), Applied::UpToDate(_)));
    let (done, _) = apply::rollback(&mut lab.host, &lab.settings).unwrap();
    assert_eq!(done.levels[0].level, PatchLevel(1));
    assert!(lab.in_force().is_empty() && lab.host.modules.is_empty());
    assert!(matches!(lab.apply().unwrap(), Applied::Blocked(_, o) if o == [Obstacle::Pinned]));
    let source = lab.source();
    let (done, _) = apply::apply(&mut lab.host, &lab.settings, &*source, false, true).unwrap();
    assert!(matches!(done, Applied::Loaded(_)));
}

#[test]
fn a_newer_level_replaces_the_older_and_frees_its_module() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.next_level(2);
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!(shown.level.unwrap().level, PatchLevel(1));
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(level) if level.level == PatchLevel(2)));
    assert_eq!(lab.in_force(), ["tt_2f2f2f2f_2"]);
    let names: Vec<&String> = lab.host.modules.keys().collect();
    assert_eq!(names, ["tt_2f2f2f2f_2"], "the replaced module was removed");
    assert_eq!(lab.journal().previous.unwrap().level, PatchLevel(1));
}

#[test]
fn the_archive_may_be_behind_http() {
    let mut lab = Lab::new();
    let serving = serve(&lab.archive.public(), "127.0.0.1:0", |_, _, _| {}).unwrap();
    let url = format!("http://{}", serving.address);
    let source = open(&url, &HttpOptions::default()).unwrap();
    let (done, _) = apply::apply(&mut lab.host, &lab.settings, &*source, false, false).unwrap();
    assert!(matches!(done, Applied::Loaded(_)));
}

#[test]
fn a_failed_update_never_unloads_what_runs() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    fs::write(lab.metadata("timestamp.json"), b"garbage").unwrap();
    assert!(matches!(lab.apply(), Ok(Applied::UpToDate(_))));
    assert_eq!(lab.in_force(), ["tt_2f2f2f2f_1"]);
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!(shown.state, "applied");
    let error = shown.check.unwrap().error.unwrap();
    assert!(error.contains("timestamp.json is not usable"), "{error}");
}

#[test]
fn a_committed_level_comes_back_after_a_reboot_without_the_archive() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.host.reboot();
    lab.host.now = start().plus(400 * 86_400);
    fs::remove_dir_all(lab.archive.public()).unwrap();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
}

#[test]
fn without_the_archive_nothing_new_is_loaded() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.next_level(2);
    apply::refresh(&lab.host, &lab.settings, &*lab.source()).unwrap();
    lab.host.reboot();
    lab.host.inserted.clear();
    fs::remove_dir_all(lab.archive.public()).unwrap();
    lab.refused("could not update from the archive");
}

#[test]
fn the_switch_stops_everything() {
    let mut lab = Lab::new();
    lab.settings.switch = mode::read("tuxtape.mode=no-apply", None);
    lab.refused("mode is no-apply");
    lab.settings.switch = mode::read("tuxtape.mode=stop", None);
    assert!(matches!(lab.apply().unwrap(), Applied::Off(_)));
    assert!(lab.host.inserted.is_empty());
}

#[test]
fn a_dry_run_touches_nothing_in_the_kernel() {
    let mut lab = Lab::new();
    let source = lab.source();
    let (done, _) = apply::apply(&mut lab.host, &lab.settings, &*source, true, false).unwrap();
    assert!(matches!(done, Applied::WouldLoad(_)));
    assert!(lab.host.inserted.is_empty());
    assert_eq!(lab.journal(), Journal::default());
}

#[test]
fn a_second_root_is_refused() {
    let lab = Lab::new();
    let root = fs::read(lab.metadata("1.root.json")).unwrap();
    let error = apply::init(&lab.settings, &root).unwrap_err();
    assert!(
        error.to_string().contains("a root is trusted already"),
        "{error}"
    );
    drop(lab.folder);
}

#[test]
fn only_our_own_replaced_module_is_removed() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.host.reboot();
    // After a boot the old name may be another module's, and no livepatch at all.
    take_the_name(&mut lab);
    lab.host.patches.clear();
    lab.next_level(2);
    lab.apply().unwrap();
    assert!(lab.host.modules.contains_key("tt_2f2f2f2f_1"));
}

#[test]
fn the_switch_stops_looking_too() {
    let mut lab = Lab::new();
    for word in ["no-refresh", "stop"] {
        lab.settings.switch = mode::read("", Some(word));
        let refreshed = apply::refresh(&lab.host, &lab.settings, &*lab.source()).unwrap();
        assert!(matches!(refreshed, Refreshed::Off(_)), "{refreshed:?}");
        let checked = check(&lab.host, &lab.settings, &*lab.source()).unwrap();
        assert!(matches!(checked, Checked::Off(_)), "{checked:?}");
    }
    assert!(!lab.settings.state.join("tuf/timestamp.json").exists());
    assert!(!lab.settings.state.join("check.json").exists());
}

#[test]
fn an_update_cut_short_hides_no_level_and_keeps_none_from_coming_back() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    lab.next_level(2);
    let role = lab.metadata("2.k__x86_64__6.1.0-47-cloud-amd64.json");
    fs::remove_file(&role).unwrap();
    assert!(apply::refresh(&lab.host, &lab.settings, &*lab.source()).is_err());
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!((shown.state, shown.exit_code()), ("applied", 0));
    assert_eq!(shown.fixed, ["CVE-2026-0001"]);
    lab.host.reboot();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(level) if level.level == PatchLevel(1)));
}

#[test]
fn without_readable_metadata_status_still_shows_the_level_in_force() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    fs::remove_dir_all(lab.settings.state.join("tuf/roles")).unwrap();
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!(shown.exit_code(), 70);
    let text = shown.text(["ok", "busy", "bad"]);
    assert!(text.contains("about this kernel cannot be read"), "{text}");
    assert!(!text.contains("is not in the archive"), "{text}");
    assert_eq!(shown.level.unwrap().level, PatchLevel(1));
    assert_eq!(shown.state, "applied");
}

#[test]
fn nothing_is_closed_while_its_level_is_in_transition() {
    let mut lab = Lab::new();
    killed_in_transition(&mut lab);
    let shown = status(&lab.host, &lab.settings).unwrap();
    assert_eq!(shown.state, "applying");
    assert_eq!(shown.level.unwrap().level, PatchLevel(2));
    assert_eq!(shown.fixed, [""; 0]);
}

#[test]
fn a_kernel_past_its_support_is_told_by_the_exit_code() {
    for state in ["kernel-end-of-life", "kernel-upgrade-required"] {
        let mut lab = Lab::new();
        let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
        forge::<Targets>(&path, &[&key(1), &key(2)], |body| {
            let index = body.tuxtape.as_mut().unwrap();
            index["kernels"][0]["support"]["state"] = serde_json::json!(state);
        });
        lab.apply().unwrap();
        assert_eq!(status(&lab.host, &lab.settings).unwrap().exit_code(), 3);
    }
}

#[test]
fn the_program_tells_a_wrong_question_from_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("client.toml");
    fs::write(&config, "probatoin = 1\n").unwrap();
    let run = |words: &[&str]| {
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_tuxtape-client"))
            .args(words)
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .output()
            .unwrap();
        status.status.code().unwrap()
    };
    let config = config.display().to_string();
    assert_eq!(run(&["status", "--no-such"]), 64);
    assert_eq!(run(&["check", "--no-such"]), 64);
    assert_eq!(run(&["status", "--config", &config]), 64);
    assert_eq!(run(&["refresh", "--config", &config]), 1);
    assert_eq!(run(&["refresh", "--no-such"]), 2);
    assert_eq!(run(&["check"]), 70, "no archive to ask");
}
