//! What other programs are given.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod feed;
#[path = "support/user.rs"]
mod user;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use user::{KERNEL, User};

/// A version as OSV orders it: numbers, and candidates before their release.
type Order = ([u32; 4], u32);

/// Reads a version by rules of its own, so that the export is not measured by itself.
fn order(text: &str) -> Order {
    let (numbers, candidate) = text
        .split_once("-rc")
        .map_or((text, u32::MAX), |(numbers, rc)| {
            (numbers, rc.parse().unwrap())
        });
    let mut parts = [0; 4];
    for (part, number) in parts.iter_mut().zip(numbers.split('.')) {
        *part = number.parse().unwrap();
    }
    (parts, candidate)
}

/// The evaluation algorithm of the OSV schema, for ranges of type ECOSYSTEM.
fn is_vulnerable(record: &Value, version: &str) -> bool {
    let version = order(version);
    let ranges = record["affected"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|affected| affected["ranges"].as_array().unwrap())
        .filter(|range| range["type"] == "ECOSYSTEM");
    let mut any = false;
    for range in ranges {
        let mut events: Vec<(Option<Order>, bool)> = range["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                let event = event.as_object().unwrap();
                assert_eq!(event.len(), 1);
                let (kind, value) = event.iter().next().unwrap();
                let value = value.as_str().unwrap();
                let at = (value != "0").then(|| order(value));
                match kind.as_str() {
                    "introduced" => (at, true),
                    "fixed" => (at, false),
                    other => panic!("unknown event {other}"),
                }
            })
            .collect();
        events.sort();
        let mut vulnerable = false;
        for (at, introduces) in events {
            if at.is_none_or(|at| version >= at) {
                vulnerable = introduces;
            }
        }
        any |= vulnerable;
    }
    any
}

/// Checks the rules of the OSV schema that a record of ours can break.
fn check_schema(record: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let is_instant = |value: &Value| {
        let text = text(value).unwrap();
        assert_eq!((text.len(), text.ends_with('Z')), (20, true), "{text}");
    };
    assert_eq!(record["schema_version"], "1.7.0");
    assert!(text(&record["id"]).unwrap().starts_with("CVE-"));
    is_instant(&record["modified"]);
    for optional in ["published", "withdrawn"] {
        if let Some(value) = record.get(optional) {
            is_instant(value);
        }
    }
    for severity in record["severity"].as_array().into_iter().flatten() {
        assert_eq!(severity["type"], "CVSS_V3");
        assert!(text(&severity["score"]).unwrap().starts_with("CVSS:3."));
    }
    for affected in record["affected"].as_array().into_iter().flatten() {
        assert_eq!(affected["package"]["ecosystem"], "Linux");
        assert_eq!(affected["package"]["name"], "Kernel");
        for range in affected["ranges"].as_array().unwrap() {
            let events = range["events"].as_array().unwrap();
            assert!(
                events.iter().any(|event| event.get("introduced").is_some()),
                "{record}"
            );
            assert_eq!(range.get("repo").is_some(), range["type"] == "GIT");
        }
    }
    for reference in record["references"].as_array().unwrap() {
        assert!(["ADVISORY", "FIX", "WEB"].contains(&reference["type"].as_str().unwrap()));
        assert!(text(&reference["url"]).unwrap().starts_with("http"));
    }
}

/// Checks the rules of the OpenVEX specification that a document of ours can break.
fn check_vex(document: &Value) {
    assert_eq!(document["@context"], "https://openvex.dev/ns/v0.2.0");
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let allowed = |value: &Value, allowed: &[&str]| {
        for key in keys(value) {
            assert!(allowed.contains(&key.as_str()), "{key}");
        }
    };
    allowed(
        document,
        &[
            "@context",
            "@id",
            "author",
            "role",
            "timestamp",
            "last_updated",
            "version",
            "tooling",
            "statements",
        ],
    );
    for required in ["@id", "author", "timestamp"] {
        assert!(
            document[required].as_str().is_some_and(|it| !it.is_empty()),
            "{required}"
        );
    }
    assert!(document["version"].as_u64().unwrap() >= 1);
    let statements = document["statements"].as_array().unwrap();
    assert!(!statements.is_empty());
    for statement in statements {
        allowed(
            statement,
            &[
                "vulnerability",
                "products",
                "status",
                "status_notes",
                "justification",
                "impact_statement",
                "action_statement",
            ],
        );
        allowed(
            &statement["vulnerability"],
            &["@id", "name", "description", "aliases"],
        );
        assert!(
            statement["vulnerability"]["name"]
                .as_str()
                .unwrap()
                .starts_with("CVE-")
        );
        let products = statement["products"].as_array().unwrap();
        assert!(!products.is_empty());
        for product in products {
            allowed(product, &["@id", "identifiers"]);
            assert_eq!(product["@id"], product["identifiers"]["purl"]);
            assert!(product["@id"].as_str().unwrap().starts_with("pkg:"));
        }
        let has = |key: &str| statement.get(key).is_some();
        let status = statement["status"].as_str().unwrap();
        assert!(["not_affected", "affected", "fixed", "under_investigation"].contains(&status));
        // One of the two and not both, where not affected; neither elsewhere.
        let reasons = usize::from(has("justification")) + usize::from(has("impact_statement"));
        assert_eq!(
            reasons,
            usize::from(status == "not_affected"),
            "{statement}"
        );
        assert_eq!(has("action_statement"), status == "affected", "{statement}");
        if has("justification") {
            assert_eq!(statement["justification"], "vulnerable_code_not_present");
        }
    }
}

/// A feed with a published record for each answer, and a rejected one.
fn three_answers() -> (User, feed::Feed) {
    let user = User::new();
    let mut feed = feed::Feed::new(user.folder.path(), 5);
    feed.publish(1003, "6.1.5");
    feed.move_record(1004, "published", "rejected");
    feed.commit();
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    (user, feed)
}

#[test]
fn osv_records_hold_to_the_schema() {
    let (user, feed) = three_answers();
    let records = user.json(&["export", "osv"]);
    assert_eq!(records.len(), 5);
    records.iter().for_each(check_schema);
    let first = &records[0];
    assert_eq!(first["id"], "CVE-2024-1000");
    assert_eq!(first["database_specific"]["feed_commit"], feed.tip());
    assert_eq!(first["summary"], "net: fix 1000");
    assert_eq!(first["details"], "text of 1000");
    let (bug, fix, main) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
    assert_eq!(
        first["affected"],
        serde_json::json!([{
            "package": {"ecosystem": "Linux", "name": "Kernel"},
            "ranges": [
                {"type": "GIT", "repo": "https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git",
                 "events": [{"introduced": bug}, {"fixed": fix}, {"fixed": main}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "5.10.0"}, {"fixed": "6.1.20"}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "6.2.0-rc1"}, {"fixed": "6.3.0"}]},
            ],
            "ecosystem_specific": {"files": ["net/1000.c"]},
        }])
    );
    let rejected = &records[4];
    assert!(
        rejected["withdrawn"].is_string() && rejected.get("affected").is_none(),
        "{rejected}"
    );
    assert!(first.get("withdrawn").is_none());
    // For one kernel: what it has, or may have.
    let ids: Vec<Value> = user
        .json(&["export", "osv", "--kernel", KERNEL])
        .iter()
        .map(|record| record["id"].clone())
        .collect();
    assert_eq!(ids, ["CVE-2024-1000", "CVE-2024-1002"]);
}

#[test]
fn osv_writes_one_file_for_each_cve() {
    let (user, _feed) = three_answers();
    let folder = user.folder.path().join("osv");
    let written = user.run(&["export", "osv", "--dir", folder.to_str().unwrap()]);
    assert_eq!(
        user::talk(&written),
        format!("wrote 5 OSV records to {}\n", folder.display())
    );
    assert!(written.stdout.is_empty());
    let lines = user.json(&["export", "osv"]);
    for line in &lines {
        let name = format!("{}.json", line["id"].as_str().unwrap());
        let file: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
        assert_eq!(file, *line);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 5);

    // Of one kernel there are fewer. What others wrote stays.
    let foreign = r#"{"schema_version":"1.7.0","id":"CVE-2023-1"}"#;
    fs::write(folder.join("CVE-2023-1.json"), foreign).unwrap();
    let path = folder.to_str().unwrap();
    let written = user.run(&["export", "osv", "--dir", path, "--kernel", KERNEL]);
    assert_eq!(
        user::talk(&written),
        format!("wrote 2 OSV records to {path} and removed 3 earlier ones\n")
    );
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "CVE-2023-1.json",
            "CVE-2024-1000.json",
            "CVE-2024-1002.json"
        ]
    );
}

#[test]
fn vex_says_what_the_gauge_said() {
    let (user, _feed) = three_answers();
    let text = user.text(&["export", "vex", "--kernel", KERNEL]);
    let document: Value = serde_json::from_str(&text).unwrap();
    check_vex(&document);
    assert_eq!(document["timestamp"], "2023-11-14T22:13:22Z");
    let statuses: Vec<(&str, &str)> = document["statements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["vulnerability"]["name"].as_str().unwrap(),
                it["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        statuses,
        [
            ("CVE-2024-1000", "affected"),
            ("CVE-2024-1001", "not_affected"),
            ("CVE-2024-1002", "under_investigation"),
            ("CVE-2024-1003", "fixed"),
            ("CVE-2024-1004", "not_affected"),
        ]
    );
    assert_eq!(
        document["statements"][0]["action_statement"],
        format!(
            "update to a kernel with the fix of 6.1.20 (commit {}), or load a livepatch made from it",
            "2".repeat(40)
        )
    );
    assert_eq!(text, user.text(&["export", "vex", "--kernel", KERNEL]));
    let file = user.folder.path().join("vex.json");
    user.text(&[
        "export",
        "vex",
        "--kernel",
        KERNEL,
        "--out",
        file.to_str().unwrap(),
    ]);
    assert_eq!(fs::read_to_string(file).unwrap(), text);
    assert_eq!(user.run(&["export", "vex"]).status.code(), Some(2));
    let dated = user.text(&[
        "export",
        "vex",
        "--kernel",
        KERNEL,
        "--timestamp",
        "2026-01-02T03:04:05Z",
        "--author",
        "ann@example.org",
    ]);
    let dated: Value = serde_json::from_str(&dated).unwrap();
    assert_eq!(dated["timestamp"], "2026-01-02T03:04:05Z");
    assert_eq!(dated["author"], "ann@example.org");
    assert_ne!(dated["@id"], document["@id"]);
}

#[test]
fn csv_has_one_row_for_each_cve() {
    let user = User::new();
    let mut feed = feed::Feed::new(user.folder.path(), 2);
    let name = "cve/published/2024/CVE-2024-1001.json";
    let json = String::from_utf8(feed.files[name].clone()).unwrap();
    let json = json.replace("net: fix 1001", "=HYPERLINK(\\\"http://x\\\", 1)");
    feed.files.insert(name.to_owned(), json.into_bytes());
    feed.commit();
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    let text = user.text(&["export", "csv", "--kernel", KERNEL]);
    let rows: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 3, "{text}");
    let columns: Vec<&str> = rows[0].split(',').collect();
    let cell = |row: usize, column: &str| {
        let at = columns.iter().position(|it| *it == column).unwrap();
        rows[row].split(',').nth(at).unwrap().to_owned()
    };
    assert_eq!(cell(1, "cve"), "CVE-2024-1000");
    assert_eq!(cell(1, "fixed_in"), "6.1.20 6.3");
    assert_eq!(cell(1, "introduced_in"), "5.10");
    assert_eq!(cell(1, "kernel"), KERNEL);
    assert_eq!(cell(1, "verdict"), "affected");
    assert!(
        rows[2].contains(r#","'=HYPERLINK(""http://x"", 1)","#),
        "{}",
        rows[2]
    );
    assert!(rows[2].ends_with(",not-affected,not-built"), "{}", rows[2]);
    let without = user.text(&["export", "csv"]);
    assert!(without.starts_with("cve,state,band,points,"));
    assert!(!without.contains("verdict"));
}

#[test]
fn nothing_is_exported_before_the_first_scan() {
    let user = User::new();
    let file = user.folder.path().join("out");
    for format in ["osv", "csv"] {
        let output = user.run(&["export", format, "--out", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(user::talk(&output).contains("hint: run `tuxtape scan` first"));
        assert!(!file.exists());
    }
}

#[test]
fn corpus_osv_ranges_answer_as_affected_does() {
    let corpus = match user::corpus() {
        Ok(corpus) => corpus,
        Err(why) => {
            eprintln!("{why}");
            return;
        }
    };
    let user = User::new();
    user.scan(&corpus.join("vulns/vulns.bundle"));
    let records = user.json(&["export", "osv"]);
    assert_eq!(records.len(), 12_568 + 301);
    records.iter().for_each(check_schema);
    let withdrawn = records
        .iter()
        .filter(|record| record.get("withdrawn").is_some());
    assert_eq!(withdrawn.count(), 301);
    let versions = [
        "2.6.11",
        "2.6.32",
        "2.6.32.71",
        "3.10.108",
        "4.4",
        "4.9.337",
        "4.14.1",
        "4.17.3",
        "4.19.325",
        "5.0",
        "5.4.200",
        "5.10",
        "5.10.230",
        "5.13.19",
        "5.15.100",
        "5.19.17",
        "6.0.19",
        "6.1",
        "6.1.93",
        "6.1.170",
        "6.2-rc1",
        "6.6.50",
        "6.6.133",
        "6.8.1",
        "6.10.10",
        "6.10.14",
        "6.11",
        "6.12.40",
        "6.13.2",
        "6.17-rc3",
        "6.18.5",
        "6.19.999",
        "7.0",
        "7.1-rc1",
        "8.0",
    ];
    let mut differences = Vec::new();
    for version in versions {
        let answer = user.json(&["cve", "affected", version, "--json"]).remove(0);
        let affected: BTreeSet<&str> = answer["cves"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap())
            .collect();
        for record in &records {
            let id = record["id"].as_str().unwrap();
            if affected.contains(id) != is_vulnerable(record, version) {
                differences.push(format!("{id} at {version}"));
            }
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}
