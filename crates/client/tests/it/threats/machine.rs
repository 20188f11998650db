//! Where it arrives: folders that somebody prepared, and clocks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tuxtape_archive::client::DiskStore;
use tuxtape_archive::sample::start;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_client::apply;

use super::{applied, from, keep};
use crate::setup::Lab;
use crate::threats_table::Table;

pub(super) fn states(table: &mut Table) {
    let victim = |lab: &Lab| {
        let path = lab.folder.path().join("victim");
        fs::write(&path, b"untouched").unwrap();
        path
    };
    for kind in ["symbolic link", "second name", "fifo"] {
        for name in ["tuf/timestamp.json", "tuf/root.json", "floor.a"] {
            let mut lab = Lab::new();
            applied(&mut lab);
            lab.host.now = start().plus(60);
            lab.next_level(2);
            let (victim, at) = (victim(&lab), lab.settings.state.join(name));
            fs::remove_file(&at).unwrap();
            match kind {
                "symbolic link" => std::os::unix::fs::symlink(&victim, &at).unwrap(),
                "second name" => fs::hard_link(&victim, &at).unwrap(),
                _ => assert!(
                    std::process::Command::new("mkfifo")
                        .arg(&at)
                        .status()
                        .unwrap()
                        .success()
                ),
            }
            let begin = Instant::now();
            let seen = applied(&mut lab);
            let whole = fs::read(&victim).unwrap() == b"untouched";
            let seen = seen.replace(&lab.settings.state.display().to_string(), "STATE");
            table.row(
                21,
                &format!("{kind} planted as {name}"),
                "victim untouched, no hang",
                &seen,
                whole && begin.elapsed() < Duration::from_secs(20),
            );
        }
    }
    let lab = Lab::new();
    fs::set_permissions(&lab.settings.state, fs::Permissions::from_mode(0o777)).unwrap();
    let error = DiskStore::open(&lab.settings.state)
        .unwrap_err()
        .to_string();
    let error = error.replace(&lab.settings.state.display().to_string(), "STATE");
    table.row(
        21,
        "state folder that others may write",
        "refuse",
        &error,
        error.contains("mode 777"),
    );
    for name in ["timestamp.json", "snapshot.json", "root.json"] {
        let mut lab = Lab::new();
        let old = keep(&lab, "old");
        applied(&mut lab);
        lab.host.now = start().plus(60);
        lab.next_level(2);
        applied(&mut lab);
        let path = lab.settings.state.join("tuf").join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len().min(300)]).unwrap();
        let replay = from(&mut lab, &old.display().to_string());
        let seen = applied(&mut lab);
        table.row(
            22,
            &format!("torn {name}, then a rollback"),
            "floor holds",
            &replay,
            replay.contains("older than") && seen == "level 2 stays",
        );
    }
    let mut lab = Lab::new();
    applied(&mut lab);
    let one = DiskStore::open(&lab.settings.state).unwrap();
    let two = tuxtape_client::state::State::open(&lab.settings.state);
    let three = tuxtape_client::state::State::open(&lab.settings.state);
    drop(one);
    let seen = three
        .err()
        .map_or("two clients worked at once".to_owned(), |error| {
            error.to_string()
        });
    let seen = seen.replace(&lab.settings.state.display().to_string(), "STATE");
    drop(two);
    table.row(
        27,
        "two clients at once",
        "lock",
        &seen,
        !seen.starts_with("two clients"),
    );
}

pub(super) fn clocks(table: &mut Table) {
    for back in [10, 3600] {
        let mut lab = Lab::new();
        lab.host.now = start().plus(60);
        lab.next_level(2);
        applied(&mut lab);
        lab.host.now = start().plus(60 - back.min(60));
        let seen = applied(&mut lab);
        table.row(
            24,
            &format!("clock {back} s back"),
            "continue",
            &seen,
            seen == "level 2 stays",
        );
    }
    let mut lab = Lab::new();
    applied(&mut lab);
    lab.host.now = start().plus(400 * 86_400);
    let far = applied(&mut lab);
    lab.host.now = start().plus(60);
    lab.next_level(2);
    let seen = applied(&mut lab);
    table.row(
        25,
        "clock 400 days ahead once, then right",
        "recover",
        &seen,
        far.contains("expired") || far.contains("stays"),
    );
    assert_eq!(seen, "loaded level 2");
    let mut lab = Lab::new();
    applied(&mut lab);
    lab.host.now = start().plus(60);
    lab.next_level(2);
    apply::refresh(&lab.host, &lab.settings, &*lab.source()).unwrap();
    lab.host.now = UtcSeconds::EPOCH;
    let seen = applied(&mut lab);
    table.row(
        26,
        "clock in 1970",
        "nothing new below the time floor",
        &seen,
        seen.contains("the clock says 1970") && lab.in_force() == ["tt_2f2f2f2f_1"],
    );
}
