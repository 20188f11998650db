//! The border to the database: one dialect of SQL, two engines that run it.
//!
//! Statements are written once, with `?1` for their parameters, and use only what both engines
//! understand. Values cross the border as [`Value`], so that no type of an engine leaks.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;

use crate::StoreError;

/// What a database said when it refused, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseError(pub(crate) String);

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DatabaseError {}

/// One value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
}

/// One row of an answer.
pub(crate) struct Row<'a>(&'a [Value<'a>]);

/// Rows to be inserted: the table and its columns, in the order of the values.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
}

/// What is done with each row of an answer.
pub(crate) type Take<'t> = dyn FnMut(&Row<'_>) -> Result<(), StoreError> + 't;

/// A database, open.
pub(crate) trait Engine: fmt::Debug + Send {
    /// Runs statements that are no query, apart from each other and without parameters.
    fn run(&self, sql: &str) -> Result<(), StoreError>;
    /// Runs one statement; returns how many rows it wrote or removed.
    fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError>;
    /// Runs one query and hands over its rows. `take` must not use the engine.
    fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        take: &mut Take<'_>,
    ) -> Result<(), StoreError>;
    /// Inserts rows, the quickest way the engine has; returns how many.
    fn insert(&self, table: &'static Table, rows: &[Vec<Value<'_>>]) -> Result<u64, StoreError>;
    /// Begins a transaction that excludes every other writer.
    fn begin(&self) -> Result<(), StoreError>;
    /// Readies a transaction that will write much.
    fn expect_much(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Commits much at once: what the database would do on the way for its own good may wait for the
    /// next commit.
    fn commit_much(&self) -> Result<(), StoreError> {
        self.run("COMMIT")
    }
    /// Returns the number of the schema, 0 before the first.
    fn schema(&self) -> Result<u32, StoreError>;
    /// Notes the number of the schema, within a transaction.
    fn set_schema(&self, number: u32) -> Result<(), StoreError>;
    /// Takes the lock of those who scan, leaving `note`; returns the holder's note where there is one.
    fn try_lock(&self, note: &str) -> Result<Option<String>, StoreError>;
    /// Gives that lock back.
    fn unlock(&self) -> Result<(), StoreError>;
    /// Spells a piece of our data definition language for this engine.
    fn spell(&self, ddl: &str) -> String;
}

/// A transaction; rolled back when dropped.
pub(crate) struct Transaction<'e> {
    engine: &'e dyn Engine,
    open: bool,
    written: Cell<u64>,
}

impl<'e> Transaction<'e> {
    pub(crate) fn begin(engine: &'e dyn Engine) -> Result<Self, StoreError> {
        engine.begin()?;
        Ok(Self {
            engine,
            open: true,
            written: Cell::new(0),
        })
    }

    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
        // A failed commit is rolled back when this is dropped.
        self.engine.run("COMMIT")?;
        self.open = false;
        Ok(())
    }

    /// Like [`commit`](Self::commit), for whoever waits for the answer.
    pub(crate) fn commit_much(mut self) -> Result<(), StoreError> {
        self.engine.commit_much()?;
        self.open = false;
        Ok(())
    }

    /// Returns how many rows were written or removed so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    pub(crate) fn engine(&self) -> &'e dyn Engine {
        self.engine
    }

    pub(crate) fn execute(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, StoreError> {
        let rows = self.engine.execute(sql, values)?;
        self.written.set(self.written.get() + rows);
        Ok(rows)
    }

    pub(crate) fn insert(
        &self,
        table: &'static Table,
        rows: &[Vec<Value<'_>>],
    ) -> Result<u64, StoreError> {
        let rows = self.engine.insert(table, rows)?;
        self.written.set(self.written.get() + rows);
        Ok(rows)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            // Where this fails the connection is gone, and the transaction with it.
            self.engine.run("ROLLBACK").ok();
        }
    }
}

/// Returns the first value of the first row, where there is one.
pub(crate) fn first(
    engine: &dyn Engine,
    sql: &'static str,
    values: &[Value<'_>],
) -> Result<Option<i64>, StoreError> {
    let mut found = None;
    engine.query(sql, values, &mut |row| {
        found = found.or(row.some_integer(0)?);
        Ok(())
    })?;
    Ok(found)
}

fn damaged(column: usize, want: &str) -> StoreError {
    StoreError::Damaged {
        what: format!("column {column} holds no {want}"),
    }
}

impl<'a> Row<'a> {
    pub(crate) fn new(values: &'a [Value<'a>]) -> Self {
        Self(values)
    }

    fn value(&self, column: usize) -> &'a Value<'a> {
        self.0.get(column).unwrap_or(&Value::Null)
    }

    pub(crate) fn some_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Integer(integer) => Ok(Some(*integer)),
            Value::Text(_) | Value::Blob(_) => Err(damaged(column, "integer")),
        }
    }

    pub(crate) fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.some_integer(column)?
            .ok_or_else(|| damaged(column, "integer"))
    }

    /// Reads an integer that counts or numbers something.
    pub(crate) fn count(&self, column: usize) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|_| damaged(column, "count"))
    }

    pub(crate) fn flag(&self, column: usize) -> Result<bool, StoreError> {
        Ok(self.integer(column)? != 0)
    }

    pub(crate) fn some_instant(&self, column: usize) -> Result<Option<UtcSeconds>, StoreError> {
        self.some_integer(column)?
            .map(|seconds| {
                u64::try_from(seconds)
                    .map(UtcSeconds::from_unix)
                    .map_err(|_| damaged(column, "instant"))
            })
            .transpose()
    }

    pub(crate) fn instant(&self, column: usize) -> Result<UtcSeconds, StoreError> {
        self.some_instant(column)?
            .ok_or_else(|| damaged(column, "instant"))
    }

    pub(crate) fn some_text(&self, column: usize) -> Result<Option<&'a str>, StoreError> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            Value::Integer(_) | Value::Blob(_) => Err(damaged(column, "text")),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&'a str, StoreError> {
        self.some_text(column)?
            .ok_or_else(|| damaged(column, "text"))
    }

    pub(crate) fn some_blob(&self, column: usize) -> Result<Option<&'a [u8]>, StoreError> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes)),
            Value::Integer(_) | Value::Text(_) => Err(damaged(column, "bytes")),
        }
    }

    pub(crate) fn blob(&self, column: usize) -> Result<&'a [u8], StoreError> {
        self.some_blob(column)?
            .ok_or_else(|| damaged(column, "bytes"))
    }

    pub(crate) fn some_name(&self, column: usize) -> Result<Option<GitId>, StoreError> {
        self.some_blob(column)?
            .map(|bytes| GitId::try_from(bytes).map_err(|_| damaged(column, "git object name")))
            .transpose()
    }

    pub(crate) fn name(&self, column: usize) -> Result<GitId, StoreError> {
        self.some_name(column)?
            .ok_or_else(|| damaged(column, "git object name"))
    }

    /// Reads what has one word per value, by trying each.
    pub(crate) fn word<T: Copy>(
        &self,
        column: usize,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<T, StoreError> {
        let text = self.text(column)?;
        let found = all.iter().copied().find(|value| word(*value) == text);
        found.ok_or_else(|| damaged(column, "word of those known"))
    }
}

impl From<i64> for Value<'_> {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<u64> for Value<'_> {
    /// More than the engines can hold is kept as the most they can.
    fn from(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Integer(flag.into())
    }
}

impl From<UtcSeconds> for Value<'_> {
    fn from(instant: UtcSeconds) -> Self {
        instant.unix().into()
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(bytes.into())
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Blob(bytes.into())
    }
}

impl From<GitId> for Value<'_> {
    fn from(id: GitId) -> Self {
        Self::Blob(id.as_bytes().to_vec().into())
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Takes out what PostgreSQL cannot keep in a text, so that both engines keep the same.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "").into()
    } else {
        text.into()
    }
}
