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
            obstacles: match engine {
                Some(_) => Vec::new(),
                None => reasons(support.obstacles(Engine::Native)),
            },
            engines: Engine::ALL
                .into_iter()
                .map(|engine| CheckedEngine {
                    engine: engine.as_str(),
                    obstacles: reasons(support.obstacles(engine)),
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

fn reasons<'a>(obstacles: impl IntoIterator<Item = &'a Obstacle>) -> Vec<Reason<'a>> {
    let reasons = obstacles.into_iter().map(|obstacle| Reason {
        obstacle: obstacle.slug,
        why: &obstacle.why,
        change: &obstacle.change,
    });
    reasons.collect()
}

fn text(release: &KernelRelease, support: &Support) -> String {
    let mut text = match support.engine() {
        Some(engine) => format!("{release} can be livepatched, by {}\n", engine.as_str()),
        None => format!("{release} cannot be livepatched here\n"),
    };
    let mut part = |title: &str, obstacles: &[Obstacle]| {
        if !obstacles.is_empty() {
            text.push_str(title);
            text.push_str(":\n");
            text.push_str(&listed(obstacles));
        }
    };
    part("to be minded", &support.warnings);
    part("not by any engine", &support.common);
    for (engine, own) in &support.engines {
        part(&format!("not by {}", engine.as_str()), own);
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
