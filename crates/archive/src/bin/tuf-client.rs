//! Speaks the command line of the public TUF conformance suite. A test program: nothing else uses it.
//!
//! `tuf-client --metadata-dir DIR [--metadata-url URL] [--target-name NAME]… [--target-dir DIR]
//! [--target-base-url URL] init ROOT | refresh | download`

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use tuxtape_archive::client::{self, Floor, Store, StoreError, Stored};
use tuxtape_archive::metadata::compare;
use tuxtape_archive::names;
use tuxtape_archive::source::{Fetched, HttpOptions, HttpSource, Source, SourceError};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_sys::{durable, regular};

const TARGET_CAP: u64 = 64 * 1024 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            drop(writeln!(io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run() -> Result<(), Failure> {
    let mut options: BTreeMap<String, String> = BTreeMap::new();
    let mut names = Vec::new();
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some("target-name") => names.extend(arguments.next()),
            Some(option) => {
                let value = arguments.next().ok_or("an option without a value")?;
                options.insert(option.to_owned(), value);
            }
            None => words.push(argument),
        }
    }
    let option = |name: &str| options.get(name).ok_or(format!("--{name} is missing"));
    let mut store = FlatStore {
        folder: PathBuf::from(option("metadata-dir")?),
        floor: Floor::default(),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["init", root] => {
            store.save(&Stored::Root, &fs::read(root)?)?;
            Ok(())
        }
        ["refresh"] => {
            let source = TwoUrls::new(option("metadata-url")?, None)?;
            client::refresh(&mut store, &source, now())?;
            Ok(())
        }
        ["download"] => {
            let base = option("target-base-url")?;
            let source = TwoUrls::new(option("metadata-url")?, Some(base))?;
            let folder = PathBuf::from(option("target-dir")?);
            let mut session = client::refresh(&mut store, &source, now())?;
            for name in names {
                let target = session.find_target(&name)?.ok_or("no such target")?;
                let path = folder.join(names::file(&name));
                let there = regular::read(&path, TARGET_CAP).ok().flatten();
                let same =
                    |bytes: &Vec<u8>| compare(bytes, Some(target.length), &target.hashes).is_ok();
                if !there.as_ref().is_some_and(same) {
                    let bytes = session.fetch_target(&name, &target, TARGET_CAP)?;
                    durable::write(&path, &bytes)?;
                }
            }
            Ok(())
        }
        _ => Err("want init ROOT, refresh or download".into()),
    }
}

fn now() -> UtcSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UtcSeconds::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// The suite's own layout: every role in one folder, under its name.
struct FlatStore {
    folder: PathBuf,
    floor: Floor,
}

impl FlatStore {
    fn path(&self, file: &Stored) -> PathBuf {
        let name = match file {
            Stored::Root => "root".to_owned(),
            Stored::RootVersion(version) => format!("history/{version}.root"),
            Stored::Timestamp => "timestamp".to_owned(),
            Stored::TimestampTag => "history/timestamp.tag".to_owned(),
            Stored::Snapshot => "snapshot".to_owned(),
            Stored::Targets => "targets".to_owned(),
            Stored::Role(name) => names::file(name),
        };
        self.folder.join(format!("{name}.json"))
    }
}

impl Store for FlatStore {
    fn load(&self, file: &Stored, cap: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(file);
        regular::read_if_there(&path, cap).map_err(|source| StoreError::Read { path, source })
    }

    fn save(&mut self, file: &Stored, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(file);
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|source| StoreError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        Ok(durable::write(&path, bytes)?)
    }

    fn discard(&mut self, file: &Stored) -> Result<(), StoreError> {
        let path = self.path(file);
        durable::remove(&path).map_err(|source| StoreError::Read { path, source })
    }

    fn floor(&self) -> &Floor {
        &self.floor
    }

    fn set_floor(&mut self, floor: Floor) -> Result<(), StoreError> {
        self.floor = floor;
        Ok(())
    }
}

/// Metadata and targets below URLs of their own.
struct TwoUrls {
    metadata: HttpSource,
    targets: Option<HttpSource>,
}

impl TwoUrls {
    fn new(metadata: &str, targets: Option<&String>) -> Result<Self, SourceError> {
        let options = HttpOptions::default();
        let targets = targets
            .map(|url| HttpSource::new(url, &options))
            .transpose()?;
        Ok(Self {
            metadata: HttpSource::new(metadata, &options)?,
            targets,
        })
    }
}

impl Source for TwoUrls {
    fn metadata(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        self.metadata.get(file, cap)
    }

    fn target(&self, file: &str, cap: u64) -> Result<Fetched, SourceError> {
        match &self.targets {
            Some(targets) => targets.get(file, cap),
            None => Ok(Fetched::Absent),
        }
    }
}
