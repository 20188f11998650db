//! Which commits close a CVE on a branch. Pure: the record decides, and the kernel's base version.

use std::collections::{BTreeMap, BTreeSet};

use tuxtape_core::cve::Cve;
use tuxtape_core::git_id::GitId;
use tuxtape_core::span::{self, Landing, Reading, Span};
use tuxtape_core::version::{Branch, KernelVersion};

use super::found::DiffKind;

/// Commits that together close a CVE somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How near to the kernel they were made.
    pub kind: DiffKind,
    /// The commits, in the order they are to be applied.
    pub commits: Vec<GitId>,
    /// What a person must know of them.
    pub notes: Vec<String>,
}

/// Lists what may close `cve` on a kernel whose base version is `base`, the nearest first: the fixes of
/// the kernel's own branch, of each newer branch, of mainline.
pub fn choose(cve: &Cve, base: KernelVersion) -> Vec<Candidate> {
    let spans = in_history(&cve.spans, base);
    let mut suspicion = Vec::new();
    if !cve.doubts.is_empty() || span::is_disputed(&cve.spans, &cve.disputes, base) {
        suspicion.push(format!(
            "suspect: the record of {} contradicts itself",
            cve.id
        ));
    }
    match span::read(&cve.spans, base) {
        Reading::NeverIntroduced => suspicion.push(format!(
            "suspect: by the record of {} the bug never came to {base}",
            cve.id
        )),
        Reading::Fixed(landing) => suspicion.push(format!(
            "by the record of {} the fix is in {}, so {base} has it already",
            cve.id, landing.version
        )),
        Reading::Affected(_) => {}
    }
    let (mainline, branches) = by_branch(&spans);
    let own = base.branch();
    let mut candidates = Vec::new();
    for (branch, landings) in branches.range(own..) {
        let (kind, note) = if *branch == own {
            (DiffKind::OwnBranch, None)
        } else {
            let note = format!("made for branch {branch}, not for {own}");
            (DiffKind::NewerBranch(*branch), Some(note))
        };
        let after = if *branch == own { Some(base) } else { None };
        candidates.push(candidate(kind, landings, after, &suspicion, note));
    }
    let note = format!("made for mainline, not for branch {own}");
    if mainline.is_empty() {
        if candidates.is_empty() && !cve.mainline_fixes.is_empty() {
            let mut notes = suspicion;
            notes.push(note);
            notes.push("no span names a fix; these are the commits given for mainline".to_owned());
            candidates.push(Candidate {
                kind: DiffKind::Mainline,
                commits: cve.mainline_fixes.clone(),
                notes,
            });
        }
    } else {
        let kind = DiffKind::Mainline;
        candidates.push(candidate(
            kind,
            &mainline,
            Some(base),
            &suspicion,
            Some(note),
        ));
    }
    candidates
}

/// Keeps the spans whose bug came into the history of `base`; all of them where none did.
fn in_history(spans: &[Span], base: KernelVersion) -> Vec<Span> {
    let reached = |span: &&Span| span.introduced.is_none_or(|bug| bug.reaches(base));
    let kept: Vec<Span> = spans.iter().filter(reached).copied().collect();
    if kept.is_empty() {
        spans.to_vec()
    } else {
        kept
    }
}

/// Parts the fixes of `spans` by branch, mainline's apart; those of a branch by version, then as the
/// record has them.
fn by_branch(spans: &[Span]) -> (Vec<Landing>, BTreeMap<Branch, Vec<Landing>>) {
    let mut mainline = Vec::new();
    let mut branches: BTreeMap<Branch, Vec<Landing>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for fix in spans.iter().filter_map(|span| span.fixed) {
        if !seen.insert(fix) {
            continue;
        }
        if fix.version.is_mainline() {
            mainline.push(fix);
        } else {
            branches.entry(fix.version.branch()).or_default().push(fix);
        }
    }
    for landings in branches.values_mut().chain([&mut mainline]) {
        landings.sort_by_key(|landing| landing.version);
    }
    (mainline, branches)
}

/// Takes the commits that came `after` the kernel's base version; all where none did, for it is then
/// asked whether the kernel has them.
fn candidate(
    kind: DiffKind,
    landings: &[Landing],
    after: Option<KernelVersion>,
    suspicion: &[String],
    note: Option<String>,
) -> Candidate {
    let later = |landing: &&Landing| after.is_none_or(|base| landing.version > base);
    let mut commits: Vec<GitId> = landings.iter().filter(later).map(|it| it.commit).collect();
    if commits.is_empty() {
        commits = landings.iter().map(|landing| landing.commit).collect();
    }
    let mut notes = suspicion.to_vec();
    notes.extend(note);
    if commits.len() > 1 {
        notes.push(format!("{} commits, all are needed", commits.len()));
    }
    Candidate {
        kind,
        commits,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use tuxtape_core::cve::State;

    use super::*;

    fn id(text: &str) -> GitId {
        let mut bytes = [0; 20];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        GitId::from_bytes(bytes)
    }

    fn landing(version: &str) -> Landing {
        let (version, commit) = version.split_once('=').unwrap_or((version, version));
        Landing {
            version: version.parse().unwrap(),
            commit: id(commit),
        }
    }

    /// A record of spans such as `5.10..6.1.20`; `6.1.20=x` gives the landing another commit.
    fn record(spans: &[&str]) -> Cve {
        let side = |text: &str| (!text.is_empty()).then(|| landing(text));
        Cve {
            id: "CVE-2026-31407".parse().unwrap(),
            state: State::Published,
            title: String::new(),
            description: String::new(),
            files: Vec::new(),
            cvss: None,
            references: Vec::new(),
            mainline_fixes: Vec::new(),
            spans: spans
                .iter()
                .map(|text| {
                    let (bug, fix) = text.split_once("..").unwrap();
                    Span {
                        introduced: side(bug),
                        fixed: side(fix),
                    }
                })
                .collect(),
            doubts: Vec::new(),
            disputes: Vec::new(),
            rejection: None,
        }
    }

    fn check(spans: &[&str], base: &str, expected: &[(DiffKind, &[&str])]) -> Vec<Candidate> {
        let chosen = choose(&record(spans), base.parse().unwrap());
        let found: Vec<(DiffKind, Vec<GitId>)> = chosen
            .iter()
            .map(|candidate| (candidate.kind, candidate.commits.clone()))
            .collect();
        let expected: Vec<(DiffKind, Vec<GitId>)> = expected
            .iter()
            .map(|(kind, commits)| (*kind, commits.iter().map(|text| id(text)).collect()))
            .collect();
        assert_eq!(found, expected, "{spans:?} {base}");
        chosen
    }

    fn newer(branch: &str) -> DiffKind {
        DiffKind::NewerBranch(branch.parse().unwrap())
    }

    #[test]
    fn the_own_branch_comes_first_then_the_nearest_newer_then_mainline() {
        let spans = [
            "5.10..6.12.4",
            "5.10..5.15.9",
            "5.10..6.1.20",
            "5.10..6.6.3",
            "5.10..6.13",
        ];
        let chosen = check(
            &spans,
            "6.1.10",
            &[
                (DiffKind::OwnBranch, &["6.1.20"]),
                (newer("6.6"), &["6.6.3"]),
                (newer("6.12"), &["6.12.4"]),
                (DiffKind::Mainline, &["6.13"]),
            ],
        );
        assert_eq!(chosen[0].notes, [""; 0]);
        assert_eq!(chosen[1].notes, ["made for branch 6.6, not for 6.1"]);
    }

    #[test]
    fn a_window_that_was_closed_before_the_kernel_is_not_its_fix() {
        // CVE-2020-36785: the first window ended in 4.18.
        let spans = ["4.12..4.18", "5.8..5.10.37", "5.8..5.13"];
        check(
            &spans,
            "5.10.20",
            &[
                (DiffKind::OwnBranch, &["5.10.37"]),
                (DiffKind::Mainline, &["5.13"]),
            ],
        );
    }

    #[test]
    fn several_fixes_of_a_branch_are_all_needed() {
        let spans = ["3.18..5.4.235", "3.18..5.4.136", "3.18..5.14", "3.18..6.3"];
        let chosen = check(
            &spans,
            "5.4.100",
            &[
                (DiffKind::OwnBranch, &["5.4.136", "5.4.235"]),
                (DiffKind::Mainline, &["5.14", "6.3"]),
            ],
        );
        assert!(
            chosen[0]
                .notes
                .contains(&"2 commits, all are needed".to_owned())
        );
        check(
            &spans,
            "5.4.200",
            &[
                (DiffKind::OwnBranch, &["5.4.235"]),
                (DiffKind::Mainline, &["5.14", "6.3"]),
            ],
        );
    }

    #[test]
    fn a_fix_of_a_bug_that_is_not_in_the_kernel_is_suspect() {
        let chosen = check(
            &["6.7..6.12.4", "6.7..6.13"],
            "6.1.10",
            &[
                (newer("6.12"), &["6.12.4"]),
                (DiffKind::Mainline, &["6.13"]),
            ],
        );
        assert!(chosen.iter().all(|it| it.notes[0].starts_with("suspect: ")));
    }

    #[test]
    fn a_fix_by_a_record_that_contradicts_itself_is_suspect() {
        let mut cve = record(&["5.10..6.1.20"]);
        cve.doubts.push("two ids".to_owned());
        let chosen = choose(&cve, "6.1.10".parse().unwrap());
        assert!(chosen[0].notes[0].contains("contradicts itself"));
    }

    #[test]
    fn a_fix_that_is_there_already_is_still_shown_with_a_word() {
        let chosen = check(
            &["5.10..6.1.20", "5.10..6.3"],
            "6.1.30",
            &[
                (DiffKind::OwnBranch, &["6.1.20"]),
                (DiffKind::Mainline, &["6.3"]),
            ],
        );
        assert!(chosen[0].notes[0].contains("has it already"));
    }

    #[test]
    fn mainlines_own_list_is_asked_where_no_span_names_a_fix() {
        let mut cve = record(&["5.10.."]);
        assert_eq!(choose(&cve, "6.1.10".parse().unwrap()), []);
        cve.mainline_fixes = vec![id("a"), id("b")];
        let chosen = choose(&cve, "6.1.10".parse().unwrap());
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].commits, [id("a"), id("b")]);
    }
}
