//! When records came and changed, read from the feed's history: records hold no dates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tuxtape_core::cve::{CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_sys::git::{GitError, Repository, Touch, Visit};

use crate::engine::{Engine, Row, Table, Transaction, Value};
use crate::rows::{id, key};
use crate::{Dates, Published, StoreError, tree};

/// Most commits that are looked at in one scan: about ten seconds of `git`. What came before them was
/// published "by" the oldest of them.
pub(crate) const MOST_COMMITS: usize = 5000;
/// Longest the reading may take.
const DEADLINE: Duration = Duration::from_secs(600);

static ROWS: Table = Table {
    name: "cve_dates",
    columns: &["cve", "published", "exact", "changed"],
};

/// Returns the commits after `from` that touched records, newest first.
pub(crate) fn history(
    repository: &Repository,
    from: Option<GitId>,
    tip: GitId,
) -> Result<Vec<Visit>, GitError> {
    let folders = tree::FOLDERS.map(|(folder, _)| folder);
    repository.history(from, tip, &folders, MOST_COMMITS, DEADLINE)
}

/// Brings the stored dates up to date with `visits` and returns how many changed; `stored` and
/// `published` are the dates and the published records that are there now, of those touched at least.
pub(crate) fn put(
    transaction: &Transaction<'_>,
    visits: &[Visit],
    stored: &BTreeMap<CveId, Dates>,
    published: &BTreeSet<CveId>,
) -> Result<usize, StoreError> {
    let Some(oldest) = visits.last() else {
        return Ok(0);
    };
    let mut rows = Vec::new();
    for (cve, dates) in learn(visits, stored, published, instant(oldest)) {
        if let Some(was) = stored.get(&cve) {
            if *was == dates {
                continue;
            }
            let sql = "DELETE FROM cve_dates WHERE cve = ?1";
            transaction.execute(sql, &[key(cve).into()])?;
        }
        let (at, exact) = match dates.published {
            Published::At(at) => (at, true),
            Published::By(at) => (at, false),
        };
        let row: Vec<Value<'_>> = vec![
            key(cve).into(),
            at.into(),
            exact.into(),
            dates.changed.into(),
        ];
        rows.push(row);
    }
    transaction.insert(&ROWS, &rows)?;
    Ok(rows.len())
}

fn instant(visit: &Visit) -> UtcSeconds {
    UtcSeconds::from_unix(u64::try_from(visit.time).unwrap_or(0))
}

/// Works out the dates of every record that was touched, or is published and has none.
fn learn(
    visits: &[Visit],
    stored: &BTreeMap<CveId, Dates>,
    published: &BTreeSet<CveId>,
    oldest: UtcSeconds,
) -> BTreeMap<CveId, Dates> {
    let mut learnt: BTreeMap<CveId, Dates> = BTreeMap::new();
    for visit in visits.iter().rev() {
        let time = instant(visit);
        let places: Vec<(Touch, tree::Place<'_>)> = visit
            .touched
            .iter()
            .filter_map(|(touch, path)| Some((*touch, tree::place(path)?)))
            .filter(|(_, place)| place.is_read())
            .collect();
        let is_json =
            |place: &tree::Place<'_>, state| place.state == state && place.suffix == ".json";
        let mut came = BTreeSet::new();
        let mut came_back = BTreeSet::new();
        for (touch, place) in &places {
            match touch {
                Touch::Added if is_json(place, State::Published) => came.insert(place.id),
                Touch::Removed if is_json(place, State::Rejected) => came_back.insert(place.id),
                Touch::Added | Touch::Changed | Touch::Removed => false,
            };
        }
        for (_, place) in &places {
            if let Some(dates) = learnt.get_mut(&place.id) {
                dates.changed = dates.changed.max(time);
                continue;
            }
            let first = if came.contains(&place.id) && !came_back.contains(&place.id) {
                if visit.is_beginning {
                    Published::By(time)
                } else {
                    Published::At(time)
                }
            } else {
                // It was there before, or was never published.
                Published::By(oldest)
            };
            let known = stored.get(&place.id);
            let dates = Dates {
                published: known.map_or(first, |dates| dates.published),
                changed: known.map_or(time, |dates| dates.changed.max(time)),
            };
            learnt.insert(place.id, dates);
        }
    }
    for cve in published {
        if !stored.contains_key(cve) {
            learnt.entry(*cve).or_insert(Dates {
                published: Published::By(oldest),
                changed: oldest,
            });
        }
    }
    learnt
}

/// Returns the records that `visits` touched.
pub(crate) fn touched(visits: &[Visit]) -> BTreeSet<CveId> {
    let paths = visits.iter().flat_map(|visit| &visit.touched);
    paths
        .filter_map(|(_, path)| Some(tree::place(path)?.id))
        .collect()
}

/// Returns the dates of all records, also of those that are gone.
pub(crate) fn all(engine: &dyn Engine) -> Result<BTreeMap<CveId, Dates>, StoreError> {
    let mut dates = BTreeMap::new();
    between(engine, [i64::MIN, i64::MAX], &mut dates)?;
    Ok(dates)
}

/// Like [`all`], of the records `ids` alone.
pub(crate) fn of(
    engine: &dyn Engine,
    ids: &BTreeSet<CveId>,
) -> Result<BTreeMap<CveId, Dates>, StoreError> {
    let mut dates = BTreeMap::new();
    for id in ids {
        between(engine, [key(*id); 2], &mut dates)?;
    }
    Ok(dates)
}

fn between(
    engine: &dyn Engine,
    [from, to]: [i64; 2],
    dates: &mut BTreeMap<CveId, Dates>,
) -> Result<(), StoreError> {
    let sql = "SELECT cve, published, exact, changed FROM cve_dates WHERE cve BETWEEN ?1 AND ?2
         ORDER BY cve";
    engine.query(sql, &[from.into(), to.into()], &mut |row| {
        if let Some(found) = some(row, 1)? {
            dates.insert(id(row.integer(0)?)?, found);
        }
        Ok(())
    })
}

/// Reads three columns: published, exact, changed.
pub(crate) fn some(row: &Row<'_>, column: usize) -> Result<Option<Dates>, StoreError> {
    let Some(at) = row.some_instant(column)? else {
        return Ok(None);
    };
    Ok(Some(Dates {
        published: if row.flag(column + 1)? {
            Published::At(at)
        } else {
            Published::By(at)
        },
        changed: row.instant(column + 2)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UtcSeconds {
        UtcSeconds::from_unix(seconds)
    }

    fn visit(time: i64, is_beginning: bool, touched: &[(Touch, &str)]) -> Visit {
        Visit {
            time,
            is_beginning,
            touched: touched
                .iter()
                .map(|(touch, path)| (*touch, format!("cve/{path}")))
                .collect(),
        }
    }

    fn check(visits: &[Visit], stored: &[(&str, Dates)], expected: &[(&str, Published, u64)]) {
        let id = |text: &&str| -> CveId { text.parse().unwrap() };
        let stored = stored
            .iter()
            .map(|(cve, dates)| (id(cve), *dates))
            .collect();
        let published = expected.iter().map(|(cve, ..)| id(cve)).collect();
        let oldest = instant(visits.last().unwrap());
        let learnt = learn(visits, &stored, &published, oldest);
        let found: Vec<(String, Published, u64)> = learnt
            .into_iter()
            .map(|(cve, dates)| (cve.to_string(), dates.published, dates.changed.unix()))
            .collect();
        let expected: Vec<(String, Published, u64)> = expected
            .iter()
            .map(|(cve, published, changed)| ((*cve).to_owned(), *published, *changed))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_appearance_in_published_counts() {
        let visits = [
            visit(
                50,
                false,
                &[(Touch::Changed, "published/2024/CVE-2024-1001.dyad")],
            ),
            visit(
                40,
                false,
                &[
                    (Touch::Removed, "rejected/2024/CVE-2024-1000.json"),
                    (Touch::Added, "published/2024/CVE-2024-1000.json"),
                ],
            ),
            visit(
                30,
                false,
                &[
                    (Touch::Added, "published/2024/CVE-2024-1001.dyad"),
                    (Touch::Added, "published/2024/CVE-2024-1001.json"),
                    (Touch::Added, "testing/published/2024/CVE-2024-1005.json"),
                ],
            ),
            visit(
                20,
                false,
                &[(Touch::Added, "published/2024/CVE-2024-1000.json")],
            ),
            visit(
                10,
                true,
                &[(Touch::Added, "published/2024/CVE-2024-1002.json")],
            ),
        ];
        check(
            &visits,
            &[],
            &[
                ("CVE-2024-1000", Published::At(at(20)), 40),
                ("CVE-2024-1001", Published::At(at(30)), 50),
                // In the oldest commit at hand: how long before, nobody knows.
                ("CVE-2024-1002", Published::By(at(10)), 10),
                // In none of them.
                ("CVE-2024-1003", Published::By(at(10)), 10),
            ],
        );
    }

    #[test]
    fn a_record_that_came_back_was_published_before() {
        let visits = [
            visit(
                40,
                false,
                &[
                    (Touch::Added, "published/2024/CVE-2024-1000.json"),
                    (Touch::Removed, "rejected/2024/CVE-2024-1000.json"),
                ],
            ),
            visit(
                30,
                false,
                &[(Touch::Changed, "published/2024/CVE-2024-1001.json")],
            ),
        ];
        check(
            &visits,
            &[],
            &[
                ("CVE-2024-1000", Published::By(at(30)), 40),
                ("CVE-2024-1001", Published::By(at(30)), 30),
            ],
        );
    }

    #[test]
    fn what_is_known_is_kept() {
        let known = Dates {
            published: Published::At(at(5)),
            changed: at(6),
        };
        let visits = [visit(
            40,
            false,
            &[
                (Touch::Added, "published/2024/CVE-2024-1000.json"),
                (Touch::Changed, "published/2024/CVE-2024-1001.mbox"),
            ],
        )];
        check(
            &visits,
            &[("CVE-2024-1000", known)],
            &[("CVE-2024-1000", Published::At(at(5)), 40)],
        );
    }
}
