//! Reading many records at once: several readers parse, one caller writes.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use tuxtape_core::cve::edition::{self, Files};
use tuxtape_core::cve::record::LARGEST;
use tuxtape_core::cve::{Cve, CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_sys::git::{Blob, Blobs, Repository};

use super::ScanError;
use crate::tree::Edition;

/// Readers at work; each has its own `git cat-file`.
const READERS: usize = 2;
/// Records that a reader reads before it hands them over, so that the writer is not woken for each.
const BATCH: usize = 64;
/// Batches that each reader reads ahead of the writer.
const AHEAD: usize = 4;
/// Longest a reading of the whole feed may take.
const DEADLINE: Duration = Duration::from_secs(600);

type Outcome = Result<Cve, String>;
type Message = Result<Vec<(CveId, Edition, Outcome)>, ScanError>;

/// Reads every record of `work` and hands it to `take`, in that order: a database is quickest at
/// appending.
pub(super) fn all(
    repository: &Repository,
    work: &[(CveId, Edition)],
    mut take: impl FnMut(CveId, Edition, Outcome) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    if work.is_empty() {
        return Ok(());
    }
    let batches: Vec<&[(CveId, Edition)]> = work.chunks(BATCH).collect();
    thread::scope(|scope| {
        let readers: Vec<Receiver<Message>> = (0..READERS)
            .map(|number| {
                let (send, receive) = mpsc::sync_channel::<Message>(AHEAD);
                let part: Vec<_> = batches
                    .iter()
                    .skip(number)
                    .step_by(READERS)
                    .copied()
                    .collect();
                scope.spawn(move || {
                    if let Err(error) = part_of(repository, &part, &send) {
                        // The writer has gone; it knows why.
                        send.send(Err(error)).ok();
                    }
                });
                receive
            })
            .collect();
        // Leaving early drops the receivers, which stops the readers at their next batch.
        for (_, reader) in batches.iter().zip(readers.iter().cycle()) {
            let batch = reader.recv().map_err(|_| ScanError::Reader)??;
            for (id, edition, outcome) in batch {
                take(id, edition, outcome)?;
            }
        }
        Ok(())
    })
}

fn part_of(
    repository: &Repository,
    part: &[&[(CveId, Edition)]],
    send: &SyncSender<Message>,
) -> Result<(), ScanError> {
    if part.is_empty() {
        return Ok(());
    }
    let ids: Vec<GitId> = part
        .iter()
        .copied()
        .flatten()
        .flat_map(|(_, edition)| files(edition))
        .flatten()
        .collect();
    let mut blobs = repository.blobs(ids, LARGEST as u64, DEADLINE)?;
    let mut buffers: [Vec<u8>; FILES.len()] = Default::default();
    for batch in part {
        let mut read = Vec::with_capacity(batch.len());
        for (id, edition) in *batch {
            let mut fault = None;
            for ((file, is_there), buffer) in FILES.iter().zip(files(edition)).zip(&mut buffers) {
                buffer.clear();
                if is_there.is_some() {
                    let here = next(&mut blobs, file, buffer)?;
                    fault = fault.or(here);
                }
            }
            let outcome = match fault {
                Some(fault) => Err(fault),
                None => record(*id, edition, &buffers),
            };
            read.push((*id, *edition, outcome));
        }
        if send.send(Ok(read)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Files of a record, in the order in which they are read.
const FILES: [&str; 6] = [
    ".json",
    ".dyad",
    ".mbox.rejected",
    ".cvss",
    ".reference",
    ".sha1",
];

fn files(edition: &Edition) -> [Option<GitId>; FILES.len()] {
    [
        Some(edition.json),
        edition.dyad,
        edition.announcement,
        edition.cvss,
        edition.reference,
        edition.sha1,
    ]
}

fn next(blobs: &mut Blobs, file: &str, buffer: &mut Vec<u8>) -> Result<Option<String>, ScanError> {
    Ok(match blobs.next(buffer)? {
        Blob::Read => None,
        Blob::TooLarge { bytes } => Some(format!(
            "{file}: {bytes} bytes, more than the limit of {LARGEST}"
        )),
        Blob::Missing => Some(format!("{file}: the repository lacks its content")),
    })
}

fn record(id: CveId, edition: &Edition, buffers: &[Vec<u8>; FILES.len()]) -> Outcome {
    let [json, dyad, announcement, cvss, reference, sha1] = buffers;
    let files = Files {
        json,
        dyad,
        cvss: edition.cvss.and(Some(cvss)),
        reference: edition.reference.and(Some(reference)),
        sha1: edition.sha1.and(Some(sha1)),
        announcement: edition.announcement.and(Some(announcement)),
    };
    let outcome = match edition.state {
        State::Published => edition::published(id, &files),
        State::Rejected => edition::rejected(id, &files),
    };
    let mut cve = outcome.map_err(|error| error.to_string())?;
    if edition.twice {
        cve.doubts
            .push("the record lies in cve/published and in cve/rejected".to_owned());
    }
    Ok(cve)
}
