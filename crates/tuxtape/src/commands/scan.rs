//! `tuxtape scan`.

pub mod signals;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use tuxtape_core::git_id::GitId;
use tuxtape_store::scan::{self, Options, Report, ScanError};
use tuxtape_store::{Lock, Store};
use tuxtape_sys::git::{self, BranchName, GitError, Repository};
use tuxtape_sys::url;

use self::signals::{Accept, Outcome, Place};
use crate::commands::notice::{self, ChannelsArgument, outbox};
use crate::context::Context;
use crate::output::{self, Hint};
use crate::remembered::weights::Weights;
use crate::remembered::{self, utc};

const KERNEL_ORG: &str = "https://git.kernel.org/pub/scm/linux/security/vulns.git";
/// The branch is named, because the default branch of a copy can be another, unrelated one.
pub(crate) const BRANCH: &str = "master";
/// Longest a fetch of the whole feed may take, on a slow line.
const FETCH: Duration = Duration::from_secs(3600);

/// Bring the store up to date with the CVE feed
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the feed is: a URL, a folder with a git repository, or a git bundle
    #[arg(
        long,
        env = "TUXTAPE_FEED",
        value_name = "URL|DIR|BUNDLE",
        default_value = KERNEL_ORG,
        hide_env_values = true
    )]
    pub feed: String,
    /// Outside evidence to take in after the feed: KEV, EPSS, CVE records with CISA's container, pages
    /// of NVD, lists of exploits; may be given several times
    ///
    /// What a file is, is told by its content, or said before it: kev=, epss=, adp=, nvd= or
    /// exploits=. Gzip is unpacked. A folder holds CVE records (CVE-….json), or kernelCTF's entries
    /// (CVE-…/metadata.json). With none given nothing is fetched, and what the store has stays.
    #[arg(
        long,
        env = "TUXTAPE_SIGNALS",
        value_name = "FILE|URL|DIR",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub signals: Vec<Place>,
    /// Post what is new for people and send it through the channels of the file; the first time sets
    /// the baseline and tells nothing
    #[arg(long)]
    pub notify: bool,
    #[command(flatten)]
    channels: ChannelsArgument,
    #[command(flatten)]
    weights: Weights,
    /// Accept a feed that does not descend from the one of the last scan, and signals older than before
    #[arg(long)]
    pub allow_rewind: bool,
    /// Accept a feed or signals with many fewer rows than before, or a feed with many unreadable records
    #[arg(long)]
    pub force_shrink: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    feed_commit: String,
    feed_time: String,
    published: usize,
    rejected: usize,
    added: usize,
    changed: usize,
    removed: usize,
    reread: usize,
    first: bool,
    changes: Vec<JsonChange>,
    rows: u64,
    horizon: BTreeMap<String, String>,
    skipped: Vec<JsonSkipped>,
    inconsistent: Vec<JsonInconsistent>,
    signals: Vec<signals::Json<'a>>,
    signals_failed: Vec<signals::JsonFailed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notices: Option<JsonNotices<'a>>,
    seconds: f64,
}

/// What is printed instead when others are at work.
#[derive(Serialize)]
struct JsonBusy<'a> {
    busy: &'a str,
}

#[derive(Serialize)]
struct JsonNotices<'a> {
    new: usize,
    baseline: usize,
    delivered: usize,
    postponed: usize,
    given_up: usize,
    unwatched: &'a [String],
    remarks: &'a [String],
}

#[derive(Serialize)]
struct JsonChange {
    cve: String,
    change: &'static str,
}

#[derive(Serialize)]
struct JsonSkipped {
    cve: String,
    why: String,
    last_good_edition_kept: bool,
}

#[derive(Serialize)]
struct JsonInconsistent {
    cve: String,
    why: String,
}

/// Runs the command.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    // Before the scan: a wrong file should not show only once there is something to tell.
    let telling = arguments
        .notify
        .then(|| {
            let channels = notice::channels(&arguments.channels)?;
            anyhow::Ok((channels, arguments.weights.policy()?))
        })
        .transpose()?;
    let store = Store::open(&context.store)?;
    let _lock = match store.lock(&note())? {
        Lock::Ours(lock) => lock,
        Lock::Theirs { note } => {
            return busy("another scan is at work", &note, context);
        }
    };
    let Arguments {
        feed,
        signals: places,
        allow_rewind,
        force_shrink,
        notify: _,
        channels: _,
        weights: _,
    } = arguments;
    let options = Options {
        source: url::shown(&feed),
        branch: BranchName::new(BRANCH)?,
        allow_rewind,
        force_shrink,
    };
    let (report, repository) =
        bring(&feed, &options, context, &store).map_err(|error| help(error, &store))?;
    let seconds = started.elapsed().as_secs_f64();
    if !context.json {
        output::text(&text(&report, seconds))?;
    }
    for skipped in &report.skipped {
        let kept = if skipped.kept {
            "its last good edition stays"
        } else {
            "it is unknown"
        };
        output::talk(&format!("skipped {}: {} ({kept})", skipped.id, skipped.why));
    }
    // The feed is in, and stays in whatever becomes of these.
    let accept = Accept {
        older: allow_rewind,
        fewer: force_shrink,
    };
    let outcome = signals::take(&store, &places, accept, remembered::now());
    if !context.json {
        let lines = outcome.entered.iter().map(signals::Entered::text);
        output::text(&lines.collect::<String>())?;
    }
    let told = match &telling {
        None => Ok(None),
        Some((channels, policy)) => {
            outbox::notify(context, &store, channels, policy, notice::now()).map(Some)
        }
    };
    if context.json {
        let told = told.as_ref().ok().and_then(Option::as_ref);
        output::json(&json(&report, &outcome, told, seconds))?;
    }
    if let Some(told) = told.context("the feed is in, but nobody could be told")? {
        tell(&told, context)?;
    }
    // After the answer: the records are in, and the first time this takes as long as they did.
    if let Err(error) = scan::read_dates(&store, &repository) {
        output::talk(&format!(
            "could not read when records were published: {error}"
        ));
    }
    let mut code = ExitCode::SUCCESS;
    for failed in outcome.failed {
        code = output::fail(&failed.into_error());
    }
    Ok(code)
}

/// Says what became of the notices.
pub(crate) fn tell(told: &outbox::Summary, context: &Context) -> anyhow::Result<()> {
    if !context.json {
        let baseline = match told.baseline {
            0 => String::new(),
            count => format!("{count} known from before and not told; "),
        };
        output::text(&format!(
            "{:13} {baseline}{} new; {}\n",
            "notices",
            told.new,
            notice::words(&told.tally)
        ))?;
    }
    for remark in told.unwatched.iter().chain(&told.tally.remarks) {
        output::talk(remark);
    }
    Ok(())
}

/// Says who scans or sends, for others to read.
pub(crate) fn note() -> String {
    // On PostgreSQL the others can be on another machine.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "pid {} on {}, since {}",
        process::id(),
        host.trim(),
        Timestamp::now()
    )
}

fn bring(
    feed: &str,
    options: &Options,
    context: &Context,
    store: &Store,
) -> anyhow::Result<(Report, Repository)> {
    let known = store.feed()?.map(|feed| feed.commit);
    let repository = repository(feed, &options.branch, known, &context.cache)?;
    let bar = bar();
    let report = scan::scan_telling(store, &repository, options, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    Ok((report?, repository))
}

/// Says that others are at work, which is no failure: `doing` says what they do.
pub(crate) fn busy(doing: &str, note: &str, context: &Context) -> anyhow::Result<ExitCode> {
    // On PostgreSQL who holds the lock may not have said yet who they are.
    let note = if note.is_empty() { "somebody" } else { note };
    if context.json {
        output::json(&JsonBusy { busy: note })?;
    }
    output::talk(&format!("{doing}: {note}"));
    Ok(ExitCode::SUCCESS)
}

/// Draws how far the scan is, on a terminal only.
fn bar() -> ProgressBar {
    let style = "reading {pos} of {len} records {wide_bar} {eta} left";
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(style).expect("a template of known keys"))
}

/// Finds the feed: a folder is read where it lies, anything else through a mirror in the cache.
pub(crate) fn repository(
    feed: &str,
    branch: &BranchName,
    known: Option<GitId>,
    cache: &Path,
) -> anyhow::Result<Repository> {
    let path = Path::new(feed);
    let is_url = feed.contains("://");
    if !is_url && path.is_dir() {
        return Ok(Repository::open(path)?);
    }
    let source = if !is_url && path.is_file() {
        let whole = fs::canonicalize(path).with_context(|| format!("could not read {feed}"))?;
        if !git::is_bundle(&whole).with_context(|| format!("could not read {feed}"))? {
            bail!("{feed} is neither a git bundle nor a folder with a git repository");
        }
        let text = whole.into_os_string().into_string();
        text.map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))?
    } else if is_url || feed.contains(':') {
        output::talk(&format!("fetching {}", url::shown(feed)));
        feed.to_owned()
    } else {
        bail!("there is no {feed}");
    };
    let folder = mirror_folder(cache, &source);
    Repository::mirror(&source, branch, &folder, known, FETCH).with_context(|| {
        let feed = url::shown(feed);
        format!("could not fetch branch {BRANCH} of {feed}")
    })
}

/// Names the mirror of one source: readable, and distinct for distinct sources.
fn mirror_folder(cache: &Path, source: &str) -> PathBuf {
    let readable: String = url::shown(source)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let tail: String = {
        let skip = readable.len().saturating_sub(60);
        readable.chars().skip(skip).collect()
    };
    // FNV-1a: only has to tell a handful of sources of one user apart.
    let hash = source
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    cache
        .join("feed")
        .join(format!("{}-{hash:016x}.git", tail.trim_matches('-')))
}

/// Adds what would help, and what the store still holds.
fn help(error: anyhow::Error, store: &Store) -> anyhow::Error {
    let way_out = way_out(&error);
    let stays = match store.feed() {
        Ok(Some(feed)) => format!(
            "the store stays as it was, at {} of {}",
            feed.commit.short(),
            utc(feed.time)
        ),
        Ok(None) => "the store stays empty".to_owned(),
        Err(_) => return error,
    };
    error.context(Hint::new(format!("{way_out}; {stays}")))
}

fn way_out(error: &anyhow::Error) -> &'static str {
    let git = match error.downcast_ref::<ScanError>() {
        Some(ScanError::NotAFeed { .. }) => {
            return "give the kernel's CVE feed with --feed, or leave it out for kernel.org's";
        }
        Some(ScanError::Rewritten { .. } | ScanError::Older { .. }) => {
            return "accept it with --allow-rewind if the feed was changed on purpose";
        }
        Some(ScanError::Damaged { .. } | ScanError::Shrunk { .. }) => {
            return "look at the feed, and accept it as it is with --force-shrink";
        }
        Some(ScanError::Store(_)) => return "check the disk and who else uses the store",
        Some(ScanError::Reader) => return "check the repository with `git fsck`",
        Some(ScanError::Git(error)) => Some(error),
        None => error.downcast_ref::<GitError>(),
    };
    match git {
        Some(GitError::NoBranch { .. }) => "give the kernel's CVE feed, whose branch is master",
        Some(GitError::Busy { .. }) => "wait for the other one to end",
        Some(GitError::NoRepository { .. }) | None => {
            "give a URL, a folder with a git repository or a bundle with --feed"
        }
        Some(
            GitError::Process(_)
            | GitError::Folder { .. }
            | GitError::Lock(_)
            | GitError::BranchName { .. }
            | GitError::Source { .. }
            | GitError::NoFilter { .. }
            | GitError::Pipe(_)
            | GitError::Answer { .. },
        ) => "check the network and the source, or give another one with --feed",
    }
}

fn horizon(report: &Report) -> impl Iterator<Item = (String, String)> {
    report
        .horizons
        .iter()
        .map(|(branch, version)| (branch.to_string(), version.to_string()))
}

fn json<'a>(
    report: &Report,
    outcome: &'a Outcome,
    told: Option<&'a outbox::Summary>,
    seconds: f64,
) -> Json<'a> {
    let notices = told.map(|told| JsonNotices {
        new: told.new,
        baseline: told.baseline,
        delivered: told.tally.delivered,
        postponed: told.tally.postponed,
        given_up: told.tally.given_up,
        unwatched: &told.unwatched,
        remarks: &told.tally.remarks,
    });
    Json {
        feed_commit: report.commit.id.to_string(),
        feed_time: utc(report.commit.time),
        published: report.published,
        rejected: report.rejected,
        added: report.added,
        changed: report.changed,
        removed: report.removed,
        reread: report.reread,
        first: report.is_first,
        // Of a first scan everything is new, and nothing is news.
        changes: report
            .changes
            .iter()
            .filter(|_| !report.is_first)
            .map(|(id, change)| JsonChange {
                cve: id.to_string(),
                change: change.as_str(),
            })
            .collect(),
        rows: report.rows,
        horizon: horizon(report).collect(),
        skipped: report
            .skipped
            .iter()
            .map(|skipped| JsonSkipped {
                cve: skipped.id.to_string(),
                why: skipped.why.clone(),
                last_good_edition_kept: skipped.kept,
            })
            .collect(),
        inconsistent: report
            .doubtful
            .iter()
            .map(|(id, why)| JsonInconsistent {
                cve: id.to_string(),
                why: why.clone(),
            })
            .collect(),
        signals: outcome.entered.iter().map(signals::Entered::json).collect(),
        signals_failed: outcome.failed.iter().map(signals::Failed::json).collect(),
        notices,
        seconds: (seconds * 1000.0).round() / 1000.0,
    }
}

fn text(report: &Report, seconds: f64) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:13} {value}").expect("a String takes everything");
    };
    let commit = report.commit;
    line(
        "feed",
        format!("{} of {}", commit.id.short(), utc(commit.time)),
    );
    line(
        "records",
        format!(
            "{} published, {} rejected",
            report.published, report.rejected
        ),
    );
    line(
        "this scan",
        format!(
            "{} added, {} changed, {} removed, {} skipped",
            report.added,
            report.changed,
            report.removed,
            report.skipped.len()
        ),
    );
    if let Some((id, why)) = report.doubtful.first() {
        let count = report.doubtful.len();
        line("inconsistent", format!("{count}, the first {id}: {why}"));
    }
    // The newest branches are the ones somebody runs.
    let branches: Vec<String> = horizon(report).map(|(_, version)| version).collect();
    let newest = branches
        .get(branches.len().saturating_sub(8)..)
        .unwrap_or_default();
    line("known up to", newest.join(", "));
    line("seconds", format!("{seconds:.2}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_mirror() {
        let folder = |source: &str| mirror_folder(Path::new("/c"), source);
        let name = folder(KERNEL_ORG);
        let name = name.to_str().unwrap();
        assert!(
            name.starts_with("/c/feed/") && name.contains("security-vulns-git-"),
            "{name}"
        );
        assert_ne!(folder("/a/b"), folder("/a-b"));
        let [one, other] =
            ["s3cret", "0ther"].map(|word| folder(&format!("https://bot:{word}@host/feed.git")));
        assert_ne!(one, other);
        let name = one.to_str().unwrap();
        assert!(name.starts_with("/c/feed/https---host-feed-git-"), "{name}");
        assert_eq!(folder("../../x").parent(), Some(Path::new("/c/feed")));
    }
}
