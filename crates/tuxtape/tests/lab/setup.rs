//! A prepared kernel, folders of our own, and fixes made against the kernel's own files.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use similar::TextDiff;
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::lab::tools::Tools;

/// The kernel these tests are written for: some name lines of its source.
pub(crate) const KERNEL: &str = "6.1.0-47-cloud-amd64";
/// What our fix puts into `/proc/version`.
pub(crate) const OURS: &str = "tuxtape lab was here";

/// A kernel and a scratch folder.
pub(crate) struct Lab {
    pub(crate) cache: PathBuf,
    pub(crate) kernel: KernelFiles,
    home: Arc<tempfile::TempDir>,
    scratch: tempfile::TempDir,
}

/// Returns the prepared kernel, or says aloud why the test is skipped.
pub(crate) fn lab() -> Option<Lab> {
    lab_of(KERNEL)
}

/// Like [`lab`], for any kernel.
pub(crate) fn lab_of(release: &str) -> Option<Lab> {
    let Some(cache) = env::var_os("TUXTAPE_CACHE").map(PathBuf::from) else {
        return skip("TUXTAPE_CACHE is not set");
    };
    let kernel = KernelFiles::below(&cache, &release.parse::<KernelRelease>().unwrap());
    if !kernel.source.join(".config").is_file() || !kernel.vmlinuz.is_file() {
        return skip(&format!("{release} is not prepared in {}", cache.display()));
    }
    let home = home(&cache, release)?;
    Some(Lab {
        cache,
        kernel,
        home,
        scratch: tempfile::tempdir().unwrap(),
    })
}

/// Like [`lab`], where guests can be booted, too.
pub(crate) fn lab_with_guests() -> Option<(Lab, Tools)> {
    lab_with_guests_of(KERNEL)
}

/// Like [`lab_with_guests`], for any kernel.
pub(crate) fn lab_with_guests_of(release: &str) -> Option<(Lab, Tools)> {
    match Tools::find() {
        Ok(tools) => Some((lab_of(release)?, tools)),
        Err(error) => skip(&error.to_string()),
    }
}

pub(crate) fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}

/// A home with the kernel's profile, made once for all tests.
fn home(cache: &Path, release: &str) -> Option<Arc<tempfile::TempDir>> {
    static HOMES: Mutex<BTreeMap<String, Option<Arc<tempfile::TempDir>>>> =
        Mutex::new(BTreeMap::new());
    let make = || {
        let home = tempfile::tempdir().unwrap();
        let output = program(home.path(), cache)
            .args(["kernel", "add", &format!("debian:{release}")])
            .output()
            .unwrap();
        if output.status.success() {
            Some(Arc::new(home))
        } else {
            skip(&talk(&output))
        }
    };
    let mut homes = HOMES.lock().unwrap();
    homes.entry(release.to_owned()).or_insert_with(make).clone()
}

fn program(home: &Path, cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuxtape"));
    command
        .env("TUXTAPE_HOME", home)
        .env("TUXTAPE_CACHE", cache)
        .env("LC_ALL", "C");
    command
}

/// What a command said to people.
pub(crate) fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Reads the one JSON object that a command printed.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", talk(output)))
}

/// Checks the exit code and that each word was said, on either stream.
pub(crate) fn said(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &talk(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

impl Lab {
    /// A file or folder of this test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The program on our folders.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = program(self.home.path(), &self.cache);
        command.args(words);
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// `patch build` of these fixes into the folder `out`.
    pub(crate) fn build(&self, fixes: &[&Path], name: &str, out: &Path) -> Command {
        let mut command = self.command(&["patch", "build", self.kernel.release.as_str()]);
        command.args(["--name", name, "--out"]);
        command.arg(out);
        for fix in fixes {
            command.arg("--fix").arg(fix);
        }
        command
    }

    /// Builds a module that must come to be; returns its path and what was said of it.
    pub(crate) fn built(&self, fixes: &[&Path], name: &str) -> (PathBuf, Value) {
        let out = self.path("out");
        let output = self.build(fixes, name, &out).arg("--json").output();
        let answer = json(&output.unwrap());
        assert_eq!(answer["status"], "built", "{answer}");
        (out.join(format!("{name}.ko")), answer)
    }

    /// Writes a fix that puts `to` where `path` of the kernel's tree has `from`, once.
    pub(crate) fn fix(&self, name: &str, path: &str, from: &str, to: &str) -> PathBuf {
        let old = fs::read_to_string(self.kernel.source.join(path)).unwrap();
        assert_eq!(old.matches(from).count(), 1, "{from:?} in {path}");
        self.fix_between(name, path, &old, &old.replace(from, to))
    }

    /// Like [`Lab::fix`], with several places of one file.
    pub(crate) fn fix_places(&self, name: &str, path: &str, places: &[(&str, &str)]) -> PathBuf {
        let old = fs::read_to_string(self.kernel.source.join(path)).unwrap();
        let mut new = old.clone();
        for (from, to) in places {
            assert_eq!(new.matches(from).count(), 1, "{from:?} in {path}");
            new = new.replace(from, to);
        }
        self.fix_between(name, path, &old, &new)
    }

    /// Writes a fix that leads from one text of a file to another.
    pub(crate) fn fix_between(&self, name: &str, path: &str, old: &str, new: &str) -> PathBuf {
        let (before, after) = (format!("a/{path}"), format!("b/{path}"));
        let diff = TextDiff::from_lines(old, new);
        let text = diff.unified_diff().header(&before, &after).to_string();
        let file = self.path(&format!("{name}.patch"));
        fs::write(&file, text).unwrap();
        file
    }

    /// A fix to the text of `/proc/version`.
    pub(crate) fn version_fix(&self) -> PathBuf {
        let line = "\tseq_printf(m, linux_proc_banner,";
        let ours = format!("\tseq_puts(m, \"{OURS}\\n\");\n{line}");
        self.fix("version", "fs/proc/version.c", line, &ours)
    }

    /// A fix to a module of the kernel, `sd_mod`.
    pub(crate) fn sd_fix(&self) -> PathBuf {
        self.fix(
            "sd",
            "drivers/scsi/sd.c",
            "return sprintf(buf, \"%u\\n\", sdkp->device->allow_restart);",
            "return sprintf(buf, \"%u (lab)\\n\", sdkp->device->allow_restart);",
        )
    }
}
