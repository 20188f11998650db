//! Why the publisher stopped.

use std::io;
use std::path::PathBuf;

use tuxtape_sys::durable;

use crate::client::Refusal;
use crate::index::IndexError;
use crate::keys::KeyError;
use crate::metadata::MetadataError;
use crate::names::NameTooLong;
use crate::policy::PolicyError;
use crate::time::UtcSeconds;

/// Why the publisher stopped. The public tree is as it was, or complete.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder is in use already.
    #[error("{path} is an archive already", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is no archive.
    #[error("{path} is no archive (it has no policy.toml)", path = path.display())]
    NotAnArchive {
        /// The folder.
        path: PathBuf,
    },
    /// Another publisher works on it.
    #[error("another command is working on {path}", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder could not be read or made.
    #[error("could not use {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] durable::WriteError),
    /// The policy is not usable.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file of ours is no metadata.
    #[error("{file} is not usable: {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// What is wrong.
        reason: MetadataError,
    },
    /// A published file does not verify.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel has no name.
    #[error(transparent)]
    Name(#[from] NameTooLong),
    /// The index would not be accepted.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The module cannot be staged.
    #[error(transparent)]
    Stage(#[from] super::stage::StageError),
    /// The draft cannot be signed.
    #[error(transparent)]
    Sign(#[from] super::sign::SignError),
    /// Nothing is there to publish.
    #[error("nothing to publish: {0}")]
    Nothing(String),
    /// The archive was never published.
    #[error("nothing was published yet")]
    Unpublished,
    /// The clock went back.
    #[error(
        "the clock says {now}, but the timestamp published last was issued at {last}; set the clock, or, if it was that one that was wrong, run `tuxtape archive renew --clock-is-right`"
    )]
    Clock {
        /// The clock.
        now: UtcSeconds,
        /// Issue time published last.
        last: UtcSeconds,
    },
    /// The timestamp would be over before anybody reads it.
    #[error(
        "the timestamp would end at {expires}, which is over at {now}; look at timestamp-hours in policy.toml"
    )]
    TimestampOver {
        /// Its end.
        expires: UtcSeconds,
        /// The clock.
        now: UtcSeconds,
    },
    /// The public tree is older than what was published from here.
    #[error(
        "the public folder has version {found} of {role}, but version {seen} was published from here, and clients that saw it would refuse what comes now; was an old backup put back? Bring the newer files back from a mirror, or, if nobody fetched them or their keys are being exchanged, delete {record}", record = record.display()
    )]
    WentBack {
        /// The role.
        role: String,
        /// Version there.
        found: u64,
        /// Version published.
        seen: u64,
        /// The record that says so.
        record: PathBuf,
    },
    /// A file is too close to its cap.
    #[error("{file} has {length} bytes, more than half of what clients read ({cap})")]
    TooLarge {
        /// The file.
        file: String,
        /// Its bytes.
        length: u64,
        /// Bytes clients read.
        cap: u64,
    },
    /// The key that clients expect is not there.
    #[error("{folder} holds no {role} key that clients expect (want {}); run `tuxtape archive rotate {role}`", wanted.join(" or "), folder = folder.display())]
    NoOnlineKey {
        /// The role.
        role: String,
        /// Where keys are kept.
        folder: PathBuf,
        /// Key ids that count.
        wanted: Vec<String>,
    },
    /// The level cannot be withdrawn.
    #[error(transparent)]
    Withdraw(#[from] super::withdraw::WithdrawError),
    /// The rotation is not possible.
    #[error(transparent)]
    Rotate(#[from] super::rotate::RotateError),
    /// The bundle cannot be written or taken.
    #[error(transparent)]
    Bundle(#[from] super::bundle::BundleError),
    /// The hold cannot be set.
    #[error(transparent)]
    Holding(#[from] super::holding::HoldingError),
    /// The staged tree does not verify as a client would.
    #[error("a client would refuse what is about to be published")]
    Unverified(#[source] Box<crate::client::UpdateError>),
}
