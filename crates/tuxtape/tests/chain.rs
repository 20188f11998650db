//! That every command gives one answer on one kernel, and what moves it.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod feed;
#[expect(dead_code, reason = "shared with the tests of other commands")]
#[path = "support/user.rs"]
mod user;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tuxtape_core::git_id::GitId;
use tuxtape_core::history::{Builder, Logged};
use tuxtape_core::profile::GitOrigin;
use tuxtape_kernel::profile::{self, history};
use user::{KERNEL, User, talk};

/// Release of the kernel that is added from its tree.
const OWN: &str = "6.1.10-t";

const FIXED: &str =
    "int f(int x)\n{\n\tif (x_is_not_there(x))\n\t\treturn -1;\n\treturn call_it(x);\n}\n";
const OLD: &str = "int f(int x)\n{\n\treturn call_it(x);\n}\n";
const FIX: &str = "@@ -1,4 +1,6 @@\n int f(int x)\n {\n+\tif (x_is_not_there(x))\n+\t\treturn -1;\n \treturn call_it(x);\n }\n";

/// A user with a feed of six records of `net/1000.c` and so on, a kernel of version 6.1.10 added from its
/// tree, and a folder of fixes. The tree has the fix of every second record, and not the last two files.
struct Bench {
    user: User,
    feed: feed::Feed,
}

impl Bench {
    fn new() -> Self {
        let user = User::new();
        let feed = feed::Feed::new(user.folder.path(), 6);
        user.scan(&feed.folder);
        let bench = Self { user, feed };
        let tree = bench.tree();
        let config = "# Linux/x86 6.1.10 Kernel Configuration\nCONFIG_X86_64=y\nCONFIG_64BIT=y\n\
            CONFIG_CC_VERSION_TEXT=\"gcc 12\"\nCONFIG_LOCALVERSION=\"-t\"\n";
        for (path, text) in [
            (
                "Makefile",
                "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 10\nEXTRAVERSION =\nNAME = X\n\
                 SRCARCH := x86\nsrctree := .\ninclude $(srctree)/arch/$(SRCARCH)/Makefile\n",
            ),
            ("Kconfig", ""),
            ("Kbuild", "obj-y += init/\nobj-y += net/\n"),
            ("arch/x86/Makefile", ""),
            ("arch/x86/Kbuild", ""),
            ("init/Makefile", "obj-y := main.o\n"),
            ("init/main.c", "int a;\n"),
            (
                "net/Makefile",
                "obj-y += 1000.o 1001.o 1002.o\nobj-$(CONFIG_B) += 1003.o\n",
            ),
            (".config", config),
        ] {
            write(&tree.join(path), text);
        }
        let fixes = bench.user.folder.path().join("fixes");
        for number in 1000..1004 {
            let text = if number % 2 == 0 { FIXED } else { OLD };
            write(&tree.join(format!("net/{number}.c")), text);
            // Its own words tie a patch to its CVE.
            let diff = format!(
                "This fixes CVE-2024-{number}.\n\n--- a/net/{number}.c\n+++ b/net/{number}.c\n{FIX}"
            );
            write(&fixes.join(format!("CVE-2024-{number}.patch")), &diff);
        }
        let output = bench.user.run(&["kernel", "add", &bench.spec()]);
        assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
        bench
    }

    fn tree(&self) -> PathBuf {
        self.user.folder.path().join("linux")
    }

    fn spec(&self) -> String {
        format!("dir:{}", self.tree().display())
    }

    fn looking(&self) -> Vec<String> {
        let fixes = self.user.folder.path().join("fixes");
        vec![
            "--content".to_owned(),
            "--source".to_owned(),
            format!("dir:{}", fixes.display()),
        ]
    }

    /// What `gauge` says of every CVE: its verdict and reason.
    fn gauge(&self, more: &[String]) -> BTreeMap<String, String> {
        let mut arguments = vec!["--json", "gauge", OWN];
        arguments.extend(more.iter().map(String::as_str));
        let lines = self.user.json(&arguments);
        let word = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (
                text("cve"),
                format!("{} {}", text("verdict"), text("reason")),
            )
        };
        lines.iter().map(word).collect()
    }

    /// The same of `export csv`.
    fn csv(&self, more: &[String]) -> BTreeMap<String, String> {
        let mut arguments = vec!["export", "csv", "--kernel", OWN];
        arguments.extend(more.iter().map(String::as_str));
        let text = self.user.text(&arguments);
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().unwrap().split(',').collect();
        let at = |name: &str| head.iter().position(|it| *it == name).unwrap();
        let (cve, verdict, reason) = (at("cve"), at("verdict"), at("reason"));
        // No text of this feed has a comma.
        lines
            .map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                (
                    cells[cve].to_owned(),
                    format!("{} {}", cells[verdict], cells[reason]),
                )
            })
            .collect()
    }

    /// The statuses of `export vex`.
    fn vex(&self, more: &[String]) -> BTreeMap<String, String> {
        let mut arguments = vec!["export", "vex", "--kernel", OWN];
        arguments.extend(more.iter().map(String::as_str));
        let document: Value = serde_json::from_str(&self.user.text(&arguments)).unwrap();
        let word = |statement: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&statement["vulnerability"]["name"]),
                text(&statement["status"]),
            )
        };
        let statements = document["statements"].as_array().unwrap();
        statements.iter().map(word).collect()
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The VEX status that a verdict has, by rules of its own.
fn status(verdict: &str) -> &'static str {
    match verdict.trim_end() {
        "affected" => "affected",
        "not-affected carries" => "fixed",
        "not-affected not-built" => "not_affected",
        unknown if unknown.starts_with("unknown") => "under_investigation",
        other => panic!("{other}"),
    }
}

#[test]
fn exports_say_of_every_cve_what_gauge_says() {
    let bench = Bench::new();
    for looking in [Vec::new(), bench.looking()] {
        let gauge = bench.gauge(&looking);
        assert_eq!(gauge.len(), 6);
        assert_eq!(bench.csv(&looking), gauge, "{looking:?}");
        let expected: BTreeMap<String, String> = gauge
            .iter()
            .map(|(cve, verdict)| (cve.clone(), status(verdict).to_owned()))
            .collect();
        assert_eq!(bench.vex(&looking), expected, "{looking:?}");
        let mut arguments = vec!["export", "osv", "--kernel", OWN];
        arguments.extend(looking.iter().map(String::as_str));
        for record in bench.user.json(&arguments) {
            let kernel = &record["database_specific"]["kernel"];
            let text = |key: &str| kernel[key].as_str().unwrap_or_default().to_owned();
            let id = record["id"].as_str().unwrap();
            assert_eq!(gauge[id], format!("{} {}", text("verdict"), text("reason")));
        }
    }
    let looked = bench.gauge(&bench.looking());
    let expected = [
        "not-affected carries",
        "affected ",
        "not-affected carries",
        "not-affected not-built",
    ];
    let found: Vec<&str> = looked.values().take(4).map(String::as_str).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_was_changed_after_the_kernel_was_added_decides_nothing() {
    let bench = Bench::new();
    let looking = bench.looking();
    let before = bench.gauge(&looking);
    // Somebody patches the tree and does not build it.
    fs::write(bench.tree().join("net/1001.c"), FIXED).unwrap();
    fs::write(bench.tree().join("net/1003.c"), FIXED).unwrap();
    let after = bench.gauge(&looking);
    assert_eq!(after["CVE-2024-1001"], "unknown no-source");
    // What was not compiled is not there, whatever its source says now.
    for cve in ["CVE-2024-1000", "CVE-2024-1002", "CVE-2024-1003"] {
        assert_eq!(after[cve], before[cve]);
    }
    let story = bench.user.run(
        &[
            &["gauge", OWN, "--cve", "CVE-2024-1001"][..],
            &looking.iter().map(String::as_str).collect::<Vec<_>>(),
        ]
        .concat(),
    );
    assert_eq!(story.status.code(), Some(4));
    let told = String::from_utf8_lossy(&story.stdout).replace('\n', " ");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("net/1001.c was changed after the kernel was added"),
        "{told}"
    );
    let output = bench.user.run(&["kernel", "add", &bench.spec()]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    assert_eq!(
        bench.gauge(&looking)["CVE-2024-1001"],
        "not-affected carries"
    );
}

#[test]
fn a_git_kernels_history_is_asked_by_every_command() {
    let bench = Bench::new();
    let mut kernel = profile::load(&bench.user.home(), &OWN.parse().unwrap()).unwrap();
    let commit = GitId::from_bytes([0x55; 20]);
    kernel.git = Some(GitOrigin {
        repository: "https://example.org/linux.git".to_owned(),
        commit,
    });
    profile::save(&bench.user.home(), &kernel).unwrap();
    let story = || {
        let output = bench.user.run(&["gauge", OWN, "--cve", "CVE-2024-1001"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    // Its history was not kept, which is told.
    let (code, text) = story();
    assert_eq!(code, Some(3));
    assert!(text.contains("no-history"), "{text}");
    // A commit of it is the backport of what every record names as the fix.
    let mut builder = Builder::default();
    let message = format!("net: fix\n\n[ Upstream commit {} ]\n", "3".repeat(40));
    let logged = Logged {
        id: commit,
        tree: commit,
        parents: &[],
        message: &message,
    };
    builder.take(&logged).unwrap();
    history::save(
        &bench.user.home(),
        &kernel.id,
        &builder.finish(false).unwrap(),
    )
    .unwrap();
    let (code, text) = story();
    // The history alone does not show that the fix still stands.
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("the history of"), "{text}");
    let gauge = bench.gauge(&[]);
    assert_eq!(bench.csv(&[]), gauge);
    let told = ["unknown no-fix-diff", "not-affected not-built"];
    assert!(
        gauge
            .values()
            .all(|verdict| told.contains(&verdict.as_str())),
        "{gauge:?}"
    );
    // One of another commit is not believed.
    kernel.git = Some(GitOrigin {
        repository: String::new(),
        commit: GitId::from_bytes([0x66; 20]),
    });
    profile::save(&bench.user.home(), &kernel).unwrap();
    assert_eq!(story().0, Some(3));
}

#[test]
fn the_kernel_of_the_other_tests_is_judged_alike() {
    let bench = Bench::new();
    bench.user.add_kernel("6.1.10");
    let lines = bench.user.json(&["--json", "gauge", KERNEL]);
    assert_eq!(lines.len(), 6);
    assert!(!bench.feed.tip().is_empty());
}
