//! The threats to an archive, each tried: case, what must happen, what was seen.
//!
//! `cargo test -p tuxtape-client --test it threats -- --nocapture` prints the table that
//! `docs/archive-threats.md` keeps.

mod machine;
mod metadata;
mod people;
mod transport;

use std::fs;
use std::path::PathBuf;

use tuxtape_archive::keys::PrivateKey;
use tuxtape_archive::metadata::{FileMeta, Snapshot, Timestamp};
use tuxtape_archive::sample::{forge, start};
use tuxtape_client::apply::{self, Applied};

use super::setup::{Chain, Lab};
use super::threats_table::Table;

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

fn keep(lab: &Lab, to: &str) -> PathBuf {
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

/// Drafts the kernel's role anew, with another end and nothing else, and returns the draft.
fn redated(lab: &Lab) -> PathBuf {
    let redated = lab.archive.workspace.redate(start()).unwrap();
    redated.drafts.into_iter().next().unwrap()
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
    metadata::replays(&mut table);
    metadata::keys(&mut table);
    metadata::roots(&mut table);
    transport::bytes(&mut table);
    transport::networks(&mut table);
    machine::states(&mut table);
    machine::clocks(&mut table);
    people::people(&mut table);
    people::levels(&mut table);
    println!("{}", table.text());
    assert_eq!(table.wrong(), [""; 0]);
}
