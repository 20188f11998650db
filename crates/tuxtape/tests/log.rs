//! `tuxtape log` as people and scripts use it: input of every kind, JSON, exit codes.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const LOG: &str = "\
5,100,301000000,-;livepatch: enabling patch 'tt_1_7'
5,101,301000001,-;livepatch: 'tt_1_7': starting patching transition
5,102,302000000,-;livepatch: 'tt_1_7': patching complete
1,103,363000000,-;BUG: kernel NULL pointer dereference, address: 0000000000000000
4,104,363000001,-;Oops: 0002 [#1] PREEMPT SMP NOPTI
4,105,363000002,-;CPU: 1 PID: 88 Comm: curl Tainted: G           OE K    6.1.0-47-cloud-amd64 #1  Debian
4,106,363000003,-;RIP: 0010:tcp_sendmsg+0x16/0x40 [tt_1_7]
4,107,363000004,-;Call Trace:
4,108,363000005,-; sock_sendmsg+0x58/0x70
4,109,363000006,-; __sys_sendto+0xee/0x170
4,110,363000007,-;---[ end trace 0000000000000000 ]---
";

const PATCHES: &str = r#"{"format":1,"boot_id":null,"taken":null,"release":"RELEASE","tainted":0,"modules":[{"name":"tt_1_7","level":7,"ours":true,"enabled":true,"transition":false,"replace":true,"forced":false,"refcount":1,"functions":[],"stalled":[]}],"calls":null}"#;

fn log(home: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tuxtape"))
        .arg("--home")
        .arg(home)
        .args(["log", "parse"])
        .args(arguments)
        .env("NO_COLOR", "1")
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have read enough before all is written.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_guilty_level_is_told_to_people_and_programs_and_ends_in_3() {
    let home = tempfile::tempdir().unwrap();
    let patches = PATCHES.replace("RELEASE", "6.1.0-47-cloud-amd64");
    fs::write(home.path().join("patches"), patches).unwrap();
    let output = log(home.path(), &["--patches", "patches"], LOG.as_bytes());
    assert_eq!(output.status.code(), Some(3), "{}", talk(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "BUG: unable to handle kernel NULL pointer dereference in tcp_sendmsg",
        "tcp_sendmsg+0x16/0x40 [tt_1_7]",
        "tt_1_7: guilty: ip-in-module",
        "tuxtape-client rollback",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let output = log(
        home.path(),
        &["--patches", "patches", "--json", "--events"],
        LOG.as_bytes(),
    );
    assert_eq!(output.status.code(), Some(3));
    let all = lines(&output);
    let kinds: Vec<&str> = all
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["event", "event", "event", "report", "verdict", "end"]
    );
    assert_eq!(all[3]["verdicts"][0]["verdict"], "guilty");
    assert_eq!(all[3]["seq"], serde_json::json!([103, 110]));
    assert_eq!(all[3]["text"], Value::Null);
    assert_eq!(all[4]["state"], "applied");
    assert_eq!(all[4]["recommend"], "revert");
    assert_eq!(all[5]["exit"], 3);
    assert_eq!(all[5]["records"], 11);
}

#[test]
fn what_may_be_forged_is_read_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut plain = String::new();
    for line in LOG.lines() {
        plain.push_str("[  363.000000] ");
        plain.push_str(line.split_once(';').unwrap().1);
        plain.push('\n');
    }
    let output = log(home.path(), &["--json"], plain.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    let all = lines(&output);
    let verdict = all.iter().find(|line| line["kind"] == "verdict").unwrap();
    assert_eq!(verdict["verdict"], "suspect");
    assert_eq!(verdict["recommend"], "none");
}

#[test]
fn fail_on_says_where_3_begins() {
    let home = tempfile::tempdir().unwrap();
    let warning = "4,1,1,-;WARNING: CPU: 0 PID: 1 at net/x.c:1 f+0x1/0x2\n";
    for (level, code) in [("guilty", 0), ("suspect", 0), ("report", 3)] {
        let output = log(home.path(), &["--fail-on", level], warning.as_bytes());
        assert_eq!(output.status.code(), Some(code), "{level}");
    }
}

#[test]
fn packed_files_are_read_as_they_are() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("log"), LOG).unwrap();
    for (program, end) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let packed = Command::new(program)
            .args(["-kqf", "log"])
            .current_dir(home.path())
            .status();
        if !packed.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no {program}");
            continue;
        }
        let output = log(home.path(), &["--json", &format!("log.{end}")], b"");
        assert_eq!(
            output.status.code(),
            Some(3),
            "{program}: {}",
            talk(&output)
        );
        assert!(
            lines(&output).iter().any(|line| line["kind"] == "report"),
            "{program}"
        );
    }
    fs::write(home.path().join("cut.gz"), [0x1f, 0x8b, 8, 0, 1]).unwrap();
    let output = log(home.path(), &["cut.gz"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("could not read cut.gz"),
        "{}",
        talk(&output)
    );
}

#[test]
fn input_of_no_use_is_refused_with_a_way_out() {
    let home = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], input: &[u8], code: i32, part: &str| {
        let output = log(home.path(), arguments, input);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            talk(&output)
        );
        assert!(talk(&output).contains(part), "{part} in {}", talk(&output));
    };
    check(&[], b"", 0, "");
    check(
        &[],
        b"once upon a time\x1b[31m\n",
        1,
        "once upon a time\\x1b[31m",
    );
    check(&[], b"once upon a time\n", 1, "--source");
    check(&["missing"], b"", 1, "could not read missing");
    check(&["."], b"", 1, "has no file that pstore kept");
    check(&["--follow", "."], b"", 1, "is a folder");
    check(&["--follow", "a", "b"], b"", 1, "one log");
    check(&["--source", "nonsense"], b"", 2, "nonsense");
    fs::write(home.path().join("patches"), "{\"format\":2,\"modules\":[]}").unwrap();
    check(&["--patches", "patches"], LOG.as_bytes(), 1, "format 2");
    fs::write(
        home.path().join("patches"),
        PATCHES.replace("RELEASE", "6.12.0"),
    )
    .unwrap();
    check(&["--patches", "patches"], LOG.as_bytes(), 1, "6.12.0");
}

#[test]
fn nothing_raw_reaches_a_terminal() {
    let home = tempfile::tempdir().unwrap();
    let evil = "4,1,1,-;WARNING: CPU: 0 PID: 1 at net/x.c:1 f+0x1/0x2\\x1b]0;owned\\x07\n4,2,2,-;CPU: 0 PID: 1 Comm: \\x1b[31mred Not tainted 6.1 #1\n";
    for arguments in [&["--text"][..], &["--json", "--text"]] {
        let output = log(home.path(), arguments, evil.as_bytes());
        assert!(!output.stdout.contains(&0x1b), "{arguments:?}");
    }
}

#[test]
fn a_log_that_grows_is_followed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("log");
    fs::write(&path, "").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tuxtape"))
        .arg("--home")
        .arg(home.path())
        .args([
            "log", "parse", "--follow", "--json", "--source", "kmsg", "log",
        ])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(&path, LOG).unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = Vec::new();
    for line in std::io::BufRead::lines(out) {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let said = line.get("verdict").unwrap_or(&line["kind"]);
        seen.push(said.as_str().unwrap().to_owned());
        if line["kind"] == "report" {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The report is over by its own words: its verdict does not wait for what may follow it.
    assert!(
        seen.ends_with(&["guilty".to_owned(), "report".to_owned()]),
        "{seen:?}"
    );
}

/// Two crashes as pstore shows them, the second one cut in the middle of a line.
fn kept(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let oops = "<1>[    9.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
                <4>[    9.000001] RIP: 0010:tcp_sendmsg+0x16/0x40 [tt_1_7]\n\
                <4>[    9.000002] Call Trace:\n<4>[    9.000003]  sock_sendm";
    let rest = "sg+0x58/0x70\n<4>[    9.000004]  __sys_sendto+0xee/0x170\n\
                <4>[    9.000005] ---[ end trace 0000000000000000 ]---\n";
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    write("dmesg-erst-1000", format!("Oops#1 Part1\n{rest}"));
    write("dmesg-erst-1001", format!("Oops#1 Part2\n{oops}"));
    write(
        "dmesg-erst-999",
        "Panic#1 Part1\n<0>[    8.000000] Kernel panic - not syncing: sysrq triggered crash\n"
            .to_owned(),
    );
    write("console-ramoops-0", "something else\n".to_owned());
}

#[test]
fn a_folder_of_pstore_is_read_crash_by_crash_with_its_parts_in_order() {
    let home = tempfile::tempdir().unwrap();
    kept(&home.path().join("kept"));
    let read = |path: &str| lines(&log(home.path(), &["--json", path], b""));
    let told = read("kept");
    let titles: Vec<&str> = told
        .iter()
        .filter(|line| line["kind"] == "report")
        .map(|line| line["title"].as_str().unwrap())
        .collect();
    assert_eq!(
        titles,
        [
            "kernel panic: sysrq triggered crash",
            "BUG: unable to handle kernel NULL pointer dereference in tcp_sendmsg"
        ],
        "{told:#?}"
    );
    let oops = told.iter().rfind(|line| line["kind"] == "report").unwrap();
    assert_eq!(oops["source"], "pstore");
    assert_eq!(oops["corrupted"], Value::Null);
    assert_eq!(oops["frames"][0]["func"], "sock_sendmsg");

    // The same in one file, told by its first line.
    let parts = ["dmesg-erst-1000", "dmesg-erst-1001"]
        .map(|name| fs::read_to_string(home.path().join("kept").join(name)).unwrap());
    fs::write(home.path().join("one"), parts.join("")).unwrap();
    let told = read("one");
    assert_eq!(told[0]["source"], "pstore", "{told:#?}");
    assert_eq!(told[0]["corrupted"], Value::Null, "{told:#?}");
}

#[test]
fn a_part_that_stayed_compressed_and_a_folder_without_parts_are_told() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("kept");
    kept(&folder);
    fs::write(folder.join("dmesg-erst-1002.enc.z"), [1, 2, 3]).unwrap();
    let output = log(home.path(), &["--json", "kept"], b"");
    assert!(
        talk(&output).contains("dmesg-erst-1002.enc.z stayed compressed"),
        "{}",
        talk(&output)
    );
    assert!(lines(&output).iter().any(|line| line["kind"] == "gap"));
    fs::create_dir(home.path().join("empty")).unwrap();
    let output = log(home.path(), &["empty"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("empty has no file that pstore kept"),
        "{}",
        talk(&output)
    );
}
