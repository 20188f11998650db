//! A publication checks what it changes, and whatever is not as the one before left it.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::path::PathBuf;

use tuxtape_archive::metadata::Targets;
use tuxtape_archive::policy::Duty;
use tuxtape_archive::publish::PublishError;
use tuxtape_archive::publish::commit::Publication;
use tuxtape_archive::publish::stage::{StageRequest, StagedFix};
use tuxtape_archive::sample::{Archive, KERNEL, RELEASE, forge, key, module_for, start};
use tuxtape_archive::time::UtcSeconds;

const OTHER: &str = "6.1.0-50-cloud-amd64";

struct Two {
    folder: tempfile::TempDir,
    archive: Archive,
}

impl Two {
    /// Two kernels, each with one published level.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::published(&folder.path().join("archive")).unwrap();
        let two = Self { folder, archive };
        two.stage(1, OTHER, start());
        two.archive.sign_all().unwrap();
        let done = two.archive.workspace.publish(start()).unwrap();
        assert_eq!(done.surprises, [""; 0]);
        two
    }

    fn stage(&self, n: u8, release: &str, now: UtcSeconds) {
        let vermagic = format!("{release} SMP preempt mod_unload modversions ");
        let fix = StagedFix {
            cve: Some(format!("CVE-2026-{n:04}")),
            commit: None,
            fix_sha256: None,
            expires: None,
        };
        let request = StageRequest {
            release: release.parse().unwrap(),
            module: module_for(n, &vermagic, &KERNEL),
            fixes: vec![fix],
            unpatchable: Vec::new(),
            base_version: None,
            waves: None,
            floor: None,
            signed: None,
        };
        self.archive.workspace.stage(&request, now).unwrap();
    }

    /// Publishes level `n` of the first kernel.
    fn level(&self, n: u8) -> Result<Publication, PublishError> {
        let now = start().plus(n.into());
        self.stage(n, RELEASE, now);
        self.archive.sign_all().unwrap();
        self.archive.workspace.publish(now)
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.archive.public().join("metadata").join(name)
    }

    fn other(&self) -> PathBuf {
        self.metadata(&format!("1.k__x86_64__{OTHER}.json"))
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("archive/checked.json")
    }
}

#[test]
fn a_level_of_one_kernel_writes_nothing_of_the_others_and_finds_them_as_they_were() {
    let two = Two::new();
    let before = fs::read(two.other()).unwrap();
    let done = two.level(2).unwrap();
    assert_eq!(done.surprises, [""; 0]);
    assert_eq!(done.files.len(), 4, "{:?}", done.files);
    assert_eq!(fs::read(two.other()).unwrap(), before);
    let record = fs::read_to_string(two.record()).unwrap();
    assert!(record.contains(OTHER) && record.contains(RELEASE));
}

#[test]
fn a_tampered_role_of_another_kernel_stops_a_publication_with_and_without_the_record() {
    let changes: [fn(&Two); 3] = [
        |two| {
            let text = fs::read_to_string(two.other()).unwrap();
            fs::write(two.other(), text.replace("CVE-2026-0001", "CVE-2026-0009")).unwrap();
        },
        |two| forge::<Targets>(&two.other(), &[&key(1)], |role| role.version = 1),
        |two| fs::remove_file(two.other()).unwrap(),
    ];
    for change in changes {
        for keep_record in [true, false] {
            let two = Two::new();
            change(&two);
            if !keep_record {
                fs::remove_file(two.record()).unwrap();
            }
            let timestamp = fs::read(two.metadata("timestamp.json")).unwrap();
            let error = two.level(2).unwrap_err();
            assert!(matches!(error, PublishError::Unverified(_)), "{error}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(OTHER), "{cause}");
            assert_eq!(fs::read(two.metadata("timestamp.json")).unwrap(), timestamp);
        }
    }
}

#[test]
fn another_file_that_its_reviewers_signed_is_taken_and_told() {
    let two = Two::new();
    forge::<Targets>(&two.other(), &[&key(1), &key(2)], |role| {
        role.expires = role.expires.plus(60);
    });
    let done = two.level(2).unwrap();
    assert_eq!(done.surprises.len(), 1);
    let told = &done.surprises[0];
    assert!(told.contains(OTHER) && told.contains("is not the file that was published"));
    assert_eq!(two.level(3).unwrap().surprises, [""; 0], "told once");
}

#[test]
fn without_its_record_everything_is_checked_and_that_is_told() {
    for damage in [None, Some("{"), Some("{\"format\":2}")] {
        let two = Two::new();
        match damage {
            None => fs::remove_file(two.record()).unwrap(),
            Some(text) => fs::write(two.record(), text).unwrap(),
        }
        let done = two.level(2).unwrap();
        assert_eq!(done.surprises.len(), 1);
        assert!(
            done.surprises[0].contains("no record"),
            "{:?}",
            done.surprises
        );
        assert_eq!(two.level(3).unwrap().surprises, [""; 0]);
    }
}

#[test]
fn a_record_is_no_proof_for_another_list_of_reviewers() {
    let mut two = Two::new();
    let carol = key(3).public();
    let come = [("carol".to_owned(), carol)];
    let workspace = &mut two.archive.workspace;
    workspace
        .rotate_people(Duty::Review, &["bob".to_owned()], &come, start())
        .unwrap();
    // The list alone: the kernels' roles are signed by somebody who left.
    for path in workspace.open_drafts().unwrap() {
        if !path.display().to_string().ends_with("targets.json") {
            fs::remove_file(path).unwrap();
        }
    }
    let words = workspace.show("targets").unwrap().words;
    for person in [1, 2] {
        workspace.sign("targets", &key(person), &words).unwrap();
    }
    let error = workspace.publish(start().plus(9)).unwrap_err();
    assert!(matches!(error, PublishError::Unverified(_)), "{error}");
}

#[test]
fn an_old_backup_of_the_public_tree_is_not_signed_on() {
    let two = Two::new();
    let top = two.archive.public();
    let backup = two.folder.path().join("backup");
    let copy = |from: &PathBuf, to: &PathBuf| {
        for folder in ["metadata", "targets"] {
            fs::create_dir_all(to.join(folder)).unwrap();
            for entry in fs::read_dir(from.join(folder)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    };
    copy(&top, &backup);
    two.level(2).unwrap();
    fs::remove_dir_all(&top).unwrap();
    copy(&backup, &top);
    let error = two.archive.workspace.renew(start().plus(9)).unwrap_err();
    let went_back = matches!(&error, PublishError::WentBack { seen, found, .. } if seen > found);
    assert!(went_back, "{error}");
    fs::remove_file(two.record()).unwrap();
    two.archive.workspace.renew(start().plus(9)).unwrap();
}

#[test]
fn a_kernel_that_expired_is_named_also_where_its_role_is_not_read_again() {
    let two = Two::new();
    let late = start().plus(29 * 86_400);
    two.archive.workspace.redate(late).unwrap();
    for path in two.archive.workspace.open_drafts().unwrap() {
        if path.display().to_string().contains(OTHER) {
            fs::remove_file(path).unwrap();
        }
    }
    two.archive.sign_all().unwrap();
    two.archive.workspace.publish(late).unwrap();
    let done = two
        .archive
        .workspace
        .renew(start().plus(31 * 86_400))
        .unwrap();
    assert_eq!(done.expired.len(), 1);
    assert!(done.expired[0].contains(OTHER), "{:?}", done.expired);
    assert_eq!(done.surprises, [""; 0]);
}
