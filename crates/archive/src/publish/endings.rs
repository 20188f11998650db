//! Signatures of people that end soon: nothing online can renew them.

use super::checked::Checked;
use crate::time::UtcSeconds;

const DAY: u64 = 86_400;
/// People who meet for a ceremony need weeks.
const TOP: u64 = 21 * DAY;
/// Reviewers renew once a month.
const KERNEL: u64 = 7 * DAY;

/// Something that people must sign again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// `root`, `targets`, or the role of the kernel that ends first.
    pub role: String,
    /// How many other kernels end soon, too.
    pub others: usize,
    /// When it ends.
    pub at: UtcSeconds,
    /// Seconds left; 0 where it is over.
    pub left: u64,
}

impl Ending {
    /// Says what happens, what to do, and how much time is left.
    pub fn sentence(&self) -> String {
        let when = match self.left {
            0 => format!("ended at {}", self.at),
            left if left < 2 * DAY => format!("ends in {} hours, at {}", left / 3600, self.at),
            left => format!("ends in {} days, at {}", left / DAY, self.at),
        };
        let (stops, option) = match self.role.as_str() {
            "root" => ("then no machine takes anything new from here", "--root"),
            "targets" => ("then no machine takes anything new from here", "--targets"),
            _ => ("then its machines get nothing new", "--kernels"),
        };
        let others = match self.others {
            0 => String::new(),
            others => format!(", and {others} more kernels soon"),
        };
        format!(
            "{} {when}{others}; {stops}. Its keys are offline: run `tuxtape archive renew {option}`, have the drafts signed (`tuxtape archive sign`), and publish",
            self.role
        )
    }
}

/// Lists what ends soon, first what stops most.
pub(super) fn endings(
    root: UtcSeconds,
    targets: UtcSeconds,
    checked: &Checked,
    now: UtcSeconds,
) -> Vec<Ending> {
    let soon = |at: UtcSeconds, limit| at.since(now) < limit;
    let ending = |role: &str, others, at: UtcSeconds| Ending {
        role: role.to_owned(),
        others,
        at,
        left: at.since(now),
    };
    let mut found = Vec::new();
    for (role, at) in [("root", root), ("targets", targets)] {
        if soon(at, TOP) {
            found.push(ending(role, 0, at));
        }
    }
    let kernels = checked
        .roles
        .iter()
        .map(|(name, role)| (role.expires, name));
    let kernels: Vec<_> = kernels.filter(|(at, _)| soon(*at, KERNEL)).collect();
    if let Some((at, name)) = kernels.iter().min() {
        found.push(ending(name, kernels.len() - 1, *at));
    }
    found
}
