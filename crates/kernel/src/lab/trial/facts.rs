//! From a boot's facts and log to what each livepatch did.

use std::time::Duration;

use tuxtape_core::identity::ObjectName;
use tuxtape_klog::judge::{self, Judgement, Report, State};
use tuxtape_klog::record::Record;
use tuxtape_klog::transport;

use super::{Late, Livepatch, ModuleOutcome, PatchedObject, Problem, ScriptRun, counts};
use crate::lab::guest::{Ending, Fact, LogEnd, Outcome};

const STAGES: [&str; 3] = ["before", "during", "after"];

pub(super) struct Seen {
    pub(super) modules: Vec<ModuleOutcome>,
    pub(super) before: Vec<Report>,
}

/// The outcome of a livepatch nothing is known of.
pub(super) fn nothing(livepatch: &Livepatch) -> ModuleOutcome {
    ModuleOutcome {
        path: livepatch.path.clone(),
        name: livepatch.name.clone(),
        loaded: false,
        transition_ms: None,
        objects: Vec::new(),
        unloaded: false,
        late: None,
        script: [None, None, None],
        reports: Vec::new(),
        problems: Vec::new(),
    }
}

/// Says what a fact means to someone who waits.
pub(super) fn progress(fact: &Fact, livepatches: &[&Livepatch]) -> Option<String> {
    let rest = fact.name.strip_prefix("module.")?;
    let (index, step) = rest.split_once('.')?;
    let name = &livepatches.get(index.parse::<usize>().ok()?)?.name;
    let value = fact.text();
    match step {
        "transition" => Some(format!("{name}: in force after {value} ms")),
        "unloaded" => Some(format!("{name}: disabled and unloaded after {value} ms")),
        "refused" => Some(format!("{name}: not loaded")),
        "stalled" | "stalled-out" => Some(format!("{name}: transition stalled")),
        _ => None,
    }
}

/// Reads what `boot` says of each of `livepatches`, those it did not get to among them.
pub(super) fn read(boot: &Outcome, livepatches: &[&Livepatch]) -> Seen {
    let slices = slices(&boot.records, livepatches.len());
    let mut modules: Vec<ModuleOutcome> = livepatches
        .iter()
        .enumerate()
        .map(|(index, livepatch)| {
            let steps: Vec<(&str, &Fact)> = boot
                .facts
                .iter()
                .filter_map(|fact| {
                    let rest = fact.name.strip_prefix("module.")?;
                    let (number, step) = rest.split_once('.')?;
                    (number.parse() == Ok(index)).then_some((step, fact))
                })
                .collect();
            let log = slices.each.get(index).copied().unwrap_or_default();
            outcome(livepatch, &steps, log, &boot.ending)
        })
        .collect();
    if finished(boot) && boot.log == LogEnd::Cut {
        // What came after the last mark is not known, nor whose it was.
        for module in modules.iter_mut().skip(slices.last) {
            module.problems.push(Problem::LogCut);
        }
    }
    add_console(boot, &mut modules);
    Seen {
        modules,
        before: judge::judge(slices.boot, &[]).reports,
    }
}

fn finished(boot: &Outcome) -> bool {
    matches!(boot.ending, Ending::Finished { .. })
}

/// A crash can keep the last records from the log's port; the console has them.
fn add_console(boot: &Outcome, modules: &mut [ModuleOutcome]) {
    if finished(boot) && boot.log == LogEnd::Whole {
        return;
    }
    let current = modules.iter().rposition(|module| {
        module.problems.iter().all(
            |problem| !matches!(problem, Problem::NoAnswer { during, .. } if during == NOT_REACHED),
        )
    });
    let Some(module) = current.and_then(|current| modules.get_mut(current)) else {
        return;
    };
    let name = module.name.0.clone();
    for report in judge::judge(&boot.console, &[&name]).reports {
        let known = module
            .reports
            .iter()
            .any(|other| other.title == report.title);
        if counts(&report) && !known {
            module
                .problems
                .push(Problem::Complaint(report.title.clone()));
            module.reports.push(report);
        }
    }
}

const NOT_REACHED: &str = "an earlier livepatch";

fn outcome(
    livepatch: &Livepatch,
    steps: &[(&str, &Fact)],
    log: &[u8],
    ending: &Ending,
) -> ModuleOutcome {
    let mut module = nothing(livepatch);
    let mut phase = None;
    for (step, fact) in steps {
        if *step == "phase" {
            phase = Some(fact.text());
        } else {
            take(&mut module, step, &fact.text());
        }
    }
    let judged = judge::judge(log, &[&livepatch.name.0]);
    let done = phase.as_deref() == Some("done");
    if !done && module.problems.is_empty() {
        module.problems.push(Problem::NoAnswer {
            during: phase.unwrap_or_else(|| NOT_REACHED.to_owned()),
            ending: ending.clone(),
        });
    }
    read_log(&mut module, judged, done);
    module
}

fn take(module: &mut ModuleOutcome, step: &str, value: &str) {
    let number = || value.parse::<u64>().ok();
    let limit = || Duration::from_millis(number().unwrap_or_default());
    let trimmed = || value.trim().to_owned();
    match step {
        // The shell sees a program killed by signal 9 as 137: the kernel ends a task that oopses.
        "insmod" if value == "137" => module.problems.push(Problem::DiedLoading),
        "refused" if !module.problems.contains(&Problem::DiedLoading) => {
            module.problems.push(Problem::Refused(trimmed()));
        }
        "stalled" => module.problems.push(Problem::Stalled(limit())),
        "absent" => module.problems.push(Problem::NotALivepatch),
        "transition" => {
            module.loaded = true;
            module.transition_ms = number();
        }
        "object" => {
            if let Some((patched, object)) = value.split_once(' ') {
                module.objects.push(PatchedObject {
                    object: ObjectName(object.to_owned()),
                    patched: match patched {
                        "0" => Some(false),
                        "1" => Some(true),
                        _ => None,
                    },
                    functions: Vec::new(),
                });
            }
        }
        "function" => {
            if let Some((object, function)) = value.split_once(' ')
                && let Some(listed) = module
                    .objects
                    .iter_mut()
                    .find(|listed| listed.object.0 == object)
            {
                listed.functions.push(function.to_owned());
            }
        }
        "not-disabled" => module.problems.push(Problem::NotDisabled(trimmed())),
        "stalled-out" => module.problems.push(Problem::StalledOut(limit())),
        "not-unloaded" => module.problems.push(Problem::NotUnloaded(trimmed())),
        "unloaded" => module.unloaded = true,
        "late" => module.late = Some(Late::Patched),
        "late-skipped" => module.late = Some(Late::Skipped(trimmed())),
        "late-failed" => module.problems.push(Problem::LateFailed(trimmed())),
        _ => take_script(module, step, value),
    }
}

fn take_script(module: &mut ModuleOutcome, step: &str, value: &str) {
    let Some((stage, field)) = step
        .strip_prefix("script.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return;
    };
    let Some(place) = STAGES.iter().position(|known| *known == stage) else {
        return;
    };
    let (Some(slot), Some(stage)) = (module.script.get_mut(place), STAGES.get(place)) else {
        return;
    };
    let run = slot.get_or_insert_with(ScriptRun::default);
    match field {
        "exit" => {
            run.code = value.parse().ok();
            match run.code {
                Some(137) => module.problems.push(Problem::ScriptStopped(stage)),
                Some(code) if code != 0 && *stage == "during" => {
                    module.problems.push(Problem::ScriptFailed(code));
                }
                _ => {}
            }
        }
        "ms" => run.milliseconds = value.parse().ok(),
        "output" => value.clone_into(&mut run.output),
        _ => {}
    }
}

fn read_log(module: &mut ModuleOutcome, judged: Judgement, done: bool) {
    if judged.missing > 0 {
        module.problems.push(Problem::LogIncomplete(judged.missing));
    }
    if judged.reports_dropped > 0 {
        module.problems.push(Problem::Complaint(format!(
            "{} more",
            judged.reports_dropped
        )));
    }
    for report in judged.reports.iter().filter(|report| counts(report)) {
        module
            .problems
            .push(Problem::Complaint(report.title.clone()));
    }
    // Judged by state and by log: both must tell of the same life.
    if let Some(verdict) = judged.modules.first()
        && done
        && verdict.state != State::Removed
    {
        module.problems.push(Problem::LogDisagrees(verdict.state));
    }
    module.reports = judged.reports;
}

struct Slices<'a> {
    boot: &'a [u8],
    each: Vec<&'a [u8]>,
    /// The last livepatch whose mark was found; 0 when none was.
    last: usize,
}

/// Cuts the log where the guest marked the begin of each livepatch. What comes after the last mark
/// is the last one's: a complaint that comes late is somebody's.
fn slices(log: &[u8], count: usize) -> Slices<'_> {
    let mut begins: Vec<Option<usize>> = vec![None; count];
    for record in transport::records(log).filter(Record::is_from_user) {
        let index = record
            .text
            .strip_prefix(b"tuxtape-lab: module.")
            .and_then(|rest| rest.strip_suffix(b".begin"))
            .and_then(|number| std::str::from_utf8(number).ok()?.parse::<usize>().ok());
        if let Some(begin) = index.and_then(|index| begins.get_mut(index)) {
            begin.get_or_insert(usize::try_from(record.start).unwrap_or(usize::MAX));
        }
    }
    let end_of = |index: usize| {
        begins
            .iter()
            .skip(index + 1)
            .flatten()
            .next()
            .copied()
            .unwrap_or(log.len())
    };
    let each = (0..count)
        .map(|index| match begins.get(index) {
            Some(Some(begin)) => log.get(*begin..end_of(index)).unwrap_or_default(),
            _ => &[],
        })
        .collect();
    let first = begins.iter().flatten().next().copied().unwrap_or(log.len());
    Slices {
        boot: log.get(..first).unwrap_or_default(),
        each,
        last: begins.iter().rposition(Option::is_some).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
