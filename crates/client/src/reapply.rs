//! Loading the committed level again, early in a boot and without the archive.

use tuxtape_core::identity::BuildId;

use crate::apply::{
    Applied, ClientError, Settings, image, make_early_plan, reapplicable, running, tidy,
};
use crate::demands::{KernelSigned, demands};
use crate::host::Host;
use crate::journal::Journal;
use crate::load::{self, Remarks};
use crate::mode::Mode;
use crate::plan::{self, Plan};
use crate::state::{State, StateError};

/// Loads the level again that is committed for the running build, where an earlier boot got to its end
/// with it in force.
///
/// Before anything else runs, a level that is not proven so could keep a machine from ever coming up;
/// it waits for [`crate::apply::apply`], which asks the archive first. That also watches what is loaded
/// here: the rest of the boot does not wait.
pub fn reapply(
    host: &mut dyn Host,
    settings: &Settings,
) -> Result<(Applied, Remarks), ClientError> {
    let mut remarks = Remarks::new();
    if settings.switch.mode != Mode::Normal {
        return Ok((Applied::Off(settings.switch.mode), remarks));
    }
    let mut state = State::open(&settings.state)?;
    tidy(host, &mut state, settings, &mut remarks)?;
    let kernel = host.kernel()?;
    let Some(found) = reapplicable(&mut state, &kernel) else {
        return Ok((Applied::NothingToApply, remarks));
    };
    let applied = match make_early_plan(host, &state, settings, &kernel, &found)? {
        Plan::Load(level, target, name) => {
            let image = image(&mut state, None, &level, &target, &name, settings)?;
            let Some(indexed) = found.1.kernel(&kernel.build_id) else {
                return Ok((Applied::NothingToApply, remarks));
            };
            plan::fits(&image, &level, &kernel, indexed).map_err(|source| ClientError::Unfit {
                level: level.level.0,
                source,
            })?;
            let signed = KernelSigned::of(&image, indexed, level.level);
            let demands = demands(&host.load_policy(), &signed);
            if demands.is_empty() {
                let said =
                    load::load_unwatched(host, &mut state, &level, &image).map_err(|source| {
                        ClientError::Load {
                            level: level.level.0,
                            source,
                        }
                    })?;
                remarks.extend(said);
                Applied::Loaded(level)
            } else {
                Applied::Blocked(level, demands)
            }
        }
        Plan::Blocked(level, obstacles) => Applied::Blocked(level, obstacles),
        Plan::UpToDate(level) => Applied::UpToDate(level),
        Plan::NothingToApply | Plan::Leave(..) => Applied::NothingToApply,
        Plan::Unsupported(why) => Applied::Unsupported(why),
    };
    Ok((applied, remarks))
}

/// Notes that a boot got to its end with the committed level in force.
pub(crate) fn prove(
    host: &dyn Host,
    state: &mut State,
    build: &BuildId,
) -> Result<(), ClientError> {
    let running = running(host)?;
    let journal = &state.journal.journal;
    let current = plan::current(build, None, journal, &running);
    let committed = journal.committed.clone();
    let Some(level) = committed.filter(|level| current.as_ref() == Some(level)) else {
        return Ok(());
    };
    if [&journal.proven, &journal.never_early].contains(&&Some(level.sha256.clone())) {
        return Ok(());
    }
    let change = |journal: &mut Journal| journal.proven = Some(level.sha256);
    Ok(state.journal.record(change).map_err(StateError::from)?)
}
