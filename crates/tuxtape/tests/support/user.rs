//! One user with folders of their own, who types commands.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tuxtape_core::identity::{Arch, BuildId, ObjectName};
use tuxtape_core::profile::{ConfigFacts, KernelProfile, ProfileId, ProfileOrigin, Sureness, Way};

/// The kernel that [`User::add_kernel`] adds.
pub(crate) const KERNEL: &str = "6.1.0-1-test";

pub(crate) struct User {
    pub(crate) folder: tempfile::TempDir,
}

impl User {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuxtape"));
        command
            .args(arguments)
            .env("TUXTAPE_HOME", self.home())
            .env("TUXTAPE_CACHE", self.folder.path().join("cache"))
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TUXTAPE_FEED")
            .env_remove("NO_COLOR")
            .env_remove("COLUMNS");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must print JSON lines.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.text(arguments);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn scan(&self, feed: &Path) {
        self.text(&["scan", "--feed", feed.to_str().unwrap()]);
    }

    /// Adds the kernel of [`add_kernel`].
    pub(crate) fn add_kernel(&self, base: &str) {
        add_kernel(&self.home(), base);
    }
}

/// Adds a kernel that compiled `net/1000.c`, has `net/1001.c` in its tree, and knows nothing of the
/// rest, to what lies below `home`.
pub(crate) fn add_kernel(home: &Path, base: &str) {
    let profile = KernelProfile {
        id: ProfileId {
            arch: Arch::X86_64,
            release: KERNEL.parse().unwrap(),
            build_id: Some(BuildId::from_bytes(&[1; 20]).unwrap()),
        },
        base_version: base.to_owned(),
        origin: ProfileOrigin {
            spec: "test".to_owned(),
            source: "test".to_owned(),
        },
        git: None,
        taken_in: None,
        readable: None,
        compiler: "gcc".to_owned(),
        config: ConfigFacts::default(),
        units: BTreeMap::from([(
            "net/1000.c".to_owned(),
            BTreeSet::from([ObjectName("vmlinux".to_owned())]),
        )]),
        contributors: BTreeMap::new(),
        tree_files: BTreeSet::from(["net/1000.c".to_owned(), "net/1001.c".to_owned()]),
        functions: 1,
        sureness: Sureness {
            way: Way::DebugData,
            all_headers: false,
            blind: BTreeMap::new(),
        },
    };
    tuxtape_kernel::profile::save(home, &profile).unwrap();
}

pub(crate) fn talk(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns the folder of the corpus, or what to say aloud where there is none.
pub(crate) fn corpus() -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = env::var_os("TUXTAPE_CORPUS").map_or(beside, PathBuf::from);
    if corpus.join("vulns/vulns.bundle").is_file() {
        return Ok(corpus);
    }
    Err(format!("skipped: no corpus at {}", corpus.display()))
}
