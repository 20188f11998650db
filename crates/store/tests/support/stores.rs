//! Empty stores to test with: a SQLite file, and a database of a PostgreSQL server of our own where
//! Debian's package is installed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tuxtape_store::Location;

/// Longest the server may take to answer, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// An empty store, and a folder for the test's other files.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) location: Location,
    /// The location as a person writes it.
    pub(crate) text: String,
    pub(crate) folder: tempfile::TempDir,
}

/// Returns one empty store of each kind there is here.
pub(crate) fn stores() -> Vec<Fresh> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("sqlite:{}", folder.path().join("home/x.sqlite").display());
    let mut stores = vec![Fresh {
        name: "SQLite",
        location: Location::parse(&text).unwrap(),
        text,
        folder,
    }];
    stores.extend(postgres());
    stores
}

/// Returns an empty database of the server.
fn postgres() -> Option<Fresh> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(Server::start).as_ref()?;
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server.create(&name);
    let url = format!(
        "postgres:///{name}?host={}&user=tuxtape",
        server.folder.display()
    );
    Some(Fresh {
        name: "PostgreSQL",
        location: Location::parse(&url).unwrap(),
        text: url,
        folder: tempfile::tempdir().unwrap(),
    })
}

/// A server without TCP, whose data and socket lie in a folder of its own.
struct Server {
    programs: PathBuf,
    folder: PathBuf,
    /// A shell that reads a pipe of ours, and stops the server when we end, however we end.
    _leash: Child,
}

impl Server {
    fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped on PostgreSQL: no /usr/lib/postgresql/*/bin (Debian: postgresql)");
            return None;
        };
        // Short: the path of a socket has at most 107 bytes.
        let folder = tempfile::Builder::new()
            .prefix("pg")
            .tempdir_in("/tmp")
            .unwrap()
            .keep();
        let user = unprivileged(&folder);
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(&folder).stdin(Stdio::null());
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        };
        let data = folder.join("data");
        let output = command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=tuxtape"])
            .args(["--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let log = fs::File::create(folder.join("log")).unwrap();
        // The shell runs the server, and stops it when our end of the pipe closes.
        let leash = command("/bin/sh")
            .args([
                "-c",
                "\"$0\" \"$@\" & cat > /dev/null; kill -QUIT $!; wait; rm -rf \"$PWD\"",
            ])
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .args(["-c", "shared_buffers=32MB"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A signal to our group must not end it before the server.
            .process_group(0)
            .spawn()
            .unwrap();
        Some(Self {
            programs,
            _leash: leash,
            folder,
        })
    }

    fn create(&self, name: &str) {
        let started = Instant::now();
        loop {
            let mut command = Command::new(self.programs.join("createdb"));
            command.arg("-h").arg(&self.folder);
            let output = command.args(["-U", "tuxtape", name]).output().unwrap();
            if output.status.success() {
                return;
            }
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(started.elapsed() < START, "{output:?}\n{log}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// The server refuses to run as root: finds another user, and gives the folder to them.
fn unprivileged(folder: &Path) -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = ["postgres", "nobody"].iter().find_map(|wanted| {
        let mut fields = users
            .lines()
            .find(|line| line.split(':').next() == Some(wanted))?
            .split(':')
            .skip(2);
        let mut id = || fields.next()?.parse().ok();
        Some((id()?, id()?))
    });
    let (user, group) = user.unwrap();
    chown(folder, Some(user), Some(group)).unwrap();
    Some((user, group))
}
