//! From function outcomes to one verdict.

use super::{Cause, Difference, FunctionTruth, Outcome, Verdict};

pub(super) fn judge(functions: &[FunctionTruth]) -> Verdict {
    let wrong = functions.iter().filter(|function| is_wrong(function));
    let Some(first) = wrong.clone().next() else {
        return Verdict::Equal;
    };
    let difference = match &first.outcome {
        Outcome::Differs(difference) => Some(difference.clone()),
        Outcome::Equal | Outcome::Missing | Outcome::Overridden => None,
    };
    Verdict::NotTheKernel {
        function: first.name.clone(),
        difference,
        likely: likely_cause(wrong.count(), functions),
    }
}

fn is_wrong(function: &FunctionTruth) -> bool {
    match function.outcome {
        Outcome::Differs(_) | Outcome::Missing => true,
        Outcome::Equal | Outcome::Overridden => false,
    }
}

fn likely_cause(wrong: usize, functions: &[FunctionTruth]) -> Cause {
    let differences = functions
        .iter()
        .filter_map(|function| match &function.outcome {
            Outcome::Differs(difference) => Some(difference),
            Outcome::Equal | Outcome::Missing | Outcome::Overridden => None,
        });
    if differences.clone().count() > 0 && differences.clone().all(is_jump_or_nop) {
        return Cause::Objtool;
    }
    // A compiler or option change shows everywhere, a source change in a few places.
    if wrong.saturating_mul(2) > functions.len() {
        Cause::Compiler
    } else if differences
        .clone()
        .any(|difference| matches!(difference, Difference::Target { .. }))
    {
        Cause::Config
    } else {
        Cause::Source
    }
}

/// Jump labels are jumps until objtool makes them nops.
fn is_jump_or_nop(difference: &Difference) -> bool {
    let starts = |bytes: &[u8], with: &[&[u8]]| with.iter().any(|with| bytes.starts_with(with));
    match difference {
        Difference::Bytes { ours, theirs, .. } => {
            let jumps: &[&[u8]] = &[&[0xe9], &[0xeb]];
            let nops: &[&[u8]] = &[&[0x0f, 0x1f, 0x44, 0x00, 0x00], &[0x66, 0x90]];
            (starts(ours, jumps) && starts(theirs, nops))
                || (starts(ours, nops) && starts(theirs, jumps))
        }
        Difference::Size { .. } | Difference::Target { .. } => false,
    }
}
