//! Parts that several answers share.

use serde::Serialize;
use tuxtape_core::decision;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::instant::UtcSeconds;
use tuxtape_core::priority;

/// One term of a priority.
#[derive(Debug, Serialize)]
pub(crate) struct Factor<'a> {
    term: &'a str,
    points: i32,
    cause: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

/// One decision.
#[derive(Debug, Serialize)]
pub(crate) struct Decision<'a> {
    choice: &'static str,
    who: &'a str,
    why: &'a str,
    at: UtcSeconds,
    until: Option<UtcSeconds>,
    /// For all kernels when absent.
    kernel: Option<&'a str>,
}

pub(crate) fn factor(factor: &priority::Factor) -> Factor<'_> {
    Factor {
        term: factor.term,
        points: factor.points,
        cause: &factor.cause,
        why: factor.why.as_deref(),
    }
}

pub(crate) fn decision(decision: &decision::Decision) -> Decision<'_> {
    Decision {
        choice: decision.choice.as_str(),
        who: &decision.who,
        why: &decision.why,
        at: decision.at,
        until: decision.until,
        kernel: decision.kernel.as_ref().map(KernelRelease::as_str),
    }
}
