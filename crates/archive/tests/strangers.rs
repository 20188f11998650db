//! Other implementations of TUF read what the publisher writes, and the client reads what they write.
//!
//! `scripts/strangers` makes both of them ready and runs this.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use tuxtape_archive::client::{self, MemoryStore, Store, Stored, UpdateError};
use tuxtape_archive::names::cap;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::sample::{Archive, policy};
use tuxtape_archive::source::DirectorySource;
use tuxtape_archive::time::UtcSeconds;

/// They go by the wall clock.
fn now() -> UtcSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UtcSeconds::from_unix(since.as_secs())
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A published archive with two levels, whose timestamp and snapshot keys were exchanged in between.
fn archive(top: &Path) -> Archive {
    let archive = Archive {
        workspace: Workspace::init(top, &policy(), now()).unwrap(),
    };
    archive.stage(1, now()).unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(now()).unwrap();
    for role in [OnlineRole::Timestamp, OnlineRole::Snapshot] {
        archive.workspace.rotate_online(role, now()).unwrap();
        archive.sign_all().unwrap();
        archive.workspace.publish(now()).unwrap();
    }
    archive.stage(2, now()).unwrap();
    archive.sign_all().unwrap();
    archive.workspace.publish(now()).unwrap();
    archive
}

/// Has a reader, called with PUBLIC ROOT NAME OUT, download every module of ours; then shows that it refuses
/// one whose bytes changed.
fn reads_ours(reader: impl Fn() -> Command) {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(&folder.path().join("archive"));
    let public = archive.public();
    let read = |name: &str, out: &str| {
        let out = folder.path().join(out);
        fs::create_dir_all(&out).unwrap();
        let run = reader()
            .arg(&public)
            .arg(public.join("metadata/1.root.json"))
            .arg(name)
            .arg(&out)
            .output()
            .unwrap();
        (run, out.join(name))
    };
    let mut modules: Vec<(PathBuf, String)> = Vec::new();
    for entry in fs::read_dir(public.join("targets")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let name = file.split_once('.').unwrap().1.to_owned();
        modules.push((path, name));
    }
    assert_eq!(modules.len(), 2);
    for (module, name) in &modules {
        let (run, got) = read(name, "out");
        assert!(run.status.success(), "{name}: {}", said(&run));
        assert!(said(&run).contains("root 3"), "{}", said(&run));
        assert_eq!(fs::read(got).unwrap(), fs::read(module).unwrap());
    }
    let (module, name) = &modules[0];
    let mut bytes = fs::read(module).unwrap();
    bytes[100] ^= 1;
    fs::write(module, bytes).unwrap();
    let (run, got) = read(name, "changed");
    assert!(!run.status.success() && !got.exists(), "{}", said(&run));
}

/// Has a writer, called with DIR and files, make a repository; then reads all files of it, and shows that
/// one byte elsewhere is noticed.
fn theirs_is_read(writer: impl Fn(&Path, &[PathBuf]) -> Output, root: &str) {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = ["one.txt", "two.txt", "three.txt"]
        .map(|name| {
            let path = folder.path().join("files").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("this is {name}\n")).unwrap();
            path
        })
        .to_vec();
    let top = folder.path().join("theirs");
    fs::create_dir_all(&top).unwrap();
    let made = writer(&top, &files);
    assert!(made.status.success(), "{}", said(&made));
    let source = DirectorySource::new(&top);
    let read = || -> Result<Vec<Vec<u8>>, UpdateError> {
        let mut store = MemoryStore::default();
        store.save(&Stored::Root, &fs::read(top.join(root)).unwrap())?;
        let mut session = client::refresh(&mut store, &source, now())?;
        let mut found = Vec::new();
        for file in &files {
            let name = file.file_name().unwrap().to_str().unwrap();
            let target = session.find_target(name)?.expect("a target of this name");
            found.push(session.fetch_target(name, &target, cap::MODULE)?);
        }
        Ok(found)
    };
    let wanted: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert_eq!(read().unwrap(), wanted);
    for entry in fs::read_dir(top.join("metadata")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let sound = fs::read_to_string(&path).unwrap();
        // The year of its end, by which nothing but the signature is wrong.
        let (head, rest) = sound.split_once("\"expires\"").unwrap();
        let changed = format!("{head}\"expires\"{}", rest.replacen("202", "209", 1));
        fs::write(&path, &changed).unwrap();
        assert!(
            read().is_err() || name == "1.root.json",
            "{name} changed unseen"
        );
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!(read().unwrap(), wanted);
}

fn tough() -> Option<String> {
    std::env::var("TUXTAPE_TOUGH").ok()
}

/// The interpreter, where it has python-tuf.
fn python() -> Option<String> {
    std::env::var("TUXTAPE_PYTHON").ok()
}

fn script(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../strangers/python-tuf");
    top.join(name)
}

#[test]
fn lab_tough_reads_our_archive() {
    let Some(program) = tough() else {
        eprintln!("skipped: TUXTAPE_TOUGH names no build of strangers/tough");
        return;
    };
    reads_ours(|| {
        let mut command = Command::new(&program);
        command.arg("read");
        command
    });
}

#[test]
fn lab_python_tuf_reads_our_archive() {
    let Some(python) = python() else {
        eprintln!("skipped: TUXTAPE_PYTHON names no Python with the package tuf");
        return;
    };
    reads_ours(|| {
        let mut command = Command::new(&python);
        command.arg(script("read.py"));
        command
    });
}

#[test]
fn lab_the_client_reads_a_repository_of_tough() {
    let Some(program) = tough() else {
        eprintln!("skipped: TUXTAPE_TOUGH names no build of strangers/tough");
        return;
    };
    let make = |top: &Path, files: &[PathBuf]| {
        let key = top.join("key.pem");
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", said(&made));
        Command::new(&program)
            .arg("make")
            .arg(top)
            .arg(&key)
            .args(files)
            .output()
            .unwrap()
    };
    theirs_is_read(make, "1.root.json");
}

#[test]
fn lab_the_client_reads_a_repository_of_python_tuf() {
    let Some(python) = python() else {
        eprintln!("skipped: TUXTAPE_PYTHON names no Python with the package tuf");
        return;
    };
    let make = |top: &Path, files: &[PathBuf]| {
        Command::new(&python)
            .arg(script("make.py"))
            .arg(top)
            .args(files)
            .output()
            .unwrap()
    };
    theirs_is_read(make, "metadata/1.root.json");
}
