//! SQLite, linked in.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement, ToSql};
use tuxtape_sys::lock::{self, Lock, Taken};

use super::{DatabaseError, Engine, Row, Table, Take, Value};
use crate::StoreError;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);
/// Changed pages that are held before they go to the log, where many are expected.
const FEW_PAGES: u32 = 64;
/// Pages of the log at which a commit copies it into the file: SQLite's default.
const LOG_PAGES: u32 = 1000;
/// Statements kept prepared: more than there are.
const PREPARED: usize = 96;

/// A SQLite file, open.
#[derive(Debug)]
pub(crate) struct Sqlite {
    connection: Connection,
    lock_file: PathBuf,
    lock: RefCell<Option<Lock>>,
}

/// Whether a missing file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Create,
    Fail,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(DatabaseError(error.to_string()))
    }
}

impl Sqlite {
    pub(crate) fn open(path: &Path, missing: IfMissing) -> Result<Self, StoreError> {
        Self::open_file(path, missing).map_err(|error| StoreError::Open {
            path: path.to_owned(),
            source: DatabaseError(error.to_string()),
        })
    }

    fn open_file(path: &Path, missing: IfMissing) -> rusqlite::Result<Self> {
        let create = match missing {
            IfMissing::Create => OpenFlags::SQLITE_OPEN_CREATE,
            IfMissing::Fail => OpenFlags::empty(),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        // A record has about 3 KiB: in pages of 4 KiB, the default, most of them would be chains of two.
        // Only a new file takes it. FULL: NORMAL may lose the last commits at power loss.
        connection.execute_batch(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -16384;",
        )?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        Ok(Self {
            connection,
            lock_file: path.with_extension("lock"),
            lock: RefCell::new(None),
        })
    }
}

impl Engine for Sqlite {
    fn run(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch(sql)?)
    }

    fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }

    fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        take: &mut Take<'_>,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let values = (0..columns)
                .map(|column| value(row.get_ref(column)?))
                .collect::<Result<Vec<_>, StoreError>>()?;
            take(&Row::new(&values))?;
        }
        Ok(())
    }

    fn insert(&self, table: &'static Table, rows: &[Vec<Value<'_>>]) -> Result<u64, StoreError> {
        let mut sql = format!(
            "INSERT INTO {} ({}) VALUES (",
            table.name,
            table.columns.join(", ")
        );
        for number in 1..=table.columns.len() {
            let comma = if number == 1 { "" } else { ", " };
            write!(sql, "{comma}?{number}").expect("a String takes everything");
        }
        sql.push(')');
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut written = 0;
        for row in rows {
            bind(&mut statement, row)?;
            written += statement.raw_execute()? as u64;
        }
        Ok(written)
    }

    fn begin(&self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE")
    }

    fn expect_much(&self) -> Result<(), StoreError> {
        // Pages go to the log while records are still being read, and not all of them at the end.
        self.run(&format!("PRAGMA cache_spill = {FEW_PAGES}"))
    }

    fn commit_much(&self) -> Result<(), StoreError> {
        // The rows are durable in the log. Copying them into the file can wait for the next commit.
        self.run("PRAGMA wal_autocheckpoint = 0")?;
        let outcome = self.run("COMMIT");
        self.run(&format!("PRAGMA wal_autocheckpoint = {LOG_PAGES}"))?;
        outcome
    }

    fn schema(&self) -> Result<u32, StoreError> {
        Ok(self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    fn set_schema(&self, number: u32) -> Result<(), StoreError> {
        Ok(self
            .connection
            .pragma_update(None, "user_version", number)?)
    }

    fn try_lock(&self, note: &str) -> Result<Option<String>, StoreError> {
        Ok(match lock::take(&self.lock_file, note)? {
            Taken::Ours(lock) => {
                *self.lock.borrow_mut() = Some(lock);
                None
            }
            Taken::Held { note } => Some(note),
        })
    }

    fn unlock(&self) -> Result<(), StoreError> {
        *self.lock.borrow_mut() = None;
        Ok(())
    }

    fn spell(&self, ddl: &str) -> String {
        // Our dialect is SQLite's.
        ddl.to_owned()
    }
}

fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> Result<(), StoreError> {
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

fn value(value: ValueRef<'_>) -> Result<Value<'_>, StoreError> {
    let refused = |what: String| StoreError::Damaged { what };
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => return Err(refused(format!("a column holds {real}"))),
        ValueRef::Text(bytes) => Value::Text(Cow::Borrowed(
            std::str::from_utf8(bytes).map_err(|error| refused(error.to_string()))?,
        )),
        ValueRef::Blob(bytes) => Value::Blob(Cow::Borrowed(bytes)),
    })
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
