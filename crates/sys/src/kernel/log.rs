//! The kernel log, read from `/dev/kmsg`.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use super::{KernelError, KernelFs};

const RECORD_LIMIT: usize = 8192;
const LOG_LIMIT: usize = 4 * 1024 * 1024;

/// Records of the kernel log as `/dev/kmsg` gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLog {
    /// The records, one after the other.
    pub bytes: Vec<u8>,
    /// Sequence number after the last record.
    pub next: u64,
    /// Whether the kernel overwrote records before they were read.
    pub lost: bool,
    /// Whether the limit was reached: a look from `next` goes on with the record after the last.
    pub more: bool,
}

impl KernelFs {
    /// Reads all records with a sequence number of at least `from` that are there now, at most 4 MB.
    ///
    /// Does not wait for new ones.
    pub fn kernel_log(&self, from: u64) -> Result<KernelLog, KernelError> {
        let failed = |source| KernelError::Read {
            path: self.kmsg.clone(),
            source,
        };
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(nonblock)
            .open(&self.kmsg)
            .map_err(failed)?;
        gather(from, LOG_LIMIT, |record| file.read(record)).map_err(failed)
    }
}

/// Collects the records with a sequence number of at least `from`, at most `limit` bytes. `read` gives
/// one record at a time.
fn gather(
    from: u64,
    limit: usize,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<KernelLog> {
    let mut log = KernelLog {
        next: from,
        ..KernelLog::default()
    };
    let mut record = vec![0; RECORD_LIMIT];
    loop {
        match read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let record = record.get(..length).unwrap_or_default();
                let sequence = sequence(record).unwrap_or(log.next);
                if sequence < from {
                    continue;
                }
                if log.bytes.len() + length > limit {
                    log.more = true;
                    break;
                }
                log.lost |= sequence > log.next;
                log.next = sequence.saturating_add(1);
                log.bytes.extend_from_slice(record);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The record was overwritten while we looked; the next read goes on after the gap. What
            // was before `from` is not missed: a gap after it shows in the numbers.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(log)
}

/// Reads the second field of `PREFIX,SEQUENCE,TIMESTAMP,FLAGS;TEXT`.
fn sequence(record: &[u8]) -> Option<u64> {
    let mut fields = record.split(|&byte| byte == b',');
    std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the records with these numbers, `None` for one overwritten before it was read.
    fn look(from: u64, limit: usize, numbers: &[Option<u64>]) -> KernelLog {
        let mut left = numbers.iter();
        gather(from, limit, |buffer| match left.next() {
            Some(Some(number)) => {
                let text = format!("6,{number},1,-;x\n");
                buffer[..text.len()].copy_from_slice(text.as_bytes());
                Ok(text.len())
            }
            Some(None) => Err(io::ErrorKind::BrokenPipe.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        })
        .unwrap()
    }

    #[test]
    fn a_look_that_stops_at_its_limit_passes_over_nothing() {
        let records = [Some(7), Some(8), Some(9)];
        let first = look(7, 20, &records);
        assert_eq!(first.bytes, b"6,7,1,-;x\n6,8,1,-;x\n");
        assert_eq!((first.next, first.more, first.lost), (9, true, false));
        let second = look(first.next, 20, &records);
        assert_eq!(second.bytes, b"6,9,1,-;x\n");
        assert_eq!((second.next, second.more, second.lost), (10, false, false));
    }

    #[test]
    fn records_are_lost_when_their_numbers_are_missing() {
        for (from, numbers, lost) in [
            (7, &[Some(7), None, Some(9)][..], true),
            (7, &[Some(9)], true),
            (7, &[Some(7), Some(8)], false),
            // What was overwritten had been read before.
            (7, &[Some(3), None, Some(7)], false),
        ] {
            assert_eq!(look(from, 1000, numbers).lost, lost, "{from} {numbers:?}");
        }
    }

    #[test]
    fn the_sequence_number_is_the_second_field() {
        assert_eq!(sequence(b"6,339,5140900,-;text, with, commas"), Some(339));
        assert_eq!(sequence(b"no record"), None);
    }
}
