//! Children that run beside us: stopped with their process group when dropped.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{self, Leader, ProcessError};

/// A running child that leads its own process group.
///
/// Dropping it kills the group. The kernel kills the child, too, when the thread that started it
/// ends, however that comes about: start it from the thread that waits for it.
#[derive(Debug)]
pub struct Background {
    child: Leader,
    program: String,
}

impl Background {
    /// Starts `command` with no standard input and no standard output; its standard error is as
    /// `command` says.
    pub fn start(command: &mut Command) -> Result<Self, ProcessError> {
        let program = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        let child = process::dies_with_us(command, Signal::KILL)
            .spawn()
            .map_err(|source| ProcessError::Start {
                program: program.clone(),
                source,
            })?;
        Ok(Self {
            child: Leader::new(child),
            program,
        })
    }

    /// Returns how it ended, or none while it runs. What it left of its group is killed with that.
    /// Does not block.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, io::Error> {
        self.child.ended()
    }

    /// Waits for its end, at most until `limit` has passed, then kills it with its group.
    ///
    /// Blocks. Returns its status, or [`ProcessError::Deadline`] when it had to be killed.
    pub fn wait(mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Ok(Some(status)) = self.child.ended() {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(ProcessError::Deadline {
            program: self.program.clone(),
            seconds: limit.as_secs(),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.child.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_it_stops_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("held");
        let status = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(status.success());
        let child = Background::start(
            Command::new("sh")
                .args(["-c", "sleep 60 3>\"$0\" & sleep 60 3>\"$0\""])
                .arg(&fifo),
        )
        .unwrap();
        // Opens once a writer is there; ends once the last writer is gone.
        let mut reader = std::fs::File::open(&fifo).unwrap();
        drop(child);
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut reader, &mut rest).unwrap();
        assert_eq!(rest, b"");
    }

    #[test]
    fn an_end_is_seen_with_its_status() {
        let child = Background::start(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        let status = child.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(7));
    }
}
