use super::*;
use crate::span::Span;

/// Makes a record from `VERSION:DIGIT` landings, where the digit stands for a commit.
fn record(id: &str, title: &str, description: &str, spans: &[(&str, &str)]) -> Cve {
    let landing = |text: &str| {
        let (version, digit) = text.split_once(':')?;
        Some(Landing {
            version: version.parse().unwrap(),
            commit: commit(digit),
        })
    };
    Cve {
        id: id.parse().unwrap(),
        state: State::Published,
        title: title.to_owned(),
        description: description.to_owned(),
        files: Vec::new(),
        cvss: None,
        references: Vec::new(),
        mainline_fixes: Vec::new(),
        spans: spans
            .iter()
            .map(|(bug, fix)| Span {
                introduced: landing(bug),
                fixed: landing(fix),
            })
            .collect(),
        doubts: Vec::new(),
        disputes: Vec::new(),
        rejection: None,
    }
}

fn commit(digit: &str) -> GitId {
    digit.repeat(40).parse().unwrap()
}

fn turns(records: &[Cve]) -> Vec<(String, String, Turn, usize)> {
    find(records)
        .into_iter()
        .map(|it| {
            (
                it.earlier.to_string(),
                it.later.to_string(),
                it.turn,
                it.proofs.len(),
            )
        })
        .collect()
}

fn pair(turn: Turn, proofs: usize) -> Vec<(String, String, Turn, usize)> {
    let name = |id: &str| id.to_owned();
    vec![(name("CVE-2024-0001"), name("CVE-2025-0001"), turn, proofs)]
}

#[test]
fn a_fix_that_brought_a_bug_is_corrected_by_its_fix() {
    let records = [
        record(
            "CVE-2024-0001",
            "a",
            "",
            &[("5.10:1", "6.1.5:2"), ("5.10:1", "6.2:3")],
        ),
        record(
            "CVE-2025-0001",
            "b",
            "",
            &[("6.1.5:2", "6.1.9:4"), ("6.2:3", "6.4:5")],
        ),
    ];
    assert_eq!(turns(&records), pair(Turn::Corrected, 2));
    let proofs = &find(&records)[0].proofs;
    assert!(matches!(proofs[0], Proof::Introduced(bug) if bug.commit == commit("2")));
}

#[test]
fn a_mainline_fix_counts_beside_the_spans() {
    let mut earlier = record("CVE-2024-0001", "a", "", &[]);
    earlier.mainline_fixes = vec![commit("7")];
    let later = record("CVE-2025-0001", "b", "", &[("6.2:7", "6.4:5")]);
    assert_eq!(turns(&[earlier, later]), pair(Turn::Corrected, 1));
}

#[test]
fn a_title_that_reverts_a_fix_says_so() {
    let earlier = record("CVE-2024-0001", "x: fix", "", &[("5.10:1", "6.2:3")]);
    let later = |fixed: &str| {
        let spans = [("6.2:3", fixed)];
        record("CVE-2025-0001", "Revert \"x: fix\"", "", &spans)
    };
    let found = turns(&[earlier.clone(), later("6.4:5")]);
    assert_eq!(found, pair(Turn::Reverted, 2));
    // Reverted before it was applied for good.
    let spans = [("5.10:9", "6.1:5")];
    let before = record("CVE-2025-0001", "Revert \"x: fix\"", "", &spans);
    assert_eq!(turns(&[earlier, before]), []);
}

#[test]
fn a_text_that_reverts_a_fix_says_so() {
    let earlier = record("CVE-2024-0001", "a", "", &[("5.10:1", "6.2:3")]);
    let text = "This reverts commit 333333333333 (\"a\").";
    let later = record("CVE-2025-0001", "b", text, &[("6.0:6", "6.4:5")]);
    let found = find(&[earlier, later]);
    assert_eq!(found[0].turn, Turn::Reverted);
    assert_eq!(
        found[0].proofs,
        [Proof::Text {
            commit: commit("3"),
            words: "This reverts commit 333333333333 (\"a\").".to_owned(),
        }]
    );
}

#[test]
fn a_record_does_not_follow_itself_and_a_withdrawn_one_follows_nothing() {
    let text = "Commit 333333333333 is incomplete";
    let own = record(
        "CVE-2024-0001",
        "a",
        text,
        &[("5.10:1", "6.2:3"), ("6.2:3", "6.3:4")],
    );
    assert_eq!(turns(std::slice::from_ref(&own)), []);
    let mut later = record("CVE-2025-0001", "b", text, &[("6.2:3", "6.4:5")]);
    assert_eq!(turns(&[own.clone(), later.clone()]).len(), 1);
    later.state = State::Rejected;
    assert_eq!(turns(&[own, later]), []);
}

#[test]
fn an_order_of_records_makes_no_difference() {
    let mut records = [
        record("CVE-2024-0001", "a", "", &[("5.10:1", "6.2:3")]),
        record("CVE-2024-0002", "a", "", &[("5.10:1", "6.2:3")]),
        record("CVE-2025-0001", "Revert \"a\"", "", &[("6.2:3", "6.4:5")]),
    ];
    let found = find(&records);
    assert_eq!(found.len(), 2);
    records.reverse();
    assert_eq!(find(&records), found);
}
