//! An archive, a fake kernel and a state folder.

use std::fs;
use std::path::PathBuf;

use tuxtape_archive::sample::{self, Archive, KERNEL, RELEASE, start};
use tuxtape_archive::source::Source;
use tuxtape_client::apply::{self, Applied, ClientError, Settings};
use tuxtape_client::config::Config;
use tuxtape_client::fake::FakeHost;
use tuxtape_client::host::Host;
use tuxtape_client::journal::{Attempt, Journal, JournalFile, JournaledLevel, Phase};
use tuxtape_client::load::LogVerdict;
use tuxtape_client::mode;
use tuxtape_core::identity::{Arch, BuildId, KernelId, PatchLevel};

pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) archive: Archive,
    pub(crate) host: FakeHost,
    pub(crate) settings: Settings,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::published(&folder.path().join("archive")).unwrap();
        let kernel = KernelId {
            arch: Arch::X86_64,
            release: RELEASE.parse().unwrap(),
            build_id: BuildId::from_bytes(&KERNEL).unwrap(),
        };
        let mut config = Config::from_toml("probation = \"5s\"").unwrap();
        config.archive_url = Some(archive.public().display().to_string());
        let settings = Settings {
            config,
            state: folder.path().join("state"),
            switch: mode::read("", None),
            judge: Some(|_, _| LogVerdict::Clean),
            crash_judge: Some(tuxtape_client::log::judge_crash),
        };
        let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
        apply::init(&settings, &root).unwrap();
        Self {
            folder,
            archive,
            host: FakeHost::new(kernel, start()),
            settings,
        }
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        apply::source(&self.settings.config).unwrap()
    }

    pub(crate) fn apply(&mut self) -> Result<Applied, ClientError> {
        let source = self.source();
        apply::apply(&mut self.host, &self.settings, &*source, false, false).map(|(done, _)| done)
    }

    pub(crate) fn next_level(&self, n: u8) {
        let now = self.host.now;
        self.archive.stage(n, now).unwrap();
        self.archive.sign_all().unwrap();
        self.archive.workspace.publish(now).unwrap();
    }

    pub(crate) fn metadata(&self, name: &str) -> PathBuf {
        self.archive.public().join("metadata").join(name)
    }

    pub(crate) fn module_file(&self) -> PathBuf {
        let targets = fs::read_dir(self.archive.public().join("targets")).unwrap();
        targets.map(|entry| entry.unwrap().path()).next().unwrap()
    }

    /// Digest of the one published module.
    pub(crate) fn digest(&self) -> String {
        let path = self.module_file();
        let name = path.file_name().unwrap().to_str().unwrap();
        name.split('.').next().unwrap().to_owned()
    }

    pub(crate) fn journal(&self) -> Journal {
        JournalFile::open(&self.settings.state).unwrap().journal
    }

    pub(crate) fn in_force(&self) -> Vec<String> {
        let patches = self.host.livepatches().unwrap();
        patches.into_iter().map(|patch| patch.name).collect()
    }

    /// Applies, and shows that it was refused with `text` and nothing reached the kernel.
    pub(crate) fn refused(&mut self, text: &str) {
        let said = match self.apply() {
            Err(error) => format!("{:#}", Chain(&error)),
            Ok(Applied::Unsupported(why)) => why.to_string(),
            Ok(Applied::Blocked(_, obstacles)) => obstacles[0].to_string(),
            Ok(other) => panic!("not refused: {other:?}"),
        };
        assert!(said.contains(text), "{said}");
        assert!(self.host.inserted.is_empty(), "something was loaded");
        assert_eq!(self.journal().phase, Phase::Idle);
    }
}

pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.source() {
            Some(cause) => write!(f, ": {}", Chain(cause)),
            None => Ok(()),
        }
    }
}

/// A module of somebody else under the name of the published one, in memory and in force.
pub(crate) fn take_the_name(lab: &mut Lab) {
    let fields = [
        ("name", "tt_2f2f2f2f_1"),
        ("vermagic", "x "),
        ("livepatch", "Y"),
    ];
    let other = tuxtape_core::module::sample::module(&fields, &[9; 20]);
    lab.host.insert(&other).unwrap();
    lab.host.inserted.clear();
    lab.host.patches[0].transition = false;
}

/// Writes down that a client ends in `phase` of an attempt with `level`, in the boot that runs.
pub(crate) fn leave(
    lab: &Lab,
    phase: Phase,
    level: JournaledLevel,
    change: impl FnOnce(&mut Journal),
) {
    let boot_id = lab.host.boot_id().unwrap();
    let mut file = JournalFile::open(&lab.settings.state).unwrap();
    file.record(|journal| {
        journal.phase = phase;
        journal.attempt = Some(Attempt {
            level,
            boot_id,
            log_from: 0,
            oopses: None,
            watched: 0,
            early: false,
            because: None,
        });
        change(journal);
    })
    .unwrap();
}

/// The state a client leaves that is killed in the transition of level 2, with level 1 in force.
pub(crate) fn killed_in_transition(lab: &mut Lab) {
    lab.apply().unwrap();
    lab.next_level(2);
    lab.host.transition_takes = None;
    let module = sample::module(2);
    let level = JournaledLevel {
        kernel: lab.host.kernel.build_id.clone(),
        level: PatchLevel(2),
        sha256: {
            use sha2::{Digest, Sha256};
            hex::encode(Sha256::digest(&module))
        },
        module: "tt_2f2f2f2f_2".to_owned(),
        module_build_id: BuildId::from_bytes(&[2; 20]).unwrap(),
    };
    leave(lab, Phase::Transition, level, |_| {});
    lab.host.insert(&module).unwrap();
    lab.host.inserted.clear();
}
