//! The outbox: what people should hear of, and how telling them went.
//!
//! A notice is posted once, by its key, and then told on every channel on its own: a channel that
//! fails holds no other up. Whoever sends holds the scan's lock ([`Store::lock`]), so that no two
//! send the same.

use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::{Notice, NoticeKind};

use crate::engine::{Row, Transaction, Value, first, plain};
use crate::rows::{damaged, id, key};
use crate::{Store, StoreError};

/// A notice to be told on a channel now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The notice.
    pub notice: Notice,
    /// Tries that failed so far.
    pub tries: u64,
}

/// Where the telling of one notice on one channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not told yet.
    Waiting {
        /// When to try again; the past where it was not tried yet.
        next: UtcSeconds,
    },
    /// Told.
    Delivered {
        /// When.
        at: UtcSeconds,
    },
    /// Not told, and will not be.
    GaveUp {
        /// When.
        at: UtcSeconds,
    },
}

/// One notice on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The channel.
    pub channel: String,
    /// The notice.
    pub notice: Notice,
    /// Where it stands.
    pub state: DeliveryState,
    /// Tries so far, the successful one included.
    pub tries: u64,
    /// What the last failed try said.
    pub why: Option<String>,
}

/// Why a delivery was not noted.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// No such notice or channel.
    #[error("the outbox has no notice {key} for channel {channel}")]
    Unknown {
        /// The notice's key.
        key: String,
        /// The channel.
        channel: String,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Posts notices; returns those whose key was not known, in the order given.
    pub fn post(&self, notices: &[Notice]) -> Result<Vec<Notice>, StoreError> {
        let transaction = Transaction::begin(self.engine())?;
        let mut posted = Vec::new();
        for notice in notices {
            let written = transaction.execute(
                "INSERT INTO notice (key, kind, at, cve, kernel, subject, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (key) DO NOTHING",
                &[
                    plain(&notice.key).into_owned().into(),
                    notice.kind.as_str().into(),
                    notice.at.into(),
                    notice.cve.map(key).into(),
                    notice.kernel.as_ref().map(KernelRelease::as_str).into(),
                    plain(&notice.subject).into_owned().into(),
                    plain(&notice.body).into_owned().into(),
                ],
            )?;
            if written > 0 {
                posted.push(notice.clone());
            }
        }
        transaction.commit()?;
        Ok(posted)
    }

    /// Makes a channel known. On one that was not, only notices from `since` on will be told; one that
    /// was stays as it is.
    pub fn open_channel(&self, channel: &str, since: UtcSeconds) -> Result<(), StoreError> {
        let transaction = Transaction::begin(self.engine())?;
        transaction.execute(
            "INSERT INTO channel (name, since) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
            &[plain(channel).into_owned().into(), since.into()],
        )?;
        transaction.commit()
    }

    /// Returns what is to be told on a known channel at `now`, oldest first, at most `limit`; nothing
    /// on an unknown one.
    pub fn due(&self, channel: &str, now: UtcSeconds, limit: u64) -> Result<Vec<Due>, StoreError> {
        let mut due = Vec::new();
        self.engine().query(
            "SELECT key, kind, notice.at, cve, kernel, subject, body, coalesce(tries, 0)
             FROM channel JOIN notice ON notice.at >= channel.since
                 LEFT JOIN delivery ON delivery.channel = channel.name
                     AND delivery.notice = notice.sequence
             WHERE channel.name = ?1
                 AND (state IS NULL OR (state = 'waiting' AND delivery.at <= ?2))
             ORDER BY notice.sequence LIMIT ?3",
            &[channel.into(), now.into(), limit.into()],
            &mut |row| {
                due.push(Due {
                    notice: notice(row)?,
                    tries: row.count(7)?,
                });
                Ok(())
            },
        )?;
        Ok(due)
    }

    /// Notes that a notice was told.
    pub fn delivered(&self, key: &str, channel: &str, now: UtcSeconds) -> Result<(), OutboxError> {
        self.note_delivery(key, channel, "delivered", now, None)
    }

    /// Notes that telling failed, and when to try again.
    pub fn failed(
        &self,
        key: &str,
        channel: &str,
        next_try: UtcSeconds,
        why: &str,
    ) -> Result<(), OutboxError> {
        self.note_delivery(key, channel, "waiting", next_try, Some(why))
    }

    /// Notes that telling failed for good.
    pub fn gave_up(
        &self,
        key: &str,
        channel: &str,
        now: UtcSeconds,
        why: &str,
    ) -> Result<(), OutboxError> {
        self.note_delivery(key, channel, "gave-up", now, Some(why))
    }

    fn note_delivery(
        &self,
        key: &str,
        channel: &str,
        state: &'static str,
        at: UtcSeconds,
        why: Option<&str>,
    ) -> Result<(), OutboxError> {
        let transaction = Transaction::begin(self.engine())?;
        let sql = "SELECT sequence FROM notice WHERE key = ?1";
        let notice = first(self.engine(), sql, &[key.into()])?;
        let sql = "SELECT since FROM channel WHERE name = ?1";
        let known = first(self.engine(), sql, &[channel.into()])?;
        let (Some(notice), Some(_)) = (notice, known) else {
            return Err(OutboxError::Unknown {
                key: key.to_owned(),
                channel: channel.to_owned(),
            });
        };
        // A success does not wipe out what an earlier failure said.
        transaction.execute(
            "INSERT INTO delivery (channel, notice, state, tries, at, why)
             VALUES (?1, ?2, ?3, 1, ?4, ?5)
             ON CONFLICT (channel, notice) DO UPDATE SET state = excluded.state,
                 tries = delivery.tries + 1, at = excluded.at,
                 why = coalesce(excluded.why, delivery.why)",
            &[
                channel.into(),
                notice.into(),
                state.into(),
                at.into(),
                why.map(|why| Value::from(plain(why).into_owned())).into(),
            ],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Returns the newest `limit` notices on every channel that tells them, newest first.
    pub fn outbox(&self, limit: u64) -> Result<Vec<Delivery>, StoreError> {
        let mut outbox = Vec::new();
        self.engine().query(
            "SELECT key, kind, notice.at, cve, kernel, subject, body, channel.name, state,
                 coalesce(tries, 0), delivery.at, why
             FROM channel JOIN notice ON notice.at >= channel.since
                 LEFT JOIN delivery ON delivery.channel = channel.name
                     AND delivery.notice = notice.sequence
             ORDER BY notice.sequence DESC, channel.name LIMIT ?1",
            &[limit.into()],
            &mut |row| {
                let notice = notice(row)?;
                let at = row.some_instant(10)?.unwrap_or(notice.at);
                let state = match row.some_text(8)? {
                    None | Some("waiting") => DeliveryState::Waiting { next: at },
                    Some("delivered") => DeliveryState::Delivered { at },
                    Some("gave-up") => DeliveryState::GaveUp { at },
                    Some(_) => return Err(damaged(0, "unknown state of a delivery")),
                };
                outbox.push(Delivery {
                    channel: row.text(7)?.to_owned(),
                    notice,
                    state,
                    tries: row.count(9)?,
                    why: row.some_text(11)?.map(str::to_owned),
                });
                Ok(())
            },
        )?;
        Ok(outbox)
    }

    /// Returns every notice of the last `limit`, newest first, whatever channels there are.
    pub fn notices(&self, limit: u64) -> Result<Vec<Notice>, StoreError> {
        let mut notices = Vec::new();
        self.engine().query(
            "SELECT key, kind, at, cve, kernel, subject, body FROM notice
             ORDER BY sequence DESC LIMIT ?1",
            &[limit.into()],
            &mut |row| {
                notices.push(notice(row)?);
                Ok(())
            },
        )?;
        Ok(notices)
    }
}

/// Reads the first seven columns: key, kind, at, cve, kernel, subject, body.
fn notice(row: &Row<'_>) -> Result<Notice, StoreError> {
    let cve: Option<CveId> = row.some_integer(3)?.map(id).transpose()?;
    let kernel = row.some_text(4)?.map(str::parse).transpose();
    Ok(Notice {
        key: row.text(0)?.to_owned(),
        kind: row.word(1, &NoticeKind::ALL, NoticeKind::as_str)?,
        at: row.instant(2)?,
        cve,
        kernel: kernel.map_err(|_| damaged(0, "no kernel release"))?,
        subject: row.text(5)?.to_owned(),
        body: row.text(6)?.to_owned(),
    })
}
