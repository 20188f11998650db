//! One QEMU process, its serial ports as files, and its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tuxtape_sys::background::Background;

use super::accelerator::Accelerator;
use super::crash_store::CrashStore;
use super::guest::{Cpus, GuestError, Network};
use super::tools::Tools;

/// Bytes taken from one port; a guest that writes more is stopped.
const PORT_LIMIT: usize = 64 << 20;

/// A running machine; dropping it stops it.
#[derive(Debug)]
pub(super) struct Machine {
    process: Background,
    folder: TempDir,
    pub(super) console: Port,
    pub(super) facts: Port,
    pub(super) records: Port,
}

/// What to run.
pub(super) struct Hardware<'a> {
    pub(super) vmlinuz: &'a Path,
    pub(super) initramfs: &'a [u8],
    pub(super) accelerator: Accelerator,
    pub(super) memory_mib: u32,
    pub(super) cpus: Cpus,
    pub(super) crash_store: Option<&'a CrashStore>,
    pub(super) network: Network,
}

impl Machine {
    pub(super) fn start(tools: &Tools, hardware: &Hardware<'_>) -> Result<Self, GuestError> {
        let folder = tempfile::Builder::new()
            .prefix("tuxtape-lab-")
            .tempdir()
            .map_err(|source| GuestError::Scratch { source })?;
        let scratch = |source| GuestError::Scratch { source };
        let initramfs = folder.path().join("initramfs");
        std::fs::write(&initramfs, hardware.initramfs).map_err(scratch)?;
        let port = |name: &str| Port::create(folder.path().join(name)).map_err(scratch);
        let (console, facts, records) = (port("console")?, port("facts")?, port("records")?);
        let errors = File::create(folder.path().join("errors")).map_err(scratch)?;

        let mut command = Command::new(&tools.qemu);
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-machine", "pc,usb=off"])
            .args(hardware.accelerator.arguments())
            .args(["-smp", processors(hardware.cpus)])
            .arg("-m")
            .arg(format!("{}M", hardware.memory_mib))
            .arg("-kernel")
            .arg(hardware.vmlinuz)
            .arg("-initrd")
            .arg(&initramfs)
            // A reboot, to which panic=-1 leads, ends QEMU. The timer check counts interrupts in a
            // busy loop and panics where a busy host starves an emulated CPU for a moment; KVM guests
            // skip it of their own.
            .args([
                "-append",
                "console=ttyS0 panic=-1 no_timer_check printk.devkmsg=on",
            ]);
        for port in [&console, &facts, &records] {
            command.arg("-serial").arg(serial_argument(&port.path));
        }
        if let Some(store) = hardware.crash_store {
            command.args(store.arguments());
        }
        match hardware.network {
            Network::None => {}
            Network::User => {
                command
                    .args(["-netdev", "user,id=net0"])
                    .args(["-device", "virtio-net-pci,netdev=net0,romfile="]);
            }
        }
        command.stderr(errors);
        let process =
            Background::start(&mut command).map_err(|source| GuestError::Start { source })?;
        Ok(Self {
            process,
            folder,
            console,
            facts,
            records,
        })
    }

    /// Reads what is new on every port; returns false when a port went beyond its bound.
    pub(super) fn poll(&mut self) -> io::Result<bool> {
        let mut fits = true;
        for port in [&mut self.console, &mut self.facts, &mut self.records] {
            port.poll()?;
            fits &= port.bytes.len() < PORT_LIMIT;
        }
        Ok(fits)
    }

    /// Returns why it ended, or none while it runs.
    pub(super) fn ended(&mut self) -> io::Result<Option<String>> {
        let Some(status) = self.process.ended()? else {
            return Ok(None);
        };
        let errors = std::fs::read(self.folder.path().join("errors")).unwrap_or_default();
        let errors = String::from_utf8_lossy(&errors);
        let tail: Vec<&str> = errors.trim().lines().rev().take(3).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Ok(Some(if tail.is_empty() {
            format!("QEMU ended ({status})")
        } else {
            format!("QEMU ended ({status}): {}", tail.join("; "))
        }))
    }
}

fn processors(cpus: Cpus) -> &'static str {
    match cpus {
        Cpus::One => "1,maxcpus=2",
        Cpus::Two => "2",
    }
}

/// A comma in the path would end the option.
fn serial_argument(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// One serial port that QEMU writes to a file.
#[derive(Debug)]
pub(super) struct Port {
    path: PathBuf,
    file: File,
    /// All that came so far.
    pub(super) bytes: Vec<u8>,
}

impl Port {
    fn create(path: PathBuf) -> io::Result<Self> {
        File::create(&path)?;
        Ok(Self {
            file: File::open(&path)?,
            path,
            bytes: Vec::new(),
        })
    }

    fn poll(&mut self) -> io::Result<()> {
        let room = PORT_LIMIT.saturating_sub(self.bytes.len());
        (&mut self.file)
            .take(room as u64)
            .read_to_end(&mut self.bytes)?;
        Ok(())
    }
}
