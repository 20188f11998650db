//! Modules that are built, and what they do in a guest.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::setup::{KERNEL, Lab, OURS, json, lab, lab_with_guests, said};

/// Verifies a module, boots it with a script, and returns what the test said.
fn verified_and_tested(lab: &Lab, module: &Path, script: &str) -> Value {
    let module = module.to_str().unwrap();
    said(
        &lab.run(&["patch", "verify", KERNEL, module]),
        0,
        &["no problems"],
    );
    let file = lab.path("script");
    fs::write(&file, script).unwrap();
    let script = file.to_str().unwrap();
    let output = lab.run(&[
        "patch", "test", KERNEL, module, "--script", script, "--json",
    ]);
    let answer = json(&output);
    assert_eq!(answer["status"], "pass", "{answer}");
    assert_eq!(output.status.code(), Some(0));
    answer
}

fn output<'a>(answer: &'a Value, stage: &str) -> &'a str {
    answer["script"][stage]["output"].as_str().unwrap()
}

#[test]
fn lab_a_fix_is_in_force_while_its_module_is_loaded_and_gone_after() {
    let Some((lab, _)) = lab_with_guests() else {
        return;
    };
    let (module, built) = lab.built(&[&lab.version_fix()], "lab_version");
    let unit = &built["objects"][0];
    assert_eq!(unit["object"], "vmlinux");
    assert_eq!(
        unit["changed"],
        serde_json::json!(["version_proc_show"]),
        "{built}"
    );
    assert_eq!(unit["equal"], unit["compared"]);
    let answer = verified_and_tested(&lab, &module, "cat /proc/version");
    let before = output(&answer, "before");
    assert!(before.starts_with("Linux version 6.1.0-47"), "{before}");
    assert_eq!(output(&answer, "during"), format!("{OURS}\n{before}"));
    assert_eq!(output(&answer, "after"), before);
}

#[test]
fn lab_one_module_patches_the_image_and_a_module() {
    let Some((lab, _)) = lab_with_guests() else {
        return;
    };
    let (module, built) = lab.built(&[&lab.version_fix(), &lab.sd_fix()], "lab_both");
    let objects: Vec<&Value> = built["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unit| &unit["object"])
        .collect();
    assert_eq!(objects, ["sd_mod", "vmlinux"]);
    let answer = verified_and_tested(
        &lab,
        &module,
        "cat /proc/version; cat /sys/kernel/livepatch/*/sd_mod/patched; true",
    );
    let during = output(&answer, "during");
    assert!(during.starts_with(OURS), "{during}");
    assert!(during.ends_with("\n1\n"), "{during}");
    assert!(!output(&answer, "after").contains(OURS));
    let patched: Vec<(&Value, &Value)> = answer["modules"][0]["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| (&object["object"], &object["patched"]))
        .collect();
    for object in ["sd_mod", "vmlinux"] {
        assert!(
            patched.contains(&(&object.into(), &true.into())),
            "{answer}"
        );
    }
}

#[test]
fn lab_a_module_of_the_kernel_is_patched_alone() {
    let Some((lab, _)) = lab_with_guests() else {
        return;
    };
    let (module, built) = lab.built(&[&lab.sd_fix()], "lab_sd");
    assert_eq!(built["objects"][0]["object"], "sd_mod");
    let script = "cat /sys/kernel/livepatch/*/sd_mod/patched; true";
    let answer = verified_and_tested(&lab, &module, script);
    assert_eq!(output(&answer, "during"), "1\n");
    assert_eq!(answer["modules"][0]["objects"][0]["object"], "sd_mod");
    assert_eq!(answer["modules"][0]["objects"][0]["patched"], true);
}

#[test]
fn lab_the_same_fix_gives_the_same_bytes_wherever_it_is_built() {
    let Some(lab) = lab() else { return };
    let fix = lab.version_fix();
    let other = lab.path("a/fix/elsewhere.patch");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::copy(&fix, &other).unwrap();
    let temporary = lab.path("temporary files");
    fs::create_dir_all(&temporary).unwrap();
    let one = lab.path("one");
    let two = lab.path("somewhere/else/two");
    let first = json(
        &lab.build(&[&fix], "lab_same", &one)
            .arg("--json")
            .output()
            .unwrap(),
    );
    let second = json(
        &lab.build(&[&other], "lab_same", &two)
            .arg("--json")
            .env("TMPDIR", &temporary)
            .output()
            .unwrap(),
    );
    assert_eq!(first["status"], "built", "{first}");
    assert_eq!(first["sha256"], second["sha256"], "{second}");
    let read = |folder: &Path| fs::read(folder.join("lab_same.ko")).unwrap();
    assert!(read(&one) == read(&two), "the files differ");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
