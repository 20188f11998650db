//! One boot: what goes into the guest, what comes out.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tuxtape_core::identity::ObjectName;
use tuxtape_sys::process::ProcessError;

use super::accelerator::Accelerator;
use super::cpio::{Archive, CpioError};
use super::crash_store::CrashStore;
use super::machine::{Hardware, Machine};
use super::module_files::{ModuleError, ModuleFiles};
use super::tools::Tools;
use crate::files::KernelFiles;

/// Address of the guest on [`Network::User`].
pub const GUEST_ADDRESS: &str = "10.0.2.15";
/// Address under which the guest reaches the host's loopback on [`Network::User`].
pub const HOST_ADDRESS: &str = "10.0.2.2";

/// A KVM guest that is silent for this long never starts: see [`boot`].
const FIRST_FACT: Duration = Duration::from_secs(20);
/// The log's last records may still be on their way when the guest says it is done.
const LAST_RECORDS: Duration = Duration::from_secs(30);
const END_MARK: &[u8] = b";tuxtape-lab: end\n";

/// Which network the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// None.
    #[default]
    None,
    /// QEMU's user-mode network on `eth0`: reaches the host's loopback at [`HOST_ADDRESS`] and
    /// whatever the host reaches; nothing reaches the guest.
    User,
}

/// How many processors the guest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpus {
    /// One, and a second that never comes up: the kernel keeps its multiprocessor code, as in
    /// production, at the speed of one emulated CPU.
    #[default]
    One,
    /// Two.
    Two,
}

/// A file for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Absolute path in the guest; its folders are made.
    pub path: String,
    /// Permission bits, such as `0o755`.
    pub mode: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What one boot is to do.
#[derive(Clone, Debug)]
pub struct GuestPlan {
    /// Files beside busybox. `/init`, `/bin/busybox` and `/lab/` are the lab's own.
    pub files: Vec<GuestFile>,
    /// Kernel modules loaded before the script, with all they depend on.
    pub modules: Vec<ObjectName>,
    /// Shell text for busybox, run when all is loaded. Has `fact NAME VALUE`, `data NAME <FILE`,
    /// `run NAME COMMAND…` (facts `NAME.exit` and `NAME.output`), `mark TEXT` and
    /// `kept`, which empties [`GuestPlan::crash_store`] into facts `kept/FILE`.
    pub script: String,
    /// Which network.
    pub network: Network,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors. Two where the guest has to go on while one is stuck.
    pub cpus: Cpus,
    /// Where the kernel's last words are kept over the end of the machine; none keeps none.
    pub crash_store: Option<CrashStore>,
    /// Limit of the whole boot, script included.
    pub deadline: Duration,
    /// Longest time without a fact, from power on.
    pub silence: Duration,
    /// How to run it.
    pub accelerator: Accelerator,
}

impl Default for GuestPlan {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            modules: Vec::new(),
            script: String::new(),
            network: Network::None,
            memory_mib: 512,
            cpus: Cpus::One,
            crash_store: None,
            deadline: Duration::from_secs(120),
            silence: Duration::from_secs(120),
            accelerator: Accelerator::Tcg,
        }
    }
}

/// One thing the guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl Fact {
    /// Returns the value as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
}

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The script ran to its end.
    Finished {
        /// Exit code of the script.
        code: i32,
    },
    /// It had to be stopped.
    Deadline {
        /// The limit.
        seconds: u64,
    },
    /// It said nothing for too long, and was stopped.
    Silent {
        /// The limit.
        seconds: u64,
    },
    /// The machine went away before the script's end: the kernel panicked, or QEMU failed.
    Stopped {
        /// What is known.
        why: String,
    },
    /// It wrote more than the lab takes.
    Flooded,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { code } => write!(f, "the script ended with code {code}"),
            Self::Deadline { seconds } => write!(f, "no end within {seconds} s"),
            Self::Silent { seconds } => write!(f, "silent for {seconds} s"),
            Self::Stopped { why } => f.write_str(why),
            Self::Flooded => f.write_str("the guest wrote more than 64 MiB to a port"),
        }
    }
}

/// Whether the kernel's log came out of the guest to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// The guest's mark of the end is in it.
    Whole,
    /// It is not: what the kernel said last is not known.
    Cut,
}

impl LogEnd {
    fn of(records: &[u8]) -> Self {
        // Not much comes after the mark, and the log may be long.
        let marked = records
            .windows(END_MARK.len())
            .rev()
            .take(1 << 16)
            .any(|window| window == END_MARK);
        if marked { Self::Whole } else { Self::Cut }
    }
}

/// What came out of a boot.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended. Nothing but `Finished` says that the guest did what it should.
    pub ending: Ending,
    /// What the guest said, in order.
    pub facts: Vec<Fact>,
    /// What the script printed beside facts.
    pub talk: String,
    /// The kernel's console.
    pub console: Vec<u8>,
    /// The kernel's log as `/dev/kmsg` records.
    pub records: Vec<u8>,
    /// Whether the records go to the script's end.
    pub log: LogEnd,
    /// How it ran.
    pub accelerator: Accelerator,
    /// From the start of QEMU to its end.
    pub elapsed: Duration,
}

impl Outcome {
    /// Returns the last value of the fact `name` as text.
    pub fn fact(&self, name: &str) -> Option<String> {
        self.facts
            .iter()
            .rev()
            .find(|fact| fact.name == name)
            .map(Fact::text)
    }

    /// Returns the modules of the plan that could not be loaded, each with what insmod said.
    pub fn failed_modules(&self) -> Vec<(ObjectName, String)> {
        self.facts
            .iter()
            .filter_map(|fact| {
                let name = fact
                    .name
                    .strip_prefix("lab.module.")?
                    .strip_suffix(".failed")?;
                Some((ObjectName(name.to_owned()), fact.text().trim().to_owned()))
            })
            .collect()
    }

    /// Returns the last `count` lines of the console.
    pub fn console_tail(&self, count: usize) -> String {
        let text = String::from_utf8_lossy(&self.console);
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.trim_end_matches('\r'))
            .filter(|line| !line.is_empty())
            .collect();
        lines
            .get(lines.len().saturating_sub(count)..)
            .unwrap_or_default()
            .join("\n")
    }
}

/// Why a guest could not be booted at all.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// A file the boot needs could not be read.
    #[error("could not read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder for one run could not be written.
    #[error("could not use a temporary folder")]
    Scratch {
        /// What the system said.
        source: io::Error,
    },
    /// QEMU could not be started.
    #[error("could not start a virtual machine")]
    Start {
        /// Why.
        source: ProcessError,
    },
    /// A module for the guest cannot be had.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// A file of the plan does not fit into the initramfs.
    #[error("could not make the initramfs")]
    Initramfs(#[from] CpioError),
}

/// Boots `kernel` as `plan` says and returns what came out. `on_fact` hears each fact as it comes.
///
/// Blocks until the script has ended, the machine has stopped, or the plan's deadline has passed;
/// QEMU is gone when it returns. A KVM guest that says nothing for 20 s is stopped and the plan is
/// run once more by TCG, with the deadline beginning anew.
pub fn boot(
    tools: &Tools,
    kernel: &KernelFiles,
    plan: &GuestPlan,
    on_fact: &mut dyn FnMut(&Fact),
) -> Result<Outcome, GuestError> {
    let outcome = boot_once(tools, kernel, plan, on_fact)?;
    let silent = outcome.facts.is_empty() && !matches!(outcome.ending, Ending::Finished { .. });
    match plan.accelerator {
        Accelerator::Kvm if silent => {
            let emulated = GuestPlan {
                accelerator: Accelerator::Tcg,
                ..plan.clone()
            };
            boot_once(tools, kernel, &emulated, on_fact)
        }
        Accelerator::Kvm | Accelerator::Tcg => Ok(outcome),
    }
}

/// Like [`boot`], without the second try.
pub(super) fn boot_once(
    tools: &Tools,
    kernel: &KernelFiles,
    plan: &GuestPlan,
    on_fact: &mut dyn FnMut(&Fact),
) -> Result<Outcome, GuestError> {
    let initramfs = initramfs(tools, kernel, plan)?;
    let start = Instant::now();
    let mut machine = Machine::start(
        tools,
        &Hardware {
            vmlinuz: &kernel.vmlinuz,
            initramfs: &initramfs,
            accelerator: plan.accelerator,
            memory_mib: plan.memory_mib,
            cpus: plan.cpus,
            crash_store: plan.crash_store.as_ref(),
            network: plan.network,
        },
    )?;
    drop(initramfs);
    let mut facts = FactReader::default();
    let ending = follow(&mut machine, plan, start, &mut facts, on_fact)
        .map_err(|source| GuestError::Scratch { source })?;
    Ok(Outcome {
        ending,
        log: LogEnd::of(&machine.records.bytes),
        facts: facts.facts,
        talk: facts.talk,
        console: std::mem::take(&mut machine.console.bytes),
        records: std::mem::take(&mut machine.records.bytes),
        accelerator: plan.accelerator,
        elapsed: start.elapsed(),
    })
}

fn follow(
    machine: &mut Machine,
    plan: &GuestPlan,
    start: Instant,
    facts: &mut FactReader,
    on_fact: &mut dyn FnMut(&Fact),
) -> io::Result<Ending> {
    let mut done: Option<(Ending, Instant)> = None;
    let mut heard = start;
    let first = match plan.accelerator {
        Accelerator::Kvm => plan.silence.min(FIRST_FACT),
        Accelerator::Tcg => plan.silence,
    };
    loop {
        // Asked before the last look at the ports, so that nothing written before the end is missed.
        let ended = machine.ended()?;
        if !machine.poll()? {
            return Ok(Ending::Flooded);
        }
        for fact in facts.take(&machine.facts.bytes) {
            heard = Instant::now();
            on_fact(&fact);
            if fact.name == "lab.end" {
                let code = fact.text().parse().unwrap_or(-1);
                done = Some((Ending::Finished { code }, Instant::now()));
            }
            facts.facts.push(fact);
        }
        if let Some((ending, since)) = &done {
            let whole = LogEnd::of(&machine.records.bytes) == LogEnd::Whole;
            if whole || ended.is_some() || since.elapsed() > LAST_RECORDS {
                return Ok(ending.clone());
            }
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        if let Some(why) = ended {
            return Ok(Ending::Stopped { why });
        }
        let limit = if facts.facts.is_empty() {
            first
        } else {
            plan.silence
        };
        if heard.elapsed() > limit {
            let seconds = limit.as_secs();
            return Ok(Ending::Silent { seconds });
        }
        if start.elapsed() > plan.deadline {
            let seconds = plan.deadline.as_secs();
            return Ok(Ending::Deadline { seconds });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn initramfs(tools: &Tools, kernel: &KernelFiles, plan: &GuestPlan) -> Result<Vec<u8>, GuestError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| GuestError::Read {
            path: path.clone(),
            source,
        })
    };
    // QEMU would say it, too, but not as clearly.
    std::fs::File::open(&kernel.vmlinuz).map_err(|source| GuestError::Read {
        path: kernel.vmlinuz.clone(),
        source,
    })?;
    let mut wanted = plan.modules.clone();
    if plan.network == Network::User {
        wanted.extend(["virtio_pci", "virtio_net"].map(|name| ObjectName(name.to_owned())));
    }
    let modules = if wanted.is_empty() {
        Vec::new()
    } else {
        ModuleFiles::below(&kernel.modules)?.with_dependencies(&wanted)?
    };
    let mut archive = Archive::default();
    archive.file("/bin/busybox", 0o755, &read(&tools.busybox)?)?;
    archive.file("/init", 0o755, include_bytes!("init.sh"))?;
    archive.file("/lab/functions", 0o644, include_bytes!("functions.sh"))?;
    let script = format!(". /lab/functions\n{}", plan.script);
    archive.file("/lab/main", 0o755, script.as_bytes())?;
    let mut list = String::new();
    for module in &modules {
        list.push_str(&module.name.0);
        list.push('\n');
    }
    archive.file("/lab/modules.list", 0o644, list.as_bytes())?;
    for module in &modules {
        archive.file(
            &format!("/lab/modules/{}.ko", module.name),
            0o644,
            &module.bytes,
        )?;
    }
    if plan.network == Network::User {
        archive.file("/lab/network", 0o644, b"")?;
    }
    for file in &plan.files {
        archive.file(&file.path, file.mode, &file.bytes)?;
    }
    Ok(archive.finish()?)
}

/// Reads `@name=text` and `@name:base64` lines; the rest is talk.
#[derive(Debug, Default)]
struct FactReader {
    read: usize,
    facts: Vec<Fact>,
    talk: String,
}

impl FactReader {
    /// Reads the whole lines of `port` that are new.
    fn take(&mut self, port: &[u8]) -> Vec<Fact> {
        let mut found = Vec::new();
        let fresh = port.get(self.read..).unwrap_or_default();
        for line in fresh.split_inclusive(|byte| *byte == b'\n') {
            let [text @ .., b'\n'] = line else { break };
            self.read += line.len();
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if let Some(fact) = fact_of(text) {
                found.push(fact);
            } else {
                self.talk.push_str(&String::from_utf8_lossy(text));
                self.talk.push('\n');
            }
        }
        found
    }
}

fn fact_of(line: &[u8]) -> Option<Fact> {
    let rest = line.strip_prefix(b"@")?;
    let end = rest.iter().position(|byte| matches!(byte, b'=' | b':'))?;
    let name = std::str::from_utf8(rest.get(..end)?).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let value = rest.get(end + 1..)?;
    Some(Fact {
        name: name.to_owned(),
        value: match rest.get(end)? {
            b':' => BASE64.decode(value).ok()?,
            _ => value.to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_the_guests_mark_is_cut() {
        for (records, end) in [
            ("", LogEnd::Cut),
            ("12,9,1,-;tuxtape-lab: end", LogEnd::Cut),
            ("12,9,1,-;tuxtape-lab: end\n", LogEnd::Whole),
            ("12,9,1,-;tuxtape-lab: end\n6,10,1,-;late\n", LogEnd::Whole),
            ("12,9,1,-;tuxtape-lab: module.0.begin\n", LogEnd::Cut),
        ] {
            assert_eq!(LogEnd::of(records.as_bytes()), end, "{records}");
        }
    }

    #[test]
    fn facts_are_told_from_talk_however_the_port_is_cut() {
        let port = b"hello\r\n@a=1\r\n@b:aGk=\n@bad name=x\n@c:***\n@d=half";
        for cut in 0..=port.len() {
            let mut reader = FactReader::default();
            let mut facts = reader.take(&port[..cut]);
            facts.extend(reader.take(port));
            let seen: Vec<_> = facts
                .iter()
                .map(|fact| (fact.name.as_str(), fact.text()))
                .collect();
            assert_eq!(
                seen,
                [("a", "1".to_owned()), ("b", "hi".to_owned())],
                "{cut}"
            );
            assert_eq!(reader.talk, "hello\n@bad name=x\n@c:***\n");
        }
    }
}
