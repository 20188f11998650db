//! What the kernel log says about a level that was just loaded.

use tuxtape_klog::judge::{self, Verdict};
use tuxtape_klog::report::Severity;

use crate::load::LogVerdict;

/// Judges kernel log records about `module`.
///
/// While a level is new, a report that falls into its load or transition, or has it on the stack,
/// counts against it: the kernel without it is known to run. Later, such a report alone would not
/// take a security fix away.
pub fn judge(log: &[u8], module: &str) -> LogVerdict {
    let judged = judge::judge(log, &[module]);
    let Some(found) = judged.modules.first() else {
        return LogVerdict::Clean;
    };
    let first = found
        .because
        .clone()
        .unwrap_or_else(|| "no report".to_owned());
    match found.verdict {
        Verdict::Innocent => LogVerdict::Clean,
        Verdict::Unknown => LogVerdict::Unrelated {
            what: first,
            oopses: judged
                .reports
                .iter()
                .filter(|report| report.severity >= Severity::Oops)
                .count() as u64,
        },
        Verdict::Suspect => {
            LogVerdict::Guilty(format!("the kernel complained with it involved: {first}"))
        }
        Verdict::Guilty => LogVerdict::Guilty(format!("the kernel complained about it: {first}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Vec<u8> {
        let records = lines
            .iter()
            .zip(1..)
            .map(|(line, n)| format!("4,{n},{n}00000,-;{line}\n"));
        records.collect::<String>().into_bytes()
    }

    const IN: [&str; 3] = [
        "livepatch: enabling patch 'tt_1'",
        "livepatch: 'tt_1': starting patching transition",
        "livepatch: 'tt_1': patching complete",
    ];

    #[test]
    fn a_quiet_log_is_clean() {
        assert_eq!(judge(&log(&IN), "tt_1"), LogVerdict::Clean);
    }

    #[test]
    fn an_oops_in_the_module_speaks_against_it() {
        let mut lines = IN.to_vec();
        lines.extend([
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "RIP: 0010:f+0x1/0x20 [tt_1]",
            "Call Trace:",
            " g+0x1/0x20",
        ]);
        assert!(matches!(judge(&log(&lines), "tt_1"), LogVerdict::Guilty(_)));
    }

    #[test]
    fn an_oops_elsewhere_is_told_and_not_held_against_it() {
        let mut lines = IN.to_vec();
        lines.extend([
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "RIP: 0010:other_function+0x1/0x20 [e1000]",
            "Call Trace:",
            " g+0x1/0x20",
        ]);
        assert!(matches!(
            judge(&log(&lines), "tt_1"),
            LogVerdict::Unrelated { oopses: 1, .. }
        ));
    }
}
