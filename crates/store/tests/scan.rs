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

use feed::Feed;
use stores::stores;
use tuxtape_core::cve::State;
use tuxtape_core::git_id::GitId;
use tuxtape_store::scan::{Options, Report, ScanError, scan};
use tuxtape_store::{Location, Store, Stored};
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
