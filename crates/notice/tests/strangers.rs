//! Against servers that others wrote: aiosmtpd, and the HTTP server and hmac of Python's library.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic and skip aloud"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::{Notice, NoticeKind};
use tuxtape_notice::channel::{Channels, file};
use tuxtape_notice::letter::Letter;
use tuxtape_notice::send::{Due, Tally, World};
use tuxtape_notice::{Attempt, Outcome, Sent, deliver, send};

const NOW: u64 = 1_795_543_200;

/// A server that ends with this test, however that ends: it waits for the end of its input.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    fn start(python: &str, script: &str, folder: TempDir, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/support")
            .join(script);
        let mut child = Command::new(python)
            .arg(script)
            .arg(folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().parse().unwrap();
        Self {
            child,
            port,
            folder,
        }
    }

    /// Starts a mail server; `None`, aloud, where there is none on this machine.
    fn mail(mode: &str) -> Option<Self> {
        let python = ["/usr/bin/python3", "python3"].into_iter().find(|python| {
            let import = Command::new(python)
                .args(["-c", "import aiosmtpd"])
                .stderr(Stdio::null())
                .status();
            import.is_ok_and(|status| status.success())
        });
        let Some(python) = python else {
            eprintln!("skipped: no python3 with aiosmtpd (Debian: python3-aiosmtpd)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        Some(Self::start(python, "mail_server.py", folder, &[mode]))
    }

    fn hook(statuses: &[&str]) -> Option<Self> {
        if Command::new("python3").arg("-V").output().is_err() {
            eprintln!("skipped: no python3");
            return None;
        }
        let arguments = [&["correct horse"], statuses].concat();
        let folder = tempfile::tempdir().unwrap();
        Some(Self::start("python3", "hook_server.py", folder, &arguments))
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn mails(&self) -> Vec<Value> {
        self.lines("mails.jsonl")
    }

    fn posts(&self) -> Vec<Value> {
        self.lines("posts.jsonl")
    }

    fn channels(&self, settings: &str) -> Channels {
        let text = format!("format = 1\n[[channel]]\nname = \"ops\"\n{settings}");
        let text = text
            .replace("PORT", &self.port.to_string())
            .replace("FOLDER", self.folder.path().to_str().unwrap());
        let path = self.folder.path().join("notice.toml");
        fs::write(&path, text).unwrap();
        file::read(&path).unwrap()
    }

    fn mail_channel(&self, security: &str, to: &str, more: &str) -> Channels {
        self.channels(&format!(
            "kind = \"mail\"\nhost = \"localhost\"\nport = PORT\nsecurity = \"{security}\"\n\
             ca_file = \"FOLDER/cert.pem\"\nfrom = \"TuxTape <tuxtape@example.org>\"\nto = [{to}]\n{more}"
        ))
    }

    fn hook_channel(&self) -> Channels {
        self.channels(
            "kind = \"webhook\"\nurl = \"http://127.0.0.1:PORT/token\"\nsecret_env = \"HOOK\"\n",
        )
    }
}

fn certificate(folder: &Path) {
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext"])
        .args(["basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn notice(number: u32) -> Notice {
    Notice {
        key: format!("urgent/CVE-2024-{number}/6.1.0-47-cloud-amd64"),
        kind: NoticeKind::Urgent,
        at: UtcSeconds::from_unix(NOW),
        cve: format!("CVE-2024-{number}").parse().ok(),
        kernel: "6.1.0-47-cloud-amd64".parse().ok(),
        subject: format!("act: CVE-2024-{number} in 6.1.0-47-cloud-amd64: nät: fix"),
        body: "first line\n.\n..two dots\n→ übel\nlast line\n".to_owned(),
    }
}

fn with_world<T>(work: impl FnOnce(&mut World<'_>) -> T) -> T {
    let environment = |name: &str| match name {
        "HOOK" => Some("correct horse".to_owned()),
        "GOOD" => Some("hunter2".to_owned()),
        "BAD" => Some("hunter3".to_owned()),
        _ => None,
    };
    work(&mut World {
        clock: &|| UtcSeconds::from_unix(NOW),
        environment: &environment,
        out: &mut Vec::new(),
    })
}

fn deliver_one(channels: &Channels, tries: u32) -> Outcome {
    let letter = Letter::of(&notice(1000));
    with_world(|world| deliver(&channels.0[0], &letter, tries, world))
}

fn send_all(channels: &Channels, due: Vec<Due>) -> (Vec<Sent>, Tally) {
    let mut all = Vec::new();
    let mut record = |sent: &[Sent]| -> Result<(), std::convert::Infallible> {
        all.extend(sent.to_vec());
        Ok(())
    };
    let tally = with_world(|world| send(channels, due, world, &mut record)).unwrap();
    (all, tally)
}

fn due(numbers: std::ops::Range<u32>) -> Vec<Due> {
    numbers
        .map(|number| Due {
            notice: notice(number),
            channel: "ops".to_owned(),
            tries: 0,
        })
        .collect()
}

const OPS: &str = "\"ops@example.org\"";

#[test]
fn lab_a_mail_arrives_over_starttls_with_login() {
    let Some(server) = Server::mail("starttls,login") else {
        return;
    };
    let channels = server.mail_channel(
        "starttls",
        "\"ops@example.org\", \"Änn <ann@example.org>\"",
        "user = \"tuxtape\"\npassword_env = \"GOOD\"\n",
    );
    assert_eq!(deliver_one(&channels, 0), Outcome::Delivered(Vec::new()));
    let mails = server.mails();
    let [mail] = mails.as_slice() else {
        panic!("{mails:?}");
    };
    assert_eq!(mail["from"], "tuxtape@example.org");
    assert_eq!(
        mail["to"],
        serde_json::json!(["ops@example.org", "ann@example.org"])
    );
    assert_eq!(
        (&mail["tls"], &mail["login"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    assert_eq!(
        mail["subject"],
        format!("[tuxtape] {}", notice(1000).subject)
    );
    assert_eq!(mail["date"], "Tue, 24 Nov 2026 18:00:00 +0000");
    assert_eq!(mail["body"], notice(1000).body);
    assert_eq!(mail["defects"], serde_json::json!([]));
}

#[test]
fn lab_a_mail_arrives_over_tls() {
    let Some(server) = Server::mail("tls") else {
        return;
    };
    let channels = server.mail_channel("tls", OPS, "");
    assert_eq!(deliver_one(&channels, 0), Outcome::Delivered(Vec::new()));
    assert_eq!(server.mails()[0]["tls"], true);
}

#[test]
fn lab_a_mail_sent_again_has_the_same_message_id() {
    let Some(server) = Server::mail("plain") else {
        return;
    };
    let channels = server.mail_channel("none", OPS, "");
    for _ in 0..2 {
        assert_eq!(deliver_one(&channels, 0), Outcome::Delivered(Vec::new()));
    }
    let mails = server.mails();
    assert_eq!(mails[0], mails[1]);
    assert!(
        mails[0]["id"].as_str().unwrap().ends_with("@example.org>"),
        "{mails:?}"
    );
}

#[test]
fn lab_no_password_is_shown_to_a_server_without_tls() {
    let Some(server) = Server::mail("login") else {
        return;
    };
    let more = "user = \"tuxtape\"\npassword_env = \"GOOD\"\n";
    let channels = server.mail_channel("starttls", OPS, more);
    let outcome = deliver_one(&channels, 0);
    let want = format!("localhost:{} does not offer STARTTLS", server.port);
    assert_eq!(outcome, Outcome::Unreachable(want));
    assert_eq!(server.mails(), Vec::<Value>::new());
}

#[test]
fn lab_a_wrong_password_and_a_strange_certificate_are_for_people_to_repair() {
    let Some(server) = Server::mail("starttls,login") else {
        return;
    };
    let check = |more: &str, cut_authority: bool, want: &str| {
        let mut channels = server.mail_channel("starttls", OPS, more);
        if let tuxtape_notice::channel::Carrier::Mail(mail) = &mut channels.0[0].carrier
            && cut_authority
        {
            mail.ca_file = None;
        }
        let outcome = deliver_one(&channels, 9);
        let Outcome::Unreachable(why) = &outcome else {
            panic!("{outcome:?}");
        };
        assert!(why.contains(want) && !why.contains("hunter"), "{why}");
    };
    let login = |variable: &str| format!("user = \"tuxtape\"\npassword_env = \"{variable}\"\n");
    check(&login("BAD"), false, "refused the login");
    check(&login("NONE"), false, "the environment has no NONE");
    check(&login("GOOD"), true, "certificate");
    assert_eq!(server.mails(), Vec::<Value>::new());
}

#[test]
fn lab_a_refused_address_keeps_no_mail_from_the_others() {
    let Some(server) = Server::mail("plain") else {
        return;
    };
    let to = |to: &str| server.mail_channel("none", to, "");
    let mixed = to("\"gone@refused.example\", \"ops@example.org\"");
    let outcome = deliver_one(&mixed, 0);
    let Outcome::Delivered(remarks) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        remarks[0].starts_with("gone@refused.example was refused: "),
        "{remarks:?}"
    );
    let none = deliver_one(&to("\"gone@refused.example\""), 0);
    assert!(matches!(none, Outcome::Permanent(_)), "{none:?}");
    let later = to("\"ann@later.example\", \"ops@example.org\"");
    let first = deliver_one(&later, 0);
    assert!(matches!(first, Outcome::Temporary(_)), "{first:?}");
    assert_eq!(server.mails().len(), 1);
    let last = deliver_one(&later, 3);
    assert!(matches!(last, Outcome::Delivered(_)), "{last:?}");
    assert_eq!(
        server.mails()[1]["to"],
        serde_json::json!(["ops@example.org"])
    );
}

#[test]
fn lab_a_mail_put_off_is_tried_again_later() {
    let Some(server) = Server::mail("full") else {
        return;
    };
    let channels = server.mail_channel("none", OPS, "");
    let (sent, tally) = send_all(&channels, due(1000..1010));
    // Three in a row, and the rest waits.
    assert_eq!(sent.len(), 3);
    assert_eq!(
        (tally.delivered, tally.postponed, tally.given_up),
        (0, 10, 0)
    );
    let Attempt::Failed { why, next } = &sent[0].attempt else {
        panic!("{sent:?}");
    };
    assert!(why.contains("disk full"), "{why}");
    assert!(next.unwrap() >= UtcSeconds::from_unix(NOW + 60));
}

#[test]
fn lab_a_day_of_845_is_two_mails() {
    let Some(server) = Server::mail("plain") else {
        return;
    };
    let channels = server.mail_channel("none", OPS, "");
    let (sent, tally) = send_all(&channels, due(1000..1845));
    assert_eq!((sent.len(), tally.delivered), (845, 845));
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0]["subject"], "[tuxtape] 500 notices: 500 urgent");
    let body = mails[1]["body"].as_str().unwrap();
    assert_eq!(body.matches("act: CVE-2024-").count(), 345);
}

#[test]
fn lab_nobody_listens() {
    let Some(server) = Server::mail("plain") else {
        return;
    };
    let channels = server.mail_channel("none", OPS, "");
    drop(server);
    let outcome = deliver_one(&channels, 0);
    assert!(matches!(outcome, Outcome::Unreachable(_)), "{outcome:?}");
}

#[test]
fn lab_a_webhook_is_signed_as_a_stranger_checks_it() {
    let Some(server) = Server::hook(&["204"]) else {
        return;
    };
    let channels = server.hook_channel();
    assert_eq!(deliver_one(&channels, 0), Outcome::Delivered(Vec::new()));
    let posts = server.posts();
    assert_eq!(posts[0]["signed"], true);
    assert_eq!(posts[0]["path"], "/token");
    assert_eq!(posts[0]["event"], "urgent");
    assert_eq!(posts[0]["type"], "application/json");
    assert_eq!(posts[0]["id"], Letter::of(&notice(1000)).id());
    assert_eq!(
        posts[0]["body"],
        serde_json::json!({
            "format": 1,
            "key": "urgent/CVE-2024-1000/6.1.0-47-cloud-amd64",
            "kind": "urgent",
            "at": "2026-11-24T18:00:00Z",
            "cve": "CVE-2024-1000",
            "kernel": "6.1.0-47-cloud-amd64",
            "subject": notice(1000).subject,
            "body": notice(1000).body,
        })
    );
}

#[test]
fn lab_a_webhook_that_fails_gets_the_same_notice_again() {
    let Some(server) = Server::hook(&["500", "200"]) else {
        return;
    };
    let channels = server.hook_channel();
    let first = deliver_one(&channels, 0);
    assert!(matches!(first, Outcome::Temporary(_)), "{first:?}");
    assert_eq!(deliver_one(&channels, 1), Outcome::Delivered(Vec::new()));
    let posts = server.posts();
    assert_eq!(posts[0]["id"], posts[1]["id"]);
    assert_eq!(posts[0]["body"], posts[1]["body"]);
}

#[test]
fn lab_a_redirect_is_not_followed_and_a_receiver_that_is_gone_is_left_alone() {
    let Some(server) = Server::hook(&["302", "404", "410", "200"]) else {
        return;
    };
    let channels = server.hook_channel();
    let (sent, tally) = send_all(&channels, due(1000..1005));
    let given_up = |sent: &&Sent| matches!(sent.attempt, Attempt::Failed { next: None, .. });
    assert_eq!((sent.len(), sent.iter().filter(given_up).count()), (3, 3));
    assert_eq!((tally.given_up, tally.postponed), (3, 2));
    let posts = server.posts();
    assert!(
        posts.iter().all(|post| post["path"] == "/token"),
        "{posts:?}"
    );
    let shown = tally.remarks.join("\n");
    assert!(
        !shown.contains("/token") && !shown.contains("correct horse"),
        "{shown}"
    );
}

#[test]
fn a_receiver_that_is_not_there_is_named_without_its_token() {
    let folder: PathBuf = tempfile::tempdir().unwrap().keep();
    let path = folder.join("notice.toml");
    // Port 1 of this machine, where nothing listens.
    let text = "format = 1\n[[channel]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/token\"\n";
    fs::write(&path, text).unwrap();
    let channels = file::read(&path).unwrap();
    let outcome = deliver_one(&channels, 0);
    let Outcome::Unreachable(why) = &outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        why.contains("http://127.0.0.1:1/…") && !why.contains("token"),
        "{why}"
    );
    fs::remove_dir_all(folder).unwrap();
}
