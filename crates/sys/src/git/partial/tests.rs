use std::path::PathBuf;

use super::*;
use crate::git::commits::Shown;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn only_a_servers_own_offer_counts() {
    for (line, offers) in [
        (
            "12:00 pkt-line.c:80 packet: ls-remote< fetch=shallow wait-for-done filter",
            true,
        ),
        ("packet: ls-remote< fetch=shallow", false),
        (
            "packet: ls-remote< a49d HEAD\\0multi_ack filter agent=git",
            true,
        ),
        ("packet: ls-remote> fetch=filter", false),
        ("packet: ls-remote< filter", false),
        ("", false),
    ] {
        assert_eq!(offers_filter(line), offers, "{line}");
    }
}

#[test]
fn only_what_was_asked_for_is_refused() {
    let id: GitId = "a49d25364dfb9f8a64037488a39ab1f56c5fa419".parse().unwrap();
    let words = format!("fatal: remote error: upload-pack: not our ref {id}\nfatal: x");
    assert_eq!(refused(&words, &[id]), Some(id));
    assert_eq!(refused(&words, &[]), None);
    assert_eq!(refused("not our ref a49d", &[id]), None);
    assert_eq!(refused("", &[id]), None);
}

struct Server {
    folder: tempfile::TempDir,
    top: PathBuf,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("origin");
        fs::create_dir(&top).unwrap();
        let server = Self { folder, top };
        server.git(&["init", "-q", "-b", "master"]);
        server.git(&["config", "uploadpack.allowFilter", "true"]);
        server
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(&self.top)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
            .args(arguments);
        let finished = process::run_ok(&mut command, DEADLINE).unwrap();
        String::from_utf8(finished.stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    fn commit(&self, files: &[(&str, &str)]) -> GitId {
        for (path, text) in files {
            fs::write(self.top.join(path), text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "c"]);
        self.head()
    }

    fn head(&self) -> GitId {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    fn blob(&self, name: &str) -> GitId {
        self.git(&["rev-parse", name]).parse().unwrap()
    }

    fn url(&self) -> String {
        format!("file://{}", self.top.display())
    }

    fn store(&self) -> Repository {
        Repository::store(&self.folder.path().join("cache/store.git")).unwrap()
    }
}

fn pair(store: &Repository, id: GitId) -> (GitId, GitId) {
    let commit = store.commits(&[id], DEADLINE).unwrap().remove(0).unwrap();
    (id, commit.parents[0])
}

#[test]
fn a_fetch_brings_a_commit_and_what_it_changes_and_nothing_else() {
    let server = Server::new();
    server.commit(&[("a.c", "1\n"), ("other.c", "big\n")]);
    let change = server.commit(&[("a.c", "2\n")]);
    server.commit(&[("a.c", "3\n")]);
    let store = server.store();
    let failed = store
        .fetch_commits(&server.url(), &[change], DEADLINE)
        .unwrap();
    assert_eq!(failed, BTreeMap::new());
    let diff = store
        .diffs(&[pair(&store, change)], Shown::Lines, DEADLINE)
        .unwrap()
        .remove(0);
    let diff = String::from_utf8(diff).unwrap();
    assert!(diff.ends_with("@@ -1 +1 @@\n-1\n+2\n"), "{diff}");
    let (other, later) = (server.blob("HEAD:other.c"), server.head());
    assert_eq!(
        store.has(&[other, later], DEADLINE).unwrap(),
        [false, false]
    );
}

#[test]
fn the_parent_of_one_fetched_commit_can_be_fetched_itself() {
    let server = Server::new();
    server.commit(&[("a.c", "1\n"), ("other.c", "x\n")]);
    let first = server.commit(&[("a.c", "2\n")]);
    let second = server.commit(&[("a.c", "3\n")]);
    let store = server.store();
    // `first` is then where history is cut off, and seems to have no parent.
    store
        .fetch_commits(&server.url(), &[second], DEADLINE)
        .unwrap();
    store
        .fetch_commits(&server.url(), &[first], DEADLINE)
        .unwrap();
    let diff = store
        .diffs(&[pair(&store, first)], Shown::Lines, DEADLINE)
        .unwrap()
        .remove(0);
    let diff = String::from_utf8(diff).unwrap();
    assert!(
        diff.ends_with("-1\n+2\n") && !diff.contains("other.c"),
        "{diff}"
    );
}

#[test]
fn a_missing_commit_is_named_and_the_others_are_fetched() {
    let server = Server::new();
    server.commit(&[("a.c", "1\n")]);
    let change = server.commit(&[("a.c", "2\n")]);
    let [missing, too] = [7, 8].map(|byte| GitId::from_bytes([byte; 20]));
    let store = server.store();
    let failed = store
        .fetch_commits(&server.url(), &[missing, change, too], DEADLINE)
        .unwrap();
    let names: Vec<GitId> = failed.keys().copied().collect();
    assert_eq!(names, [missing, too]);
    assert!(failed.values().all(|why| *why == NotFetched::Missing));
    assert!(
        store
            .diffs(&[pair(&store, change)], Shown::Lines, DEADLINE)
            .is_ok()
    );
}

#[test]
fn a_merge_keeps_both_parents() {
    let server = Server::new();
    let base = server.commit(&[("a.c", "1\n")]);
    server.git(&["checkout", "-q", "-b", "side"]);
    let side = server.commit(&[("b.c", "1\n")]);
    server.git(&["checkout", "-q", "master"]);
    let main = server.commit(&[("c.c", "1\n")]);
    server.git(&["merge", "-q", "--no-ff", "-m", "m", "side"]);
    let store = server.store();
    let merge = server.head();
    store
        .fetch_commits(&server.url(), &[merge], DEADLINE)
        .unwrap();
    let commits = store.commits(&[merge, base], DEADLINE).unwrap();
    assert_eq!(commits[0].as_ref().unwrap().parents, [main, side]);
    assert_eq!(commits[1], None);
}

#[test]
fn a_server_that_would_send_whole_trees_is_refused() {
    let server = Server::new();
    let change = server.commit(&[("a.c", "1\n")]);
    server.git(&["config", "uploadpack.allowFilter", "false"]);
    let store = server.store();
    let outcome = store.fetch_commits(&server.url(), &[change], DEADLINE);
    assert!(
        matches!(outcome, Err(GitError::NoFilter { .. })),
        "{outcome:?}"
    );
    assert_eq!(store.has(&[change], DEADLINE).unwrap(), [false]);
}

#[test]
fn what_is_here_is_not_asked_for_again() {
    let server = Server::new();
    server.commit(&[("a.c", "1\n")]);
    let change = server.commit(&[("a.c", "2\n")]);
    let store = server.store();
    store
        .fetch_commits(&server.url(), &[change], DEADLINE)
        .unwrap();
    fs::rename(&server.top, server.folder.path().join("gone")).unwrap();
    let again = store
        .fetch_commits(&server.url(), &[change], DEADLINE)
        .unwrap();
    assert_eq!(again, BTreeMap::new());
    let error = store
        .fetch_commits(&server.url(), &[GitId::from_bytes([7; 20])], DEADLINE)
        .unwrap_err();
    assert!(error.to_string().contains("origin"), "{error}");
}

#[test]
fn options_and_programs_are_no_places_to_fetch_from() {
    let folder = tempfile::tempdir().unwrap();
    let store = Repository::store(&folder.path().join("s")).unwrap();
    for place in ["--upload-pack=x", "ext::sh -c id", "a\nb"] {
        let outcome = store.fetch_commits(place, &[], DEADLINE);
        assert!(matches!(outcome, Err(GitError::Source { .. })), "{place}");
    }
}

#[test]
fn mentions_are_found_where_there_is_history() {
    let server = Server::new();
    server.commit(&[("a.c", "1\n")]);
    let change = server.commit(&[("a.c", "2\n")]);
    fs::write(server.top.join("a.c"), "3\n").unwrap();
    let message = format!("later\n\nFixes: {} (\"c\")", change.short());
    server.git(&["commit", "-qam", &message]);
    let whole = Repository::open(&server.top).unwrap();
    let found = whole
        .mentions(&[change], &[], 0, 10, DEADLINE)
        .unwrap()
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, server.head());
    assert!(found[0].message.contains("Fixes: "));
    let store = server.store();
    store
        .fetch_commits(&server.url(), &[change], DEADLINE)
        .unwrap();
    assert_eq!(
        store.mentions(&[change], &[], 0, 10, DEADLINE).unwrap(),
        None
    );
}
