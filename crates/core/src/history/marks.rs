//! What a commit's message says of other commits.

use std::collections::BTreeSet;

use crate::git_id::GitId;

/// Fewest digits by which a message may name the commit it is a backport of. Shorter ones are not
/// unique in a history of a million commits.
const BACKPORT_DIGITS: usize = 12;
/// Fewest digits by which a revert is taken to name a commit: here a wrong guess only raises a doubt.
const REVERT_DIGITS: usize = 7;
/// Most words behind "revert" among which a commit is looked for.
const NEAR: usize = 16;

/// A commit as a message names it: 7 to 40 lower-case hex digits, the first ones of its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named(String);

/// How a message says that a commit was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plainness {
    /// In the words that `git revert` writes.
    Plain,
    /// In other words: in part, quoted, or as something that could be done.
    Loose,
}

/// What a message says of other commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The commits of which this one is a backport.
    pub backport_of: BTreeSet<Named>,
    /// The commits that this one takes back.
    pub reverts: BTreeSet<(Named, Plainness)>,
    /// The title of the commit that this one takes back, where it does not name it otherwise.
    pub reverts_title: Option<String>,
}

impl Named {
    /// Takes 7 to 40 hex digits.
    pub fn new(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|c| c.is_ascii_hexdigit());
        ((REVERT_DIGITS..=40).contains(&text.len()) && is_hex)
            .then(|| Self(text.to_ascii_lowercase()))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the fewest digits of it that are still a name.
    pub(super) fn shortest(&self) -> Self {
        Self(self.0.chars().take(REVERT_DIGITS).collect())
    }

    /// Tells whether it may be the name of `id`.
    pub fn fits(&self, id: GitId) -> bool {
        id.to_string().starts_with(&self.0)
    }
}

impl From<GitId> for Named {
    fn from(id: GitId) -> Self {
        Self(id.to_string())
    }
}

impl Marks {
    /// Tells whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.backport_of.is_empty() && self.reverts.is_empty() && self.reverts_title.is_none()
    }

    /// Reads a commit's message.
    ///
    /// Backports are told by a line of their own, as git and the maintainers of stable kernels write it:
    /// `(cherry picked from commit ID)`, `(backported from commit ID)`, `commit ID upstream.`,
    /// `[ Upstream commit ID ]`.
    pub fn read(message: &str) -> Self {
        let mut marks = Self::default();
        // Most messages say nothing of the kind.
        let has = |word: &str| message.contains(word);
        if has("evert") {
            marks.read_reverts(message);
        }
        if has("ommit") {
            marks.read_backports(message);
        }
        marks
    }

    fn read_backports(&mut self, message: &str) {
        let mut is_start = true;
        for line in message.lines().map(str::trim_end) {
            let named = picked(line).or_else(|| is_start.then(|| upstream(line)).flatten());
            // A sentence on a revert can run on into a line that looks like a backport's.
            let taken_back = |named: &Named| self.reverts.iter().any(|(it, _)| it == named);
            if let Some(named) = named.filter(|named| !taken_back(named)) {
                self.backport_of.insert(named);
            }
            is_start = line.is_empty();
        }
    }

    fn read_reverts(&mut self, message: &str) {
        let subject = message.lines().next().unwrap_or_default().trim_end();
        for paragraph in message.split("\n\n") {
            let lines = paragraph.lines().filter(|line| !is_trailer(line));
            let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
            for (at, word) in words.iter().enumerate() {
                if is_revert(word) {
                    self.take_back(&words, at);
                }
            }
        }
        let title = subject
            .strip_prefix("Revert \"")
            .and_then(|rest| rest.strip_suffix('"'));
        if let Some(title) = title
            && self.reverts.is_empty()
        {
            self.reverts_title = Some(title.to_owned());
        }
    }

    /// Takes the commits named in the sentence on a revert whose verb is word `at`.
    fn take_back(&mut self, words: &[&str], at: usize) {
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        let behind = words.get(at + 1);
        let is_plain = words.get(at) == Some(&"reverts")
            && before.is_some_and(|word| matches!(*word, "This" | "this"))
            && behind.is_some_and(|word| matches!(*word, "commit" | "commits"))
            // A quoted sentence begins with its mark.
            && at.checked_sub(2).and_then(|mark| words.get(mark)).is_none_or(|word| *word != ">");
        let plainness = if is_plain {
            Plainness::Plain
        } else {
            Plainness::Loose
        };
        for word in words.iter().skip(at + 1).take(NEAR) {
            // `git revert` names in these words the side that stays.
            if *word == "reversing" || is_revert(word) {
                break;
            }
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let has_digit = bare.bytes().any(|c| c.is_ascii_digit());
            if let Some(named) = Named::new(bare).filter(|_| has_digit) {
                self.reverts.insert((named, plainness));
            }
            if word.ends_with('.') {
                break;
            }
        }
    }
}

fn is_revert(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    word.get(..6)
        .is_some_and(|start| start.eq_ignore_ascii_case("revert"))
}

/// Tells whether a line is one as `Fixes: …`: it quotes titles of other commits.
fn is_trailer(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(key, _)| {
        key.contains('-') || matches!(key, "Fixes" | "Link" | "Closes" | "Cc" | "BugLink")
    }) && line.starts_with(|c: char| c.is_ascii_uppercase())
}

/// Reads `(cherry picked from commit ID)`, which may say more behind the id.
fn picked(line: &str) -> Option<Named> {
    let rest = line
        .strip_prefix("(cherry picked from commit ")
        .or_else(|| line.strip_prefix("(backported from commit "))?;
    let rest = rest.strip_suffix(')')?;
    backport(rest.split_ascii_whitespace().next()?)
}

/// Reads `commit ID upstream.`, `[ Upstream commit ID ]` and `Upstream commit ID.`
fn upstream(line: &str) -> Option<Named> {
    if line.starts_with([' ', '\t', '>']) || line.len() > 80 {
        return None;
    }
    let bare = line.trim_matches(|c: char| matches!(c, '[' | ']' | '.' | ' '));
    let words: Vec<String> = bare
        .split_ascii_whitespace()
        .map(str::to_ascii_lowercase)
        .collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream", "commit", id] | ["commit", id, "upstream"] => backport(id),
        _ => None,
    }
}

fn backport(text: &str) -> Option<Named> {
    Named::new(text).filter(|named| named.as_str().len() >= BACKPORT_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn backports(message: &str, expected: &[&str]) {
        let marks = Marks::read(message);
        let found: Vec<&str> = marks.backport_of.iter().map(Named::as_str).collect();
        assert_eq!(found, expected, "{message:?}");
    }

    fn reverts(message: &str, expected: &[(&str, Plainness)]) {
        let marks = Marks::read(message);
        let found: Vec<(&str, Plainness)> = marks
            .reverts
            .iter()
            .map(|(named, plainness)| (named.as_str(), *plainness))
            .collect();
        assert_eq!(found, expected, "{message:?}");
    }

    #[test]
    fn a_backport_is_told_by_a_line_of_its_own() {
        for text in [
            format!("t\n\ncommit {A} upstream.\n\nbody\n"),
            format!("t\n\nCommit {A} upstream\n\nbody\n"),
            format!("t\n\n[ Upstream commit {A} ]\n\nbody\n"),
            format!("t\n\nUpstream commit {A}.\n\nbody\n"),
            format!("t\n\nSigned-off-by: x\n(cherry picked from commit {A})\n"),
            format!("t\n\n(cherry picked from commit {A} linux-next)\n"),
            format!("t\n\n(backported from commit {A})\n"),
        ] {
            backports(&text, &[A]);
        }
        backports(
            "t\n\n(cherry picked from commit 1111111111ab)\n",
            &["1111111111ab"],
        );
    }

    #[test]
    fn what_only_speaks_of_a_backport_is_none() {
        for text in [
            format!("t\n\nthis was commit {A} upstream.\n"),
            format!("t\n\n> commit {A} upstream.\n"),
            format!("t\n\n    commit {A} upstream.\n"),
            format!("t\n\nsee\ncommit {A} upstream.\n"),
            "t\n\n(cherry picked from commit 1111111)\n".to_owned(),
            format!("t\n\n(cherry picked from commit {A}\n"),
            format!("Fixes: {A}\n"),
        ] {
            backports(&text, &[]);
        }
        // A revert of a backport as stable kernels word it, however its lines are broken.
        let text =
            format!("Revert \"t\"\n\nThis reverts commit {B} which is\ncommit {A} upstream.\n");
        backports(&text, &[]);
        reverts(&text, &[(A, Plainness::Plain), (B, Plainness::Plain)]);
    }

    #[test]
    fn a_revert_is_plain_in_gits_own_words() {
        reverts(
            &format!("Revert \"t\"\n\nThis reverts commit {A}.\n"),
            &[(A, Plainness::Plain)],
        );
        reverts(
            &format!("Revert \"t\"\n\nThis reverts commit\n{A}.\n"),
            &[(A, Plainness::Plain)],
        );
        reverts(
            &format!("Revert \"t\"\n\nThis reverts commits {A} and\n{B}.\n"),
            &[(A, Plainness::Plain), (B, Plainness::Plain)],
        );
        reverts(
            &format!("Revert \"t\"\n\nThis reverts commit {A}, reversing\nchanges made to {B}.\n"),
            &[(A, Plainness::Plain)],
        );
    }

    #[test]
    fn other_words_raise_a_doubt() {
        for text in [
            format!("t\n\nThis partially reverts commit {A}.\n"),
            format!("t\n\nRevert commit {A} for now.\n"),
            format!("t\n\n> This reverts commit {A}.\n"),
            format!("t\n\nIt helps to revert {A}\n"),
        ] {
            reverts(&text, &[(A, Plainness::Loose)]);
        }
        reverts(
            "t\n\nThis reverts commit 1234567 (\"t\").\n",
            &[("1234567", Plainness::Plain)],
        );
        for text in [
            format!("t\n\nFixes: 123456789abc (\"Revert \"x\"\")\nFixes: {A}\n"),
            format!("t\n\nA revert is no way. See {A}.\n"),
            "t\n\nrevert the defaced ones\n".to_owned(),
        ] {
            reverts(&text, &[]);
        }
    }

    #[test]
    fn a_revert_without_an_id_names_a_title() {
        let marks = Marks::read("Revert \"net: fix it\"\n\nIt broke.\n");
        assert_eq!(marks.reverts_title.as_deref(), Some("net: fix it"));
        let marks = Marks::read(&format!(
            "Revert \"net: fix it\"\n\nThis reverts commit {A}.\n"
        ));
        assert_eq!(marks.reverts_title, None);
    }
}
