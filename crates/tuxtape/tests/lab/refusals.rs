//! What is no work for a livepatch, and what goes wrong: each with its exit code and its words.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tuxtape_archive::publish::Workspace;
use tuxtape_archive::sample::policy;
use tuxtape_archive::time::UtcSeconds;

use super::setup::{KERNEL, Lab, json, lab, lab_with_guests, said, skip, talk};

fn build(lab: &Lab, fix: &Path) -> Output {
    let output = lab.build(&[fix], "lab_no", &lab.path("out")).output();
    assert!(!lab.path("out/lab_no.ko").exists(), "a module was written");
    output.unwrap()
}

#[test]
fn lab_a_fix_that_does_not_fit_names_the_place_and_both_texts() {
    let Some(lab) = lab() else { return };
    let text = fs::read_to_string(lab.version_fix()).unwrap();
    let fix = lab.path("misfit.patch");
    fs::write(&fix, text.replace("linux_proc_banner", "linux_proc_bonner")).unwrap();
    let words = [
        "hunk 1 of fs/proc/version.c does not apply at line 12",
        "expected:\n\tseq_printf(m, linux_proc_bonner,",
        "found:\n\tseq_printf(m, linux_proc_banner,",
        "hint: ",
    ];
    said(&build(&lab, &fix), 1, &words);
    let output = lab
        .build(&[&fix], "lab_no", &lab.path("out"))
        .arg("--json")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output);
    assert_eq!(answer["status"], "failed");
    assert!(answer["error"].as_str().unwrap().contains(words[0]));
}

#[test]
fn lab_a_fix_that_does_not_compile_gives_the_compilers_words_and_harms_no_later_build() {
    let Some(lab) = lab() else { return };
    let line = "\tseq_printf(m, linux_proc_banner,";
    let worse = format!("\tno_such_function(m);\n{line}");
    let fix = lab.fix("broken", "fs/proc/version.c", line, &worse);
    said(
        &build(&lab, &fix),
        1,
        &[
            "fs/proc/version.o does not compile",
            "fs/proc/version.c:12:9: error: implicit declaration of function 'no_such_function'",
        ],
    );
    lab.built(&[&lab.version_fix()], "lab_after");
}

#[test]
fn lab_a_fix_of_blanks_and_comments_changes_nothing() {
    let Some(lab) = lab() else { return };
    let line = "\tseq_printf(m, linux_proc_banner,";
    let other = "\t/* the banner\n\t * of the kernel\n\t */\n\tseq_printf(m,   linux_proc_banner,";
    let fix = lab.fix("comment", "fs/proc/version.c", line, other);
    let output = build(&lab, &fix);
    said(&output, 3, &["no-change", "fs/proc/version.c"]);
}

#[test]
fn lab_a_fix_to_a_file_that_is_not_compiled_changes_nothing() {
    let Some(lab) = lab() else { return };
    let line = "#include <linux/module.h>\n";
    let path = "drivers/spi/spi-mpc52xx.c";
    let fix = lab.fix("unbuilt", path, line, &format!("{line}int ours;\n"));
    let words = format!("{path} is not compiled into this kernel");
    said(&build(&lab, &fix), 3, &["no-change", &words]);
}

#[test]
fn lab_a_kernel_that_was_not_added_is_named_with_the_way_to_add_it() {
    let Some(lab) = lab() else { return };
    let fix = lab.version_fix();
    let fix = fix.to_str().unwrap();
    said(
        &lab.run(&["patch", "build", "6.1.0-999-cloud-amd64", "--fix", fix]),
        1,
        &[
            "kernel 6.1.0-999-cloud-amd64 has not been added",
            "hint: run `tuxtape kernel add debian:6.1.0-999-cloud-amd64` first",
        ],
    );
    said(
        &lab.run(&["patch", "build", "not/a/kernel", "--fix", fix]),
        2,
        &[],
    );
    said(
        &lab.run(&["patch", "build", KERNEL]),
        1,
        &["no fix was given", "hint: give --fix FILE"],
    );
    said(
        &lab.run(&["patch", "build", KERNEL, "--cve", "CVE-2026-0001"]),
        1,
        &[
            "could not find a fix for CVE-2026-0001",
            "hint: run `tuxtape scan`, or give a diff with `tuxtape fix import`",
        ],
    );
}

#[test]
fn lab_another_compiler_than_the_kernels_is_refused_with_both_versions() {
    let Some(lab) = lab() else { return };
    let folder = lab.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let fake = folder.join("gcc-12");
    let version = "gcc-12 (Debian 12.2.0-99) 12.2.0";
    fs::write(&fake, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let fix = lab.version_fix();
    let output = lab
        .build(&[&fix], "lab_no", &lab.path("out"))
        .env("PATH", path)
        .output()
        .unwrap();
    said(
        &output,
        3,
        &[
            "refused",
            "not-the-kernel",
            version,
            "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0",
        ],
    );
}

#[test]
fn lab_a_source_that_is_not_the_kernels_is_refused() {
    let Some(lab) = lab() else { return };
    // A tree of its own, of hard links, so on the file system of the first one.
    let folder = tempfile::tempdir_in(&lab.cache).unwrap();
    let top = folder.path().join("kernels").join(KERNEL);
    fs::create_dir_all(&top).unwrap();
    for entry in fs::read_dir(&lab.kernel.top).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let to = top.join(&name);
        match name.to_str() {
            Some("work" | "objects") => {}
            Some("source") => {
                let copied = Command::new("cp")
                    .arg("-al")
                    .arg(entry.path())
                    .arg(&to)
                    .status();
                assert!(copied.unwrap().success());
            }
            _ => std::os::unix::fs::symlink(entry.path(), &to).unwrap(),
        }
    }
    let path = "fs/proc/version.c";
    let file = top.join("source").join(path);
    let text = fs::read_to_string(&file).unwrap();
    let doctored = text.replace(
        "\treturn 0;\n}\n\nstatic int __init",
        "\treturn 1;\n}\n\nstatic int __init",
    );
    assert_ne!(doctored, text);
    fs::remove_file(&file).unwrap();
    fs::write(&file, &doctored).unwrap();
    let line = "\tseq_printf(m, linux_proc_banner,";
    let new = doctored.replace(line, &format!("\tseq_puts(m, \"ours\\n\");\n{line}"));
    let fix = lab.fix_between("doctored", path, &doctored, &new);
    let output = lab
        .build(&[&fix], "lab_no", &lab.path("out"))
        .env("TUXTAPE_CACHE", folder.path())
        .output()
        .unwrap();
    said(
        &output,
        3,
        &["refused", "not-the-kernel: version_proc_show", "hint: "],
    );
    assert!(!lab.path("out/lab_no.ko").exists());
}

#[test]
fn lab_a_cut_module_is_refused_by_every_command() {
    let Some((lab, _)) = lab_with_guests() else {
        return;
    };
    let (module, _) = lab.built(&[&lab.version_fix()], "lab_cut");
    let bytes = fs::read(&module).unwrap();
    let archive = lab.path("archive");
    let now = UtcSeconds::from_unix(1_795_543_200);
    drop(Workspace::init(&archive, &policy(), now).unwrap());
    let archive = archive.to_str().unwrap();
    for length in [0, 3, 64, bytes.len() / 2, bytes.len() - 1] {
        let cut = lab.path("cut.ko");
        fs::write(&cut, &bytes[..length]).unwrap();
        let cut = cut.to_str().unwrap();
        for words in [
            vec!["patch", "verify", KERNEL, cut],
            vec!["patch", "test", KERNEL, cut],
            vec![
                "archive",
                "--archive",
                archive,
                "stage",
                KERNEL,
                "--module",
                cut,
            ],
        ] {
            let output = lab.run(&words);
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &talk(&output);
            let code = output.status.code();
            // A module that says what is wrong with it is an answer; one that cannot be read, a failure.
            assert!(
                matches!(code, Some(1 | 3)),
                "{length} bytes, {words:?}: {text}"
            );
            assert!(!text.trim().is_empty(), "{length} bytes, {words:?}");
        }
    }
}

#[test]
fn lab_a_full_disk_is_named_and_leaves_no_module() {
    let Some(lab) = lab() else { return };
    let fix = lab.version_fix();
    lab.built(&[&fix], "lab_room");
    let full = lab.path("full");
    fs::create_dir_all(&full).unwrap();
    // In a mount namespace of its own, which goes with the program.
    let isolated = |mount: &str, command: &Command| {
        let mut isolated = Command::new("unshare");
        isolated.args(["-m", "sh", "-ec"]);
        isolated.arg(format!("{mount} && exec \"$@\"")).arg("sh");
        isolated.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                isolated.env(name, value);
            }
        }
        isolated
    };
    let mount = format!("mount -t tmpfs -o size=8k none '{}'", full.display());
    if !isolated(&mount, &Command::new("true"))
        .status()
        .is_ok_and(|status| status.success())
    {
        skip::<()>("file systems cannot be mounted here");
        return;
    }
    let out = full.join("out");
    let command = lab.build(&[&fix], "lab_no", &out);
    let output = isolated(&mount, &command).output().unwrap();
    said(
        &output,
        1,
        &["error: ", "lab_no.ko", "No space left on device"],
    );
    let command = lab.build(&[&fix], "lab_no", &lab.path("out"));
    let output = isolated(&mount, &command)
        .env("TMPDIR", &full)
        .output()
        .unwrap();
    said(&output, 1, &["error: ", "No space left on device"]);
    assert!(!lab.path("out/lab_no.ko").exists());
    // What was cut off does not stay in the tree.
    lab.built(&[&fix], "lab_again");
}
