//! What a client asks a web server for, and what it makes of the answers.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tuxtape_archive::client::{self, DiskStore, Refusal, Store, Stored, UpdateError};
use tuxtape_archive::sample::{Archive, RELEASE, start};
use tuxtape_archive::serve::{Serving, serve};
use tuxtape_archive::source::{Again, HttpOptions, HttpSource, Source, SourceError, Tag};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::Arch;

/// Requests of a first poll: root, timestamp, snapshot, targets, the kernel.
const FIRST: usize = 5;

struct Lab {
    folder: tempfile::TempDir,
    archive: Archive,
    store: DiskStore,
    log: Receiver<(String, u16)>,
    serving: Serving,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::published(&folder.path().join("archive")).unwrap();
        let root = fs::read(archive.public().join("metadata/1.root.json")).unwrap();
        let mut store = DiskStore::open(&folder.path().join("state")).unwrap();
        store.save(&Stored::Root, &root).unwrap();
        let (seen, log) = channel();
        let note = move |_: &str, path: &str, status| {
            let name = path.rsplit('/').next().unwrap().to_owned();
            seen.send((name, status)).ok();
        };
        let serving = serve(&archive.public(), "127.0.0.1:0", note).unwrap();
        Self {
            folder,
            archive,
            store,
            log,
            serving,
        }
    }

    fn poll(&mut self, now: UtcSeconds) -> Result<u64, UpdateError> {
        let url = format!("http://{}", self.serving.address);
        let source = HttpSource::new(&url, &HttpOptions::default()).unwrap();
        let mut session = client::refresh(&mut self.store, &source, now)?;
        session.kernel(Arch::X86_64, &RELEASE.parse().unwrap())?;
        Ok(session.timestamp.version)
    }

    /// The next requests, with their answers.
    fn asked(&self, count: usize) -> Vec<(String, u16)> {
        // The server tells of a request when it was answered, which may be after the client went on.
        let one = |_| self.log.recv_timeout(Duration::from_secs(60)).unwrap();
        (0..count).map(one).collect()
    }

    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("state/tuf").join(name)
    }
}

fn said(asked: &[(&str, u16)]) -> Vec<(String, u16)> {
    let owned = |(name, status): &(&str, u16)| ((*name).to_owned(), *status);
    asked.iter().map(owned).collect()
}

#[test]
fn an_unchanged_timestamp_is_not_sent_again_and_a_new_one_is() {
    let mut lab = Lab::new();
    lab.poll(start()).unwrap();
    lab.asked(FIRST);
    assert_eq!(lab.poll(start().plus(60)).unwrap(), 1);
    let idle = said(&[("2.root.json", 404), ("timestamp.json", 304)]);
    assert_eq!(lab.asked(2), idle);
    lab.archive.workspace.renew(start().plus(90)).unwrap();
    assert_eq!(lab.poll(start().plus(120)).unwrap(), 2);
    let news = said(&[("2.root.json", 404), ("timestamp.json", 200)]);
    assert_eq!(lab.asked(2), news);
    lab.poll(start().plus(180)).unwrap();
    assert_eq!(lab.asked(2), idle);
}

#[test]
fn unchanged_is_still_judged_by_the_clock() {
    let mut lab = Lab::new();
    lab.poll(start()).unwrap();
    lab.asked(FIRST);
    let error = lab.poll(start().plus(25 * 3600)).unwrap_err();
    assert_eq!(
        lab.asked(2).last(),
        Some(&("timestamp.json".to_owned(), 304))
    );
    let frozen = matches!(&error, UpdateError::Refused(Refusal::Expired { role, .. }) if role == "timestamp");
    assert!(frozen, "{error}");
}

#[test]
fn a_tag_counts_only_with_the_very_bytes_it_came_with() {
    let whole: [fn(&Lab); 4] = [
        |lab| fs::remove_file(lab.state("timestamp.tag")).unwrap(),
        |lab| fs::write(lab.state("timestamp.tag"), "{").unwrap(),
        |lab| {
            // As a cut between the two files leaves it.
            let record = fs::read(lab.state("timestamp.tag")).unwrap();
            let mut other: serde_json::Value = serde_json::from_slice(&record).unwrap();
            other["sha256"] = "0".repeat(64).into();
            let other = serde_json::to_vec(&other).unwrap();
            fs::write(lab.state("timestamp.tag"), other).unwrap();
        },
        |lab| {
            let bytes = fs::read_to_string(lab.state("timestamp.json")).unwrap();
            fs::write(lab.state("timestamp.json"), format!("{bytes} ")).unwrap();
        },
    ];
    for damage in whole {
        let mut lab = Lab::new();
        lab.poll(start()).unwrap();
        lab.asked(FIRST);
        damage(&lab);
        assert_eq!(lab.poll(start().plus(60)).unwrap(), 1);
        assert_eq!(lab.asked(2)[1], ("timestamp.json".to_owned(), 200));
    }
}

/// A server that gives every request this answer; returns its URL.
fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            read_head(&mut stream);
            stream.write_all(&answer).ok();
        }
    });
    url
}

/// Reads a request to its end: a connection that is closed with bytes unread is reset, and the answer lost.
fn read_head(stream: &mut std::net::TcpStream) {
    let mut head = Vec::new();
    let mut some = [0; 2048];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&some[..count]),
        }
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn answer(coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn ask(answer: Vec<u8>, known: Option<&Tag>) -> Result<Again, SourceError> {
    let source = HttpSource::new(&answering(answer), &HttpOptions::default()).unwrap();
    source.metadata_again("timestamp.json", 16_384, known)
}

#[test]
fn what_comes_packed_is_unpacked_up_to_the_cap_and_no_further() {
    let check = |body: Vec<u8>, wanted: &str| {
        let seen = match ask(answer("gzip", &body), None) {
            Ok(Again::Bytes(bytes, _)) => format!("{} bytes", bytes.len()),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        };
        assert!(seen.contains(wanted), "{seen}");
    };
    check(packed(&vec![b' '; 16_384]), "16384 bytes");
    check(packed(&vec![b' '; 16_385]), "larger than 16384 bytes");
    check(packed(&vec![b' '; 16 << 20]), "larger than 16384 bytes");
    // Random bytes do not shrink.
    let noise: Vec<u8> = (0..700u32)
        .flat_map(|n| Sha256::digest(n.to_le_bytes()))
        .collect();
    check(noise, "larger than 16384 bytes");
    check(packed(&[b' '; 9000])[..20].to_vec(), "could not fetch");
    check(b"{}".to_vec(), "could not fetch");
    let error = ask(answer("br", b"{}"), None).unwrap_err().to_string();
    assert!(error.contains("a coding nobody asked for"), "{error}");
}

#[test]
fn unchanged_counts_only_as_an_answer_to_the_question() {
    let unchanged = b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_vec();
    let tag = Tag::new("\"a\"").unwrap();
    assert_eq!(ask(unchanged.clone(), Some(&tag)).unwrap(), Again::Same);
    let error = ask(unchanged, None).unwrap_err();
    assert!(
        matches!(error, SourceError::Status { status: 304, .. }),
        "{error}"
    );
}

#[test]
fn a_tag_is_short_and_quoted() {
    for good in ["\"a\"", "W/\"5f-1a\"", "\"\""] {
        assert_eq!(Tag::new(good).unwrap().as_str(), good);
    }
    let long = format!("\"{}\"", "a".repeat(99));
    for bad in [
        "a",
        "\"",
        "\"a",
        "\"a\"b\"",
        "\"a\r\nX: y\"",
        "w/\"a\"",
        long.as_str(),
    ] {
        assert_eq!(Tag::new(bad), None, "{bad}");
    }
}

#[test]
fn metadata_comes_packed_to_who_takes_it() {
    let lab = Lab::new();
    let head = |coding: &str| {
        let mut stream = std::net::TcpStream::connect(lab.serving.address).unwrap();
        write!(
            stream,
            "GET /metadata/1.root.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: {coding}\r\n\r\n"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        text.split("\r\n\r\n")
            .next()
            .unwrap()
            .contains("content-encoding: gzip")
    };
    let length = fs::metadata(lab.archive.public().join("metadata/1.root.json"))
        .unwrap()
        .len();
    assert_eq!(head("gzip"), length >= 2048);
    assert!(!head("identity"));
}
