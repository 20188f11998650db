//! What is pruned, and what is carried by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tuxtape_archive::names::cap;
use tuxtape_archive::publish::PublishError;
use tuxtape_archive::publish::bundle::{BundleError, import, tar};
use tuxtape_archive::sample::{RELEASE, start};
use tuxtape_archive::time::UtcSeconds;

use super::{archive, next, seen};

#[test]
fn pruning_removes_only_what_nobody_can_need() {
    let (_folder, archive) = archive();
    for n in 2..=5 {
        next(&archive, n, start().plus(n.into()));
    }
    let now = start().plus(60);
    let count = |folder: &str| fs::read_dir(archive.public().join(folder)).unwrap().count();
    let before = (count("metadata"), count("targets"));
    assert!(archive.workspace.prune(365, false, now).unwrap().is_empty());
    // Files carry the time they were written at, which is that of this test run.
    let far = UtcSeconds::from_unix(7_000_000_000);
    let listed = archive.workspace.prune(365, true, far).unwrap();
    assert_eq!(
        (count("metadata"), count("targets")),
        before,
        "a dry run removes nothing"
    );
    let gone = archive.workspace.prune(365, false, far).unwrap();
    assert_eq!(gone, listed);
    assert_eq!(count("targets"), 3);
    assert!(archive.public().join("metadata/1.root.json").exists());
    assert!(!archive.public().join("metadata/1.snapshot.json").exists());
    assert_eq!(
        seen(&archive.public(), now).unwrap().0.kernels[0]
            .levels
            .len(),
        3
    );
}

#[test]
fn a_bundle_carries_the_archive_to_a_mirror_and_only_what_is_new() {
    let (folder, archive) = archive();
    let (out, mirror) = (folder.path().join("b.tar"), folder.path().join("mirror"));
    let written = archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &out)
        .unwrap();
    let again = folder.path().join("again.tar");
    archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &again)
        .unwrap();
    assert_eq!(fs::read(&out).unwrap(), fs::read(&again).unwrap());
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    assert!(matches!(
        import(&out, &mirror, None, start()),
        Err(PublishError::Bundle(BundleError::NoRoot { .. }))
    ));
    let taken = import(&out, &mirror, Some(&root), start()).unwrap();
    assert_eq!(taken.files.last().unwrap(), "metadata/timestamp.json");
    assert_eq!(taken.files.len(), written.len());
    assert_eq!(seen(&mirror, start()).unwrap().0.kernels[0].levels.len(), 1);
    next(&archive, 2, start().plus(60));
    let have: BTreeSet<String> = written.into_iter().collect();
    let new = archive
        .workspace
        .bundle(&[RELEASE.parse().unwrap()], &have, &out)
        .unwrap();
    assert!(
        !new.iter()
            .any(|name| have.contains(name) && !name.ends_with("timestamp.json"))
    );
    import(&out, &mirror, None, start().plus(61)).unwrap();
    assert_eq!(
        seen(&mirror, start().plus(61)).unwrap().0.kernels[0]
            .levels
            .len(),
        2
    );
    // The older one again.
    let stale = import(&again, &mirror, None, start().plus(62)).unwrap_err();
    let cause = std::error::Error::source(&stale).unwrap().to_string();
    assert!(cause.contains("older than what was seen before"), "{cause}");
}

fn files_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for name in ["metadata", "targets"] {
        for entry in fs::read_dir(folder.join(name)).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_bundle_that_is_cut_changed_or_incomplete_changes_nothing() {
    let (folder, archive) = archive();
    let (out, mirror) = (folder.path().join("b.tar"), folder.path().join("mirror"));
    archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &out)
        .unwrap();
    let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
    import(&out, &mirror, Some(&root), start()).unwrap();
    next(&archive, 2, start().plus(60));
    archive
        .workspace
        .bundle(&[], &BTreeSet::new(), &out)
        .unwrap();
    let good = fs::read(&out).unwrap();
    let before = files_of(&mirror);
    let refused = |bytes: &[u8], wanted: &str| {
        fs::write(&out, bytes).unwrap();
        let error = import(&out, &mirror, None, start().plus(61)).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        assert!(text.contains(wanted), "{text}");
        assert_eq!(files_of(&mirror), before, "{wanted}");
    };
    for cut in (0..good.len() - 1024).step_by(1777) {
        refused(&good[..cut], "");
    }
    let mut changed = good.clone();
    let at = good.windows(8).position(|w| w == b"livepatc").unwrap();
    changed[at] ^= 1;
    refused(&changed, "is not the one that was signed");
    // Rebuilt without one file, or with one too many.
    let rebuilt = |change: &dyn Fn(&str) -> bool, more: &[(&str, &[u8])]| {
        let mut reader = tar::Reader::new(&good[..]);
        let mut out = Vec::new();
        while let Some((name, bytes)) = reader.entry(|_| Some(cap::MODULE)).unwrap() {
            if change(&name) {
                tar::append(&mut out, &name, &bytes).unwrap();
            }
        }
        for (name, bytes) in more {
            tar::append(&mut out, name, bytes).unwrap();
        }
        tar::finish(&mut out).unwrap();
        out
    };
    let without = rebuilt(&|name| !name.ends_with("__2.ko"), &[]);
    refused(&without, "lacks ");
    let without = rebuilt(&|name| !name.contains("2.k__"), &[]);
    refused(&without, "lacks 2.k__x86_64__6.1.0-47-cloud-amd64.json");
    // Metadata that the verified chain does not name. The roots come first in a bundle, as they may.
    let with = |files: &[(&str, &[u8])]| {
        let mut out = Vec::new();
        let mut reader = tar::Reader::new(&good[..]);
        let mut first = true;
        while let Some((name, bytes)) = reader.entry(|_| Some(cap::MODULE)).unwrap() {
            if !files.iter().any(|(replaced, _)| *replaced == name) {
                tar::append(&mut out, &name, &bytes).unwrap();
            }
            if std::mem::take(&mut first) {
                for (name, bytes) in files {
                    tar::append(&mut out, name, bytes).unwrap();
                }
            }
        }
        tar::finish(&mut out).unwrap();
        out
    };
    let role = "k__x86_64__6.1.0-47-cloud-amd64";
    let published = |name: &str| fs::read(archive.public().join("metadata").join(name)).unwrap();
    refused(
        &with(&[("metadata/3.root.json", &root)]),
        "metadata/3.root.json: the chain of roots ends at 1",
    );
    refused(
        &with(&[("metadata/3.root.json", b"junk")]),
        "metadata/3.root.json: the chain of roots ends at 1",
    );
    refused(
        &with(&[("metadata/1.root.json", b"junk")]),
        "metadata/1.root.json: it is not the root that was verified under this number",
    );
    refused(
        &with(&[("metadata/01.root.json", &root)]),
        "metadata/01.root.json: the verified metadata does not name it",
    );
    refused(
        &with(&[("metadata/7.k__x86_64__6.1.0-99.json", b"junk")]),
        "the snapshot lists no role k__x86_64__6.1.0-99",
    );
    refused(
        &with(&[("metadata/9.snapshot.json", b"junk")]),
        "metadata/9.snapshot.json: the verified metadata does not name it",
    );
    let old = format!("metadata/1.{role}.json");
    refused(
        &with(&[(&old, &published(&format!("1.{role}.json")))]),
        &format!("the snapshot names version 2 of {role}"),
    );
    // A version that the state has seen already is not read again by the workflow.
    for name in ["1.targets.json", "1.hold.json"] {
        let name = format!("metadata/{name}");
        refused(&with(&[(&name, b"junk")]), &name);
    }
    let foreign = format!("targets/{}.evil.ko", "ab".repeat(32));
    refused(
        &rebuilt(&|_| true, &[(&foreign, b"x")]),
        "has a name that no bundle has",
    );
    refused(
        &rebuilt(&|_| true, &[("metadata/../x.json", b"x")]),
        "has a name that no bundle has",
    );
    refused(
        &rebuilt(&|_| true, &[("metadata/9.x.json", b"x")]),
        "a bundle is sorted",
    );
    refused(&rebuilt(&|name| name != "format", &[]), "");
    // The whole one is still taken.
    fs::write(&out, &good).unwrap();
    import(&out, &mirror, None, start().plus(61)).unwrap();
}
