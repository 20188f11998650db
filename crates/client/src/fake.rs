//! A kernel in memory, for tests: takes modules, runs transitions, counts what was done to it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::KernelId;
use tuxtape_core::module::{self, ModuleIdentity};
use tuxtape_core::rollout::Node;
use tuxtape_sys::kernel::crash::CrashRecords;
use tuxtape_sys::kernel::livepatch::{Livepatch, LivepatchObject};
use tuxtape_sys::kernel::log::KernelLog;
use tuxtape_sys::kernel::module::LoadedModule;
use tuxtape_sys::kernel::policy::LoadPolicy;
use tuxtape_sys::kernel::{Counters, KernelError};

use crate::host::Host;
use crate::journal::{Journal, JournalFile};

/// Something that happens to a folder.
pub type FolderChange = fn(&Path);

/// The fake kernel. Fields are there to be set by tests.
#[derive(Debug)]
pub struct FakeHost {
    /// Which kernel it is.
    pub kernel: KernelId,
    /// Its `/etc/machine-id`.
    pub machine_id: Option<&'static str>,
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
    /// Module that cannot be removed.
    pub irremovable: Option<String>,
    /// Error number that the next insertion fails with.
    pub refuse: Option<i32>,
    /// Oopses the kernel counts, and how many a loaded level adds during probation.
    pub oopses: u64,
    /// Whether the next loaded level oopses while it is watched.
    pub oops_when_loaded: bool,
    /// State folder whose journal is read at each insertion, as a crash there would leave it.
    pub journal: Option<PathBuf>,
    /// What happens to a folder at the next insertion.
    pub at_insertion: Option<(FolderChange, PathBuf)>,
    /// What the journal on disk said at each insertion.
    pub journaled: Vec<Journal>,
    /// Everything that was inserted, by name.
    pub inserted: Vec<String>,
    /// The switches.
    pub policy: LoadPolicy,
    /// Records of the kernel log, numbered from 0.
    pub log: Vec<String>,
    /// Records that one read of it gives at most.
    pub log_reads: usize,
    /// Records that were overwritten before anybody read them.
    pub log_lost: bool,
    /// Whether what stands in `log` is written only at the next insertion.
    pub log_written_at_insertion: bool,
    /// Time after which the kernel answers nothing any more, as when the boot ends under the client.
    pub stops_after: Option<Duration>,
    /// Time after an insertion at which the machine crashes.
    pub crashes_after: Option<Duration>,
    /// What the kernel says once a loaded level is watched.
    pub log_when_loaded: Vec<String>,
    /// What was kept of crashes.
    pub crashes: CrashRecords,
    /// Wall clock.
    pub now: UtcSeconds,
    /// Seconds since boot.
    pub up: u64,
    inserted_at: Duration,
    passed: Duration,
    looks: Cell<u32>,
}

impl FakeHost {
    /// Boots `kernel` at `now`.
    pub fn new(kernel: KernelId, now: UtcSeconds) -> Self {
        Self {
            kernel,
            machine_id: Some("0123456789abcdef0123456789abcdef"),
            boot: 1,
            modules: BTreeMap::new(),
            patches: Vec::new(),
            transition_takes: Some(2),
            reversible: true,
            irremovable: None,
            refuse: None,
            oopses: 0,
            oops_when_loaded: false,
            journal: None,
            at_insertion: None,
            journaled: Vec::new(),
            inserted: Vec::new(),
            policy: LoadPolicy::default(),
            log: Vec::new(),
            log_reads: usize::MAX,
            log_lost: false,
            log_written_at_insertion: false,
            stops_after: None,
            crashes_after: None,
            log_when_loaded: Vec::new(),
            crashes: CrashRecords::default(),
            now,
            up: 3600,
            inserted_at: Duration::ZERO,
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
        self.passed = Duration::ZERO;
    }

    /// Tells whether a loaded module has crashed the machine by now.
    pub fn crashed(&self) -> bool {
        let since = self.passed.saturating_sub(self.inserted_at);
        !self.modules.is_empty() && self.crashes_after.is_some_and(|after| since >= after)
    }

    fn transitioning(&self) -> bool {
        self.patches.iter().any(|patch| patch.transition)
    }

    /// Every look brings a transition nearer to its end.
    fn look(&self) -> bool {
        self.looks.set(self.looks.get() + 1);
        self.ended()
    }

    fn ended(&self) -> bool {
        let looks = self.looks.get();
        self.transition_takes.is_some_and(|takes| looks >= takes)
    }

    /// Makes the end of a transition last: what was seen of it until now was a look from outside.
    fn settle(&mut self) {
        if self.transitioning() && self.ended() {
            self.patches = after(&self.patches);
        }
    }
}

/// Livepatches after the end of the transition: one that came in replaced the others, one that went
/// out is gone, and what it was to replace is in force as before.
fn after(patches: &[Livepatch]) -> Vec<Livepatch> {
    let replaced = patches
        .iter()
        .any(|patch| patch.transition && patch.enabled);
    let mut left: Vec<Livepatch> = patches
        .iter()
        .filter(|patch| patch.enabled && (patch.transition || !replaced))
        .cloned()
        .collect();
    for patch in &mut left {
        patch.transition = false;
    }
    left
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
        if self.stops_after.is_some_and(|end| self.passed >= end) || self.crashed() {
            return Err(KernelError::Read {
                path: PathBuf::from("/sys/kernel/livepatch"),
                source: io::Error::other("the boot ended"),
            });
        }
        if self.transitioning() && self.look() {
            return Ok(after(&self.patches));
        }
        Ok(self.patches.clone())
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
        if self.log_written_at_insertion {
            return Ok(KernelLog::default());
        }
        let from = usize::try_from(from)
            .unwrap_or(usize::MAX)
            .min(self.log.len());
        let end = from.saturating_add(self.log_reads).min(self.log.len());
        let records = (from..end).map(|n| format!("4,{n},{n}00000,-;{}\n", self.log[n]));
        Ok(KernelLog {
            bytes: records.collect::<String>().into_bytes(),
            next: end as u64,
            lost: self.log_lost,
            more: end < self.log.len(),
        })
    }

    fn keeps_crashes(&self) -> bool {
        true
    }

    fn crash_records(&self) -> CrashRecords {
        self.crashes.clone()
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
        self.settle();
        self.log_written_at_insertion = false;
        self.inserted.push(identity.name.clone());
        self.inserted_at = self.passed;
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
        if let Some((change, state)) = self.at_insertion.take() {
            change(&state);
        }
        Ok(())
    }

    fn disable(&mut self, name: &str) -> Result<(), KernelError> {
        self.settle();
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
        if self.irremovable.as_deref() == Some(name) {
            return Err(io::Error::from_raw_os_error(16));
        }
        self.settle();
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
        if self.patches.iter().any(|patch| patch.enabled) {
            self.log.append(&mut self.log_when_loaded);
        }
    }

    fn monotonic(&self) -> Duration {
        self.passed
    }

    fn clock(&self) -> UtcSeconds {
        self.now
    }

    fn node(&self) -> Option<Node> {
        self.machine_id.and_then(Node::from_machine_id)
    }
}
