//! Profiles carried from one user to another.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with other tests")]
#[path = "support/user.rs"]
mod user;

use std::fs;

use user::{KERNEL, User};

/// One user's kernel, exported to a file of theirs.
fn exported() -> (User, String) {
    let user = User::new();
    user.add_kernel("6.1.170");
    let file = user.folder.path().join("k.profile.gz");
    let file = file.to_str().unwrap().to_owned();
    user.text(&["kernel", "export", KERNEL, "--output", &file]);
    (user, file)
}

#[test]
fn an_exported_kernel_is_shown_the_same_where_it_is_imported() {
    let (giver, file) = exported();
    let taker = User::new();
    taker.text(&["kernel", "import", &file]);
    let show = ["kernel", "show", KERNEL, "--json"];
    assert_eq!(giver.json(&show), taker.json(&show));
    let shown = taker.json(&show);
    assert_eq!(shown[0]["sureness"]["way"], "debug-data");
    // The same once more changes nothing.
    taker.text(&["kernel", "import", &file]);
}

#[test]
fn a_cut_export_and_a_differing_one_are_refused_with_the_way_out() {
    let (giver, file) = exported();
    let bytes = fs::read(&file).unwrap();
    let cut = giver.folder.path().join("cut");
    fs::write(&cut, bytes.get(..bytes.len() / 2).unwrap()).unwrap();
    let output = giver.run(&["kernel", "import", cut.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains("cut or damaged"), "{talk}");

    let taker = User::new();
    taker.add_kernel("6.1.171");
    let output = taker.run(&["kernel", "import", &file]);
    assert_eq!(output.status.code(), Some(1));
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(
        talk.contains("differs in base version") && talk.contains("--replace"),
        "{talk}"
    );
    taker.text(&["kernel", "import", &file, "--replace"]);
}

#[test]
fn options_that_a_spec_has_no_use_for_are_refused() {
    let user = User::new();
    let output = user.run(&["kernel", "add", "debian:6.1.0-1-test", "--config", "x"]);
    assert_eq!(output.status.code(), Some(1));
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains("debian: takes no --config"), "{talk}");
}
