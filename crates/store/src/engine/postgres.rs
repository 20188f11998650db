//! PostgreSQL, over a socket. Every call blocks on the server.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::io::Write as _;

use bytes::BytesMut;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{FromSql, IsNull, ToSql, Type};
use postgres::{Client, Config, NoTls, Statement};

use super::{DatabaseError, Engine, Row, Table, Take, Value};
use crate::StoreError;

/// Advisory locks of ours, two numbers each: `tuxt` and which one.
const LOCKS: i32 = 0x7475_7874;
/// Held by a transaction that writes.
const WRITING: i32 = 1;
/// Held by who scans or sends notices.
const SCANNING: i32 = 2;

/// A connection to a PostgreSQL database.
pub(crate) struct Postgres {
    client: RefCell<Client>,
    prepared: RefCell<HashMap<&'static str, Statement>>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        Self::Database(said(&error))
    }
}

/// Puts an error in one line; the crate's own text leaves out what the server said.
fn said(error: &postgres::Error) -> DatabaseError {
    DatabaseError(match error.as_db_error() {
        Some(answer) => format!("{} (SQLSTATE {})", answer.message(), answer.code().code()),
        None => error
            .source()
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    })
}

impl Postgres {
    /// Connects; `place` names the server in errors, without a password.
    pub(crate) fn connect(config: &Config, place: &str) -> Result<Self, StoreError> {
        let client = config.connect(NoTls).map_err(|error| StoreError::Connect {
            place: place.to_owned(),
            source: said(&error),
        })?;
        Ok(Self {
            client: RefCell::new(client),
            prepared: RefCell::default(),
        })
    }

    fn prepare(&self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.borrow_mut().prepare(&numbered(sql))?;
        self.prepared.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Engine for Postgres {
    fn run(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.client.borrow_mut().batch_execute(sql)?)
    }

    fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let statement = self.prepare(sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|it| it as _).collect();
        Ok(self.client.borrow_mut().execute(&statement, &values)?)
    }

    fn query(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        take: &mut Take<'_>,
    ) -> Result<(), StoreError> {
        let statement = self.prepare(sql)?;
        let columns = statement.columns().len();
        let mut client = self.client.borrow_mut();
        let mut rows = client.query_raw(&statement, values)?;
        while let Some(row) = rows.next()? {
            let values = (0..columns)
                .map(|column| row.try_get(column))
                .collect::<Result<Vec<Value<'_>>, _>>()?;
            take(&Row::new(&values))?;
        }
        Ok(())
    }

    fn insert(&self, table: &'static Table, rows: &[Vec<Value<'_>>]) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let sql = format!(
            "COPY {} ({}) FROM STDIN BINARY",
            table.name,
            table.columns.join(", ")
        );
        let mut client = self.client.borrow_mut();
        let mut copy = client.copy_in(&sql)?;
        let failed = |error: std::io::Error| StoreError::Database(DatabaseError(error.to_string()));
        copy.write_all(&binary(rows)?).map_err(failed)?;
        Ok(copy.finish()?)
    }

    fn begin(&self) -> Result<(), StoreError> {
        self.run("BEGIN")?;
        // Writers take turns, as SQLite's do: what one reads is then still so when it writes.
        let sql = "SELECT pg_advisory_xact_lock($1, $2)";
        let mut client = self.client.borrow_mut();
        let locked = client.query_one(sql, &[&LOCKS, &WRITING]);
        if locked.is_err() {
            client.batch_execute("ROLLBACK").ok();
        }
        locked?;
        Ok(())
    }

    fn schema(&self) -> Result<u32, StoreError> {
        let mut client = self.client.borrow_mut();
        // Not `to_regclass`, whose cache can be older than a table another program has just made.
        let sql = "SELECT EXISTS (SELECT FROM pg_tables
             WHERE schemaname = current_schema() AND tablename = 'schema_version')";
        let exists = client.query_one(sql, &[])?;
        if !exists.try_get::<_, bool>(0)? {
            return Ok(0);
        }
        let row = client.query_opt("SELECT number FROM schema_version", &[])?;
        let number: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
        u32::try_from(number).map_err(|_| StoreError::Damaged {
            what: format!("its schema is {number}"),
        })
    }

    fn set_schema(&self, number: u32) -> Result<(), StoreError> {
        self.run(&format!(
            "CREATE TABLE IF NOT EXISTS schema_version (number BIGINT NOT NULL);
             DELETE FROM schema_version; INSERT INTO schema_version VALUES ({number});"
        ))
    }

    fn try_lock(&self, note: &str) -> Result<Option<String>, StoreError> {
        // The connection holds it until it gives it back or ends.
        let sql = "SELECT pg_try_advisory_lock($1, $2)";
        let row = self
            .client
            .borrow_mut()
            .query_one(sql, &[&LOCKS, &SCANNING])?;
        if row.try_get(0)? {
            let sql = "INSERT INTO scan_holder (id, note) VALUES (1, ?1)
                 ON CONFLICT (id) DO UPDATE SET note = excluded.note";
            self.execute(sql, &[note.into()])?;
            return Ok(None);
        }
        let mut found = String::new();
        let sql = "SELECT note FROM scan_holder WHERE id = 1";
        self.query(sql, &[], &mut |row| {
            row.text(0)?.clone_into(&mut found);
            Ok(())
        })?;
        Ok(Some(found))
    }

    fn unlock(&self) -> Result<(), StoreError> {
        let sql = "SELECT pg_advisory_unlock($1, $2)";
        self.client
            .borrow_mut()
            .query_one(sql, &[&LOCKS, &SCANNING])?;
        Ok(())
    }

    fn spell(&self, ddl: &str) -> String {
        ddl.replace(
            "INTEGER PRIMARY KEY AUTOINCREMENT",
            "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        )
        .replace("INTEGER", "BIGINT")
        .replace("BLOB", "BYTEA")
        // Its tables are always strict, and have no row ids.
        .replace(") STRICT, WITHOUT ROWID;", ");")
        .replace(") STRICT;", ");")
    }
}

/// Spells `?1` as `$1`. No statement of ours holds a question mark for another reason.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// Writes rows in the binary form of `COPY`.
fn binary(rows: &[Vec<Value<'_>>]) -> Result<Vec<u8>, StoreError> {
    let too_large = || StoreError::Database(DatabaseError("a value is too large".to_owned()));
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        let width = i16::try_from(row.len()).map_err(|_| too_large())?;
        bytes.extend(width.to_be_bytes());
        for value in row {
            let mut put = |content: &[u8]| {
                let length = i32::try_from(content.len()).map_err(|_| too_large())?;
                bytes.extend(length.to_be_bytes());
                bytes.extend(content);
                Ok::<(), StoreError>(())
            };
            match value {
                Value::Null => bytes.extend((-1_i32).to_be_bytes()),
                Value::Integer(integer) => put(&integer.to_be_bytes())?,
                Value::Text(text) => put(text.as_bytes())?,
                Value::Blob(blob) => put(blob)?,
            }
        }
    }
    bytes.extend((-1_i16).to_be_bytes());
    Ok(bytes)
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(integer) => integer.to_sql(kind, out),
            Self::Text(text) => text.as_ref().to_sql(kind, out),
            Self::Blob(bytes) => bytes.as_ref().to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(kind)
    }

    fn to_sql_checked(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(integer) => integer.to_sql_checked(kind, out),
            Self::Text(text) => text.as_ref().to_sql_checked(kind, out),
            Self::Blob(bytes) => bytes.as_ref().to_sql_checked(kind, out),
        }
    }
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Self::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(kind, raw)?.into()),
            Type::BOOL => Self::Integer(bool::from_sql(kind, raw)?.into()),
            Type::BYTEA => Self::Blob(Cow::Borrowed(raw)),
            _ => Self::Text(Cow::Borrowed(<&str>::from_sql(kind, raw)?)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BOOL, Type::BYTEA, Type::TEXT].contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_spelled_as_postgresql_does() {
        assert_eq!(numbered("a = ?1 AND b = ?12"), "a = $1 AND b = $12");
    }
}
