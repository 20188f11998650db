//! `tuxtape demo`.
//!
//! Runs the operator's own commands, as a person would type them, and one virtual machine that holds
//! nothing of ours but the fleet client.

mod choose;
mod fleet;
mod steps;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tuxtape_core::identity::KernelRelease;
use tuxtape_kernel::debian::version::DebianVersion;
use tuxtape_kernel::files::KernelFiles;
use tuxtape_store::Location;

use crate::commands::{fix, kernel};
use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered;
use choose::{Candidate, Choice};
use steps::Steps;
use table::{Row, Timing};

/// Marks a folder that the demo made and may empty.
const MARK: &str = ".tuxtape-demo";

/// Run the whole line on a stock kernel, from the feed to a patched virtual machine
///
/// Scans the CVE feed, takes a stock cloud kernel of this Debian release, picks the most urgent CVEs
/// that a newer source package fixes, builds what can be livepatched, boot-tests it, has two
/// reviewers sign it, publishes it, and lets the fleet client of a fresh virtual machine fetch,
/// verify, load, report and take it back. Keys and archive are made for the occasion.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder for everything the demo makes; emptied at the start if the demo made it
    #[arg(long, value_name = "DIR", default_value = "demo")]
    pub dir: PathBuf,
    /// CVE feed: a git URL, a folder or a bundle
    #[arg(
        long,
        env = "TUXTAPE_FEED",
        value_name = "FEED",
        hide_env_values = true
    )]
    pub feed: Option<String>,
    /// Kernel to patch, as `uname -r` prints it; by default the newest that fits
    #[arg(long, value_name = "RELEASE")]
    pub kernel: Option<KernelRelease>,
    /// Version of the newer source package to cut fixes from; by default the newest the feed knows
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// The static fleet client that goes into the virtual machine
    #[arg(long, env = "TUXTAPE_CLIENT", value_name = "FILE")]
    pub client: PathBuf,
    /// How many CVEs to take
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let client = fs::read(&arguments.client).with_context(|| {
        format!(
            "could not read the fleet client {}",
            arguments.client.display()
        )
    })?;
    let dir = fresh_folder(&arguments.dir)?;
    let context = Context {
        store: Location::below(&dir.join("home")),
        home: dir.join("home"),
        cache: context.cache.clone(),
        json: context.json,
    };
    let mut steps = Steps::new(&context, 9)?;

    steps.begin("scan the CVE feed");
    let mut scan = vec!["scan".to_owned()];
    if let Some(feed) = &arguments.feed {
        scan.extend(["--feed".to_owned(), feed.clone()]);
    }
    let scanned = steps.json_aloud(&scan)?;
    steps.note(&format!(
        "{} published CVEs, as of {}",
        scanned["published"],
        scanned["feed_time"].as_str().unwrap_or("?")
    ));

    steps.begin("choose and fetch a kernel");
    let (store, _) = remembered::feed(&context)?;
    let choice = choose::kernel(&store, arguments.kernel, arguments.from.as_deref())?;
    steps.note(&format!(
        "{} (source {}), fixes from {}",
        choice.release, choice.own, choice.newer
    ));
    steps.aloud(&["kernel", "add", &format!("debian:{}", choice.release)])?;

    steps.begin("gauge and rank");
    let profile = kernel::load(&context, &choice.release)?;
    let (candidates, counts) = choose::candidates(&store, &profile, &choice, arguments.top)?;
    steps.note(&counts);

    steps.begin("cut fixes and build a module of each");
    let mut rows = Vec::new();
    for candidate in candidates {
        let row = build_one(&steps, &context, &choice, &profile, &dir, candidate)?;
        steps.note(&row.line());
        rows.push(row);
    }

    steps.begin("build one module of all that can be built");
    let name = format!(
        "tt_{}_1",
        profile.id.build_id.as_ref().map_or_else(
            || "demo".to_owned(),
            |id| id.short().chars().take(8).collect::<String>()
        )
    );
    let module = build_all(&steps, &choice, &dir, &name, &mut rows)?;
    let cves: Vec<String> = rows
        .iter()
        .filter(|row| row.in_level)
        .map(|row| row.cve.to_string())
        .collect();
    steps.note(&format!("{} closes {} CVEs", module.display(), cves.len()));

    steps.begin("boot-test it");
    let log = dir.join("boot-test.log");
    let tested = steps.json_aloud(&[
        "patch".to_owned(),
        "test".to_owned(),
        choice.release.to_string(),
        module.display().to_string(),
        "--keep-log".to_owned(),
        log.display().to_string(),
    ])?;
    steps.note(&format!(
        "{}: loaded, in force after {} ms, unloaded, log clean",
        tested["status"].as_str().unwrap_or("?"),
        tested["modules"][0]["transition_ms"]
    ));

    steps.begin("two reviewers sign, and it is published");
    let archive = publish(&steps, &choice, &dir, &module, &profile.base_version, &cves)?;
    steps.aloud(&[
        "archive",
        "--archive",
        &archive.display().to_string(),
        "verify",
    ])?;

    steps.begin("a fresh machine fetches, verifies and loads it");
    let files = KernelFiles::below(&context.cache, &choice.release);
    let seen = fleet::visit(&files, &context, &archive, client, &dir, &|line| {
        steps.note(line);
    })?;

    for cve in &cves {
        anyhow::ensure!(
            seen.calls_closed(cve),
            "the client in the fresh machine does not call {cve} closed; see {}",
            dir.join("client.log").display()
        );
    }

    steps.begin("what was done");
    let timing = Timing {
        total: started.elapsed(),
        steps: steps.taken(),
    };
    if context.json {
        output::json(&table::json(&rows, &timing, &choice, &dir, &seen.closed()))?;
    } else {
        output::text(&table::text(&rows, &timing, &choice, &dir))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fresh_folder(dir: &Path) -> anyhow::Result<PathBuf> {
    let mark = dir.join(MARK);
    if dir.exists() {
        anyhow::ensure!(
            mark.exists() || fs::read_dir(dir).is_ok_and(|mut files| files.next().is_none()),
            anyhow::anyhow!("{} holds files that the demo did not make", dir.display())
                .context(Hint::new("name another folder with --dir"))
        );
        for part in ["fixes", "modules", "archive", "keys"] {
            let path = dir.join(part);
            if path.exists() {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("could not remove {}", path.display()))?;
            }
        }
    }
    for part in ["home", "fixes", "modules", "keys"] {
        let path = dir.join(part);
        fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
    }
    fs::write(&mark, "").with_context(|| format!("could not write {}", mark.display()))?;
    fs::canonicalize(dir).with_context(|| format!("could not use {}", dir.display()))
}

fn build_one(
    steps: &Steps,
    context: &Context,
    choice: &Choice,
    profile: &tuxtape_core::profile::KernelProfile,
    dir: &Path,
    candidate: Candidate,
) -> anyhow::Result<Row> {
    let begun = Instant::now();
    let cve = candidate.cve;
    let mut row = Row::new(candidate);
    let quiet = Context {
        json: true,
        ..context.clone()
    };
    let cut = match fix::cut(
        &quiet,
        profile,
        &row.files,
        fix::Wanted::Exactly(choice.newer.as_str()),
    ) {
        Ok(cut) => cut,
        Err(error) => {
            row.outcome = format!("no fix: {error:#}");
            row.seconds = begun.elapsed();
            return Ok(row);
        }
    };
    let path = dir.join("fixes").join(format!("{cve}.patch"));
    tuxtape_sys::durable::write(&path, cut.fix.diff.as_bytes())?;
    let built = steps.answer(&[
        "patch".to_owned(),
        "build".to_owned(),
        choice.release.to_string(),
        "--fix".to_owned(),
        path.display().to_string(),
        "--out".to_owned(),
        dir.join("modules").display().to_string(),
    ])?;
    row.take(&built);
    row.seconds = begun.elapsed();
    Ok(row)
}

/// Builds one cumulative module; fixes that do not go together leave it, least urgent first.
fn build_all(
    steps: &Steps,
    choice: &Choice,
    dir: &Path,
    name: &str,
    rows: &mut [Row],
) -> anyhow::Result<PathBuf> {
    let mut wanted: Vec<usize> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.built)
        .map(|(index, _)| index)
        .collect();
    while !wanted.is_empty() {
        let mut command = vec![
            "patch".to_owned(),
            "build".to_owned(),
            choice.release.to_string(),
        ];
        for &index in &wanted {
            let Some(row) = rows.get(index) else { continue };
            let path = dir.join("fixes").join(format!("{}.patch", row.cve));
            command.extend(["--fix".to_owned(), path.display().to_string()]);
        }
        command.extend([
            "--name".to_owned(),
            name.to_owned(),
            "--out".to_owned(),
            dir.join("modules").display().to_string(),
        ]);
        let built = steps.answer(&command)?;
        if built["status"] == "built" {
            for &index in &wanted {
                if let Some(row) = rows.get_mut(index) {
                    row.in_level = true;
                }
            }
            return Ok(dir.join("modules").join(format!("{name}.ko")));
        }
        let out = wanted.pop();
        if let Some(row) = out.and_then(|index| rows.get_mut(index)) {
            row.outcome = format!("does not go with the others ({})", steps::reason(&built));
        }
    }
    anyhow::bail!(
        "none of the chosen CVEs can be livepatched on {}",
        choice.release
    )
}

fn publish(
    steps: &Steps,
    choice: &Choice,
    dir: &Path,
    module: &Path,
    base_version: &str,
    cves: &[String],
) -> anyhow::Result<PathBuf> {
    let archive = dir.join("archive");
    let place = archive.display().to_string();
    let key = |person: &str| dir.join("keys").join(format!("{person}.key"));
    let people = [
        ("ada", "signer"),
        ("ben", "signer"),
        ("cleo", "reviewer"),
        ("dan", "reviewer"),
    ];
    let mut init = vec![
        "archive".to_owned(),
        "init".to_owned(),
        place.clone(),
        "--lab".to_owned(),
    ];
    for (person, duty) in people {
        let private = key(person).display().to_string();
        steps.json(&["archive".to_owned(), "key".to_owned(), private.clone()])?;
        init.extend([format!("--{duty}"), format!("{person}={private}.pub")]);
    }
    steps.json(&init)?;
    let of = |words: &[&str]| -> Vec<String> {
        let mut command = vec!["archive".to_owned(), "--archive".to_owned(), place.clone()];
        command.extend(words.iter().map(|word| (*word).to_owned()));
        command
    };
    // The kernel's role exists once it is staged; signers then sign root and targets in one go.
    let release = choice.release.to_string();
    let module = module.display().to_string();
    let mut stage = vec![
        "stage",
        // One machine, which must not wait for its turn.
        "--waves",
        "none",
        &release,
        "--module",
        &module,
        "--base-version",
        base_version,
    ];
    for cve in cves {
        stage.extend(["--cve", cve]);
    }
    let staged = steps.json(&of(&stage))?;
    let drafts = steps.json(&of(&["drafts"]))?;
    let list = drafts.as_array().or_else(|| drafts["drafts"].as_array());
    for draft in list.into_iter().flatten() {
        let file = draft["draft"].as_str().or_else(|| draft["file"].as_str());
        let (Some(file), Some(role)) = (file, draft["role"].as_str()) else {
            anyhow::bail!("a draft without file or role: {draft}");
        };
        let words = draft["words"].as_str().context("a draft without words")?;
        let signers = if role == "root" || role == "targets" {
            ["ada", "ben"]
        } else {
            ["cleo", "dan"]
        };
        for person in signers {
            let private = key(person).display().to_string();
            steps.json(&of(&["sign", file, "--key", &private, "--expect", words]))?;
        }
    }
    let published = steps.json(&of(&["publish"]))?;
    steps.note(&format!(
        "level {} signed by cleo and dan, timestamp {}",
        staged["level"], published["timestamp"]
    ));
    Ok(archive)
}

/// What the demo compares versions by.
pub(super) fn upstream(version: &DebianVersion) -> Option<tuxtape_core::version::KernelVersion> {
    let text = version.as_str();
    text.split(['-', '~', '+']).next()?.parse().ok()
}

/// The longest any step may take.
const DEADLINE: Duration = Duration::from_secs(3600);
