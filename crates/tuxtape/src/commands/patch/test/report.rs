//! What `tuxtape patch test` prints.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tuxtape_kernel::lab::trial::{Late, ModuleOutcome, ScriptRun, TrialOutcome};
use tuxtape_klog::judge::Report;

/// The JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Output {
    status: &'static str,
    modules: Vec<Module>,
    /// Every complaint of the kernel, those before the first module and of shared boots among them.
    reports: Vec<Complaint>,
    /// The script's runs for the first module; each module has its own.
    script: Script,
    boots: u32,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Module {
    name: String,
    path: String,
    loaded: bool,
    transition_ms: Option<u64>,
    unloaded: bool,
    /// The other order: `patched`, `skipped: why`, or null where it was not tried.
    late: Option<String>,
    objects: Vec<Object>,
    script: Script,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Object {
    #[serde(rename = "object")]
    name: String,
    patched: Option<bool>,
    functions: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Script {
    before: Option<Run>,
    during: Option<Run>,
    after: Option<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    exit: Option<i32>,
    output: String,
    ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Complaint {
    /// The module in whose time it fell; none for the kernel's own before any was loaded.
    module: Option<String>,
    /// `boot` before any module, `module` in its time, `unexplained` when not seen again alone.
    phase: &'static str,
    class: &'static str,
    severity: &'static str,
    title: String,
    /// Line in that part of the log, from 1.
    line: u64,
    seq: Option<u64>,
    time_us: Option<u64>,
}

impl Output {
    /// Converts what came of a trial that took `elapsed`.
    pub(super) fn new(outcome: &TrialOutcome, elapsed: Duration) -> Self {
        let of_modules = outcome.modules.iter().flat_map(|module| {
            module
                .reports
                .iter()
                .map(|report| Complaint::new(report, "module", Some(&module.name.0)))
        });
        let reports = outcome
            .before
            .iter()
            .map(|report| Complaint::new(report, "boot", None))
            .chain(of_modules)
            .chain(
                outcome
                    .unexplained
                    .iter()
                    .map(|report| Complaint::new(report, "unexplained", None)),
            )
            .collect();
        Self {
            status: if outcome.passed() { "pass" } else { "fail" },
            script: outcome.modules.first().map(script).unwrap_or_default(),
            modules: outcome.modules.iter().map(Module::new).collect(),
            reports,
            boots: outcome.boots,
            seconds: (elapsed.as_secs_f64() * 10.0).round() / 10.0,
        }
    }
}

impl Module {
    fn new(module: &ModuleOutcome) -> Self {
        Self {
            name: module.name.0.clone(),
            path: module.path.display().to_string(),
            loaded: module.loaded,
            transition_ms: module.transition_ms,
            unloaded: module.unloaded,
            late: module.late.as_ref().map(|late| match late {
                Late::Patched => "patched".to_owned(),
                Late::Skipped(why) => format!("skipped: {why}"),
            }),
            objects: module
                .objects
                .iter()
                .map(|object| Object {
                    name: object.object.0.clone(),
                    patched: object.patched,
                    functions: object.functions.clone(),
                })
                .collect(),
            script: script(module),
            problems: module.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Complaint {
    fn new(report: &Report, phase: &'static str, module: Option<&str>) -> Self {
        Self {
            module: module.map(ToOwned::to_owned),
            phase,
            class: report.class.as_str(),
            severity: report.severity.as_str(),
            title: report.title.clone(),
            line: report.line,
            seq: report.sequence,
            time_us: report.time_us,
        }
    }
}

fn script(module: &ModuleOutcome) -> Script {
    let run = |run: &Option<ScriptRun>| {
        run.as_ref().map(|run| Run {
            exit: run.code,
            output: run.output.clone(),
            ms: run.milliseconds,
        })
    };
    let [before, during, after] = &module.script;
    Script {
        before: run(before),
        during: run(during),
        after: run(after),
    }
}

/// The same for people.
pub(super) fn text(outcome: &TrialOutcome, elapsed: Duration) -> String {
    let mut text = String::new();
    for module in &outcome.modules {
        write_module(&mut text, module);
    }
    for (title, reports) in [
        (
            "complaints of the kernel before any module was loaded",
            &outcome.before,
        ),
        (
            "complaints of a shared boot that nobody repeated alone",
            &outcome.unexplained,
        ),
    ] {
        if !reports.is_empty() {
            line(&mut text, &format!("{title}:"));
        }
        for report in reports {
            line(&mut text, &format!("  {}", report.title));
        }
    }
    let (boots, seconds) = (outcome.boots, elapsed.as_secs_f64());
    let word = if outcome.passed() {
        "passed"
    } else {
        "did not pass"
    };
    let plural = if boots == 1 { "" } else { "s" };
    line(
        &mut text,
        &format!("{word} in {boots} boot{plural}, {seconds:.1} s"),
    );
    text
}

fn write_module(text: &mut String, module: &ModuleOutcome) {
    let word = if module.problems.is_empty() {
        "pass"
    } else {
        "FAIL"
    };
    let time = module
        .transition_ms
        .map_or_else(String::new, |ms| format!("  in force after {ms} ms"));
    line(text, &format!("{word}  {}{time}", module.name));
    for object in &module.objects {
        let patched = match object.patched {
            Some(true) => "patched",
            Some(false) => "not patched",
            None => "patched, says the transition",
        };
        line(
            text,
            &format!(
                "      {} ({patched}): {}",
                object.object,
                object.functions.join(" ")
            ),
        );
    }
    for (stage, run) in ["before", "during", "after"].iter().zip(&module.script) {
        if let Some(run) = run {
            let code = run
                .code
                .map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
            line(text, &format!("      script {stage}: {code}"));
            for output in run.output.lines().take(20) {
                line(text, &format!("        {}", output.escape_debug()));
            }
        }
    }
    for problem in &module.problems {
        line(text, &format!("      {problem}"));
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes every write");
}
