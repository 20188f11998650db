//! Many blobs through one long-lived `git cat-file --batch`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use std::os::unix::process::CommandExt;

use tuxtape_core::git_id::GitId;

use super::{GitError, Repository, unexpected};
use crate::process::{Leader, ProcessError};

/// Bytes that git may be ahead of its reader; the most that a user may ask for without privileges.
const PIPE: usize = 1 << 20;
/// Longest header line, in bytes.
const LONGEST_HEADER: u64 = 200;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob {
    /// Its bytes are in the buffer.
    Read,
    /// It is larger than the limit; nothing was kept.
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The repository does not have it.
    Missing,
}

/// A stream of the blobs asked for, in that order.
#[derive(Debug)]
pub struct Blobs {
    child: Arc<Mutex<Leader>>,
    answers: BufReader<ChildStdout>,
    writer: Option<JoinHandle<()>>,
    watch: Option<(Sender<()>, JoinHandle<bool>)>,
    deadline: Duration,
    limit: u64,
}

impl Repository {
    /// Starts reading `ids`. Blobs above `limit` bytes are passed over. The whole stream must be
    /// taken within `deadline`, else `git` is stopped and the next read fails.
    pub fn blobs(
        &self,
        ids: Vec<GitId>,
        limit: u64,
        deadline: Duration,
    ) -> Result<Blobs, GitError> {
        let mut command = self.command();
        command
            // Answers are flushed when the buffer is full, not one by one.
            .args(["cat-file", "--batch", "--buffer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let start = |source| ProcessError::Start {
            program: "git".to_owned(),
            source,
        };
        let mut child = command.spawn().map_err(start)?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let (Some(mut questions), Some(answers)) = (questions, answers) else {
            Leader::new(child).end();
            return Err(GitError::Pipe(io::Error::from(io::ErrorKind::BrokenPipe)));
        };
        // Where it stays small git and its reader wake each other more often, and nothing else.
        rustix::pipe::fcntl_setpipe_size(&answers, PIPE).ok();
        // Both pipes have small buffers: asking everything before reading would block for ever.
        let writer = thread::spawn(move || {
            let mut text = String::with_capacity(41 * ids.len());
            for id in ids {
                text.push_str(&id.to_string());
                text.push('\n');
            }
            // When git is gone the reader sees the end.
            questions.write_all(text.as_bytes()).ok();
        });
        let child = Arc::new(Mutex::new(Leader::new(child)));
        let (done, wait) = mpsc::channel();
        let watched = Arc::clone(&child);
        let watch = thread::spawn(move || {
            let late = wait.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout);
            if late {
                let mut child = watched.lock().unwrap_or_else(PoisonError::into_inner);
                child.end();
            }
            late
        });
        Ok(Blobs {
            child,
            answers: BufReader::with_capacity(64 << 10, answers),
            writer: Some(writer),
            watch: Some((done, watch)),
            deadline,
            limit,
        })
    }
}

impl Blobs {
    /// Reads the next blob into `buffer`, replacing what it held.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Blob, GitError> {
        let outcome = self.read(buffer);
        match outcome {
            Err(GitError::Pipe(_)) if self.end() => Err(ProcessError::Deadline {
                program: "git".to_owned(),
                seconds: self.deadline.as_secs(),
            }
            .into()),
            other => other,
        }
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<Blob, GitError> {
        buffer.clear();
        let mut header = Vec::new();
        (&mut self.answers)
            .take(LONGEST_HEADER)
            .read_until(b'\n', &mut header)
            .map_err(GitError::Pipe)?;
        if header.is_empty() {
            return Err(GitError::Pipe(io::Error::from(
                io::ErrorKind::UnexpectedEof,
            )));
        }
        let text = String::from_utf8_lossy(&header);
        let mut words = text.split_ascii_whitespace().skip(1);
        let size: u64 = match (words.next(), words.next()) {
            (Some("missing"), _) => return Ok(Blob::Missing),
            (Some("blob"), Some(size)) => {
                size.parse().map_err(|_| unexpected("cat-file", &header))?
            }
            _ => return Err(unexpected("cat-file", &header)),
        };
        let mut content = (&mut self.answers).take(size);
        let blob = if size > self.limit {
            io::copy(&mut content, &mut io::sink()).map_err(GitError::Pipe)?;
            Blob::TooLarge { bytes: size }
        } else {
            content.read_to_end(buffer).map_err(GitError::Pipe)?;
            if buffer.len() as u64 != size {
                return Err(GitError::Pipe(io::Error::from(
                    io::ErrorKind::UnexpectedEof,
                )));
            }
            Blob::Read
        };
        let mut end = [0];
        self.answers.read_exact(&mut end).map_err(GitError::Pipe)?;
        Ok(blob)
    }

    /// Stops everything; tells whether the deadline had passed.
    fn end(&mut self) -> bool {
        let late = self.watch.take().is_some_and(|(done, watch)| {
            drop(done);
            watch.join().unwrap_or(false)
        });
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.end();
        drop(child);
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
        late
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        self.end();
    }
}
