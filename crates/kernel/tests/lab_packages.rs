//! Real kernels from packages: needs `TUXTAPE_CACHE` with `tuxtape kernel add` done in it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail and speak as tests do"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tuxtape_core::applicability::built::{self, Built};
use tuxtape_core::identity::ObjectName;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::fix_source::{self, NewerSource};
use tuxtape_kernel::profile::build::{self, Provenance};
use tuxtape_kernel::unified::{self, PatchedFile, TreePath};

const RELEASE: &str = "6.1.0-47-cloud-amd64";

fn kernel() -> Option<(PathBuf, KernelFiles)> {
    let Some(cache) = std::env::var_os("TUXTAPE_CACHE").map(PathBuf::from) else {
        eprintln!("skipped: TUXTAPE_CACHE is not set");
        return None;
    };
    let files = KernelFiles::below(&cache, &RELEASE.parse().unwrap());
    if !files.vmlinux.is_file() || !files.top.join("source-files").is_file() {
        eprintln!("skipped: {RELEASE} is not in the cache");
        return None;
    }
    Some((cache, files))
}

fn objects(profile: &KernelProfile, unit: &str) -> Vec<String> {
    let found = profile.units.get(unit);
    found
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn lab_a_profile_says_what_a_stock_kernel_was_built_of() {
    let Some((_, files)) = kernel() else {
        return;
    };
    let tree: BTreeSet<String> = fs::read_to_string(files.top.join("source-files"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let provenance = Provenance {
        spec: format!("debian:{RELEASE}"),
        source_package: "linux-source-6.1".to_owned(),
        source_version: "6.1.170-3".to_owned(),
    };
    let built = build::build(&files, &provenance, tree.clone()).unwrap();
    assert_eq!(built.unchecked, Vec::<String>::new());
    let profile = built.profile;
    assert_eq!(profile.base_version, "6.1.170");
    assert_eq!(objects(&profile, "net/core/dev.c"), ["vmlinux"]);
    assert_eq!(
        objects(&profile, "net/netfilter/nf_tables_api.c"),
        ["nf_tables"]
    );
    // Assembly is named by an absolute path of the machine that built it.
    assert_eq!(objects(&profile, "arch/x86/entry/entry_64.S"), ["vmlinux"]);
    assert!(objects(&profile, "drivers/gpu/drm/amd/amdgpu/amdgpu_device.c").is_empty());
    // Included by kernel/sched/build_policy.c.
    let vmlinux = ObjectName(ObjectName::VMLINUX.to_owned());
    assert!(profile.contributors["kernel/sched/rt.c"].contains(&vmlinux));
    assert!(profile.contributors["include/net/sock.h"].len() > 10);
    assert!(profile.contributors.contains_key("lib/raid6/int.uc"));
    // In the boot stub alone, which has no debug data: must not look like "in the tree, not built".
    let stub = "drivers/firmware/efi/libstub/gop.c".to_owned();
    assert!(tree.contains(&stub));
    let found = built::look(std::slice::from_ref(&stub), &profile);
    assert!(matches!(found, Built::Unknown { .. }), "{found:?}");
    assert!(profile.config.livepatch && !profile.config.ibt);
}

#[test]
fn corpus_every_reference_fix_is_read_and_applies() {
    let corpus = std::env::var_os("TUXTAPE_CORPUS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = corpus.join("fixes/debian-6.1.170-3-cloud-amd64");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return;
    };
    let kernel = kernel();
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "patch") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let diff = unified::parse(&bytes);
        assert!(diff.is_ok(), "{}: {diff:?}", path.display());
        if let Some((_, files)) = &kernel {
            after(files, &bytes);
        }
        count += 1;
    }
    assert!(count > 0, "an empty corpus proves nothing");
    eprintln!("{count} fixes read, applied: {}", kernel.is_some());
}

#[test]
fn corpus_cuts_have_the_effect_of_the_reference_fixes() {
    let corpus = std::env::var_os("TUXTAPE_CORPUS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = corpus.join("fixes/debian-6.1.170-3-cloud-amd64");
    let Ok(index) = fs::read_to_string(folder.join("index.jsonl")) else {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return;
    };
    let Some((cache, files)) = kernel() else {
        return;
    };
    let tree = cache.join("sources/linux-source-6.1_6.1.176-1");
    if !tree.is_dir() {
        eprintln!("skipped: {} is not there", tree.display());
        return;
    }
    let newer = NewerSource {
        package: "linux-source-6.1".to_owned(),
        version: DebianVersion::new("6.1.176-1"),
        tree,
    };
    let mut compared = 0;
    for line in index.lines() {
        let group: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = group["id"].as_str().unwrap();
        let paths: Vec<String> = group["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap().to_owned())
            .collect();
        let reference = fs::read(folder.join(format!("{id}.patch"))).unwrap();
        let cut = fix_source::cut(&files, &newer, &paths).unwrap();
        assert_eq!(
            after(&files, cut.fix.diff.as_bytes()),
            after(&files, &reference),
            "{id}"
        );
        compared += 1;
    }
    assert!(compared > 0, "an empty corpus compares nothing");
    eprintln!("{compared} fixes compared");
}

/// Returns the files of `diff` as they are after it.
fn after(files: &KernelFiles, diff: &[u8]) -> Vec<(TreePath, Option<Vec<u8>>)> {
    let diff = unified::parse(diff).unwrap();
    let mut found: Vec<_> = diff
        .files
        .iter()
        .map(|file| {
            let before = fs::read(files.source.join(file.path.as_str())).ok();
            let before = before.map(|bytes| PatchedFile::pristine(&bytes));
            let after = unified::apply(file, before.as_ref()).unwrap();
            (file.path.clone(), after.map(|file| file.bytes()))
        })
        .collect();
    found.sort();
    found
}
