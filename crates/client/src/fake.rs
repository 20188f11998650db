//! A kernel in memory, for tests: takes modules, runs transitions, counts what was done to it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::KernelId;
use tuxtape_core::module::{self, ModuleIdentity};
use tuxtape_sys::kernel::livepatch::{Livepatch, LivepatchObject};
use tuxtape_sys::kernel::log::KernelLog;
use tuxtape_sys::kernel::module::LoadedModule;
use tuxtape_sys::kernel::policy::LoadPolicy;
use tuxtape_sys::kernel::{Counters, KernelError};

use crate::host::Host;
use crate::journal::{Journal, JournalFile};

/// The fake kernel. Fields are there to be set by tests.
#[derive(Debug)]
pub struct FakeHost {
    /// Which kernel it is.
    pub kernel: KernelId,
    /// Its boot.
    pub boot: u32,
    /// Modules in memory.
    pub modules: BTreeMap<String, ModuleIdentity>,
    /// Livepatches, oldest first.
    pub patches: Vec<Livepatch>,
    /// Looks that a transition takes to end; `None` for one that never ends.
    pub transition_takes: Option<u32>,
    /// Whether a stalled transition can be reversed.
    pub reversible: bool,
    /// Error number that the next insertion fails with.
    pub refuse: Option<i32>,
    /// Oopses the kernel counts, and how many a loaded level adds during probation.
    pub oopses: u64,
    /// Whether the next loaded level oopses while it is watched.
    pub oops_when_loaded: bool,
    /// State folder whose journal is read at each insertion, as a crash there would leave it.
    pub journal: Option<PathBuf>,
    /// State folder whose journal cannot be written any more after the next insertion.
    pub lose_journal: Option<PathBuf>,
    /// What the journal on disk said at each insertion.
    pub journaled: Vec<Journal>,
    /// Everything that was inserted, by name.
    pub inserted: Vec<String>,
    /// The switches.
    pub policy: LoadPolicy,
    /// Wall clock.
    pub now: UtcSeconds,
    /// Seconds since boot.
    pub up: u64,
    passed: Duration,
    looks: Cell<u32>,
}

impl FakeHost {
    /// Boots `kernel` at `now`.
    pub fn new(kernel: KernelId, now: UtcSeconds) -> Self {
        Self {
            kernel,
            boot: 1,
            modules: BTreeMap::new(),
            patches: Vec::new(),
            transition_takes: Some(2),
            reversible: true,
            refuse: None,
            oopses: 0,
            oops_when_loaded: false,
            journal: None,
            lose_journal: None,
            journaled: Vec::new(),
            inserted: Vec::new(),
            policy: LoadPolicy::default(),
            now,
            up: 3600,
            passed: Duration::ZERO,
            looks: Cell::new(0),
        }
    }

    /// Loses everything in memory, as a reboot does.
    pub fn reboot(&mut self) {
        self.boot += 1;
        self.modules.clear();
        self.patches.clear();
        self.oopses = 0;
        self.up = 3600;
    }

    fn transitioning(&self) -> bool {
        self.patches.iter().any(|patch| patch.transition)
    }

    /// Every look brings a transition nearer to its end.
    fn look(&self) -> bool {
        let looks = self.looks.get() + 1;
        self.looks.set(looks);
        self.transition_takes.is_some_and(|takes| looks >= takes)
    }
}

impl Host for FakeHost {
    fn kernel(&self) -> Result<KernelId, KernelError> {
        Ok(self.kernel.clone())
    }

    fn boot_id(&self) -> Result<String, KernelError> {
        Ok(format!("{:08x}", self.boot))
    }

    fn uptime(&self) -> Result<u64, KernelError> {
        Ok(self.up)
    }

    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        let done = self.transitioning() && self.look();
        let mut seen = self.patches.clone();
        for patch in &mut seen {
            patch.transition &= !done;
        }
        // What is out of force is gone from sysfs once its transition ended.
        seen.retain(|patch| patch.enabled || patch.transition);
        Ok(seen)
    }

    fn module(&self, name: &str) -> Option<LoadedModule> {
        let module = self.modules.get(name)?;
        Some(LoadedModule {
            name: name.to_owned(),
            build_id: Some(module.build_id.clone()),
            state: Some("live".to_owned()),
        })
    }

    fn load_policy(&self) -> LoadPolicy {
        self.policy.clone()
    }

    fn counters(&self) -> Counters {
        Counters {
            oops: Some(self.oopses),
            warn: None,
        }
    }

    fn log(&self, from: u64) -> Result<KernelLog, KernelError> {
        Ok(KernelLog {
            next: from,
            ..KernelLog::default()
        })
    }

    fn lagging(&self, _target: i8) -> Vec<String> {
        vec!["4711 sleeper".to_owned()]
    }

    fn insert(&mut self, image: &[u8]) -> io::Result<()> {
        if let Some(state) = &self.journal {
            let file = JournalFile::open(state).map_err(io::Error::other)?;
            self.journaled.push(file.journal);
        }
        if let Some(errno) = self.refuse {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let identity = module::read(image).map_err(io::Error::other)?;
        if self.modules.contains_key(&identity.name) {
            return Err(io::Error::from_raw_os_error(17));
        }
        self.inserted.push(identity.name.clone());
        self.patches.retain(|patch| patch.enabled);
        for patch in &mut self.patches {
            (patch.enabled, patch.transition) = (false, false);
        }
        self.patches.push(Livepatch {
            name: identity.name.clone(),
            enabled: true,
            transition: true,
            objects: BTreeMap::from([(
                "vmlinux".to_owned(),
                LivepatchObject {
                    patched: Some(true),
                    functions: BTreeSet::from(["cmdline_proc_show,1".to_owned()]),
                },
            )]),
        });
        self.modules.insert(identity.name.clone(), identity);
        self.looks.set(0);
        if let Some(state) = self.lose_journal.take() {
            for slot in ["journal.a", "journal.b"] {
                let slot = state.join(slot);
                fs::rename(&slot, slot.with_extension("kept")).ok();
                fs::create_dir(&slot)?;
            }
        }
        Ok(())
    }

    fn disable(&mut self, name: &str) -> Result<(), KernelError> {
        let reversible = self.reversible;
        for patch in self.patches.iter_mut().filter(|patch| patch.name == name) {
            patch.enabled = false;
            patch.transition = true;
        }
        self.looks.set(0);
        if reversible {
            self.transition_takes = Some(2);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let in_use = self.livepatches().map_err(io::Error::other)?;
        if in_use.iter().any(|patch| patch.name == name) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.patches.retain(|patch| patch.name != name);
        self.modules
            .remove(name)
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn pause(&mut self, time: Duration) {
        self.passed += time;
        if self.oops_when_loaded && self.patches.iter().any(|patch| patch.enabled) {
            self.oopses += 1;
            self.oops_when_loaded = false;
        }
    }

    fn monotonic(&self) -> Duration {
        self.passed
    }

    fn clock(&self) -> UtcSeconds {
        self.now
    }
}
