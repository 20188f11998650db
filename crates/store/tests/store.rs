//! What the store keeps besides the feed's records, on every engine there is here.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panic and skip aloud"
)]

#[path = "support/stores.rs"]
mod stores;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stores::stores;
use tuxtape_core::cve::{CveId, Score};
use tuxtape_core::decision::{Choice, Decision};
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::notice::{Notice, NoticeKind};
use tuxtape_core::signals::{
    Batch, Epss, Exploit, Exploitation, Kev, OutsideScore, PartsPerMillion, Signal, Signals,
    Source, Ssvc,
};
use tuxtape_store::outbox::{DeliveryState, OutboxError};
use tuxtape_store::signals::{Older, SignalsError};
use tuxtape_store::{Location, Lock, Store, StoreError};

fn cve(number: u32) -> CveId {
    CveId::new(2024, number).unwrap()
}

fn at(seconds: u64) -> UtcSeconds {
    UtcSeconds::from_unix(seconds)
}

fn epss(parts: u32) -> Signal {
    Signal::Epss(Epss {
        probability: PartsPerMillion::new(parts).unwrap(),
        percentile: PartsPerMillion::new(parts).unwrap(),
    })
}

fn kev(product: &str) -> Signal {
    Signal::Kev(Kev {
        added: at(7),
        product: product.to_owned(),
        ransomware: true,
    })
}

fn dates_of(dated: u64, numbers: impl IntoIterator<Item = u32>) -> BTreeMap<CveId, UtcSeconds> {
    let numbers = numbers.into_iter();
    numbers.map(|number| (cve(number), at(dated))).collect()
}

fn batch(source: Source, dated: u64, complete: bool, rows: &[(u32, Signal)]) -> Batch {
    Batch {
        source,
        dated: Some(at(dated)),
        complete,
        rows: rows
            .iter()
            .map(|(number, signal)| (cve(*number), signal.clone()))
            .collect(),
        named: rows.iter().map(|(number, _)| cve(*number)).collect(),
        updated: dates_of(dated, rows.iter().map(|(number, _)| *number)),
    }
}

#[test]
fn every_kind_of_signal_survives_the_round_trip() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let ssvc = Ssvc {
            exploitation: Exploitation::Poc,
            automatable: true,
            total: false,
        };
        let score = OutsideScore {
            source: Source::Adp,
            vector: "CVSS:3.1/AV:L".to_owned(),
            score: Score::from_tenths(78).unwrap(),
        };
        let exploit = Exploit {
            name: "CVE-2024-1000_lts".to_owned(),
            requirements: vec!["userns".to_owned()],
        };
        let rows = [
            (1000, Signal::Ssvc(ssvc)),
            (1000, Signal::Score(score.clone())),
            (1000, kev("ADP says")),
            (1000, epss(3)),
        ];
        let put = |batch: &Batch| store.put_signals(batch, "file", at(50), Older::Refuse);
        assert_eq!(put(&batch(Source::Adp, 1, false, &rows)).unwrap().rows, 4);
        let rows = [(1000, kev("Kernel")), (2000, kev("Windows"))];
        put(&batch(Source::Kev, 2, true, &rows)).unwrap();
        let rows = [(1000, epss(1)), (1000, epss(9)), (2000, epss(2))];
        let taken = put(&batch(Source::Epss, 3, true, &rows)).unwrap();
        assert_eq!((taken.rows, taken.without_record), (2, 2));
        let rows = [(1000, Signal::Exploit(exploit.clone()))];
        put(&batch(Source::Exploits, 4, true, &rows)).unwrap();

        let signals = store.signals_of(cve(1000)).unwrap();
        assert_eq!(signals.ssvc, Some(ssvc), "{}", fresh.name);
        assert_eq!(signals.scores, [score]);
        assert_eq!(signals.exploits, [exploit]);
        assert_eq!(signals.epss.unwrap().probability.get(), 9);
        // The catalogue's own row goes before what others say of it.
        assert_eq!(signals.kev.unwrap().product, "Kernel");
        assert_eq!(store.signals_of(cve(3000)).unwrap(), Signals::default());
        // None of them has a record.
        assert!(store.signals().unwrap().is_empty());
        let orphans: Vec<String> = store
            .orphans()
            .unwrap()
            .iter()
            .map(|orphan| format!("{} {}", orphan.cve, orphan.source.as_str()))
            .collect();
        assert_eq!(
            orphans,
            [
                "CVE-2024-1000 kev",
                "CVE-2024-1000 adp",
                "CVE-2024-1000 exploits",
                "CVE-2024-2000 kev"
            ]
        );
        let stamps: Vec<(Source, u64, u64)> = store
            .stamps()
            .unwrap()
            .iter()
            .map(|stamp| (stamp.source, stamp.dated.unwrap().unix(), stamp.rows))
            .collect();
        assert_eq!(
            stamps,
            [
                (Source::Kev, 2, 2),
                (Source::Epss, 3, 2),
                (Source::Adp, 1, 4),
                (Source::Exploits, 4, 1)
            ]
        );
    }
}

#[test]
fn a_complete_file_replaces_its_source_and_a_partial_one_what_it_names() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let put = |batch: &Batch| store.put_signals(batch, "file", at(50), Older::Refuse);
        let has = |number| store.signals_of(cve(number)).unwrap().kev.is_some();
        put(&batch(
            Source::Kev,
            1,
            true,
            &[(1, kev("a")), (2, kev("b"))],
        ))
        .unwrap();
        put(&batch(
            Source::Kev,
            2,
            true,
            &[(2, kev("b")), (3, kev("c"))],
        ))
        .unwrap();
        assert_eq!([has(1), has(2), has(3)], [false, true, true]);
        put(&batch(
            Source::Adp,
            1,
            false,
            &[(4, kev("d")), (5, kev("e"))],
        ))
        .unwrap();
        let mut page = batch(Source::Adp, 2, false, &[(4, kev("d"))]);
        page.named = vec![cve(4), cve(5)];
        page.updated = dates_of(2, [4, 5]);
        put(&page).unwrap();
        assert_eq!(
            [has(3), has(4), has(5)],
            [true, true, false],
            "{}",
            fresh.name
        );
    }
}

#[test]
fn older_data_is_refused_unless_asked_for() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let put = |batch: &Batch, older| store.put_signals(batch, "old.json", at(50), older);
        let has = |number| store.signals_of(cve(number)).unwrap().kev.is_some();
        put(
            &batch(Source::Kev, 20, true, &[(1, kev("a"))]),
            Older::Refuse,
        )
        .unwrap();
        let old = batch(Source::Kev, 10, true, &[]);
        let error = put(&old, Older::Refuse).unwrap_err();
        assert!(matches!(error, SignalsError::Older { .. }));
        assert_eq!(
            error.to_string(),
            "old.json is older than the KEV data in the store: 1970-01-01T00:00:10Z, stored 1970-01-01T00:00:20Z"
        );
        assert!(has(1), "{}", fresh.name);
        put(&old, Older::Accept).unwrap();
        assert!(!has(1));

        // Records of one source carry dates of their own.
        put(
            &batch(Source::Adp, 20, false, &[(2, kev("a"))]),
            Older::Refuse,
        )
        .unwrap();
        let mut page = batch(Source::Adp, 10, false, &[(3, kev("b"))]);
        page.named = vec![cve(2), cve(3)];
        page.updated = dates_of(10, [2, 3]);
        let taken = put(&page, Older::Refuse).unwrap();
        assert_eq!(taken.older, [cve(2)]);
        assert_eq!([has(2), has(3)], [true, true]);
        let stamps = store.stamps().unwrap();
        assert_eq!(stamps[1].dated, Some(at(20)));
        put(&page, Older::Accept).unwrap();
        assert_eq!([has(2), has(3)], [false, true]);
    }
}

#[test]
fn a_record_is_as_old_as_itself_not_as_its_neighbours() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let put = |batch: &Batch| store.put_signals(batch, "folder", at(50), Older::Refuse);
        let mut folder = batch(Source::Adp, 20, false, &[(2, kev("b"))]);
        folder.named = vec![cve(1), cve(2)];
        folder.updated.extend(dates_of(3, [1]));
        put(&folder).unwrap();
        let taken = put(&batch(Source::Adp, 10, false, &[(1, kev("a"))])).unwrap();
        assert_eq!((taken.rows, taken.older), (1, vec![]), "{}", fresh.name);
        assert!(store.signals_of(cve(1)).unwrap().kev.is_some());
        // The same file again changes nothing.
        assert_eq!(put(&folder).unwrap().older, [cve(1)]);
        assert!(store.signals_of(cve(1)).unwrap().kev.is_some());
    }
}

#[test]
fn a_record_without_a_date_takes_nothing_from_one_with_a_date() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let has = |number| store.signals_of(cve(number)).unwrap().kev.is_some();
        store
            .put_signals(
                &batch(Source::Adp, 0, false, &[(1, kev("a"))]),
                "dated",
                at(50),
                Older::Refuse,
            )
            .unwrap();
        let mut undated = batch(Source::Adp, 0, false, &[(2, kev("b"))]);
        (undated.dated, undated.updated) = (None, BTreeMap::new());
        store
            .put_signals(&undated, "undated", at(50), Older::Refuse)
            .unwrap();
        (undated.rows, undated.named) = (Vec::new(), vec![cve(1), cve(2)]);
        let put = |older| store.put_signals(&undated, "bare", at(50), older).unwrap();
        assert_eq!(put(Older::Refuse).older, [cve(1)], "{}", fresh.name);
        assert_eq!([has(1), has(2)], [true, false]);
        assert_eq!(put(Older::Accept).older, []);
        assert!(!has(1));
    }
}

#[test]
fn data_of_the_future_is_refused() {
    const DAY: u64 = 86_400;
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let put = |batch: &Batch, older| store.put_signals(batch, "kev.json", at(50), older);
        let catalogue = |dated| batch(Source::Kev, dated, true, &[(1, kev("a"))]);
        put(&catalogue(2 * DAY), Older::Refuse).unwrap();
        let mut record = batch(Source::Adp, 10, false, &[(2, kev("a"))]);
        record.updated = dates_of(3 * DAY, [2]);
        for older in [Older::Refuse, Older::Accept] {
            let error = put(&catalogue(3 * DAY), older).unwrap_err();
            assert_eq!(
                error.to_string(),
                "kev.json is dated 1970-01-04T00:00:00Z, and by this machine's clock it is 1970-01-01T00:00:50Z"
            );
            let error = put(&record, older).unwrap_err();
            assert!(matches!(error, SignalsError::Future { .. }), "{error}");
        }
        let stamps = store.stamps().unwrap();
        assert_eq!(stamps.len(), 1, "{}", fresh.name);
        assert_eq!(stamps[0].dated, Some(at(2 * DAY)));
    }
}

#[test]
fn a_catalogue_without_a_date_is_as_old_as_its_newest_addition() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let has = |number| store.signals_of(cve(number)).unwrap().kev.is_some();
        let added = |seconds| {
            Signal::Kev(Kev {
                added: at(seconds),
                product: "Kernel".to_owned(),
                ransomware: false,
            })
        };
        let put = |dated: Option<u64>, rows: &[(u32, Signal)], older| {
            let mut batch = batch(Source::Kev, 0, true, rows);
            batch.dated = dated.map(at);
            store.put_signals(&batch, "file", at(50), older)
        };
        // The JSON of a release, days after its newest addition; then its CSV twin.
        let rows = [(1, added(5)), (2, added(7))];
        put(Some(20), &rows, Older::Refuse).unwrap();
        put(None, &rows, Older::Refuse).unwrap();
        let held = store.stamps().unwrap();
        assert_eq!((held[0].dated, held[0].rows), (None, 2), "{}", fresh.name);
        // Neither form of an older release replaces it.
        for dated in [None, Some(6)] {
            let error = put(dated, &rows[..1], Older::Refuse).unwrap_err();
            assert!(matches!(error, SignalsError::Older { .. }), "{error}");
        }
        assert!(has(2));
        put(None, &rows[..1], Older::Accept).unwrap();
        assert!(!has(2));
        put(Some(20), &rows, Older::Refuse).unwrap();
        assert!(has(2));
    }
}

#[test]
fn decisions_stay_in_the_order_in_which_they_were_made() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        let decision = |number, choice, why: &str| Decision {
            cve: cve(number),
            kernel: (choice == Choice::Defer).then(|| "6.1.0-47-cloud-amd64".parse().unwrap()),
            choice,
            who: "ann".to_owned(),
            why: why.to_owned(),
            at: at(5),
            until: (choice == Choice::Ignore).then(|| at(9)),
        };
        let made = [
            decision(2, Choice::Ignore, "not built"),
            decision(1, Choice::Defer, "after the fair"),
            decision(2, Choice::Accept, "built after all"),
        ];
        for decision in &made {
            store.decide(decision).unwrap();
        }
        assert_eq!(store.decisions().unwrap(), made, "{}", fresh.name);
        assert_eq!(
            store.decisions_of(cve(2)).unwrap(),
            [made[0].clone(), made[2].clone()]
        );
        // A text that one engine cannot hold is kept alike by both.
        store.decide(&decision(3, Choice::Accept, "a\0b")).unwrap();
        assert_eq!(store.decisions_of(cve(3)).unwrap()[0].why, "ab");
    }
}

fn notice(key: &str, when: u64) -> Notice {
    Notice {
        key: key.to_owned(),
        kind: NoticeKind::Rejected,
        at: at(when),
        cve: Some(cve(1)),
        kernel: Some("6.1.0-47-cloud-amd64".parse().unwrap()),
        subject: "withdrawn".to_owned(),
        body: "CVE-2024-0001\nno bug".to_owned(),
    }
}

#[test]
fn a_notice_is_told_once_on_every_channel() {
    for fresh in stores() {
        let store = Store::open(&fresh.location).unwrap();
        store.open_channel("mail", at(0)).unwrap();
        assert_eq!(
            store
                .post(&[notice("a", 10), notice("b", 11)])
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            store.post(&[notice("b", 12), notice("c", 12)]).unwrap(),
            [notice("c", 12)]
        );
        let due = |channel: &str, now| -> Vec<(String, u64)> {
            let due = store.due(channel, at(now), 10).unwrap();
            due.into_iter()
                .map(|it| (it.notice.key, it.tries))
                .collect()
        };
        let keys = |keys: &[(&str, u64)]| -> Vec<(String, u64)> {
            keys.iter()
                .map(|(key, n)| ((*key).to_owned(), *n))
                .collect()
        };
        assert_eq!(due("mail", 20), keys(&[("a", 0), ("b", 0), ("c", 0)]));
        assert_eq!(
            store.due("mail", at(20), 1).unwrap()[0].notice,
            notice("a", 10)
        );
        assert_eq!(due("nowhere", 20), []);

        store.delivered("a", "mail", at(21)).unwrap();
        store.failed("b", "mail", at(30), "no route").unwrap();
        store.failed("c", "mail", at(25), "no route").unwrap();
        store
            .gave_up("c", "mail", at(26), "no such person")
            .unwrap();
        assert_eq!(due("mail", 29), []);
        assert_eq!(due("mail", 30), keys(&[("b", 1)]));
        // Another channel, opened later, tells on its own, and nothing from before.
        store.open_channel("hook", at(11)).unwrap();
        store.open_channel("hook", at(0)).unwrap();
        assert_eq!(due("hook", 20), keys(&[("b", 0), ("c", 0)]));

        let error = store.delivered("x", "mail", at(21)).unwrap_err();
        assert!(matches!(error, OutboxError::Unknown { .. }));
        let outbox: Vec<_> = store
            .outbox(4)
            .unwrap()
            .into_iter()
            .map(|it| (it.notice.key, it.channel, it.state, it.tries, it.why))
            .collect();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            outbox,
            [
                (
                    text("c"),
                    text("hook"),
                    DeliveryState::Waiting { next: at(12) },
                    0,
                    None
                ),
                (
                    text("c"),
                    text("mail"),
                    DeliveryState::GaveUp { at: at(26) },
                    2,
                    Some(text("no such person"))
                ),
                (
                    text("b"),
                    text("hook"),
                    DeliveryState::Waiting { next: at(11) },
                    0,
                    None
                ),
                (
                    text("b"),
                    text("mail"),
                    DeliveryState::Waiting { next: at(30) },
                    1,
                    Some(text("no route"))
                ),
            ],
            "{}",
            fresh.name
        );
        assert_eq!(store.notices(1).unwrap(), [notice("c", 12)]);
    }
}

#[test]
fn the_second_of_two_scans_reads_who_the_first_is() {
    for fresh in stores() {
        let first = Store::open(&fresh.location).unwrap();
        let second = Store::open(&fresh.location).unwrap();
        let held = first.lock("pid 7, since noon").unwrap();
        assert!(matches!(held, Lock::Ours(_)));
        let Lock::Theirs { note } = second.lock("me").unwrap() else {
            panic!("two holders");
        };
        assert_eq!(note, "pid 7, since noon", "{}", fresh.name);
        drop(held);
        // A child that another test starts has our files, and so the lock, until it runs its program;
        // and a server notices late that a program has died.
        let eventually = |store: &Store| {
            let started = Instant::now();
            while matches!(store.lock("me").unwrap(), Lock::Theirs { .. }) {
                assert!(
                    started.elapsed() < Duration::from_secs(60),
                    "{}",
                    fresh.name
                );
                std::thread::yield_now();
            }
        };
        eventually(&second);
        // Whoever dies gives it back, too.
        let died = Store::open(&fresh.location).unwrap();
        std::mem::forget(died.lock("died").unwrap());
        drop(died);
        eventually(&second);
    }
}

#[test]
fn a_store_that_is_not_there_is_named() {
    let folder = stores().swap_remove(0).folder;
    let error = Store::open_existing(&Location::below(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }));
    let url = format!(
        "postgres:///tuxtape?host={}&user=ann&password=s3cret",
        folder.path().display()
    );
    let error = Store::open(&Location::parse(&url).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "could not connect to PostgreSQL tuxtape at {}",
            folder.path().display()
        )
    );
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn a_file_that_is_no_store_is_named() {
    let folder = stores().swap_remove(0).folder;
    let path = folder.path().join("store.sqlite");
    std::fs::write(
        &path,
        "no database, and longer than a header of one".repeat(9),
    )
    .unwrap();
    let error = Store::open_existing(&Location::below(folder.path())).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("could not open {}", path.display())
    );
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("not a database"), "{why}");
}

#[test]
fn two_programs_may_create_the_same_store_at_once() {
    for fresh in stores() {
        eprintln!("{}", fresh.text);
        std::thread::scope(|scope| {
            let opens: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| Store::open(&fresh.location).map(|_| ())))
                .collect();
            for open in opens {
                open.join().unwrap().unwrap();
            }
        });
    }
}
