use std::fs;

use tuxtape_core::cve::State;
use tuxtape_core::profile::functions::UnitFunctions;

use super::*;
use crate::debian::version::DebianVersion;

const BEFORE: &str = "\
static int do_work(struct device *dev)
{
	struct thing *thing = to_thing(dev);

	start_it(thing, dev->id);
	stop_it(thing, dev->id);
	log_it(thing, dev->name);
	return 0;
}
";

const FIX: &str = "\
--- a/net/x/x.c
+++ b/net/x/x.c
@@ -2,6 +2,8 @@ static int do_work(struct device *dev)
 {
 \tstruct thing *thing = to_thing(dev);
 
+\tif (!thing->is_ready)
+\t\treturn -EAGAIN;
 \tstart_it(thing, dev->id);
 \tstop_it(thing, dev->id);
 \tlog_it(thing, dev->name);
";

fn after() -> String {
    BEFORE.replace(
        "\tstart_it",
        "\tif (!thing->is_ready)\n\t\treturn -EAGAIN;\n\tstart_it",
    )
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = top.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    top
}

fn record() -> Cve {
    Cve {
        id: "CVE-2026-0001".parse().unwrap(),
        state: State::Published,
        title: "x: check it".to_owned(),
        description: String::new(),
        files: vec!["net/x/x.c".to_owned()],
        cvss: None,
        references: Vec::new(),
        mainline_fixes: Vec::new(),
        spans: Vec::new(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    }
}

fn diff(text: &str) -> FixDiff<'_> {
    FixDiff {
        origin: "commit 1",
        text: text.as_bytes(),
        whole: None,
        is_part: false,
        tie: &Tie::Commit,
    }
}

fn word(carried: &Carried) -> &'static str {
    match carried {
        Carried::NotLooked { gap, .. } => gap.as_str(),
        Carried::Yes(_) => "yes",
        Carried::No(_) => "no",
        Carried::Partial(_) => "partial",
    }
}

#[track_caller]
fn check(files: &[(&str, &str)], diffs: &[&str], expected: &str) -> Content {
    let top = tree(files);
    let diffs: Vec<FixDiff<'_>> = diffs.iter().map(|text| diff(text)).collect();
    let content = Looker::new(top.path(), None).look(&record(), &diffs);
    assert_eq!(word(&content.carried), expected, "{content:?}");
    content
}

#[test]
fn both_sides_are_told_with_places_that_grep_finds() {
    let content = check(&[("net/x/x.c", &after())], &[FIX], "yes");
    let Carried::Yes(seen) = content.carried else {
        unreachable!("checked above")
    };
    assert_eq!(
        seen.places,
        ["net/x/x.c:5 do_work() as after the fix: `if (!thing->is_ready)`"]
    );
    check(&[("net/x/x.c", BEFORE)], &[FIX], "no");
    let reworded = after().replace("!thing->is_ready", "thing->state");
    check(&[("net/x/x.c", &reworded)], &[FIX], "partial");
}

#[test]
fn code_is_found_where_mainline_moved_it() {
    let top = tree(&[("fs/smb/client/x.c", &after())]);
    let record = Cve {
        files: vec!["fs/cifs/x.c".to_owned()],
        ..record()
    };
    let fix = FIX.replace("net/x/", "fs/cifs/");
    let content = Looker::new(top.path(), None).look(&record, &[diff(&fix)]);
    assert_eq!(word(&content.carried), "yes");
    assert_eq!(content.moved["fs/cifs/x.c"], "fs/smb/client/x.c");
}

#[test]
fn a_namesake_shows_no_fix_and_stands_in_for_no_file() {
    let (there, table) = (after(), FunctionTable::default());
    for (files, expected) in [
        // A twin that was fixed says nothing of the file that is not here.
        (&[("net/y/x.c", there.as_str())][..], "partial"),
        (&[("net/y/x.c", BEFORE)], "no"),
        (&[("net/y/x.c", BEFORE), ("net/z/x.c", BEFORE)], "partial"),
        (&[("net/y/x.c", &there), ("net/z/x.c", BEFORE)], "no"),
        (&[("net/y/x.c", "int other;\n")], "partial"),
        (&[("net/y/y.c", &there)], "partial"),
    ] {
        let content = check(files, &[FIX], expected);
        assert!(content.moved.is_empty(), "{content:?}");
        let top = tree(files);
        let content = Looker::new(top.path(), Some(&table)).look(&record(), &[diff(FIX)]);
        assert!(
            matches!(content.functions, Functions::Unclear { .. }),
            "{content:?}"
        );
    }
}

#[test]
fn the_first_diff_that_decides_wins_unless_another_contradicts() {
    let elsewhere = FIX
        .replace("start_it", "begin_it")
        .replace("to_thing", "as_thing");
    check(&[("net/x/x.c", &after())], &[&elsewhere, FIX], "yes");
    check(&[("net/x/x.c", BEFORE)], &[&elsewhere, FIX], "no");
    let undone = "--- a/net/x/x.c\n+++ b/net/x/x.c\n@@ -6,3 +6,4 @@ static int do_work(struct device *dev)\n \tstart_it(thing, dev->id);\n+\tcheck_it(thing, dev->id);\n \tstop_it(thing, dev->id);\n \tlog_it(thing, dev->name);\n";
    check(&[("net/x/x.c", &after())], &[FIX, undone], "partial");
}

#[test]
fn without_a_readable_diff_or_a_tree_nobody_looked() {
    check(&[("net/x/x.c", BEFORE)], &[], "no-fix-diff");
    check(&[("net/x/x.c", BEFORE)], &["<html>"], "no-fix-diff");
    let content = Looker::new(Path::new("/nonexistent"), None).look(&record(), &[diff(FIX)]);
    assert_eq!(word(&content.carried), "no-source");
}

#[test]
fn a_diff_that_touches_no_file_of_the_record_is_no_diff_of_its_fix() {
    let other = FIX.replace("net/x/x.c", "net/z/z.c");
    let there = after();
    let files = [("net/z/z.c", there.as_str()), ("net/x/x.c", BEFORE)];
    let content = check(&files, &[&other], "no-fix-diff");
    assert!(
        content.carried.found().contains("the record names"),
        "{content:?}"
    );
    assert!(matches!(content.functions, Functions::NotLooked { .. }));
    // Beside one that fits it says nothing.
    check(&files, &[&other, FIX], "no");
    // A record names files as mainline has them now.
    let old = FIX.replace("net/x/x.c", "fs/cifs/x.c");
    let top = tree(&[("fs/cifs/x.c", &there)]);
    let record = Cve {
        files: vec!["fs/smb/client/x.c".to_owned()],
        ..record()
    };
    let content = Looker::new(top.path(), None).look(&record, &[diff(&old)]);
    assert_eq!(word(&content.carried), "yes");
    let beside = Unfixed {
        tree: top.path(),
        name: "6.1.170-3",
    };
    let content = Looker::new(top.path(), None).look_beside(&record, &[diff(FIX)], beside);
    assert_eq!(word(&content.carried), "no-fix-diff");
}

#[test]
fn a_fix_with_a_file_that_is_not_judged_is_not_known_to_be_there() {
    let with = |path: &str| {
        format!(
            "{FIX}--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,3 @@\n one_of_it(some, thing)\n+two_of_it(some, thing)\n six_of_it(some, thing)\n"
        )
    };
    let (there, table) = (after(), FunctionTable::default());
    for path in [
        "net/x/Kconfig",
        "net/x/Makefile",
        "net/x/Kbuild",
        "arch/arm64/boot/dts/x/x.dts",
        "rust/kernel/x.rs",
        "net/x/x.S",
        "scripts/x.sh",
    ] {
        let fix = with(path);
        let held = [
            ("net/x/x.c", there.as_str()),
            (path, "one_of_it(some, thing)\nsix_of_it(some, thing)\n"),
        ];
        let content = check(&held, &[&fix], "partial");
        assert!(content.carried.found().contains(path), "{content:?}");
        let content = Looker::new(tree(&held).path(), Some(&table)).look(&record(), &[diff(&fix)]);
        assert!(
            !matches!(content.functions, Functions::Absent { .. }),
            "{content:?}"
        );
    }
    check(&[("net/x/x.c", BEFORE)], &[&with("net/x/Kconfig")], "no");
    for path in ["Documentation/x.rst", "tools/x/Makefile"] {
        check(&[("net/x/x.c", &there)], &[&with(path)], "yes");
    }
}

#[test]
fn a_part_of_a_fix_alone_shows_no_fix() {
    let part = FixDiff {
        is_part: true,
        ..diff(FIX)
    };
    let table = FunctionTable::default();
    for (text, expected) in [(after().as_str(), "partial"), (BEFORE, "no")] {
        let top = tree(&[("net/x/x.c", text)]);
        let looker = Looker::new(top.path(), Some(&table));
        let content = looker.look(&record(), &[part]);
        assert_eq!(word(&content.carried), expected);
        assert!(matches!(content.functions, Functions::Unclear { .. }));
    }
}

#[test]
fn a_diff_that_nothing_ties_to_the_cve_shows_no_fix() {
    let untied = Tie::Untied {
        why: "nothing but the name of its file ties it to the CVE".to_owned(),
    };
    let named = FixDiff {
        tie: &untied,
        ..diff(FIX)
    };
    for (text, expected) in [(after().as_str(), "partial"), (BEFORE, "no")] {
        let top = tree(&[("net/x/x.c", text)]);
        let looker = Looker::new(top.path(), None);
        let content = looker.look(&record(), &[named]);
        assert_eq!(word(&content.carried), expected);
        if expected == "partial" {
            assert!(content.carried.found().contains("name of its file"));
        }
        // Beside one that is tied it says nothing more.
        let content = looker.look(&record(), &[named, diff(FIX)]);
        let expected = if expected == "no" { "no" } else { "yes" };
        assert_eq!(word(&content.carried), expected);
    }
}

#[test]
fn whole_files_tell_what_lines_do_not() {
    let whole = |text: &str| -> String {
        let mut diff = "--- a/net/x/x.c\n+++ b/net/x/x.c\n@@ -1,9 +1,11 @@\n".to_owned();
        for line in text.lines() {
            let is_new = line.contains("is_ready") || line.contains("EAGAIN");
            diff.push_str(if is_new { "+" } else { " " });
            diff.push_str(line);
            diff.push('\n');
        }
        diff
    };
    // Its lines are there, and another path leads by them.
    let by = after()
        .replace("\tif (!thing", "\tif (thing->is_old) {\n\tif (!thing")
        .replace("EAGAIN;\n", "EAGAIN;\n\t}\n");
    let whole = whole(&after());
    for (text, expected) in [(after().as_str(), "yes"), (BEFORE, "no"), (&by, "partial")] {
        let top = tree(&[("net/x/x.c", text)]);
        let shown = FixDiff {
            whole: Some(whole.as_bytes()),
            ..diff(FIX)
        };
        let content = Looker::new(top.path(), None).look(&record(), &[shown]);
        assert_eq!(word(&content.carried), expected, "{content:?}");
    }
}

#[test]
fn a_link_out_of_the_tree_is_no_file_of_it() {
    let outside = tree(&[("x.c", &after())]);
    let top = tree(&[("net/x/y.c", "int a;\n")]);
    std::os::unix::fs::symlink(outside.path().join("x.c"), top.path().join("net/x/x.c")).unwrap();
    let content = Looker::new(top.path(), None).look(&record(), &[diff(FIX)]);
    assert_eq!(word(&content.carried), "partial");
    std::os::unix::fs::symlink(outside.path(), top.path().join("net/z")).unwrap();
    let linked = Cve {
        files: vec!["net/z/x.c".to_owned()],
        ..record()
    };
    let content =
        Looker::new(top.path(), None).look(&linked, &[diff(&FIX.replace("net/x/", "net/z/"))]);
    assert_eq!(word(&content.carried), "partial");
}

#[test]
fn a_changelog_is_a_hint_and_never_decides() {
    let reworded = after().replace("!thing->is_ready", "thing->state");
    let judge = |text: &str, log: &str, diffs: &[FixDiff<'_>]| {
        let log = format!("linux (6.1.170-1) x; urgency=low\n\n  * Stable:\n    - {log}\n");
        let changelog = Changelog::read(&log, &DebianVersion::new("6.1.176-1"));
        let top = tree(&[("net/x/x.c", text)]);
        let looker = Looker::new(top.path(), None).with_changelog(&changelog);
        looker.look(&record(), diffs).carried
    };
    let fix = [diff(FIX)];
    let named = "x: check it (CVE-2026-0001)";
    for (diffs, expected) in [(&fix[..], "partial"), (&[], "no-fix-diff")] {
        let carried = judge(&reworded, named, diffs);
        assert_eq!(word(&carried), expected);
        assert!(carried.found().contains("look at it"), "{carried:?}");
    }
    for other in [
        "Revert the fix of CVE-2026-0001",
        "drop the patch for CVE-2026-0001",
        "y: fix a regression of CVE-2026-0001",
        "not affected by CVE-2026-0001",
    ] {
        let carried = judge(&reworded, other, &[]);
        assert_eq!(word(&carried), "no-fix-diff");
        assert!(!carried.found().contains("changelog"), "{carried:?}");
    }
    assert_eq!(word(&judge(&after(), named, &fix)), "yes");
    assert_eq!(word(&judge(BEFORE, named, &fix)), "no");
    let titled = judge(&reworded, "x: check it", &fix);
    assert_eq!(word(&titled), "partial");
    assert!(titled.found().contains("look at it"), "{titled:?}");
    let reverted = "x: check it (CVE-2026-0001)\n    - Revert \"x: check it\"";
    assert_eq!(word(&judge(&reworded, reverted, &fix)), "partial");
}

#[test]
fn files_that_equal_those_of_an_unfixed_kernel_are_unfixed() {
    let reworded = after().replace("!thing->is_ready", "thing->state");
    for (own, other, expected) in [
        (reworded.as_str(), reworded.as_str(), "no"),
        (&reworded, BEFORE, "partial"),
        // One of the two is wrong.
        (&after(), &after(), "partial"),
    ] {
        let (top, unfixed) = (tree(&[("net/x/x.c", own)]), tree(&[("net/x/x.c", other)]));
        let unfixed = Unfixed {
            tree: unfixed.path(),
            name: "6.1.170-3",
        };
        let content = Looker::new(top.path(), None).look_beside(&record(), &[diff(FIX)], unfixed);
        assert_eq!(word(&content.carried), expected);
    }
}

#[test]
fn functions_are_looked_up_by_what_this_tree_has_at_the_change() {
    let table = |unit: &str, own: &[&str]| FunctionTable {
        units: [(
            unit.to_owned(),
            UnitFunctions {
                own: own.iter().map(|name| (*name).to_owned()).collect(),
                ..UnitFunctions::default()
            },
        )]
        .into(),
    };
    let look = |text: &str, fix: &str, table: &FunctionTable| {
        let top = tree(&[("net/x/x.c", text)]);
        let content = Looker::new(top.path(), Some(table)).look(&record(), &[diff(fix)]);
        match content.functions {
            Functions::NotLooked { .. } => "not looked",
            Functions::Skipped { .. } => "skipped",
            Functions::Present { .. } => "present",
            Functions::Absent { .. } => "absent",
            Functions::Unclear { .. } => "unclear",
        }
    };
    let with = table("net/x/x.c", &["do_work"]);
    let without = table("net/x/x.c", &["other"]);
    assert_eq!(look(BEFORE, FIX, &with), "present");
    assert_eq!(look(BEFORE, FIX, &without), "absent");
    assert_eq!(look(BEFORE, FIX, &table("net/y/y.c", &[])), "unclear");
    // What is compiled has another name.
    let renamed = format!("#define do_work x_do_work\n{BEFORE}");
    assert_eq!(look(&renamed, FIX, &without), "unclear");
    // The name is not of this source: the same code may have another one.
    let other = BEFORE
        .replace("start_it", "go")
        .replace("to_thing", "as_thing");
    assert_eq!(look(&other, FIX, &without), "unclear");
    let data = format!(
        "{FIX}--- a/net/x/x.h\n+++ b/net/x/x.h\n@@ -1,2 +1,3 @@\n extern int one_of_it(int a);\n+extern int two_of_it(int a);\n extern int six_of_it(int a);\n"
    );
    let top = tree(&[
        ("net/x/x.c", BEFORE),
        (
            "net/x/x.h",
            "extern int one_of_it(int a);\nextern int six_of_it(int a);\n",
        ),
    ]);
    let content = Looker::new(top.path(), Some(&without)).look(&record(), &[diff(&data)]);
    assert!(
        matches!(content.functions, Functions::Skipped { .. }),
        "{content:?}"
    );
}

#[test]
fn garbled_diffs_texts_and_changelogs_are_read_or_refused() {
    type Seed = (&'static [u8], fn(&[u8]));
    let seeds: [Seed; 5] = [
        (include_bytes!("../../../../fuzz/seeds/carried/small"), fuzz),
        (include_bytes!("../../../../fuzz/seeds/carried/whole"), fuzz),
        (
            include_bytes!("../../../../fuzz/seeds/changelog/small"),
            changelog::fuzz,
        ),
        (
            include_bytes!("../../../../fuzz/seeds/c_text/small"),
            tuxtape_core::ctext::fuzz,
        ),
        (
            include_bytes!("../../../../fuzz/seeds/c_text/outline"),
            tuxtape_core::ctext::fuzz,
        ),
    ];
    let mut state = 1_u64;
    for (seed, read) in seeds {
        read(seed);
        for _ in 0..6_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let [a, b, c, d, ..] = (state >> 16).to_le_bytes();
                let at = (usize::from(a) * 256 + usize::from(d)) % bytes.len();
                match c % 4 {
                    0 => bytes[at] = b,
                    1 if c > 250 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, b"{}()#\"'/*\\\n-+ "[usize::from(b) % 14]),
                    _ => bytes[at] = b"{}()#\"'/*\\\n-+ "[usize::from(b) % 14],
                }
            }
            read(&bytes);
        }
    }
}
