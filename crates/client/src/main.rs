//! `tuxtape-client`: keeps one machine on the newest livepatch level its reviewers signed.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tuxtape_archive::metadata::Envelope;
use tuxtape_archive::names::cap;
use tuxtape_archive::words;
use tuxtape_client::apply::{self, Applied, Refreshed, RolledBack, Settings};
use tuxtape_client::check::{Checked, check};
use tuxtape_client::config::{Config, duration};
use tuxtape_client::guard;
use tuxtape_client::host::{Host, RunningHost};
use tuxtape_client::journal::JournaledLevel;
use tuxtape_client::mode;
use tuxtape_client::plan::Plan;
use tuxtape_client::reapply::reapply;
use tuxtape_client::status::status;
use tuxtape_sys::regular;

/// "No, and here is why".
const NO: u8 = 3;
/// Of `status` and `check`, whose other codes are answers: the question was not understood.
const USAGE: u8 = 64;
/// Of `status` and `check`: there is no answer.
const UNREADABLE: u8 = 70;

/// Keeps this machine on the newest livepatch level its reviewers signed
///
/// Verifies everything from the trusted root down to the module before the kernel sees it, writes
/// down what it is about to do before it does it, and takes a level out again when the kernel
/// complains.
#[derive(Debug, Parser)]
#[command(name = "tuxtape-client", version)]
struct Cli {
    /// Configuration file
    #[arg(
        long,
        env = "TUXTAPE_CLIENT_CONFIG",
        default_value = "/etc/tuxtape/client.toml",
        global = true,
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Folder of trusted metadata, journal and modules
    #[arg(
        long,
        env = "TUXTAPE_STATE_DIR",
        default_value = "/var/lib/tuxtape",
        global = true,
        value_name = "DIR"
    )]
    state_dir: PathBuf,
    /// Archive: https://…, http://…, file://… or a folder
    #[arg(long, env = "TUXTAPE_ARCHIVE_URL", global = true, value_name = "URL")]
    archive_url: Option<String>,
    /// How long a new level is watched before it counts as good, such as 15m
    #[arg(long, env = "TUXTAPE_PROBATION", global = true, value_name = "TIME")]
    probation: Option<String>,
    /// What to do
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trust a root from now on; refuses when one is trusted already
    Init {
        /// The root, `N.root.json`
        root: PathBuf,
    },
    /// Bring the metadata up to date, load nothing
    Refresh,
    /// Load the newest level, or leave a withdrawn one
    Apply {
        /// Say what would be done, and do nothing to the kernel
        #[arg(long)]
        dry_run: bool,
        /// Lift the pin of an earlier rollback
        #[arg(long)]
        clear: bool,
    },
    /// Show what runs, what is missing and what to do; exits 0 well, 1 nothing applied, 2 a newer level is due, 3 kernel not served, 64 usage, 70 no answer
    Status {
        /// Form of the answer; json exits 0 whenever it could be read
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Go back to the stock kernel and stay there until `apply --clear`
    Rollback,
    /// Told by the init system how this boot goes, so that a boot loop ends and a shutdown is no crash
    Boot {
        /// How far it is
        #[arg(value_enum)]
        at: Boot,
    },
    /// Would `apply` load something; exits 0 yes, 1 nothing newer, 3 something is in the way, 64 usage, 70 no answer
    Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Boot {
    /// It begins: count it, before anything is loaded
    Begin,
    /// Load the level again with which an earlier boot got to its end; asks nobody
    Apply,
    /// It got to its end: the count starts anew
    Complete,
    /// The machine is shut down in order
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks(std::env::args_os()) => {
            error.print().ok();
            return ExitCode::from(USAGE);
        }
        Err(error) => error.exit(),
    };
    let asks = matches!(cli.command, Command::Status { .. } | Command::Check);
    let settings = match settings(&cli) {
        Ok(settings) => settings,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            return ExitCode::from(if asks { USAGE } else { 1 });
        }
    };
    match run(cli, &settings) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::from(if asks { UNREADABLE } else { 1 })
        }
    }
}

/// Tells whether a command line that cannot be read names `status` or `check`.
fn asks(words: impl Iterator<Item = OsString>) -> bool {
    words
        .skip(1)
        .any(|word| word == "status" || word == "check")
}

fn run(cli: Cli, settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut host = RunningHost::default();
    match cli.command {
        Command::Init { root } => init(settings, &root),
        Command::Refresh => {
            let source = apply::source(&settings.config)?;
            match apply::refresh(&host, settings, &*source)? {
                Refreshed::Listed(index) => print(format_args!(
                    "archive is up to date; builds of kernel {} there: {}",
                    index.release,
                    index.kernels.len()
                ))?,
                Refreshed::NotListed => print(format_args!(
                    "archive is up to date; kernel {} is not in it",
                    host.kernel()?.release
                ))?,
                Refreshed::Off(mode) => {
                    say(format_args!("nothing done: mode is {mode}"));
                    return Ok(ExitCode::from(NO));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Apply { dry_run, clear } => {
            let source = apply::source(&settings.config)?;
            let (applied, remarks) = apply::apply(&mut host, settings, &*source, dry_run, clear)?;
            for remark in remarks {
                say(format_args!("note: {remark}"));
            }
            tell_applied(&applied)
        }
        Command::Status { format } => show_status(&host, settings, format),
        Command::Rollback => {
            let (done, remarks) = apply::rollback(&mut host, settings)?;
            for remark in remarks {
                say(format_args!("note: {remark}"));
            }
            tell_rolled_back(&done)?;
            print(format_args!(
                "pinned: nothing is loaded until `tuxtape-client apply --clear`"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Boot { at } => {
            match at {
                Boot::Begin => {
                    let unfinished = guard::begin(&host, &settings.state)?;
                    if unfinished >= guard::BOOT_LOOP {
                        say(format_args!(
                            "warning: {unfinished} boots in a row did not complete; nothing is loaded in this one"
                        ));
                    }
                }
                Boot::Apply => {
                    let (applied, remarks) = reapply(&mut host, settings)?;
                    for remark in remarks {
                        say(format_args!("note: {remark}"));
                    }
                    return tell_applied(&applied);
                }
                Boot::Complete => guard::complete(&host, &settings.state)?,
                Boot::End => guard::end(&host, &settings.state)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check => {
            let source = apply::source(&settings.config)?;
            match check(&host, settings, &*source)? {
                Checked::Plan(plan) => tell_plan(&plan),
                Checked::Off(mode) => {
                    print(format_args!("not looked: mode is {mode}"))?;
                    Ok(ExitCode::from(NO))
                }
            }
        }
    }
}

fn settings(cli: &Cli) -> anyhow::Result<Settings> {
    let text = match fs::read_to_string(&cli.config) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).context(format!("could not read {}", cli.config.display()));
        }
    };
    let mut config =
        Config::from_toml(&text).with_context(|| format!("in {}", cli.config.display()))?;
    if cli.archive_url.is_some() {
        config.archive_url.clone_from(&cli.archive_url);
    }
    if let Some(text) = &cli.probation {
        config.probation = duration("probation", text)?;
    }
    let switch = mode::look(Path::new("/proc/cmdline"), Path::new("/etc/tuxtape/mode"));
    if let Some(what) = &switch.unread {
        say(format_args!(
            "warning: could not read {what}; taken as no-apply"
        ));
    }
    if let Some(word) = &switch.unknown {
        say(format_args!(
            "warning: mode {word:?} is none of normal, no-apply, no-refresh, stop; taken as no-apply"
        ));
    }
    Ok(Settings {
        config,
        state: cli.state_dir.clone(),
        switch,
        judge: Some(tuxtape_client::log::judge),
        crash_judge: Some(tuxtape_client::log::judge_crash),
    })
}

fn init(settings: &Settings, path: &Path) -> anyhow::Result<ExitCode> {
    let root = regular::read(path, cap::ROOT)
        .with_context(|| format!("could not read {}", path.display()))?
        .with_context(|| format!("{} is too large for a root", path.display()))?;
    // Of what is signed, as the people of the ceremony read it aloud, whatever signatures came later.
    let digest = Envelope::parse(&root, cap::ROOT)
        .with_context(|| format!("{} is no root", path.display()))?
        .digest();
    let version = apply::init(settings, &root)?;
    print(format_args!("root {version} is trusted from now on"))?;
    print(format_args!("sha256 {}", hex::encode(digest)))?;
    print(format_args!("words  {}", words::spoken(&digest)))?;
    Ok(ExitCode::SUCCESS)
}

fn show_status(host: &dyn Host, settings: &Settings, format: Format) -> anyhow::Result<ExitCode> {
    let status = match status(host, settings) {
        Ok(status) => status,
        Err(error) => {
            say(format_args!("error: {:#}", anyhow::Error::from(error)));
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    match format {
        Format::Json => {
            let json = serde_json::to_string(&status.json(env!("CARGO_PKG_VERSION")))?;
            print(format_args!("{json}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Format::Text => {
            let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
            let utf8 = locale.is_some_and(|locale| locale.to_uppercase().contains("UTF"));
            let signs = if utf8 {
                ["✓", "⧗", "✗"]
            } else {
                ["ok", "busy", "bad"]
            };
            io::stdout()
                .lock()
                .write_all(status.text(signs).as_bytes())?;
            Ok(ExitCode::from(status.exit_code()))
        }
    }
}

fn tell_rolled_back(done: &RolledBack) -> io::Result<()> {
    let now = if done.others.is_empty() {
        "the stock kernel runs".to_owned()
    } else {
        format!(
            "livepatches of somebody else stay: {}",
            done.others.join(", ")
        )
    };
    let Some((last, before)) = done.levels.split_last() else {
        return print(format_args!("no level of ours was in force; {now}"));
    };
    for level in before {
        print(format_args!(
            "rolled back level {} ({})",
            level.level, level.module
        ))?;
    }
    print(format_args!(
        "rolled back level {} ({}); {now}",
        last.level, last.module
    ))
}

fn tell_applied(applied: &Applied) -> anyhow::Result<ExitCode> {
    let name = |level: &JournaledLevel| format!("level {} ({})", level.level, level.module);
    let no = match applied {
        Applied::Loaded(level) => return done(format_args!("{} is in force", name(level))),
        Applied::WouldLoad(level) => return done(format_args!("would load {}", name(level))),
        Applied::UpToDate(level) => {
            return done(format_args!(
                "{} is in force already, the newest",
                name(level)
            ));
        }
        Applied::NothingToApply => {
            return done(format_args!("there is no level for this kernel yet"));
        }
        Applied::Left(level, why) => {
            return done(format_args!(
                "{} was withdrawn and is out: {why}",
                name(level)
            ));
        }
        Applied::WouldLeave(level, why) => {
            return done(format_args!(
                "would take out {}, which was withdrawn: {why}",
                name(level)
            ));
        }
        Applied::Unsupported(why) => format!("nothing loaded: {why}"),
        Applied::Blocked(level, obstacles) => blocked(level, obstacles),
        Applied::Off(mode) => format!("nothing done: mode is {mode}"),
    };
    say(format_args!("{no}"));
    Ok(ExitCode::from(NO))
}

fn tell_plan(plan: &Plan) -> anyhow::Result<ExitCode> {
    match plan {
        Plan::Load(level, _, _) => done(format_args!("level {} can be loaded", level.level)),
        Plan::Leave(level, why) => done(format_args!(
            "level {} was withdrawn and will be taken out: {why}",
            level.level
        )),
        Plan::UpToDate(level) => {
            print(format_args!("nothing newer than level {}", level.level))?;
            Ok(ExitCode::from(1))
        }
        Plan::NothingToApply => {
            print(format_args!("there is no level for this kernel yet"))?;
            Ok(ExitCode::from(1))
        }
        Plan::Blocked(level, obstacles) => {
            print(format_args!("{}", blocked(level, obstacles)))?;
            Ok(ExitCode::from(NO))
        }
        Plan::Unsupported(why) => {
            print(format_args!("{why}"))?;
            Ok(ExitCode::from(NO))
        }
    }
}

fn blocked(level: &JournaledLevel, obstacles: &[impl fmt::Display]) -> String {
    let obstacles: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    format!(
        "level {} is not loaded: {}",
        level.level,
        obstacles.join("; ")
    )
}

fn done(line: fmt::Arguments<'_>) -> anyhow::Result<ExitCode> {
    print(line)?;
    Ok(ExitCode::SUCCESS)
}

fn print(line: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Talks to people; nobody is left to tell when stderr is gone.
fn say(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
