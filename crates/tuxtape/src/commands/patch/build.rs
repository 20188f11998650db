//! `tuxtape patch build`.

pub(super) mod answer;
mod lacking;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tuxtape_core::cve::CveId;
use tuxtape_core::identity::KernelRelease;
use tuxtape_core::profile::KernelProfile;
use tuxtape_kernel::build::ModuleName;
use tuxtape_kernel::produce::recipe::Recipe;
use tuxtape_kernel::produce::sift::all_but_failing;
use tuxtape_kernel::produce::{self, For, NamedFix, Outcome, ProduceError, Produced};
use tuxtape_kernel::replay::tree::TreeError;
use tuxtape_kernel::replay::{Budget, ReplayError};
use tuxtape_kernel::{profile, unified};
use tuxtape_sys::durable;

use self::answer::{AnswerWire, LeftOutWire, RefusalWire, built};
use crate::commands::fix;
use crate::context::Context;
use crate::output::{self, Hint};

/// What a recipe names as its maker.
pub(super) const PROGRAM: &str = concat!("tuxtape ", env!("CARGO_PKG_VERSION"));

/// Build one livepatch module from fixes
///
/// No kernel is built: the units that the fixes touch are compiled twice, with and without them, and
/// what changed becomes the module. It is refused, with every reason, when it cannot be proven
/// right, above all when the compiled original is not byte for byte what the kernel runs.
///
/// A fix that does not compile alone gets a proposal: the fewest changes of a newer source that have
/// what it lacks. Nothing is added to a fix unless `--extend` accepts that.
///
/// Beside the module lie the change that it was made of (`NAME.patch`) and its recipe
/// (`NAME.recipe.json`), from which `tuxtape patch reproduce` makes it again.
///
/// Exit code: 0 built, 3 refused or nothing to change, 1 failed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The kernel, as `uname -r` prints it; it must have been added
    pub kernel: KernelRelease,
    /// A unified diff against the kernel's source, `-p1`; may be given several times
    #[arg(long, value_name = "FILE")]
    pub fix: Vec<PathBuf>,
    /// A CVE whose fix to take as `tuxtape fix show` finds it; may be given several times
    #[arg(long, value_name = "CVE")]
    pub cve: Vec<CveId>,
    /// Folder the module is written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Add what a fix that does not compile alone lacks, as far as the newer source has it
    #[arg(long)]
    pub extend: bool,
    /// Top of a newer source of this kernel's series to look for it; by default the oldest that is
    /// unpacked in the cache
    #[arg(long, value_name = "DIR")]
    pub newer: Option<PathBuf>,
    /// Longest search for what a fix lacks that does not compile alone
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub extend_limit: u64,
    /// Leave out each fix that cannot be in the module, say why, and build the rest
    #[arg(long, conflicts_with = "extend")]
    pub all_but_failing: bool,
    /// Name of the module; by default made from the fixes
    #[arg(long, value_name = "NAME")]
    pub name: Option<ModuleName>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let profile = profile::load(&context.home, &arguments.kernel).context(Hint::new(format!(
        "run `tuxtape kernel add debian:{}` first",
        arguments.kernel
    )))?;
    let kernel = super::files_of(context, &profile)?;
    let (mut fixes, absent) = read_fixes(arguments, context, &profile)?;
    let some = arguments.all_but_failing && !fixes.is_empty();
    if !absent.is_empty() && !some {
        let cves = arguments.cve.iter().map(CveId::to_string).collect();
        let answer = AnswerWire {
            refusals: absent,
            ..AnswerWire::new("refused", cves, Duration::ZERO)
        };
        return answer.print(context);
    }
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => default_name(&fixes)?,
    };
    let started = Instant::now();
    let scratch = tempfile::Builder::new()
        .prefix("tuxtape-build-")
        .tempdir()
        .context("could not make a temporary folder")?;
    let budget = Budget {
        search: Duration::from_secs(arguments.extend_limit),
        told: output::talk,
        ..Budget::default()
    };
    let target = For {
        files: &kernel,
        profile: &profile,
        home: &context.home,
    };
    let mut left_out: Vec<LeftOutWire> = absent.iter().map(LeftOutWire::from).collect();
    let mut outcome = if arguments.all_but_failing {
        let sifted = all_but_failing(target, &fixes, &name, &budget, scratch.path());
        left_out.extend(sifted.left_out.into_iter().map(LeftOutWire::from));
        fixes = sifted.kept;
        sifted.outcome
    } else {
        produce::produce(target, &fixes, &name, &budget, scratch.path())
    };
    let cves: Vec<String> = fixes.iter().flat_map(|fix| fix.cves.clone()).collect();
    let mut found = None;
    if let Err(ProduceError::Replay(ReplayError::Compile(errors))) = &outcome {
        let search = lacking::Search {
            context,
            target,
            fixes: &fixes,
            name: &name,
            budget: &budget,
            scratch: scratch.path(),
        };
        found = search.run(errors, arguments.newer.as_deref())?;
        if let Some(extended) = found.as_ref().and_then(|found| found.fix(&fixes))
            && arguments.extend
        {
            let scratch = scratch.path().join("extended");
            fixes = vec![extended];
            outcome = produce::produce(target, &fixes, &name, &budget, &scratch);
        }
    }
    let total = started.elapsed();
    let answer = match outcome {
        Ok(Outcome::Built(produced)) => {
            let (path, recipe) = keep(&arguments.out, &profile, &name, &fixes, &produced)?;
            built(*produced, (path, recipe), cves, total)
        }
        Ok(Outcome::Refused(refusals)) => AnswerWire {
            refusals: refusals.iter().map(RefusalWire::from).collect(),
            ..AnswerWire::new("refused", cves, total)
        },
        Ok(Outcome::NoChange { unused, same }) => AnswerWire {
            warnings: unused
                .iter()
                .map(produce::not_compiled)
                .chain(
                    same.iter()
                        .map(|unit| format!("nothing that runs changes in {unit}")),
                )
                .collect(),
            ..AnswerWire::new("no-change", cves, total)
        },
        Err(error) if context.json => {
            let words = format!("{:#}", anyhow::Error::from(error));
            AnswerWire {
                error: Some(words),
                ..AnswerWire::new("failed", cves, total)
            }
        }
        Err(error) => {
            if let Some(found) = &found {
                output::text(&found.to_text())?;
            }
            let hint = hint(&error, &profile);
            let error = anyhow::Error::from(error);
            return Err(match hint {
                Some(hint) => error.context(hint),
                None => error,
            });
        }
    };
    AnswerWire {
        left_out,
        extension: found.map(|found| found.wire(arguments.extend)),
        ..answer
    }
    .print(context)
}

/// Tells what would help.
fn hint(error: &ProduceError, profile: &KernelProfile) -> Option<Hint> {
    let (release, spec) = (&profile.id.release, &profile.origin.spec);
    Some(Hint::new(match error {
        ProduceError::Replay(ReplayError::Apply(_)) => format!(
            "fit the fix to the source of {release}; `tuxtape fix show {release} CVE` may have one that fits"
        ),
        ProduceError::Replay(ReplayError::Compile(_)) => {
            "the fix may need other changes that came before it; --extend adds what is proposed, or give them in one file with it"
                .to_owned()
        }
        ProduceError::Conflict { .. } => {
            "make one fix of the two, or build from one of them".to_owned()
        }
        ProduceError::Replay(ReplayError::Tree(TreeError::Busy { .. })) => {
            "wait until the other build has ended, then run this again".to_owned()
        }
        ProduceError::Replay(ReplayError::Tree(TreeError::NotPrepared { .. })) => {
            format!("run `tuxtape kernel add {spec}` to prepare it again")
        }
        _ => return None,
    }))
}

/// Reads or finds the fixes that were asked for, and says for which CVEs there is none.
fn read_fixes(
    arguments: &Arguments,
    context: &Context,
    profile: &KernelProfile,
) -> anyhow::Result<(Vec<NamedFix>, Vec<RefusalWire>)> {
    let mut fixes = Vec::new();
    let mut absent = Vec::new();
    for path in &arguments.fix {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let cves = if stem.starts_with("CVE-") {
            vec![stem.into_owned()]
        } else {
            Vec::new()
        };
        let bytes =
            fs::read(path).with_context(|| format!("could not read the fix {}", path.display()))?;
        fixes.push(named(path.display().to_string(), cves, &bytes)?);
    }
    for &cve in &arguments.cve {
        let found = match fix::find(context, profile, cve) {
            Err(error) if fix::is_no(&error) => {
                absent.push(RefusalWire {
                    rule: "no-fix",
                    unit: arguments.kernel.to_string(),
                    symbol: cve.to_string(),
                    why: format!("{error:#}"),
                    hint: "leave it out, or give a diff with `tuxtape fix import`",
                });
                continue;
            }
            found => found.with_context(|| format!("could not find a fix for {cve}"))?,
        };
        for note in &found.notes {
            output::talk(&format!("{cve}: note: {note}"));
        }
        let cve = cve.to_string();
        fixes.push(named(cve.clone(), vec![cve], found.fix.diff.as_bytes())?);
    }
    if fixes.is_empty() && absent.is_empty() {
        return Err(
            anyhow::anyhow!("no fix was given").context(Hint::new("give --fix FILE or --cve CVE"))
        );
    }
    Ok((fixes, absent))
}

fn named(name: String, cves: Vec<String>, bytes: &[u8]) -> anyhow::Result<NamedFix> {
    let diff = unified::parse(bytes).with_context(|| format!("{name} is not a usable fix"))?;
    Ok(NamedFix { name, cves, diff })
}

fn default_name(fixes: &[NamedFix]) -> anyhow::Result<ModuleName> {
    let first = fixes.first().map(|fix| match fix.cves.as_slice() {
        [cve, ..] => cve.clone(),
        [] => PathBuf::from(&fix.name)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    });
    let plain: String = first
        .unwrap_or_default()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(48)
        .collect();
    format!("tt_{plain}")
        .parse()
        .context(Hint::new("give the module a name with --name"))
}

/// Writes the module, the change that it was made of, and the recipe; the recipe comes last and so names
/// what is there.
fn keep(
    out: &Path,
    profile: &KernelProfile,
    name: &ModuleName,
    fixes: &[NamedFix],
    produced: &Produced,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(out).with_context(|| format!("could not make {}", out.display()))?;
    let module = out.join(format!("{name}.ko"));
    let change = format!("{name}.patch");
    let recipe = Recipe::of(profile, name, fixes, produced, change.clone(), PROGRAM);
    let mut text = serde_json::to_vec_pretty(&recipe)?;
    text.push(b'\n');
    let path = out.join(format!("{name}.recipe.json"));
    durable::write(&module, &produced.bytes)?;
    durable::write(&out.join(change), &produced.change.to_bytes())?;
    durable::write(&path, &text)?;
    Ok((module, path))
}
