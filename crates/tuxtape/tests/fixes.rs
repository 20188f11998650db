//! `fix show` with sources of one's own, and `kernel check`, as they are typed.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod support;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "support/user.rs"]
mod user;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Feed, git};
use user::{KERNEL, User, talk};

const CVE: &str = "CVE-2024-1000";
const OLD: &str = "int a;\nint b;\nint c;\n";
const NEW: &str = "int a;\nint b2;\nint c;\n";

/// A user with a kernel of base version 6.1.10, its source, and a feed whose first record is fixed by a
/// commit of a repository.
struct Bench {
    user: User,
    repository: PathBuf,
    feed: Feed,
    commit: String,
}

impl Bench {
    fn new() -> Self {
        let user = User::new();
        let top = user.folder.path().to_owned();
        let repository = top.join("stable");
        fs::create_dir_all(repository.join("net")).unwrap();
        git(&["init", "-q", "-b", "linux-6.1.y"], &repository);
        let commit = |text: &str, message: &str| {
            fs::write(repository.join("net/1000.c"), text).unwrap();
            git(&["add", "-A"], &repository);
            let name = ["-c", "user.name=T", "-c", "user.email=t@example.org"];
            git(
                &[&name[..], &["commit", "-q", "-m", message]].concat(),
                &repository,
            );
            git(&["rev-parse", "HEAD"], &repository)
        };
        commit(OLD, "base");
        let fix = commit(NEW, "net: fix b");
        let mut feed = Feed::new(&top, 2);
        replace(&mut feed, 1000, &"2".repeat(40), &fix);
        // The second record's bug came with the first one's fix.
        replace(&mut feed, 1001, &"1".repeat(40), &fix);
        feed.commit();
        user.scan(&feed.folder);
        user.add_kernel("6.1.10");
        let bench = Self {
            user,
            repository,
            feed,
            commit: fix,
        };
        bench.source(OLD);
        bench
    }

    /// Writes the kernel's own source.
    fn source(&self, text: &str) {
        let tree = self
            .user
            .folder
            .path()
            .join("cache/kernels")
            .join(KERNEL)
            .join("source/net");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("1000.c"), text).unwrap();
    }

    fn git(&self) -> String {
        format!("git:{}", self.repository.display())
    }

    fn show(&self, sources: &[&str]) -> (Option<i32>, Value) {
        let mut arguments = vec!["--json", "fix", "show", KERNEL, CVE];
        for source in sources {
            arguments.extend(["--source", source]);
        }
        let output = self.user.run(&arguments);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        assert!(!value.is_null(), "{}", talk(&output));
        (output.status.code(), value)
    }
}

fn replace(feed: &mut Feed, number: u32, old: &str, new: &str) {
    let prefix = format!("cve/published/2024/CVE-2024-{number}.");
    for (name, bytes) in &mut feed.files {
        if name.starts_with(&prefix) {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace(old, new).into_bytes();
        }
    }
}

#[test]
fn the_first_source_whose_fix_applies_is_taken_and_the_others_are_named() {
    let bench = Bench::new();
    let (code, shown) = bench.show(&["dir:/nowhere", &bench.git()]);
    assert_eq!(code, Some(0));
    assert_eq!(shown["origin"]["kind"], "git");
    assert_eq!(shown["origin"]["commits"][0], bench.commit.as_str());
    assert_eq!(shown["kind"], "own-branch");
    assert_eq!(shown["files"][0], "net/1000.c");
    let diff = shown["diff"].as_str().unwrap();
    assert!(diff.contains("-int b;\n+int b2;\n"), "{diff}");
    assert_eq!(shown["passed_over"].as_array().unwrap().len(), 1);
    assert_eq!(shown["passed_over"][0]["what"], "dir:/nowhere");
    let notes = shown["notes"].to_string();
    assert!(
        notes.contains("brought bugs of its own, by the feed: CVE-2024-1001"),
        "{notes}"
    );
}

#[test]
fn the_list_in_the_home_folder_is_used_when_no_source_is_given() {
    let bench = Bench::new();
    let list = bench.user.home().join("fix-sources.toml");
    fs::write(
        &list,
        format!("format = 1\nsources = [{:?}]\n", bench.git()),
    )
    .unwrap();
    let (code, shown) = bench.show(&[]);
    assert_eq!(
        (code, &shown["origin"]["kind"]),
        (Some(0), &Value::from("git"))
    );
    fs::write(&list, "format = 1\nsources = [\"git:linux\"]\n").unwrap();
    let output = bench.user.run(&["fix", "show", KERNEL, CVE]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("linux is no absolute path"),
        "{}",
        talk(&output)
    );
}

#[test]
fn without_a_fix_that_applies_every_reason_is_given_and_the_answer_is_no() {
    let bench = Bench::new();
    bench.source("int q;\nint b;\nint c;\n");
    let empty = bench.user.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let folder = format!("dir:{}", empty.display());
    let (code, shown) = bench.show(&[&folder, &bench.git()]);
    assert_eq!(code, Some(3));
    assert_eq!(shown["diff"], Value::Null);
    let reasons: Vec<&str> = shown["passed_over"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["why"].as_str().unwrap())
        .collect();
    assert!(
        reasons[0].contains("no patch for CVE-2024-1000"),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .any(|why| why.contains("hunk 1 of net/1000.c does not apply"))
    );
    assert!(
        reasons
            .iter()
            .any(|why| why.contains("the source does not have it"))
    );
    let output = bench
        .user
        .run(&["fix", "show", KERNEL, CVE, "--source", &bench.git()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        talk(&output).contains("expected:\nint a;"),
        "{}",
        talk(&output)
    );
}

#[test]
fn a_fix_that_was_imported_comes_before_every_source() {
    let bench = Bench::new();
    let patch = bench.user.folder.path().join("mine.patch");
    let diff = "--- a/net/1000.c\n+++ b/net/1000.c\n@@ -1,2 +1,2 @@\n int a;\n-int b;\n+int b9;\n";
    fs::write(&patch, diff).unwrap();
    bench.user.text(&[
        "fix",
        "import",
        KERNEL,
        CVE,
        patch.to_str().unwrap(),
        "--by",
        "ann",
    ]);
    let (_, shown) = bench.show(&[]);
    assert_eq!(shown["origin"]["person"], "ann");
    assert_eq!(shown["origin"]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn a_source_that_git_could_take_for_an_option_is_a_usage_error() {
    let bench = Bench::new();
    for source in [
        "git:--upload-pack=x",
        "git:ext::x",
        "url:http://x/",
        "tar:x",
    ] {
        let output = bench
            .user
            .run(&["fix", "show", KERNEL, CVE, "--source", source]);
        assert_eq!(output.status.code(), Some(2), "{source}");
    }
    assert!(Path::new(&bench.feed.folder).exists());
}

#[test]
fn kernel_check_says_what_to_change_and_answers_no() {
    let bench = Bench::new();
    let output = bench.user.run(&["kernel", "check", KERNEL]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("cannot be livepatched here"), "{text}");
    assert!(text.contains("unknown-config"), "{text}");
    let checked = bench
        .user
        .json(&["--json", "kernel", "check", KERNEL])
        .remove(0);
    assert_eq!(checked["livepatchable"], false);
    assert_eq!(checked["engine"], Value::Null);
    assert_eq!(checked["engines"].as_array().unwrap().len(), 3);
    for obstacle in checked["obstacles"].as_array().unwrap() {
        assert!(
            !obstacle["change"].as_str().unwrap().is_empty(),
            "{obstacle}"
        );
    }
}

/// Edits the fix with a script as the editor.
fn edit(bench: &Bench, editor: &str, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["fix", "edit", KERNEL, CVE, "--by", "ann"][..], more].concat();
    let mut command = bench.user.command(&arguments);
    command.env("EDITOR", editor).env_remove("VISUAL");
    let output = command.output().unwrap();
    (output.status.code(), talk(&output))
}

#[test]
fn an_edited_fix_is_kept_with_its_editor_and_comes_before_every_source() {
    let bench = Bench::new();
    fs::write(
        bench.user.home().join("fix-sources.toml"),
        format!("format = 1\nsources = [{:?}]\n", bench.git()),
    )
    .unwrap();
    // Nothing changed, and an editor that ends with failure.
    assert_eq!(edit(&bench, "true", &[]).0, Some(3));
    assert_eq!(edit(&bench, "false", &[]).0, Some(1));
    let (code, said) = edit(&bench, "sed -i s/b2/b3/", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("given by ann"), "{said}");
    let shown = bench.user.json(&["--json", "fix", "show", KERNEL, CVE]);
    assert!(shown[0]["diff"].as_str().unwrap().contains("+int b3;"));
    assert_eq!(shown[0]["origin"]["kind"], "hand");
    // The next edit starts from it.
    let (code, said) = edit(&bench, "sed -i s/b3/b4/", &[]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_edit_that_does_not_apply_is_refused_and_not_lost() {
    let bench = Bench::new();
    let diff = "--- a/net/1000.c\n+++ b/net/1000.c\n@@ -1,3 +1,3 @@\n int a;\n-int b;\n+int b9;\n int c;\n";
    let file = bench.user.folder.path().join("mine.patch");
    fs::write(&file, diff).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(edit(&bench, "false", &["--file", path]).0, Some(0));
    let (code, said) = edit(&bench, "sed -i 's/^-int b;/-int z;/'", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("CVE-2024-1000.draft"), "{said}");
    // What was kept stays, and the next edit goes on with the draft.
    let shown = bench.user.json(&["--json", "fix", "show", KERNEL, CVE]);
    assert!(shown[0]["diff"].as_str().unwrap().contains("+int b9;"));
    let (code, said) = edit(&bench, "sed -i 's/^-int z;/-int b;/;s/b9/b8/'", &[]);
    assert_eq!(code, Some(0), "{said}");
    let shown = bench.user.json(&["--json", "fix", "show", KERNEL, CVE]);
    assert!(shown[0]["diff"].as_str().unwrap().contains("+int b8;"));
    // By file it is checked alike.
    fs::write(&file, diff.replace("-int b;", "-int y;")).unwrap();
    assert_eq!(edit(&bench, "false", &["--file", path]).0, Some(1));
    fs::write(&file, "hello\n").unwrap();
    assert_eq!(edit(&bench, "false", &["--file", path]).0, Some(1));
}
