//! What holds for the reader of every source.

use proptest::prelude::*;

use super::*;

macro_rules! seed {
    ($path:literal) => {
        include_bytes!(concat!("../../../../fuzz/seeds/", $path)).as_slice()
    };
}

const KEV: &[u8] = seed!("signal_kev/catalogue.json");
const KEV_TABLE: &[u8] = seed!("signal_kev/catalogue.csv");
const EPSS: &[u8] = seed!("signal_epss/day.csv");
const RECORD: &[u8] = seed!("signal_adp/record.json");
const RECORDS: &[u8] = seed!("signal_adp/lines.jsonl");
const PAGE: &[u8] = seed!("signal_nvd/page.json");
const LIST: &[u8] = seed!("signal_exploits/list.json");
const ENTRY: &[u8] = seed!("signal_exploits/metadata.json");

const FILES: [(Source, &[u8]); 7] = [
    (Source::Kev, KEV),
    (Source::Kev, KEV_TABLE),
    (Source::Epss, EPSS),
    (Source::Adp, RECORD),
    (Source::Adp, RECORDS),
    (Source::Nvd, PAGE),
    (Source::Exploits, LIST),
];

fn id(text: &str) -> CveId {
    text.parse().unwrap()
}

fn date(text: &str) -> UtcSeconds {
    text.parse().unwrap()
}

fn score(source: Source, vector: &str, tenths: u8) -> Signal {
    Signal::Score(OutsideScore {
        source,
        vector: format!("CVSS:3.1/{vector}"),
        score: Score::from_tenths(tenths).unwrap(),
    })
}

fn kev(added: &str, product: &str, ransomware: bool) -> Signal {
    Signal::Kev(Kev {
        added: date(added),
        product: product.to_owned(),
        ransomware,
    })
}

fn texts(ids: &[CveId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Replaces what must be there once.
fn change(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    assert!(text.contains(from), "{from:?} is not in the sample");
    text.replacen(from, to, 1).into_bytes()
}

/// Checks that a changed sample is refused in these words.
fn refused(source: Source, file: &[u8], from: &str, to: &str, words: &str) {
    let error = source.parse(&change(file, from, to)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains(words), "{error}\nwithout: {words}");
}

#[test]
fn the_catalogue_and_its_table_say_the_same() {
    let catalogue = kev::parse(KEV).unwrap();
    assert_eq!(catalogue.dated, Some(date("2026-11-20T18:02:11Z")));
    assert!(catalogue.complete);
    assert_eq!(
        catalogue.rows,
        [
            (
                id("CVE-2024-1001"),
                kev("2024-08-07T00:00:00Z", "Android Kernel", false)
            ),
            (
                id("CVE-2022-2588"),
                kev("2024-05-30T00:00:00Z", "Linux Kernel", true)
            ),
        ]
    );
    assert_eq!(texts(&catalogue.named), ["CVE-2022-2588", "CVE-2024-1001"]);
    let table = kev::parse(KEV_TABLE).unwrap();
    // The table names no date of release.
    assert_eq!(table.dated, None);
    assert_eq!((table.rows, table.named), (catalogue.rows, catalogue.named));
}

#[test]
fn a_day_of_predictions_is_read() {
    let day = epss::parse(EPSS).unwrap();
    assert_eq!(day.dated, Some(date("2026-11-24T12:55:00Z")));
    assert!(day.complete);
    let shares: Vec<(String, u32, u32)> = day
        .rows
        .iter()
        .map(|(cve, signal)| match signal {
            Signal::Epss(epss) => (
                cve.to_string(),
                epss.probability.get(),
                epss.percentile.get(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("CVE-1999-0001", 12340, 843_210),
        ("CVE-2024-1001", 430, 123_450),
        ("CVE-2024-1002", 93, 120),
        ("CVE-2024-10003", 972_140, 1_000_000),
    ];
    assert_eq!(
        shares,
        expected.map(|(cve, share, rank)| (cve.to_owned(), share, rank))
    );
}

#[test]
fn only_the_container_of_cisa_is_read() {
    let batch = adp::parse(RECORD).unwrap();
    assert_eq!(batch.dated, Some(date("2026-11-19T15:26:43Z")));
    assert!(!batch.complete);
    let cve = id("CVE-2024-1001");
    assert_eq!(batch.named, [cve]);
    assert_eq!(
        batch.rows,
        [
            Signal::Ssvc(Ssvc {
                exploitation: Exploitation::Active,
                automatable: false,
                total: true
            }),
            kev("2024-08-07T00:00:00Z", "", false),
            score(Source::Adp, "AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 78),
        ]
        .map(|signal| (cve, signal))
    );
    let foreign = adp::parse(&change(RECORD, "CISA-ADP", "OTHER-ADP")).unwrap();
    assert_eq!((foreign.rows.len(), foreign.named), (0, vec![cve]));
}

#[test]
fn a_withdrawn_record_is_named_without_rows() {
    let batch = adp::parse(RECORDS).unwrap();
    assert_eq!(texts(&batch.named), ["CVE-2024-1002", "CVE-2024-1003"]);
    assert_eq!(batch.rows.len(), 1);
    assert_eq!(batch.dated, Some(date("2026-11-18T00:00:00Z")));
}

#[test]
fn records_read_together_keep_their_own_dates() {
    let old = change(RECORD, "CVE-2024-1001", "CVE-2024-1004");
    let old = change(&old, "2026-11-19T15:26:43", "2024-03-01T00:00:00");
    let bare = br#"{"cveMetadata":{"cveId":"CVE-2024-1005"},"containers":{}}"#;
    let batches = [RECORD, old.as_slice(), bare].map(|bytes| adp::parse(bytes).unwrap());
    let all = join(batches).unwrap();
    assert_eq!(all.dated, Some(date("2026-11-19T15:26:43Z")));
    let dates: Vec<(String, UtcSeconds)> = all
        .updated
        .iter()
        .map(|(cve, date)| (cve.to_string(), *date))
        .collect();
    assert_eq!(
        dates,
        [
            ("CVE-2024-1001".to_owned(), date("2026-11-19T15:26:43Z")),
            ("CVE-2024-1004".to_owned(), date("2024-03-01T00:00:00Z")),
        ]
    );
}

#[test]
fn the_databases_own_score_comes_before_one_it_passes_on() {
    let page = nvd::parse(PAGE).unwrap();
    assert_eq!(page.dated, Some(date("2026-11-24T08:15:00Z")));
    assert!(!page.complete);
    assert_eq!(page.named.len(), 3);
    let own = score(Source::Nvd, "AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H", 55);
    assert_eq!(page.rows, [(id("CVE-2024-1001"), own)]);
    let page = nvd::parse(&change(PAGE, "\"Primary\"", "\"Secondary\"")).unwrap();
    let passed_on = score(Source::Nvd, "AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 78);
    assert_eq!(page.rows, [(id("CVE-2024-1001"), passed_on)]);
}

#[test]
fn one_cve_may_have_several_exploits() {
    let list = exploits::parse(LIST).unwrap();
    assert!(list.complete);
    assert_eq!(list.dated, Some(date("2026-11-24T00:00:00Z")));
    assert_eq!(texts(&list.named), ["CVE-2024-1001"]);
    let names: Vec<&Signal> = list.rows.iter().map(|(_, signal)| signal).collect();
    let exploit = |name: &str, needs: &[&str]| {
        Signal::Exploit(Exploit {
            name: name.to_owned(),
            requirements: needs.iter().map(|&need| need.to_owned()).collect(),
        })
    };
    assert_eq!(
        names,
        [
            &exploit("somebody's write-up", &["CAP_NET_ADMIN", "userns"]),
            &exploit("another", &[])
        ]
    );
}

#[test]
fn an_entry_of_kernelctf_is_about_the_cve_of_its_folder() {
    let (cve, exploit) = exploits::entry("CVE-2024-1001_lts_cos", ENTRY).unwrap();
    assert_eq!(cve, id("CVE-2024-1001"));
    assert_eq!(exploit.name, "CVE-2024-1001_lts_cos");
    assert_eq!(
        exploit.requirements,
        [
            "userns",
            "CAP_NET_ADMIN",
            "CONFIG_NETFILTER",
            "CONFIG_NF_TABLES"
        ]
    );
    let error = exploits::entry("CVE-2024-1002_lts", ENTRY).unwrap_err();
    assert_eq!(
        error.to_string(),
        "vulnerability.cve: CVE-2024-1001, want the CVE that the folder is named after"
    );
    assert_eq!(exploits::folder("CVE-2024-1001"), Some(cve));
    assert_eq!(exploits::folder("docs"), None);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let kev = |from, to, words| refused(Source::Kev, KEV, from, to, words);
    kev(
        "\"count\": 2",
        "\"count\": 3",
        "count: 3, but there are 2 rows",
    );
    kev(
        "\"count\": 2",
        "\"count\": \"2\"",
        "count: \"2\", but there are 2 rows",
    );
    kev(
        "\"CVE-2022-2588\"",
        "7",
        "vulnerabilities[1].cveID: 7, want a CVE id",
    );
    kev(
        "\"dateAdded\": \"2024-05-30\",",
        "",
        "vulnerabilities[1].dateAdded: nothing, want a date",
    );
    kev(
        "\"dateReleased\": \"2026",
        "\"dateReleased\": \"26",
        "dateReleased: \"26-11-20",
    );
    kev(
        "CVE-2022-2588",
        "CVE-2024-1001",
        "CVE-2024-1001 is there twice",
    );
    kev("[\n        {", "{\"a\": [{", "expected a list at line 6");

    let table = |from, to, words| refused(Source::Kev, KEV_TABLE, from, to, words);
    table(
        "CVE-2022-2588",
        "CVE-22-2588",
        "row 4, column cveID: \"CVE-22-2588\", want a CVE id",
    );
    table(
        "2024-05-30",
        "30.05.24",
        "row 4, column dateAdded: \"30.05.24\", want a date",
    );
    table("Apply.,", "", "row 4: 10 cells, want 11 as in the header");
    table("dateAdded", "added", "row 1: no column dateAdded");

    let epss = |from, to, words| refused(Source::Epss, EPSS, from, to, words);
    epss(
        "0.00043",
        "1.5",
        "row 4, column epss: \"1.5\", want a share from 0 to 1",
    );
    epss(
        "0.84321",
        "high",
        "row 3, column percentile: \"high\", want a share",
    );
    epss("CVE-1999-0001", "x", "row 3, column cve: \"x\", want a CVE");
    epss(",0.12345", "", "row 4: 2 cells, want 3 as in the header");
    epss("cve,epss", "id,epss", "row 2: \"id,epss,percentile\", want");
    epss("#model", "model", "row 1: \"model_version");
    epss(
        "score_date:2026-11-24T12:55:00Z",
        "score_date:today",
        "row 1, column score_date: \"today\", want a date",
    );
    epss(
        "CVE-2024-1002",
        "CVE-2024-1001",
        "CVE-2024-1001 is there twice",
    );
    epss(
        "1.0\n",
        "1.0",
        "row 6: the end of the file, want the end of the row",
    );

    let adp = |from: &str, to: &str, words: &str| refused(Source::Adp, RECORD, from, to, words);
    let place = "CVE-2024-1001: containers.adp[1].metrics";
    adp(
        "\"active\"",
        "\"rampant\"",
        &format!("{place}[0].other.content.options.Exploitation: \"rampant\", want none, poc or"),
    );
    adp(
        "{\"Automatable\": \"no\"},",
        "",
        &format!("{place}[0].other.content.options.Automatable: nothing, want no or yes"),
    );
    adp(
        "\"baseScore\": 7.8",
        "\"baseScore\": 10.1",
        &format!("{place}[2].cvssV3_1.baseScore: 10.1, want a score from 0 to 10"),
    );
    adp(
        "CVSS:3.1/",
        "CVSS:3.0/",
        &format!("{place}[2].cvssV3_1.vectorString: \"CVSS:3.0/"),
    );
    adp(
        "\"CVE-2024-1001\",\n    \"assigner",
        "12,\n    \"assigner",
        "cveMetadata.cveId: 12, want a CVE id",
    );

    let nvd = |from, to, words| refused(Source::Nvd, PAGE, from, to, words);
    nvd(
        "\"CVE-2024-1002\"",
        "null",
        "vulnerabilities[1].cve.id: nothing, want a CVE id",
    );
    nvd(
        "\"baseScore\": 5.5",
        "\"baseScore\": \"5.5\"",
        "vulnerabilities[0].cve.metrics.cvssMetricV31[1].cvssData.baseScore: \"5.5\", want a score",
    );
    nvd(
        "\"timestamp\": \"2026",
        "\"timestamp\": \"x",
        "timestamp: \"x-11-24",
    );

    let list = |from, to, words| refused(Source::Exploits, LIST, from, to, words);
    list("\"format\": 1", "\"format\": 2", "format: 2, want 1");
    list("\"name\"", "\"nam\"", "unknown field `nam`");
    list(
        "\"another\"",
        "\"\\u0007 \"",
        "exploits[1].name: \"\\u{7} \", want a name",
    );
    list(
        "\"userns\"",
        "4",
        "exploits[0].requirements[1]: 4, want a text",
    );
}

#[test]
fn a_file_that_lists_nothing_is_no_file_of_its_source() {
    for (source, _) in FILES {
        for nothing in ["", " \n", "\u{feff}"] {
            assert_eq!(
                source.parse(nothing.as_bytes()),
                Err(SignalError::Empty),
                "{source:?} {nothing:?}"
            );
        }
    }
    let none = [
        (
            Source::Kev,
            "{\"dateReleased\": \"2026-11-24\", \"count\": 0, \"vulnerabilities\": []}",
        ),
        (
            Source::Kev,
            "cveID,vendorProject,product,dateAdded,knownRansomwareCampaignUse\n",
        ),
        (
            Source::Epss,
            "#model_version:v1,score_date:2026-11-24\ncve,epss,percentile\n",
        ),
        (Source::Nvd, "{\"vulnerabilities\": []}"),
        (Source::Exploits, "{\"format\": 1, \"exploits\": []}"),
    ];
    for (source, text) in none {
        assert_eq!(
            source.parse(text.as_bytes()),
            Err(SignalError::NoRows),
            "{text}"
        );
    }
}

#[test]
fn lists_are_bounded_while_they_are_read() {
    let many = "{},".repeat(101);
    let text = format!(
        "{{\"cveMetadata\":{{\"cveId\":\"CVE-2024-1001\"}},\"containers\":{{\"adp\":[{{\"providerMetadata\":{{}},\"metrics\":[{many}{{}}]}}]}}}}"
    );
    let error = adp::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(
        error.starts_with("more than 100 items at line 1"),
        "{error}"
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let file = change(KEV, "\"Android\"", "\"\\u001b[31mAndroid\\u0000\"");
    let signals = Signals::collect(kev::parse(&file).unwrap().rows);
    let kev = signals[&id("CVE-2024-1001")].kev.as_ref().unwrap();
    assert_eq!(kev.product, "[31mAndroid Kernel");
}

#[test]
fn each_form_is_told_by_its_content() {
    for (source, file) in FILES {
        assert_eq!(sniff::source(file), Ok(source));
        let marked = [b"\xef\xbb\xbf", file].concat();
        assert_eq!(sniff::source(&marked), Ok(source));
        assert_eq!(source.parse(&marked), source.parse(file), "{source:?}");
    }
    // Cut short it is still told, so that its own reader can say where it ends.
    let cut = &KEV[..KEV.len() / 2];
    assert_eq!(sniff::source(cut), Ok(Source::Kev));
    assert_eq!(sniff::source(ENTRY), Err(SignalError::OneEntry));
    assert_eq!(sniff::source(b"\n"), Err(SignalError::Empty));
    for other in ["hello", "[]", "{}", "{\"a\": 1", "<html>", "{", "a,b\n"] {
        assert_eq!(
            sniff::source(other.as_bytes()),
            Err(SignalError::UnknownForm),
            "{other:?}"
        );
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_never_a_shorter_batch() {
    for (source, file) in FILES {
        let whole = source.parse(file).unwrap();
        for end in 0..file.len() {
            let cut = &file[..end];
            let Ok(batch) = source.parse(cut) else {
                continue;
            };
            // White space after a document may be missing. Tables show no cut exactly after a row, and
            // lines of records need none: each speaks only of itself.
            let is_rows = file == KEV_TABLE || file == EPSS || file == RECORDS;
            let after_a_row = is_rows && (cut.ends_with(b"\n") || file.get(end) == Some(&b'\n'));
            assert!(batch == whole || after_a_row, "{source:?} cut at {end}");
        }
    }
}

#[test]
fn of_two_rows_the_graver_stays_in_either_order() {
    let ssvc = |exploitation, total| {
        Signal::Ssvc(Ssvc {
            exploitation,
            automatable: false,
            total,
        })
    };
    let epss = |parts| {
        Signal::Epss(Epss {
            probability: PartsPerMillion::new(parts).unwrap(),
            percentile: PartsPerMillion::new(parts).unwrap(),
        })
    };
    let rows = [
        ssvc(Exploitation::Poc, true),
        ssvc(Exploitation::Active, false),
        epss(9),
        epss(12),
    ];
    let collect = |rows: &mut dyn Iterator<Item = &Signal>| {
        let mut signals = Signals::default();
        for row in rows {
            signals.add(row.clone());
        }
        signals
    };
    let forward = collect(&mut rows.iter());
    assert_eq!(forward, collect(&mut rows.iter().rev()));
    assert_eq!(
        forward.ssvc,
        Some(Ssvc {
            exploitation: Exploitation::Active,
            automatable: false,
            total: true
        })
    );
    assert_eq!(forward.epss.unwrap().probability.get(), 12);
}

#[test]
fn a_share_reads_as_a_percentage() {
    assert_eq!(
        PartsPerMillion::new(973_142).unwrap().to_string(),
        "97.31 %"
    );
    assert_eq!(PartsPerMillion::new(1_000_001), None);
}

proptest! {
    #[test]
    fn mangled_files_end_in_a_value(
        which in 0..FILES.len(),
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0usize..40), 1..6),
    ) {
        let (source, file) = FILES[which];
        let mut bytes = file.to_vec();
        for (at, byte, length) in cuts {
            if bytes.is_empty() {
                break;
            }
            let start = at.index(bytes.len());
            match length {
                0 => bytes[start] = byte,
                1 => bytes.insert(start, byte),
                more => {
                    let end = (start + more).min(bytes.len());
                    bytes.drain(start..end);
                }
            }
        }
        exercise(source, &bytes);
    }

    #[test]
    fn any_bytes_end_in_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for source in Source::ALL {
            exercise(source, &bytes);
        }
    }
}
