//! `scan`, `cve` and `gauge` as they are typed.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod support;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "support/user.rs"]
mod user;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Feed, git};
use tuxtape_sys::lock::{self, Taken};
use user::add_kernel;

/// One user's folders.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn program(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .env("TUXTAPE_HOME", self.home())
            .env("TUXTAPE_CACHE", self.folder.path().join("cache"))
            .env_remove("TUXTAPE_FEED")
            .output()
            .unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program(env!("CARGO_BIN_EXE_tuxtape"), arguments)
    }

    fn scan(&self, feed: &Path) -> Output {
        self.run(&["scan", "--json", "--feed", feed.to_str().unwrap()])
    }

    /// Runs a command that must print JSON lines.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(arguments);
        lines(&output)
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty(), "{}", talk(output));
    lines
}

fn talk(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks that a command failed with these words, and that the store did not change.
fn refused(user: &User, output: &Output, words: &[&str]) {
    let text = talk(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in words.iter().chain([&"hint: "]) {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    let affected = user.run(&["cve", "affected", "6.1.19"]);
    assert_eq!(
        affected.stdout,
        b"CVE-2024-1000\nCVE-2024-1001\nCVE-2024-1002\n"
    );
}

#[test]
fn a_folder_a_bundle_and_a_url_fill_the_same_store() {
    let user = User::new();
    let feed = Feed::new(user.folder.path(), 3);
    let bundle = user.folder.path().join("feed.bundle");
    git(
        &["bundle", "create", "-q", bundle.to_str().unwrap(), "master"],
        &feed.folder,
    );
    let url = format!("file://{}", feed.folder.display());

    let report = &lines(&user.scan(&feed.folder))[0];
    assert_eq!(report["feed_commit"], feed.tip());
    assert_eq!(report["feed_time"], "2023-11-14T22:13:21Z");
    assert_eq!(
        [&report["published"], &report["added"], &report["removed"]],
        [3, 3, 0]
    );
    assert_eq!(report["horizon"]["6.1"], "6.1.20");
    assert!(report["seconds"].is_number());
    for source in [bundle.to_str().unwrap(), &url] {
        let again = &user.json(&["scan", "--json", "--feed", source])[0];
        assert_eq!(
            [&again["published"], &again["added"], &again["rows"]],
            [3, 0, 0],
            "{source}"
        );
    }
    // The program for timers does the same.
    let output = user.program(
        env!("CARGO_BIN_EXE_tuxtape-cve-parser"),
        &["--json", "--feed", &url],
    );
    assert_eq!(lines(&output)[0]["rows"], 0);
}

#[test]
fn a_bad_source_is_refused_with_a_way_out() {
    let user = User::new();
    let mut feed = Feed::new(user.folder.path(), 3);
    user.scan(&feed.folder);
    let top = user.folder.path();

    let missing = top.join("missing");
    refused(
        &user,
        &user.scan(&missing),
        &["error: there is no ", "the store stays as it was, at "],
    );
    let output = user.run(&["scan", "--feed", &format!("file://{}", missing.display())]);
    refused(
        &user,
        &output,
        &["could not fetch branch master of file://", "missing"],
    );
    let output = user.run(&["scan", "--feed", "ext::touch /tmp/x"]);
    refused(&user, &output, &["no URL or path of a feed"]);

    let plain = top.join("plain");
    fs::create_dir(&plain).unwrap();
    refused(&user, &user.scan(&plain), &["is no git repository"]);
    let text = top.join("text");
    fs::write(&text, "hello").unwrap();
    refused(
        &user,
        &user.scan(&text),
        &["is neither a git bundle nor a folder"],
    );

    let bundle = top.join("feed.bundle");
    git(
        &["bundle", "create", "-q", bundle.to_str().unwrap(), "master"],
        &feed.folder,
    );
    let bytes = fs::read(&bundle).unwrap();
    fs::write(&bundle, &bytes[..bytes.len() / 2]).unwrap();
    refused(
        &user,
        &user.scan(&bundle),
        &["could not fetch branch master of ", "git failed"],
    );

    let other = top.join("other.git");
    git(
        &[
            "clone",
            "-q",
            "--bare",
            feed.folder.to_str().unwrap(),
            other.to_str().unwrap(),
        ],
        top,
    );
    git(&["branch", "-m", "master", "main"], &other);
    refused(
        &user,
        &user.scan(&other),
        &["has no branch master", "whose branch is master"],
    );

    feed.files.clear();
    feed.files.insert("README".to_owned(), Vec::new());
    feed.commit();
    refused(&user, &user.scan(&feed.folder), &["is not the CVE feed"]);
}

#[test]
fn a_feed_that_goes_back_needs_a_word() {
    let user = User::new();
    let mut feed = Feed::new(user.folder.path(), 3);
    let old = feed.tip();
    feed.publish(1003, "6.1.20");
    feed.commit();
    user.scan(&feed.folder);
    let new = feed.tip();
    feed.reset(&old);
    let output = user.scan(&feed.folder);
    let text = talk(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains(&old) && text.contains(&new) && text.contains("--allow-rewind"),
        "{text}"
    );
    let accepted = user.json(&[
        "scan",
        "--json",
        "--allow-rewind",
        "--force-shrink",
        "--feed",
        feed.folder.to_str().unwrap(),
    ]);
    assert_eq!(accepted[0]["removed"], 1);
}

#[test]
fn a_second_scan_at_the_same_time_names_the_first() {
    let user = User::new();
    let feed = Feed::new(user.folder.path(), 3);
    fs::create_dir(user.home()).unwrap();
    let first = lock::take(&user.home().join("store.lock"), "pid 7, since noon").unwrap();
    assert!(matches!(first, Taken::Ours(_)));
    let output = user.scan(&feed.folder);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        talk(&output),
        "another scan is at work: pid 7, since noon\n"
    );
    assert_eq!(lines(&output)[0]["busy"], "pid 7, since noon");
    drop(first);
    let nameless = lock::take(&user.home().join("store.lock"), "").unwrap();
    assert_eq!(lines(&user.scan(&feed.folder))[0]["busy"], "somebody");
    drop(nameless);
    assert_eq!(lines(&user.scan(&feed.folder))[0]["added"], 3);
}

#[test]
fn the_password_of_a_feed_is_not_shown() {
    let user = User::new();
    let feed = Feed::new(user.folder.path(), 3);
    let url = "https://bot:hunter2@127.0.0.1:1/feed.git";
    let output = user.run(&["scan", "--feed", url]);
    assert_eq!(output.status.code(), Some(1));
    let said = talk(&output);
    assert!(
        said.contains("fetching https://127.0.0.1:1/feed.git"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let help = Command::new(env!("CARGO_BIN_EXE_tuxtape"))
        .args(["scan", "--help"])
        .env("TUXTAPE_FEED", url)
        .output()
        .unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("hunter2"));
    // What is kept: the name of the mirror, and the store.
    let names = fs::read_dir(user.folder.path().join("cache/feed")).unwrap();
    for name in names {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("https---127-0-0-1-1-feed-git-"), "{name}");
    }
    let path = feed.folder.display();
    let output = Command::new(env!("CARGO_BIN_EXE_tuxtape"))
        .args(["scan", "--feed", url])
        .env("TUXTAPE_HOME", user.home())
        .env("TUXTAPE_CACHE", user.folder.path().join("cache"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", format!("url.file://{path}.insteadOf"))
        .env("GIT_CONFIG_VALUE_0", url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    for entry in fs::read_dir(user.home()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    }
}

#[test]
fn a_variable_set_to_nothing_is_as_good_as_unset() {
    let user = User::new();
    let feed = Feed::new(user.folder.path(), 3);
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        for name in ["STORE", "SIGNALS", "POLICY", "FEED"] {
            command.env(format!("TUXTAPE_{name}"), "");
        }
        command
            .env("TUXTAPE_HOME", user.home())
            .env("TUXTAPE_CACHE", user.folder.path().join("cache"))
            .env("TUXTAPE_CHANNELS", "")
            .output()
            .unwrap()
    };
    let tuxtape = env!("CARGO_BIN_EXE_tuxtape");
    let scan = env!("CARGO_BIN_EXE_tuxtape-cve-parser");
    let folder = feed.folder.to_str().unwrap();
    let output = run(tuxtape, &["scan", "--json", "--feed", folder]);
    assert_eq!(lines(&output)[0]["added"], 3);
    assert!(user.home().join("store.sqlite").is_file());
    let output = run(scan, &["--json", "--feed", folder]);
    assert_eq!(lines(&output)[0]["published"], 3);
    let output = run(tuxtape, &["cve", "rank", "--json"]);
    assert_eq!(lines(&output).len(), 3);
    // The places that are used when nobody names another.
    let help = run(tuxtape, &["notice", "send"]);
    assert!(
        talk(&help).contains("/etc/tuxtape/notice.toml"),
        "{}",
        talk(&help)
    );
}

#[test]
fn a_broken_record_is_named_and_the_rest_goes_in() {
    let user = User::new();
    let mut feed = Feed::new(user.folder.path(), 150);
    feed.files.insert(
        "cve/published/2024/CVE-2024-1003.json".to_owned(),
        b"{".to_vec(),
    );
    feed.commit();
    let output = user.scan(&feed.folder);
    let report = &lines(&output)[0];
    assert_eq!(report["published"], 149);
    assert_eq!(report["skipped"][0]["cve"], "CVE-2024-1003");
    assert!(
        talk(&output).contains("skipped CVE-2024-1003: .json: EOF while parsing"),
        "{}",
        talk(&output)
    );
    let affected = &user.json(&["cve", "affected", "6.1.10", "--json"])[0];
    assert_eq!(affected["cves"].as_array().unwrap().len(), 149);
    assert_eq!(affected["skipped"][0]["cve"], "CVE-2024-1003");
    let output = user.run(&["cve", "show", "CVE-2024-1003"]);
    assert!(
        talk(&output).contains("could not be read: .json: EOF"),
        "{}",
        talk(&output)
    );
}

#[test]
fn affected_answers_with_its_horizon() {
    let user = User::new();
    let output = user.run(&["cve", "affected", "6.1.10"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("there is no feed yet\nhint: run `tuxtape scan` first"),
        "{}",
        talk(&output)
    );
    let feed = Feed::new(user.folder.path(), 2);
    user.scan(&feed.folder);
    let answer = |version: &str| user.json(&["cve", "affected", version, "--json"]).remove(0);
    let within = answer("6.1.10");
    assert_eq!(within["version"], "6.1.10");
    assert_eq!(
        (&within["horizon"], &within["beyond_horizon"]),
        (&"6.1.20".into(), &false.into())
    );
    assert_eq!(
        within["cves"],
        serde_json::json!(["CVE-2024-1000", "CVE-2024-1001"])
    );
    assert_eq!(answer("6.1.0")["version"], "6.1.0");
    let beyond = answer("6.1.21");
    assert_eq!(
        (&beyond["beyond_horizon"], &beyond["cves"]),
        (&true.into(), &serde_json::json!([]))
    );
    // A branch without landings is answered too.
    assert_eq!(answer("6.2.5")["beyond_horizon"], true);
    let warned = user.run(&["cve", "affected", "6.2.5"]);
    assert!(
        talk(&warned).contains("warning: 6.2.5 is beyond what the feed knows"),
        "{}",
        talk(&warned)
    );
    for bad in ["6.1.0-47-cloud-amd64", "six", "v6.1"] {
        assert_eq!(
            user.run(&["cve", "affected", bad]).status.code(),
            Some(2),
            "{bad}"
        );
    }
}

#[test]
fn a_record_is_shown_and_ranked() {
    let user = User::new();
    let mut feed = Feed::new(user.folder.path(), 3);
    let scored = "cve/published/2024/CVE-2024-1001.json";
    let text = String::from_utf8(feed.files[scored].clone()).unwrap();
    let metrics =
        r#""metrics":[{"cvssV3_1":{"vectorString":"CVSS:3.1/AV:L","baseScore":7.8}}],"title""#;
    feed.files.insert(
        scored.to_owned(),
        text.replacen("\"title\"", metrics, 1).into_bytes(),
    );
    feed.commit();
    user.scan(&feed.folder);
    let shown = &user.json(&["cve", "show", "CVE-2024-1001", "--json"])[0];
    assert_eq!(shown["cvss"]["score"], "7.8");
    assert_eq!(shown["spans"][0]["fixed"]["version"], "6.1.20");
    assert_eq!(shown["feed_commit"], feed.tip());
    let ranked = user.json(&["cve", "rank", "--json", "--limit", "2"]);
    let order: Vec<&Value> = ranked.iter().map(|line| &line["cve"]).collect();
    assert_eq!(order, ["CVE-2024-1002", "CVE-2024-1001"]);
    for line in &ranked {
        let factors = line["factors"].as_array().unwrap();
        let sum: i64 = factors
            .iter()
            .map(|it| it["points"].as_i64().unwrap())
            .sum();
        assert_eq!(line["points"], sum, "{line}");
    }
    assert_eq!(
        user.run(&["cve", "show", "CVE-2024-9999"]).status.code(),
        Some(1)
    );
    assert_eq!(
        user.run(&["cve", "show", "CVE-24-1"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_gauge_answers_in_three_ways_with_evidence() {
    let user = User::new();
    let feed = Feed::new(user.folder.path(), 3);
    let output = user.run(&["gauge", "6.1.0-1-test"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("has not been added"),
        "{}",
        talk(&output)
    );
    user.scan(&feed.folder);
    add_kernel(&user.home(), "6.1.10");
    let verdicts = user.json(&["gauge", "6.1.0-1-test", "--json"]);
    let answers: Vec<(&str, &str)> = verdicts
        .iter()
        .map(|line| {
            (
                line["verdict"].as_str().unwrap(),
                line["reason"].as_str().unwrap_or("-"),
            )
        })
        .collect();
    assert_eq!(
        answers,
        [
            ("affected", "-"),
            ("not-affected", "not-built"),
            ("unknown", "file-absent")
        ]
    );
    let steps: Vec<&Value> = verdicts[0]["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["step"])
        .collect();
    assert_eq!(
        steps,
        [
            "record", "horizon", "span", "carried", "built", "object", "function", "loaded"
        ]
    );
    for (cve, code) in [
        ("CVE-2024-1000", 3),
        ("CVE-2024-1001", 0),
        ("CVE-2024-1002", 4),
    ] {
        let output = user.run(&["gauge", "6.1.0-1-test", "--cve", cve]);
        assert_eq!(output.status.code(), Some(code), "{cve}");
    }
    let table = user.run(&["gauge", "6.1.0-1-test"]);
    assert_eq!(table.status.code(), Some(0));
    assert!(
        String::from_utf8(table.stdout)
            .unwrap()
            .contains("file-absent")
    );
    let ranked = user.json(&["cve", "rank", "--kernel", "6.1.0-1-test", "--json"]);
    let order: Vec<&Value> = ranked.iter().map(|line| &line["cve"]).collect();
    assert_eq!(order, ["CVE-2024-1002", "CVE-2024-1000"]);
}

#[test]
fn a_fix_that_nobody_knows_is_not_invented() {
    let user = User::new();
    let mut feed = Feed::new(user.folder.path(), 1);
    // Fixed on another branch, before the kernel's base version, and after it.
    feed.publish(1001, "6.2.16");
    feed.publish(1002, "6.1.9");
    feed.commit();
    user.scan(&feed.folder);
    add_kernel(&user.home(), "6.1.10");
    for (cve, from, words) in [
        (
            "CVE-2024-1001",
            None,
            "no fix of CVE-2024-1001 is known on branch 6.1",
        ),
        ("CVE-2024-1001", Some("6.1.30-1"), "is known on branch 6.1"),
        (
            "CVE-2024-1002",
            None,
            "6.1.10 already has the fix of CVE-2024-1002, which is in 6.1.9",
        ),
        (
            "CVE-2024-1000",
            Some("6.1.19-1"),
            "6.1.19-1 does not have the fix of CVE-2024-1000, which is in 6.1.20",
        ),
    ] {
        let mut arguments = vec!["fix", "show", "6.1.0-1-test", cve];
        arguments.extend(from.into_iter().flat_map(|from| ["--from", from]));
        for file in [&[][..], &["--file", "net/1000.c"]] {
            let output = user.run(&[&arguments, file].concat());
            let text = talk(&output);
            assert_eq!(output.status.code(), Some(3), "{cve}: {text}");
            assert!(text.contains(words), "{words:?} is not in: {text}");
            assert!(output.stdout.is_empty());
        }
    }
    // The package is looked for only where the record knows a fix: this kernel names none.
    let output = user.run(&["fix", "show", "6.1.0-1-test", "CVE-2024-1000"]);
    assert_eq!(output.status.code(), Some(1), "{}", talk(&output));
    assert!(talk(&output).contains("names no source package"));
    let output = user.run(&[
        "patch",
        "build",
        "6.1.0-1-test",
        "--cve",
        "CVE-2024-1001",
        "--cve",
        "CVE-2024-1002",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
    let answer = &lines(&output)[0];
    assert_eq!(answer["status"], "refused");
    let refused: Vec<(&Value, &Value)> = answer["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refusal| (&refusal["rule"], &refusal["symbol"]))
        .collect();
    let rule = Value::from("no-fix");
    assert_eq!(
        refused,
        [
            (&rule, &"CVE-2024-1001".into()),
            (&rule, &"CVE-2024-1002".into())
        ]
    );
}

#[test]
fn a_kernel_beyond_the_horizon_is_unknown_not_unaffected() {
    let user = User::new();
    let feed = Feed::new(user.folder.path(), 1);
    user.scan(&feed.folder);
    add_kernel(&user.home(), "6.2.5");
    let verdict = user.run(&["gauge", "6.1.0-1-test", "--cve", "CVE-2024-1000"]);
    assert_eq!(verdict.status.code(), Some(4));
    let text = String::from_utf8(verdict.stdout).unwrap();
    assert!(
        text.starts_with("CVE-2024-1000  unknown (beyond-horizon)"),
        "{text}"
    );
}

#[test]
fn corpus_affected_equals_every_expected_file_line_for_line() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = env::var_os("TUXTAPE_CORPUS").map_or(beside, PathBuf::from);
    let bundle = corpus.join("vulns/vulns.bundle");
    if !bundle.is_file() {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return;
    }
    let user = User::new();
    let report = &lines(&user.scan(&bundle))[0];
    assert_eq!(
        (&report["published"], &report["rejected"]),
        (&12_568.into(), &301.into())
    );
    let mut compared = 0;
    for entry in fs::read_dir(corpus.join("vulns/expected")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let version = name.strip_prefix("affected-").unwrap();
        let output = user.run(&["cve", "affected", version]);
        assert!(output.stdout == fs::read(&path).unwrap(), "{version}");
        compared += 1;
    }
    assert!(compared > 0);
}
