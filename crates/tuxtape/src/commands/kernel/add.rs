//! `tuxtape kernel add`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::{KernelProfile, Way};
use tuxtape_core::version::KernelVersion;
use tuxtape_kernel::aliases;
use tuxtape_kernel::debian::fetch::FetchError;
use tuxtape_kernel::debian::index::IndexError;
use tuxtape_kernel::debian::{self, AddError};
use tuxtape_kernel::profile::build::{BuildError, Built};
use tuxtape_kernel::profile::exchange::{self, KeepError, Made, Replace};
use tuxtape_kernel::profile::functions;
use tuxtape_kernel::profile::history;
use tuxtape_kernel::profile::learn::{BaseTrust, LearnError};
use tuxtape_kernel::profile::stamp;
use tuxtape_kernel::progress::{Event, Progress};
use tuxtape_kernel::spec::{self, FetchHistory, Options, Spec, SpecError};
use tuxtape_kernel::toolchain::ToolchainError;
use tuxtape_sys::process::ProcessError;

use super::Shown;
use crate::context::Context;
use crate::output::{self, Hint};

#[derive(Serialize)]
struct Added {
    #[serde(flatten)]
    shown: Shown,
    unchecked: Vec<String>,
    seconds: BTreeMap<&'static str, f64>,
}

/// What `kernel add` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which kernel: debian:RELEASE, dir:PATH, git:URL#REF, tar:FILE, deb:FILE,… or rpm:FILE,…
    spec: String,
    /// The kernel's .config
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its vmlinux with debug data
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// Folder of its modules with debug data
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Its source, a folder or an archive, where SPEC holds none
    #[arg(long, value_name = "PATH")]
    source: Option<PathBuf>,
    /// Upstream version the source sits on, where its makefile does not tell
    #[arg(long, value_name = "VERSION")]
    base: Option<KernelVersion>,
    /// Believe --base against the tree's own makefile, where that is of another branch
    #[arg(long, requires = "base")]
    base_overrides: bool,
    /// What `uname -r` says on it, where the source does not tell
    #[arg(long, value_name = "RELEASE")]
    release: Option<KernelRelease>,
    /// Use one way to learn what was built, not the surest at hand
    #[arg(long, value_enum)]
    way: Option<WayName>,
    /// Fetch the history of a commit behind a URL, too, so that it tells which fixes are in it: commits
    /// alone, a gigabyte for the kernel. That of a repository on this machine is always read
    #[arg(long)]
    history: bool,
    /// Replace the profile of another build with the same release
    #[arg(long)]
    replace: bool,
}

/// A way by its name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WayName {
    /// The .cmd files of a finished build
    CommandFiles,
    /// The debug data of vmlinux and its modules
    DebugData,
    /// Makefiles and .config, without a build
    Evaluation,
}

impl From<WayName> for Way {
    fn from(name: WayName) -> Self {
        match name {
            WayName::CommandFiles => Self::CommandFiles,
            WayName::DebugData => Self::DebugData,
            WayName::Evaluation => Self::Evaluation,
        }
    }
}

/// Adds the kernel named on the command line and saves its profile.
pub(super) fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let spec = parse(&arguments.spec)?;
    let start = Instant::now();
    let told = Told::new();
    let options = Options {
        config: arguments.config.clone(),
        vmlinux: arguments.vmlinux.clone(),
        modules: arguments.modules.clone(),
        source: arguments.source.clone(),
        base: arguments.base,
        base_trust: if arguments.base_overrides {
            BaseTrust::Given
        } else {
            BaseTrust::Makefile
        },
        release: arguments.release.clone(),
        way: arguments.way.map(Way::from),
        history: if arguments.history {
            FetchHistory::Yes
        } else {
            FetchHistory::No
        },
    };
    let built = match &spec {
        Spec::Debian(_) if options != Options::default() => {
            return Err(anyhow!("debian: takes no --config, --vmlinux, --modules, --source, --base, --release, --way or --history")
                .context(Hint::new("its packages say all of it; give dir:, git:, tar:, deb: or rpm: for other kernels")));
        }
        Spec::Debian(release) => add(context, release, &told)?,
        other => match spec::add(&context.cache, other, &options, &told).map_err(with_hint)? {
            Some(built) => built,
            None => bail!("{other} names packages of a distribution"),
        },
    };
    let replace = if arguments.replace {
        Replace::Yes
    } else {
        Replace::No
    };
    let path = save(context, &built, replace)?;
    let mut seconds = told.seconds();
    seconds.insert("total", tenths(start.elapsed()));
    let shown = Shown::of(&built.profile);
    if context.json {
        output::json(&Added {
            shown,
            unchecked: built.unchecked,
            seconds,
        })?;
    } else {
        output::text(&shown.text())?;
        output::text(&format!("profile       {}\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the kernel `release` of the distribution and saves what is known of it.
pub(super) fn keep(context: &Context, release: &KernelRelease) -> anyhow::Result<KernelProfile> {
    let built = add(context, release, &Told::new())?;
    save(context, &built, Replace::No)?;
    Ok(built.profile)
}

/// Saves a profile and what lies beside it.
///
/// What is beside it comes last: without it less is known, and with another kernel's the wrong thing.
fn save(context: &Context, built: &Built, replace: Replace) -> anyhow::Result<PathBuf> {
    let id = &built.profile.id;
    let path = exchange::keep(&context.home, &built.profile, Made::Here, replace)
        .map_err(|error| kept(error, "kernel add"))?;
    match &built.stamp {
        Some(tree) => stamp::save(&context.home, id, tree).map(drop),
        None => stamp::forget(&context.home, &id.release),
    }
    .context("could not note how the tree looks")?;
    if let Some(history) = &built.history {
        history::save(&context.home, id, history).context("could not keep the history")?;
    }
    // An empty one would say that nothing is there; without one nothing is known.
    if !built.functions.units.is_empty() {
        functions::save(&context.home, id, &built.functions)
            .context("could not keep the table of functions")?;
    }
    if !built.modules.is_empty() {
        aliases::save(&context.home, id, &built.modules)
            .context("could not keep the list of modules")?;
    }
    Ok(path)
}

/// Tells what would help where another profile is in the way.
pub(super) fn kept(error: KeepError, command: &str) -> anyhow::Error {
    let hint = match &error {
        KeepError::OtherBuild { .. } => Some(format!(
            "give the two builds different releases (CONFIG_LOCALVERSION), or run `tuxtape {command} --replace` to forget the one that is kept"
        )),
        KeepError::Differs { .. } => Some(format!(
            "run `tuxtape {command} --replace` to forget the one that is kept"
        )),
        KeepError::Load(_) | KeepError::Save(_) => None,
    };
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(Hint::new(hint)),
        None => error,
    }
}

fn with_hint(error: SpecError) -> anyhow::Error {
    let hint = match &error {
        SpecError::NoSource { .. } => Some("give it with --source, a folder or an archive"),
        SpecError::Unpack { source, .. } => match source {
            ProcessError::Start { program, .. } if program == "bsdtar" => {
                Some("run `apt-get install libarchive-tools` as root")
            }
            _ => None,
        },
        SpecError::Several { .. } => {
            Some("give the one that is meant with --vmlinux, --modules or --config")
        }
        SpecError::Learn(error) => match &**error {
            LearnError::NoConfig { .. } => Some("give it with --config"),
            LearnError::NoModules { .. } => {
                Some("give the folder with the modules of the same build with --modules")
            }
            LearnError::Build(BuildError::Dwarf { .. }) => Some(
                "give the vmlinux and modules as they were linked, with --vmlinux and --modules, or leave --way out",
            ),
            LearnError::OtherBase { .. } => Some(
                "leave --base out; or give --base-overrides where the makefile is wrong: every verdict follows from it",
            ),
            LearnError::NoRelease => Some("give it with --release, the text of `uname -r`"),
            LearnError::OtherConfig(_) => Some(
                "take the configuration the kernel was built with; after a change run `make olddefconfig` and build again",
            ),
            _ => None,
        },
        _ => None,
    };
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(Hint::new(hint)),
        None => error,
    }
}

fn parse(spec: &str) -> anyhow::Result<Spec> {
    spec.parse::<Spec>().with_context(|| {
        Hint::new(
            "give debian:RELEASE with the text of `uname -r`, such as debian:6.1.0-47-cloud-amd64, or dir:PATH, git:URL#REF, tar:FILE, deb:FILE,… or rpm:FILE,…",
        )
    })
}

fn add(context: &Context, release: &KernelRelease, told: &Told) -> anyhow::Result<Built> {
    let outcome = debian::add(&context.cache, release, told);
    let outcome = match outcome {
        Err(AddError::Index(IndexError::Empty)) if root() => {
            output::talk("apt's package lists are empty: running apt-get update");
            debian::refresh().context("could not refresh apt's package lists")?;
            debian::add(&context.cache, release, told)
        }
        other => other,
    };
    outcome.map_err(|error| {
        let hint = hint(&error);
        let error = anyhow::Error::new(error);
        match hint {
            Some(hint) => error.context(hint),
            None => error,
        }
    })
}

/// Tells what would help.
pub(crate) fn hint(error: &AddError) -> Option<Hint> {
    let text = match error {
        AddError::Busy { .. } => "wait until it has ended, then run this again".to_owned(),
        AddError::Toolchain(ToolchainError::Missing { packages, .. }) => {
            format!("run `apt-get install {}` as root", packages.join(" "))
        }
        AddError::Toolchain(ToolchainError::NoCompiler { package, .. }) => {
            format!("run `apt-get install {package}` as root")
        }
        AddError::Toolchain(ToolchainError::NotTheKernel { .. }) => {
            "install the compiler of the release the kernel was built in, or work in a root of it"
                .to_owned()
        }
        AddError::Index(IndexError::Empty) => "run `apt-get update` as root".to_owned(),
        AddError::Index(IndexError::UnknownRelease { release, known }) => format!(
            "listed here: {}; for another one add its suite to apt's sources; after a new release run `apt-get update` as root",
            nearest(release, known)
        ),
        AddError::Index(IndexError::MissingPackage { .. }) => {
            "archives drop old versions: take a newer kernel, or add a snapshot of the archive to apt's sources and run `apt-get update` as root".to_owned()
        }
        AddError::Fetch(FetchError::NotServed { .. }) => {
            "run `apt-get update` as root; if it stays listed, take a newer kernel".to_owned()
        }
        AddError::Fetch(FetchError::Download { .. }) => {
            "check the network and run this again: what was fetched is kept".to_owned()
        }
        AddError::NoSpace { .. } => {
            "free some, or put the cache elsewhere with --cache or TUXTAPE_CACHE".to_owned()
        }
        AddError::Lock(_)
        | AddError::Toolchain(ToolchainError::NoVersionText)
        | AddError::Index(IndexError::Apt(_))
        | AddError::Fetch(FetchError::Cache { .. } | FetchError::Digest { .. })
        | AddError::Space { .. }
        | AddError::Unpack(_)
        | AddError::Read { .. }
        | AddError::Write(_)
        | AddError::Prepare(_)
        | AddError::Build(_) => return None,
    };
    Some(Hint::new(text))
}

/// Shows the newest few of the kernels listed: of the same flavour where there are any.
fn nearest(release: &KernelRelease, known: &[String]) -> String {
    let flavour = |name: &str| -> String {
        let parts = name
            .split('-')
            .filter(|part| part.starts_with(char::is_alphabetic));
        parts.collect::<Vec<_>>().join("-")
    };
    let wanted = flavour(release.as_str());
    let same: Vec<&String> = known
        .iter()
        .filter(|name| flavour(name) == wanted)
        .collect();
    let shown = if same.is_empty() {
        known.iter().collect()
    } else {
        same
    };
    let start = shown.len().saturating_sub(8);
    let names = shown.get(start..).unwrap_or_default().iter();
    names
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn root() -> bool {
    // The owner of our own /proc entry is our effective user.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

fn tenths(took: Duration) -> f64 {
    (took.as_secs_f64() * 10.0).round() / 10.0
}

/// Tells a person on stderr what goes on, and remembers how long each step took.
pub(crate) struct Told {
    seconds: Mutex<BTreeMap<&'static str, f64>>,
    bar: Option<ProgressBar>,
}

impl Told {
    pub(crate) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            let style =
                ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            bar.with_style(style.expect("the template is ours"))
        });
        Self {
            seconds: Mutex::default(),
            bar,
        }
    }

    fn seconds(self) -> BTreeMap<&'static str, f64> {
        self.seconds.into_inner().unwrap_or_default()
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::talk(text)),
            None => output::talk(text),
        }
    }
}

impl Progress for Told {
    fn tell(&self, event: Event) {
        match event {
            Event::Started { step } => self.line(&format!("{step} …")),
            Event::Ended { step, took } => {
                let took = tenths(took);
                if let Ok(mut seconds) = self.seconds.lock() {
                    seconds.insert(step, took);
                }
                self.line(&format!("{step}: {took} s"));
            }
            Event::Kept { step } => self.line(&format!("{step}: there already")),
            Event::Reused { name } => self.line(&format!("{name}: in the cache")),
            Event::Note { text } => self.line(&format!("note: {text}")),
            Event::Bytes { name, done, total } => match &self.bar {
                Some(bar) if done < total => {
                    bar.set_message(name);
                    bar.set_length(total);
                    bar.set_position(done);
                }
                Some(bar) => {
                    bar.finish_and_clear();
                    bar.reset();
                    self.line(&format!("{name}: {} MB", total / 1_000_000));
                }
                None if done == total => self.line(&format!("{name}: {} MB", total / 1_000_000)),
                None => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_the_same_flavour_are_proposed() {
        let known = [
            "6.1.0-47-amd64",
            "6.1.0-47-cloud-amd64",
            "6.12.9+deb12-cloud-amd64",
        ]
        .map(str::to_owned);
        let release = |text: &str| text.parse().unwrap();
        assert_eq!(
            nearest(&release("6.1.0-48-cloud-amd64"), &known),
            "6.1.0-47-cloud-amd64, 6.12.9+deb12-cloud-amd64"
        );
        assert_eq!(
            nearest(&release("6.1.0-48-rt-amd64"), &known),
            known.join(", ")
        );
    }

    #[test]
    fn a_spec_without_its_kind_is_refused_with_the_way_to_write_it() {
        assert!(parse("debian:6.1.0-47-cloud-amd64").is_ok());
        for bad in ["6.1.0-47-cloud-amd64", "debian:", "debian:../x", "snap:6.1"] {
            let error = parse(bad).unwrap_err();
            assert!(error.downcast_ref::<Hint>().is_some(), "{bad}");
        }
    }
}
