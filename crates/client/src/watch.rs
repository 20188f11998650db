//! Watching a level in its probation: counters, kernel log, and whether it stays in force.

use std::time::Duration;

use tuxtape_sys::kernel::KernelError;

use crate::host::Host;
use crate::journal::JournaledLevel;
use crate::load::{LoadError, LogVerdict, Remarks, Watch, note};
use crate::state::State;

/// Reads of the kernel log in one look; a log that grows faster is not read to its end.
const READS: u32 = 16;

/// Watches a level for its probation and returns what speaks against it.
pub(crate) fn complaint(
    host: &mut dyn Host,
    state: &mut State,
    level: &JournaledLevel,
    watch: Watch,
    remarks: &mut Remarks,
) -> Result<Option<String>, LoadError> {
    let attempt = state.journal.journal.attempt.clone();
    let (log_from, oopses) = attempt.map_or((0, None), |a| (a.log_from, a.oopses));
    let start = host.monotonic();
    let end = start + watch.probation;
    if watch.judge.is_none() {
        remarks.push("the kernel log was not judged: this build has no log reader".to_owned());
    }
    let mut log = WatchedLog::from(log_from);
    let mut unrelated = 0;
    loop {
        // Before the log is read: an oops that is counted has been written there.
        let counted = match (oopses, host.counters().oops) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => 0,
        };
        if let Some(judge) = watch.judge {
            for _ in 0..READS {
                let new = match log.read_on(host) {
                    Ok(new) => new,
                    Err(error) => {
                        note(remarks, format!("the kernel log was not read: {error}"));
                        break;
                    }
                };
                match judge(&log.bytes, &level.module) {
                    LogVerdict::Guilty(why) => return Ok(Some(why)),
                    LogVerdict::Unrelated { what, oopses } => {
                        unrelated = oopses.max(unrelated);
                        note(remarks, format!("kernel log: {what}"));
                    }
                    LogVerdict::Clean => {}
                }
                if !new {
                    break;
                }
            }
            if log.lost {
                let lost = "records of the kernel log were lost before they were read";
                note(remarks, lost.to_owned());
            }
        }
        // Only a log that is whole and shows every oops elsewhere explains the count.
        if counted > 0 && (log.lost || counted > unrelated) {
            return Ok(Some(format!(
                "the kernel counted {counted} oopses since it was loaded, and its log does not show that they have another cause"
            )));
        }
        let still = host
            .livepatches()?
            .into_iter()
            .find(|patch| patch.name == level.module);
        if still.is_none_or(|patch| !patch.enabled) {
            return Ok(Some("somebody disabled it while it was watched".to_owned()));
        }
        let now = host.monotonic();
        note_watched(state, now.saturating_sub(start).as_secs(), remarks);
        let left = end.saturating_sub(now);
        if left.is_zero() {
            return Ok(None);
        }
        host.pause(left.min(Duration::from_secs(1)));
    }
}

/// Writes down each checkpoint once it is passed.
fn note_watched(state: &mut State, seconds: u64, remarks: &mut Remarks) {
    const CHECKPOINTS: [u64; 3] = [60, 300, 900];
    let passed = CHECKPOINTS.into_iter().rfind(|mark| seconds >= *mark);
    let known = state.journal.journal.attempt.as_ref().map(|a| a.watched);
    let (Some(passed), Some(known)) = (passed, known) else {
        return;
    };
    if passed <= known {
        return;
    }
    let written = state.journal.record(|journal| {
        if let Some(attempt) = &mut journal.attempt {
            attempt.watched = passed;
        }
    });
    if let Err(error) = written {
        note(remarks, format!("the journal was not written: {error}"));
    }
}

/// The kernel log since a level was loaded.
struct WatchedLog {
    bytes: Vec<u8>,
    next: u64,
    lost: bool,
}

impl WatchedLog {
    /// Bytes after which the oldest records are let go. They have been judged by then.
    const LIMIT: usize = 8 * 1024 * 1024;
    /// Newest bytes kept then, so that a complaint being written is judged whole.
    const KEPT: usize = 1024 * 1024;
    /// Bytes of older lines kept that tell where the level stands.
    const EVENTS: usize = 64 * 1024;

    fn from(next: u64) -> Self {
        Self {
            bytes: Vec::new(),
            next,
            lost: false,
        }
    }

    /// Reads what is new, and tells whether there was any. One read ends at the host's own limit.
    fn read_on(&mut self, host: &dyn Host) -> Result<bool, KernelError> {
        if self.bytes.len() > Self::LIMIT {
            let from = self.bytes.len() - Self::KEPT;
            let line = self.bytes.iter().skip(from).position(|byte| *byte == b'\n');
            let newest = self.bytes.split_off(from + line.map_or(0, |line| line + 1));
            let older = std::mem::take(&mut self.bytes);
            let words = b"livepatch: ";
            for line in older.split_inclusive(|byte| *byte == b'\n') {
                if self.bytes.len() + line.len() <= Self::EVENTS
                    && line.windows(words.len()).any(|part| part == words)
                {
                    self.bytes.extend_from_slice(line);
                }
            }
            self.bytes.extend_from_slice(&newest);
        }
        let log = host.log(self.next)?;
        let new = log.next > self.next;
        self.next = self.next.max(log.next);
        self.lost |= log.lost;
        self.bytes.extend_from_slice(&log.bytes);
        Ok(new)
    }
}

/// Sequence number after the last record there is now.
pub(crate) fn log_end(host: &dyn Host) -> u64 {
    let mut next = 0;
    loop {
        match host.log(next) {
            Ok(log) if log.next > next => next = log.next,
            Ok(_) | Err(_) => return next,
        }
    }
}
