//! `tuxtape kernel check`.

use std::fs;
use std::process::ExitCode;

use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::config::Config;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_kernel::support::{self, Engine, Obstacle, Support};

use crate::context::Context;
use crate::output;

/// What is printed for programs.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    release: String,
    livepatchable: bool,
    engine: Option<&'static str>,
    /// What stands in the way of the native engine, where no engine can do it.
    obstacles: Vec<Reason<'a>>,
    engines: Vec<CheckedEngine<'a>>,
    warnings: Vec<Reason<'a>>,
}

#[derive(Debug, Serialize)]
struct CheckedEngine<'a> {
    engine: &'static str,
    obstacles: Vec<Reason<'a>>,
}

#[derive(Debug, Serialize)]
struct Reason<'a> {
    obstacle: &'static str,
    why: &'a str,
    change: &'a str,
}

/// Runs the command.
pub(super) fn run(release: &KernelRelease, context: &Context) -> anyhow::Result<ExitCode> {
    let mut kernel = super::load(context, release)?;
    let files = KernelFiles::below(&context.cache, release);
    // A profile that was made before these facts were kept: the configuration itself has them.
    if kernel.config.engines.is_none()
        && let Ok(text) = fs::read_to_string(&files.config)
    {
        kernel.config.engines = Config::parse(&text).facts().engines;
    }
    let support = support::support(&kernel, &support::look(&files));
    let engine = support.engine();
    if context.json {
        output::json(&Checked {
            release: release.to_string(),
            livepatchable: engine.is_some(),
            engine: engine.map(Engine::as_str),
            obstacles: reasons(support.obstacles()),
            engines: support
                .engines
                .iter()
                .map(|(engine, obstacles)| CheckedEngine {
                    engine: engine.as_str(),
                    obstacles: reasons(obstacles),
                })
                .collect(),
            warnings: reasons(&support.warnings),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::text(&text(release, &support))?;
    Ok(match engine {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(output::NO),
    })
}

fn reasons(obstacles: &[Obstacle]) -> Vec<Reason<'_>> {
    obstacles
        .iter()
        .map(|obstacle| Reason {
            obstacle: obstacle.slug,
            why: &obstacle.why,
            change: &obstacle.change,
        })
        .collect()
}

fn text(release: &KernelRelease, support: &Support) -> String {
    let mut text = match support.engine() {
        Some(engine) => format!("{release} can be livepatched, by {}\n", engine.as_str()),
        None => format!("{release} cannot be livepatched here\n"),
    };
    if !support.warnings.is_empty() {
        text.push_str("to be minded:\n");
        text.push_str(&listed(&support.warnings));
    }
    for (engine, obstacles) in &support.engines {
        if !obstacles.is_empty() {
            text.push_str("not by ");
            text.push_str(engine.as_str());
            text.push_str(":\n");
            text.push_str(&listed(obstacles));
        }
    }
    text
}

fn listed(obstacles: &[Obstacle]) -> String {
    let lines = obstacles.iter().flat_map(|obstacle| {
        [
            format!("  {}: {}\n", obstacle.slug, obstacle.why),
            format!("    to change it: {}\n", obstacle.change),
        ]
    });
    lines.collect()
}
