//! Power cuts and failing disks, at every write of a client's update and of a publication.
//!
//! Two ways: a file layer that stops after every step of the workflow, and the recorded system calls of
//! the real programs, from which every state a disk may be left in is made.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tuxtape_archive::client::{
    self, DiskStore, Floor, MemoryStore, Store, StoreError, Stored, UpdateError,
};
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::rotate::OnlineRole;
use tuxtape_archive::sample::{Archive, RELEASE, start};
use tuxtape_archive::source::DirectorySource;
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::Arch;
use tuxtape_sys::durable::WriteError;

fn update(store: &mut dyn Store, public: &Path, now: UtcSeconds) -> Result<u32, UpdateError> {
    let source = DirectorySource::new(public);
    let mut session = client::refresh(store, &source, now)?;
    session.hold()?;
    let (role, index) = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())?
        .unwrap();
    Ok(index.kernels[0].newest(&role.targets).unwrap().level.0)
}

fn local_level(store: &mut dyn Store) -> Result<u32, UpdateError> {
    let mut session = client::local(store)?;
    let (role, index) = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())?
        .unwrap();
    Ok(index.kernels[0].newest(&role.targets).unwrap().level.0)
}

/// How a step that the layer stops at ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Nothing of it reached the disk, and nothing after it happens.
    Before,
    /// It reached the disk, and nothing after it happens.
    After,
    /// It fails, and the program goes on: no space, a read-only disk.
    Fails,
}

/// A store whose `left`th change is cut.
struct Cutting<'a> {
    inner: &'a mut DiskStore,
    left: usize,
    cut: Cut,
    dead: bool,
}

impl Cutting<'_> {
    fn step(
        &mut self,
        act: impl FnOnce(&mut DiskStore) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let error = || {
            StoreError::Write(WriteError {
                path: PathBuf::from("cut"),
                source: std::io::Error::from(std::io::ErrorKind::StorageFull),
            })
        };
        if self.dead {
            return Err(error());
        }
        if self.left > 0 {
            self.left -= 1;
            return act(self.inner);
        }
        self.left = usize::MAX;
        match self.cut {
            Cut::Before => self.dead = true,
            Cut::After => {
                act(self.inner)?;
                self.dead = true;
            }
            Cut::Fails => {}
        }
        Err(error())
    }
}

impl Store for Cutting<'_> {
    fn load(&self, file: &Stored, cap: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.load(file, cap)
    }
    fn save(&mut self, file: &Stored, bytes: &[u8]) -> Result<(), StoreError> {
        self.step(|inner| inner.save(file, bytes))
    }
    fn discard(&mut self, file: &Stored) -> Result<(), StoreError> {
        self.step(|inner| inner.discard(file))
    }
    fn floor(&self) -> &Floor {
        self.inner.floor()
    }
    fn set_floor(&mut self, floor: Floor) -> Result<(), StoreError> {
        if floor == *self.inner.floor() {
            return Ok(());
        }
        self.step(|inner| inner.set_floor(floor))
    }
}

/// An archive with level 1, then level 2 and another timestamp key; both public trees kept.
struct Lab {
    folder: tempfile::TempDir,
    old: PathBuf,
    new: PathBuf,
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let archive = Archive::published(&folder.path().join("archive")).unwrap();
        copy_tree(&archive.public(), &old);
        archive.stage(2, start().plus(60)).unwrap();
        archive
            .workspace
            .rotate_online(OnlineRole::Timestamp, start().plus(60))
            .unwrap();
        archive.sign_all().unwrap();
        archive.workspace.publish(start().plus(60)).unwrap();
        copy_tree(&archive.public(), &new);
        Self { folder, old, new }
    }

    /// A client's state after it saw the old tree.
    fn client(&self, name: &str) -> PathBuf {
        let state = self.folder.path().join(name);
        let mut store = DiskStore::open(&state).unwrap();
        let root = fs::read(self.old.join("metadata/1.root.json")).unwrap();
        store.save(&Stored::Root, &root).unwrap();
        assert_eq!(update(&mut store, &self.old, start()).unwrap(), 1);
        state
    }
}

/// What must hold for whatever a cut left: the trusted state is readable, no floor is lower than
/// before, the old tree does not come back where the new was seen, and the next update ends well.
fn check_state(lab: &Lab, state: &Path, floor: &Floor, what: &str) {
    let mut store = DiskStore::open(state).unwrap();
    assert!(
        store.floor().time >= floor.time,
        "{what}: the time floor fell"
    );
    let level = local_level(&mut store);
    match level {
        Ok(level) => assert!(level == 1 || level == 2, "{what}"),
        // A rotation of keys throws old online metadata away; the next update brings new.
        Err(UpdateError::Missing { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    let rolled_back = {
        let copy = state.with_extension("copy");
        drop(fs::remove_dir_all(&copy));
        copy_tree(state, &copy);
        let mut store = DiskStore::open(&copy).unwrap();
        let saw_new = store
            .load(&Stored::RootVersion(2), 1 << 20)
            .unwrap()
            .is_some()
            || client_root(&store) == 2;
        let outcome = update(&mut store, &lab.old, start().plus(61));
        fs::remove_dir_all(&copy).unwrap();
        saw_new && outcome.is_ok()
    };
    assert!(!rolled_back, "{what}: the replayed old tree was accepted");
    let mut store = DiskStore::open(state).unwrap();
    assert_eq!(
        update(&mut store, &lab.new, start().plus(62)).unwrap(),
        2,
        "{what}"
    );
    // Recovery run twice equals recovery run once.
    let once = files(state);
    let mut store = DiskStore::open(state).unwrap();
    assert_eq!(
        update(&mut store, &lab.new, start().plus(62)).unwrap(),
        2,
        "{what}"
    );
    assert_eq!(files(state), once, "{what}");
}

fn client_root(store: &DiskStore) -> u64 {
    let bytes = store.load(&Stored::Root, 1 << 20).unwrap();
    bytes
        .and_then(|bytes| client::trusted::root(&bytes, "root.json").ok())
        .map_or(0, |root| root.version)
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn an_update_cut_at_any_step_leaves_the_old_state_or_the_new_and_no_floor_falls() {
    let lab = Lab::new();
    let before = lab.client("before");
    let floor = DiskStore::open(&before).unwrap().floor().clone();
    let mut cuts = 0;
    for cut in [Cut::Before, Cut::After, Cut::Fails] {
        for at in 0.. {
            let state = lab.folder.path().join("client");
            drop(fs::remove_dir_all(&state));
            copy_tree(&before, &state);
            let mut inner = DiskStore::open(&state).unwrap();
            let mut store = Cutting {
                inner: &mut inner,
                left: at,
                cut,
                dead: false,
            };
            let outcome = update(&mut store, &lab.new, start().plus(61));
            if outcome.is_ok() {
                assert!(at > 8, "an update has more than eight steps");
                break;
            }
            drop(inner);
            check_state(&lab, &state, &floor, &format!("{cut:?} step {at}"));
            cuts += 1;
        }
    }
    assert!(cuts > 27, "{cuts}");
}

#[test]
fn damaged_local_files_cost_an_update_and_never_a_rollback() {
    let lab = Lab::new();
    let before = lab.client("before");
    let mut store = DiskStore::open(&before).unwrap();
    assert_eq!(update(&mut store, &lab.new, start().plus(61)).unwrap(), 2);
    let floor = store.floor().clone();
    let names: Vec<PathBuf> = files(&before).into_keys().collect();
    for path in names {
        let good = fs::read(&path).unwrap();
        let half = &good[..good.len() / 2];
        let mut flipped = good.clone();
        flipped[good.len() / 3] ^= 4;
        for (what, bytes) in [("empty", &[][..]), ("half", half), ("flipped", &flipped)] {
            let state = lab.folder.path().join("client");
            drop(fs::remove_dir_all(&state));
            copy_tree(&before, &state);
            let name = path.strip_prefix(&before).unwrap();
            fs::write(state.join(name), bytes).unwrap();
            let what = format!("{} {what}", name.display());
            let mut store = DiskStore::open(&state).unwrap();
            assert!(
                store.floor().time >= floor.time.min(store.floor().time),
                "{what}"
            );
            let replay = update(&mut store, &lab.old, start().plus(62));
            assert!(replay.is_err(), "{what}: the older archive was accepted");
            let mut store = DiskStore::open(&state).unwrap();
            assert_eq!(
                update(&mut store, &lab.new, start().plus(63)).unwrap(),
                2,
                "{what}"
            );
        }
    }
}

/// One change of the disk, as the kernel was asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
    SyncFile(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Runs one of the tests below again under strace and returns the changes it made below `folder`;
/// `None` where strace is not there or may not trace.
fn record(folder: &Path, test: &str, variables: &[(&str, &Path)]) -> Option<Vec<Call>> {
    let log = folder.with_extension("strace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "4194304", "-o"])
        .arg(&log)
        .args(["-e", TRACED, "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .envs(variables.iter().copied())
        .output();
    let traced = output.is_ok_and(|output| output.status.success());
    traced.then(|| parse(&fs::read_to_string(&log).unwrap(), folder))
}

const TRACED: &str = "trace=openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";

fn unescape(text: &str) -> Vec<u8> {
    text.split("\\x")
        .skip(1)
        .filter_map(|pair| u8::from_str_radix(pair.get(..2)?, 16).ok())
        .collect()
}

fn path_of(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(unescape(text)))
}

/// Texts in quotes and the paths of descriptors in a line of strace.
fn quoted(line: &str) -> Vec<PathBuf> {
    line.split('"').skip(1).step_by(2).map(path_of).collect()
}

fn descriptor(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once('<')?;
    let text = rest.split_once('>')?.0;
    Some(if text.contains("\\x") {
        path_of(text)
    } else {
        PathBuf::from(text)
    })
}

fn parse(text: &str, folder: &Path) -> Vec<Call> {
    let mut offsets: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((_, line)) = line.split_once(' ') else {
            continue;
        };
        let line = line.trim_start();
        let Some((name, rest)) = line.split_once('(') else {
            continue;
        };
        if rest.contains(") = -1 ") || rest.contains("= ?") {
            continue;
        }
        let inside = |path: &PathBuf| path.starts_with(folder);
        match name {
            "openat" => {
                let Some(path) = quoted(rest).into_iter().next().filter(|path| inside(path)) else {
                    continue;
                };
                offsets.insert(path.clone(), 0);
                if rest.contains("O_CREAT") && !rest.contains("O_DIRECTORY") {
                    calls.push(Call::Create(path));
                }
            }
            "write" => {
                let Some(path) = descriptor(rest).filter(|path| inside(path)) else {
                    continue;
                };
                let bytes = rest.split('"').nth(1).map(unescape).unwrap_or_default();
                let at = offsets.entry(path.clone()).or_default();
                calls.push(Call::Write(path, *at, bytes.clone()));
                *at += bytes.len() as u64;
            }
            "ftruncate" => {
                let Some(path) = descriptor(rest).filter(|path| inside(path)) else {
                    continue;
                };
                let length = rest.split(", ").nth(1).unwrap().split(')').next().unwrap();
                calls.push(Call::Truncate(path, length.parse().unwrap()));
            }
            "fsync" | "fdatasync" => {
                let Some(path) = descriptor(rest).filter(|path| inside(path)) else {
                    continue;
                };
                calls.push(if path.is_dir() {
                    Call::SyncFolder(path)
                } else {
                    Call::SyncFile(path)
                });
            }
            "rename" | "renameat" | "renameat2" => {
                let paths = quoted(rest);
                if let [from, to] = &paths[..]
                    && inside(to)
                {
                    calls.push(Call::Rename(from.clone(), to.clone()));
                }
            }
            "unlink" | "unlinkat" => {
                if let Some(path) = quoted(rest).into_iter().next().filter(|path| inside(path)) {
                    calls.push(Call::Remove(path));
                }
            }
            "pwrite64" => panic!("the model knows no pwrite64"),
            _ => {}
        }
    }
    calls
}

/// A disk: what every file holds, by a number that survives renames, and which name leads to which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Disk {
    content: BTreeMap<usize, Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
}

impl Disk {
    /// The files below `folder`, as if they were below `place`.
    fn of(folder: &Path, place: &Path) -> Self {
        let mut disk = Self::default();
        for (number, (path, bytes)) in files(folder).into_iter().enumerate() {
            disk.content.insert(number, bytes);
            disk.names
                .insert(place.join(path.strip_prefix(folder).unwrap()), number);
        }
        disk
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(path) => {
                if !self.names.contains_key(path) {
                    let number = self.content.keys().last().map_or(0, |last| last + 1);
                    self.content.insert(number, Vec::new());
                    self.names.insert(path.clone(), number);
                }
            }
            Call::Write(path, at, bytes) => {
                let Some(content) = self.names.get(path).and_then(|n| self.content.get_mut(n))
                else {
                    return;
                };
                let at = usize::try_from(*at).unwrap();
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Call::Truncate(path, length) => {
                if let Some(content) = self.names.get(path).and_then(|n| self.content.get_mut(n)) {
                    content.resize(usize::try_from(*length).unwrap(), 0);
                }
            }
            Call::Rename(from, to) => {
                if let Some(number) = self.names.remove(from) {
                    self.names.insert(to.clone(), number);
                }
            }
            Call::Remove(path) => {
                self.names.remove(path);
            }
            Call::SyncFile(_) | Call::SyncFolder(_) => {}
        }
    }

    fn put(&self, from: &Path, to: &Path) {
        for (path, number) in &self.names {
            let path = to.join(path.strip_prefix(from).unwrap());
            fs::write(&path, &self.content[number]).unwrap();
            if path.extension().is_some_and(|end| end == "pem") {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

/// The path a call needs for what it did to be there at all.
fn touches(call: &Call) -> &Path {
    match call {
        Call::Create(path)
        | Call::Write(path, _, _)
        | Call::Truncate(path, _)
        | Call::SyncFile(path)
        | Call::SyncFolder(path)
        | Call::Remove(path) => path,
        Call::Rename(_, to) => to,
    }
}

/// Every state the disk may be in when the power goes after `calls`: what was not synced may be there,
/// missing or half there. A write is durable once its file was synced after it, a name once its folder
/// was.
fn cut_states(before: &Disk, calls: &[Call]) -> Vec<Disk> {
    let mut loose = Vec::new();
    let synced = |at: usize, wanted: &dyn Fn(&Call) -> bool| calls[at..].iter().any(wanted);
    for (at, call) in calls.iter().enumerate() {
        let path = touches(call);
        // A file is synced under the name it has then: before its rename.
        let durable = match call {
            Call::Write(..) | Call::Truncate(..) => {
                synced(at, &|c| matches!(c, Call::SyncFile(p) if p == path))
            }
            Call::Create(..) | Call::Rename(..) | Call::Remove(..) => {
                synced(at, &|c| matches!(c, Call::SyncFolder(p) if Some(p.as_path()) == path.parent()))
                    // ext4 and others make a new name durable with its file.
                    || matches!(call, Call::Create(..))
                        && synced(at, &|c| matches!(c, Call::SyncFile(p) if p == path))
            }
            Call::SyncFile(_) | Call::SyncFolder(_) => true,
        };
        if !durable {
            loose.push(at);
        }
    }
    let loose: Vec<usize> = loose.into_iter().rev().take(6).collect();
    let mut states = Vec::new();
    for choice in 0..3usize.pow(u32::try_from(loose.len()).unwrap()) {
        let mut disk = before.clone();
        for (at, call) in calls.iter().enumerate() {
            let fate = loose
                .iter()
                .position(|found| *found == at)
                .map_or(1, |place| {
                    choice / 3usize.pow(u32::try_from(place).unwrap()) % 3
                });
            match (fate, call) {
                (0, _) => {}
                (2, Call::Write(path, at, bytes)) => {
                    let half = Call::Write(path.clone(), *at, bytes[..bytes.len() / 2].to_vec());
                    disk.apply(&half);
                }
                _ => disk.apply(call),
            }
        }
        if !states.contains(&disk) {
            states.push(disk);
        }
    }
    states
}

#[test]
fn lab_the_recorded_writes_of_a_client_survive_a_power_cut_anywhere() {
    let lab = Lab::new();
    let before = lab.client("before");
    let floor = DiskStore::open(&before).unwrap().floor().clone();
    let state = lab.folder.path().join("client");
    copy_tree(&before, &state);
    let variables = [
        ("TUXTAPE_TEST_STATE", &*state),
        ("TUXTAPE_TEST_PUBLIC", &*lab.new),
    ];
    let Some(calls) = record(&state, "client_for_the_recording", &variables) else {
        eprintln!("skipped: strace is not there, or may not trace");
        return;
    };
    let renames = calls.iter().filter(|call| matches!(call, Call::Rename(..)));
    assert!(
        renames.count() >= 5,
        "the client keeps two roots, timestamp, snapshot and role"
    );
    let disk = Disk::of(&before, &state);
    let mut count = 0;
    for cut in 0..=calls.len() {
        for (which, left) in cut_states(&disk, &calls[..cut]).into_iter().enumerate() {
            let to = lab.folder.path().join("cut");
            drop(fs::remove_dir_all(&to));
            copy_tree(&before, &to);
            for path in files(&to).into_keys() {
                fs::remove_file(path).unwrap();
            }
            left.put(&state, &to);
            check_state(
                &lab,
                &to,
                &floor,
                &format!("cut after call {cut}, state {which}"),
            );
            count += 1;
        }
    }
    eprintln!("{count} states after {} calls", calls.len());
    assert!(count > calls.len(), "{count}");
}

/// What a client sees of a public tree.
fn public_level(public: &Path) -> Result<u32, UpdateError> {
    let mut store = MemoryStore::default();
    let root = fs::read(public.join("metadata/1.root.json")).unwrap();
    store.save(&Stored::Root, &root)?;
    let source = DirectorySource::new(public);
    let now = start().plus(61);
    let mut session = client::refresh(&mut store, &source, now)?;
    let (role, index) = session
        .kernel(Arch::X86_64, &RELEASE.parse().unwrap())?
        .unwrap();
    let level = index.kernels[0].newest(&role.targets).unwrap();
    let target = session.find_target(&level.target)?.unwrap();
    session.fetch_target(&level.target, &target, 1 << 24)?;
    Ok(level.level.0)
}

/// Not a test of its own: what the recorded client does.
#[test]
fn client_for_the_recording() {
    let place = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let (Some(state), Some(public)) = (place("TUXTAPE_TEST_STATE"), place("TUXTAPE_TEST_PUBLIC"))
    {
        let mut store = DiskStore::open(&state).unwrap();
        update(&mut store, &public, start().plus(61)).unwrap();
    }
}

/// Not a test of its own: what the recorded publisher does.
#[test]
fn publisher_for_the_recording() {
    if let Some(top) = std::env::var_os("TUXTAPE_TEST_PUBLISH") {
        Workspace::open(Path::new(&top))
            .unwrap()
            .publish(start().plus(60))
            .unwrap();
    }
}

#[test]
fn lab_the_recorded_writes_of_a_publication_survive_a_power_cut_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("archive");
    let archive = Archive::published(&top).unwrap();
    archive.stage(2, start().plus(60)).unwrap();
    archive.sign_all().unwrap();
    drop(archive);
    let before = folder.path().join("before");
    copy_tree(&top, &before);
    let variables = [("TUXTAPE_TEST_PUBLISH", &*top)];
    let Some(calls) = record(&top, "publisher_for_the_recording", &variables) else {
        eprintln!("skipped: strace is not there, or may not trace");
        return;
    };
    let renamed: Vec<String> = calls
        .iter()
        .filter_map(|call| match call {
            Call::Rename(_, to) => Some(to.file_name()?.to_str()?.to_owned()),
            _ => None,
        })
        .collect();
    // Everything public before the timestamp; what was checked is noted after it.
    let end = [renamed.len() - 2, renamed.len() - 1].map(|at| renamed[at].as_str());
    assert_eq!(end, ["timestamp.json", "checked.json"], "{renamed:?}");
    let disk = Disk::of(&before, &top);
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for cut in 0..=calls.len() {
        for (which, left) in cut_states(&disk, &calls[..cut]).into_iter().enumerate() {
            let what = format!("cut after call {cut}, state {which}");
            let to = folder.path().join("cut");
            drop(fs::remove_dir_all(&to));
            copy_tree(&before, &to);
            for path in files(&to).into_keys() {
                fs::remove_file(path).unwrap();
            }
            left.put(&top, &to);
            let level = public_level(&to.join("public"));
            let level = level.unwrap_or_else(|error| panic!("{what}: {error}"));
            seen.insert(level);
            // Whoever comes next can go on: publish what is still a draft, or renew.
            let workspace = Workspace::open(&to).unwrap();
            match workspace.publish(start().plus(60)) {
                Ok(_) | Err(tuxtape_archive::publish::PublishError::Nothing(_)) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            drop(workspace);
            assert_eq!(public_level(&to.join("public")).unwrap(), 2, "{what}");
            count += 1;
        }
    }
    eprintln!("{count} states after {} calls", calls.len());
    assert_eq!(seen, BTreeSet::from([1, 2]));
}
