//! Lines that are no report and matter to one.

use super::IncidentKind;

pub(super) enum Note {
    /// The line before was cut and comes again.
    Replayed,
    /// The console dropped this many.
    Dropped(u64),
    /// A boot begins.
    NewBoot,
    ConsoleLost,
    /// A program of the test harness, or sshd, died of want of memory.
    Suppressed,
    /// A stack follows that is no report.
    StackOfOther,
    Incident(IncidentKind),
}

const MARKS: &[&str] = &[
    "printk message",
    "Linux version ",
    "VM disconnected",
    "panic: ",
    "PANIC: ",
    "fatal error",
    "SIGBUS",
    "Out of memory",
    "Killed process",
    "stack smashing",
    "allocation failure",
    "FAULT_",
    "[Hardware Error]",
    "EDAC ",
    "NMI received for unknown reason",
    "emperature above",
];

/// Texts of which each line noted here has one.
pub(crate) fn marks() -> impl Iterator<Item = &'static str> {
    MARKS.iter().copied()
}

pub(super) fn note(line: &[u8]) -> Option<Note> {
    let has = |text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
    if has("printk message") {
        if has("** replaying previous printk message **") {
            return Some(Note::Replayed);
        }
        if line.starts_with(b"** ") && has(" printk messages dropped **") {
            let count = line
                .get(3..)?
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .take(18)
                .fold(0_u64, |count, byte| count * 10 + u64::from(byte - b'0'));
            return Some(Note::Dropped(count));
        }
    }
    if line.starts_with(b"Linux version ") {
        return Some(Note::NewBoot);
    }
    if has("serialport: VM disconnected.") {
        return Some(Note::ConsoleLost);
    }
    if SUPPRESSED
        .iter()
        .any(|texts| texts.iter().all(|text| has(text)))
    {
        return Some(Note::Suppressed);
    }
    if [
        "vmalloc: allocation failure:",
        "FAULT_INJECTION: forcing a failure",
        "FAULT_FLAG_ALLOW_RETRY missing",
    ]
    .into_iter()
    .any(has)
    {
        return Some(Note::StackOfOther);
    }
    if line.starts_with(b"Out of memory: ") || has("Memory cgroup out of memory: ") {
        return Some(Note::Incident(IncidentKind::OutOfMemory));
    }
    let hardware = has("[Hardware Error]")
        // `EDAC MC: Ver: 3.0.0` is printed at each boot.
        || (line.starts_with(b"EDAC ") && (has(" CE ") || has(" UE ")))
        || has("NMI received for unknown reason")
        || has("emperature above threshold");
    hardware.then_some(Note::Incident(IncidentKind::Hardware))
}

/// Each: all of these on one line.
const SUPPRESSED: &[&[&str]] = &[
    &["panic: failed to start executor binary"],
    &["panic: executor failed: pthread_create failed"],
    &["panic: failed to create temp dir"],
    &["panic: ", "cannot allocate memory"],
    &["fatal error: unexpected signal during runtime execution"],
    &["fatal error: runtime: out of memory"],
    &["fatal error: runtime: cannot allocate memory"],
    &["fatal error: out of memory"],
    &["fatal error: newosproc"],
    &["signal SIGBUS: bus error"],
    &["SYZFAIL: SIGBUS"],
    &["Out of memory: Kill process ", " (syz-executor)"],
    &["Out of memory: Kill process ", " (sshd)"],
    &["Killed process ", " (syz-executor)"],
    &["Killed process ", " (sshd)"],
    &["INIT: PANIC: segmentation violation!"],
    &["*** stack smashing detected ***: terminated"],
];
