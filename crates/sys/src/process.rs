//! Child processes with deadlines.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Most bytes a child may print on one stream: more than any vmlinux that is unpacked through a pipe.
const OUTPUT_LIMIT: u64 = 1 << 30;

/// How long the last output of a child that has ended may take from the pipe, whatever its deadline.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// What a finished child left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Why a child did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("could not start {program}")]
    Start {
        /// Program name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It, or what it left behind with its output, ran past the deadline; its group was killed.
    #[error("{program} did not finish within {seconds} s and was stopped")]
    Deadline {
        /// Program name.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// It printed more than any program we run has reason to.
    #[error("{program} printed more than {limit} bytes")]
    Output {
        /// Program name.
        program: String,
        /// The limit.
        limit: u64,
    },
    /// It ended with failure.
    #[error("{program} failed ({status}): {tail}")]
    Failed {
        /// Program name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its standard error, else of its standard output.
        tail: String,
    },
}

/// Returns the user id this program acts as.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Runs `command` to its end or to `deadline`, with no standard input, and collects what it prints.
///
/// The child is in a process group of its own, which is killed whole when the child has ended, and at
/// the deadline. A signal from the terminal therefore reaches only us; when we end, however that comes about, the child is ended with
/// its group. Any exit status is `Ok`; see [`run_ok`].
pub fn run(command: &mut Command, deadline: Duration) -> Result<Finished, ProcessError> {
    run_from(command, Stdio::null(), deadline)
}

fn run_from(
    command: &mut Command,
    input: Stdio,
    deadline: Duration,
) -> Result<Finished, ProcessError> {
    let program = name_of(command);
    let group = Group::watched();
    let child = dies_with_us(command, Signal::TERM)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(group.id())
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: program.clone(),
            source,
        })?;
    collect(child, &group, program, deadline, OUTPUT_LIMIT)
}

/// Like [`run`], with the child's standard error left to the terminal, so that its progress shows.
pub fn run_aloud(command: &mut Command, deadline: Duration) -> Result<Finished, ProcessError> {
    let program = name_of(command);
    let group = Group::watched();
    let child = dies_with_us(command, Signal::TERM)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(group.id())
        .spawn()
        .map_err(|source| ProcessError::Start {
            program: program.clone(),
            source,
        })?;
    collect(child, &group, program, deadline, OUTPUT_LIMIT)
}

/// Like [`run`], with a failing exit status as an error that carries the child's last words.
pub fn run_ok(command: &mut Command, deadline: Duration) -> Result<Finished, ProcessError> {
    let finished = run(command, deadline)?;
    succeeded(command, finished)
}

/// Like [`run_ok`], with `input` as the child's standard input.
pub fn run_ok_with(
    command: &mut Command,
    input: &[u8],
    deadline: Duration,
) -> Result<Finished, ProcessError> {
    // A file in memory and no pipe: a child that answers before it has read all cannot block us.
    let file = memory_file(input).map_err(|source| ProcessError::Start {
        program: name_of(command),
        source,
    })?;
    let finished = run_from(command, Stdio::from(file), deadline)?;
    succeeded(command, finished)
}

/// Like [`run_ok_with`], for a program of somebody else's whose answer has at most `limit` bytes; its
/// standard error is left to the terminal, where it may ask a person for a touch or a PIN.
pub fn answer(
    command: &mut Command,
    input: &[u8],
    limit: u64,
    deadline: Duration,
) -> Result<Vec<u8>, ProcessError> {
    let program = name_of(command);
    let started = |source| ProcessError::Start {
        program: program.clone(),
        source,
    };
    let file = memory_file(input).map_err(started)?;
    let group = Group::watched();
    let child = dies_with_us(command, Signal::TERM)
        .stdin(Stdio::from(file))
        .stdout(Stdio::piped())
        .process_group(group.id())
        .spawn()
        .map_err(started)?;
    let finished = collect(child, &group, program.clone(), deadline, limit)?;
    Ok(succeeded(command, finished)?.stdout)
}

fn memory_file(content: &[u8]) -> io::Result<File> {
    let descriptor = rustix::fs::memfd_create(c"input", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

fn succeeded(command: &Command, finished: Finished) -> Result<Finished, ProcessError> {
    if finished.status.success() {
        return Ok(finished);
    }
    let words = if finished.stderr.iter().all(u8::is_ascii_whitespace) {
        &finished.stdout
    } else {
        &finished.stderr
    };
    let text = String::from_utf8_lossy(words);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let tail = lines
        .get(lines.len().saturating_sub(12)..)
        .unwrap_or_default()
        .join("\n");
    Err(ProcessError::Failed {
        program: name_of(command),
        status: finished.status,
        tail,
    })
}

/// A process group led by a shell that waits for our end and then kills the group. The kernel's own
/// signal at our end reaches a child alone, and not the compiler that it started.
#[derive(Debug)]
struct Group(Option<Child>);

impl Group {
    fn watched() -> Self {
        // Its standard input ends when we do. Without a shell the kernel's signal is what is left.
        let watch = Command::new("/bin/sh")
            .args(["-c", "read -r _; kill -KILL 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Self(watch.ok())
    }

    /// What a child is started with to be in it; 0, a group of the child's own, without a shell.
    fn id(&self) -> i32 {
        let leader = self.0.as_ref();
        leader.map_or(0, |leader| i32::try_from(leader.id()).unwrap_or(0))
    }

    /// Kills everything in it, `child` too, which must not have been reaped, and reaps `child`.
    fn end(&self, child: &mut Child) -> io::Result<ExitStatus> {
        match Pid::from_raw(self.id()) {
            Some(group) => {
                rustix::process::kill_process_group(group, Signal::KILL).ok();
                child.kill().ok();
                child.wait()
            }
            None => end_group(child),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = &mut self.0 {
            // In this order: waiting closes its standard input.
            leader.kill().ok();
            leader.wait().ok();
        }
    }
}

/// Lets the kernel send `signal` to the child when the thread that starts it ends: start it from the
/// thread that waits for it.
pub(crate) fn dies_with_us(command: &mut Command, signal: Signal) -> &mut Command {
    let us = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // We may have ended before the request was made.
        if rustix::process::getppid() == Some(us) {
            Ok(())
        } else {
            Err(io::ErrorKind::Interrupted.into())
        }
    };
    #[expect(unsafe_code, reason = "code between fork and exec is unsafe by nature")]
    // SAFETY: the closure makes two system calls (prctl, getppid) and allocates nothing.
    unsafe {
        command.pre_exec(prepare)
    }
}

fn name_of(command: &Command) -> String {
    OsStr::to_string_lossy(command.get_program()).into_owned()
}

/// Waits for `child` and takes what it prints on the streams that are pipes.
fn collect(
    mut child: Child,
    group: &Group,
    program: String,
    deadline: Duration,
    limit: u64,
) -> Result<Finished, ProcessError> {
    let start = Instant::now();
    let stdout = drain(child.stdout.take(), limit);
    let stderr = drain(child.stderr.take(), limit);
    let status = wait(&mut child, group, start, deadline);
    // Who left the group may hold a pipe for ever.
    let last = |pipe: &Receiver<Vec<u8>>| {
        let left = deadline.saturating_sub(start.elapsed());
        pipe.recv_timeout(left.max(LAST_OUTPUT)).ok()
    };
    let (Some(status), Some(stdout), Some(stderr)) = (status, last(&stdout), last(&stderr)) else {
        let seconds = deadline.as_secs();
        return Err(ProcessError::Deadline { program, seconds });
    };
    if stdout.len().max(stderr.len()) as u64 > limit {
        return Err(ProcessError::Output { program, limit });
    }
    Ok(Finished {
        status,
        stdout,
        stderr,
    })
}

/// Reads one byte more than `limit` at most; the pipe is then closed, which ends who writes on.
fn drain<R: Read + Send + 'static>(pipe: Option<R>, limit: u64) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // A broken pipe ends the output; what came before it is kept.
            drop(pipe.take(limit.saturating_add(1)).read_to_end(&mut bytes));
        }
        // Nobody listens when the deadline has passed.
        sender.send(bytes).ok();
    });
    receiver
}

/// Waits until `child` ends or the deadline passes, then ends its group. `None` when it had to be
/// killed.
fn wait(
    child: &mut Child,
    group: &Group,
    start: Instant,
    deadline: Duration,
) -> Option<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    loop {
        match has_ended(child) {
            Ok(true) => return group.end(child).ok(),
            Ok(false) if start.elapsed() < deadline => thread::sleep(pause),
            Ok(false) | Err(_) => {
                group.end(child).ok();
                return None;
            }
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Tells whether `child` has ended, and leaves it to be reaped: until then its id, which may be its
/// group's, is nobody else's.
fn has_ended(child: &Child) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(rustix::process::waitid(WaitId::Pid(pid), options)?.is_some())
}

/// Kills the process group that `child` leads, and reaps `child`, which must not have been reaped.
fn end_group(child: &mut Child) -> io::Result<ExitStatus> {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process_group(group, Signal::KILL).ok();
    }
    child.kill().ok();
    child.wait()
}

/// A child that leads a process group of its own.
///
/// The group is killed before its leader is reaped, and never after: the id may then be another's.
#[derive(Debug)]
pub(crate) struct Leader {
    child: Child,
    status: Option<ExitStatus>,
}

impl Leader {
    /// Takes a child that was started with `process_group(0)` and was not waited for.
    pub(crate) fn new(child: Child) -> Self {
        Self {
            child,
            status: None,
        }
    }

    /// Returns how it ended, or none while it runs; what it left of its group is killed. Does not
    /// block.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() && has_ended(&self.child)? {
            self.status = Some(end_group(&mut self.child)?);
        }
        Ok(self.status)
    }

    /// Kills it with its group and reaps it, if that has not happened yet.
    pub(crate) fn end(&mut self) {
        if self.status.is_none() {
            self.status = end_group(&mut self.child).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_past_its_deadline_is_stopped_with_its_children() {
        let started = Instant::now();
        let outcome = run(
            Command::new("sh").args(["-c", "sleep 60 & sleep 60"]),
            Duration::from_millis(200),
        );
        assert!(matches!(outcome, Err(ProcessError::Deadline { .. })));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_a_child_leaves_behind_does_not_hold_its_output() {
        let started = Instant::now();
        let finished = run(
            Command::new("sh").args(["-c", "sleep 60 & echo said"]),
            Duration::from_secs(30),
        )
        .unwrap();
        assert_eq!(finished.stdout, b"said\n");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn output_held_from_outside_the_group_has_the_childs_deadline() {
        // The holder leaves the group, says so, and ends when its standard input does. The child waits
        // for that word: what is still in the group when it ends is killed with it.
        let (reader, writer) = io::pipe().unwrap();
        let held = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("left");
        let made = Command::new("mkfifo").arg(&left).status().unwrap();
        assert!(made.success());
        let script = format!(
            "setsid sh -c 'echo left >{left}; exec cat' </proc/{us}/fd/{held} & read word <{left}",
            left = left.display(),
            us = std::process::id(),
        );
        let mut command = Command::new("sh");
        let outcome = run(command.args(["-c", &script]), Duration::from_secs(2));
        assert!(matches!(outcome, Err(ProcessError::Deadline { .. })));
        drop(writer);
    }

    #[test]
    fn a_child_that_prints_without_end_is_cut_off() {
        let group = Group::watched();
        let child = Command::new("yes")
            .stdout(Stdio::piped())
            .process_group(group.id())
            .spawn()
            .unwrap();
        let outcome = collect(
            child,
            &group,
            "yes".to_owned(),
            Duration::from_secs(60),
            1000,
        );
        assert!(matches!(
            outcome,
            Err(ProcessError::Output { limit: 1000, .. })
        ));
    }

    #[test]
    fn a_leader_is_reaped_once_and_after_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("held");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 60 3>\"$0\" & exit 3"])
            .arg(&fifo)
            .process_group(0);
        let mut leader = Leader::new(command.spawn().unwrap());
        // Opens once the grandchild holds it; ends once it is gone.
        let mut reader = File::open(&fifo).unwrap();
        let status = loop {
            if let Some(status) = leader.ended().unwrap() {
                break status;
            }
            thread::yield_now();
        };
        assert_eq!(status.code(), Some(3));
        reader.read_to_end(&mut Vec::new()).unwrap();
        // Its id may be anybody's by now: the second end must not ask the system of it.
        assert!(has_ended(&leader.child).is_err());
        leader.end();
        assert_eq!(leader.ended().unwrap(), Some(status));
    }

    #[test]
    fn a_child_ends_with_who_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("held");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let (sent, seen) = mpsc::channel::<()>();
        let held = fifo.clone();
        let starter = thread::spawn(move || {
            let mut command = Command::new("sh");
            command.args(["-c", "exec sleep 60 3>\"$0\""]).arg(held);
            let child = dies_with_us(&mut command, Signal::TERM).spawn().unwrap();
            seen.recv().ok();
            child
        });
        // Opens once the child holds it; ends once the child is gone.
        let mut reader = File::open(&fifo).unwrap();
        drop(sent);
        let mut child = starter.join().unwrap();
        reader.read_to_end(&mut Vec::new()).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(15)
        );
    }

    #[test]
    fn all_of_a_childs_group_ends_with_a_killed_program() {
        const HELD: &str = "TUXTAPE_TEST_HELD";
        let script = "sh -c 'sleep 30; echo late >&3' 3>\"$0\" & wait";
        if let Some(held) = std::env::var_os(HELD) {
            let mut command = Command::new("sh");
            run(
                command.args(["-c", script]).arg(held),
                Duration::from_secs(60),
            )
            .unwrap();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("held");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let name = "process::tests::all_of_a_childs_group_ends_with_a_killed_program";
        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(HELD, &fifo)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Opens once the grandchild holds it; ends once it is gone.
        let mut reader = File::open(&fifo).unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }

    #[test]
    fn a_failure_carries_the_last_words() {
        let outcome = run_ok(
            Command::new("sh").args(["-c", "echo why >&2; exit 3"]),
            Duration::from_secs(20),
        );
        assert!(outcome.unwrap_err().to_string().ends_with("why"));
    }
}
