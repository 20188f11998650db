//! Reads one commit as a mail, as `git format-patch` and web views of repositories write it.
//!
//! The bytes come from a server. A message may itself hold lines that look like a diff, so the mail's
//! own summary (`2 files changed, …`) is compared with what was read.

use std::collections::BTreeSet;

use tuxtape_core::git_id::GitId;

use super::commit::{CommitDiff, CommitError};
use crate::unified::{self, LONGEST_DIFF, Side};

/// Longest message that is kept, in bytes.
const LONGEST_MESSAGE: usize = 64 << 10;

/// Reads the mail of the commit `asked`.
pub fn parse(text: &[u8], asked: GitId) -> Result<CommitDiff, CommitError> {
    if text.len() > LONGEST_DIFF {
        return Err(unified::DiffError::TooLong { length: text.len() }.into());
    }
    let text = std::str::from_utf8(text).map_err(|_| CommitError::NotText)?;
    if is_page(text) {
        return Err(wrong("the answer is a web page and no patch"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(wrong("the answer was cut off"));
    }
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let named = first
        .strip_prefix("From ")
        .and_then(|line| line.get(..40))
        .and_then(|id| id.parse::<GitId>().ok());
    match named {
        None => {
            return Err(wrong(
                "the answer does not begin with `From ` and a commit's id",
            ));
        }
        Some(named) if named != asked => {
            return Err(wrong(&format!(
                "the answer is the patch of another commit, {named}"
            )));
        }
        Some(_) => {}
    }
    if rest.lines().any(begins_mail) {
        return Err(wrong("the answer holds the patches of several commits"));
    }
    let (headers, body) = rest
        .split_once("\n\n")
        .ok_or_else(|| wrong("the answer is a mail without a body"))?;
    let (words, patch) = parted(body).ok_or_else(|| wrong("the answer holds no diff"))?;
    let mut message = subject(headers);
    message.push_str("\n\n");
    message.extend(words.chars().take(LONGEST_MESSAGE));
    let commit = CommitDiff {
        id: asked,
        time: 0,
        message,
        diff: without_signature(patch).to_owned(),
        whole: None,
        renames: Vec::new(),
    }
    .checked()?;
    check_summary(words, body, &commit.diff)?;
    Ok(commit)
}

/// Entry for fuzzing: reads bytes as the mail of the commit that they name.
pub fn fuzz(bytes: &[u8]) {
    let named = bytes.get(5..45).and_then(|id| GitId::from_hex(id).ok());
    let asked = named.unwrap_or(GitId::from_bytes([7; 20]));
    if let Ok(commit) = parse(bytes, asked) {
        assert_eq!(commit.id, asked);
        assert!(unified::parse(commit.diff.as_bytes()).is_ok());
    }
}

fn wrong(why: &str) -> CommitError {
    CommitError::NotThisPatch {
        why: why.to_owned(),
    }
}

fn is_page(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(512).collect();
    let start = start.to_ascii_lowercase();
    start.starts_with('<') || start.contains("<!doctype") || start.contains("<html")
}

/// Tells whether a line parts mails: `From SHA date`.
fn begins_mail(line: &str) -> bool {
    line.strip_prefix("From ")
        .and_then(|rest| rest.split_once(' '))
        .is_some_and(|(id, _)| id.parse::<GitId>().is_ok())
}

/// Returns the subject of a mail's headers, unfolded, without `[PATCH]`.
pub(super) fn subject(headers: &str) -> String {
    let mut subject = String::new();
    for line in headers.lines() {
        let folded = line.starts_with([' ', '\t']);
        if let Some(text) = line.strip_prefix("Subject:") {
            text.trim().clone_into(&mut subject);
        } else if folded && !subject.is_empty() {
            subject.push(' ');
            subject.push_str(line.trim());
        } else if !subject.is_empty() {
            break;
        }
    }
    match subject.split_once("] ") {
        Some((tag, rest)) if tag.starts_with("[PATCH") => rest.to_owned(),
        _ => subject,
    }
}

/// Parts a body into message with summary, and diff.
fn parted(body: &str) -> Option<(&str, &str)> {
    if body.starts_with("diff --git ") {
        return Some(("", body));
    }
    // The first after the line that ends the message; what stands in the message is talk.
    let end = body.find("\n---\n").unwrap_or(0);
    let start = body.get(end..)?.find("\ndiff --git ")?.checked_add(end)?;
    Some((body.get(..start)?, body.get(start + 1..)?))
}

/// Cuts off the mailer's signature, which follows the last hunk as `-- ` and a version.
fn without_signature(patch: &str) -> &str {
    match patch.rfind("\n-- \n") {
        // In a hunk it would be a removed line with more behind it.
        Some(end)
            if patch
                .get(end + 5..)
                .is_some_and(|rest| rest.trim_end().lines().count() <= 1) =>
        {
            patch.get(..=end).unwrap_or(patch)
        }
        _ => patch,
    }
}

/// Compares the one `N files changed, I insertions(+), D deletions(-)` with the diff. A second one would
/// be that of a diff in the message.
fn check_summary(words: &str, body: &str, diff: &str) -> Result<(), CommitError> {
    let mut summaries = words.lines().filter_map(counts);
    let summary = summaries.next();
    let (Some(summary), 1) = (summary, body.lines().filter_map(counts).count()) else {
        return Err(wrong(
            "it cannot be told where the message of the patch ends (want one line `N files changed, …`)",
        ));
    };
    let parsed = unified::parse(diff.as_bytes())?;
    let files: BTreeSet<&str> = parsed.files.iter().map(|file| file.path.as_str()).collect();
    let count = |side: Side| {
        let hunks = parsed.files.iter().flat_map(|file| &file.hunks);
        let lines = hunks.flat_map(|hunk| &hunk.lines);
        lines.filter(|line| line.side == side).count()
    };
    let found = (files.len(), count(Side::New), count(Side::Old));
    if found == summary {
        Ok(())
    } else {
        Err(wrong(&format!(
            "the patch says it changes {} files (+{} -{}), and changes {} (+{} -{})",
            summary.0, summary.1, summary.2, found.0, found.1, found.2
        )))
    }
}

/// Reads ` 2 files changed, 3 insertions(+), 1 deletion(-)`.
fn counts(line: &str) -> Option<(usize, usize, usize)> {
    let mut parts = line.strip_prefix(' ')?.trim_end().split(", ");
    let number = |part: &str, word: &str| {
        let (number, rest) = part.split_once(' ')?;
        rest.starts_with(word)
            .then(|| number.parse::<usize>().ok())?
    };
    let first = parts.next()?;
    let files = first
        .ends_with(" changed")
        .then(|| number(first, "file"))??;
    let (mut added, mut removed) = (0, 0);
    for part in parts {
        if let Some(count) = number(part, "insertion") {
            added = count;
        } else {
            removed = number(part, "deletion")?;
        }
    }
    Some((files, added, removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From a49d25364dfb9f8a64037488a39ab1f56c5fa419 Mon Sep 17 00:00:00 2001\n\
        From: Ann <ann@example.org>\n\
        Date: Tue, 3 Feb 2026 10:00:00 +0000\n\
        Subject: [PATCH] net: fix a very long\n subject\n\
        \n\
        commit b49d25364dfb9f8a64037488a39ab1f56c5fa419 upstream.\n\
        \n\
        Signed-off-by: Ann <ann@example.org>\n\
        ---\n net/x.c | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\
        \n\
        diff --git a/net/x.c b/net/x.c\n\
        index 1234567..89abcde 100644\n\
        --- a/net/x.c\n+++ b/net/x.c\n@@ -1 +1 @@\n-1\n+2\n\
        -- \n2.47.3\n\n";

    fn asked() -> GitId {
        "a49d25364dfb9f8a64037488a39ab1f56c5fa419".parse().unwrap()
    }

    fn refused(text: &str) -> String {
        parse(text.as_bytes(), asked()).unwrap_err().to_string()
    }

    #[test]
    fn a_mail_gives_message_and_diff() {
        let commit = parse(MAIL.as_bytes(), asked()).unwrap();
        assert_eq!(commit.subject(), "net: fix a very long subject");
        assert_eq!(commit.upstream().len(), 1);
        assert!(commit.diff.starts_with("diff --git a/net/x.c"));
        assert!(commit.diff.ends_with("+2\n"), "{:?}", commit.diff);
    }

    #[test]
    fn a_web_page_with_status_200_is_no_diff() {
        for page in [
            "<!DOCTYPE html>\n<html>",
            "\n <html lang=en>",
            "<?xml version='1.0'?>\n<!doctype html>",
        ] {
            assert!(refused(page).contains("web page"), "{page}");
        }
        assert!(refused("").contains("does not begin"));
        assert!(refused("Not found\n").contains("does not begin"));
    }

    #[test]
    fn the_patch_of_another_commit_is_refused() {
        assert!(refused(&MAIL.replacen("From a49", "From c49", 1)).contains("another commit"));
        let twice = format!("{MAIL}{MAIL}");
        assert!(refused(&twice).contains("several commits"));
    }

    #[test]
    fn a_diff_in_the_message_is_not_taken_for_the_fix() {
        let false_diff =
            "---\n\ndiff --git a/y.c b/y.c\n--- a/y.c\n+++ b/y.c\n@@ -1 +1 @@\n-1\n+evil\n\nSigned";
        let text = MAIL.replacen("Signed", false_diff, 1);
        assert!(parse(text.as_bytes(), asked()).is_err());
        let indented = MAIL.replacen("Signed", "    diff --git a/y.c b/y.c\n\nSigned", 1);
        assert!(parse(indented.as_bytes(), asked()).is_ok());
    }

    #[test]
    fn a_cut_off_patch_is_refused() {
        let whole = parse(MAIL.as_bytes(), asked()).unwrap();
        for end in 0..MAIL.len() {
            if let Ok(commit) = parse(&MAIL.as_bytes()[..end], asked()) {
                assert_eq!(commit.diff.trim_end(), whole.diff.trim_end(), "{end}");
            }
        }
    }

    #[test]
    fn a_patch_that_is_not_what_it_says_is_refused() {
        let text = MAIL.replace("1 insertion(+), 1 deletion(-)", "2 insertions(+)");
        assert!(refused(&text).contains("says it changes 1 files (+2 -0)"));
    }

    #[test]
    fn renames_and_binary_changes_are_named() {
        let text = MAIL.replace(
            "--- a/net/x.c",
            "similarity index 90%\nrename from net/y.c\nrename to net/x.c\n--- a/net/x.c",
        );
        assert!(refused(&text).contains("rename"), "{}", refused(&text));
    }
}
