//! What hangs, and whether it may still: no transition ends before every task has left what it
//! changes, and who waits for a lock may wait for somebody else who hangs.

use crate::record::Provenance;
use crate::report::{Class, Report, Severity};

/// A CPU that still stands is reported again within this time: soft lockups after 20 s, RCU stalls
/// after 66 s, by default.
const STANDS_US: u64 = 120_000_000;

/// What hangs inside a livepatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    /// Nothing that the log tells of.
    Nothing,
    /// A task that waits. The kernel reports it a few times and then falls silent.
    Task,
    /// A CPU, last reported at this time of printk's clock.
    Cpu(Option<u64>),
}

/// What hangs elsewhere: when it was last reported, by printk's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// Nothing that the log tells of.
    Nothing,
    /// A task or a CPU.
    Since(Option<u64>),
}

/// Whether what hung inside a livepatch still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Still {
    /// Nothing ever did.
    Free,
    /// As far as the log tells.
    Held,
    /// It should have been reported again, and was not.
    Unheard,
}

impl Stuck {
    /// Returns what hangs after a report with the livepatch on its stack.
    #[must_use]
    pub(super) fn after(self, report: &Report) -> Self {
        let hangs = report.class.severity() == Severity::Hang;
        if !hangs || report.provenance == Provenance::None || self == Self::Task {
            return self;
        }
        if report.class == Class::HungTask {
            Self::Task
        } else {
            Self::Cpu(report.time_us)
        }
    }

    /// Tells whether it still hangs at `now_us` of printk's clock.
    pub(super) fn still(self, now_us: Option<u64>) -> Still {
        match self {
            Self::Nothing => Still::Free,
            Self::Task => Still::Held,
            Self::Cpu(at) if is_fresh(at, now_us) => Still::Held,
            Self::Cpu(_) => Still::Unheard,
        }
    }
}

impl Elsewhere {
    /// Returns what hangs after a report without the livepatch on its stack. A task that sleeps where
    /// it must not may hold a lock meanwhile.
    #[must_use]
    pub(super) fn after(self, report: &Report) -> Self {
        let holds = report.class.severity() == Severity::Hang || report.class == Class::AtomicSleep;
        if holds && report.provenance != Provenance::None {
            Self::Since(report.time_us)
        } else {
            self
        }
    }

    /// Tells whether it may still hang at `now_us` of printk's clock.
    pub(super) fn may_still(self, now_us: Option<u64>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Since(at) => is_fresh(at, now_us),
        }
    }
}

/// What no clock tells may be.
fn is_fresh(at: Option<u64>, now_us: Option<u64>) -> bool {
    let age = at.zip(now_us).and_then(|(at, now)| now.checked_sub(at));
    age.is_none_or(|age| age <= STANDS_US)
}
