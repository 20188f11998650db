//! The public set of kernel reports: what share is named exactly as expected, field by field.

use std::collections::BTreeMap;

use tuxtape_klog::assemble::{Item, Limits};
use tuxtape_klog::parser::parse;
use tuxtape_klog::report::Report;

use crate::set::cases;

/// The first report by where it begins, and whether the log has a panic.
fn first(log: &[u8]) -> (Option<Report>, bool) {
    let (items, _) = parse(log, Limits::default());
    let mut reports: Vec<Report> = items
        .into_iter()
        .filter_map(|item| match item {
            Item::Report(report) => Some(*report),
            Item::Event(_) | Item::Incident(_) | Item::Gap(_) => None,
        })
        .collect();
    reports.sort_by_key(|report| report.bytes.0);
    let panicked = reports.iter().any(|report| report.panicked);
    let mut reports = reports.into_iter();
    (reports.next(), panicked)
}

/// Least share, in thousandths, of `prod` and of all that have a title; the figures are printed.
const FLOORS: [(&str, u32, u32); 6] = [
    ("title", 1000, 1000),
    ("alt", 1000, 1000),
    ("type", 1000, 1000),
    ("corrupted", 1000, 1000),
    ("suppressed", 1000, 1000),
    ("frame", 1000, 1000),
];

#[test]
fn corpus_reports_are_named_exactly() {
    let Some(cases) = cases() else { return };
    let mut shares: BTreeMap<(&str, String), (u32, u32)> = BTreeMap::new();
    let mut count = |field, scope: &str, right: bool| {
        for scope in [scope, "all"] {
            let (good, all) = shares.entry((field, scope.to_owned())).or_default();
            *good += u32::from(right);
            *all += 1;
        }
    };
    let mut misses = Vec::new();
    for case in cases.iter().filter(|case| case.scope != "negative") {
        let log = case.bytes();
        let (report, panicked) = first(&log);
        let got = report.as_ref();
        let title = got.map_or("", |report| report.title.as_str());
        let mut check = |field, right: bool, why: String| {
            count(field, &case.scope, right);
            if !right {
                misses.push(format!("{} {} {field}: {why}", case.scope, case.id));
            }
        };
        let right = title == case.title;
        check("title", right, format!("{title:?} for {:?}", case.title));
        if !right {
            // The other fields are of another report then.
            for field in ["alt", "type", "corrupted"] {
                count(field, &case.scope, false);
            }
            continue;
        }
        let Some(got) = got else { continue };
        check(
            "alt",
            got.alt == case.alt,
            format!("{:?} for {:?}", got.alt, case.alt),
        );
        check(
            "type",
            got.kind == case.kind,
            format!("{:?} for {:?}", got.kind, case.kind),
        );
        check(
            "corrupted",
            got.corrupted.is_some() == case.corrupted,
            format!("{:?} for {} ({title})", got.corrupted, case.corrupted),
        );
        check(
            "suppressed",
            got.suppressed == case.suppressed,
            format!("{} for {}", got.suppressed, case.suppressed),
        );
        check(
            "panicked",
            panicked == case.panicked,
            format!("{panicked} for {}", case.panicked),
        );
        if !case.frame.is_empty() {
            let frame = got.frame.clone().unwrap_or_default();
            check(
                "frame",
                frame == case.frame,
                format!("{frame:?} for {:?}", case.frame),
            );
        }
        if let Some(start) = &case.start {
            let begin = log
                .get(usize::try_from(got.bytes.0).unwrap()..)
                .unwrap_or_default();
            check(
                "start",
                begin.starts_with(start.as_bytes()),
                format!(
                    "{:?}",
                    String::from_utf8_lossy(begin.get(..80).unwrap_or(begin))
                ),
            );
        }
    }
    let figure = |field: &str, scope: &str| {
        shares
            .iter()
            .find(|((other, name), _)| *other == field && name == scope)
            .map_or((0, 0), |(_, share)| *share)
    };
    for ((field, scope), (good, all)) in &shares {
        eprintln!(
            "{field:10} {scope:8} {good:3} of {all:3}  {:.1} %",
            f64::from(*good) * 100.0 / f64::from(*all)
        );
    }
    for miss in &misses {
        eprintln!("miss: {miss}");
    }
    for (field, prod, all) in FLOORS {
        for (scope, floor) in [("prod", prod), ("all", all)] {
            let (good, count) = figure(field, scope);
            assert!(
                good * 1000 >= floor * count,
                "{field} in {scope}: {good} of {count}"
            );
        }
    }
}

#[test]
fn corpus_logs_without_a_report_stay_silent() {
    let Some(cases) = cases() else { return };
    let mut silent = 0;
    for case in cases.iter().filter(|case| case.scope == "negative") {
        let (report, _) = first(&case.bytes());
        assert_eq!(report.map(|report| report.title), None, "{}", case.id);
        silent += 1;
    }
    assert_eq!(silent, 14);
}

#[test]
fn corpus_reports_are_found_again_from_their_start_alone() {
    let Some(cases) = cases() else { return };
    for case in cases.iter().filter(|case| case.scope == "prod") {
        let log = case.bytes();
        let Some(report) = first(&log).0 else {
            continue;
        };
        let begin = usize::try_from(report.bytes.0).unwrap();
        let again = first(&log[begin..]).0.map(|report| report.title);
        assert_eq!(again.as_deref(), Some(report.title.as_str()), "{}", case.id);
    }
}
