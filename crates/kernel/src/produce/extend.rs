//! Looks for what a fix that does not compile alone needs of a newer source.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use tuxtape_livepatch::refusal::{Refusal, Rule};

use super::{For, NamedFix, Outcome, ProduceError, produce, together};
use crate::build::ModuleName;
use crate::extend::{self, Lack, MaterialError, Proposal, Reach, Teller, Trial};
use crate::replay::compile::CompileError;
use crate::replay::{self, Budget, ReplayError};
use crate::unified::{Diff, TreePath};

/// Why nothing could be proposed.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// The sources could not be compared.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// A trial could not be held.
    #[error(transparent)]
    Produce(#[from] Box<ProduceError>),
}

/// Why a search ended.
enum Ended {
    Failed(ExtendError),
    TooLong,
}

impl From<Box<ProduceError>> for Ended {
    fn from(error: Box<ProduceError>) -> Self {
        Self::Failed(error.into())
    }
}

/// Searches the source at `newer` for what `fixes` lack; `failed` is why they do not compile, `name` what
/// a module of them would be called.
///
/// Blocks for seconds per trial, which is minutes where much is missing, but begins none after
/// [`Budget::search`].
pub fn extension(
    target: For<'_>,
    fixes: &[NamedFix],
    failed: &[CompileError],
    newer: &Path,
    name: &ModuleName,
    budget: &Budget,
    scratch: &Path,
) -> Result<Proposal, ExtendError> {
    let kernel = target.files;
    let fix = together(kernel, fixes).map_err(Box::new)?;
    let failing = RefCell::new(units_of(failed));
    let (started, trials) = (Instant::now(), Cell::new(0_usize));
    let trial = |diff: &Diff, reach: Reach| -> Result<Trial, Ended> {
        if started.elapsed() >= budget.search {
            return Err(Ended::TooLong);
        }
        trials.set(trials.get() + 1);
        let out = scratch.join("trial");
        if reach == Reach::Compile {
            let errors = replay::try_units(kernel, diff, &failing.borrow(), budget, &out)
                .map_err(|error| Box::new(error.into()))?;
            return Ok(told(&errors));
        }
        let fix = NamedFix {
            name: "trial".to_owned(),
            cves: Vec::new(),
            diff: diff.clone(),
        };
        match produce(target, &[fix], name, budget, &out) {
            Ok(Outcome::Refused(refusals)) => Ok(unresolved(&refusals)),
            Ok(Outcome::Built(_) | Outcome::NoChange { .. }) => Ok(Trial::Fits),
            Err(ProduceError::Replay(ReplayError::Compile(errors))) => {
                failing.borrow_mut().extend(units_of(&errors));
                Ok(told(&errors))
            }
            // What a header reaches may be out of reach for any livepatch. The build of the extended
            // fix says so; here it counts whether the units that failed have what they lacked.
            Err(ProduceError::Replay(ReplayError::Unreplayable { .. })) => {
                let errors = replay::try_units(kernel, diff, &failing.borrow(), budget, &out)
                    .map_err(|error| Box::new(error.into()))?;
                Ok(told(&errors))
            }
            Err(error) => Err(Box::new(error).into()),
        }
    };
    let mut units = units_of(failed);
    // Units that a header of an extension reaches may want changes of their own: the material is
    // collected anew for as long as there are new ones.
    loop {
        let edits = extend::gather(&kernel.source, newer, &fix, &units)?;
        let proposal = match extend::propose(&fix, &edits, trial) {
            Ok(proposal) => proposal,
            Err(Ended::Failed(error)) => return Err(error),
            Err(Ended::TooLong) => Proposal::TooLong {
                limit: budget.search,
                trials: trials.get(),
            },
        };
        let before = units.len();
        units.extend(failing.borrow().iter().cloned());
        match proposal {
            Proposal::Nothing(_) if units.len() > before => {}
            Proposal::Nothing(_)
            | Proposal::Extended(_)
            | Proposal::Fails(_)
            | Proposal::TooMany(_)
            | Proposal::TooLong { .. } => return Ok(proposal),
        }
    }
}

/// What compilers miss; failures that name nothing stand for all.
fn told(errors: &[CompileError]) -> Trial {
    let mut lacks = BTreeSet::new();
    for error in errors {
        match (error, unit_of(error)) {
            (CompileError::Refused { missing, .. }, Some(unit)) if !missing.is_empty() => {
                lacks.extend(missing.iter().map(|name| Lack {
                    unit: unit.clone(),
                    name: name.clone(),
                    by: Teller::Compiler,
                }));
            }
            _ => return Trial::Fails(error.to_string()),
        }
    }
    if lacks.is_empty() {
        Trial::Fits
    } else {
        Trial::Lacks(lacks)
    }
}

/// What the search for symbols misses. Other rules refuse the extended fix as they would any.
fn unresolved(refusals: &[Refusal]) -> Trial {
    let lacks: BTreeSet<Lack> = refusals
        .iter()
        .filter(|refusal| refusal.rule == Rule::Unresolved)
        .filter_map(|refusal| {
            Some(Lack {
                unit: refusal.unit.parse().ok()?,
                name: refusal.symbol.clone(),
                by: Teller::Link,
            })
        })
        .collect();
    if lacks.is_empty() {
        Trial::Fits
    } else {
        Trial::Lacks(lacks)
    }
}

fn units_of(errors: &[CompileError]) -> BTreeSet<TreePath> {
    errors.iter().filter_map(unit_of).collect()
}

/// The unit of an object that did not compile.
fn unit_of(error: &CompileError) -> Option<TreePath> {
    let object = match error {
        CompileError::Refused { object, .. }
        | CompileError::Process { object, .. }
        | CompileError::Command { object, .. } => object,
        CompileError::Tree(_) => return None,
    };
    format!("{}.c", object.strip_suffix(".o")?).parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::files::KernelFiles;
    use crate::profile::small;
    use crate::unified;

    #[test]
    fn a_search_without_time_left_says_how_far_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let profile = small();
        let files = KernelFiles::below(folder.path(), &profile.id.release);
        let newer = folder.path().join("newer");
        for (tree, text) in [(&files.source, "old\n"), (&newer, "new\n")] {
            fs::create_dir_all(tree.join("net")).unwrap();
            fs::write(tree.join("net/a.c"), text).unwrap();
        }
        let text = b"--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-old\n+new\n";
        let fix = NamedFix {
            name: "fix".to_owned(),
            cves: Vec::new(),
            diff: unified::parse(text).unwrap(),
        };
        let failed = CompileError::Refused {
            object: "net/a.o".to_owned(),
            words: String::new(),
            missing: vec!["x".to_owned()],
        };
        let budget = Budget {
            search: Duration::ZERO,
            ..Budget::default()
        };
        let target = For {
            files: &files,
            profile: &profile,
            home: folder.path(),
        };
        let name = "tt_fix".parse().unwrap();
        let found = extension(
            target,
            &[fix],
            &[failed],
            &newer,
            &name,
            &budget,
            folder.path(),
        );
        let limit = Duration::ZERO;
        assert_eq!(found.unwrap(), Proposal::TooLong { limit, trials: 0 });
    }
}
