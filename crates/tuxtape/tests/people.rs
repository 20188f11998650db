//! What people read and decide: `cve rank`, `show`, `decide` and `decisions`.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod feed;
#[path = "support/user.rs"]
mod user;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use user::{KERNEL, User, talk};

/// A feed with a netfilter bug that was corrected later, a driver's, and two without words.
fn scanned() -> (User, feed::Feed) {
    let user = User::new();
    let mut feed = feed::Feed::new(user.folder.path(), 4);
    let mut change = |number: u32, pairs: &[(&str, &str)]| {
        let name = format!("cve/published/2024/CVE-2024-{number}.json");
        let mut text = String::from_utf8(feed.files[&name].clone()).unwrap();
        for (from, to) in pairs {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        feed.files.insert(name, text.into_bytes());
    };
    change(
        1000,
        &[
            (
                "net: fix 1000",
                "netfilter: nf_tables: fix use-after-free of a set on a failed commit",
            ),
            (
                "text of 1000",
                "In the Linux kernel, the following vulnerability has been resolved:\\n\\nA set that is \
                 still bound is freed when the commit fails, which KASAN sees as a use-after-free.\\n\\n \
                 nft_set_destroy+0x1a/0x40\\n nf_tables_commit+0x9c/0x210\\n\\nKeep it until the bindings \
                 are gone.",
            ),
        ],
    );
    change(
        1001,
        &[(
            "net: fix 1001",
            "drm/example: fix null pointer dereference in probe",
        )],
    );
    feed.commit();
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    (user, feed)
}

/// Replaces the present day, which decisions carry.
fn without_today(text: &str) -> String {
    let now = jiff::Timestamp::now().to_string();
    text.replace(now.get(..10).unwrap(), "TODAY")
}

#[test]
fn a_ranking_reads_as_a_table() {
    let (user, _feed) = scanned();
    user.text(&[
        "cve",
        "decide",
        "CVE-2024-1002",
        "--defer",
        "--until",
        "2199-01-01",
        "--why",
        "no reproducer",
        "--who",
        "ann",
    ]);
    let screen = |columns: &str, locale: &str| {
        let output = user
            .command(&["cve", "rank", "--kernel", KERNEL])
            .env("COLUMNS", columns)
            .env("LC_ALL", locale)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    insta::assert_snapshot!("rank_wide", screen("150", "C.UTF-8"));
    let narrow = screen("100", "C");
    insta::assert_snapshot!("rank_narrow_ascii", narrow);
    assert!(narrow.is_ascii());
    assert!(
        narrow.lines().skip(3).all(|line| line.len() <= 100),
        "{narrow}"
    );
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    let (user, _feed) = scanned();
    let escapes = |arguments: &[&str]| user.text(arguments).contains('\u{1b}');
    assert!(!escapes(&["cve", "rank"]));
    assert!(escapes(&["cve", "rank", "--color", "always"]));
    assert!(escapes(&[
        "cve",
        "show",
        "CVE-2024-1000",
        "--color",
        "always"
    ]));
    assert!(!escapes(&["cve", "show", "CVE-2024-1000"]));
}

#[test]
fn a_record_reads_like_a_page() {
    let (user, _feed) = scanned();
    user.text(&[
        "cve",
        "decide",
        "CVE-2024-1000",
        "--accept",
        "--why",
        "reachable by every user",
        "--who",
        "ann",
    ]);
    let output = user
        .command(&["cve", "show", "CVE-2024-1000", "--kernel", KERNEL])
        .env("COLUMNS", "90")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    insta::assert_snapshot!("show", without_today(&text));
}

#[test]
fn a_record_for_programs_keeps_its_first_fields() {
    let (user, _feed) = scanned();
    let shown = user
        .json(&["cve", "show", "CVE-2024-1000", "--json", "--kernel", KERNEL])
        .remove(0);
    for field in [
        "cve",
        "state",
        "title",
        "description",
        "files",
        "cvss",
        "spans",
        "inconsistent",
        "rejection",
        "stale",
        "feed_commit",
    ] {
        assert!(shown.get(field).is_some(), "{field}");
    }
    assert_eq!(shown["branches"][1]["branch"], "6.1");
    assert_eq!(
        shown["branches"][1]["windows"][0]["fixed"]["version"],
        "6.1.20"
    );
    assert_eq!(shown["branches"][1]["horizon"], "6.1.20");
    assert_eq!(shown["kernel"]["verdict"], "affected");
    let factors = shown["factors"].as_array().unwrap();
    let sum: i64 = factors
        .iter()
        .map(|it| it["points"].as_i64().unwrap())
        .sum();
    assert_eq!(shown["points"], sum);
    assert!(
        shown["links"][0]
            .as_str()
            .unwrap()
            .ends_with("CVE-2024-1000")
    );
}

#[test]
fn a_ranking_can_be_narrowed() {
    let (user, _feed) = scanned();
    let ids = |arguments: &[&str]| -> Vec<String> {
        let mut all = vec!["cve", "rank", "--json"];
        all.extend(arguments);
        let lines = user.json(&all);
        lines
            .iter()
            .map(|line| line["cve"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = ids(&[]);
    assert_eq!(all.len(), 4);
    assert_eq!(all[0], "CVE-2024-1000");
    assert_eq!(ids(&["--limit", "1"]), ["CVE-2024-1000"]);
    assert_eq!(ids(&["--band", "act"]), ["CVE-2024-1000"]);
    let rest = ids(&["--band", "attend", "--band", "track"]);
    assert_eq!((rest.len(), rest.contains(&all[0])), (3, false));
    let points = |model: &str| {
        user.json(&["cve", "rank", "--json", "--limit", "1", "--model", model])[0]["points"].clone()
    };
    assert_ne!(points("userns"), points("network"));
    for bad in [
        ["--model", "space"],
        ["--band", "soon"],
        ["--color", "pink"],
    ] {
        let output = user.run(&["cve", "rank", bad[0], bad[1]]);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
    let policy = user.folder.path().join("policy.toml");
    fs::write(&policy, "format = 1\nsurprise = 1\n").unwrap();
    let output = user.run(&["cve", "rank", "--policy", policy.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(talk(&output).contains("policy line 2"), "{}", talk(&output));
}

#[test]
fn what_is_ignored_is_hidden_and_counted() {
    let (user, _feed) = scanned();
    user.text(&[
        "cve",
        "decide",
        "CVE-2024-1000",
        "--ignore",
        "--kernel",
        KERNEL,
        "--why",
        "no users here",
        "--who",
        "ann",
    ]);
    let with = |more: &[&str]| {
        let mut all = vec!["cve", "rank"];
        all.extend(more);
        user.text(&all)
    };
    // Decided for one kernel, it stands for the others.
    assert!(with(&[]).contains("CVE-2024-1000"));
    let hidden = with(&["--kernel", KERNEL]);
    assert!(!hidden.contains("CVE-2024-1000"), "{hidden}");
    assert!(hidden.contains("1 ignored by decision (--all)"), "{hidden}");
    let shown = with(&["--kernel", KERNEL, "--all"]);
    assert!(
        shown.contains("CVE-2024-1000") && shown.contains("ignore"),
        "{shown}"
    );
}

#[test]
fn a_decision_is_shown_wherever_the_cve_is() {
    let (user, _feed) = scanned();
    user.text(&[
        "cve",
        "decide",
        "CVE-2024-1000",
        "--accept",
        "--why",
        "reachable by all",
        "--who",
        "ann",
    ]);
    let shown = &user.json(&["cve", "show", "CVE-2024-1000", "--json"])[0]["decision"];
    assert_eq!(
        (&shown["choice"], &shown["who"]),
        (&"accept".into(), &"ann".into())
    );
    assert_eq!(
        (&shown["why"], &shown["until"]),
        (&"reachable by all".into(), &Value::Null)
    );
    let ranked = &user.json(&["cve", "rank", "--json", "--limit", "1"])[0]["decision"];
    assert_eq!(ranked, shown);
    let gauged = &user.json(&["gauge", KERNEL, "--json"])[0]["decision"];
    assert_eq!(gauged, shown);
    let gauge = user.run(&["gauge", KERNEL, "--cve", "CVE-2024-1000"]);
    assert!(
        String::from_utf8(gauge.stdout)
            .unwrap()
            .contains("accept by ann")
    );
    let csv = user.text(&["export", "csv"]);
    assert!(csv.contains(",accept,,ann,reachable by all\r\n"), "{csv}");
    let vex = user.text(&["export", "vex", "--kernel", KERNEL]);
    assert!(
        vex.contains("accepted for the next level by ann: reachable by all"),
        "{vex}"
    );
    let osv = user.text(&["export", "osv"]);
    assert!(
        osv.contains(r#""decision":{"choice":"accept","who":"ann""#),
        "{osv}"
    );
}

#[test]
fn the_history_of_decisions_is_kept() {
    let (user, _feed) = scanned();
    let decide = |arguments: &[&str]| {
        let mut all = vec!["cve", "decide", "CVE-2024-1000", "--who", "ann"];
        all.extend(arguments);
        user.text(&all)
    };
    let said = decide(&["--defer", "--until", "2d", "--why", "wait"]);
    assert!(
        said.starts_with("CVE-2024-1000  defer by ann for all kernels, until "),
        "{said}"
    );
    decide(&["--ignore", "--kernel", KERNEL, "--why", "no users"]);
    decide(&["--accept", "--why", "now"]);
    let list = |more: &[&str]| -> Vec<(String, String)> {
        let mut all = vec!["cve", "decisions", "--json"];
        all.extend(more);
        let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        let lines = user.json(&all);
        lines
            .iter()
            .map(|line| (word(line, "choice"), word(line, "state")))
            .collect()
    };
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    assert_eq!(
        list(&[]),
        pairs(&[("ignore", "holds"), ("accept", "holds")])
    );
    assert_eq!(
        list(&["CVE-2024-1000", "--all"]),
        pairs(&[
            ("defer", "replaced"),
            ("ignore", "holds"),
            ("accept", "holds")
        ])
    );
    assert_eq!(list(&["CVE-2024-1001", "--all"]), pairs(&[]));
}

#[test]
fn a_decision_needs_a_reason_and_a_future() {
    let (user, _feed) = scanned();
    let check = |arguments: &[&str], code: i32, words: &str| {
        let mut all = vec!["cve", "decide"];
        all.extend(arguments);
        let output = user
            .command(&all)
            .env("LOGNAME", "ann")
            .env_remove("SUDO_USER")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            talk(&output).contains(words),
            "{arguments:?}: {}",
            talk(&output)
        );
    };
    let id = "CVE-2024-1000";
    check(&[id, "--why", "x"], 2, "required");
    check(
        &[id, "--accept", "--ignore", "--why", "x"],
        2,
        "cannot be used with",
    );
    check(&[id, "--defer", "--why", "x"], 2, "--until");
    check(&[id, "--accept"], 2, "--why");
    check(
        &[id, "--accept", "--why", "x", "--until", "soon"],
        2,
        "want 2026-12-31 or 30d",
    );
    check(&[id, "--accept", "--why", " "], 1, "--why is empty");
    check(&[id, "--accept", "--why", "a\nb"], 1, "line ends");
    check(
        &[id, "--accept", "--why", "x", "--until", "2020-01-01"],
        1,
        "not in the future",
    );
    check(
        &[id, "--accept", "--why", "x", "--until", "0d"],
        1,
        "not in the future",
    );
    check(
        &["CVE-2024-9999", "--accept", "--why", "x"],
        1,
        "has no CVE-2024-9999",
    );
    check(
        &[id, "--accept", "--why", "x", "--kernel", "6.1.0-2-test"],
        1,
        "has not been added",
    );
    assert!(user.run(&["cve", "decisions", "--all"]).stdout.is_empty());
    check(&[id, "--accept", "--why", "x"], 0, "");
    assert_eq!(user.json(&["cve", "decisions", "--json"])[0]["who"], "ann");
}

#[test]
fn a_clone_answers_as_the_store_does() {
    let user = User::new();
    let mut feed = feed::Feed::new(user.folder.path(), 3);
    feed.publish(1001, "6.1.5");
    feed.move_record(1002, "published", "rejected");
    feed.files.insert(
        "cve/published/2024/CVE-2024-1000.dyad".to_owned(),
        b"a:b\n".to_vec(),
    );
    feed.publish(1003, "6.1.30");
    feed.commit();
    let folder = feed.folder.to_str().unwrap();
    let bundle = user.folder.path().join("feed.bundle");
    let bundle = bundle.to_str().unwrap();
    feed::git(&["bundle", "create", "-q", bundle, "master"], &feed.folder);
    for source in [folder, bundle] {
        let answer = user
            .json(&["cve", "affected", "6.1.10", "--json", "--feed", source])
            .remove(0);
        assert_eq!(
            answer["cves"],
            serde_json::json!(["CVE-2024-1003"]),
            "{source}"
        );
        assert_eq!(answer["horizon"], "6.1.30");
        assert_eq!(answer["feed_commit"], feed.tip());
        assert_eq!(answer["skipped"][0]["cve"], "CVE-2024-1000");
    }
    // No store is made on the way.
    assert!(!user.home().join("store.sqlite").exists());
    let output = user.run(&[
        "cve",
        "affected",
        "6.1.10",
        "--feed",
        user.folder.path().to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("hint: give a folder with a clone"),
        "{}",
        talk(&output)
    );
}

#[test]
fn without_a_feed_every_question_says_what_to_run() {
    let user = User::new();
    for question in [
        &["cve", "rank"][..],
        &["cve", "show", "CVE-2024-1000"],
        &["cve", "decisions"],
        &[
            "cve",
            "decide",
            "CVE-2024-1000",
            "--accept",
            "--why",
            "x",
            "--who",
            "ann",
        ],
    ] {
        let output = user.run(question);
        assert_eq!(output.status.code(), Some(1), "{question:?}");
        assert_eq!(
            talk(&output),
            "error: there is no feed yet\nhint: run `tuxtape scan` first\n"
        );
    }
}

#[test]
fn corpus_a_bundle_alone_gives_every_expected_file() {
    let corpus = match user::corpus() {
        Ok(corpus) => corpus,
        Err(why) => {
            eprintln!("{why}");
            return;
        }
    };
    let user = User::new();
    let bundle = corpus.join("vulns/vulns.bundle");
    let mut compared = 0;
    for entry in fs::read_dir(corpus.join("vulns/expected")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let version = name.strip_prefix("affected-").unwrap();
        let answer = user.text(&[
            "cve",
            "affected",
            version,
            "--feed",
            bundle.to_str().unwrap(),
        ]);
        assert!(answer == fs::read_to_string(&path).unwrap(), "{version}");
        compared += 1;
    }
    assert!(compared > 0);
}

/// The kernel's base version lies on a branch that the feed knows, before all that it knows, and
/// beyond it.
#[test]
fn corpus_a_ranking_for_a_kernel_is_the_whole_one_without_what_it_has_not() {
    let corpus = match user::corpus() {
        Ok(corpus) => corpus,
        Err(why) => {
            eprintln!("{why}");
            return;
        }
    };
    let user = User::new();
    user.scan(&corpus.join("vulns/vulns.bundle"));
    let rank = ["cve", "rank", "--json", "--limit", "1000000"];
    let all = user.json(&rank);
    for base in ["6.1.170", "4.4.1", "6.18.400"] {
        user.add_kernel(base);
        let mut verdicts: BTreeMap<String, (Value, Value)> = BTreeMap::new();
        for line in user.json(&["gauge", KERNEL, "--json"]) {
            let cve = line["cve"].as_str().unwrap().to_owned();
            verdicts.insert(cve, (line["verdict"].clone(), line["reason"].clone()));
        }
        let expected: Vec<Value> = all
            .iter()
            .filter_map(|line| {
                let (verdict, reason) = verdicts.get(line["cve"].as_str()?)?.clone();
                let mut line = line.clone();
                line["verdict"] = verdict;
                if !reason.is_null() {
                    line["reason"] = reason;
                }
                (line["verdict"] != "not-affected").then_some(line)
            })
            .collect();
        let found = user.json(&[&rank[..], &["--kernel", KERNEL]].concat());
        assert!(!found.is_empty() && found.len() < all.len(), "{base}");
        assert!(found == expected, "{base}");
    }
}

#[test]
fn a_record_whose_return_cannot_be_read_is_ranked_as_unknown() {
    let user = User::new();
    let mut feed = feed::Feed::new(user.folder.path(), 250);
    feed.move_record(1000, "published", "rejected");
    feed.commit();
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    feed.move_record(1000, "rejected", "published");
    for number in [1000, 1500] {
        feed.publish(number, "6.1.20");
        let name = format!("cve/published/2024/CVE-2024-{number}.json");
        feed.files.insert(name, b"{".to_vec());
    }
    feed.commit();
    user.scan(&feed.folder);
    for kernel in [&["--kernel", KERNEL][..], &[]] {
        let ask = ["cve", "rank", "--limit", "500"];
        let page = user.text(&[&ask[..], kernel].concat());
        for line in [
            "unread CVE-2024-1000: .json: EOF while parsing",
            "unread CVE-2024-1500: .json: EOF while parsing",
        ] {
            assert!(page.contains(line), "{page}");
        }
        let ranked = user.json(&[&ask[..], kernel, &["--json"]].concat());
        let back = ranked.iter().find(|it| it["cve"] == "CVE-2024-1000");
        let verdict = back.unwrap().get("verdict").and_then(Value::as_str);
        assert_eq!(verdict, (!kernel.is_empty()).then_some("unknown"));
    }
    let rows = user.text(&["export", "csv", "--kernel", KERNEL]);
    let row = rows.lines().find(|row| row.starts_with("CVE-2024-1500,"));
    let row = row.unwrap();
    assert!(row.starts_with("CVE-2024-1500,unreadable,,"), "{row}");
    assert!(row.contains(&format!(",{KERNEL},unknown,")), "{row}");
    assert_eq!(row.split(',').count(), 20);
    let osv = user.run(&["export", "osv", "--kernel", KERNEL]);
    assert!(
        talk(&osv).contains("warning: unread CVE-2024-1500: "),
        "{}",
        talk(&osv)
    );
    let text = String::from_utf8(osv.stdout).unwrap();
    let back = text.lines().find(|line| line.contains("CVE-2024-1000"));
    let back: Value = serde_json::from_str(back.unwrap()).unwrap();
    assert!(back.get("withdrawn").is_none(), "{back}");
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    // More than is held back before it is written.
    let user = User::new();
    let feed = feed::Feed::new(user.folder.path(), 300);
    user.scan(&feed.folder);
    for arguments in [
        &["cve", "rank", "--json", "--limit", "300"][..],
        &["cve", "rank"],
        &["cve", "affected", "6.1.10", "--json"],
        &["export", "osv"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = user.command(arguments).stdout(writer).output().unwrap();
        assert!(!talk(&output).contains("error"), "{}", talk(&output));
    }
}
