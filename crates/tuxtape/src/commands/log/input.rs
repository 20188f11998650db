//! Where the bytes of a log come from: files, packed or not, standard input, devices.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tuxtape_sys::watch::Watch;

/// Bytes read at once. A record of `/dev/kmsg` has to fit: the kernel throws away what does not.
const PIECE: usize = 64 * 1024;
/// Pieces on their way.
const QUEUE: usize = 4;
/// How often a growing file is looked at that nothing was written to: it may have been replaced.
const LOOK: Duration = Duration::from_millis(100);
/// `O_NONBLOCK` of all architectures livepatches run on.
const NONBLOCK: i32 = 0o4000;

/// What the reader has to say.
pub(super) enum Piece {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// What follows is of the folder's next file.
    NextFile,
    /// A file of the folder could not be used, and why.
    Left(String),
    /// Records were overwritten before they were read; how many, the next record's number tells.
    Overrun,
    /// The file was replaced or cut: what follows is from its start.
    Rotated(String),
    /// All was read.
    End,
    /// It could not be read further.
    Failed(anyhow::Error),
}

/// A log to be read.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// The file; none is standard input.
    pub(super) path: Option<PathBuf>,
    pub(super) follow: bool,
}

impl Input {
    /// Returns the name to show.
    pub(super) fn name(&self) -> Option<String> {
        self.path.as_ref().map(|path| path.display().to_string())
    }

    /// Tells whether it is the kernel's own device.
    pub(super) fn is_kmsg(&self) -> bool {
        self.path.as_deref() == Some(Path::new("/dev/kmsg"))
    }

    /// Tells whether it is a folder, as pstore shows what it kept.
    pub(super) fn is_folder(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.is_dir())
    }

    /// Reads on a thread of its own, which ends when the receiver is dropped or all was read.
    pub(super) fn start(self) -> Receiver<Piece> {
        let (send, receive) = sync_channel(QUEUE);
        thread::spawn(move || {
            let end = match self.read(&send) {
                Ok(()) => Piece::End,
                Err(error) => Piece::Failed(error),
            };
            // Nobody is left to tell when the receiver is gone.
            drop(send.send(end));
        });
        receive
    }

    fn read(&self, send: &SyncSender<Piece>) -> anyhow::Result<()> {
        let Some(path) = &self.path else {
            return all(unpacked(io::stdin())?, send).context("could not read standard input");
        };
        let what = || format!("could not read {}", path.display());
        let facts = fs::metadata(path).with_context(what)?;
        if facts.is_dir() {
            if self.follow {
                anyhow::bail!("{} is a folder", path.display());
            }
            return folder(path, send);
        }
        if facts.file_type().is_char_device() {
            return device(path, self.follow, send).with_context(what);
        }
        if self.follow {
            return grow(path, send).with_context(what);
        }
        let file = File::open(path).with_context(what)?;
        all(unpacked(file)?, send).with_context(what)
    }
}

/// Takes off gzip, xz or zstd, told by the first bytes.
fn unpacked<'a>(mut inner: impl Read + Send + 'a) -> anyhow::Result<Box<dyn Read + 'a>> {
    // As much as one read gives, so that what the log is can be told by its first piece.
    let mut first = vec![0; PIECE];
    let mut length = 0;
    while length < 6 {
        match inner.read(first.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    first.truncate(length);
    let packed: Vec<u8> = first.iter().take(6).copied().collect();
    let whole = io::Cursor::new(first).chain(inner);
    Ok(match packed.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new(whole, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
            ruzstd::decoding::StreamingDecoder::new(whole)
                .map_err(|error| anyhow::anyhow!("damaged zstd data: {error}"))?,
        ),
        _ => Box::new(whole),
    })
}

fn all(mut from: impl Read, send: &SyncSender<Piece>) -> anyhow::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                piece.truncate(length);
                if send.send(Piece::Bytes(piece)).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What pstore kept: files `dmesg-…`, oldest crash first by the numbers their names end with.
fn folder(path: &Path, send: &SyncSender<Piece>) -> anyhow::Result<()> {
    let what = |path: &Path| format!("could not read {}", path.display());
    let mut names: Vec<String> = fs::read_dir(path)
        .with_context(|| what(path))?
        .filter_map(Result::ok)
        // Opening anything else might block.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("dmesg-"))
        .collect();
    if names.is_empty() {
        anyhow::bail!("{} has no file that pstore kept (dmesg-…)", path.display());
    }
    names.sort_by_key(|name| {
        let (kind, number) = name.rsplit_once('-').unwrap_or((name, ""));
        let number = number.split('.').next().unwrap_or_default();
        (kind.to_owned(), number.len(), number.to_owned())
    });
    for name in names {
        let path = path.join(&name);
        let said = if name.ends_with(".enc.z") {
            Piece::Left(format!(
                "{} stayed compressed, the kernel could not unpack it",
                path.display()
            ))
        } else {
            Piece::NextFile
        };
        let usable = matches!(said, Piece::NextFile);
        if send.send(said).is_err() {
            return Ok(());
        }
        if usable {
            let file = File::open(&path).with_context(|| what(&path))?;
            all(unpacked(file)?, send).with_context(|| what(&path))?;
        }
    }
    Ok(())
}

/// One `read` gives one record. Without `follow` it ends where the kernel has no more.
fn device(path: &Path, follow: bool, send: &SyncSender<Piece>) -> anyhow::Result<()> {
    let flags = if follow { 0 } else { NONBLOCK };
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    loop {
        let mut piece = vec![0; PIECE];
        let said = match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                piece.truncate(length);
                Piece::Bytes(piece)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::BrokenPipe => Piece::Overrun,
                _ => return Err(error.into()),
            },
        };
        if send.send(said).is_err() {
            return Ok(());
        }
    }
}

/// Reads a file as it grows, and its successor once it was replaced.
fn grow(path: &Path, send: &SyncSender<Piece>) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let mut inode = file.metadata()?.ino();
    let mut watch = Watch::of(path);
    let mut at = 0_u64;
    loop {
        let mut piece = vec![0; PIECE];
        let length = file.read(&mut piece)?;
        if length > 0 {
            at += length as u64;
            piece.truncate(length);
            if send.send(Piece::Bytes(piece)).is_err() {
                return Ok(());
            }
            continue;
        }
        let changed = match fs::metadata(path) {
            Ok(now) => (now.ino() != inode || now.len() < at).then_some(now.ino()),
            // It is away for the moment: the rotation may not be done.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(new) = changed {
            let told = format!(
                "{} was replaced or cut after {at} bytes (inode {inode}, now {new}): reading on from its start",
                path.display()
            );
            file = File::open(path)?;
            inode = file.metadata()?.ino();
            watch = Watch::of(path);
            at = 0;
            if send.send(Piece::Rotated(told)).is_err() {
                return Ok(());
            }
            continue;
        }
        watch.wait(LOOK);
    }
}
