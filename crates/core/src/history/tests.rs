use super::sample::{Sample, history, id};
use super::*;

/// A word for what a history says of commit `number`.
fn word(commits: &[Sample<'_>], number: u8) -> &'static str {
    match history(commits, false).presence(id(number)) {
        Presence::Stands { .. } => "stands",
        Presence::Undone { .. } => "undone",
        Presence::Doubtful { .. } => "doubtful",
        Presence::Absent => "absent",
    }
}

fn check(commits: &[Sample<'_>], expected: &[(u8, &str)]) {
    for (number, expected) in expected {
        assert_eq!(
            word(commits, *number),
            *expected,
            "#{number} in {commits:?}"
        );
    }
}

#[test]
fn what_is_in_the_history_stands() {
    check(
        &[(3, &[2], 3, "c"), (2, &[1], 2, "b"), (1, &[], 1, "a")],
        &[(3, "stands"), (1, "stands"), (9, "absent")],
    );
}

#[test]
fn a_backport_stands_for_what_it_names() {
    check(
        &[
            (2, &[1], 2, "b\n\ncommit #09 upstream.\n"),
            (1, &[], 1, "a"),
        ],
        &[(9, "stands"), (2, "stands"), (8, "absent")],
    );
}

#[test]
fn a_revert_takes_back_a_commit_under_all_its_names() {
    let backport: Sample<'_> = (2, &[1], 2, "b\n\n[ Upstream commit #09 ]\n");
    for revert in [
        "Revert \"b\"\n\nThis reverts commit #02.\n",
        "Revert \"b\"\n\nThis reverts commit #09.\n",
        "Revert \"b\"\n\nThis reverts commit #02 which is\ncommit #09 upstream.\n",
        "Revert \"b\"\n\n[ Upstream commit #08 ]\n\nThis reverts commit #09.\n",
    ] {
        check(
            &[(3, &[2], 1, revert), backport, (1, &[], 1, "a")],
            &[(9, "undone"), (2, "undone"), (1, "stands")],
        );
    }
}

#[test]
fn a_revert_of_a_revert_brings_the_change_back() {
    check(
        &[
            (4, &[3], 2, "Reapply \"b\"\n\nThis reverts commit #03.\n"),
            (3, &[2], 1, "Revert \"b\"\n\nThis reverts commit #02.\n"),
            (2, &[1], 2, "b\n\n[ Upstream commit #09 ]\n"),
            (1, &[], 1, "a"),
        ],
        &[(9, "stands"), (2, "stands"), (3, "undone"), (4, "stands")],
    );
}

#[test]
fn a_change_that_came_again_after_its_revert_stands() {
    check(
        &[
            (4, &[3], 2, "b\n\n[ Upstream commit #09 ]\n"),
            (3, &[2], 1, "Revert \"b\"\n\nThis reverts commit #09.\n"),
            (2, &[1], 2, "b\n\n[ Upstream commit #09 ]\n"),
            (1, &[], 1, "a"),
        ],
        &[(9, "stands"), (4, "stands"), (2, "undone")],
    );
}

#[test]
fn a_revert_beside_a_change_raises_a_doubt() {
    // Which of the two the merge kept is not to be seen.
    check(
        &[
            (5, &[4, 3], 5, "Merge branch 'x'"),
            (4, &[2], 4, "b\n\n[ Upstream commit #09 ]\n"),
            (3, &[2], 3, "Revert \"b\"\n\nThis reverts commit #09.\n"),
            (2, &[], 2, "a"),
        ],
        &[(9, "doubtful"), (4, "doubtful")],
    );
}

#[test]
fn loose_words_and_titles_raise_a_doubt() {
    for words in [
        "x\n\nThis partially reverts commit #02.\n",
        "Revert \"net: b\"\n\nIt broke.\n",
        "x\n\nIt would be better to revert #02 again\n",
    ] {
        check(
            &[
                (3, &[2], 3, words),
                (2, &[1], 2, "net: b\n"),
                (1, &[], 1, "a"),
            ],
            &[(2, "doubtful"), (1, "stands")],
        );
    }
}

#[test]
fn what_a_merge_took_no_change_of_is_in_doubt() {
    check(
        &[
            (5, &[4, 3], 4, "Merge -s ours"),
            (4, &[2], 4, "own"),
            (3, &[2], 3, "fix"),
            (2, &[], 2, "a"),
        ],
        &[(3, "doubtful"), (4, "stands"), (2, "stands")],
    );
    // And where another merge brought it with its changes it stands.
    check(
        &[
            (6, &[5, 3], 6, "Merge"),
            (5, &[4, 3], 4, "Merge -s ours"),
            (4, &[2], 4, "own"),
            (3, &[2], 3, "fix"),
            (2, &[], 2, "a"),
        ],
        &[(3, "stands")],
    );
}

#[test]
fn a_reverted_merge_puts_all_it_brought_in_doubt() {
    check(
        &[
            (
                6,
                &[5],
                4,
                "Revert \"Merge\"\n\nThis reverts commit #05, reversing\nchanges made to #04.\n",
            ),
            (5, &[4, 3], 5, "Merge"),
            (4, &[2], 4, "own"),
            (3, &[2], 3, "fix"),
            (2, &[], 2, "a"),
        ],
        &[(3, "doubtful"), (4, "stands"), (2, "stands"), (5, "undone")],
    );
}

#[test]
fn a_revert_by_the_name_of_another_branch_raises_a_doubt() {
    check(
        &[
            (3, &[2], 3, "Revert \"b\"\n\nThis reverts commit #08.\n"),
            (2, &[], 2, "a"),
        ],
        &[(8, "doubtful"), (2, "stands")],
    );
}

#[test]
fn short_names_fit() {
    let short: String = id(9).to_string().chars().take(12).collect();
    let text = format!("b\n\n(cherry picked from commit {short})\n");
    check(&[(2, &[1], 2, &text), (1, &[], 1, "a")], &[(9, "stands")]);
    let short: String = id(2).to_string().chars().take(8).collect();
    let text = format!("Revert \"b\"\n\nThis reverts commit {short}.\n");
    check(
        &[(3, &[2], 3, &text), (2, &[1], 2, "b"), (1, &[], 1, "a")],
        &[(2, "undone")],
    );
}

#[test]
fn garbled_orders_end() {
    // A commit before its child, one that is its own parent, and none at all.
    let found = history(&[(1, &[1, 2], 1, "a"), (2, &[1], 2, "b")], false);
    assert!(found.holds(id(2)));
    assert_eq!(Builder::default().finish(false), Err(NotAHistory::Empty));
}
