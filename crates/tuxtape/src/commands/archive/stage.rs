//! `tuxtape archive stage`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tuxtape_archive::index::Unpatchable;
use tuxtape_archive::names::cap;
use tuxtape_archive::publish::Workspace;
use tuxtape_archive::publish::stage::{StageRequest, StagedFix};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_core::identity::{KernelRelease, PatchLevel};
use tuxtape_core::rollout::Waves;
use tuxtape_sys::regular;

use super::kernel_signature::{self, KernelSigner};
use super::{hinted, now};
use crate::context::Context;
use crate::output;

/// Draft a kernel's next level from a built module
#[derive(Debug, Args)]
pub struct Stage {
    /// Kernel release, or the SPEC it was added by
    #[arg(value_name = "K")]
    pub kernel: String,
    /// The built module
    #[arg(long, value_name = "M.ko")]
    pub module: PathBuf,
    /// CVE the module closes; name every one it carries, not only the new ones
    #[arg(long = "cve", value_name = "CVE")]
    pub cves: Vec<String>,
    /// CVE no level can close, with a word why
    #[arg(long = "unpatchable", value_name = "CVE=WHY")]
    pub unpatchable: Vec<String>,
    /// A fix that closes no CVE: its commit or the SHA-256 of its source change, and the day by which
    /// to look at it again
    #[arg(long = "hotfix", value_name = "ID=YYYY-MM-DD")]
    pub hotfixes: Vec<String>,
    /// Who gets the level when: `normal` (days), `urgent` (hours), `none` (every node at once), or a
    /// TOML file with `start`, `urgent` and `steps`
    #[arg(long, default_value = "normal", value_name = "normal|urgent|none|FILE")]
    pub waves: String,
    /// Let no lower level be loaded any more
    #[arg(long, value_name = "LEVEL")]
    pub floor: Option<u32>,
    #[command(flatten)]
    pub kernel_signature: KernelSigner,
    /// Upstream point release the kernel sits on
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<String>,
}

/// Runs the command.
pub fn run(
    workspace: &Workspace,
    arguments: &Stage,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let text = arguments.kernel.rsplit(':').next().unwrap_or_default();
    let release: KernelRelease = text.parse()?;
    let path = &arguments.module;
    let module = regular::read(path, cap::MODULE)
        .with_context(|| format!("could not read {}", path.display()))?
        .with_context(|| format!("{} is larger than clients take", path.display()))?;
    let (module, signed) = kernel_signature::prepare(module, &arguments.kernel_signature)?;
    let waves = waves(&arguments.waves)?;
    let hotfixes = arguments.hotfixes.iter().map(|text| hotfix(text));
    let hotfixes: Vec<StagedFix> = hotfixes.collect::<anyhow::Result<_>>()?;
    let cves: BTreeSet<&String> = arguments.cves.iter().collect();
    for cve in &cves {
        anyhow::ensure!(is_cve(cve), "{cve:?} is no CVE id (want CVE-YEAR-NUMBER)");
    }
    let unpatchable = arguments.unpatchable.iter().map(|pair| {
        let (cve, why) = pair
            .split_once('=')
            .filter(|(cve, why)| is_cve(cve) && why.is_ascii() && !why.is_empty())
            .with_context(|| format!("{pair:?} is not CVE=WHY"))?;
        Ok(Unpatchable {
            cve: cve.to_owned(),
            why: why.to_owned(),
        })
    });
    let request = StageRequest {
        release,
        module,
        fixes: cves
            .into_iter()
            .map(|cve| StagedFix {
                cve: Some(cve.clone()),
                commit: None,
                fix_sha256: None,
                expires: None,
            })
            .chain(hotfixes)
            .collect(),
        unpatchable: unpatchable.collect::<anyhow::Result<_>>()?,
        base_version: arguments.base_version.clone(),
        waves,
        floor: arguments.floor.map(PatchLevel),
        signed,
    };
    let staged = workspace
        .stage(&request, now())
        .map_err(hinted)
        .with_context(|| format!("{} cannot be staged", path.display()))?;
    if context.json {
        output::json(&json!({
            "kernel": staged.kernel, "level": staged.level, "target": staged.target,
            "sha256": staged.sha256, "draft": staged.draft, "targets_draft": staged.targets_draft,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let build = staged.kernel.build_id.short();
    let mut text = format!(
        "level {} for {} build {build}\nsha256 {}\nto sign: {}\n",
        staged.level,
        staged.kernel.release,
        staged.sha256,
        staged.draft.display()
    );
    if let Some(draft) = &staged.targets_draft {
        writeln!(text, "to sign: {} (this kernel is new)", draft.display()).ok();
    }
    output::text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a schedule by name or from a file.
pub fn waves(text: &str) -> anyhow::Result<Option<Waves>> {
    match text {
        "none" => return Ok(None),
        "normal" => return Ok(Some(Waves::normal(now()))),
        "urgent" => return Ok(Some(Waves::urgent(now()))),
        _ => {}
    }
    let path = Path::new(text);
    let bytes = regular::read_linked(path, 64 * 1024)
        .with_context(|| format!("{text:?} is neither normal, urgent, none nor a readable file"))?
        .with_context(|| format!("{text} is too large for a schedule"))?;
    let words = String::from_utf8(bytes).with_context(|| format!("{text} is no text"))?;
    let waves: Waves = toml::from_str(&words)
        .with_context(|| format!("{text} is no schedule (start, urgent, steps)"))?;
    waves
        .check()
        .with_context(|| format!("{text} is no schedule"))?;
    Ok(Some(waves))
}

fn hotfix(text: &str) -> anyhow::Result<StagedFix> {
    let parsed = text.rsplit_once('=').and_then(|(id, day)| {
        let expires: UtcSeconds = format!("{day}T00:00:00Z").parse().ok()?;
        let lower = id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (lower && matches!(id.len(), 40 | 64)).then(|| (id.to_owned(), expires))
    });
    let (id, expires) = parsed.with_context(|| {
        format!("{text:?} is not ID=YYYY-MM-DD, with a commit (40 digits) or a SHA-256 (64)")
    })?;
    let commit = id.len() == 40;
    Ok(StagedFix {
        cve: None,
        commit: commit.then(|| id.clone()),
        fix_sha256: (!commit).then_some(id),
        expires: Some(expires),
    })
}

fn is_cve(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_prefix("CVE-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(year, number)| year.len() == 4 && digits(year) && digits(number))
}
