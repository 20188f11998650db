//! What earlier commands left: the feed's store and the kernels' profiles.

pub mod shelf;
pub mod weights;

use anyhow::Context as _;
use jiff::Timestamp;
use tuxtape_core::applicability::lineage::HistoryAtHand;
use tuxtape_core::decision::Decision;
use tuxtape_core::history::History;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::profile::{self, LoadError};
use tuxtape_store::{Feed, Store, StoreError};

use self::shelf::day;
use crate::context::Context;
use crate::output::{self, Hint};

/// Opens the store of a feed that was scanned before.
pub fn feed(context: &Context) -> anyhow::Result<(Store, Feed)> {
    const NO_FEED: &str = "there is no feed yet";
    let hint = || Hint::new("run `tuxtape scan` first");
    let store = match Store::open_existing(&context.store) {
        Ok(store) => store,
        Err(StoreError::Missing { .. }) => {
            return Err(anyhow::anyhow!(NO_FEED).context(hint()));
        }
        Err(error) => return Err(error.into()),
    };
    let feed = store.feed()?;
    let feed = feed.context(NO_FEED).with_context(hint)?;
    Ok((store, feed))
}

/// Loads the profile of a kernel that was added before.
pub fn kernel(context: &Context, release: &KernelRelease) -> anyhow::Result<KernelProfile> {
    profile::load(&context.home, release).map_err(|error| match error {
        LoadError::Missing { .. } => anyhow::Error::from(error).context(Hint::new(format!(
            "run `tuxtape kernel add debian:{release}` first"
        ))),
        LoadError::Changed { .. } | LoadError::Read { .. } | LoadError::Malformed { .. } => {
            error.into()
        }
    })
}

/// The history of a kernel's source, as far as it was kept.
#[derive(Debug)]
pub enum KnownHistory {
    /// It is of no git repository.
    NoGit,
    /// It is of one, and its history was not kept or cannot be read; what would help.
    Missing(String),
    /// It was kept.
    Known(Box<History>),
}

impl KnownHistory {
    /// Returns it as judges ask it.
    pub fn at_hand(&self) -> HistoryAtHand<'_> {
        match self {
            Self::NoGit => HistoryAtHand::NoGit,
            Self::Missing(why) => HistoryAtHand::Missing(why),
            Self::Known(history) => HistoryAtHand::Known(history),
        }
    }
}

/// Loads the history of a kernel's source. One that cannot be read is missing, and no error: other steps
/// still say what they see.
pub fn history(context: &Context, profile: &KernelProfile) -> KnownHistory {
    let Some(git) = &profile.git else {
        return KnownHistory::NoGit;
    };
    match profile::history::load(&context.home, &profile.id, git.commit) {
        Ok(Some(history)) => KnownHistory::Known(Box::new(history)),
        Ok(None) => KnownHistory::Missing(format!(
            "it is commit {} of {}, fetched alone; `tuxtape kernel add git:…` from a repository on this machine, or with --history, reads it",
            git.commit.short(),
            git.repository
        )),
        Err(error) => {
            let error = anyhow::Error::new(error);
            output::talk(&format!("warning: {error:#}"));
            KnownHistory::Missing(format!("{error:#}; `tuxtape kernel add` again reads it"))
        }
    }
}

/// Reads the clock.
pub fn now() -> UtcSeconds {
    // A clock before 1970 is as good as none.
    UtcSeconds::from_unix(u64::try_from(Timestamp::now().as_second()).unwrap_or(0))
}

/// Writes a time in seconds since 1970 as people and programs read it, in UTC.
pub fn utc(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(
        // Outside of the calendar: only a forged commit has such a time.
        |_| seconds.to_string(),
        |time| time.to_string(),
    )
}

/// Takes a commit's time as an instant; one before 1970 is as good as none.
pub fn instant(seconds: i64) -> UtcSeconds {
    UtcSeconds::from_unix(u64::try_from(seconds).unwrap_or(0))
}

/// Writes a decision as one sentence.
pub fn said(decision: &Decision) -> String {
    let kernel = decision
        .kernel
        .as_ref()
        .map_or_else(String::new, |kernel| format!(" on {kernel}"));
    let until = decision
        .until
        .map_or_else(String::new, |until| format!(", until {}", day(until)));
    format!(
        "{}{kernel} by {} on {}{until}: {}",
        decision.choice,
        decision.who,
        day(decision.at),
        decision.why
    )
}
