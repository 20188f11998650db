//! What people see: a few lines a report, and what to do.

use std::fmt::Write as _;

use tuxtape_klog::assemble::{Counts, Event, Gap};
use tuxtape_klog::blame::{Finding, ModuleVerdict, Recommend, RevertPossible, Verdict};
use tuxtape_klog::output;
use tuxtape_klog::report::{Frame, Report, Severity};

use crate::screen::Screen;

/// Frames shown of a stack.
const SHOWN: usize = 6;

/// Writes for people.
pub(super) struct People {
    screen: Screen,
}

#[derive(Clone, Copy)]
enum Weight {
    Bad,
    Doubtful,
    Good,
    Faint,
}

impl People {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen }
    }

    fn paint(&self, weight: Weight, text: &str) -> String {
        let text = plain(text);
        if !self.screen.colour {
            return text;
        }
        let code = match weight {
            Weight::Bad => "1;31",
            Weight::Doubtful => "33",
            Weight::Good => "32",
            Weight::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    pub(super) fn report(
        &self,
        report: &Report,
        findings: &[Finding],
        count: u64,
        file: Option<&str>,
    ) -> String {
        let mut text = String::new();
        let weight = if report.severity >= Severity::Hang {
            Weight::Bad
        } else {
            Weight::Doubtful
        };
        let times = if count > 1 {
            format!(" ({count} times)")
        } else {
            String::new()
        };
        let place = file.map_or_else(
            || format!("byte {}", report.bytes.0),
            |file| format!("{file}, byte {}", report.bytes.0),
        );
        line(
            &mut text,
            format_args!(
                "{} {} {}{times} {}",
                time(report.time_us),
                self.paint(weight, report.severity.as_str()),
                plain(&report.title),
                self.paint(Weight::Faint, &place)
            ),
        );
        if let Some(detail) = &report.detail {
            line(&mut text, format_args!("    {}", plain(detail)));
        }
        let body = &report.body;
        let mut who = Vec::new();
        if let Some(guilty) = report.guilty.as_ref().or(body.ip.as_ref()) {
            who.push(format!("at {}", written(guilty)));
        }
        if let Some(comm) = &body.comm {
            let pid = body.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
            who.push(format!("task {comm}{pid}"));
        }
        if let Some(cpu) = body.cpu {
            who.push(format!("CPU {cpu}"));
        }
        if let Some(release) = &body.release {
            who.push(format!("kernel {release}"));
        }
        if !who.is_empty() {
            line(&mut text, format_args!("    {}", plain(&who.join(", "))));
        }
        let stack: Vec<&Frame> = body.frames.iter().filter(|frame| frame.reliable).collect();
        if !stack.is_empty() {
            let more = if stack.len() > SHOWN { " ..." } else { "" };
            let names: Vec<String> = stack
                .iter()
                .take(SHOWN)
                .map(|frame| frame.function.clone().unwrap_or_else(|| written(frame)))
                .collect();
            line(
                &mut text,
                format_args!("    stack: {}{more}", plain(&names.join(" < "))),
            );
        }
        if let Some(why) = output::corrupted(report) {
            line(&mut text, format_args!("    not whole: {why}"));
        }
        for finding in findings {
            line(&mut text, format_args!("    {}", self.finding(finding)));
        }
        if !report.text.is_empty() {
            for said in report.text.lines() {
                line(&mut text, format_args!("    | {}", plain(said)));
            }
        }
        text
    }

    fn finding(&self, finding: &Finding) -> String {
        let reasons: Vec<String> = finding
            .evidence
            .iter()
            .map(|evidence| format!("{} ({})", evidence.rule, plain(&evidence.found)))
            .collect();
        let against: Vec<String> = finding
            .against
            .iter()
            .map(|evidence| format!("{} ({})", evidence.rule, plain(&evidence.found)))
            .collect();
        let mut text = format!(
            "{}{}: {}",
            plain(&finding.module),
            if finding.ours { "" } else { " (not ours)" },
            self.verdict_word(finding.verdict)
        );
        if !reasons.is_empty() {
            text = format!("{text}: {}", reasons.join(", "));
        }
        if !against.is_empty() {
            text = format!("{text}; against: {}", against.join(", "));
        }
        text
    }

    fn verdict_word(&self, verdict: Verdict) -> String {
        let weight = match verdict {
            Verdict::Guilty => Weight::Bad,
            Verdict::Suspect => Weight::Doubtful,
            Verdict::Unknown => Weight::Faint,
            Verdict::Innocent => Weight::Good,
        };
        self.paint(weight, verdict.as_str())
    }

    pub(super) fn event(&self, event: &Event) -> String {
        format!(
            "{} {} {}\n",
            time(event.time_us),
            self.paint(Weight::Faint, event.kind.as_str()),
            plain(&event.text)
        )
    }

    pub(super) fn gap(&self, gap: &Gap) -> String {
        let count = match gap.records {
            0 => "records".to_owned(),
            1 => "1 record".to_owned(),
            many => format!("{many} records"),
        };
        let told = format!(
            "{count} missing ({}) at byte {}",
            gap.reason.as_str(),
            gap.bytes.0
        );
        format!("{}\n", self.paint(Weight::Doubtful, &told))
    }

    pub(super) fn verdict(&self, verdict: &ModuleVerdict) -> String {
        let level = verdict
            .level
            .map(|level| format!(", level {level}"))
            .unwrap_or_default();
        let advice = match (verdict.recommend, verdict.ours) {
            (Recommend::None, _) => "nothing to do",
            (Recommend::Observe, _) => "keep an eye on it",
            (Recommend::Hold, true) => "hold the rollout and ask the fleet",
            (Recommend::Revert, true) => "take it off: tuxtape-client rollback",
            (Recommend::Reboot, true) => "reboot without it",
            (Recommend::Hold | Recommend::Revert | Recommend::Reboot, false) => {
                "it is not ours: tell its vendor"
            }
        };
        let revert = match verdict.revert_possible {
            RevertPossible::Yes => "",
            RevertPossible::No => "; the kernel will not take it off",
            RevertPossible::Unknown => "; after what happened it may not come off",
        };
        let revert = if verdict.recommend >= Recommend::Revert {
            revert
        } else {
            ""
        };
        format!(
            "{}{level}, {}: {}: {}. {advice}{revert}\n",
            plain(&verdict.module),
            verdict.state.as_str(),
            self.verdict_word(verdict.verdict),
            plain(&verdict.why)
        )
    }

    pub(super) fn end(&self, counts: Counts, bytes: u64, again: &[(String, u64)]) -> String {
        let mut text = String::new();
        for (fingerprint, count) in again {
            line(
                &mut text,
                format_args!("{fingerprint}: {count} times in all"),
            );
        }
        let mut parts = vec![format!(
            "{} records, {bytes} bytes: {} reports",
            counts.records, counts.reports
        )];
        if counts.gaps > 0 {
            parts.push(format!("{} gaps", counts.gaps));
        }
        if counts.untrusted_headers > 0 {
            parts.push(format!(
                "{} headers that a user may have written",
                counts.untrusted_headers
            ));
        }
        line(
            &mut text,
            format_args!("{}", self.paint(Weight::Faint, &parts.join(", "))),
        );
        text
    }
}

fn line(text: &mut String, said: std::fmt::Arguments<'_>) {
    text.write_fmt(format_args!("{said}\n"))
        .expect("a String takes all that is written");
}

fn time(time_us: Option<u64>) -> String {
    time_us.map_or_else(
        || "[           -]".to_owned(),
        |time| format!("[{:5}.{:06}]", time / 1_000_000, time % 1_000_000),
    )
}

fn written(frame: &Frame) -> String {
    let name = match (&frame.function, frame.address) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) => format!("{address:#x}"),
        (None, None) => "?".to_owned(),
    };
    let place = match (frame.offset, frame.size) {
        (Some(offset), Some(size)) => format!("{name}+{offset:#x}/{size:#x}"),
        _ => name,
    };
    match &frame.module {
        Some(module) => format!("{place} [{module}]"),
        None => place,
    }
}

/// Nothing of a log reaches a terminal as it is.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
