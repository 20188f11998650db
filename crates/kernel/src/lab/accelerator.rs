//! TCG, or KVM where it was seen to work on this host since it booted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tuxtape_sys::durable;

use super::guest::{self, Ending, GuestPlan};
use super::tools::Tools;
use crate::files::KernelFiles;

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulated: slow, works everywhere.
    Tcg,
    /// The host's CPU.
    Kvm,
}

impl Accelerator {
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
        }
    }

    /// Returns the word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// Limit of the probe: nested KVM is known to stand still right after the firmware.
pub const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Chooses KVM when it boots `kernel` to user space within [`PROBE_LIMIT`], else TCG.
///
/// The answer is kept in `memory` and holds until the host boots again. Blocks for the probe; never
/// fails: whatever goes wrong, the answer is TCG, and `talk` hears why.
pub fn choose(
    tools: &Tools,
    kernel: &KernelFiles,
    memory: &Path,
    talk: &mut dyn FnMut(&str),
) -> Accelerator {
    let device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if device.is_err() {
        return Accelerator::Tcg;
    }
    drop(device);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if let Some(known) = recall(&fs::read_to_string(memory).unwrap_or_default(), boot.trim()) {
        return known;
    }
    talk("probing KVM (at most 20 s)");
    let found = probe(tools, kernel, talk);
    remember(memory, boot.trim(), found);
    found
}

fn probe(tools: &Tools, kernel: &KernelFiles, talk: &mut dyn FnMut(&str)) -> Accelerator {
    let plan = GuestPlan {
        accelerator: Accelerator::Kvm,
        deadline: PROBE_LIMIT,
        ..GuestPlan::default()
    };
    match guest::boot_once(tools, kernel, &plan, &mut |_| {}) {
        Ok(outcome) if matches!(outcome.ending, Ending::Finished { code: 0 }) => Accelerator::Kvm,
        Ok(outcome) => {
            talk(&format!(
                "KVM does not work here ({}); emulating",
                outcome.ending
            ));
            Accelerator::Tcg
        }
        Err(error) => {
            talk(&format!("KVM does not work here ({error}); emulating"));
            Accelerator::Tcg
        }
    }
}

/// Notes for this boot of the host which accelerator works.
pub fn remember(memory: &Path, boot: &str, found: Accelerator) {
    let text = format!("1 {boot} {}\n", found.as_str());
    if let Some(folder) = memory.parent() {
        fs::create_dir_all(folder).ok();
    }
    // Without it the next run probes again: slower, not wrong.
    durable::write(memory, text.as_bytes()).ok();
}

fn recall(text: &str, boot: &str) -> Option<Accelerator> {
    let mut words = text.split_ascii_whitespace();
    let known = words.next() == Some("1") && !boot.is_empty() && words.next() == Some(boot);
    match words.next() {
        Some("tcg") if known => Some(Accelerator::Tcg),
        Some("kvm") if known => Some(Accelerator::Kvm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_holds_for_one_boot_of_the_host() {
        assert_eq!(recall("1 abc kvm\n", "abc"), Some(Accelerator::Kvm));
        assert_eq!(recall("1 abc tcg\n", "abc"), Some(Accelerator::Tcg));
        for (text, boot) in [
            ("1 abc kvm", "abd"),
            ("2 abc kvm", "abc"),
            ("", "abc"),
            ("1  kvm", ""),
            ("1 abc x", "abc"),
        ] {
            assert_eq!(recall(text, boot), None, "{text:?}");
        }
    }
}
