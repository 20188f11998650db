//! Notices from the scan to a receiver, through the store.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

#[expect(dead_code, reason = "shared with the store's tests")]
#[path = "../../store/tests/support/feed.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use support::{Feed, git};
use tuxtape::commands::notice::outbox::{Summary, notify};
use tuxtape::context::Context;
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::{Arch, BuildId};
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::{Notice, NoticeKind};
use tuxtape_core::priority::Policy;
use tuxtape_core::profile::{ConfigFacts, KernelProfile, ProfileId, ProfileOrigin, Sureness, Way};
use tuxtape_core::signals::{Batch, Kev, Signal, Source};
use tuxtape_notice::channel::{Channels, file};
use tuxtape_store::outbox::DeliveryState;
use tuxtape_store::signals::Older;
use tuxtape_store::{Location, Store};

const KERNEL: &str = "6.1.0-1-test";
/// Long before the real time, by which the sender asks what is due.
const THEN: UtcSeconds = UtcSeconds::EPOCH;

/// A receiver of webhooks in this process. It answers with what it is told to, in turn.
struct Receiving {
    port: u16,
    bodies: Receiver<Value>,
    answers: Sender<Answer>,
    thread: Option<JoinHandle<()>>,
}

enum Answer {
    Status(u16),
    /// Hang up without a word.
    Nothing,
}

impl Receiving {
    fn start() -> Self {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let port = server.server_addr().to_ip().unwrap().port();
        let (tell, bodies) = mpsc::channel();
        let (answers, asked) = mpsc::channel();
        let thread = thread::spawn(move || {
            while let Ok(mut request) = server.recv() {
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).unwrap();
                if tell.send(serde_json::from_str(&body).unwrap()).is_err() {
                    break;
                }
                match asked.recv() {
                    Ok(Answer::Status(status)) => {
                        request.respond(tiny_http::Response::empty(status)).ok();
                    }
                    Ok(Answer::Nothing) => drop(request),
                    Err(_) => break,
                }
            }
        });
        Self {
            port,
            bodies,
            answers,
            thread: Some(thread),
        }
    }

    fn will(&self, answers: &[u16]) {
        for answer in answers {
            self.answers.send(Answer::Status(*answer)).unwrap();
        }
    }

    fn keys(&self) -> Vec<String> {
        self.bodies
            .try_iter()
            .map(|body| body["key"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// One user's folders, channels and receiver.
struct User {
    folder: tempfile::TempDir,
    receiving: Receiving,
}

impl User {
    fn new(wants: &str) -> Self {
        let user = Self {
            folder: tempfile::tempdir().unwrap(),
            receiving: Receiving::start(),
        };
        let text = format!(
            "format = 1\n[[channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/t0ken\"\n{wants}",
            user.receiving.port
        );
        fs::write(user.channels_file(), text).unwrap();
        user
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn channels_file(&self) -> PathBuf {
        self.folder.path().join("notice.toml")
    }

    fn channels(&self) -> Channels {
        file::read(&self.channels_file()).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&Location::below(&self.home())).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuxtape"));
        command
            .args(arguments)
            .env("TUXTAPE_HOME", self.home())
            .env("TUXTAPE_CACHE", self.folder.path().join("cache"))
            .env("TUXTAPE_CHANNELS", self.channels_file())
            .env_remove("TUXTAPE_FEED");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn scan(&self, feed: &Feed) {
        let output = self.run(&["scan", "--feed", feed.folder.to_str().unwrap()]);
        assert!(output.status.success(), "{}", talk(&output));
    }

    /// Runs what `scan --notify` runs, at `at` seconds.
    fn notify(&self, at: u64) -> Summary {
        let context = Context::new(Some(self.home()), None, Some(self.home()), false).unwrap();
        let now = UtcSeconds::from_unix(at);
        let policy = Policy::builtin();
        notify(&context, &self.store(), &self.channels(), &policy, now).unwrap()
    }

    /// Adds a kernel that compiled `net/1000.c` and so on.
    fn add_kernel(&self) {
        let files: Vec<String> = (1000..1010)
            .map(|number| format!("net/{number}.c"))
            .collect();
        let vmlinux = BTreeSet::from([tuxtape_core::identity::ObjectName("vmlinux".to_owned())]);
        let profile = KernelProfile {
            id: ProfileId {
                arch: Arch::X86_64,
                release: KERNEL.parse().unwrap(),
                build_id: Some(BuildId::from_bytes(&[1; 20]).unwrap()),
            },
            base_version: "6.1.10".to_owned(),
            origin: ProfileOrigin {
                spec: "test".to_owned(),
                source: "test".to_owned(),
            },
            git: None,
            taken_in: None,
            readable: None,
            compiler: "gcc".to_owned(),
            config: ConfigFacts::default(),
            units: files
                .iter()
                .map(|file| (file.clone(), vmlinux.clone()))
                .collect(),
            contributors: BTreeMap::new(),
            tree_files: files.into_iter().collect(),
            functions: 1,
            sureness: Sureness {
                way: Way::DebugData,
                all_headers: false,
                blind: BTreeMap::new(),
            },
        };
        tuxtape_kernel::profile::save(&self.home(), &profile).unwrap();
    }

    /// Says that these CVEs are exploited.
    fn exploited(&self, numbers: &[u32]) {
        let named: Vec<CveId> = numbers
            .iter()
            .map(|number| CveId::new(2024, *number).unwrap())
            .collect();
        let kev = Kev {
            added: THEN,
            product: "Android Kernel".to_owned(),
            ransomware: false,
        };
        let batch = Batch {
            source: Source::Kev,
            dated: None,
            complete: true,
            rows: named
                .iter()
                .map(|cve| (*cve, Signal::Kev(kev.clone())))
                .collect(),
            named,
            updated: BTreeMap::new(),
        };
        let store = self.store();
        store
            .put_signals(&batch, "test", THEN, Older::Refuse)
            .unwrap();
    }

    /// Puts a notice into the outbox.
    fn post(&self, key: &str) {
        let store = self.store();
        store.open_channel("hook", THEN).unwrap();
        let notice = Notice {
            key: key.to_owned(),
            kind: NoticeKind::Urgent,
            at: THEN,
            cve: None,
            kernel: None,
            subject: "s".to_owned(),
            body: String::new(),
        };
        assert_eq!(store.post(&[notice]).unwrap().len(), 1);
    }

    fn states(&self) -> Vec<(String, DeliveryState, u64)> {
        let outbox = self.store().outbox(100).unwrap();
        outbox
            .into_iter()
            .map(|it| (it.notice.key, it.state, it.tries))
            .collect()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // The receiver's thread ends when its next request finds nobody to tell.
        let (_, nobody) = mpsc::channel();
        self.receiving.bodies = nobody;
        knock(self.receiving.port);
        if let Some(thread) = self.receiving.thread.take() {
            thread.join().ok();
        }
    }
}

/// Knocks once, so that the receiver looks up.
fn knock(port: u16) {
    use std::io::Write as _;
    if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            .ok();
    }
}

fn talk(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_first_run_tells_nobody_and_later_ones_what_is_new() {
    let user = User::new("");
    let mut feed = Feed::new(user.folder.path(), 3);
    user.scan(&feed);
    user.add_kernel();
    user.exploited(&[1000]);
    let first = user.notify(1000);
    assert_eq!((first.new, first.tally.delivered), (0, 0));
    assert!(first.baseline > 0);
    assert_eq!(user.notify(1001).new, 0);

    // One is withdrawn, one is new and follows up the others' fix, one turns out to be exploited.
    feed.move_record(1001, "published", "rejected");
    feed.publish(1005, "6.1.30");
    for (name, bytes) in &mut feed.files {
        if name.contains("CVE-2024-1005") {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let text = text.replace(&"2".repeat(40), &"5".repeat(40));
            let text = text.replace(&"3".repeat(40), &"6".repeat(40));
            let text = text.replace(&"1".repeat(40), &"3".repeat(40));
            *bytes = text.into_bytes();
        }
    }
    feed.commit();
    user.scan(&feed);
    user.exploited(&[1000, 1002]);
    user.receiving.will(&[200; 8]);
    let second = user.notify(1002);
    assert_eq!(second.tally.delivered, second.new, "{second:?}");
    assert_eq!(
        user.receiving.keys(),
        [
            "fix-followed-up/CVE-2024-1000/CVE-2024-1005",
            "fix-followed-up/CVE-2024-1002/CVE-2024-1005",
            "rejected/CVE-2024-1001/1",
            "urgent/CVE-2024-1002/6.1.0-1-test/exploited",
        ]
    );
    let third = user.notify(1003);
    assert_eq!((third.new, third.tally.delivered), (0, 0));

    // It comes back.
    feed.move_record(1001, "rejected", "published");
    feed.commit();
    user.scan(&feed);
    let fourth = user.notify(1004);
    assert!(fourth.new >= 1, "{fourth:?}");
    assert!(
        user.receiving
            .keys()
            .contains(&"reinstated/CVE-2024-1001/1".to_owned())
    );
}

#[test]
fn a_record_that_the_feed_loses_is_told_once() {
    let user = User::new("");
    let mut feed = Feed::new(user.folder.path(), 3);
    user.scan(&feed);
    user.notify(1000);
    feed.files.retain(|name, _| !name.contains("CVE-2024-1001"));
    feed.commit();
    let place = feed.folder.to_str().unwrap();
    let output = user.run(&["scan", "--force-shrink", "--feed", place]);
    assert!(output.status.success(), "{}", talk(&output));
    user.receiving.will(&[200]);
    assert_eq!(user.notify(1001).tally.delivered, 1);
    let keys = user.receiving.keys();
    assert!(keys[0].starts_with("gone/CVE-2024-1001/"), "{keys:?}");
    assert_eq!(user.notify(1002).new, 0);
}

#[test]
fn corpus_a_stretch_of_the_feed_is_told_once() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let corpus = env::var_os("TUXTAPE_CORPUS").map_or(beside, PathBuf::from);
    let bundle = corpus.join("vulns/vulns.bundle");
    if !bundle.is_file() {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return;
    }
    let user = User::new("");
    let folder = user.folder.path().join("feed.git");
    let words = ["clone", "-q", "--bare", "-b", "master"];
    let places = [bundle.to_str().unwrap(), folder.to_str().unwrap()];
    git(&[&words[..], &places].concat(), Path::new("/"));
    git(&["branch", "tip", "master"], &folder);
    git(&["update-ref", "refs/heads/master", "master~284"], &folder);
    let scan = || {
        let output = user.run(&["scan", "--feed", folder.to_str().unwrap()]);
        assert!(output.status.success(), "{}", talk(&output));
    };
    scan();
    user.add_kernel();
    let first = user.notify(1000);
    assert_eq!((first.new, first.tally.delivered), (0, 0), "{first:?}");
    assert!(first.baseline > 600, "{first:?}");
    git(&["update-ref", "refs/heads/master", "tip"], &folder);
    scan();
    user.receiving.will(&[200; 2000]);
    let second = user.notify(1001);
    let keys = user.receiving.keys();
    assert_eq!(second.new, keys.len(), "{second:?}");
    let kinds = |kind: &str| keys.iter().filter(|key| key.starts_with(kind)).count();
    eprintln!(
        "baseline {}; told {}: {} urgent, {} rejected, {} reinstated, {} reverted, {} followed up",
        first.baseline,
        keys.len(),
        kinds("urgent/"),
        kinds("rejected/"),
        kinds("reinstated/"),
        kinds("fix-reverted/"),
        kinds("fix-followed-up/")
    );
    assert!(
        kinds("rejected/") > 0 && kinds("fix-followed-up/") > 0,
        "{keys:?}"
    );
    assert_eq!(user.notify(1002).new, 0);
}

#[test]
fn a_channel_gets_the_kinds_and_bands_it_wants() {
    let user = User::new("notices = [\"rejected\"]\n");
    let mut feed = Feed::new(user.folder.path(), 40);
    user.scan(&feed);
    user.add_kernel();
    user.notify(1000);
    feed.move_record(1001, "published", "rejected");
    feed.commit();
    user.scan(&feed);
    user.exploited(&[1000]);
    user.receiving.will(&[200, 200]);
    let summary = user.notify(1001);
    assert_eq!((summary.new, summary.tally.delivered), (2, 1));
    assert_eq!(user.receiving.keys(), ["rejected/CVE-2024-1001/1"]);
    let listed = lines(&user.run(&["notice", "list", "--json"]));
    let states: Vec<&str> = listed
        .iter()
        .map(|it| it["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["not-wanted", "delivered"]);
}

#[test]
fn a_failing_receiver_gets_a_notice_once_in_the_end() {
    let user = User::new("");
    user.post("urgent/x");
    user.receiving.will(&[500]);
    let output = user.run(&["notice", "send", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines(&output)[0]["postponed"], 1);
    let states = user.states();
    assert!(
        matches!(states[0], (_, DeliveryState::Waiting { next }, 1) if next > THEN.plus(60)),
        "{states:?}"
    );
    // Not due yet: nobody is asked.
    assert!(user.run(&["notice", "send"]).status.success());
    assert_eq!(user.receiving.keys(), ["urgent/x"]);
    // Its time comes.
    user.store()
        .failed("urgent/x", "hook", THEN, "put forward")
        .unwrap();
    user.receiving.will(&[200]);
    assert!(user.run(&["notice", "send"]).status.success());
    assert!(user.run(&["notice", "send"]).status.success());
    assert_eq!(user.receiving.keys(), ["urgent/x"]);
    let states = user.states();
    assert!(
        matches!(states[0], (_, DeliveryState::Delivered { .. }, 3)),
        "{states:?}"
    );
}

#[test]
fn a_sender_killed_before_it_took_note_sends_the_same_again() {
    let user = User::new("");
    user.post("urgent/x");
    let mut child = user
        .command(&["notice", "send"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The receiver has the notice; the sender waits for the answer, and has noted nothing.
    let first = user.receiving.bodies.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    user.receiving.answers.send(Answer::Nothing).unwrap();
    let states = user.states();
    assert!(
        matches!(states[0], (_, DeliveryState::Waiting { .. }, 0)),
        "{states:?}"
    );

    user.receiving.will(&[200]);
    let output = user.run(&["notice", "send"]);
    assert!(output.status.success(), "{}", talk(&output));
    assert_eq!(user.receiving.bodies.recv().unwrap(), first);
    let states = user.states();
    assert!(
        matches!(states[0], (_, DeliveryState::Delivered { .. }, 1)),
        "{states:?}"
    );
}

#[test]
fn a_receiver_that_wants_no_more_is_given_up_aloud() {
    let user = User::new("");
    user.post("urgent/x");
    user.receiving.will(&[404]);
    let output = user.run(&["notice", "send"]);
    assert_eq!(output.status.code(), Some(1));
    let said = talk(&output);
    assert!(said.contains("hook: gave up on urgent/x"), "{said}");
    assert!(
        said.contains("answered 404") && !said.contains("t0ken"),
        "{said}"
    );
    let listed = user.run(&["notice", "list"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(
        text.contains("gave-up") && text.contains("answered 404"),
        "{text}"
    );
    assert!(user.run(&["notice", "send"]).status.success());
}

#[test]
fn a_test_goes_through_one_channel_and_needs_no_store() {
    let user = User::new("");
    user.receiving.will(&[200]);
    let output = user.run(&["notice", "test", "hook", "--json"]);
    assert!(output.status.success(), "{}", talk(&output));
    assert_eq!(lines(&output)[0]["delivered"], true);
    assert_eq!(user.receiving.bodies.recv().unwrap()["kind"], "test");
    user.receiving.will(&[503]);
    assert_eq!(user.run(&["notice", "test", "hook"]).status.code(), Some(1));
    let output = user.run(&["notice", "test", "pager"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        talk(&output).contains("has no channel \"pager\" (it has hook)"),
        "{}",
        talk(&output)
    );
    assert!(!user.home().exists());
}

#[test]
fn lab_the_example_units_are_good() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: no systemd-analyze");
        return;
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/systemd");
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for name in [
        "tuxtape-scan.service",
        "tuxtape-scan.timer",
        "tuxtape-kernel-watch.service",
        "tuxtape-kernel-watch.timer",
        "tuxtape-guard.service",
        "tuxtape-apply.service",
        "tuxtape-bootok.service",
        "tuxtape-load.service",
        "tuxtape-poll.timer",
    ] {
        let mut text = fs::read_to_string(top.join(name)).unwrap();
        let path = folder.path().join(name);
        // A program that is not installed here would be its only complaint.
        for program in [
            "/usr/local/bin/tuxtape-cve-parser",
            "/usr/local/bin/tuxtape ",
            "/usr/local/bin/tuxtape-client ",
        ] {
            text = text.replace(program, "/bin/true ");
        }
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&paths)
        .output()
        .unwrap();
    // A manual page that is not installed here is none of the unit's.
    let of_ours = |line: &&str| line.contains("tuxtape") && !line.contains("Command 'man ");
    let said = talk(&output);
    assert_eq!(said.lines().find(of_ours), None, "{said}");
}

#[test]
fn a_wrong_file_of_channels_is_named_with_its_line() {
    let user = User::new("secrets = \"hunter2\"\n");
    let output = user.run(&["notice", "test", "hook"]);
    assert_eq!(output.status.code(), Some(1));
    let said = talk(&output);
    assert!(
        said.contains("notice.toml line 6: unknown field `secrets`"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    fs::remove_file(user.channels_file()).unwrap();
    let output = user.run(&["notice", "send"]);
    assert!(
        talk(&output).contains("hint: write the channels"),
        "{}",
        talk(&output)
    );
}

#[test]
fn lines_do_not_mix_with_the_answer_for_programs() {
    let user = User::new("");
    let lines_channel = "format = 1\n[[channel]]\nname = \"hook\"\nkind = \"stdout\"\n";
    fs::write(user.channels_file(), lines_channel).unwrap();
    user.post("urgent/CVE-2024-1000/k");
    let output = user.run(&["notice", "send", "--json"]);
    let answer = lines(&output);
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0]["delivered"], 1);
    assert!(talk(&output).contains("urgent"), "{}", talk(&output));
}

#[test]
fn a_sender_holds_to_the_bands_of_a_channel_its_poster_did_not_know() {
    let user = User::new("bands = [\"act\"]\n");
    let feed = Feed::new(user.folder.path(), 3);
    user.scan(&feed);
    user.post("urgent/CVE-2024-1000/k");
    let withdrawn = Notice {
        key: "rejected/CVE-2024-1001/1".to_owned(),
        kind: NoticeKind::Rejected,
        at: THEN,
        cve: None,
        kernel: None,
        subject: "s".to_owned(),
        body: String::new(),
    };
    assert_eq!(user.store().post(&[withdrawn]).unwrap().len(), 1);
    user.receiving.will(&[200, 200]);
    let output = user.run(&["notice", "send", "--json"]);
    assert_eq!(lines(&output)[0]["delivered"], 1, "{}", talk(&output));
    assert_eq!(user.receiving.keys(), ["urgent/CVE-2024-1000/k"]);
}
