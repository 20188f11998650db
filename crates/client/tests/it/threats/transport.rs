//! What is sent: bytes that are wrong, and networks that do harm.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tuxtape_archive::metadata::{Envelope, Targets};
use tuxtape_archive::sample::{forge, key};
use tuxtape_archive::source::{DirectorySource, HttpOptions, HttpSource, Source, SourceError};

use super::{ROLE, applied, from, online};
use crate::setup::Lab;
use crate::threats_table::{Table, hostile, http};

pub(super) fn bytes(table: &mut Table) {
    let mut lab = Lab::new();
    for (name, signers) in [
        ("1.targets.json", vec![key(1), key(2)]),
        ("timestamp.json", vec![online(&lab, "timestamp")]),
    ] {
        let path = lab.metadata(name);
        let mut value: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        value["signed"]["x-new"] = serde_json::json!({"a": [1, null]});
        if name == "1.targets.json" {
            value["signed"]["delegations"]["x-new"] = serde_json::json!(1);
            value["signed"]["delegations"]["roles"][1]["x-new"] = serde_json::json!("b");
        }
        value["signatures"] = serde_json::json!([]);
        let mut envelope = Envelope::parse(&serde_json::to_vec(&value).unwrap(), 1 << 20).unwrap();
        for key in &signers {
            envelope.sign(key);
        }
        fs::write(&path, envelope.to_bytes()).unwrap();
    }
    let seen = applied(&mut lab);
    table.row(
        16,
        "unknown fields in a body, in delegations, in a delegated role",
        "verify over them, act only on known",
        &seen,
        seen == "loaded level 1",
    );
    let mut lab = Lab::new();
    forge::<Targets>(&lab.metadata(ROLE), &[&key(1), &key(2)], |body| {
        body.tuxtape.as_mut().unwrap()["kernels"][0]["x-new"] = serde_json::json!(1);
    });
    let seen = applied(&mut lab);
    table.row(
        16,
        "unknown field in a kernel's index",
        "refuse as too new, level kept",
        &seen,
        seen.contains("this client is too old"),
    );
    let mut lab = Lab::new();
    fs::write(lab.metadata("timestamp.json"), vec![b' '; 16 * 1024 + 1]).unwrap();
    let seen = applied(&mut lab);
    table.row(
        17,
        "timestamp of 16 KiB and a byte",
        "refuse at the cap",
        &seen,
        seen.contains("larger than 16384 bytes"),
    );
    fs::write(lab.metadata("timestamp.json"), "[".repeat(16_000)).unwrap();
    let seen = applied(&mut lab);
    table.row(
        17,
        "nested 16,000 deep",
        "refuse",
        &seen,
        seen.contains("is not usable"),
    );
    let url = hostile(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let seen = from(&mut lab, &url);
    table.row(
        17,
        "endless answer",
        "refuse at the cap",
        &seen,
        seen.contains("larger than"),
    );
    let mut lab = Lab::new();
    let url = http(lab.archive.public(), |path| {
        path.ends_with("timestamp.json").then(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&vec![b' '; 8 << 20]).unwrap();
            let bomb = encoder.finish().unwrap();
            assert!(bomb.len() < 16_384);
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bomb.len()).into_bytes();
            answer.extend(bomb);
            answer
        })
    });
    let seen = from(&mut lab, &url);
    table.row(
        17,
        "gzip bomb: 8 MiB in 8 KiB",
        "unpacked up to the cap, then refused",
        &seen,
        seen.contains("larger than 16384 bytes"),
    );
    let source = DirectorySource::new(&lab.archive.public());
    for name in ["../policy.toml", "a/../../x", "\0", "", "."] {
        let error = source.metadata(name, 100).unwrap_err();
        table.row(
            20,
            &format!("file {name:?} from a folder"),
            "refuse",
            &error.to_string(),
            matches!(error, SourceError::Name(_)),
        );
    }
    for name in ["../x", "a/b", "%2e%2e", "a\0b", "a\nb", "\u{e9}"] {
        let file = tuxtape_archive::names::file(name);
        let flat = file
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.~-%".contains(&b))
            && !file.starts_with("../");
        table.row(
            20,
            &format!("role called {name:?}"),
            "one flat encoded name",
            &file,
            flat,
        );
    }
}

pub(super) fn networks(table: &mut Table) {
    let mut lab = Lab::new();
    let url = hostile(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
            .ok();
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let options = HttpOptions {
        patience: Duration::from_secs(1),
        ..HttpOptions::default()
    };
    let source = HttpSource::new(&url, &options).unwrap();
    let begin = Instant::now();
    let error = source
        .metadata("timestamp.json", 16_384)
        .unwrap_err()
        .to_string();
    table.row(
        18,
        "slow drip, 50 bytes a second",
        "abort by least rate",
        &error.replace(&url, "URL"),
        error.contains("slower than 1024") && begin.elapsed() < Duration::from_secs(20),
    );
    let url = hostile(|stream| {
        std::thread::sleep(Duration::from_secs(4));
        drop(stream.shutdown(std::net::Shutdown::Both));
    });
    let options = HttpOptions {
        total: Duration::from_secs(1),
        ..HttpOptions::default()
    };
    let error = HttpSource::new(&url, &options)
        .unwrap()
        .metadata("timestamp.json", 16_384)
        .unwrap_err()
        .to_string();
    table.row(
        18,
        "a server that says nothing",
        "abort by total time",
        &error.replace(&url, "URL"),
        error.contains("timeout"),
    );
    for target in [
        "http://127.0.0.1:9/metadata/x",
        "ftp://x/",
        "http://other.example/x",
    ] {
        let url = http(lab.archive.public(), move |path| {
            path.ends_with("timestamp.json").then(|| {
                format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
            })
        });
        let seen = from(&mut lab, &url).replace(&url, "URL");
        table.row(
            19,
            &format!("redirect to {target}"),
            "refuse another origin",
            &seen,
            seen.contains("answered 302"),
        );
    }
    let url = http(lab.archive.public(), |_| None);
    let seen = from(&mut lab, &url);
    table.row(
        40,
        "no TLS at all",
        "works; signatures alone decide",
        &seen,
        seen == "loaded level 1",
    );
}
