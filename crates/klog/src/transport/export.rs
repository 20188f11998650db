//! journald's export form: `KEY=value` lines, or a key, eight bytes of length, and the value.

use super::journal::Entry;

/// Bytes of one value that are kept.
const VALUE_LIMIT: usize = 64 * 1024;

/// Cuts entries out of bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Export {
    entry: Entry,
    state: State,
    held: Vec<u8>,
    offset: u64,
    started: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Line,
    /// The length of the value whose key is `held`, so far this many bytes of it.
    Length {
        key: usize,
    },
    Value {
        key: usize,
        left: u64,
    },
    /// The newline behind a value.
    End,
}

impl Export {
    /// Takes in the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&Entry)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.step(rest, &mut take);
            self.offset += used as u64;
            rest = rest.get(used.max(1)..).unwrap_or_default();
        }
    }

    /// The last entry need not have its blank line.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(&Entry)) {
        if self.state == State::Line {
            self.line();
        }
        self.end(&mut take);
    }

    fn step(&mut self, bytes: &[u8], take: &mut impl FnMut(&Entry)) -> usize {
        if !self.started {
            self.entry.start = self.offset;
            self.started = true;
        }
        match self.state {
            State::Line => {
                let end = memchr::memchr(b'\n', bytes);
                let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                let room = VALUE_LIMIT.saturating_sub(self.held.len());
                self.held
                    .extend_from_slice(part.get(..room).unwrap_or(part));
                let Some(end) = end else {
                    return bytes.len();
                };
                if self.held.is_empty() {
                    self.end(take);
                } else if self.held.contains(&b'=') {
                    self.line();
                } else {
                    self.state = State::Length {
                        key: self.held.len(),
                    };
                }
                end + 1
            }
            State::Length { key } => {
                let wanted = (key + 8).saturating_sub(self.held.len());
                let part = bytes.get(..wanted).unwrap_or(bytes);
                self.held.extend_from_slice(part);
                if let Some(length) = self.held.get(key..key + 8) {
                    let mut number = [0; 8];
                    number.copy_from_slice(length);
                    self.held.truncate(key);
                    self.state = State::Value {
                        key,
                        left: u64::from_le_bytes(number),
                    };
                }
                part.len()
            }
            State::Value { key, left: 0 } => {
                let (name, value) = self.held.split_at(key);
                self.entry.set(name, value);
                self.held.clear();
                self.state = State::End;
                0
            }
            State::Value { key, left } => {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX);
                let part = bytes.get(..wanted).unwrap_or(bytes);
                let room = (key + VALUE_LIMIT).saturating_sub(self.held.len());
                self.held
                    .extend_from_slice(part.get(..room).unwrap_or(part));
                let left = left - part.len() as u64;
                self.state = State::Value { key, left };
                if left == 0 {
                    let (name, value) = self.held.split_at(key);
                    self.entry.set(name, value);
                    self.held.clear();
                    self.state = State::End;
                }
                part.len()
            }
            State::End => {
                self.state = State::Line;
                usize::from(bytes.first() == Some(&b'\n')).max(1)
            }
        }
    }

    fn line(&mut self) {
        if let Some(at) = memchr::memchr(b'=', &self.held) {
            let (name, value) = self.held.split_at(at);
            self.entry.set(name, value.get(1..).unwrap_or_default());
        }
        self.held.clear();
    }

    fn end(&mut self, take: &mut impl FnMut(&Entry)) {
        self.entry.end = self.offset;
        if self.entry.any {
            take(&self.entry);
        }
        self.entry = Entry::default();
        self.started = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_fields_are_read_however_they_are_cut() {
        let mut log = b"__CURSOR=a\n_TRANSPORT=kernel\nMESSAGE\n".to_vec();
        log.extend_from_slice(&3_u64.to_le_bytes());
        log.extend_from_slice(b"x\ny\nPRIORITY=4\n\n_TRANSPORT=kernel\nMESSAGE=z\nEMPTY\n");
        log.extend_from_slice(&0_u64.to_le_bytes());
        log.extend_from_slice(b"\n\n");
        for size in 1..log.len() {
            let mut export = Export::default();
            let mut messages = Vec::new();
            let mut take = |entry: &Entry| messages.push(entry.message.clone().unwrap_or_default());
            for piece in log.chunks(size) {
                export.push(piece, &mut take);
            }
            export.finish(&mut take);
            assert_eq!(messages, [b"x\ny".to_vec(), b"z".to_vec()], "{size}");
        }
    }

    #[test]
    fn a_length_beyond_all_bounds_is_only_waited_for() {
        let mut log = b"MESSAGE\n".to_vec();
        log.extend_from_slice(&u64::MAX.to_le_bytes());
        log.extend(std::iter::repeat_n(b'x', 100_000));
        let mut export = Export::default();
        export.push(&log, |_| panic!("no entry is complete"));
        assert!(export.held.len() <= VALUE_LIMIT + 8);
    }
}
