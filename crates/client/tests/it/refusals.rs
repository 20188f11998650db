//! What is refused before anything reaches the kernel.

use std::fs;

use tuxtape_archive::metadata::{Targets, Timestamp};
use tuxtape_archive::sample::{self, KERNEL, RELEASE, forge, key, start};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_client::apply::{self, Applied};
use tuxtape_client::check::{Checked, check};
use tuxtape_client::host::Host;
use tuxtape_client::plan::{Plan, Unsupported};
use tuxtape_client::status::status;
use tuxtape_core::identity::BuildId;

use super::setup::Lab;

#[test]
fn a_module_with_one_byte_changed_is_refused() {
    let mut lab = Lab::new();
    let path = lab.module_file();
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    lab.refused("is not the one that was signed: sha256 is ");
}

#[test]
fn a_module_of_another_length_is_refused() {
    let mut lab = Lab::new();
    let path = lab.module_file();
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    fs::write(&path, bytes).unwrap();
    lab.refused("is not the one that was signed: length is ");
}

#[test]
fn an_older_timestamp_is_refused() {
    let mut lab = Lab::new();
    let path = lab.metadata("timestamp.json");
    let old = fs::read(&path).unwrap();
    lab.archive.workspace.renew(start()).unwrap();
    apply::refresh(&lab.host, &lab.settings, &*lab.source()).unwrap();
    fs::write(&path, old).unwrap();
    lab.refused(
        "timestamp.json is older than what was seen before: version 1 of timestamp, seen 2",
    );
}

#[test]
fn an_expired_timestamp_is_refused() {
    let mut lab = Lab::new();
    lab.host.now = start().plus(25 * 3600);
    lab.refused("timestamp expired at 2026-11-25T18:00:00Z");
}

#[test]
fn metadata_signed_by_the_wrong_key_is_refused() {
    let mut lab = Lab::new();
    forge::<Timestamp>(&lab.metadata("timestamp.json"), &[&key(1)], |_| {});
    lab.refused(
        "timestamp.json is not signed by the timestamp key: 1 valid signatures wanted, 0 found",
    );
}

#[test]
fn a_level_signed_by_one_reviewer_is_refused() {
    let mut lab = Lab::new();
    let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
    forge::<Targets>(&path, &[&key(2), &key(9)], |_| {});
    lab.refused("2 valid signatures wanted, 1 found");
}

#[test]
fn a_snapshot_that_does_not_fit_the_timestamp_is_refused() {
    let mut lab = Lab::new();
    let first = fs::read(lab.metadata("1.snapshot.json")).unwrap();
    lab.next_level(2);
    fs::write(lab.metadata("2.snapshot.json"), first).unwrap();
    lab.refused("2.snapshot.json does not fit timestamp.json");
}

/// Publishes a level whose module, though signed by both reviewers, is not for the fake kernel. The
/// publisher refuses to stage one, so the signed role is rewritten.
fn publish_unfit(lab: &Lab, module: &[u8]) {
    use sha2::{Digest, Sha256};
    let old = lab.module_file();
    let target = old.file_name().unwrap().to_str().unwrap();
    let target = target.split_once('.').unwrap().1.to_owned();
    let sha256 = hex::encode(Sha256::digest(module));
    fs::write(old.with_file_name(format!("{sha256}.{target}")), module).unwrap();
    let path = lab.metadata("1.k__x86_64__6.1.0-47-cloud-amd64.json");
    forge::<Targets>(&path, &[&key(1), &key(2)], |body| {
        let file = body.targets.get_mut(&target).unwrap();
        file.length = module.len() as u64;
        file.hashes.insert("sha256".to_owned(), sha256);
    });
}

#[test]
fn a_module_for_another_release_is_refused() {
    let mut lab = Lab::new();
    let vermagic = sample::VERMAGIC.replace("-47-", "-50-");
    publish_unfit(&lab, &sample::module_for(1, &vermagic, &KERNEL));
    lab.refused("built for kernel 6.1.0-50-cloud-amd64, this is 6.1.0-47-cloud-amd64");
}

#[test]
fn a_module_for_another_build_of_the_release_is_refused() {
    let mut lab = Lab::new();
    publish_unfit(&lab, &sample::module_for(1, sample::VERMAGIC, &[0xee; 20]));
    let text = format!("build-id {}, this is {}", "ee".repeat(20), "2f".repeat(20));
    lab.refused(&text);
}

#[test]
fn a_module_with_another_version_magic_is_refused() {
    let mut lab = Lab::new();
    let vermagic = format!("{RELEASE} SMP mod_unload ");
    publish_unfit(&lab, &sample::module_for(1, &vermagic, &KERNEL));
    lab.refused("vermagic is ");
}

#[test]
fn a_module_that_is_no_livepatch_is_refused() {
    let mut lab = Lab::new();
    let fields = [("name", "tt_2f2f2f2f_1"), ("vermagic", sample::VERMAGIC)];
    publish_unfit(
        &lab,
        &tuxtape_core::module::sample::module(&fields, &[1; 20]),
    );
    lab.refused("no livepatch");
}

#[test]
fn a_kernel_the_archive_does_not_have_is_left_alone() {
    let mut lab = Lab::new();
    lab.host.kernel.release = "6.1.0-50-cloud-amd64".parse().unwrap();
    lab.refused("kernel 6.1.0-50-cloud-amd64 is not in the archive");
    assert_eq!(status(&lab.host, &lab.settings).unwrap().exit_code(), 3);
}

#[test]
fn a_rebuilt_kernel_of_the_same_release_is_left_alone() {
    let mut lab = Lab::new();
    lab.host.kernel.build_id = BuildId::from_bytes(&[0xee; 20]).unwrap();
    assert!(matches!(
        lab.apply().unwrap(),
        Applied::Unsupported(Unsupported::Build { .. })
    ));
    lab.refused(&format!(
        "this is {}, listed is {}",
        "ee".repeat(20),
        "2f".repeat(20)
    ));
}

#[test]
fn somebody_elses_livepatch_is_not_replaced() {
    let mut lab = Lab::new();
    let fields = [
        ("name", "vendor_edr"),
        ("vermagic", "x "),
        ("livepatch", "Y"),
    ];
    let other = tuxtape_core::module::sample::module(&fields, &[9; 20]);
    lab.host.insert(&other).unwrap();
    lab.host.inserted.clear();
    lab.host.patches[0].transition = false;
    lab.refused("somebody else are loaded and would be replaced: vendor_edr");
    assert!(matches!(
        check(&lab.host, &lab.settings, &*lab.source()).unwrap(),
        Checked::Plan(Plan::Blocked(..))
    ));
}

#[test]
fn what_the_kernel_would_refuse_is_not_tried() {
    let mut lab = Lab::new();
    lab.host.policy.lockdown = Some("integrity".to_owned());
    lab.refused("not signed for the kernel, which demands it (lockdown is integrity)");
    lab.host.policy.lockdown = Some("none".to_owned());
    lab.host.policy.modules_disabled = Some(true);
    lab.refused("kernel.modules_disabled is 1");
}

#[test]
fn a_clock_a_day_behind_loads_nothing() {
    let mut lab = Lab::new();
    lab.host.now = UtcSeconds::EPOCH;
    lab.refused("the clock says 1970-01-01T00:00:00Z");
}
