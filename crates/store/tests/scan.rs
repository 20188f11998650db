//! Scans of small feeds: what comes in, what is refused, and what stays.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic and skip aloud"
)]

#[path = "support/feed.rs"]
mod feed;
#[path = "support/stores.rs"]
mod stores;

use std::process::Command;
use std::time::{Duration, Instant};

use feed::Feed;
use stores::stores;
use tuxtape_core::cve::State;
use tuxtape_core::git_id::GitId;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::span::Horizons;
use tuxtape_store::history::Change;
use tuxtape_store::scan::{Options, Report, ScanError, read_dates, scan};
use tuxtape_store::{Dates, Location, Published, Store, Stored, horizons};
use tuxtape_sys::git::{BranchName, Repository};

fn options() -> Options {
    Options {
        source: "feed".to_owned(),
        branch: BranchName::new("master").unwrap(),
        allow_rewind: false,
        force_shrink: false,
    }
}

fn run_with(location: &Location, feed: &Feed, options: &Options) -> Result<Report, ScanError> {
    let repository = Repository::open(&feed.folder).unwrap();
    scan(&Store::open(location).unwrap(), &repository, options)
}

fn run(location: &Location, feed: &Feed) -> Result<Report, ScanError> {
    run_with(location, feed, &options())
}

/// Everything in the store but which scan brought it.
fn content(location: &Location) -> (Vec<Stored>, Vec<(String, String)>) {
    let store = Store::open_existing(location).unwrap();
    let mut records = store.records().unwrap();
    for record in &mut records {
        record.commit = GitId::from_bytes([0; 20]);
    }
    let skipped = store.skipped().unwrap();
    let skipped = skipped.into_iter().map(|(id, why)| (id.to_string(), why));
    (records, skipped.collect())
}

fn record(location: &Location, number: u32) -> Option<Stored> {
    let id = format!("CVE-2024-{number}").parse().unwrap();
    Store::open_existing(location).unwrap().cve(id).unwrap()
}

#[test]
fn a_source_is_kept_without_its_password() {
    for fresh in stores() {
        let feed = Feed::new(fresh.folder.path(), 3);
        let options = Options {
            source: "https://bot:hunter2@example.org/feed.git".to_owned(),
            ..options()
        };
        run_with(&fresh.location, &feed, &options).unwrap();
        let store = Store::open_existing(&fresh.location).unwrap();
        let kept = store.feed().unwrap().unwrap();
        assert_eq!(kept.source, "https://example.org/feed.git");
    }
}

#[test]
fn a_scan_takes_everything_in_and_a_second_writes_nothing() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let feed = Feed::new(folder.path(), 20);
        let report = run(&fresh.location, &feed).unwrap();
        assert_eq!(
            (report.published, report.added, report.changed),
            (20, 20, 0)
        );
        assert_eq!(report.commit.id.to_string(), feed.tip());
        assert_eq!(report.commit.time, 1_700_000_001);
        assert_eq!(report.skipped, [], "{}", fresh.name);
        assert_eq!(report.doubtful, []);
        assert!(report.rows > 0);
        let horizons: Vec<String> = report
            .horizons
            .iter()
            .map(|(_, version)| version.to_string())
            .collect();
        assert_eq!(horizons, ["5.10", "6.1.20", "6.3"]);
        let stored = record(&fresh.location, 1007).unwrap();
        assert_eq!(stored.cve.title, "net: fix 1007");
        assert_eq!(stored.cve.files, ["net/1007.c"]);
        assert_eq!(stored.cve.spans.len(), 2);
        assert_eq!(stored.commit.to_string(), feed.tip());

        let report = run(&fresh.location, &feed).unwrap();
        assert_eq!(
            (report.rows, report.added, report.changed, report.removed),
            (0, 0, 0, 0)
        );
    }
}

#[test]
fn increments_end_in_the_same_store_as_one_scan_of_the_tip() {
    for (fresh, another) in stores().into_iter().zip(stores()) {
        let folder = &fresh.folder;
        let step = &fresh.location;
        let mut feed = Feed::new(folder.path(), 40);
        run(step, &feed).unwrap();

        feed.publish(1003, "6.1.30");
        feed.publish(1900, "6.1.31");
        feed.move_record(1004, "published", "rejected");
        feed.drop_record(1005);
        feed.commit();
        let report = run(step, &feed).unwrap();
        assert_eq!((report.added, report.changed, report.removed), (1, 2, 1));
        assert_eq!((report.published, report.rejected), (39, 1));
        assert_eq!(record(step, 1003).unwrap().commit.to_string(), feed.tip());
        assert_ne!(record(step, 1002).unwrap().commit.to_string(), feed.tip());

        feed.move_record(1004, "rejected", "published");
        feed.publish(1003, "6.1.20");
        feed.commit();
        let report = run(step, &feed).unwrap();
        assert_eq!((report.added, report.changed, report.removed), (0, 2, 0));

        let whole = &another.location;
        run(whole, &feed).unwrap();
        assert_eq!(content(step), content(whole));
    }
}

#[test]
fn a_rejection_is_seen_although_no_byte_changed() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 20);
        run(&fresh.location, &feed).unwrap();
        feed.move_record(1004, "published", "rejected");
        feed.files.insert(
            "cve/rejected/2024/CVE-2024-1004.mbox.rejected".to_owned(),
            b"Subject: REJECTED\n\nno bug after all\n".to_vec(),
        );
        feed.commit();
        run(&fresh.location, &feed).unwrap();
        let stored = record(&fresh.location, 1004).unwrap();
        assert_eq!(stored.cve.state, State::Rejected);
        assert_eq!(stored.cve.rejection.as_deref(), Some("no bug after all"));
        assert_eq!(stored.cve.spans, []);
    }
}

#[test]
fn a_broken_record_is_named_and_its_last_good_edition_stays() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 250);
        run(&fresh.location, &feed).unwrap();
        feed.publish(1003, "6.1.30");
        feed.files.insert(
            "cve/published/2024/CVE-2024-1003.dyad".to_owned(),
            b"5.10:x:0\n".to_vec(),
        );
        feed.files.insert(
            "cve/published/2024/CVE-2024-1900.json".to_owned(),
            b"{".to_vec(),
        );
        feed.files.insert(
            "cve/published/2024/CVE-2024-1900.dyad".to_owned(),
            feed.files["cve/published/2024/CVE-2024-1001.dyad"].clone(),
        );
        feed.publish(1004, "6.1.30");
        feed.commit();
        let report = run(&fresh.location, &feed).unwrap();
        let skipped: Vec<String> = report
            .skipped
            .iter()
            .map(|it| format!("{} {} {}", it.id, it.why, it.kept))
            .collect();
        assert_eq!(
            skipped,
            [
                "CVE-2024-1003 .dyad: line 1: 3 fields instead of 4 true",
                "CVE-2024-1900 .json: EOF while parsing an object at line 1 column 1 false",
            ]
        );
        let stored = record(&fresh.location, 1003).unwrap();
        assert_eq!(stored.cve.spans[0].to_string(), "5.10 → 6.1.20");
        assert_eq!(
            stored.stale.as_deref(),
            Some(".dyad: line 1: 3 fields instead of 4")
        );
        assert!(record(&fresh.location, 1900).is_none());
        // All others went in.
        assert_eq!(
            record(&fresh.location, 1004).unwrap().cve.spans[0].to_string(),
            "5.10 → 6.1.30"
        );
        assert_eq!(run(&fresh.location, &feed).unwrap().rows, 0);

        feed.publish(1003, "6.1.30");
        feed.drop_record(1900);
        feed.commit();
        assert_eq!(run(&fresh.location, &feed).unwrap().skipped, []);
        assert_eq!(record(&fresh.location, 1003).unwrap().stale, None);
    }
}

#[test]
fn more_than_one_bad_record_in_a_hundred_is_refused() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 100);
        run(&fresh.location, &feed).unwrap();
        let before = content(&fresh.location);
        feed.publish(1007, "6.1.30");
        for number in [1001, 1002] {
            feed.files.insert(
                format!("cve/published/2024/CVE-2024-{number}.json"),
                b"{}".to_vec(),
            );
        }
        feed.commit();
        let error = run(&fresh.location, &feed).unwrap_err();
        assert!(error.to_string().starts_with("the feed looks damaged: 2 of 100 records cannot be read, the first CVE-2024-1001: .json:"), "{error}");
        assert_eq!(content(&fresh.location), before);

        let forced = Options {
            force_shrink: true,
            ..options()
        };
        assert_eq!(
            run_with(&fresh.location, &feed, &forced)
                .unwrap()
                .skipped
                .len(),
            2
        );
    }
}

#[test]
fn the_loss_of_more_than_one_record_in_twenty_is_refused() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 100);
        run(&fresh.location, &feed).unwrap();
        let before = content(&fresh.location);
        for number in 1000..1006 {
            feed.drop_record(number);
        }
        feed.commit();
        let error = run(&fresh.location, &feed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the feed looks damaged: 94 published records, 100 before"
        );
        assert_eq!(content(&fresh.location), before);
        let forced = Options {
            force_shrink: true,
            ..options()
        };
        assert_eq!(
            run_with(&fresh.location, &feed, &forced).unwrap().removed,
            6
        );
        feed.drop_record(1010);
        feed.commit();
        assert_eq!(run(&fresh.location, &feed).unwrap().removed, 1);
    }
}

#[test]
fn a_feed_that_went_back_or_was_rewritten_is_refused() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 20);
        let old = feed.tip();
        feed.publish(1003, "6.1.30");
        feed.commit();
        let new = feed.tip();
        run(&fresh.location, &feed).unwrap();
        let before = content(&fresh.location);

        feed.reset(&old);
        let error = run(&fresh.location, &feed).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the feed is older than the last scan: stored {new}, tip {old}")
        );
        assert_eq!(content(&fresh.location), before);

        feed.publish(1004, "6.1.31");
        feed.commit();
        let error = run(&fresh.location, &feed).unwrap_err();
        assert!(matches!(error, ScanError::Rewritten { .. }), "{error}");
        // Another repository, which does not have the stored commit at all.
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Feed::new(elsewhere.path(), 21);
        let error = run(&fresh.location, &other).unwrap_err();
        assert!(matches!(error, ScanError::Rewritten { .. }), "{error}");
        assert_eq!(content(&fresh.location), before);

        let allowed = Options {
            allow_rewind: true,
            ..options()
        };
        assert_eq!(
            run_with(&fresh.location, &feed, &allowed).unwrap().changed,
            1
        );
    }
}

#[test]
fn a_repository_without_records_is_no_feed() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 20);
        run(&fresh.location, &feed).unwrap();
        let before = content(&fresh.location);
        feed.files.clear();
        feed.files.insert("README".to_owned(), b"hello".to_vec());
        feed.commit();
        let error = run(&fresh.location, &feed).unwrap_err();
        assert!(
            error.to_string().starts_with("feed is not the CVE feed"),
            "{error}"
        );
        let missing = Options {
            branch: BranchName::new("main").unwrap(),
            ..options()
        };
        let error = run_with(&fresh.location, &feed, &missing).unwrap_err();
        assert!(error.to_string().ends_with("has no branch main"), "{error}");
        assert_eq!(content(&fresh.location), before);
    }
}

#[test]
fn a_record_in_two_folders_or_that_contradicts_itself_is_doubted() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 20);
        let json = feed.files["cve/published/2024/CVE-2024-1003.json"].clone();
        feed.files
            .insert("cve/rejected/2024/CVE-2024-1003.json".to_owned(), json);
        let dyad = &feed.files["cve/published/2024/CVE-2024-1004.dyad"];
        let dyad = String::from_utf8(dyad.clone())
            .unwrap()
            .replace("6.1.20", "6.1.25");
        feed.files.insert(
            "cve/published/2024/CVE-2024-1004.dyad".to_owned(),
            dyad.into_bytes(),
        );
        feed.commit();
        let doubtful = run(&fresh.location, &feed).unwrap().doubtful;
        let texts: Vec<String> = doubtful
            .iter()
            .map(|(id, why)| format!("{id}: {why}"))
            .collect();
        assert_eq!(
            texts,
            [
                "CVE-2024-1003: the record lies in cve/published and in cve/rejected",
                "CVE-2024-1004: from 6.1.20 on .dyad and .json disagree",
            ]
        );
        // Gone as soon as the second copy is, although the published files are the same.
        feed.files.remove("cve/rejected/2024/CVE-2024-1003.json");
        feed.commit();
        assert_eq!(run(&fresh.location, &feed).unwrap().doubtful.len(), 1);
    }
}

#[test]
fn a_record_that_contradicts_itself_moves_no_horizon() {
    for fresh in stores() {
        let mut feed = Feed::new(fresh.folder.path(), 20);
        // One file alone with a line of its own: the readings differ. Both lines in both, but the
        // span ends before it begins: the record is doubted as a whole.
        let dyad = feed
            .files
            .get_mut("cve/published/2024/CVE-2024-1003.dyad")
            .unwrap();
        let (bug, fix) = ("a".repeat(40), "b".repeat(40));
        dyad.extend(format!("6.1:{bug}:6.1.999:{fix}\n").bytes());
        let dyad = feed
            .files
            .get_mut("cve/published/2024/CVE-2024-1004.dyad")
            .unwrap();
        dyad.extend(format!("6.1.998:{bug}:6.1.20:{fix}\n").bytes());
        feed.commit();
        let report = run(&fresh.location, &feed).unwrap();
        assert_eq!(report.doubtful.len(), 2, "{:?}", report.doubtful);

        let store = Store::open_existing(&fresh.location).unwrap();
        let base = "6.1.190".parse().unwrap();
        let known = "6.1.20".parse().unwrap();
        let lines = store.lines().unwrap();
        let mut of_records = Horizons::default();
        for stored in store.records().unwrap() {
            of_records.learn(stored.cve.certain_spans());
        }
        for horizons in [store.horizons().unwrap(), horizons(&lines), of_records] {
            assert_eq!(horizons.of(base), Some(known), "{}", fresh.name);
            assert!(horizons.is_beyond(base));
        }
    }
}

#[test]
fn a_huge_file_is_skipped_with_the_limit_named() {
    for fresh in stores() {
        let folder = &fresh.folder;
        let mut feed = Feed::new(folder.path(), 120);
        feed.files.insert(
            "cve/published/2024/CVE-2024-1003.json".to_owned(),
            vec![b' '; 5 << 20],
        );
        feed.commit();
        let report = run(&fresh.location, &feed).unwrap();
        assert_eq!(
            report.skipped[0].why,
            ".json: 5242880 bytes, more than the limit of 4194304"
        );
        assert_eq!(report.published, 119);
    }
}

#[test]
fn changes_are_told_and_kept_as_history() {
    for fresh in stores() {
        let mut feed = Feed::new(fresh.folder.path(), 40);
        let report = run(&fresh.location, &feed).unwrap();
        assert!(report.is_first);
        assert_eq!(report.changes.len(), 40);
        let store = Store::open(&fresh.location).unwrap();
        // Everything is new, and nothing is news.
        assert_eq!(store.history(0).unwrap(), []);

        let json = |number| format!("cve/published/2024/CVE-2024-{number}.json");
        feed.publish(1003, "6.1.30");
        feed.move_record(1004, "published", "rejected");
        feed.drop_record(1005);
        let text = String::from_utf8(feed.files[&json(1006)].clone()).unwrap();
        let text = text.replace("net: fix", "net: mend");
        feed.files.insert(json(1006), text.into_bytes());
        let copy = feed.files[&json(1007)].clone();
        feed.files
            .insert("cve/rejected/2024/CVE-2024-1007.json".to_owned(), copy);
        // An announcement is no part of the record.
        feed.files.insert(
            "cve/published/2024/CVE-2024-1008.mbox".to_owned(),
            b"x".to_vec(),
        );
        feed.publish(1900, "6.1.31");
        feed.publish(1901, "6.1.31");
        feed.move_record(1901, "published", "rejected");
        feed.commit();
        let report = run(&fresh.location, &feed).unwrap();
        let told: Vec<(u32, Change)> = report
            .changes
            .iter()
            .map(|(id, change)| (id.number(), *change))
            .collect();
        assert_eq!(
            told,
            [
                (1003, Change::Spans),
                (1004, Change::Rejected),
                (1005, Change::Removed),
                (1006, Change::Changed),
                (1007, Change::Moved),
                (1900, Change::Added),
                (1901, Change::AddedRejected),
            ],
            "{}",
            fresh.name
        );
        assert!(!report.is_first);
        let history = store.history(0).unwrap();
        let kept: Vec<(u32, Change)> = history
            .iter()
            .map(|event| (event.cve.number(), event.change))
            .collect();
        assert_eq!(kept, told);
        assert_eq!(history[0].commit.to_string(), feed.tip());
        assert_eq!(history[0].time, UtcSeconds::from_unix(1_700_000_002));

        feed.move_record(1004, "rejected", "published");
        feed.commit();
        run(&fresh.location, &feed).unwrap();
        let last = history.last().unwrap().sequence;
        assert_eq!(store.history(last).unwrap()[0].change, Change::Reinstated);
        let of: Vec<Change> = store
            .history_of("CVE-2024-1004".parse().unwrap())
            .unwrap()
            .iter()
            .map(|event| event.change)
            .collect();
        assert_eq!(of, [Change::Rejected, Change::Reinstated]);
    }
}

#[test]
fn dates_come_from_the_feeds_history() {
    for fresh in stores() {
        let mut feed = Feed::new(fresh.folder.path(), 20);
        let at = |commit: u64| UtcSeconds::from_unix(1_700_000_000 + commit);
        feed.publish(1900, "6.1.31");
        feed.commit();
        feed.publish(1003, "6.1.30");
        feed.commit();
        let read = |feed: &Feed| {
            run(&fresh.location, feed).unwrap();
            let store = Store::open(&fresh.location).unwrap();
            read_dates(&store, &Repository::open(&feed.folder).unwrap()).unwrap()
        };
        assert_eq!(record_dates(&fresh.location, 1003), None);
        assert_eq!(read(&feed), 21, "{}", fresh.name);
        assert_eq!(read(&feed), 0);
        let dates = |published, changed| Some(Dates { published, changed });
        let of = |number| record_dates(&fresh.location, number);
        // Of what the first commit has, nobody knows how old it was then.
        assert_eq!(of(1000), dates(Published::By(at(1)), at(1)));
        assert_eq!(of(1003), dates(Published::By(at(1)), at(3)));
        assert_eq!(of(1900), dates(Published::At(at(2)), at(2)));

        feed.publish(1901, "6.1.31");
        feed.move_record(1900, "published", "rejected");
        feed.commit();
        assert_eq!(read(&feed), 2);
        assert_eq!(of(1900), dates(Published::At(at(2)), at(4)));
        assert_eq!(of(1901), dates(Published::At(at(4)), at(4)));
        assert_eq!(of(1003), dates(Published::By(at(1)), at(3)));
    }
}

fn record_dates(location: &Location, number: u32) -> Option<Dates> {
    // Before the first scan there is no store.
    let store = Store::open(location).unwrap();
    let id = format!("CVE-2024-{number}").parse().unwrap();
    store.cve(id).unwrap()?.dates
}

#[test]
fn the_files_beside_a_record_are_part_of_its_edition() {
    for fresh in stores() {
        let mut feed = Feed::new(fresh.folder.path(), 20);
        run(&fresh.location, &feed).unwrap();
        let top = "cve/published/2024/CVE-2024-1003";
        let fix = "3".repeat(40);
        feed.files.insert(
            format!("{top}.reference"),
            b"https://example.org/1\njavascript:alert(1)\n".to_vec(),
        );
        feed.files
            .insert(format!("{top}.sha1"), format!("{fix}\n").into_bytes());
        feed.commit();
        let report = run(&fresh.location, &feed).unwrap();
        assert_eq!((report.changed, report.skipped.len()), (1, 0));
        let cve = record(&fresh.location, 1003).unwrap().cve;
        assert_eq!(cve.references, ["https://example.org/1"], "{}", fresh.name);
        assert_eq!(cve.mainline_fixes[0].to_string(), fix);
        feed.files.remove(&format!("{top}.reference"));
        feed.commit();
        run(&fresh.location, &feed).unwrap();
        let cve = record(&fresh.location, 1003).unwrap().cve;
        assert_eq!(cve.references, Vec::<String>::new());
    }
}

#[test]
fn every_kind_of_bad_record_is_named_and_holds_up_no_other() {
    type Spoil = fn(&mut Feed, &str);
    fn json(feed: &mut Feed, top: &str, from: &str, to: &str) {
        let name = format!("{top}.json");
        let text = String::from_utf8(feed.files[&name].clone()).unwrap();
        assert!(text.contains(from));
        feed.files.insert(name, text.replace(from, to).into_bytes());
    }
    let cases: [(Spoil, &str); 7] = [
        (
            |feed, top| {
                json(
                    feed,
                    top,
                    "CVE_RECORD\"",
                    "CVE_RECORD\",\"dataVersion\":\"6.0\"",
                );
            },
            ".json: dataVersion is \"6.0\", and only 5 is known",
        ),
        (
            |feed, top| json(feed, top, "net/1003.c", "../../etc/passwd"),
            ".json: programFiles holds \"../../etc/passwd\", which is no path in the kernel tree",
        ),
        (
            |feed, top| {
                let bytes = b"{\"dataType\":\"\xff\xfe\"}".to_vec();
                feed.files.insert(format!("{top}.json"), bytes);
            },
            ".json: invalid unicode code point at line 1 column 14",
        ),
        (
            |feed, top| {
                let line = format!("99999.1:{0}:6.3:{0}\n", "1".repeat(40));
                feed.files.insert(format!("{top}.dyad"), line.into_bytes());
            },
            ".dyad: line 1: \"99999.1\" is no upstream kernel version (want a form such as 6.1.170, 6.11, 6.17-rc3 or 2.6.32.71)",
        ),
        (
            |feed, top| {
                let bytes = "[".repeat(200_000).into_bytes();
                feed.files.insert(format!("{top}.json"), bytes);
            },
            ".json: invalid type: sequence, expected a string at line 1 column 1",
        ),
        (
            |feed, top| {
                feed.files
                    .insert(format!("{top}.json"), vec![b' '; 100 << 20]);
            },
            ".json: 104857600 bytes, more than the limit of 4194304",
        ),
        (
            |feed, top| {
                feed.files.remove(&format!("{top}.dyad"));
            },
            ".dyad: missing",
        ),
    ];
    let fresh = stores().swap_remove(0);
    let mut feed = Feed::new(fresh.folder.path(), 110);
    run(&fresh.location, &feed).unwrap();
    for (spoil, why) in cases {
        feed.publish(1003, "6.1.30");
        spoil(&mut feed, "cve/published/2024/CVE-2024-1003");
        feed.publish(1004, "6.1.20");
        feed.commit();
        let report = run(&fresh.location, &feed).unwrap();
        assert_eq!(report.skipped.len(), 1, "{why}");
        assert_eq!(report.skipped[0].id.number(), 1003);
        assert_eq!(report.skipped[0].why, why);
        assert!(report.skipped[0].kept);
        let kept = record(&fresh.location, 1003).unwrap();
        assert_eq!(kept.cve.spans[0].to_string(), "5.10 → 6.1.20");
        assert_eq!(kept.stale.as_deref(), Some(why));
    }
}

const CHILD: &str = "TUXTAPE_TEST_SCAN";

/// Not a test of its own: the scan that others kill.
#[test]
fn child_scans() {
    let Ok(words) = std::env::var(CHILD) else {
        return;
    };
    let (location, folder) = words.split_once(' ').unwrap();
    let repository = Repository::open(folder.as_ref()).unwrap();
    let store = Store::open(&Location::parse(location).unwrap()).unwrap();
    scan(&store, &repository, &options()).unwrap();
}

#[test]
fn a_scan_killed_at_any_moment_leaves_the_old_state_or_the_new() {
    for (fresh, another) in stores().into_iter().zip(stores()) {
        let mut feed = Feed::new(fresh.folder.path(), 300);
        run(&fresh.location, &feed).unwrap();
        let dump = |location: &Location| Store::open(location).unwrap().dump().unwrap();
        let mut was = dump(&fresh.location);
        let (mut old, mut new) = (0, 0);
        for round in 0..12 {
            for number in 1000..1200 {
                feed.publish(number, &format!("6.1.{}", 30 + round));
            }
            feed.commit();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_scans"])
                .env(CHILD, format!("{} {}", fresh.text, feed.folder.display()))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            // No synchronisation: the point is that the moment does not matter.
            std::thread::sleep(Duration::from_millis(40 * (round + 1)));
            child.kill().unwrap();
            child.wait().unwrap();
            let after = dump(&fresh.location);
            run(&fresh.location, &feed).unwrap();
            let now = dump(&fresh.location);
            *(if after == was {
                &mut old
            } else if after == now {
                &mut new
            } else {
                panic!("{}: neither the old state nor the new", fresh.name);
            }) += 1;
            was = now;
        }
        eprintln!(
            "{}: {old} times the old state, {new} times the new",
            fresh.name
        );
        run(&another.location, &feed).unwrap();
        assert!(was == dump(&another.location), "{}", fresh.name);
    }
}

struct Unmount<'p>(&'p std::path::Path);
impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

/// Opens a store on a disk that is just getting room again.
///
/// The log of the failed scan is removed, but a program that another test is starting at this moment
/// holds a copy of its descriptor until it runs, and with it the room.
fn open_soon(location: &Location) -> Store {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Store::open(location) {
            Ok(store) => return store,
            Err(error) if Instant::now() > deadline => panic!("{error:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1200k", "tmpfs"])
        .arg(&disk)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: may not mount a small disk");
        return;
    }
    let _unmount = Unmount(&disk);
    let location = Location::below(&disk);
    let mut feed = Feed::new(folder.path(), 20);
    run(&location, &feed).unwrap();
    let before = Store::open(&location).unwrap().dump().unwrap();
    for number in 1100..3000 {
        feed.publish(number, "6.1.20");
    }
    feed.commit();
    let error = run(&location, &feed).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "database or disk is full", "{error}");
    assert!(open_soon(&location).dump().unwrap() == before);
    // With less to take in, it goes on.
    for number in 1110..3000 {
        feed.drop_record(number);
    }
    feed.commit();
    assert_eq!(run(&location, &feed).unwrap().added, 10);
}
