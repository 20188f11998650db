//! What the publisher accepts, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tuxtape_archive::client::{self, MemoryStore, Refusal, Store, Stored, UpdateError};
use tuxtape_archive::index::{IndexedKernel, KernelIndex, OnWithdraw, Unpatchable, Withdrawn};
use tuxtape_archive::keys::{Key, KeyId};
use tuxtape_archive::metadata::{Body, Envelope, Root, TargetFile, Targets};
use tuxtape_archive::policy::Duty;
use tuxtape_archive::publish::sign::SignError;
use tuxtape_archive::publish::stage::{StageError, StageRequest};
use tuxtape_archive::publish::verify::verify;
use tuxtape_archive::publish::{PublishError, Workspace};
use tuxtape_archive::sample::{self, Archive, KERNEL, RELEASE, key, module_for, policy, start};
use tuxtape_archive::source::DirectorySource;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{Arch, PatchLevel};

fn archive() -> (tempfile::TempDir, Archive) {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::published(&folder.path().join("archive")).unwrap();
    (folder, archive)
}

fn index(archive: &Archive) -> KernelIndex {
    let published = archive.workspace.published().unwrap().unwrap();
    let role = published.roles.get("k__x86_64__6.1.0-47-cloud-amd64");
    KernelIndex::read(
        &role.unwrap().unwrap(),
        Arch::X86_64,
        &RELEASE.parse().unwrap(),
    )
    .unwrap()
}

/// Names and bytes of everything public.
fn public(archive: &Archive) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in ["metadata", "targets"] {
        for entry in fs::read_dir(archive.public().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_draft_with_one_of_two_signatures_stays_a_draft() {
    let (_folder, archive) = archive();
    let before = public(&archive);
    let staged = archive.stage(2, start()).unwrap();
    let draft = staged.draft.display().to_string();
    let words = archive.workspace.show(&draft).unwrap().words;
    archive.workspace.sign(&draft, &key(1), &words).unwrap();
    archive.workspace.sign(&draft, &key(1), &words).unwrap();
    let error = archive.workspace.publish(start()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("2 valid signatures wanted, 1 found"),
        "{text}"
    );
    assert_eq!(public(&archive), before);
}

#[test]
fn only_the_draft_that_was_seen_is_signed_and_only_by_its_people() {
    let (_folder, archive) = archive();
    let staged = archive.stage(2, start()).unwrap();
    let draft = staged.draft.display().to_string();
    let words = archive.workspace.show(&draft).unwrap().words;
    let sign = |n, words: &str| archive.workspace.sign(&draft, &key(n), words);
    assert!(matches!(
        sign(1, "other words"),
        Err(PublishError::Sign(SignError::Words { .. }))
    ));
    assert!(matches!(
        sign(9, &words),
        Err(PublishError::Sign(SignError::UnknownKey(_)))
    ));
    assert!(archive.workspace.show(&draft).unwrap().signed.is_empty());
}

#[test]
fn a_person_without_the_duty_cannot_sign() {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = policy();
    let mut carol = policy.people[0].clone();
    carol.name = "carol".to_owned();
    carol.public = key(3).public().keyval.public;
    carol.duties = [Duty::Review].into();
    policy.people.push(carol);
    let workspace = Workspace::init(folder.path(), &policy, start()).unwrap();
    let words = workspace.show("root").unwrap().words;
    assert!(matches!(
        workspace.sign("root", &key(3), &words),
        Err(PublishError::Sign(SignError::NotTheirs { .. }))
    ));
}

#[test]
fn a_changed_draft_loses_its_signatures() {
    let (_folder, mut archive) = archive();
    let mut policy = archive.workspace.policy.clone();
    policy.lifetimes.targets_days = 60;
    archive
        .workspace
        .set_policy(policy.clone(), start())
        .unwrap();
    archive.sign_all().unwrap();
    assert_eq!(archive.workspace.show("targets").unwrap().signed.len(), 2);
    policy.lifetimes.targets_days = 61;
    archive.workspace.set_policy(policy, start()).unwrap();
    assert!(archive.workspace.show("targets").unwrap().signed.is_empty());
}

#[test]
fn levels_rise_and_a_fix_that_is_dropped_is_no_longer_claimed() {
    let (_folder, archive) = archive();
    for n in 2..=5 {
        archive.stage(n, start().plus(n.into())).unwrap();
        archive.sign_all().unwrap();
        archive.workspace.publish(start().plus(n.into())).unwrap();
    }
    let kernel = index(&archive).kernels.remove(0);
    let levels: Vec<u32> = kernel.levels.iter().map(|level| level.level.0).collect();
    assert_eq!(levels, [3, 4, 5], "three levels stay");
    assert_eq!(kernel.cves(PatchLevel(3)).len(), 3);
    archive
        .stage_module(sample::module(6), 2, start().plus(9))
        .unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(start().plus(9)).unwrap();
    let kernel = index(&archive).kernels.remove(0);
    assert_eq!(kernel.cves(PatchLevel(5)).len(), 5);
    let left: Vec<String> = kernel.cves(PatchLevel(6)).into_iter().collect();
    assert_eq!(left, ["CVE-2026-0001", "CVE-2026-0002"]);
}

#[test]
fn a_module_for_another_kernel_or_of_a_used_name_is_not_staged() {
    let (_folder, archive) = archive();
    let check = |module: Vec<u8>, wanted: fn(&StageError) -> bool| match archive.stage_module(
        module,
        2,
        start(),
    ) {
        Err(PublishError::Stage(error)) => assert!(wanted(&error), "{error}"),
        other => panic!("{other:?}"),
    };
    let other = sample::VERMAGIC.replace("-47-", "-50-");
    check(module_for(2, &other, &KERNEL), |e| {
        matches!(e, StageError::Release { .. })
    });
    check(b"\x7fELF".to_vec(), |e| matches!(e, StageError::Module(_)));
    check(sample::module(1), |e| {
        *e == StageError::Already(PatchLevel(1))
    });
    let mut same_name = sample::module(1);
    same_name.push(0);
    check(same_name, |e| matches!(e, StageError::Name { .. }));
    let vermagic = format!("{RELEASE} SMP ");
    check(module_for(2, &vermagic, &KERNEL), |e| {
        matches!(e, StageError::Vermagic { .. })
    });
    assert!(archive.workspace.open_drafts().unwrap().is_empty());
}

#[test]
fn with_too_few_reviewers_nothing_is_staged() {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = policy();
    policy.people[1].duties.remove(&Duty::Review);
    let workspace = Workspace::init(folder.path(), &policy, start()).unwrap();
    let archive = Archive { workspace };
    let error = archive.stage(1, start()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("kernels wants 2 signatures, but 1 people may sign it")
    );
    assert_eq!(
        archive.workspace.open_drafts().unwrap().len(),
        2,
        "root and targets"
    );
}

#[test]
fn two_levels_of_one_kernel_are_never_open_at_once() {
    let (_folder, archive) = archive();
    archive.stage(2, start()).unwrap();
    assert!(matches!(
        archive.stage(3, start()),
        Err(PublishError::Stage(StageError::Open(PatchLevel(2))))
    ));
}

#[test]
fn a_module_that_changed_since_it_was_staged_is_not_published() {
    let (_folder, archive) = archive();
    let staged = archive.stage(2, start()).unwrap();
    archive.sign_all().unwrap();
    let name = format!("{}.{}", staged.sha256, staged.target);
    let kept = archive.workspace.drafts().join("modules").join(name);
    let mut bytes = fs::read(&kept).unwrap();
    bytes[77] ^= 1;
    fs::write(&kept, bytes).unwrap();
    let before = public(&archive);
    assert!(matches!(
        archive.workspace.publish(start()),
        Err(PublishError::Unverified(_))
    ));
    assert_eq!(public(&archive), before);
}

#[test]
fn renewing_signs_the_timestamp_and_the_snapshot_only_when_due() {
    let (_folder, archive) = archive();
    let hour = archive.workspace.renew(start().plus(3600)).unwrap();
    assert_eq!((hour.timestamp, hour.snapshot), (2, 1));
    assert_eq!(hour.files, ["metadata/timestamp.json"]);
    let later = archive.workspace.renew(start().plus(4 * 86_400)).unwrap();
    assert_eq!((later.timestamp, later.snapshot), (3, 2));
}

/// Changes the body of a draft as somebody with access to the folder could.
fn rewrite<T: Body>(path: &Path, change: impl FnOnce(&mut T)) {
    let envelope = Envelope::parse(&fs::read(path).unwrap(), 1 << 22).unwrap();
    let mut body: T = envelope.body().unwrap();
    change(&mut body);
    let envelope = Envelope::unsigned(&body).unwrap();
    fs::write(path, envelope.to_bytes()).unwrap();
}

/// Runs what clients run, for the one kernel.
fn client_level(archive: &Archive, now: UtcSeconds) -> Result<u32, UpdateError> {
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    let mut store = MemoryStore::default();
    store.save(&Stored::Root, &root)?;
    let source = DirectorySource::new(&archive.public());
    let mut session = client::refresh(&mut store, &source, now)?;
    let found = session.kernel(Arch::X86_64, &RELEASE.parse().unwrap())?;
    let (role, index) = found.unwrap();
    Ok(index.kernels[0].newest(&role.targets).unwrap().level.0)
}

#[test]
fn an_expired_top_level_role_cannot_be_renewed_into_validity() {
    let (_folder, archive) = archive();
    let before = public(&archive);
    assert!(matches!(
        archive.workspace.renew(start().plus(91 * 86_400)),
        Err(PublishError::Unverified(_))
    ));
    assert_eq!(public(&archive), before);
}

/// Publishes a second kernel besides the sample's.
fn other_kernel(archive: &Archive, n: u8, now: UtcSeconds) {
    let vermagic = sample::VERMAGIC.replace("-47-", "-50-");
    let fields = [
        ("livepatch", "Y"),
        ("name", &*format!("tt_other_{n}")),
        ("vermagic", &*vermagic),
        (tuxtape_core::module::KERNEL_BUILD_ID, &*"3f".repeat(20)),
    ];
    let request = StageRequest {
        release: "6.1.0-50-cloud-amd64".parse().unwrap(),
        module: tuxtape_core::module::sample::module(&fields, &[100 + n; 20]),
        fixes: Vec::new(),
        unpatchable: Vec::new(),
        base_version: None,
        waves: None,
        floor: None,
        signed: None,
    };
    archive.workspace.stage(&request, now).unwrap();
    archive.sign_all().unwrap();
}

#[test]
fn one_expired_kernel_stops_no_other() {
    let (_folder, archive) = archive();
    let month = start().plus(31 * 86_400);
    let renewed = archive.workspace.renew(month).unwrap();
    assert_eq!(
        renewed.expired,
        ["k__x86_64__6.1.0-47-cloud-amd64 expired at 2026-12-24T18:00:00Z"]
    );
    other_kernel(&archive, 1, month);
    let published = archive.workspace.publish(month).unwrap();
    assert_eq!(published.expired.len(), 1);
    let refused = client_level(&archive, month).unwrap_err();
    assert!(
        matches!(&refused, UpdateError::Refused(Refusal::Expired { role, .. }) if role.contains("-47-")),
        "{refused}"
    );
}

#[test]
fn an_expired_kernel_comes_back_by_a_signed_successor_that_changes_nothing_else() {
    let (_folder, archive) = archive();
    let month = start().plus(31 * 86_400);
    let redated = archive.workspace.redate(month).unwrap();
    let [draft] = &redated.drafts[..] else {
        panic!("one kernel, one draft")
    };
    let shown = archive
        .workspace
        .show(&draft.display().to_string())
        .unwrap();
    assert_eq!(
        shown.changes,
        [
            "k__x86_64__6.1.0-47-cloud-amd64: version 2, published is 1",
            "expires 2027-01-24T18:00:00Z",
            "only version and expiry differ",
        ]
    );
    archive
        .workspace
        .sign(&shown.path.display().to_string(), &key(1), &shown.words)
        .unwrap();
    // Asked again an hour later, the draft and its signature stay.
    let again = archive.workspace.redate(month.plus(3600)).unwrap();
    assert_eq!(again, redated);
    archive.sign_all().unwrap();
    let published = archive.workspace.publish(month.plus(3600)).unwrap();
    assert!(published.expired.is_empty());
    assert_eq!(client_level(&archive, month.plus(3600)).unwrap(), 1);
}

#[test]
fn a_level_that_waits_for_signatures_is_not_replaced_by_a_later_expiry() {
    let (_folder, archive) = archive();
    let staged = archive.stage(2, start()).unwrap();
    let before = fs::read(&staged.draft).unwrap();
    let redated = archive.workspace.redate(start().plus(60)).unwrap();
    assert_eq!(redated.open, ["k__x86_64__6.1.0-47-cloud-amd64"]);
    assert!(redated.drafts.is_empty());
    assert_eq!(fs::read(&staged.draft).unwrap(), before);
}

#[test]
fn a_signed_draft_that_expired_stays_a_draft_and_stops_no_other() {
    let (_folder, archive) = archive();
    archive.stage(2, start()).unwrap();
    archive.sign_all().unwrap();
    let month = start().plus(31 * 86_400);
    other_kernel(&archive, 1, month);
    let published = archive.workspace.publish(month).unwrap();
    assert!(
        published.left_out[0].why.contains("its validity ended at"),
        "{published:?}"
    );
}

#[test]
fn a_key_swapped_behind_its_id_is_neither_shown_nor_signed_nor_published() {
    let swap = |keys: &mut BTreeMap<KeyId, Key>| {
        for listed in keys.values_mut() {
            *listed = key(66).public();
        }
    };
    let refused = |archive: &Archive, draft: &Path| {
        let draft = draft.display().to_string();
        let envelope = Envelope::parse(&fs::read(&draft).unwrap(), 1 << 22).unwrap();
        let words = tuxtape_archive::words::spoken(&envelope.digest());
        for error in [
            archive.workspace.show(&draft).unwrap_err(),
            archive.workspace.sign(&draft, &key(1), &words).unwrap_err(),
        ] {
            assert!(
                matches!(error, PublishError::Sign(SignError::Swapped { .. })),
                "{error}"
            );
        }
    };
    let (_folder, mut archive) = archive();
    let mut policy = archive.workspace.policy.clone();
    policy.thresholds.targets = 1;
    policy.lab = true;
    archive.workspace.set_policy(policy, start()).unwrap();
    let targets = archive.workspace.drafts().join("2.targets.json");
    let good = fs::read(&targets).unwrap();
    rewrite::<Targets>(&targets, |body| {
        swap(&mut body.delegations.as_mut().unwrap().keys);
    });
    refused(&archive, &targets);
    // Also for the reviewers, whose keys that draft would give.
    let staged = archive.stage(2, start()).unwrap();
    refused(&archive, &staged.draft);
    fs::write(&targets, good).unwrap();
    let root = archive.workspace.drafts().join("2.root.json");
    for online in ["timestamp", "snapshot", "targets"] {
        let good = fs::read(&root).unwrap();
        rewrite::<Root>(&root, |body| {
            let role = match online {
                "timestamp" => &body.roles.timestamp,
                "snapshot" => &body.roles.snapshot,
                _ => &body.roles.targets,
            };
            let id = role.keyids[0].clone();
            body.keys.insert(id, key(66).public());
        });
        refused(&archive, &root);
        fs::write(&root, good).unwrap();
    }
}

#[test]
fn a_signer_sees_every_change_of_a_kernels_index() {
    type Change = fn(&mut IndexedKernel);
    let withdrawn = || Withdrawn {
        level: PatchLevel(1),
        sha256: "ab".repeat(32),
        on_withdraw: OnWithdraw::Revert,
        reason: "hangs".to_owned(),
        at: start(),
    };
    let prepared = |kernel: &mut IndexedKernel| {
        kernel.withdrawn.push(withdrawn());
        kernel.unpatchable.push(Unpatchable {
            cve: "CVE-2026-0700".to_owned(),
            why: "data-layout".to_owned(),
        });
    };
    let changes: [(&str, Change); 11] = [
        ("no longer said: level 1 withdrawn", |k| k.withdrawn.clear()),
        ("level 1 withdrawn at", |k| {
            k.withdrawn[0].on_withdraw = OnWithdraw::Keep;
        }),
        ("no longer said: CVE-2026-0001 closed from level 1", |k| {
            k.fixes.clear();
        }),
        ("CVE-2026-0001 closed from level 1 until level 2", |k| {
            k.fixes[0].until = Some(PatchLevel(2));
        }),
        ("no longer said: CVE-2026-0700 cannot be livepatched", |k| {
            k.unpatchable.clear();
        }),
        ("CVE-2026-0701 cannot be livepatched: other", |k| {
            k.unpatchable[0] = Unpatchable {
                cve: "CVE-2026-0701".to_owned(),
                why: "other".to_owned(),
            };
        }),
        ("vermagic is", |k| k.vermagic.push('x')),
        ("base version is unknown", |k| k.base_version = None),
        ("floor is level 9", |k| k.floor = PatchLevel(9)),
        ("support is Supported, until 2027-06-30", |k| {
            k.support.until = Some("2027-06-30".to_owned());
        }),
        ("level 1 is another now", |k| {
            k.levels[0].srcversion = Some("A".to_owned());
        }),
    ];
    let (_folder, archive) = archive();
    let edit = |body: &mut Targets, change: &dyn Fn(&mut IndexedKernel)| {
        let mut index: KernelIndex = serde_json::from_value(body.tuxtape.clone().unwrap()).unwrap();
        change(&mut index.kernels[0]);
        body.tuxtape = Some(serde_json::to_value(&index).unwrap());
    };
    let draft = archive.workspace.redate(start()).unwrap().drafts.remove(0);
    rewrite::<Targets>(&draft, |body| edit(body, &prepared));
    archive.sign_all().unwrap();
    archive.workspace.publish(start()).unwrap();
    for (wanted, change) in changes {
        let draft = archive.workspace.redate(start()).unwrap().drafts.remove(0);
        rewrite::<Targets>(&draft, |body| edit(body, &change));
        let shown = archive
            .workspace
            .show(&draft.display().to_string())
            .unwrap();
        let text = shown.changes.join("\n");
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        assert!(!text.contains("only version"), "{wanted:?}\n{text}");
        fs::remove_file(draft).unwrap();
    }
    // The module behind a level that is there already.
    let draft = archive.workspace.redate(start()).unwrap().drafts.remove(0);
    rewrite::<Targets>(&draft, |body| {
        let file = body.targets.values_mut().next().unwrap();
        file.hashes.insert("sha256".to_owned(), "cd".repeat(32));
    });
    let shown = archive
        .workspace
        .show(&draft.display().to_string())
        .unwrap();
    let text = shown.changes.join("\n");
    assert!(
        text.contains("level 1 is another now") && text.contains(&"cd".repeat(32)),
        "{text}"
    );
}

#[test]
fn a_signer_sees_every_change_of_targets() {
    type Change = fn(&mut Targets);
    let changes: [(&str, Change); 6] = [
        ("file x.ko comes, sha256 00, 1 bytes", |body| {
            body.targets.insert(
                "x.ko".to_owned(),
                TargetFile {
                    length: 1,
                    hashes: [("sha256".to_owned(), "00".to_owned())].into(),
                },
            );
        }),
        (
            "is now for *, was for tt__x86_64__6.1.0-47-cloud-amd64__",
            |body| {
                body.delegations.as_mut().unwrap().roles[1].paths = Some(vec!["*".to_owned()]);
            },
        ),
        ("is now for digests from , was for", |body| {
            let role = &mut body.delegations.as_mut().unwrap().roles[1];
            role.paths = None;
            role.path_hash_prefixes = Some(vec![String::new()]);
        }),
        ("does not end the search", |body| {
            body.delegations.as_mut().unwrap().roles[1].terminating = false;
        }),
        ("1 of 2 must sign", |body| {
            body.delegations.as_mut().unwrap().roles[1].keys.threshold = 1;
        }),
        // Of a targets draft the list of kernels is shown, whatever else it carries.
        ("kernel k__x86_64__6.1.0-47-cloud-amd64 leaves", |body| {
            body.delegations = None;
            body.tuxtape = Some(serde_json::json!({"format": 1}));
        }),
    ];
    let (_folder, mut archive) = archive();
    for (wanted, change) in changes {
        let policy = archive.workspace.policy.clone();
        archive.workspace.set_policy(policy, start()).unwrap();
        let draft = archive.workspace.drafts().join("2.targets.json");
        rewrite::<Targets>(&draft, change);
        let shown = archive.workspace.show("targets").unwrap();
        let text = shown.changes.join("\n");
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        fs::remove_file(draft).unwrap();
    }
}

#[test]
fn verifying_walks_every_level_and_warns_before_the_end() {
    let (_folder, archive) = archive();
    let source = DirectorySource::new(&archive.public());
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    let found = verify(&source, &root, start()).unwrap();
    assert_eq!(found.levels.len(), 1);
    assert_eq!(found.warnings, [""; 0]);
    archive.workspace.renew(start().plus(12 * 86_400)).unwrap();
    let found = verify(&source, &root, start().plus(12 * 86_400)).unwrap();
    assert!(found.warnings[0].starts_with("k__x86_64__6.1.0-47-cloud-amd64 expires"));
}

#[test]
fn a_second_command_on_one_archive_is_told_to_wait() {
    let (folder, _archive) = archive();
    assert!(matches!(
        Workspace::open(&folder.path().join("archive")),
        Err(PublishError::Locked { .. })
    ));
}

/// A stranger's reader of the same specification. Runs where python-tuf is installed.
#[test]
fn lab_python_tuf_reads_our_archive() {
    let python = std::env::var("TUXTAPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = std::process::Command::new(&python)
        .args(["-c", "import tuf.ngclient"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "skipped: {python} has no tuf (pip install tuf securesystemslib[crypto]; set TUXTAPE_PYTHON)"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A stranger reads the wall clock, so this archive is made now.
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = UtcSeconds::from_unix(unix.unwrap().as_secs());
    let workspace = Workspace::init(&folder.path().join("a"), &policy(), now).unwrap();
    let archive = Archive { workspace };
    let staged = archive.stage(1, now).unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(now).unwrap();
    let serving =
        tuxtape_archive::serve::serve(&archive.public(), "127.0.0.1:0", |_, _, _| {}).unwrap();
    let read = |wanted: &str| {
        let output = std::process::Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stranger.py"))
            .arg(format!("http://{}", serving.address))
            .arg(archive.public().join("metadata/1.root.json"))
            .arg(&staged.target)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            said.trim(),
            wanted,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    read(&format!("accepted {}", staged.sha256));
    let module = archive
        .public()
        .join("targets")
        .join(format!("{}.{}", staged.sha256, staged.target));
    let mut bytes = fs::read(&module).unwrap();
    bytes[100] ^= 1;
    fs::write(&module, bytes).unwrap();
    read("refused LengthOrHashMismatchError");
}
