//! What the kernel log says about a level that was just loaded.

use tuxtape_klog::judge::{self, Verdict};
use tuxtape_klog::report::Severity;

use crate::load::{CrashVerdict, LogVerdict};

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

/// Judges what was kept of crashes about `module`.
pub fn judge_crash(records: &[u8], module: &str) -> CrashVerdict {
    let judged = judge::judge_kept(records, &[module]);
    // What is milder than an oops did not end a boot.
    let fatal = |report: &&judge::Report| report.severity >= Severity::Oops;
    let Some(first) = judged.reports.iter().find(fatal) else {
        return CrashVerdict::Nothing;
    };
    let title = first.title.clone();
    let Some(found) = judged.modules.first() else {
        return CrashVerdict::Elsewhere(title);
    };
    let because = found.because.clone().unwrap_or_else(|| title.clone());
    match found.verdict {
        Verdict::Innocent | Verdict::Unknown => CrashVerdict::Elsewhere(title),
        Verdict::Suspect => CrashVerdict::Involved(because),
        Verdict::Guilty => CrashVerdict::Guilty(because),
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

    /// A panic as pstore keeps it: two parts, the newest first.
    fn kept(ip: &str, stack: &str) -> Vec<u8> {
        format!(
            "Panic#1 Part1\n<4>[   20.3] Call Trace:\n<4>[   20.4]  <TASK>\n<4>[   20.5]  {stack}\n<4>[   20.6]  do_syscall_64+0x5b/0xc0\n\
             <4>[   20.7]  </TASK>\n<0>[   20.8] Kernel panic - not syncing: Fatal exception\n\
             Panic#1 Part2\n<1>[   20.1] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
             <4>[   20.2] CPU: 0 PID: 1 Comm: sh Tainted: G           OE K    6.1.0\n<4>[   20.2] RIP: 0010:{ip}\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_kept_crash_names_the_level_in_its_instruction_or_on_its_stack_or_not() {
        let judged = |ip: &str, stack: &str| judge_crash(&kept(ip, stack), "tt_1");
        let own = judged("f+0x1/0x20 [tt_1]", "g+0x1/0x20");
        assert!(matches!(own, CrashVerdict::Guilty(_)), "{own:?}");
        let deep = judged("memcpy+0x1/0x20", "f+0x1/0x20 [tt_1]");
        assert!(
            matches!(deep, CrashVerdict::Involved(_) | CrashVerdict::Guilty(_)),
            "{deep:?}"
        );
        let other = judged("memcpy+0x1/0x20 [e1000]", "g+0x1/0x20");
        assert!(matches!(other, CrashVerdict::Elsewhere(_)), "{other:?}");
        let calm = judge_crash(b"Oops#1 Part1\n<6>[ 1.0] usb 1-1: new device\n", "tt_1");
        assert_eq!(calm, CrashVerdict::Nothing);
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
