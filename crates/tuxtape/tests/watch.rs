//! `kernel watch` with an apt of its own.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod feed;
#[expect(dead_code, reason = "shared with the tests of other commands")]
#[path = "support/user.rs"]
mod user;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use serde_json::Value;
use user::{KERNEL, User, talk};

/// Puts a program `apt-cache` first on the path that lists images of `releases` and nothing else.
fn watch(user: &User, releases: &[&str], arguments: &[&str]) -> Output {
    let bin = user.folder.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let names: Vec<String> = releases
        .iter()
        .map(|release| format!("    echo linux-image-{release}-unsigned\n"))
        .collect();
    let names = names.concat();
    let program = bin.join("apt-cache");
    let text = format!("#!/bin/sh\ncase \"$1\" in pkgnames)\n{names}    ;;\nesac\n");
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap());
    user.command(&[&["kernel", "watch"], arguments].concat())
        .env("PATH", path)
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_newer_kernel_of_a_line_that_is_followed_is_noticed() {
    let user = User::new();
    let feed = feed::Feed::new(user.folder.path(), 3);
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    let listed = [KERNEL, "6.1.0-9-test", "6.1.0-10-test", "6.1.0-99-other"];
    let output = watch(&user, &listed, &["--once", "--dry-run", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    let lines = lines(&output);
    let states: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| {
            let word = |key: &str| line[key].as_str().unwrap();
            (word("release"), word("state"))
        })
        .collect();
    assert_eq!(states, [("6.1.0-10-test", "new"), (KERNEL, "known")]);
    let cover = &lines[1]["cover"];
    assert_eq!(cover["superseded"], true);
    assert_eq!(cover["newest"], "6.1.0-10-test");
    assert_eq!(cover["horizon"], "6.1.20");
    assert_eq!(cover["beyond_horizon"], false);
    assert_eq!(cover["support"]["of"], "Debian 12");
    let text = watch(&user, &listed, &["--once", "--dry-run"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("was replaced by 6.1.0-10-test"), "{text}");
}

#[test]
fn a_kernel_that_cannot_be_added_is_named_and_the_others_are_shown() {
    let user = User::new();
    user.add_kernel("6.1.10");
    let output = watch(&user, &[KERNEL, "6.1.0-2-test"], &["--once", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    assert_eq!(lines[0]["state"], "failed");
    assert!(lines[0]["error"].as_str().unwrap().contains("6.1.0-2-test"));
    assert_eq!(lines[1]["state"], "known");
    // There is no feed, and that is said.
    assert_eq!(lines[1]["cover"]["beyond_horizon"], Value::Null);
}

#[test]
fn without_kernels_or_lists_it_says_what_to_run() {
    let user = User::new();
    let output = watch(&user, &[KERNEL], &["--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(talk(&output).contains("kernel add"), "{}", talk(&output));
    user.add_kernel("6.1.10");
    let output = watch(&user, &[], &["--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("apt-get update"),
        "{}",
        talk(&output)
    );
}

#[test]
fn verdicts_that_change_are_told_once() {
    let user = User::new();
    let mut feed = feed::Feed::new(user.folder.path(), 3);
    user.scan(&feed.folder);
    user.add_kernel("6.1.10");
    let channels = user.folder.path().join("notice.toml");
    let text = "format = 1\n[[channel]]\nname = \"log\"\nkind = \"stdout\"\n";
    fs::write(&channels, text).unwrap();
    let look = || {
        let path = channels.to_str().unwrap();
        let arguments = ["--once", "--notify", "--channels", path];
        let output = watch(&user, &[KERNEL], &arguments);
        assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let is_told = |text: &str| text.contains("kernel-verdicts");
    // The first look is what later ones are compared with.
    assert!(!is_told(&look()));
    assert!(!is_told(&look()));
    // The fix of one is in the kernel's version after all, and the file of another is not the kernel's.
    feed.publish(1000, "6.1.5");
    feed.commit();
    user.scan(&feed.folder);
    let told = look();
    assert!(is_told(&told), "{told}");
    assert!(told.contains("1 not affected any more"), "{told}");
    assert!(!is_told(&look()));
    // And a file of channels that is wrong is told before anything is done.
    fs::write(&channels, "format = 9\n").unwrap();
    let path = channels.to_str().unwrap();
    let output = watch(
        &user,
        &[KERNEL],
        &["--once", "--notify", "--channels", path],
    );
    assert_eq!(output.status.code(), Some(1));
}
