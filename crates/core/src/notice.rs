//! What people should hear of, once.

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
    /// The fix of a CVE was reverted.
    FixReverted,
    /// A later change or CVE corrects the fix of an earlier CVE.
    FixFollowedUp,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Urgent,
        Self::Rejected,
        Self::Reinstated,
        Self::FixReverted,
        Self::FixFollowedUp,
    ];

    /// Names it in one word, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Rejected => "rejected",
            Self::Reinstated => "reinstated",
            Self::FixReverted => "fix-reverted",
            Self::FixFollowedUp => "fix-followed-up",
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
