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
    /// Whether the kernel overwrote records before they were read, or the limit was reached.
    pub lost: bool,
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
        let mut log = KernelLog {
            next: from,
            ..KernelLog::default()
        };
        let mut record = vec![0; RECORD_LIMIT];
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = record.get(..length).unwrap_or_default();
                    let sequence = sequence(record).unwrap_or(log.next);
                    if sequence < from {
                        continue;
                    }
                    log.lost |= sequence > log.next;
                    log.next = sequence.saturating_add(1);
                    if log.bytes.len() + length > LOG_LIMIT {
                        log.lost = true;
                        break;
                    }
                    log.bytes.extend_from_slice(record);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The record was overwritten while we looked; the next read goes on after the gap.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => log.lost = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(log)
    }
}

/// Reads the second field of `PREFIX,SEQUENCE,TIMESTAMP,FLAGS;TEXT`.
fn sequence(record: &[u8]) -> Option<u64> {
    let mut fields = record.split(|&byte| byte == b',');
    std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_number_is_the_second_field() {
        assert_eq!(sequence(b"6,339,5140900,-;text, with, commas"), Some(339));
        assert_eq!(sequence(b"no record"), None);
    }
}
