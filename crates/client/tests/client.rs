//! The client against real archives and a fake kernel.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::metadata::{Body, Envelope, Targets, Timestamp};
use tuxtape_archive::sample::{self, Archive, KERNEL, RELEASE, key, start};
use tuxtape_archive::serve::serve;
use tuxtape_archive::source::{HttpOptions, Source, open};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_client::apply::{self, Applied, ClientError, Refreshed, Settings};
use tuxtape_client::check::{Checked, check};
use tuxtape_client::config::Config;
use tuxtape_client::fake::FakeHost;
use tuxtape_client::host::Host;
use tuxtape_client::journal::{Attempt, Journal, JournalFile, JournaledLevel, Phase};
use tuxtape_client::load::LogVerdict;
use tuxtape_client::mode;
use tuxtape_client::plan::{Obstacle, Plan, Unsupported};
use tuxtape_client::status::status;
use tuxtape_core::identity::{Arch, BuildId, KernelId, PatchLevel};

struct Lab {
    folder: tempfile::TempDir,
    archive: Archive,
    host: FakeHost,
    settings: Settings,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::published(&folder.path().join("archive")).unwrap();
        let kernel = KernelId {
            arch: Arch::X86_64,
            release: RELEASE.parse().unwrap(),
            build_id: BuildId::from_bytes(&KERNEL).unwrap(),
        };
        let mut config = Config::from_toml("probation = \"5s\"").unwrap();
        config.archive_url = Some(archive.public().display().to_string());
        let settings = Settings {
            config,
            state: folder.path().join("state"),
            switch: mode::read("", None),
            judge: Some(|_, _| LogVerdict::Clean),
        };
        let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
        apply::init(&settings, &root).unwrap();
        Self {
            folder,
            archive,
            host: FakeHost::new(kernel, start()),
            settings,
        }
    }

    fn source(&self) -> Box<dyn Source> {
        apply::source(&self.settings.config).unwrap()
    }

    fn apply(&mut self) -> Result<Applied, ClientError> {
        let source = self.source();
        apply::apply(&mut self.host, &self.settings, &*source, false, false).map(|(done, _)| done)
    }

    fn next_level(&self, n: u8) {
        let now = self.host.now;
        self.archive.stage(n, now).unwrap();
        self.archive.sign_all().unwrap();
        self.archive.workspace.publish(now).unwrap();
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.archive.public().join("metadata").join(name)
    }

    fn module_file(&self) -> PathBuf {
        let targets = fs::read_dir(self.archive.public().join("targets")).unwrap();
        targets.map(|entry| entry.unwrap().path()).next().unwrap()
    }

    /// Digest of the one published module.
    fn digest(&self) -> String {
        let path = self.module_file();
        let name = path.file_name().unwrap().to_str().unwrap();
        name.split('.').next().unwrap().to_owned()
    }

    fn journal(&self) -> Journal {
        JournalFile::open(&self.settings.state).unwrap().journal
    }

    fn in_force(&self) -> Vec<String> {
        let patches = self.host.livepatches().unwrap();
        patches.into_iter().map(|patch| patch.name).collect()
    }

    /// Applies, and shows that it was refused with `text` and nothing reached the kernel.
    fn refused(&mut self, text: &str) {
        let said = match self.apply() {
            Err(error) => format!("{:#}", Chain(&error)),
            Ok(Applied::Unsupported(why)) => why.to_string(),
            Ok(Applied::Blocked(_, obstacles)) => obstacles[0].to_string(),
            Ok(other) => panic!("not refused: {other:?}"),
        };
        assert!(said.contains(text), "{said}");
        assert!(self.host.inserted.is_empty(), "something was loaded");
        assert_eq!(self.journal().phase, Phase::Idle);
    }
}

struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.source() {
            Some(cause) => write!(f, ": {}", Chain(cause)),
            None => Ok(()),
        }
    }
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
fn a_module_with_one_byte_changed_is_refused() {
    let mut lab = Lab::new();
    let path = lab.module_file();
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    lab.refused("is not the one that was signed: sha256 is ");
}

#[test]
fn a_module_of_another_length_is_refused() {
    let mut lab = Lab::new();
    let path = lab.module_file();
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    fs::write(&path, bytes).unwrap();
    lab.refused("is not the one that was signed: length is ");
}

#[test]
fn an_older_timestamp_is_refused() {
    let mut lab = Lab::new();
    let path = lab.metadata("timestamp.json");
    let old = fs::read(&path).unwrap();
    lab.archive.workspace.renew(start()).unwrap();
    apply::refresh(&lab.host, &lab.settings, &*lab.source()).unwrap();
    fs::write(&path, old).unwrap();
    lab.refused(
        "timestamp.json is older than what was seen before: version 1 of timestamp, seen 2",
    );
}

#[test]
fn an_expired_timestamp_is_refused() {
    let mut lab = Lab::new();
    lab.host.now = start().plus(25 * 3600);
    lab.refused("timestamp expired at 2026-11-25T18:00:00Z");
}

#[test]
fn metadata_signed_by_the_wrong_key_is_refused() {
    let mut lab = Lab::new();
    forge::<Timestamp>(&lab.metadata("timestamp.json"), &[&key(1)], |_| {});
    lab.refused(
        "timestamp.json is not signed by the timestamp key: 1 valid signatures wanted, 0 found",
    );
}

#[test]
fn a_level_signed_by_one_reviewer_is_refused() {
    let mut lab = Lab::new();
    let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
    forge::<Targets>(&path, &[&key(2), &key(9)], |_| {});
    lab.refused("2 valid signatures wanted, 1 found");
}

#[test]
fn a_snapshot_that_does_not_fit_the_timestamp_is_refused() {
    let mut lab = Lab::new();
    let first = fs::read(lab.metadata("1.snapshot.json")).unwrap();
    lab.next_level(2);
    fs::write(lab.metadata("2.snapshot.json"), first).unwrap();
    lab.refused("2.snapshot.json does not fit timestamp.json");
}

/// Publishes a level whose module, though signed by both reviewers, is not for the fake kernel. The
/// publisher refuses to stage one, so the signed role is rewritten.
fn publish_unfit(lab: &Lab, module: &[u8]) {
    use sha2::{Digest, Sha256};
    let old = lab.module_file();
    let target = old.file_name().unwrap().to_str().unwrap();
    let target = target.split_once('.').unwrap().1.to_owned();
    let sha256 = hex::encode(Sha256::digest(module));
    fs::write(old.with_file_name(format!("{sha256}.{target}")), module).unwrap();
    let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
    forge::<Targets>(&path, &[&key(1), &key(2)], |body| {
        let file = body.targets.get_mut(&target).unwrap();
        file.length = module.len() as u64;
        file.hashes.insert("sha256".to_owned(), sha256);
    });
}

#[test]
fn a_module_for_another_release_is_refused() {
    let mut lab = Lab::new();
    let vermagic = sample::VERMAGIC.replace("-47-", "-50-");
    publish_unfit(&lab, &sample::module_for(1, &vermagic, &KERNEL));
    lab.refused("built for kernel 6.1.0-50-cloud-amd64, this is 6.1.0-47-cloud-amd64");
}

#[test]
fn a_module_for_another_build_of_the_release_is_refused() {
    let mut lab = Lab::new();
    publish_unfit(&lab, &sample::module_for(1, sample::VERMAGIC, &[0xee; 20]));
    let text = format!("build-id {}, this is {}", "ee".repeat(20), "2f".repeat(20));
    lab.refused(&text);
}

#[test]
fn a_module_with_another_version_magic_is_refused() {
    let mut lab = Lab::new();
    let vermagic = format!("{RELEASE} SMP mod_unload ");
    publish_unfit(&lab, &sample::module_for(1, &vermagic, &KERNEL));
    lab.refused("vermagic is ");
}

#[test]
fn a_module_that_is_no_livepatch_is_refused() {
    let mut lab = Lab::new();
    let fields = [("name", "tt_2f2f2f2f_1"), ("vermagic", sample::VERMAGIC)];
    publish_unfit(
        &lab,
        &tuxtape_core::module::sample::module(&fields, &[1; 20]),
    );
    lab.refused("no livepatch");
}

#[test]
fn a_kernel_the_archive_does_not_have_is_left_alone() {
    let mut lab = Lab::new();
    lab.host.kernel.release = "6.1.0-50-cloud-amd64".parse().unwrap();
    lab.refused("kernel 6.1.0-50-cloud-amd64 is not in the archive");
    assert_eq!(status(&lab.host, &lab.settings).unwrap().exit_code(), 3);
}

#[test]
fn a_rebuilt_kernel_of_the_same_release_is_left_alone() {
    let mut lab = Lab::new();
    lab.host.kernel.build_id = BuildId::from_bytes(&[0xee; 20]).unwrap();
    assert!(matches!(
        lab.apply().unwrap(),
        Applied::Unsupported(Unsupported::Build { .. })
    ));
    lab.refused(&format!(
        "this is {}, listed is {}",
        "ee".repeat(20),
        "2f".repeat(20)
    ));
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
        let mut file = JournalFile::open(&lab.settings.state).unwrap();
        let level = JournaledLevel {
            kernel: lab.host.kernel.build_id.clone(),
            level: PatchLevel(1),
            sha256: lab.digest(),
            module: "tt_2f2f2f2f_1".to_owned(),
            module_build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
        };
        let attempt = Attempt {
            level,
            boot_id: lab.host.boot_id().unwrap(),
            log_from: 0,
            oopses: None,
            watched: 0,
            because: None,
        };
        file.record(|journal| {
            journal.phase = Phase::Armed;
            journal.attempt = Some(attempt);
        })
        .unwrap();
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
    let mut file = JournalFile::open(&lab.settings.state).unwrap();
    let boot_id = lab.host.boot_id().unwrap();
    file.record(|journal| {
        journal.phase = Phase::Armed;
        journal.pinned = false;
        journal.attempt = Some(Attempt {
            level: committed,
            boot_id,
            log_from: 0,
            oopses: None,
            watched: 0,
            because: None,
        });
    })
    .unwrap();
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
fn somebody_elses_livepatch_is_not_replaced() {
    let mut lab = Lab::new();
    let fields = [
        ("name", "vendor_edr"),
        ("vermagic", "x "),
        ("livepatch", "Y"),
    ];
    let other = tuxtape_core::module::sample::module(&fields, &[9; 20]);
    lab.host.insert(&other).unwrap();
    lab.host.inserted.clear();
    lab.host.patches[0].transition = false;
    lab.refused("somebody else are loaded and would be replaced: vendor_edr");
    assert!(matches!(
        check(&lab.host, &lab.settings, &*lab.source()).unwrap(),
        Checked::Plan(Plan::Blocked(..))
    ));
}

#[test]
fn what_the_kernel_would_refuse_is_not_tried() {
    let mut lab = Lab::new();
    lab.host.policy.lockdown = Some("integrity".to_owned());
    lab.refused("not signed for the kernel, which demands it (lockdown is integrity)");
    lab.host.policy.lockdown = Some("none".to_owned());
    lab.host.policy.modules_disabled = Some(true);
    lab.refused("kernel.modules_disabled is 1");
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
fn a_clock_a_day_behind_loads_nothing() {
    let mut lab = Lab::new();
    lab.host.now = UtcSeconds::EPOCH;
    lab.refused("the clock says 1970-01-01T00:00:00Z");
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

/// A module of somebody else under the name of the published one, in memory and in force.
fn take_the_name(lab: &mut Lab) {
    let fields = [
        ("name", "tt_2f2f2f2f_1"),
        ("vermagic", "x "),
        ("livepatch", "Y"),
    ];
    let other = tuxtape_core::module::sample::module(&fields, &[9; 20]);
    lab.host.insert(&other).unwrap();
    lab.host.inserted.clear();
    lab.host.patches[0].transition = false;
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

/// The state a client leaves that is killed in the transition of level 2, with level 1 in force.
fn killed_in_transition(lab: &mut Lab) {
    lab.apply().unwrap();
    lab.next_level(2);
    lab.host.transition_takes = None;
    let module = sample::module(2);
    let level = JournaledLevel {
        kernel: lab.host.kernel.build_id.clone(),
        level: PatchLevel(2),
        sha256: {
            use sha2::{Digest, Sha256};
            hex::encode(Sha256::digest(&module))
        },
        module: "tt_2f2f2f2f_2".to_owned(),
        module_build_id: BuildId::from_bytes(&[2; 20]).unwrap(),
    };
    let boot_id = lab.host.boot_id().unwrap();
    let mut file = JournalFile::open(&lab.settings.state).unwrap();
    file.record(|journal| {
        journal.phase = Phase::Transition;
        journal.attempt = Some(Attempt {
            level,
            boot_id,
            log_from: 0,
            oopses: None,
            watched: 0,
            because: None,
        });
    })
    .unwrap();
    lab.host.insert(&module).unwrap();
    lab.host.inserted.clear();
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
fn reboots_soon_after_the_start_cost_no_level_that_was_good_before() {
    let mut lab = Lab::new();
    lab.apply().unwrap();
    for _ in 0..4 {
        boot_that_ends(&mut lab, 100);
    }
    lab.host.reboot();
    assert!(matches!(lab.apply().unwrap(), Applied::Loaded(_)));
    assert!(lab.journal().strikes.is_empty());
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
