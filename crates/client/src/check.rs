//! `check`: would `apply` do something, and what stands in the way.

use tuxtape_archive::source::Source;

use crate::apply::{ClientError, Settings, chain, look, make_plan};
use crate::demands::{KernelSigned, demands};
use crate::host::Host;
use crate::mode::Mode;
use crate::plan::Plan;
use crate::state::State;

/// What `check` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// What `apply` would do.
    Plan(Plan),
    /// The switch forbids even looking.
    Off(Mode),
}

/// Looks into the archive and makes a plan; changes metadata, nothing else.
///
/// A level that could be loaded is judged against the kernel's switches by what the index says of its
/// signature for the kernel, since the module itself is not fetched.
pub fn check(
    host: &dyn Host,
    settings: &Settings,
    source: &dyn Source,
) -> Result<Checked, ClientError> {
    if settings.switch.mode >= Mode::NoRefresh {
        return Ok(Checked::Off(settings.switch.mode));
    }
    let mut state = State::open(&settings.state)?;
    let kernel = host.kernel()?;
    let now = host.clock();
    let found = look(&mut state, source, &kernel, now);
    state.set_last_check(now, found.as_ref().err().map(chain))?;
    let found = found?;
    let plan = make_plan(
        host,
        &state,
        settings,
        &kernel,
        found.kernel.as_ref(),
        found.hold.as_ref(),
    )?;
    Ok(Checked::Plan(match plan {
        Plan::Load(level, target, name) => {
            let indexed = found.kernel.as_ref();
            let indexed = indexed.and_then(|(_, index)| index.kernel(&kernel.build_id));
            let signed = indexed.map_or(KernelSigned::No, |indexed| {
                KernelSigned::indexed(indexed, level.level)
            });
            let demands = demands(&host.load_policy(), &signed);
            if demands.is_empty() {
                Plan::Load(level, target, name)
            } else {
                Plan::Blocked(level, demands)
            }
        }
        other => other,
    }))
}
