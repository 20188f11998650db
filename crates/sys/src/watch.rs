//! Waiting for a file to be written to.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Wakes who waits for a file to be written to (`inotify(7)`).
#[derive(Debug)]
pub struct Watch {
    queue: Option<OwnedFd>,
}

impl Watch {
    /// Watches the file that is at `path` now. Where the kernel grants no watch, waits last as long as
    /// they may.
    pub fn of(path: &Path) -> Self {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let watches = |queue: &OwnedFd| {
            let what = WatchFlags::MODIFY | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
            inotify::add_watch(queue, path, what).is_ok()
        };
        Self {
            queue: queue.filter(watches),
        }
    }

    /// Blocks until the file was written to, moved or deleted since it is watched or since the last
    /// wait, and no longer than `longest`. It may end early for no reason.
    pub fn wait(&self, longest: Duration) {
        let Some(queue) = &self.queue else {
            thread::sleep(longest);
            return;
        };
        let end = Timespec::try_from(longest).ok();
        match poll(&mut [PollFd::new(queue, PollFlags::IN)], end.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Else whoever looks again and again would do nothing else.
            Err(_) => thread::sleep(longest),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(queue, &mut buffer);
        while events.next().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::Watch;

    #[test]
    fn a_write_ends_the_wait_and_is_forgotten_behind_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut file = File::create(&path).expect("a file");
        let watch = Watch::of(&path);
        file.write_all(b"line\n").expect("written");
        let long = Duration::from_secs(60);
        let start = Instant::now();
        watch.wait(long);
        fs::rename(&path, folder.path().join("log.1")).expect("moved");
        watch.wait(long);
        assert!(start.elapsed() < long);
        let short = Duration::from_millis(20);
        let start = Instant::now();
        watch.wait(short);
        assert!(start.elapsed() >= short);
    }

    #[test]
    fn without_a_file_a_wait_still_ends() {
        let short = Duration::from_millis(5);
        let start = Instant::now();
        Watch::of("/nonexistent/log".as_ref()).wait(short);
        assert!(start.elapsed() >= short);
    }
}
