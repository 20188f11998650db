//! What people do: keys that are lost, levels that come and go.

use std::collections::BTreeSet;
use std::fs;

use tuxtape_archive::index::OnWithdraw;
use tuxtape_archive::metadata::{Root, Targets};
use tuxtape_archive::policy::Duty;
use tuxtape_archive::publish::bundle::import;
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::publish::stage::{KernelSignature, StageRequest};
use tuxtape_archive::publish::withdraw::WithdrawRequest;
use tuxtape_archive::sample::{self, RELEASE, forge, key, start};
use tuxtape_client::apply;
use tuxtape_client::check::{Checked, check};
use tuxtape_client::plan::Plan;
use tuxtape_core::identity::PatchLevel;

use super::{applied, redated};
use crate::setup::{Chain, Lab};
use crate::threats_table::Table;

pub(super) fn people(table: &mut Table) {
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

/// A level whose module is signed for the kernel, on kernels that demand it and know other keys or this one.
fn signed_for_the_kernel(table: &mut Table) {
    let skid = "de7a63e953b9809e3ba8433eb507d636eb7cbc15";
    let other = "ace55436448ddecd4ac51f888b4bcff2770296a5".to_owned();
    let known = vec![other.clone(), skid.to_owned()];
    for (keys, case, must, predicted, end) in [
        (
            Some(vec![other]),
            "module signed by a key the kernel does not list, under lockdown",
            "predicted, with the way out; no strike",
            "enrol this key",
            "waits",
        ),
        (
            Some(known),
            "the same, and the kernel lists the key",
            "loaded",
            "Load(",
            "loaded level 2",
        ),
        (
            None,
            "the same, and the kernel lists no keys at all",
            "no guess: tried",
            "Load(",
            "loaded level 2",
        ),
    ] {
        let mut lab = Lab::new();
        let mut module = sample::module(2);
        module.extend(b"~Module signature appended~\n");
        let request = StageRequest {
            release: RELEASE.parse().unwrap(),
            module,
            fixes: Vec::new(),
            unpatchable: Vec::new(),
            base_version: None,
            waves: None,
            floor: None,
            signed: Some(KernelSignature {
                unsigned_sha256: "00".repeat(32),
                signer_skid: skid.to_owned(),
            }),
        };
        let now = lab.host.now;
        lab.archive.workspace.stage(&request, now).unwrap();
        lab.archive.sign_all().unwrap();
        lab.archive.workspace.publish(now).unwrap();
        lab.host.policy.lockdown = Some("integrity".to_owned());
        lab.host.policy.keys = keys;
        let seen = match check(&lab.host, &lab.settings, &*lab.source()).unwrap() {
            Checked::Plan(Plan::Blocked(_, why)) => why[0].to_string(),
            other => format!("{other:?}"),
        };
        let tried = applied(&mut lab);
        let good = seen.contains(predicted)
            && tried.contains(end)
            && lab.journal().strikes.is_empty()
            && lab.host.inserted.is_empty() == (end == "waits");
        let row = if end == "waits" { &seen } else { &tried };
        table.row(33, case, must, row, good);
    }
}

pub(super) fn levels(table: &mut Table) {
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
    signed_for_the_kernel(table);
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
    let draft = redated(&lab);
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
