//! The few parts of POSIX ustar that a bundle has: regular files, and longer names in pax records.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Bytes of a name.
const NAME_LIMIT: usize = 400;

/// Why bytes are no bundle.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It could not be read.
    #[error("could not read it")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("it ends in the middle of {0:?}")]
    Truncated(String),
    /// A header that is none.
    #[error("the header after {after:?} is damaged")]
    Header {
        /// The entry before.
        after: String,
    },
    /// Something other than a file.
    #[error("entry {name:?} is of kind {kind:?}; only regular files are taken")]
    Kind {
        /// The entry.
        name: String,
        /// Its type flag.
        kind: char,
    },
    /// A name that a bundle has not.
    #[error("entry {0:?} has a name that no bundle has")]
    Name(String),
    /// An entry larger than such a file may be.
    #[error("entry {name:?} has {length} bytes, at most {cap} are taken")]
    TooLarge {
        /// The entry.
        name: String,
        /// Bytes there.
        length: u64,
        /// Bytes allowed.
        cap: u64,
    },
    /// Entries out of order, or one twice.
    #[error("entry {name:?} comes after {after:?}; a bundle is sorted")]
    Order {
        /// The entry.
        name: String,
        /// The one before.
        after: String,
    },
    /// More entries than any bundle has.
    #[error("more than {0} entries")]
    Entries(usize),
    /// Written by something newer, or no bundle at all.
    #[error("it does not begin as a bundle of format 1")]
    Format,
}

/// Writes one file: mode 644, owner 0, time 0, so that the same content gives the same bytes.
pub fn append(out: &mut dyn Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    if name.len() > 99 {
        let record = record(name);
        header(out, "pax", record.len(), b'x')?;
        padded(out, record.as_bytes())?;
        header(
            out,
            &name.chars().take(99).collect::<String>(),
            bytes.len(),
            b'0',
        )?;
    } else {
        header(out, name, bytes.len(), b'0')?;
    }
    padded(out, bytes)
}

/// Writes the end of the file.
pub fn finish(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// A pax record counts its own length, digits included.
fn record(name: &str) -> String {
    let rest = format!(" path={name}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

fn header(out: &mut dyn Write, name: &str, length: usize, kind: u8) -> io::Result<()> {
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, text: &str| {
        for (place, byte) in block.iter_mut().skip(at).zip(text.bytes()) {
            *place = byte;
        }
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{length:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(257, "ustar\u{0}00");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    for (place, byte) in block
        .iter_mut()
        .skip(148)
        .zip(format!("{sum:06o}\0 ").bytes())
    {
        *place = byte;
    }
    out.write_all(&block)
}

fn padded(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    let rest = bytes.len() % BLOCK;
    if rest > 0 {
        out.write_all(&[0; BLOCK][rest..])?;
    }
    Ok(())
}

/// Reads the entries of a bundle one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    last: String,
}

impl<R: Read> Reader<R> {
    /// Takes a bundle.
    pub fn new(input: R) -> Self {
        Self {
            input,
            last: "the beginning".to_owned(),
        }
    }

    /// Reads the next entry: its name and its bytes, at most as many as `cap` allows for that name
    /// (`None` refuses the name). `None` at the end.
    pub fn entry(
        &mut self,
        cap: impl Fn(&str) -> Option<u64>,
    ) -> Result<Option<(String, Vec<u8>)>, TarError> {
        let Some((mut name, mut length, mut kind)) = self.header()? else {
            return Ok(None);
        };
        if kind == b'x' {
            if length > (NAME_LIMIT + 20) as u64 {
                return Err(TarError::Name(name));
            }
            let text = self.content(&name, length)?;
            let long = path_of(&text).ok_or_else(|| TarError::Name(name.clone()))?;
            let next = self.header()?;
            (_, length, kind) = next.ok_or_else(|| TarError::Truncated(long.clone()))?;
            name = long;
        }
        if kind != b'0' && kind != 0 {
            let kind = char::from(kind);
            return Err(TarError::Kind { name, kind });
        }
        let Some(cap) = cap(&name) else {
            return Err(TarError::Name(name));
        };
        if length > cap {
            return Err(TarError::TooLarge { name, length, cap });
        }
        let bytes = self.content(&name, length)?;
        self.last.clone_from(&name);
        Ok(Some((name, bytes)))
    }

    /// Reads a header; `None` for the block of zeros that ends the file.
    fn header(&mut self) -> Result<Option<(String, u64, u8)>, TarError> {
        let damaged = || TarError::Header {
            after: self.last.clone(),
        };
        let mut block = [0u8; BLOCK];
        match self.input.read_exact(&mut block) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(TarError::Truncated(self.last.clone()));
            }
            Err(error) => return Err(TarError::Read(error)),
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let field: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        let blanks = 8 * u64::from(b' ');
        if octal(&block[148..156]) != Some(sum - field + blanks) || &block[257..262] != b"ustar" {
            return Err(damaged());
        }
        let length = octal(&block[124..136]).ok_or_else(damaged)?;
        let name: Vec<u8> = block[..100]
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        let prefix = block[345];
        let name = String::from_utf8(name)
            .ok()
            .filter(|_| prefix == 0)
            .ok_or_else(damaged)?;
        Ok(Some((name, length, block[156])))
    }

    fn content(&mut self, name: &str, length: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = Vec::new();
        let padding = (BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64;
        let whole = length + padding;
        let read = self.input.by_ref().take(whole).read_to_end(&mut bytes);
        read.map_err(TarError::Read)?;
        if bytes.len() as u64 != whole {
            return Err(TarError::Truncated(name.to_owned()));
        }
        bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(bytes)
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    u64::from_str_radix(digits, 8)
        .ok()
        .filter(|value| *value < 1 << 40)
}

/// Takes the path out of a pax record, the only one there may be.
fn path_of(record: &[u8]) -> Option<String> {
    let text = str::from_utf8(record).ok()?;
    let (length, rest) = text.split_once(' ')?;
    let path = rest.strip_prefix("path=")?.strip_suffix('\n')?;
    (length.parse() == Ok(text.len()) && path.len() <= NAME_LIMIT).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(String, usize)>, TarError> {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        while let Some((name, bytes)) = reader.entry(|_| Some(1000))? {
            found.push((name, bytes.len()));
        }
        Ok(found)
    }

    fn sample() -> (Vec<u8>, String) {
        let long = format!("targets/{}", "n".repeat(190));
        let mut out = Vec::new();
        append(&mut out, "format", b"x").unwrap();
        append(&mut out, &long, &[7; 600]).unwrap();
        finish(&mut out).unwrap();
        (out, long)
    }

    #[test]
    fn what_is_written_is_read_again_and_by_tar_too() {
        let (out, long) = sample();
        assert_eq!(
            read(&out).unwrap(),
            [("format".to_owned(), 1), (long.clone(), 600)]
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tar");
        std::fs::write(&path, &out).unwrap();
        let listed = std::process::Command::new("tar")
            .arg("tf")
            .arg(&path)
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed, format!("format\n{long}\n"));
    }

    #[test]
    fn every_cut_and_every_flipped_header_bit_is_noticed() {
        let (out, _) = sample();
        for cut in (0..out.len() - 1024).step_by(13) {
            assert!(
                matches!(read(&out[..cut]), Err(TarError::Truncated(_))),
                "{cut}"
            );
        }
        for at in (0..512).filter(|at| *at < 512) {
            let mut changed = out.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn links_devices_and_large_entries_are_refused_by_name() {
        for kind in *b"1234567gL" {
            let mut out = Vec::new();
            header(&mut out, "metadata/x", 0, kind).unwrap();
            finish(&mut out).unwrap();
            let error = read(&out).unwrap_err().to_string();
            assert!(error.contains("metadata/x"), "{error}");
        }
        let mut out = Vec::new();
        append(&mut out, "metadata/x", &[0; 1001]).unwrap();
        assert!(matches!(
            read(&out),
            Err(TarError::TooLarge { length: 1001, .. })
        ));
    }
}
