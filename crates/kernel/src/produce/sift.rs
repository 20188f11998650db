//! A module of all fixes but those that cannot be in it.

use std::path::Path;

use super::{For, NamedFix, Outcome, ProduceError, produce};
use crate::build::ModuleName;
use crate::replay::compile::CompileError;
use crate::replay::{Budget, ReplayError};

/// A fix that is not in the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The fix, by name.
    pub fix: String,
    /// CVEs that stay open.
    pub cves: Vec<String>,
    /// Why it cannot be in the module.
    pub why: String,
}

/// What came of a set of fixes.
#[derive(Debug)]
pub struct Sifted {
    /// The answer for the fixes that are kept.
    pub outcome: Result<Outcome, ProduceError>,
    /// Those, in the order they were given.
    pub kept: Vec<NamedFix>,
    /// The others.
    pub left_out: Vec<LeftOut>,
}

/// Makes one module of `fixes`; where that is refused or fails, of those that are not to blame. Blocks as
/// long as [`produce()`] does, once for each round and each fix that has to be tried alone.
pub fn all_but_failing(
    target: For<'_>,
    fixes: &[NamedFix],
    name: &ModuleName,
    budget: &Budget,
    scratch: &Path,
) -> Sifted {
    let mut round = 0_usize;
    let mut attempt = |fixes: &[NamedFix]| {
        round += 1;
        produce(
            target,
            fixes,
            name,
            budget,
            &scratch.join(format!("round-{round}")),
        )
    };
    sift(fixes, &mut attempt)
}

fn sift(
    fixes: &[NamedFix],
    attempt: &mut dyn FnMut(&[NamedFix]) -> Result<Outcome, ProduceError>,
) -> Sifted {
    let mut kept = fixes.to_vec();
    let mut left_out = Vec::new();
    loop {
        let outcome = attempt(&kept);
        let blamed = match &outcome {
            Ok(Outcome::Built(_) | Outcome::NoChange { .. }) => None,
            Ok(Outcome::Refused(_)) | Err(_) => blame(&kept, &outcome, attempt),
        };
        match blamed {
            Some(blamed) if blamed.len() < kept.len() => {
                let numbers: Vec<usize> = blamed.iter().map(|(number, _)| *number).collect();
                for (number, why) in blamed {
                    left_out.extend(kept.get(number).map(|fix| LeftOut {
                        fix: fix.name.clone(),
                        cves: fix.cves.clone(),
                        why,
                    }));
                }
                let mut number = 0..;
                kept.retain(|_| {
                    number
                        .next()
                        .is_none_or(|number| !numbers.contains(&number))
                });
            }
            _ => {
                return Sifted {
                    outcome,
                    kept,
                    left_out,
                };
            }
        }
    }
}

/// Finds the fixes that an answer is the fault of, by rising number; `None` where it is no single one's.
fn blame(
    fixes: &[NamedFix],
    outcome: &Result<Outcome, ProduceError>,
    attempt: &mut dyn FnMut(&[NamedFix]) -> Result<Outcome, ProduceError>,
) -> Option<Vec<(usize, String)>> {
    if let Err(ProduceError::Conflict(conflict)) = outcome {
        let number = fixes.iter().position(|fix| fix.name == conflict.second)?;
        return Some(vec![(number, format!("{conflict}: {}", conflict.source))]);
    }
    // A fix that fails alone is to blame. Those that touch what failed are asked first.
    let places = places(outcome);
    let touches = |fix: &NamedFix| {
        fix.diff
            .files
            .iter()
            .any(|file| places.contains(&file.path.to_string()))
    };
    let (near, far): (Vec<usize>, Vec<usize>) =
        (0..fixes.len()).partition(|&number| fixes.get(number).is_some_and(touches));
    for some in [&near, &far] {
        let mut found: Vec<(usize, String)> = some
            .iter()
            .filter_map(|&number| {
                let fix = std::slice::from_ref(fixes.get(number)?);
                Some((number, failure(&attempt(fix))?))
            })
            .collect();
        if !found.is_empty() {
            found.sort();
            return Some(found);
        }
    }
    // Each goes alone and not all together: the last that touches the place gives way.
    let last = near.last()?;
    let why = failure(outcome)?;
    Some(vec![(
        *last,
        format!("not together with the others: {why}"),
    )])
}

/// The sources that an answer speaks of.
fn places(outcome: &Result<Outcome, ProduceError>) -> Vec<String> {
    match outcome {
        Ok(Outcome::Refused(refusals)) => refusals.iter().map(|one| one.unit.clone()).collect(),
        Err(ProduceError::Replay(ReplayError::Compile(errors))) => errors
            .iter()
            .filter_map(|error| match error {
                CompileError::Refused { object, .. }
                | CompileError::Process { object, .. }
                | CompileError::Command { object, .. } => object.strip_suffix(".o"),
                CompileError::Tree(_) => None,
            })
            .flat_map(|stem| [format!("{stem}.c"), format!("{stem}.S")])
            .collect(),
        Ok(Outcome::Built(_) | Outcome::NoChange { .. }) | Err(_) => Vec::new(),
    }
}

/// Why there is no module, in one line.
fn failure(outcome: &Result<Outcome, ProduceError>) -> Option<String> {
    match outcome {
        Ok(Outcome::Built(_) | Outcome::NoChange { .. }) => None,
        Ok(Outcome::Refused(refusals)) => {
            let first = refusals
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            Some(match refusals.len() {
                0 | 1 => first,
                more => format!("{first} (and {} more reasons)", more - 1),
            })
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use tuxtape_livepatch::refusal::{Refusal, Rule};

    use super::*;
    use crate::unified;

    fn fix(name: &str, path: &str) -> NamedFix {
        let text = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+{name}\n");
        NamedFix {
            name: name.to_owned(),
            cves: vec![format!("CVE-{name}")],
            diff: unified::parse(text.as_bytes()).unwrap(),
        }
    }

    fn refused(unit: &str) -> Outcome {
        Outcome::Refused(vec![Refusal {
            rule: Rule::DataChanged,
            unit: unit.to_owned(),
            symbol: "x".to_owned(),
            why: "changed".to_owned(),
        }])
    }

    fn fine() -> Outcome {
        Outcome::NoChange {
            unused: Vec::new(),
            same: Vec::new(),
        }
    }

    /// What is left out, and how often was tried, where fixes named `bad` fail and `pair` fails with all.
    fn sifted(fixes: &[NamedFix], bad: &[&str], pair: &[&str]) -> (Vec<String>, usize) {
        let mut count = 0;
        let mut attempt = |fixes: &[NamedFix]| {
            count += 1;
            let has = |name: &&str| fixes.iter().find(|fix| fix.name == **name);
            if let Some(fix) = bad.iter().find_map(has) {
                return Ok(refused(fix.diff.files[0].path.as_str()));
            }
            let both = !pair.is_empty() && pair.iter().all(|name| has(name).is_some());
            Ok(if both { refused("p.c") } else { fine() })
        };
        let sifted = sift(fixes, &mut attempt);
        (
            sifted.left_out.into_iter().map(|one| one.fix).collect(),
            count,
        )
    }

    #[test]
    fn fixes_that_fail_alone_are_left_out_and_the_rest_is_kept() {
        let fixes = [
            fix("A", "a.c"),
            fix("B", "b.c"),
            fix("C", "c.c"),
            fix("D", "d.c"),
        ];
        assert_eq!(sifted(&fixes, &[], &[]), (vec![], 1));
        // All, B alone, the rest, D alone, the rest.
        assert_eq!(
            sifted(&fixes, &["B", "D"], &[]),
            (vec!["B".into(), "D".into()], 5)
        );
    }

    #[test]
    fn of_two_that_fail_together_the_last_gives_way() {
        let fixes = [fix("A", "p.c"), fix("B", "b.c"), fix("C", "p.c")];
        let (left, _) = sifted(&fixes, &[], &["A", "C"]);
        assert_eq!(left, ["C"]);
    }

    #[test]
    fn where_all_fail_nothing_is_left_out_and_the_reason_stays() {
        let fixes = [fix("A", "a.c"), fix("B", "b.c")];
        let mut attempt = |_: &[NamedFix]| Ok(refused("a.c"));
        let sifted = sift(&fixes, &mut attempt);
        assert!(matches!(sifted.outcome, Ok(Outcome::Refused(_))));
        // A is asked first, since it touches what failed; then B is alone.
        assert_eq!(sifted.kept.len(), 1);
        assert_eq!(sifted.left_out.len(), 1);
    }
}
