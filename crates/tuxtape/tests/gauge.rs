//! What people read of `gauge`: the funnel, the story, the table of several kernels.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod feed;
#[expect(dead_code, reason = "shared with the tests of other commands")]
#[path = "support/user.rs"]
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;

use tuxtape_core::applicability::loaded::{ModuleFacts, Modules};
use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::taken::{TakenIn, TakenInVersion};
use tuxtape_kernel::{aliases, profile};
use user::{KERNEL, User, talk};

const OTHER: &str = "6.1.0-2-test";

/// Two kernels of a feed with six records: one affects both, one the first alone, one is unknown.
fn scanned() -> (User, feed::Feed) {
    let user = User::new();
    let feed = feed::Feed::new(user.folder.path(), 6);
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    let mut kernel = profile::load(&user.home(), &KERNEL.parse().unwrap()).unwrap();
    let module = |name: &str| BTreeSet::from([ObjectName(name.to_owned())]);
    kernel.units.insert("net/1003.c".to_owned(), module("veth"));
    kernel
        .units
        .insert("net/1004.c".to_owned(), module("raw_thing"));
    profile::save(&user.home(), &kernel).unwrap();
    let facts = |aliases: &[&str]| ModuleFacts {
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        ..ModuleFacts::default()
    };
    let modules = Modules::from([
        (ObjectName("veth".to_owned()), facts(&["rtnl-link-veth"])),
        (ObjectName("raw_thing".to_owned()), facts(&[])),
    ]);
    aliases::save(&user.home(), &kernel.id, &modules).unwrap();
    kernel.id.release = OTHER.parse().unwrap();
    "6.1.30".clone_into(&mut kernel.base_version);
    kernel.units = BTreeMap::from([("net/1003.c".to_owned(), module("veth"))]);
    profile::save(&user.home(), &kernel).unwrap();
    (user, feed)
}

fn screen(
    (user, feed): &(User, feed::Feed),
    columns: &str,
    locale: &str,
    arguments: &[&str],
) -> String {
    let output = user
        .command(arguments)
        .env("COLUMNS", columns)
        .env("LC_ALL", locale)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!text.is_empty(), "{}", talk(&output));
    let folder = user.folder.path().display().to_string();
    let text = text.replace(&folder, "HERE");
    // The commit of a feed made here differs from run to run.
    text.replace(&feed.tip(), "TIP")
}

#[test]
fn one_kernel_is_a_funnel() {
    let both = scanned();
    let wide = screen(&both, "80", "C.UTF-8", &["gauge", KERNEL]);
    insta::assert_snapshot!("funnel", wide);
    let plain = screen(&both, "80", "C", &["gauge", KERNEL]);
    assert!(plain.is_ascii());
    for line in wide.lines().chain(plain.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let colours = ["gauge", KERNEL, "--color", "always"];
    insta::assert_snapshot!(
        "funnel_coloured",
        screen(&both, "80", "C.UTF-8", &colours).replace('\u{1b}', "ESC")
    );
}

#[test]
fn one_cve_is_a_story_with_commands() {
    let both = scanned();
    let (user, _) = &both;
    let story = ["gauge", KERNEL, "--cve", "CVE-2024-1003"];
    insta::assert_snapshot!("story", screen(&both, "80", "C.UTF-8", &story));
    let output = user.run(&story);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_story_asks_the_changelog_also_where_no_diffs_are_at_hand() {
    let (user, _feed) = scanned();
    let mut kernel = profile::load(&user.home(), &KERNEL.parse().unwrap()).unwrap();
    "linux-source-6.1 6.1.10-2".clone_into(&mut kernel.origin.source);
    profile::save(&user.home(), &kernel).unwrap();
    let docs = format!("cache/kernels/{KERNEL}/image/usr/share/doc/linux-image-{KERNEL}-unsigned");
    let docs = user.folder.path().join(docs);
    fs::create_dir_all(&docs).unwrap();
    for (entry, verdict, told) in [
        ("  * net: fix 1003", "unknown", true),
        ("  * Stable:\n    - net: fix 1003", "affected", true),
        ("  * net: fix 9", "affected", false),
    ] {
        let file = fs::File::create(docs.join("changelog.Debian.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        write!(packed, "linux (6.1.10-2) x; urgency=low\n\n{entry}\n").unwrap();
        packed.finish().unwrap();
        let output = user.run(&["gauge", KERNEL, "--cve", "CVE-2024-1003", "--json"]);
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["verdict"], verdict, "{entry}");
        let carried = line["evidence"].as_array().unwrap();
        let mut carried = carried.iter().filter(|it| it["step"] == "carried");
        let names = |it: &serde_json::Value| {
            let found = it["found"].as_str().unwrap();
            found.contains("changelog of 6.1.10-2")
        };
        assert_eq!(carried.any(names), told, "{line}");
    }
}

#[test]
fn what_the_distribution_took_in_is_the_same_in_every_form_of_the_answer() {
    let (user, _feed) = scanned();
    let cve = "CVE-2024-1003";
    let mut kernel = profile::load(&user.home(), &KERNEL.parse().unwrap()).unwrap();
    let of = |arguments: &[&str]| {
        let output = user.run(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        let line = lines.find(|line| line.contains(cve) && line.contains(KERNEL));
        let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
        (line["verdict"].clone(), line["reason"].clone())
    };
    let forms: [&[&str]; 3] = [
        &["gauge", KERNEL, "--json"],
        &["gauge", KERNEL, "--cve", cve, "--json"],
        &["gauge", "--all", "--json"],
    ];
    for form in forms {
        assert_eq!(of(form).0, "affected", "{form:?}");
    }
    kernel.taken_in = Some(TakenIn {
        versions: vec![TakenInVersion {
            version: "6.1.10-2".to_owned(),
            cves: BTreeSet::from([cve.parse().unwrap()]),
            titles: BTreeSet::new(),
        }],
        reverted: BTreeSet::new(),
    });
    profile::save(&user.home(), &kernel).unwrap();
    for form in forms {
        assert_eq!(
            of(form),
            ("unknown".into(), "no-fix-diff".into()),
            "{form:?}"
        );
    }
    let summary = user.json(&["gauge", KERNEL, "--summary", "--json"]);
    let text = summary.first().unwrap().to_string();
    assert!(text.contains("no-fix-diff"), "{text}");
}

#[test]
fn several_kernels_are_a_table() {
    let both = scanned();
    let table = screen(&both, "80", "C.UTF-8", &["gauge", "--all"]);
    insta::assert_snapshot!("table", table);
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let named = screen(&both, "80", "C.UTF-8", &["gauge", KERNEL, OTHER, KERNEL]);
    assert_eq!(named, table);
    let coloured = ["gauge", "--all", "--color", "always"];
    insta::assert_snapshot!(
        "table_coloured",
        screen(&both, "80", "C.UTF-8", &coloured).replace('\u{1b}', "ESC")
    );
    let csv = screen(&both, "80", "C.UTF-8", &["gauge", "--all", "--csv"]);
    insta::assert_snapshot!("table_csv", csv);
}

#[test]
fn programs_get_a_line_for_each_kernel_and_cve() {
    let both = scanned();
    let (user, _) = &both;
    let lines = user.json(&["gauge", "--all", "--json"]);
    assert_eq!(lines.len(), 12);
    let of = |kernel: &str, cve: &str| {
        let found = lines
            .iter()
            .find(|line| line["kernel"] == kernel && line["cve"] == cve);
        found.unwrap().clone()
    };
    let line = of(KERNEL, "CVE-2024-1003");
    assert_eq!(line["verdict"], "affected");
    assert_eq!(line["objects"], serde_json::json!(["veth"]));
    assert_eq!(line["loaded"], "autoload");
    // The second kernel's modules were not kept.
    assert_eq!(of(OTHER, "CVE-2024-1003").get("loaded"), None);
    let affected = user.json(&["gauge", KERNEL, "--only", "affected", "--json"]);
    assert!(!affected.is_empty());
    assert!(affected.iter().all(|line| line["verdict"] == "affected"));
    let all: Vec<_> = lines
        .iter()
        .filter(|line| line["kernel"] == KERNEL && line["verdict"] == "affected")
        .collect();
    assert_eq!(affected.iter().collect::<Vec<_>>(), all);
    let counts = user.json(&["gauge", "--all", "--summary", "--json"]);
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[0]["published"], 6);
    assert_eq!(counts[0]["affected"], all.len());
    assert_eq!(counts[0]["loaded"]["autoload"], 1);
}

#[test]
fn a_damaged_profile_does_not_hide_the_other_kernel() {
    let both = scanned();
    let (user, _) = &both;
    let path = user.home().join("kernels").join(OTHER).join("profile.json");
    fs::write(path, "{").unwrap();
    let output = user.run(&["gauge", "--all", "--summary", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains(KERNEL), "{text}");
    assert!(talk(&output).contains(OTHER), "{}", talk(&output));
}

#[test]
fn a_node_moves_the_urgency_and_never_the_verdict() {
    let both = scanned();
    let (user, _) = &both;
    let node = user.folder.path().join("node");
    fs::create_dir_all(node.join("etc/modprobe.d")).unwrap();
    fs::create_dir_all(node.join("proc")).unwrap();
    fs::write(node.join("proc/modules"), "raw_thing 1 0 - Live 0x0\n").unwrap();
    fs::write(
        node.join("etc/modprobe.d/no.conf"),
        "install veth /bin/false\n",
    )
    .unwrap();
    let node = node.to_str().unwrap();
    let ask = ["gauge", KERNEL, "--json"];
    let bare = user.json(&ask);
    let there = user.json(&[&ask[..], &["--node", node]].concat());
    let verdicts = |lines: &[serde_json::Value]| -> Vec<serde_json::Value> {
        lines.iter().map(|line| line["verdict"].clone()).collect()
    };
    assert_eq!(verdicts(&bare), verdicts(&there));
    let standing = |lines: &[serde_json::Value], cve: &str| {
        let line = lines.iter().find(|line| line["cve"] == cve);
        line.unwrap()["loaded"].clone()
    };
    for (cve, before, after) in [
        ("CVE-2024-1000", "loaded", "loaded"),
        ("CVE-2024-1003", "autoload", "blocked"),
        ("CVE-2024-1004", "root-only", "loaded"),
    ] {
        assert_eq!(standing(&bare, cve), before, "{cve}");
        assert_eq!(standing(&there, cve), after, "{cve}");
    }
    let text = user.text(&["gauge", KERNEL, "--node", node]);
    assert!(text.contains("blocked"), "{text}");
}

#[test]
fn a_damaged_list_of_modules_takes_no_verdict_away() {
    let both = scanned();
    let (user, _) = &both;
    let path = user
        .home()
        .join("kernels")
        .join(KERNEL)
        .join("modules.json");
    fs::write(path, "{\"format\":9}").unwrap();
    let output = user.run(&["gauge", KERNEL, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(talk(&output).contains("modules.json"), "{}", talk(&output));
}
