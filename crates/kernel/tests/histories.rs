//! What histories made by git tell of a fix, against what is in the files.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tuxtape_core::applicability::lineage::{self, Lineage};
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::{Landing, Span};
use tuxtape_kernel::profile::history;
use tuxtape_sys::git::Repository;

/// A repository with an upstream branch `main` of a bug and its fix, and a branch `kernel` that is built.
struct Linux {
    folder: tempfile::TempDir,
    bug: GitId,
    fix: GitId,
}

impl Linux {
    /// `kernel` starts where the bug is in.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut linux = Self {
            folder,
            bug: GitId::from_bytes([0; 20]),
            fix: GitId::from_bytes([0; 20]),
        };
        linux.git(&["init", "-q", "-b", "main"]);
        linux.write("top.c", "int top;\n");
        linux.commit("top: begin");
        linux.git(&["branch", "before"]);
        linux.write("net.c", "a();\nb();\n");
        linux.bug = linux.commit("net: call b");
        linux.git(&["branch", "kernel"]);
        linux.write("more.c", "int more;\n");
        linux.commit("more: add it");
        linux.write("net.c", "a();\nif (x)\n\tb();\n");
        linux.fix = linux.commit("net: call b only where x is there");
        linux.write("more.c", "int more, and_more;\n");
        linux.commit("more: add more");
        linux.git(&["checkout", "-q", "kernel"]);
        linux.write("own.c", "int own;\n");
        linux.commit("own: a change of the distribution");
        linux
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.folder.path(), arguments)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn commit(&self, message: &str) -> GitId {
        self.git(&["add", "."]);
        self.git(&["commit", "-qm", message]);
        self.head()
    }

    fn head(&self) -> GitId {
        self.git(&["rev-parse", "HEAD"]).trim().parse().unwrap()
    }

    /// Takes the fix in without a word of where it came from.
    fn pick(&self) {
        self.git(&["cherry-pick", "-n", &self.fix.to_string()]);
    }

    /// Takes the fix in as stable kernels word it.
    fn backport(&self) -> GitId {
        self.pick();
        let title = "net: call b only where x is there";
        self.commit(&format!(
            "{title}\n\n[ Upstream commit {} ]\n\nwhy",
            self.fix
        ))
    }

    fn revert(&self, commit: GitId) -> GitId {
        self.git(&["revert", "--no-edit", &commit.to_string()]);
        self.head()
    }

    fn record(&self) -> Vec<Span> {
        let landing = |version: &str, commit| Landing {
            version: version.parse().unwrap(),
            commit,
        };
        vec![Span {
            introduced: Some(landing("5.10", self.bug)),
            fixed: Some(landing("6.3", self.fix)),
        }]
    }

    /// What the files say: whether the bug's file is there, and whether the fix is in it.
    fn truth(&self) -> &'static str {
        match fs::read_to_string(self.folder.path().join("net.c")) {
            Err(_) => "no bug",
            Ok(text) if text.contains("if (x)") => "fixed",
            Ok(_) => "bug",
        }
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new("git")
        .args([
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@x",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn told(folder: &Path, record: &[Span]) -> (&'static str, String) {
    let repository = Repository::open(folder).unwrap();
    let head = repository.head().unwrap().unwrap();
    let history = history::learn(&repository, head).unwrap();
    let lineage = lineage::look(record, &history);
    let word = match &lineage {
        Lineage::Carried { .. } => "carried",
        Lineage::Open { .. } => "open",
        Lineage::Undone { .. } => "undone",
        Lineage::Doubtful { .. } => "doubtful",
        Lineage::Silent { .. } => "silent",
    };
    (word, lineage.found(&history))
}

type Make = fn(&Linux);

/// Histories, with what they must tell and what is in the files.
const HISTORIES: [(&str, Make, &str, &str); 20] = [
    (
        "linear, fixed",
        |it| it.git_quiet(&["checkout", "main"]),
        "carried",
        "fixed",
    ),
    ("linear, not fixed", |_| {}, "open", "bug"),
    (
        "before the bug",
        |it| it.git_quiet(&["checkout", "before"]),
        "silent",
        "no bug",
    ),
    (
        "merged",
        |it| it.git_quiet(&["merge", "--no-edit", "main"]),
        "carried",
        "fixed",
    ),
    (
        "merged in parts by way of a side branch",
        |it| {
            it.git_quiet(&["checkout", "-b", "side"]);
            it.backport();
            it.git_quiet(&["checkout", "kernel"]);
            it.write("own.c", "int own, too;\n");
            it.commit("own: more");
            it.git_quiet(&["merge", "--no-edit", "side"]);
        },
        "carried",
        "fixed",
    ),
    (
        "merged without its changes",
        |it| it.git_quiet(&["merge", "--no-edit", "-s", "ours", "main"]),
        "doubtful",
        "bug",
    ),
    (
        "a merge that was reverted",
        |it| {
            it.git_quiet(&["merge", "--no-edit", "main"]);
            it.git_quiet(&["revert", "--no-edit", "-m", "1", "HEAD"]);
        },
        "doubtful",
        "bug",
    ),
    (
        "picked with -x",
        |it| it.git_quiet(&["cherry-pick", "-x", &it.fix.to_string()]),
        "carried",
        "fixed",
    ),
    (
        "picked without a word",
        |it| {
            it.pick();
            it.commit("net: call b only where x is there");
        },
        "open",
        "fixed",
    ),
    (
        "backported",
        |it| {
            it.backport();
        },
        "carried",
        "fixed",
    ),
    (
        "backported, worded as by the stable maintainers",
        |it| {
            it.pick();
            it.commit(&format!("net: x\n\ncommit {} upstream.\n\nwhy", it.fix));
        },
        "carried",
        "fixed",
    ),
    (
        "a backport of a backport",
        |it| {
            it.git_quiet(&["checkout", "-b", "stable"]);
            let stable = it.backport();
            it.git_quiet(&["checkout", "kernel"]);
            it.pick();
            it.commit(&format!(
                "net: x\n\n[ Upstream commit {} ]\n\n(cherry picked from commit {stable})",
                it.fix
            ));
        },
        "carried",
        "fixed",
    ),
    (
        "reverted",
        |it| {
            let backport = it.backport();
            it.revert(backport);
        },
        "undone",
        "bug",
    ),
    (
        "reverted by the name it has upstream",
        |it| {
            let backport = it.backport();
            it.git_quiet(&["revert", "-n", &backport.to_string()]);
            it.commit(&format!(
                "Revert \"net: x\"\n\nThis reverts commit {}.",
                it.fix
            ));
        },
        "undone",
        "bug",
    ),
    (
        "reverted without a name",
        |it| {
            let backport = it.backport();
            it.git_quiet(&["revert", "-n", &backport.to_string()]);
            it.commit("Revert \"net: call b only where x is there\"\n\nIt broke.");
        },
        "doubtful",
        "bug",
    ),
    (
        "reverted, and the revert reverted",
        |it| {
            let backport = it.backport();
            let revert = it.revert(backport);
            it.revert(revert);
        },
        "carried",
        "fixed",
    ),
    (
        "reverted, and picked again",
        |it| {
            let backport = it.backport();
            it.revert(backport);
            it.backport();
        },
        "carried",
        "fixed",
    ),
    (
        "a revert of a revert, reverted",
        |it| {
            let backport = it.backport();
            let revert = it.revert(backport);
            let again = it.revert(revert);
            it.revert(again);
        },
        "undone",
        "bug",
    ),
    (
        "reverted in part",
        |it| {
            let backport = it.backport();
            it.write("own.c", "int other;\n");
            it.commit(&format!(
                "own: x\n\nThis partially reverts commit {backport}."
            ));
        },
        "doubtful",
        "fixed",
    ),
    (
        "the bug's commit reverted",
        |it| {
            it.revert(it.bug);
        },
        "silent",
        "no bug",
    ),
];

impl Linux {
    fn git_quiet(&self, arguments: &[&str]) {
        self.git(
            &[
                &arguments[..1],
                &["-q"][..usize::from(arguments[0] == "checkout")],
                &arguments[1..],
            ]
            .concat(),
        );
    }
}

#[test]
fn no_history_tells_of_a_fix_that_is_not_in_the_files() {
    let mut table: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (name, make, expected, truth) in HISTORIES {
        let linux = Linux::new();
        make(&linux);
        assert_eq!(linux.truth(), truth, "{name}");
        let (word, found) = told(linux.folder.path(), &linux.record());
        assert_eq!(word, expected, "{name}: {found}");
        *table.entry((word, truth)).or_default() += 1;
    }
    // Told against true. The one that is wrong was taken in without a word, which the source shows.
    let expected = BTreeMap::from([
        (("carried", "fixed"), 9),
        (("doubtful", "bug"), 3),
        (("doubtful", "fixed"), 1),
        (("open", "bug"), 1),
        (("open", "fixed"), 1),
        (("silent", "no bug"), 2),
        (("undone", "bug"), 3),
    ]);
    assert_eq!(table, expected);
}

#[test]
fn a_shallow_clone_tells_what_it_has_and_no_more() {
    let linux = Linux::new();
    linux.backport();
    linux.write("own.c", "int own, newer;\n");
    linux.commit("own: newer");
    let url = format!("file://{}", linux.folder.path().display());
    for (depth, expected) in [("1", "silent"), ("2", "carried")] {
        let clone = tempfile::tempdir().unwrap();
        let flag = format!("--depth={depth}");
        git(
            clone.path(),
            &["clone", "-q", &flag, "-b", "kernel", &url, "c"],
        );
        let (word, found) = told(&clone.path().join("c"), &linux.record());
        assert_eq!(word, expected, "{depth}: {found}");
    }
    // And without the fix it says nothing of the bug.
    let linux = Linux::new();
    let clone = tempfile::tempdir().unwrap();
    let url = format!("file://{}", linux.folder.path().display());
    git(
        clone.path(),
        &["clone", "-q", "--depth=2", "-b", "kernel", &url, "c"],
    );
    let (word, found) = told(&clone.path().join("c"), &linux.record());
    assert_eq!(word, "silent", "{found}");
}

#[test]
fn commits_alone_are_enough() {
    let linux = Linux::new();
    linux.backport();
    linux.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", linux.folder.path().display());
    let work = tempfile::tempdir().unwrap();
    let deadline = std::time::Duration::from_secs(60);
    let (repository, commit) =
        Repository::fetch_history(&url, "refs/heads/kernel", work.path(), deadline).unwrap();
    assert_eq!(commit, linux.head());
    let history = history::learn(&repository, commit).unwrap();
    let lineage = lineage::look(&linux.record(), &history);
    assert!(matches!(lineage, Lineage::Carried { .. }), "{lineage:?}");
    assert!(!history.is_cut_off);
}

#[test]
fn replace_refs_and_grafts_change_nothing() {
    let linux = Linux::new();
    let backport = linux.backport();
    linux.revert(backport);
    linux.git(&["replace", &linux.head().to_string(), &backport.to_string()]);
    let (word, found) = told(linux.folder.path(), &linux.record());
    assert_eq!(word, "undone", "{found}");
}
