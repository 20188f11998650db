use std::fs;
use std::process::Command;

use tuxtape_core::cve::State;
use tuxtape_core::span::{Landing, Span};
use tuxtape_sys::process;

use super::*;
use crate::fix_source::commit::CommitError;
use crate::unified::{self, TreePath};

const OLD: &str = "int a;\nint b;\nint c;\nint d;\nint e;\nint f;\nint g;\n";

/// A repository like stable's: `master`, `linux-6.6.y` and `linux-6.1.y`, and kernels' trees.
struct Bench {
    folder: tempfile::TempDir,
    top: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("stable");
        fs::create_dir_all(top.join("net")).unwrap();
        let bench = Self { folder, top };
        bench.git(&["init", "-q", "-b", "master"]);
        bench.git(&["config", "uploadpack.allowFilter", "true"]);
        bench.commit("base", &[("net/x.c", OLD), ("other.c", "o\n")]);
        bench.git(&["branch", "linux-6.1.y"]);
        bench.git(&["branch", "linux-6.6.y"]);
        bench
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(&self.top)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
            .args(arguments);
        let finished = process::run_ok(&mut command, std::time::Duration::from_secs(60)).unwrap();
        String::from_utf8(finished.stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    fn on(&self, branch: &str) -> &Self {
        self.git(&["checkout", "-q", branch]);
        self
    }

    fn commit(&self, message: &str, files: &[(&str, &str)]) -> GitId {
        for (path, text) in files {
            fs::write(self.top.join(path), text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.head()
    }

    fn head(&self) -> GitId {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// Fixes line `b` on master, and as a backport on 6.6 and 6.1.
    fn fixed(&self) -> [GitId; 3] {
        let master = self
            .on("master")
            .commit("net: fix b", &[("net/x.c", &edited("int b;", "int b2;"))]);
        let message = format!("net: fix b\n\ncommit {master} upstream.\n\nbody");
        let [newer, own] = ["linux-6.6.y", "linux-6.1.y"].map(|branch| {
            let text = format!("// {branch}\n{}", edited("int b;", "int b2;"));
            self.on(branch)
                .commit("prepare", &[("net/x.c", &format!("// {branch}\n{OLD}"))]);
            self.commit(&message, &[("net/x.c", &text)])
        });
        [own, newer, master]
    }

    fn library(&self, sources: &[String]) -> Library {
        Library {
            sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
            cache: self.folder.path().join("cache"),
            network: Network::Allowed,
        }
    }

    fn local(&self) -> String {
        format!("git:{}", self.top.display())
    }

    fn remote(&self) -> String {
        format!("git:file://{}", self.top.display())
    }

    fn tree(&self, text: &str) -> PathBuf {
        let tree = self.folder.path().join("tree");
        fs::create_dir_all(tree.join("net")).unwrap();
        fs::write(tree.join("net/x.c"), text).unwrap();
        tree
    }
}

fn edited(old: &str, new: &str) -> String {
    OLD.replace(old, new)
}

/// A record: introduced in 5.10, fixed by each of `fixes`.
fn record(fixes: &[(&str, GitId)], mainline: &[GitId]) -> Cve {
    let introduced = Some(Landing {
        version: "5.10".parse().unwrap(),
        commit: GitId::from_bytes([5; 20]),
    });
    Cve {
        id: "CVE-2026-31407".parse().unwrap(),
        state: State::Published,
        title: String::new(),
        description: String::new(),
        files: vec!["net/x.c".to_owned()],
        cvss: None,
        references: Vec::new(),
        mainline_fixes: mainline.to_vec(),
        spans: fixes
            .iter()
            .map(|(version, commit)| Span {
                introduced,
                fixed: Some(Landing {
                    version: version.parse().unwrap(),
                    commit: *commit,
                }),
            })
            .collect(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    }
}

fn base() -> KernelVersion {
    "6.1.10".parse().unwrap()
}

fn diffs(library: &Library, cve: &Cve) -> Found {
    library.diffs(&[cve], base()).remove(&cve.id).unwrap()
}

#[test]
fn the_own_branchs_backport_comes_before_newer_ones_and_mainline() {
    let bench = Bench::new();
    let [own, newer, master] = bench.fixed();
    let fixes = [("6.12", master), ("6.6.9", newer), ("6.1.20", own)];
    let cve = record(&fixes, &[master]);
    for source in [bench.local(), bench.remote()] {
        let found = diffs(&bench.library(std::slice::from_ref(&source)), &cve);
        let kinds: Vec<DiffKind> = found.diffs.iter().map(|diff| diff.kind).collect();
        // From a server the nearest is enough.
        let all = [
            DiffKind::OwnBranch,
            DiffKind::NewerBranch("6.6".parse().unwrap()),
            DiffKind::Mainline,
        ];
        let count = if source == bench.local() { 3 } else { 1 };
        assert_eq!(kinds, all[..count]);
        assert_eq!(found.passed_over, []);
        let first = &found.diffs[0];
        assert!(first.text.contains("-int b;\n+int b2;\n"), "{}", first.text);
        assert!(first.text.contains("// linux-6.1.y"), "{}", first.text);
        assert_eq!(first.notes, [""; 0]);
        assert!(matches!(&first.origin, Origin::Git { commits, .. } if *commits == [own]));
    }
}

#[test]
fn one_missing_commit_stops_no_other_fix() {
    let bench = Bench::new();
    let [own, _, master] = bench.fixed();
    let missing = GitId::from_bytes([9; 20]);
    let good = record(&[("6.1.20", own)], &[master]);
    let mut bad = record(&[("6.1.30", missing)], &[]);
    bad.id = "CVE-2026-1000".parse().unwrap();
    for source in [bench.local(), bench.remote()] {
        let found = bench.library(&[source]).diffs(&[&bad, &good], base());
        assert_eq!(found[&good.id].diffs.len(), 1);
        assert_eq!(found[&bad.id].diffs, []);
        let why = &found[&bad.id].passed_over[0].why;
        assert!(why.contains(&CommitError::Missing.to_string()), "{why}");
        assert!(why.contains(&missing.short()), "{why}");
    }
}

#[test]
fn one_damaged_object_stops_no_other_fix() {
    let bench = Bench::new();
    let [own, newer, master] = bench.fixed();
    let good = record(&[("6.1.20", own)], &[master]);
    let mut bad = record(&[("6.6.9", newer)], &[]);
    bad.id = "CVE-2026-1000".parse().unwrap();
    let blob = bench.git(&["rev-parse", &format!("{newer}:net/x.c")]);
    let (first, rest) = blob.split_at(2);
    let object = bench.top.join(".git/objects").join(first).join(rest);
    // Its beginning says what it is, and then it breaks off.
    let whole = fs::read(&object).unwrap();
    fs::remove_file(&object).unwrap();
    fs::write(&object, &whole[..whole.len() - 12]).unwrap();
    let found = bench
        .library(&[bench.local()])
        .diffs(&[&bad, &good], base());
    assert_eq!(found[&good.id].diffs.len(), 1);
    assert_eq!(found[&bad.id].diffs, [], "{:?}", found[&bad.id]);
    assert!(!found[&bad.id].passed_over.is_empty());
}

#[test]
fn a_merge_is_refused_and_never_compared_with_its_first_parent_alone() {
    let bench = Bench::new();
    bench.git(&["checkout", "-q", "-b", "side", "master"]);
    bench.commit("side", &[("net/side.c", "1\n")]);
    bench.on("master").commit("main", &[("net/main.c", "1\n")]);
    bench.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let cve = record(&[("6.12", bench.head())], &[]);
    for source in [bench.local(), bench.remote()] {
        let found = diffs(&bench.library(&[source]), &cve);
        assert_eq!(found.diffs, []);
        let why = &found.passed_over[0].why;
        assert!(why.contains("merge of 2 commits"), "{why}");
    }
}

#[test]
fn moved_and_deleted_files_have_both_paths_in_the_fix() {
    let bench = Bench::new();
    bench.on("master");
    bench.git(&["mv", "net/x.c", "net/y.c"]);
    bench.git(&["rm", "-q", "other.c"]);
    let moved = bench.commit("net: move", &[("net/y.c", &edited("int b;", "int b2;"))]);
    let cve = record(&[("6.12", moved)], &[moved]);
    for source in [bench.local(), bench.remote()] {
        let library = bench.library(&[source]);
        let found = diffs(&library, &cve);
        let diff = &found.diffs[0];
        assert!(
            diff.notes
                .iter()
                .any(|note| note.ends_with("moves net/x.c to net/y.c"))
        );
        let tree = bench.tree(OLD);
        fs::write(tree.join("other.c"), "o\n").unwrap();
        let chosen = library.fix(&cve, base(), &tree).unwrap();
        let files: Vec<&str> = chosen.fix.files.iter().map(TreePath::as_str).collect();
        assert_eq!(files, ["net/x.c", "net/y.c", "other.c"]);
    }
}

#[test]
fn a_fix_moves_with_its_lines_and_conflicts_are_shown() {
    let bench = Bench::new();
    let [own, newer, master] = bench.fixed();
    let fixes = [("6.12", master), ("6.6.9", newer), ("6.1.20", own)];
    let cve = record(&fixes, &[master]);
    let library = bench.library(&[bench.local()]);
    // Two lines further down; the comment that 6.1 has is not there, so its backport does not fit.
    let tree = bench.tree(&format!("int y;\nint z;\n{OLD}"));
    let chosen = library.fix(&cve, base(), &tree).unwrap();
    assert_eq!(chosen.kind, DiffKind::Mainline);
    assert!(
        chosen
            .notes
            .contains(&"made for mainline, not for branch 6.1".to_owned())
    );
    let why = &chosen.passed_over[0].why;
    assert!(why.contains("hunk 1 of net/x.c does not apply"), "{why}");
    assert!(
        why.contains("expected:\n") && why.contains("found:\n"),
        "{why}"
    );
    assert_eq!(chosen.passed_over.len(), 2);
    let tree = bench.tree(&edited("int a;", "int q;").replace("int c;", "int r;"));
    let passed_over = library.fix(&cve, base(), &tree).unwrap_err();
    assert_eq!(passed_over.len(), 3);
}

#[test]
fn a_fix_that_the_source_has_already_is_said_so() {
    let bench = Bench::new();
    let [.., master] = bench.fixed();
    let cve = record(&[("6.12", master)], &[master]);
    let tree = bench.tree(&edited("int b;", "int b2;"));
    let passed_over = bench
        .library(&[bench.local()])
        .fix(&cve, base(), &tree)
        .unwrap_err();
    let already = |it: &PassedOver| it.why.contains("already has this change");
    assert!(passed_over.iter().any(already), "{passed_over:?}");
}

#[test]
fn several_commits_are_put_together_in_their_order() {
    let bench = Bench::new();
    bench.on("master");
    let step = edited("int b;", "int b2;");
    bench.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    let first = bench.commit("one", &[("net/x.c", &step)]);
    let second = bench.commit("two", &[("net/x.c", &step.replace("int b2;", "int b3;"))]);
    let cve = record(&[("6.12", first), ("6.13", second)], &[first, second]);
    let tree = bench.tree(OLD);
    let chosen = bench
        .library(&[bench.local()])
        .fix(&cve, base(), &tree)
        .unwrap();
    assert!(
        chosen
            .notes
            .contains(&"2 commits, all are needed".to_owned())
    );
    assert!(
        matches!(&chosen.fix.origin, Origin::Git { commits, .. } if *commits == [first, second])
    );
}

#[test]
fn one_of_several_commits_missing_is_no_fix() {
    let bench = Bench::new();
    let [.., master] = bench.fixed();
    let missing = GitId::from_bytes([9; 20]);
    let cve = record(&[("6.12", master), ("6.13", missing)], &[master, missing]);
    let found = diffs(&bench.library(&[bench.local()]), &cve);
    assert_eq!(found.diffs, []);
    assert!(found.passed_over[0].why.contains(&missing.short()));
}

#[test]
fn later_commits_that_repair_the_fix_are_named() {
    let bench = Bench::new();
    let [own, newer, master] = bench.fixed();
    let message = format!(
        "net: fix the fix\n\nFixes: {} (\"net: fix b\")",
        master.short()
    );
    let repair = bench.on("master").commit(&message, &[("other.c", "p\n")]);
    let message = format!("Revert \"net: fix b\"\n\nThis reverts commit {own}.");
    bench
        .on("linux-6.1.y")
        .commit(&message, &[("net/x.c", OLD)]);
    let cve = record(&[("6.6.9", newer), ("6.1.20", own)], &[master]);
    let tree = bench.tree(&format!("// linux-6.1.y\n{OLD}"));
    let local = bench
        .library(&[bench.local()])
        .fix(&cve, base(), &tree)
        .unwrap();
    let note = format!(
        "a later commit repairs it: {} net: fix the fix",
        repair.short()
    );
    assert!(local.notes.contains(&note), "{:?}", local.notes);
    assert!(
        local
            .notes
            .iter()
            .any(|note| note.starts_with("a later commit takes it back: "))
    );
    let remote = bench
        .library(&[bench.remote()])
        .fix(&cve, base(), &tree)
        .unwrap();
    assert!(
        remote
            .notes
            .iter()
            .any(|note| note.contains("were not looked for"))
    );
}

#[test]
fn a_backport_of_something_else_is_suspect() {
    let bench = Bench::new();
    let [own, ..] = bench.fixed();
    let other = GitId::from_bytes([3; 20]);
    let cve = record(&[("6.1.20", own)], &[other]);
    let found = diffs(&bench.library(&[bench.local()]), &cve);
    assert!(found.diffs[0].notes[0].starts_with("suspect: "));
}

#[test]
fn sources_are_asked_in_their_order() {
    let bench = Bench::new();
    let [own, _, master] = bench.fixed();
    let cve = record(&[("6.1.20", own)], &[master]);
    let patches = bench.folder.path().join("patches");
    fs::create_dir(&patches).unwrap();
    let patch = "--- a/net/x.c\n+++ b/net/x.c\n@@ -1,2 +1,2 @@\n int a;\n-int b;\n+int b9;\n";
    fs::write(patches.join("fix.patch"), patch).unwrap();
    let index = r#"{"id": "fix", "cves": ["CVE-2026-31407", "CVE-2026-1000"]}"#;
    fs::write(patches.join("index.jsonl"), index).unwrap();
    let folder = format!("dir:{}", patches.display());
    let tree = bench.tree(&format!("// linux-6.1.y\n{OLD}"));
    let chosen = bench
        .library(&[folder.clone(), bench.local()])
        .fix(&cve, base(), &tree)
        .unwrap();
    assert_eq!(chosen.kind, DiffKind::Hand);
    assert!(
        chosen
            .notes
            .contains(&"it closes CVE-2026-1000 too".to_owned())
    );
    let chosen = bench
        .library(&[bench.local(), folder])
        .fix(&cve, base(), &tree)
        .unwrap();
    assert_eq!(chosen.kind, DiffKind::OwnBranch);
}

#[test]
fn the_patches_of_a_folder_for_one_cve_are_parts_of_one_fix() {
    let bench = Bench::new();
    let cve = record(&[], &[]);
    let patches = bench.folder.path().join("patches");
    fs::create_dir(&patches).unwrap();
    let patch = |path: &str, new: &str| {
        format!(
            "--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,2 @@\n int a;\n-int b;\n+int {new};\n-- \n2.39\n"
        )
    };
    fs::write(patches.join("one.patch"), patch("net/x.c", "b9")).unwrap();
    fs::write(patches.join("two.patch"), patch("net/y.c", "b9")).unwrap();
    fs::write(patches.join("other.patch"), patch("net/x.c", "b8")).unwrap();
    let found = |ids: &[&str]| {
        let lines = ids
            .iter()
            .map(|id| format!("{{\"id\": \"{id}\", \"cves\": [\"{}\"]}}\n", cve.id));
        fs::write(patches.join("index.jsonl"), lines.collect::<String>()).unwrap();
        let library = bench.library(&[format!("dir:{}", patches.display())]);
        diffs(&library, &cve)
    };
    let whole = found(&["one", "two"]).diffs;
    assert_eq!(whole.len(), 1);
    let files = unified::parse(whole[0].text.as_bytes()).unwrap().files;
    let paths: Vec<String> = files.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(paths, ["net/x.c", "net/y.c"]);
    assert!(!whole[0].is_part);
    // Two of one file, and one that is not there: nobody knows what the whole is.
    for ids in [&["one", "other"][..], &["one", "lost"]] {
        let parts = found(ids).diffs;
        assert!(
            !parts.is_empty() && parts.iter().all(|part| part.is_part),
            "{parts:?}"
        );
        let library = bench.library(&[format!("dir:{}", patches.display())]);
        let tree = bench.tree(OLD);
        assert!(library.fix(&cve, base(), &tree).is_err());
    }
}

#[test]
fn a_source_that_fails_is_passed_over_with_its_reason() {
    let bench = Bench::new();
    let [own, ..] = bench.fixed();
    let cve = record(&[("6.1.20", own)], &[]);
    let nowhere = bench.folder.path().join("nowhere").display().to_string();
    let sources = [
        format!("git:{nowhere}"),
        format!("git:file://{nowhere}"),
        format!("dir:{nowhere}"),
        bench.local(),
    ];
    let found = diffs(&bench.library(&sources), &cve);
    assert_eq!(found.diffs.len(), 1);
    let tried: Vec<bool> = found
        .passed_over
        .iter()
        .map(|it| it.why.contains("nowhere"))
        .collect();
    assert_eq!(tried, [true, true, true], "{:?}", found.passed_over);
}

#[test]
fn what_was_fetched_is_there_without_the_server() {
    let bench = Bench::new();
    let [own, _, master] = bench.fixed();
    let cve = record(&[("6.1.20", own)], &[master]);
    let mut library = bench.library(&[bench.remote()]);
    let before = diffs(&library, &cve);
    fs::rename(&bench.top, bench.folder.path().join("gone")).unwrap();
    library.network = Network::Never;
    assert_eq!(diffs(&library, &cve), before);
}

#[test]
fn a_cve_without_a_fix_is_answered_too() {
    let bench = Bench::new();
    let cve = record(&[], &[]);
    let found = diffs(&bench.library(&[bench.local()]), &cve);
    assert_eq!(found.diffs, []);
    assert!(found.passed_over[0].why.contains("names no commit"));
}

#[test]
fn a_backport_that_the_record_does_not_name_is_found_on_the_branch() {
    let bench = Bench::new();
    let [own, _, master] = bench.fixed();
    let cve = record(&[("6.12", master)], &[master]);
    let tree = bench.tree(&format!("// linux-6.1.y\n{OLD}"));
    let library = bench.library(&[bench.local()]);
    let chosen = library.fix(&cve, base(), &tree).unwrap();
    assert_eq!(chosen.kind, DiffKind::OwnBranch);
    assert!(matches!(&chosen.fix.origin, Origin::Git { commits, .. } if *commits == [own]));
    assert!(chosen.notes[0].contains("found on branch linux-6.1.y"));
    // Twice on the branch: nobody can say which one is the fix.
    let message = format!("net: again\n\ncommit {master} upstream.");
    bench
        .on("linux-6.1.y")
        .commit(&message, &[("other.c", "q\n")]);
    let chosen = library.fix(&cve, base(), &tree).unwrap();
    assert_eq!(chosen.kind, DiffKind::Mainline);
}
