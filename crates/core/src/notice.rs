//! What people should hear of, once.

pub mod derive;
pub mod kernels;
pub mod retry;

use std::fmt;

use crate::cve::CveId;
use crate::identity::KernelRelease;
use crate::instant::UtcSeconds;

/// Kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// A CVE that asks for action now is open, or may be, in a known kernel.
    Urgent,
    /// A record was withdrawn by its authority.
    Rejected,
    /// A withdrawn record is back.
    Reinstated,
    /// A record is gone from the feed, neither valid nor withdrawn.
    Gone,
    /// The fix of a CVE was reverted.
    FixReverted,
    /// A later change or CVE corrects the fix of an earlier CVE.
    FixFollowedUp,
    /// The distribution has a newer kernel.
    KernelNew,
    /// The support of a kernel comes to its end, or has come.
    KernelCover,
    /// What was found for a kernel is another than before.
    KernelVerdicts,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Urgent,
        Self::Rejected,
        Self::Reinstated,
        Self::Gone,
        Self::FixReverted,
        Self::FixFollowedUp,
        Self::KernelNew,
        Self::KernelCover,
        Self::KernelVerdicts,
    ];

    /// Names it in one word, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Rejected => "rejected",
            Self::Reinstated => "reinstated",
            Self::Gone => "gone",
            Self::FixReverted => "fix-reverted",
            Self::FixFollowedUp => "fix-followed-up",
            Self::KernelNew => "kernel-new",
            Self::KernelCover => "kernel-cover",
            Self::KernelVerdicts => "kernel-verdicts",
        }
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The same event always makes the same key; a key is told once.
    pub key: String,
    /// What it is about.
    pub kind: NoticeKind,
    /// When it was noticed.
    pub at: UtcSeconds,
    /// The CVE, where it is about one.
    pub cve: Option<CveId>,
    /// The kernel, where it is about one.
    pub kernel: Option<KernelRelease>,
    /// One line without control characters.
    pub subject: String,
    /// Text of several lines.
    pub body: String,
}

/// Longest subject, in characters.
const LONGEST_SUBJECT: usize = 200;

/// Makes one line of `text` that is safe in a header and on a terminal: no control characters, none
/// that turn the direction of writing, no runs of white space, at most 200 characters.
pub fn one_line(text: &str) -> String {
    let visible: String = text
        .chars()
        .map(|c| if is_plain(c) { c } else { ' ' })
        .collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST_SUBJECT {
        return line;
    }
    let short: String = line.chars().take(LONGEST_SUBJECT - 1).collect();
    format!("{short}…")
}

/// Makes `text` safe in a mail and on a terminal, with its line ends as they are.
pub fn plain_text(text: &str) -> String {
    text.chars()
        .filter(|c| is_plain(*c) || *c == '\n')
        .collect()
}

fn is_plain(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_plain_line() {
        assert_eq!(one_line("a\r\nBcc: x@y\u{0}\u{9b} b"), "a Bcc: x@y b");
        assert_eq!(one_line("abc\u{202e}def\u{2028}g"), "abc def g");
        assert_eq!(one_line(&"ä".repeat(300)).chars().count(), LONGEST_SUBJECT);
        assert_eq!(one_line(&"ä".repeat(200)), "ä".repeat(200));
    }

    #[test]
    fn a_text_keeps_its_lines() {
        assert_eq!(plain_text("a\r\nb\u{1b}[31m\n"), "a\nb[31m\n");
    }
}
