//! When records came and changed, read from the feed's history: records hold no dates.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use tuxtape_core::cve::{CveId, State};
use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_sys::git::{GitError, Repository, Touch, Visit};

use crate::engine::{Engine, Row, Table, Transaction, Value};
use crate::rows::{id, key};
use crate::{Dates, Published, StoreError, tree};

/// Most commits that are looked at in one scan: a few seconds of `git`. What came before them was
/// published "by" the oldest of them.
pub(crate) const MOST_COMMITS: usize = 5000;
/// Longest the reading may take.
const DEADLINE: Duration = Duration::from_secs(600);

static ROWS: Table = Table {
    name: "cve_dates",
    columns: &["cve", "published", "exact", "changed"],
};

/// Returns the commits after `from`, newest first, with what they touched.
pub(crate) fn history(
    repository: &Repository,
    from: Option<GitId>,
    tip: GitId,
) -> Result<Vec<Visit>, GitError> {
    if from.is_some() {
        return repository.history(from, tip, 0, MOST_COMMITS, DEADLINE);
    }
    let newer = repository.history_length(None, tip, MOST_COMMITS)? / 2;
    thread::scope(|scope| {
        let older =
            scope.spawn(|| repository.history(None, tip, newer, MOST_COMMITS - newer, DEADLINE));
        let mut visits = match newer {
            // To git no number of commits is no limit.
            0 => Vec::new(),
            newer => repository.history(None, tip, 0, newer, DEADLINE)?,
        };
        visits.extend(older.join().expect("reading a history does not panic")?);
        Ok(visits)
    })
}

/// Brings the stored dates up to date with `visits` and returns how many changed; `stored` and
/// `present` are the dates and the records that are there now, of those touched at least.
pub(crate) fn put(
    transaction: &Transaction<'_>,
    visits: &[Visit],
    stored: &BTreeMap<CveId, Dates>,
    present: &BTreeSet<CveId>,
) -> Result<usize, StoreError> {
    let Some(oldest) = visits.last() else {
        return Ok(0);
    };
    let mut rows = Vec::new();
    for (cve, dates) in learn(visits, stored, present, instant(oldest)) {
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

/// What the history said so far of one record.
struct Course {
    dates: Dates,
    /// Whether nothing seen so far means that it was published before.
    is_new: bool,
    /// Whether its `.json` was seen to come into `rejected`.
    was_rejected: bool,
    /// Whether any file of it was seen in `rejected`.
    in_rejected: bool,
}

/// What one commit did to one record.
#[derive(Default)]
struct Step {
    /// Its `.json` came into `published`.
    came: bool,
    /// Its `.json` came into `rejected`.
    was_rejected: bool,
    /// Its `.json` in `rejected`, which lay there before, was changed or went.
    touched_rejected: bool,
    /// Its `.json` in `published`, which lay there before, was changed or went.
    touched_published: bool,
    /// Any file of it in `rejected` was touched.
    in_rejected: bool,
}

fn step(visit: &Visit) -> BTreeMap<CveId, Step> {
    let mut steps: BTreeMap<CveId, Step> = BTreeMap::new();
    for (touch, path) in &visit.touched {
        let Some(place) = tree::place(path).filter(tree::Place::is_read) else {
            continue;
        };
        let step = steps.entry(place.id).or_default();
        let is_json = place.suffix == ".json";
        step.in_rejected |= place.state == State::Rejected;
        match (place.state, touch) {
            (State::Published, Touch::Added) => step.came |= is_json,
            (State::Published, Touch::Changed | Touch::Removed) => {
                step.touched_published |= is_json;
            }
            (State::Rejected, Touch::Added) => step.was_rejected |= is_json,
            (State::Rejected, Touch::Changed | Touch::Removed) => step.touched_rejected |= is_json,
        }
    }
    steps
}

/// Works out the dates of every record that was touched, or is there and has none: it was there when
/// the history at hand begins.
fn learn(
    visits: &[Visit],
    stored: &BTreeMap<CveId, Dates>,
    present: &BTreeSet<CveId>,
    oldest: UtcSeconds,
) -> BTreeMap<CveId, Dates> {
    let mut courses: BTreeMap<CveId, Course> = BTreeMap::new();
    for visit in visits.iter().rev() {
        let time = instant(visit);
        for (cve, step) in step(visit) {
            let known = stored.get(&cve);
            let course = courses.entry(cve).or_insert_with(|| Course {
                dates: Dates {
                    published: known.map_or(Published::By(oldest), |dates| dates.published),
                    changed: known.map_or(time, |dates| dates.changed),
                },
                is_new: known.is_none(),
                was_rejected: false,
                in_rejected: false,
            });
            course.dates.changed = course.dates.changed.max(time);
            // What lay in `rejected` before the history at hand was published before, most likely.
            let came_back = step.touched_rejected && !course.was_rejected;
            // Files beside the `.json` may come days before it, and say nothing.
            let was_there = came_back || step.touched_published;
            if course.is_new && step.came && !came_back {
                course.dates.published = if visit.is_beginning {
                    Published::By(time)
                } else {
                    Published::At(time)
                };
            }
            course.is_new &= !step.came && !was_there && !visit.is_beginning;
            course.was_rejected |= step.was_rejected;
            course.in_rejected |= step.in_rejected;
        }
    }
    // Of files that are no record yet nothing is kept: the record may come in a later history.
    courses.retain(|cve, course| !course.is_new || course.in_rejected || present.contains(cve));
    let mut learnt: BTreeMap<CveId, Dates> = courses
        .into_iter()
        .map(|(cve, course)| (cve, course.dates))
        .collect();
    for cve in present {
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
    fn files_that_come_before_the_record_do_not_date_it() {
        let added = |path| (Touch::Added, path);
        let removed = |path| (Touch::Removed, path);
        let visits = [
            visit(
                60,
                false,
                &[
                    added("published/2024/CVE-2024-1004.json"),
                    removed("rejected/2024/CVE-2024-1004.json"),
                ],
            ),
            visit(50, false, &[added("published/2024/CVE-2024-1003.json")]),
            visit(
                40,
                false,
                &[
                    added("published/2024/CVE-2024-1000.json"),
                    removed("rejected/2024/CVE-2024-1000.json"),
                    added("published/2024/CVE-2024-1001.json"),
                    (Touch::Changed, "published/2024/CVE-2024-1001.sha1"),
                    added("published/2024/CVE-2024-1005.json"),
                    removed("published/2024/CVE-2024-1003.json"),
                ],
            ),
            visit(
                30,
                false,
                &[
                    added("rejected/2024/CVE-2024-1000.json"),
                    added("published/2024/CVE-2024-1001.sha1"),
                    added("published/2024/CVE-2024-1001.dyad"),
                    (Touch::Changed, "published/2024/CVE-2024-1005.sha1"),
                    added("published/2024/CVE-2024-1002.cvss"),
                    added("published/2024/CVE-2024-1003.cvss"),
                    added("rejected/2024/CVE-2024-1004.mbox.rejected"),
                ],
            ),
            visit(
                25,
                false,
                &[
                    added("published/2024/CVE-2024-1005.sha1"),
                    (Touch::Changed, "rejected/2024/CVE-2024-1006.mbox.rejected"),
                ],
            ),
            visit(20, false, &[added("published/2024/CVE-2024-1009.json")]),
        ];
        check(
            &visits,
            &[],
            &[
                // Rejected at first, and published then.
                ("CVE-2024-1000", Published::At(at(40)), 40),
                ("CVE-2024-1001", Published::At(at(40)), 40),
                // These were there before, whatever came first in this history.
                ("CVE-2024-1002", Published::By(at(20)), 30),
                ("CVE-2024-1003", Published::By(at(20)), 50),
                ("CVE-2024-1004", Published::By(at(20)), 60),
                ("CVE-2024-1005", Published::At(at(40)), 40),
                ("CVE-2024-1006", Published::By(at(20)), 25),
                ("CVE-2024-1009", Published::At(at(20)), 20),
            ],
        );
    }

    #[test]
    fn files_that_are_no_record_yet_have_no_dates() {
        let early = [visit(
            30,
            false,
            &[(Touch::Added, "published/2024/CVE-2024-1000.dyad")],
        )];
        let learnt = learn(&early, &BTreeMap::new(), &BTreeSet::new(), at(30));
        assert_eq!(learnt, BTreeMap::new());
        let late = [visit(
            40,
            false,
            &[(Touch::Added, "published/2024/CVE-2024-1000.json")],
        )];
        check(&late, &[], &[("CVE-2024-1000", Published::At(at(40)), 40)]);
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
