//! The threats to an archive, each tried: case, what must happen, what was seen.
//!
//! `cargo test -p tuxtape-client --test it threats -- --nocapture` prints the table that
//! `docs/archive-threats.md` keeps.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tuxtape_archive::client::{self, DiskStore, MemoryStore, Store, Stored};
use tuxtape_archive::index::OnWithdraw;
use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::metadata::{Envelope, FileMeta, Root, Snapshot, Targets, Timestamp};
use tuxtape_archive::policy::Duty;
use tuxtape_archive::publish::bundle::import;
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::publish::withdraw::WithdrawRequest;
use tuxtape_archive::sample::{self, RELEASE, key, start};
use tuxtape_archive::source::{DirectorySource, HttpOptions, HttpSource, Source, SourceError};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_client::apply::{self, Applied};
use tuxtape_client::check::{Checked, check};
use tuxtape_client::plan::Plan;
use tuxtape_core::identity::PatchLevel;

use super::setup::{Chain, Lab, forge};
use super::threats_table::{Table, hostile, http};

/// What somebody does to a file.
type Change = fn(&mut Vec<u8>);

const ROLE: &str = "1.k__x86_64__6.1.0-47-cloud-amd64.json";

/// Applies and says in one line what came of it, with the reason where the archive was not believed.
fn applied(lab: &mut Lab) -> String {
    let source = lab.source();
    let (done, remarks) = match apply::apply(&mut lab.host, &lab.settings, &*source, false, false) {
        Ok(done) => done,
        Err(error) => return format!("refused: {}", Chain(&error)),
    };
    let mut seen = match done {
        Applied::Loaded(level) => format!("loaded level {}", level.level),
        Applied::UpToDate(level) => format!("level {} stays", level.level),
        Applied::Left(level, why) => format!("left level {}: {why}", level.level),
        Applied::Blocked(level, why) => {
            let why: Vec<String> = why.iter().map(ToString::to_string).collect();
            format!("level {} waits: {}", level.level, why.join("; "))
        }
        other => format!("{other:?}"),
    };
    let refused = "going by what was trusted before, since the update failed: ";
    for remark in remarks {
        seen.push_str(&format!("; {}", remark.replace(refused, "refused: ")));
    }
    seen
}

fn online(lab: &Lab, role: &str) -> PrivateKey {
    let keys = lab.folder.path().join("archive/keys");
    PrivateKey::load(&keys.join(format!("{role}.pem"))).unwrap()
}

fn keep(lab: &Lab, to: &str) -> std::path::PathBuf {
    let to = lab.folder.path().join(to);
    for folder in ["metadata", "targets"] {
        fs::create_dir_all(to.join(folder)).unwrap();
        for entry in fs::read_dir(lab.archive.public().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    to
}

fn from(lab: &mut Lab, place: &str) -> String {
    let before = lab.settings.config.archive_url.replace(place.to_owned());
    let seen = applied(lab);
    lab.settings.config.archive_url = before;
    seen
}

/// Signs another snapshot and a timestamp for it, as who holds those keys can.
fn resign(lab: &Lab, change: impl FnOnce(&mut Snapshot), version: u64) {
    let (from, to) = (
        lab.metadata("1.snapshot.json"),
        lab.metadata(&format!("{version}.snapshot.json")),
    );
    if from != to {
        fs::copy(from, &to).unwrap();
    }
    forge::<Snapshot>(&to, &[&online(lab, "snapshot")], |body| {
        body.version = version;
        change(body);
    });
    forge::<Timestamp>(
        &lab.metadata("timestamp.json"),
        &[&online(lab, "timestamp")],
        |body| {
            body.version = version;
            *body.meta.get_mut("snapshot.json").unwrap() = FileMeta {
                version,
                length: None,
                hashes: std::collections::BTreeMap::new(),
            };
        },
    );
}

#[test]
fn every_threat_to_the_archive_ends_as_it_must() {
    let mut table = Table::default();
    replays(&mut table);
    keys(&mut table);
    roots(&mut table);
    bytes(&mut table);
    networks(&mut table);
    states(&mut table);
    clocks(&mut table);
    people(&mut table);
    levels(&mut table);
    println!("{}", table.text());
    assert_eq!(table.wrong(), [""; 0]);
}

fn replays(table: &mut Table) {
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

fn keys(table: &mut Table) {
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
    let draft = lab
        .archive
        .workspace
        .redate(start())
        .unwrap()
        .drafts
        .remove(0);
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

fn roots(table: &mut Table) {
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

fn bytes(table: &mut Table) {
    let mut lab = Lab::new();
    for (name, signers) in [
        ("1.targets.json", vec![key(1), key(2)]),
        ("timestamp.json", vec![online(&lab, "timestamp")]),
    ] {
        let path = lab.metadata(name);
        let mut value: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        value["signed"]["x-new"] = serde_json::json!({"a": [1, null]});
        if name == "1.targets.json" {
            value["signed"]["delegations"]["x-new"] = serde_json::json!(1);
            value["signed"]["delegations"]["roles"][1]["x-new"] = serde_json::json!("b");
        }
        value["signatures"] = serde_json::json!([]);
        let mut envelope = Envelope::parse(&serde_json::to_vec(&value).unwrap(), 1 << 20).unwrap();
        for key in &signers {
            envelope.sign(key);
        }
        fs::write(&path, envelope.to_bytes()).unwrap();
    }
    let seen = applied(&mut lab);
    table.row(
        16,
        "unknown fields in a body, in delegations, in a delegated role",
        "verify over them, act only on known",
        &seen,
        seen == "loaded level 1",
    );
    let mut lab = Lab::new();
    forge::<Targets>(&lab.metadata(ROLE), &[&key(1), &key(2)], |body| {
        body.tuxtape.as_mut().unwrap()["kernels"][0]["x-new"] = serde_json::json!(1);
    });
    let seen = applied(&mut lab);
    table.row(
        16,
        "unknown field in a kernel's index",
        "refuse as too new, level kept",
        &seen,
        seen.contains("this client is too old"),
    );
    let mut lab = Lab::new();
    fs::write(lab.metadata("timestamp.json"), vec![b' '; 16 * 1024 + 1]).unwrap();
    let seen = applied(&mut lab);
    table.row(
        17,
        "timestamp of 16 KiB and a byte",
        "refuse at the cap",
        &seen,
        seen.contains("larger than 16384 bytes"),
    );
    fs::write(lab.metadata("timestamp.json"), "[".repeat(16_000)).unwrap();
    let seen = applied(&mut lab);
    table.row(
        17,
        "nested 16,000 deep",
        "refuse",
        &seen,
        seen.contains("is not usable"),
    );
    let url = hostile(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let seen = from(&mut lab, &url);
    table.row(
        17,
        "endless answer",
        "refuse at the cap",
        &seen,
        seen.contains("larger than"),
    );
    let mut lab = Lab::new();
    let url = http(lab.archive.public(), |path| {
        path.ends_with("timestamp.json").then(|| {
            // The head of a gzip stream; what it would unpack to does not matter, since nothing does.
            let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3][..], &[0xed; 900]].concat();
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bomb.len()).into_bytes();
            answer.extend(bomb);
            answer
        })
    });
    let seen = from(&mut lab, &url);
    table.row(
        17,
        "gzip bomb",
        "never unpacked",
        &seen,
        seen.contains("timestamp.json is not usable"),
    );
    let source = DirectorySource::new(&lab.archive.public());
    for name in ["../policy.toml", "a/../../x", "\0", "", "."] {
        let error = source.metadata(name, 100).unwrap_err();
        table.row(
            20,
            &format!("file {name:?} from a folder"),
            "refuse",
            &error.to_string(),
            matches!(error, SourceError::Name(_)),
        );
    }
    for name in ["../x", "a/b", "%2e%2e", "a\0b", "a\nb", "\u{e9}"] {
        let file = tuxtape_archive::names::file(name);
        let flat = file
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.~-%".contains(&b))
            && !file.starts_with("../");
        table.row(
            20,
            &format!("role called {name:?}"),
            "one flat encoded name",
            &file,
            flat,
        );
    }
}

fn networks(table: &mut Table) {
    let mut lab = Lab::new();
    let url = hostile(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
            .ok();
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let options = HttpOptions {
        patience: Duration::from_secs(1),
        ..HttpOptions::default()
    };
    let source = HttpSource::new(&url, &options).unwrap();
    let begin = Instant::now();
    let error = source
        .metadata("timestamp.json", 16_384)
        .unwrap_err()
        .to_string();
    table.row(
        18,
        "slow drip, 50 bytes a second",
        "abort by least rate",
        &error.replace(&url, "URL"),
        error.contains("slower than 1024") && begin.elapsed() < Duration::from_secs(20),
    );
    let url = hostile(|stream| {
        std::thread::sleep(Duration::from_secs(4));
        drop(stream.shutdown(std::net::Shutdown::Both));
    });
    let options = HttpOptions {
        total: Duration::from_secs(1),
        ..HttpOptions::default()
    };
    let error = HttpSource::new(&url, &options)
        .unwrap()
        .metadata("timestamp.json", 16_384)
        .unwrap_err()
        .to_string();
    table.row(
        18,
        "a server that says nothing",
        "abort by total time",
        &error.replace(&url, "URL"),
        error.contains("timeout"),
    );
    for target in [
        "http://127.0.0.1:9/metadata/x",
        "ftp://x/",
        "http://other.example/x",
    ] {
        let url = http(lab.archive.public(), move |path| {
            path.ends_with("timestamp.json").then(|| {
                format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
            })
        });
        let seen = from(&mut lab, &url).replace(&url, "URL");
        table.row(
            19,
            &format!("redirect to {target}"),
            "refuse another origin",
            &seen,
            seen.contains("answered 302"),
        );
    }
    let url = http(lab.archive.public(), |_| None);
    let seen = from(&mut lab, &url);
    table.row(
        40,
        "no TLS at all",
        "works; signatures alone decide",
        &seen,
        seen == "loaded level 1",
    );
}

fn states(table: &mut Table) {
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

fn clocks(table: &mut Table) {
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

fn people(table: &mut Table) {
    let lab = Lab::new();
    let (bundle, mirror) = (
        lab.folder.path().join("b.tar"),
        lab.folder.path().join("mirror"),
    );
    let root = fs::read(lab.metadata("1.root.json")).unwrap();
    let none = BTreeSet::new();
    lab.archive.workspace.bundle(&[], &none, &bundle).unwrap();
    let stale = fs::read(&bundle).unwrap();
    import(&bundle, &mirror, Some(&root), start()).unwrap();
    lab.archive.stage(2, start().plus(60)).unwrap();
    lab.archive.sign_all().unwrap();
    lab.archive.workspace.publish(start().plus(60)).unwrap();
    let written = lab.archive.workspace.bundle(&[], &none, &bundle).unwrap();
    let whole = fs::read(&bundle).unwrap();
    let take = |bytes: &[u8]| {
        fs::write(&bundle, bytes).unwrap();
        let outcome = import(&bundle, &mirror, None, start().plus(61));
        outcome
            .map_or_else(
                |error| Chain(&error).to_string(),
                |taken| format!("took {}", taken.files.len()),
            )
            .replace(&bundle.display().to_string(), "BUNDLE")
    };
    let mut changed = whole.clone();
    let at = changed.windows(8).position(|w| w == b"livepatc").unwrap();
    changed[at] ^= 1;
    let seen = take(&changed);
    table.row(
        28,
        "medium tampered with",
        "refuse",
        &seen,
        seen.contains("is not the one that was signed"),
    );
    let seen = take(&whole[..whole.len() / 2]);
    table.row(
        28,
        "medium cut short",
        "refuse, name the entry",
        &seen,
        seen.contains("it ends in the middle of"),
    );
    let modules: BTreeSet<String> = written
        .iter()
        .filter(|name| name.contains("__2.ko"))
        .cloned()
        .collect();
    lab.archive
        .workspace
        .bundle(&[], &modules, &bundle)
        .unwrap();
    let lacking = fs::read(&bundle).unwrap();
    let seen = take(&lacking);
    table.row(
        28,
        "medium incomplete",
        "list what is missing",
        &seen,
        seen.contains("lacks ") && seen.contains("__2.ko"),
    );
    take(&whole);
    let seen = take(&stale);
    table.row(
        28,
        "medium stale",
        "refuse by floor",
        &seen,
        seen.contains("older than what was seen"),
    );

    let mut lab = Lab::new();
    lab.archive
        .workspace
        .rotate_online(OnlineRole::Timestamp, start())
        .unwrap();
    let words = lab.archive.workspace.show("root").unwrap().words;
    forge::<Root>(
        &lab.archive.workspace.drafts().join("2.root.json"),
        &[],
        |root| {
            let thief = key(66).public();
            root.roles.timestamp.keyids = vec![thief.id()];
            root.keys.insert(thief.id(), thief);
        },
    );
    let error = lab
        .archive
        .workspace
        .sign("root", &key(1), &words)
        .unwrap_err()
        .to_string();
    table.row(
        29,
        "another root than the one whose words were read",
        "each signer's tool refuses",
        &error,
        error.contains("is not the one you expect"),
    );
    let come = [("carol".to_owned(), key(3).public())];
    let workspace = &mut lab.archive.workspace;
    fs::remove_file(workspace.drafts().join("2.root.json")).unwrap();
    workspace
        .rotate_people(Duty::Root, &[], &come, start())
        .unwrap();
    lab.archive.sign_all().unwrap();
    lab.archive.workspace.publish(start()).unwrap();
    // Carol's key is lost; the other two exchange it.
    let leave = ["carol".to_owned()];
    lab.archive
        .workspace
        .rotate_people(Duty::Root, &leave, &[], start())
        .unwrap();
    lab.archive.sign_all().unwrap();
    lab.archive.workspace.publish(start()).unwrap();
    let seen = applied(&mut lab);
    table.row(
        29,
        "1 of 3 root keys lost",
        "recovers",
        &seen,
        seen == "loaded level 1",
    );
}

fn levels(table: &mut Table) {
    let mut lab = Lab::new();
    lab.host.policy.signatures_enforced = Some(true);
    let seen = match check(&lab.host, &lab.settings, &*lab.source()).unwrap() {
        Checked::Plan(Plan::Blocked(_, why)) => why[0].to_string(),
        other => format!("{other:?}"),
    };
    let tried = applied(&mut lab);
    table.row(
        33,
        "unsigned module under module.sig_enforce",
        "predicted; no strike",
        &seen,
        seen.contains("not signed for the kernel")
            && tried.contains("waits")
            && lab.journal().strikes.is_empty(),
    );
    let withdraw = |lab: &Lab, level| {
        let request = WithdrawRequest {
            release: RELEASE.parse().unwrap(),
            build: None,
            level: PatchLevel(level),
            on_withdraw: OnWithdraw::Revert,
            reason: "hangs".to_owned(),
        };
        lab.archive
            .workspace
            .withdraw(&request, lab.host.now)
            .unwrap();
        lab.archive.sign_all().unwrap();
        lab.archive.workspace.publish(lab.host.now).unwrap();
    };
    let mut lab = Lab::new();
    lab.next_level(2);
    applied(&mut lab);
    withdraw(&lab, 2);
    let seen = applied(&mut lab);
    table.row(
        37,
        "level withdrawn while applied",
        "left, and the level before it loaded",
        &seen,
        seen.starts_with("loaded level 1; level 2 is out: withdrawn: hangs")
            && lab.in_force() == ["tt_2f2f2f2f_1"],
    );
    let seen = applied(&mut lab);
    table.row(
        38,
        "lower level after a signed withdrawal",
        "taken, and kept",
        &seen,
        seen == "level 1 stays",
    );
    let mut lab = Lab::new();
    lab.next_level(2);
    apply::refresh(&lab.host, &lab.settings, &*lab.source()).unwrap();
    withdraw(&lab, 2);
    let seen = applied(&mut lab);
    table.row(
        37,
        "level withdrawn while staged",
        "dropped",
        &seen,
        seen == "loaded level 1",
    );
    let mut lab = Lab::new();
    lab.next_level(2);
    applied(&mut lab);
    let draft = lab
        .archive
        .workspace
        .redate(start())
        .unwrap()
        .drafts
        .remove(0);
    forge::<Targets>(&draft, &[], |body| {
        let levels = body.tuxtape.as_mut().unwrap()["kernels"][0]["levels"]
            .as_array_mut()
            .unwrap();
        let gone = levels.pop().unwrap();
        body.targets.remove(gone["target"].as_str().unwrap());
    });
    lab.archive.sign_all().unwrap();
    lab.archive.workspace.publish(start()).unwrap();
    let seen = applied(&mut lab);
    table.row(
        38,
        "newer metadata that names only a lower level",
        "not taken",
        &seen,
        seen == "level 2 stays" && lab.in_force() == ["tt_2f2f2f2f_2"],
    );
}
