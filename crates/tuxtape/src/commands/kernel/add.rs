//! `tuxtape kernel add`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::aliases;
use tuxtape_kernel::debian::fetch::FetchError;
use tuxtape_kernel::debian::index::IndexError;
use tuxtape_kernel::debian::{self, AddError};
use tuxtape_kernel::profile;
use tuxtape_kernel::profile::build::Built;
use tuxtape_kernel::progress::{Event, Progress};
use tuxtape_kernel::toolchain::ToolchainError;

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

/// Adds the kernel named by `spec` and saves its profile.
pub(super) fn run(spec: &str, context: &Context) -> anyhow::Result<ExitCode> {
    let release = parse(spec)?;
    let start = Instant::now();
    let told = Told::new();
    let built = add(context, &release, &told)?;
    let path = save(context, &built)?;
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
    save(context, &built)?;
    Ok(built.profile)
}

/// Saves a profile and what lies beside it; the profile last, because it makes the kernel count as
/// added.
fn save(context: &Context, built: &Built) -> anyhow::Result<PathBuf> {
    let id = &built.profile.id;
    profile::functions::save(&context.home, id, &built.functions)
        .context("could not keep the table of functions")?;
    aliases::save(&context.home, id, &built.modules)
        .context("could not keep the list of modules")?;
    Ok(profile::save(&context.home, &built.profile)?)
}

fn parse(spec: &str) -> anyhow::Result<KernelRelease> {
    let way = || {
        Hint::new(
            "give debian:RELEASE with the text of `uname -r`, such as debian:6.1.0-47-cloud-amd64",
        )
    };
    let release = spec
        .strip_prefix("debian:")
        .with_context(|| format!("{spec:?} names no kernel"))
        .with_context(way)?;
    release.parse().with_context(way)
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
        for bad in ["6.1.0-47-cloud-amd64", "debian:", "debian:../x", "rpm:6.1"] {
            let error = parse(bad).unwrap_err();
            assert!(error.downcast_ref::<Hint>().is_some(), "{bad}");
        }
    }
}
