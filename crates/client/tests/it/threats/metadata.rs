//! What is signed: replayed, forged, by stolen keys, by roots that changed.

use std::fs;

use tuxtape_archive::client::{self, MemoryStore, Store, Stored};
use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::metadata::{Envelope, Root, Targets, Timestamp};
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::sample::{self, RELEASE, forge, key, start};
use tuxtape_archive::source::DirectorySource;
use tuxtape_client::apply;

use super::{Change, ROLE, applied, from, keep, online, redated, resign};
use crate::setup::Lab;
use crate::threats_table::{Table, http};

pub(super) fn replays(table: &mut Table) {
    let mut lab = Lab::new();
    let old = keep(&lab, "old");
    applied(&mut lab);
    lab.host.now = start().plus(60);
    lab.next_level(2);
    applied(&mut lab);
    let seen = from(&mut lab, &old.display().to_string());
    table.row(
        1,
        "mirror replays an older repository",
        "refuse, floor kept",
        &seen,
        seen.contains("older than what was seen") && lab.in_force() == ["tt_2f2f2f2f_2"],
    );
    let good = fs::read(lab.metadata("timestamp.json")).unwrap();
    fs::copy(
        old.join("metadata/timestamp.json"),
        lab.metadata("timestamp.json"),
    )
    .unwrap();
    let seen = applied(&mut lab);
    table.row(
        2,
        "only an older timestamp",
        "refuse",
        &seen,
        seen.contains("older than what was seen"),
    );
    fs::write(lab.metadata("timestamp.json"), good).unwrap();
    lab.host.now = start().plus(3 * 86_400);
    let seen = applied(&mut lab);
    table.row(
        3,
        "freeze past expiry",
        "nothing new, applied level kept",
        &seen,
        seen.contains("stays") || seen.contains("expired") && lab.in_force() == ["tt_2f2f2f2f_2"],
    );
    for name in ["1.snapshot.json", "1.targets.json", ROLE] {
        let mut lab = Lab::new();
        let old = fs::read(lab.metadata(name)).unwrap();
        let mut policy = lab.archive.workspace.policy.clone();
        policy.lifetimes.targets_days += 1;
        lab.archive.workspace.set_policy(policy, start()).unwrap();
        lab.next_level(2);
        fs::write(lab.metadata(&name.replacen('1', "2", 1)), old).unwrap();
        lab.host.now = start().plus(1);
        let seen = applied(&mut lab);
        table.row(
            4,
            &format!("mix-and-match: old {}", name.trim_start_matches("1.")),
            "refuse",
            &seen,
            seen.contains("does not fit") && lab.host.inserted.is_empty(),
        );
    }
    let changes: [(&str, Change); 4] = [
        ("changed", |bytes| bytes[200] ^= 1),
        ("longer", |bytes| bytes.push(0)),
        ("shorter", |bytes| bytes.truncate(300)),
        ("swapped", |bytes| *bytes = sample::module(9)),
    ];
    for (what, change) in changes {
        let mut lab = Lab::new();
        let path = lab.module_file();
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let seen = applied(&mut lab);
        let left = fs::read_dir(lab.settings.state.join("modules")).map_or(0, Iterator::count);
        table.row(
            5,
            &format!("module {what}"),
            "refuse, no file left",
            &seen,
            seen.contains("is not the one that was signed") && left == 0,
        );
    }
    let mut lab = Lab::new();
    fs::remove_file(lab.module_file()).unwrap();
    let seen = applied(&mut lab);
    table.row(
        5,
        "module missing",
        "refuse, no file left",
        &seen,
        seen.contains("the archive has no"),
    );
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json", ROLE] {
        let mut lab = Lab::new();
        let mut bytes = fs::read(lab.metadata(name)).unwrap();
        let at = bytes.windows(7).position(|w| w == b"expires").unwrap() + 12;
        bytes[at] ^= 1;
        fs::write(lab.metadata(name), bytes).unwrap();
        let seen = applied(&mut lab);
        table.row(
            6,
            &format!("byte flipped in {name}"),
            "refuse",
            &seen,
            seen.starts_with("refused"),
        );
    }
    let mut lab = Lab::new();
    forge::<Timestamp>(&lab.metadata("timestamp.json"), &[&key(9)], |_| {});
    let seen = applied(&mut lab);
    table.row(
        6,
        "timestamp signed by a wrong key",
        "refuse",
        &seen,
        seen.contains("is not signed by"),
    );
}

pub(super) fn keys(table: &mut Table) {
    // Everything online is stolen: a module of the thief's in a role that the thief signs.
    let mut lab = Lab::new();
    let thief = [
        &online(&lab, "snapshot"),
        &online(&lab, "timestamp"),
        &online(&lab, "hold"),
    ];
    forge::<Targets>(&lab.metadata(ROLE), &thief, |body| body.version = 2);
    fs::rename(
        lab.metadata(ROLE),
        lab.metadata(&ROLE.replacen('1', "2", 1)),
    )
    .unwrap();
    let role = ROLE.trim_start_matches("1.").to_owned();
    resign(
        &lab,
        |body| body.meta.get_mut(&role).unwrap().version = 2,
        2,
    );
    let seen = applied(&mut lab);
    table.row(
        7,
        "thief holds snapshot, timestamp and hold keys",
        "cannot add",
        &seen,
        seen.contains("2 valid signatures wanted, 0 found") && lab.host.inserted.is_empty(),
    );
    let mut lab = Lab::new();
    let waves = tuxtape_core::rollout::Waves::normal(start().plus(3600));
    let draft = redated(&lab);
    forge::<Targets>(&draft, &[], |body| {
        body.tuxtape.as_mut().unwrap()["kernels"][0]["levels"][0]["waves"] =
            serde_json::to_value(&waves).unwrap();
    });
    lab.archive.sign_all().unwrap();
    lab.archive.workspace.publish(start()).unwrap();
    let release = RELEASE.parse().unwrap();
    lab.archive
        .workspace
        .cap(&release, None, 1000, "open up", start())
        .unwrap();
    let seen = applied(&mut lab);
    table.row(
        7,
        "the same, with a cap of 1000 before the schedule begins",
        "cannot widen",
        &seen,
        seen.contains("0.00 % of the fleet") && lab.host.inserted.is_empty(),
    );
    lab.host.now = start().plus(31 * 86_400);
    lab.archive.workspace.renew(lab.host.now).unwrap();
    let seen = applied(&mut lab);
    table.row(
        7,
        "the same, and freezes the kernel",
        "ends with the role's validity",
        &seen,
        seen.contains("k__x86_64__6.1.0-47-cloud-amd64 expired"),
    );
    for (what, role) in [
        ("snapshot", OnlineRole::Snapshot),
        ("timestamp", OnlineRole::Timestamp),
    ] {
        let mut lab = Lab::new();
        let good = keep(&lab, "good");
        applied(&mut lab);
        resign(&lab, |_| {}, 1 << 50);
        applied(&mut lab);
        for name in ["timestamp.json", "1.snapshot.json"] {
            fs::copy(good.join("metadata").join(name), lab.metadata(name)).unwrap();
        }
        fs::remove_file(lab.metadata(&format!("{}.snapshot.json", 1u64 << 50))).unwrap();
        let stuck = applied(&mut lab);
        lab.archive
            .workspace
            .rotate_online(role, start().plus(1))
            .unwrap();
        // Both keys were stolen, so both go.
        let other = match role {
            OnlineRole::Snapshot => OnlineRole::Timestamp,
            OnlineRole::Timestamp | OnlineRole::Hold => OnlineRole::Snapshot,
        };
        lab.archive
            .workspace
            .rotate_online(other, start().plus(1))
            .unwrap();
        lab.archive.sign_all().unwrap();
        lab.archive.workspace.publish(start().plus(2)).unwrap();
        lab.host.now = start().plus(3);
        let seen = applied(&mut lab);
        table.row(
            8,
            &format!("fast-forward, then {what} and the other rotated in root"),
            "recover",
            &seen,
            stuck.contains("older than what was seen") && seen == "level 1 stays",
        );
    }
    let mut lab = Lab::new();
    forge::<Targets>(&lab.metadata("1.targets.json"), &[&key(1)], |body| {
        let delegations = body.delegations.as_mut().unwrap();
        delegations.roles[1].keys.threshold = 1;
    });
    let seen = applied(&mut lab);
    table.row(
        9,
        "one of two targets keys stolen",
        "refuse",
        &seen,
        seen.contains("2 valid signatures wanted, 1 found"),
    );
    let mut lab = Lab::new();
    forge::<Targets>(&lab.metadata(ROLE), &[&key(1)], |body| body.version = 1);
    let seen = applied(&mut lab);
    table.row(
        10,
        "one of two reviewers' keys stolen",
        "refuse",
        &seen,
        seen.contains("2 valid signatures wanted, 1 found"),
    );
    let mut lab = Lab::new();
    forge::<Targets>(&lab.metadata(ROLE), &[&key(1), &key(2)], |body| {
        let file = body.targets.values().next().unwrap().clone();
        body.targets.insert(
            "tt__x86_64__6.1.0-50-cloud-amd64__2f2f2f2f2f2f__9.ko".to_owned(),
            file,
        );
    });
    let seen = applied(&mut lab);
    table.row(
        10,
        "a role names a module of another kernel",
        "not taken",
        &seen,
        seen.contains("no level names the target") && lab.host.inserted.is_empty(),
    );
}

pub(super) fn roots(table: &mut Table) {
    let next = |lab: &Lab, version: u64, signers: &[&PrivateKey], change: fn(&mut Root)| {
        let path = lab.metadata(&format!("{version}.root.json"));
        fs::copy(lab.metadata(&format!("{}.root.json", version - 1)), &path).unwrap();
        forge::<Root>(&path, signers, |root| {
            root.version = version;
            change(root);
        });
    };
    let mut lab = Lab::new();
    next(&lab, 2, &[&key(1)], |_| {});
    let seen = applied(&mut lab);
    table.row(
        11,
        "root with 1 of 2 signatures",
        "refuse",
        &seen,
        seen.contains("2 valid signatures wanted, 1 found"),
    );
    let mut lab = Lab::new();
    for version in 2..=9 {
        next(&lab, version, &[&key(1), &key(2)], |_| {});
    }
    let seen = applied(&mut lab);
    table.row(
        12,
        "root rotated eight times",
        "accept through the chain",
        &seen,
        seen == "loaded level 1",
    );
    for version in 10..=260 {
        next(&lab, version, &[&key(1), &key(2)], |_| {});
    }
    let mut far = Lab::new();
    far.settings.config.archive_url = Some(lab.archive.public().display().to_string());
    let root = fs::read(lab.metadata("1.root.json")).unwrap();
    far.settings.state = far.folder.path().join("state-2");
    apply::init(&far.settings, &root).unwrap();
    let seen = applied(&mut far);
    table.row(
        12,
        "259 new roots at once",
        "256 at most in one update",
        &seen,
        seen.contains("more than 256 new roots"),
    );
    let mut lab = Lab::new();
    let old = keep(&lab, "old");
    next(&lab, 2, &[&key(1), &key(2)], |root| {
        let new = key(8).public();
        root.roles.timestamp.keyids = vec![new.id()];
        root.keys.insert(new.id(), new);
    });
    forge::<Timestamp>(&lab.metadata("timestamp.json"), &[&key(8)], |body| {
        body.version = 2;
    });
    applied(&mut lab);
    let seen = from(&mut lab, &old.display().to_string());
    table.row(
        13,
        "2.root.json withheld, revoked timestamp key used",
        "refuse",
        &seen,
        seen.contains("is not signed by the timestamp key"),
    );
    for (status, must) in [(500, "abort"), (0, "abort"), (403, "none"), (404, "none")] {
        let mut lab = Lab::new();
        let url = http(lab.archive.public(), move |path| {
            path.ends_with("2.root.json").then(|| match status {
                0 => Vec::new(),
                _ => {
                    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        .into_bytes()
                }
            })
        });
        let seen = from(&mut lab, &url).replace(&url, "URL");
        let what = if status == 0 {
            "a reset".to_owned()
        } else {
            status.to_string()
        };
        let good = if must == "abort" {
            seen.starts_with("refused")
        } else {
            seen == "loaded level 1"
        };
        table.row(
            14,
            &format!("2.root.json answers {what}"),
            must,
            &seen,
            good,
        );
    }
    let mut lab = Lab::new();
    let path = lab.metadata("1.targets.json");
    let mut envelope = Envelope::parse(&fs::read(&path).unwrap(), 1 << 20).unwrap();
    envelope.signatures.push(envelope.signatures[0].clone());
    fs::write(&path, envelope.to_bytes()).unwrap();
    let seen = applied(&mut lab);
    table.row(
        15,
        "one signature twice",
        "refuse",
        &seen,
        seen.contains("signs twice"),
    );
    let mut lab = Lab::new();
    next(&lab, 2, &[&key(1), &key(2)], |root| {
        let first = root.roles.root.keyids[0].clone();
        root.roles.root.keyids.push(first);
    });
    let seen = applied(&mut lab);
    table.row(
        15,
        "one key id twice in a role",
        "refuse",
        &seen,
        seen.contains("names a key twice"),
    );
    let mut lab = Lab::new();
    next(&lab, 2, &[&key(1), &key(2)], |root| {
        root.roles.timestamp.threshold = 3;
    });
    let seen = applied(&mut lab);
    table.row(
        15,
        "a threshold above the keys",
        "refuse",
        &seen,
        seen.contains("3 valid signatures wanted, 1 found"),
    );
    let mut lab = Lab::new();
    lab.host.now = start().plus(366 * 86_400);
    forge::<Root>(&lab.metadata("1.root.json"), &[&key(1), &key(2)], |_| {});
    next(&lab, 2, &[&key(1), &key(2)], |root| {
        root.expires = start().plus(800 * 86_400);
    });
    let mut store = MemoryStore::default();
    store
        .save(
            &Stored::Root,
            &fs::read(lab.metadata("1.root.json")).unwrap(),
        )
        .unwrap();
    let source = DirectorySource::new(&lab.archive.public());
    let error = client::refresh(&mut store, &source, lab.host.now)
        .unwrap_err()
        .to_string();
    table.row(
        30,
        "root expired in the field, a newer one is there",
        "new root accepted through the chain",
        &format!("root 2 taken; then {error}"),
        error.starts_with("timestamp expired"),
    );
}
