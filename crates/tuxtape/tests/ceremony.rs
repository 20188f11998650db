//! The ceremonies of an archive, played with the program itself.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tuxtape_archive::sample::{self, Archive};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts")
        .join(name)
}

/// `TUXTAPE_TRANSCRIPT` names a file that keeps what was typed and said.
#[test]
fn every_ceremony_ends_as_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("tt_2f2f2f2f_1.ko");
    fs::write(&module, sample::module(1)).unwrap();
    let output = Command::new(script("archive-ceremony"))
        .arg(&module)
        .arg(sample::RELEASE)
        .env("TUXTAPE", env!("CARGO_BIN_EXE_tuxtape"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{wrong}");
    for wanted in [
        "root: carol.former-1 (key",
        "belongs to nobody in the policy",
        "level 1 is stopped: a node that never loaded it will not load it;",
        "nodes that leave level 1 go to the stock kernel",
        "and 2 of 2 of the root keys trusted so far",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in\n{said}");
    }
    if let Some(path) = std::env::var_os("TUXTAPE_TRANSCRIPT") {
        fs::write(path, &said).unwrap();
    }
}

/// Runs `tuxtape archive` in `top`; returns the exit code and everything it said.
fn archive(top: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tuxtape"))
        .arg("archive")
        .args(arguments)
        .env("TUXTAPE_HOME", top)
        .env("TUXTAPE_ARCHIVE", top.join("archive"))
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_renewal_exits_with_3_while_people_must_sign_and_with_0_after_they_did() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    let key = top.join("alice.pem").display().to_string();
    let person = format!("alice={key}.pub");
    let run = |arguments: &[&str]| {
        let (code, said) = archive(top, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    };
    let sign = |draft: &str| {
        let said = run(&["sign", draft]);
        let words = said.lines().find_map(|line| line.strip_prefix("words"));
        run(&[
            "sign",
            draft,
            "--key",
            &key,
            "--expect",
            words.unwrap().trim(),
        ]);
    };
    run(&["key", &key]);
    run(&[
        "init",
        "--lab",
        "--signatures",
        "1",
        "--reviews",
        "1",
        "--signer",
        &person,
    ]);
    let policy = top.join("archive/policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let days = |days: u32| {
        let lines = text
            .lines()
            .map(|line| match line.split_once("targets-days") {
                Some(_) => format!("targets-days = {days}"),
                None => line.to_owned(),
            });
        let lines: Vec<String> = lines.collect();
        assert!(lines.iter().any(|line| line.starts_with("targets-days")));
        fs::write(&policy, lines.join("\n")).unwrap();
    };
    sign("root");
    sign("targets");
    run(&["publish"]);
    assert!(!run(&["renew"]).contains("warning"));
    // A list of kernels that lasts 20 days ends soon from the first day on.
    days(20);
    run(&["renew", "--targets"]);
    sign("targets");
    run(&["publish"]);
    let (code, said) = archive(top, &["renew"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("published metadata/timestamp.json"), "{said}");
    // Within the second of its signature it has all of 20 days.
    let ends = |days: u32| said.contains(&format!("targets ends in {days} days"));
    assert!(ends(19) || ends(20), "{said}");
    assert!(said.contains("tuxtape archive renew --targets"), "{said}");
    days(90);
    run(&["renew", "--targets"]);
    sign("targets");
    run(&["publish"]);
    assert!(!run(&["renew"]).contains("warning"));
}

#[test]
fn lab_nginx_serves_the_right_headers() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::published(&folder.path().join("archive")).unwrap();
    let output = Command::new(script("archive-nginx"))
        .arg(archive.public())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.starts_with("skipped") {
        eprintln!("{said}");
        return;
    }
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert_eq!(said.matches("ok ").count(), 12, "{said}");
}

/// The kernel's own program that signs modules: `TUXTAPE_SIGN_FILE`, else of an installed linux-kbuild.
fn sign_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TUXTAPE_SIGN_FILE") {
        return Some(PathBuf::from(path));
    }
    let folders = fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let tools = folders.filter(|path| path.to_string_lossy().contains("linux-kbuild-"));
    tools
        .map(|path| path.join("scripts/sign-file"))
        .find(|path| path.exists())
}

#[test]
fn lab_a_module_is_signed_for_the_kernel_and_another_signature_is_not_taken() {
    let Some(sign_file) = sign_file() else {
        eprintln!("skipped: no linux-kbuild is installed; TUXTAPE_SIGN_FILE names a sign-file");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let certificate = |name: &str| {
        let output = Command::new("openssl")
            .args([
                "req",
                "-new",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=test/",
            ])
            .args([
                "-addext",
                "subjectKeyIdentifier=hash",
                "-keyout",
                &at(&format!("{name}.key")),
            ])
            .args(["-out", &at(&format!("{name}.pem"))])
            .output();
        assert!(output.unwrap().status.success());
    };
    certificate("ours");
    certificate("other");
    let tuxtape = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tuxtape"))
            .args([
                "--home",
                &at("home"),
                "--json",
                "archive",
                "--archive",
                &at("archive"),
            ])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    for person in ["a.pem", "b.pem"] {
        assert!(tuxtape(&["key", &at(person)]).0);
    }
    let (a, b) = (
        format!("a={}.pub", at("a.pem")),
        format!("b={}.pub", at("b.pem")),
    );
    let made = tuxtape(&[
        "init",
        "--signer",
        &a,
        "--signer",
        &b,
        "--reviewer",
        &a,
        "--reviewer",
        &b,
    ]);
    assert!(made.0, "{}", made.1);
    let plain = at("plain.ko");
    fs::write(&plain, sample::module(1)).unwrap();
    let sign_file = sign_file.display().to_string();
    let staged = tuxtape(&[
        "stage",
        sample::RELEASE,
        "--module",
        &plain,
        "--sign-file",
        &sign_file,
        "--module-key",
        &at("ours.key"),
        "--module-cert",
        &at("ours.pem"),
    ]);
    assert!(staged.0, "{}", staged.1);
    let drafts = folder.path().join("archive/drafts");
    let role = drafts.join(format!("1.k__x86_64__{}.json", sample::RELEASE));
    let draft: serde_json::Value = serde_json::from_slice(&fs::read(&role).unwrap()).unwrap();
    let level = &draft["signed"]["tuxtape"]["kernels"][0]["levels"][0];
    let digest = {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(sample::module(1)))
    };
    assert_eq!(level["unsigned_sha256"], digest.as_str());
    assert_eq!(level["signer_skid"].as_str().unwrap().len(), 40);
    let kept = fs::read_dir(drafts.join("modules"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let signed = fs::read(kept).unwrap();
    assert!(signed.starts_with(&sample::module(1)));
    fs::remove_file(role).unwrap();
    let refused = |bytes: &[u8], arguments: &[&str], wanted: &str| {
        let path = at("signed.ko");
        fs::write(&path, bytes).unwrap();
        let mut all = vec!["stage", sample::RELEASE, "--module", &path];
        all.extend(arguments);
        let (done, said) = tuxtape(&all);
        assert!(!done && said.contains(wanted), "{said}");
    };
    refused(&signed, &[], "name the certificate with --module-cert");
    refused(
        &signed,
        &["--module-cert", &at("other.pem")],
        "is not one by",
    );
    let mut changed = signed.clone();
    changed[300] ^= 1;
    refused(
        &changed,
        &["--module-cert", &at("ours.pem")],
        "is not one by",
    );
    refused(
        &sample::module(1),
        &["--module-cert", &at("ours.pem")],
        "carries no signature",
    );
}
