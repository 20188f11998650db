//! After an interruption: what the journal says, against what the kernel shows.

use crate::crash::Crashes;
use crate::host::Host;
use crate::journal::{Attempt, JournaledLevel, Phase, Rest};
use crate::load::{CrashJudge, CrashVerdict, LoadError, Remarks, finish_revert, note};
use crate::plan::REST;
use crate::state::{State, StateError};

/// Seconds after which a level that was good before is not blamed for the end of a boot.
const WATCHED: u64 = 60;
/// Boots in a row that may end in a repeated probation before the level is barred.
const ACCIDENTS: u32 = 2;

/// What is left to do after an interruption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    Clean,
    /// A level of this boot is in the kernel and was not yet committed.
    Settle(JournaledLevel),
    /// A level of this boot was on its way out.
    TakeOut(JournaledLevel, Option<String>),
    /// A level of this boot hangs.
    Stuck(JournaledLevel),
}

/// Brings the journal in line with what happened. Done twice it does the same as done once.
pub fn recover(
    host: &mut dyn Host,
    state: &mut State,
    judge: Option<CrashJudge>,
    remarks: &mut Remarks,
) -> Result<Recovery, LoadError> {
    let crashes = Crashes::look(host, state, remarks);
    committed(host, state, &crashes, judge, remarks)?;
    let recovered = journaled(host, state, &crashes, judge, remarks)?;
    crashes.judged(state)?;
    Ok(recovered)
}

/// Bars the level that passed its probation when a crash since then happened in its own code. One that
/// only has it on its stack is told: it has run well for a while, and closes holes.
fn committed(
    host: &dyn Host,
    state: &State,
    crashes: &Crashes,
    judge: Option<CrashJudge>,
    remarks: &mut Remarks,
) -> Result<(), LoadError> {
    let Some(level) = &state.journal.journal.committed else {
        return Ok(());
    };
    match crashes.verdict(judge, &level.module) {
        CrashVerdict::Guilty(what) => {
            let why = format!("the machine crashed in it: {what}");
            bar(host, state, level, &why, remarks)
        }
        CrashVerdict::Involved(what) => {
            note(
                remarks,
                format!(
                    "an earlier boot crashed with level {} on the stack: {what}",
                    level.level
                ),
            );
            Ok(())
        }
        CrashVerdict::Nothing | CrashVerdict::Elsewhere(_) => Ok(()),
    }
}

fn bar(
    host: &dyn Host,
    state: &State,
    level: &JournaledLevel,
    why: &str,
    remarks: &mut Remarks,
) -> Result<(), LoadError> {
    let now = host.clock();
    let file = state.quarantine(&level.sha256, &level.kernel, level.level, why, now)?;
    note(
        remarks,
        format!(
            "level {} is quarantined: {why}; removing {} lifts that",
            level.level,
            file.display()
        ),
    );
    Ok(())
}

fn journaled(
    host: &mut dyn Host,
    state: &mut State,
    crashes: &Crashes,
    judge: Option<CrashJudge>,
    remarks: &mut Remarks,
) -> Result<Recovery, LoadError> {
    if state.journal.damaged {
        remarks.push(
            "both journal slots are damaged; what is known of earlier attempts is lost".to_owned(),
        );
    }
    let journal = &state.journal.journal;
    let Some(attempt) = journal
        .attempt
        .clone()
        .filter(|_| journal.phase != Phase::Idle)
    else {
        return Ok(Recovery::Clean);
    };
    if attempt.boot_id == host.boot_id()? {
        same_boot(host, state, attempt, remarks)
    } else {
        other_boot(host, state, crashes, judge, &attempt, remarks)
    }
}

fn same_boot(
    host: &mut dyn Host,
    state: &mut State,
    attempt: Attempt,
    remarks: &mut Remarks,
) -> Result<Recovery, LoadError> {
    let level = attempt.level;
    let listed = host
        .livepatches()?
        .into_iter()
        .find(|patch| patch.name == level.module);
    // The name alone does not make it ours: the kernel may have refused our module for that name.
    let foreign = !is_ours(host, &level);
    if foreign {
        remarks.push(format!(
            "module {} in memory is somebody else's and stays",
            level.module
        ));
    }
    let present = !foreign && (listed.is_some() || host.module(&level.module).is_some());
    // A level that is in the kernel may have been barred meanwhile: it is not gone on with.
    let barred = barred(state, &level)?;
    match state.journal.journal.phase {
        Phase::Idle => Ok(Recovery::Clean),
        // The client died between the journal and the kernel: nothing happened, nobody is to blame.
        Phase::Armed | Phase::Transition | Phase::Probation if !present => {
            idle(state)?;
            Ok(Recovery::Clean)
        }
        Phase::Armed | Phase::Transition | Phase::Probation if barred.is_some() => {
            Ok(Recovery::TakeOut(level, barred))
        }
        Phase::Armed | Phase::Transition | Phase::Probation => {
            remarks.push(format!(
                "going on with level {}, which was interrupted",
                level.level
            ));
            Ok(Recovery::Settle(level))
        }
        Phase::Revert | Phase::Stuck if !present => {
            finish_revert(state, &level, attempt.because.is_none())?;
            Ok(Recovery::Clean)
        }
        Phase::Stuck if listed.is_some_and(|patch| patch.transition) => Ok(Recovery::Stuck(level)),
        Phase::Revert | Phase::Stuck => Ok(Recovery::TakeOut(level, attempt.because)),
    }
}

/// Why a level was barred, where it was.
fn barred(state: &State, level: &JournaledLevel) -> Result<Option<String>, LoadError> {
    let barred = state.quarantined(&level.kernel)?;
    Ok(barred.get(&level.sha256).map(|found| found.reason.clone()))
}

fn other_boot(
    host: &mut dyn Host,
    state: &mut State,
    crashes: &Crashes,
    judge: Option<CrashJudge>,
    attempt: &Attempt,
    remarks: &mut Remarks,
) -> Result<Recovery, LoadError> {
    let level = &attempt.level;
    let crash = crashes.verdict(judge, &level.module);
    let phase = state.journal.journal.phase;
    if matches!(phase, Phase::Armed | Phase::Transition | Phase::Probation)
        && let CrashVerdict::Guilty(what) | CrashVerdict::Involved(what) = &crash
    {
        let why = format!("the machine crashed while it was new: {what}");
        bar(host, state, level, &why, remarks)?;
        idle(state)?;
        return Ok(Recovery::Clean);
    }
    match phase {
        Phase::Idle => {}
        // An orderly shutdown is nobody's fault. Also an oops is kept that the machine survived.
        Phase::Armed | Phase::Transition | Phase::Probation
            if state.was_shut_down(&attempt.boot_id) =>
        {
            remarks.push(format!(
                "the machine was shut down while level {} was being loaded or watched",
                level.level
            ));
            idle(state)?;
        }
        // It is proven and ran well in this boot: two reboots soon after
        // the start must not cost a good level. A third is no accident.
        Phase::Armed | Phase::Transition | Phase::Probation
            if attempt.watched >= WATCHED
                && state.journal.journal.committed.as_ref() == Some(level)
                && state.journal.journal.proven.as_ref() == Some(&level.sha256)
                && !state.journal.journal.strikes.contains_key(&level.sha256) =>
        {
            let cuts = state.journal.journal.cuts.get(&level.sha256).copied();
            if cuts.unwrap_or_default() >= ACCIDENTS {
                let why = "three boots in a row ended soon after it was loaded again";
                bar(host, state, level, why, remarks)?;
            }
            let sha256 = level.sha256.clone();
            let change = |journal: &mut crate::journal::Journal| {
                journal.cut(&sha256);
                journal.phase = Phase::Idle;
                journal.attempt = None;
            };
            state.journal.record(change).map_err(StateError::from)?;
        }
        Phase::Armed | Phase::Transition | Phase::Probation => {
            // A power cut cannot be told from a crash here, so it counts as one.
            let strikes = state.journal.journal.strikes.get(&level.sha256).copied();
            let strikes = strikes.unwrap_or_default() + 1;
            let cuts = state.journal.journal.cuts.get(&level.sha256).copied();
            if strikes >= 2 || strikes + cuts.unwrap_or_default() > ACCIDENTS {
                let reason = "two boots ended while it was being loaded or watched";
                bar(host, state, level, reason, remarks)?;
            } else {
                remarks.push(format!(
                    "the boot ended while level {} was being loaded or watched: strike {strikes}",
                    level.level
                ));
            }
            let sha256 = level.sha256.clone();
            let rest = match crash {
                CrashVerdict::Elsewhere(what) => {
                    remarks.push(format!(
                        "what was kept of the crash names something else: {what}"
                    ));
                    Some(Rest {
                        sha256: sha256.clone(),
                        until: host.clock().plus(REST),
                    })
                }
                _ => None,
            };
            let change = |journal: &mut crate::journal::Journal| {
                journal.strike(&sha256);
                journal.rest = rest;
                if attempt.early {
                    journal.proven = None;
                    journal.never_early = Some(sha256.clone());
                }
                journal.phase = Phase::Idle;
                journal.attempt = None;
            };
            state.journal.record(change).map_err(StateError::from)?;
        }
        Phase::Revert | Phase::Stuck => {
            finish_revert(state, level, attempt.because.is_none())?;
        }
    }
    Ok(Recovery::Clean)
}

/// Whether a module in memory under a level's name can be that level's.
pub(crate) fn is_ours(host: &dyn Host, level: &JournaledLevel) -> bool {
    let loaded = host
        .module(&level.module)
        .and_then(|module| module.build_id);
    loaded.is_none_or(|build_id| build_id == level.module_build_id)
}

fn idle(state: &mut State) -> Result<(), LoadError> {
    let change = |journal: &mut crate::journal::Journal| {
        journal.phase = Phase::Idle;
        journal.attempt = None;
    };
    Ok(state.journal.record(change).map_err(StateError::from)?)
}
