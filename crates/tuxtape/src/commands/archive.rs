//! `tuxtape archive`.

pub mod bundle;
pub mod kernel_signature;
pub mod people;
pub mod renew;
pub mod rotate;
pub mod show;
pub mod sign;
pub mod stage;
pub mod withdraw;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use tuxtape_archive::names::cap;
use tuxtape_archive::publish::commit::Publication;
use tuxtape_archive::publish::endings::Ending;
use tuxtape_archive::publish::verify::verify;
use tuxtape_archive::publish::{PublishError, Workspace};
use tuxtape_archive::serve::serve;
use tuxtape_archive::source::{Fetched, HttpOptions, Source, open};
use tuxtape_archive::time::UtcSeconds;
use tuxtape_sys::regular;

use crate::context::Context;
use crate::output::{self, Hint};

/// Keep the signed archive that clients fetch from
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the archive: policy, online keys, drafts, and the public tree
    #[arg(long, env = "TUXTAPE_ARCHIVE", global = true, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Steps of publishing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an ed25519 key: FILE (private, mode 600) and FILE.pub
    Key(people::MakeKey),
    /// Make an archive: policy, online keys, and drafts of root and targets to sign
    Init(people::Init),
    /// Let a person review levels; redrafts targets
    AddReviewer(people::AddReviewer),
    /// Draft a kernel's next level from a built module
    Stage(stage::Stage),
    /// List open drafts and who signed them
    Drafts,
    /// Show a draft and sign it once its words are typed back
    Sign(sign::Sign),
    /// Make every signed draft public, after walking the result as a client would
    Publish,
    /// Take a published level back: stops its rollout at once and drafts the index that says so
    Withdraw(withdraw::Withdraw),
    /// Sign the timestamp anew, and the snapshot when it is due
    Renew(renew::Renew),
    /// Exchange a key: of an online role, or of people
    Rotate(rotate::Rotate),
    /// Write the archive into one file for sites without a network, or take one in
    Bundle(bundle::Bundle),
    /// Walk an archive as every client would, modules included
    Verify(Verify),
    /// Serve the public tree over plain HTTP, for tests and laboratories
    Serve(Serve),
}

/// Walk an archive as every client would, modules included
#[derive(Debug, Args)]
pub struct Verify {
    /// URL or folder that clients fetch from, or an archive's own folder
    #[arg(value_name = "URL|DIR")]
    pub place: Option<String>,
    /// Root to start from; without one, the archive's first root is taken on its own word
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// Serve the public tree over plain HTTP, for tests and laboratories
#[derive(Debug, Args)]
pub struct Serve {
    /// Archive's folder, or the folder with `metadata` and `targets`
    pub dir: Option<PathBuf>,
    /// Address to listen on; port 0 takes any
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
    pub listen: String,
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let top = place(arguments.archive, context);
    let open = || Workspace::open(&top).map_err(hinted);
    match arguments.command {
        Command::Key(arguments) => people::key(&arguments, context),
        Command::Init(arguments) => people::init(&top, &arguments, context),
        Command::AddReviewer(arguments) => people::add_reviewer(open()?, &arguments, context),
        Command::Stage(arguments) => stage::run(&open()?, &arguments, context),
        Command::Drafts => show::drafts(&open()?, context),
        Command::Sign(arguments) => sign::run(&open()?, &arguments, context),
        Command::Publish => {
            let publication = open()?.publish(now()).map_err(hinted)?;
            show_publication(&publication, context)
        }
        Command::Withdraw(arguments) => withdraw::run(&open()?, &arguments, context),
        Command::Rotate(arguments) => rotate::run(open()?, &arguments, context),
        Command::Bundle(arguments) => bundle::run(&top, &arguments, context),
        Command::Renew(arguments) => renew::run(open()?, &arguments, context),
        Command::Verify(arguments) => run_verify(&arguments, &top, context),
        Command::Serve(arguments) => run_serve(&arguments, &top),
    }
}

/// The archive's folder.
pub(crate) fn place(archive: Option<PathBuf>, context: &Context) -> PathBuf {
    archive.unwrap_or_else(|| context.home.join("archive"))
}

/// The wall clock, read at the edge.
pub(crate) fn now() -> UtcSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UtcSeconds::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// Adds the way out that fits the error.
pub(crate) fn hinted(error: PublishError) -> anyhow::Error {
    let hint = match &error {
        PublishError::NotAnArchive { .. } => "run `tuxtape archive init` first, or give --archive",
        PublishError::Unpublished => "run `tuxtape archive publish` first",
        PublishError::Nothing(_) => {
            "run `tuxtape archive drafts` to see who must still sign, and `tuxtape archive sign`"
        }
        PublishError::Unverified(_) => {
            "nothing was published; run `tuxtape archive verify` to see whether the public tree is sound"
        }
        PublishError::Exists { .. }
        | PublishError::Locked { .. }
        | PublishError::File { .. }
        | PublishError::Write(_)
        | PublishError::Policy(_)
        | PublishError::Key(_)
        | PublishError::Metadata { .. }
        | PublishError::Refused(_)
        | PublishError::Name(_)
        | PublishError::Index(_)
        | PublishError::Stage(_)
        | PublishError::NoOnlineKey { .. }
        | PublishError::Withdraw(_)
        | PublishError::Rotate(_)
        | PublishError::Bundle(_)
        | PublishError::Holding(_)
        | PublishError::Sign(_)
        | PublishError::Clock { .. }
        | PublishError::TimestampOver { .. }
        | PublishError::WentBack { .. }
        | PublishError::TooLarge { .. } => return error.into(),
    };
    anyhow::Error::from(error).context(Hint::new(hint))
}

pub(crate) fn show_publication(
    publication: &Publication,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    if context.json {
        let left_out: Vec<_> = publication
            .left_out
            .iter()
            .map(|left| json!({"role": left.role, "why": left.why}))
            .collect();
        let ending: Vec<_> = publication
            .endings
            .iter()
            .map(|ending| {
                json!({
                    "role": ending.role, "others": ending.others, "at": ending.at,
                    "seconds_left": ending.left, "text": ending.sentence(),
                })
            })
            .collect();
        output::json(&json!({
            "timestamp": publication.timestamp, "snapshot": publication.snapshot,
            "files": publication.files, "left_out": left_out,
            "expired": publication.expired, "clock": publication.clock,
            "surprises": publication.surprises, "ending": ending,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for file in &publication.files {
        writeln!(text, "published {file}").ok();
    }
    for left in &publication.left_out {
        writeln!(text, "left out  {}: {}", left.role, left.why).ok();
    }
    for role in &publication.expired {
        writeln!(
            text,
            "warning   {role}: its machines get nothing new; run `tuxtape archive renew --kernels` and have the drafts signed"
        )
        .ok();
    }
    let told = publication.clock.iter().chain(&publication.surprises);
    let ending = publication.endings.iter().map(Ending::sentence);
    for warning in told.cloned().chain(ending) {
        writeln!(text, "warning   {warning}").ok();
    }
    output::text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run_verify(
    arguments: &Verify,
    top: &std::path::Path,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let place = match &arguments.place {
        Some(place) if place.contains("://") => place.clone(),
        Some(place) => public_of(&PathBuf::from(place)).display().to_string(),
        None => public_of(top).display().to_string(),
    };
    let source = open(&place, &HttpOptions::default())?;
    let root = match &arguments.root {
        Some(path) => regular::read(path, cap::ROOT)
            .with_context(|| format!("could not read {}", path.display()))?
            .with_context(|| format!("{} is too large for a root", path.display()))?,
        None => first_root(&*source, &place)?,
    };
    let found =
        verify(&*source, &root, now()).with_context(|| format!("{place} does not verify"))?;
    let [root, targets, snapshot, timestamp] = found.versions;
    if context.json {
        let levels: Vec<_> = found
            .levels
            .iter()
            .map(|(kernel, level)| json!({"kernel": kernel, "level": level}))
            .collect();
        output::json(&json!({
            "root": root, "targets": targets, "snapshot": snapshot, "timestamp": timestamp,
            "expires": found.expires, "levels": levels, "warnings": found.warnings,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "root {root}, targets {targets}, snapshot {snapshot}, timestamp {timestamp} valid until {}\n",
        found.expires
    );
    for (kernel, level) in &found.levels {
        let build = kernel.build_id.short();
        writeln!(text, "level {level} for {} build {build}", kernel.release).ok();
    }
    for warning in &found.warnings {
        writeln!(text, "warning: {warning}").ok();
    }
    if arguments.root.is_none() {
        text.push_str(
            "the first root was taken on the archive's own word; give --root to check it\n",
        );
    }
    output::text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn first_root(source: &dyn Source, place: &str) -> anyhow::Result<Vec<u8>> {
    match source.metadata("1.root.json", cap::ROOT)? {
        Fetched::Bytes(bytes) => Ok(bytes),
        Fetched::Absent => anyhow::bail!("{place} has no metadata/1.root.json"),
    }
}

fn run_serve(arguments: &Serve, top: &std::path::Path) -> anyhow::Result<ExitCode> {
    let dir = arguments.dir.clone().unwrap_or_else(|| top.to_owned());
    let public = public_of(&dir);
    anyhow::ensure!(
        public.join("metadata").is_dir(),
        "{} has no folder metadata",
        public.display()
    );
    let log = |method: &str, url: &str, status: u16| {
        output::talk(&format!("{method} {url} {status}"));
    };
    let serving = serve(&public, &arguments.listen, log)
        .with_context(|| format!("could not listen on {}", arguments.listen))?;
    output::text(&format!("http://{}\n", serving.address))?;
    serving.wait();
    Ok(ExitCode::FAILURE)
}

/// An archive's folder holds the public tree one level down.
fn public_of(dir: &std::path::Path) -> PathBuf {
    let public = dir.join("public");
    if public.join("metadata").is_dir() {
        public
    } else {
        dir.to_owned()
    }
}
