//! The public set of reports: is something found where something is, and nothing where nothing is?

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

use tuxtape_klog::header::Severity;
use tuxtape_klog::judge::judge;

#[derive(serde::Deserialize)]
struct Case {
    id: String,
    log: String,
    title: String,
    scope: String,
}

#[test]
fn corpus_reports_are_found_where_they_are_and_nowhere_else() {
    let folder = env::var_os("TUXTAPE_CORPUS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/corpus"
            ))
        },
        PathBuf::from,
    );
    let path = folder.join("klog/dev.jsonl");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("skipped: no {}", path.display());
        return;
    };
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let judged = judge(case.log.as_bytes(), &[]);
        let expected = !case.title.is_empty();
        let found = judged
            .reports
            .iter()
            .any(|report| report.severity >= Severity::Notice);
        let (right, all) = counts.entry(case.scope.clone()).or_default();
        *all += 1;
        if found == expected {
            *right += 1;
        } else {
            wrong.push(format!(
                "{} {:?} want {:?} got {:?}",
                case.scope,
                case.id,
                case.title,
                judged.reports.first().map(|report| &report.title)
            ));
        }
    }
    for (scope, (right, all)) in &counts {
        eprintln!("{scope}: {right} of {all}");
    }
    for line in &wrong {
        eprintln!("{line}");
    }
    let rate = |scope: &str| counts.get(scope).copied().unwrap_or_default();
    assert_eq!(rate("negative"), (14, 14));
    assert_eq!(rate("prod"), (226, 226));
}
