//! Which livepatches share a boot.

use tuxtape_klog::judge::Report;

use super::ModuleOutcome;

/// What came of all boots.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tried {
    /// One for each livepatch, in order.
    pub(super) modules: Vec<ModuleOutcome>,
    /// Complaints of a shared boot that the accused did not repeat alone.
    pub(super) unexplained: Vec<Report>,
}

/// Tries the livepatches with these indices, in order, in a fresh guest.
type Boot<'a, E> = &'a mut dyn FnMut(&[usize]) -> Result<Vec<ModuleOutcome>, E>;

/// Tries every livepatch whose outcome is not `known`, all in one `boot` as long as they pass.
///
/// `boot` tries those whose indices it is given, in order, in a fresh guest. What ran in a guest
/// before the first failure stands; the failed one is tried again alone unless it was the first in
/// its guest; what came behind it in a guest that may be damaged counts for nothing and is tried
/// again. Ends: every round settles at least one.
pub(super) fn try_all<E>(
    mut known: Vec<Option<ModuleOutcome>>,
    boot: Boot<'_, E>,
) -> Result<Tried, E> {
    let mut unexplained = Vec::new();
    loop {
        let open: Vec<usize> = known
            .iter()
            .enumerate()
            .filter_map(|(index, outcome)| outcome.is_none().then_some(index))
            .collect();
        if open.is_empty() {
            break;
        }
        let mut tried = boot(&open)?.into_iter();
        for (place, index) in open.into_iter().enumerate() {
            let outcome = tried
                .next()
                .expect("a boot has an outcome for each livepatch");
            let passed = outcome.problems.is_empty();
            let outcome = if passed || place == 0 {
                outcome
            } else {
                again(index, outcome, &mut unexplained, boot)?
            };
            if let Some(slot) = known.get_mut(index) {
                *slot = Some(outcome);
            }
            if !passed {
                break;
            }
        }
    }
    Ok(Tried {
        modules: known.into_iter().flatten().collect(),
        unexplained,
    })
}

fn again<E>(
    index: usize,
    first: ModuleOutcome,
    unexplained: &mut Vec<Report>,
    boot: Boot<'_, E>,
) -> Result<ModuleOutcome, E> {
    let alone = boot(&[index])?
        .pop()
        .expect("a boot has an outcome for each livepatch");
    if alone.problems.is_empty() {
        // It may have been the work of one that passed before it: nobody is cleared by this.
        unexplained.extend(first.reports);
    }
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::PathBuf;

    use tuxtape_core::identity::ObjectName;
    use tuxtape_klog::judge;

    use super::super::{Livepatch, Problem, facts};
    use super::*;

    fn outcome(index: usize, problems: Vec<Problem>) -> ModuleOutcome {
        let livepatch = Livepatch {
            path: PathBuf::new(),
            name: ObjectName(index.to_string()),
            objects: Vec::new(),
            objects_are_complete: true,
            built_for: None,
            bytes: Vec::new(),
        };
        ModuleOutcome {
            problems,
            ..facts::nothing(&livepatch)
        }
    }

    /// Tries four; `fails(index, batch)` says whether one fails in that batch.
    fn check(
        fails: fn(usize, &[usize]) -> bool,
        boots: &[&[usize]],
        failed: &[usize],
        unexplained: usize,
    ) {
        let mut seen = Vec::new();
        let tried = try_all(vec![None; 4], &mut |batch: &[usize]| {
            seen.push(batch.to_vec());
            let outcomes = batch.iter().map(|index| {
                let problems = if fails(*index, batch) {
                    vec![Problem::DiedLoading]
                } else {
                    Vec::new()
                };
                let reports = judge::judge(b"BUG: x\n", &[]).reports;
                ModuleOutcome {
                    reports: if problems.is_empty() {
                        Vec::new()
                    } else {
                        reports
                    },
                    ..outcome(*index, problems)
                }
            });
            Ok::<_, Infallible>(outcomes.collect())
        })
        .unwrap();
        assert_eq!(seen, boots);
        let bad: Vec<usize> = (0..4)
            .filter(|index| !tried.modules[*index].problems.is_empty())
            .collect();
        assert_eq!(bad, failed);
        assert_eq!(tried.unexplained.len(), unexplained);
    }

    #[test]
    fn all_that_pass_share_one_boot() {
        check(|_, _| false, &[&[0, 1, 2, 3]], &[], 0);
    }

    #[test]
    fn one_that_fails_is_tried_alone_and_those_behind_it_afresh() {
        check(
            |index, _| index == 1,
            &[&[0, 1, 2, 3], &[1], &[2, 3]],
            &[1],
            0,
        );
        check(|index, _| index == 0, &[&[0, 1, 2, 3], &[1, 2, 3]], &[0], 0);
        check(
            |index, _| index >= 2,
            &[&[0, 1, 2, 3], &[2], &[3]],
            &[2, 3],
            0,
        );
    }

    #[test]
    fn a_complaint_not_repeated_alone_stays_unexplained() {
        check(
            |index, batch| index == 2 && batch.len() > 1,
            &[&[0, 1, 2, 3], &[2], &[3]],
            &[],
            1,
        );
    }

    #[test]
    fn what_is_known_is_not_booted() {
        let known = vec![Some(outcome(0, vec![Problem::NotALivepatch]))];
        let tried = try_all(known, &mut |_| -> Result<Vec<ModuleOutcome>, Infallible> {
            unreachable!()
        })
        .unwrap();
        assert_eq!(tried.modules.len(), 1);
    }
}
