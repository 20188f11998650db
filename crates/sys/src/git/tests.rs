use std::os::unix::fs::PermissionsExt;

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
        .args(arguments);
    let finished = process::run_ok(&mut command, DEADLINE).unwrap();
    String::from_utf8(finished.stdout)
        .unwrap()
        .trim()
        .to_owned()
}

/// Makes a repository with one file on `master`.
fn repository(folder: &Path) -> PathBuf {
    let top = folder.join("origin");
    fs::create_dir(&top).unwrap();
    git(&top, &["init", "-q", "-b", "master"]);
    commit(&top, "cve/published/a.txt", "one");
    top
}

fn commit(top: &Path, path: &str, text: &str) {
    let file = top.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    git(top, &["add", "-A"]);
    git(top, &["commit", "-q", "-m", "c"]);
}

fn master() -> BranchName {
    BranchName::new("master").unwrap()
}

#[test]
fn a_mirror_follows_its_source_and_reads_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let source = format!("file://{}", top.display());
    let copy = folder.path().join("cache/feed.git");
    let first = Repository::mirror(&source, &master(), &copy, None, DEADLINE).unwrap();
    let old = first.tip(&master()).unwrap();
    commit(&top, "cve/published/b.txt", &"x".repeat(100));
    let second = Repository::mirror(&source, &master(), &copy, None, DEADLINE).unwrap();
    let new = second.tip(&master()).unwrap();
    assert_eq!(new.id.to_string(), git(&top, &["rev-parse", "HEAD"]));
    assert_eq!(second.is_ancestor(old.id, new.id).unwrap(), Some(true));
    assert_eq!(second.is_ancestor(new.id, old.id).unwrap(), Some(false));
    assert_eq!(
        second
            .is_ancestor(GitId::from_bytes([9; 20]), new.id)
            .unwrap(),
        None
    );

    let files = second.files(new.id, &["cve/published"]).unwrap();
    let missing = GitId::from_bytes([9; 20]);
    let ids = vec![files[0].id, missing, files[1].id, files[0].id];
    let mut blobs = second.blobs(ids, 50, DEADLINE).unwrap();
    let mut buffer = Vec::new();
    assert_eq!(blobs.next(&mut buffer).unwrap(), Blob::Read);
    assert_eq!(buffer, b"one");
    assert_eq!(blobs.next(&mut buffer).unwrap(), Blob::Missing);
    assert_eq!(
        blobs.next(&mut buffer).unwrap(),
        Blob::TooLarge { bytes: 100 }
    );
    assert_eq!(blobs.next(&mut buffer).unwrap(), Blob::Read);
    assert!(blobs.next(&mut buffer).is_err());
}

#[test]
fn a_url_is_fetched_without_its_past_and_grows_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    commit(&top, "cve/published/b.txt", "two");
    let source = format!("file://{}", top.display());
    let copy = folder.path().join("copy.git");
    let history = |repository: &Repository| {
        let tip = repository.tip(&master()).unwrap();
        let visits = repository.history(None, tip.id, 0, 10, DEADLINE).unwrap();
        visits
            .iter()
            .map(|visit| (visit.is_beginning, visit.touched.len()))
            .collect::<Vec<_>>()
    };
    let mirror = Repository::mirror(&source, &master(), &copy, None, DEADLINE).unwrap();
    let old = mirror.tip(&master()).unwrap();
    assert_eq!(history(&mirror), [(true, 0)]);
    commit(&top, "cve/published/c.txt", "three");
    commit(&top, "elsewhere/c.txt", "three");
    let mirror = Repository::mirror(&source, &master(), &copy, None, DEADLINE).unwrap();
    let new = mirror.tip(&master()).unwrap();
    assert_eq!(history(&mirror), [(false, 1), (false, 1), (true, 0)]);
    assert_eq!(mirror.history_length(None, new.id, 10).unwrap(), 3);
    assert_eq!(mirror.history_length(None, new.id, 2).unwrap(), 2);
    let rest = mirror.history(None, new.id, 1, 1, DEADLINE).unwrap();
    assert_eq!(rest[0].touched[0].1, "cve/published/c.txt");
    assert_eq!(mirror.is_ancestor(old.id, new.id).unwrap(), Some(true));
    let since = mirror.history(Some(old.id), new.id, 0, 10, DEADLINE);
    assert_eq!(
        since.unwrap()[1].touched,
        [(Touch::Added, "cve/published/c.txt".to_owned())]
    );
    // Descent from a commit that a new mirror would not hold.
    let fresh = folder.path().join("fresh.git");
    let mirror = Repository::mirror(&source, &master(), &fresh, None, DEADLINE).unwrap();
    assert_eq!(mirror.is_ancestor(old.id, new.id).unwrap(), None);
    for place in [fresh, folder.path().join("other.git")] {
        let known = Some(old.id);
        let mirror = Repository::mirror(&source, &master(), &place, known, DEADLINE).unwrap();
        assert_eq!(mirror.is_ancestor(old.id, new.id).unwrap(), Some(true));
    }
    // A folder is read where it lies, with all its past.
    assert_eq!(
        history(&Repository::open(&top).unwrap()),
        [(false, 1), (false, 1), (false, 1), (true, 0)]
    );
}

#[test]
fn a_bundle_is_fetched_and_a_cut_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let bundle = folder.path().join("feed.bundle");
    git(
        &top,
        &["bundle", "create", "-q", bundle.to_str().unwrap(), "master"],
    );
    assert!(is_bundle(&bundle).unwrap());
    let copy = folder.path().join("copy.git");
    let source = bundle.to_str().unwrap();
    assert!(Repository::mirror(source, &master(), &copy, None, DEADLINE).is_ok());
    let other = BranchName::new("main").unwrap();
    let error = Repository::mirror(source, &other, &copy, None, DEADLINE).unwrap_err();
    assert_eq!(error.to_string(), format!("{source} has no branch main"));

    let bytes = fs::read(&bundle).unwrap();
    fs::write(&bundle, &bytes[..bytes.len() - 30]).unwrap();
    let fresh = folder.path().join("fresh.git");
    let error = Repository::mirror(source, &master(), &fresh, None, DEADLINE).unwrap_err();
    assert!(
        matches!(error, GitError::Process(ProcessError::Failed { .. })),
        "{error}"
    );
}

#[test]
fn a_missing_branch_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let error = Repository::open(&top)
        .unwrap()
        .tip(&BranchName::new("main").unwrap());
    assert!(matches!(error, Err(GitError::NoBranch { .. })));
    let error = Repository::open(folder.path()).unwrap_err();
    assert!(matches!(error, GitError::NoRepository { .. }));
}

#[test]
fn programs_named_by_a_repository_are_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let mark = folder.path().join("ran");
    let program = folder.path().join("program");
    fs::write(&program, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for hook in [
        "post-checkout",
        "reference-transaction",
        "pre-auto-gc",
        "fsmonitor-watchman",
    ] {
        fs::copy(&program, top.join(".git/hooks").join(hook)).unwrap();
    }
    let name = program.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "diff.external",
        "gpg.program",
        "uploadpack.packObjectsHook",
    ] {
        git(&top, &["config", key, name]);
    }
    git(&top, &["config", "log.showSignature", "true"]);
    git(
        &top,
        &["config", "remote.origin.url", &format!("ext::{name}")],
    );
    git(&top, &["config", "remote.origin.promisor", "true"]);
    git(&top, &["config", "core.repositoryformatversion", "1"]);
    git(&top, &["config", "extensions.partialClone", "origin"]);
    fs::remove_file(&mark).ok();

    let local = Repository::open(&top).unwrap();
    let tip = local.tip(&master()).unwrap();
    let files = local.files(tip.id, &["cve"]).unwrap();
    let mut blobs = local
        .blobs(vec![files[0].id, GitId::from_bytes([9; 20])], 50, DEADLINE)
        .unwrap();
    let mut buffer = Vec::new();
    blobs.next(&mut buffer).unwrap();
    blobs.next(&mut buffer).ok();
    let copy = folder.path().join("copy.git");
    Repository::mirror(top.to_str().unwrap(), &master(), &copy, None, DEADLINE).ok();
    for source in [format!("ext::{name}"), format!("--upload-pack={name}")] {
        let error = Repository::mirror(&source, &master(), &copy, None, DEADLINE).unwrap_err();
        assert!(matches!(error, GitError::Source { .. }));
    }
    assert!(!mark.exists());
}

#[test]
fn a_branch_name_is_plain() {
    for bad in ["", "-x", "a b", "a..b", "a^", "a:b", "@{1}"] {
        assert!(BranchName::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn two_trees_differ_in_what_was_changed_since() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let local = Repository::open(&top).unwrap();
    let old = local.tip(&master()).unwrap().id;
    commit(&top, "cve/published/b c.txt", "two");
    commit(&top, "elsewhere/c.txt", "three");
    let new = local.tip(&master()).unwrap().id;
    let changed = |old, new| local.changed(old, new, &["cve/published", "cve/rejected"]);
    assert_eq!(changed(old, new).unwrap(), ["cve/published/b c.txt"]);
    assert_eq!(changed(new, old).unwrap(), ["cve/published/b c.txt"]);
    assert_eq!(changed(new, new).unwrap(), Vec::<String>::new());
    assert!(changed(GitId::from_bytes([9; 20]), new).is_err());
}

#[test]
fn a_live_fetch_of_another_process_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let source = format!("file://{}", top.display());
    let copy = folder.path().join("copy.git");
    let packs = copy.join("objects/pack");
    fs::create_dir_all(&packs).unwrap();
    let half = packs.join("tmp_pack_x");
    fs::write(&half, b"PACK").unwrap();
    let first = lock::take(&folder.path().join("copy.git.lock"), "pid 7").unwrap();
    let error = Repository::mirror(&source, &master(), &copy, None, Duration::ZERO).unwrap_err();
    let GitError::Busy { holder, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(holder, "pid 7");
    assert!(half.is_file());
    drop(first);
    Repository::mirror(&source, &master(), &copy, None, DEADLINE).unwrap();
    assert!(!half.exists());
}

#[test]
fn errors_name_a_source_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let top = repository(folder.path());
    let copy = folder.path().join("copy.git");
    let file = top.display().to_string();
    let source = format!("file://bot:hunter2@{file}");
    let tail = format!("fatal: could not read '{source}'");
    let status = Command::new("false").status().unwrap();
    let program = "git".to_owned();
    let failed = ProcessError::Failed {
        program,
        status,
        tail,
    };
    let words = without_password(failed, &source).to_string();
    assert!(words.ends_with(&format!("'file://{file}'")), "{words}");
    for source in [
        "https://bot:hunter2@127.0.0.1:1/feed.git",
        "ssh://bot:hunter2@127.0.0.1:1/x::y",
    ] {
        let error = Repository::mirror(source, &master(), &copy, None, DEADLINE).unwrap_err();
        let words = error.to_string();
        assert!(!words.contains("hunter2"), "{words}");
    }
}
