//! What says that a patch given by a person is the fix of a CVE.

use tuxtape_core::cve::Cve;
use tuxtape_core::git_id::GitId;

use super::commit::upstream;
use super::found::Tie;
use super::mail;

/// Says what ties the patch `text` to `cve`. What its own message says counts more than an index: a
/// patch that is the backport of another commit was listed for the wrong CVE.
pub(super) fn of(text: &str, cve: &Cve, is_listed: bool) -> Tie {
    let message = message(text);
    let known = |id: &GitId| {
        let fixes = cve.spans.iter().filter_map(|span| span.fixed);
        cve.mainline_fixes.contains(id) || fixes.into_iter().any(|fix| fix.commit == *id)
    };
    let of: Vec<GitId> = message.lines().filter_map(upstream).collect();
    // The id of a tree of one's own proves nothing.
    let mut own = message.lines().filter_map(named);
    let title = cve.title.trim();
    if of.iter().any(known)
        || own.any(|id| known(&id))
        || names(message, &cve.id.to_string())
        || (!title.is_empty() && mail::subject(message) == title)
    {
        return Tie::Message;
    }
    match (of.first(), is_listed) {
        (Some(other), _) => Tie::Untied {
            why: format!(
                "it says that it is the backport of {}, which the record does not name",
                other.short()
            ),
        },
        (None, true) => Tie::Index,
        (None, false) => Tie::Untied {
            why: "nothing but the name of its file ties it to the CVE".to_owned(),
        },
    }
}

/// Returns what stands before the diff.
fn message(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("diff --git ")
            || line.starts_with("--- ")
            || line.starts_with("Index: ")
        {
            break;
        }
        end += line.len();
    }
    text.get(..end).unwrap_or_default()
}

/// Reads the first line of a mail: `From SHA date`.
fn named(line: &str) -> Option<GitId> {
    line.strip_prefix("From ")?.get(..40)?.parse().ok()
}

/// Tells whether `text` has `name` with no further digit behind it.
fn names(text: &str, name: &str) -> bool {
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once(name) {
        if !behind.starts_with(|c: char| c.is_ascii_digit()) {
            return true;
        }
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use tuxtape_core::cve::State;

    use super::*;

    const DIFF: &str = "--- a/x.c\n+++ b/x.c\n@@ -1 +1,2 @@\n a\n+CVE-2026-0001\n";
    const FIX: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "1123456789abcdef0123456789abcdef01234567";

    fn record() -> Cve {
        Cve {
            id: "CVE-2026-0001".parse().unwrap(),
            state: State::Published,
            title: "x: check it".to_owned(),
            description: String::new(),
            files: vec!["x.c".to_owned()],
            cvss: None,
            references: Vec::new(),
            mainline_fixes: vec![FIX.parse().unwrap()],
            spans: Vec::new(),
            doubts: Vec::new(),
            disputes: Vec::new(),
            rejection: None,
        }
    }

    #[test]
    fn a_patch_is_tied_by_what_it_says_or_by_an_index() {
        let check = |message: &str, is_listed, expected: &str| {
            let found = match of(&format!("{message}{DIFF}"), &record(), is_listed) {
                Tie::Commit => "commit",
                Tie::Index => "index",
                Tie::Message => "message",
                Tie::Untied { .. } => "untied",
            };
            assert_eq!(found, expected, "{message}");
        };
        check("", false, "untied");
        check("", true, "index");
        check("Subject: [PATCH 1/2] x: check it\n\n", false, "message");
        check("Subject: [PATCH] y: check it\n\n", false, "untied");
        check("Subject: [PATCH] y: check it\n\n", true, "index");
        check("this closes CVE-2026-0001.\n", false, "message");
        check("this closes CVE-2026-00011.\n", false, "untied");
        check(&format!("From {FIX} Mon Sep 17\n"), false, "message");
        check(&format!("[ Upstream commit {FIX} ]\n"), false, "message");
        check(&format!("commit {FIX} upstream.\n"), true, "message");
        // Of another commit, whatever the index says.
        check(&format!("commit {OTHER} upstream.\n"), true, "untied");
        check(&format!("From {OTHER} Mon Sep 17\n"), true, "index");
        check(&format!("From {OTHER} Mon Sep 17\n"), false, "untied");
        // A backport has an id of its own.
        let both = format!("From {OTHER} Mon\n\n[ Upstream commit {FIX} ]\n");
        check(&both, false, "message");
    }
}
