//! The machine, as far as the client touches it.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::KernelId;
use tuxtape_core::rollout::Node;
use tuxtape_sys::kernel::crash::CrashRecords;
use tuxtape_sys::kernel::livepatch::Livepatch;
use tuxtape_sys::kernel::log::KernelLog;
use tuxtape_sys::kernel::module::{self, LoadedModule};
use tuxtape_sys::kernel::policy::LoadPolicy;
use tuxtape_sys::kernel::{Counters, KernelError, KernelFs};

/// Where systemd-pstore.service moves the records of crashes.
const MOVED_CRASHES: &str = "/var/lib/systemd/pstore";

/// Everything the client asks of a kernel and does to it, and the time that passes meanwhile.
pub trait Host {
    /// Returns which kernel runs.
    fn kernel(&self) -> Result<KernelId, KernelError>;
    /// Returns the random id of this boot.
    fn boot_id(&self) -> Result<String, KernelError>;
    /// Returns whole seconds since boot.
    fn uptime(&self) -> Result<u64, KernelError>;
    /// Lists livepatches.
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError>;
    /// Looks a loaded module up.
    fn module(&self, name: &str) -> Option<LoadedModule>;
    /// Reads the kernel's switches on loading.
    fn load_policy(&self) -> LoadPolicy;
    /// Reads the kernel's counts of complaints.
    fn counters(&self) -> Counters;
    /// Reads the kernel log from a sequence number on.
    fn log(&self, from: u64) -> Result<KernelLog, KernelError>;
    /// Tells whether this kernel would keep the log of a crash.
    fn keeps_crashes(&self) -> bool;
    /// Reads what was kept of crashes.
    fn crash_records(&self) -> CrashRecords;
    /// Names tasks that keep a transition from ending; `target` is 1 while enabling, 0 while disabling.
    fn lagging(&self, target: i8) -> Vec<String>;
    /// Hands a module to the kernel.
    fn insert(&mut self, image: &[u8]) -> io::Result<()>;
    /// Starts to take a livepatch out of force.
    fn disable(&mut self, name: &str) -> Result<(), KernelError>;
    /// Removes a module.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Lets time pass.
    fn pause(&mut self, time: Duration);
    /// Returns the time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Returns the wall clock, which may be wrong.
    fn clock(&self) -> UtcSeconds;
    /// Returns this machine as ranks are computed for it; `None` where it has no id.
    fn node(&self) -> Option<Node>;
}

/// The machine this program runs on.
#[derive(Debug)]
pub struct RunningHost {
    files: KernelFs,
    start: Instant,
}

impl Default for RunningHost {
    fn default() -> Self {
        Self {
            files: KernelFs::default(),
            start: Instant::now(),
        }
    }
}

impl Host for RunningHost {
    fn kernel(&self) -> Result<KernelId, KernelError> {
        self.files.identity()
    }

    fn boot_id(&self) -> Result<String, KernelError> {
        self.files.boot_id()
    }

    fn uptime(&self) -> Result<u64, KernelError> {
        self.files.uptime()
    }

    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        self.files.livepatches()
    }

    fn module(&self, name: &str) -> Option<LoadedModule> {
        self.files.loaded_module(name)
    }

    fn load_policy(&self) -> LoadPolicy {
        self.files.load_policy()
    }

    fn counters(&self) -> Counters {
        self.files.counters()
    }

    fn log(&self, from: u64) -> Result<KernelLog, KernelError> {
        self.files.kernel_log(from)
    }

    fn keeps_crashes(&self) -> bool {
        self.files.keeps_crashes()
    }

    fn crash_records(&self) -> CrashRecords {
        self.files.crash_records(Path::new(MOVED_CRASHES))
    }

    fn lagging(&self, target: i8) -> Vec<String> {
        self.files.tasks_in_transition(target, 8)
    }

    fn insert(&mut self, image: &[u8]) -> io::Result<()> {
        module::insert(image)
    }

    fn disable(&mut self, name: &str) -> Result<(), KernelError> {
        self.files.disable_livepatch(name)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        module::remove(name)
    }

    fn pause(&mut self, time: Duration) {
        thread::sleep(time);
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn clock(&self) -> UtcSeconds {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        UtcSeconds::from_unix(since.map_or(0, |since| since.as_secs()))
    }

    fn node(&self) -> Option<Node> {
        let bytes = tuxtape_sys::regular::read_linked(Path::new(MACHINE_ID), 64);
        let bytes = bytes.ok().flatten()?;
        Node::from_machine_id(str::from_utf8(&bytes).ok()?)
    }
}

const MACHINE_ID: &str = "/etc/machine-id";
