//! Makefiles of a real kernel against its debug data: needs `TUXTAPE_CACHE` with `tuxtape kernel add`
//! done in it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail and speak as tests do"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tuxtape_core::profile::Way;
use tuxtape_kernel::config::Config;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::kbuild::compare::{self, Pairs};
use tuxtape_kernel::kbuild::{self, Folder, KbuildError, OtherVersion, Request};
use tuxtape_kernel::profile::build::{self, Provenance};

const RELEASE: &str = "6.1.0-47-cloud-amd64";

fn kernel() -> Option<KernelFiles> {
    let Some(cache) = std::env::var_os("TUXTAPE_CACHE").map(PathBuf::from) else {
        eprintln!("skipped: TUXTAPE_CACHE is not set");
        return None;
    };
    let files = KernelFiles::below(&cache, &RELEASE.parse().unwrap());
    if !files.vmlinux.is_file() || !files.top.join("source-files").is_file() {
        eprintln!("skipped: {RELEASE} is not in the cache");
        return None;
    }
    Some(files)
}

fn names(pairs: &Pairs) -> Vec<&str> {
    pairs.iter().map(|(path, _)| path.as_str()).collect()
}

#[test]
fn lab_makefiles_and_debug_data_of_a_stock_kernel_agree() {
    let Some(files) = kernel() else {
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
    let truth = build::build(&files, &provenance, tree.clone())
        .unwrap()
        .profile;
    let config = Config::parse(&fs::read_to_string(&files.config).unwrap());
    let found = kbuild::evaluate(&Folder::open(&files.source).unwrap(), &config).unwrap();
    let modules = build::modules(&files).unwrap();
    assert!(modules.len() > 1000, "{} modules", modules.len());
    let outcome = compare::compare(&found, &truth, &modules, &tree);
    assert_eq!(outcome.wrongly_not_built, BTreeSet::new());
    assert_eq!(outcome.missed_modules, BTreeSet::new());
    assert_eq!(outcome.extra_modules, BTreeSet::new());
    assert!(outcome.both.len() > 4700, "{} units", outcome.both.len());
    // The name that debug data gives to `retpoline.S`, after the first line it includes.
    assert_eq!(
        names(&outcome.missed),
        ["arch/x86/include/asm/GEN-for-each-reg.h"]
    );
    // Assembly that holds data and no code leaves no debug data.
    assert_eq!(
        names(&outcome.extra),
        [
            "arch/x86/entry/vsyscall/vsyscall_emu_64.S",
            "arch/x86/lib/retpoline.S",
            "arch/x86/purgatory/kexec-purgatory.S",
            "arch/x86/realmode/rmpiggy.S",
            "certs/system_certificates.S",
            "usr/initramfs_data.S",
        ]
    );
    assert!(found.unsourced.is_empty(), "{:?}", found.unsourced);
}

#[test]
fn lab_a_profile_by_evaluation_of_a_stock_tree() {
    let Some(files) = kernel() else {
        return;
    };
    let tree = Folder::open(&files.source).unwrap();
    let config = fs::read_to_string(&files.config).unwrap();
    let request = Request {
        spec: "dir:source".to_owned(),
        source: "linux-source-6.1 6.1.170-3".to_owned(),
        release: None,
        other_version: OtherVersion::Refused,
    };
    let made = kbuild::profile(&tree, &config, &request).unwrap();
    assert_eq!(made.unchecked, Vec::<String>::new());
    let profile = made.profile;
    assert_eq!(profile.id.release.as_str(), "6.1.170");
    assert_eq!(profile.base_version, "6.1.170");
    assert_eq!(profile.sureness.way, Way::Evaluation);
    assert!(profile.config.livepatch && !profile.config.ibt);
    assert!(profile.contributors.contains_key("kernel/sched/rt.c"));
    assert!(profile.contributors.contains_key("lib/raid6/int.uc"));
    for path in [
        "drivers/firmware/efi/libstub/gop.c",
        "arch/x86/boot/compressed/misc.c",
        "arch/x86/entry/vdso/vclock_gettime.c",
        "lib/vdso/gettimeofday.c",
        "arch/x86/purgatory/purgatory.c",
        "lib/gen_crc32table.c",
        "arch/x86/kernel/asm-offsets.c",
        "usr/gen_init_cpio.c",
    ] {
        let blind = profile.sureness.blind.keys().any(|blind| {
            path == blind || (blind.ends_with('/') && path.starts_with(blind.as_str()))
        });
        assert!(blind, "{path}");
    }
    let kept = tuxtape_kernel::profile::to_json(&profile);
    assert!(kept.len() < 5 << 20, "{} bytes", kept.len());

    let other = config.replace("Linux/x86 6.1.170 ", "Linux/x86 6.1.176 ");
    let error = kbuild::profile(&tree, &other, &request).unwrap_err();
    assert!(matches!(error, KbuildError::OtherVersion { .. }), "{error}");
}
