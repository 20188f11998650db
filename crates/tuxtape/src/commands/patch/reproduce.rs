//! `tuxtape patch reproduce`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use tuxtape_kernel::build::ModuleName;
use tuxtape_kernel::produce::recipe::{self, Difference, Recipe, differences, digest};
use tuxtape_kernel::produce::{self, For, NamedFix, Outcome};
use tuxtape_kernel::replay::Budget;
use tuxtape_kernel::{profile, unified};
use tuxtape_sys::regular;

use super::build::PROGRAM;
use crate::context::Context;
use crate::output::{self, Hint, NO};

/// Most bytes of a change or a module.
const LARGEST: u64 = 256 << 20;

/// Make a module again from its recipe, and compare it bit for bit
///
/// The recipe lies beside the module, as does the change that it names. The module is compared too, where
/// it is there; else its SHA-256 alone. What is different in this machine's tools is told: each such
/// difference alone can give other bytes.
///
/// Exit code: 0 equal, 3 not, 1 failed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// `NAME.recipe.json`, as `tuxtape patch build` wrote it
    #[arg(value_name = "RECIPE")]
    pub recipe: PathBuf,
    /// Folder to keep the module in that was made here
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// The JSON of the answer.
#[derive(Debug, Serialize)]
struct Answer {
    equal: bool,
    module: String,
    /// Of the recipe, and of what was made here.
    sha256: [String; 2],
    /// Where the module differs.
    differences: Vec<Difference>,
    /// What made it and is different here.
    other_tools: Vec<Difference>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<ExitCode> {
    let named = || format!("could not use the recipe {}", arguments.recipe.display());
    let recipe = Recipe::parse(&read(&arguments.recipe, recipe::LARGEST)?).with_context(named)?;
    let folder = arguments.recipe.parent().unwrap_or(Path::new("."));
    let change = read(&folder.join(&recipe.change), LARGEST)?;
    recipe.check_change(&change).with_context(named)?;
    let name: ModuleName = recipe.module.parse().with_context(named)?;
    let add = || {
        Hint::new(format!(
            "run `tuxtape kernel add debian:{}` first",
            recipe.kernel
        ))
    };
    let profile = profile::load(&context.home, &recipe.kernel).with_context(add)?;
    let kernel = super::files_of(context, &profile)?;
    let fix = NamedFix {
        name: recipe.change.clone(),
        cves: Vec::new(),
        diff: unified::parse(&change).with_context(named)?,
    };
    let scratch = tempfile::Builder::new()
        .prefix("tuxtape-reproduce-")
        .tempdir()
        .context("could not make a temporary folder")?;
    let target = For {
        files: &kernel,
        profile: &profile,
        home: &context.home,
    };
    let budget = Budget {
        told: output::talk,
        ..Budget::default()
    };
    let produced = match produce::produce(target, &[fix], &name, &budget, scratch.path())? {
        Outcome::Built(produced) => produced,
        Outcome::Refused(refusals) => {
            let first = refusals.first().map(ToString::to_string);
            bail!("the change is refused here: {}", first.unwrap_or_default());
        }
        Outcome::NoChange { .. } => {
            bail!("the change makes no module here: nothing that runs changes")
        }
    };
    if let Some(out) = &arguments.out {
        fs::create_dir_all(out).with_context(|| format!("could not make {}", out.display()))?;
        tuxtape_sys::durable::write(&out.join(format!("{name}.ko")), &produced.bytes)?;
    }
    let sha256 = digest(&produced.bytes);
    let equal = sha256 == recipe.sha256;
    let answer = Answer {
        equal,
        differences: if equal {
            Vec::new()
        } else {
            told(&folder.join(format!("{name}.ko")), &recipe, &produced.bytes)?
        },
        other_tools: recipe.other_tools(&profile, &produced, PROGRAM),
        module: recipe.module.clone(),
        sha256: [recipe.sha256.clone(), sha256],
    };
    if context.json {
        output::json(&answer)?;
    } else {
        output::text(&answer.to_text())?;
    }
    Ok(if equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}

/// Compares with the module beside the recipe, if it is the one that the recipe is of.
fn told(beside: &Path, recipe: &Recipe, now: &[u8]) -> anyhow::Result<Vec<Difference>> {
    let then = regular::read_if_there(beside, LARGEST)
        .with_context(|| format!("could not read {}", beside.display()))?
        .filter(|then| digest(then) == recipe.sha256);
    match then {
        Some(then) => Ok(differences(&then, now)?),
        None => Ok(vec![Difference {
            place: "file".to_owned(),
            what: format!(
                "has {} bytes now, {} then; the module of the recipe is not beside it",
                now.len(),
                recipe.length
            ),
        }]),
    }
}

fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let named = || format!("could not read {}", path.display());
    match regular::read(path, most).with_context(named)? {
        Some(bytes) => Ok(bytes),
        None => bail!("{} has more than {most} bytes", path.display()),
    }
}

impl Answer {
    fn to_text(&self) -> String {
        let [then, now] = &self.sha256;
        let mut text = if self.equal {
            format!(
                "{} comes out equal bit for bit\n  sha256 {now}\n",
                self.module
            )
        } else {
            format!(
                "{} comes out different\n  sha256 {now} here, {then} then\n",
                self.module
            )
        };
        for (title, list) in [
            ("differs", &self.differences),
            ("other tools", &self.other_tools),
        ] {
            for one in list {
                text.push_str(&format!("  {title}: {}: {}\n", one.place, one.what));
            }
        }
        text
    }
}
