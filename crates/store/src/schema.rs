//! The schema and its migrations: numbered, forward only, one transaction each.

use std::collections::BTreeMap;

use tuxtape_core::span::{Landing, Span};

use crate::StoreError;
use crate::engine::{Engine, Row, Transaction, Value};
use crate::rows::{self, damaged};

/// One step from a schema to the next.
struct Migration {
    /// Data definitions, and what SQL can move.
    before: &'static str,
    /// What it cannot.
    move_rows: fn(&Transaction<'_>) -> Result<(), StoreError>,
    /// What goes when rows have been moved.
    after: &'static str,
}

const MIGRATIONS: [Migration; 2] = [
    Migration {
        before: include_str!("sql/001_feed.sql"),
        move_rows: |_| Ok(()),
        after: "",
    },
    Migration {
        before: include_str!("sql/002_signals.sql"),
        move_rows: lines_of_spans,
        after: include_str!("sql/002_drop.sql"),
    },
];

/// Brings the schema up to date.
pub(crate) fn migrate(engine: &dyn Engine) -> Result<(), StoreError> {
    migrate_to(engine, MIGRATIONS.len())
}

fn migrate_to(engine: &dyn Engine, known: usize) -> Result<(), StoreError> {
    loop {
        let found = engine.schema()? as usize;
        if found == known {
            return Ok(());
        }
        let newer = || StoreError::Newer {
            found: u32::try_from(found).unwrap_or(u32::MAX),
            known: u32::try_from(known).unwrap_or(u32::MAX),
        };
        let migration = MIGRATIONS.get(found).ok_or_else(newer)?;
        let transaction = Transaction::begin(engine)?;
        // Asked again under the lock: another process may have migrated in between.
        if engine.schema()? as usize != found {
            continue;
        }
        engine.run(&engine.spell(migration.before))?;
        (migration.move_rows)(&transaction)?;
        engine.run(&engine.spell(migration.after))?;
        engine.set_schema(u32::try_from(found + 1).unwrap_or(u32::MAX))?;
        transaction.commit()?;
    }
}

/// Moves spans and files of schema 1, a row each, into the rows of their records.
fn lines_of_spans(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let engine = transaction.engine();
    let mut files: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    engine.query(
        "SELECT cve, path FROM cve_file ORDER BY cve, path",
        &[],
        &mut |row| {
            let of = files.entry(row.integer(0)?).or_default();
            of.push(row.text(1)?.to_owned());
            Ok(())
        },
    )?;
    for (key, paths) in files {
        let paths = rows::json(&paths);
        let sql = "UPDATE cve SET files = ?2 WHERE cve = ?1";
        transaction.execute(sql, &[key.into(), paths.into()])?;
    }
    let mut spans: BTreeMap<i64, Vec<Span>> = BTreeMap::new();
    engine.query(
        "SELECT cve, introduced_version, introduced_commit, fixed_version, fixed_commit
         FROM cve_span ORDER BY cve, n",
        &[],
        &mut |row| {
            let key = row.integer(0)?;
            spans.entry(key).or_default().push(Span {
                introduced: landing(row, 1, key)?,
                fixed: landing(row, 3, key)?,
            });
            Ok(())
        },
    )?;
    let mut records: Vec<(i64, bool, String)> = Vec::new();
    engine.query(
        "SELECT cve, CASE WHEN doubts != '[]' THEN 1 ELSE 0 END, disputes FROM cve
         WHERE state = 'published' ORDER BY cve",
        &[],
        &mut |row| {
            records.push((row.integer(0)?, row.flag(1)?, row.text(2)?.to_owned()));
            Ok(())
        },
    )?;
    let lines: Vec<Vec<Value<'_>>> = records
        .into_iter()
        .map(|(key, doubtful, disputes)| {
            let spans = spans.remove(&key).unwrap_or_default();
            rows::lines_row(key, &spans, doubtful, disputes)
        })
        .collect();
    transaction.insert(&rows::LINES, &lines)?;
    Ok(())
}

fn landing(row: &Row<'_>, column: usize, key: i64) -> Result<Option<Landing>, StoreError> {
    let Some(version) = row.some_text(column)? else {
        return Ok(None);
    };
    Ok(Some(Landing {
        version: version
            .parse()
            .map_err(|_| damaged(key, "a span without a version"))?,
        commit: row.name(column + 1)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sqlite::{IfMissing, Sqlite};

    /// Rows as the first program wrote them.
    const OLD_ROWS: &str = "
        INSERT INTO feed VALUES (1, 'bundle', x'0101010101010101010101010101010101010101', 7, 1);
        INSERT INTO cve VALUES (20240000001000, 'published', 'net: fix', 'text', 'CVSS:3.1/x', 78,
            NULL, '[\"a doubt\"]', '[\"6.1.20\"]', x'0202020202020202020202020202020202020202',
            x'0303030303030303030303030303030303030303', NULL, 0,
            x'0101010101010101010101010101010101010101');
        INSERT INTO cve VALUES (20240000001001, 'rejected', '', '', NULL, NULL, 'no bug', '[]', '[]',
            x'0202020202020202020202020202020202020202', NULL, NULL, 1,
            x'0101010101010101010101010101010101010101');
        INSERT INTO cve_span VALUES (20240000001000, 0, NULL, NULL, '6.1.20',
            x'0404040404040404040404040404040404040404');
        INSERT INTO cve_span VALUES (20240000001000, 1, '5.10',
            x'0505050505050505050505050505050505050505', NULL, NULL);
        INSERT INTO cve_file VALUES (20240000001000, 'net/b.c'), (20240000001000, 'net/a.c');
        INSERT INTO cve_skipped VALUES (20240000001000, '.json: cut');";

    #[test]
    fn a_store_of_schema_1_keeps_all_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute_batch(include_str!("sql/001_feed.sql")).unwrap();
        old.execute_batch(OLD_ROWS).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);

        let engine = Sqlite::open(&path, IfMissing::Fail).unwrap();
        migrate(&engine).unwrap();
        assert_eq!(engine.schema().unwrap() as usize, MIGRATIONS.len());
        let last = rows::last_scan(&engine).unwrap().unwrap();
        assert_eq!((last.feed.source.as_str(), last.feed.time), ("bundle", 7));
        assert_eq!((last.reader, last.dated), (1, None));
        let records = rows::records(&engine, None).unwrap();
        let [published, rejected] = records.as_slice() else {
            panic!("{records:?}");
        };
        let cve = &published.cve;
        assert_eq!(cve.id.to_string(), "CVE-2024-1000");
        assert_eq!(cve.files, ["net/a.c", "net/b.c"]);
        assert_eq!(cve.cvss.as_ref().unwrap().score.tenths(), 78);
        assert_eq!(cve.doubts, ["a doubt"]);
        assert_eq!(published.stale.as_deref(), Some(".json: cut"));
        let spans: Vec<String> = cve.spans.iter().map(ToString::to_string).collect();
        assert_eq!(spans, ["always → 6.1.20", "5.10 → never"]);
        assert_eq!(cve.spans[1].introduced.unwrap().commit.as_bytes(), &[5; 20]);
        assert_eq!(rejected.cve.rejection.as_deref(), Some("no bug"));
        let mut lines = Vec::new();
        rows::each_lines(&engine, &mut |record| lines.push(record.clone())).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].doubtful);
        assert_eq!(lines[0].spans, cve.spans);
        assert_eq!(lines[0].disputes, cve.disputes);
        let editions = rows::editions(&engine).unwrap();
        assert_eq!(editions.values().filter(|it| it.twice).count(), 1);
    }

    #[test]
    fn a_newer_store_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Sqlite::open(&folder.path().join("x"), IfMissing::Create).unwrap();
        migrate(&engine).unwrap();
        migrate(&engine).unwrap();
        engine.set_schema(99).unwrap();
        let error = migrate(&engine).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the store has schema 99, newer than {}, the newest this program knows",
                MIGRATIONS.len()
            )
        );
    }
}
